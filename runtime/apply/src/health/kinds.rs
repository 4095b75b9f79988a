//! The rules of the kinds that Kubernetes defines.

use serde_json::Value;

use super::{Health, because, condition, count};

type Rule = fn(&Value) -> Health;

/// The rule of a kind; `None` for kinds that are judged by their conditions.
pub(super) fn rule(group: &str, kind: &str) -> Option<Rule> {
    Some(match (group, kind) {
        ("apps" | "extensions", "Deployment") => deployment,
        ("apps" | "extensions", "ReplicaSet") | ("", "ReplicationController") => replica_set,
        ("apps", "StatefulSet") => stateful_set,
        ("apps" | "extensions", "DaemonSet") => daemon_set,
        ("", "Pod") => pod,
        ("batch", "Job") => job,
        ("batch", "CronJob") => cron_job,
        ("", "PersistentVolumeClaim") => claim,
        ("", "PersistentVolume") => volume,
        ("", "Namespace") => namespace,
        ("", "Service") => service,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition,
        ("apiregistration.k8s.io", "APIService") => api_service,
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler,
        // No controller may ever look at an Ingress; a Node answers for itself and not for who applied its labels.
        ("networking.k8s.io", _) | ("policy", "PodDisruptionBudget") | ("", "Node") => |_| Health::Current,
        // Plain data, rules and registrations are what they should be by existing.
        ("", _) | ("rbac.authorization.k8s.io" | "admissionregistration.k8s.io" | "storage.k8s.io" | "scheduling.k8s.io" | "coordination.k8s.io", _) => {
            |_| Health::Current
        }
        _ => return None,
    })
}

