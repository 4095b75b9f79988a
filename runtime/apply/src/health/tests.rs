//! Health by kind, as a table: the object, the state, words of its reason.

use serde_json::{Value, json};

use strake_kinds::health as words;

use super::{Health, health, is_waited_for, note, of};

/// The object, its state, and what its reason says.
type Row = (Value, &'static str, &'static str);

fn check(rows: Vec<Row>) {
    for (object, word, reason) in rows {
        let found = health(&object);
        assert_eq!(found.word(), word, "{object}: {found:?}");
        assert!(found.reason().contains(reason), "{object}: {found:?} does not say {reason:?}");
    }
}

fn object(api: &str, kind: &str, spec: Value, status: Value) -> Value {
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": "web", "generation": 2}, "spec": spec, "status": status})
}

fn conditioned(api: &str, kind: &str, conditions: &[(&str, &str, &str)]) -> Value {
    let conditions: Vec<Value> =
        conditions.iter().map(|(kind, status, reason)| json!({"type": kind, "status": status, "reason": reason, "message": "m"})).collect();
    object(api, kind, json!({}), json!({"conditions": conditions}))
}

#[test]
fn a_deployment_is_current_only_when_all_new_replicas_are_available_and_no_old_ones_are_left() {
    let with = |status: Value| object("apps/v1", "Deployment", json!({"replicas": 3}), status);
    let failing = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small"}]);
    check(vec![
        (with(json!({})), "InProgress", "has not seen it"),
        (with(json!({"observedGeneration": 1})), "InProgress", "has not seen the change"),
        (with(json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 4})), "InProgress", "1 of 3 replicas updated"),
        (with(json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 4})), "InProgress", "1 old replicas"),
        (with(json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "readyReplicas": 2})), "InProgress", "2 of 3 replicas ready"),
        (with(json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "readyReplicas": 3, "availableReplicas": 2})), "InProgress", "available"),
        (with(json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3})), "Current", ""),
        (with(json!({"observedGeneration": 2, "conditions": failing})), "InProgress", "exceeded quota"),
        (object("apps/v1", "Deployment", json!({"replicas": 3, "paused": true}), json!({"observedGeneration": 2})), "Suspended", "paused"),
        (object("apps/v1", "Deployment", json!({"replicas": 0}), json!({"observedGeneration": 2})), "Current", ""),
    ]);
    let late = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"}]);
    check(vec![(with(json!({"observedGeneration": 2, "conditions": late})), "Failed", "late")]);
}

#[test]
fn stateful_sets_name_the_replica_they_hang_on() {
    let with = |spec: Value, status: Value| object("apps/v1", "StatefulSet", spec, status);
    let same = |mut status: Value| {
        for field in ["updateRevision", "currentRevision"] {
            status[field] = json!("a");
        }
        status["observedGeneration"] = json!(2);
        status
    };
    let rolling = json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "updatedReplicas": 1, "updateRevision": "b", "currentRevision": "a"});
    let partition = json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    check(vec![
        (with(json!({"replicas": 3}), json!({})), "InProgress", "has not seen it"),
        (with(json!({"replicas": 3}), same(json!({"replicas": 2, "readyReplicas": 1}))), "InProgress", "waits for web-1"),
        (with(json!({"replicas": 3, "ordinals": {"start": 5}}), same(json!({"replicas": 3, "readyReplicas": 1}))), "InProgress", "waits for web-6"),
        (with(json!({"replicas": 1}), same(json!({"replicas": 2, "readyReplicas": 2}))), "InProgress", "1 replicas too many"),
        (with(json!({"replicas": 3}), rolling.clone()), "InProgress", "waits for web-1"),
        (with(partition, rolling), "Current", ""),
        (with(json!({"replicas": 1}), same(json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 0}))), "InProgress", "0 of 1 replicas available"),
        (with(json!({"replicas": 1}), same(json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}))), "Current", ""),
        (with(json!({"replicas": 1, "updateStrategy": {"type": "OnDelete"}}), json!({"observedGeneration": 2})), "Current", ""),
    ]);
}

