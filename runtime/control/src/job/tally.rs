//! The pods of a Job, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use strake_kinds::core::Pod;

use super::{TRACKING, Task, indexes, policy};
use crate::object::Object;
use crate::pods;

/// What has become of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Active,
    /// On its way out, and neither counted as ended nor as a place that is free.
    Terminating,
    Succeeded,
    Failed,
}

/// What the pods say, with what the status already knows.
pub(super) struct Tally<'v> {
    /// Neither over nor asked to go.
    pub active: Vec<&'v Arc<Object>>,
    /// Asked to go and still there.
    pub terminating: usize,
    /// Ended without being counted: to be noted, then let go.
    pub noted: Vec<&'v Arc<Object>>,
    /// All that have succeeded, counted or not.
    pub succeeded: i32,
    /// All that have failed, counted or not.
    pub failed: i32,
    /// Of a status: counts, without what is only noted.
    pub counted: (i32, i32),
    /// Of a status: noted uids that are not part of the counts yet.
    pub uncounted: (Vec<String>, Vec<String>),
    /// Indexes that have succeeded.
    pub completed: BTreeSet<u32>,
    /// Indexes that have failed for good.
    pub lost: BTreeSet<u32>,
    /// How often each index has failed.
    pub index_failures: BTreeMap<u32, i32>,
    /// A rule of the failure policy that fails the whole Job: the message.
    pub fatal: Option<String>,
    /// Failures since the last success, and when the last one was.
    pub streak: (u32, Option<Timestamp>),
    /// Restarts of containers of pods that are running.
    pub restarts: i32,
}

pub(super) fn is_tracked(object: &Object) -> bool {
    object.meta.finalizers.iter().flatten().any(|name| name == TRACKING)
}

pub(super) fn fate(task: &Task<'_>, pod: &Pod) -> Fate {
    match pods::phase(pod) {
        "Succeeded" => Fate::Succeeded,
        "Failed" => Fate::Failed,
        _ if pod.metadata.deletion_timestamp.is_none() => Fate::Active,
        // Its node is done with it, or it never had one: nothing will report its end.
        _ if pod.metadata.deletion_grace_period_seconds == Some(0) || pods::node(pod).is_none() => Fate::Failed,
        _ if task.waits_for_the_end() => Fate::Terminating,
        _ => Fate::Failed,
    }
}

