//! Which pods go first when there are too many.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use strake_kinds::core::Pod;

use crate::object::{Kind, Object};
use crate::pods;
use crate::view::View;

/// The annotation by which users say how dear a pod is: the cheaper goes first.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The pods in the order in which they are deleted: not bound before bound, pending before running, not ready before ready,
/// cheap before dear, on nodes with many siblings before others, ready for a short time before a long one, restarted often
/// before seldom, young before old, and by name, so that the order is total.
pub(super) fn for_deletion<'v>(view: &View, active: &[&'v Arc<Object>], _now: Timestamp) -> Vec<&'v Arc<Object>> {
    let siblings = siblings_by_node(view, active);
    let mut ranked: Vec<_> = active.iter().filter_map(|object| pods::pod(object).map(|pod| (key(object, pod, &siblings), *object))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, object)| object).collect()
}

type Rank<'v> = (bool, u8, bool, i32, Reverse<usize>, Reverse<Timestamp>, Reverse<i32>, Reverse<Timestamp>, &'v str);

fn key<'v>(object: &'v Object, pod: &Pod, siblings: &HashMap<String, usize>) -> Rank<'v> {
    let phase = match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = object.meta.annotations.as_ref().and_then(|annotations| annotations.get(COST)?.parse().ok()).unwrap_or(0);
    let crowd = pods::node(pod).and_then(|node| siblings.get(node)).copied().unwrap_or(0);
    let created = object.meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let ready = pods::ready_since(pod).unwrap_or(Timestamp::UNIX_EPOCH);
    (
        pods::node(pod).is_some(),
        phase,
        pods::is_ready(pod),
        cost,
        Reverse(crowd),
        Reverse(ready),
        Reverse(pods::restarts(pod)),
        Reverse(created),
        &object.id.name,
    )
}

/// Active pods by node, of all sets that belong to the same owner (a Deployment's old and new ones).
fn siblings_by_node(view: &View, active: &[&Arc<Object>]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    let Some(set) = active.first().and_then(|pod| view.by_uid(&pod.controller()?.uid)) else { return counts };
    let sets: Vec<&Arc<Object>> = match set.controller() {
        Some(owner) => view.owned(&owner.uid).filter(|sibling| sibling.id.kind == Kind::REPLICA_SET).collect(),
        None => vec![set],
    };
    for pod in sets.iter().flat_map(|set| view.owned(set.uid())).filter_map(|object| pods::pod(object)).filter(|pod| pods::is_active(pod)) {
        if let Some(node) = pods::node(pod) {
            *counts.entry(node.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}
