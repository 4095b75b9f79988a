//! Services and EndpointSlices.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::container::port_number;
use super::{Findings, child, items, names, number, probe, text};
use crate::path::At;

/// The ports that Services of type NodePort can have.
pub const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

pub(super) fn spec(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let ty = text(spec, "type");
    findings.one_of(&at.field("type"), ty, &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]);
    let address = text(spec, "clusterIP");
    if ty == "ExternalName" {
        external_name(spec, address, at, findings);
    } else {
        if spec.get("ports").and_then(Value::as_array).is_none_or(Vec::is_empty) && address != "None" {
            findings.required(&at.field("ports"), "a Service needs at least one port");
        }
        if !matches!(address, "" | "None") && address.parse::<IpAddr>().is_err() {
            findings.invalid(&at.field("clusterIP"), address, "must be empty, None or an IP address");
        }
        if address == "None" && matches!(ty, "NodePort" | "LoadBalancer") {
            findings.invalid(&at.field("clusterIP"), address, format!("a Service of type {ty} needs an address"));
        }
    }
    ports(spec, ty, at, findings);
    let selector_at = at.field("selector");
    for (key, value) in child(spec, "selector").into_iter().flatten() {
        findings.check(&selector_at, key, names::qualified);
        findings.check(&selector_at, value.as_str().unwrap_or_default(), names::label_value);
    }
    findings.one_of(&at.field("sessionAffinity"), text(spec, "sessionAffinity"), &["None", "ClientIP"]);
    for name in ["internalTrafficPolicy", "externalTrafficPolicy"] {
        if !text(spec, name).is_empty() {
            findings.one_of(&at.field(name), text(spec, name), &["Cluster", "Local"]);
        }
    }
    if !text(spec, "externalTrafficPolicy").is_empty() && ty == "ClusterIP" && spec.get("externalIPs").is_none() {
        findings.invalid(&at.field("externalTrafficPolicy"), text(spec, "externalTrafficPolicy"), "a Service of type ClusterIP has no traffic from outside");
    }
    external_ips(spec, at, findings);
    if let Some(seconds) = child(spec, "sessionAffinityConfig").and_then(|config| number(child(config, "clientIP")?, "timeoutSeconds"))
        && !(1..=86_400).contains(&seconds)
    {
        let at = at.field("sessionAffinityConfig");
        findings.invalid(&at.field("clientIP").field("timeoutSeconds"), seconds, "must be between 1 and 86400 (a day)");
    }
    balancer(spec, ty, at, findings);
}

/// What only a Service of type LoadBalancer has.
fn balancer(spec: &Map<String, Value>, ty: &str, at: &At<'_>, findings: &mut Findings) {
    let here = |field: &str| spec.get(field).is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    // The server's own spelling of the first.
    let fields = [("loadBalancerSourceRanges", "LoadBalancerSourceRanges"), ("allocateLoadBalancerNodePorts", ""), ("loadBalancerClass", "")];
    if ty != "LoadBalancer" {
        for (field, shown) in fields.into_iter().filter(|(field, _)| here(field)) {
            findings.forbidden(&at.field(if shown.is_empty() { field } else { shown }), "only a Service of type LoadBalancer has it");
        }
        return;
    }
    let list_at = at.field(fields[0].1);
    for (index, range) in spec.get(fields[0].0).and_then(Value::as_array).into_iter().flatten().enumerate() {
        let text = range.as_str().unwrap_or_default();
        if !is_range(text.trim()) {
            findings.invalid(&list_at.index(index), text, "must be a range of addresses such as 10.0.0.0/8");
        }
    }
    if let Some(class) = spec.get("loadBalancerClass").and_then(Value::as_str) {
        findings.check(&at.field("loadBalancerClass"), class, names::qualified);
    }
}

/// An address with the length of its prefix.
fn is_range(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
        (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
        _ => false,
    }
}

fn external_name(spec: &Map<String, Value>, address: &str, at: &At<'_>, findings: &mut Findings) {
    let name = text(spec, "externalName");
    if name.is_empty() {
        findings.required(&at.field("externalName"), "a Service of type ExternalName needs it");
    } else {
        findings.check(&at.field("externalName"), name.strip_suffix('.').unwrap_or(name), names::dns_subdomain);
    }
    if !address.is_empty() {
        findings.forbidden(&at.field("clusterIP"), "a Service of type ExternalName has no address");
    }
}

