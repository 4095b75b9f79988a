//! The status of a Deployment: its numbers and its conditions, in the words that `kubectl rollout status` looks for.

use jiff::{SignedDuration, Timestamp};
use strake_kinds::apps::{DeploymentCondition, DeploymentStatus};

use super::{Member, Rollout, revision};
use crate::write;

const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// Writes the status and the revision, if they changed. Returns when the progress deadline passes.
pub(super) fn report(rollout: &mut Rollout<'_>) -> Option<Timestamp> {
    let before = rollout.deployment.status.clone().unwrap_or_default();
    let mut status = numbers(rollout);
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let look_again = progress(rollout, &before, &status, &mut conditions);
    put(&mut conditions, available(rollout), rollout.now);
    failure(rollout, &mut conditions);
    status.conditions = Some(conditions).filter(|conditions| !conditions.is_empty());
    // Before the status: writing that moves the object's revision, which is the precondition here.
    revision::note(rollout);
    let action = write::status(rollout.object, rollout.deployment.status.as_ref(), &status, "the state of the rollout has changed");
    rollout.actions.extend(action);
    look_again
}

fn numbers(rollout: &Rollout<'_>) -> DeploymentStatus {
    let sum = |of: fn(&strake_kinds::apps::ReplicaSetStatus) -> i32| -> i32 { rollout.members().filter_map(Member::status).map(of).sum() };
    let available = sum(|status| status.available_replicas.unwrap_or(0));
    let some = |count: i32| (count != 0).then_some(count);
    DeploymentStatus {
        observed_generation: rollout.object.meta.generation,
        replicas: some(sum(|status| status.replicas)),
        updated_replicas: some(rollout.new.as_ref().and_then(Member::status).map_or(0, |status| status.replicas)),
        ready_replicas: some(sum(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: some(available),
        unavailable_replicas: some((rollout.total_size() - available).max(0)),
        collision_count: some(rollout.collisions),
        conditions: None,
        terminating_replicas: None,
    }
}

/// Every pod is of the new set and available, and no other is left.
pub(super) fn is_complete(rollout: &Rollout<'_>) -> bool {
    rollout.created.is_none() && rollout.new.is_some() && counts_complete(&numbers(rollout), rollout.replicas)
}

fn counts_complete(status: &DeploymentStatus, replicas: i32) -> bool {
    let is = |count: Option<i32>| count.unwrap_or(0) == replicas;
    is(status.updated_replicas) && is(status.replicas) && is(status.available_replicas)
}

struct Finding {
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn available(rollout: &Rollout<'_>) -> Finding {
    let enough = rollout.members().filter_map(Member::status).map(|status| status.available_replicas.unwrap_or(0)).sum::<i32>()
        >= rollout.replicas - rollout.strategy.unavailable();
    match enough {
        true => Finding { type_: "Available", status: "True", reason: "MinimumReplicasAvailable", message: "Deployment has minimum availability.".to_owned() },
        false => Finding {
            type_: "Available",
            status: "False",
            reason: "MinimumReplicasUnavailable",
            message: "Deployment does not have minimum availability.".to_owned(),
        },
    }
}

/// The `Progressing` condition. Returns when the deadline passes, while it runs.
fn progress(rollout: &Rollout<'_>, before: &DeploymentStatus, status: &DeploymentStatus, conditions: &mut Vec<DeploymentCondition>) -> Option<Timestamp> {
    let deadline = rollout.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
    let progressing = |status, reason, message| Finding { type_: "Progressing", status, reason, message };
    let known = conditions.iter().find(|condition| condition.type_ == "Progressing").cloned();
    let reason = known.as_ref().and_then(|known| known.reason.as_deref()).unwrap_or_default();
    if let Some(name) = &rollout.created {
        put(conditions, progressing("True", "NewReplicaSetCreated", format!("Created new replica set \"{name}\"")), rollout.now);
        return Some(rollout.now + seconds(deadline));
    }
    if rollout.is_paused() {
        put(conditions, progressing("Unknown", "DeploymentPaused", "Deployment is paused".to_owned()), rollout.now);
        return None;
    }
    if reason == "DeploymentPaused" {
        put(conditions, progressing("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()), rollout.now);
        return Some(rollout.now + seconds(deadline));
    }
    let name = rollout.new.as_ref().map_or(&rollout.object.id.name, |new| &new.object.id.name);
    let settled = status.replicas == status.updated_replicas && reason == COMPLETE && rollout.new.is_some();
    if settled {
        return None;
    }
    if rollout.new.is_some() && counts_complete(status, rollout.replicas) {
        put(conditions, progressing("True", COMPLETE, format!("ReplicaSet \"{name}\" has successfully progressed.")), rollout.now);
        return None;
    }
    if has_grown(before, status) || known.is_none() || reason == COMPLETE {
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        conditions.retain(|condition| condition.type_ != "Progressing");
        put_as(conditions, progressing("True", "ReplicaSetUpdated", message), rollout.now, known.as_ref());
        return Some(rollout.now + seconds(deadline));
    }
    if reason == TIMED_OUT {
        return None;
    }
    let since = known.as_ref().and_then(|known| known.last_update_time.as_ref()).map_or(rollout.now, |time| time.0);
    let over = since + seconds(deadline);
    if over > rollout.now {
        return Some(over);
    }
    put(conditions, progressing("False", TIMED_OUT, format!("ReplicaSet \"{name}\" has timed out progressing.")), rollout.now);
    None
}

/// More new pods, fewer old ones, or more that are ready or available than before.
fn has_grown(before: &DeploymentStatus, status: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(status.updated_replicas) > count(before.updated_replicas)
        || old(status) < old(before)
        || count(status.ready_replicas) > count(before.ready_replicas)
        || count(status.available_replicas) > count(before.available_replicas)
}

/// What the new set reports of pods that could not be created is told on the Deployment too.
fn failure(rollout: &Rollout<'_>, conditions: &mut Vec<DeploymentCondition>) {
    const TYPE: &str = "ReplicaFailure";
    let members = rollout.new.iter().chain(&rollout.old);
    let found = members.filter_map(Member::status).find_map(|status| status.conditions.iter().flatten().find(|condition| condition.type_ == TYPE));
    conditions.retain(|condition| condition.type_ != TYPE || found.is_some());
    let Some(found) = found else { return };
    let told = conditions.iter().any(|known| known.type_ == TYPE && known.message == found.message && known.reason == found.reason);
    if !told {
        conditions.retain(|known| known.type_ != TYPE);
        conditions.push(DeploymentCondition {
            type_: TYPE.to_owned(),
            status: found.status.clone(),
            reason: found.reason.clone(),
            message: found.message.clone(),
            last_transition_time: found.last_transition_time.clone(),
            last_update_time: found.last_transition_time.clone(),
        });
    }
}

/// Puts a condition in its place, unless it says the same already.
fn put(conditions: &mut Vec<DeploymentCondition>, finding: Finding, now: Timestamp) {
    let known = conditions.iter().find(|known| known.type_ == finding.type_).cloned();
    if known.as_ref().is_some_and(|known| known.status == finding.status && known.reason.as_deref() == Some(finding.reason)) {
        return;
    }
    conditions.retain(|known| known.type_ != finding.type_);
    put_as(conditions, finding, now, known.as_ref());
}

fn put_as(conditions: &mut Vec<DeploymentCondition>, finding: Finding, now: Timestamp, known: Option<&DeploymentCondition>) {
    let same_status = known.filter(|known| known.status == finding.status);
    conditions.push(DeploymentCondition {
        type_: finding.type_.to_owned(),
        status: finding.status.to_owned(),
        reason: Some(finding.reason.to_owned()),
        message: Some(finding.message),
        last_update_time: Some(write::time(now)),
        last_transition_time: same_status.and_then(|known| known.last_transition_time.clone()).or_else(|| Some(write::time(now))),
    });
    conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
}

fn seconds(count: i32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(count.max(0)))
}
