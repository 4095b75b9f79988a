//! What can go wrong while applying.

use strake_client::ClientError;
use strake_plan::ObjectId;

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
    #[error("{object} ({origin}) belongs to set `{set}`: leave it out here, apply this directory with --set {set}, or take the object over with --adopt")]
    OfAnotherSet { object: String, origin: String, set: String },
    /// Another tool has the object, and would undo what is done here.
    #[error("{object} ({origin}) belongs to {owner}: leave it out here, or take the object over with --adopt and out of there")]
    Claimed { object: String, origin: String, owner: String },
    /// Running a hook would delete something that the set has not made.
    #[error("{object} ({origin}) exists, and this set has not made it: the hook would delete it to run. Give the hook another name, delete it, or say --adopt")]
    NotOfTheSet { object: String, origin: String },
    /// Others own fields that would change, and nobody has said whose they are.
    #[error(
        "{object} ({origin}) has fields that others own with another value:{}\n  leave them out of the manifest, name them in its annotation strake.dev/leave-fields or strake.dev/take-fields, or take all of them with --force-conflicts",
        fields.iter().map(|field| format!("\n  {field}")).collect::<String>()
    )]
    Conflicts {
        object: String,
        origin: String,
        /// `path: manager, operation at time`.
        fields: Vec<String>,
    },
    /// A rollout goes on that a later strake has begun.
    #[error("{0} carries a rollout that this strake cannot read: a later one has begun it")]
    RolloutUnread(String),
    /// A Deployment has the name that a rollout needs.
    #[error("{object} ({origin}) is rolled out by way of {taken}, and that one exists and is no part of a rollout: rename or delete it")]
    RolloutName { object: String, origin: String, taken: String },
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
    /// Something was refused or is not healthy, and what needs it was not begun.
    #[error("{}", incomplete(refused.len(), blames.len(), skipped.len()))]
    Incomplete {
        /// What the server said no to.
        refused: Vec<ApplyError>,
        /// What does not get ready.
        blames: Vec<Blame>,
        /// What was not begun, each with what it needs.
        skipped: Vec<(ObjectId, ObjectId)>,
    },
    /// Something that is not a part of the set is needed, and does not exist.
    #[error("{object} ({origin}) needs {needs}, which is neither in the set nor in the cluster")]
    NotThere { object: String, origin: String, needs: String },
    /// Something that is not a part of the set is needed, and is not ready.
    #[error("{object} ({origin}) needs {needs}: {reason}")]
    NotReady { object: String, origin: String, needs: String, reason: String },
    /// Another apply of the same set goes on.
    #[error("another apply of set `{set}` goes on: {by} has it since {since}")]
    Locked { set: String, by: String, since: String },
    /// The account may not take the lock.
    #[error(
        "the lock of set `{set}`, lease/{lease} in {namespace}, is refused to this account: allow it the verbs get, create, update and delete on leases in the API group coordination.k8s.io in namespace {namespace}, or say --no-lock when nobody else applies the set at the same time"
    )]
    LockForbidden {
        set: String,
        lease: String,
        namespace: String,
        #[source]
        source: Box<ClientError>,
    },
    /// The lock was lost while it was needed.
    #[error("the lock of set `{0}` was lost: this apply was held up for so long that another one may have begun. Run it again")]
    LockLost(String),
    /// Somebody ended it.
    #[error("interrupted")]
    Interrupted,
    /// The inventory's name is taken by something else.
    #[error("secret {0} exists and is not an inventory of strake: choose another name with --set, or delete it")]
    ForeignInventory(String),
    /// Most of the set would be deleted.
    #[error("{pruned} of {total} objects would be deleted: if that is meant, say --allow-mass-delete")]
    MassDelete { pruned: usize, total: usize },
    /// The directory has become empty.
    #[error("there is nothing to apply, and all {0} objects of the set would be deleted: if that is meant, say --allow-mass-delete, or use strake down")]
    Empty(usize),
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
    /// A revision of the set's history cannot be used.
    #[error(transparent)]
    History(#[from] crate::history::HistoryError),
    /// The set's namespace is neither there nor made by the set.
    #[error("namespace {0} does not exist: the set's history cannot be kept in it")]
    NoNamespace(String),
}

fn incomplete(refused: usize, unready: usize, skipped: usize) -> String {
    let count = |number: usize, words: &str| (number > 0).then(|| if number == 1 { format!("1 object {words}") } else { format!("{number} objects {words}") });
    let parts = [count(refused, "refused"), count(unready, "not ready"), count(skipped, "not begun because of that")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

impl ApplyError {
    /// It is about objects that were sent, and not about the cluster, the lock or what a person has agreed to.
    pub(crate) fn is_of_objects(&self) -> bool {
        let of_objects = matches!(
            self,
            ApplyError::Refused { .. }
                | ApplyError::Unhealthy { .. }
                | ApplyError::Incomplete { .. }
                | ApplyError::Conflicts { .. }
                | ApplyError::Claimed { .. }
                | ApplyError::OfAnotherSet { .. }
                | ApplyError::NotOfTheSet { .. }
                | ApplyError::NotThere { .. }
                | ApplyError::NotReady { .. }
                | ApplyError::RolloutName { .. }
                | ApplyError::Delete { .. }
                | ApplyError::Lingering { .. }
        );
        of_objects && !self.ends_everything()
    }

    /// Going on with other objects makes no sense: it is about all of them.
    pub(crate) fn ends_everything(&self) -> bool {
        match self {
            ApplyError::LockLost(_) | ApplyError::Interrupted => true,
            ApplyError::Refused { source, .. } | ApplyError::Read { source, .. } | ApplyError::Delete { source, .. } => source.is_unreachable(),
            _ => false,
        }
    }
}
