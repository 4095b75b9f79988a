//! One call of `step` while it is being worked out: the facts at hand and the answer as it grows.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use strake_kinds::core::{Container, ContainerStatus, Pod, PodSpec, PodStatus};

use crate::action::{EventType, PodAction};
use crate::facts::{ContainerFacts, Observed, Sandbox};
use crate::memory::{ContainerMemory, PodMemory};

/// Why a container is not running, as its `waiting` state says it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) reason: &'static str,
    pub(crate) message: Option<String>,
}

/// The role a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the main containers.
    Side,
    Main,
}

pub(crate) struct Turn<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) spec: &'a PodSpec,
    /// The status that the API holds.
    pub(crate) known: &'a PodStatus,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
    pub(crate) memory: PodMemory,
    pub(crate) actions: Vec<PodAction>,
    pub(crate) wake_at: Option<Timestamp>,
    pub(crate) waiting: BTreeMap<&'a str, Waiting>,
}

impl<'a> Turn<'a> {
    /// Adds an action, unless the same work is in flight or asked for already.
    pub(crate) fn act(&mut self, action: PodAction) {
        let Some(key) = action.key() else { return self.actions.push(action) };
        if !self.observed.in_flight.contains(&key) && !self.actions.iter().any(|known| known.key().as_ref() == Some(&key)) {
            self.actions.push(action);
        }
    }

    pub(crate) fn event(&mut self, event_type: EventType, reason: &'static str, message: String, container: Option<&str>) {
        self.actions.push(PodAction::Event { event_type, reason, message, container: container.map(str::to_owned) });
    }

    /// Asks for another look at `at`, if none sooner is asked for. A time that is not in the future is answered by a look
    /// one millisecond from now: it is a mistake of the caller's, and must not spin.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        let at = at.max(self.now + SignedDuration::from_millis(1));
        self.wake_at = Some(self.wake_at.map_or(at, |sooner| sooner.min(at)));
    }

    pub(crate) fn wait(&mut self, container: &'a Container, reason: &'static str, message: Option<String>) {
        self.waiting.insert(&container.name, Waiting { reason, message });
    }

    pub(crate) fn facts(&self, name: &str) -> &'a ContainerFacts {
        static NOTHING: ContainerFacts = ContainerFacts {
            id: None,
            attempt: 0,
            state: crate::ContainerState::Absent,
            image: crate::ImageState::Unknown,
            previous: None,
            older_attempts: Vec::new(),
        };
        self.observed.containers.get(name).unwrap_or(&NOTHING)
    }

    pub(crate) fn remember(&mut self, name: &str) -> &mut ContainerMemory {
        if !self.memory.containers.contains_key(name) {
            self.memory.containers.insert(name.to_owned(), ContainerMemory::default());
        }
        self.memory.containers.get_mut(name).expect("inserted just above")
    }

    /// What the API's status says about a container.
    pub(crate) fn known_status(&self, name: &str) -> Option<&'a ContainerStatus> {
        let known = self.known;
        let mut all = known.container_statuses.iter().flatten().chain(known.init_container_statuses.iter().flatten());
        all.find(|status| status.name == name)
    }

    pub(crate) fn sandbox_is_ready(&self) -> bool {
        matches!(self.observed.sandbox, Sandbox::Ready { .. })
    }

    pub(crate) fn main_containers(&self) -> &'a [Container] {
        &self.spec.containers
    }

    pub(crate) fn init_containers(&self) -> &'a [Container] {
        self.spec.init_containers.as_deref().unwrap_or_default()
    }

    pub(crate) fn all_containers(&self) -> impl Iterator<Item = (&'a Container, Role)> + use<'a> {
        let init = self.init_containers().iter().map(|container| (container, init_role(container)));
        init.chain(self.main_containers().iter().map(|container| (container, Role::Main)))
    }

    /// The grace period of the pod's specification, in seconds.
    pub(crate) fn grace_seconds(&self) -> i64 {
        self.spec.termination_grace_period_seconds.unwrap_or(30).max(0)
    }

    /// `name_namespace(uid)`, as events and messages call a pod.
    pub(crate) fn label(&self) -> String {
        let text = |part: &'a Option<String>| part.as_deref().unwrap_or_default();
        let meta = &self.pod.metadata;
        format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
    }
}

/// Whether an init container ends before the others start or stays beside them.
pub(crate) fn init_role(container: &Container) -> Role {
    match container.restart_policy.as_deref() {
        Some("Always") => Role::Side,
        _ => Role::Init,
    }
}

/// A number of seconds as a duration: never negative, and never so long that adding it to a time could overflow.
pub(crate) fn seconds(count: impl Into<i64>) -> SignedDuration {
    const TEN_YEARS: i64 = 10 * 366 * 24 * 3600;
    SignedDuration::from_secs(count.into().clamp(0, TEN_YEARS))
}
