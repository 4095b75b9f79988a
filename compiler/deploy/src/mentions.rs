//! Which objects of the set an object names, without anybody having said that it depends on them: what it names comes first, as far as that is possible.

use serde_json::{Map, Value};
use strake_plan::Wanted;

use crate::manifest::{Manifest, find};
use crate::references::references;

/// An object that another one names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub group: String,
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub name: String,
    pub state: Wanted,
    /// JSON pointer to the name.
    pub pointer: String,
}

const RBAC: &str = "rbac.authorization.k8s.io";

/// Everything that an object names.
pub(crate) fn mentions(manifest: &Manifest) -> Vec<Mention> {
    let mut found = Found { namespace: manifest.id.namespace.clone(), list: Vec::new() };
    for reference in references(manifest) {
        found.local("", reference.kind.kind(), &reference.name, &reference.pointer);
    }
    if let Some((at, spec)) = manifest.pod_pointer().zip(manifest.pod_spec()) {
        found.pod(at, spec);
    }
    let value = &manifest.value;
    match (manifest.kind.group, manifest.kind.kind) {
        ("apps", "StatefulSet") => {
            found.text(value, "/spec/serviceName", "", "Service", true);
            for index in 0..find(value, "/spec/volumeClaimTemplates").and_then(Value::as_array).map_or(0, Vec::len) {
                found.text(value, &format!("/spec/volumeClaimTemplates/{index}/spec/storageClassName"), "storage.k8s.io", "StorageClass", false);
            }
        }
        ("", "PersistentVolumeClaim") => {
            found.text(value, "/spec/storageClassName", "storage.k8s.io", "StorageClass", false);
            found.text(value, "/spec/volumeName", "", "PersistentVolume", false);
        }
        ("", "PersistentVolume") => found.text(value, "/spec/storageClassName", "storage.k8s.io", "StorageClass", false),
        (RBAC, "RoleBinding" | "ClusterRoleBinding") => found.binding(value),
        ("autoscaling", "HorizontalPodAutoscaler") => found.target(value, "/spec/scaleTargetRef"),
        ("networking.k8s.io", "Ingress") => found.text(value, "/spec/ingressClassName", "networking.k8s.io", "IngressClass", false),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => found.webhooks(value, "/webhooks"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            found.text(value, "/spec/policyName", "admissionregistration.k8s.io", "ValidatingAdmissionPolicy", false);
        }
        ("apiregistration.k8s.io", "APIService") => found.service(value, "/spec/service"),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => found.service(value, "/spec/conversion/webhook/clientConfig/service"),
        ("keda.sh", "ScaledObject" | "ScaledJob") => found.target(value, "/spec/scaleTargetRef"),
        _ => {}
    }
    found.list
}

struct Found {
    namespace: String,
    list: Vec<Mention>,
}

impl Found {
    fn add(&mut self, group: &str, kind: &str, namespace: &str, name: &str, pointer: &str) {
        let own = str::to_owned;
        self.list.push(Mention {
            group: own(group),
            kind: own(kind),
            namespace: own(namespace),
            name: own(name),
            state: Wanted::Present,
            pointer: own(pointer),
        });
    }

    fn local(&mut self, group: &str, kind: &str, name: &str, pointer: &str) {
        let namespace = self.namespace.clone();
        self.add(group, kind, &namespace, name, pointer);
    }

    /// The name at a pointer, of an object of the same namespace or of none.
    fn text(&mut self, value: &Value, pointer: &str, group: &str, kind: &str, namespaced: bool) {
        let Some(name) = find(value, pointer).and_then(Value::as_str).filter(|name| !name.is_empty()) else { return };
        let namespace = if namespaced { self.namespace.clone() } else { String::new() };
        self.add(group, kind, &namespace, name, pointer);
    }

    fn pod(&mut self, at: &str, spec: &Map<String, Value>) {
        let text = |name: &str| spec.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(name) = text("priorityClassName") {
            self.add("scheduling.k8s.io", "PriorityClass", "", name, &format!("{at}/priorityClassName"));
        }
        if let Some(name) = text("runtimeClassName") {
            self.add("node.k8s.io", "RuntimeClass", "", name, &format!("{at}/runtimeClassName"));
        }
        let list = |name: &str| spec.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        let inner = |item: &Value, pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        for (index, volume) in list("volumes") {
            if let Some(name) = inner(volume, "/persistentVolumeClaim/claimName") {
                self.local("", "PersistentVolumeClaim", &name, &format!("{at}/volumes/{index}/persistentVolumeClaim/claimName"));
            }
        }
        for (index, claim) in list("resourceClaims") {
            for (field, kind) in [("resourceClaimName", "ResourceClaim"), ("resourceClaimTemplateName", "ResourceClaimTemplate")] {
                if let Some(name) = inner(claim, &format!("/{field}")) {
                    self.local("resource.k8s.io", kind, &name, &format!("{at}/resourceClaims/{index}/{field}"));
                }
            }
        }
    }

    fn binding(&mut self, value: &Value) {
        let text = |pointer: &str| find(value, pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        match text("/roleRef/kind").as_str() {
            "ClusterRole" => self.add(RBAC, "ClusterRole", "", &text("/roleRef/name"), "/roleRef/name"),
            "Role" => self.local(RBAC, "Role", &text("/roleRef/name"), "/roleRef/name"),
            _ => {}
        }
        for index in 0..find(value, "/subjects").and_then(Value::as_array).map_or(0, Vec::len) {
            let at = format!("/subjects/{index}");
            if text(&format!("{at}/kind")) == "ServiceAccount" {
                let namespace = Some(text(&format!("{at}/namespace"))).filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| self.namespace.clone());
                self.add("", "ServiceAccount", &namespace, &text(&format!("{at}/name")), &format!("{at}/name"));
            }
        }
    }

    /// A reference with `apiVersion`, `kind` and `name`, to the same namespace.
    fn target(&mut self, value: &Value, pointer: &str) {
        let text = |field: &str| find(value, &format!("{pointer}/{field}")).and_then(Value::as_str);
        if let (Some(kind), Some(name)) = (text("kind"), text("name")) {
            let group = text("apiVersion").and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
            self.local(group, kind, name, &format!("{pointer}/name"));
        }
    }

    fn webhooks(&mut self, value: &Value, pointer: &str) {
        for index in 0..find(value, pointer).and_then(Value::as_array).map_or(0, Vec::len) {
            self.service(value, &format!("{pointer}/{index}/clientConfig/service"));
        }
    }

    /// A Service of a namespace that is named beside it. What answers there must be healthy: as soon as it is registered, it is asked.
    fn service(&mut self, value: &Value, pointer: &str) {
        let text = |field: &str| find(value, &format!("{pointer}/{field}")).and_then(Value::as_str);
        if let (Some(name), Some(namespace)) = (text("name"), text("namespace")) {
            self.add("", "Service", namespace, name, &format!("{pointer}/name"));
            if let Some(last) = self.list.last_mut() {
                last.state = Wanted::Ready;
            }
        }
    }
}
