//! The Plan: the one value that crosses from the compiler to the runtime.
//!
//! It is data: a graph of build steps ([`BuildPlan`]) and ordered changes of objects ([`DeployPlan`]), joined where a container's image is the output of a build.
//! Steps and images are named by their place in the plan; a step's [`StepId`] is the digest of its definition and of its inputs' ids, so it is the same on any machine.

mod build;
mod deploy;
pub mod kapp;
mod rollout;

use serde::{Deserialize, Serialize};

pub use build::{
    Add, BuildPlan, Chown, Context, ContextKind, Copy, CopySource, Further, Image, ImageHistory, InlineFile, Mkdir, Mount, MountKind, Network, Op, Origin,
    Resources, Run, Step, StepId, StepIndex, Ulimit, forget_cache_names, is_cache_of,
};
pub use deploy::{Change, ChangeId, DeployPlan, Edge, External, Hook, HookRun, ImageEdge, ObjectId, Occasion, OccasionalHook, Phase, Wanted};
pub use rollout::{Check, Rollout, RolloutStep, Strategy};

/// The version of the serialised form. A reader refuses a greater one.
pub const FORMAT_VERSION: u32 = 1;

/// Everything that will be built and applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Images to build.
    pub build: BuildPlan,
    /// Objects to apply.
    pub deploy: DeployPlan,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { format_version: FORMAT_VERSION, build: BuildPlan::default(), deploy: DeployPlan::default() }
    }
}
