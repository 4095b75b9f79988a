//! One container on its way: image, creation, start, probes, end, restart.

use jiff::{SignedDuration, Timestamp};
use strake_kinds::core::Container;

use crate::action::{EventType, PodAction, PullPolicy, StopReason};
use crate::backoff;
use crate::facts::{ContainerFacts, ContainerState, ImageState, PullFailure, Refusal};
use crate::memory::{Reported, Stop};
use crate::restart::end;
use crate::turn::{Role, Turn, seconds};

/// How long the plain reason (`ErrImagePull`, `RunContainerError`) is shown before the back-off's own.
const SHOW_CAUSE: SignedDuration = SignedDuration::from_secs(2);
/// A container that was refused for its configuration is tried again after this time, doubling.
const FIRST_REFUSAL: SignedDuration = SignedDuration::from_secs(1);
/// ... and not later than this: what was missing may appear at any time.
const MOST_REFUSAL: SignedDuration = SignedDuration::from_secs(20);
/// A kill that had no effect yet is repeated at this pace.
const KILL_AGAIN: SignedDuration = SignedDuration::from_secs(1);

impl<'a> Turn<'a> {
    /// Takes a container one step further. The sandbox stands, and it is this container's turn.
    pub(crate) fn drive(&mut self, container: &'a Container, role: Role) {
        let name = container.name.as_str();
        let facts = self.facts(name);
        self.report_progress(container, facts);
        match &facts.state {
            ContainerState::Absent => self.create(container),
            ContainerState::Created => {
                self.wait_for_creation(container);
                self.act(PodAction::StartContainer { container: name.to_owned(), attempt: facts.attempt });
            }
            ContainerState::Running { started_at } => {
                if role != Role::Init {
                    self.run_probes(container, facts.attempt, *started_at);
                }
                self.carry_on_stopping(container, facts.attempt);
            }
            ContainerState::Exited(_) | ContainerState::Refused { refusal: Refusal::Start, .. } => self.restart(container, role, facts),
            ContainerState::Refused { refusal, message, at } => self.try_again(container, *refusal, message, *at),
        }
        self.sweep(name, facts);
    }

    /// Sees that the image is there for an attempt. A container whose turn has not come fetches it in silence.
    pub(crate) fn fetch(&mut self, container: &'a Container, attempt: u32, in_turn: bool) -> bool {
        let name = container.name.as_str();
        let policy = pull_policy(container);
        let image = container.image.clone().unwrap_or_default();
        match &self.facts(name).image {
            ImageState::Present { attempt: checked, .. } if policy != PullPolicy::Always || *checked >= attempt => return true,
            ImageState::Failed { failure, message, failures, at } => {
                let delay = backoff::delay((*failures).max(1));
                let due = *at + delay + self.jitter(name, delay, *failures);
                if in_turn {
                    self.report_failed_pull(container, *failure, message, *at);
                }
                if due > self.now {
                    self.wake(due);
                } else {
                    self.act(PodAction::PullImage { container: name.to_owned(), image, policy, attempt });
                }
            }
            _ => self.act(PodAction::PullImage { container: name.to_owned(), image, policy, attempt }),
        }
        false
    }

    /// Begins to stop a running container: its stop signal now, SIGKILL at `kill_at`.
    pub(crate) fn stop(&mut self, container: &'a Container, attempt: u32, why: StopReason, kill_at: Timestamp, message: String) {
        let name = container.name.as_str();
        let grace_seconds = (kill_at.duration_since(self.now).as_millis() + 999) / 1000;
        self.remember(name).stop = Some(Stop { why, kill_at });
        self.event(EventType::Normal, "Killing", message.clone(), Some(name));
        if grace_seconds <= 0 {
            return;
        }
        let grace_seconds = i64::try_from(grace_seconds).unwrap_or(i64::MAX);
        self.act(PodAction::StopContainer { container: name.to_owned(), attempt, grace_seconds, why, message });
    }

