//! What to do next about a repository, and what is known after it was done.

use std::time::Duration;

use jiff::Timestamp;

use crate::status::{Reported, second};
use crate::{AppliedSet, Entry, Fate, Head, Reason, Refs, Spec, Status, Tag, Trouble, choose, short};

/// The first pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause until something that failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest pause until a repository that could not be asked is asked again, where its interval is no longer.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Everything that a decision is made of.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The Sync's namespace and name: repositories of the same interval are not asked all at once.
    pub name: &'a str,
    /// What it wants.
    pub spec: &'a Spec,
    /// The object's generation.
    pub generation: i64,
    /// The value of the annotation [`crate::REQUEST`].
    pub request: Option<&'a str>,
    /// The commit that the annotation [`crate::ACCEPT`] names.
    pub accepted: Option<&'a str>,
    /// What is kept.
    pub status: &'a Status,
    /// What is not.
    pub memory: &'a Memory,
}

/// What is known since this process began to follow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// When the repository was asked last, and whether it answered.
    pub asked: Option<(Timestamp, bool)>,
    /// How far the commit that was chosen has come.
    pub round: Round,
    /// Somebody wants the repository to be asked now.
    pub eager: bool,
    /// What could not be told to the forge: what, when, how often.
    pub untold: Option<(Reported, Timestamp, u32)>,
    /// When it was last looked whether the cluster is as the commit says.
    pub checked: Option<Timestamp>,
    /// It was not, and is to be put back.
    pub heal: bool,
    /// What [`Status::last_attempted_revision`] was before the work that goes on.
    pub before: Option<String>,
}

/// How far a commit has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Round {
    /// The repository has not answered yet.
    #[default]
    Idle,
    /// A commit is chosen.
    Chosen {
        /// The commit.
        head: Head,
        /// Not held back by earlier failures.
        forced: bool,
    },
    /// Its files are here.
    Fetched {
        /// The commit.
        head: Head,
        /// The commit that runs is no longer part of the branch.
        rewritten: bool,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask the repository what its references mean. Then: [`Event::Asked`].
    Ask,
    /// Fetch a commit. Then: [`Event::Fetched`].
    Fetch(Head),
    /// Build and apply what was fetched; [`Event::Started`] is to be kept before, [`Event::Deployed`] tells the end.
    Deploy(Head),
    /// Look whether the cluster is still as the commit says that was applied. Then: [`Event::Checked`].
    Check,
    /// Tell the forge. Then: [`Event::Reported`].
    Report {
        /// The commit.
        commit: String,
        /// How it fares.
        fate: Fate,
        /// One line.
        description: String,
    },
}

/// An action or a pause.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do now; nothing until something happens, or [`Decision::wait`] is over.
    pub action: Option<Action>,
    /// How long to wait; for ever without.
    pub wait: Option<Duration>,
    /// Why.
    pub why: &'static str,
}

/// What a fetch has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The commit that runs is no longer part of the branch: somebody has pushed by force.
    pub rewritten: bool,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The object was changed, or is seen for the first time.
    Changed,
    /// Something was pushed, somebody says.
    Nudged,
    /// The repository has answered, or not.
    Asked(Result<Refs, Trouble>),
    /// The commit is here, or not.
    Fetched(Result<Fetched, Trouble>),
    /// Building and applying begins.
    Started,
    /// It has ended; the text says what was done, `true` whether that was anything.
    Deployed(Result<(String, bool), Trouble>),
    /// What is applied has this name; told before [`Event::Deployed`].
    Named(AppliedSet),
    /// What is not as the commit says, in one line; or why that could not be seen.
    Checked(Result<Option<String>, String>),
    /// The forge was told, or not.
    Reported(Fate, String, Result<(), String>),
}

fn act(action: Action, why: &'static str) -> Decision {
    Decision { action: Some(action), wait: None, why }
}

fn rest(wait: Option<Duration>, why: &'static str) -> Decision {
    Decision { action: None, wait, why }
}

