//! Drives the controllers: watch every kind into one view, ask who is concerned, decide, perform, and put each answer into the view before the next decision.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde_json::Value;
use strake_client::{Change, Client, ClientError, DeleteParams, ListParams, Patch, Propagation, Resource, WriteParams};
use strake_control::{Action, Controller, Decision, Key, Kind, ObjectId, View, controllers};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::events::Recorder;

/// The field manager of the controllers' writes.
const MANAGER: &str = "strake-controller-manager";
const FIRST_BACK_OFF: Duration = Duration::from_millis(20);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// Changes taken in before the next decision.
const BATCH: usize = 512;

type Work = (usize, Key);

struct Loop {
    client: Client,
    recorder: Recorder,
    controllers: Vec<Box<dyn Controller>>,
    view: View,
    ready: BTreeSet<Work>,
    later: BTreeSet<(Instant, Work)>,
    failures: HashMap<Work, u32>,
}

/// The resource of a kind that this cluster serves.
fn resource(kind: &Kind) -> Option<Resource> {
    let row = strake_kinds::by_kind(&kind.api_version, &kind.kind)?;
    Some(Resource::new(row.group, row.version, row.plural, row.kind, row.namespaced))
}

fn served() -> Vec<Resource> {
    let rows = strake_kinds::table().iter().filter(|row| row.supported && row.verbs.contains(&"watch"));
    // Events are for people: no controller reads them, and there are many.
    rows.filter(|row| row.kind != "Event").map(|row| Resource::new(row.group, row.version, row.plural, row.kind, row.namespaced)).collect()
}

