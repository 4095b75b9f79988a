//! EndpointSlices: which addresses, which ports, ready or not.

use serde_json::{Value, json};
use strake_control::Kind;

use crate::bench::{Bench, id};

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}]}})
}

fn bench(spec: Value) -> Bench {
    let mut bench = Bench::new();
    bench.create(service(spec));
    for name in ["a", "b", "c"] {
        bench.create(pod(name));
    }
    bench.report("a", "Running", true, "10.42.0.1");
    bench.report("b", "Running", false, "10.42.0.2");
    bench
}

/// Address, ready, serving, terminating of each endpoint.
fn endpoints(bench: &Bench) -> Vec<(String, bool, bool, bool)> {
    let slices = bench.all(&Kind::ENDPOINT_SLICE);
    let all = slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    let flag = |endpoint: &Value, name: &str| endpoint["conditions"][name].as_bool().unwrap();
    all.map(|one| (one["addresses"][0].as_str().unwrap().to_owned(), flag(&one, "ready"), flag(&one, "serving"), flag(&one, "terminating"))).collect()
}

#[test]
fn ready_pods_are_ready_endpoints_and_named_ports_are_resolved() {
    let mut bench = bench(json!({"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]}));
    assert_eq!(endpoints(&bench), [("10.42.0.1".to_owned(), true, true, false), ("10.42.0.2".to_owned(), false, false, false)]);
    let slice = bench.all(&Kind::ENDPOINT_SLICE).remove(0);
    assert_eq!(slice["ports"], json!([{"name": "web", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(slice["addressType"], "IPv4");
    let labels = &slice["metadata"]["labels"];
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    assert!(slice["metadata"]["name"].as_str().unwrap().starts_with("web-"));
    assert_eq!(slice["endpoints"][0]["targetRef"]["name"], "a");
    assert_eq!(slice["endpoints"][0]["nodeName"], "n1");

    bench.report("b", "Running", true, "10.42.0.2");
    bench.report("c", "Running", true, "10.42.0.3");
    assert_eq!(endpoints(&bench).iter().filter(|endpoint| endpoint.1).count(), 3);
    bench.delete(&id(Kind::POD, "a"), strake_control::Propagation::Background);
    assert_eq!(endpoints(&bench)[0], ("10.42.0.1".to_owned(), false, true, true), "it serves on and is not offered");
    bench.end_pod("a");
    assert_eq!(endpoints(&bench).len(), 2);
    bench.report("b", "Failed", false, "10.42.0.2");
    assert_eq!(endpoints(&bench).len(), 1);
    assert_eq!(bench.all(&Kind::ENDPOINT_SLICE).len(), 1);
    bench.assert_nothing_left_to_do();
}

#[test]
fn not_ready_addresses_are_published_on_wish() {
    let bench = bench(json!({"selector": {"app": "web"}, "clusterIP": "None", "publishNotReadyAddresses": true}));
    assert_eq!(endpoints(&bench)[1], ("10.42.0.2".to_owned(), true, false, false));
    let slice = bench.all(&Kind::ENDPOINT_SLICE).remove(0);
    assert_eq!(slice["metadata"]["labels"]["service.kubernetes.io/headless"], "");
}

#[test]
fn pods_with_other_numbers_for_a_named_port_get_slices_of_their_own() {
    let mut bench = bench(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}));
    let mut other = pod("d");
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090);
    bench.create(other);
    bench.report("d", "Running", true, "10.42.0.4");
    let mut ports: Vec<i64> = bench.all(&Kind::ENDPOINT_SLICE).iter().map(|slice| slice["ports"][0]["port"].as_i64().unwrap()).collect();
    ports.sort_unstable();
    assert_eq!(ports, [8080, 9090]);
    bench.end_pod("d");
    assert_eq!(bench.all(&Kind::ENDPOINT_SLICE).len(), 1);
}

#[test]
fn services_without_a_selector_are_left_alone_and_slices_go_with_their_service() {
    let bench = bench(json!({"ports": [{"port": 80}]}));
    assert!(bench.all(&Kind::ENDPOINT_SLICE).is_empty());
    let mut bench = self::bench(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
    assert_eq!(bench.all(&Kind::ENDPOINT_SLICE)[0]["ports"][0]["port"], 80);
    bench.delete(&id(Kind::SERVICE, "web"), strake_control::Propagation::Background);
    assert!(bench.all(&Kind::ENDPOINT_SLICE).is_empty());
}
