//! The build driver: runs a [`strake_plan::BuildPlan`] with the store and a container executor.
//!
//! ```text
//! BuildPlan --solve--> commands --step--> layers in the store --assemble--> images
//! ```
//!
//! - `builder`: the loop between the scheduler's commands and threads; `session`: what one build knows; `step`: key, look-up and execution of one step.
//! - `cache`: keys. A step is known by its definition with its inputs named by their *results*, and by the content of what it reads: from contexts always,
//!   from other steps when their results are new. Times are no part of it; the mode and owner that result are. A stat cache keeps unchanged files from being
//!   read. What was digested is what is copied: a context that changes in between is digested again.
//! - `copy`: which files, and where they land. `run`: containers and their mounts. `tree`: paths by descriptor, never out of a root.
//!
//! Every entry of a new layer has the same time (SOURCE_DATE_EPOCH, else 1970), so that the same inputs give the same digests anywhere. `COPY --link` is an
//! ordinary copy, as in Docker's classic store.

mod assemble;
pub mod attest;
mod builder;
mod cache;
mod cancel;
mod copy;
mod error;
mod progress;
mod run;
mod session;
mod step;
mod tree;

pub use builder::{BuildOptions, Builder, is_left_behind};
pub use cache::{
    BlobSource, CACHE_CONFIG_TYPE, CacheDocument, CacheDocumentError, CacheExport, CacheMount, CacheRecord, ExportError, ImportedCache, InlineCache,
    MountChoice, PackedCache, Share, StepRecord, pack_cache,
};
pub use cancel::{CancelFlag, OnCancel};
pub use copy::{OwnerError, PlaceError, SelectError};
pub use error::{BuildError, StepError};
pub use progress::{Progress, ProgressEvent};
pub use run::{AgentSocket, SecretValue, Shell, Visit};
pub use tree::ViewError;

/// An image that was built.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// What it is tagged with.
    pub tags: Vec<String>,
    /// Digest of its manifest.
    pub manifest: strake_oci::Digest,
    /// Digest of its configuration: the image's id.
    pub config_digest: strake_oci::Digest,
    /// Its configuration.
    pub config: strake_oci::ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<strake_store::Layer>,
}
