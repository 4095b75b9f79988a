//! What objects refer to.

use serde_json::{Map, Value};
use strake_source::Span;

use crate::Manifest;

/// What kind of object is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReferenceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A ServiceAccount.
    ServiceAccount,
}

impl ReferenceKind {
    /// The kind's name.
    pub fn kind(self) -> &'static str {
        match self {
            ReferenceKind::ConfigMap => "ConfigMap",
            ReferenceKind::Secret => "Secret",
            ReferenceKind::ServiceAccount => "ServiceAccount",
        }
    }
}

/// One place where an object names another of its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What is meant.
    pub kind: ReferenceKind,
    /// Its name.
    pub name: String,
    /// A key that it must have.
    pub key: Option<String>,
    /// It may be missing.
    pub optional: bool,
    /// JSON pointer to the name.
    pub pointer: String,
}

/// An image that a container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// Place in the list of manifests.
    pub manifest: usize,
    /// JSON pointer to the image field.
    pub pointer: String,
    /// The image as written.
    pub image: String,
    /// Where it was written.
    pub span: Span,
}

/// All images that containers run, in the order of manifests and containers.
pub fn images(manifests: &[Manifest]) -> Vec<ImageUse> {
    let mut found = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        for (pointer, container) in manifest.containers() {
            if let Some(image) = container.get("image").and_then(Value::as_str).filter(|image| !image.is_empty()) {
                let pointer = format!("{pointer}/image");
                let span = manifest.span(&pointer);
                found.push(ImageUse { manifest: index, pointer, image: image.to_owned(), span });
            }
        }
    }
    found
}

/// All references of an object: of its pod spec, or of a ServiceAccount to Secrets.
pub fn references(manifest: &Manifest) -> Vec<Reference> {
    let mut walk = Walk { found: Vec::new() };
    if let Some((base, spec)) = manifest.pod_pointer().zip(manifest.pod_spec()) {
        walk.pod(base, spec);
    } else if manifest.kind.kind == "ServiceAccount"
        && let Some(root) = manifest.value.as_object()
    {
        walk.names("", root, "imagePullSecrets", ReferenceKind::Secret);
        walk.names("", root, "secrets", ReferenceKind::Secret);
    }
    walk.found
}

struct Walk {
    found: Vec<Reference>,
}

fn items<'a>(map: &'a Map<String, Value>, at: &str, name: &str) -> Vec<(String, &'a Map<String, Value>)> {
    let list = map.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
    list.filter_map(|(index, item)| Some((format!("{at}/{name}/{index}"), item.as_object()?))).collect()
}

fn child<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    map.get(name).and_then(Value::as_object)
}

impl Walk {
    fn pod(&mut self, at: &str, spec: &Map<String, Value>) {
        if let Some(name) = spec.get("serviceAccountName").and_then(Value::as_str).filter(|name| !matches!(*name, "" | "default")) {
            let pointer = format!("{at}/serviceAccountName");
            self.found.push(Reference { kind: ReferenceKind::ServiceAccount, name: name.to_owned(), key: None, optional: false, pointer });
        }
        self.names(at, spec, "imagePullSecrets", ReferenceKind::Secret);
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            for (at, container) in items(spec, at, list) {
                self.container(&at, container);
            }
        }
        for (at, volume) in items(spec, at, "volumes") {
            self.volume(&at, volume);
        }
    }

    fn names(&mut self, at: &str, map: &Map<String, Value>, list: &str, kind: ReferenceKind) {
        for (at, item) in items(map, at, list) {
            self.object(&at, item, "name", kind, None);
        }
    }

    fn container(&mut self, at: &str, container: &Map<String, Value>) {
        for (at, variable) in items(container, at, "env") {
            let at = format!("{at}/valueFrom");
            let Some(from) = child(variable, "valueFrom") else { continue };
            for (field, kind) in [("configMapKeyRef", ReferenceKind::ConfigMap), ("secretKeyRef", ReferenceKind::Secret)] {
                if let Some(source) = child(from, field) {
                    let key = source.get("key").and_then(Value::as_str);
                    self.object(&format!("{at}/{field}"), source, "name", kind, key);
                }
            }
        }
        for (at, from) in items(container, at, "envFrom") {
            for (field, kind) in [("configMapRef", ReferenceKind::ConfigMap), ("secretRef", ReferenceKind::Secret)] {
                if let Some(source) = child(from, field) {
                    self.object(&format!("{at}/{field}"), source, "name", kind, None);
                }
            }
        }
    }

    fn volume(&mut self, at: &str, volume: &Map<String, Value>) {
        self.sources(at, volume, "secretName");
        if let Some(projected) = child(volume, "projected") {
            for (at, source) in items(projected, &format!("{at}/projected"), "sources") {
                self.sources(&at, source, "name");
            }
        }
    }

    /// A `configMap` or `secret` of a volume; the field that names a Secret depends on where it stands.
    fn sources(&mut self, at: &str, holder: &Map<String, Value>, secret_name: &str) {
        for (field, name, kind) in [("configMap", "name", ReferenceKind::ConfigMap), ("secret", secret_name, ReferenceKind::Secret)] {
            let Some(source) = child(holder, field) else { continue };
            let at = format!("{at}/{field}");
            let keys: Vec<&str> = items(source, &at, "items").iter().filter_map(|(_, item)| item.get("key")?.as_str()).collect();
            if keys.is_empty() {
                self.object(&at, source, name, kind, None);
            }
            for key in keys {
                self.object(&at, source, name, kind, Some(key));
            }
        }
    }

    fn object(&mut self, at: &str, source: &Map<String, Value>, field: &str, kind: ReferenceKind, key: Option<&str>) {
        let Some(name) = source.get(field).and_then(Value::as_str).filter(|name| !name.is_empty()) else { return };
        let optional = source.get("optional").and_then(Value::as_bool).unwrap_or(false);
        let pointer = format!("{at}/{field}");
        self.found.push(Reference { kind, name: name.to_owned(), key: key.map(str::to_owned), optional, pointer });
    }
}
