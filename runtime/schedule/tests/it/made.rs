//! Nodes and pods made for the tests.

use serde_json::{Value, json};
use strake_kinds::core::{Node, Pod};
use strake_schedule::{ClusterView, Placement, Unschedulable, place};

pub fn node(name: &str, cpu: &str, memory: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": "110"}}
    })
}

pub fn pod(name: &str, spec: Value) -> Value {
    let mut base = json!({"containers": [{"name": "main", "image": "web:1"}]});
    base.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": base})
}

pub fn asking(name: &str, cpu: &str, memory: &str) -> Value {
    pod(name, json!({"containers": [{"name": "main", "image": "web:1", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}))
}

pub fn bound(mut pod: Value, node: &str) -> Value {
    pod["spec"]["nodeName"] = json!(node);
    pod
}

pub fn labeled(mut object: Value, labels: Value) -> Value {
    let own = object["metadata"].as_object_mut().unwrap().entry("labels").or_insert(json!({}));
    own.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
    object
}

pub fn read<T: for<'de> serde::Deserialize<'de>>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

pub fn view(nodes: &[Value], pods: &[Value]) -> ClusterView {
    let nodes: Vec<Node> = nodes.iter().map(read).collect();
    let pods: Vec<Pod> = pods.iter().map(read).collect();
    ClusterView::new(&nodes, &pods)
}

pub fn place_on(nodes: &[Value], pods: &[Value], candidate: &Value) -> Result<Placement, Unschedulable> {
    place(&view(nodes, pods), &read(candidate))
}

/// Where it goes, or the message.
pub fn outcome(nodes: &[Value], pods: &[Value], candidate: &Value) -> String {
    match place_on(nodes, pods, candidate) {
        Ok(placement) => placement.node,
        Err(why) => why.to_string(),
    }
}
