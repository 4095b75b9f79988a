//! Events: what the node tells people. They are written beside the work, never in its way; the same one again only counts.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use strake_client::{Client, Patch, Resource, WriteParams};
use strake_kinds::core::Pod;
use tokio::sync::mpsc;

/// Events that may wait; more are dropped.
const WAITING: usize = 1024;
/// Repetitions remembered.
const REMEMBERED: usize = 4096;
const COMPONENT: &str = "kubelet";

/// What an event is about and says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
    field_path: Option<String>,
    event_type: &'static str,
    reason: String,
    message: String,
}

/// Where events are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    sender: mpsc::Sender<Entry>,
}

impl Events {
    /// Begins to write; must be called inside a runtime.
    pub(crate) fn start(client: Client, node: String) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(write_all(client, node, receiver));
        Events { sender }
    }

    /// Says something about a pod, or about one of its containers.
    pub(crate) fn pod(&self, pod: &Pod, container: Option<&str>, event_type: &'static str, reason: &str, message: String) {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let init = |name: &str| pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).any(|container| container.name == name);
        let field_path = container.map(|name| {
            let list = if init(name) { "initContainers" } else { "containers" };
            format!("spec.{list}{{{name}}}")
        });
        let meta = &pod.metadata;
        let (namespace, name, uid) = (text(&meta.namespace), text(&meta.name), text(&meta.uid));
        self.say(Entry { kind: "Pod", namespace, name, uid, field_path, event_type, reason: reason.to_owned(), message });
    }

    /// Says something about a Service.
    pub(crate) fn service(&self, namespace: &str, name: &str, reason: &str, message: String) {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let reason = reason.to_owned();
        self.say(Entry { kind: "Service", namespace, name, uid: String::new(), field_path: None, event_type: "Warning", reason, message });
    }

    /// Says something about the node.
    pub(crate) fn node(&self, name: &str, event_type: &'static str, reason: &str, message: String) {
        let (namespace, uid) = ("default".to_owned(), name.to_owned());
        self.say(Entry { kind: "Node", namespace, name: name.to_owned(), uid, field_path: None, event_type, reason: reason.to_owned(), message });
    }

    fn say(&self, entry: Entry) {
        tracing::debug!(about = %entry.name, reason = %entry.reason, "{}", entry.message);
        if self.sender.try_send(entry).is_err() {
            tracing::debug!("an event was dropped: too many are waiting");
        }
    }
}

async fn write_all(client: Client, node: String, mut receiver: mpsc::Receiver<Entry>) {
    let mut known: HashMap<Entry, (String, u64)> = HashMap::new();
    let params = WriteParams::manager(COMPONENT);
    while let Some(entry) = receiver.recv().await {
        let now = Timestamp::now();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        if let Some((name, count)) = known.get_mut(&entry) {
            *count += 1;
            let patch = Patch::Merge(json!({"count": *count, "lastTimestamp": seconds(now)}));
            match client.patch(&Resource::EVENTS, Some(&entry.namespace), name, &patch, None, &params).await {
                Ok(_) => continue,
                // It has expired: a new one is written.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    tracing::debug!(%error, "an event could not be counted");
                    continue;
                }
            }
        }
        let name = format!("{}.{:x}", entry.name, now.as_nanosecond());
        let event = render(&entry, &name, &node, now);
        match client.create(&Resource::EVENTS, Some(&entry.namespace), &event, &params).await {
            Ok(_) => {
                known.insert(entry, (name, 1));
            }
            Err(error) => tracing::debug!(%error, reason = %entry.reason, "an event could not be written"),
        }
    }
}

fn render(entry: &Entry, name: &str, node: &str, now: Timestamp) -> Value {
    let mut about = json!({"kind": entry.kind, "apiVersion": "v1", "name": entry.name});
    if entry.kind != "Node" {
        about["namespace"] = entry.namespace.clone().into();
    }
    if !entry.uid.is_empty() {
        about["uid"] = entry.uid.clone().into();
    }
    if let Some(path) = &entry.field_path {
        about["fieldPath"] = path.clone().into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": entry.namespace},
        "involvedObject": about,
        "type": entry.event_type,
        "reason": entry.reason,
        "message": entry.message,
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": seconds(now),
        "lastTimestamp": seconds(now),
        "count": 1,
    })
}

/// A time as the API keeps it: to the second.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
