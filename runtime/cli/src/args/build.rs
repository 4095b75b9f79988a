//! `strake build`

use std::path::PathBuf;

use clap::Args;

use super::{Foreign, Progress};

/// strake build
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  strake build -t web:1 .
  strake build -f deploy/Dockerfile --target test --build-arg VERSION=3 .
  strake build -t web -o type=oci,dest=web.tar .
  strake build -o out/ .
  strake build -t registry.example.org/web:1 --push .
  strake build -t registry.example.org/web:1 --platform linux/amd64,linux/arm64 --push .
  strake build -t web:1 --provenance=mode=max --sbom .")]
pub struct Build {
    /// The directory (or tar) whose files COPY sees; `-` is a tar or a Dockerfile on stdin
    #[arg(value_name = "CONTEXT")]
    pub context: PathBuf,
    /// Name the image (repeatable)
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub tags: Vec<String>,
    /// Give FROM and --from another directory or image by name (repeatable)
    #[arg(long = "build-context", value_name = "NAME=DIR|docker-image://REF|oci-layout://PATH[:TAG]")]
    pub build_contexts: Vec<String>,
    /// The Dockerfile; `-` is stdin [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The Dockerfile's text, with what to call it: of a bake file, never typed.
    #[arg(skip)]
    pub dockerfile_inline: Option<(String, String)>,
    /// Where strake.lock is looked for: of a bake file, never typed.
    #[arg(skip)]
    pub lock_dir: Option<PathBuf>,
    /// Build up to this stage
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Set an ARG; without a value it is taken from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Add a label (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Build for these platforms; several give an index of images (repeatable)
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT],…", value_delimiter = ',')]
    pub platforms: Vec<String>,
    /// Add an annotation to the manifest, or to what a prefix names: manifest:, index:, manifest-descriptor: or index-descriptor:, each also with [OS/ARCH] (repeatable)
    #[arg(long = "annotation", value_name = "[PREFIX:]NAME=VALUE")]
    pub annotations: Vec<String>,
    /// Attach a description of how the image was made (SLSA provenance): true, false or mode=min|max,…
    #[arg(long, value_name = "true|false|mode=max", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub provenance: Option<String>,
    /// Attach a list of the packages in the image (SPDX)
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sbom: Option<String>,
    /// Attach an attestation: type=provenance,mode=max or type=sbom (repeatable)
    #[arg(long = "attest", value_name = "type=sbom|provenance,…")]
    pub attests: Vec<String>,
    /// Do everything again
    #[arg(long)]
    pub no_cache: bool,
    /// Do everything again in these stages (repeatable)
    #[arg(long, value_name = "STAGE,…")]
    pub no_cache_filter: Vec<String>,
    /// Also take steps from a build cache of elsewhere: a reference, or type=registry,ref=REF or type=local,src=DIR, with mounts=true|ID for its cache mounts (repeatable)
    #[arg(long, value_name = "type=TYPE,…")]
    pub cache_from: Vec<String>,
    /// Write the build cache: type=registry,ref=REF, type=local,dest=DIR (both with mode=min|max, mounts=true|ID, ignore-error=true), or type=inline (repeatable)
    #[arg(long, value_name = "type=TYPE,…")]
    pub cache_to: Vec<String>,
    /// The network of RUNs that name none
    #[arg(long, value_parser = ["default", "none", "host"])]
    pub network: Option<String>,
    /// Add a line to /etc/hosts of every RUN (repeatable)
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// Let RUNs have what they ask for by --network=host or --security=insecure (repeatable)
    #[arg(long, value_name = "network.host|security.insecure")]
    pub allow: Vec<String>,
    /// A limit of every RUN's processes, such as nofile=1024:2048 (repeatable)
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<String>,
    /// The cgroup below which those of RUNs are made
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// What the processes of each RUN may use together: memory=512m, cpu-quota=50000 (microseconds of every cpu-period, 100000), cpu-shares=512 (repeatable)
    #[arg(long = "resource", value_name = "NAME=VALUE")]
    pub resources: Vec<String>,
    /// Size of /dev/shm in every RUN, such as 256m
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Check the Dockerfile and build nothing (exit code 1 when there is a finding)
    #[arg(long)]
    pub check: bool,
    /// What to do: build, check, outline or targets, with ,format=json for data
    #[arg(long, value_name = "CALL")]
    pub call: Option<String>,
    /// Touch no network: base images and files that ADD fetches must be here
    #[arg(long, conflicts_with = "pull")]
    pub offline: bool,
    /// Pull base images even when the store has them
    #[arg(long)]
    pub pull: bool,
    /// Take base images as strake.lock says; one that it does not name is an error
    #[arg(long, conflicts_with = "pull")]
    pub locked: bool,
    /// How to show progress: a live view on a terminal and else plain lines (auto), or always one of them, an object a line, or nothing
    #[arg(long, value_name = "auto|tty|plain|json|quiet", value_parser = super::progress, default_value = "auto")]
    pub progress: Progress,
    /// Print only the image's id
    #[arg(short, long)]
    pub quiet: bool,
    /// Also write the image (repeatable): DIR, or type=local|tar|oci|docker,dest=DEST (- is stdout), or type=image|registry,name=NAME
    #[arg(short, long = "output", value_name = "type=TYPE,dest=DEST")]
    pub outputs: Vec<String>,
    /// Push the image under its names: -o type=registry
    #[arg(long)]
    pub push: bool,
    /// Put the image into the store, as every build does
    #[arg(long)]
    pub load: bool,
    /// Write digests and names as JSON to a file
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Give RUN --mount=type=secret a value, from a file or a variable (repeatable)
    #[arg(long = "secret", value_name = "id=ID,src=FILE|env=NAME")]
    pub secrets: Vec<String>,
    /// Give RUN --mount=type=ssh an agent; without a socket it is that of SSH_AUTH_SOCK (repeatable)
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub ssh: Vec<String>,
    /// When a RUN fails, open a shell in what it left
    #[arg(long, value_parser = ["shell"], value_name = "shell")]
    pub on_error: Option<String>,
    /// Open a shell in the place of a RUN, or after any other step: by its stage's name, as :LINE, or by the number that progress shows
    #[arg(long, value_name = "STAGE|:LINE|N")]
    pub debug_step: Option<String>,
    /// Steps at once [default: the number of processors]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Say on stderr how everything is done, as -vv does
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Flags of docker that are refused by name.
    #[command(flatten)]
    pub foreign: Foreign,
}
