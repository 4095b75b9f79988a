//! Rows of what a cluster consists of: nodes, namespaces, configuration, accounts, events, leases.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, length, number, or_none, wide};
use crate::meta;

pub(super) const NODES: &[Column] = &[
    NAME,
    column("Status", |node, _| node_status(node).into()),
    column("Roles", |node, _| roles(node)),
    AGE,
    column("Version", |node, _| text(&node["status"]["nodeInfo"], "kubeletVersion").into()),
    wide("Internal-IP", |node, _| or_none(address(node, "InternalIP"))),
    wide("External-IP", |node, _| or_none(address(node, "ExternalIP"))),
    wide("OS-Image", |node, _| or_unknown(text(&node["status"]["nodeInfo"], "osImage"))),
    wide("Kernel-Version", |node, _| or_unknown(text(&node["status"]["nodeInfo"], "kernelVersion"))),
    wide("Container-Runtime", |node, _| or_unknown(text(&node["status"]["nodeInfo"], "containerRuntimeVersion"))),
];

pub(super) const NAMESPACES: &[Column] = &[NAME, column("Status", |object, _| text(&object["status"], "phase").into()), AGE];

pub(super) const CONFIG_MAPS: &[Column] = &[NAME, number("Data", |object, _| (length(&object["data"]) + length(&object["binaryData"])).into()), AGE];

pub(super) const SECRETS: &[Column] =
    &[NAME, column("Type", |object, _| text(object, "type").into()), number("Data", |object, _| length(&object["data"]).into()), AGE];

pub(super) const SERVICE_ACCOUNTS: &[Column] = &[NAME, number("Secrets", |object, _| length(&object["secrets"]).into()), AGE];

pub(super) const LEASES: &[Column] = &[NAME, column("Holder", |object, _| text(&object["spec"], "holderIdentity").into()), AGE];

pub(super) const SYNCS: &[Column] = &[
    NAME,
    wide("Repository", |sync, _| or_none(text(&sync["spec"], "url"))),
    wide("Path", |sync, _| or_none(text(&sync["spec"], "path"))),
    column("Ready", |sync, _| ready(sync, "status", "Unknown").into()),
    column("Revision", |sync, _| or_none(revision(sync).as_str())),
    AGE,
    column("Message", |sync, _| message(sync).into()),
];

fn message(sync: &Value) -> String {
    let message = ready(sync, "message", "");
    if sync["spec"]["suspend"] == true { format!("paused; {message}") } else { message.to_owned() }
}

/// What a Sync's condition says of the repository and what runs.
fn ready<'a>(sync: &'a Value, field: &str, otherwise: &'a str) -> &'a str {
    let mut conditions = sync["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == "Ready").and_then(|condition| condition[field].as_str()).unwrap_or(otherwise)
}

/// The commit that runs, short, after the tag that it has been chosen by.
fn revision(sync: &Value) -> String {
    let status = &sync["status"];
    let commit = text(status, "lastAppliedRevision");
    let short: String = commit.chars().take(12).collect();
    let tag = &status["lockedTag"];
    if !commit.is_empty() && text(tag, "revision") == commit { format!("{}@{short}", text(tag, "name")) } else { short }
}

pub(super) const EVENTS: &[Column] = &[
    column("Last Seen", last_seen),
    column("Type", |event, _| text(event, "type").into()),
    column("Reason", |event, _| text(event, "reason").into()),
    column("Object", |event, _| object(event).into()),
    wide("Subobject", |event, _| text(&event["involvedObject"], "fieldPath").into()),
    wide("Source", |event, _| source(event).into()),
    column("Message", |event, _| text(event, "message").trim().into()),
    wide("First Seen", |event, now| age(first(&[&event["firstTimestamp"], &event["eventTime"]]), now)),
    wide("Count", |event, _| first(&[&event["series"]["count"], &event["count"]]).as_i64().unwrap_or(1).to_string().into()),
    wide("Name", |event, _| meta::text(event, "name").into()),
];

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn first<'a>(values: &[&'a Value]) -> &'a Value {
    values.iter().find(|value| !value.is_null()).copied().unwrap_or(&Value::Null)
}

fn or_unknown(text: &str) -> Value {
    if text.is_empty() { "<unknown>".into() } else { text.into() }
}

fn node_status(node: &Value) -> String {
    let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut status = match conditions.iter().find(|condition| condition["type"] == "Ready") {
        None => "Unknown",
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> Value {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in node["metadata"]["labels"].as_object().into_iter().flatten() {
        if let Some(role) = key.strip_prefix("node-role.kubernetes.io/").filter(|role| !role.is_empty()) {
            roles.push(role);
        } else if let ("kubernetes.io/role", Some(role)) = (key.as_str(), value.as_str().filter(|role| !role.is_empty())) {
            roles.push(role);
        }
    }
    roles.sort_unstable();
    or_none(&roles.join(","))
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let mut addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    addresses.find(|address| address["type"] == kind).map(|address| text(address, "address")).unwrap_or_default()
}

fn object(event: &Value) -> String {
    let involved = &event["involvedObject"];
    let kind = text(involved, "kind").to_lowercase();
    if text(involved, "name").is_empty() { kind } else { format!("{kind}/{}", text(involved, "name")) }
}

fn source(event: &Value) -> String {
    let component = first(&[&event["source"]["component"], &event["reportingComponent"]]).as_str().unwrap_or_default();
    let host = text(&event["source"], "host");
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

fn last_seen(event: &Value, now: Timestamp) -> Value {
    age(first(&[&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["firstTimestamp"]]), now)
}
