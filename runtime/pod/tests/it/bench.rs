//! One pod on a pretended node under a virtual clock.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strake_kinds::core::{ContainerStatus, Pod};
use strake_kinds::meta::Time;
use strake_pod::rehearsal::{Behaviour, Rehearsal};
use strake_pod::{PodAction, PodMemory, Step, step};

pub struct Bench {
    pub pod: Pod,
    pub node: Rehearsal,
    pub memory: PodMemory,
    pub now: Timestamp,
    pub start: Timestamp,
    wake_at: Option<Timestamp>,
    /// Every action with the milliseconds since the start.
    pub log: Vec<(i64, PodAction)>,
    /// Every different container state reason shown, in order.
    pub reasons: Vec<String>,
}

pub fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "web", "namespace": "default", "uid": "uid-1"});
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})).unwrap()
}

pub fn simple() -> Value {
    json!({"nodeName": "n1", "containers": [{"name": "app", "image": "web:1", "imagePullPolicy": "IfNotPresent"}]})
}

pub fn with(container: Value) -> Value {
    let mut spec = simple();
    spec["containers"][0].as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    spec
}

impl Bench {
    pub fn new(spec: Value, behaviours: &[(&str, Behaviour)]) -> Self {
        let start: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let behaviours: BTreeMap<String, Behaviour> = behaviours.iter().map(|(name, one)| ((*name).to_owned(), one.clone())).collect();
        Self {
            pod: pod(spec),
            node: Rehearsal::new("10.42.0.9", behaviours),
            memory: PodMemory::default(),
            now: start,
            start,
            wake_at: None,
            log: Vec::new(),
            reasons: Vec::new(),
        }
    }

    pub fn ms(&self) -> i64 {
        i64::try_from(self.now.duration_since(self.start).as_millis()).unwrap()
    }

    /// One decision, begun and reported.
    pub fn turn(&mut self) {
        let Step { actions, status, memory, wake_at } = step(&self.pod, self.node.observed(), self.memory.clone(), self.now);
        let again = step(&self.pod, self.node.observed(), self.memory.clone(), self.now);
        assert_eq!((&again.actions, &again.status), (&actions, &status), "the same facts give the same answer");
        for action in actions {
            self.node.begin(&action, self.now);
            self.log.push((self.ms(), action));
        }
        self.memory = memory;
        self.pod.status = Some(status);
        self.wake_at = wake_at;
        if let Some(reason) = self.reason().filter(|reason| self.reasons.last() != Some(reason)) {
            self.reasons.push(reason);
        }
        // With its actions in flight nothing more is asked for.
        let after = step(&self.pod, self.node.observed(), self.memory.clone(), self.now);
        assert_eq!(after.actions, [], "nothing is left to do at {} ms", self.ms());
        assert_eq!(after.status, *self.pod.status.as_ref().unwrap(), "the status stays");
    }

    /// Runs until the pod was deleted, or a time in milliseconds since the start, or as long as `go_on` says.
    pub fn run_while(&mut self, until_ms: i64, go_on: impl Fn(&Self) -> bool) {
        let until = self.start + SignedDuration::from_millis(until_ms);
        for turns in 0.. {
            assert!(turns < 100_000, "turns without end");
            self.node.advance(self.now);
            self.turn();
            if self.node.delete_asked || !go_on(self) {
                return;
            }
            let next = [self.node.next_at(), self.wake_at].into_iter().flatten().min();
            match next {
                Some(at) if at <= until => self.now = self.now.max(at),
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
    }

    pub fn run_to(&mut self, until_ms: i64) {
        self.run_while(until_ms, |_| true);
    }

    /// Runs until the pod is ready; gives the milliseconds it took.
    pub fn run_to_ready(&mut self, until_ms: i64) -> i64 {
        self.run_while(until_ms, |bench| bench.condition("Ready").0 != "True");
        assert_eq!(self.condition("Ready").0, "True", "{:#?}", self.pod.status);
        self.ms()
    }

    pub fn delete(&mut self, grace: i64) {
        self.pod.metadata.deletion_timestamp = Some(Time(self.now + SignedDuration::from_secs(grace)));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }

    pub fn phase(&self) -> &str {
        self.pod.status.as_ref().unwrap().phase.as_deref().unwrap()
    }

    pub fn condition(&self, type_: &str) -> (String, String, String) {
        let conditions = self.pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let found = conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        (found.status.clone(), found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default())
    }

    pub fn container(&self, name: &str) -> &ContainerStatus {
        let status = self.pod.status.as_ref().unwrap();
        let mut all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        all.find(|container| container.name == name).unwrap()
    }

    pub fn waiting(&self, name: &str) -> (String, String) {
        let waiting = self.container(name).state.as_ref().unwrap().waiting.clone().unwrap_or_else(|| panic!("{:#?}", self.container(name)));
        (waiting.reason.unwrap(), waiting.message.unwrap_or_default())
    }

    /// The reason shown for the first container, whatever its state.
    fn reason(&self) -> Option<String> {
        let state = self.pod.status.as_ref()?.container_statuses.as_ref()?[0].state.clone()?;
        let words =
            [state.waiting.and_then(|state| state.reason), state.terminated.and_then(|state| state.reason), state.running.map(|_| "Running".to_owned())];
        words.into_iter().flatten().next()
    }

    /// Names of what was done, without events and probes.
    pub fn deeds(&self) -> Vec<String> {
        let name = |action: &PodAction| match action {
            PodAction::PrepareSandbox => Some("sandbox".to_owned()),
            PodAction::PullImage { container, .. } => Some(format!("pull {container}")),
            PodAction::CreateContainer { container, attempt } => Some(format!("create {container} {attempt}")),
            PodAction::StartContainer { container, attempt } => Some(format!("start {container} {attempt}")),
            PodAction::StopContainer { container, .. } => Some(format!("stop {container}")),
            PodAction::KillContainer { container, .. } => Some(format!("kill {container}")),
            PodAction::RemoveContainer { container, attempt } => Some(format!("remove {container} {attempt}")),
            PodAction::TeardownSandbox => Some("teardown".to_owned()),
            PodAction::DeleteFromApi => Some("delete".to_owned()),
            PodAction::RunProbe { .. } | PodAction::Event { .. } => None,
        };
        self.log.iter().filter_map(|(_, action)| name(action)).collect()
    }

    /// Times in milliseconds of actions that `is` picks.
    pub fn times(&self, is: impl Fn(&PodAction) -> bool) -> Vec<i64> {
        self.log.iter().filter(|(_, action)| is(action)).map(|(at, _)| *at).collect()
    }

    pub fn starts(&self) -> Vec<i64> {
        self.times(|action| matches!(action, PodAction::StartContainer { .. }))
    }

    pub fn events(&self) -> Vec<(&'static str, String)> {
        let event = |action: &PodAction| match action {
            PodAction::Event { reason, message, .. } => Some((*reason, message.clone())),
            _ => None,
        };
        self.log.iter().filter_map(|(_, action)| event(action)).collect()
    }
}
