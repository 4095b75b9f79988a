//! The inventory: what a set has applied, so that what leaves the directory can be pruned. It is an ApplySet (KEP-3659, as kubectl implements it):
//! a Secret with the set's id as parent, and the same id as a label on every member.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use strake_plan::{DeployPlan, ObjectId};

use crate::conceal::Key;

/// The label of members.
pub const PART_OF: &str = "applyset.kubernetes.io/part-of";
const ID: &str = "applyset.kubernetes.io/id";
const TOOLING: &str = "applyset.kubernetes.io/tooling";
const GROUP_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
const NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";
const TOOL: &str = "strake/v1";

/// The inventory's data: members, a line each.
const MEMBERS: &str = "members";
/// The same, compressed: a Secret holds a megabyte.
const PACKED: &str = "members.gz";
/// The inventory's data: the key of the hashes by which plans show secrets.
const KEY: &str = "key";
/// How often the inventory was written.
const GENERATION: &str = "strake.dev/generation";
/// More bytes of members than this are compressed.
const PLAIN_BYTES: usize = 256 * 1024;

/// What a set has, and where. Nothing is pruned that is not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// `Kind.group`, `Kind` in the core group.
    pub group_kinds: BTreeSet<String>,
    /// Namespaces of members other than the parent's.
    pub namespaces: BTreeSet<String>,
    /// The objects, each with the uid that it was applied with; an empty one is of an apply that has not told its end.
    pub members: BTreeMap<MemberKey, Member>,
    /// The key of hashes in plans of this set.
    pub key: Option<Key>,
    /// How often the inventory was written.
    pub generation: u64,
}

/// What names a member, whatever version it is read in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberKey {
    /// `Kind.group`.
    pub group_kind: String,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What is known of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Version of its group that it was applied in.
    pub version: String,
    /// Its resource, as in the URL.
    pub resource: String,
    /// Its uid; empty until the apply that made it has ended.
    pub uid: String,
}

impl MemberKey {
    /// That of an object.
    pub fn of(id: &ObjectId) -> MemberKey {
        MemberKey { group_kind: group_kind(id), namespace: id.namespace.clone(), name: id.name.clone() }
    }

