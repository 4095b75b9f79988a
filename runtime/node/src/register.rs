//! The node's object and its lease.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use strake_client::{Client, ClientError, Patch, Resource, WriteParams};

use crate::events::seconds;
use crate::machine::Machine;
use crate::shared::Shared;

const MANAGER: &str = "kubelet";
const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: u32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// The status is written anew every so many renewals.
const RENEWALS_A_STATUS: u32 = 30;

/// What is registered.
pub(crate) struct Registration {
    client: Client,
    name: String,
    machine: Machine,
    addresses: Vec<String>,
    pod_cidr: String,
    /// Since when the node is ready.
    ready_since: Mutex<String>,
    uid: Mutex<String>,
}

impl Registration {
    pub(crate) fn new(shared: &Shared) -> Self {
        Registration {
            client: shared.client.clone(),
            name: shared.name.clone(),
            machine: shared.machine.clone(),
            addresses: shared.host_ips.clone(),
            pod_cidr: shared.network.options().pod_cidr.to_string(),
            ready_since: Mutex::new(seconds(Timestamp::now())),
            uid: Mutex::default(),
        }
    }

    /// Makes the node's object, or takes over the one that is there.
    pub(crate) async fn register(&self) -> Result<(), ClientError> {
        let labels = self.machine.labels(&self.name);
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"podCIDR": self.pod_cidr, "podCIDRs": [self.pod_cidr]},
        });
        let params = WriteParams::manager(MANAGER);
        let made = match self.client.create(&Resource::NODES, None, &node, &params).await {
            Err(error) if error.is_already_exists() => {
                let patch = Patch::Merge(json!({"metadata": {"labels": labels}, "spec": {"podCIDR": self.pod_cidr, "podCIDRs": [self.pod_cidr]}}));
                self.client.patch(&Resource::NODES, None, &self.name, &patch, None, &params).await?
            }
            answer => answer?,
        };
        made["metadata"]["uid"].as_str().unwrap_or_default().clone_into(&mut self.uid.lock().unwrap_or_else(PoisonError::into_inner));
        self.write_status(true).await?;
        self.renew().await
    }

    async fn write_status(&self, ready: bool) -> Result<(), ClientError> {
        let since = self.ready_since.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let status = self.machine.status(&self.name, &self.addresses, ready, &since, &seconds(Timestamp::now()));
        let patch = Patch::Merge(json!({"status": status}));
        self.client.patch(&Resource::NODES, None, &self.name, &patch, Some("status"), &WriteParams::manager(MANAGER)).await.map(|_| ())
    }

    /// Says that no pods are taken any more.
    pub(crate) async fn say_stopped(&self) {
        *self.ready_since.lock().unwrap_or_else(PoisonError::into_inner) = seconds(Timestamp::now());
        if let Err(error) = self.write_status(false).await {
            tracing::debug!(%error, "the node's status could not be written");
        }
    }

    async fn renew(&self) -> Result<(), ClientError> {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let patch = Patch::Merge(json!({"spec": {"renewTime": now}}));
        let params = WriteParams::manager(MANAGER);
        match self.client.patch(&Resource::LEASES, Some(LEASE_NAMESPACE), &self.name, &patch, None, &params).await {
            Err(error) if error.is_not_found() => self.client.create(&Resource::LEASES, Some(LEASE_NAMESPACE), &self.lease(&now), &params).await.map(|_| ()),
            answer => answer.map(|_| ()),
        }
    }

    fn lease(&self, now: &str) -> Value {
        let uid = self.uid.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": uid});
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
        })
    }
}

/// Renews the lease, and now and then the status, for as long as the node runs.
pub(crate) async fn keep(registration: Arc<Registration>) {
    let mut ticks = tokio::time::interval(RENEW);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut renewals = 0;
    loop {
        ticks.tick().await;
        renewals += 1;
        let mut result = registration.renew().await;
        if result.is_ok() && renewals % RENEWALS_A_STATUS == 0 {
            result = registration.write_status(true).await;
        }
        match result {
            Ok(()) => {}
            // Somebody deleted the node's object: it is made again.
            Err(error) if error.is_not_found() => {
                if let Err(error) = registration.register().await {
                    tracing::warn!(%error, "the node could not be registered again");
                }
            }
            Err(error) => tracing::warn!(%error, "the node's lease could not be renewed"),
        }
    }
}
