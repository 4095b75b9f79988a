//! What can be typed: every command with its options.

mod bake;
mod build;
mod ci;
mod consent;
mod dev;
mod foreign;
mod history;
mod outgoing;
mod progress;
mod rollout;
mod serve;
mod sync;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use bake::Bake;
pub use build::Build;
pub use ci::Ci;
pub use consent::{Consent, PlanConsent};
pub use dev::{PortForward, Up};
pub use foreign::{Foreign, builder};
pub use history::{Drift, History, Rollback, SetArgs, Status, Test};
pub use outgoing::Outgoing;
pub use progress::{Progress, progress};
pub use rollout::{Rollout, RolloutAbort, RolloutOf, RolloutPromote, RolloutUndo, RolloutVerb};
pub use serve::{Kubeconfig, Serve, Webhooks};
pub use sync::{Follow, Sync, SyncList, SyncName, SyncNow, SyncStatus, SyncVerb};

/// Builds images from Dockerfiles, plans and applies Kubernetes manifests, and runs them.
#[derive(Parser, Debug)]
#[command(name = "strake", version, propagate_version = true, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli<C: Subcommand = Command> {
    /// The state directory: images, cache, cluster.
    #[arg(long, global = true, value_name = "DIR", env = "STRAKE_ROOT", default_value = "/var/lib/strake")]
    pub root: PathBuf,
    /// Say more on stderr (-v: what is done, -vv: how).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: C,
}

const EXAMPLES: &str = "Examples:
  strake up examples/guestbook          build, start the cluster, apply, show what runs
  strake build -t web .                 build an image
  strake plan DIR                       what would be built and applied
  strake get pods -A                    look around
  strake down DIR; strake stop          take it away again";

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Build an image from a Dockerfile
    Build(Box<Build>),
    /// Build the targets of a bake file or a compose file
    Bake(Box<Bake>),
    /// Show what a directory builds and applies
    Plan(Plan),
    /// Check a directory's Dockerfiles and manifests
    Check(Check),
    /// Build what is needed and apply a directory's manifests
    Apply(Apply),
    /// Show what apply would change (exit code 2 when there is something)
    Diff(Diff),
    /// Start the cluster when none runs, build, apply, and show what runs
    Up(Up),
    /// Check, build, push, and plan or apply, as the pipeline asks for it
    Ci(Box<Ci>),
    /// Delete what a directory applied
    Down(Down),
    /// List what was applied, when, by whom and how it ended
    History(History),
    /// Go back to what was deployed before
    Rollback(Rollback),
    /// Show what in the cluster is not as it was applied (exit code 2 when there is something)
    Drift(Drift),
    /// Show how a set is, from its objects to their containers
    Status(Status),
    /// Run the tests of what is deployed
    Test(Test),
    /// Follow a git repository: build, apply and report each new commit
    Sync(Box<Sync>),
    /// Builds and applies one commit for a sync
    #[command(hide = true, after_help = "Example:\n  strake sync REPO            starts it for each commit")]
    SyncWorker,
    /// Run the cluster in the foreground
    Serve(Serve),
    /// Stop the cluster: pods, network and processes
    #[command(after_help = "Example:\n  strake stop            images, cache and objects stay: `strake serve` goes on with them")]
    Stop,
    /// Print the cluster's kubeconfig
    Kubeconfig(Kubeconfig),
    /// List objects
    Get(Get),
    /// Show an object with its events
    Describe(Describe),
    /// Print a container's log
    Logs(Logs),
    /// Run a command in a container
    Exec(Exec),
    /// Forward ports of this machine to pods
    PortForward(PortForward),
    /// Delete objects
    Delete(Delete),
    /// Set the number of replicas
    Scale(Scale),
    /// Follow, undo or restart a rollout
    Rollout(Rollout),
    /// List the images of the store
    Images(Images),
    /// Pull, push, import, export, remove and verify images
    Image(Image),
    /// Prune the build cache
    Builder(BuilderCache),
    /// Serve the store as an image registry
    Registry(crate::commands::registry::Registry),
    /// Explain a diagnostic's code
    Explain(Explain),
}

/// `strake build` alone: describing all commands takes longer than much of a build of which nothing has changed.
#[derive(Subcommand, Debug)]
pub enum OnlyBuild {
    /// Build an image from a Dockerfile
    Build(Box<Build>),
}

