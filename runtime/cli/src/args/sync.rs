//! What can be typed after `strake sync`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Format, Target, Webhooks};

/// strake sync
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "A branch is followed wherever it goes. A tag is locked to the commit that it meant when it was deployed: a new tag is followed, a moved one is refused and told.
Images are those of strake.lock where the repository has one. What runs goes on running whatever happens to the repository; `strake sync status` says what is wrong and since when.
Webhooks are heard at http://ADDRESS:PORT/hooks/NAMESPACE/NAME with `strake serve --hooks ADDRESS:PORT`, over TLS with --hooks-cert and --hooks-key.

Examples:
  strake sync https://git.example.org/shop/web.git --ref main --path deploy/
  strake sync git@git.example.org:shop/web.git --semver '>=1.2 <2' --ssh-key ~/.ssh/deploy
  strake sync https://github.com/shop/web.git --token-file token --webhook-secret-file hook --report github --report-token-file token
  strake sync https://git.example.org/shop/web.git --foreground --context production
  strake sync https://git.example.org/shop/web.git --kubeconfig-secret production
  strake sync list
  strake sync status web
  strake sync now web --wait"
)]
pub struct Sync {
    #[command(subcommand)]
    pub verb: Option<SyncVerb>,
    #[command(flatten)]
    pub follow: Follow,
}

/// A repository to follow.
#[derive(Args, Debug, Clone)]
pub struct Follow {
    /// The repository's address: https://HOST/PATH.git, ssh://HOST/PATH, git@HOST:PATH
    #[arg(value_name = "REPO")]
    pub repo: Option<String>,
    /// A branch, a tag or a commit [default: the repository's HEAD]
    #[arg(long = "ref", value_name = "NAME", conflicts_with = "semver")]
    pub reference: Option<String>,
    /// Follow the highest version among the tags that is in this range
    #[arg(long, value_name = "RANGE")]
    pub semver: Option<String>,
    /// The folder with manifests and Dockerfiles
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub path: String,
    /// What the sync is called [default: as the repository]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The namespace of the sync, and of objects that name none
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// How often the repository is asked
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub interval: String,
    /// An environment of strake.yaml
    #[arg(short, long, value_name = "NAME")]
    pub env: Option<String>,
    /// The namespace of objects that name none, when it is not that of the sync
    #[arg(long, value_name = "NAME")]
    pub target_namespace: Option<String>,
    /// The name of the set [default: strake.yaml's, or the sync's]
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// For another cluster: push images that are built there, where it pulls them from: HOST[/PATH]. The repository's own file does not choose it
    #[arg(long, value_name = "REGISTRY")]
    pub push_to: Option<String>,
    /// How long to wait for health
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: String,
    /// Keep objects that left the repository
    #[arg(long)]
    pub no_prune: bool,
    /// Allow a commit that deletes most of the set
    #[arg(long)]
    pub allow_mass_delete: bool,
    /// Take over fields that others own
    #[arg(long)]
    pub force_conflicts: bool,
    /// Delete and make anew what has a change that cannot be made in place
    #[arg(long)]
    pub replace: bool,
    /// Apply only what the repository's strake.lock says: a commit without one is refused
    #[arg(long)]
    pub locked: bool,
    /// Put back what somebody else changes in the cluster; without it, that is told
    #[arg(long)]
    pub self_heal: bool,
    #[command(flatten)]
    pub logins: Logins,
    /// Tell the forge how each commit fares
    #[arg(long, value_enum, value_name = "FORGE")]
    pub report: Option<Forge>,
    /// The forge's API, when it is not where its kind has it
    #[arg(long, value_name = "URL", requires = "report")]
    pub report_url: Option<String>,
    /// OWNER/NAME at the forge, when the address does not say it
    #[arg(long, value_name = "PROJECT", requires = "report")]
    pub report_project: Option<String>,
    /// Print the object as YAML and do nothing
    #[arg(long, conflicts_with_all = ["foreground", "wait"])]
    pub print: bool,
    /// Return when the newest commit runs; exit code 1 when something is wrong
    #[arg(long, conflicts_with = "foreground")]
    pub wait: bool,
    /// Follow the repository here, until Ctrl-C, and not in strake's own cluster (goes without saying with --context and --kubeconfig)
    #[arg(long)]
    pub foreground: bool,
    #[command(flatten)]
    pub webhooks: Webhooks,
    #[command(flatten)]
    pub target: Target,
}