#[test]
fn daemon_sets_count_nodes() {
    let with = |status: Value| object("apps/v1", "DaemonSet", json!({}), status);
    let mut done = json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2});
    check(vec![
        (with(json!({})), "InProgress", "has not seen it"),
        (with(json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 1})), "InProgress", "1 of 2 nodes have a pod"),
        (with(done.clone()), "InProgress", "0 of 2 nodes available"),
        (with(json!({"observedGeneration": 2, "desiredNumberScheduled": 0})), "Current", ""),
    ]);
    done["numberAvailable"] = json!(2);
    check(vec![(with(done), "Current", "")]);
    assert_eq!(note(&with(json!({"desiredNumberScheduled": 0}))), Some("no node matches"));
}

#[test]
fn jobs_end_in_one_of_two_ways() {
    let with = |kind: &'static str| conditioned("batch/v1", "Job", &[(kind, "True", "Why")]);
    check(vec![
        (
            object("batch/v1", "Job", json!({"completions": 3}), json!({"succeeded": 1, "active": 2, "startTime": "t"})),
            "InProgress",
            "1 of 3 succeeded, 2 active",
        ),
        (with("Complete"), "Current", ""),
        (with("Failed"), "Failed", "Why: m"),
        (with("FailureTarget"), "Failed", "Why: m"),
        (with("SuccessCriteriaMet"), "InProgress", "last pods"),
        (with("Suspended"), "Suspended", ""),
        (object("batch/v1", "Job", json!({"suspend": true}), json!({})), "Suspended", ""),
        (object("batch/v1", "CronJob", json!({"suspend": true}), json!({})), "Suspended", ""),
        (object("batch/v1", "CronJob", json!({}), json!({})), "Current", ""),
    ]);
}

#[test]
fn pods_are_judged_by_phase_and_containers() {
    let failed = json!({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]});
    let looping = json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    let homeless = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
    check(vec![
        (object("v1", "Pod", json!({}), failed), "Failed", "container c exited with code 3 (Error)"),
        (object("v1", "Pod", json!({}), json!({"phase": "Failed", "reason": "Evicted", "message": "low on disk"})), "Failed", "Evicted: low on disk"),
        (object("v1", "Pod", json!({}), looping), "Degraded", "CrashLoopBackOff"),
        (object("v1", "Pod", json!({}), homeless), "InProgress", "0/1 nodes"),
        (object("v1", "Pod", json!({}), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})), "Current", ""),
        (object("v1", "Pod", json!({}), json!({"phase": "Succeeded"})), "Current", ""),
        (object("v1", "Pod", json!({}), json!({"phase": "Pending"})), "InProgress", "not ready yet"),
    ]);
}

#[test]
fn kinds_that_only_other_clusters_serve_are_judged_too() {
    let claim = |phase: &str, spec: Value| object("v1", "PersistentVolumeClaim", spec, json!({"phase": phase}));
    let balanced = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    let outside = json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"});
    check(vec![
        (claim("Bound", json!({})), "Current", ""),
        (claim("Pending", json!({})), "Current", ""),
        (claim("Pending", json!({"volumeName": "disk-1"})), "InProgress", "Pending"),
        (claim("Lost", json!({})), "Failed", "lost"),
        (object("v1", "PersistentVolume", json!({}), json!({"phase": "Available"})), "Current", ""),
        (object("v1", "PersistentVolume", json!({}), json!({"phase": "Failed"})), "Failed", ""),
        (object("v1", "Service", outside.clone(), json!({})), "InProgress", "load balancer"),
        (object("v1", "Service", outside, balanced), "Current", ""),
        (object("v1", "Service", json!({"type": "ExternalName"}), json!({})), "Current", ""),
        (object("v1", "Service", json!({}), json!({})), "InProgress", "no address"),
        (object("networking.k8s.io/v1", "Ingress", json!({}), json!({})), "Current", ""),
        (object("policy/v1", "PodDisruptionBudget", json!({}), json!({"observedGeneration": 2})), "Current", ""),
        (conditioned("apiextensions.k8s.io/v1", "CustomResourceDefinition", &[("NamesAccepted", "False", "Taken")]), "Failed", "Taken"),
        (conditioned("apiextensions.k8s.io/v1", "CustomResourceDefinition", &[("NamesAccepted", "True", ""), ("Established", "True", "")]), "Current", ""),
        (conditioned("apiextensions.k8s.io/v1", "CustomResourceDefinition", &[("Established", "False", "Installing")]), "InProgress", ""),
        (conditioned("apiregistration.k8s.io/v1", "APIService", &[("Available", "False", "MissingEndpoints")]), "InProgress", "MissingEndpoints"),
        (conditioned("apiregistration.k8s.io/v1", "APIService", &[("Available", "True", "")]), "Current", ""),
        // Able to scale says nothing about the metrics.
        (
            conditioned("autoscaling/v2", "HorizontalPodAutoscaler", &[("AbleToScale", "True", ""), ("ScalingActive", "False", "FailedGetResourceMetric")]),
            "Degraded",
            "FailedGetResourceMetric",
        ),
        (conditioned("autoscaling/v2", "HorizontalPodAutoscaler", &[("ScalingActive", "False", "ScalingDisabled")]), "Current", ""),
        (object("v1", "ConfigMap", json!({}), json!({})), "Current", ""),
        (object("rbac.authorization.k8s.io/v1", "Role", json!({}), json!({})), "Current", ""),
        (object("v1", "Namespace", json!({}), json!({"phase": "Active"})), "Current", ""),
    ]);
    assert!(!is_waited_for(&object("v1", "Service", json!({"type": "LoadBalancer"}), json!({}))));
    assert!(!is_waited_for(&object("autoscaling/v2", "HorizontalPodAutoscaler", json!({}), json!({}))));
    assert!(is_waited_for(&object("apps/v1", "Deployment", json!({}), json!({}))));
    let mut asked = object("v1", "Service", json!({"type": "LoadBalancer"}), json!({}));
    asked["metadata"]["annotations"] = json!({"strake.dev/wait": "true"});
    assert!(is_waited_for(&asked));
}

