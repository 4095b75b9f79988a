//! What a node sees of a pod: its sandbox, its containers, and the last results of its probes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ActionKey;

/// What the node sees of one pod at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The node's own addresses, the primary one first: they become `hostIP` and `hostIPs`.
    pub host_ips: Vec<String>,
    /// The pod's network and shared namespaces.
    pub sandbox: Sandbox,
    /// Containers by name, init containers among them. A container the node knows nothing about may be left out.
    pub containers: BTreeMap<String, ContainerFacts>,
    /// The last result of each probe, of the container's current attempt. Older attempts' results are ignored.
    pub probes: BTreeMap<String, BTreeMap<ProbeKind, ProbeResult>>,
    /// Keys of the actions that the node has begun and not ended.
    pub in_flight: BTreeSet<ActionKey>,
    /// The API no longer has this pod (or has another one by this name): end everything now, there is nothing to report to.
    pub gone: bool,
}

/// The pod's sandbox: a network namespace with an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Sandbox {
    /// Not prepared yet, or torn down.
    #[default]
    Absent,
    /// The last attempt to prepare it failed.
    Failed { message: String, at: Timestamp },
    /// It stands. The primary address comes first.
    Ready { ips: Vec<String> },
}

/// What the node sees of one container: its newest attempt, and what earlier attempts left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// The runtime's identifier of the newest attempt, without a scheme (`strake://` is put before it in the status).
    pub id: Option<String>,
    /// The newest attempt: 0 is the first run. Meaningless while the state is [`ContainerState::Absent`].
    pub attempt: u32,
    pub state: ContainerState,
    /// What came of the last image pull for this container.
    pub image: ImageState,
    /// How the attempt before the newest one ended, when its record is still there.
    pub previous: Option<Exit>,
    /// Attempts older than the newest that still take space on the node.
    pub older_attempts: Vec<u32>,
}

/// One attempt of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum ContainerState {
    /// There is no such container.
    #[default]
    Absent,
    /// It exists and was never started.
    Created,
    /// Its process runs.
    Running { started_at: Timestamp },
    /// Its process ended.
    Exited(Exit),
    /// Creating or starting it failed; nothing runs.
    Refused { refusal: Refusal, message: String, at: Timestamp },
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 + the signal's number where a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// The kernel killed it because its memory limit was reached.
    pub oom_killed: bool,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// The termination message, or what the runtime has to say.
    pub message: Option<String>,
    /// The runtime's identifier of the attempt that ended.
    pub id: Option<String>,
}

/// Why a container could not be made to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// What its specification refers to is missing or wrong: a Secret, a ConfigMap key, a user that is not a number.
    Config,
    /// The runtime could not create it: a mount, a file system.
    Create,
    /// It was created and its program could not be started: not found, not executable. Also a failed `postStart` hook.
    Start,
}

/// What came of pulling a container's image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum ImageState {
    /// Nothing was tried since the node started.
    #[default]
    Unknown,
    /// The image is on this node, and was checked for this attempt. `image_id` is the form `repository@sha256:...`.
    Present { image_id: String, attempt: u32 },
    /// It could not be had. `failures` counts in a row, starting with 1.
    Failed { failure: PullFailure, message: String, failures: u32, at: Timestamp },
}

/// The class of a failed pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullFailure {
    /// The reference cannot be read: `InvalidImageName`.
    InvalidName,
    /// The policy forbids pulling and the image is not here: `ErrImageNeverPull`.
    NeverPull,
    /// The registry refused or could not be reached: `ErrImagePull`, then `ImagePullBackOff`.
    Pull,
}

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

/// The last result of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The attempt of the container that was probed.
    pub attempt: u32,
    /// Counts the results of this probe, starting with 1: each number is counted once.
    pub sequence: u64,
    pub outcome: ProbeOutcome,
    /// When the probe was begun.
    pub started_at: Timestamp,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ProbeOutcome {
    Success,
    /// With the text of the `Unhealthy` event, for example `HTTP probe failed with statuscode: 503`.
    Failure(String),
}
