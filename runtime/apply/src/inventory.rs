//! The inventory: what a set has applied, so that what leaves the directory can be pruned. It is an ApplySet (KEP-3659, as kubectl implements it):
//! a Secret with the set's id as parent, and the same id as a label on every member.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use strake_plan::{DeployPlan, ObjectId};

/// The label of members.
pub const PART_OF: &str = "applyset.kubernetes.io/part-of";
const ID: &str = "applyset.kubernetes.io/id";
const TOOLING: &str = "applyset.kubernetes.io/tooling";
const GROUP_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
const NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";
const TOOL: &str = "strake/v1";

/// Where members of a set may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// `Kind.group`, `Kind` in the core group.
    pub group_kinds: BTreeSet<String>,
    /// Namespaces of members other than the parent's.
    pub namespaces: BTreeSet<String>,
}

/// The name of a set's parent Secret.
pub fn parent_name(set: &str) -> String {
    format!("strake-set-{set}")
}

/// The set's id: a keyed digest of the parent's name, namespace, kind and group.
pub fn set_id(set: &str, namespace: &str) -> String {
    let text = format!("{}.{namespace}.Secret.", parent_name(set));
    format!("applyset-{}-v1", base64url(&Sha256::digest(text.as_bytes())))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).for_each(|place| text.push(char::from(ALPHABET[(word >> (18 - 6 * place)) as usize & 63])));
    }
    text
}

/// `Kind.group` of an object.
pub fn group_kind(id: &ObjectId) -> String {
    if id.group.is_empty() { id.kind.clone() } else { format!("{}.{}", id.kind, id.group) }
}

impl Scope {
    /// Where the plan's objects are.
    pub fn of(plan: &DeployPlan) -> Scope {
        let ids = plan.changes.iter().map(|change| &change.id);
        let namespaces = ids.clone().map(|id| id.namespace.clone()).filter(|namespace| !namespace.is_empty() && *namespace != plan.namespace);
        Scope { group_kinds: ids.map(group_kind).collect(), namespaces: namespaces.collect() }
    }

    /// What a parent Secret says; `None` when it is not one of ours.
    pub fn read(parent: &Value) -> Option<Scope> {
        let annotations = &parent["metadata"]["annotations"];
        if !annotations[TOOLING].as_str().is_some_and(|tool| tool.starts_with("strake/")) {
            return None;
        }
        let words = |key: &str| annotations[key].as_str().unwrap_or_default().split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Some(Scope { group_kinds: words(GROUP_KINDS), namespaces: words(NAMESPACES) })
    }

    /// Both together: written before anything is applied, so that a crash leaks nothing.
    pub fn union(&self, other: &Scope) -> Scope {
        let both = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.union(b).cloned().collect();
        Scope { group_kinds: both(&self.group_kinds, &other.group_kinds), namespaces: both(&self.namespaces, &other.namespaces) }
    }

    /// The parent Secret that says this.
    pub fn parent(&self, set: &str, namespace: &str) -> Value {
        let join = |words: &BTreeSet<String>| words.iter().cloned().collect::<Vec<_>>().join(",");
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "strake.dev/inventory",
            "metadata": {
                "name": parent_name(set), "namespace": namespace,
                "labels": {ID: set_id(set, namespace)},
                "annotations": {TOOLING: TOOL, GROUP_KINDS: join(&self.group_kinds), NAMESPACES: join(&self.namespaces)},
            },
        })
    }
}

/// The id of the set that an object belongs to.
pub fn set_of(object: &Value) -> Option<&str> {
    object["metadata"]["labels"][PART_OF].as_str()
}

/// What chooses the parent of the set with this id.
pub fn parent_selector(set_id: &str) -> String {
    format!("{ID}={set_id}")
}

/// A set's name, from its parent's.
pub fn set_name(parent: &Value) -> Option<&str> {
    parent["metadata"]["name"].as_str()?.strip_prefix("strake-set-")
}

/// The object with the set's label.
pub fn labelled(object: &Value, set_id: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["labels"][PART_OF] = Value::String(set_id.to_owned());
    object
}

/// Why a pruned member stays, if it has to: kinds that hold data or other objects, and members marked to be kept.
pub fn protected(member: &Value) -> Option<&'static str> {
    let annotations = &member["metadata"]["annotations"];
    if annotations["client.lifecycle.config.k8s.io/deletion"] == "detach" || annotations["cli-utils.sigs.k8s.io/on-remove"] == "keep" {
        return Some("is marked to be kept");
    }
    match member["kind"].as_str() {
        Some("PersistentVolumeClaim" | "PersistentVolume") => Some("holds data"),
        Some("Namespace") => Some("holds other objects"),
        Some("CustomResourceDefinition") => Some("holds custom resources"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Scope, labelled, protected, set_id};
    use serde_json::json;

    #[test]
    fn the_parent_says_what_it_was_given() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let scope = Scope { group_kinds: words(&["Deployment.apps", "Service"]), namespaces: words(&["shop"]) };
        let parent = scope.parent("demo", "default");
        assert_eq!(Scope::read(&parent), Some(scope.clone()));
        assert_eq!(scope.union(&Scope::default()), scope);
        assert_eq!(Scope::read(&json!({"metadata": {"annotations": {"applyset.kubernetes.io/tooling": "kubectl/v1"}}})), None);
    }

    #[test]
    fn ids_are_stable_and_differ_by_set_and_namespace() {
        assert_eq!(set_id("a", "b"), set_id("a", "b"));
        assert_ne!(set_id("a", "b"), set_id("a", "c"));
        assert!(set_id("a", "b").len() <= 63, "fits a label value");
        let member = labelled(&json!({"metadata": {"name": "x"}}), "id");
        assert_eq!(member["metadata"]["labels"]["applyset.kubernetes.io/part-of"], "id");
    }

    #[test]
    fn data_is_never_pruned_silently() {
        assert!(protected(&json!({"kind": "PersistentVolumeClaim", "metadata": {}})).is_some());
        assert!(protected(&json!({"kind": "ConfigMap", "metadata": {"annotations": {"cli-utils.sigs.k8s.io/on-remove": "keep"}}})).is_some());
        assert!(protected(&json!({"kind": "ConfigMap", "metadata": {}})).is_none());
    }
}
