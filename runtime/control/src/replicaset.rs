//! The ReplicaSet controller: as many pods as are asked for, and a status that counts them.

mod rank;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use strake_kinds::apps::ReplicaSet;
use strake_kinds::core::Pod;
use strake_kinds::meta::LabelSelector;

use crate::action::{Action, Decision, EventType, Propagation};
use crate::object::{Body, Kind, Object};
use crate::view::{Change, View};
use crate::{Controller, Key, names, pods, selector, write};

/// Pods created or deleted in one decision at most: a mistake in a number should not be final at once.
const MOST_AT_ONCE: usize = 500;

/// See the module.
pub struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::REPLICA_SET, Kind::POD]
    }

    fn keys_for(&self, view: &View, change: &Change) -> Vec<Key> {
        if change.id.kind == Kind::REPLICA_SET {
            return vec![change.id.clone()];
        }
        let mut keys = BTreeSet::new();
        for side in change.sides() {
            match side.controller() {
                Some(owner) if owner.kind == "ReplicaSet" => drop(keys.insert(Key::new(Kind::REPLICA_SET, &change.id.namespace, &owner.name))),
                Some(_) => {}
                None => keys.extend(
                    view.in_namespace(&Kind::REPLICA_SET, &change.id.namespace)
                        .filter(|set| replica_set(set).is_some_and(|set| selector::matches(&set.spec().selector, side.meta.labels.as_ref())))
                        .map(|set| set.id.clone()),
                ),
            }
        }
        keys.into_iter().collect()
    }

    fn reconcile(&self, view: &View, key: &Key, now: Timestamp) -> Decision {
        let Some(object) = view.get(key) else { return Decision::default() };
        let Some(set) = replica_set(object) else { return Decision::default() };
        let mut decision = Decision::default();
        let mine = claim(view, object, set.spec(), &mut decision.actions);
        let active: Vec<&Arc<Object>> = mine.iter().copied().filter(|pod| pods::pod(pod).is_some_and(pods::is_active)).collect();
        if !object.is_terminating() {
            scale(view, object, &set, &active, now, &mut decision.actions);
        }
        let (status, look_again) = status::of(&set, &active, now);
        let settled = i32::try_from(active.len()).unwrap_or(i32::MAX) == set.replicas();
        let status = if settled { status::without_failure(status) } else { status };
        decision.actions.extend(write::status(object, set.raw.status.as_ref(), &status, "the numbers of pods have changed"));
        decision.requeue_after = look_again.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        decision
    }

    fn on_failure(&self, view: &View, key: &Key, failed: &Action, error: &str, now: Timestamp) -> Decision {
        let Some(object) = view.get(key) else { return Decision::default() };
        let (Some(set), Action::Create { .. }) = (replica_set(object), failed) else { return Decision::default() };
        let status = status::with_failure(set.raw.status.clone().unwrap_or_default(), "FailedCreate", error, now);
        let mut actions: Vec<Action> = write::status(object, set.raw.status.as_ref(), &status, "a pod could not be created").into_iter().collect();
        if !actions.is_empty() {
            actions.push(write::event(object, EventType::Warning, "FailedCreate", format!("Error creating: {error}")));
        }
        Decision { actions, requeue_after: None }
    }
}

/// A ReplicaSet with its optional parts resolved.
pub(crate) struct Set<'a> {
    pub(crate) raw: &'a ReplicaSet,
    spec: &'a strake_kinds::apps::ReplicaSetSpec,
}

impl<'a> Set<'a> {
    pub(crate) fn spec(&self) -> &'a strake_kinds::apps::ReplicaSetSpec {
        self.spec
    }

    pub(crate) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1).max(0)
    }
}

/// The ReplicaSet in an object. One without a specification is none.
pub(crate) fn replica_set(object: &Object) -> Option<Set<'_>> {
    let Body::ReplicaSet(set) = &object.body else { return None };
    Some(Set { raw: set, spec: set.spec.as_ref()? })
}