impl<'v> Tally<'v> {
    pub(super) fn of(task: &Task<'_>, mine: &[&'v Arc<Object>]) -> Self {
        let status = task.status();
        let noted = status.and_then(|status| status.uncounted_terminated_pods.as_ref());
        let known = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
        let mut tally = Tally {
            active: Vec::new(),
            terminating: 0,
            noted: Vec::new(),
            succeeded: 0,
            failed: 0,
            counted: (status.and_then(|status| status.succeeded).unwrap_or(0), status.and_then(|status| status.failed).unwrap_or(0)),
            uncounted: (known(noted.and_then(|noted| noted.succeeded.as_ref())), known(noted.and_then(|noted| noted.failed.as_ref()))),
            completed: indexes::read(status.and_then(|status| status.completed_indexes.as_deref())),
            lost: indexes::read(status.and_then(|status| status.failed_indexes.as_deref())),
            index_failures: BTreeMap::new(),
            fatal: None,
            streak: (0, None),
            restarts: 0,
        };
        for object in mine {
            if let Some(pod) = pods::pod(object) {
                tally.take(task, object, pod);
            }
        }
        tally.settle(task, mine);
        tally
    }

    fn take(&mut self, task: &Task<'_>, object: &'v Arc<Object>, pod: &Pod) {
        let fate = fate(task, pod);
        let index = indexes::of(&object.meta).filter(|_| task.is_indexed());
        if fate != Fate::Active && pod.metadata.deletion_timestamp.is_some() && !pods::is_over(pod) {
            self.terminating += 1;
        }
        match fate {
            Fate::Active => {
                self.active.push(object);
                self.restarts += all_restarts(pod);
            }
            Fate::Terminating => {}
            Fate::Succeeded if is_tracked(object) => {
                self.noted.push(object);
                match index {
                    Some(index) if in_range(task, index) => drop(self.completed.insert(index)),
                    _ if task.is_indexed() => {}
                    _ => note(&mut self.uncounted.0, object.uid()),
                }
            }
            Fate::Failed if is_tracked(object) => self.failure(task, object, pod, index),
            Fate::Succeeded | Fate::Failed => {}
        }
        if let (Fate::Failed, Some(index)) = (fate, index) {
            let verdict = policy::verdict(task, object, pod);
            let count = indexes::failures(&object.meta) + i32::from(verdict.counts());
            let most = self.index_failures.entry(index).or_default();
            *most = (*most).max(count);
        }
    }

    fn failure(&mut self, task: &Task<'_>, object: &'v Arc<Object>, pod: &Pod, index: Option<u32>) {
        self.noted.push(object);
        let verdict = policy::verdict(task, object, pod);
        match &verdict {
            policy::Verdict::FailJob(message) => self.fatal = self.fatal.take().or(Some(message.clone())),
            policy::Verdict::FailIndex => drop(index.map(|index| self.lost.insert(index))),
            policy::Verdict::Count | policy::Verdict::Ignore => {}
        }
        if verdict.counts() {
            note(&mut self.uncounted.1, object.uid());
        }
    }

    /// What is noted and no longer held is counted.
    fn settle(&mut self, task: &Task<'_>, mine: &[&'v Arc<Object>]) {
        let held: BTreeSet<&str> = mine.iter().filter(|object| is_tracked(object)).map(|object| object.uid()).collect();
        let total = |counted: i32, noted: &[String]| counted.saturating_add(i32::try_from(noted.len()).unwrap_or(i32::MAX));
        self.succeeded = total(self.counted.0, &self.uncounted.0);
        self.failed = total(self.counted.1, &self.uncounted.1);
        for (counted, noted) in [(&mut self.counted.0, &mut self.uncounted.0), (&mut self.counted.1, &mut self.uncounted.1)] {
            let before = noted.len();
            noted.retain(|uid| held.contains(uid.as_str()));
            *counted = counted.saturating_add(i32::try_from(before - noted.len()).unwrap_or(i32::MAX));
        }
        if let Some(limit) = task.spec().backoff_limit_per_index {
            let over = self.index_failures.iter().filter(|(_, failures)| **failures > limit).map(|(index, _)| *index);
            self.lost.extend(over.collect::<Vec<u32>>());
        }
        // An index that one pod has completed is not lost by another.
        let completed = &self.completed;
        self.lost.retain(|index| !completed.contains(index));
        if task.is_indexed() {
            self.succeeded = i32::try_from(self.completed.len()).unwrap_or(i32::MAX);
            self.counted.0 = self.succeeded;
        }
        self.streak = streak(task, mine);
    }

    pub(super) fn ready(&self) -> i32 {
        let ready = self.active.iter().filter(|object| pods::pod(object).is_some_and(pods::is_ready)).count();
        i32::try_from(ready).unwrap_or(i32::MAX)
    }

    /// Every pod has ended and is counted.
    pub(super) fn is_settled(&self) -> bool {
        self.active.is_empty() && self.terminating == 0 && self.noted.is_empty() && self.uncounted.0.is_empty() && self.uncounted.1.is_empty()
    }
}

pub(super) fn in_range(task: &Task<'_>, index: u32) -> bool {
    task.completions().is_some_and(|completions| usize::try_from(index).is_ok_and(|index| index < completions))
}

fn note(list: &mut Vec<String>, uid: &str) {
    if !list.iter().any(|known| known == uid) {
        list.push(uid.to_owned());
    }
}

fn all_restarts(pod: &Pod) -> i32 {
    let lists = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()));
    lists.map(|status| status.restart_count).sum()
}

/// When a pod came to its end.
fn ended_at(pod: &Pod) -> Timestamp {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let times = statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()).map(|time| time.0);
    let deleted = || pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let created = || pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    times.max().or_else(deleted).unwrap_or_else(created)
}

/// The failures since the last success, and when the last of them was.
fn streak(task: &Task<'_>, mine: &[&Arc<Object>]) -> (u32, Option<Timestamp>) {
    let mut ends: Vec<(Timestamp, bool)> = mine
        .iter()
        .filter_map(|object| {
            let pod = pods::pod(object)?;
            match fate(task, pod) {
                Fate::Succeeded => Some((ended_at(pod), true)),
                Fate::Failed => Some((ended_at(pod), false)),
                Fate::Active | Fate::Terminating => None,
            }
        })
        .collect();
    ends.sort_unstable();
    let failures = ends.iter().rev().take_while(|(_, succeeded)| !succeeded).count();
    let last = ends.last().filter(|(_, succeeded)| !succeeded).map(|(at, _)| *at);
    (u32::try_from(failures).unwrap_or(u32::MAX), last)
}
