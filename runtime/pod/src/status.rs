//! The status of a pod, told from the facts.

use jiff::Timestamp;
use strake_kinds::core::{
    Container, ContainerState as StateInStatus, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP, PodIP,
    PodStatus,
};
use strake_kinds::meta::Time;

use crate::conditions;
use crate::facts::{ContainerState, ImageState, Sandbox};
use crate::memory::{EndReason, Stage};
use crate::restart::{End, container_id, end, end_of_exit};
use crate::turn::{Role, Turn};

/// The API keeps times to the second; so does the status, or it would differ from itself after each write.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The status that the API should hold.
pub(crate) fn of(turn: &mut Turn<'_>) -> PodStatus {
    let init: Vec<_> = turn.init_containers().iter().map(|container| container_status(turn, container, crate::turn::init_role(container))).collect();
    let main: Vec<_> = turn.main_containers().iter().map(|container| container_status(turn, container, Role::Main)).collect();
    let phase = phase(turn, &init, &main);
    let (reason, message) = words(turn);
    let conditions = conditions::of(turn, phase);
    let known = turn.known;
    let ips = match &turn.observed.sandbox {
        Sandbox::Ready { ips } => ips.clone(),
        // The address is named until the end: what is asked afterwards is "which address had it".
        _ => known.pod_ips.iter().flatten().map(|known| known.ip.clone()).collect(),
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        host_ip: turn.observed.host_ips.first().cloned().or_else(|| known.host_ip.clone()),
        host_ips: match turn.observed.host_ips.is_empty() {
            true => known.host_ips.clone(),
            false => Some(turn.observed.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        },
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: turn.memory.started_at.map(|at| Time(whole_seconds(at))),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        qos_class: known.qos_class.clone().or_else(|| Some(crate::qos_class(turn.spec).to_owned())),
        nominated_node_name: known.nominated_node_name.clone(),
        resource_claim_statuses: known.resource_claim_statuses.clone(),
        ..PodStatus::default()
    }
}

fn words(turn: &Turn<'_>) -> (Option<String>, Option<String>) {
    match &turn.memory.stage {
        Stage::Ending { reason: Some(EndReason::DeadlineExceeded), .. } => {
            let message = "Pod was active on the node longer than the specified deadline";
            (Some("DeadlineExceeded".to_owned()), Some(message.to_owned()))
        }
        _ => (turn.known.reason.clone(), turn.known.message.clone()),
    }
}

fn phase(turn: &Turn<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
    match turn.known.phase.as_deref() {
        Some("Failed") => return "Failed",
        Some("Succeeded") => return "Succeeded",
        _ => {}
    }
    if matches!(turn.memory.stage, Stage::Ending { reason: Some(_), .. }) {
        return "Failed";
    }
    let code = |status: &ContainerStatus| status.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| ended.exit_code);
    let ran = |status: &ContainerStatus| status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
    let is_side = |status: &ContainerStatus| turn.init_containers().iter().any(|one| one.name == status.name && crate::turn::init_role(one) == Role::Side);
    let begun = main.iter().any(|status| status.container_id.is_some() || code(status).is_some() || ran(status));
    let never = turn.spec.restart_policy.as_deref() == Some("Never");
    if !begun {
        let init_failed = init.iter().any(|status| !is_side(status) && code(status).is_some_and(|code| code != 0));
        return if init_failed && never { "Failed" } else { "Pending" };
    }
    let waiting = |status: &&ContainerStatus| status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    if main.iter().filter(waiting).any(|status| !ran(status)) {
        return "Pending";
    }
    let ended = main.iter().map(code).collect::<Option<Vec<i32>>>();
    let will_restart = !never && matches!(turn.memory.stage, Stage::Living);
    let always = turn.spec.restart_policy.as_deref().unwrap_or("Always") == "Always";
    match ended {
        Some(codes) if codes.iter().all(|code| *code == 0) && !(always && will_restart) => "Succeeded",
        Some(_) if !will_restart => "Failed",
        _ => "Running",
    }
}

