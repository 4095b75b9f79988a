//! How a canary or blue-green rollout goes on: from what the cluster shows, to the next thing to do. Pure; [`crate::progressive`] performs.
//!
//! The new pods come from a Deployment beside the own one, the *track*, until they have passed; then the own Deployment gets the new template and the track goes.
//! The track carries the [`Record`] of the rollout: it is there exactly as long as the rollout goes on, so that whoever comes next, after whatever ended the one
//! before, knows where it was. Each action is the same when it is done twice.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use strake_plan::{Rollout, RolloutStep as Step, Strategy};

/// The annotation of a track with the [`Record`].
pub const RECORD: &str = "strake.dev/rollout";
/// The annotation of a track by which people steer: a [`Command`].
pub const COMMAND: &str = "strake.dev/rollout-command";
/// The label of a track's pods, and of its selector.
pub const TRACK: &str = "strake.dev/track";
/// The annotation of a Service whose selector a rollout has changed: the name of the Deployment.
pub const SWITCHED: &str = "strake.dev/switched-for";
/// The version of the record; a later one is not read.
pub const FORMAT_VERSION: u32 = 1;
/// How often new pods are checked during a pause.
const CHECK_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// The name of the Deployment beside a Deployment.
pub fn track_name(name: &str, strategy: Strategy) -> String {
    format!("{name}-{}", strategy.word())
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// The digest of the template that is rolled out.
    pub digest: String,
    /// The name of the track.
    pub track: String,
    /// How it goes.
    pub rollout: Rollout,
    /// How far it is.
    pub phase: Phase,
    /// The step it is at, counted from 0.
    pub step: usize,
    /// Since when it pauses there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Replicas of the old template that were wanted.
    pub replicas: i64,
    /// How many of them were ready when it began: fewer are never made of it.
    pub floor: i64,
    /// The old pods may be made fewer as the new ones get more; else an autoscaler, or nobody, says how many there are.
    pub scales: bool,
    /// Selectors of the Services that are switched, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Value>,
    /// Why it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Back>,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// From step to step.
    Advance,
    /// All steps are passed: the own Deployment gets the template.
    Promote,
    /// Back to what was.
    Return,
}

/// Why a rollout goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "why", rename_all = "kebab-case")]
pub enum Back {
    /// Something else is wanted now.
    Superseded,
    /// The new pods do not get ready.
    Unhealthy(String),
    /// They do not pass the check.
    Check(String),
    /// Somebody wanted it: who.
    Aborted(String),
}

/// What people say to a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go on from the pause at this step.
    Promote(usize),
    /// Go on, and over everything that is left.
    PromoteAll,
    /// Go back.
    Abort(String),
}

impl Command {
    /// As it is written into the annotation.
    pub fn text(&self) -> String {
        match self {
            Command::Promote(step) => format!("promote {step}"),
            Command::PromoteAll => "promote-all".to_owned(),
            Command::Abort(who) => format!("abort {who}"),
        }
    }

    /// Reads it; nothing when it is something else.
    pub fn read(text: &str) -> Option<Command> {
        match text.split_once(' ').unwrap_or((text, "")) {
            ("promote", step) => step.parse().ok().map(Command::Promote),
            ("promote-all", _) => Some(Command::PromoteAll),
            ("abort", who) => Some(Command::Abort(who.to_owned())),
            _ => None,
        }
    }
}

impl Record {
    /// That of a track; `None` when it has none that can be read.
    pub fn read(track: &Value) -> Option<Record> {
        let record: Record = serde_json::from_str(track["metadata"]["annotations"][RECORD].as_str()?).ok()?;
        (record.format_version <= FORMAT_VERSION).then_some(record)
    }

    /// The step it is at; none when all are passed.
    pub fn at(&self) -> Option<Step> {
        self.rollout.steps.get(self.step).copied()
    }

    /// New replicas that the steps so far want.
    fn track_replicas(&self) -> i64 {
        if self.rollout.strategy == Strategy::BlueGreen {
            return self.replicas;
        }
        let reached = self.rollout.steps.iter().take(self.step + 1);
        let weight = reached.filter_map(|step| if let Step::Weight(weight) = step { Some(i64::from(*weight)) } else { None }).max().unwrap_or(100);
        ((self.replicas * weight + 99) / 100).clamp(1, self.replicas.max(1))
    }

