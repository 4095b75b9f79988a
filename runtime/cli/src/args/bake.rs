//! `strake bake`

use std::path::PathBuf;

use clap::Args;

use super::Progress;

/// strake bake
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  strake bake                                  the group or target `default` of docker-bake.hcl, docker-bake.json or compose.yaml
  strake bake app db --print                   show what these targets are, and build nothing
  strake bake --set '*.platform=linux/amd64' --set app.args.VERSION=3
  strake bake 'test-*' --var TAG=nightly --push
  strake bake -f ci.hcl -f local.hcl --list targets
  strake image lock && strake bake --locked    the images that every target takes from elsewhere are those of strake.lock
  strake bake https://github.com/example/app.git#main app")]
pub struct Bake {
    /// Targets, groups, or patterns of them [default: default]; before them, a git repository that has the files
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// A bake file (.hcl, .json) or a compose file (.yaml, .yml); several are merged, `-` is stdin (repeatable)
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<String>,
    /// Print what would be built, as JSON
    #[arg(long)]
    pub print: bool,
    /// List targets or variables; type=targets,format=json gives data
    #[arg(long, value_name = "targets|variables", conflicts_with = "print")]
    pub list: Option<String>,
    /// Change a key of the targets that a name or a pattern means; += adds to a list (repeatable)
    #[arg(long = "set", value_name = "TARGET.KEY=VALUE")]
    pub settings: Vec<String>,
    /// Give a variable a value, before the environment's (repeatable)
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub variables: Vec<String>,
    /// Do everything again
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_cache: Option<bool>,
    /// Pull base images even when the store has them
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub pull: Option<bool>,
    /// Push the images under their names
    #[arg(long)]
    pub push: bool,
    /// Put the images into the store, as every build does
    #[arg(long)]
    pub load: bool,
    /// Attach a description of how the images were made: true, false or mode=min|max,…
    #[arg(long, value_name = "true|false|mode=max", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub provenance: Option<String>,
    /// Attach a list of the packages in the images
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sbom: Option<String>,
    /// Allow what the files ask for: fs.read=PATH, fs.write=PATH, fs=PATH, ssh, network.host, security.insecure (repeatable)
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<String>,
    /// Check the Dockerfiles and build nothing (exit code 1 when there is a finding)
    #[arg(long)]
    pub check: bool,
    /// What to do: build, check, outline or targets, with ,format=json for data
    #[arg(long, value_name = "CALL")]
    pub call: Option<String>,
    /// Touch no network: base images and files that ADD fetches must be here
    #[arg(long)]
    pub offline: bool,
    /// Take base images as strake.lock says, the one beside the bake file or above; one that it does not name is an error
    #[arg(long, conflicts_with = "pull")]
    pub locked: bool,
    /// How to show progress: a live view on a terminal and else plain lines (auto), or always one of them, an object a line, or nothing
    #[arg(long, value_name = "auto|tty|plain|json|quiet", value_parser = super::progress, default_value = "auto")]
    pub progress: Progress,
    /// Write digests and names of each target as JSON to a file
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Steps at once [default: the number of processors]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Say on stderr how everything is done, as -vv does
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Of docker: strake has none.
    #[arg(long, hide = true, value_name = "NAME")]
    pub builder: Option<String>,
}

impl Bake {
    /// What files say, for who builds nothing.
    pub fn of(files: Vec<String>, variables: Vec<String>, allow: Vec<String>, offline: bool) -> Bake {
        Bake {
            targets: Vec::new(),
            files,
            print: false,
            list: None,
            settings: Vec::new(),
            variables,
            no_cache: None,
            pull: None,
            push: false,
            load: false,
            provenance: None,
            sbom: None,
            allow,
            check: false,
            call: None,
            offline,
            locked: false,
            progress: Progress::Auto,
            metadata_file: None,
            jobs: None,
            debug: false,
            builder: None,
        }
    }
}
