//! Writing a pod's status.

use std::time::Duration;

use serde_json::{Value, json};
use strake_client::{Client, ClientError, Patch, Resource, WriteParams};
use strake_kinds::core::{Pod, PodStatus};

/// Fields that a status may lose: a merge keeps what isn't named.
const MAY_VANISH: [&str; 6] = ["reason", "message", "podIP", "podIPs", "initContainerStatuses", "startTime"];
const LIMIT: Duration = Duration::from_secs(10);

/// Makes the API's status this one.
pub(crate) async fn write(client: &Client, pod: &Pod, status: &PodStatus) -> Result<(), ClientError> {
    let patch = Patch::Merge(body(pod, status));
    let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref().unwrap_or_default());
    let params = WriteParams::manager("kubelet");
    let pods = Resource::PODS;
    let write = client.patch(&pods, namespace, name, &patch, Some("status"), &params);
    match tokio::time::timeout(LIMIT, write).await {
        Ok(answer) => answer.map(|_| ()),
        Err(elapsed) => {
            let path = Resource::PODS.path(namespace, Some(name), Some("status"));
            Err(ClientError::Receive { path, source: Box::new(elapsed) })
        }
    }
}

fn body(pod: &Pod, status: &PodStatus) -> Value {
    let mut status = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = status.as_object_mut() {
        for name in MAY_VANISH {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

/// Whether what the API holds agrees with what was written in what others may have changed: phase and conditions.
pub(crate) fn agree(held: Option<&PodStatus>, written: &PodStatus) -> bool {
    let short = |status: &PodStatus| {
        let conditions = status.conditions.iter().flatten().map(|condition| (condition.type_.clone(), condition.status.clone()));
        let mut conditions: Vec<_> = conditions.collect();
        conditions.sort();
        (status.phase.clone(), conditions)
    };
    held.is_some_and(|held| short(held) == short(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_lost_is_taken_away() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}})).unwrap();
        let status: PodStatus = serde_json::from_value(json!({"phase": "Running", "message": "kept"})).unwrap();
        let body = body(&pod, &status);
        assert_eq!(body["status"]["reason"], Value::Null);
        assert!(body["status"].as_object().unwrap().contains_key("reason"));
        assert_eq!((body["status"]["message"].as_str(), body["metadata"]["uid"].as_str()), (Some("kept"), Some("u")));
    }

    #[test]
    fn others_may_change_conditions() {
        let of =
            |ready: &str| -> PodStatus { serde_json::from_value(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]})).unwrap() };
        assert!(agree(Some(&of("True")), &of("True")));
        assert!(!agree(Some(&of("False")), &of("True")));
        assert!(!agree(None, &of("True")));
    }
}
