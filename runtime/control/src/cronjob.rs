//! The CronJob controller: a Job at each time of a schedule, and no more finished ones than should be kept.
//!
//! The name of a run's Job is computed from its time, so that a decision that is made twice makes one Job.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strake_kinds::batch::{CronJob, CronJobSpec, CronJobStatus, JobStatus};
use strake_kinds::core::ObjectReference;
use strake_kinds::schedule::{Schedule, time_zone};

use crate::action::{Action, Decision, EventType, Propagation};
use crate::object::{Body, Kind, Object};
use crate::view::{Change, View};
use crate::{Controller, Key, job, write};

/// The time that a run was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// See the module.
pub struct CronJobs;

impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        "cronjob-controller"
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::CRON_JOB, Kind::JOB]
    }

    fn keys_for(&self, _view: &View, change: &Change) -> Vec<Key> {
        if change.id.kind == Kind::CRON_JOB {
            return vec![change.id.clone()];
        }
        let owners = change.sides().filter_map(|side| side.controller()).filter(|owner| owner.kind == "CronJob");
        let mut keys: Vec<Key> = owners.map(|owner| Key::new(Kind::CRON_JOB, &change.id.namespace, &owner.name)).collect();
        keys.dedup();
        keys
    }

    fn reconcile(&self, view: &View, key: &Key, now: Timestamp) -> Decision {
        let Some(object) = view.get(key).filter(|object| !object.is_terminating()) else { return Decision::default() };
        let Body::CronJob(raw) = &object.body else { return Decision::default() };
        let Some(spec) = raw.spec.as_ref() else { return Decision::default() };
        let runs = Runs::of(view, object);
        let mut actions = Vec::new();
        let mut status = runs.status(raw);
        let due = Due::of(object, spec, raw.status.as_ref(), now);
        if let Some(time) = due.time {
            begin(view, object, spec, time, &due.zone, &runs, &mut status, &mut actions);
        }
        actions.extend(write::status(object, raw.status.as_ref(), &status, "the runs have changed"));
        runs.clean(object, spec, &mut actions);
        Decision { actions, requeue_after: due.next.and_then(|next| Duration::try_from(next.duration_since(now)).ok()) }
    }

    fn on_failure(&self, view: &View, key: &Key, failed: &Action, error: &str, _now: Timestamp) -> Decision {
        let (Some(object), Action::Create { .. }) = (view.get(key), failed) else { return Decision::default() };
        Decision { actions: vec![write::event(object, EventType::Warning, "FailedCreate", format!("Error creating job: {error}"))], requeue_after: None }
    }
}

/// What the schedule says.
struct Due {
    /// A run that should have begun.
    time: Option<Timestamp>,
    /// When to look again.
    next: Option<Timestamp>,
    zone: TimeZone,
}

impl Due {
    fn of(object: &Object, spec: &CronJobSpec, status: Option<&CronJobStatus>, now: Timestamp) -> Due {
        let zone = spec.time_zone.as_deref().and_then(|name| time_zone(name).ok()).unwrap_or(TimeZone::UTC);
        let nothing = Due { time: None, next: None, zone: zone.clone() };
        // What cannot be read was refused when it was written.
        let Ok(schedule) = Schedule::parse(&spec.schedule) else { return nothing };
        if spec.suspend == Some(true) {
            return nothing;
        }
        let created = object.meta.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let last = status.and_then(|status| status.last_schedule_time.as_ref()).map_or(created, |time| time.0);
        // A time that was missed for longer than this is not made up for.
        let horizon = spec.starting_deadline_seconds.map(|seconds| now - SignedDuration::from_secs(seconds.saturating_add(1)));
        let after = horizon.map_or(last, |horizon| last.max(horizon));
        let every = matches!(schedule, Schedule::Every(_));
        let time = if every { schedule.last(last, now, &zone).filter(|time| *time > after) } else { schedule.last(after, now, &zone) };
        Due { time, next: schedule.next(if every { time.unwrap_or(last) } else { now }, &zone).map(|next| next.max(now + SignedDuration::from_secs(1))), zone }
    }
}

/// The Jobs of a CronJob.
#[derive(Default)]
struct Runs<'v> {
    active: Vec<&'v Arc<Object>>,
    succeeded: Vec<&'v Arc<Object>>,
    failed: Vec<&'v Arc<Object>>,
}

fn status_of(object: &Object) -> Option<&JobStatus> {
    job::job(object)?.status()
}

