//! What a server said, without what must differ between two servers.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use strake_client::ClientError;

/// An answer that two servers can be compared by.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The object as it would be stored.
    Object(Value),
    /// A refusal: its code, its reason, and of each cause the field and the reason. The sentences are everybody's own.
    Refused { code: u16, reason: String, causes: BTreeSet<(String, String)> },
    /// None: it has crashed over the request.
    None,
}

impl Answer {
    /// `sent` is what was asked for: what a server has drawn by lot is told from what was given by it.
    /// `alone`: nobody else has written the object, as controllers do of one that is there.
    pub fn of(result: Result<Value, ClientError>, sent: &Value, alone: bool) -> Answer {
        match result {
            Ok(object) if alone => Answer::Object(comparable(object, sent)),
            Ok(object) => Answer::Object(comparable(unattended(object), sent)),
            Err(ClientError::Api(status)) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                let causes = causes.map(|cause| (cause.field.clone(), cause.reason.clone())).collect();
                Answer::Refused { code: status.code, reason: status.reason.clone(), causes }
            }
            Err(ClientError::Send { .. }) => Answer::None,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Where two answers differ; nothing when they do not.
    pub fn differences(&self, real: &Answer) -> Vec<String> {
        let mut found = Vec::new();
        match (self, real) {
            (Answer::None, _) => found.push("strake does not answer".to_owned()),
            (_, Answer::None) => found.push("the real one does not answer".to_owned()),
            (Answer::Object(ours), Answer::Object(theirs)) => compare(ours, theirs, "", &mut found),
            (Answer::Refused { code, reason, causes }, Answer::Refused { code: c, reason: r, causes: real }) => {
                if (code, reason) != (c, r) {
                    found.push(format!("refused: strake {code} {reason}, real {c} {r}"));
                } else if causes != real {
                    let list = |causes: Vec<&(String, String)>| causes.iter().map(|(field, reason)| format!("{field} {reason}")).collect::<Vec<_>>().join("; ");
                    found.push(format!(
                        "causes: strake alone [{}], real alone [{}]",
                        list(causes.difference(real).collect()),
                        list(real.difference(causes).collect())
                    ));
                }
            }
            (Answer::Object(_), Answer::Refused { code, reason, causes }) => found.push(format!("strake accepts, real {code} {reason} {causes:?}")),
            (Answer::Refused { code, reason, causes }, Answer::Object(_)) => found.push(format!("real accepts, strake {code} {reason} {causes:?}")),
        }
        found
    }
}

/// An object without what a cluster's controllers have written into it.
fn unattended(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.shift_remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.shift_remove("deployment.kubernetes.io/revision");
            if annotations.is_empty() {
                metadata.shift_remove("annotations");
            }
        }
        if let Some(entries) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            entries.retain(|entry| matches!(entry["manager"].as_str(), Some("base" | "other")));
            entries.sort_by_key(|entry| (entry["manager"].to_string(), entry["operation"].to_string()));
        }
    }
    object
}

fn compare(ours: &Value, theirs: &Value, at: &str, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let at = format!("{at}.{name}");
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => compare(a, b, &at, found),
                    (Some(a), None) => found.push(format!("{at}: strake alone has {a}")),
                    (None, Some(b)) => found.push(format!("{at}: real alone has {b}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{at}[{index}]"), found);
            }
        }
        (a, b) if a != b => found.push(format!("{at}: strake {a}, real {b}")),
        _ => {}
    }
}

/// An object without what no two servers agree on: identity, times, versions, and what is drawn by lot.
fn comparable(mut object: Value, sent: &Value) -> Value {
    if let Some(uid) = object["metadata"]["uid"].as_str().map(str::to_owned) {
        replace(&mut object, &uid, "<uid>");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "resourceVersion", "creationTimestamp"] {
            metadata.shift_remove(field);
        }
        for entry in metadata.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
            entry["time"] = Value::Null;
        }
    }
    match object["kind"].as_str() {
        Some("Service") => drawn(&mut object, sent),
        Some("Pod") => admitted(&mut object),
        _ => {}
    }
    object
}

fn replace(value: &mut Value, old: &str, new: &str) {
    match value {
        Value::String(text) if text == old => new.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, old, new)),
        Value::Object(map) => map.values_mut().for_each(|item| replace(item, old, new)),
        _ => {}
    }
}

/// Addresses and ports that were given out, and not asked for.
fn drawn(service: &mut Value, sent: &Value) {
    let asked = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let Some(spec) = service["spec"].as_object_mut() else { return };
    if !asked(&sent["spec"]["clusterIP"]) && !asked(&sent["spec"]["clusterIPs"][0]) {
        for (field, value) in [("clusterIP", json!("<address>")), ("clusterIPs", json!(["<address>"]))] {
            if let Some(place) = spec.get_mut(field) {
                *place = value;
            }
        }
    }
    let given = |port: &Value| port["nodePort"].as_i64().filter(|number| *number != 0);
    let wanted: Vec<i64> = sent["spec"]["ports"].as_array().into_iter().flatten().filter_map(given).collect();
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if given(port).is_some_and(|number| !wanted.contains(&number)) {
            port["nodePort"] = json!("<port>");
        }
    }
    if spec.get("healthCheckNodePort").is_some() {
        spec.insert("healthCheckNodePort".to_owned(), json!("<port>"));
    }
}

/// What a cluster's admission plugins write into a pod: a token of its account, tolerations of nodes that are lost, its priority.
fn admitted(pod: &mut Value) {
    let token = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("kube-api-access-"));
    let Some(spec) = pod["spec"].as_object_mut() else { return };
    let mut drop_from = |list: &str, drop: &dyn Fn(&Value) -> bool| {
        if let Some(items) = spec.get_mut(list).and_then(Value::as_array_mut) {
            items.retain(|item| !drop(item));
            if items.is_empty() {
                spec.shift_remove(list);
            }
        }
    };
    drop_from("volumes", &|volume| token(&volume["name"]));
    let lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    drop_from("tolerations", &|toleration| toleration["tolerationSeconds"] == 300 && lost.iter().any(|key| toleration["key"] == *key));
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
            let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) else { continue };
            mounts.retain(|mount| !token(&mount["name"]));
            if mounts.is_empty() {
                container.shift_remove("volumeMounts");
            }
        }
    }
    for field in ["priority", "preemptionPolicy"] {
        spec.shift_remove(field);
    }
}
