//! Which set is of the present template, what it is called, which number it has, and which old ones are kept.

use std::collections::BTreeMap;

use serde_json::json;
use strake_kinds::apps::{ReplicaSet, ReplicaSetSpec};
use strake_kinds::core::PodTemplateSpec;
use strake_kinds::meta::ObjectMeta;

use super::{DESIRED, MOST, Member, Rollout};
use crate::action::{Action, EventType};
use crate::object::Kind;
use crate::view::View;
use crate::{names, replicaset, write};

/// The label that tells the pods of one set from those of another.
const HASH: &str = "pod-template-hash";
/// The number of a version, on the set and on the Deployment.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Numbers that a set had before its template was taken up again.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotations of the Deployment that are not copied to its sets.
const NOT_COPIED: [&str; 5] = ["kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MOST];

/// Whether a set is of this template, the hash label aside. `kubectl rollout undo` puts an old set's template back without it.
pub(super) fn is_of(member: &Member<'_>, template: &PodTemplateSpec) -> bool {
    member.set.spec().template.as_ref().is_some_and(|known| {
        let labels = |template: &PodTemplateSpec| template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
        let (mut known_labels, mut wanted_labels) = (labels(known), labels(template));
        known_labels.remove(HASH);
        wanted_labels.remove(HASH);
        let annotations = |template: &PodTemplateSpec| template.metadata.as_ref().and_then(|meta| meta.annotations.clone()).unwrap_or_default();
        known_labels == wanted_labels && known.spec == template.spec && annotations(known) == annotations(template)
    })
}

/// The number of a set.
pub(super) fn of(member: &Member<'_>) -> Option<i64> {
    member.annotation(REVISION)?.parse().ok()
}

fn newest_old(rollout: &Rollout<'_>) -> i64 {
    rollout.old.iter().filter_map(of).max().unwrap_or(0)
}

/// Gives the new set the highest number, and keeps it as the Deployment wants it.
pub(super) fn keep(rollout: &mut Rollout<'_>) {
    let next = newest_old(rollout) + 1;
    let Some(new) = &rollout.new else { return };
    let known = of(new);
    let number = known.unwrap_or(0).max(next);
    rollout.revision = Some(number);
    let mut notes = copied(rollout);
    notes.retain(|key, value| new.annotation(key) != Some(value));
    if known != Some(number) {
        notes.insert(REVISION.to_owned(), number.to_string());
        if let Some(known) = known {
            let history = new.annotation(HISTORY).map_or_else(|| known.to_string(), |history| format!("{history},{known}"));
            notes.insert(HISTORY.to_owned(), history);
        }
    }
    let wanted = rollout.spec.min_ready_seconds.unwrap_or(0);
    let min_ready_seconds = (new.set.spec().min_ready_seconds.unwrap_or(0) != wanted).then_some(wanted);
    if let Some(new) = &mut rollout.new {
        new.notes = notes;
        new.min_ready_seconds = min_ready_seconds;
    }
}

fn copied(rollout: &Rollout<'_>) -> BTreeMap<String, String> {
    let all = rollout.object.meta.annotations.iter().flatten();
    all.filter(|(key, _)| !NOT_COPIED.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Creates the set of the present template. A name that is taken by something else raises the collision count, which is part
/// of the hash, and the next decision finds another name.
pub(super) fn create_set(rollout: &mut Rollout<'_>, view: &View, size: i32) {
    let hash = names::content_hash(&rollout.spec.template, rollout.collisions);
    let id = &rollout.object.id;
    let name = format!("{}-{hash}", id.name);
    if view.find(&Kind::REPLICA_SET, &id.namespace, &name).is_some() {
        rollout.collisions += 1;
        return;
    }
    let number = newest_old(rollout) + 1;
    rollout.revision = Some(number);
    let set = new_set(rollout, &name, &hash, size, number);
    let reason = format!("no ReplicaSet has the present template: it becomes revision {number}");
    rollout.actions.push(Action::Create { object: write::to_value(&set), reason: reason.into() });
    let message = format!("Scaled up replica set {name} from 0 to {size}");
    rollout.actions.push(write::event(rollout.object, EventType::Normal, "ScalingReplicaSet", message));
    rollout.created = Some(name);
}

fn new_set(rollout: &Rollout<'_>, name: &str, hash: &str, size: i32, number: i64) -> ReplicaSet {
    let mut template = rollout.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = rollout.spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.to_owned());
    let mut annotations = copied(rollout);
    annotations.insert(REVISION.to_owned(), number.to_string());
    annotations.insert(DESIRED.to_owned(), rollout.replicas.to_string());
    annotations.insert(MOST.to_owned(), rollout.most().to_string());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(rollout.object.id.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![write::owner_reference(rollout.object)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec { replicas: Some(size), min_ready_seconds: rollout.spec.min_ready_seconds, selector, template: Some(template) }),
        status: None,
    }
}

/// Deletes old sets beyond `revisionHistoryLimit` once the rollout is complete: the ones with the lowest numbers go.
pub(super) fn forget_old(rollout: &mut Rollout<'_>) {
    let Ok(limit) = usize::try_from(rollout.spec.revision_history_limit.unwrap_or(10)) else { return };
    if !super::status::is_complete(rollout) {
        return;
    }
    let is_empty = |member: &&Member<'_>| {
        let counted = member.status().map_or(0, |status| status.replicas);
        member.size() == 0 && counted == 0 && !member.object.is_terminating()
    };
    let mut empty: Vec<&Member<'_>> = rollout.old.iter().filter(is_empty).collect();
    empty.sort_by_key(|member| (of(member).unwrap_or(0), member.object.id.name.clone()));
    let too_many = empty.len().saturating_sub(limit);
    let reason = || format!("more than {limit} old revisions are kept");
    let actions: Vec<Action> = empty.into_iter().take(too_many).map(|member| replicaset::delete(member.object, reason())).collect();
    rollout.actions.extend(actions);
}

/// Puts the number on the Deployment.
pub(super) fn note(rollout: &mut Rollout<'_>) {
    let Some(number) = rollout.revision.map(|number| number.to_string()) else { return };
    let known = rollout.object.meta.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    if known != Some(&number) {
        let patch = json!({"metadata": {"annotations": {REVISION: number}}});
        rollout.actions.push(write::patch(rollout.object, patch, format!("the present template is revision {number}")));
    }
}