    /// The stop under way of a container.
    pub(crate) fn stop_of(&self, name: &str) -> Option<&Stop> {
        self.memory.containers.get(name)?.stop.as_ref()
    }

    /// Kills a container whose grace is over.
    pub(crate) fn carry_on_stopping(&mut self, container: &'a Container, attempt: u32) {
        let name = container.name.as_str();
        let Some(kill_at) = self.stop_of(name).map(|stop| stop.kill_at) else { return };
        if kill_at > self.now {
            return self.wake(kill_at);
        }
        self.wake(self.now + KILL_AGAIN);
        let message = format!("Container {name} did not end within its grace period");
        self.act(PodAction::KillContainer { container: name.to_owned(), attempt, message });
    }

    fn create(&mut self, container: &'a Container) {
        self.wait_for_creation(container);
        let attempt = self.next_attempt(&container.name);
        if self.fetch(container, attempt, true) {
            self.act(PodAction::CreateContainer { container: container.name.clone(), attempt });
        }
    }

    fn wait_for_creation(&mut self, container: &'a Container) {
        let reason = if self.init_containers().is_empty() { "ContainerCreating" } else { "PodInitializing" };
        self.wait(container, reason, None);
    }

    fn restart(&mut self, container: &'a Container, role: Role, facts: &'a ContainerFacts) {
        let Some(end) = end(facts).filter(|end| self.restarts(role, end.code)) else { return };
        let name = container.name.as_str();
        let (delay, due) = self.restart_due(name, end.finished_at);
        let refused = matches!(facts.state, ContainerState::Refused { .. });
        if due > self.now {
            self.wake(due);
            if refused && self.now < end.finished_at + SHOW_CAUSE {
                self.wake(end.finished_at + SHOW_CAUSE);
                return self.wait(container, "RunContainerError", end.message.map(str::to_owned));
            }
            let message = format!("back-off {} restarting failed container={name} pod={}", spoken(delay), self.label());
            if self.remember(name).reported != Reported::BackOff {
                self.remember(name).reported = Reported::BackOff;
                let text = format!("Back-off restarting failed container {name} in pod {}", self.label());
                self.event(EventType::Warning, "BackOff", text, Some(name));
            }
            return self.wait(container, "CrashLoopBackOff", Some(message));
        }
        if refused {
            self.wait(container, "RunContainerError", end.message.map(str::to_owned));
        }
        let attempt = facts.attempt + 1;
        if self.fetch(container, attempt, true) {
            self.act(PodAction::CreateContainer { container: name.to_owned(), attempt });
        }
    }

    fn try_again(&mut self, container: &'a Container, refusal: Refusal, message: &str, at: Timestamp) {
        let name = container.name.as_str();
        let reason = if refusal == Refusal::Config { "CreateContainerConfigError" } else { "CreateContainerError" };
        self.wait(container, reason, Some(message.to_owned()));
        let refusals = self.memory.containers.get(name).map_or(1, |memory| memory.refusals).clamp(1, 16);
        let due = at + FIRST_REFUSAL.checked_mul(1 << (refusals - 1)).unwrap_or(MOST_REFUSAL).min(MOST_REFUSAL);
        if due > self.now {
            return self.wake(due);
        }
        let attempt = self.facts(name).attempt;
        if self.fetch(container, attempt, true) {
            self.act(PodAction::CreateContainer { container: name.to_owned(), attempt });
        }
    }

    /// Events for what has happened since the last step.
    fn report_progress(&mut self, container: &'a Container, facts: &'a ContainerFacts) {
        let name = container.name.as_str();
        let reported = self.remember(name).reported;
        let has_run = matches!(facts.state, ContainerState::Running { .. } | ContainerState::Exited(_));
        if reported < Reported::Created && (has_run || facts.state == ContainerState::Created) {
            self.remember(name).reported = Reported::Created;
            self.event(EventType::Normal, "Created", format!("Created container: {name}"), Some(name));
        }
        if reported < Reported::Started && has_run {
            self.remember(name).reported = Reported::Started;
            self.event(EventType::Normal, "Started", format!("Started container {name}"), Some(name));
        }
        if let ContainerState::Refused { message, at, .. } = &facts.state
            && self.remember(name).pull_failed_at != Some(*at)
        {
            self.remember(name).pull_failed_at = Some(*at);
            self.event(EventType::Warning, "Failed", format!("Error: {message}"), Some(name));
        }
    }

