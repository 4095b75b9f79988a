//! The Job controller: pods that run to their end, as many as are asked for, and a status that counts each of them once.
//!
//! A pod carries a finalizer until it is counted, so that no end is lost whoever deletes the pod: it is noted in `status.uncountedTerminatedPods`, its finalizer is
//! taken off, and what is noted and no longer held becomes part of the counts. A crash between any two of these steps counts nothing twice.

mod indexes;
mod make;
mod policy;
mod status;
mod tally;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strake_kinds::batch::{Job, JobSpec, JobStatus};

use crate::action::{Action, Decision, EventType, Propagation};
use crate::object::{Body, Kind, Object};
use crate::view::{Change, View};
use crate::{Controller, Key, pods, selector, write};
use status::Target;
use tally::Tally;

/// What a pod carries until it is counted.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The controller that does Jobs which name none.
const MANAGED_BY: &str = "kubernetes.io/job-controller";
/// Pods created or deleted in one decision at most.
const MOST_AT_ONCE: usize = 500;

/// See the module.
pub struct Jobs;

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::JOB, Kind::POD]
    }

    fn keys_for(&self, view: &View, change: &Change) -> Vec<Key> {
        if change.id.kind == Kind::JOB {
            return vec![change.id.clone()];
        }
        let mut keys = BTreeSet::new();
        for side in change.sides() {
            match side.controller() {
                Some(owner) if owner.kind == "Job" => drop(keys.insert(Key::new(Kind::JOB, &change.id.namespace, &owner.name))),
                Some(_) => {}
                // Its Job was deleted without it: it is let go.
                None if tally::is_tracked(side) => keys.extend(job_label(side).map(|name| Key::new(Kind::JOB, &change.id.namespace, name))),
                None => keys.extend(
                    view.in_namespace(&Kind::JOB, &change.id.namespace)
                        .filter(|object| {
                            job(object).and_then(|job| job.spec().selector.as_ref()).is_some_and(|chosen| selector::matches(chosen, side.meta.labels.as_ref()))
                        })
                        .map(|object| object.id.clone()),
                ),
            }
        }
        keys.into_iter().collect()
    }

    fn reconcile(&self, view: &View, key: &Key, now: Timestamp) -> Decision {
        let mut actions = forsaken(view, key);
        let Some(object) = view.get(key) else { return Decision { actions, requeue_after: None } };
        let Some(task) = job(object).filter(|task| task.is_ours()) else { return Decision { actions, requeue_after: None } };
        let turn = Turn { view, object, task, now };
        let requeue_after = match finished(task.status()) {
            Some(at) => turn.after_the_end(at, &mut actions),
            None => turn.run(&mut actions),
        };
        Decision { actions, requeue_after }
    }

    fn on_failure(&self, view: &View, key: &Key, failed: &Action, error: &str, _now: Timestamp) -> Decision {
        let (Some(object), Action::Create { .. }) = (view.get(key), failed) else { return Decision::default() };
        Decision { actions: vec![write::event(object, EventType::Warning, "FailedCreate", format!("Error creating: {error}"))], requeue_after: None }
    }
}

/// A Job that has a specification.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    raw: &'a Job,
    spec: &'a JobSpec,
}

impl<'a> Task<'a> {
    fn spec(&self) -> &'a JobSpec {
        self.spec
    }

    pub(crate) fn status(&self) -> Option<&'a JobStatus> {
        self.raw.status.as_ref()
    }

    fn is_ours(&self) -> bool {
        self.spec.managed_by.as_deref().is_none_or(|manager| manager == MANAGED_BY)
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn completions(&self) -> Option<usize> {
        self.spec.completions.map(|count| usize::try_from(count).unwrap_or(0))
    }

    fn parallelism(&self) -> usize {
        usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0)
    }

    /// A pod is replaced only when it has ended, and not as soon as it is asked to.
    fn waits_for_the_end(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }
}

pub(crate) fn job(object: &Object) -> Option<Task<'_>> {
    let Body::Job(raw) = &object.body else { return None };
    Some(Task { raw, spec: raw.spec.as_ref()? })
}

