//! Which of several nodes that would do is taken.

use serde_json::{Value, json};

use crate::made::{asking, bound, labeled, node, outcome, pod};

fn two() -> [Value; 2] {
    [node("n1", "4", "8Gi"), node("n2", "4", "8Gi")]
}

fn owned(mut pod: Value, owner: &str) -> Value {
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]);
    pod
}

#[test]
fn the_emptier_node_is_taken() {
    let taken = [bound(asking("t", "2", "4Gi"), "n1")];
    assert_eq!(outcome(&two(), &taken, &asking("a", "500m", "1Gi")), "n2");
}

#[test]
fn pods_of_one_owner_are_spread() {
    let mut pods = vec![bound(asking("big", "2", "4Gi"), "n2")];
    let mut counts = [0, 0];
    for number in 0..6 {
        let candidate = owned(asking(&format!("w{number}"), "100m", "64Mi"), "web");
        let node = outcome(&two(), &pods, &candidate);
        counts[usize::from(node == "n2")] += 1;
        pods.push(bound(candidate, &node));
    }
    assert_eq!(counts, [3, 3]);
}

#[test]
fn preferences_weigh() {
    let nodes = [two()[0].clone(), labeled(two()[1].clone(), json!({"disk": "ssd"}))];
    let term = json!({"weight": 80, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}});
    let spec = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}});
    for name in ["a", "b", "c", "d"] {
        assert_eq!(outcome(&nodes, &[], &pod(name, spec.clone())), "n2");
    }
}

#[test]
fn a_node_with_a_soft_taint_is_the_last_choice() {
    let mut nodes = two();
    nodes[0]["spec"] = json!({"taints": [{"key": "old", "effect": "PreferNoSchedule"}]});
    for name in ["a", "b", "c", "d"] {
        assert_eq!(outcome(&nodes, &[], &pod(name, json!({}))), "n2");
    }
}

#[test]
fn company_that_is_liked_draws_and_that_is_not_repels() {
    let db = [bound(labeled(pod("db", json!({})), json!({"app": "db"})), "n1")];
    let wish = |kind: &str| {
        let term = json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "kubernetes.io/hostname"});
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}}})
    };
    assert_eq!(outcome(&two(), &db, &pod("a", wish("podAffinity"))), "n1");
    assert_eq!(outcome(&two(), &db, &pod("a", wish("podAntiAffinity"))), "n2");
}

#[test]
fn a_large_image_that_is_there_tips_the_balance() {
    let mut nodes = two();
    nodes[1]["status"]["images"] = json!([{"names": ["web:1"], "sizeBytes": 900_000_000}]);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(outcome(&nodes, &[], &pod(name, json!({}))), "n2");
    }
}

#[test]
fn equal_nodes_are_all_used() {
    let nodes: Vec<Value> = (0..8).map(|number| node(&format!("n{number}"), "4", "8Gi")).collect();
    let used: std::collections::BTreeSet<String> = (0..64).map(|number| outcome(&nodes, &[], &pod(&format!("pod-{number}"), json!({})))).collect();
    assert!(used.len() >= 6, "{used:?}");
}