/// The pods that the set controls. Pods it selects that nobody controls are adopted; pods it no longer selects are let go.
fn claim<'v>(view: &'v View, object: &Object, spec: &strake_kinds::apps::ReplicaSetSpec, actions: &mut Vec<Action>) -> Vec<&'v Arc<Object>> {
    let mut mine = Vec::new();
    for pod in view.owned(object.uid()).filter(|owned| owned.id.kind == Kind::POD) {
        if pod.controller().is_none_or(|owner| owner.uid != object.uid()) {
            continue;
        }
        if selector::matches(&spec.selector, pod.meta.labels.as_ref()) {
            mine.push(pod);
        } else if !pod.is_terminating() {
            actions.push(write::release(pod, object.uid(), format!("{} is no longer selected by {}", pod.id, object.id)));
        }
    }
    if !object.is_terminating() && !selector::is_empty(&spec.selector) {
        for pod in orphans(view, &object.id.namespace, &spec.selector) {
            actions.push(write::adopt(object, pod));
            mine.push(pod);
        }
    }
    mine
}

/// Active pods of a namespace that a selector selects and nobody controls.
fn orphans<'v>(view: &'v View, namespace: &str, selector: &LabelSelector) -> Vec<&'v Arc<Object>> {
    // The closure of a boxed iterator would borrow the selector for as long as the view: collect identities first.
    let found: Vec<Key> = view
        .pods_matching(namespace, selector)
        .filter(|pod| pod.controller().is_none() && pods::pod(pod).is_some_and(pods::is_active))
        .map(|pod| pod.id.clone())
        .collect();
    found.iter().filter_map(|id| view.get(id)).collect()
}

fn scale(view: &View, object: &Object, set: &Set<'_>, active: &[&Arc<Object>], now: Timestamp, actions: &mut Vec<Action>) {
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    if active.len() < wanted {
        create(view, object, set, (wanted - active.len()).min(MOST_AT_ONCE), wanted, actions);
    } else if active.len() > wanted {
        let excess = (active.len() - wanted).min(MOST_AT_ONCE);
        for pod in rank::for_deletion(view, active, now).into_iter().take(excess) {
            let reason = format!("{} pods are wanted and {} are there", wanted, active.len());
            actions.push(delete(pod, reason));
            actions.push(write::event(object, EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {}", pod.id.name)));
        }
    }
}

pub(crate) fn delete(object: &Object, reason: String) -> Action {
    Action::Delete { id: object.id.clone(), uid: object.uid().to_owned(), propagation: Propagation::Background, grace_seconds: None, reason: reason.into() }
}

/// Names come from numbered slots: those of pods that are there, and of pods that lately were, are passed over. A decision on a
/// view that does not show a pod yet takes the same slot again and makes no second pod.
fn create(view: &View, object: &Object, set: &Set<'_>, missing: usize, wanted: usize, actions: &mut Vec<Action>) {
    let spent: BTreeSet<&str> = view.spent_names(object.uid()).collect();
    let mut taken = BTreeSet::new();
    let mut slot = 0;
    while taken.len() < missing {
        let name = names::dependent(&object.id.name, object.uid(), slot);
        slot += 1;
        if spent.contains(name.as_str()) || view.find(&Kind::POD, &object.id.namespace, &name).is_some() || !taken.insert(name.clone()) {
            continue;
        }
        let reason = format!("{missing} of {wanted} pods are missing");
        actions.push(Action::Create { object: new_pod(object, set, &name), reason: reason.into() });
        actions.push(write::event(object, EventType::Normal, "SuccessfulCreate", format!("Created pod: {name}")));
    }
}

fn new_pod(object: &Object, set: &Set<'_>, name: &str) -> Value {
    let template = set.spec().template.clone().unwrap_or_default();
    let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.generate_name = Some(format!("{}-", object.id.name));
    pod.metadata.namespace = Some(object.id.namespace.clone());
    pod.metadata.owner_references = Some(vec![write::owner_reference(object)]);
    pod.metadata.creation_timestamp = None;
    let mut value = write::to_value(&pod);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    debug_assert_eq!(value["kind"], json!("Pod"));
    value
}
