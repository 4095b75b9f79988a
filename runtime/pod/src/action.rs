//! What a node is asked to do with a pod.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strake_kinds::core::{PodStatus, Probe};

use crate::{PodMemory, ProbeKind};

/// The answer of [`step`](crate::step).
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What to do now, in this order; independent actions may run side by side.
    pub actions: Vec<PodAction>,
    /// The status the API should hold.
    pub status: PodStatus,
    /// To be passed to the next call.
    pub memory: PodMemory,
    /// Call again at this time even if nothing changed.
    pub wake_at: Option<Timestamp>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum PodAction {
    /// Make the pod's directory, volumes, network namespace and address. Outcome: [`Observed::sandbox`](crate::Observed).
    PrepareSandbox,
    /// See that the image is on this node. The node records the `Pulling` and `Pulled` events: it alone knows whether
    /// anything had to be fetched. Outcome: [`ImageState`](crate::ImageState) with this `attempt`.
    PullImage { container: String, image: String, policy: PullPolicy, attempt: u32 },
    /// Make the container of this attempt without starting it. An attempt with this number that is already there
    /// (created by a node that then crashed, or refused) is replaced. Outcome: `Created` or `Refused`.
    CreateContainer { container: String, attempt: u32 },
    /// Start it and run its `postStart` hook. Outcome: `Running`, `Exited` or `Refused`.
    StartContainer { container: String, attempt: u32 },
    /// Run its `preStop` hook, then send its stop signal. Does not wait for the end: that is seen in the facts, and a
    /// container that outlives its grace gets a [`PodAction::KillContainer`].
    StopContainer { container: String, attempt: u32, grace_seconds: i64, why: StopReason, message: String },
    /// Send SIGKILL now.
    KillContainer { container: String, attempt: u32, message: String },
    /// Run the probe once, giving up after `timeout_seconds`. Outcome: [`ProbeResult`](crate::ProbeResult).
    RunProbe { container: String, attempt: u32, kind: ProbeKind, probe: Box<Probe>, timeout_seconds: i32 },
    /// Remove what this attempt left on the node, its log too.
    RemoveContainer { container: String, attempt: u32 },
    /// Give back the address, unmount the volumes, remove the namespaces. Outcome: `Sandbox::Absent`.
    TeardownSandbox,
    /// Record an event about the pod (with `fieldPath` `spec.containers{name}` when a container is named).
    Event { event_type: EventType, reason: &'static str, message: String, container: Option<String> },
    /// Everything has ended: delete the object with grace period 0 and its uid as precondition, after this step's status
    /// was written.
    DeleteFromApi,
}

/// Names a piece of work in flight, so that it is not begun twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ActionKey {
    PrepareSandbox,
    PullImage(String),
    CreateContainer(String),
    StartContainer(String),
    StopContainer(String),
    KillContainer(String),
    RunProbe(String, ProbeKind),
    RemoveContainer(String, u32),
    TeardownSandbox,
    DeleteFromApi,
}

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    PodDeleted,
    LivenessFailed,
    StartupFailed,
    DeadlineExceeded,
    /// The pod has ended: side containers that still run are stopped.
    PodEnded,
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

impl PodAction {
    /// The key under which this action is in flight; `None` for events, which are done at once.
    pub fn key(&self) -> Option<ActionKey> {
        Some(match self {
            Self::PrepareSandbox => ActionKey::PrepareSandbox,
            Self::PullImage { container, .. } => ActionKey::PullImage(container.clone()),
            Self::CreateContainer { container, .. } => ActionKey::CreateContainer(container.clone()),
            Self::StartContainer { container, .. } => ActionKey::StartContainer(container.clone()),
            Self::StopContainer { container, .. } => ActionKey::StopContainer(container.clone()),
            Self::KillContainer { container, .. } => ActionKey::KillContainer(container.clone()),
            Self::RunProbe { container, kind, .. } => ActionKey::RunProbe(container.clone(), *kind),
            Self::RemoveContainer { container, attempt } => ActionKey::RemoveContainer(container.clone(), *attempt),
            Self::TeardownSandbox => ActionKey::TeardownSandbox,
            Self::DeleteFromApi => ActionKey::DeleteFromApi,
            Self::Event { .. } => return None,
        })
    }
}
