//! The status of a Sync: what runs, what was tried, what is wrong and since when, and the last results.

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

use crate::{Head, Reason, Trouble, short};

/// Results that are kept.
const KEPT: usize = 10;
/// The longest message of a condition, in characters.
const LONGEST_MESSAGE: usize = 1000;
/// The longest detail of a result, in characters.
const LONGEST_DETAIL: usize = 4000;

/// One aspect, as all of Kubernetes tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Reported`, `HistoryRewritten`.
    pub r#type: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// The generation that it is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Since when the status is this.
    pub last_transition_time: Timestamp,
    /// A word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// A tag and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// The commit.
    pub revision: String,
}

/// What a forge was told last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// About this commit.
    pub revision: String,
    /// `pending`, `success`, `failure`.
    pub state: String,
}

/// A set as it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedSet {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

fn once() -> u32 {
    1
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The commit; empty when the repository could not say which.
    pub revision: String,
    /// The tag that it was chosen by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `Applied`, `Unchanged`, `Failed`.
    pub result: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One line.
    #[serde(default)]
    pub message: String,
    /// Everything else that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How often it was tried, the same failure each time.
    #[serde(default = "once")]
    pub count: u32,
    /// When it was tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
}

impl Entry {
    /// Whether it went wrong.
    pub fn failed(&self) -> bool {
        self.result == "Failed"
    }
}

/// The whole status. What is absent is `null` in JSON, so that a merge patch removes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The generation of the object that was looked at last.
    pub observed_generation: i64,
    /// `Ready` always; the others when they have something to say.
    pub conditions: Vec<Condition>,
    /// The commit of which something may be in the cluster.
    pub last_attempted_revision: Option<String>,
    /// When it was tried last.
    pub last_attempt_time: Option<Timestamp>,
    /// The commit that runs.
    pub last_applied_revision: Option<String>,
    /// Since when.
    pub last_applied_time: Option<Timestamp>,
    /// The generation of the object that it was applied with.
    pub applied_generation: i64,
    /// The set that it was applied as.
    pub applied_set: Option<AppliedSet>,
    /// What the tag that was followed last means: it is not followed elsewhere.
    pub locked_tag: Option<Tag>,
    /// What a tag that was moved means now: not followed until it is accepted.
    pub refused_revision: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Since when something is wrong.
    pub failing_since: Option<Timestamp>,
    /// The last request that was heeded.
    pub last_handled_request: Option<String>,
    /// What the forge was told last.
    pub reported: Option<Reported>,
    /// The last results, newest first.
    pub history: Vec<Entry>,
}

/// Times in a status have whole seconds.
pub(crate) fn second(now: Timestamp) -> Timestamp {
    now.round(Unit::Second).unwrap_or(now)
}

fn limited(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

impl Status {
    /// A condition.
    pub fn condition(&self, name: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.r#type == name)
    }

    /// Whether the last thing that was tried worked.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|condition| condition.status == "True")
    }

    /// Whether exactly this runs, and nothing else was begun since.
    pub(crate) fn settled(&self, commit: &str, generation: i64) -> bool {
        let is = |revision: &Option<String>| revision.as_deref() == Some(commit);
        is(&self.last_applied_revision) && is(&self.last_attempted_revision) && self.applied_generation == generation
    }

    /// The last result of a commit.
    pub(crate) fn last_result(&self) -> Option<&Entry> {
        self.history.iter().find(|entry| !entry.revision.is_empty())
    }

    pub(crate) fn set(&mut self, name: &str, status: &str, reason: &str, message: &str, now: Timestamp) {
        let generation = self.observed_generation;
        let mut condition = Condition {
            r#type: name.to_owned(),
            status: status.to_owned(),
            observed_generation: generation,
            last_transition_time: second(now),
            reason: reason.to_owned(),
            message: limited(message, LONGEST_MESSAGE),
        };
        match self.conditions.iter_mut().find(|known| known.r#type == name) {
            Some(known) => {
                if known.status == condition.status {
                    condition.last_transition_time = known.last_transition_time;
                }
                *known = condition;
            }
            None => self.conditions.push(condition),
        }
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.conditions.retain(|condition| condition.r#type != name);
    }

    /// What goes on while something is wrong.
    fn meanwhile(&self) -> String {
        match (&self.last_applied_revision, self.last_attempted_revision == self.last_applied_revision) {
            (Some(commit), true) => format!("; {} goes on running", short(commit)),
            (Some(commit), false) => format!("; {} was the last that worked", short(commit)),
            (None, _) => String::new(),
        }
    }

    /// Notes that something is wrong.
    pub(crate) fn wrong(&mut self, trouble: &Trouble, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(second(now));
        let tries = if self.failures > 1 { format!(" ({} times since {since})", self.failures) } else { String::new() };
        let message = format!("{}{}{tries}", trouble.message, self.meanwhile());
        self.set("Ready", "False", trouble.reason.as_str(), &message, now);
    }

    /// Notes that the object of this generation cannot be followed.
    pub fn invalid(&mut self, generation: i64, trouble: &Trouble, now: Timestamp) {
        let known = self.has_reason(trouble.reason) && self.observed_generation == generation;
        self.observed_generation = generation;
        if !known {
            self.wrong(trouble, now);
        }
    }

    /// Notes that all is as the repository says.
    pub(crate) fn well(&mut self, head: &Head, word: &str, now: Timestamp) {
        self.failures = 0;
        self.failing_since = None;
        let message = format!("{} {word}", head.shown());
        if self.condition("Ready").is_none_or(|ready| ready.status != "True" || ready.reason != "Succeeded" || !ready.message.starts_with(&head.shown())) {
            self.set("Ready", "True", "Succeeded", &message, now);
        }
    }

    /// Puts a result first. The same failure of the same commit again is one result that goes on.
    pub(crate) fn record(&mut self, mut entry: Entry) {
        entry.message = limited(&entry.message, LONGEST_MESSAGE);
        entry.detail = entry.detail.filter(|detail| !detail.is_empty()).map(|detail| limited(&detail, LONGEST_DETAIL));
        // What was well in between is a new one.
        let since = self.failing_since;
        let again = |last: &Entry| {
            let same = last.failed() && entry.failed() && last.revision == entry.revision && last.reason == entry.reason;
            same && last.completion_time.zip(since).is_some_and(|(last, since)| last >= since)
        };
        if let Some(last) = self.history.first().filter(|last| again(last)) {
            entry.start_time = last.start_time;
            entry.count = last.count.saturating_add(1);
            self.history.remove(0);
        }
        self.history.insert(0, entry);
        self.history.truncate(KEPT);
    }

    /// An entry for a trouble.
    pub(crate) fn failure(head: &Head, trouble: &Trouble, started: Option<Timestamp>, now: Timestamp) -> Entry {
        Entry {
            revision: head.commit.clone(),
            tag: head.tag.clone(),
            result: "Failed".to_owned(),
            reason: Some(trouble.reason.as_str().to_owned()),
            message: trouble.message.clone(),
            detail: Some(trouble.detail.clone()),
            count: 1,
            start_time: started.or(Some(second(now))),
            completion_time: Some(second(now)),
        }
    }

    /// Whether the reason that is told is this one.
    pub fn has_reason(&self, reason: Reason) -> bool {
        self.condition("Ready").is_some_and(|ready| ready.reason == reason.as_str())
    }
}
