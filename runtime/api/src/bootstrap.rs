//! What every cluster has from its first moment, and the upkeep that nobody asks for.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strake_kinds::KindInfo;
use strake_state::{Expect, StateError};

use crate::server::ApiServer;
use crate::status::{Answer, Refusal};
use crate::target::{Target, builtin, prefix};
use crate::{meta, prepare, write};

/// The namespaces of every cluster.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// How long an event is kept after it was last seen.
const EVENTS_KEPT: SignedDuration = SignedDuration::from_hours(1);
const BETWEEN_SWEEPS: Duration = Duration::from_secs(60);

impl ApiServer {
    /// Makes what every cluster has, where it is missing: the four namespaces with their default accounts, and the `kubernetes` Service.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn bootstrap(&self) -> Result<(), Refusal> {
        for name in NAMESPACES {
            self.ensure("Namespace", "", json!({"metadata": {"name": name}})).await?;
            self.ensure_account(name).await?;
        }
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "type": "ClusterIP", "clusterIP": self.allocations.api_address().to_string(),
                "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": self.options.secure_port}],
            },
        });
        self.ensure("Service", "default", service).await
    }

    /// The account that pods of a namespace have when they name none.
    pub(crate) async fn ensure_account(&self, namespace: &str) -> Answer<()> {
        self.ensure("ServiceAccount", namespace, json!({"metadata": {"name": "default"}})).await
    }

    /// Creates an object unless there is one of its name.
    async fn ensure(&self, kind: &str, namespace: &str, mut object: Value) -> Answer<()> {
        let kind: &'static KindInfo = builtin(kind);
        let name = meta::text(&object, "name").to_owned();
        let target = Target { kind, namespace: namespace.to_owned(), name, subresource: String::new() };
        if self.state.get(&target.key()).is_some() {
            return Ok(());
        }
        crate::body::identify(kind, &mut object)?;
        crate::server::check_namespace(&target, &mut object)?;
        prepare::new_object(kind, &mut object, Timestamp::now())?;
        match write::store_new(self, &target, object, false).await {
            Err(refusal) if refusal.code != StatusCode::CONFLICT => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Removes events that were last seen more than an hour before `now`; gives how many.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn expire_events(&self, now: Timestamp) -> Result<usize, Refusal> {
        let oldest = now.checked_sub(EVENTS_KEPT).unwrap_or(Timestamp::MIN);
        let mut removed = 0;
        for entry in self.state.list(&prefix(builtin("Event"), ""), None, 0).entries {
            let event = meta::parse(&entry)?;
            let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
            let seen = times.iter().filter_map(|time| time.as_str()?.parse::<Timestamp>().ok()).max();
            if seen.is_none_or(|seen| seen < oldest) {
                let last = crate::encode::halves(&event);
                match self.state.delete_if(&entry.key, Expect::Revision(entry.revision), Box::new(move |revision, _| last.at(revision))).await {
                    Ok(_) => removed += 1,
                    // It was seen again in between.
                    Err(StateError::Conflict { .. }) => {}
                    Err(other) => return Err(Refusal::of_state(&other)),
                }
            }
        }
        Ok(removed)
    }

    /// Looks after what only time changes, for as long as the server is in use: old events go.
    pub async fn maintain(self: Arc<Self>) {
        loop {
            tokio::time::sleep(BETWEEN_SWEEPS).await;
            if let Err(refusal) = self.expire_events(Timestamp::now()).await {
                tracing::warn!(message = %refusal.message, "old events could not be removed");
            }
        }
    }
}
