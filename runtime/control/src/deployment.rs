//! The Deployment controller: a ReplicaSet for each version of the template, and the way from the old ones to the new one.
//!
//! A decision is arithmetic over the ReplicaSets' numbers: [`rolling`] and [`scaling`] say how many replicas each should have,
//! [`revision`] which of them is the new one and what it is called, [`status`] what to report. This file puts them together.

mod revision;
mod rolling;
mod scaling;
mod status;
mod strategy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use strake_kinds::apps::{Deployment, DeploymentSpec, ReplicaSetStatus};

use crate::action::{Action, Decision, EventType};
use crate::object::{Body, Kind, Object};
use crate::replicaset::{Set, replica_set};
use crate::view::{Change, View};
use crate::{Controller, Key, pods, selector, write};
use strategy::Strategy;

/// The number of replicas the Deployment wanted when this ReplicaSet was last scaled.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same, with the surge that was allowed then.
const MOST: &str = "deployment.kubernetes.io/max-replicas";

/// See the module.
pub struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::DEPLOYMENT, Kind::REPLICA_SET, Kind::POD]
    }

    fn keys_for(&self, view: &View, change: &Change) -> Vec<Key> {
        match () {
            () if change.id.kind == Kind::DEPLOYMENT => vec![change.id.clone()],
            () if change.id.kind == Kind::REPLICA_SET => keys_for_set(view, change),
            // Only the end of a pod matters here, and only to a Deployment that recreates: it waits for the last old one.
            () => keys_for_pod(view, change),
        }
    }

    fn reconcile(&self, view: &View, key: &Key, now: Timestamp) -> Decision {
        let Some(object) = view.get(key) else { return Decision::default() };
        let Body::Deployment(deployment) = &object.body else { return Decision::default() };
        let Some(spec) = &deployment.spec else { return Decision::default() };
        if selector::is_empty(&spec.selector) {
            let message = "This deployment is selecting all pods. A non-empty selector is required.".to_owned();
            return Decision { actions: vec![write::event(object, EventType::Warning, "SelectingAll", message)], requeue_after: None };
        }
        let mut rollout = Rollout::read(view, object, deployment, spec, now);
        rollout.decide(view);
        let look_again = status::report(&mut rollout);
        Decision { actions: rollout.actions, requeue_after: look_again.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()) }
    }
}

fn keys_for_set(view: &View, change: &Change) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for side in change.sides() {
        match side.controller() {
            Some(owner) if owner.kind == "Deployment" => keys.push(Key::new(Kind::DEPLOYMENT, &change.id.namespace, &owner.name)),
            Some(_) => {}
            None => {
                keys.extend(view.in_namespace(&Kind::DEPLOYMENT, &change.id.namespace).filter(|object| selects(object, side)).map(|object| object.id.clone()))
            }
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

fn selects(deployment: &Object, object: &Object) -> bool {
    let Body::Deployment(deployment) = &deployment.body else { return false };
    deployment.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, object.meta.labels.as_ref()))
}

fn keys_for_pod(view: &View, change: &Change) -> Vec<Key> {
    let was = change.before.as_deref().and_then(pods::pod).is_some_and(|pod| !pods::is_over(pod));
    let is = change.after.as_deref().and_then(pods::pod).is_some_and(|pod| !pods::is_over(pod));
    let owner = change.object().filter(|_| was && !is).and_then(|pod| pod.controller());
    let set = owner.and_then(|owner| view.by_uid(&owner.uid)).and_then(|set| set.controller());
    set.filter(|owner| owner.kind == "Deployment").map(|owner| Key::new(Kind::DEPLOYMENT, &change.id.namespace, &owner.name)).into_iter().collect()
}

/// A ReplicaSet of the Deployment, with the size it should get.
pub(crate) struct Member<'a> {
    pub(crate) object: &'a Arc<Object>,
    pub(crate) set: Set<'a>,
    /// Its active pods. More than its size while those that are too many are still to be deleted.
    active: i32,
    /// The size to give it; equal to its size until something else is decided.
    pub(crate) target: i32,
    /// Annotations to put on it.
    pub(crate) notes: BTreeMap<String, String>,
    /// `minReadySeconds` to give it.
    pub(crate) min_ready_seconds: Option<i32>,
}

impl Member<'_> {
    pub(crate) fn size(&self) -> i32 {
        self.set.replicas()
    }

    pub(crate) fn status(&self) -> Option<&ReplicaSetStatus> {
        self.set.raw.status.as_ref()
    }

    /// The room it takes: its size or, if more, the pods it still has.
    pub(crate) fn room(&self) -> i32 {
        self.size().max(self.active)
    }

    /// Available pods. Never more than the set should have: those above it are about to go.
    pub(crate) fn available(&self) -> i32 {
        self.status().and_then(|status| status.available_replicas).unwrap_or(0).min(self.size())
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.object.meta.annotations.as_ref()?.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        self.annotation(name)?.parse().ok()
    }

    fn age(&self) -> (Timestamp, &str) {
        (self.object.meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0), &self.object.id.name)
    }
}

