//! Placing one pod.

use std::collections::BTreeMap;
use std::fmt;

use strake_kinds::core::Pod;

use crate::cluster::{ClusterView, NodeFit};
use crate::filters::{Rejection, reject};
use crate::neighbours::Neighbourhood;
use crate::scores;
use crate::wanted::Wanted;

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub node: String,
    /// The weighted sum of the scores that decided it.
    pub score: i64,
}

/// Why a pod fits nowhere. Its `Display` is the message of the `FailedScheduling` event and of the `PodScheduled` condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unschedulable {
    /// For each node by name: why it will not do.
    pub nodes: BTreeMap<String, Vec<Rejection>>,
}

impl Unschedulable {
    /// No node will ever do unless a node changes: there is none, or each rejects the pod for a reason of its own.
    pub fn is_lasting(&self) -> bool {
        self.nodes.values().all(|rejections| rejections.iter().any(|rejection| rejection.lasting))
    }
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes.is_empty() {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for rejection in self.nodes.values().flatten() {
            *counts.entry(&rejection.reason).or_default() += 1;
        }
        let mut reasons: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes.len(), reasons.join(", "))
    }
}

impl std::error::Error for Unschedulable {}

/// Chooses a node for a pod. Between equal nodes the pod's uid decides, so that they are all used and the answer is the same
/// each time it is asked for.
pub fn place(view: &ClusterView, pod: &Pod) -> Result<Placement, Unschedulable> {
    place_wanted(view, &Wanted::of(pod))
}

fn place_wanted(view: &ClusterView, wanted: &Wanted) -> Result<Placement, Unschedulable> {
    let neighbourhood = Neighbourhood::of(view, wanted);
    let (mut fits, mut rejected): (Vec<&NodeFit>, _) = (Vec::new(), Vec::new());
    for node in view.nodes() {
        let rejections = reject(node, wanted, &neighbourhood);
        match rejections.is_empty() {
            true => fits.push(node),
            // Reasons are kept only while they may be needed.
            false if fits.is_empty() => rejected.push((node, rejections)),
            false => {}
        }
    }
    let totals = scores::total(&fits, wanted, &neighbourhood);
    let best = fits.iter().zip(totals).max_by_key(|(node, score)| (*score, tie_break(&wanted.uid, &node.name)));
    match best {
        Some((node, score)) => Ok(Placement { node: node.name.clone(), score }),
        None => Err(Unschedulable { nodes: rejected.into_iter().map(|(node, rejections)| (node.name.clone(), rejections)).collect() }),
    }
}

/// A number that differs from pod to pod for the same node.
fn tie_break(uid: &str, node: &str) -> u64 {
    let bytes = uid.bytes().chain(node.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