fn container_status(turn: &Turn<'_>, container: &Container, role: Role) -> ContainerStatus {
    let facts = turn.facts(&container.name);
    let known = turn.known_status(&container.name);
    let absent = facts.state == ContainerState::Absent;
    let (state, mut last_state) = states(turn, container, role);
    if last_state.is_none() {
        let previous = facts.previous.as_ref().map(|exit| terminated(&end_of_exit(exit)));
        last_state = previous.or_else(|| known.and_then(|known| known.last_state.clone()).filter(|last| last.terminated.is_some()));
    }
    let image_id = match &facts.image {
        ImageState::Present { image_id, .. } => image_id.clone(),
        _ => known.map(|known| known.image_id.clone()).unwrap_or_default(),
    };
    let known_count = known.map_or(0, |known| known.restart_count);
    let ran = state.running.is_some();
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id,
        container_id: container_id(facts).or_else(|| known.filter(|_| absent).and_then(|known| known.container_id.clone())),
        restart_count: if absent { known_count } else { i32::try_from(facts.attempt).unwrap_or(i32::MAX) },
        ready: match role {
            Role::Init => state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0),
            _ => turn.is_ready(container),
        },
        started: Some(if role == Role::Init { ran } else { turn.has_started(container) }),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

/// The state now and, where this attempt already belongs to the past, the last state.
fn states(turn: &Turn<'_>, container: &Container, role: Role) -> (StateInStatus, Option<StateInStatus>) {
    let facts = turn.facts(&container.name);
    let waits = turn.waiting.get(container.name.as_str());
    if let ContainerState::Running { started_at } = facts.state {
        let running = ContainerStateRunning { started_at: Some(Time(whole_seconds(started_at))) };
        return (StateInStatus { running: Some(running), ..StateInStatus::default() }, None);
    }
    if let Some(end) = end(facts) {
        let terminated = terminated(&end);
        return match waits {
            Some(_) => (waiting(turn, container), Some(terminated)),
            None => (terminated, None),
        };
    }
    let known = turn.known_status(&container.name).and_then(|known| known.state.as_ref());
    if facts.state != ContainerState::Absent {
        return (waiting(turn, container), None);
    }
    // No trace of it is left here. What the API knows of its end still holds; what it takes to run was lost.
    let lost = known.filter(|known| known.running.is_some()).map(|known| lost(turn, known));
    let over = !matches!(turn.memory.stage, Stage::Living) || (role == Role::Init && turn.mains_were_begun());
    match (over, known) {
        (true, Some(known)) if known.terminated.is_some() => (known.clone(), None),
        (true, Some(_)) if lost.is_some() => (lost.unwrap_or_default(), None),
        (_, Some(known)) if known.terminated.is_some() => (waiting(turn, container), Some(known.clone())),
        _ => (waiting(turn, container), lost),
    }
}

fn lost(turn: &Turn<'_>, known: &StateInStatus) -> StateInStatus {
    let terminated = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("No trace of the container was left on the node".to_owned()),
        started_at: known.running.as_ref().and_then(|running| running.started_at.clone()),
        // A time that does not move: when the pod was last known to change is not known, its start is.
        finished_at: turn.memory.started_at.map(|at| Time(whole_seconds(at))),
        ..ContainerStateTerminated::default()
    };
    StateInStatus { terminated: Some(terminated), ..StateInStatus::default() }
}

fn waiting(turn: &Turn<'_>, container: &Container) -> StateInStatus {
    let default = if turn.init_containers().is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let waits = turn.waiting.get(container.name.as_str());
    let waiting =
        ContainerStateWaiting { reason: Some(waits.map_or(default, |waits| waits.reason).to_owned()), message: waits.and_then(|waits| waits.message.clone()) };
    StateInStatus { waiting: Some(waiting), ..StateInStatus::default() }
}

fn terminated(end: &End<'_>) -> StateInStatus {
    let terminated = ContainerStateTerminated {
        container_id: end.id.map(|id| format!("strake://{id}")),
        exit_code: end.code,
        reason: Some(end.reason.to_owned()),
        signal: end.signal,
        message: end.message.map(str::to_owned),
        started_at: Some(Time(whole_seconds(end.started_at.unwrap_or(end.finished_at)))),
        finished_at: Some(Time(whole_seconds(end.finished_at))),
    };
    StateInStatus { terminated: Some(terminated), ..StateInStatus::default() }
}
