//! Drives the scheduler: keep nodes and pods in view, place each waiting pod, bind it, or say why it fits nowhere.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};
use strake_client::{Change, Client, ListParams, Patch, Resource, WriteParams};
use strake_kinds::core::{Node, Pod};
use strake_schedule::{ClusterView, Wanted, place};

use crate::controllers::merged;
use crate::events::Recorder;

const MANAGER: &str = "strake-scheduler";
/// The only scheduler name that is ours.
const NAME: &str = "default-scheduler";

struct Loop {
    client: Client,
    recorder: Recorder,
    view: ClusterView,
    /// Pods without a node by uid, oldest first by when they were seen.
    waiting: HashMap<String, Arc<Value>>,
    order: Vec<String>,
    /// What was last said about a pod that fits nowhere.
    said: HashMap<String, String>,
}

/// Places pods until the task is dropped.
pub async fn run(client: Client) {
    let resources = [Resource::NODES, Resource::PODS];
    let mut changes = merged(&client, &resources, &ListParams::default());
    let recorder = Recorder::new(client.clone(), NAME);
    let mut state = Loop {
        client,
        recorder,
        view: ClusterView::new(std::iter::empty::<&Node>(), std::iter::empty::<&Pod>()),
        waiting: HashMap::new(),
        order: Vec::new(),
        said: HashMap::new(),
    };
    let mut unsynced: BTreeSet<usize> = (0..resources.len()).collect();
    while let Some((index, change)) = changes.recv().await {
        if change == Change::Synced {
            unsynced.remove(&index);
        }
        let mut look = state.take(index, &change);
        while let Ok((index, change)) = changes.try_recv() {
            if change == Change::Synced {
                unsynced.remove(&index);
            }
            look |= state.take(index, &change);
        }
        if unsynced.is_empty() && (look || !state.waiting.is_empty()) {
            state.place_all().await;
        }
    }
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

impl Loop {
    /// Takes a change in; true when a waiting pod may fit now.
    fn take(&mut self, index: usize, change: &Change) -> bool {
        use serde::Deserialize;
        match (index, change) {
            (0, Change::Applied(object)) => Node::deserialize(&**object).is_ok_and(|node| {
                self.view.apply_node(&node);
                true
            }),
            (0, Change::Deleted(object)) => {
                self.view.remove_node(object["metadata"]["name"].as_str().unwrap_or_default());
                false
            }
            (_, Change::Applied(object)) => {
                let Ok(pod) = Pod::deserialize(&**object) else { return false };
                self.view.apply_pod(&pod);
                self.queue(object)
            }
            (_, Change::Deleted(object)) => {
                self.view.remove_pod(uid(object));
                self.forget(uid(object));
                true
            }
            (_, Change::Synced) => true,
        }
    }

    fn queue(&mut self, object: &Arc<Value>) -> bool {
        let uid = uid(object).to_owned();
        let bound = object["spec"]["nodeName"].as_str().is_some_and(|name| !name.is_empty());
        let ours = object["spec"]["schedulerName"].as_str().is_none_or(|name| name == NAME);
        let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if bound || !ours || ended || object["metadata"]["deletionTimestamp"].is_string() {
            self.forget(&uid);
            return ended;
        }
        if self.waiting.insert(uid.clone(), object.clone()).is_none() {
            self.order.push(uid);
        }
        true
    }

    fn forget(&mut self, uid: &str) {
        if self.waiting.remove(uid).is_some() {
            self.order.retain(|waiting| waiting != uid);
        }
        self.said.remove(uid);
    }

    async fn place_all(&mut self) {
        for uid in self.order.clone() {
            let Some(object) = self.waiting.get(&uid).cloned() else { continue };
            let Ok(pod) = serde_json::from_value::<Pod>((*object).clone()) else { continue };
            match place(&self.view, &pod) {
                Ok(placement) => self.bind(&uid, &object, &pod, &placement.node).await,
                Err(reason) => self.refuse(&uid, &object, &reason.to_string()).await,
            }
        }
    }

    async fn bind(&mut self, uid: &str, object: &Value, pod: &Pod, node: &str) {
        let (name, namespace) = (pod.metadata.name.as_deref().unwrap_or_default(), pod.metadata.namespace.as_deref().unwrap_or_default());
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let sent = self.client.create_subresource(&Resource::PODS, Some(namespace), name, "binding", &binding).await;
        match sent {
            Ok(_) => {
                self.view.assume(Wanted::of(pod), node);
                self.forget(uid);
                self.recorder.record(reference(object), "Normal", "Scheduled", &format!("Successfully assigned {namespace}/{name} to {node}"));
            }
            // Bound by somebody else, or gone: the watch will tell.
            Err(error) if error.is_conflict() || error.is_not_found() => self.forget(uid),
            Err(error) => tracing::warn!("cannot bind pod {namespace}/{name}: {error}"),
        }
    }

    async fn refuse(&mut self, uid: &str, object: &Value, reason: &str) {
        if self.said.get(uid).is_some_and(|said| said == reason) {
            return;
        }
        self.said.insert(uid.to_owned(), reason.to_owned());
        self.recorder.record(reference(object), "Warning", "FailedScheduling", reason);
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": reason, "lastTransitionTime": now});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let (name, namespace) = (object["metadata"]["name"].as_str().unwrap_or_default(), object["metadata"]["namespace"].as_str());
        if let Err(error) = self.client.patch(&Resource::PODS, namespace, name, &patch, Some("status"), &WriteParams::manager(MANAGER)).await {
            tracing::debug!("cannot say why pod {name} waits: {error}");
        }
    }
}

fn reference(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"],
        "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
    })
}
