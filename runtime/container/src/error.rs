//! What can go wrong with a container, named by the action that failed.

use std::io;
use std::path::PathBuf;

use crate::ContainerId;

/// An operation on a container that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// The name has characters outside `[A-Za-z0-9._-]`, is empty, too long, or begins with a dot.
    #[error("container name {id:?} is not valid: letters, digits, `-`, `_` and `.` only, at most 128, not beginning with a dot")]
    InvalidId { id: String },
    /// The spec contradicts itself or asks for something refused.
    #[error("container {id} cannot be made: {reason}")]
    InvalidSpec { id: ContainerId, reason: String },
    /// No such container below this state directory.
    #[error("there is no container {id}")]
    NotFound { id: ContainerId },
    /// The name is taken.
    #[error("container {id} exists already")]
    AlreadyExists { id: ContainerId },
    /// A file of the container's directory could not be written.
    #[error("could not write {path}")]
    Write { path: PathBuf, source: io::Error },
    /// A file of the container's directory could not be read.
    #[error("could not read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// A file of the container's directory does not hold what it should.
    #[error("{path} is damaged")]
    Parse { path: PathBuf, source: serde_json::Error },
    /// The private process (monitor or exec) could not be started.
    #[error("could not start {binary} for container {id}")]
    Spawn { id: ContainerId, binary: PathBuf, source: io::Error },
    /// The monitor could not make the container; the reason is its own account.
    #[error("could not create container {id}: {reason}")]
    Create { id: ContainerId, reason: String },
    /// The monitor did not take the order to start.
    #[error("could not start container {id}: {reason}")]
    Start { id: ContainerId, reason: String },
    /// Talking to the monitor failed.
    #[error("could not speak to the monitor of container {id}")]
    Control { id: ContainerId, source: io::Error },
    /// The container is not running, so there is nothing to signal or to execute in.
    #[error("container {id} is not running")]
    NotRunning { id: ContainerId },
    /// The kernel refused the signal.
    #[error("could not send signal {signal} to container {id}")]
    Signal { id: ContainerId, signal: i32, source: io::Error },
    /// Waiting for the end failed.
    #[error("could not wait for container {id}")]
    Wait { id: ContainerId, source: io::Error },
    /// A further process could not be made in the container.
    #[error("could not execute in container {id}: {reason}")]
    Exec { id: ContainerId, reason: String },
    /// Something of the container could not be removed.
    #[error("could not remove {path} of container {id}")]
    Remove { id: ContainerId, path: PathBuf, source: io::Error },
    /// The state directory could not be made or opened.
    #[error("could not open the state directory {path}")]
    StateDirectory { path: PathBuf, source: io::Error },
    /// The list of containers could not be read.
    #[error("could not list the containers in {path}")]
    List { path: PathBuf, source: io::Error },
}
