//! A node that only pretends: it carries out a pod's actions in virtual time, as scripted.
//!
//! Tests, the simulation of the whole cluster, and the question "how would this rollout go" use it in place of a real node.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::action::{ActionKey, PodAction};
use crate::facts::{ContainerFacts, ContainerState, Exit, ImageState, Observed, ProbeKind, ProbeOutcome, ProbeResult, PullFailure, Refusal, Sandbox};

/// How a container behaves. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// How long fetching the image takes, and how it fails if it does.
    pub pull_ms: i64,
    pub pull_failure: Option<(PullFailure, String)>,
    /// Why it cannot be created or started, if so.
    pub refusal: Option<(Refusal, String)>,
    /// How long creating takes, and starting.
    pub create_ms: i64,
    pub start_ms: i64,
    /// After how long its startup and readiness probes succeed; `None`: never.
    pub ready_after_ms: Option<i64>,
    /// After how long its liveness probe begins to fail.
    pub unhealthy_after_ms: Option<i64>,
    /// After how long it ends by itself, and with which code.
    pub exit: Option<(i64, i32)>,
    /// How long it takes to end after its stop signal; `None`: it ignores the signal.
    pub stop_ms: Option<i64>,
}

impl Default for Behaviour {
    /// Quick and healthy.
    fn default() -> Self {
        Self {
            pull_ms: 10,
            pull_failure: None,
            refusal: None,
            create_ms: 3,
            start_ms: 2,
            ready_after_ms: Some(20),
            unhealthy_after_ms: None,
            exit: None,
            stop_ms: Some(5),
        }
    }
}

/// Something that will be so at a time.
#[derive(Clone, Debug)]
enum Outcome {
    Sandbox(Sandbox),
    Image(String, ImageState),
    Created(String, u32),
    Refused(String, u32, Refusal, String),
    Started(String, u32),
    Ended {
        container: String,
        attempt: u32,
        code: i32,
        signal: Option<i32>,
    },
    Probed(String, ProbeKind, u32, ProbeOutcome, Timestamp),
    Removed(String, u32),
    /// Only the key is taken out of flight.
    Done,
}

/// One pod on a pretended node.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    observed: Observed,
    ip: String,
    behaviours: BTreeMap<String, Behaviour>,
    /// What comes, by time and then in the order in which it was begun; with the key that leaves flight.
    coming: BTreeMap<(Timestamp, u64), (Option<ActionKey>, Outcome)>,
    begun: u64,
    probed: u64,
    /// `DeleteFromApi` was asked for.
    pub delete_asked: bool,
}

impl Rehearsal {
    /// A pod with nothing done for it yet. Containers without a behaviour of their own are quick and healthy.
    pub fn new(ip: &str, behaviours: BTreeMap<String, Behaviour>) -> Self {
        let observed = Observed { host_ips: vec!["192.0.2.1".to_owned()], ..Observed::default() };
        Self { observed, ip: ip.to_owned(), behaviours, coming: BTreeMap::new(), begun: 0, probed: 0, delete_asked: false }
    }

    /// What is to be seen now.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// To say that the API has no such pod any more.
    pub fn set_gone(&mut self) {
        self.observed.gone = true;
    }

    /// Changes how a container behaves from now on.
    pub fn behave(&mut self, container: &str, behaviour: Behaviour) {
        self.behaviours.insert(container.to_owned(), behaviour);
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.coming.keys().next().map(|(at, _)| *at)
    }

    /// Nothing runs, and nothing is left on the node.
    pub fn is_clean(&self) -> bool {
        let empty = |facts: &ContainerFacts| facts.state == ContainerState::Absent && facts.older_attempts.is_empty();
        self.observed.sandbox == Sandbox::Absent && self.observed.containers.values().all(empty)
    }

    /// The node restarts: what was in flight is cut off. Sandboxes and containers, running ones too, live on.
    pub fn restart_node(&mut self) {
        self.observed.in_flight.clear();
        self.observed.probes.clear();
        self.observed.containers.values_mut().for_each(|facts| facts.image = ImageState::Unknown);
        self.coming.retain(|_, (key, _)| key.is_none());
        self.delete_asked = false;
    }

