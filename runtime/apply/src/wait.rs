//! Waits for health, and finds out why when it does not come.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::Value;
use strake_client::ListParams;
use strake_plan::{ObjectId, Wanted};

use crate::applier::{WAIT, namespace, resource};
use crate::blame::Blame;
use crate::evidence;
use crate::failure::Tally;
use crate::health::{self, Health, health};
use crate::logs::Follower;
use crate::{Applied, Applier, Event};

/// How often pods are looked at while their owner is not ready.
const LOOK: Duration = Duration::from_millis(500);
/// How long the last lines of containers that have ended may take to come.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long a pod without a readiness probe has to stay up.
const SETTLE: Duration = Duration::from_millis(400);

impl Applier<'_> {
    /// Waits until an object is as it is wanted, and tells what its containers write meanwhile.
    pub(crate) async fn settle(&self, applied: &Applied, goal: Wanted) -> Result<(), Box<Blame>> {
        let deadline = Instant::now() + self.options.wait.unwrap_or(WAIT);
        if !self.options.logs || reaching(health(&applied.object), &applied.object, goal).is_settled() {
            return self.wait_for(applied, goal, deadline).await;
        }
        let whole = goal == Wanted::Complete;
        let mut follower = Follower::new(self.client, self.events, &applied.object, whole);
        let result = tokio::select! {
            result = self.wait_for(applied, goal, deadline) => result,
            () = follower.run() => Ok(()),
        };
        if whole || result.is_err() {
            let _ = tokio::time::timeout(LAST_LINES, follower.finish()).await;
        }
        result
    }

    async fn wait_for(&self, applied: &Applied, goal: Wanted, deadline: Instant) -> Result<(), Box<Blame>> {
        let id = &applied.id;
        let mut object = applied.object.clone();
        let mut said = String::new();
        if goal != Wanted::Complete && !health::is_waited_for(&object) {
            return Ok(());
        }
        let began = Instant::now();
        let pods = if health(&object).is_settled() { Vec::new() } else { evidence::pods_of(self.client, &object).await };
        let mut tally = Tally::starting_from(&pods);
        let mut settled = false;
        loop {
            let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
            let reason = match reaching(health(&object), &object, goal) {
                // Without a readiness probe, started counts as ready: look twice, so that a program that ends at once is not called healthy.
                Health::Current if !said.is_empty() && !settled && !is_probed(&object) => {
                    settled = true;
                    tokio::time::sleep(SETTLE).await;
                    let resource = resource(id);
                    object = self.client.get(&resource, namespace(id), &id.name).await.ok().flatten().unwrap_or(object);
                    continue;
                }
                settled if settled.is_settled() => {
                    if !said.is_empty() {
                        (self.events)(Event::Ready { id: id.clone() });
                    }
                    return Ok(());
                }
                Health::Failed(reason) => return Err(Box::new(self.blame(applied, &object, reason).await)),
                other => other.reason().to_owned(),
            };
            if reason != said {
                (self.events)(Event::Waiting { id: id.clone(), reason: reason.clone() });
                said = reason;
            }
            if Instant::now() >= deadline {
                let reason = format!("not ready in time: {said}");
                return Err(Box::new(self.blame(applied, &object, reason).await));
            }
            if let Some(reason) = self.hopeless(&object, &mut tally, began.elapsed()).await {
                return Err(Box::new(self.blame(applied, &object, reason).await));
            }
            object = self.next_version(id, &version).await.unwrap_or(object);
        }
    }

    /// The object after its next change, or as it is after [`LOOK`].
    async fn next_version(&self, id: &ObjectId, version: &str) -> Option<Value> {
        let params = ListParams { field_selector: Some(format!("metadata.name={}", id.name)), ..ListParams::default() };
        let resource = resource(id);
        let watch = async {
            let mut events = self.client.watch(&resource, namespace(id), &params, version).await.ok()?;
            let event = events.next().await?.ok()?;
            Some(event.object)
        };
        match tokio::time::timeout(LOOK, watch).await {
            Ok(Some(object)) if object["metadata"]["name"].is_string() => Some(object),
            Ok(_) => {
                tokio::time::sleep(LOOK).await;
                self.client.get(&resource, namespace(id), &id.name).await.ok().flatten()
            }
            Err(_) => self.client.get(&resource, namespace(id), &id.name).await.ok().flatten(),
        }
    }

    /// A reason to stop waiting: pods that will not heal, or have used up their budget.
    async fn hopeless(&self, object: &Value, tally: &mut Tally, at: Duration) -> Option<String> {
        let pods = evidence::pods_of(self.client, object).await;
        let policy = self.options.policy.of(object);
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        // What this apply makes may only just have come.
        let coming = |kind: &str, name: &str| {
            self.plan.changes.iter().any(|change| change.id.kind == kind && change.id.name == name && change.id.namespace == namespace)
        };
        let lost = tally.look(&pods, object["spec"]["replicas"].as_i64().unwrap_or(1), at, &policy, &coming)?;
        Some(lost.why)
    }

    async fn blame(&self, applied: &Applied, object: &Value, reason: String) -> Blame {
        let change = self.plan.changes.iter().find(|change| change.id == applied.id);
        let found = evidence::gather(self.client, change, object, reason).await;
        Blame { object: applied.id.to_string(), origin: applied.origin.clone(), ..found }
    }
}

/// The health of an object on its way to what is wanted of it: a program that has to run to its end is not there while it runs.
pub(crate) fn reaching(health: Health, object: &Value, goal: Wanted) -> Health {
    let ends = object["kind"] == "Pod" && object["spec"]["restartPolicy"].as_str().unwrap_or("Always") != "Always";
    if goal == Wanted::Complete && ends && health == Health::Current && object["status"]["phase"] != "Succeeded" {
        return Health::InProgress("is running".to_owned());
    }
    // What is suspended has not run to its end, however long it stays so.
    match health {
        Health::Suspended(reason) if goal == Wanted::Complete => Health::InProgress(reason),
        health => health,
    }
}

/// Every container of a workload or pod has a readiness probe; true for kinds without containers.
fn is_probed(object: &Value) -> bool {
    let pod = if object["kind"] == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
    pod["containers"].as_array().is_none_or(|containers| containers.iter().all(|container| container["readinessProbe"].is_object()))
}
