//! What is compiled.

use std::collections::BTreeMap;

use strake_kustomize::Tree;
use strake_oci::Platform;
use strake_sops::Opened;

use crate::config::ImageConfig;

/// Everything that the plan depends on, except base images.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The project's own file, `strake.yaml`.
    pub config: Option<Manifest>,
    /// Files of parameters, later ones over earlier ones.
    pub values: Vec<Manifest>,
    /// YAML and JSON files.
    pub manifests: Vec<Manifest>,
    /// A kustomize overlay, whose objects come to those of the manifests.
    pub overlay: Option<Overlay>,
    /// Dockerfiles.
    pub dockerfiles: Vec<Dockerfile>,
    /// What stands in those of the manifests and values that are encrypted, by path.
    pub sealed: BTreeMap<String, Opened>,
    /// Everything else.
    pub options: Options,
}

/// A file with Kubernetes objects.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The path as the user would type it.
    pub path: String,
    /// The content.
    pub text: String,
}

/// A kustomize overlay.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The directory with its `kustomization.yaml`.
    pub directory: String,
    /// Every file that it needs.
    pub tree: Tree,
}

/// A Dockerfile and where its files are.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The path as the user would type it.
    pub path: String,
    /// The content.
    pub text: String,
    /// The directory whose files COPY sees: an absolute path.
    pub context: String,
    /// The lines of the ignore file in force.
    pub ignore: Vec<String>,
    /// Found outside the directory that was given: nothing is said when no manifest uses its image.
    pub optional: bool,
    /// The image that the project's file says it builds, and how.
    pub image: Option<(String, ImageConfig)>,
}

/// How to compile.
#[derive(Clone, Debug)]
pub struct Options {
    /// The set's name: the inventory's.
    pub set: String,
    /// The namespace of objects that name none.
    pub namespace: String,
    /// What images are for.
    pub platform: Platform,
    /// What builds run on.
    pub build_platform: Platform,
    /// Build arguments of all Dockerfiles: a name without a value is not given at all.
    pub build_args: BTreeMap<String, Option<String>>,
    /// The plan is for another cluster than strake's own: it may serve more kinds.
    pub foreign: bool,
    /// The environment of the project's file; `None` is the project as it is by itself.
    pub environment: Option<String>,
    /// Levels of lint rules that are not as the table has them.
    pub lints: BTreeMap<String, crate::lint::Level>,
    /// Nothing but base images and WORKDIR comes from the cache.
    pub no_cache: bool,
}
