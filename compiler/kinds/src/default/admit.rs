//! What admission writes into an object before its defaults: what depends on what is there already, or on the rest of the object.

use serde_json::{Value, json};

use super::{job, pod};
use crate::KindInfo;

/// Fills in what a server's admission fills in. `old` is the object that is changed; none for a new one. A new Job needs its uid first.
pub fn admit(kind: &KindInfo, object: &mut Value, old: Option<&Value>) {
    match (kind.group, kind.kind) {
        ("", "Pod") if old.is_none() => {
            let Some(spec) = object["spec"].as_object_mut() else { return };
            let account = spec.get("serviceAccountName").or(spec.get("serviceAccount")).and_then(Value::as_str).filter(|name| !name.is_empty());
            let account = account.unwrap_or("default").to_owned();
            spec.insert("serviceAccountName".to_owned(), account.clone().into());
            spec.insert("serviceAccount".to_owned(), account.into());
            let class = pod::qos_class(spec);
            object["status"] = json!({"phase": "Pending", "qosClass": class});
        }
        // Only the server knows the uid that the selector names.
        ("batch", "Job") if old.is_none() => job::generate_selector(object),
        ("", "Service") => {
            if let Some(old) = old {
                retype(object, old);
                hold(object, old);
            }
        }
        _ => {}
    }
}

/// Why strake's own cluster does not admit an object, if it does not. `old` is as in [`admit`].
pub fn denied(kind: &KindInfo, object: &Value, old: Option<&Value>) -> Option<&'static str> {
    // Anybody who may write Services could otherwise draw traffic for any address to their pods (CVE-2020-8554).
    let given = |object: &Value| object["spec"]["externalIPs"].as_array().filter(|list| !list.is_empty()).cloned();
    let new = (kind.group, kind.kind) == ("", "Service") && given(object).is_some() && given(object) != old.and_then(given);
    new.then_some("use of external IPs is denied")
}

/// A Service that changes its type loses what only the former type has, unless the client sets it anew.
fn retype(object: &mut Value, old: &Value) {
    let kind = |service: &Value| service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let (before, now) = (kind(old), kind(object));
    if before == now {
        return;
    }
    let outside = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let mut gone: Vec<&str> = Vec::new();
    if outside(&before) && !outside(&now) {
        gone.extend(["externalTrafficPolicy", "healthCheckNodePort"]);
        let held: Vec<&Value> = old["spec"]["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]).collect();
        for port in object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
            if port.get("nodePort").is_some_and(|number| held.contains(&number)) {
                port.shift_remove("nodePort");
            }
        }
    }
    if before == "LoadBalancer" {
        gone.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if now == "ExternalName" {
        gone.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]);
    }
    let Some(spec) = object["spec"].as_object_mut() else { return };
    spec.retain(|name, value| !gone.contains(&name.as_str()) || old["spec"][name] != *value);
}

/// A Service that is written without its address or node ports keeps those that it has.
fn hold(object: &mut Value, old: &Value) {
    let kind = |service: &Value| service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let empty = |value: &Value| value.as_str().is_none_or(str::is_empty);
    if kind(old) == "ExternalName" || kind(object) == "ExternalName" || !object["spec"].is_object() {
        return;
    }
    if empty(&object["spec"]["clusterIP"]) && object["spec"]["clusterIPs"].as_array().is_none_or(Vec::is_empty) {
        for field in ["clusterIP", "clusterIPs"] {
            object["spec"][field] = old["spec"][field].clone();
        }
    }
    if matches!(kind(object).as_str(), "NodePort" | "LoadBalancer") {
        let before = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
        let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
        let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter(|port| port["nodePort"].as_i64().unwrap_or_default() == 0) {
            let same = before.iter().find(|other| other["port"] == port["port"] && protocol(other) == protocol(port));
            if let Some(number) = same.map(|other| &other["nodePort"]).filter(|number| !number.is_null()) {
                port["nodePort"] = number.clone();
            }
        }
    }
}
