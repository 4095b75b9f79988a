//! The conditions of a pod.

use strake_kinds::core::{Container, PodCondition};
use strake_kinds::meta::Time;

use crate::facts::ContainerState;
use crate::restart::end;
use crate::turn::{Role, Turn};

/// The conditions that the node answers for; others in the status are somebody else's and stay.
const OURS: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// One finding, before it is compared with what was reported.
struct Finding {
    type_: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

/// All conditions: ours first, in the order people know, then those of others.
pub(crate) fn of(turn: &mut Turn<'_>, phase: &str) -> Vec<PodCondition> {
    let findings = [sandbox(turn), initialized(turn, phase), ready(turn, phase), containers_ready(turn, phase), scheduled()];
    let before: Vec<PodCondition> = match turn.memory.conditions.is_empty() {
        true => turn.known.conditions.iter().flatten().cloned().collect(),
        false => std::mem::take(&mut turn.memory.conditions),
    };
    let mut all: Vec<PodCondition> = findings.into_iter().map(|finding| settle(turn, finding, &before)).collect();
    turn.memory.conditions.clone_from(&all);
    let foreign = turn.known.conditions.iter().flatten().filter(|condition| !OURS.contains(&condition.type_.as_str()));
    all.extend(foreign.cloned());
    all
}

fn settle(turn: &Turn<'_>, finding: Finding, before: &[PodCondition]) -> PodCondition {
    let status = if finding.holds { "True" } else { "False" };
    let known = before.iter().find(|condition| condition.type_ == finding.type_ && condition.status == status);
    let now = || Time(crate::status::whole_seconds(turn.now));
    PodCondition {
        type_: finding.type_.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.map(str::to_owned),
        message: finding.message,
        last_transition_time: known.and_then(|known| known.last_transition_time.clone()).or_else(|| Some(now())),
        ..PodCondition::default()
    }
}

fn finding(type_: &'static str, holds: bool) -> Finding {
    Finding { type_, holds, reason: None, message: None }
}

/// The pod was bound before the node got to see it.
fn scheduled() -> Finding {
    finding("PodScheduled", true)
}

fn sandbox(turn: &Turn<'_>) -> Finding {
    finding("PodReadyToStartContainers", turn.sandbox_is_ready())
}

fn initialized(turn: &Turn<'_>, phase: &str) -> Finding {
    let incomplete: Vec<&str> = match phase {
        "Succeeded" => Vec::new(),
        _ if turn.mains_were_begun() => Vec::new(),
        _ => turn.init_containers().iter().filter(|container| !init_is_passed(turn, container)).map(|container| container.name.as_str()).collect(),
    };
    let reason = if phase == "Succeeded" { Some("PodCompleted") } else { None };
    if incomplete.is_empty() {
        return Finding { reason, ..finding("Initialized", true) };
    }
    let message = Some(format!("containers with incomplete status: [{}]", incomplete.join(" ")));
    Finding { reason: Some("ContainersNotInitialized"), message, ..finding("Initialized", false) }
}

fn init_is_passed(turn: &Turn<'_>, container: &Container) -> bool {
    match crate::turn::init_role(container) {
        Role::Init => end(turn.facts(&container.name)).is_some_and(|end| end.code == 0),
        _ => matches!(turn.facts(&container.name).state, ContainerState::Running { .. }) && turn.has_started(container),
    }
}

fn containers_ready(turn: &Turn<'_>, phase: &str) -> Finding {
    match phase {
        "Succeeded" => return Finding { reason: Some("PodCompleted"), ..finding("ContainersReady", false) },
        "Failed" => return Finding { reason: Some("PodFailed"), ..finding("ContainersReady", false) },
        _ => {}
    }
    let unready: Vec<&str> = turn
        .all_containers()
        .filter(|(container, role)| *role != Role::Init && !turn.is_ready(container))
        .map(|(container, _)| container.name.as_str())
        .collect();
    if unready.is_empty() {
        return finding("ContainersReady", true);
    }
    let message = Some(format!("containers with unready status: [{}]", unready.join(" ")));
    Finding { reason: Some("ContainersNotReady"), message, ..finding("ContainersReady", false) }
}

fn ready(turn: &Turn<'_>, phase: &str) -> Finding {
    let containers = containers_ready(turn, phase);
    if !containers.holds {
        return Finding { type_: "Ready", ..containers };
    }
    let holds = |gate: &str| turn.known.conditions.iter().flatten().any(|condition| condition.type_ == gate && condition.status == "True");
    let gates = turn.spec.readiness_gates.iter().flatten();
    let closed = gates.map(|gate| gate.condition_type.as_str()).find(|gate| !holds(gate));
    match closed {
        None => finding("Ready", true),
        Some(gate) => {
            let message = Some(format!("corresponding condition of pod readiness gate \"{gate}\" is not True"));
            Finding { reason: Some("ReadinessGatesNotReady"), message, ..finding("Ready", false) }
        }
    }
}
