//! The compiler's face: files in memory to one [`Plan`] and everything there is to say about them.
//!
//! It works in two steps, because a Dockerfile's meaning depends on the configurations of its base images, and fetching those is not the compiler's business:
//! [`Project::read`] parses everything, [`Project::needs`] names the base images, [`Project::compile`] makes the plan once they are known. [`needs`] and
//! [`compile`] do the same from the inputs in one call each.
//!
//! # Which image a Dockerfile builds
//!
//! Nothing is configured; the rules are, strongest first:
//! 1. A comment `# image: NAME` before the first instruction says it.
//! 2. The Dockerfile has a name: `NAME.Dockerfile`, `Dockerfile.NAME`, else that of its directory. It builds the images of manifests whose repository ends in that
//!    name (`web`, `web:1.2`, `registry.example.com/team/web`).
//! 3. If there is one Dockerfile, nothing matched, and the manifests use exactly one image without a registry in its name, it builds that one.
//!
//! An image pinned by digest is never built. A Dockerfile that builds no image of a manifest is reported and left out, unless there are no manifests at all: then
//! each Dockerfile is built under its name.
//!
//! # Order
//!
//! The plan depends on the content of the inputs, not on the order in which they are given.

pub mod config;
pub mod explain;
mod images;
mod inputs;
pub mod lint;
mod project;
mod show;

use std::collections::BTreeMap;

use strake_plan::Plan;
use strake_source::{Diagnostic, Sources};
use strake_stages::{BaseImage, BaseReference};

pub use inputs::{Dockerfile, Inputs, Manifest, Options, Overlay};
pub use project::Project;
pub use show::render;

/// What comes out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The plan; `None` when there is an error among the diagnostics.
    pub plan: Option<Plan>,
    /// All findings, by file and place.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that the findings' spans refer to.
    pub sources: Sources,
}

/// The base images that compiling these inputs needs: those of Dockerfiles that build something.
pub fn needs(inputs: &Inputs) -> Vec<BaseReference> {
    Project::read(inputs).needs(&std::collections::BTreeMap::new())
}

/// Compiles. `bases` are by the key of each [`BaseReference`]; a missing one is an error that says where it is named.
pub fn compile(inputs: &Inputs, bases: &BTreeMap<String, BaseImage>) -> Outcome {
    Project::read(inputs).compile(bases)
}
