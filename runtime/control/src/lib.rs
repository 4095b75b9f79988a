//! The controllers, decided: a [`View`] of the objects and one key go in, actions with their reasons come out.
//!
//! Nothing here reads a clock, a random source or the network. The loop that drives the controllers (package `cluster`)
//!
//! 1. says when it began ([`View::observe_from`]), fills the view by listing every kind that is served, then keeps it by
//!    watching ([`View::apply`], [`View::remove`]);
//! 2. gives each [`Change`] to every controller's [`Controller::keys_for`] and queues the keys;
//! 3. calls [`Controller::reconcile`] for a key, performs the [`Action`]s in order, and **applies each answer of the API to
//!    the view before the next reconcile** (so that a controller always sees its own writes);
//! 4. on a conflict, a missing object or any other failure drops the rest of the decision and queues the key again after a
//!    back-off: deciding again on a newer view is always right.
//!
//! A decision may be made on a view that is behind in other writers' changes, or again after a crash half way through its
//! actions. That is harmless: every write carries the uid or revision it was decided on, and the names of created objects
//! are computed from their owner, so that a second creation of the same object is a conflict and not a duplicate.

mod action;
mod cronjob;
mod deployment;
mod endpointslice;
mod garbage;
mod job;
mod names;
mod namespace;
mod node;
mod object;
mod podgc;
mod pods;
mod replicaset;
mod selector;
mod serviceaccount;
mod view;
pub mod world;
mod write;

use jiff::Timestamp;

pub use action::{Action, Decision, EventType, Propagation};
pub use object::{Body, Kind, Object, ObjectId};
pub use selector::matches;
pub use view::{Change, View};

/// What a controller is asked about: one object, by name.
pub type Key = ObjectId;

/// A controller: it knows which objects concern it and what to do about one of them.
pub trait Controller: Send + Sync {
    /// A short name for logs, metrics and the `source` of events: `deployment-controller`.
    fn name(&self) -> &'static str;

    /// The kinds whose changes concern it. Empty: all kinds.
    fn watches(&self) -> &'static [Kind];

    /// The keys to reconcile because of this change. `view` already contains it.
    fn keys_for(&self, view: &View, change: &Change) -> Vec<Key>;

    /// What to do about `key` now. A key whose object is gone gives an empty decision.
    fn reconcile(&self, view: &View, key: &Key, now: Timestamp) -> Decision;

    /// What to do about a write of this key's decision that the API refused for a reason that deciding again will not cure (not
    /// a conflict, not "already exists"): usually to say so in the status. The loop then queues the key again with a back-off.
    fn on_failure(&self, view: &View, key: &Key, failed: &Action, error: &str, now: Timestamp) -> Decision {
        let _ = (view, key, failed, error, now);
        Decision::default()
    }
}

/// All controllers.
pub fn controllers() -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(deployment::Deployments),
        Box::new(replicaset::ReplicaSets),
        Box::new(job::Jobs),
        Box::new(cronjob::CronJobs),
        Box::new(endpointslice::EndpointSlices),
        Box::new(garbage::Garbage),
        Box::new(namespace::Namespaces),
        Box::new(node::Nodes),
        Box::new(serviceaccount::ServiceAccounts),
        Box::new(podgc::PodCollector),
    ]
}
