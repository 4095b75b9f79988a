//! Waits for health, and finds out why when it does not come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use strake_client::{Client, ListParams, LogParams, Resource};
use strake_plan::ObjectId;

use crate::applier::{namespace, resource};
use crate::blame::{Blame, Class, Trouble, hint, trouble};
use crate::health::{Health, health};
use crate::{Applied, Applier, ApplyError, Event};

/// How often pods are looked at while their owner is not ready.
const LOOK: Duration = Duration::from_millis(500);
/// Lines of log shown for a failing container.
const LOG_LINES: u64 = 12;
/// Restarts of one container after which a rollout counts as failed.
const RESTART_BUDGET: i64 = 2;
/// How long a pod without a readiness probe has to stay up.
const SETTLE: Duration = Duration::from_millis(400);
/// How long a pod may find no node before the rollout counts as failed.
const UNSCHEDULABLE_BUDGET: Duration = Duration::from_secs(10);

impl Applier<'_> {
    pub(crate) async fn wait(&self, applied: &[Applied], timeout: Duration) -> Result<(), ApplyError> {
        let deadline = Instant::now() + timeout;
        let mut waits: FuturesUnordered<_> = applied.iter().map(|applied| self.wait_for(applied, deadline)).collect();
        let mut blames = Vec::new();
        while let Some(result) = waits.next().await {
            if let Err(blame) = result {
                blames.push(*blame);
            }
        }
        if blames.is_empty() { Ok(()) } else { Err(ApplyError::Unhealthy { blames }) }
    }

    async fn wait_for(&self, applied: &Applied, deadline: Instant) -> Result<(), Box<Blame>> {
        let id = &applied.id;
        let mut object = applied.object.clone();
        let mut said = String::new();
        // Restarts of an earlier time (a stop, a mended fault) are not held against this rollout.
        let pods = if health(&object) == Health::Current { Vec::new() } else { pods_of(self.client, &object).await };
        let before: BTreeMap<String, i64> = pods.iter().filter_map(|pod| Some((uid(pod).to_owned(), trouble(pod)?.restarts))).collect();
        let mut unscheduled_since = None;
        let mut settled = false;
        loop {
            let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
            let reason = match health(&object) {
                // Without a readiness probe, started counts as ready: look twice, so that a program that ends at once is not called healthy.
                Health::Current if !said.is_empty() && !settled && !is_probed(&object) => {
                    settled = true;
                    tokio::time::sleep(SETTLE).await;
                    let resource = resource(id);
                    object = self.client.get(&resource, namespace(id), &id.name).await.ok().flatten().unwrap_or(object);
                    continue;
                }
                Health::Current => {
                    if !said.is_empty() {
                        (self.events)(Event::Ready { id: id.clone() });
                    }
                    return Ok(());
                }
                Health::Failed(reason) => return Err(Box::new(self.blame(applied, &object, reason).await)),
                Health::InProgress(reason) => reason,
            };
            if reason != said {
                (self.events)(Event::Waiting { id: id.clone(), reason: reason.clone() });
                said = reason;
            }
            if Instant::now() >= deadline {
                let reason = format!("not ready in time: {said}");
                return Err(Box::new(self.blame(applied, &object, reason).await));
            }
            if let Some(reason) = self.hopeless(&object, &before, &mut unscheduled_since).await {
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

    /// A reason to stop waiting: a pod whose trouble is terminal, or has used up its budget.
    async fn hopeless(&self, object: &Value, before: &BTreeMap<String, i64>, unscheduled_since: &mut Option<Instant>) -> Option<String> {
        let mut unscheduled = false;
        for pod in pods_of(self.client, object).await {
            let Some(trouble) = trouble(&pod) else { continue };
            let restarts = trouble.restarts - before.get(uid(&pod)).copied().unwrap_or(0);
            let spent = match trouble.class {
                Class::Terminal => true,
                Class::Transient => false,
                Class::Budgeted if trouble.container.is_empty() => {
                    unscheduled = true;
                    unscheduled_since.get_or_insert_with(Instant::now).elapsed() > UNSCHEDULABLE_BUDGET
                }
                Class::Budgeted => {
                    let backs_off = trouble.reason == "CrashLoopBackOff" && restarts > 0;
                    backs_off || restarts >= RESTART_BUDGET || trouble.reason == "ImagePullBackOff"
                }
            };
            if spent {
                return Some("the rollout cannot succeed".to_owned());
            }
        }
        if !unscheduled {
            *unscheduled_since = None;
        }
        None
    }

    async fn blame(&self, applied: &Applied, object: &Value, reason: String) -> Blame {
        let mut blame = Blame { object: applied.id.to_string(), origin: applied.origin.clone(), reason, ..Blame::default() };
        let pods = pods_of(self.client, object).await;
        let worst: Option<(&Value, Trouble)> =
            pods.iter().filter_map(|pod| Some((pod, trouble(pod)?))).max_by_key(|(_, trouble)| (trouble.class, trouble.restarts));
        let unready = || pods.iter().find(|pod| !is_ready(pod));
        let Some(pod) = worst.as_ref().map(|(pod, _)| *pod).or_else(unready) else {
            blame.events = events_of(self.client, object).await;
            return blame;
        };
        blame.pod = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        blame.events = events_of(self.client, pod).await;
        let first = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default();
        blame.container = first.to_owned();
        if let Some((_, trouble)) = &worst {
            blame.state = trouble.text.clone();
            blame.exit_code = trouble.exit_code;
            blame.hint = hint(trouble).to_owned();
            if !trouble.container.is_empty() {
                blame.container = trouble.container.clone();
            }
        }
        blame.log = last_lines(self.client, pod, &blame.container).await;
        blame
    }
}

/// Every container of a workload or pod has a readiness probe; true for kinds without containers.
fn is_probed(object: &Value) -> bool {
    let pod = if object["kind"] == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
    pod["containers"].as_array().is_none_or(|containers| containers.iter().all(|container| container["readinessProbe"].is_object()))
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap_or_default()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|conditions| conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

/// The pods an object answers for: itself, or those of a workload's newest generation.
pub(crate) async fn pods_of(client: &Client, object: &Value) -> Vec<Value> {
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind == "Pod" {
        return vec![object.clone()];
    }
    let labels: Option<BTreeMap<&str, &str>> = object["spec"]["selector"]["matchLabels"]
        .as_object()
        .map(|labels| labels.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect());
    let (Some(labels), true) = (labels, matches!(kind, "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job")) else {
        return Vec::new();
    };
    let selector = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    let params = ListParams { label_selector: Some(selector), ..ListParams::default() };
    let namespace = object["metadata"]["namespace"].as_str();
    let Ok(pods) = client.list(&Resource::PODS, namespace, &params).await else { return Vec::new() };
    let owner = if kind == "Deployment" { newest_replica_set(client, object, &params).await } else { object["metadata"]["uid"].as_str().map(str::to_owned) };
    let Some(owner) = owner else { return Vec::new() };
    let owned = |pod: &Value| pod["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().any(|one| one["uid"] == owner.as_str()));
    pods.items.into_iter().filter(|pod| owned(pod) && pod["metadata"]["deletionTimestamp"].is_null()).collect()
}

async fn newest_replica_set(client: &Client, deployment: &Value, params: &ListParams) -> Option<String> {
    const REVISION: &str = "deployment.kubernetes.io/revision";
    let list = client.list(&Resource::REPLICA_SETS, deployment["metadata"]["namespace"].as_str(), params).await.ok()?;
    let uid = &deployment["metadata"]["uid"];
    let ours = |set: &&Value| set["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().any(|one| one["uid"] == *uid));
    let revision = |set: &Value| set["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let newest = list.items.iter().filter(ours).max_by_key(|set| revision(set))?;
    newest["metadata"]["uid"].as_str().map(str::to_owned)
}

async fn events_of(client: &Client, object: &Value) -> Vec<String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let params = ListParams { field_selector: Some(format!("involvedObject.name={name},type=Warning")), ..ListParams::default() };
    let Ok(list) = client.list(&Resource::EVENTS, object["metadata"]["namespace"].as_str(), &params).await else { return Vec::new() };
    let text = |event: &Value| {
        let count = event["count"].as_i64().filter(|count| *count > 1).map(|count| format!(" (x{count})")).unwrap_or_default();
        format!("{}: {}{count}", event["reason"].as_str().unwrap_or_default(), event["message"].as_str().unwrap_or_default())
    };
    let mut lines: Vec<String> = list.items.iter().map(text).collect();
    lines.dedup();
    lines.split_off(lines.len().saturating_sub(4))
}

/// The last lines a container wrote: of the run that failed, when it has been restarted since.
async fn last_lines(client: &Client, pod: &Value, container: &str) -> Vec<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut params = LogParams { container: Some(container.to_owned()), tail: Some(LOG_LINES), ..LogParams::default() };
    for previous in [true, false] {
        params.previous = previous;
        let Ok(mut stream) = client.logs(namespace, name, &params).await else { continue };
        let mut bytes = Vec::new();
        while let Some(Ok(chunk)) = stream.next().await {
            bytes.extend_from_slice(&chunk);
        }
        if !bytes.is_empty() {
            return String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
        }
    }
    Vec::new()
}