/// When it came to its end, if it has.
pub(crate) fn finished(status: Option<&JobStatus>) -> Option<Timestamp> {
    let conditions = status?.conditions.iter().flatten();
    let end = conditions.into_iter().find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True")?;
    Some(end.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// Pods of a Job that is gone are held by nobody.
fn forsaken(view: &View, key: &Key) -> Vec<Action> {
    let uid = view.get(key).map(|object| object.uid());
    let is_forsaken = |pod: &&Arc<Object>| {
        let lost = match pod.controller() {
            Some(owner) => owner.kind == "Job" && owner.name == key.name && Some(owner.uid.as_str()) != uid,
            None => uid.is_none() && job_label(pod) == Some(&key.name),
        };
        lost && tally::is_tracked(pod)
    };
    view.in_namespace(&Kind::POD, &key.namespace).filter(is_forsaken).map(|pod| untrack(pod, "its Job is gone")).collect()
}

fn job_label(pod: &Object) -> Option<&String> {
    pod.meta.labels.as_ref()?.get("batch.kubernetes.io/job-name")
}

fn untrack(pod: &Object, reason: &'static str) -> Action {
    let kept: Vec<&String> = pod.meta.finalizers.iter().flatten().filter(|name| *name != TRACKING).collect();
    write::patch(pod, serde_json::json!({"metadata": {"finalizers": kept}}), reason)
}

fn track(pod: &Object) -> Action {
    let mut held: Vec<&str> = pod.meta.finalizers.iter().flatten().map(String::as_str).collect();
    held.push(TRACKING);
    write::patch(pod, serde_json::json!({"metadata": {"finalizers": held}}), "it is held until it is counted")
}

struct Turn<'v> {
    view: &'v View,
    object: &'v Arc<Object>,
    task: Task<'v>,
    now: Timestamp,
}

impl<'v> Turn<'v> {
    /// A Job that has come to its end goes when its time is over, if it has one.
    fn after_the_end(&self, end: Timestamp, actions: &mut Vec<Action>) -> Option<Duration> {
        actions.extend(self.mine(&mut Vec::new()).into_iter().filter(|pod| tally::is_tracked(pod)).map(|pod| untrack(pod, "its Job has come to its end")));
        let ttl = self.task.spec.ttl_seconds_after_finished?;
        if self.object.is_terminating() {
            return None;
        }
        let due = end + SignedDuration::from_secs(i64::from(ttl));
        if due > self.now {
            return Duration::try_from(due.duration_since(self.now)).ok();
        }
        actions.push(Action::Delete {
            id: self.object.id.clone(),
            uid: self.object.uid().to_owned(),
            propagation: Propagation::Foreground,
            grace_seconds: None,
            reason: "its ttlSecondsAfterFinished are over".into(),
        });
        None
    }

    fn run(&self, actions: &mut Vec<Action>) -> Option<Duration> {
        let mine = self.mine(actions);
        let mut tally = Tally::of(&self.task, &mine);
        let target = status::target(&self.task, &tally, self.now);
        let mut wake = self.deadline(&target);
        let mut changes = Vec::new();
        if self.object.is_terminating() {
            // Its pods go with it; what ends meanwhile is still counted.
        } else if matches!(target, Some(Target::Failed { .. })) {
            changes.extend(tally.active.iter().take(MOST_AT_ONCE).map(|pod| delete(pod, "its Job has failed")));
            changes.extend(tally.active.iter().take(MOST_AT_ONCE).map(|pod| self.deleted(pod)));
        } else {
            let wanted = if target.is_some() || self.task.is_suspended() { 0 } else { make::wanted(&self.task, &tally) };
            let reason = match () {
                () if target.is_some() => "its Job has succeeded",
                () if self.task.is_suspended() => "its Job is suspended",
                () => "its Job runs fewer pods at once",
            };
            let excess = tally.active.len().saturating_sub(wanted).min(MOST_AT_ONCE);
            let order = make::least_useful(&tally);
            let (doomed, kept) = order.split_at(excess);
            actions.extend(kept.iter().filter(|pod| !tally::is_tracked(pod)).map(|pod| track(pod)));
            for pod in doomed.iter().copied() {
                if tally::is_tracked(pod) {
                    changes.push(untrack(pod, "what its Job takes back counts as no failure"));
                }
                changes.push(delete(pod, reason));
                changes.push(self.deleted(pod));
            }
            let pending = make::missing(&self.task, &tally, wanted);
            match make::pause(&tally, self.now).filter(|_| pending > 0) {
                Some(pause) => wake = Some(wake.map_or(pause, |other| other.min(pause))),
                None => make::pods(self, &tally, pending.min(MOST_AT_ONCE), &mut changes),
            }
        }
        let next = status::next(&self.task, &mut tally, target.as_ref(), self.now);
        let said = status::events(self.object, self.task.status(), &next);
        actions.extend(write::status(self.object, self.task.status(), &next, "the ends of pods are counted"));
        actions.extend(said);
        // Noted first, then let go.
        actions.extend(tally.noted.iter().map(|pod| untrack(pod, "its end is counted")));
        actions.extend(changes);
        wake
    }

    fn deleted(&self, pod: &Object) -> Action {
        write::event(self.object, EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {}", pod.id.name))
    }

    /// How long until the Job has run too long.
    fn deadline(&self, target: &Option<Target>) -> Option<Duration> {
        let (None, false) = (target, self.task.is_suspended()) else { return None };
        let start = self.task.status().and_then(|status| status.start_time.as_ref()).map_or(self.now, |time| time.0);
        let due = start + SignedDuration::from_secs(self.task.spec.active_deadline_seconds?);
        Duration::try_from(due.duration_since(self.now)).ok()
    }

    /// The pods that the Job controls. Pods that it selects and nobody controls are adopted.
    fn mine(&self, actions: &mut Vec<Action>) -> Vec<&'v Arc<Object>> {
        let uid = self.object.uid();
        let owned = self.view.owned(uid).filter(|owned| owned.id.kind == Kind::POD && owned.controller().is_some_and(|owner| owner.uid == uid));
        let mut mine: Vec<&Arc<Object>> = owned.collect();
        if self.object.is_terminating() || finished(self.task.status()).is_some() {
            return mine;
        }
        let Some(chosen) = self.task.spec.selector.as_ref().filter(|chosen| !selector::is_empty(chosen)) else { return mine };
        let found: Vec<Key> = self
            .view
            .pods_matching(&self.object.id.namespace, chosen)
            .filter(|pod| pod.controller().is_none() && pods::pod(pod).is_some_and(pods::is_active))
            .map(|pod| pod.id.clone())
            .collect();
        for pod in found.iter().filter_map(|id| self.view.get(id)) {
            actions.push(write::adopt(self.object, pod));
            mine.push(pod);
        }
        mine
    }
}

fn delete(pod: &Object, reason: &'static str) -> Action {
    Action::Delete { id: pod.id.clone(), uid: pod.uid().to_owned(), propagation: Propagation::Background, grace_seconds: None, reason: reason.into() }
}