impl Cli {
    /// Reads what was typed, or ends the program with a message as clap does.
    pub fn read(words: Vec<OsString>) -> Self {
        if words.get(1).is_none_or(|word| word != "build") {
            return Cli::parse_from(words);
        }
        let Cli { root, verbose, command: OnlyBuild::Build(build) } = Cli::parse_from(words);
        Cli { root, verbose, command: Command::Build(build) }
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Yaml,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FindingsFormat {
    /// For people, with the lines
    Text,
    Json,
    Yaml,
    /// For code scanning (SARIF 2.1.0)
    Sarif,
    /// Annotations of GitHub Actions
    Github,
    /// A test report
    Junit,
}

/// What to compile.
#[derive(Args, Debug, Clone)]
pub struct Input {
    /// A directory with Dockerfiles and manifests, a file, `-` (manifests from stdin), or a git repository: URL.git#REF:PATH
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// More of them
    #[arg(value_name = "DIR")]
    pub more: Vec<PathBuf>,
    /// Namespace of objects that name none [default: strake.yaml's, or default]
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// An environment of strake.yaml
    #[arg(short, long, value_name = "NAME")]
    pub env: Option<String>,
    /// A file of values for `${{ NAME }}` in manifests (repeatable; later ones count more)
    #[arg(long, value_name = "FILE")]
    pub values: Vec<PathBuf>,
    /// The name of the set, by which prune and down know its objects [default: strake.yaml's, or the directory's name]
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// Set an ARG of the Dockerfiles (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Set the level of a lint rule: off, note, warning or error; `all` means every rule (repeatable)
    #[arg(long = "lint", value_name = "CODE=LEVEL")]
    pub lints: Vec<String>,
    /// Take images as strake.lock says; one that it does not name is an error
    #[arg(long)]
    pub locked: bool,
    /// Ask no registry: base images must be in the store
    #[arg(long)]
    pub offline: bool,
    /// Nothing outside of this directory is read: for what somebody else wrote
    #[arg(skip)]
    pub within: Option<PathBuf>,
}

impl Input {
    /// A directory, everything else as it goes without saying.
    pub fn of(dir: &std::path::Path, build_args: &[String]) -> Input {
        Input {
            dir: dir.to_owned(),
            more: Vec::new(),
            namespace: None,
            env: None,
            values: Vec::new(),
            set: None,
            build_args: build_args.to_vec(),
            lints: Vec::new(),
            locked: false,
            offline: false,
            within: None,
        }
    }
}

/// How plans are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    Text,
    Json,
    Yaml,
    /// For a pull request
    Markdown,
}

/// strake plan
#[derive(Args, Debug)]
#[command(
    after_help = "Without a cluster it shows what the directory means. When strake's own cluster runs, or with --context, it shows what an apply would do there;
it exits with 2 when that is something.

Examples:
  strake plan deploy/
  strake plan . -o json | jq .deploy.changes
  strake plan . --against main -o markdown
  strake plan . --against main --build
  strake plan . --context production --out plan.json && strake apply plan.json --context production"
)]
pub struct Plan {
    #[command(flatten)]
    pub input: Input,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub outgoing: Outgoing,
    /// Compare with a git revision of the same directory, without a cluster
    #[arg(long, value_name = "REVISION", conflicts_with = "empty")]
    pub against: Option<String>,
    /// Compare with nothing: everything is made
    #[arg(long)]
    pub empty: bool,
    /// Build the images, of the revision too, so that their digests are compared (with a cluster that goes without saying)
    #[arg(long)]
    pub build: bool,
    /// Keep the plan in a file, for `strake apply FILE`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub allowed: PlanConsent,
    /// How to print the plan
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: PlanFormat,
}

/// strake check
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  strake check deploy/
  strake check overlays/prod --context production
  strake check . --lint all=note --lint latest-tag=error
  strake check . -o sarif > findings.sarif
  strake explain unknown-field")]
pub struct Check {
    #[command(flatten)]
    pub input: Input,
    #[command(flatten)]
    pub target: Target,
    /// How to print the findings
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: FindingsFormat,
}

/// Which cluster.
#[derive(Args, Debug, Clone, Default)]
pub struct Target {
    /// A context of the kubeconfig instead of strake's own cluster
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// A kubeconfig file [default: strake's own cluster; with --context, KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The cluster is not asked for the kinds that it knows
    #[arg(skip)]
    pub unasked: bool,
    /// Where it pulls images from, as strake.yaml says
    #[arg(skip)]
    pub registry: Option<String>,
}

impl Target {
    /// Not strake's own cluster.
    pub fn is_foreign(&self) -> bool {
        self.context.is_some() || self.kubeconfig.is_some()
    }
}

/// How an apply tells what it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EventsFormat {
    /// For people
    #[default]
    Text,
    /// An event a line, as JSON, on the standard output; the last one is `done` or `failed`
    Json,
}

