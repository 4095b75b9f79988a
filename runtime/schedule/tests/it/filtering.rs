//! Each filter, with the message it ends in.

use serde_json::{Value, json};

use crate::made::{asking, bound, labeled, node, outcome, place_on, pod};

fn one() -> Vec<Value> {
    vec![node("n1", "2", "4Gi")]
}

#[test]
fn no_nodes() {
    assert_eq!(outcome(&[], &[], &pod("a", json!({}))), "no nodes available to schedule pods");
}

#[test]
fn resources_that_are_missing_are_named() {
    let taken = [bound(asking("t", "1500m", "1Gi"), "n1")];
    for (cpu, memory, expected) in [
        ("500m", "3Gi", "n1"),
        ("501m", "1Gi", "0/1 nodes are available: 1 Insufficient cpu."),
        ("100m", "3073Mi", "0/1 nodes are available: 1 Insufficient memory."),
        ("3", "9Gi", "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."),
        ("0", "0", "n1"),
    ] {
        assert_eq!(outcome(&one(), &taken, &asking("a", cpu, memory)), expected, "{cpu} {memory}");
    }
    let lasting = |cpu: &str| place_on(&one(), &taken, &asking("a", cpu, "1Gi")).unwrap_err().is_lasting();
    assert!(!lasting("1"), "when the other pod ends it fits");
    assert!(lasting("3"), "it never fits");
}

#[test]
fn other_resources_and_the_number_of_pods_count() {
    let gpu = |name: &str| pod(name, json!({"containers": [{"name": "m", "resources": {"limits": {"example.com/gpu": "1"}}}]}));
    assert_eq!(outcome(&one(), &[], &gpu("a")), "0/1 nodes are available: 1 Insufficient example.com/gpu.");
    let mut with_gpu = node("n1", "2", "4Gi");
    with_gpu["status"]["allocatable"]["example.com/gpu"] = json!("1");
    assert_eq!(outcome(&[with_gpu.clone()], &[], &gpu("a")), "n1");
    assert_eq!(outcome(&[with_gpu], &[bound(gpu("t"), "n1")], &gpu("a")), "0/1 nodes are available: 1 Insufficient example.com/gpu.");
    let mut small = node("n1", "2", "4Gi");
    small["status"]["allocatable"]["pods"] = json!("1");
    assert_eq!(outcome(&[small], &[bound(pod("t", json!({})), "n1")], &pod("a", json!({}))), "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn init_containers_count_by_their_largest_and_side_containers_by_their_sum() {
    let asks = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
    let side = |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
    for (init, main, fits) in [
        (json!([asks("2")]), json!([asks("1")]), true),
        (json!([asks("2100m")]), json!([asks("1")]), false),
        (json!([side("1")]), json!([asks("1")]), true),
        (json!([side("1")]), json!([asks("1100m")]), false),
        (json!([side("1"), asks("1100m")]), json!([asks("100m")]), false),
        (json!([asks("2"), side("1")]), json!([asks("1")]), true),
    ] {
        let candidate = pod("a", json!({"initContainers": init, "containers": main}));
        assert_eq!(outcome(&one(), &[], &candidate) == "n1", fits, "{candidate}");
    }
}

#[test]
fn ended_pods_take_nothing() {
    let mut ended = bound(asking("t", "2", "4Gi"), "n1");
    ended["status"] = json!({"phase": "Succeeded"});
    assert_eq!(outcome(&one(), &[ended], &asking("a", "2", "4Gi")), "n1");
}

#[test]
fn selectors_and_affinity_choose_by_labels() {
    let nodes = [labeled(node("n1", "2", "4Gi"), json!({"disk": "hdd", "cores": "4"})), labeled(node("n2", "2", "4Gi"), json!({"disk": "ssd", "cores": "16"}))];
    let required = |expression: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}});
    let none = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.";
    for (spec, expected) in [
        (json!({"nodeSelector": {"disk": "ssd"}}), "n2"),
        (json!({"nodeSelector": {"disk": "tape"}}), none),
        (required(json!({"key": "disk", "operator": "NotIn", "values": ["hdd"]})), "n2"),
        (required(json!({"key": "cores", "operator": "Gt", "values": ["8"]})), "n2"),
        (required(json!({"key": "cores", "operator": "Lt", "values": ["8"]})), "n1"),
        (required(json!({"key": "gone", "operator": "Exists"})), none),
        (required(json!({"key": "disk", "operator": "Bogus"})), none),
    ] {
        assert_eq!(outcome(&nodes, &[], &pod("a", spec.clone())), expected, "{spec}");
    }
    let by_name = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]});
    let by_name = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": by_name}}});
    assert_eq!(outcome(&nodes, &[], &pod("a", by_name)), "n1");
}

