//! Defaults, as an API server fills them in before it validates.

use serde_json::{Map, Value, json};

use crate::KindInfo;

mod admit;
mod job;
mod pod;
mod service;

pub use admit::{admit, denied};
pub use job::generate_selector;
pub use pod::qos_class;

/// Fills in what the client left out. The same object gives the same result, and a second call changes nothing.
pub fn apply(object: &mut Value, kind: &KindInfo) {
    let Some(root) = object.as_object_mut() else { return };
    match (kind.group, kind.kind) {
        ("", "Pod") => pod::pod(root),
        ("apps", "Deployment") => deployment(root),
        ("apps", "ReplicaSet") => replica_set(root),
        ("batch", "Job") => job::job(root),
        ("batch", "CronJob") => job::cron_job(root),
        ("apps", "StatefulSet" | "DaemonSet") | ("", "ReplicationController") => {
            template(fill_object(root, "spec"));
        }
        ("", "Service") => service::service(root),
        ("", "Secret") => secret(root),
        ("", "Namespace") => namespace(root),
        ("discovery.k8s.io", "EndpointSlice") => endpoint_slice(root),
        ("strake.dev", "Sync") => sync(root),
        _ => {}
    }
}

fn sync(root: &mut Map<String, Value>) {
    let Some(Value::Object(spec)) = root.get_mut("spec") else { return };
    fill_zero(spec, "path", ".");
    fill_zero(spec, "interval", "1m");
    fill_zero(spec, "timeout", "5m");
    fill(spec, "prune", true);
}

/// Turns what can only be written into what is stored: a Secret's `stringData` becomes entries of `data`, which win. To be called on what a client sends before
/// it is noted who manages which field: nobody can manage a field that is never there. Values of wrong types are left for validation.
pub fn fold_write_only(object: &mut Value, kind: &KindInfo) {
    if (kind.group, kind.kind) != ("", "Secret") {
        return;
    }
    let Some(root) = object.as_object_mut() else { return };
    let plain = root.get("stringData").and_then(Value::as_object).is_some_and(|plain| plain.values().all(Value::is_string));
    let data = root.get("data").is_none_or(|data| data.is_object() || data.is_null());
    if plain && data {
        fold_string_data(root);
    }
}

/// Sets `name` to `value` when it is absent or null.
fn fill(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    if map.get(name).is_none_or(Value::is_null) {
        map.insert(name.to_owned(), value.into());
    }
}

/// As [`fill`], and also when it is the empty text or zero, which a server cannot tell from absent.
fn fill_zero(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    let unset = match map.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    };
    if unset {
        map.insert(name.to_owned(), value.into());
    }
}

/// The object under `name`, made when it is absent or null. What has another type has been refused before defaults are filled in; here it gives way.
fn fill_object<'a>(map: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    fill(map, name, json!({}));
    let value = map.entry(name).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(inner) => inner,
        _ => unreachable!("it was made an object just before"),
    }
}

/// The object under `name`, if it is there.
fn object<'a>(map: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(name)?.as_object_mut()
}

/// The objects of the list under `name`.
fn objects<'a>(map: &'a mut Map<String, Value>, name: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn template(spec: &mut Map<String, Value>) {
    if let Some(inner) = object(spec, "template").and_then(|template| object(template, "spec")) {
        pod::spec(inner);
    }
}

fn deployment(root: &mut Map<String, Value>) {
    let spec = fill_object(root, "spec");
    fill(spec, "replicas", 1);
    let strategy = fill_object(spec, "strategy");
    fill_zero(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = fill_object(strategy, "rollingUpdate");
        fill(rolling, "maxUnavailable", "25%");
        fill(rolling, "maxSurge", "25%");
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
    template(spec);
}

fn replica_set(root: &mut Map<String, Value>) {
    let spec = fill_object(root, "spec");
    fill(spec, "replicas", 1);
    template(spec);
    fill(fill_object(root, "status"), "replicas", 0);
}

fn secret(root: &mut Map<String, Value>) {
    fill_zero(root, "type", "Opaque");
    fold_string_data(root);
}

/// `stringData` is write-only: its entries win over `data` and it is never stored.
fn fold_string_data(root: &mut Map<String, Value>) {
    use base64::Engine as _;
    if let Some(Value::Object(plain)) = root.remove("stringData") {
        let data = fill_object(root, "data");
        for (key, value) in plain {
            let value = value.as_str().unwrap_or_default();
            data.insert(key, base64::engine::general_purpose::STANDARD.encode(value).into());
        }
    }
}

fn namespace(root: &mut Map<String, Value>) {
    let metadata = fill_object(root, "metadata");
    let name = text(metadata, "name").to_owned();
    if !name.is_empty() {
        fill_object(metadata, "labels").insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
    let deleting = metadata.get("deletionTimestamp").is_some_and(|time| !time.is_null());
    if !deleting {
        fill(fill_object(root, "spec"), "finalizers", json!(["kubernetes"]));
    }
    fill_zero(fill_object(root, "status"), "phase", if deleting { "Terminating" } else { "Active" });
}

fn endpoint_slice(root: &mut Map<String, Value>) {
    for port in objects(root, "ports") {
        fill(port, "name", "");
        fill(port, "protocol", "TCP");
    }
}
