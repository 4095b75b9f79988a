//! Defaults of pods and pod templates.

use serde_json::{Map, Value, json};
use strake_words::{Quantity, Reference};

use super::{fill, fill_object, fill_zero, object, objects, text};

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A pod: what a template gets, and what is decided only when a pod is made from it.
pub(super) fn pod(root: &mut Map<String, Value>) {
    let inner = fill_object(root, "spec");
    spec(inner);
    fill(inner, "enableServiceLinks", true);
    // In a template they are left as they are written.
    if inner.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false) {
        for list in CONTAINER_LISTS {
            objects(inner, list).for_each(host_ports);
        }
    }
    for list in ["initContainers", "containers"] {
        objects(inner, list).for_each(requests_from_limits);
    }
    let class = qos_class(inner);
    let status = fill_object(root, "status");
    fill_zero(status, "phase", "Pending");
    fill_zero(status, "qosClass", class);
}

/// On the host's network a container's port is the host's.
fn host_ports(container: &mut Map<String, Value>) {
    for port in objects(container, "ports") {
        if let Some(number) = port.get("containerPort").cloned() {
            fill_zero(port, "hostPort", number);
        }
    }
}

/// The spec of a pod or of a template.
pub(super) fn spec(spec: &mut Map<String, Value>) {
    fill_zero(spec, "dnsPolicy", "ClusterFirst");
    fill_zero(spec, "restartPolicy", "Always");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_zero(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    objects(spec, "volumes").for_each(volume);
    for list in CONTAINER_LISTS {
        objects(spec, list).for_each(container);
    }
}

/// The old and the new name of the field are kept equal.
fn service_account(spec: &mut Map<String, Value>) {
    let name = text(spec, "serviceAccountName").to_owned();
    let old = text(spec, "serviceAccount").to_owned();
    if !name.is_empty() {
        spec.insert("serviceAccount".to_owned(), name.into());
    } else if !old.is_empty() {
        spec.insert("serviceAccountName".to_owned(), old.into());
    }
}

fn container(container: &mut Map<String, Value>) {
    let policy = pull_policy(text(container, "image"));
    fill_zero(container, "imagePullPolicy", policy);
    fill_zero(container, "terminationMessagePath", "/dev/termination-log");
    fill_zero(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    for port in objects(container, "ports") {
        fill_zero(port, "protocol", "TCP");
    }
    for variable in objects(container, "env") {
        if let Some(field) = object(variable, "valueFrom").and_then(|from| object(from, "fieldRef")) {
            fill_zero(field, "apiVersion", "v1");
        }
        if let Some(amount) = object(variable, "valueFrom").and_then(|from| object(from, "resourceFieldRef")) {
            fill(amount, "divisor", "0");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(container, name) {
            fill_zero(probe, "timeoutSeconds", 1);
            fill_zero(probe, "periodSeconds", 10);
            fill_zero(probe, "successThreshold", 1);
            fill_zero(probe, "failureThreshold", 3);
            handler(probe);
        }
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(hook) = object(lifecycle, name) {
                handler(hook);
            }
        }
    }
}

fn handler(holder: &mut Map<String, Value>) {
    if let Some(http) = object(holder, "httpGet") {
        fill_zero(http, "path", "/");
        fill_zero(http, "scheme", "HTTP");
    }
    if let Some(sleep) = object(holder, "sleep") {
        fill(sleep, "seconds", 0);
    }
    if let Some(grpc) = object(holder, "grpc") {
        fill(grpc, "service", "");
    }
}

/// An image that can move (no tag, or `latest`) is looked up each time.
fn pull_policy(image: &str) -> &'static str {
    // Most have a tag. Whatever else is right or wrong about them, theirs is not `latest`.
    let last = image.rsplit('/').next().unwrap_or_default();
    if last.contains(':') && !image.contains('@') && !last.ends_with(":latest") {
        return "IfNotPresent";
    }
    match Reference::parse(image) {
        Ok(reference) if reference.tag.as_deref() == Some("latest") => "Always",
        Ok(reference) if reference.tag.is_none() && reference.digest.is_none() => "Always",
        _ => "IfNotPresent",
    }
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.iter().all(|(name, value)| name == "name" || value.is_null()) {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object(volume, kind) {
            fill(source, "defaultMode", 0o644);
            downward_items(source);
        }
    }
    if let Some(projected) = object(volume, "projected") {
        for source in objects(projected, "sources") {
            if let Some(token) = object(source, "serviceAccountToken") {
                fill(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = object(source, "downwardAPI") {
                downward_items(downward);
            }
        }
    }
    if let Some(host) = object(volume, "hostPath") {
        fill(host, "type", "");
    }
}

fn downward_items(source: &mut Map<String, Value>) {
    for item in objects(source, "items") {
        if let Some(field) = object(item, "fieldRef") {
            fill_zero(field, "apiVersion", "v1");
        }
        if let Some(amount) = object(item, "resourceFieldRef") {
            fill(amount, "divisor", "0");
        }
    }
}

/// A limit without a request is a request too.
fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(resources) = object(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|limits| !limits.is_empty()).cloned() else { return };
    let requests = fill_object(resources, "requests");
    for (name, amount) in limits {
        fill(requests, &name, amount);
    }
}

/// The quality of service class of a pod's spec: `Guaranteed` when each container limits CPU and memory to what it requests, `BestEffort` when none
/// asks for either, else `Burstable`.
pub fn qos_class(spec: &Map<String, Value>) -> &'static str {
    let lists = ["initContainers", "containers"].into_iter().filter_map(|name| spec.get(name)?.as_array());
    let (mut any, mut all) = (false, true);
    for container in lists.flatten() {
        for resource in ["cpu", "memory"] {
            let amount = |kind: &str| container.get("resources").and_then(|it| it.get(kind)?.get(resource)).and_then(crate::quantity::of);
            let present = |amount: &Option<Quantity>| amount.is_some_and(|amount| !amount.is_zero());
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= present(&request) || present(&limit);
            all &= present(&limit) && (request.is_none() || request == limit);
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
