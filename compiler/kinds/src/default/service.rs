//! Defaults of Services. Addresses and node ports are given out by the API server.

use serde_json::{Map, Value, json};

use super::{fill, fill_object, fill_zero, objects, text};

pub(super) fn service(root: &mut Map<String, Value>) {
    let spec = fill_object(root, "spec");
    fill_zero(spec, "sessionAffinity", "None");
    if text(spec, "sessionAffinity") == "ClientIP" {
        let client = fill_object(fill_object(spec, "sessionAffinityConfig"), "clientIP");
        fill(client, "timeoutSeconds", 10_800);
    }
    if text(spec, "sessionAffinity") == "None" {
        spec.shift_remove("sessionAffinityConfig");
    }
    fill_zero(spec, "type", "ClusterIP");
    for port in objects(spec, "ports") {
        fill_zero(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            fill_zero(port, "targetPort", number);
        }
    }
    let external = match text(spec, "type") {
        "ExternalName" => return status(root),
        "LoadBalancer" => {
            fill(spec, "allocateLoadBalancerNodePorts", true);
            true
        }
        "NodePort" => true,
        _ => spec.get("externalIPs").and_then(Value::as_array).is_some_and(|list| !list.is_empty()),
    };
    if external {
        fill_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    fill(spec, "internalTrafficPolicy", "Cluster");
    fill(spec, "ipFamilyPolicy", "SingleStack");
    let address = text(spec, "clusterIP").to_owned();
    let first = spec.get("clusterIPs").and_then(|list| list.get(0)).and_then(Value::as_str).unwrap_or_default().to_owned();
    if first.is_empty() && !address.is_empty() {
        spec.insert("clusterIPs".to_owned(), json!([address]));
    } else if address.is_empty() && !first.is_empty() {
        spec.insert("clusterIP".to_owned(), first.clone().into());
    }
    let v6 = address.contains(':') || first.contains(':');
    fill(spec, "ipFamilies", json!([if v6 { "IPv6" } else { "IPv4" }]));
    status(root);
}

fn status(root: &mut Map<String, Value>) {
    fill(fill_object(root, "status"), "loadBalancer", json!({}));
}
