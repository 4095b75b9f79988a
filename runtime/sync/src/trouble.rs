//! What can be wrong, in words that a status has.

use serde::{Deserialize, Serialize};

/// The kinds of trouble: the reason of the condition `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The object itself cannot be followed.
    InvalidSpec,
    /// A Secret or a key in it is missing.
    CredentialsMissing,
    /// The repository refuses the login.
    Unauthorized,
    /// The repository cannot be asked or fetched.
    FetchFailed,
    /// There is no such branch, tag or commit.
    ReferenceMissing,
    /// No tag is in the range of versions.
    NoVersionFits,
    /// A tag means another commit than it did.
    TagMoved,
    /// The folder is not in the commit.
    PathMissing,
    /// A symbolic link leads out of the repository.
    LinkLeavesRepository,
    /// Only what the lock file says may run, and there is none.
    LockMissing,
    /// The repository names the cluster that it is to be deployed to.
    TargetForbidden,
    /// The compiler refuses what is there.
    ManifestsInvalid,
    /// No object comes out.
    NothingRendered,
    /// An image cannot be built.
    BuildFailed,
    /// The cluster does not answer.
    ClusterUnreachable,
    /// The cluster refuses something.
    ApplyFailed,
    /// Applied, but what was applied does not get ready.
    Unhealthy,
    /// The work ended without saying how.
    Interrupted,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 18] = [
        Reason::InvalidSpec,
        Reason::CredentialsMissing,
        Reason::Unauthorized,
        Reason::FetchFailed,
        Reason::ReferenceMissing,
        Reason::NoVersionFits,
        Reason::TagMoved,
        Reason::PathMissing,
        Reason::LinkLeavesRepository,
        Reason::LockMissing,
        Reason::TargetForbidden,
        Reason::ManifestsInvalid,
        Reason::NothingRendered,
        Reason::BuildFailed,
        Reason::ClusterUnreachable,
        Reason::ApplyFailed,
        Reason::Unhealthy,
        Reason::Interrupted,
    ];

    /// Whether something in the cluster may already be as the new revision says.
    pub fn may_have_changed(self) -> bool {
        matches!(self, Reason::ClusterUnreachable | Reason::ApplyFailed | Reason::Unhealthy | Reason::Interrupted)
    }

    /// The word that a condition has.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidSpec => "InvalidSpec",
            Reason::CredentialsMissing => "CredentialsMissing",
            Reason::Unauthorized => "Unauthorized",
            Reason::FetchFailed => "FetchFailed",
            Reason::ReferenceMissing => "ReferenceMissing",
            Reason::NoVersionFits => "NoVersionFits",
            Reason::TagMoved => "TagMoved",
            Reason::PathMissing => "PathMissing",
            Reason::LinkLeavesRepository => "LinkLeavesRepository",
            Reason::LockMissing => "LockMissing",
            Reason::TargetForbidden => "TargetForbidden",
            Reason::ManifestsInvalid => "ManifestsInvalid",
            Reason::NothingRendered => "NothingRendered",
            Reason::BuildFailed => "BuildFailed",
            Reason::ClusterUnreachable => "ClusterUnreachable",
            Reason::ApplyFailed => "ApplyFailed",
            Reason::Unhealthy => "Unhealthy",
            Reason::Interrupted => "Interrupted",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What kind of thing.
    pub reason: Reason,
    /// One line for a person.
    pub message: String,
    /// Everything else that helps: findings with their lines, a blame chain.
    #[serde(default)]
    pub detail: String,
}

impl Trouble {
    /// Without more to say.
    pub fn new(reason: Reason, message: impl Into<String>) -> Trouble {
        Trouble { reason, message: message.into(), detail: String::new() }
    }
}