fn wanted(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn unseen(object: &Value) -> bool {
    object["status"]["observedGeneration"].is_null()
}

fn not_seen() -> Health {
    Health::InProgress("the controller has not seen it yet".to_owned())
}

fn deployment(object: &Value) -> Health {
    let wanted = wanted(object);
    if object["spec"]["paused"] == true {
        return Health::Suspended("its rollout is paused".to_owned());
    }
    if unseen(object) {
        return not_seen();
    }
    if let Some(("False", "ProgressDeadlineExceeded", message)) = condition(object, "Progressing") {
        return Health::Failed(format!("made no progress within its deadline: {message}"));
    }
    let (updated, all) = (count(object, "updatedReplicas"), count(object, "replicas"));
    let (ready, available) = (count(object, "readyReplicas"), count(object, "availableReplicas"));
    let failure = match condition(object, "ReplicaFailure") {
        Some(("True", reason, message)) => format!(" ({})", because(reason, message)),
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
    let wanted = wanted(object);
    let (ready, available, all) = (count(object, "readyReplicas"), count(object, "availableReplicas"), count(object, "replicas"));
    match condition(object, "ReplicaFailure") {
        Some(("True", reason, message)) => Health::InProgress(format!("cannot make pods: {}", because(reason, message))),
        _ if unseen(object) => not_seen(),
        _ if ready < wanted => Health::InProgress(format!("{ready} of {wanted} replicas ready")),
        _ if available < wanted => Health::InProgress(format!("{available} of {wanted} replicas available")),
        _ if all > wanted => Health::InProgress(format!("{} pods too many", all - wanted)),
        _ => Health::Current,
    }
}

fn stateful_set(object: &Value) -> Health {
    let wanted = wanted(object);
    let (all, ready, updated) = (count(object, "replicas"), count(object, "readyReplicas"), count(object, "updatedReplicas"));
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let first = object["spec"]["ordinals"]["start"].as_i64().unwrap_or(0);
    let ordered = object["spec"]["podManagementPolicy"].as_str() != Some("Parallel");
    // Pods of an ordered set come one after the other, and are updated from the last to the first: the numbers say which one it hangs on.
    let hangs_on = |ordinal: i64| if ordered { format!("; waits for {name}-{}", first + ordinal) } else { String::new() };
    if unseen(object) {
        return not_seen();
    }
    if object["spec"]["updateStrategy"]["type"] == "OnDelete" {
        return Health::Current;
    }
    if all < wanted {
        return Health::InProgress(format!("{all} of {wanted} replicas made{}", hangs_on(ready.min(all))));
    }
    if ready < wanted {
        let rolling = object["status"]["updateRevision"] != object["status"]["currentRevision"];
        let ordinal = if rolling { (wanted - updated).max(0) } else { ready };
        return Health::InProgress(format!("{ready} of {wanted} replicas ready{}", hangs_on(ordinal.min(wanted - 1))));
    }
    if all > wanted {
        return Health::InProgress(format!("{} replicas too many", all - wanted));
    }
    let partition = object["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
    if partition > 0 {
        return match (wanted - partition).max(0) {
            target if updated < target => Health::InProgress(format!("{updated} of {target} replicas updated")),
            _ => Health::Current,
        };
    }
    if object["status"]["updateRevision"] != object["status"]["currentRevision"] {
        return Health::InProgress(format!("{updated} of {wanted} replicas updated{}", hangs_on((wanted - 1 - updated).max(0))));
    }
    // Servers before 1.22 do not count available replicas.
    match object["status"]["availableReplicas"].as_i64() {
        Some(available) if available < wanted => Health::InProgress(format!("{available} of {wanted} replicas available")),
        _ => Health::Current,
    }
}

fn daemon_set(object: &Value) -> Health {
    if unseen(object) || object["status"]["desiredNumberScheduled"].is_null() {
        return not_seen();
    }
    let wanted = count(object, "desiredNumberScheduled");
    let on_delete = object["spec"]["updateStrategy"]["type"] == "OnDelete";
    let steps = [
        (count(object, "currentNumberScheduled"), "have a pod"),
        (if on_delete { wanted } else { count(object, "updatedNumberScheduled") }, "updated"),
        (count(object, "numberReady"), "ready"),
        (count(object, "numberAvailable"), "available"),
    ];
    match steps.into_iter().find(|(number, _)| *number < wanted) {
        Some((number, what)) => Health::InProgress(format!("{number} of {wanted} nodes {what}")),
        None => Health::Current,
    }
}

fn pod(object: &Value) -> Health {
    let trouble = crate::failure::trouble(object);
    let text = trouble.as_ref().map(|trouble| trouble.text.clone());
    match object["status"]["phase"].as_str() {
        Some("Succeeded") => Health::Current,
        Some("Failed") => Health::Failed(text.unwrap_or_else(|| {
            let word = |field: &str| object["status"][field].as_str().unwrap_or_default();
            format!("failed {}", because(word("reason"), word("message"))).trim_end().to_owned()
        })),
        Some("Running") if matches!(condition(object, "Ready"), Some(("True", ..))) => Health::Current,
        // It was fine once: a container that ended is started again.
        Some("Running") if trouble.as_ref().is_some_and(|trouble| trouble.restarts > 0) => Health::Degraded(text.unwrap_or_default()),
        _ => {
            let scheduled = match condition(object, "PodScheduled") {
                Some(("False", reason, message)) => Some(because(reason, message)),
                _ => None,
            };
            Health::InProgress(text.or(scheduled).unwrap_or_else(|| "is not ready yet".to_owned()))
        }
    }
}

fn job(object: &Value) -> Health {
    for failed in ["Failed", "FailureTarget"] {
        if let Some(("True", reason, message)) = condition(object, failed) {
            return Health::Failed(because(reason, message));
        }
    }
    if matches!(condition(object, "Complete"), Some(("True", ..))) {
        return Health::Current;
    }
    if object["spec"]["suspend"] == true || matches!(condition(object, "Suspended"), Some(("True", ..))) {
        return Health::Suspended("is suspended".to_owned());
    }
    if matches!(condition(object, "SuccessCriteriaMet"), Some(("True", ..))) {
        return Health::InProgress("has succeeded; its last pods are ending".to_owned());
    }
    let wanted = object["spec"]["completions"].as_i64();
    let done = wanted.map_or_else(|| "succeeded".to_owned(), |wanted| format!("of {wanted} succeeded"));
    Health::InProgress(format!("{} {done}, {} active, {} failed", count(object, "succeeded"), count(object, "active"), count(object, "failed")))
}

fn cron_job(object: &Value) -> Health {
    if object["spec"]["suspend"] == true { Health::Suspended("is suspended".to_owned()) } else { Health::Current }
}

fn claim(object: &Value) -> Health {
    match object["status"]["phase"].as_str() {
        Some("Bound") => Health::Current,
        Some("Lost") => Health::Failed("its volume is lost".to_owned()),
        // Its class binds when a pod uses it: waiting for it before the pods are there would wait forever.
        Some("Pending") if waits_for_consumer(object) => Health::Current,
        Some(phase) => Health::InProgress(format!("is {phase}")),
        None => Health::InProgress("has no status yet".to_owned()),
    }
}

/// A claim does not say how its class binds. One that a scheduler has chosen a node for has a consumer, and one that names its volume binds at once; of the others
/// none is held against the apply, because the pods that use it say by themselves what they wait for.
fn waits_for_consumer(claim: &Value) -> bool {
    let chosen = claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"].is_string();
    let named = claim["spec"]["volumeName"].as_str().is_some_and(|name| !name.is_empty());
    !chosen && !named
}

fn volume(object: &Value) -> Health {
    match object["status"]["phase"].as_str() {
        Some("Available" | "Bound") => Health::Current,
        Some("Released") => Health::Degraded("its claim is gone, and nothing reclaims it".to_owned()),
        Some("Failed") => Health::Failed(because("could not be reclaimed", object["status"]["message"].as_str().unwrap_or_default())),
        Some(phase) => Health::InProgress(format!("is {phase}")),
        None => Health::InProgress("has no status yet".to_owned()),
    }
}

fn namespace(object: &Value) -> Health {
    match object["status"]["phase"].as_str() {
        Some("Terminating") => Health::Terminating("is being deleted".to_owned()),
        Some("Active") => Health::Current,
        _ => Health::InProgress("has no status yet".to_owned()),
    }
}

fn service(object: &Value) -> Health {
    let kind = object["spec"]["type"].as_str().unwrap_or("ClusterIP");
    if kind == "ExternalName" {
        return Health::Current;
    }
    if object["spec"]["clusterIP"].as_str().unwrap_or_default().is_empty() {
        return Health::InProgress("has no address yet".to_owned());
    }
    let outside = object["status"]["loadBalancer"]["ingress"].as_array().is_some_and(|list| !list.is_empty());
    let given = object["spec"]["externalIPs"].as_array().is_some_and(|list| !list.is_empty());
    if kind == "LoadBalancer" && !outside && !given {
        return Health::InProgress("waits for the address of its load balancer".to_owned());
    }
    Health::Current
}

fn definition(object: &Value) -> Health {
    match (condition(object, "NamesAccepted"), condition(object, "Established")) {
        (Some(("False", reason, message)), _) => Health::Failed(because(reason, message)),
        (Some(("True", ..)), Some(("True", ..))) => Health::Current,
        (_, Some(("False", reason, message))) if reason != "Installing" => Health::Failed(because(reason, message)),
        _ => Health::InProgress("is not established yet".to_owned()),
    }
}

fn api_service(object: &Value) -> Health {
    match condition(object, "Available") {
        Some(("True", ..)) => Health::Current,
        Some((_, reason, message)) => Health::InProgress(because(reason, message)),
        None => Health::InProgress("is not available yet".to_owned()),
    }
}

/// Every condition counts, not the first that has an opinion. An autoscaler that cannot scale harms nobody at once: it is degraded, and nothing waits for it.
fn autoscaler(object: &Value) -> Health {
    let faults = ["AbleToScale", "ScalingActive"].into_iter().filter_map(|kind| match condition(object, kind) {
        // A target with no replicas is not scaled, on purpose.
        Some(("False", "ScalingDisabled", _)) => None,
        Some(("False", reason, message)) => Some(because(reason, message)),
        _ => None,
    });
    let faults: Vec<String> = faults.collect();
    if !faults.is_empty() {
        return Health::Degraded(faults.join("; "));
    }
    Health::Current
}
