//! Is an object as it should be? Pure functions of the object alone, by kind (reference: kstatus, with the stricter rules where it is too lenient).

use serde_json::Value;

/// An object's health with its reason, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Current,
    /// On its way; says what is missing.
    InProgress(String),
    /// It will not get there by itself.
    Failed(String),
}

/// The health of `object`.
pub fn health(object: &Value) -> Health {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Health::InProgress("is being deleted".to_owned());
    }
    let generation = object["metadata"]["generation"].as_i64();
    let observed = object["status"]["observedGeneration"].as_i64();
    if let (Some(generation), Some(observed)) = (generation, observed)
        && observed < generation
    {
        return Health::InProgress("the controller has not seen the change yet".to_owned());
    }
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => deployment(object),
        "ReplicaSet" | "ReplicationController" => replica_set(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        "Pod" => pod(object),
        "Job" => job(object),
        "PersistentVolumeClaim" => phase(object, &["Bound"], &["Lost"]),
        "Namespace" => phase(object, &["Active"], &[]),
        "CustomResourceDefinition" => established(object),
        kind => generic(kind, object),
    }
}

fn count(object: &Value, field: &str) -> i64 {
    object["status"][field].as_i64().unwrap_or(0)
}

/// The condition of a type: status, reason, message.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    Some((text("status"), text("reason"), text("message")))
}

fn deployment(object: &Value) -> Health {
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    if let Some(("False", "ProgressDeadlineExceeded", message)) = condition(object, "Progressing") {
        return Health::Failed(format!("made no progress within its deadline: {message}"));
    }
    if object["spec"]["paused"] == true {
        return Health::InProgress("is paused".to_owned());
    }
    if object["status"]["observedGeneration"].is_null() {
        return Health::InProgress("the controller has not seen it yet".to_owned());
    }
    let (updated, all) = (count(object, "updatedReplicas"), count(object, "replicas"));
    let (ready, available) = (count(object, "readyReplicas"), count(object, "availableReplicas"));
    let failure = match condition(object, "ReplicaFailure") {
        Some(("True", reason, message)) => format!(" ({reason}: {message})"),
        _ => String::new(),
    };
    if updated < wanted {
        Health::InProgress(format!("{updated} of {wanted} replicas updated{failure}"))
    } else if all > updated {
        Health::InProgress(format!("{} old replicas are still there", all - updated))
    } else if ready < wanted {
        Health::InProgress(format!("{ready} of {wanted} replicas ready{failure}"))
    } else if available < updated {
        Health::InProgress(format!("{available} of {updated} replicas available"))
    } else {
        Health::Current
    }
}

fn replica_set(object: &Value) -> Health {
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let (available, all) = (count(object, "availableReplicas"), count(object, "replicas"));
    match condition(object, "ReplicaFailure") {
        Some(("True", reason, message)) => Health::InProgress(format!("cannot make pods: {reason}: {message}")),
        _ if available < wanted => Health::InProgress(format!("{available} of {wanted} replicas available")),
        _ if all > wanted => Health::InProgress(format!("{} pods too many", all - wanted)),
        _ => Health::Current,
    }
}

