//! Where a Job is heading, and the status that says so.

use jiff::{SignedDuration, Timestamp};
use strake_kinds::batch::{JobCondition, JobStatus, UncountedTerminatedPods};

use super::tally::Tally;
use super::{Task, indexes};
use crate::action::{Action, EventType};
use crate::object::Object;
use crate::write;

/// A Job's end, decided: what is left is that its pods end too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Succeeded { reason: String, message: String },
    Failed { reason: String, message: String },
}

fn condition<'a>(status: Option<&'a JobStatus>, type_: &str) -> Option<&'a JobCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Whether the Job has failed or succeeded. What was decided once stays.
pub(super) fn target(task: &Task<'_>, tally: &Tally<'_>, now: Timestamp) -> Option<Target> {
    let words = |condition: &JobCondition| (condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default());
    if let Some((reason, message)) = condition(task.status(), "FailureTarget").map(words) {
        return Some(Target::Failed { reason, message });
    }
    if let Some((reason, message)) = condition(task.status(), "SuccessCriteriaMet").map(words) {
        return Some(Target::Succeeded { reason, message });
    }
    let said = |(reason, message): (&str, &str)| (reason.to_owned(), message.to_owned());
    if let Some(message) = tally.fatal.clone() {
        return Some(Target::Failed { reason: "PodFailurePolicy".to_owned(), message });
    }
    if let Some((reason, message)) = success(task, tally).map(said) {
        return Some(Target::Succeeded { reason, message });
    }
    failure(task, tally, now).map(said).map(|(reason, message)| Target::Failed { reason, message })
}

fn failure(task: &Task<'_>, tally: &Tally<'_>, now: Timestamp) -> Option<(&'static str, &'static str)> {
    let spec = task.spec();
    let limit = spec.backoff_limit.unwrap_or(6);
    let in_place = spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref()) == Some("OnFailure");
    // Containers that are started again in their pod count as pods that are made again.
    let restarted = in_place && tally.restarts > 0 && tally.restarts >= limit;
    if tally.failed > limit || restarted {
        return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    let started = task.status().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    if let (Some(seconds), Some(started), false) = (spec.active_deadline_seconds, started, task.is_suspended())
        && started + SignedDuration::from_secs(seconds) <= now
    {
        return Some(("DeadlineExceeded", "Job was active longer than specified deadline"));
    }
    if task.is_indexed() && spec.backoff_limit_per_index.is_some() {
        let lost = tally.lost.len();
        if spec.max_failed_indexes.is_some_and(|most| lost > usize::try_from(most).unwrap_or(0)) {
            return Some(("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"));
        }
        if lost > 0 && task.completions().is_some_and(|completions| lost + tally.completed.len() >= completions) {
            return Some(("FailedIndexes", "Job has failed indexes"));
        }
    }
    None
}

fn success(task: &Task<'_>, tally: &Tally<'_>) -> Option<(&'static str, &'static str)> {
    let succeeded = usize::try_from(tally.succeeded).unwrap_or(0);
    for rule in task.spec().success_policy.iter().flat_map(|policy| &policy.rules) {
        let counted = match &rule.succeeded_indexes {
            None => succeeded,
            Some(listed) => {
                let listed = indexes::read(Some(listed));
                let there = listed.intersection(&tally.completed).count();
                if rule.succeeded_count.is_none() && there < listed.len() {
                    continue;
                }
                there
            }
        };
        if rule.succeeded_count.is_none_or(|count| counted >= usize::try_from(count).unwrap_or(usize::MAX)) {
            return Some(("SuccessPolicy", "Matched rules of the success policy"));
        }
    }
    let done = match task.completions() {
        // What still runs works to its end.
        None => succeeded > 0 && tally.active.is_empty() && tally.terminating == 0,
        Some(completions) => succeeded >= completions,
    };
    done.then_some(("CompletionsReached", "Reached expected number of succeeded pods"))
}

