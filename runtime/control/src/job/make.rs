//! How many pods a Job wants, when, and what they are like.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use strake_kinds::core::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::tally::{Tally, in_range};
use super::{TRACKING, Task, Turn, indexes};
use crate::action::{Action, EventType};
use crate::object::{Kind, Object};
use crate::{names, pods, write};

/// The pause after the first failure; it doubles with each one.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(10);
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// How many pods should be active.
pub(super) fn wanted(task: &Task<'_>, tally: &Tally<'_>) -> usize {
    let succeeded = usize::try_from(tally.succeeded).unwrap_or(0);
    match task.completions() {
        // The pods agree among themselves when the work is done: after the first success none is added.
        None if succeeded > 0 => tally.active.len().min(task.parallelism()),
        None => task.parallelism(),
        Some(completions) => {
            let lost = if task.is_indexed() { tally.lost.len() } else { 0 };
            completions.saturating_sub(succeeded + lost).min(task.parallelism())
        }
    }
}

/// How many pods are to be made.
pub(super) fn missing(task: &Task<'_>, tally: &Tally<'_>, wanted: usize) -> usize {
    let there = tally.active.len() + if task.waits_for_the_end() { tally.terminating } else { 0 };
    wanted.saturating_sub(there)
}

/// How long the next pod has to wait because earlier ones failed.
pub(super) fn pause(tally: &Tally<'_>, now: Timestamp) -> Option<Duration> {
    let (failures, last) = tally.streak;
    let doubled = FIRST_PAUSE.checked_mul(1 << failures.saturating_sub(1).min(10)).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    let due = last? + doubled;
    Duration::try_from(due.duration_since(now)).ok().filter(|pause| !pause.is_zero())
}

/// The active pods in the order in which they are given up: unbound, unready, young ones first.
pub(super) fn least_useful<'v>(tally: &Tally<'v>) -> Vec<&'v Arc<Object>> {
    let mut order = tally.active.clone();
    order.sort_by_cached_key(|object| {
        let pod = pods::pod(object);
        let bound = pod.and_then(pods::node).is_some();
        let created = object.meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        (bound, pod.is_some_and(pods::is_ready), std::cmp::Reverse(created), object.id.name.clone())
    });
    order
}

/// Makes so many pods.
pub(super) fn pods(turn: &Turn<'_>, tally: &Tally<'_>, count: usize, changes: &mut Vec<Action>) {
    let object = turn.object;
    let spent: BTreeSet<&str> = turn.view.spent_names(object.uid()).collect();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut free = free_indexes(&turn.task, tally);
    for _ in 0..count {
        let index = free.pop_first();
        if turn.task.is_indexed() && index.is_none() {
            return;
        }
        let base = index.map_or_else(|| object.id.name.clone(), |index| format!("{}-{index}", object.id.name));
        let is_free =
            |name: &String| !spent.contains(name.as_str()) && turn.view.find(&Kind::POD, &object.id.namespace, name).is_none() && !taken.contains(name);
        // Only so many names can be spent or taken: one of them is free.
        let Some(name) = (0..).map(|slot| names::dependent(&base, object.uid(), slot)).find(is_free) else { return };
        taken.insert(name.clone());
        let pod = new_pod(object, &turn.task, &name, index, index.map_or(0, |index| tally.index_failures.get(&index).copied().unwrap_or(0)));
        changes.push(Action::Create { object: pod, reason: format!("{count} pods are missing").into() });
        changes.push(write::event(object, EventType::Normal, "SuccessfulCreate", format!("Created pod: {name}")));
    }
}

/// The indexes that no pod works on and that are neither completed nor lost.
fn free_indexes(task: &Task<'_>, tally: &Tally<'_>) -> BTreeSet<u32> {
    if !task.is_indexed() {
        return BTreeSet::new();
    }
    let busy: BTreeSet<u32> = tally.active.iter().filter_map(|object| indexes::of(&object.meta)).collect();
    let all = (0..).take_while(|index| in_range(task, *index));
    // Never more than are looked for: enough for what runs at once.
    let most = task.parallelism() + busy.len();
    all.filter(|index| !busy.contains(index) && !tally.completed.contains(index) && !tally.lost.contains(index)).take(most.max(1)).collect()
}

fn new_pod(object: &Object, task: &Task<'_>, name: &str, index: Option<u32>, failures: i32) -> Value {
    let template = task.spec().template.clone();
    let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.generate_name = Some(match index {
        Some(index) => format!("{}-{index}-", object.id.name),
        None => format!("{}-", object.id.name),
    });
    pod.metadata.namespace = Some(object.id.namespace.clone());
    pod.metadata.owner_references = Some(vec![write::owner_reference(object)]);
    pod.metadata.creation_timestamp = None;
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    if let Some(index) = index {
        let text = index.to_string();
        let annotations: &mut BTreeMap<String, String> = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(indexes::INDEX.to_owned(), text.clone());
        if task.spec().backoff_limit_per_index.is_some() {
            annotations.insert(indexes::FAILURES.to_owned(), failures.to_string());
        }
        pod.metadata.labels.get_or_insert_default().insert(indexes::INDEX.to_owned(), text);
        if let Some(spec) = &mut pod.spec {
            spec.hostname.get_or_insert_with(|| format!("{}-{index}", object.id.name));
            spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(name_index);
        }
    }
    let mut value = write::to_value(&pod);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    value
}

/// Tells a container which index it works on, unless its author has said so otherwise.
fn name_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: format!("metadata.annotations['{}']", indexes::INDEX) };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    variables.push(EnvVar { name: INDEX_VARIABLE.to_owned(), value: None, value_from: Some(source) });
}
