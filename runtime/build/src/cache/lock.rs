//! One build at a time for one key, across threads and processes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::{CancelFlag, StepError};

/// How long to wait before looking again: short at first, for most waits are.
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A held lock; its file goes with it.
#[derive(Debug)]
pub(crate) struct KeyLock {
    path: PathBuf,
    _file: File,
}

impl KeyLock {
    /// Takes the lock, or waits until its holder is gone (in whatever way) or the flag is raised.
    pub(crate) fn wait(path: &Path, cancel: &CancelFlag) -> Result<Self, StepError> {
        let mut pause = PAUSE;
        loop {
            if cancel.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>, StepError> {
        let failed = |source: io::Error| StepError::Write { path: path.to_owned(), source };
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        }
        // The holder before us removed the name: what we hold now is nobody's lock.
        let ours = file.metadata().map_err(failed)?;
        match fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => Ok(Some(KeyLock { path: path.to_owned(), _file: file })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Before the lock is released with the file: so that no other can hold this name now.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_holder_at_a_time_and_no_file_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (inside, total) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _lock = KeyLock::wait(&path, &CancelFlag::new()).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        total.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::SeqCst), 80);
        assert!(!path.exists());
    }

    #[test]
    fn waiting_ends_when_the_build_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = KeyLock::wait(&path, &CancelFlag::new()).unwrap();
        let flag = CancelFlag::new();
        flag.cancel();
        assert!(matches!(KeyLock::wait(&path, &flag), Err(StepError::Cancelled)));
    }
}