/// The status that follows.
pub(super) fn next(task: &Task<'_>, tally: &mut Tally<'_>, target: Option<&Target>, now: Timestamp) -> JobStatus {
    let mut status = task.status().cloned().unwrap_or_default();
    let some = |count: i32| (count != 0).then_some(count);
    status.active = some(i32::try_from(tally.active.len()).unwrap_or(i32::MAX));
    status.ready = Some(tally.ready());
    status.terminating = Some(i32::try_from(tally.terminating).unwrap_or(i32::MAX));
    status.succeeded = some(tally.counted.0);
    status.failed = some(tally.counted.1);
    let list = |uids: &[String]| (!uids.is_empty()).then(|| uids.to_vec());
    let uncounted = UncountedTerminatedPods { succeeded: list(&tally.uncounted.0), failed: list(&tally.uncounted.1) };
    status.uncounted_terminated_pods = (uncounted != UncountedTerminatedPods::default()).then_some(uncounted);
    if task.is_indexed() {
        status.completed_indexes = indexes::write(&tally.completed);
        if task.spec().backoff_limit_per_index.is_some() {
            status.failed_indexes = indexes::write(&tally.lost);
        }
    }
    match target {
        None => suspension(task, &mut status, now),
        Some(target) => end(target, tally, &mut status, now),
    }
    status
}

fn suspension(task: &Task<'_>, status: &mut JobStatus, now: Timestamp) {
    let known = status.conditions.iter().flatten().any(|condition| condition.type_ == "Suspended");
    if task.is_suspended() {
        set(status, "Suspended", true, "JobSuspended", "Job suspended", now);
        status.start_time = None;
        return;
    }
    if known {
        set(status, "Suspended", false, "JobResumed", "Job resumed", now);
    }
    status.start_time.get_or_insert_with(|| write::time(now));
}

fn end(target: &Target, tally: &Tally<'_>, status: &mut JobStatus, now: Timestamp) {
    status.start_time.get_or_insert_with(|| write::time(now));
    let (aim, terminal, reason, message) = match target {
        Target::Failed { reason, message } => ("FailureTarget", "Failed", reason, message),
        Target::Succeeded { reason, message } => ("SuccessCriteriaMet", "Complete", reason, message),
    };
    set(status, aim, true, reason, message, now);
    if tally.is_settled() {
        set(status, terminal, true, reason, message, now);
        status.ready = Some(0);
        if matches!(target, Target::Succeeded { .. }) {
            status.completion_time.get_or_insert_with(|| write::time(now));
        }
    }
}

/// Sets a condition; one that says so already keeps its times.
fn set(status: &mut JobStatus, type_: &str, holds: bool, reason: &str, message: &str, now: Timestamp) {
    let word = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|known| known.type_ == type_ && known.status == word) {
        return;
    }
    conditions.retain(|known| known.type_ != type_);
    conditions.push(JobCondition {
        type_: type_.to_owned(),
        status: word.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(write::time(now)),
        last_transition_time: Some(write::time(now)),
    });
}

/// What people are told when a condition comes.
pub(super) fn events(object: &Object, before: Option<&JobStatus>, after: &JobStatus) -> Vec<Action> {
    let holds = |status: Option<&JobStatus>, type_: &str, word: &str| {
        status.is_some_and(|status| status.conditions.iter().flatten().any(|condition| condition.type_ == type_ && condition.status == word))
    };
    let came = |type_: &str, word: &str| !holds(before, type_, word) && holds(Some(after), type_, word);
    let mut events = Vec::new();
    if came("Suspended", "True") {
        events.push(write::event(object, EventType::Normal, "Suspended", "Job suspended".to_owned()));
    }
    if came("Suspended", "False") {
        events.push(write::event(object, EventType::Normal, "Resumed", "Job resumed".to_owned()));
    }
    if came("Complete", "True") {
        events.push(write::event(object, EventType::Normal, "Completed", "Job completed".to_owned()));
    }
    if came("Failed", "True") {
        let failed = condition(Some(after), "Failed");
        let reason = match failed.and_then(|failed| failed.reason.as_deref()) {
            Some("DeadlineExceeded") => "DeadlineExceeded",
            Some("PodFailurePolicy") => "PodFailurePolicy",
            Some("FailedIndexes") => "FailedIndexes",
            Some("MaxFailedIndexesExceeded") => "MaxFailedIndexesExceeded",
            _ => "BackoffLimitExceeded",
        };
        let message = failed.and_then(|failed| failed.message.clone()).unwrap_or_default();
        events.push(write::event(object, EventType::Warning, reason, message));
    }
    events
}
