//! Objects to ordered changes.

use std::collections::BTreeMap;

use strake_plan::{Change, ChangeId, DeployPlan, ImageEdge, ObjectId};
use strake_source::Sources;

use crate::manifest::{Manifest, Options};
use crate::references::{images, references};

/// Kinds in the order in which they are applied where nothing else decides: what others refer to comes first, so every edge points backwards and the order is
/// topological by itself.
const ORDER: &[&str] = &[
    "Namespace",
    "CustomResourceDefinition",
    "Node",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "IngressClass",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Service",
    "Endpoints",
    "EndpointSlice",
    "Lease",
    "PodTemplate",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "DaemonSet",
    "Deployment",
    "StatefulSet",
    "Job",
    "CronJob",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "Ingress",
    "APIService",
];
/// What decides about other objects comes after them: its own servers must run before it is asked.
const LAST: &[&str] =
    &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "Event"];

fn rank(id: &ObjectId) -> usize {
    let last = || LAST.iter().position(|kind| *kind == id.kind).map(|place| ORDER.len() + 1 + place);
    ORDER.iter().position(|kind| *kind == id.kind).or_else(last).unwrap_or(ORDER.len())
}

/// The plan of these objects. `built` tells which image of the build half, if any, an image reference means.
///
/// The order depends on the objects alone, not on the order of files. Objects that are not sound are part of it: the caller refuses a plan with errors.
pub fn plan(sources: &Sources, manifests: &[Manifest], options: &Options, built: &dyn Fn(&str) -> Option<usize>) -> DeployPlan {
    let mut order: Vec<usize> = (0..manifests.len()).collect();
    let key = |index: &usize| {
        let id = &manifests[*index].id;
        (rank(id), id.namespace.clone(), id.kind.clone(), id.name.clone(), id.group.clone())
    };
    order.sort_by_cached_key(key);
    let places: BTreeMap<(&str, &str, &str), ChangeId> = order
        .iter()
        .enumerate()
        .map(|(place, index)| {
            let id = &manifests[*index].id;
            ((id.kind.as_str(), id.namespace.as_str(), id.name.as_str()), ChangeId(place))
        })
        .collect();
    let changes = order.iter().enumerate().map(|(place, index)| {
        let manifest = &manifests[*index];
        Change { id: manifest.id.clone(), object: manifest.value.clone(), after: after(manifest, &places, place), origin: origin(sources, manifest) }
    });
    let changes = changes.collect();
    let mut place_of = vec![ChangeId(0); manifests.len()];
    order.iter().enumerate().for_each(|(place, index)| place_of[*index] = ChangeId(place));
    let edges = images(manifests).into_iter().filter_map(|image| {
        let place = place_of[image.manifest];
        built(&image.image).map(|index| ImageEdge { change: place, pointer: image.pointer, image: index })
    });
    let mut edges: Vec<ImageEdge> = edges.collect();
    edges.sort_by(|a, b| (a.change, &a.pointer).cmp(&(b.change, &b.pointer)));
    DeployPlan { set: options.set.clone(), namespace: options.namespace.clone(), changes, images: edges }
}

/// The namespace it lives in, the definition of its kind and what its pods refer to, as far as they are part of the plan.
fn after(manifest: &Manifest, places: &BTreeMap<(&str, &str, &str), ChangeId>, place: usize) -> Vec<ChangeId> {
    let namespace = manifest.id.namespace.as_str();
    let home = places.get(&("Namespace", "", namespace)).copied();
    let references = references(manifest);
    let meant = references.iter().filter_map(|reference| places.get(&(reference.kind.kind(), namespace, reference.name.as_str())).copied());
    let definition = format!("{}.{}", manifest.id.resource, manifest.id.group);
    let definition = places.get(&("CustomResourceDefinition", "", definition.as_str())).copied().filter(|_| manifest.kind.is_custom());
    let mut after: Vec<ChangeId> = home.into_iter().chain(definition).chain(meant).filter(|id| id.0 < place).collect();
    after.sort_unstable();
    after.dedup();
    after
}

fn origin(sources: &Sources, manifest: &Manifest) -> String {
    let span = manifest.node.span;
    let file = sources.get(span.file);
    format!("{}:{}", file.name, file.line_column(span.start).line)
}
