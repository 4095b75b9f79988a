//! The namespace controller: a namespace that is being deleted is emptied, then let go.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Decision};
use crate::object::{Body, Kind, Object};
use crate::view::{Change, View};
use crate::{Controller, Key, replicaset, write};

/// Objects deleted in one decision at most.
const MOST_AT_ONCE: usize = 1000;
/// What is deleted together with its namespace, as `kubectl delete -f DIR` does one by one, must be found there still: whoever asks has this long. It is
/// counted from a time in whole seconds, so it is between one and two.
const TIME_TO_ASK: SignedDuration = SignedDuration::from_secs(2);
/// How soon to look again while contents are still going: their own deletions wake the namespace too.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// See the module.
pub struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    /// All kinds: whatever leaves a namespace may be the last thing in it.
    fn watches(&self) -> &'static [Kind] {
        &[]
    }

    fn keys_for(&self, view: &View, change: &Change) -> Vec<Key> {
        if change.id.kind == Kind::NAMESPACE {
            return vec![change.id.clone()];
        }
        let namespace = view.find(&Kind::NAMESPACE, "", &change.id.namespace);
        namespace.filter(|namespace| namespace.is_terminating()).map(|namespace| namespace.id.clone()).into_iter().collect()
    }

    fn reconcile(&self, view: &View, key: &Key, now: Timestamp) -> Decision {
        let Some(object) = view.get(key).filter(|object| object.is_terminating()) else { return Decision::default() };
        let Body::Namespace(namespace) = &object.body else { return Decision::default() };
        let mut actions: Vec<Action> = Vec::new();
        let mut status = namespace.status.clone().unwrap_or_default();
        if status.phase.as_deref() != Some("Terminating") {
            status.phase = Some("Terminating".to_owned());
            actions.extend(write::status(object, namespace.status.as_ref(), &status, "the namespace is being deleted"));
        }
        let ends = object.meta.deletion_timestamp.as_ref().map(|asked| asked.0 + TIME_TO_ASK).filter(|ends| *ends > now);
        if let Some(ends) = ends.filter(|_| view.contents(&key.name).any(|content| is_somebodys(content))) {
            return Decision { actions, requeue_after: Duration::try_from(ends.duration_since(now)).ok() };
        }
        let mut left = 0;
        for content in view.contents(&key.name) {
            left += 1;
            if !content.is_terminating() && actions.len() < MOST_AT_ONCE {
                actions.push(replicaset::delete(content, format!("namespace {} is being deleted", key.name)));
            }
        }
        if left > 0 {
            return Decision { actions, requeue_after: Some(LOOK_AGAIN) };
        }
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        if finalizers.is_some_and(|finalizers| finalizers.iter().any(|one| one == "kubernetes")) {
            let mut empty = (**namespace).clone();
            empty.spec.get_or_insert_default().finalizers.get_or_insert_default().retain(|one| one != "kubernetes");
            // The status patch above has moved the revision; nobody else competes for the finalizer.
            empty.metadata.resource_version = None;
            actions.push(Action::Finalize { object: write::to_value(&empty), reason: "the namespace is empty".into() });
        }
        Decision { actions, requeue_after: None }
    }
}

/// An object that a person made and did not delete yet: no event, nothing that comes with every namespace, nothing that goes with its owner.
fn is_somebodys(content: &Object) -> bool {
    let furnished = matches!((&*content.id.kind.kind, &*content.id.name), ("Event", _) | ("ServiceAccount", "default") | ("ConfigMap", "kube-root-ca.crt"));
    !furnished && !content.is_terminating() && content.meta.owner_references.as_ref().is_none_or(Vec::is_empty)
}
