//! Pods that nobody else would remove: on nodes that no longer exist, deleted before they were ever bound, or ended too many.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Decision, Propagation};
use crate::object::{Kind, Object};
use crate::view::{Change, View};
use crate::{Controller, Key, pods};

/// Pods are given this long after their creation for their node to appear.
const NODE_MAY_COME: SignedDuration = SignedDuration::from_secs(40);

/// See the module.
pub struct PodCollector;

impl Controller for PodCollector {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::POD, Kind::NODE]
    }

    fn keys_for(&self, view: &View, change: &Change) -> Vec<Key> {
        match () {
            () if change.id.kind == Kind::NODE => match change.after {
                Some(_) => Vec::new(),
                None => view.pods_on(&change.id.name).map(|pod| pod.id.clone()).collect(),
            },
            () => change.after.iter().filter(|pod| is_suspect(view, pod)).map(|pod| pod.id.clone()).collect(),
        }
    }

    fn reconcile(&self, view: &View, key: &Key, now: Timestamp) -> Decision {
        let Some(object) = view.get(key).filter(|object| is_suspect(view, object)) else { return Decision::default() };
        let Some(pod) = pods::pod(object) else { return Decision::default() };
        let reason = match pods::node(pod) {
            None => "it was deleted before it was bound to a node".to_owned(),
            Some(node) => {
                let created = object.meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
                let due = created + NODE_MAY_COME;
                if due > now {
                    return Decision { actions: Vec::new(), requeue_after: Some(Duration::try_from(due.duration_since(now)).unwrap_or_default()) };
                }
                format!("its node {node} is gone")
            }
        };
        let delete = Action::Delete {
            id: object.id.clone(),
            uid: object.uid().to_owned(),
            propagation: Propagation::Background,
            grace_seconds: Some(0),
            reason: reason.into(),
        };
        Decision { actions: vec![delete], requeue_after: None }
    }
}

fn is_suspect(view: &View, object: &Object) -> bool {
    pods::pod(object).is_some_and(|pod| match pods::node(pod) {
        None => object.is_terminating(),
        Some(node) => view.find(&Kind::NODE, "", node).is_none(),
    })
}
