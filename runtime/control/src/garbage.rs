//! The garbage collector: what becomes of objects whose owners go.
//!
//! An object all of whose owners are gone is deleted (background). An owner that carries the finalizer `foregroundDeletion` is
//! held until the dependents that block it are gone, and one that carries `orphan` until its dependents have let go of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use strake_kinds::meta::OwnerReference;

use crate::action::{Action, Decision, Propagation};
use crate::object::{Kind, Object};
use crate::view::{Change, View};
use crate::{Controller, Key, write};

/// The finalizer of an owner that goes after its dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner that leaves its dependents behind.
pub(crate) const ORPHAN: &str = "orphan";

/// See the module.
pub struct Garbage;

impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "garbage-collector"
    }

    /// All kinds: anything can own and be owned.
    fn watches(&self) -> &'static [Kind] {
        &[]
    }

    fn keys_for(&self, view: &View, change: &Change) -> Vec<Key> {
        let mut keys = BTreeSet::new();
        if change.after.as_ref().is_some_and(|after| has_finalizer(after) || has_new_owners(change, after)) {
            keys.insert(change.id.clone());
        }
        let replaced = change.before.as_ref().filter(|before| change.after.as_ref().is_none_or(|after| after.uid() != before.uid()));
        let began_to_go = change.after.as_ref().filter(|after| after.is_terminating() && has_finalizer(after));
        for owner in replaced.into_iter().chain(began_to_go) {
            keys.extend(view.owned(owner.uid()).map(|dependent| dependent.id.clone()));
        }
        // An owner that waits for its dependents is told when one of them changes or goes.
        for owner in change.sides().flat_map(|side| side.meta.owner_references.iter().flatten()) {
            let waits = view.by_uid(&owner.uid).filter(|owner| owner.is_terminating() && has_finalizer(owner));
            keys.extend(waits.map(|owner| owner.id.clone()));
        }
        keys.into_iter().collect()
    }

    fn reconcile(&self, view: &View, key: &Key, _now: Timestamp) -> Decision {
        let Some(object) = view.get(key) else { return Decision::default() };
        let mut actions = Vec::new();
        collect(view, object, &mut actions);
        if object.is_terminating() {
            if finalizers(object).any(|one| one == ORPHAN) {
                orphan_dependents(view, object, &mut actions);
            } else if finalizers(object).any(|one| one == FOREGROUND) {
                delete_dependents(view, object, &mut actions);
            }
        }
        Decision { actions, requeue_after: None }
    }
}

/// It has owners that were not looked at yet.
fn has_new_owners(change: &Change, after: &Object) -> bool {
    let owners = after.meta.owner_references.as_deref().unwrap_or_default();
    let known = change.before.as_ref().filter(|before| before.uid() == after.uid()).and_then(|before| before.meta.owner_references.as_deref());
    !owners.is_empty() && known != Some(owners)
}

fn finalizers(object: &Object) -> impl Iterator<Item = &str> {
    object.meta.finalizers.iter().flatten().map(String::as_str)
}

fn has_finalizer(object: &Object) -> bool {
    finalizers(object).any(|one| one == FOREGROUND || one == ORPHAN)
}

/// How an owner reference stands.
enum Owner<'v> {
    /// There, and staying.
    Solid,
    /// It is being deleted in the foreground and waits for its dependents.
    Waiting(&'v Arc<Object>),
    /// There is no such object, or it is another one by that name.
    Gone,
    /// Its kind is one the view has never seen: nothing can be said about it.
    Unknown,
}

fn stand<'v>(view: &'v View, dependent: &Object, owner: &OwnerReference) -> Owner<'v> {
    let Some(found) = view.by_uid(&owner.uid) else {
        // A kind that is not watched looks as if it had no objects. Only kinds of which something was seen are judged.
        let kind = Kind::new(&owner.api_version, &owner.kind);
        return if view.knows(&kind) { Owner::Gone } else { Owner::Unknown };
    };
    let other_namespace = !found.id.namespace.is_empty() && found.id.namespace != dependent.id.namespace;
    match () {
        () if other_namespace => Owner::Gone,
        () if found.is_terminating() && finalizers(found).any(|one| one == FOREGROUND) => Owner::Waiting(found),
        () => Owner::Solid,
    }
}

/// Deletes an object that no owner holds any more; takes owners that are gone or going off one that another still holds.
fn collect(view: &View, object: &Arc<Object>, actions: &mut Vec<Action>) {
    let owners: Vec<&OwnerReference> = object.meta.owner_references.iter().flatten().collect();
    if owners.is_empty() || object.is_terminating() {
        return;
    }
    let (mut solid, mut waiting, mut left) = (0, None, Vec::new());
    for owner in &owners {
        match stand(view, object, owner) {
            Owner::Solid | Owner::Unknown => {
                solid += 1;
                left.push(*owner);
            }
            Owner::Waiting(found) => waiting = Some(found),
            Owner::Gone => {}
        }
    }
    if solid > 0 {
        // An owner that waits for its dependents does not wait for one that somebody else still needs.
        if left.len() < owners.len() {
            actions.push(write::patch(object, json!({"metadata": {"ownerReferences": left}}), "some of its owners are gone or going"));
        }
        return;
    }
    let (propagation, reason) = match waiting {
        Some(owner) => {
            let has_dependents = view.owned(object.uid()).next().is_some();
            let propagation = if has_dependents { Propagation::Foreground } else { Propagation::Background };
            (propagation, format!("its owner {} is being deleted after its dependents", owner.id))
        }
        None => (Propagation::Background, "its owners are gone".to_owned()),
    };
    actions.push(Action::Delete { id: object.id.clone(), uid: object.uid().to_owned(), propagation, grace_seconds: None, reason: reason.into() });
}

/// Deletes the dependents of an owner; lets the owner go once none is left that blocks it.
fn delete_dependents(view: &View, owner: &Arc<Object>, actions: &mut Vec<Action>) {
    let blocks = |dependent: &Arc<Object>| {
        let mut references = dependent.meta.owner_references.iter().flatten();
        references.any(|reference| reference.uid == owner.uid() && reference.block_owner_deletion == Some(true))
    };
    let mut blocked = false;
    for dependent in view.owned(owner.uid()) {
        blocked |= blocks(dependent);
        collect(view, dependent, actions);
    }
    if !blocked {
        actions.push(without_finalizer(owner, FOREGROUND, "its dependents are gone"));
    }
}

/// Takes the owner off its dependents, then lets it go.
fn orphan_dependents(view: &View, owner: &Arc<Object>, actions: &mut Vec<Action>) {
    let before = actions.len();
    for dependent in view.owned(owner.uid()) {
        actions.push(write::release(dependent, owner.uid(), format!("{} is deleted and leaves its dependents", owner.id)));
    }
    if actions.len() == before {
        actions.push(without_finalizer(owner, ORPHAN, "its dependents are on their own"));
    }
}

fn without_finalizer(object: &Object, finalizer: &str, reason: &'static str) -> Action {
    let left: Vec<&str> = finalizers(object).filter(|one| *one != finalizer).collect();
    write::patch(object, json!({"metadata": {"finalizers": left}}), reason)
}