/// Logins: files become Secrets in strake's own cluster, and are read anew each time in the foreground.
#[derive(Args, Debug, Clone)]
pub struct Logins {
    /// A Secret with the login: token, or username and password, or ssh-privatekey and known_hosts
    #[arg(long, value_name = "NAME", conflicts_with_all = ["token_file", "ssh_key"])]
    pub secret: Option<String>,
    /// A file with a token for http and https
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A private key for ssh
    #[arg(long, value_name = "FILE")]
    pub ssh_key: Option<PathBuf>,
    /// The keys of the machines that ssh trusts
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// A Secret with the kubeconfig of another cluster, which is deployed to: kubeconfig, value or value.yaml
    #[arg(long, value_name = "NAME", conflicts_with_all = ["context", "kubeconfig", "foreground"])]
    pub kubeconfig_secret: Option<String>,
    /// A Secret with the webhook's secret: token
    #[arg(long, value_name = "NAME", conflicts_with = "webhook_secret_file")]
    pub webhook_secret: Option<String>,
    /// A file with the webhook's secret
    #[arg(long, value_name = "FILE")]
    pub webhook_secret_file: Option<PathBuf>,
    /// A Secret with the forge's token: token [default: that of the login]
    #[arg(long, value_name = "NAME", conflicts_with = "report_token_file", requires = "report")]
    pub report_secret: Option<String>,
    /// A file with the forge's token
    #[arg(long, value_name = "FILE", requires = "report")]
    pub report_token_file: Option<PathBuf>,
}

/// Whose API takes commit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Forge {
    Github,
    Gitlab,
    Gitea,
}

impl Forge {
    /// As a Sync has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Forge::Github => "github",
            Forge::Gitlab => "gitlab",
            Forge::Gitea => "gitea",
        }
    }
}

/// What to do with repositories that are followed.
#[derive(Subcommand, Debug)]
pub enum SyncVerb {
    /// List what is followed, and how it is
    #[command(visible_alias = "ls", after_help = "Example:\n  strake sync list -o json")]
    List(SyncList),
    /// Show one in full: what runs, what is wrong and since when, the last results (exit code 1 when something is wrong)
    #[command(after_help = "Examples:\n  strake sync status web\n  strake sync status web -n shop -o yaml")]
    Status(SyncStatus),
    /// Leave what runs as it is, until resume
    #[command(visible_alias = "suspend", after_help = "Example:\n  strake sync pause web")]
    Pause(SyncName),
    /// Go on with the newest commit
    #[command(after_help = "Example:\n  strake sync resume web")]
    Resume(SyncName),
    /// Ask the repository now, and try again what has failed
    #[command(after_help = "Examples:\n  strake sync now web --wait\n  strake sync now web --accept-moved-tag")]
    Now(SyncNow),
    /// Follow no longer; what runs stays (`strake down --set` takes it away)
    #[command(visible_alias = "rm", after_help = "Example:\n  strake sync delete web")]
    Delete(SyncName),
}

/// strake sync list
#[derive(Args, Debug)]
pub struct SyncList {
    /// Only those of a namespace
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// How to print them
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// One of them.
#[derive(Args, Debug)]
pub struct SyncName {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Its namespace
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
}

/// strake sync status
#[derive(Args, Debug)]
pub struct SyncStatus {
    #[command(flatten)]
    pub sync: SyncName,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// strake sync now
#[derive(Args, Debug)]
pub struct SyncNow {
    #[command(flatten)]
    pub sync: SyncName,
    /// Follow a tag that means another commit than it did
    #[arg(long)]
    pub accept_moved_tag: bool,
    /// Return when the newest commit runs; exit code 1 when something is wrong
    #[arg(long)]
    pub wait: bool,
}
