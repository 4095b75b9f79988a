//! Drives a [`strake_plan::DeployPlan`] with a [`strake_client::Client`]: apply in order, wait with health, prune by inventory, say why when it fails.
//!
//! Deciders (pure): [`health`], [`changes`], [`inventory`], [`blame`]. Effects: [`Applier`]. The same plan goes to the bundled cluster or to any other.

mod applier;
pub mod blame;
pub mod changes;
mod down;
mod error;
pub mod health;
pub mod inventory;
pub mod review;
mod wait;

pub use applier::{Applied, Applier, Options, Report};
pub use blame::Blame;
pub use down::Removed;
pub use error::ApplyError;

use strake_plan::ObjectId;

/// What the applier tells whoever watches, as it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An object was applied.
    Applied { id: ObjectId, outcome: Outcome },
    /// Fields that somebody had changed by hand were taken back.
    Overruled { id: ObjectId, managers: Vec<String> },
    /// An object's health changed: its state and why.
    Waiting { id: ObjectId, reason: String },
    /// An object is as it should be.
    Ready { id: ObjectId },
    /// An object that left the set was deleted.
    Pruned { id: ObjectId },
}

/// What applying an object did, or would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did not exist.
    Created,
    /// It was different.
    Configured,
    /// It was already so.
    Unchanged,
}