/// strake apply, strake up
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Objects begin as soon as what they need is there: what they refer to, and what annotations say (strake.dev/depends-on, those of kapp and cli-utils, sync
waves and hooks of Argo CD, hooks of Helm). Jobs with strake.dev/hook: before or after run to their end before or after the rest. One apply of a set goes on
at a time; after a crash or Ctrl-C the same command goes on where it was.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 applied but not healthy, 4 the saved plan is stale, 5 another apply has the set's lock, 130 interrupted.

Examples:
  strake apply deploy/
  strake apply plan.json
  strake apply deploy/ --context production --push-to registry.example.org/shop
  strake apply deploy/ --lock-wait 0 -o json"
)]
pub struct Apply {
    #[command(flatten)]
    pub input: Input,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub outgoing: Outgoing,
    /// Keep objects that left the directory
    #[arg(long)]
    pub no_prune: bool,
    /// Take over fields that others own
    #[arg(long)]
    pub force_conflicts: bool,
    /// Allow deleting most of the set
    #[arg(long)]
    pub allow_mass_delete: bool,
    #[command(flatten)]
    pub consent: Consent,
    /// Delete and make anew what has a change that cannot be made in place
    #[arg(long)]
    pub replace: bool,
    /// Roll Deployments out at once, whatever strategy their annotations name
    #[arg(long)]
    pub at_once: bool,
    /// Return without waiting for health; what something else comes after is still waited for
    #[arg(long)]
    pub no_wait: bool,
    /// How long an object may take to get healthy
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
    /// How long to wait for another apply of the same set; after that the exit code is 5
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub lock_wait: u64,
    /// Do without the set's lock, for an account that may not write Leases: then nothing keeps two applies of the set apart
    #[arg(long)]
    pub no_lock: bool,
    /// How many failures of its containers each replica may have before the rollout counts as lost
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub failures_per_replica: u32,
    /// Give a rollout up only at its timeout, whatever happens before
    #[arg(long)]
    pub until_deadline: bool,
    /// Give a rollout up when nothing at all has changed for so long [default: a slow start never fails before its timeout]
    #[arg(long, value_name = "SECONDS", conflicts_with = "until_deadline", value_parser = clap::value_parser!(u64).range(1..))]
    pub no_activity_timeout: Option<u64>,
    /// Do not show what containers write while they start
    #[arg(long)]
    pub no_logs: bool,
    /// How to tell what happens
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: EventsFormat,
    /// How many revisions stay in the set's history (0: keep none) [default: keepRevisions of strake.yaml, or 10]
    #[arg(long, value_name = "NUMBER")]
    pub keep_revisions: Option<usize>,
    /// How to show progress
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
    /// Where a cluster that has to be started listens (up only)
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443")]
    pub listen: std::net::SocketAddr,
}

/// strake diff
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake diff deploy/\n  strake diff deploy/ --context production -o json")]
pub struct Diff {
    #[command(flatten)]
    pub input: Input,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub outgoing: Outgoing,
    #[command(flatten)]
    pub allowed: PlanConsent,
    /// How to print the differences
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// strake down
#[derive(Args, Debug)]
#[command(
    after_help = "What needs others goes before what it needs; history and inventory go last. What holds data or objects of others stays, and is named, unless --all is given.
Hooks of a deletion run as the deployed revision has them; what they have made stays unless their delete policies say otherwise.

Examples:
  strake down deploy/
  strake down --set shop
  strake down --set shop --all --context production"
)]
pub struct Down {
    #[command(flatten)]
    pub input: Input,
    #[command(flatten)]
    pub target: Target,
    /// Delete also what holds data or objects of others: volume claims and volumes, namespaces, definitions of kinds
    #[arg(long)]
    pub all: bool,
    /// How long to wait until everything is gone
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    pub timeout: u64,
    /// Do without the set's lock, for an account that may not write Leases: then nothing keeps two applies of the set apart
    #[arg(long)]
    pub no_lock: bool,
}

/// Which namespace.
#[derive(Args, Debug, Clone)]
pub struct Scope {
    /// The namespace
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    #[command(flatten)]
    pub target: Target,
}

/// strake get
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake get pods -A -o wide\n  strake get deployment/web -o yaml\n  strake get pods -l app=web -w")]
pub struct Get {
    /// KIND, KIND NAME…, KIND/NAME or `all`
    #[arg(required = true, value_name = "KIND")]
    pub what: Vec<String>,
    #[command(flatten)]
    pub scope: Scope,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only objects with these fields
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// wide, yaml, json or name
    #[arg(short, long, value_name = "FORMAT", value_parser = ["wide", "yaml", "json", "name"])]
    pub output: Option<String>,
    /// Go on showing changes
    #[arg(short, long)]
    pub watch: bool,
}

