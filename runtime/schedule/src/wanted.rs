//! What a pod wants of a node, read once before the nodes are looked at.

use std::collections::BTreeMap;

use strake_kinds::core::{NodeSelectorTerm, Pod, PodSpec, PreferredSchedulingTerm, Toleration};

use crate::amounts::Amounts;
use crate::neighbours::{NeighbourTerm, SpreadTerm};

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostPort {
    pub(crate) protocol: String,
    pub(crate) port: i32,
    /// Empty: all addresses.
    pub(crate) address: String,
}

impl HostPort {
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let everywhere = |address: &str| address.is_empty() || address == "0.0.0.0";
        let same_address = everywhere(&self.address) || everywhere(&other.address) || self.address == other.address;
        same_address && self.port == other.port && self.protocol == other.protocol
    }
}

/// A pod's wishes.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// The uid of the controlling owner.
    pub(crate) owner: Option<String>,
    pub(crate) amounts: Amounts,
    pub(crate) amounts_for_comparison: Amounts,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) node_name: Option<String>,
    pub(crate) node_selector: BTreeMap<String, String>,
    /// `None`: no required affinity. Terms are alternatives.
    pub(crate) required_terms: Option<Vec<NodeSelectorTerm>>,
    pub(crate) preferred_terms: Vec<PreferredSchedulingTerm>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) images: Vec<String>,
    pub(crate) with: Vec<NeighbourTerm>,
    pub(crate) without: Vec<NeighbourTerm>,
    pub(crate) spread: Vec<SpreadTerm>,
    /// Preferred pod affinity (positive) and anti-affinity (negative).
    pub(crate) liked: Vec<(i64, NeighbourTerm)>,
}

impl Wanted {
    /// Reads a pod.
    pub fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone());
        let base = Self { uid: meta.uid.clone().unwrap_or_default(), labels: meta.labels.clone().unwrap_or_default(), namespace, owner, ..Self::default() };
        match &pod.spec {
            Some(spec) => base.with_spec(spec),
            None => base,
        }
    }

    fn with_spec(mut self, spec: &PodSpec) -> Self {
        self.amounts = Amounts::of_pod(spec);
        self.amounts_for_comparison = Amounts::of_pod_for_comparison(spec);
        self.ports = host_ports(spec);
        self.node_name.clone_from(&spec.node_name);
        self.node_selector = spec.node_selector.clone().unwrap_or_default();
        self.tolerations = spec.tolerations.clone().unwrap_or_default();
        self.images = spec.containers.iter().filter_map(|container| container.image.clone()).collect();
        self.spread = spec.topology_spread_constraints.iter().flatten().map(|one| SpreadTerm::read(one, &self.labels)).collect();
        let Some(affinity) = &spec.affinity else { return self };
        if let Some(node) = &affinity.node_affinity {
            self.required_terms = node.required_during_scheduling_ignored_during_execution.as_ref().map(|required| required.node_selector_terms.clone());
            self.preferred_terms = node.preferred_during_scheduling_ignored_during_execution.clone().unwrap_or_default();
        }
        let read = |term| NeighbourTerm::read(term, &self.namespace, &self.labels);
        if let Some(near) = &affinity.pod_affinity {
            self.with = near.required_during_scheduling_ignored_during_execution.iter().flatten().map(read).collect();
            let liked = near.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            self.liked.extend(liked.map(|one| (i64::from(one.weight), read(&one.pod_affinity_term))));
        }
        if let Some(far) = &affinity.pod_anti_affinity {
            self.without = far.required_during_scheduling_ignored_during_execution.iter().flatten().map(read).collect();
            let disliked = far.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            self.liked.extend(disliked.map(|one| (-i64::from(one.weight), read(&one.pod_affinity_term))));
        }
        self
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let on_host = spec.host_network == Some(true);
    let side = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(side).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|port| *port > 0).or(on_host.then_some(port.container_port))?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some(HostPort { protocol, port: number, address: port.host_ip.clone().unwrap_or_default() })
        })
        .collect()
}
