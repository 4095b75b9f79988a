//! Names that objects call each other by follow when a name changes.

use std::collections::HashMap;

use strake_source::{Diagnostic, Span};
use strake_yaml::{Kind, Node};

use crate::edit::{get_mut, set, text, text_at};
use crate::fields::{POD_SPECS, visit};
use crate::resource::{Id, Resource};
use crate::work::Work;

/// A field that names an object of another kind.
struct Reference {
    /// What is named: group and kind. An empty group is any.
    target: (&'static str, &'static str),
    /// Who names it: group and kind.
    from: (&'static str, &'static str),
    path: String,
}

/// References that are not in a pod's spec.
const PLAIN: &[(&str, &str, &str, &str)] = &[
    ("Deployment", "", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
    ("ReplicationController", "", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
    ("ReplicaSet", "", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
    ("StatefulSet", "", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
    ("ConfigMap", "", "Role", "rules/resourceNames"),
    ("ConfigMap", "", "ClusterRole", "rules/resourceNames"),
    ("ConfigMap", "", "Ingress", "metadata/annotations/nginx.ingress.kubernetes.io\\/fastcgi-params-configmap"),
    ("Secret", "", "Ingress", "spec/tls/secretName"),
    ("Secret", "", "Ingress", "metadata/annotations/ingress.kubernetes.io\\/auth-secret"),
    ("Secret", "", "Ingress", "metadata/annotations/nginx.ingress.kubernetes.io\\/auth-secret"),
    ("Secret", "", "Ingress", "metadata/annotations/nginx.ingress.kubernetes.io\\/auth-tls-secret"),
    ("Secret", "", "ServiceAccount", "imagePullSecrets/name"),
    ("Secret", "", "StorageClass", "parameters/secretName"),
    ("Secret", "", "StorageClass", "parameters/adminSecretName"),
    ("Secret", "", "StorageClass", "parameters/userSecretName"),
    ("Secret", "", "StorageClass", "parameters/secretRef"),
    ("Secret", "", "Role", "rules/resourceNames"),
    ("Secret", "", "ClusterRole", "rules/resourceNames"),
    ("Secret", "", "PersistentVolume", "spec/azureFile/secretName"),
    ("Service", "apps", "StatefulSet", "spec/serviceName"),
    ("Service", "", "Ingress", "spec/rules/http/paths/backend/serviceName"),
    ("Service", "", "Ingress", "spec/backend/serviceName"),
    ("Service", "", "Ingress", "spec/rules/http/paths/backend/service/name"),
    ("Service", "", "Ingress", "spec/defaultBackend/service/name"),
    ("Service", "apiregistration.k8s.io", "APIService", "spec/service/name"),
    ("Service", "admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "webhooks/clientConfig/service"),
    ("Service", "admissionregistration.k8s.io", "MutatingWebhookConfiguration", "webhooks/clientConfig/service"),
    ("Role", "rbac.authorization.k8s.io", "RoleBinding", "roleRef/name"),
    ("ClusterRole", "rbac.authorization.k8s.io", "RoleBinding", "roleRef/name"),
    ("ClusterRole", "rbac.authorization.k8s.io", "ClusterRoleBinding", "roleRef/name"),
    ("ServiceAccount", "rbac.authorization.k8s.io", "RoleBinding", "subjects"),
    ("ServiceAccount", "rbac.authorization.k8s.io", "ClusterRoleBinding", "subjects"),
    ("PersistentVolume", "", "PersistentVolumeClaim", "spec/volumeName"),
    ("PersistentVolume", "", "ClusterRole", "rules/resourceNames"),
    ("StorageClass", "", "PersistentVolume", "spec/storageClassName"),
    ("StorageClass", "", "PersistentVolumeClaim", "spec/storageClassName"),
    ("StorageClass", "", "StatefulSet", "spec/volumeClaimTemplates/spec/storageClassName"),
    ("IngressClass", "", "Ingress", "spec/ingressClassName"),
    ("ValidatingAdmissionPolicy", "admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", "spec/policyName"),
];

/// References in a pod's spec.
const IN_PODS: &[(&str, &str)] = &[
    ("ConfigMap", "volumes/configMap/name"),
    ("ConfigMap", "volumes/projected/sources/configMap/name"),
    ("ConfigMap", "containers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "initContainers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "containers/envFrom/configMapRef/name"),
    ("ConfigMap", "initContainers/envFrom/configMapRef/name"),
    ("Secret", "volumes/secret/secretName"),
    ("Secret", "volumes/projected/sources/secret/name"),
    ("Secret", "containers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "initContainers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "containers/envFrom/secretRef/name"),
    ("Secret", "initContainers/envFrom/secretRef/name"),
    ("Secret", "imagePullSecrets/name"),
    ("ServiceAccount", "serviceAccountName"),
    ("PersistentVolumeClaim", "volumes/persistentVolumeClaim/claimName"),
    ("PriorityClass", "priorityClassName"),
];

/// The groups of kinds that do not belong to any.
fn group_of(kind: &str) -> &'static str {
    match kind {
        "Role" | "ClusterRole" => "rbac.authorization.k8s.io",
        "StorageClass" => "storage.k8s.io",
        "PriorityClass" => "scheduling.k8s.io",
        "ValidatingAdmissionPolicy" => "admissionregistration.k8s.io",
        _ => "",
    }
}

fn table() -> Vec<Reference> {
    let plain = PLAIN.iter().map(|(target, group, kind, path)| Reference { target: (group_of(target), target), from: (group, kind), path: (*path).to_owned() });
    let pods = POD_SPECS.iter().flat_map(|(kind, spec)| {
        let reference =
            move |(target, path): &(&'static str, &str)| Reference { target: (group_of(target), target), from: ("", kind), path: format!("{spec}/{path}") };
        IN_PODS.iter().map(reference)
    });
    plain.chain(pods).collect()
}

/// What a resource was and is called, for those that refer to it.
struct Called {
    ids: Vec<Id>,
    now: Id,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
    span: Span,
}

/// Rewrites every reference to something that has changed its name.
pub(crate) fn follow(work: &mut Work<'_>, resources: &mut [Resource]) {
    let called: Vec<Called> = resources
        .iter()
        .map(|resource| Called {
            ids: resource.ids(),
            now: resource.id(),
            prefixes: resource.prefixes.clone(),
            suffixes: resource.suffixes.clone(),
            span: resource.span(),
        })
        .collect();
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, one) in called.iter().enumerate() {
        for id in &one.ids {
            let places = by_name.entry(id.name.as_str()).or_default();
            if places.last() != Some(&at) {
                places.push(at);
            }
        }
    }
    let named = |name: &str| by_name.get(name).into_iter().flatten().map(|at| &called[*at]).collect();
    let table = table();
    for (at, resource) in resources.iter_mut().enumerate() {
        let own = &called[at];
        let role = (text_at(&resource.node, &["roleRef", "apiGroup"]).to_owned(), text_at(&resource.node, &["roleRef", "kind"]).to_owned());
        let original = &own.ids[0];
        let fits = |reference: &&Reference| {
            reference.from.1 == original.kind
                && (reference.from.0.is_empty() || reference.from.0 == original.group)
                && (reference.path != "roleRef/name" || role.1 == reference.target.1)
        };
        for reference in table.iter().filter(fits) {
            let mut findings = Vec::new();
            visit(&mut resource.node, &reference.path, None, &mut |node| rename(node, reference, own, &named, &mut findings));
            work.diagnostics.append(&mut findings);
        }
    }
}

/// Those that are or were called like this, in the order of resources.
type Named<'a> = &'a dyn Fn(&str) -> Vec<&'a Called>;

fn rename(node: &mut Node, reference: &Reference, own: &Called, called: Named<'_>, findings: &mut Vec<Diagnostic>) {
    match &node.kind {
        Kind::String(name) => {
            if let Some(found) = select(name, None, reference, own, called, node.span, findings)
                && found.now.name != *name
            {
                *node = text(found.now.name.as_str(), node.span);
            }
        }
        Kind::Mapping(_) => {
            let (name, namespace) = (text_at(node, &["name"]).to_owned(), node.get("namespace").and_then(Node::as_str).map(str::to_owned));
            let Some(found) = select(&name, namespace.as_deref(), reference, own, called, node.span, findings) else { return };
            let span = node.span;
            if let Some(name) = get_mut(node, "name") {
                *name = text(found.now.name.as_str(), name.span);
            }
            if !found.now.namespace.is_empty() {
                set(node, "namespace", text(found.now.namespace.as_str(), span));
            }
        }
        _ => {}
    }
}

/// The one that is meant: by a name it has had, by kind, in the namespace of the one that refers to it, and of its layer when there are several.
fn select<'a>(
    name: &str,
    namespace: Option<&str>,
    reference: &Reference,
    own: &Called,
    called: Named<'a>,
    place: Span,
    findings: &mut Vec<Diagnostic>,
) -> Option<&'a Called> {
    let of_kind = |id: &Id| id.kind == reference.target.1 && (reference.target.0.is_empty() || id.group == reference.target.0);
    let named = |other: &&Called| other.ids.iter().any(|id| id.name == name && of_kind(id));
    let near = |other: &&Called| match namespace {
        Some(namespace) => other.ids.iter().any(|id| id.effective_namespace() == namespace),
        None => {
            let free = own.now.cluster_scoped() || other.now.cluster_scoped() || other.now.kind == "ServiceAccount";
            free || own.now.effective_namespace() == other.now.effective_namespace()
        }
    };
    let mut found: Vec<&Called> = called(name).into_iter().filter(named).filter(near).collect();
    let alike = |mine: &[String], theirs: &[String], empty: bool| mine == theirs || (empty && (mine.is_empty() || theirs.is_empty()));
    for empty in [true, false] {
        if found.len() > 1 {
            found.retain(|other| alike(&own.prefixes, &other.prefixes, empty) && alike(&own.suffixes, &other.suffixes, empty));
        }
    }
    if found.len() > 1 && found.iter().any(|other| other.now.name != found[0].now.name || other.now.namespace != found[0].now.namespace) {
        let finding = Diagnostic::error("kustomize-conflict", format!("`{name}` can mean {} different objects", found.len())).at(place);
        findings.push(found.iter().fold(finding, |finding, other| finding.related(other.span, other.now.to_string())));
        return None;
    }
    found.first().copied()
}