    /// The machine restarts: all that ran is gone, and was not recorded.
    pub fn reboot(&mut self) {
        self.restart_node();
        self.coming.clear();
        self.observed.sandbox = Sandbox::Absent;
        self.observed.containers.clear();
    }

    /// A container's process ends now, by itself.
    pub fn end(&mut self, container: &str, code: i32, now: Timestamp) {
        let attempt = self.observed.containers.get(container).map_or(0, |facts| facts.attempt);
        self.put(now, None, Outcome::Ended { container: container.to_owned(), attempt, code, signal: None });
        self.advance(now);
    }

    /// Begins an action.
    pub fn begin(&mut self, action: &PodAction, now: Timestamp) {
        let Some(key) = action.key() else { return };
        if !self.observed.in_flight.insert(key.clone()) {
            return;
        }
        let (wait_ms, outcome) = self.outcome(action, now);
        self.put(now + SignedDuration::from_millis(wait_ms), Some(key), outcome);
    }

    fn put(&mut self, at: Timestamp, key: Option<ActionKey>, outcome: Outcome) {
        self.begun += 1;
        self.coming.insert((at, self.begun), (key, outcome));
    }

    fn behaviour(&self, container: &str) -> Behaviour {
        self.behaviours.get(container).cloned().unwrap_or_default()
    }

    fn outcome(&mut self, action: &PodAction, now: Timestamp) -> (i64, Outcome) {
        match action {
            PodAction::PrepareSandbox => (8, Outcome::Sandbox(Sandbox::Ready { ips: vec![self.ip.clone()] })),
            PodAction::TeardownSandbox => (4, Outcome::Sandbox(Sandbox::Absent)),
            PodAction::PullImage { container, image, attempt, .. } => self.pulled(container, image, *attempt, now),
            PodAction::CreateContainer { container, attempt } => {
                let behaviour = self.behaviour(container);
                let refused = behaviour.refusal.filter(|(refusal, _)| *refusal != Refusal::Start);
                let outcome = match refused {
                    Some((refusal, message)) => Outcome::Refused(container.clone(), *attempt, refusal, message),
                    None => Outcome::Created(container.clone(), *attempt),
                };
                (behaviour.create_ms, outcome)
            }
            PodAction::StartContainer { container, attempt } => {
                let behaviour = self.behaviour(container);
                let outcome = match behaviour.refusal {
                    Some((refusal, message)) => Outcome::Refused(container.clone(), *attempt, refusal, message),
                    None => Outcome::Started(container.clone(), *attempt),
                };
                (behaviour.start_ms, outcome)
            }
            PodAction::StopContainer { container, attempt, .. } => {
                if let Some(stop_ms) = self.behaviour(container).stop_ms {
                    let at = now + SignedDuration::from_millis(stop_ms.max(1));
                    self.put(at, None, Outcome::Ended { container: container.clone(), attempt: *attempt, code: 143, signal: Some(15) });
                }
                (1, Outcome::Done)
            }
            PodAction::KillContainer { container, attempt, .. } => {
                (1, Outcome::Ended { container: container.clone(), attempt: *attempt, code: 137, signal: Some(9) })
            }
            PodAction::RunProbe { container, attempt, kind, .. } => (1, self.probe(container, *attempt, *kind, now)),
            PodAction::RemoveContainer { container, attempt } => (1, Outcome::Removed(container.clone(), *attempt)),
            PodAction::DeleteFromApi => {
                self.delete_asked = true;
                (0, Outcome::Done)
            }
            PodAction::Event { .. } => (0, Outcome::Done),
        }
    }

    fn pulled(&self, container: &str, image: &str, attempt: u32, now: Timestamp) -> (i64, Outcome) {
        let behaviour = self.behaviour(container);
        let before = match self.observed.containers.get(container).map(|facts| &facts.image) {
            Some(ImageState::Failed { failures, .. }) => *failures,
            _ => 0,
        };
        let at = now + SignedDuration::from_millis(behaviour.pull_ms);
        let state = match behaviour.pull_failure {
            Some((failure, message)) => ImageState::Failed { failure, message, failures: before + 1, at },
            None => ImageState::Present { image_id: format!("{image}@sha256:{}", "0".repeat(64)), attempt },
        };
        (behaviour.pull_ms, Outcome::Image(container.to_owned(), state))
    }

