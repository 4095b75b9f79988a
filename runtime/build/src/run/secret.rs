//! Secrets of a build: values that only this process's memory, memory files without a name and the tmpfs of one step hold.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};
use strake_container::SecretMount;
use strake_plan::{Mount, MountKind};

use crate::StepError;

/// A secret's value. It is never printed, compared or serialised.
#[derive(Clone)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    /// Takes a value.
    pub fn new(value: Vec<u8>) -> Self {
        SecretValue(value.into())
    }

    /// The value, for whoever needs it itself: it must go nowhere else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// What the container is told of a secret: the memory file that holds the value lives as long as this.
pub(crate) struct Shown {
    pub mount: SecretMount,
    _value: File,
}

/// Makes a secret readable for the container that is about to be made, and only there.
pub(crate) fn show(mount: &Mount, value: &SecretValue) -> Result<Option<Shown>, StepError> {
    let MountKind::Secret { id, env, mode, uid, gid, .. } = &mount.kind else { return Ok(None) };
    let failed = |source: std::io::Error| StepError::KeepSecret { id: id.clone(), source };
    let fd = memfd_create("secret", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut file = File::from(fd);
    file.write_all(&value.0).map_err(failed)?;
    let source = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    let mount = SecretMount { source, target: mount.target.clone(), env: env.clone(), mode: *mode, uid: *uid, gid: *gid };
    Ok(Some(Shown { mount, _value: file }))
}

#[cfg(test)]
mod tests {
    use super::SecretValue;

    #[test]
    fn a_secret_does_not_print_itself() {
        assert!(!format!("{:?}", SecretValue::new(b"hunter2".to_vec())).contains("hunter2"));
    }
}
