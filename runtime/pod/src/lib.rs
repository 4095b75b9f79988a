//! The life of one pod, decided: facts and the time go in, actions, the status and the next look come out.
//!
//! [`step`] is a pure function. The node calls it whenever something it observes changes, when the pod's object changes,
//! and at `wake_at`; it carries the returned [`PodMemory`] into the next call and performs the returned [`PodAction`]s.
//!
//! # What the node promises
//!
//! - An action whose [`PodAction::key`] is `Some` is put into [`Observed::in_flight`] when it is begun and taken out when it
//!   ends, whatever the outcome; `step` never repeats a key in flight.
//! - The outcome of an action is visible in [`Observed`] no later than the moment its key leaves `in_flight`.
//! - Memory may be lost at any time (a restart of the node): `PodMemory::default()` is always valid, and what matters is
//!   found again in the facts and in the status that the API holds.
//! - Times come from one clock that never goes backwards while the node runs.

mod action;
mod backoff;
mod conditions;
mod containers;
mod facts;
mod memory;
mod probes;
mod qos;
pub mod rehearsal;
mod restart;
mod status;
mod step;
mod turn;

pub use action::{ActionKey, EventType, PodAction, PullPolicy, Step, StopReason};
pub use facts::{ContainerFacts, ContainerState, Exit, ImageState, Observed, ProbeKind, ProbeOutcome, ProbeResult, PullFailure, Refusal, Sandbox};
pub use memory::PodMemory;
pub use qos::qos_class;
pub use step::step;