    /// The whole name of the object.
    pub fn id(&self, member: &Member) -> ObjectId {
        let (kind, group) = self.group_kind.split_once('.').unwrap_or((&self.group_kind, ""));
        ObjectId {
            group: group.to_owned(),
            version: member.version.clone(),
            kind: kind.to_owned(),
            resource: member.resource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
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
        // What a rollout makes is a member before it is there: a crash leaves nothing that nobody looks for.
        let ids = plan.changes.iter().map(|change| change.id.clone()).chain(crate::progressive::tracks(plan));
        let members = ids.map(|id| {
            let member = Member { version: id.version.clone(), resource: id.resource.clone(), uid: String::new() };
            (MemberKey::of(&id), member)
        });
        Scope::with(members.collect(), &plan.namespace)
    }

    /// That of these members, for a parent in `namespace`.
    pub fn with(members: BTreeMap<MemberKey, Member>, namespace: &str) -> Scope {
        let others = members.keys().map(|key| key.namespace.clone()).filter(|other| !other.is_empty() && other != namespace);
        Scope { group_kinds: members.keys().map(|key| key.group_kind.clone()).collect(), namespaces: others.collect(), members, ..Scope::default() }
    }

    /// What a parent Secret says; `None` when it is not one of ours.
    pub fn read(parent: &Value) -> Option<Scope> {
        let annotations = &parent["metadata"]["annotations"];
        if !annotations[TOOLING].as_str().is_some_and(|tool| tool.starts_with("strake/")) {
            return None;
        }
        let words = |key: &str| annotations[key].as_str().unwrap_or_default().split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let bytes = |name: &str| STANDARD.decode(parent["data"][name].as_str()?).ok();
        let unpacked = || {
            let mut text = String::new();
            GzDecoder::new(bytes(PACKED)?.as_slice()).read_to_string(&mut text).ok().map(|_| text)
        };
        let text = bytes(MEMBERS).and_then(|bytes| String::from_utf8(bytes).ok()).or_else(unpacked).unwrap_or_default();
        Some(Scope {
            group_kinds: words(GROUP_KINDS),
            namespaces: words(NAMESPACES),
            members: text.lines().filter_map(read_line).collect(),
            key: bytes(KEY).and_then(|bytes| bytes.try_into().ok()).map(Key::of),
            generation: annotations[GENERATION].as_str().and_then(|text| text.parse().ok()).unwrap_or(0),
        })
    }

    /// Both together: written before anything is applied, so that a crash leaks nothing. A uid that is known stays.
    pub fn union(&self, other: &Scope) -> Scope {
        let both = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.union(b).cloned().collect();
        let mut members = self.members.clone();
        for (key, member) in &other.members {
            let uid = Some(&member.uid).filter(|uid| !uid.is_empty()).or_else(|| Some(&self.members.get(key)?.uid)).cloned().unwrap_or_default();
            members.insert(key.clone(), Member { uid, ..member.clone() });
        }
        Scope {
            group_kinds: both(&self.group_kinds, &other.group_kinds),
            namespaces: both(&self.namespaces, &other.namespaces),
            members,
            key: self.key.clone().or_else(|| other.key.clone()),
            generation: self.generation.max(other.generation),
        }
    }

    /// The parent Secret that says this.
    pub fn parent(&self, set: &str, namespace: &str) -> Value {
        let join = |words: &BTreeSet<String>| words.iter().cloned().collect::<Vec<_>>().join(",");
        let text: String = self.members.iter().map(|(key, member)| line(key, member)).collect();
        let mut parent = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "strake.dev/inventory",
            "metadata": {
                "name": parent_name(set), "namespace": namespace,
                "labels": {ID: set_id(set, namespace)},
                "annotations": {
                    TOOLING: TOOL, GROUP_KINDS: join(&self.group_kinds), NAMESPACES: join(&self.namespaces), GENERATION: self.generation.to_string(),
                },
            },
        });
        let packed = if text.len() > PLAIN_BYTES { pack(&text) } else { None };
        match packed {
            Some(bytes) => parent["data"][PACKED] = STANDARD.encode(bytes).into(),
            None => parent["data"][MEMBERS] = STANDARD.encode(&text).into(),
        }
        if let Some(key) = &self.key {
            parent["data"][KEY] = STANDARD.encode(key.bytes()).into();
        }
        parent
    }
}

/// `Kind.group version resource namespace name uid`; what is empty is `-`, which is no name.
fn line(key: &MemberKey, member: &Member) -> String {
    let word = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let words = [&key.group_kind, &member.version, &member.resource, &key.namespace, &key.name, &member.uid];
    words.map(|text| word(text)).join(" ") + "\n"
}

fn read_line(line: &str) -> Option<(MemberKey, Member)> {
    let words: Vec<String> = line.split(' ').map(|word| if word == "-" { String::new() } else { word.to_owned() }).collect();
    let [group_kind, version, resource, namespace, name, uid] = <[String; 6]>::try_from(words).ok()?;
    Some((MemberKey { group_kind, namespace, name }, Member { version, resource, uid }))
}

fn pack(text: &str) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).ok()?;
    encoder.finish().ok()
}

/// The id of the set that an object belongs to.
pub fn set_of(object: &Value) -> Option<&str> {
    object["metadata"]["labels"][PART_OF].as_str()
}

/// What chooses the parent of the set with this id.
pub fn parent_selector(set_id: &str) -> String {
    format!("{ID}={set_id}")
}

/// What chooses the parents of all sets.
pub fn parents_selector() -> String {
    ID.to_owned()
}

