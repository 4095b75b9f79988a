//! What `strake ci` takes.

use std::path::PathBuf;

use clap::Args;

use super::Apply;

/// strake ci
#[derive(Args, Debug, Clone)]
#[command(after_help = "What it does is decided by what GitHub Actions, GitLab CI or Gitea Actions say in their variables:
  a pull request, another branch   check, build, push, and plan what would change; the cluster is not touched
  the branch that is deployed      check, build, push, and apply
  elsewhere                        as for a branch: nothing is applied without --apply

A plan compares with the point where the branch left the one it goes to, whose images are built too (from the cache, where it has them), so the checkout needs history (fetch-depth: 0, GIT_DEPTH: 0). A summary goes to the
pull request (GITHUB_STEP_SUMMARY, --summary), findings to the lines they are about. What SOPS files hold is hidden.

Exit codes: 0 done, 1 failed, 2 wrong usage (with --detailed-exitcode also: there are changes), 3 applied but not healthy, 5 another apply has the lock.

The build cache is kept in the registry of --registry (the same as --push-to).

Examples:
  strake ci deploy/ --registry registry.example.org/shop
  strake ci . --env prod --context production --summary plan.md
  strake ci . --against origin/main --detailed-exitcode
  strake ci . --apply --dry-run -o json")]
pub struct Ci {
    #[command(flatten)]
    pub apply: Apply,
    /// Push images that name a registry to it, also without --push-to
    #[arg(long)]
    pub push: bool,
    /// Push nothing, not even with --push-to: the images are there already
    #[arg(long, conflicts_with = "push")]
    pub no_push: bool,
    /// Where a build cache comes from, as for `strake build` (repeatable) [default: REGISTRY/SET-cache]
    #[arg(long, value_name = "[type=TYPE[,…]]")]
    pub cache_from: Vec<String>,
    /// Where the build cache goes (repeatable) [default: REGISTRY/SET-cache, on the branch that is deployed]
    #[arg(long, value_name = "[type=TYPE[,…]]")]
    pub cache_to: Vec<String>,
    /// What a plan compares with [default: the branch that the pull request goes to]
    #[arg(long, value_name = "REVISION")]
    pub against: Option<String>,
    /// Only plan, whatever the branch
    #[arg(long, conflicts_with = "force_apply")]
    pub plan: bool,
    /// Apply, whatever the branch
    #[arg(long = "apply")]
    pub force_apply: bool,
    /// Where it would apply, only plan against the cluster
    #[arg(long)]
    pub dry_run: bool,
    /// The branch that is deployed [default: the repository's own, else main or master]
    #[arg(long, value_name = "NAME")]
    pub deploy_branch: Option<String>,
    /// Write the summary there, as Markdown
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Write the findings there in GitLab's form [default with GitLab: gl-code-quality-report.json]
    #[arg(long, value_name = "FILE")]
    pub code_quality: Option<PathBuf>,
    /// End with 2 when a plan has changes
    #[arg(long)]
    pub detailed_exitcode: bool,
}
