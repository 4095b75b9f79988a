//! What can go wrong while applying.

use strake_client::ClientError;

use crate::Blame;

/// Why an apply did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The server said no to an object.
    #[error("{object} ({origin}) was refused")]
    Refused {
        /// `deployment/web in shop`.
        object: String,
        /// `file:line`.
        origin: String,
        #[source]
        source: ClientError,
    },
    /// Another set has the object, and would lose it.
    #[error(
        "{object} ({origin}) belongs to set `{set}`: leave it out here, apply this directory with --set {set}, or take the object over with --force-conflicts"
    )]
    OfAnotherSet { object: String, origin: String, set: String },
    /// Reading from the cluster failed.
    #[error("cannot read {what} from the cluster")]
    Read {
        what: String,
        #[source]
        source: ClientError,
    },
    /// Objects that do not get ready.
    #[error("{} not ready", if blames.len() == 1 { "1 object is".to_owned() } else { format!("{} objects are", blames.len()) })]
    Unhealthy { blames: Vec<Blame> },
    /// The inventory's name is taken by something else.
    #[error("secret {0} exists and is not an inventory of strake: choose another name with --set, or delete it")]
    ForeignInventory(String),
    /// Most of the set would be deleted.
    #[error("{pruned} of {total} objects would be deleted: if that is meant, say --allow-mass-delete")]
    MassDelete { pruned: usize, total: usize },
    /// Deleting failed.
    #[error("cannot delete {object}")]
    Delete {
        object: String,
        #[source]
        source: ClientError,
    },
    /// Objects are still there after the time allowed.
    #[error("still there after {seconds} s: {objects}")]
    Lingering { objects: String, seconds: u64 },
}
