//! Metadata, and the kinds that are little more than data.

use serde_json::{Map, Value};

use super::{Findings, child, items, names, number, text};
use crate::KindInfo;
use crate::path::At;

/// All annotations together: 256 KiB.
const ANNOTATIONS_MAX: usize = 256 * 1024;
/// All data of a ConfigMap or Secret: 1 MiB.
const DATA_MAX: usize = 1024 * 1024;

pub(super) fn metadata(root: &Map<String, Value>, kind: &KindInfo, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("metadata");
    let empty = Map::new();
    let metadata = child(root, "metadata").unwrap_or(&empty);
    name(metadata, kind, &at, findings);
    namespace(metadata, kind, &at, findings);
    labels(metadata, &at, findings);
    annotations(metadata, &at, findings);
    let finalizers = metadata.get("finalizers").and_then(Value::as_array).into_iter().flatten();
    for (index, finalizer) in finalizers.enumerate() {
        findings.check(
            &at.field("finalizers").index(index),
            finalizer.as_str().unwrap_or_default(),
            if kind.is_custom() { names::qualified } else { names::finalizer },
        );
    }
    owners(metadata, &at, findings);
}

fn name(metadata: &Map<String, Value>, kind: &KindInfo, at: &At<'_>, findings: &mut Findings) {
    let check = match (kind.group, kind.kind) {
        ("", "Namespace") => names::dns_label,
        ("", "Service") => names::dns_label_1035,
        // Events are named after what they are about, and of these names nothing more is asked than that a path can hold them.
        ("rbac.authorization.k8s.io", _) | ("" | "events.k8s.io", "Event") | ("policy", "PodDisruptionBudget") => path_segment,
        _ => names::dns_subdomain,
    };
    match (text(metadata, "name"), text(metadata, "generateName")) {
        ("", "") => findings.required(&at.field("name"), "name or generateName must be given"),
        ("", prefix) => {
            // What is appended ends in letters and digits, so a prefix may end in '-' or '.'.
            let sample = format!("{prefix}a");
            if let Err(message) = check(&sample) {
                findings.invalid(&at.field("generateName"), prefix, message);
            }
        }
        (name, _) => findings.check(&at.field("name"), name, check),
    }
}

fn path_segment(name: &str) -> Result<(), String> {
    if matches!(name, "." | "..") || name.contains('/') || name.contains('%') {
        Err("must be one segment of a path, without '/' and '%'".to_owned())
    } else {
        Ok(())
    }
}

fn namespace(metadata: &Map<String, Value>, kind: &KindInfo, at: &At<'_>, findings: &mut Findings) {
    match (kind.namespaced, text(metadata, "namespace")) {
        (true, "") => findings.required(&at.field("namespace"), format!("{} lives in a namespace", kind.kind)),
        (true, name) => findings.check(&at.field("namespace"), name, names::dns_label),
        (false, "") => {}
        (false, _) => findings.forbidden(&at.field("namespace"), format!("{} does not live in a namespace", kind.kind)),
    }
}

pub(super) fn labels(metadata: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("labels");
    for (key, value) in child(metadata, "labels").into_iter().flatten() {
        findings.check(&at, key, names::qualified);
        findings.check(&at.key(key), value.as_str().unwrap_or_default(), names::label_value);
    }
}

pub(super) fn annotations(metadata: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("annotations");
    let mut size = 0;
    for (key, value) in child(metadata, "annotations").into_iter().flatten() {
        size += key.len() + value.as_str().unwrap_or_default().len();
        findings.check(&at, &key.to_lowercase(), names::qualified);
    }
    if size > ANNOTATIONS_MAX {
        findings.too_long(&at, format!("annotations hold {size} bytes; at most {ANNOTATIONS_MAX} are possible"));
    }
}

