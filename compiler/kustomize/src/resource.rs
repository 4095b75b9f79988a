//! One object on its way through the layers, with every name it has had.

use std::collections::BTreeMap;

use strake_kinds::schema::Message;
use strake_source::Span;
use strake_yaml::Node;

use crate::edit::text_at;

/// What names an object at some point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Id {
    /// Of an object as it is.
    pub(crate) fn of(node: &Node) -> Id {
        let api_version = text_at(node, &["apiVersion"]);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Id {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text_at(node, &["kind"]).to_owned(),
            namespace: text_at(node, &["metadata", "namespace"]).to_owned(),
            name: text_at(node, &["metadata", "name"]).to_owned(),
        }
    }

    /// Lives in no namespace. Kinds that nobody knows live in one.
    pub(crate) fn cluster_scoped(&self) -> bool {
        strake_kinds::by_kind(&self.api_version(), &self.kind).is_some_and(|kind| !kind.namespaced)
            || matches!(
                (self.group.as_str(), self.kind.as_str()),
                ("apiextensions.k8s.io", "CustomResourceDefinition") | ("apiregistration.k8s.io", "APIService")
            )
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The namespace, `default` where it is not given.
    pub(crate) fn effective_namespace(&self) -> &str {
        if self.cluster_scoped() {
            ""
        } else if self.namespace.is_empty() {
            "default"
        } else {
            &self.namespace
        }
    }

    /// What two objects have in common that are the same: see [`Id::same`].
    pub(crate) fn key(&self) -> [String; 5] {
        [&self.group, &self.version, &self.kind, &self.name, self.effective_namespace()].map(str::to_owned)
    }

    /// The same object: group, version, kind, name and effective namespace.
    pub(crate) fn same(&self, other: &Id) -> bool {
        (&self.group, &self.version, &self.kind, &self.name) == (&other.group, &other.version, &other.kind, &other.name)
            && self.effective_namespace() == other.effective_namespace()
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)?;
        if self.namespace.is_empty() { Ok(()) } else { write!(f, " in {}", self.namespace) }
    }
}

/// An object and its history.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) node: Node,
    /// The names it had before the last change, the first one first; empty while nothing has changed.
    pub(crate) before: Vec<Id>,
    pub(crate) prefixes: Vec<String>,
    pub(crate) suffixes: Vec<String>,
    /// Its name gets a hash of its content at the end.
    pub(crate) hashed: bool,
}

impl Resource {
    pub(crate) fn new(node: Node) -> Resource {
        Resource { node, before: Vec::new(), prefixes: Vec::new(), suffixes: Vec::new(), hashed: false }
    }

    pub(crate) fn id(&self) -> Id {
        Id::of(&self.node)
    }

    /// What it was first called.
    pub(crate) fn original(&self) -> Id {
        self.before.first().cloned().unwrap_or_else(|| self.id())
    }

    /// Every name it has had, the present one last.
    pub(crate) fn ids(&self) -> Vec<Id> {
        let mut ids = self.before.clone();
        ids.push(self.id());
        ids
    }

    /// Whether it is or was called like this.
    pub(crate) fn was(&self, id: &Id) -> bool {
        // Nothing is copied of the many that have another name.
        let is = || text_at(&self.node, &["metadata", "name"]) == id.name && text_at(&self.node, &["kind"]) == id.kind && self.id().same(id);
        self.before.iter().any(|other| other.same(id)) || is()
    }

    /// Remembers the present name; to be called before it changes.
    pub(crate) fn remember(&mut self) {
        let id = self.id();
        if self.before.last() != Some(&id) {
            self.before.push(id);
        }
    }

    /// Where its name stands.
    pub(crate) fn span(&self) -> Span {
        self.node.span_at("/metadata/name").or(self.node.span_at("/kind")).unwrap_or(self.node.span)
    }

    pub(crate) fn schema(&self) -> Option<&'static Message> {
        let id = self.id();
        strake_kinds::by_kind(&id.api_version(), &id.kind).map(strake_kinds::KindInfo::schema)
    }

    /// Labels or annotations.
    pub(crate) fn texts(&self, field: &str) -> BTreeMap<String, String> {
        let entries = self.node.get("metadata").and_then(|metadata| metadata.get(field)).map(Node::entries).unwrap_or_default();
        entries.iter().filter_map(|(key, value)| Some((key.value.clone(), value.as_str()?.to_owned()))).collect()
    }
}