#[test]
fn taints_need_to_be_tolerated() {
    let tainted = |effect: &str| {
        let mut node = node("n1", "2", "4Gi");
        node["spec"] = json!({"taints": [{"key": "team", "value": "db", "effect": effect}]});
        vec![node]
    };
    let no = "0/1 nodes are available: 1 node(s) had untolerated taint {team: db}.";
    for (effect, tolerations, expected) in [
        ("NoSchedule", json!([]), no),
        ("NoExecute", json!([]), no),
        ("PreferNoSchedule", json!([]), "n1"),
        ("NoSchedule", json!([{"key": "team", "value": "db"}]), "n1"),
        ("NoSchedule", json!([{"key": "team", "value": "web"}]), no),
        ("NoSchedule", json!([{"key": "team", "operator": "Exists", "effect": "NoSchedule"}]), "n1"),
        ("NoExecute", json!([{"key": "team", "operator": "Exists", "effect": "NoSchedule"}]), no),
        ("NoExecute", json!([{"operator": "Exists"}]), "n1"),
    ] {
        assert_eq!(outcome(&tainted(effect), &[], &pod("a", json!({"tolerations": tolerations}))), expected, "{effect} {tolerations}");
    }
}

#[test]
fn cordoned_nodes_take_nothing_new() {
    let mut cordoned = node("n1", "2", "4Gi");
    cordoned["spec"] = json!({"unschedulable": true});
    assert_eq!(outcome(&[cordoned.clone()], &[], &pod("a", json!({}))), "0/1 nodes are available: 1 node(s) were unschedulable.");
    let tolerant = json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
    assert_eq!(outcome(&[cordoned], &[], &pod("a", tolerant)), "n1");
}

#[test]
fn a_wished_node_is_the_only_one() {
    let nodes = [node("n1", "2", "4Gi"), node("n2", "2", "4Gi")];
    assert_eq!(outcome(&nodes, &[], &pod("a", json!({"nodeName": "n2"}))), "n2");
    assert_eq!(outcome(&nodes, &[], &pod("a", json!({"nodeName": "n3"}))), "0/2 nodes are available: 2 node(s) didn't match the requested node name.");
}

#[test]
fn host_ports_are_taken_once() {
    let on = |name: &str, port: Value| pod(name, json!({"containers": [{"name": "m", "ports": [port]}]}));
    let taken = [bound(on("t", json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"})), "n1")];
    let no = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    for (port, expected) in [
        (json!({"containerPort": 80, "hostPort": 8080}), no),
        (json!({"containerPort": 80, "hostPort": 8081}), "n1"),
        (json!({"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}), "n1"),
        (json!({"containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1"}), "n1"),
        (json!({"containerPort": 8080}), "n1"),
    ] {
        assert_eq!(outcome(&one(), &taken, &on("a", port.clone())), expected, "{port}");
    }
}

fn zoned() -> Vec<Value> {
    let zone = |name: &str, zone: &str| labeled(node(name, "8", "16Gi"), json!({"zone": zone}));
    vec![zone("n1", "east"), zone("n2", "east"), zone("n3", "west")]
}

fn affinity(kind: &str, key: &str) -> Value {
    let term = json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": key});
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
}

#[test]
fn pods_are_kept_together_and_apart() {
    let db = [bound(labeled(pod("db", json!({})), json!({"app": "db"})), "n3")];
    assert_eq!(outcome(&zoned(), &db, &pod("a", affinity("podAffinity", "zone"))), "n3");
    assert_eq!(outcome(&zoned(), &[], &pod("a", affinity("podAffinity", "zone"))), "0/3 nodes are available: 3 node(s) didn't match pod affinity rules.");
    let first = labeled(pod("a", affinity("podAffinity", "zone")), json!({"app": "db"}));
    assert!(place_on(&zoned(), &[], &first).is_ok(), "the first of its kind may start alone");
    let apart = place_on(&zoned(), &db, &pod("a", affinity("podAntiAffinity", "zone"))).unwrap();
    assert_ne!(apart.node, "n3");
    let nodes = &zoned()[2..];
    assert_eq!(outcome(nodes, &db, &pod("a", affinity("podAntiAffinity", "zone"))), "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.");
    let shy = [bound(pod("shy", affinity("podAntiAffinity", "zone")), "n3")];
    let newcomer = labeled(pod("a", json!({})), json!({"app": "db"}));
    assert_eq!(outcome(nodes, &shy, &newcomer), "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.");
}

#[test]
fn spread_constraints_hold_the_skew() {
    let constraint = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let web = |name: &str| labeled(pod(name, json!({"topologySpreadConstraints": constraint})), json!({"app": "web"}));
    let mut pods = Vec::new();
    let mut zones = Vec::new();
    for number in 0..6 {
        let candidate = web(&format!("w{number}"));
        let node = outcome(&zoned(), &pods, &candidate);
        zones.push(if node == "n3" { "west" } else { "east" });
        let counts = ["east", "west"].map(|zone| i64::try_from(zones.iter().filter(|one| **one == zone).count()).unwrap());
        assert!((counts[0] - counts[1]).abs() <= 1, "{zones:?}");
        pods.push(bound(candidate, &node));
    }
    let bare = [node("n1", "2", "4Gi")];
    let expected = "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label).";
    assert_eq!(outcome(&bare, &[], &web("a")), expected);
}

#[test]
fn reasons_are_counted_over_all_nodes() {
    let mut nodes = vec![node("n1", "1", "4Gi"), node("n2", "1", "4Gi"), node("n3", "8", "16Gi"), node("n4", "1", "1Gi")];
    nodes[2]["spec"] = json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]});
    let expected = "0/4 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint {gpu: }, 3 Insufficient cpu.";
    assert_eq!(outcome(&nodes, &[], &asking("a", "2", "2Gi")), expected);
}
