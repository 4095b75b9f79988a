//! The view: every object, indexed the ways controllers ask for them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use strake_kinds::meta::LabelSelector;

use crate::object::{Body, Kind, Object, ObjectId};
use crate::{pods, selector};

/// Removed uids that are remembered, so that a late notification cannot bring an object back.
const REMEMBERED_UIDS: usize = 8192;
/// Names of removed objects that are remembered for each owner.
const REMEMBERED_NAMES: usize = 64;

type Names = BTreeMap<String, Arc<Object>>;

/// A change of the view.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub id: ObjectId,
    pub before: Option<Arc<Object>>,
    pub after: Option<Arc<Object>>,
}

impl Change {
    /// The object after the change or, when it was removed, before it.
    pub fn object(&self) -> Option<&Arc<Object>> {
        self.after.as_ref().or(self.before.as_ref())
    }

    /// Both sides that exist.
    pub fn sides(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.before.iter().chain(self.after.iter())
    }
}

/// All objects that the control loop knows, with their indexes. Notifications that are late, doubled or out of order do no
/// harm: revisions only move forward, and a removed uid stays removed.
#[derive(Clone, Debug, Default)]
pub struct View {
    objects: BTreeMap<Kind, BTreeMap<String, Names>>,
    by_uid: HashMap<String, ObjectId>,
    by_owner: HashMap<String, BTreeSet<ObjectId>>,
    pods_by_node: HashMap<String, BTreeSet<(String, String)>>,
    /// Uid of the controlling owner -> how many pods of it are active.
    active_pods: HashMap<String, usize>,
    /// Namespace -> label key and value -> names of pods.
    pods_by_label: HashMap<String, HashMap<(String, String), BTreeSet<String>>>,
    removed: HashSet<String>,
    removed_order: VecDeque<String>,
    /// Owner uid -> names that its removed dependents had.
    spent_names: HashMap<String, VecDeque<String>>,
    observed_from: Option<Timestamp>,
}

impl View {
    /// An empty view.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes when the loop began to look. What should have happened while nobody looked (a lease that was not renewed) is held
    /// against nobody: its time is counted from here. Without it times are taken as they stand.
    pub fn observe_from(&mut self, now: Timestamp) {
        self.observed_from = Some(now);
    }

    /// When the loop began to look, if it said so.
    pub fn observed_from(&self) -> Option<Timestamp> {
        self.observed_from
    }

    /// Takes in an object in its JSON form. `None` when it changes nothing: it is older than what is known, or unreadable.
    pub fn apply(&mut self, value: &Value) -> Option<Change> {
        self.apply_object(Object::from_value(value)?)
    }

    /// Takes in an object.
    pub fn apply_object(&mut self, object: Object) -> Option<Change> {
        if self.removed.contains(object.uid()) {
            return None;
        }
        let before = self.get(&object.id).cloned();
        if before.as_ref().is_some_and(|known| known.revision() > 0 && object.revision() <= known.revision()) {
            return None;
        }
        if let Some(known) = &before {
            self.drop_indexes(known);
            if known.uid() != object.uid() {
                self.remember_removed(known);
            }
        }
        let object = Arc::new(object);
        self.add_indexes(&object);
        let id = object.id.clone();
        let names = self.objects.entry(id.kind.clone()).or_default().entry(id.namespace.clone()).or_default();
        names.insert(id.name.clone(), object.clone());
        Some(Change { id, before, after: Some(object) })
    }

    /// Takes an object out. An empty `uid` means whatever object has this name; otherwise one with another uid stays.
    pub fn remove(&mut self, id: &ObjectId, uid: &str) -> Option<Change> {
        let known = self.get(id).cloned();
        let Some(known) = known.filter(|known| uid.is_empty() || known.uid() == uid) else {
            self.remember_uid(uid);
            return None;
        };
        self.drop_indexes(&known);
        self.remember_removed(&known);
        let namespaces = self.objects.get_mut(&id.kind)?;
        let names = namespaces.get_mut(&id.namespace)?;
        names.remove(&id.name);
        if names.is_empty() {
            namespaces.remove(&id.namespace);
        }
        Some(Change { id: id.clone(), before: Some(known), after: None })
    }

    /// Takes in a full list of one kind, after a watch was lost: what is not in it is removed.
    pub fn replace(&mut self, kind: &Kind, listed: &[Value]) -> Vec<Change> {
        let mut keep = HashSet::new();
        let mut changes = Vec::new();
        for object in listed.iter().filter_map(Object::from_value) {
            keep.insert(object.id.clone());
            changes.extend(self.apply_object(object));
        }
        let gone: Vec<ObjectId> = self.all(kind).map(|object| object.id.clone()).filter(|id| !keep.contains(id)).collect();
        changes.extend(gone.iter().filter_map(|id| self.remove(id, "")));
        changes
    }

    /// The object with this identity.
    pub fn get(&self, id: &ObjectId) -> Option<&Arc<Object>> {
        self.find(&id.kind, &id.namespace, &id.name)
    }

    /// The object of a kind by namespace (empty for cluster-scoped kinds) and name.
    pub fn find(&self, kind: &Kind, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(kind)?.get(namespace)?.get(name)
    }