/// Whether an object is the parent of the set with this id.
pub fn is_parent_of(object: &Value, set_id: &str) -> bool {
    object["metadata"]["labels"][ID] == set_id
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

/// Marks by which the author of an object, in any tool's words, says that it stays when it leaves the set: annotation or label, its name, and the word in its value.
const KEEP: [(&str, &str, &str); 9] = [
    ("annotations", "strake.dev/prune", "never"),
    ("annotations", "client.lifecycle.config.k8s.io/deletion", "detach"),
    ("annotations", "cli-utils.sigs.k8s.io/on-remove", "keep"),
    ("annotations", "helm.sh/resource-policy", "keep"),
    ("annotations", "argocd.argoproj.io/sync-options", "Prune=false"),
    ("annotations", "kapp.k14s.io/delete-strategy", "orphan"),
    ("annotations", "kluctl.io/skip-delete", "true"),
    ("annotations", "kustomize.toolkit.fluxcd.io/prune", "disabled"),
    ("labels", "kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// Whether an object is marked to be kept.
pub fn is_kept(object: &Value) -> bool {
    let has =
        |(place, name, word): &(&str, &str, &str)| object["metadata"][place][name].as_str().is_some_and(|text| text.split(',').any(|one| one.trim() == *word));
    KEEP.iter().any(has)
}

/// Why a member stays until somebody consents, if it has to: kinds that hold data or other objects, and members marked to be kept.
pub fn protected(member: &Value) -> Option<&'static str> {
    if is_kept(member) {
        return Some("is marked to be kept");
    }
    match member["kind"].as_str() {
        Some("PersistentVolumeClaim" | "PersistentVolume") => Some("holds data"),
        Some("StatefulSet") if member["spec"]["volumeClaimTemplates"].as_array().is_some_and(|list| !list.is_empty()) => Some("holds data"),
        Some("Namespace") => Some("holds other objects"),
        Some("CustomResourceDefinition") => Some("holds custom resources"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_parent_says_what_it_was_given() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let key = |group_kind: &str, namespace: &str| MemberKey { group_kind: group_kind.into(), namespace: namespace.into(), name: "x".into() };
        let member = |resource: &str, uid: &str| Member { version: "v1".into(), resource: resource.into(), uid: uid.into() };
        let members = BTreeMap::from([
            (key("Deployment.apps", "shop"), member("deployments", "1-2")),
            (key("ClusterRole.rbac.authorization.k8s.io", ""), member("clusterroles", "")),
        ]);
        let scope =
            Scope { group_kinds: words(&["Deployment.apps", "Service"]), namespaces: words(&["shop"]), members, key: Some(Key::random()), generation: 4 };
        let parent = scope.parent("demo", "default");
        assert_eq!(Scope::read(&parent), Some(scope.clone()));
        assert_eq!(scope.union(&Scope::default()), scope);
        let mut again = scope.clone();
        again.members.values_mut().for_each(|member| member.uid.clear());
        assert_eq!(scope.union(&again), scope, "a uid that is known stays");
        let id = key("ClusterRole.rbac.authorization.k8s.io", "").id(&member("clusterroles", ""));
        assert_eq!((id.kind.as_str(), id.group.as_str(), id.resource.as_str()), ("ClusterRole", "rbac.authorization.k8s.io", "clusterroles"));
        assert_eq!(MemberKey::of(&id), key("ClusterRole.rbac.authorization.k8s.io", ""));
        let many = (0..6000).map(|place| {
            (MemberKey { name: format!("object-{place}"), ..key("ConfigMap", "n") }, member("configmaps", &format!("00000000-0000-4000-8000-{place:012}")))
        });
        let many = Scope::with(many.collect(), "n");
        let parent = many.parent("demo", "n");
        assert!(parent.to_string().len() < 700_000, "fits a Secret");
        assert_eq!(Scope::read(&parent), Some(many));
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
        assert!(protected(&json!({"kind": "StatefulSet", "metadata": {}})).is_none());
        assert!(protected(&json!({"kind": "StatefulSet", "metadata": {}, "spec": {"volumeClaimTemplates": [{}]}})).is_some());
        for (place, name, word) in KEEP {
            assert!(is_kept(&json!({"metadata": {place: {name: format!("x=y, {word}")}}})), "{name}");
            assert!(!is_kept(&json!({"metadata": {place: {name: "else"}}})), "{name}");
        }
    }
}
