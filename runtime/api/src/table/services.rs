//! Rows of Services and EndpointSlices.

use serde_json::Value;

use super::{AGE, Column, NAME, column, labels, or_none, wide};

pub(super) const SERVICES: &[Column] = &[
    NAME,
    column("Type", |object, _| kind(object).into()),
    column("Cluster-IP", |object, _| or_none(text(&object["spec"], "clusterIP"))),
    column("External-IP", |object, _| external(object)),
    column("Port(s)", |object, _| ports(object)),
    AGE,
    wide("Selector", |object, _| labels(&object["spec"]["selector"])),
];

pub(super) const ENDPOINT_SLICES: &[Column] = &[
    NAME,
    column("AddressType", |object, _| text(object, "addressType").into()),
    column("Ports", |object, _| slice_ports(object)),
    column("Endpoints", |object, _| endpoints(object)),
    AGE,
];

/// Ports and endpoints of a slice that a row names before it says how many more there are.
const SHOWN: usize = 3;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn kind(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

fn external(service: &Value) -> Value {
    let addresses = list(&service["status"]["loadBalancer"], "ingress").iter();
    let mut given: Vec<&str> = addresses.map(|address| if text(address, "ip").is_empty() { text(address, "hostname") } else { text(address, "ip") }).collect();
    given.extend(list(&service["spec"], "externalIPs").iter().filter_map(Value::as_str));
    match kind(service) {
        "ExternalName" => text(&service["spec"], "externalName").into(),
        "LoadBalancer" if given.is_empty() => "<pending>".into(),
        _ => or_none(&given.join(",")),
    }
}

fn ports(service: &Value) -> Value {
    let port = |port: &Value| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        match port["nodePort"].as_i64().filter(|node| *node > 0) {
            Some(node) => format!("{}:{node}/{protocol}", port["port"]),
            None => format!("{}/{protocol}", port["port"]),
        }
    };
    or_none(&list(&service["spec"], "ports").iter().map(port).collect::<Vec<_>>().join(","))
}

fn shown(all: &[String]) -> Value {
    if all.is_empty() {
        return "<unset>".into();
    }
    let more = all.len().saturating_sub(SHOWN);
    let text = all[..all.len() - more].join(",");
    if more > 0 { format!("{text} + {more} more...").into() } else { text.into() }
}

fn slice_ports(slice: &Value) -> Value {
    let ports: Vec<String> = list(slice, "ports").iter().map(|port| if port["port"].is_null() { "*".to_owned() } else { port["port"].to_string() }).collect();
    shown(&ports)
}

fn endpoints(slice: &Value) -> Value {
    let addresses = list(slice, "endpoints").iter().filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned));
    shown(&addresses.collect::<Vec<_>>())
}
