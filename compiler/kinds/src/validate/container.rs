//! Containers: names, images, ports, environment, mounts, resources.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Findings, child, items, names, number, probe, text};
use crate::path::At;
use crate::quantity;

/// The three lists of a pod's containers.
pub(super) fn lists(spec: &Map<String, Value>, volumes: &BTreeSet<&str>, at: &At<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let list_at = at.field(list);
        for (index, container) in items(spec, list) {
            let at = list_at.index(index);
            let name = text(container, "name");
            if name.is_empty() {
                findings.required(&at.field("name"), "");
            } else {
                findings.check(&at.field("name"), name, names::dns_label);
                if !seen.insert(name) {
                    findings.duplicate(&at.field("name"), name);
                }
            }
            one(container, list, volumes, &at, findings);
            self::host_ports(container, &mut host_ports, &at, findings);
        }
    }
}

fn one(container: &Map<String, Value>, list: &str, volumes: &BTreeSet<&str>, at: &At<'_>, findings: &mut Findings) {
    image(container, at, findings);
    ports(container, at, findings);
    environment(container, at, findings);
    mounts(container, volumes, at, findings);
    resources(container, at, findings);
    given(findings, container, at, "imagePullPolicy", &["Always", "IfNotPresent", "Never"]);
    given(findings, container, at, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]);
    let restart = text(container, "restartPolicy");
    if list == "initContainers" {
        given(findings, container, at, "restartPolicy", &["Always"]);
    } else if !restart.is_empty() {
        findings.forbidden(&at.field("restartPolicy"), "only init containers can have their own");
    }
    let runs_beside = list == "containers" || restart == "Always";
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(inner) = child(container, name) else { continue };
        if runs_beside {
            probe::probe(inner, name, &at.field(name), findings);
        } else {
            findings.forbidden(&at.field(name), "a container that runs to its end has no probes");
        }
    }
    let lifecycle_at = at.field("lifecycle");
    for hook in ["postStart", "preStop"] {
        if let Some(inner) = child(container, "lifecycle").and_then(|lifecycle| child(lifecycle, hook)) {
            probe::handler(inner, &["exec", "httpGet", "sleep", "tcpSocket"], &lifecycle_at.field(hook), findings);
        }
    }
}

fn given(findings: &mut Findings, map: &Map<String, Value>, at: &At<'_>, name: &str, allowed: &[&str]) {
    if !text(map, name).is_empty() {
        findings.one_of(&at.field(name), text(map, name), allowed);
    }
}

fn image(container: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let image = text(container, "image");
    if image.is_empty() {
        findings.required(&at.field("image"), "");
    } else if image.trim() != image {
        findings.invalid(&at.field("image"), image, "must not start or end with blanks");
    }
}

fn ports(container: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    let list_at = at.field("ports");
    for (index, port) in items(container, "ports") {
        let at = list_at.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            findings.check(&at.field("name"), name, names::port_name);
            if !seen.insert(name) {
                findings.duplicate(&at.field("name"), name);
            }
        }
        match number(port, "containerPort") {
            None => findings.required(&at.field("containerPort"), ""),
            Some(number) => port_number(number, &at.field("containerPort"), findings),
        }
        if let Some(number) = number(port, "hostPort").filter(|number| *number != 0) {
            port_number(number, &at.field("hostPort"), findings);
        }
        findings.one_of(&at.field("protocol"), text(port, "protocol"), &["TCP", "UDP", "SCTP"]);
    }
}

/// 1 to 65535.
pub(super) fn port_number(number: i64, at: &At<'_>, findings: &mut Findings) {
    if !(1..=65_535).contains(&number) {
        findings.invalid(at, number, "must be between 1 and 65535");
    }
}

fn host_ports<'a>(container: &'a Map<String, Value>, seen: &mut BTreeSet<(&'a str, &'a str, i64)>, at: &At<'_>, findings: &mut Findings) {
    let list_at = at.field("ports");
    for (index, port) in items(container, "ports") {
        let Some(number) = number(port, "hostPort").filter(|number| *number != 0) else { continue };
        if !seen.insert((text(port, "protocol"), text(port, "hostIP"), number)) {
            findings.duplicate(&list_at.index(index).field("hostPort"), number);
        }
    }
}

