//! The node controller: a node that stops renewing its lease is not ready any more, and neither are its pods.
//!
//! Nothing is evicted: a node that cannot be reached may well be running its pods, and a second copy of each would be the
//! greater harm. The node gets the `unreachable` taint, so that nothing new is placed on it, and loses it when it is back.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use strake_kinds::coordination::Lease;
use strake_kinds::core::{Node, NodeCondition, PodCondition, Taint};

use crate::action::{Action, Decision, EventType};
use crate::object::{Body, Kind, Object};
use crate::view::{Change, View};
use crate::{Controller, Key, pods, write};

/// The namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// A lease that does not say how long it holds.
const DEFAULT_LEASE_SECONDS: i32 = 40;
/// The conditions that nobody vouches for once the node is silent.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// See the module.
pub struct Nodes;

impl Controller for Nodes {
    fn name(&self) -> &'static str {
        "node-controller"
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::NODE, Kind::LEASE]
    }

    fn keys_for(&self, _view: &View, change: &Change) -> Vec<Key> {
        match () {
            () if change.id.kind == Kind::NODE => vec![change.id.clone()],
            () if change.id.namespace == LEASES => vec![Key::new(Kind::NODE, "", &change.id.name)],
            () => Vec::new(),
        }
    }

    fn reconcile(&self, view: &View, key: &Key, now: Timestamp) -> Decision {
        let Some(object) = view.get(key) else { return Decision::default() };
        let Body::Node(node) = &object.body else { return Decision::default() };
        let expires = lease(view, &key.name).and_then(expiry).or_else(|| first_expiry(object));
        // After a restart of everything the node gets its time to come back too, or all pods would be marked for a moment.
        let patience = view.observed_from().map(|from| from + SignedDuration::from_secs(i64::from(DEFAULT_LEASE_SECONDS)));
        let expires = expires.map(|expires| patience.map_or(expires, |patience| expires.max(patience)));
        let alive = expires.is_none_or(|expires| now < expires);
        let mut actions = Vec::new();
        if !alive {
            actions.extend(silence(object, node, now));
            actions.extend(view.pods_on(&key.name).filter_map(|pod| mark_not_ready(pod, now)));
        }
        actions.extend(taint(object, node, alive));
        let requeue_after = expires.filter(|_| alive).map(|expires| expires.duration_since(now));
        Decision { actions, requeue_after: requeue_after.map(|wait| Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(100)) }
    }
}

fn lease<'v>(view: &'v View, node: &str) -> Option<&'v Lease> {
    match &view.find(&Kind::LEASE, LEASES, node)?.body {
        Body::Lease(lease) => Some(lease),
        _ => None,
    }
}

fn expiry(lease: &Lease) -> Option<Timestamp> {
    let spec = lease.spec.as_ref()?;
    let seconds = spec.lease_duration_seconds.unwrap_or(DEFAULT_LEASE_SECONDS);
    Some(spec.renew_time.as_ref()?.0 + SignedDuration::from_secs(i64::from(seconds.max(1))))
}

/// A node that never had a lease gets the same time from its creation.
fn first_expiry(object: &Object) -> Option<Timestamp> {
    let created = object.meta.creation_timestamp.as_ref()?.0;
    Some(created + SignedDuration::from_secs(i64::from(DEFAULT_LEASE_SECONDS)))
}

fn silence(object: &Object, node: &Node, now: Timestamp) -> Vec<Action> {
    let mut status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    let was_ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    for type_ in VOUCHED {
        let known = conditions.iter_mut().find(|condition| condition.type_ == type_);
        match known {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => {
                known.status = "Unknown".to_owned();
                known.reason = Some("NodeStatusUnknown".to_owned());
                known.message = Some("The node has stopped posting its status.".to_owned());
                known.last_transition_time = Some(write::time(now));
            }
            None if type_ == "Ready" => conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("The node has never posted its status.".to_owned()),
                last_transition_time: Some(write::time(now)),
                last_heartbeat_time: None,
            }),
            None => {}
        }
    }
    let mut actions: Vec<Action> = write::status(object, node.status.as_ref(), &status, "the node's lease has expired").into_iter().collect();
    if was_ready {
        let message = format!("Node {} status is now: NodeNotReady", object.id.name);
        actions.push(write::event(object, EventType::Normal, "NodeNotReady", message));
    }
    actions
}

/// The taints that follow from the node's state: `unreachable` while it is silent, `not-ready` while it says so itself.
fn taint(object: &Object, node: &Node, alive: bool) -> Option<Action> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.clone().find(|condition| condition.type_ == "Ready").map(|condition| condition.status.as_str());
    let wanted = match (alive, ready) {
        (false, _) => Some(UNREACHABLE),
        // Back, but its own word is still to come: nothing changes until then.
        (true, Some("Unknown")) => return None,
        (true, Some("False")) => Some(NOT_READY),
        _ => None,
    };
    let known: Vec<&Taint> = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).collect();
    let is_ours = |taint: &Taint| (taint.key == UNREACHABLE || taint.key == NOT_READY) && taint.effect == "NoSchedule";
    let mut taints: Vec<Taint> = known.iter().filter(|taint| !is_ours(taint) || Some(taint.key.as_str()) == wanted).map(|taint| (*taint).clone()).collect();
    if let Some(key) = wanted.filter(|key| !taints.iter().any(|taint| is_ours(taint) && taint.key == *key)) {
        taints.push(Taint { key: key.to_owned(), effect: "NoSchedule".to_owned(), value: None, time_added: None });
    }
    let changed = taints.len() != known.len() || taints.iter().zip(known).any(|(one, other)| one != other);
    let reason = if alive { "the node is reachable" } else { "the node's lease has expired" };
    let taints = if taints.is_empty() { serde_json::Value::Null } else { json!(taints) };
    // By uid alone: a status written just before must not stand in the way.
    let patch = json!({"metadata": {"uid": object.uid()}, "spec": {"taints": taints}});
    changed.then(|| Action::Patch { id: object.id.clone(), subresource: None, patch, reason: reason.into() })
}

fn mark_not_ready(object: &Arc<Object>, now: Timestamp) -> Option<Action> {
    let pod = pods::pod(object).filter(|pod| !pods::is_over(pod) && pods::is_ready(pod))?;
    let mut status = pod.status.clone()?;
    for condition in status.conditions.iter_mut().flatten().filter(|condition| condition.type_ == "Ready") {
        *condition = PodCondition {
            status: "False".to_owned(),
            reason: Some("NodeNotReady".to_owned()),
            last_transition_time: Some(write::time(now)),
            ..condition.clone()
        };
    }
    write::status(object, pod.status.as_ref(), &status, "the node of the pod is not reachable")
}
