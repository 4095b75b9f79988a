//! Following git repositories, decided: what to do next about a repository, and what its status says. Nothing here reads a clock, a file or the network:
//! the caller performs the [`Action`] that [`decide`] gives, tells [`learn`] how it went, keeps the [`Status`], and asks again.

mod decide;
mod events;
mod forge;
mod hook;
mod policy;
mod spec;
mod status;
mod tags;
mod trouble;

pub use decide::{Action, Decision, Event, Facts, Fetched, Memory, Round, decide, learn};
pub use events::{Note, notes};
pub use forge::{Fate, Forge, Provider, Request};
pub use hook::{Delivery, Hook, Refused, read_hook};
pub use policy::{Head, Refs, choose};
pub use spec::{KubeSecret, Reference, Report, Spec};
pub use status::{AppliedSet, Condition, Entry, Reported, Status, Tag};
pub use tags::{Order, TagPolicy};
pub use trouble::{Reason, Trouble};

/// The annotation that asks for a check now; every new value is one request.
pub const REQUEST: &str = "strake.dev/sync-requested-at";
/// The annotation that accepts a tag that was moved: the whole id of the commit that it means now.
pub const ACCEPT: &str = "strake.dev/accept-revision";
/// The API version of a Sync.
pub const API_VERSION: &str = "strake.dev/v1";
/// Its kind.
pub const KIND: &str = "Sync";

/// The first twelve digits of a commit's id.
pub fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
