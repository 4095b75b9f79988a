//! Taking up what an earlier life of the daemon left: running containers go on as if nothing had happened.

use std::collections::{BTreeMap, HashMap};

use strake_container::{ContainerId, ContainerStatus, Executor};
use strake_network::KnownPod;
use strake_pod::{ContainerFacts, ContainerState, Sandbox};

use crate::actions::{exit_of, state_of};
use crate::shared::Shared;
use crate::{NodeError, sandbox, spec};

/// What of a pod is on this machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adopted {
    pub sandbox: Sandbox,
    pub containers: BTreeMap<String, ContainerFacts>,
}

/// Puts the network in order and gives what there is, by the pod's uid.
pub(crate) fn all(shared: &Shared) -> Result<HashMap<String, Adopted>, NodeError> {
    let failed = |source| NodeError::Directory { path: shared.root.join("pods"), source };
    let boot = sandbox::boot_id();
    let mut found: HashMap<String, Adopted> = HashMap::new();
    let mut known = Vec::new();
    let mut on_host = Vec::new();
    for uid in sandbox::known(&shared.root).map_err(failed)? {
        if let Some(note) = sandbox::note(&shared.root, &uid).filter(|note| note.boot_id == boot) {
            match note.address {
                Some(address) => known.push(KnownPod { uid: uid.clone(), address }),
                None => on_host.push(uid.clone()),
            }
        }
        found.insert(uid, Adopted::default());
    }
    let repair = shared.network.repair(&known).map_err(|source| NodeError::AdoptNetwork(Box::new(source)))?;
    if !repair.removed.is_empty() || !repair.broken.is_empty() {
        tracing::info!(removed = repair.removed.len(), broken = repair.broken.len(), "the pods' network was put in order");
    }
    for uid in repair.whole {
        let address = shared.network.address(&uid).map(|address| address.to_string());
        found.entry(uid).or_default().sandbox = Sandbox::Ready { ips: address.into_iter().collect() };
    }
    for uid in on_host {
        found.entry(uid).or_default().sandbox = Sandbox::Ready { ips: shared.host_ips.clone() };
    }
    let ids = shared.executor.list().map_err(|source| NodeError::AdoptContainers(Box::new(source)))?;
    for (uid, containers) in by_pod(&ids) {
        let pod = found.entry(uid.clone()).or_default();
        for (container, attempts) in containers {
            pod.containers.insert(container.clone(), facts(shared, &uid, &container, attempts));
        }
    }
    Ok(found)
}

/// Attempts by pod and container, the newest last.
fn by_pod(ids: &[ContainerId]) -> BTreeMap<String, BTreeMap<String, Vec<u32>>> {
    let mut found: BTreeMap<String, BTreeMap<String, Vec<u32>>> = BTreeMap::new();
    for (uid, container, attempt) in ids.iter().filter_map(spec::parse_id) {
        found.entry(uid.to_owned()).or_default().entry(container.to_owned()).or_default().push(attempt);
    }
    for attempts in found.values_mut().flat_map(BTreeMap::values_mut) {
        attempts.sort_unstable();
    }
    found
}

fn facts(shared: &Shared, uid: &str, container: &str, mut attempts: Vec<u32>) -> ContainerFacts {
    let attempt = attempts.pop().unwrap_or(0);
    let status = |attempt: u32| read(shared.executor.as_ref(), &spec::container_id(uid, container, attempt));
    let pod = sandbox::kept_pod(&shared.root, uid);
    let previous = attempts.last().and_then(|attempt| match status(*attempt) {
        Some(ContainerStatus::Exited(record)) => Some(exit_of(shared, pod.as_ref(), uid, container, *attempt, &record)),
        _ => None,
    });
    let state = status(attempt).map_or(ContainerState::Absent, |status| state_of(shared, pod.as_ref(), uid, container, attempt, &status));
    let id = Some(spec::container_id(uid, container, attempt).0);
    ContainerFacts { id, attempt, state, previous, older_attempts: attempts, ..ContainerFacts::default() }
}

fn read(executor: &dyn Executor, id: &ContainerId) -> Option<ContainerStatus> {
    executor.status(id).inspect_err(|error| tracing::warn!(%id, %error, "a container of an earlier life cannot be read")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_grouped_and_others_containers_left_alone() {
        let ids = ["u1_web_10", "u1_web_9", "u1_side_0", "u2_web_0", "build-3", "x_y"].map(|name| ContainerId(name.to_owned()));
        let found = by_pod(&ids);
        assert_eq!(found["u1"]["web"], [9, 10]);
        assert_eq!(found["u1"]["side"], [0]);
        assert_eq!(found.len(), 2);
    }
}
