//! Probes: when the next one is due, what a result means.
//!
//! The timing is the one Kubernetes documents (`initialDelaySeconds`, then every `periodSeconds`), with one addition that is
//! strake's choice: **until a startup or readiness probe first succeeds it is also run in between**, every 10 ms at first and
//! then at gaps of a fifth of the time that has passed, up to the period. A pod is therefore seen to be ready within a fifth
//! of the time it needed, and not up to a period later. These quick looks can only help: a success counts, a failure counts
//! towards `failureThreshold` only at the documented times.

use jiff::{SignedDuration, Timestamp};
use strake_kinds::core::{Container, ContainerStatus, Probe};

use crate::action::{EventType, PodAction, StopReason};
use crate::facts::{ContainerState, ProbeKind, ProbeOutcome, ProbeResult};
use crate::memory::{ContainerMemory, ProbeMemory};
use crate::turn::{Turn, seconds};

/// The least gap between two quick looks.
const LEAST_GAP: SignedDuration = SignedDuration::from_millis(10);

/// The probe of this kind that a container has.
pub(crate) fn probe(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
    }
}

/// After a restart of the node: what the API was told about this very container still holds.
pub(crate) fn adopt(memory: &mut ContainerMemory, known: &ContainerStatus) {
    if known.started == Some(true) {
        memory.probes.entry(ProbeKind::Startup).or_default().verdict = Some(true);
    }
    if known.ready {
        memory.probes.entry(ProbeKind::Readiness).or_default().verdict = Some(true);
    }
}

fn period(probe: &Probe) -> SignedDuration {
    seconds(probe.period_seconds.unwrap_or(10).max(1))
}

fn first_due(probe: &Probe, started_at: Timestamp) -> Timestamp {
    started_at + seconds(probe.initial_delay_seconds.unwrap_or(0))
}

/// When the next look is due.
fn due(probe: &Probe, kind: ProbeKind, memory: &ProbeMemory, started_at: Timestamp) -> Timestamp {
    let first = first_due(probe, started_at);
    let Some(begun_at) = memory.begun_at else { return first };
    let regular = memory.ticked_at.unwrap_or(begun_at) + period(probe);
    match (kind, memory.verdict) {
        (ProbeKind::Startup | ProbeKind::Readiness, None) => {
            let gap = (begun_at.duration_since(first) / 5).max(LEAST_GAP);
            regular.min(begun_at + gap)
        }
        _ => regular,
    }
}

/// Counts one result. Returns the text of a failure that counts, and whether the threshold of failures is reached.
fn count<'r>(probe: &Probe, kind: ProbeKind, memory: &mut ProbeMemory, result: &'r ProbeResult) -> Option<(&'r str, bool)> {
    memory.seen = result.sequence;
    memory.begun_at = Some(result.started_at);
    let regular = match memory.ticked_at {
        Some(ticked) => result.started_at >= ticked + period(probe),
        // A readiness probe right at the start is a quick look: that it fails is no news.
        None => kind != ProbeKind::Readiness || probe.initial_delay_seconds.unwrap_or(0) > 0,
    };
    if regular || memory.ticked_at.is_none() {
        memory.ticked_at = Some(result.started_at);
    }
    match &result.outcome {
        ProbeOutcome::Success => {
            memory.failures = 0;
            memory.successes = memory.successes.saturating_add(1);
            if memory.successes >= probe.success_threshold.unwrap_or(1) {
                memory.verdict = Some(true);
            }
            None
        }
        ProbeOutcome::Failure(text) => {
            memory.successes = 0;
            if !regular {
                return None;
            }
            memory.failures = memory.failures.saturating_add(1);
            let reached = memory.failures >= probe.failure_threshold.unwrap_or(3);
            if reached && memory.verdict == Some(true) {
                memory.verdict = Some(false);
            }
            Some((text, reached))
        }
    }
}

impl<'a> Turn<'a> {
    /// The startup probe, if any, has succeeded.
    pub(crate) fn has_started(&self, container: &Container) -> bool {
        matches!(self.facts(&container.name).state, ContainerState::Running { .. })
            && (container.startup_probe.is_none() || self.verdict(container, ProbeKind::Startup) == Some(true))
    }

    /// It runs, has started and its readiness probe, if any, says so.
    pub(crate) fn is_ready(&self, container: &Container) -> bool {
        self.has_started(container) && (container.readiness_probe.is_none() || self.verdict(container, ProbeKind::Readiness) == Some(true))
    }

    fn verdict(&self, container: &Container, kind: ProbeKind) -> Option<bool> {
        self.memory.containers.get(&container.name)?.probes.get(&kind)?.verdict
    }

    /// Counts new results and runs the probes that are due of a running container.
    pub(crate) fn run_probes(&mut self, container: &'a Container, attempt: u32, started_at: Timestamp) {
        for kind in [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness] {
            if self.stop_of(&container.name).is_some() {
                return;
            }
            if let Some(probe) = probe(container, kind) {
                self.count_result(container, kind, probe, attempt);
                self.look(container, kind, probe, attempt, started_at);
            }
            if kind == ProbeKind::Startup && !self.has_started(container) {
                return;
            }
        }
    }

    fn count_result(&mut self, container: &'a Container, kind: ProbeKind, probe: &Probe, attempt: u32) {
        let name = container.name.as_str();
        let observed = self.observed;
        let Some(result) = observed.probes.get(name).and_then(|kinds| kinds.get(&kind)) else { return };
        let memory = self.remember(name).probes.entry(kind).or_default();
        if result.attempt != attempt || result.sequence <= memory.seen {
            return;
        }
        let Some((text, reached)) = count(probe, kind, memory, result) else { return };
        self.event(EventType::Warning, "Unhealthy", format!("{} probe failed: {text}", word(kind)), Some(name));
        let why = match kind {
            _ if !reached => return,
            ProbeKind::Readiness => return,
            ProbeKind::Liveness => StopReason::LivenessFailed,
            ProbeKind::Startup => StopReason::StartupFailed,
        };
        let message = format!("Container {name} failed {} probe, will be restarted", word(kind).to_lowercase());
        let grace = probe.termination_grace_period_seconds.unwrap_or(self.grace_seconds());
        self.stop(container, attempt, why, self.now + seconds(grace), message);
    }

    fn look(&mut self, container: &'a Container, kind: ProbeKind, probe: &Probe, attempt: u32, started_at: Timestamp) {
        let name = container.name.as_str();
        let memory = self.remember(name).probes.entry(kind).or_default();
        // A startup probe that succeeded has done its work.
        if kind == ProbeKind::Startup && memory.verdict == Some(true) {
            return;
        }
        let due = due(probe, kind, memory, started_at);
        if self.stop_of(name).is_some() || self.observed.in_flight.contains(&crate::ActionKey::RunProbe(name.to_owned(), kind)) {
            return;
        }
        if due > self.now {
            return self.wake(due);
        }
        let timeout_seconds = probe.timeout_seconds.unwrap_or(1).max(1);
        self.act(PodAction::RunProbe { container: name.to_owned(), attempt, kind, probe: Box::new(probe.clone()), timeout_seconds });
    }
}

fn word(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Startup => "Startup",
        ProbeKind::Readiness => "Readiness",
        ProbeKind::Liveness => "Liveness",
    }
}