    fn report_failed_pull(&mut self, container: &'a Container, failure: PullFailure, message: &str, at: Timestamp) {
        let name = container.name.as_str();
        let image = container.image.as_deref().unwrap_or_default();
        let is_new = self.remember(name).pull_failed_at != Some(at);
        self.remember(name).pull_failed_at = Some(at);
        match failure {
            PullFailure::InvalidName => {
                self.wait(container, "InvalidImageName", Some(format!("Failed to apply default image tag \"{image}\": {message}")));
                if is_new {
                    self.event(EventType::Warning, "InspectFailed", format!("Failed to apply default image tag \"{image}\": {message}"), Some(name));
                }
            }
            PullFailure::NeverPull => {
                let text = format!("Container image \"{image}\" is not present with pull policy of Never");
                self.wait(container, "ErrImageNeverPull", Some(text.clone()));
                if is_new {
                    self.event(EventType::Warning, "ErrImageNeverPull", text, Some(name));
                }
            }
            PullFailure::Pull => {
                if is_new {
                    self.event(EventType::Warning, "Failed", format!("Failed to pull image \"{image}\": {message}"), Some(name));
                }
                if self.now < at + SHOW_CAUSE {
                    self.wake(at + SHOW_CAUSE);
                    return self.wait(container, "ErrImagePull", Some(message.to_owned()));
                }
                self.wait(container, "ImagePullBackOff", Some(format!("Back-off pulling image \"{image}\": ErrImagePull: {message}")));
            }
        }
    }

    /// Removes attempts that nobody can ask about any more: the newest one and the one before it (`logs --previous`) stay.
    pub(crate) fn sweep(&mut self, name: &str, facts: &ContainerFacts) {
        let newest_of_older = facts.older_attempts.iter().max().copied();
        for attempt in facts.older_attempts.iter().copied().filter(|attempt| Some(*attempt) != newest_of_older) {
            self.act(PodAction::RemoveContainer { container: name.to_owned(), attempt });
        }
    }

    /// Asks for the end of a running container by `kill_at`, or sooner if a stop under way says so.
    pub(crate) fn end_container(&mut self, container: &'a Container, why: StopReason, kill_at: Timestamp) {
        let facts = self.facts(&container.name);
        if !matches!(facts.state, ContainerState::Running { .. }) {
            return;
        }
        match self.stop_of(&container.name).map(|stop| stop.kill_at) {
            None => self.stop(container, facts.attempt, why, kill_at, format!("Stopping container {}", container.name)),
            Some(sooner) => {
                let kill_at = sooner.min(kill_at);
                self.remember(&container.name).stop = Some(Stop { why, kill_at });
            }
        }
        self.carry_on_stopping(container, facts.attempt);
    }

    /// The end of grace for a stop that begins now.
    pub(crate) fn grace_ends(&self) -> Timestamp {
        self.now + seconds(self.grace_seconds())
    }
}

/// The container's policy; without one, `Always` for the tag `latest` or none.
fn pull_policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some(_) => PullPolicy::IfNotPresent,
        None => {
            let image = container.image.as_deref().unwrap_or_default();
            let last = image.rsplit('/').next().unwrap_or(image);
            let by_latest = !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
            if by_latest { PullPolicy::Always } else { PullPolicy::IfNotPresent }
        }
    }
}

/// A wait as people read it: `10s`, `1m20s`, `5m0s`.
fn spoken(wait: SignedDuration) -> String {
    match (wait.as_secs() / 60, wait.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
