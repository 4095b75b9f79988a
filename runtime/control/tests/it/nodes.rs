//! Nodes that fall silent, and pods that are left over.

use serde_json::json;
use strake_control::{Kind, ObjectId, Propagation};

use crate::bench::{Bench, id};

fn bench() -> Bench {
    let mut bench = Bench::new();
    let ready = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady"}]);
    bench.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n9"}}));
    bench.world.patch(&node(), Some("status"), &json!({"status": {"conditions": ready}}), bench.now).unwrap();
    renew(&mut bench);
    bench.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "default"},
        "spec": {"nodeName": "n9", "containers": [{"name": "main", "image": "web:1"}]}}));
    bench.report("a", "Running", true, "10.42.0.1");
    bench
}

fn node() -> ObjectId {
    ObjectId::new(Kind::NODE, "", "n9")
}

fn renew(bench: &mut Bench) {
    let lease = ObjectId::new(Kind::LEASE, "kube-node-lease", "n9");
    let time = bench.now.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    let spec = json!({"holderIdentity": "n9", "leaseDurationSeconds": 40, "renewTime": time});
    let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n9", "namespace": "kube-node-lease"}, "spec": spec});
    match bench.world.get(&lease) {
        None => drop(bench.world.create(object, bench.now).unwrap()),
        Some(_) => drop(bench.world.patch(&lease, None, &json!({"spec": spec}), bench.now).unwrap()),
    }
    bench.settle();
}

#[test]
fn a_silent_node_is_unknown_after_forty_seconds_and_its_pods_are_not_ready() {
    let mut bench = bench();
    bench.pass(39);
    assert_eq!(bench.get(&node())["status"]["conditions"][0]["status"], "True");
    bench.pass(2);
    let silent = bench.get(&node());
    assert_eq!(silent["status"]["conditions"][0]["status"], "Unknown");
    assert_eq!(silent["status"]["conditions"][0]["reason"], "NodeStatusUnknown");
    assert_eq!(silent["spec"]["taints"], json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]));
    let pod = bench.get(&id(Kind::POD, "a"));
    assert_eq!(pod["status"]["conditions"][0]["status"], "False");
    assert_eq!(pod["status"]["conditions"][0]["reason"], "NodeNotReady");
    assert!(pod["metadata"]["deletionTimestamp"].is_null(), "nothing is evicted");
    bench.assert_nothing_left_to_do();

    // It is back: first its lease, then its own word.
    renew(&mut bench);
    let ready = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady"}]);
    bench.world.patch(&node(), Some("status"), &json!({"status": {"conditions": ready}}), bench.now).unwrap();
    bench.settle();
    assert!(bench.get(&node())["spec"]["taints"].as_array().is_none_or(Vec::is_empty));
}

#[test]
fn a_node_gets_its_time_after_the_loop_has_begun_to_look() {
    let mut bench = bench();
    // Everything was down for a day; the lease is long expired when the loop starts.
    bench.now += jiff::SignedDuration::from_hours(24);
    let now = bench.now;
    bench.view.observe_from(now);
    bench.pass(39);
    assert_eq!(bench.get(&node())["status"]["conditions"][0]["status"], "True");
    bench.pass(2);
    assert_eq!(bench.get(&node())["status"]["conditions"][0]["status"], "Unknown");
}

#[test]
fn a_node_that_says_it_is_not_ready_takes_nothing_new() {
    let mut bench = bench();
    let not_ready = json!([{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}]);
    bench.world.patch(&node(), Some("status"), &json!({"status": {"conditions": not_ready}}), bench.now).unwrap();
    bench.settle();
    assert_eq!(bench.get(&node())["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
}

#[test]
fn pods_of_a_node_that_is_gone_are_removed() {
    let mut bench = bench();
    bench.pass(50);
    bench.delete(&node(), Propagation::Background);
    assert!(bench.pods().is_empty());
}