    /// Old replicas that are left beside these new ones.
    fn own_replicas(&self, track: i64) -> i64 {
        let all_new = self.rollout.steps.iter().take(self.step + 1).any(|step| *step == Step::Weight(100)) || self.step >= self.rollout.steps.len();
        match self.rollout.strategy {
            Strategy::Canary if self.scales => (self.replicas - track).max(i64::from(!all_new)),
            _ => self.replicas,
        }
    }

    /// `canary, step 2 of 5 (pause)`.
    pub fn place(&self) -> String {
        let all = self.rollout.steps.len();
        let word = self.rollout.strategy.word();
        match (self.phase, self.at()) {
            (Phase::Advance, Some(step)) => format!("{word}, step {} of {all} ({step})", self.step + 1),
            (Phase::Advance | Phase::Promote, _) => format!("{word}, all {all} steps passed"),
            (Phase::Return, _) => format!("{word}, goes back"),
        }
    }
}

/// Pods of a Deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// How many are wanted.
    pub wanted: i64,
    /// How many are ready, of those that are wanted.
    pub ready: i64,
    /// How many there are.
    pub present: i64,
    /// Everything is as it is wanted.
    pub settled: bool,
}

/// Where the Services of a rollout point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pointing {
    /// Where the manifest says: to old pods and new ones.
    #[default]
    Open,
    /// To the old pods only.
    Own,
    /// To the new pods only.
    Track,
    /// Not all of them to the same.
    Mixed,
}

/// The last check of the new pods by this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The step that the rollout was at.
    pub step: usize,
    /// When.
    pub at: Timestamp,
    /// What was found, when it was not as it should be.
    pub failed: Option<String>,
}

/// What is known of a rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The digest of the template that is wanted; none when nobody wants one but the rollout is to end.
    pub goal: Option<String>,
    /// The own Deployment.
    pub own: Pods,
    /// The own Deployment has everything that is wanted.
    pub own_is_new: bool,
    /// What goes on, with the new pods; none when nothing does.
    pub track: Option<(Record, Pods)>,
    /// What people have said.
    pub command: Option<Command>,
    /// Where the Services point; none when there are none to switch.
    pub services: Option<Pointing>,
    /// The old pods can be told from the new ones: they are of one generation.
    pub own_is_one: bool,
    /// Why the new pods will not get ready.
    pub trouble: Option<String>,
    /// The last check.
    pub checked: Option<Checked>,
}

impl Seen {
    fn point_to(&self, there: &[Pointing]) -> bool {
        self.services.is_none_or(|services| there.contains(&services))
    }
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing goes on.
    Nothing,
    /// Write down where it is.
    Note(Box<Record>),
    /// So many new replicas.
    ScaleTrack(i64),
    /// So many old replicas.
    ScaleOwn(i64),
    /// Services point there.
    Point(Pointing),
    /// Check the new pods.
    Check,
    /// Give the own Deployment what is wanted.
    Promote,
    /// The track goes: the rollout has ended.
    Drop,
    /// Look again after a while: why.
    Wait(String),
}

/// What to do next.
pub fn decide(seen: &Seen, now: Timestamp) -> Action {
    let Some((record, track)) = &seen.track else { return Action::Nothing };
    match record.phase {
        Phase::Advance => match reason_to_return(seen, record) {
            Some(back) => Action::Note(Box::new(Record { phase: Phase::Return, back: Some(back), since: None, ..record.clone() })),
            None => advance(seen, record, track, now),
        },
        Phase::Promote => promote(seen, record),
        Phase::Return => go_back(seen, record, track),
    }
}

fn reason_to_return(seen: &Seen, record: &Record) -> Option<Back> {
    if let Some(Command::Abort(who)) = &seen.command {
        return Some(Back::Aborted(who.clone()));
    }
    if seen.goal.as_ref().is_some_and(|goal| *goal != record.digest) {
        return Some(Back::Superseded);
    }
    if let Some(trouble) = &seen.trouble {
        return Some(Back::Unhealthy(trouble.clone()));
    }
    let failed = seen.checked.as_ref().filter(|checked| checked.step == record.step)?.failed.clone()?;
    Some(Back::Check(failed))
}

