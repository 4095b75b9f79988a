//! What is told about a Sync as events: the difference between two statuses.

use crate::{Reason, Status};

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// It is a warning.
    pub warning: bool,
    /// A word for programs: `Deployed`, `FetchFailed`, `Refused`, `DeployFailed`, `Drifted`, `Recovered`.
    pub reason: &'static str,
    /// A sentence. The same thing again has the same one, so that it is counted and not told anew.
    pub message: String,
}

impl Reason {
    /// The word that an event has.
    pub fn event(self) -> &'static str {
        match self {
            Reason::CredentialsMissing | Reason::Unauthorized | Reason::FetchFailed => "FetchFailed",
            Reason::InvalidSpec
            | Reason::ReferenceMissing
            | Reason::NoVersionFits
            | Reason::TagMoved
            | Reason::PathMissing
            | Reason::LinkLeavesRepository
            | Reason::LockMissing
            | Reason::TargetForbidden
            | Reason::ManifestsInvalid
            | Reason::NothingRendered => "Refused",
            Reason::BuildFailed | Reason::ClusterUnreachable | Reason::ApplyFailed | Reason::Unhealthy | Reason::Interrupted => "DeployFailed",
        }
    }
}

/// What is to be told when the status was `before` and is `after`. Nothing when they are the same.
pub fn notes(before: &Status, after: &Status) -> Vec<Note> {
    let mut notes = Vec::new();
    let newest = after.history.first().filter(|entry| before.history.first() != Some(*entry));
    let commit = |status: &Status| status.last_applied_revision.clone();
    if let Some(entry) = newest.filter(|entry| !entry.failed() && (entry.result == "Applied" || commit(before) != commit(after))) {
        let name = entry.tag.as_ref().map(|tag| format!("{tag}@")).unwrap_or_default();
        let message = format!("{name}{} runs: {}", crate::short(&entry.revision), entry.message);
        notes.push(Note { warning: false, reason: "Deployed", message });
    }
    if after.failures > before.failures
        && let Some(ready) = after.condition("Ready")
    {
        // The condition's own message counts, so it is never the same twice.
        let failed = newest.filter(|entry| entry.failed() && entry.reason.as_deref() == Some(ready.reason.as_str()));
        let message = failed.map_or_else(|| ready.message.clone(), |entry| entry.message.clone());
        let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == ready.reason).map_or("DeployFailed", Reason::event);
        notes.push(Note { warning: true, reason, message });
    }
    if let Some(drifted) = after.condition("Drifted").filter(|condition| condition.status == "True")
        && before.condition("Drifted").is_none_or(|known| known.status != "True" || known.message != drifted.message)
    {
        notes.push(Note { warning: true, reason: "Drifted", message: drifted.message.clone() });
    }
    if before.failing_since.is_some() && after.failing_since.is_none() {
        let was = before.condition("Ready").filter(|ready| ready.status == "False").map(|ready| format!(" after {}", ready.reason)).unwrap_or_default();
        let runs = after.last_applied_revision.as_deref().map(|commit| format!(": {} runs", crate::short(commit))).unwrap_or_default();
        notes.push(Note { warning: false, reason: "Recovered", message: format!("all is as the repository says again{was}{runs}") });
    }
    notes
}