#[test]
fn custom_resources_are_judged_by_conditions_or_by_what_the_user_says() {
    let custom = |conditions: &[(&str, &str, &str)]| conditioned("example.com/v1", "Database", conditions);
    check(vec![
        (custom(&[]), "Current", ""),
        (custom(&[("Ready", "True", "")]), "Current", ""),
        (custom(&[("Ready", "False", "Creating")]), "InProgress", "Creating: m"),
        (custom(&[("Ready", "Unknown", "")]), "InProgress", "m"),
        (custom(&[("Reconciling", "True", "Rolling")]), "InProgress", "Rolling"),
        (custom(&[("Ready", "False", ""), ("Stalled", "True", "Broken")]), "Failed", "Broken"),
    ]);
    let said = |status: Value, annotations: Value| {
        let mut object = object("example.com/v1", "Database", json!({"size": 3}), status);
        object["metadata"]["annotations"] = annotations;
        object
    };
    let rules = || json!({words::CURRENT: "status.phase == 'Up' && status.nodes == spec.size", words::FAILED: "status.phase in ['Lost', 'Broken']"});
    check(vec![
        (said(json!({"phase": "Up", "nodes": 3}), rules()), "Current", ""),
        (said(json!({"phase": "Up", "nodes": 2}), rules()), "InProgress", "is not true yet"),
        (said(json!({"phase": "Broken"}), rules()), "Failed", "is true"),
        // Nobody has written a status yet.
        (said(Value::Null, rules()), "InProgress", "is not true yet"),
        (said(json!({}), json!({words::CURRENT: "status.phase =="})), "Unknown", words::CURRENT),
        (said(json!({}), json!({words::CURRENT: "spec.size"})), "Unknown", "not true or false"),
        (said(json!({}), json!({words::CURRENT: "x".repeat(600)})), "Unknown", "at most 512"),
        (said(json!({}), json!({words::CURRENT: "(".repeat(40)})), "Unknown", "nested"),
        (said(json!({}), json!({words::CURRENT: "[1].all(a, [1].all(b, [1].all(c, true)))"})), "Unknown", "3 loops"),
    ]);
}

#[test]
fn what_is_missing_or_going_says_so() {
    assert_eq!(of(None), Health::Missing);
    let mut going = object("example.com/v1", "Database", json!({}), json!({}));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    going["metadata"]["finalizers"] = json!(["example.com/backup"]);
    check(vec![(going, "Terminating", "example.com/backup")]);
    assert!(Health::Suspended(String::new()).is_settled() && Health::Current.is_settled());
    assert!(!Health::Degraded(String::new()).is_settled() && !Health::Missing.is_settled());
}
