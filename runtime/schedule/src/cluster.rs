//! The nodes and what is taken of them, kept up to date change by change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use strake_kinds::core::{Node, Pod, Taint};

use crate::amounts::Amounts;
use crate::wanted::{HostPort, Wanted};

/// What the scheduler knows of one node.
#[derive(Clone, Debug, Default)]
pub struct NodeFit {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Cordoned: `spec.unschedulable`.
    pub unschedulable: bool,
    /// There is a `Node` object. Pods may be seen before the node they are bound to.
    pub exists: bool,
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub pods_allowed: i64,
    /// The sum of what its pods ask for.
    pub taken: Amounts,
    /// The same, counting containers that ask for nothing too.
    pub taken_for_comparison: Amounts,
    pub(crate) pods: HashMap<String, Arc<Wanted>>,
    pub(crate) ports: Vec<HostPort>,
    /// Pods by the uid of their controlling owner.
    pub(crate) by_owner: HashMap<String, u32>,
    /// Bytes of the images that are there.
    pub(crate) images: HashMap<String, i64>,
}

impl NodeFit {
    /// How many pods are bound to it.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    fn read(&mut self, node: &Node) {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        self.exists = true;
        self.labels = node.metadata.labels.clone().unwrap_or_default();
        self.taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        self.unschedulable = spec.is_some_and(|spec| spec.unschedulable == Some(true));
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        self.allocatable = Amounts::read(allocatable);
        let pods = allocatable.and_then(|list| strake_words::Quantity::parse(&list.get("pods")?.0).ok());
        self.pods_allowed = pods.map_or(110, |pods| i64::try_from(pods.as_units()).unwrap_or(i64::MAX));
        let images = status.and_then(|status| status.images.as_deref()).unwrap_or_default();
        let named = images.iter().flat_map(|image| image.names.iter().flatten().map(|name| (name.clone(), image.size_bytes.unwrap_or(0))));
        self.images = named.collect();
    }

    fn add(&mut self, pod: Arc<Wanted>) {
        self.taken.add(&pod.amounts);
        self.taken_for_comparison.add(&pod.amounts_for_comparison);
        self.ports.extend(pod.ports.iter().cloned());
        if let Some(owner) = &pod.owner {
            *self.by_owner.entry(owner.clone()).or_default() += 1;
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    fn remove(&mut self, uid: &str) {
        let Some(pod) = self.pods.remove(uid) else { return };
        self.taken.subtract(&pod.amounts);
        self.taken_for_comparison.subtract(&pod.amounts_for_comparison);
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
        if let Some(count) = pod.owner.as_ref().and_then(|owner| self.by_owner.get_mut(owner)) {
            *count = count.saturating_sub(1);
        }
    }
}

/// All nodes. Cheap to keep up to date: each change touches one node.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    pub(crate) nodes: BTreeMap<String, NodeFit>,
    /// Pod uid -> node name.
    bound: HashMap<String, String>,
    /// Bound pods that refuse neighbours: uid -> node name.
    pub(crate) choosy: HashMap<String, String>,
}

impl ClusterView {
    /// A view of these nodes, and of the pods that are bound to them.
    pub fn new<'a>(nodes: impl IntoIterator<Item = &'a Node>, pods: impl IntoIterator<Item = &'a Pod>) -> Self {
        let mut view = Self::default();
        nodes.into_iter().for_each(|node| view.apply_node(node));
        pods.into_iter().for_each(|pod| view.apply_pod(pod));
        view
    }

    /// Takes in a node as it is now.
    pub fn apply_node(&mut self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let fit = self.nodes.entry(name.clone()).or_default();
        fit.name = name;
        fit.read(node);
    }

    /// Forgets a node. Its pods stay counted, in case the node comes back before they go.
    pub fn remove_node(&mut self, name: &str) {
        let Some(fit) = self.nodes.get_mut(name) else { return };
        fit.exists = false;
        if fit.pods.is_empty() {
            self.nodes.remove(name);
        }
    }

    /// Takes in a pod as it is now: it is counted on the node it is bound to until it has ended.
    pub fn apply_pod(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let ended = matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty() && !ended);
        let known = self.bound.get(uid).map(String::as_str);
        if known == node && node.is_none_or(|node| self.has_same_labels(node, uid, pod)) {
            return;
        }
        self.remove_pod(uid);
        if let Some(node) = node {
            self.assume(Wanted::of(pod), node);
        }
    }

    /// Of what the scheduler reads, only a bound pod's labels ever change.
    fn has_same_labels(&self, node: &str, uid: &str, pod: &Pod) -> bool {
        let counted = self.nodes.get(node).and_then(|fit| fit.pods.get(uid));
        counted.is_some_and(|counted| pod.metadata.labels.as_ref().map_or(counted.labels.is_empty(), |labels| *labels == counted.labels))
    }

    /// Counts a pod on a node, for example one just placed whose binding is still being written.
    pub fn assume(&mut self, pod: Wanted, node: &str) {
        self.remove_pod(&pod.uid);
        let fit = self.nodes.entry(node.to_owned()).or_default();
        fit.name = node.to_owned();
        self.bound.insert(pod.uid.clone(), node.to_owned());
        if !pod.without.is_empty() {
            self.choosy.insert(pod.uid.clone(), node.to_owned());
        }
        fit.add(Arc::new(pod));
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(node) = self.bound.remove(uid) else { return };
        self.choosy.remove(uid);
        if let Some(fit) = self.nodes.get_mut(&node) {
            fit.remove(uid);
            if fit.pods.is_empty() && !fit.exists {
                self.nodes.remove(&node);
            }
        }
    }

    /// The nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeFit> {
        self.nodes.values().filter(|node| node.exists)
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<&NodeFit> {
        self.nodes.get(name).filter(|node| node.exists)
    }
}
