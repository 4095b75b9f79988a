//! From a Dockerfile's tree to build steps.
//!
//! [`StageGraph`] says which stages there are and which of them the target needs; [`base_references`] which images of elsewhere those need; [`lower`] makes the plan once these
//! are known. Everything is pure: the caller brings base images' configurations and the build arguments.
//!
//! Observable behaviour (configuration, history, environment of commands) is BuildKit's; what is not supported is an error that says so.

mod config;
mod copy;
pub mod debug;
pub mod emulate;
mod graph;
mod history;
mod lower;
mod mounts;
mod ports;
mod remote;
mod run;
mod scope;
mod stage;

use std::collections::BTreeMap;

use strake_oci::{Digest, ImageConfig, Platform};
use strake_plan::{Context, Network, Resources, Ulimit};

pub use graph::{Base, BaseReference, Origin, Stage, StageGraph, base_references, base_references_with, context_key};
pub use lower::{errors_beside, lower, lower_into, remote_sources, remote_sources_in};
pub use mounts::bytes as memory_bytes;
pub use remote::{Remote, RemoteKind, RemoteSource, file_name_of};

/// `comment` of the history rows made here.
pub const HISTORY_COMMENT: &str = "strake.dockerfile.v0";

/// One image to build.
#[derive(Clone, Debug)]
pub struct Request {
    /// The Dockerfile. Its own errors have been reported by its parser.
    pub file: strake_dockerfile::File,
    /// The Dockerfile's path as the user gave it.
    pub file_name: String,
    /// The stage to build by its name or number; the last one without.
    pub target: Option<String>,
    /// `--build-arg`: a name without a value is not given at all (the caller fills in the environment's).
    pub build_args: BTreeMap<String, Option<String>>,
    /// What the image is for.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
    /// What to call the image; normalised here.
    pub tags: Vec<String>,
    /// `--label`: set last, on the image only.
    pub labels: BTreeMap<String, String>,
    /// Nothing but base images and WORKDIR comes from the cache.
    pub no_cache: bool,
    /// The main context's name in [`strake_plan::BuildPlan::contexts`]. It is part of step ids: two different contexts of one plan must not share it.
    pub context_name: String,
    /// The main context.
    pub context: Context,
    /// `--build-context` with a directory, by [`context_key`]: what FROM and `--from` name so is that directory, and a stage of that name is replaced.
    pub named_contexts: BTreeMap<String, Context>,
    /// `--build-context` with an image, by [`context_key`]: the key under which [`lower`] finds it among the base images.
    pub named_images: BTreeMap<String, String>,
    /// Contexts that are images of the same plan, by [`context_key`]: their places in [`strake_plan::BuildPlan::images`], one a platform.
    pub named_builds: BTreeMap<String, Vec<usize>>,
    /// What ADD names of elsewhere, fetched, by [`RemoteSource::key`] (see [`remote_sources`]).
    pub remotes: BTreeMap<String, Remote>,
    /// Stages whose steps do not come from the cache, by name or number (`--no-cache-filter`).
    pub no_cache_stages: Vec<String>,
    /// The network of every RUN that names none.
    pub network: Network,
    /// Names that every RUN's /etc/hosts has more (`--add-host`).
    pub extra_hosts: Vec<String>,
    /// What RUNs may do, and what they may use.
    pub rules: Rules,
}

/// What whoever runs the build allows its RUNs, and the limits of their processes. By default nothing special is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `RUN --network=host` (`--allow network.host`).
    pub host_network: bool,
    /// `RUN --security=insecure` (`--allow security.insecure`).
    pub insecure: bool,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--resource`.
    pub resources: Resources,
}

/// A base image as the store or a registry has it.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// The reference it was found under, in its long form.
    pub reference: String,
    /// The manifest of the platform.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
}