/// strake describe
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake describe pod web-5d8f7-x2x4k\n  strake describe deployment/web service/web -n shop")]
pub struct Describe {
    /// KIND NAME or KIND/NAME
    #[arg(required = true, value_name = "KIND")]
    pub what: Vec<String>,
    #[command(flatten)]
    pub scope: Scope,
}

/// strake logs
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  strake logs web-5d8f7-x2x4k --tail 20\n  strake logs -f deployment/web -c app --timestamps\n  strake logs web-5d8f7-x2x4k --previous"
)]
pub struct Logs {
    /// A pod, or KIND/NAME of what owns pods
    pub pod: String,
    /// The container [default: the first]
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on as lines are written
    #[arg(short, long)]
    pub follow: bool,
    /// The run before the last restart
    #[arg(short, long)]
    pub previous: bool,
    /// Only the last lines (-1: all)
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    pub tail: Option<i64>,
    /// With the time of each line
    #[arg(long)]
    pub timestamps: bool,
    #[command(flatten)]
    pub scope: Scope,
}

/// strake exec
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  strake exec -it web-5d8f7-x2x4k -- /bin/sh")]
pub struct Exec {
    /// A pod, or KIND/NAME of what owns pods
    pub pod: String,
    /// The container [default: the first]
    #[arg(short, long)]
    pub container: Option<String>,
    /// Pass stdin on
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    #[command(flatten)]
    pub scope: Scope,
    /// The command
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// strake delete
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  strake delete pod web-5d8f7-x2x4k --grace-period 1\n  strake delete deployment/web service/web -n shop\n  strake delete pods -l app=web"
)]
pub struct Delete {
    /// KIND NAME… or KIND/NAME…
    #[arg(required = true, value_name = "KIND")]
    pub what: Vec<String>,
    #[command(flatten)]
    pub scope: Scope,
    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Seconds a pod has to end by itself
    #[arg(long, value_name = "SECONDS")]
    pub grace_period: Option<i64>,
    /// Return before they are gone
    #[arg(long)]
    pub no_wait: bool,
}

/// strake scale
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  strake scale deployment/web --replicas 5 -n shop")]
pub struct Scale {
    /// KIND NAME or KIND/NAME
    #[arg(required = true, value_name = "KIND")]
    pub what: Vec<String>,
    /// How many
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub replicas: u32,
    #[command(flatten)]
    pub scope: Scope,
}

/// strake images
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake images\n  strake images -o json")]
pub struct Images {
    /// How to print them
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// strake image
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  strake image import rootfs.tar debian:bookworm-slim\n  strake image export web web.tar --format docker\n  strake image pull docker.io/library/busybox:1.36\n  strake image rm web:1\n  strake image verify"
)]
pub struct Image {
    #[command(subcommand)]
    pub verb: ImageVerb,
}