fn ports(spec: &Map<String, Value>, ty: &str, at: &At<'_>, findings: &mut Findings) {
    let (mut seen_names, mut seen_ports, mut seen_nodes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let list_at = at.field("ports");
    let many = spec.get("ports").and_then(Value::as_array).map_or(0, Vec::len) > 1;
    for (index, port) in items(spec, "ports") {
        let at = list_at.index(index);
        let (name, protocol) = (text(port, "name"), text(port, "protocol"));
        if name.is_empty() {
            if many {
                findings.required(&at.field("name"), "each of several ports needs a name");
            }
        } else {
            findings.check(&at.field("name"), name, names::dns_label);
            if !seen_names.insert(name) {
                findings.duplicate(&at.field("name"), name);
            }
        }
        findings.one_of(&at.field("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
        if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
            findings.check(&at.field("appProtocol"), protocol, names::qualified);
        }
        match number(port, "port") {
            None => findings.required(&at.field("port"), ""),
            Some(number) => {
                port_number(number, &at.field("port"), findings);
                if !seen_ports.insert((number, protocol)) {
                    findings.duplicate(&at, Value::Object(port.clone()));
                }
            }
        }
        if port.get("targetPort").is_some_and(|target| !target.is_null()) {
            probe::port(port.get("targetPort"), &at.field("targetPort"), findings);
        }
        if let Some(node) = number(port, "nodePort").filter(|node| *node != 0) {
            if ty == "ClusterIP" || ty == "ExternalName" {
                findings.forbidden(&at.field("nodePort"), format!("a Service of type {ty} has none"));
            } else if !NODE_PORTS.contains(&node) {
                findings.invalid(&at.field("nodePort"), node, format!("must be between {} and {}", NODE_PORTS.start(), NODE_PORTS.end()));
            } else if !seen_nodes.insert((node, protocol)) {
                findings.duplicate(&at.field("nodePort"), node);
            }
        }
    }
}

fn external_ips(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let list_at = at.field("externalIPs");
    for (index, value) in spec.get("externalIPs").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let address = value.as_str().unwrap_or_default();
        if address.parse::<IpAddr>().is_err() {
            findings.invalid(&list_at.index(index), address, "must be an IP address");
        }
    }
}

/// Where an endpoint is, and for whom.
fn endpoint_place(endpoint: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    for (field, check) in [("hostname", names::dns_label as fn(&str) -> _), ("nodeName", names::dns_subdomain)] {
        if let Some(name) = endpoint.get(field).and_then(Value::as_str) {
            findings.check(&at.field(field), name, check);
        }
    }
    let hints_at = at.field("hints");
    let list_at = hints_at.field("forZones");
    let mut seen = BTreeSet::new();
    for (index, zone) in child(endpoint, "hints").into_iter().flat_map(|hints| items(hints, "forZones")) {
        let (at, name) = (list_at.index(index), text(zone, "name"));
        if !seen.insert(name) {
            findings.duplicate(&at.field("name"), name);
        }
        findings.check(&at.field("name"), name, names::label_value);
    }
}

pub(super) fn endpoint_slice(root: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let family = text(root, "addressType");
    findings.one_of(&at.field("addressType"), family, &["IPv4", "IPv6", "FQDN"]);
    let list_at = at.field("endpoints");
    for (index, endpoint) in items(root, "endpoints") {
        let at = list_at.index(index);
        endpoint_place(endpoint, &at, findings);
        let at = at.field("addresses");
        let addresses = endpoint.get("addresses").and_then(Value::as_array);
        if addresses.is_none_or(Vec::is_empty) {
            findings.required(&at, "an endpoint needs an address");
        }
        for (index, value) in addresses.into_iter().flatten().enumerate() {
            let address = value.as_str().unwrap_or_default();
            let fits = match (family, address.parse::<IpAddr>()) {
                ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => true,
                ("IPv4" | "IPv6", _) => false,
                _ => names::dns_subdomain(address).is_ok(),
            };
            if !fits {
                findings.invalid(&at.index(index), address, format!("must be an address of type {family}"));
            }
        }
    }
    let mut seen = BTreeSet::new();
    let list_at = at.field("ports");
    for (index, port) in items(root, "ports") {
        let at = list_at.index(index);
        if !text(port, "name").is_empty() {
            findings.check(&at.field("name"), text(port, "name"), names::dns_label);
        }
        if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
            findings.check(&at.field("appProtocol"), protocol, names::qualified);
        }
        if !seen.insert(text(port, "name")) {
            findings.duplicate(&at.field("name"), text(port, "name"));
        }
        findings.one_of(&at.field("protocol"), text(port, "protocol"), &["TCP", "UDP", "SCTP"]);
    }
}
