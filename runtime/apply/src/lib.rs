//! Drives a [`strake_plan::DeployPlan`] with a [`strake_client::Client`]: apply in order, wait with health, prune by inventory, say why when it fails.
//!
//! Deciders (pure): [`health`], [`failure`], [`changes`], [`inventory`], [`blame`], [`rollout`]. Effects: [`Applier`]. The same plan goes to the bundled cluster or to any other.

mod applier;
pub mod blame;
pub mod changes;
mod checks;
pub mod conceal;
pub mod deletion;
mod down;
pub mod drift;
mod engine;
mod error;
mod evidence;
pub mod failure;
mod generations;
pub mod health;
pub mod history;
pub mod inventory;
pub mod journal;
mod lock;
mod logs;
mod occasion;
pub mod ownership;
pub mod predict;
mod progressive;
mod prune;
pub mod review;
mod revisions;
pub mod rollout;
mod schedule;
mod send;
pub mod status;
pub mod tree;
mod wait;

pub use applier::{Applied, Applier, Options, Refused, Report};
pub use blame::Blame;
pub use down::Removed;
pub use error::ApplyError;
pub use revisions::{Note, Revisions};

use strake_plan::ObjectId;

/// What the applier tells whoever watches, as it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An object was applied.
    Applied { id: ObjectId, outcome: Outcome },
    /// Fields that somebody had changed by hand were taken back.
    Overruled { id: ObjectId, managers: Vec<String> },
    /// A field is left to somebody else.
    Left { id: ObjectId, path: String, reason: String },
    /// An object's health changed: its state and why.
    Waiting { id: ObjectId, reason: String },
    /// An object is as it should be.
    Ready { id: ObjectId },
    /// An object that left the set was deleted.
    Pruned { id: ObjectId },
    /// Another apply of the same set goes on, and this one waits for it.
    Locked { by: String, since: String },
    /// The apply before this one did not reach its end.
    Resumed { since: String, status: journal::Status },
    /// An object is there again that the apply before this one had deleted to make it anew.
    Recreated { id: ObjectId },
    /// A hook is run.
    Hook { id: ObjectId },
    /// A hook that runs after a failure has failed itself.
    HookFailed { id: ObjectId, reason: String },
    /// A rollout in steps is there.
    Rollout { id: ObjectId, place: String },
    /// An object is not begun, because something that it needs has failed.
    Skipped { id: ObjectId, because: ObjectId },
    /// A line that a container wrote while it started; `container` is empty where the pod has one only.
    Log { pod: String, container: String, line: String },
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