fn owners(metadata: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("ownerReferences");
    let mut controller = None;
    for (index, owner) in items(metadata, "ownerReferences") {
        let at = at.index(index);
        for name in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, name).is_empty() {
                findings.required(&at.field(name), "");
            }
        }
        if owner.get("controller").and_then(Value::as_bool).unwrap_or(false) {
            if controller.is_some() {
                findings.invalid(&at.field("controller"), true, "another owner is the controller already");
            }
            controller = Some(index);
        }
    }
}

pub(super) fn config_map(root: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        size += data(root, field, at, findings);
    }
    let binary = child(root, "binaryData");
    for key in child(root, "data").into_iter().flat_map(Map::keys) {
        if binary.is_some_and(|binary| binary.contains_key(key)) {
            findings.duplicate(&at.field("data").key(key), key.as_str());
        }
    }
    if size > DATA_MAX {
        findings.too_long(at, format!("the data holds {size} bytes; at most {DATA_MAX} are possible"));
    }
}

fn data(root: &Map<String, Value>, field: &str, at: &At<'_>, findings: &mut Findings) -> usize {
    let at = at.field(field);
    let mut size = 0;
    for (key, value) in child(root, field).into_iter().flatten() {
        findings.check(&at.key(key), key, names::config_key);
        size += value.as_str().unwrap_or_default().len();
    }
    size
}

/// Types of Secrets with the keys that they must have.
const SECRET_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
];

pub(super) fn secret(root: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let size = data(root, "data", at, findings);
    if size / 4 * 3 > DATA_MAX {
        findings.too_long(&at.field("data"), format!("at most {DATA_MAX} bytes are possible"));
    }
    let ty = text(root, "type");
    let at = at.field("data");
    let has = |key: &str| child(root, "data").is_some_and(|data| data.contains_key(key));
    for key in SECRET_KEYS.iter().filter(|(name, _)| *name == ty).flat_map(|(_, keys)| *keys) {
        if !has(key) {
            findings.required(&at.key(key), format!("a Secret of type {ty} must have it"));
        }
    }
    secret_json(root, ty, &at, findings);
    if ty == "kubernetes.io/basic-auth" && !has("username") && !has("password") {
        findings.required(&at, "a Secret of type kubernetes.io/basic-auth must have username or password");
    }
}

/// The types of Secrets that hold JSON, with its key.
const SECRET_JSON: [(&str, &str); 2] = [("kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("kubernetes.io/dockercfg", ".dockercfg")];

/// What is not JSON where JSON is promised. What it says is not shown.
fn secret_json(root: &Map<String, Value>, ty: &str, at: &At<'_>, findings: &mut Findings) {
    use base64::Engine as _;
    for (_, key) in SECRET_JSON.iter().filter(|(name, _)| *name == ty) {
        let Some(encoded) = child(root, "data").and_then(|data| data.get(*key)?.as_str()) else { continue };
        let clean: Vec<u8> = encoded.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(clean).unwrap_or_default();
        if serde_json::from_slice::<Map<String, Value>>(&bytes).is_err() {
            findings.invalid(&at.key(key), "<secret contents redacted>", "must be a JSON object");
        }
    }
}

pub(super) fn event(root: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let namespace = child(root, "metadata").map(|metadata| text(metadata, "namespace")).unwrap_or_default();
    let involved = child(root, "involvedObject").map(|object| text(object, "namespace")).unwrap_or_default();
    let fits = if involved.is_empty() { matches!(namespace, "default" | "kube-system") } else { involved == namespace };
    if !fits {
        findings.invalid(
            &at.field("involvedObject").field("namespace"),
            involved,
            "an event lives in the namespace of its object (default for objects without one)",
        );
    }
}

pub(super) fn lease(spec: Option<&Map<String, Value>>, at: &At<'_>, findings: &mut Findings) {
    let Some(spec) = spec else { return };
    if let Some(seconds) = number(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        findings.invalid(&at.field("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    findings.not_negative(&at.field("leaseTransitions"), number(spec, "leaseTransitions"));
}