/// Watches `resources` and merges what happens; the number tells which resource it was.
pub(crate) fn merged(client: &Client, resources: &[Resource], params: &ListParams) -> mpsc::Receiver<(usize, Change)> {
    let (sender, receiver) = mpsc::channel(BATCH);
    for (index, resource) in resources.iter().enumerate() {
        let mut changes = client.reflect(resource, None, params).into_receiver();
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                if sender.send((index, change)).await.is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Runs the controllers until the task is dropped.
pub async fn run(client: Client) {
    let resources = served();
    let mut changes = merged(&client, &resources, &ListParams::default());
    let recorder = Recorder::new(client.clone(), "strake-controllers");
    let mut state =
        Loop { client, recorder, controllers: controllers(), view: View::new(), ready: BTreeSet::new(), later: BTreeSet::new(), failures: HashMap::new() };
    // Leases that nobody renewed while this process was down say nothing about their nodes yet.
    state.view.observe_from(jiff::Timestamp::now());
    let mut unsynced: BTreeSet<usize> = (0..resources.len()).collect();
    while !unsynced.is_empty() {
        let Some((index, change)) = changes.recv().await else { return };
        if change == Change::Synced {
            unsynced.remove(&index);
        }
        state.take(&change);
    }
    loop {
        let mut taken = 0;
        while let Ok((_, change)) = changes.try_recv() {
            state.take(&change);
            taken += 1;
            if taken == BATCH {
                break;
            }
        }
        state.wake();
        if let Some(work) = state.ready.pop_first() {
            state.turn(work).await;
            continue;
        }
        let next = state.later.first().map(|(at, _)| *at);
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.recv() => match change {
                Some((_, change)) => state.take(&change),
                None => return,
            },
            () = timer => {}
        }
    }
}

impl Loop {
    fn take(&mut self, change: &Change) {
        let changed = match change {
            Change::Applied(object) => self.view.apply(object),
            Change::Deleted(object) => identity(object).and_then(|(id, uid)| self.view.remove(&id, &uid)),
            Change::Synced => None,
        };
        if let Some(changed) = changed {
            self.concern(&changed);
        }
    }

    fn concern(&mut self, change: &strake_control::Change) {
        for (index, controller) in self.controllers.iter().enumerate() {
            let kinds = controller.watches();
            if kinds.is_empty() || kinds.contains(&change.id.kind) {
                self.ready.extend(controller.keys_for(&self.view, change).into_iter().map(|key| (index, key)));
            }
        }
    }

    /// Moves what is due to the ready set.
    fn wake(&mut self) {
        let now = Instant::now();
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, work)) = self.later.pop_first() {
                self.ready.insert(work);
            }
        }
    }

    async fn turn(&mut self, work: Work) {
        let controller = &self.controllers[work.0];
        let view = &self.view;
        let decide = || controller.reconcile(view, &work.1, jiff::Timestamp::now());
        // One key's panic is our bug; the others go on.
        let Ok(decision) = catch_unwind(AssertUnwindSafe(decide)) else {
            tracing::error!("{} panicked on {}", controller.name(), work.1);
            self.back_off(work);
            return;
        };
        let Decision { actions, requeue_after } = decision;
        for action in actions {
            tracing::debug!("{} on {}: {}", self.controllers[work.0].name(), work.1, action.reason());
            if let Err(error) = self.perform(action.clone()).await {
                self.refused(&work, &action, &error).await;
                self.back_off(work);
                return;
            }
        }
        self.failures.remove(&work);
        if let Some(after) = requeue_after {
            self.later.insert((Instant::now() + after, work));
        }
    }

    /// A write that deciding again will not cure is told to the controller, which usually says so in the object's status.
    async fn refused(&mut self, work: &Work, action: &Action, error: &ClientError) {
        if error.is_conflict() || error.is_not_found() {
            return;
        }
        let controller = &self.controllers[work.0];
        tracing::warn!("{} on {}: {error}", controller.name(), work.1);
        let Decision { actions, .. } = controller.on_failure(&self.view, &work.1, action, &error.to_string(), jiff::Timestamp::now());
        for action in actions {
            if let Err(error) = self.perform(action).await {
                tracing::debug!("saying so failed too: {error}");
            }
        }
    }

    fn back_off(&mut self, work: Work) {
        let failures = self.failures.entry(work.clone()).or_insert(0);
        let pause = (FIRST_BACK_OFF * 2u32.saturating_pow((*failures).min(12))).min(LONGEST_BACK_OFF);
        *failures += 1;
        self.later.insert((Instant::now() + pause, work));
    }

    async fn perform(&mut self, action: Action) -> Result<(), ClientError> {
        let params = WriteParams::manager(MANAGER);
        match action {
            Action::Create { object, .. } => self.create(&object, &params).await,
            Action::Update { object, .. } => self.replace(&object, None, &params).await,
            Action::UpdateStatus { object, .. } => self.replace(&object, Some("status"), &params).await,
            Action::Finalize { object, .. } => self.replace(&object, Some("finalize"), &params).await,
            Action::Patch { id, subresource, patch, .. } => {
                let Some(resource) = resource(&id.kind) else { return Ok(()) };
                let answer = self.client.patch(&resource, namespace(&id), &id.name, &Patch::Merge(patch), subresource, &params).await?;
                self.learn(&answer);
                Ok(())
            }
            Action::Delete { id, uid, propagation, grace_seconds, .. } => self.delete(&id, uid, propagation, grace_seconds).await,
            Action::RecordEvent { about, event_type, reason, message } => {
                let about = serde_json::to_value(&*about).unwrap_or_default();
                self.recorder.record(about, event_type.as_str(), &reason, &message);
                Ok(())
            }
        }
    }

    async fn create(&mut self, object: &Value, params: &WriteParams) -> Result<(), ClientError> {
        let Some((id, _)) = identity(object) else { return Ok(()) };
        let Some(resource) = resource(&id.kind) else { return Ok(()) };
        match self.client.create(&resource, namespace(&id), object, params).await {
            Ok(answer) => self.learn(&answer),
            Err(error) if error.is_already_exists() => {
                if let Some(there) = self.client.get(&resource, namespace(&id), &id.name).await? {
                    self.learn(&there);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn replace(&mut self, object: &Value, subresource: Option<&str>, params: &WriteParams) -> Result<(), ClientError> {
        let Some((id, _)) = identity(object) else { return Ok(()) };
        let Some(resource) = resource(&id.kind) else { return Ok(()) };
        let answer = self.client.replace(&resource, namespace(&id), object, subresource, params).await?;
        self.learn(&answer);
        Ok(())
    }

    async fn delete(&mut self, id: &ObjectId, uid: String, propagation: strake_control::Propagation, grace_seconds: Option<i64>) -> Result<(), ClientError> {
        let Some(resource) = resource(&id.kind) else { return Ok(()) };
        let propagation = match propagation {
            strake_control::Propagation::Background => Propagation::Background,
            strake_control::Propagation::Foreground => Propagation::Foreground,
            strake_control::Propagation::Orphan => Propagation::Orphan,
        };
        let params = DeleteParams { propagation: Some(propagation), grace_seconds, uid: Some(uid.clone()), ..DeleteParams::default() };
        match self.client.delete(&resource, namespace(id), &id.name, &params).await {
            // An answer with a deletion time is an object that stays for its finalizers or its grace.
            Ok(answer) if answer["metadata"]["deletionTimestamp"].is_string() => self.learn(&answer),
            Ok(_) => self.forget(id, &uid),
            Err(error) if error.is_not_found() || error.is_conflict() => self.forget(id, &uid),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn learn(&mut self, answer: &Value) {
        if let Some(change) = self.view.apply(answer) {
            self.concern(&change);
        }
    }

    fn forget(&mut self, id: &ObjectId, uid: &str) {
        if let Some(change) = self.view.remove(id, uid) {
            self.concern(&change);
        }
    }
}

fn namespace(id: &ObjectId) -> Option<&str> {
    Some(id.namespace.as_str()).filter(|namespace| !namespace.is_empty())
}

fn identity(object: &Value) -> Option<(ObjectId, String)> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let kind = Kind::new(object["apiVersion"].as_str()?, object["kind"].as_str()?);
    Some((ObjectId::new(kind, text("namespace"), object["metadata"]["name"].as_str()?), text("uid").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{identity, resource, served};
    use serde_json::json;
    use strake_control::Kind;

    #[test]
    fn every_served_kind_has_its_resource() {
        assert!(served().iter().any(|resource| resource.plural == "deployments"));
        assert!(served().iter().all(|resource| resource.kind != "Event"));
        assert_eq!(resource(&Kind::ENDPOINT_SLICE).map(|found| found.plural.into_owned()), Some("endpointslices".to_owned()));
    }

    #[test]
    fn an_object_is_known_by_kind_namespace_and_name() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b", "uid": "c"}});
        let (id, uid) = identity(&object).expect("complete");
        assert_eq!((id.to_string().as_str(), uid.as_str()), ("Pod b/a", "c"));
        assert!(identity(&json!({"kind": "Pod"})).is_none());
    }
}