impl<'v> Runs<'v> {
    fn of(view: &'v View, object: &Object) -> Self {
        let uid = object.uid();
        let mut runs = Runs::default();
        for run in view.owned(uid).filter(|owned| owned.id.kind == Kind::JOB && owned.controller().is_some_and(|owner| owner.uid == uid)) {
            let conditions = status_of(run).into_iter().flat_map(|status| status.conditions.iter().flatten());
            let end = conditions.into_iter().find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True");
            match end.map(|end| end.type_.as_str()) {
                None => runs.active.push(run),
                Some("Complete") => runs.succeeded.push(run),
                Some(_) => runs.failed.push(run),
            }
        }
        for list in [&mut runs.active, &mut runs.succeeded, &mut runs.failed] {
            list.sort_by_cached_key(|run| (run.meta.creation_timestamp.as_ref().map(|time| time.0), run.id.name.clone()));
        }
        runs
    }

    fn status(&self, raw: &CronJob) -> CronJobStatus {
        let before = raw.status.clone().unwrap_or_default();
        let ended = |run: &&Arc<Object>| status_of(run)?.completion_time.clone();
        let last = self.succeeded.iter().filter_map(ended).chain(before.last_successful_time.clone()).max_by_key(|time| time.0);
        let active: Vec<ObjectReference> = self.active.iter().map(|run| reference(run)).collect();
        CronJobStatus { active: (!active.is_empty()).then_some(active), last_successful_time: last, ..before }
    }

    /// Finished runs beyond what should be kept go, the oldest first.
    fn clean(&self, object: &Object, spec: &CronJobSpec, actions: &mut Vec<Action>) {
        let lists = [(&self.succeeded, spec.successful_jobs_history_limit.unwrap_or(3)), (&self.failed, spec.failed_jobs_history_limit.unwrap_or(1))];
        for (list, limit) in lists {
            let excess = list.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for run in list.iter().take(excess).filter(|run| !run.is_terminating()) {
                actions.push(delete(run, "more finished runs than should be kept"));
                actions.push(write::event(object, EventType::Normal, "SuccessfulDelete", format!("Deleted job {}", run.id.name)));
            }
        }
    }
}

fn reference(run: &Object) -> ObjectReference {
    ObjectReference {
        api_version: Some(run.id.kind.api_version.to_string()),
        kind: Some(run.id.kind.kind.to_string()),
        namespace: Some(run.id.namespace.clone()),
        name: Some(run.id.name.clone()),
        uid: run.meta.uid.clone(),
        ..ObjectReference::default()
    }
}

fn delete(run: &Object, reason: &'static str) -> Action {
    Action::Delete { id: run.id.clone(), uid: run.uid().to_owned(), propagation: Propagation::Background, grace_seconds: None, reason: reason.into() }
}

#[expect(clippy::too_many_arguments, reason = "each is a part of one decision")]
fn begin(
    view: &View,
    object: &Object,
    spec: &CronJobSpec,
    time: Timestamp,
    zone: &TimeZone,
    runs: &Runs<'_>,
    status: &mut CronJobStatus,
    actions: &mut Vec<Action>,
) {
    let name = format!("{}-{}", object.id.name, time.as_second().div_euclid(60));
    let there = view.find(&Kind::JOB, &object.id.namespace, &name).is_some();
    if !there {
        let others = runs.active.iter().filter(|run| !run.is_terminating());
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !runs.active.is_empty() => return,
            Some("Replace") => actions.extend(others.map(|run| delete(run, "the next run takes its place"))),
            _ => {}
        }
        actions.push(Action::Create { object: new_job(object, spec, &name, time, zone), reason: format!("it is due at {time}").into() });
        actions.push(write::event(object, EventType::Normal, "SuccessfulCreate", format!("Created job {name}")));
    }
    status.last_schedule_time = Some(write::time(time));
}

fn new_job(object: &Object, spec: &CronJobSpec, name: &str, time: Timestamp, zone: &TimeZone) -> Value {
    let template = &spec.job_template;
    let mut meta = write::to_value(&template.metadata);
    let labels = meta["labels"].take();
    let mut annotations = meta["annotations"].take();
    if !annotations.is_object() {
        annotations = json!({});
    }
    annotations[SCHEDULED] = json!(time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z"));
    let mut run = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": object.id.namespace, "annotations": annotations, "ownerReferences": [write::owner_reference(object)]},
        "spec": template.spec,
    });
    if labels.is_object() {
        run["metadata"]["labels"] = labels;
    }
    run
}
