//! What may not change.

use serde_json::{Map, Value};

use super::{Findings, Invalid};
use crate::KindInfo;
use crate::path::At;

/// Everything in a change from `old` to `new` that a server would refuse, beyond what [`super::object`] finds in `new`. Both must be defaulted.
pub fn update(old: &Value, new: &Value, kind: &KindInfo) -> Vec<Invalid> {
    let mut findings = Findings::default();
    let root = At::root();
    let metadata = root.field("metadata");
    for name in ["name", "namespace", "uid"] {
        let fixed = Fixed { old, new, at: &metadata.field(name), pointer: &format!("/metadata/{name}") };
        fixed.once_set(&mut findings);
    }
    let spec = root.field("spec");
    match (kind.group, kind.kind) {
        ("apps", "Deployment" | "ReplicaSet") => Fixed { old, new, at: &spec.field("selector"), pointer: "/spec/selector" }.always(&mut findings),
        ("batch", "Job") => job(old, new, &spec, &mut findings),
        ("", "Service") => service(old, new, &spec, &mut findings),
        ("", "Secret") => {
            Fixed { old, new, at: &root.field("type"), pointer: "/type" }.always(&mut findings);
            frozen(old, new, &["data"], &root, &mut findings);
        }
        ("", "ConfigMap") => frozen(old, new, &["data", "binaryData"], &root, &mut findings),
        ("", "Pod") => pod(old, new, &spec, &mut findings),
        ("", "Node") if old.pointer("/spec/providerID").is_some() => {
            Fixed { old, new, at: &spec.field("providerID"), pointer: "/spec/providerID" }.always(&mut findings);
        }
        ("discovery.k8s.io", "EndpointSlice") => Fixed { old, new, at: &root.field("addressType"), pointer: "/addressType" }.always(&mut findings),
        _ => {}
    }
    findings.0
}

/// A field that keeps its value.
struct Fixed<'a> {
    old: &'a Value,
    new: &'a Value,
    at: &'a At<'a>,
    pointer: &'a str,
}

impl Fixed<'_> {
    fn always(&self, findings: &mut Findings) {
        let (old, new) = (self.old.pointer(self.pointer), self.new.pointer(self.pointer));
        if old.filter(|value| !value.is_null()) != new.filter(|value| !value.is_null()) {
            findings.invalid(self.at, new.cloned().unwrap_or_default(), "this field cannot be changed; delete the object and make it again");
        }
    }

    /// It may be absent or empty, and it may be left out; a value once there stays.
    fn once_set(&self, findings: &mut Findings) {
        let text = |value: &Value| value.pointer(self.pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (old, new) = (text(self.old), text(self.new));
        if !old.is_empty() && !new.is_empty() && old != new {
            findings.invalid(self.at, new, format!("this field cannot be changed from {old:?}"));
        }
    }
}

/// Of a Job only how it is run may change; the number of an indexed Job's completions together with its parallelism; and where its pods may run, as long as it is
/// suspended and has never run.
fn job(old: &Value, new: &Value, at: &At<'_>, findings: &mut Findings) {
    let value = |object: &Value, name: &str| object["spec"].get(name).filter(|value| !value.is_null()).cloned();
    let changed = |name: &str| value(old, name) != value(new, name);
    let mut fixed = vec!["selector", "completionMode", "podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "managedBy"];
    let elastic = new["spec"]["completionMode"] == "Indexed" && value(new, "completions") == value(new, "parallelism");
    if !elastic {
        fixed.push("completions");
    }
    for name in fixed.into_iter().filter(|name| changed(name)) {
        findings.invalid(&at.field(name), value(new, name).unwrap_or_default(), "field is immutable");
    }
    let waits = old["spec"]["suspend"] == true && old["status"]["startTime"].is_null();
    let template = |object: &Value| {
        let mut template = object["spec"]["template"].clone();
        if waits {
            for (part, names) in [("metadata", &["labels", "annotations"][..]), ("spec", &["nodeSelector", "tolerations", "schedulingGates", "affinity"][..])] {
                if let Some(map) = template.get_mut(part).and_then(Value::as_object_mut) {
                    names.iter().for_each(|name| drop(map.shift_remove(*name)));
                }
            }
            if template["metadata"].as_object().is_some_and(Map::is_empty) {
                template["metadata"] = Value::Null;
            }
        }
        template
    };
    if template(old) != template(new) {
        findings.invalid(&at.field("template"), "(the pods' template)", "field is immutable");
    }
}

/// Objects that were marked immutable stay so, and keep their data.
fn frozen(old: &Value, new: &Value, fields: &[&str], at: &At<'_>, findings: &mut Findings) {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    if new.get("immutable") != Some(&Value::Bool(true)) {
        findings.forbidden(&at.field("immutable"), "an immutable object stays immutable");
    }
    for name in fields {
        if old.get(*name) != new.get(*name) {
            findings.forbidden(&at.field(name), "the object is immutable");
        }
    }
}