fn stateful_set(object: &Value) -> Health {
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let ready = count(object, "readyReplicas");
    if object["spec"]["updateStrategy"]["type"] == "OnDelete" {
        return Health::Current;
    }
    if ready < wanted {
        return Health::InProgress(format!("{ready} of {wanted} replicas ready"));
    }
    let partition = object["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
    let updated = count(object, "updatedReplicas");
    if partition > 0 && updated < wanted - partition {
        return Health::InProgress(format!("{updated} of {} replicas updated", wanted - partition));
    }
    if partition == 0 && object["status"]["updateRevision"] != object["status"]["currentRevision"] {
        return Health::InProgress("an update is rolling".to_owned());
    }
    Health::Current
}

fn daemon_set(object: &Value) -> Health {
    if object["status"]["observedGeneration"].is_null() {
        return Health::InProgress("the controller has not seen it yet".to_owned());
    }
    let wanted = count(object, "desiredNumberScheduled");
    let (updated, available) = (count(object, "updatedNumberScheduled"), count(object, "numberAvailable"));
    if updated < wanted {
        Health::InProgress(format!("{updated} of {wanted} nodes updated"))
    } else if available < wanted {
        Health::InProgress(format!("{available} of {wanted} nodes available"))
    } else {
        Health::Current
    }
}

fn pod(object: &Value) -> Health {
    let waiting = crate::blame::container_trouble(object);
    match object["status"]["phase"].as_str() {
        Some("Succeeded") => Health::Current,
        Some("Failed") => Health::Failed(waiting.unwrap_or_else(|| "failed".to_owned())),
        Some("Running") if matches!(condition(object, "Ready"), Some(("True", ..))) => Health::Current,
        _ => {
            let scheduled = match condition(object, "PodScheduled") {
                Some(("False", reason, message)) => Some(format!("{reason}: {message}")),
                _ => None,
            };
            Health::InProgress(waiting.or(scheduled).unwrap_or_else(|| "is not ready yet".to_owned()))
        }
    }
}

fn job(object: &Value) -> Health {
    if let Some(("True", reason, message)) = condition(object, "Failed") {
        return Health::Failed(format!("{reason}: {message}"));
    }
    match condition(object, "Complete") {
        Some(("True", ..)) => Health::Current,
        _ => Health::InProgress(format!("{} active, {} failed", count(object, "active"), count(object, "failed"))),
    }
}

fn phase(object: &Value, good: &[&str], bad: &[&str]) -> Health {
    match object["status"]["phase"].as_str() {
        Some(phase) if good.contains(&phase) => Health::Current,
        Some(phase) if bad.contains(&phase) => Health::Failed(format!("is {phase}")),
        Some(phase) => Health::InProgress(format!("is {phase}")),
        None => Health::InProgress("has no status yet".to_owned()),
    }
}

fn established(object: &Value) -> Health {
    match (condition(object, "NamesAccepted"), condition(object, "Established")) {
        (Some(("False", reason, message)), _) => Health::Failed(format!("{reason}: {message}")),
        (_, Some(("True", ..))) => Health::Current,
        _ => Health::InProgress("is not established yet".to_owned()),
    }
}

/// Kinds without a rule of their own: known plain ones are current by existing; others say it by their Ready condition.
fn generic(kind: &str, object: &Value) -> Health {
    if let Some(("True", reason, message)) = condition(object, "Stalled") {
        return Health::Failed(format!("{reason}: {message}"));
    }
    match condition(object, "Ready") {
        Some(("False", reason, message)) if kind != "Node" => Health::InProgress(format!("{reason}: {message}")),
        _ => Health::Current,
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, health};
    use serde_json::json;

    fn deployment(generation: i64, status: serde_json::Value) -> serde_json::Value {
        json!({"kind": "Deployment", "metadata": {"generation": generation}, "spec": {"replicas": 3}, "status": status})
    }

    #[test]
    fn a_deployment_is_current_only_when_all_new_replicas_are_available_and_no_old_ones_are_left() {
        let rows = [
            (json!({}), "has not seen it"),
            (json!({"observedGeneration": 1}), "has not seen the change"),
            (json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 4}), "1 of 3 replicas updated"),
            (json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 4}), "1 old replicas"),
            (json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "readyReplicas": 2}), "2 of 3 replicas ready"),
            (json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "readyReplicas": 3, "availableReplicas": 2}), "2 of 3 replicas available"),
        ];
        for (status, expected) in rows {
            match health(&deployment(2, status.clone())) {
                Health::InProgress(reason) => assert!(reason.contains(expected), "{status}: {reason}"),
                other => panic!("{status}: {other:?}"),
            }
        }
        let done = json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3});
        assert_eq!(health(&deployment(2, done)), Health::Current);
    }

    #[test]
    fn a_missed_deadline_is_a_failure() {
        let status = json!({"observedGeneration": 1, "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"}]});
        assert!(matches!(health(&deployment(1, status)), Health::Failed(reason) if reason.contains("late")));
    }

    #[test]
    fn pods_and_jobs_fail_by_their_phase_and_condition() {
        let failed = json!({"kind": "Pod", "status": {"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}});
        assert_eq!(health(&failed), Health::Failed("container c exited with code 3 (Error)".to_owned()));
        let job = json!({"kind": "Job", "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]}});
        assert!(matches!(health(&job), Health::Failed(_)));
        let plain = json!({"kind": "ConfigMap", "metadata": {}});
        assert_eq!(health(&plain), Health::Current);
    }
}
