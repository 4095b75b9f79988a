//! Containers: names, images, ports, environment, mounts, resources.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Findings, Reason, child, items, names, number, probe, security, text};
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
            pauses(container, number(spec, "terminationGracePeriodSeconds"), &at, findings);
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
    resizing(container, at, findings);
    security::container(container, at, findings);
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

/// A hook that sleeps ends before the pod is killed.
fn pauses(container: &Map<String, Value>, grace: Option<i64>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("lifecycle");
    for hook in ["postStart", "preStop"] {
        let sleep = child(container, "lifecycle").and_then(|lifecycle| child(child(lifecycle, hook)?, "sleep"));
        let Some((sleep, grace)) = sleep.zip(grace) else { continue };
        let seconds = number(sleep, "seconds").unwrap_or(0);
        if !(0..=grace).contains(&seconds) {
            findings.invalid(&at.field(hook).field("sleep"), seconds, format!("must be between 0 and terminationGracePeriodSeconds ({grace})"));
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
        for kind in ["configMapRef", "secretRef"] {
            let Some(named) = child(from, kind) else { continue };
            match text(named, "name") {
                "" => findings.required(&at.field(kind).field("name"), ""),
                name => findings.check(&at.field(kind).field("name"), name, names::dns_subdomain),
            }
        }
    }
}

fn key_source(source: &str, from: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field(source);
    let Some(inner) = child(from, source) else { return };
    match source {
        "configMapKeyRef" | "secretKeyRef" => {
            findings.check(&at.field("name"), text(inner, "name"), names::dns_subdomain);
            match text(inner, "key") {
                "" => findings.required(&at.field("key"), ""),
                key => findings.check(&at.field("key"), key, names::config_key),
            }
        }
        "fieldRef" => field_path(text(inner, "fieldPath"), PATHS, &at.field("fieldPath"), findings),
        "resourceFieldRef" => amount_of(inner, false, &at, findings),
        _ => {}
    }
}

/// What a file of a downward API volume holds: a field of the pod, or an amount that a container has.
pub(super) fn fact(item: &Map<String, Value>, in_volume: bool, at: &At<'_>, findings: &mut Findings) {
    let (field, amount) = (child(item, "fieldRef"), child(item, "resourceFieldRef"));
    match (field, amount) {
        (None, None) => findings.required(at, "one of fieldRef and resourceFieldRef must be given"),
        (Some(_), Some(_)) => findings.invalid(at, "resource", "fieldRef and resourceFieldRef cannot both be given"),
        (Some(field), None) => field_path(text(field, "fieldPath"), &PATHS[..3], &at.field("fieldRef").field("fieldPath"), findings),
        (None, Some(amount)) => amount_of(amount, in_volume, &at.field("resourceFieldRef"), findings),
    }
}

/// A `resourceFieldRef`. In a volume it must say whose amount it is.
fn amount_of(inner: &Map<String, Value>, in_volume: bool, at: &At<'_>, findings: &mut Findings) {
    const AMOUNTS: &[&str] = &["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];
    const STEPS: &[&str] = &["0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let resource = text(inner, "resource");
    if in_volume && text(inner, "containerName").is_empty() {
        findings.required(&at.field("containerName"), "");
    }
    if resource.is_empty() {
        return findings.required(&at.field("resource"), "");
    }
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.starts_with(prefix));
    if !huge && !AMOUNTS.contains(&resource) {
        return findings.one_of(&at.field("resource"), resource, AMOUNTS);
    }
    let divisor = inner.get("divisor").and_then(quantity::canonical).unwrap_or_else(|| "0".to_owned());
    let allowed = if resource.ends_with(".cpu") { &["0", "1m", "1"][..] } else { STEPS };
    if !allowed.contains(&divisor.as_str()) {
        findings.invalid(&at.field("divisor"), divisor, format!("of {resource} expected one of {}", allowed[1..].join(", ")));
    }
}

/// The fields of a pod that its containers can see; files can have the first three.
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

fn field_path(path: &str, paths: &[&str], at: &At<'_>, findings: &mut Findings) {
    let file = paths.len() < PATHS.len();
    let keyed = ["metadata.labels['", "metadata.annotations['"].iter().any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.ends_with("']")));
    let whole = file && matches!(path, "metadata.labels" | "metadata.annotations");
    if path.is_empty() {
        findings.required(at, "");
    } else if !keyed && !whole && !paths.contains(&path) {
        // A field that there is, but not here, is another mistake than one that there is not.
        if PATHS.contains(&path) {
            findings.one_of(at, path, paths);
        } else {
            let near = strake_source::nearest(path, paths.iter().copied()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            findings.invalid(at, path, format!("expected one of {}{near}", paths.join(", ")));
        }
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
            findings.add(&at.field("name"), Reason::NotFound, Some(name.into()), format!("the pod has no volume of this name{near}"));
        }
        if path.is_empty() {
            findings.required(&at.field("mountPath"), "");
        } else if path.contains(':') {
            findings.invalid(&at.field("mountPath"), path, "must not contain ':'");
        } else if !seen.insert(path) {
            findings.invalid(&at.field("mountPath"), path, "another mount has the same path");
        }
        for field in ["subPath", "subPathExpr"] {
            let sub = text(mount, field);
            if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
                findings.invalid(&at.field(field), sub, "must be relative and without '..'");
            }
        }
        given(findings, mount, &at, "mountPropagation", &["None", "HostToContainer", "Bidirectional"]);
    }
}

/// What becomes of a container whose resources change.
fn resizing(container: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    let at = at.field("resizePolicy");
    for (index, policy) in items(container, "resizePolicy") {
        let resource = text(policy, "resourceName");
        if !seen.insert(resource) {
            findings.duplicate(&at.index(index), resource);
        }
        findings.one_of(&at, resource, &["cpu", "memory"]);
        findings.one_of(&at, text(policy, "restartPolicy"), &["NotRequired", "RestartContainer"]);
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
