//! `strake history`, `strake rollback`, `strake drift`, `strake status`

use std::path::PathBuf;

use clap::Args;

use super::{Consent, Format, Progress, Target};

/// A set that was applied: by its directory, or by its name when that is gone.
#[derive(Args, Debug, Clone)]
pub struct SetArgs {
    /// The set's name [default: strake.yaml's, or the directory's]
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// The namespace that the set was applied to [default: strake.yaml's; with --set the one that has it]
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// An environment of strake.yaml
    #[arg(short, long, value_name = "NAME")]
    pub env: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

/// strake history
#[derive(Args, Debug)]
#[command(
    after_help = "Every apply is a revision, kept in the cluster beside the set's inventory, in Secrets of type strake.dev/revision. A revision holds what was
sent as it was sent: with the values of Secrets, and with what was opened from encrypted files. Whoever may read Secrets in the set's namespace can
read it; values of Secrets of another namespace are kept in that namespace. `strake apply --keep-revisions` says how many stay (0 keeps none), and
`strake down` deletes them.

Examples:
  strake history deploy/
  strake history --set shop --context production -o json
  strake history --set shop --revision 3"
)]
pub struct History {
    /// The directory that was applied
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub of: SetArgs,
    /// Show one revision: its objects and images
    #[arg(long, value_name = "NUMBER")]
    pub revision: Option<u64>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// strake rollback
#[derive(Args, Debug)]
#[command(
    after_help = "What the set was is applied again as a new revision: the same objects with the same image digests; what was added since is deleted, what was removed is made again.
Everything is tried with the server first, and images that are gone are told, before anything is changed. Hooks are not run on the way back.

Examples:
  strake rollback                        to what was deployed before, for the set of this directory
  strake rollback 3 deploy/ --dry-run    only show it (exit code 2 when there is something)
  strake rollback 3 --set shop --context production"
)]
pub struct Rollback {
    /// The revision [default: the one that was deployed before], then the directory
    #[arg(value_name = "REVISION] [DIR", num_args = 0..=2)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub of: SetArgs,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Take over fields that others own
    #[arg(long)]
    pub force_conflicts: bool,
    #[command(flatten)]
    pub consent: Consent,
    /// Allow deleting most of the set
    #[arg(long)]
    pub allow_mass_delete: bool,
    /// Delete and make anew what has a change that cannot be made in place
    #[arg(long)]
    pub replace: bool,
    /// Return without waiting for health
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for health
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
    /// Do without the set's lock, for an account that may not write Leases: then nothing keeps two applies of the set apart
    #[arg(long)]
    pub no_lock: bool,
    /// How many revisions stay in the set's history [default: keepRevisions of strake.yaml, or 10]
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one)]
    pub keep_revisions: Option<usize>,
    /// How to print what changes
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a number from 1 on is needed: a rollback is a revision itself".to_owned())
}

/// strake drift
#[derive(Args, Debug)]
#[command(
    after_help = "Fields that were applied are compared; exit code 2 when something has drifted. What others have added is told with who added it, and is no drift.

Examples:
  strake drift deploy/
  strake drift --set shop --context production -o json"
)]
pub struct Drift {
    /// The directory that was applied
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub of: SetArgs,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// strake test
#[derive(Args, Debug)]
#[command(
    after_help = "Tests are Jobs and Pods with the annotation helm.sh/hook: test. They are taken from the revision that is deployed and run one after another, by
helm.sh/hook-weight; the first that fails ends it, with exit code 3 and what it said.

Examples:
  strake test deploy/
  strake test --set shop --context staging --timeout 120"
)]
pub struct Test {
    /// The directory that was applied
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub of: SetArgs,
    /// How long each test may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
    /// How long to wait for an apply of the same set; after that the exit code is 5
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub lock_wait: u64,
    /// Do without the set's lock, for an account that may not write Leases: then nothing keeps two applies of the set apart
    #[arg(long)]
    pub no_lock: bool,
    /// How to show progress
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
    /// How to print what has passed
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// strake status
#[derive(Args, Debug)]
#[command(after_help = "Without a directory and a set, all sets are listed.

Examples:
  strake status
  strake status deploy/ --watch
  strake status --set shop --context production -o json")]
pub struct Status {
    /// The directory that was applied
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[command(flatten)]
    pub of: SetArgs,
    /// Go on showing changes
    #[arg(short, long)]
    pub watch: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}
