//! What can go wrong in a build.

use std::io;
use std::path::PathBuf;

use strake_container::{ContainerError, UserError};
use strake_plan::Origin;
use strake_store::{ExtractError, StoreError};

use crate::copy::{OwnerError, PlaceError, SelectError};
use crate::tree::ViewError;

/// Why a build ended without its images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A step failed. `output_tail` is the end of what a RUN printed.
    #[error("{}:{}: `{}` failed", origin.file, origin.line, origin.text)]
    StepFailed {
        origin: Origin,
        exit_code: Option<i32>,
        output_tail: Vec<u8>,
        #[source]
        reason: Box<StepError>,
    },
    /// What an image is made of could not be had.
    #[error("cannot get the layers of the image {}", tags.first().map_or("without a tag", String::as_str))]
    LayersFailed { tags: Vec<String>, source: Box<StepError> },
    /// An image could not be put into the store.
    #[error("cannot assemble the image {}", tags.first().map_or("without a tag", String::as_str))]
    ImageFailed { tags: Vec<String>, source: Box<StoreError> },
    /// The flag was raised.
    #[error("the build was cancelled")]
    Cancelled,
    /// A directory of the build cache could not be made.
    #[error("cannot make {}", path.display())]
    MakeDirectory { path: PathBuf, source: io::Error },
    /// The store would not be held.
    #[error("cannot hold the store")]
    HoldStore { source: StoreError },
    /// A plan whose parts do not fit together: it was not made by this compiler.
    #[error("the plan is damaged: {reason}")]
    DamagedPlan { reason: String },
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The program of a RUN ended with something else than 0.
    #[error("process {command:?} did not complete successfully: exit code {code}")]
    Exit { command: String, code: i32 },
    /// The kernel ended the program of a RUN for want of memory.
    #[error("process {command:?} was ended by the kernel: out of memory")]
    OutOfMemory { command: String },
    /// The program of a RUN could not be executed.
    #[error("process {command:?} could not be executed: {reason}")]
    NotExecuted { command: String, reason: String, code: i32 },
    /// The shell that took the place of the step was left: nothing was built, as was wished.
    #[error("the shell was left")]
    ShellLeft,
    /// The build was given up.
    #[error("given up")]
    Cancelled,
    /// A layer of a build cache of elsewhere could not be had; the build goes on without that cache.
    #[error("cannot use a layer of the build cache {cache}: {reason}")]
    ImportLayer { cache: String, reason: String },
    /// A base image that is not in the store.
    #[error("the base image {reference} is not in the store: pull or import it first")]
    BaseMissing { reference: String },
    /// The plan names a context that it does not describe.
    #[error("the plan has no build context `{name}`")]
    ContextMissing { name: String },
    /// A build context that cannot be opened.
    #[error("cannot open the build context {}", path.display())]
    OpenContext { path: PathBuf, source: io::Error },
    /// An ignore file with a pattern that cannot be read.
    #[error("cannot read the ignore file of the build context {}: {reason}", path.display())]
    Ignore { path: PathBuf, reason: String },
    /// Sources could not be selected.
    #[error("cannot select the files to copy")]
    Select { source: SelectError },
    /// A file could not be read to know whether it changed.
    #[error("cannot read `{path}` of the build context")]
    ReadContent { path: String, source: io::Error },
    /// Files could not be put in place.
    #[error("cannot copy")]
    Place { source: PlaceError },
    /// A secret that a RUN requires was not given.
    #[error("the secret `{id}` is required and was not given: give it with --secret id={id},src=FILE or --secret id={id},env=NAME")]
    SecretMissing { id: String },
    /// A name whose address nobody gave.
    #[error("the address of `{name}` was not given: give it with --add-host {name}:ADDRESS")]
    HostMissing { name: String },
    /// A secret could not be kept in memory.
    #[error("cannot keep the secret `{id}` in memory")]
    KeepSecret { id: String, source: io::Error },
    /// An SSH agent that a RUN requires was not given.
    #[error("the SSH agent `{id}` is required and was not given: give it with --ssh {id} or --ssh {id}=SOCKET")]
    AgentMissing { id: String },
    /// An SSH agent could not be forwarded.
    #[error("cannot forward the SSH agent at {}", path.display())]
    ForwardAgent { path: PathBuf, source: io::Error },
    /// --chown could not be looked up.
    #[error("cannot look the owner up")]
    Owner { source: OwnerError },
    /// --chmod could not be read.
    #[error("{reason}")]
    Mode { reason: String },
    /// USER could not be looked up.
    #[error("cannot look the user `{text}` up")]
    User { text: String, source: UserError },
    /// An archive could not be read.
    #[error("cannot read the archive `{path}`")]
    ReadArchive { path: String, source: io::Error },
    /// An archive could not be unpacked.
    #[error("cannot unpack the archive `{path}`")]
    Unpack { path: String, source: ExtractError },
    /// Something that a Dockerfile may say and this builder cannot do.
    #[error("{what} is not supported")]
    Unsupported { what: String },
    /// Layers could not be looked at as one tree.
    #[error("cannot open the file system of the step")]
    View { source: ViewError },
    /// The store failed.
    #[error("the store failed")]
    Store { source: StoreError },
    /// The container could not be made, started or removed.
    #[error("the container failed")]
    Container { source: ContainerError },
    /// The output of a container could not be read.
    #[error("cannot read the output of the container")]
    Output { source: io::Error },
    /// A file of the build's own (hosts, resolv.conf, scripts, locks, cache mounts) could not be written.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// What a container left at a mount point could not be cleared.
    #[error("cannot clear the mount point {path}")]
    ClearStub { path: String, source: io::Error },
}

impl StepError {
    /// The exit code of a RUN's program.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            StepError::Exit { code, .. } | StepError::NotExecuted { code, .. } => Some(*code),
            StepError::OutOfMemory { .. } => Some(137),
            _ => None,
        }
    }

    /// True when a file changed between being digested and being copied: worth another try.
    pub(crate) fn is_change(&self) -> bool {
        matches!(self, StepError::Place { source: PlaceError::Changed { .. } })
    }
}
