//! What a pod's decider remembers between two steps. All of it may be lost.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strake_kinds::core::PodCondition;

use crate::{ProbeKind, StopReason};

/// The memory of a pod, moved by value through [`step`](crate::step).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PodMemory {
    pub(crate) stage: Stage,
    pub(crate) containers: BTreeMap<String, ContainerMemory>,
    /// When the node first saw the pod: `startTime`.
    pub(crate) started_at: Option<Timestamp>,
    /// How often preparing the sandbox failed in a row, and when it last did.
    pub(crate) sandbox_failures: u32,
    pub(crate) sandbox_failed_at: Option<Timestamp>,
    /// The conditions last reported: their transition times stay while their status does.
    pub(crate) conditions: Vec<PodCondition>,
}

/// Where the pod stands in its life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It runs or is on its way there.
    #[default]
    Living,
    /// It was deleted: containers are being stopped, and killed at `kill_at`. `deletion` is the object's deletion time; a
    /// second, harder deletion moves it forward.
    Terminating { kill_at: Timestamp, deletion: Timestamp },
    /// It ended by itself, or passed its deadline; containers that still run are being stopped.
    Ending { reason: Option<EndReason>, kill_at: Timestamp },
}

/// Why a pod ended, where its containers' exits do not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EndReason {
    DeadlineExceeded,
}

/// The memory of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerMemory {
    /// The attempt this memory is about; `None` until the container is first seen.
    pub(crate) attempt: Option<u32>,
    /// Ends in a row that count for the back-off of restarts, this attempt's among them once it ended.
    pub(crate) failures: u32,
    /// This attempt's end is counted in `failures`.
    pub(crate) end_counted: bool,
    /// Refusals (`Config`, `Create`) in a row, and the time of the last one counted.
    pub(crate) refusals: u32,
    pub(crate) refused_at: Option<Timestamp>,
    /// The time of the failed pull last reported by an event.
    pub(crate) pull_failed_at: Option<Timestamp>,
    /// How far this attempt was reported by events.
    pub(crate) reported: Reported,
    /// The stop under way.
    pub(crate) stop: Option<Stop>,
    /// The probes of this attempt.
    pub(crate) probes: BTreeMap<ProbeKind, ProbeMemory>,
}

/// What events have said about an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Reported {
    #[default]
    Nothing,
    Created,
    Started,
    BackOff,
}

/// A stop under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) why: StopReason,
    pub(crate) kill_at: Timestamp,
}

/// The counters of one probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeMemory {
    /// The sequence number of the last result counted.
    pub(crate) seen: u64,
    /// When the last probe was begun.
    pub(crate) begun_at: Option<Timestamp>,
    pub(crate) successes: i32,
    pub(crate) failures: i32,
    /// When the last regular look (not one of the early, quick ones) was begun.
    pub(crate) ticked_at: Option<Timestamp>,
    /// The verdict, once there is one.
    pub(crate) verdict: Option<bool>,
}
