//! Where the fields were written that are most often at fault when pods do not run: a failed rollout is told with them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use strake_source::Sources;

use crate::Manifest;

/// Of the pod.
const POD: [&str; 4] = ["nodeSelector", "affinity", "tolerations", "serviceAccountName"];
/// Of each container; the empty one is the container itself.
const CONTAINER: [&str; 12] = [
    "",
    "/image",
    "/command",
    "/args",
    "/ports",
    "/securityContext",
    "/resources",
    "/resources/requests",
    "/resources/limits/memory",
    "/livenessProbe",
    "/readinessProbe",
    "/startupProbe",
];

/// `file:line` by JSON pointer.
pub(crate) fn places(sources: &Sources, manifest: &Manifest) -> BTreeMap<String, String> {
    let mut pointers: Vec<String> = Vec::new();
    if let Some(pod) = manifest.pod_pointer() {
        pointers.extend(POD.iter().map(|field| format!("{pod}/{field}")));
    }
    for (container, spec) in manifest.containers() {
        pointers.extend(CONTAINER.iter().map(|field| format!("{container}{field}")));
        pointers.extend(configuration(&container, spec));
    }
    let place = |pointer: String| {
        let span = manifest.node.key_span_at(&pointer)?;
        let file = sources.get(span.file);
        Some((pointer, format!("{}:{}", file.name, file.line_column(span.start).line)))
    };
    pointers.into_iter().filter_map(place).collect()
}

/// Where a container's environment names ConfigMaps and Secrets.
fn configuration(container: &str, spec: &Map<String, Value>) -> Vec<String> {
    let length = |name: &str| spec.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    let single = (0..length("env")).flat_map(|place| ["configMapKeyRef", "secretKeyRef"].map(|kind| format!("{container}/env/{place}/valueFrom/{kind}/name")));
    let whole = (0..length("envFrom")).flat_map(|place| ["configMapRef", "secretRef"].map(|kind| format!("{container}/envFrom/{place}/{kind}/name")));
    single.chain(whole).collect()
}
