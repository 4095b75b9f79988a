//! ReplicaSets: how many pods, which ones, whose.

use serde_json::{Value, json};
use strake_control::{Action, Decision, EventType, Kind, controllers};

use crate::bench::{Bench, id, names};

fn set(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}}
        }
    })
}

#[test]
fn pods_come_and_go_with_the_number_and_names_are_not_used_again_at_once() {
    let mut bench = Bench::new();
    bench.create(set("web", 3));
    let first = names(&bench.pods());
    assert_eq!(first.len(), 3);
    bench.end_pod(&first[0]);
    let second = names(&bench.pods());
    assert_eq!(second.len(), 3);
    assert!(!second.contains(&first[0]), "{second:?}");
    bench.run_pods();
    let status = &bench.get(&id(Kind::REPLICA_SET, "web"))["status"];
    assert_eq!(*status, json!({"availableReplicas": 3, "fullyLabeledReplicas": 3, "observedGeneration": 1, "readyReplicas": 3, "replicas": 3}));
    bench.assert_nothing_left_to_do();
}

#[test]
fn a_decision_on_an_old_view_makes_no_second_pod() {
    let mut bench = Bench::new();
    let key = id(Kind::REPLICA_SET, "web");
    bench.world.create(set("web", 2), bench.now).unwrap();
    for notice in bench.world.take_changes() {
        bench.view.apply(&notice.object);
    }
    let all = controllers();
    let controller = all.iter().find(|controller| controller.name() == "replicaset-controller").unwrap();
    let creates = |decision: Decision| -> Vec<Action> { decision.actions.into_iter().filter(|action| matches!(action, Action::Create { .. })).collect() };
    let first = creates(controller.reconcile(&bench.view, &key, bench.now));
    assert_eq!(first.len(), 2);
    bench.world.perform(&first[0], bench.now).unwrap();
    bench.world.perform(&first[1], bench.now).unwrap();
    // The view has not heard of them: the same two are asked for again, and refused.
    for action in creates(controller.reconcile(&bench.view, &key, bench.now)) {
        assert!(matches!(bench.world.perform(&action, bench.now), Err(strake_control::world::Refused::AlreadyExists(_))));
    }
    assert_eq!(bench.pods().len(), 2);
}

#[test]
fn the_least_useful_pods_go_first() {
    let mut bench = Bench::new();
    bench.create(set("web", 4));
    let all = names(&bench.pods());
    bench.report(&all[0], "Running", true, "10.42.0.1");
    bench.report(&all[1], "Running", false, "10.42.0.2");
    bench.report(&all[2], "Pending", false, "");
    // all[3] is not bound to a node.
    for (replicas, gone) in [(3, &all[3]), (2, &all[2]), (1, &all[1])] {
        bench.patch(&id(Kind::REPLICA_SET, "web"), json!({"spec": {"replicas": replicas}}));
        assert!(!names(&bench.active_pods()).contains(gone), "{gone} should go at {replicas}");
    }
    assert_eq!(names(&bench.active_pods()), [all[0].clone()]);
}

#[test]
fn a_cheap_pod_goes_before_a_dear_one() {
    let mut bench = Bench::new();
    bench.create(set("web", 3));
    bench.run_pods();
    let all = names(&bench.pods());
    bench.patch(&id(Kind::POD, &all[1]), json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-10"}}}));
    bench.patch(&id(Kind::REPLICA_SET, "web"), json!({"spec": {"replicas": 2}}));
    assert_eq!(names(&bench.active_pods()), [all[0].clone(), all[2].clone()]);
}

#[test]
fn orphans_are_adopted_and_strangers_let_go() {
    let mut bench = Bench::new();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lone", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "web:1"}]}});
    bench.create(pod);
    bench.create(set("web", 2));
    assert_eq!(bench.pods().len(), 2, "the lone pod is one of two");
    assert_eq!(bench.get(&id(Kind::POD, "lone"))["metadata"]["ownerReferences"][0]["name"], "web");
    bench.patch(&id(Kind::POD, "lone"), json!({"metadata": {"labels": {"app": "quarantine"}}}));
    assert_eq!(bench.get(&id(Kind::POD, "lone"))["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(bench.pods().len(), 3, "another takes its place");
    bench.assert_nothing_left_to_do();
}

#[test]
fn a_failed_pod_is_replaced_and_a_pod_that_cannot_be_made_is_reported() {
    let mut bench = Bench::new();
    bench.create(set("web", 1));
    let name = names(&bench.pods()).remove(0);
    bench.report(&name, "Failed", false, "");
    assert_eq!(bench.pods().len(), 2);

    let key = id(Kind::REPLICA_SET, "web");
    let all = controllers();
    let controller = all.iter().find(|controller| controller.name() == "replicaset-controller").unwrap();
    let failed = Action::Create { object: json!({}), reason: "1 of 1 pods are missing".into() };
    let decision = controller.on_failure(&bench.view, &key, &failed, "exceeded quota: small", bench.now);
    let [Action::Patch { patch, .. }, Action::RecordEvent { reason, message, event_type: EventType::Warning, .. }] = &decision.actions[..] else {
        panic!("{decision:?}");
    };
    assert_eq!((reason.as_ref(), message.as_str()), ("FailedCreate", "Error creating: exceeded quota: small"));
    assert_eq!(patch["status"]["conditions"][0]["type"], "ReplicaFailure");
    bench.world.perform(&decision.actions[0], bench.now).unwrap();
    bench.settle();
    let status = &bench.get(&key)["status"];
    assert!(status["conditions"].as_array().is_none_or(Vec::is_empty), "all pods are there again: {status}");
}