/// What to do with images.
#[derive(Subcommand, Debug)]
pub enum ImageVerb {
    /// Take in a root file system (directory or tar) or an image archive (OCI layout, docker save)
    #[command(after_help = "Examples:\n  strake image import rootfs.tar debian:bookworm-slim\n  strake image import saved.tar")]
    Import {
        /// A directory, or a tar, plain or compressed
        path: PathBuf,
        /// The image's name; not needed for archives that carry theirs
        reference: Option<String>,
        /// What a root file system is for: it is named beside those of other platforms [default: this machine's, alone]
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<strake_oci::Platform>,
    },
    /// Write an image as an OCI layout (a directory, or a tar when DEST ends in .tar)
    #[command(after_help = "Examples:\n  strake image export web web.tar\n  strake image export web:1 web.tar --format docker")]
    Export {
        reference: String,
        dest: PathBuf,
        /// oci or docker
        #[arg(long, default_value = "oci", value_parser = ["oci", "docker"])]
        format: String,
    },
    /// Pull an image from its registry, or from a mirror of it
    #[command(after_help = crate::commands::transfer::PULL_HELP)]
    Pull(crate::commands::transfer::Pull),
    /// Write down which content the image tags of a directory mean
    Lock(crate::commands::lock::LockArgs),
    /// Push an image to its registry, or to another name
    #[command(
        after_help = "Examples:\n  strake image push registry.example.com/team/web:1\n  strake image push web registry.example.com/team/web:1 --compression zstd"
    )]
    Push {
        image: String,
        /// Where to [default: the image's own name]
        reference: Option<String>,
        /// gzip, zstd or uncompressed [default: as it was pulled, else gzip]
        #[arg(long, value_parser = ["gzip", "zstd", "uncompressed"])]
        compression: Option<String>,
    },
    /// Write images as one archive that docker load takes
    #[command(after_help = "Examples:\n  strake image save web:1 store:1 -o images.tar\n  strake image save web | docker load")]
    Save {
        #[arg(required = true)]
        references: Vec<String>,
        /// The file [default: stdout]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Take in the images of an archive (docker save, OCI layout)
    #[command(after_help = "Examples:\n  strake image load -i images.tar\n  docker save web | strake image load")]
    Load {
        /// The file [default: stdin]
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
    },
    /// Show how an image was made
    #[command(after_help = "Example:\n  strake image history web --no-trunc")]
    History {
        reference: String,
        /// Show whole commands
        #[arg(long)]
        no_trunc: bool,
        /// How to print it
        #[arg(short, long, value_enum, default_value = "text")]
        output: Format,
    },
    /// Give an image another name
    #[command(after_help = "Example:\n  strake image tag web registry.example.com/team/web:1")]
    Tag { image: String, reference: String },
    /// Remove names of images, and what nothing needs any more
    #[command(after_help = "Example:\n  strake image rm web:1 web:2")]
    Rm { references: Vec<String> },
    /// Show an image's manifest and configuration, or those of an index
    Inspect(crate::commands::indexes::InspectArgs),
    /// Show the attestations of an image: how it was made, what is in it
    Attestations(crate::commands::indexes::AttestationsArgs),
    /// Remove what no image, container or recent build needs, and say why the rest stays
    Prune(Prune),
    /// Show what takes room, and for what
    Du(Du),
    /// Check every blob and layer against its digest
    #[command(after_help = "Example:\n  strake image verify")]
    Verify,
}

/// strake image prune, strake builder prune
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  strake image prune --dry-run
  strake image prune --keep-storage 10g
  strake image prune --all --force --filter until=72h
  strake builder prune --all -o json")]
pub struct Prune {
    /// image prune: also images that no container uses; builder prune: the whole build cache
    #[arg(short, long)]
    pub all: bool,
    /// Keep what was used within this time: until=24h [default: the build cache of a week] (repeatable)
    #[arg(long = "filter", value_name = "until=DURATION")]
    pub filters: Vec<String>,
    /// Let no more than this stay on disk: what was used least recently goes first (units of 1024: k, m, g, t)
    #[arg(long, value_name = "SIZE", visible_alias = "max-used-space")]
    pub keep_storage: Option<String>,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Wait for builds and pulls that are running
    #[arg(long)]
    pub wait: bool,
    /// How to print the account
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// strake image du, strake builder du
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake image du\n  strake image du --items\n  strake image du -o json | jq .keptBytes")]
pub struct Du {
    /// List every item
    #[arg(long = "items")]
    pub verbose_items: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// strake builder
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake builder prune --keep-storage 5g\n  strake builder du")]
pub struct BuilderCache {
    #[command(subcommand)]
    pub verb: BuilderVerb,
}

/// What to do with the build cache.
#[derive(Subcommand, Debug)]
pub enum BuilderVerb {
    /// Remove what was not used for a week, and with --all the whole build cache
    Prune(Prune),
    /// Show what takes room, and for what
    Du(Du),
}

/// strake explain
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  strake explain\n  strake explain unknown-field")]
pub struct Explain {
    /// A code such as unknown-field; without one, all are listed
    pub code: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, OnlyBuild};

    fn without_examples(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        if !command.get_after_help().is_some_and(|text| text.to_string().contains("Example")) {
            found.push(path.clone());
        }
        command.get_subcommands().filter(|one| one.get_name() != "help").for_each(|one| without_examples(one, &path, found));
    }

    #[test]
    fn the_help_of_each_command_has_examples() {
        let mut found = Vec::new();
        without_examples(&<Cli>::command(), "", &mut found);
        assert!(found.is_empty(), "no examples: {found:?}");
        <Cli>::command().debug_assert();
    }

    #[test]
    fn build_alone_is_what_it_is_among_all_commands() {
        let help = |mut cli: clap::Command| cli.find_subcommand_mut("build").map(|build| build.render_long_help().to_string());
        let (mut all, mut one) = (<Cli>::command(), Cli::<OnlyBuild>::command());
        all.build();
        one.build();
        assert_eq!(help(all), help(one));
    }
}
