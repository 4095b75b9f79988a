//! Pod specs: of pods and of templates.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Findings, child, container, items, names, number, placement, security, text};
use crate::path::At;

pub(super) fn spec(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let volumes = volumes(spec, at, findings);
    if spec.get("containers").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        findings.required(&at.field("containers"), "a pod needs at least one container");
    }
    container::lists(spec, &volumes, at, findings);
    one_of_given(findings, spec, at, "restartPolicy", &["Always", "OnFailure", "Never"]);
    one_of_given(findings, spec, at, "dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]);
    findings.not_negative(&at.field("terminationGracePeriodSeconds"), number(spec, "terminationGracePeriodSeconds"));
    if let Some(seconds) = number(spec, "activeDeadlineSeconds").filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds)) {
        findings.invalid(&at.field("activeDeadlineSeconds"), seconds, format!("must be between 1 and {}", i32::MAX));
    }
    for (name, check) in [
        ("hostname", names::dns_label as fn(&str) -> _),
        ("subdomain", names::dns_label),
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
    ] {
        if !text(spec, name).is_empty() {
            findings.check(&at.field(name), text(spec, name), check);
        }
    }
    let selector_at = at.field("nodeSelector");
    for (key, value) in child(spec, "nodeSelector").into_iter().flatten() {
        findings.check(&selector_at, key, names::qualified);
        findings.check(&selector_at.key(key), value.as_str().unwrap_or_default(), names::label_value);
    }
    placement::placement(spec, at, findings);
    security::pod(spec, at, findings);
    host_network(spec, at, findings);
}

fn one_of_given(findings: &mut Findings, map: &Map<String, Value>, at: &At<'_>, name: &str, allowed: &[&str]) {
    if !text(map, name).is_empty() {
        findings.one_of(&at.field(name), text(map, name), allowed);
    }
}

/// The names of the volumes, each of which must be unique and have one source.
fn volumes<'a>(spec: &'a Map<String, Value>, at: &At<'_>, findings: &mut Findings) -> BTreeSet<&'a str> {
    let mut known = BTreeSet::new();
    let list_at = at.field("volumes");
    for (index, volume) in items(spec, "volumes") {
        let at = list_at.index(index);
        let name = text(volume, "name");
        if name.is_empty() {
            findings.required(&at.field("name"), "");
        } else {
            findings.check(&at.field("name"), name, names::dns_label);
        }
        if !known.insert(name) {
            findings.duplicate(&at.field("name"), name);
        }
        let sources: Vec<&String> = volume.iter().filter(|(key, value)| *key != "name" && !value.is_null()).map(|(key, _)| key).collect();
        match sources[..] {
            [] => findings.required(&at, "a volume needs a source"),
            [source] => volume_source(source, volume, &at, findings),
            [first, second, ..] => findings.forbidden(&at.field(second), format!("the volume has a source already: {first}")),
        }
    }
    known
}

fn volume_source(source: &str, volume: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field(source);
    let Some(inner) = child(volume, source) else { return };
    let required = match source {
        "hostPath" => "path",
        "secret" => "secretName",
        "configMap" => "name",
        "persistentVolumeClaim" => "claimName",
        _ => "",
    };
    if !required.is_empty() && text(inner, required).is_empty() {
        findings.required(&at.field(required), "");
    }
    if source == "hostPath" && text(inner, "path").split('/').any(|part| part == "..") {
        findings.invalid(&at.field("path"), text(inner, "path"), "must not contain '..'");
    }
    if source == "hostPath" && !text(inner, "type").is_empty() {
        findings.one_of(&at.field("type"), text(inner, "type"), HOST_PATH_TYPES);
    }
    if source == "projected" {
        projected(inner, &at, findings);
    }
    if let Some(mode) = number(inner, "defaultMode").filter(|mode| !(0..=0o777).contains(mode)) {
        findings.invalid(&at.field("defaultMode"), mode, "must be a mode between 0 and 0777 (octal)");
    }
    let items_at = at.field("items");
    for (index, item) in items(inner, "items") {
        let at = items_at.index(index);
        inner_path(text(item, "path"), &at.field("path"), findings);
        if source == "downwardAPI" {
            container::fact(item, true, &at, findings);
        } else if matches!(source, "configMap" | "secret") && text(item, "key").is_empty() {
            findings.required(&at.field("key"), "");
        }
        if let Some(mode) = number(item, "mode").filter(|mode| !(0..=0o777).contains(mode)) {
            findings.invalid(&at.field("mode"), mode, "must be a mode between 0 and 0777 (octal)");
        }
    }
    if let Some(limit) = inner.get("sizeLimit").and_then(crate::quantity::of)
        && limit.is_negative()
    {
        findings.invalid(&at.field("sizeLimit"), limit.to_string(), "must not be negative");
    }
}

