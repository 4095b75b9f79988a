//! How a container's attempt ended, and whether and when the next one is due.

use jiff::Timestamp;
use strake_kinds::core::Container;

use crate::backoff;
use crate::facts::{ContainerFacts, ContainerState, Exit, Refusal};
use crate::turn::{Role, Turn};

/// The exit code of a container whose program could not be started.
const START_ERROR_CODE: i32 = 128;

/// The end of an attempt, from an exit or from a program that could not be started.
pub(crate) struct End<'a> {
    pub(crate) code: i32,
    pub(crate) reason: &'static str,
    pub(crate) signal: Option<i32>,
    pub(crate) message: Option<&'a str>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
    pub(crate) id: Option<&'a str>,
}

/// The end of a recorded exit.
pub(crate) fn end_of_exit(exit: &Exit) -> End<'_> {
    let reason = match exit {
        Exit { oom_killed: true, .. } => "OOMKilled",
        Exit { code: 0, .. } => "Completed",
        _ => "Error",
    };
    End {
        code: exit.code,
        reason,
        signal: exit.signal,
        message: exit.message.as_deref(),
        started_at: Some(exit.started_at),
        finished_at: exit.finished_at,
        id: exit.id.as_deref(),
    }
}

/// How the newest attempt ended, if it did.
pub(crate) fn end(facts: &ContainerFacts) -> Option<End<'_>> {
    match &facts.state {
        ContainerState::Exited(exit) => Some(End { id: exit.id.as_deref().or(facts.id.as_deref()), ..end_of_exit(exit) }),
        ContainerState::Refused { refusal: Refusal::Start, message, at } => Some(End {
            code: START_ERROR_CODE,
            reason: "StartError",
            signal: None,
            message: Some(message),
            started_at: None,
            finished_at: *at,
            id: facts.id.as_deref(),
        }),
        _ => None,
    }
}

impl<'a> Turn<'a> {
    /// The newest attempt has ended and no other will follow.
    pub(crate) fn is_over(&self, container: &Container, role: Role) -> bool {
        end(self.facts(&container.name)).is_some_and(|end| !self.restarts(role, end.code))
    }

    /// Whether a container of this role that ended with `code` is started again.
    pub(crate) fn restarts(&self, role: Role, code: i32) -> bool {
        let policy = self.spec.restart_policy.as_deref().unwrap_or("Always");
        match role {
            Role::Side => true,
            Role::Init => code != 0 && policy != "Never",
            Role::Main => policy == "Always" || (policy == "OnFailure" && code != 0),
        }
    }

    /// Takes in what is new about an attempt: a later attempt begins its own memory, an end is counted once.
    pub(crate) fn take_in(&mut self, container: &'a Container) {
        let name = container.name.as_str();
        let facts = self.facts(name);
        if facts.state == ContainerState::Absent {
            return;
        }
        let adopted = self.known_status(name).filter(|known| known.container_id.is_some() && known.container_id == container_id(facts));
        let memory = self.remember(name);
        if memory.attempt != Some(facts.attempt) {
            let first_sight = memory.attempt.is_none();
            memory.attempt = Some(facts.attempt);
            memory.end_counted = false;
            memory.stop = None;
            memory.probes.clear();
            memory.reported = crate::memory::Reported::Nothing;
            if first_sight {
                // After a restart of the node the number of attempts stands for the failures that were forgotten.
                memory.failures = facts.attempt;
                if let Some(known) = adopted {
                    memory.reported = crate::memory::Reported::Started;
                    crate::probes::adopt(memory, known);
                }
            }
        }
        if let Some(end) = end(facts).filter(|_| !memory.end_counted) {
            let ran = end.started_at.map(|started| end.finished_at.duration_since(started));
            if ran.is_some_and(|ran| ran >= backoff::FORGIVEN_AFTER) {
                memory.failures = 0;
            }
            memory.failures += 1;
            memory.end_counted = true;
        }
        match facts.state {
            ContainerState::Running { .. } => memory.refusals = 0,
            ContainerState::Refused { at, .. } if memory.refused_at != Some(at) => {
                memory.refused_at = Some(at);
                memory.refusals += 1;
            }
            _ => {}
        }
    }

    /// The wait, without jitter, after the newest end, and when it is over.
    pub(crate) fn restart_due(&self, name: &str, finished_at: Timestamp) -> (jiff::SignedDuration, Timestamp) {
        let failures = self.memory.containers.get(name).map_or(1, |memory| memory.failures).max(1);
        let delay = backoff::delay(failures - 1);
        (delay, finished_at + delay + self.jitter(name, delay, failures))
    }

    /// The jitter of a wait of this pod's.
    pub(crate) fn jitter(&self, name: &str, delay: jiff::SignedDuration, failures: u32) -> jiff::SignedDuration {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        backoff::jitter(delay, &format!("{uid}/{name}"), failures)
    }

    /// The number of the attempt to create next.
    pub(crate) fn next_attempt(&self, name: &str) -> u32 {
        let facts = self.facts(name);
        match facts.state {
            // Nothing is left of the container here: the API may know of attempts that a reboot has swept away.
            ContainerState::Absent => self.known_status(name).map_or(0, |known| {
                let ran = known.container_id.is_some() || known.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
                u32::try_from(known.restart_count).unwrap_or(0) + u32::from(ran)
            }),
            ContainerState::Exited(_) | ContainerState::Refused { refusal: Refusal::Start, .. } => facts.attempt + 1,
            _ => facts.attempt,
        }
    }
}

/// The identifier as the status carries it.
pub(crate) fn container_id(facts: &ContainerFacts) -> Option<String> {
    facts.id.as_ref().map(|id| format!("strake://{id}"))
}
