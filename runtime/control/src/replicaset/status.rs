//! The status of a ReplicaSet.

use std::sync::Arc;

use jiff::Timestamp;
use strake_kinds::apps::{ReplicaSetCondition, ReplicaSetStatus};

use super::Set;
use crate::object::Object;
use crate::{pods, write};

const FAILURE: &str = "ReplicaFailure";

/// The status, and when a ready pod becomes available if nothing else happens.
pub(super) fn of(set: &Set<'_>, active: &[&Arc<Object>], now: Timestamp) -> (ReplicaSetStatus, Option<Timestamp>) {
    let template = set.spec().template.as_ref().and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let min_ready = set.spec().min_ready_seconds.unwrap_or(0);
    let (mut labeled, mut ready, mut available) = (0, 0, 0);
    let mut look_again: Option<Timestamp> = None;
    for object in active {
        let Some(pod) = pods::pod(object) else { continue };
        let has = |key: &String, value: &String| object.meta.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value);
        labeled += i32::from(template.is_none_or(|labels| labels.iter().all(|(key, value)| has(key, value))));
        let Some(at) = pods::available_at(pod, min_ready) else { continue };
        ready += 1;
        if at <= now {
            available += 1;
        } else {
            look_again = Some(look_again.map_or(at, |sooner| sooner.min(at)));
        }
    }
    let before = set.raw.status.as_ref();
    let status = ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: some(labeled),
        ready_replicas: some(ready),
        available_replicas: some(available),
        observed_generation: set.raw.metadata.generation,
        conditions: before.and_then(|before| before.conditions.clone()),
        terminating_replicas: None,
    };
    (status, look_again)
}

/// Zero is left out, as the API does.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// The status once all pods are there: a failure is a thing of the past.
pub(super) fn without_failure(mut status: ReplicaSetStatus) -> ReplicaSetStatus {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != FAILURE);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
    status
}

/// The status after a pod could not be created.
pub(super) fn with_failure(status: ReplicaSetStatus, reason: &str, message: &str, now: Timestamp) -> ReplicaSetStatus {
    let same = |known: &ReplicaSetCondition| known.type_ == FAILURE && known.message.as_deref() == Some(message);
    if status.conditions.iter().flatten().any(same) {
        return status;
    }
    let mut status = without_failure(status);
    status.conditions.get_or_insert_default().push(ReplicaSetCondition {
        type_: FAILURE.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(write::time(now)),
    });
    status
}