/// What a hostPath may have to be.
const HOST_PATH_TYPES: &[&str] = &["DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

/// A path inside of a volume.
fn inner_path(path: &str, at: &At<'_>, findings: &mut Findings) {
    if path.is_empty() {
        findings.required(at, "");
    } else if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        findings.invalid(at, path, "must be relative and without '..'");
    }
}

fn projected(inner: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let list_at = at.field("sources");
    for (index, source) in items(inner, "sources") {
        let at = list_at.index(index);
        for kind in ["configMap", "secret"] {
            if child(source, kind).is_some_and(|from| text(from, "name").is_empty()) {
                findings.required(&at.field(kind).field("name"), "");
            }
        }
        for kind in ["configMap", "secret", "downwardAPI"] {
            let at = at.field(kind);
            let list_at = at.field("items");
            for (index, item) in child(source, kind).into_iter().flat_map(|from| items(from, "items")) {
                let at = list_at.index(index);
                inner_path(text(item, "path"), &at.field("path"), findings);
                if kind == "downwardAPI" {
                    container::fact(item, true, &at, findings);
                } else if text(item, "key").is_empty() {
                    findings.required(&at.field("key"), "");
                }
            }
        }
        if let Some(token) = child(source, "serviceAccountToken") {
            let at = at.field("serviceAccountToken");
            inner_path(text(token, "path"), &at.field("path"), findings);
            if let Some(seconds) = number(token, "expirationSeconds").filter(|seconds| !(600..=1 << 32).contains(seconds)) {
                findings.invalid(&at.field("expirationSeconds"), seconds, "must be at least 600 (10 minutes) and at most 2^32");
            }
        }
    }
}

/// On the host's network a container's port is the host's port.
fn host_network(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    if !spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false) {
        return;
    }
    let list_at = at.field("containers");
    for (index, container) in items(spec, "containers") {
        let ports_at = list_at.index(index);
        let ports_at = ports_at.field("ports");
        for (index, port) in items(container, "ports") {
            let (inside, outside) = (number(port, "containerPort"), number(port, "hostPort").unwrap_or(0));
            if outside != 0 && inside != Some(outside) {
                findings.invalid(&ports_at.index(index).field("hostPort"), outside, "must equal containerPort on the host's network");
            }
        }
    }
}

/// Taints of a node.
pub(super) fn taints(spec: Option<&Map<String, Value>>, at: &At<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    let list_at = at.field("taints");
    for (index, taint) in spec.into_iter().flat_map(|spec| items(spec, "taints")) {
        let at = list_at.index(index);
        findings.check(&at.field("key"), text(taint, "key"), names::qualified);
        findings.check(&at.field("value"), text(taint, "value"), names::label_value);
        findings.one_of(&at.field("effect"), text(taint, "effect"), &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        if !seen.insert((text(taint, "key"), text(taint, "effect"))) {
            findings.duplicate(&at, Value::Object(taint.clone()));
        }
    }
}
