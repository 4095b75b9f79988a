//! The decision: where the pod stands, and what each of its containers needs for the next step.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use strake_kinds::core::{Pod, PodSpec, PodStatus};

use crate::action::{ActionKey, EventType, PodAction, Step, StopReason};
use crate::facts::{ContainerState, Observed, Sandbox};
use crate::memory::{EndReason, PodMemory, Stage};
use crate::restart::end;
use crate::status;
use crate::turn::{Role, Turn, seconds};

/// Where the deletion time has passed already (the node was away), containers still get this long.
const LEAST_GRACE: SignedDuration = SignedDuration::from_secs(2);
/// A sandbox that could not be prepared is tried again after this time, doubling up to half a minute.
const FIRST_SANDBOX_RETRY: SignedDuration = SignedDuration::from_secs(1);
const MOST_SANDBOX_RETRY: SignedDuration = SignedDuration::from_secs(30);

/// Decides what to do next with a pod.
///
/// `pod` is the object as the API last gave it, with its status; `observed` is what the node sees of it; `memory` is what the
/// call before returned, or the default. The same arguments always give the same answer, and a call with the answer's
/// actions in flight asks for nothing more.
pub fn step(pod: &Pod, observed: &Observed, memory: PodMemory, now: Timestamp) -> Step {
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let known = pod.status.as_ref().unwrap_or(&no_status);
    let mut turn = Turn { pod, spec, known, observed, now, memory, actions: Vec::new(), wake_at: None, waiting: BTreeMap::new() };
    let started = turn.memory.started_at.or(known.start_time.as_ref().map(|time| time.0)).unwrap_or(now);
    turn.memory.started_at = Some(started);
    for (container, _) in turn.all_containers() {
        turn.take_in(container);
    }
    turn.memory.stage = turn.next_stage(started);
    match turn.memory.stage.clone() {
        Stage::Living => turn.live(),
        Stage::Ending { kill_at, reason } => turn.end_pod(kill_at, reason),
        Stage::Terminating { kill_at, .. } => turn.terminate(kill_at),
    }
    let status = status::of(&mut turn);
    Step { actions: turn.actions, status, memory: turn.memory, wake_at: turn.wake_at }
}

impl<'a> Turn<'a> {
    fn next_stage(&mut self, started: Timestamp) -> Stage {
        if self.observed.gone {
            return Stage::Terminating { kill_at: self.now, deletion: self.now };
        }
        if let Some(deleted) = &self.pod.metadata.deletion_timestamp {
            let deletion = deleted.0;
            if let Stage::Terminating { deletion: before, .. } = &self.memory.stage
                && deletion >= *before
            {
                return self.memory.stage.clone();
            }
            let grace = seconds(self.pod.metadata.deletion_grace_period_seconds.unwrap_or(30));
            let kill_at = deletion.max(self.now + grace.min(LEAST_GRACE)).min(self.now + grace);
            return Stage::Terminating { kill_at, deletion };
        }
        if self.memory.stage != Stage::Living {
            return self.memory.stage.clone();
        }
        if matches!(self.known.phase.as_deref(), Some("Succeeded" | "Failed")) {
            let overdue = self.known.reason.as_deref() == Some("DeadlineExceeded");
            return Stage::Ending { reason: overdue.then_some(EndReason::DeadlineExceeded), kill_at: self.grace_ends() };
        }
        if let Some(limit) = self.spec.active_deadline_seconds {
            let deadline = started + seconds(limit);
            if deadline <= self.now {
                let text = "Pod was active on the node longer than the specified deadline".to_owned();
                self.event(EventType::Normal, "DeadlineExceeded", text, None);
                return Stage::Ending { reason: Some(EndReason::DeadlineExceeded), kill_at: self.grace_ends() };
            }
            self.wake(deadline);
        }
        if self.has_ended() {
            return Stage::Ending { reason: None, kill_at: self.grace_ends() };
        }
        Stage::Living
    }

    /// Every main container is over, or an init container failed for good.
    fn has_ended(&self) -> bool {
        let main = self.main_containers();
        let init_failed = self.init_containers().iter().any(|container| {
            let role = crate::turn::init_role(container);
            role == Role::Init && self.is_over(container, role) && end(self.facts(&container.name)).is_some_and(|end| end.code != 0)
        });
        init_failed || (!main.is_empty() && main.iter().all(|container| self.is_over(container, Role::Main)))
    }

    fn live(&mut self) {
        self.prepare_sandbox();
        // Images are fetched side by side, and while the sandbox is being prepared.
        for (container, _) in self.all_containers() {
            if self.facts(&container.name).state == ContainerState::Absent && !self.container_is_done_for(&container.name) {
                let attempt = self.next_attempt(&container.name);
                self.fetch(container, attempt, false);
            }
        }
        if !self.sandbox_is_ready() {
            return;
        }
        if !self.initialize() {
            return;
        }
        for container in self.main_containers() {
            self.drive(container, Role::Main);
        }
    }