/// Up to a tenth more, the same for the same name and number.
fn with_jitter(pause: Duration, name: &str, number: i64) -> Duration {
    let bytes = name.bytes().chain(number.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    pause + pause.mul_f64(((hash >> 33) % 1000) as f64 / 10_000.0)
}

/// The pause after so many failures in a row.
fn back_off(failures: u32, interval: Duration, longest: Duration) -> Duration {
    FIRST_PAUSE.min(interval).saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(longest)
}

fn after(time: Timestamp, pause: Duration) -> Timestamp {
    time.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

impl Facts<'_> {
    fn requested(&self) -> bool {
        self.request.is_some_and(|request| self.status.last_handled_request.as_deref() != Some(request))
    }

    /// When the repository is asked next, by the clock.
    fn ask_at(&self) -> Timestamp {
        match self.memory.asked {
            None => Timestamp::MIN,
            Some((at, true)) => after(at, with_jitter(self.spec.interval, self.name, at.as_second())),
            Some((at, false)) => {
                let longest = self.spec.interval.clamp(LONGEST_SILENCE, LONGEST_PAUSE);
                after(at, with_jitter(back_off(self.status.failures, self.spec.interval, longest), self.name, at.as_second()))
            }
        }
    }

    /// Whether it is to be looked if the cluster is as the commit says: once each time that the repository was asked.
    fn check_is_due(&self) -> bool {
        self.memory.asked.is_some_and(|(asked, _)| self.memory.checked.is_none_or(|checked| checked < asked))
    }

    /// When a commit may be tried: later, when it has failed before.
    fn try_at(&self, head: &Head, forced: bool) -> Timestamp {
        let failed = self.status.last_result().filter(|last| last.failed() && last.revision == head.commit);
        match failed.and_then(|last| last.completion_time) {
            Some(at) if !forced => after(at, with_jitter(back_off(self.status.failures, self.spec.interval, LONGEST_PAUSE), self.name, at.as_second())),
            _ => Timestamp::MIN,
        }
    }

    /// What the forge should know and does not, and when to tell.
    fn untold(&self, now: Timestamp) -> Option<(Timestamp, Action)> {
        self.spec.report.as_ref()?;
        let known = |commit: &str| self.status.reported.as_ref().filter(|told| told.revision == commit).map(|told| told.state.as_str());
        let action = |commit: &str, fate, description: String| Action::Report { commit: commit.to_owned(), fate, description };
        let (commit, fate, action) = match &self.memory.round {
            // What is tried again is not told again.
            Round::Fetched { head, .. } if !self.status.settled(&head.commit, self.generation) => {
                if known(&head.commit).is_some() {
                    return None;
                }
                (head.commit.as_str(), Fate::Pending, action(&head.commit, Fate::Pending, format!("deploying {}", head.shown())))
            }
            _ => {
                let last = self.status.last_result()?;
                let begun = self.status.last_attempted_revision.as_deref().filter(|commit| *commit != last.revision);
                if begun.is_some_and(|commit| known(commit) == Some(Fate::Pending.as_str())) {
                    return None;
                }
                let fate = if last.failed() { Fate::Failure } else { Fate::Success };
                (last.revision.as_str(), fate, action(&last.revision, fate, last.message.clone()))
            }
        };
        if known(commit) == Some(fate.as_str()) {
            return None;
        }
        let earlier = self.memory.untold.as_ref().filter(|(told, ..)| told.revision == commit && told.state == fate.as_str());
        let at = earlier.map_or(now, |(_, at, tries)| after(*at, back_off(*tries, LONGEST_PAUSE, LONGEST_PAUSE)));
        Some((at, action))
    }
}

/// Decides. The same facts at the same time give the same answer; what it asks for is done once, and then it rests.
pub fn decide(facts: &Facts<'_>, now: Timestamp) -> Decision {
    let Facts { spec, status, memory, generation, .. } = *facts;
    let untold = facts.untold(now);
    if let Some((_, action)) = untold.clone().filter(|(at, _)| *at <= now) {
        return act(action, "the forge does not know it yet");
    }
    if spec.suspend {
        return rest(untold.map(|(at, _)| until(at, now)), "paused");
    }
    if memory.eager || facts.requested() {
        return act(Action::Ask, "somebody asks for it");
    }
    let mut next = facts.ask_at();
    if next <= now {
        return act(Action::Ask, "it is time");
    }
    if let Some((at, _)) = untold {
        next = next.min(at);
    }
    let (head, forced) = match &memory.round {
        Round::Chosen { head, forced } => (head, *forced),
        Round::Fetched { head, .. } => (head, true),
        Round::Idle => return rest(Some(until(next, now)), "the repository is asked later"),
    };
    if status.settled(&head.commit, generation) && !memory.heal {
        if facts.check_is_due() {
            return act(Action::Check, "others may have changed the cluster");
        }
        return rest(Some(until(next, now)), "everything is as the repository says");
    }
    let at = facts.try_at(head, forced);
    match &memory.round {
        _ if at > now => rest(Some(until(next.min(at), now)), "it has failed before"),
        Round::Fetched { .. } => act(Action::Deploy(head.clone()), "it is not what runs"),
        _ => act(Action::Fetch(head.clone()), "it is not what runs"),
    }
}

/// Takes in what has happened. `facts` are those before it; their `status` and `memory` are what it changes.
pub fn learn(facts: &Facts<'_>, event: Event, now: Timestamp) -> (Status, Memory) {
    let (mut status, mut memory) = (facts.status.clone(), facts.memory.clone());
    match event {
        Event::Nudged => memory.eager = true,
        Event::Changed => changed(facts, &mut status, &mut memory, now),
        Event::Asked(answer) => asked(facts, answer, &mut status, &mut memory, now),
        Event::Fetched(outcome) => fetched(outcome, &mut status, &mut memory, now),
        Event::Started => started(facts, &mut status, &mut memory, now),
        Event::Deployed(outcome) => deployed(facts, outcome, &mut status, &mut memory, now),
        Event::Named(set) => status.applied_set = Some(set),
        Event::Checked(outcome) => checked(facts, outcome, &mut status, &mut memory, now),
        Event::Reported(fate, revision, outcome) => reported(Reported { revision, state: fate.as_str().to_owned() }, outcome, &mut status, &mut memory, now),
    }
    (status, memory)
}

fn changed(facts: &Facts<'_>, status: &mut Status, memory: &mut Memory, now: Timestamp) {
    // What was found for another generation says nothing about this one.
    if status.observed_generation != facts.generation {
        memory.eager = true;
        memory.round = Round::Idle;
    }
    if facts.spec.suspend {
        status.observed_generation = facts.generation;
        status.set("Suspended", "True", "Paused", "nothing is asked, built or applied until it is resumed", now);
    } else {
        status.unset("Suspended");
    }
    if facts.spec.report.is_none() {
        status.unset("Reported");
    }
    if status.condition("Ready").is_none() {
        status.set("Ready", "Unknown", "Progressing", "the repository was not asked yet", now);
    }
}

/// Troubles of the way to the repository, which are over when it answers.
fn is_of_the_way(status: &Status) -> bool {
    [
        Reason::FetchFailed,
        Reason::Unauthorized,
        Reason::CredentialsMissing,
        Reason::ReferenceMissing,
        Reason::NoVersionFits,
        Reason::TagMoved,
        Reason::InvalidSpec,
    ]
    .into_iter()
    .any(|reason| status.has_reason(reason))
}

fn asked(facts: &Facts<'_>, answer: Result<Refs, Trouble>, status: &mut Status, memory: &mut Memory, now: Timestamp) {
    let forced = memory.eager || facts.requested() || status.observed_generation != facts.generation;
    memory.eager = false;
    status.observed_generation = facts.generation;
    status.last_handled_request = facts.request.map(str::to_owned).or_else(|| status.last_handled_request.take());
    let chosen = match answer {
        Ok(refs) => choose(&facts.spec.reference, &refs, status.locked_tag.as_ref(), facts.accepted).inspect_err(|_| memory.round = Round::Idle),
        Err(trouble) => Err(trouble),
    };
    memory.asked = Some((now, chosen.is_ok()));
    status.refused_revision = chosen.as_ref().err().filter(|trouble| trouble.reason == Reason::TagMoved).map(|trouble| trouble.detail.clone());
    let head = match chosen {
        Ok(head) => head,
        Err(mut trouble) => {
            status.wrong(&trouble, now);
            // Of a moved tag this is the commit that is refused, which the status has already.
            trouble.detail.clear();
            let nobody = Head { commit: String::new(), tag: None, branch: None };
            return status.record(Status::failure(&nobody, &trouble, None, now));
        }
    };
    if status.settled(&head.commit, facts.generation) && !memory.heal {
        status.well(&head, "runs", now);
    } else if forced || status.failing_since.is_none() {
        status.set("Ready", "Unknown", "Progressing", &format!("{} is next", head.shown()), now);
    } else if is_of_the_way(status) {
        // What was wrong before the way was: the commit that does not work, or nothing.
        match status.last_result().filter(|last| last.failed() && last.revision == head.commit).cloned() {
            Some(last) => status.set("Ready", "False", last.reason.as_deref().unwrap_or("Failed"), &last.message, now),
            None => status.set("Ready", "Unknown", "Progressing", &format!("{} is next", head.shown()), now),
        }
    }
    memory.round = Round::Chosen { head, forced };
}

fn fetched(outcome: Result<Fetched, Trouble>, status: &mut Status, memory: &mut Memory, now: Timestamp) {
    let Round::Chosen { head, .. } = std::mem::take(&mut memory.round) else { return };
    memory.round = match outcome {
        Ok(Fetched { rewritten }) => Round::Fetched { head, rewritten },
        Err(trouble) => {
            status.wrong(&trouble, now);
            status.record(Status::failure(&head, &trouble, None, now));
            Round::Chosen { head, forced: false }
        }
    };
}

fn started(facts: &Facts<'_>, status: &mut Status, memory: &mut Memory, now: Timestamp) {
    let Round::Fetched { head, rewritten } = &memory.round else { return };
    memory.before = status.last_attempted_revision.replace(head.commit.clone());
    status.last_attempt_time = Some(second(now));
    if let Some(name) = &head.tag {
        status.locked_tag = Some(Tag { name: name.clone(), revision: head.commit.clone() });
    }
    if *rewritten {
        let name = facts.spec.reference.shown();
        let was = status.last_applied_revision.as_deref().map(short).unwrap_or_default().to_owned();
        let message = format!("{name} was pushed by force: {was}, which ran until now, is no longer part of it");
        status.set("HistoryRewritten", "True", "ForcePush", &message, now);
    } else if status.last_applied_revision.as_deref() != Some(head.commit.as_str()) {
        status.unset("HistoryRewritten");
    }
    if status.failing_since.is_none() {
        status.set("Ready", "Unknown", "Progressing", &format!("{} is being deployed", head.shown()), now);
    }
}

fn deployed(facts: &Facts<'_>, outcome: Result<(String, bool), Trouble>, status: &mut Status, memory: &mut Memory, now: Timestamp) {
    let Round::Fetched { head, .. } = std::mem::take(&mut memory.round) else { return };
    let before = memory.before.take();
    let begun = status.last_attempt_time;
    match outcome {
        Ok((done, changed)) => {
            status.last_applied_revision = Some(head.commit.clone());
            status.last_applied_time = Some(second(now));
            status.applied_generation = facts.generation;
            status.unset("Drifted");
            (memory.checked, memory.heal) = (Some(now), false);
            status.well(&head, &format!("runs: {done}"), now);
            status.record(Entry {
                revision: head.commit.clone(),
                tag: head.tag.clone(),
                result: if changed { "Applied" } else { "Unchanged" }.to_owned(),
                reason: None,
                message: done,
                detail: None,
                count: 1,
                start_time: begun,
                completion_time: Some(second(now)),
            });
        }
        Err(trouble) => {
            if !trouble.reason.may_have_changed() {
                status.last_attempted_revision = before;
            }
            status.wrong(&trouble, now);
            status.record(Status::failure(&head, &trouble, begun, now));
        }
    }
    memory.round = Round::Chosen { head, forced: false };
}

fn checked(facts: &Facts<'_>, outcome: Result<Option<String>, String>, status: &mut Status, memory: &mut Memory, now: Timestamp) {
    memory.checked = Some(now);
    match outcome {
        Ok(None) => status.unset("Drifted"),
        Ok(Some(what)) => {
            memory.heal = facts.spec.self_heal;
            let then = if memory.heal { "it is put back" } else { "with spec.selfHeal it would be put back" };
            status.set("Drifted", "True", "ChangedByOthers", &format!("{what}; {then}"), now);
        }
        Err(message) => status.set("Drifted", "Unknown", "NotChecked", &message, now),
    }
}

fn reported(told: Reported, outcome: Result<(), String>, status: &mut Status, memory: &mut Memory, now: Timestamp) {
    match outcome {
        Ok(()) => {
            memory.untold = None;
            status.set("Reported", "True", "Told", &format!("the forge knows: {} of {}", told.state, short(&told.revision)), now);
            status.reported = Some(told);
        }
        Err(message) => {
            let tries = memory.untold.take().filter(|(earlier, ..)| *earlier == told).map_or(0, |(_, _, tries)| tries) + 1;
            status.set("Reported", "False", "Refused", &message, now);
            memory.untold = Some((told, now, tries));
        }
    }
}
