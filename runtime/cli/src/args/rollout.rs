//! Arguments of `strake rollout`.

use clap::{Args, Subcommand};

use super::Scope;

/// strake rollout
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  strake rollout status deployment/web\n  strake rollout undo deployment/web --to-revision 2\n  strake rollout restart deployment/web -n shop"
)]
pub struct Rollout {
    #[command(subcommand)]
    pub verb: RolloutVerb,
}

/// What to do with a rollout.
#[derive(Subcommand, Debug)]
pub enum RolloutVerb {
    /// Wait until it is done
    Status(RolloutOf),
    /// Show its revisions
    History(RolloutOf),
    /// Go back
    Undo(RolloutUndo),
    /// Replace its pods
    Restart(RolloutOf),
    /// Let a canary or blue-green rollout go on from its pause
    Promote(RolloutPromote),
    /// Bring a canary or blue-green rollout back to the old version
    Abort(RolloutAbort),
}

/// Which rollout goes on.
#[derive(Args, Debug)]
#[command(after_help = "The apply that waits at the pause goes on at once; when none does, the next apply of the same directory does.

Examples:
  strake rollout promote deployment/web
  strake rollout promote deployment/web -n shop --all")]
pub struct RolloutPromote {
    /// deployment/NAME
    #[arg(required = true, value_name = "KIND")]
    pub what: Vec<String>,
    /// Over all pauses that are left; health and checks still count
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub scope: Scope,
}

/// Which rollout goes back.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake rollout abort deployment/web\n  strake rollout abort deployment/web -n shop --context production")]
pub struct RolloutAbort {
    /// deployment/NAME
    #[arg(required = true, value_name = "KIND")]
    pub what: Vec<String>,
    #[command(flatten)]
    pub scope: Scope,
}

/// Which rollout.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  strake rollout status deployment/web\n  strake rollout history deployment/web -n shop\n  strake rollout restart deployment/web"
)]
pub struct RolloutOf {
    /// deployment/NAME
    #[arg(required = true, value_name = "KIND")]
    pub what: Vec<String>,
    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
    #[command(flatten)]
    pub scope: Scope,
}

/// Back to which revision.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake rollout undo deployment/web\n  strake rollout undo deployment/web --to-revision 2")]
pub struct RolloutUndo {
    #[command(flatten)]
    pub of: RolloutOf,
    /// The revision [default: the one before]
    #[arg(long, default_value_t = 0)]
    pub to_revision: i64,
}