fn environment(container: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let list_at = at.field("env");
    for (index, variable) in items(container, "env") {
        let at = list_at.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            findings.required(&at.field("name"), "");
        } else {
            findings.check(&at.field("name"), name, names::env_name);
        }
        if let Some(from) = child(variable, "valueFrom") {
            let at = at.field("valueFrom");
            let sources: Vec<&String> = from.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key).collect();
            if !text(variable, "value").is_empty() {
                findings.invalid(&at, "", "a variable has a value or a source of its value, not both");
            }
            match sources[..] {
                [] => findings.required(&at, "one of configMapKeyRef, fieldRef, resourceFieldRef, secretKeyRef must be given"),
                [source] => key_source(source, from, &at, findings),
                _ => findings.invalid(&at, Value::Object(from.clone()), "only one source can be given"),
            }
        }
    }
    let list_at = at.field("envFrom");
    for (index, from) in items(container, "envFrom") {
        let at = list_at.index(index);
        let given = ["configMapRef", "secretRef"].into_iter().filter(|name| child(from, name).is_some()).count();
        if given != 1 {
            findings.invalid(&at, Value::Object(from.clone()), "one of configMapRef and secretRef must be given");
        }
    }
}

fn key_source(source: &str, from: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field(source);
    let Some(inner) = child(from, source) else { return };
    let required: &[&str] = match source {
        "configMapKeyRef" | "secretKeyRef" => &["name", "key"],
        "fieldRef" => &["fieldPath"],
        "resourceFieldRef" => &["resource"],
        _ => &[],
    };
    for name in required {
        if text(inner, name).is_empty() {
            findings.required(&at.field(name), "");
        }
    }
    if source == "fieldRef" {
        field_path(text(inner, "fieldPath"), &at.field("fieldPath"), findings);
    }
}

/// The fields of a pod that its containers can see.
fn field_path(path: &str, at: &At<'_>, findings: &mut Findings) {
    const PATHS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let keyed = ["metadata.labels['", "metadata.annotations['"].iter().any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.ends_with("']")));
    if !path.is_empty() && !keyed {
        findings.one_of(at, path, PATHS);
    }
}

fn mounts(container: &Map<String, Value>, volumes: &BTreeSet<&str>, at: &At<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    let list_at = at.field("volumeMounts");
    for (index, mount) in items(container, "volumeMounts") {
        let at = list_at.index(index);
        let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            findings.required(&at.field("name"), "");
        } else if !volumes.contains(name) {
            let near = strake_source::nearest(name, volumes.iter().copied()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            findings.invalid(&at.field("name"), name, format!("the pod has no volume of this name{near}"));
        }
        if path.is_empty() {
            findings.required(&at.field("mountPath"), "");
        } else if path.contains(':') {
            findings.invalid(&at.field("mountPath"), path, "must not contain ':'");
        } else if !seen.insert(path) {
            findings.invalid(&at.field("mountPath"), path, "another mount has the same path");
        }
        let sub = text(mount, "subPath");
        if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
            findings.invalid(&at.field("subPath"), sub, "must be relative and without '..'");
        }
        given(findings, mount, &at, "mountPropagation", &["None", "HostToContainer", "Bidirectional"]);
    }
}

fn resources(container: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("resources");
    let Some(resources) = child(container, "resources") else { return };
    let limits = child(resources, "limits");
    for kind in ["limits", "requests"] {
        let at = at.field(kind);
        for (name, value) in child(resources, kind).into_iter().flatten() {
            findings.check(&at, name, names::qualified);
            let at = at.key(name);
            match quantity::of(value) {
                None => findings.invalid(&at, value.clone(), "must be a quantity such as 500m or 1Gi"),
                Some(amount) if amount.is_negative() => findings.invalid(&at, value.clone(), "must not be negative"),
                Some(amount) if kind == "requests" => {
                    let limit = limits.and_then(|limits| limits.get(name)).and_then(quantity::of);
                    if let Some(limit) = limit.filter(|limit| amount > *limit) {
                        findings.invalid(&at, value.clone(), format!("must be no more than the limit of {limit}"));
                    }
                }
                Some(_) => {}
            }
        }
    }
}