    /// The object with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<&Arc<Object>> {
        self.get(self.by_uid.get(uid)?)
    }

    /// All objects of a kind, by namespace and name.
    pub fn all(&self, kind: &Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.get(kind).into_iter().flat_map(|namespaces| namespaces.values()).flat_map(Names::values)
    }

    /// The objects of a kind in a namespace, by name.
    pub fn in_namespace(&self, kind: &Kind, namespace: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.get(kind).and_then(|namespaces| namespaces.get(namespace)).into_iter().flat_map(Names::values)
    }

    /// Objects of this kind would be here if there were any: the kind is one that the bundled API serves (the loop lists all of
    /// those before the first decision), or an object of it was seen.
    pub fn knows(&self, kind: &Kind) -> bool {
        self.objects.contains_key(kind) || strake_kinds::by_kind(&kind.api_version, &kind.kind).is_some_and(|row| row.supported)
    }

    /// Every object of every kind in a namespace.
    pub fn contents(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values().filter_map(move |namespaces| namespaces.get(namespace)).flat_map(Names::values)
    }

    /// The objects that name this uid as an owner.
    pub fn owned(&self, owner_uid: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.by_owner.get(owner_uid).into_iter().flatten().filter_map(|id| self.get(id))
    }

    /// The pods bound to a node.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<Object>> {
        let ids = self.pods_by_node.get(node).into_iter().flatten();
        ids.filter_map(|(namespace, name)| self.find(&Kind::POD, namespace, name))
    }

    /// How many active pods (neither over nor being deleted) this owner controls.
    pub fn active_pods(&self, owner_uid: &str) -> usize {
        self.active_pods.get(owner_uid).copied().unwrap_or(0)
    }

    /// The pods of a namespace that a selector selects. Uses the rarest of its label pairs, so that the cost follows the
    /// number of pods selected rather than the number of pods.
    pub fn pods_matching<'a>(&'a self, namespace: &'a str, selector: &'a LabelSelector) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        let pairs = selector.match_labels.iter().flatten();
        let index = self.pods_by_label.get(namespace);
        let sets = pairs.map(|(key, value)| index.and_then(|index| index.get(&(key.clone(), value.clone()))));
        let selected = move |object: &&Arc<Object>| selector::matches(selector, object.meta.labels.as_ref());
        match sets.min_by_key(|set| set.map_or(0, BTreeSet::len)) {
            Some(None) => Box::new(std::iter::empty()),
            Some(Some(names)) => Box::new(names.iter().filter_map(move |name| self.find(&Kind::POD, namespace, name)).filter(selected)),
            None => Box::new(self.in_namespace(&Kind::POD, namespace).filter(selected)),
        }
    }

    /// Names that removed dependents of this owner had: not to be given again so soon.
    pub fn spent_names(&self, owner_uid: &str) -> impl Iterator<Item = &str> {
        self.spent_names.get(owner_uid).into_iter().flatten().map(String::as_str)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.by_uid.len()
    }

    /// There is no object.
    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    fn add_indexes(&mut self, object: &Arc<Object>) {
        self.by_uid.insert(object.uid().to_owned(), object.id.clone());
        for owner in object.meta.owner_references.iter().flatten() {
            self.by_owner.entry(owner.uid.clone()).or_default().insert(object.id.clone());
        }
        let Body::Pod(pod) = &object.body else { return };
        let ObjectId { namespace, name, .. } = &object.id;
        if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) {
            self.pods_by_node.entry(node.clone()).or_default().insert((namespace.clone(), name.clone()));
        }
        if let Some(owner) = object.controller().filter(|_| pods::is_active(pod)) {
            *self.active_pods.entry(owner.uid.clone()).or_default() += 1;
        }
        let index = self.pods_by_label.entry(namespace.clone()).or_default();
        for (key, value) in object.meta.labels.iter().flatten() {
            index.entry((key.clone(), value.clone())).or_default().insert(name.clone());
        }
    }

    fn drop_indexes(&mut self, object: &Arc<Object>) {
        self.by_uid.remove(object.uid());
        for owner in object.meta.owner_references.iter().flatten() {
            take(&mut self.by_owner, &owner.uid, &object.id);
        }
        let Body::Pod(pod) = &object.body else { return };
        let ObjectId { namespace, name, .. } = &object.id;
        if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) {
            take(&mut self.pods_by_node, node, &(namespace.clone(), name.clone()));
        }
        if let Some(owner) = object.controller().filter(|_| pods::is_active(pod))
            && let Some(count) = self.active_pods.get_mut(&owner.uid)
        {
            *count -= 1;
            if *count == 0 {
                self.active_pods.remove(&owner.uid);
            }
        }
        let Some(index) = self.pods_by_label.get_mut(namespace) else { return };
        for (key, value) in object.meta.labels.iter().flatten() {
            take(index, &(key.clone(), value.clone()), name);
        }
        if index.is_empty() {
            self.pods_by_label.remove(namespace);
        }
    }

    fn remember_removed(&mut self, object: &Object) {
        self.remember_uid(object.uid());
        self.spent_names.remove(object.uid());
        for owner in object.meta.owner_references.iter().flatten() {
            if !self.by_uid.contains_key(&owner.uid) {
                continue;
            }
            let names = self.spent_names.entry(owner.uid.clone()).or_default();
            names.push_back(object.id.name.clone());
            if names.len() > REMEMBERED_NAMES {
                names.pop_front();
            }
        }
    }

    fn remember_uid(&mut self, uid: &str) {
        if uid.is_empty() || !self.removed.insert(uid.to_owned()) {
            return;
        }
        self.removed_order.push_back(uid.to_owned());
        if self.removed_order.len() > REMEMBERED_UIDS
            && let Some(oldest) = self.removed_order.pop_front()
        {
            self.removed.remove(&oldest);
        }
    }
}

/// Takes one member out of a set in a map, and the set out of the map when it is left empty.
fn take<K: std::hash::Hash + Eq, V: Ord>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, member: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(member);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
