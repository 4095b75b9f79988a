//! Field specifications: the places in objects that a transformation writes. The tables hold kustomize's own defaults.

use strake_source::Span;
use strake_yaml::{Kind, Node};

use crate::edit::{child, get_mut, items_mut};

/// A place in objects of some kinds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// API group; empty is any.
    pub(crate) group: &'static str,
    /// Kind; empty is any.
    pub(crate) kind: &'static str,
    /// Keys, `/` between; lists on the way are entered.
    pub(crate) path: &'static str,
    /// Mappings on the way are made where they are missing.
    pub(crate) create: bool,
}

const fn place(group: &'static str, kind: &'static str, path: &'static str, create: bool) -> Place {
    Place { group, kind, path, create }
}

impl Place {
    /// Whether an object has this place.
    pub(crate) fn of(&self, group: &str, kind: &str) -> bool {
        (self.group.is_empty() || self.group == group) && (self.kind.is_empty() || self.kind == kind)
    }
}

/// Calls `change` with every value at the path.
pub(crate) fn visit(node: &mut Node, path: &str, create: Option<Span>, change: &mut dyn FnMut(&mut Node)) {
    if let Some(items) = items_mut(node) {
        return items.iter_mut().for_each(|item| visit(item, path, create, change));
    }
    if path.is_empty() {
        return change(node);
    }
    let (key, rest) = first(path);
    let found = match create {
        Some(span) if matches!(node.kind, Kind::Mapping(_)) => child(node, &key, span),
        _ => get_mut(node, &key),
    };
    if let Some(found) = found {
        visit(found, rest, create, change);
    }
}

/// The first key, with `\/` read as `/`, and the rest.
fn first(path: &str) -> (String, &str) {
    let bytes = path.as_bytes();
    let end = (0..bytes.len()).find(|at| bytes[*at] == b'/' && (*at == 0 || bytes[at - 1] != b'\\'));
    let (key, rest) = end.map_or((path, ""), |end| (&path[..end], &path[end + 1..]));
    (key.replace("\\/", "/"), rest)
}

/// `metadata/labels` of objects and of the pods they make.
pub(crate) const TEMPLATE_LABELS: &[Place] = &[
    place("", "ReplicationController", "spec/template/metadata/labels", true),
    place("", "Deployment", "spec/template/metadata/labels", true),
    place("", "ReplicaSet", "spec/template/metadata/labels", true),
    place("", "DaemonSet", "spec/template/metadata/labels", true),
    place("apps", "StatefulSet", "spec/template/metadata/labels", true),
    place("batch", "Job", "spec/template/metadata/labels", true),
    place("batch", "CronJob", "spec/jobTemplate/metadata/labels", true),
    place("batch", "CronJob", "spec/jobTemplate/spec/template/metadata/labels", true),
];

/// Labels of the claims of a StatefulSet.
pub(crate) const CLAIM_LABELS: &[Place] = &[place("apps", "StatefulSet", "spec/volumeClaimTemplates/metadata/labels", true)];

/// Where everything has its labels.
pub(crate) const LABELS: &[Place] = &[place("", "", "metadata/labels", true)];

const AFFINITY: [&str; 5] = [
    "spec/template/spec/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
    "spec/template/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
    "spec/template/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
    "spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
    "spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels",
];

/// Selectors that follow the labels of the pods.
pub(crate) const SELECTORS: &[Place] = &[
    place("", "Service", "spec/selector", true),
    place("", "ReplicationController", "spec/selector", true),
    place("", "Deployment", "spec/selector/matchLabels", true),
    place("", "ReplicaSet", "spec/selector/matchLabels", true),
    place("", "DaemonSet", "spec/selector/matchLabels", true),
    place("apps", "StatefulSet", "spec/selector/matchLabels", true),
    place("apps", "Deployment", AFFINITY[0], false),
    place("apps", "Deployment", AFFINITY[1], false),
    place("apps", "Deployment", AFFINITY[2], false),
    place("apps", "Deployment", AFFINITY[3], false),
    place("apps", "Deployment", AFFINITY[4], false),
    place("apps", "StatefulSet", AFFINITY[0], false),
    place("apps", "StatefulSet", AFFINITY[1], false),
    place("apps", "StatefulSet", AFFINITY[2], false),
    place("apps", "StatefulSet", AFFINITY[3], false),
    place("apps", "StatefulSet", AFFINITY[4], false),
    place("batch", "Job", "spec/selector/matchLabels", false),
    place("batch", "CronJob", "spec/jobTemplate/spec/selector/matchLabels", false),
    place("policy", "PodDisruptionBudget", "spec/selector/matchLabels", false),
    place("networking.k8s.io", "NetworkPolicy", "spec/podSelector/matchLabels", false),
    place("networking.k8s.io", "NetworkPolicy", "spec/ingress/from/podSelector/matchLabels", false),
    place("networking.k8s.io", "NetworkPolicy", "spec/egress/to/podSelector/matchLabels", false),
];

/// Where annotations go.
pub(crate) const ANNOTATIONS: &[Place] = &[
    place("", "", "metadata/annotations", true),
    place("", "ReplicationController", "spec/template/metadata/annotations", true),
    place("", "Deployment", "spec/template/metadata/annotations", true),
    place("", "ReplicaSet", "spec/template/metadata/annotations", true),
    place("", "DaemonSet", "spec/template/metadata/annotations", true),
    place("", "StatefulSet", "spec/template/metadata/annotations", true),
    place("batch", "Job", "spec/template/metadata/annotations", true),
    place("batch", "CronJob", "spec/jobTemplate/metadata/annotations", true),
    place("batch", "CronJob", "spec/jobTemplate/spec/template/metadata/annotations", true),
];

/// Namespaces that are not `metadata/namespace`.
pub(crate) const NAMESPACES: &[Place] = &[
    place("apiregistration.k8s.io", "APIService", "spec/service/namespace", true),
    place("apiextensions.k8s.io", "CustomResourceDefinition", "spec/conversion/webhook/clientConfig/service/namespace", false),
];

/// The kinds that `replicas` sets.
pub(crate) const REPLICATED: [&str; 4] = ["Deployment", "ReplicationController", "ReplicaSet", "StatefulSet"];

/// Where kinds have a pod's spec.
pub(crate) const POD_SPECS: [(&str, &str); 8] = [
    ("Pod", "spec"),
    ("PodTemplate", "template/spec"),
    ("Deployment", "spec/template/spec"),
    ("ReplicaSet", "spec/template/spec"),
    ("DaemonSet", "spec/template/spec"),
    ("StatefulSet", "spec/template/spec"),
    ("Job", "spec/template/spec"),
    ("CronJob", "spec/jobTemplate/spec/template/spec"),
];
