//! Image registries (OCI distribution specification): images are pulled straight into the store, several layers at once, each verified before
//! it is visible. Pushing sends only
//! what the registry does not have.

mod access;
mod address;
mod artifact;
mod blob;
mod challenge;
mod credentials;
mod documents;
mod endpoint;
mod error;
mod fetch;
mod git;
mod platforms;
mod post;
mod pull;
mod push;
mod registries;
mod retry;
mod serve;
mod session;
mod tags;
mod upload;

pub use artifact::{Documents, absent, documents, fetch_blob, push_packed};
pub use error::{Refusal, RegistryError};
pub use fetch::{FetchError, Fetched, FileRequest, Validator, fetch};
pub use git::{GitError, GitOptions, check_out, has_ancestor, list_references, resolve_commit};
pub use platforms::at_digest;
pub use post::{PostError, post};
pub use pull::{Progress, PullOptions, full_reference, pull, pull_with, resolve};
pub use push::{PushOptions, Pushed, Sent, push, push_all};
pub use registries::{FILE_NAME, HostSettings, Mirror, Registries, SYSTEM_FILE};
pub use serve::{Listening, ServeError, ServeOptions, listen};
pub use tags::tags;