fn advance(seen: &Seen, record: &Record, track: &Pods, now: Timestamp) -> Action {
    let next = || Action::Note(Box::new(Record { step: record.step + 1, since: None, ..record.clone() }));
    let switched = record.rollout.strategy == Strategy::BlueGreen && record.rollout.steps.iter().take(record.step).any(|step| *step == Step::Switch);
    if record.rollout.strategy == Strategy::BlueGreen && !switched && !seen.point_to(&[Pointing::Own, Pointing::Track]) {
        // Before there are new pods, so that none of them answers too early.
        return if seen.own_is_one {
            Action::Point(Pointing::Own)
        } else {
            Action::Wait("pods of several generations answer; waits until one is left".to_owned())
        };
    }
    let wanted = record.track_replicas();
    if track.wanted != wanted {
        return Action::ScaleTrack(wanted);
    }
    if track.ready < wanted || !track.settled {
        return Action::Wait(format!("{} of {wanted} new replicas ready", track.ready.min(wanted)));
    }
    let own = record.own_replicas(wanted);
    if record.scales && seen.own.wanted != own && record.rollout.strategy == Strategy::Canary {
        return Action::ScaleOwn(own);
    }
    let Some(step) = record.at() else {
        return Action::Note(Box::new(Record { phase: Phase::Promote, since: None, ..record.clone() }));
    };
    if step == Step::Switch && !seen.point_to(&[Pointing::Track]) {
        return Action::Point(Pointing::Track);
    }
    if let (Step::Pause(_), None) = (step, record.since) {
        return Action::Note(Box::new(Record { since: Some(now), ..record.clone() }));
    }
    if record.rollout.check.is_some() && is_due(seen, record, now) {
        return Action::Check;
    }
    let Step::Pause(time) = step else { return next() };
    let promoted = matches!(&seen.command, Some(Command::PromoteAll)) || seen.command == Some(Command::Promote(record.step));
    let since = record.since.unwrap_or(now);
    let over = time.map(|millis| since + SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)));
    match over {
        _ if promoted => next(),
        Some(end) if now >= end => next(),
        Some(_) => Action::Wait(format!("pauses for {}", step.to_string().trim_start_matches("pause "))),
        None => Action::Wait("pauses until somebody promotes it".to_owned()),
    }
}

fn is_due(seen: &Seen, record: &Record, now: Timestamp) -> bool {
    let Some(checked) = seen.checked.as_ref().filter(|checked| checked.step == record.step) else { return true };
    matches!(record.at(), Some(Step::Pause(_))) && now.duration_since(checked.at) >= CHECK_EVERY
}

fn promote(seen: &Seen, record: &Record) -> Action {
    if let Some(goal) = seen.goal.as_ref().filter(|goal| **goal != record.digest) {
        // What is new by now answers until what is newer does.
        return Action::Note(Box::new(Record { digest: goal.clone(), ..record.clone() }));
    }
    if !seen.own_is_new {
        return match seen.goal {
            Some(_) => Action::Promote,
            None => Action::Wait("all steps are passed; the next apply ends it".to_owned()),
        };
    }
    if !seen.own.settled {
        return Action::Wait(format!("{} of {} replicas ready", seen.own.ready, seen.own.wanted));
    }
    if !seen.point_to(&[Pointing::Open]) {
        return Action::Point(Pointing::Open);
    }
    Action::Drop
}

fn go_back(seen: &Seen, record: &Record, track: &Pods) -> Action {
    if record.scales && seen.own.wanted < record.replicas {
        return Action::ScaleOwn(record.replicas);
    }
    let enough = record.floor.min(seen.own.wanted);
    if seen.own.ready < enough {
        return Action::Wait(format!("goes back: {} of {enough} old replicas ready", seen.own.ready));
    }
    if !seen.point_to(&[Pointing::Open, Pointing::Own]) {
        let several = || Action::Wait("goes back: waits until old pods of one generation are left".to_owned());
        return if seen.own_is_one { Action::Point(Pointing::Own) } else { several() };
    }
    if track.wanted > 0 {
        return Action::ScaleTrack(0);
    }
    if track.present > 0 {
        return Action::Wait("goes back: the new pods end".to_owned());
    }
    if !seen.point_to(&[Pointing::Open]) {
        return Action::Point(Pointing::Open);
    }
    Action::Drop
}

#[cfg(test)]
#[path = "rollout/tests.rs"]
mod tests;
