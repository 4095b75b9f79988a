//! A container's directory: the spec it was made from, who owns it, and how it ended.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `spec.json` | creator | the [`ContainerSpec`], mode 0600 |
//! | `state.json` | monitor | [`State`]: the processes and cgroups |
//! | `control` | monitor | the socket that takes the order to start |
//! | `exit.json` | monitor, or whoever finds it dead | the [`ExitRecord`] |
//! | `monitor.log` | monitor | only what should never happen |
//! | `rootfs/` | creator | empty mount point, used inside the container's own mount namespace |

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::process::ProcessId;
use crate::{ContainerError, ContainerId, ContainerSpec, ExitRecord};

/// What the monitor tells about itself and its container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The monitor.
    pub monitor: ProcessId,
    /// Who asked for the container.
    pub creator: ProcessId,
    /// The container's first process, once made.
    pub container: Option<ProcessId>,
    /// When its program was executed, in nanoseconds since 1970.
    pub started_at_ns: Option<i64>,
    /// Its cgroups, to be removed with it.
    pub cgroups: Vec<PathBuf>,
}

/// One container's directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory of a container, whether it exists or not.
    pub(crate) fn of(containers: &Path, id: &ContainerId) -> Result<Self, ContainerError> {
        let text = id.0.as_str();
        let valid = !text.is_empty() && text.len() <= 128 && !text.starts_with('.');
        if !valid || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
            return Err(ContainerError::InvalidId { id: text.to_owned() });
        }
        Ok(Directory { path: containers.join(text) })
    }

    /// The directory given to the monitor.
    pub(crate) fn at(path: PathBuf) -> Self {
        Directory { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it with the spec in it.
    pub(crate) fn make(&self, spec: &ContainerSpec) -> Result<(), ContainerError> {
        let made = fs::DirBuilder::new().mode(0o700).create(&self.path);
        made.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => ContainerError::AlreadyExists { id: spec.id.clone() },
            _ => ContainerError::Write { path: self.path.clone(), source },
        })?;
        let rootfs = self.rootfs();
        fs::create_dir(&rootfs).map_err(|source| ContainerError::Write { path: rootfs, source })?;
        self.write("spec.json", spec)
    }

    /// Where the root file system is mounted, in the container's own mount namespace only.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    pub(crate) fn spec(&self, id: &ContainerId) -> Result<ContainerSpec, ContainerError> {
        self.read("spec.json")?.ok_or_else(|| ContainerError::NotFound { id: id.clone() })
    }

    pub(crate) fn state(&self) -> Result<Option<State>, ContainerError> {
        self.read("state.json")
    }

    pub(crate) fn write_state(&self, state: &State) -> Result<(), ContainerError> {
        self.write("state.json", state)
    }

    pub(crate) fn exit(&self) -> Result<Option<ExitRecord>, ContainerError> {
        self.read("exit.json")
    }

    pub(crate) fn write_exit(&self, record: &ExitRecord) -> Result<(), ContainerError> {
        self.write("exit.json", record)
    }

    /// Reads a file that is always whole, because it is only ever renamed into place.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ContainerError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| ContainerError::Parse { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ContainerError::Read { path, source }),
        }
    }

    /// Not synced to disk: a container does not survive the machine, so neither need its records.
    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), ContainerError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.{}", std::process::id()));
        let written = serde_json::to_vec(value).map_err(io::Error::from).and_then(|bytes| {
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?.write_all(&bytes)?;
            fs::rename(&temporary, &path)
        });
        written.map_err(|source| ContainerError::Write { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_directory() {
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "a\0", "ü"] {
            assert!(Directory::of(Path::new("/x"), &ContainerId(bad.to_owned())).is_err(), "{bad:?}");
        }
        let good = Directory::of(Path::new("/x"), &ContainerId("pod-1_a.b".to_owned())).unwrap();
        assert_eq!(good.path(), Path::new("/x/pod-1_a.b"));
    }
}
