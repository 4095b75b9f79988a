//! Events: what the controllers and the scheduler tell people. Losing one harms nothing, so they are written beside the loops, never in their way.

use std::collections::HashMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use strake_client::{Client, ClientError, Patch, Resource, WriteParams};
use tokio::sync::mpsc;

/// Events that may wait to be written; more are dropped.
const WAITING: usize = 1024;
/// Repetitions remembered.
const REMEMBERED: usize = 4096;

struct Entry {
    about: Value,
    event_type: String,
    reason: String,
    message: String,
}

/// Writes events in the background; the same one again only counts.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Entry>,
}

impl Recorder {
    /// A recorder that writes in the name of `component`. Must be called inside a tokio runtime.
    pub fn new(client: Client, component: &'static str) -> Recorder {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(write_all(client, component, receiver));
        Recorder { sender }
    }

    /// Says something about the object that `about` refers to (an ObjectReference as JSON).
    pub fn record(&self, about: Value, event_type: &str, reason: &str, message: &str) {
        let entry = Entry { about, event_type: event_type.to_owned(), reason: reason.to_owned(), message: message.to_owned() };
        if self.sender.try_send(entry).is_err() {
            tracing::debug!("an event was dropped: {reason}: {message}");
        }
    }
}

async fn write_all(client: Client, component: &'static str, mut receiver: mpsc::Receiver<Entry>) {
    let mut counts: HashMap<String, u64> = HashMap::new();
    while let Some(entry) = receiver.recv().await {
        if counts.len() > REMEMBERED {
            counts.clear();
        }
        let name = name(&entry);
        let count = counts.entry(name.clone()).or_insert(0);
        *count += 1;
        let (event, namespace) = render(&entry, &name, component, *count, jiff::Timestamp::now());
        let params = WriteParams::manager(component);
        let mut result = Ok(());
        if *count == 1 {
            result = client.create(&Resource::EVENTS, Some(&namespace), &event, &params).await.map(|_| ());
        }
        let again = result.as_ref().is_err_and(ClientError::is_already_exists);
        if again {
            // Told before this process started.
            let there = client.get(&Resource::EVENTS, Some(&namespace), &name).await.ok().flatten();
            *count = there.and_then(|event| event["count"].as_u64()).unwrap_or(1) + 1;
        }
        if *count > 1 {
            let patch = Patch::Merge(json!({"count": *count, "lastTimestamp": event["lastTimestamp"]}));
            result = client.patch(&Resource::EVENTS, Some(&namespace), &name, &patch, None, &params).await.map(|_| ());
        }
        if let Err(error) = result {
            counts.remove(&name);
            tracing::debug!("event {name} was not written: {error}");
        }
    }
}

/// The same event about the same object has the same name.
fn name(entry: &Entry) -> String {
    let object = entry.about["name"].as_str().unwrap_or("object");
    let mut hasher = Sha256::new();
    for part in [entry.about["uid"].as_str().unwrap_or_default(), &entry.reason, &entry.message] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let hash: String = hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{object}.{hash}")
}

fn render(entry: &Entry, name: &str, component: &str, count: u64, now: jiff::Timestamp) -> (Value, String) {
    let namespace = entry.about["namespace"].as_str().filter(|namespace| !namespace.is_empty()).unwrap_or("default").to_owned();
    let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": entry.about, "type": entry.event_type, "reason": entry.reason, "message": entry.message,
        "source": {"component": component}, "reportingComponent": component,
        "count": count, "firstTimestamp": time, "lastTimestamp": time,
    });
    (event, namespace)
}

#[cfg(test)]
mod tests {
    use super::{Entry, name, render};
    use serde_json::json;

    #[test]
    fn the_same_event_has_the_same_name_and_cluster_scoped_objects_use_the_default_namespace() {
        let entry = |message: &str| Entry {
            about: json!({"kind": "Node", "name": "n", "uid": "1"}),
            event_type: "Normal".to_owned(),
            reason: "Ready".to_owned(),
            message: message.to_owned(),
        };
        assert_eq!(name(&entry("a")), name(&entry("a")));
        assert_ne!(name(&entry("a")), name(&entry("b")));
        let (event, namespace) = render(&entry("a"), "x", "c", 1, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(namespace, "default");
        assert_eq!(event["firstTimestamp"], "1970-01-01T00:00:00Z");
    }
}