    fn probe(&self, container: &str, attempt: u32, kind: ProbeKind, now: Timestamp) -> Outcome {
        let behaviour = self.behaviour(container);
        let ran = self.observed.containers.get(container).and_then(|facts| match facts.state {
            ContainerState::Running { started_at } => Some(now.duration_since(started_at).as_millis()),
            _ => None,
        });
        let well = ran.is_some_and(|ran| match kind {
            ProbeKind::Liveness => behaviour.unhealthy_after_ms.is_none_or(|after| ran < i128::from(after)),
            _ => behaviour.ready_after_ms.is_some_and(|after| ran >= i128::from(after)),
        });
        let outcome = if well { ProbeOutcome::Success } else { ProbeOutcome::Failure("HTTP probe failed with statuscode: 503".to_owned()) };
        Outcome::Probed(container.to_owned(), kind, attempt, outcome, now)
    }

    /// Lets everything happen that is due.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= now) {
            let at = entry.key().0;
            let (key, outcome) = entry.remove();
            self.happen(outcome, at);
            if let Some(key) = key {
                self.observed.in_flight.remove(&key);
            }
        }
    }

    fn happen(&mut self, outcome: Outcome, at: Timestamp) {
        match outcome {
            Outcome::Sandbox(sandbox) => self.observed.sandbox = sandbox,
            Outcome::Image(container, state) => self.facts(&container).image = state,
            Outcome::Created(container, attempt) => self.attempt(&container, attempt, ContainerState::Created),
            Outcome::Refused(container, attempt, refusal, message) => {
                self.attempt(&container, attempt, ContainerState::Refused { refusal, message, at });
            }
            Outcome::Started(container, attempt) => {
                let exit = self.behaviour(&container).exit;
                self.attempt(&container, attempt, ContainerState::Running { started_at: at });
                if let Some((after_ms, code)) = exit {
                    self.put(at + SignedDuration::from_millis(after_ms), None, Outcome::Ended { container, attempt, code, signal: None });
                }
            }
            Outcome::Ended { container, attempt, code, signal } => {
                let facts = self.facts(&container);
                if let (ContainerState::Running { started_at }, true) = (&facts.state, facts.attempt == attempt) {
                    let (started_at, id) = (*started_at, facts.id.clone());
                    facts.state = ContainerState::Exited(Exit { code, signal, oom_killed: false, started_at, finished_at: at, message: None, id });
                }
            }
            Outcome::Probed(container, kind, attempt, outcome, started_at) => {
                self.probed += 1;
                let result = ProbeResult { attempt, sequence: self.probed, outcome, started_at };
                self.observed.probes.entry(container).or_default().insert(kind, result);
            }
            Outcome::Removed(container, attempt) => {
                let facts = self.facts(&container);
                facts.older_attempts.retain(|older| *older != attempt);
                if facts.attempt == attempt {
                    facts.state = ContainerState::Absent;
                    facts.id = None;
                }
            }
            Outcome::Done => {}
        }
    }

    fn facts(&mut self, container: &str) -> &mut ContainerFacts {
        self.observed.containers.entry(container.to_owned()).or_default()
    }

    /// A container of this attempt is in this state; an attempt before it becomes the previous one.
    fn attempt(&mut self, container: &str, attempt: u32, state: ContainerState) {
        let facts = self.facts(container);
        if facts.state != ContainerState::Absent && attempt > facts.attempt {
            facts.older_attempts.push(facts.attempt);
            facts.previous = match &facts.state {
                ContainerState::Exited(exit) => Some(exit.clone()),
                _ => None,
            };
        }
        facts.attempt = attempt;
        facts.id = Some(format!("{container}-{attempt}"));
        facts.state = state;
    }
}