    /// An init container that has nothing left to do, whatever became of its traces.
    fn container_is_done_for(&self, name: &str) -> bool {
        self.mains_were_begun() && self.init_containers().iter().any(|container| container.name == name && crate::turn::init_role(container) == Role::Init)
    }

    /// A main container exists: what comes before them is past.
    pub(crate) fn mains_were_begun(&self) -> bool {
        self.main_containers().iter().any(|container| self.facts(&container.name).state != ContainerState::Absent)
    }

    /// Takes the init containers further, in their order. True when the main containers' turn has come.
    fn initialize(&mut self) -> bool {
        let past = self.mains_were_begun();
        for container in self.init_containers() {
            let role = crate::turn::init_role(container);
            if role == Role::Init && past {
                continue;
            }
            self.drive(container, role);
            let passed = match role {
                Role::Init => end(self.facts(&container.name)).is_some_and(|end| end.code == 0),
                _ => self.has_started(container),
            };
            if !passed && !past {
                return false;
            }
        }
        true
    }

    fn prepare_sandbox(&mut self) {
        match &self.observed.sandbox {
            Sandbox::Ready { .. } => self.memory.sandbox_failures = 0,
            Sandbox::Absent => self.act(PodAction::PrepareSandbox),
            Sandbox::Failed { message, at } => {
                if self.memory.sandbox_failed_at != Some(*at) {
                    self.memory.sandbox_failed_at = Some(*at);
                    self.memory.sandbox_failures += 1;
                    self.event(EventType::Warning, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"), None);
                }
                let doublings = self.memory.sandbox_failures.clamp(1, 16) - 1;
                let due = *at + FIRST_SANDBOX_RETRY.checked_mul(1 << doublings).unwrap_or(MOST_SANDBOX_RETRY).min(MOST_SANDBOX_RETRY);
                if due > self.now {
                    return self.wake(due);
                }
                self.act(PodAction::PrepareSandbox);
            }
        }
    }

    /// The pod has ended: what still runs is stopped, the sandbox goes, the containers' logs stay until it is deleted.
    fn end_pod(&mut self, kill_at: Timestamp, reason: Option<EndReason>) {
        let why = if reason.is_some() { StopReason::DeadlineExceeded } else { StopReason::PodEnded };
        if self.all_quiet(why, kill_at) && self.observed.sandbox != Sandbox::Absent {
            self.act(PodAction::TeardownSandbox);
        }
    }

    /// The pod was deleted: stop, tear down, sweep, and at last delete the object.
    fn terminate(&mut self, kill_at: Timestamp) {
        if !self.all_quiet(StopReason::PodDeleted, kill_at) {
            return;
        }
        let mut left = false;
        if self.observed.sandbox != Sandbox::Absent {
            left = true;
            self.act(PodAction::TeardownSandbox);
        }
        let observed = self.observed;
        for (name, facts) in &observed.containers {
            let newest = (facts.state != ContainerState::Absent).then_some(facts.attempt);
            for attempt in facts.older_attempts.iter().copied().chain(newest) {
                left = true;
                self.act(PodAction::RemoveContainer { container: name.clone(), attempt });
            }
        }
        if !left && !observed.gone && !self.is_working() {
            self.act(PodAction::DeleteFromApi);
        }
    }

    /// Something is in flight that makes or removes a part of the pod.
    fn is_working(&self) -> bool {
        self.observed.in_flight.iter().any(|key| !matches!(key, ActionKey::RunProbe(..) | ActionKey::PullImage(_)))
    }

    /// Stops everything, side containers last. True when nothing runs and nothing is being made.
    fn all_quiet(&mut self, why: StopReason, kill_at: Timestamp) -> bool {
        let running = |turn: &Self, name: &str| matches!(turn.facts(name).state, ContainerState::Running { .. });
        let (side, others): (Vec<_>, Vec<_>) = self.all_containers().partition(|(_, role)| *role == Role::Side);
        for (container, _) in &others {
            self.end_container(container, why, kill_at);
        }
        let others_run = others.iter().any(|(container, _)| running(self, &container.name));
        if !others_run || kill_at <= self.now {
            // The last one started is the first one stopped.
            for (container, _) in side.iter().rev() {
                self.end_container(container, why, kill_at);
                if running(self, &container.name) && kill_at > self.now {
                    break;
                }
            }
        } else {
            self.wake(kill_at);
        }
        let making =
            self.observed.in_flight.iter().any(|key| matches!(key, ActionKey::PrepareSandbox | ActionKey::CreateContainer(_) | ActionKey::StartContainer(_)));
        !making && self.all_containers().all(|(container, _)| !running(self, &container.name))
    }
}