fn service(old: &Value, new: &Value, at: &At<'_>, findings: &mut Findings) {
    let external = |value: &Value| value.pointer("/spec/type").is_some_and(|ty| ty == "ExternalName");
    if external(old) || external(new) {
        return;
    }
    let balanced = |value: &Value| value.pointer("/spec/type").is_some_and(|ty| ty == "LoadBalancer");
    if balanced(old) && balanced(new) {
        Fixed { old, new, at: &at.field("loadBalancerClass"), pointer: "/spec/loadBalancerClass" }.always(findings);
    }
    let at = at.field("clusterIP");
    let text = |value: &Value| value.pointer("/spec/clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (before, after) = (text(old), text(new));
    if !before.is_empty() && before != after {
        findings.invalid(&at, after, "this field cannot be changed once it is set");
    }
}

/// Of a pod's spec only images, deadlines, tolerations (more of them), scheduling gates (fewer) and a node (once) may change; ephemeral containers and
/// resources have subresources of their own.
fn pod(old: &Value, new: &Value, at: &At<'_>, findings: &mut Findings) {
    let (Some(old_spec), Some(new_spec)) = (old.get("spec").and_then(Value::as_object), new.get("spec").and_then(Value::as_object)) else { return };
    let (mut before, mut after) = (old_spec.clone(), new_spec.clone());
    let grew = |name: &str| {
        // How long something is tolerated may change.
        let list = |spec: &Map<String, Value>| {
            let mut list = spec.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
            for item in list.iter_mut().filter_map(Value::as_object_mut) {
                item.remove("tolerationSeconds");
            }
            list
        };
        let (before, after) = (list(old_spec), list(new_spec));
        before.iter().all(|item| after.contains(item))
    };
    if !grew("tolerations") {
        findings.forbidden(&at.field("tolerations"), "tolerations can only be added");
    }
    if old_spec.get("nodeName").and_then(Value::as_str).is_some_and(|name| !name.is_empty()) && old_spec.get("nodeName") != new_spec.get("nodeName") {
        findings.forbidden(&at.field("nodeName"), "a pod stays on its node");
    }
    let deadline = |spec: &Map<String, Value>| spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
    if let Some(before) = deadline(old_spec).filter(|before| deadline(new_spec).is_none_or(|after| after > *before)) {
        findings.invalid(&at.field("activeDeadlineSeconds"), deadline(new_spec), format!("can only get shorter than {before}"));
    }
    for spec in [&mut before, &mut after] {
        for name in ["activeDeadlineSeconds", "tolerations", "nodeName", "schedulingGates"] {
            spec.remove(name);
        }
        for list in ["containers", "initContainers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            containers.filter_map(Value::as_object_mut).for_each(|container| {
                container.remove("image");
            });
        }
    }
    let changed = before.keys().chain(after.keys()).find(|name| before.get(*name) != after.get(*name));
    if let Some(name) = changed {
        findings.forbidden(&at.field(name), "of a pod's spec only images, activeDeadlineSeconds and added tolerations can be changed");
    }
}