/// One decision while it is being worked out.
pub(crate) struct Rollout<'a> {
    pub(crate) object: &'a Arc<Object>,
    pub(crate) deployment: &'a Deployment,
    pub(crate) spec: &'a DeploymentSpec,
    pub(crate) strategy: Strategy,
    pub(crate) replicas: i32,
    /// The set of the present template.
    pub(crate) new: Option<Member<'a>>,
    /// The others, the oldest first.
    pub(crate) old: Vec<Member<'a>>,
    pub(crate) now: Timestamp,
    pub(crate) actions: Vec<Action>,
    /// A set that this decision creates.
    pub(crate) created: Option<String>,
    /// Raised when the computed name is taken by something else.
    pub(crate) collisions: i32,
    /// The revision that the Deployment should carry.
    pub(crate) revision: Option<i64>,
}

impl<'a> Rollout<'a> {
    fn read(view: &'a View, object: &'a Arc<Object>, deployment: &'a Deployment, spec: &'a DeploymentSpec, now: Timestamp) -> Self {
        let mut actions = Vec::new();
        let mut members = claim(view, object, spec, &mut actions);
        members.sort_by(|one, other| one.age().cmp(&other.age()));
        // Should two sets have the same template, the older one is the new set, for good.
        let new = members.iter().position(|member| revision::is_of(member, &spec.template)).map(|at| members.remove(at));
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let strategy = Strategy::read(spec.strategy.as_ref(), replicas);
        Self { object, deployment, spec, strategy, replicas, new, old: members, now, actions, created: None, collisions, revision: None }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.spec.paused == Some(true)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        self.old.iter().chain(self.new.iter())
    }

    pub(crate) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member<'a>> {
        self.old.iter_mut().chain(self.new.iter_mut())
    }

    pub(crate) fn total_size(&self) -> i32 {
        self.members().map(Member::size).sum()
    }

    pub(crate) fn total_available(&self) -> i32 {
        self.members().map(Member::available).sum()
    }

    /// The size that all sets together may have while rolling.
    pub(crate) fn most(&self) -> i32 {
        self.replicas.saturating_add(self.strategy.surge())
    }

    fn decide(&mut self, view: &View) {
        if self.object.is_terminating() {
            return;
        }
        if self.is_paused() {
            if let Some(new) = &self.new {
                self.revision = revision::of(new);
            }
            scaling::follow(self);
        } else if self.members().any(|member| member.size() > 0 && member.number(DESIRED) != Some(self.replicas)) {
            // The wanted number itself has changed: spread the change before rolling on.
            revision::keep(self);
            scaling::follow(self);
        } else {
            revision::keep(self);
            match self.strategy {
                Strategy::Recreate => rolling::recreate(self, view),
                Strategy::Rolling { .. } => rolling::roll(self, view),
            }
            revision::forget_old(self);
        }
        self.write_targets();
    }

    /// One patch for each set that should change: its size, and the numbers that scaling goes by.
    fn write_targets(&mut self) {
        let (replicas, most) = (self.replicas.to_string(), self.most().to_string());
        let mut actions = Vec::new();
        for member in self.members() {
            let (size, target) = (member.size(), member.target);
            let is_new = self.new.as_ref().is_some_and(|new| new.object.id == member.object.id);
            let mut notes = member.notes.clone();
            if target > 0 || size != target || is_new {
                let numbers = [(DESIRED, &replicas), (MOST, &most)].into_iter().filter(|(key, value)| member.annotation(key) != Some(value));
                notes.extend(numbers.map(|(key, value)| (key.to_owned(), value.clone())));
            }
            let mut patch = json!({});
            if !notes.is_empty() {
                patch["metadata"] = json!({"annotations": notes});
            }
            if size != target {
                patch["spec"]["replicas"] = json!(target);
            }
            if let Some(seconds) = member.min_ready_seconds {
                patch["spec"]["minReadySeconds"] = json!(seconds);
            }
            if patch.as_object().is_none_or(serde_json::Map::is_empty) {
                continue;
            }
            let name = &member.object.id.name;
            let reason = format!("{name} goes from {size} to {target} of {replicas} wanted replicas");
            actions.push(write::patch(member.object, patch, reason));
            if size != target {
                let message = format!("Scaled {} replica set {name} from {size} to {target}", if target > size { "up" } else { "down" });
                actions.push(write::event(self.object, EventType::Normal, "ScalingReplicaSet", message));
            }
        }
        self.actions.extend(actions);
    }
}

/// The ReplicaSets that the Deployment controls; those it selects that nobody controls are adopted.
fn claim<'a>(view: &'a View, object: &'a Arc<Object>, spec: &DeploymentSpec, actions: &mut Vec<Action>) -> Vec<Member<'a>> {
    let mut mine = Vec::new();
    for set in view.owned(object.uid()).filter(|owned| owned.id.kind == Kind::REPLICA_SET) {
        if set.controller().is_some_and(|owner| owner.uid == object.uid()) {
            mine.push(set);
        }
    }
    if !object.is_terminating() {
        let orphans = view.in_namespace(&Kind::REPLICA_SET, &object.id.namespace);
        let orphans = orphans.filter(|set| set.controller().is_none() && !set.is_terminating());
        for set in orphans.filter(|set| selector::matches(&spec.selector, set.meta.labels.as_ref())) {
            actions.push(write::adopt(object, set));
        }
    }
    mine.into_iter().filter_map(|object| replica_set(object).map(|set| member(view, object, set))).collect()
}

fn member<'a>(view: &View, object: &'a Arc<Object>, set: Set<'a>) -> Member<'a> {
    let active = i32::try_from(view.active_pods(object.uid())).unwrap_or(i32::MAX);
    Member { object, active, target: set.replicas(), set, notes: BTreeMap::new(), min_ready_seconds: None }
}
