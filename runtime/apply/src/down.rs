//! Takes a set away again.

use std::time::{Duration, Instant};

use strake_client::{DeleteParams, Resource};
use strake_plan::ObjectId;

use crate::applier::{namespace, resource};
use crate::{Applier, ApplyError, Event, inventory};

/// How often to look whether the objects are gone.
const LOOK: Duration = Duration::from_millis(50);

/// What [`Applier::down`] removed.
pub type Removed = Vec<ObjectId>;

impl Applier<'_> {
    /// Deletes every member of the set, workloads first and namespaces last, waits until they are gone, then deletes the inventory.
    ///
    /// # Errors
    /// Objects that stay beyond `timeout` are named; the inventory then stays too, so that the same command can be repeated.
    pub async fn down(&self, timeout: Duration) -> Result<Removed, ApplyError> {
        let scope = self.scope().await?;
        let mut members = self.members(&scope).await?;
        members.sort_by_key(|(id, ..)| rank(&id.kind));
        let mut removed = Vec::new();
        for (id, member, resource) in &members {
            self.delete(id, member, resource).await?;
            removed.push(id.clone());
        }
        self.gone(&removed, timeout).await?;
        let name = inventory::parent_name(&self.plan.set);
        match self.client.delete(&Resource::SECRETS, Some(&self.plan.namespace), &name, &DeleteParams::default()).await {
            Ok(_) => Ok(removed),
            Err(error) if error.is_not_found() => Ok(removed),
            Err(source) => Err(ApplyError::Delete { object: format!("inventory {name}"), source }),
        }
    }

    async fn gone(&self, ids: &[ObjectId], timeout: Duration) -> Result<(), ApplyError> {
        let started = Instant::now();
        let mut left: Vec<&ObjectId> = ids.iter().collect();
        loop {
            let mut still = Vec::new();
            for id in left {
                let read = self.client.get(&resource(id), namespace(id), &id.name).await;
                match read.map_err(|source| ApplyError::Read { what: id.to_string(), source })? {
                    Some(_) => still.push(id),
                    None => (self.events)(Event::Pruned { id: id.clone() }),
                }
            }
            if still.is_empty() {
                return Ok(());
            }
            if started.elapsed() > timeout {
                let objects = still.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(ApplyError::Lingering { objects, seconds: timeout.as_secs() });
            }
            left = still;
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Workloads go before what they use; namespaces go last.
fn rank(kind: &str) -> u8 {
    match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "CronJob" | "Pod" => 0,
        "Service" | "Ingress" => 1,
        "Namespace" => 3,
        _ => 2,
    }
}
