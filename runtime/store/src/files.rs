//! Durable writes and locks on files: everything becomes visible by one rename.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, SeekFrom, flock};
use rustix::io::Errno;

use crate::error::{Result, reading, removing, writing};
use crate::tape::tree::sorted_names;

/// Levels that are removed at once, a descriptor each.
const REMOVE_DEPTH: usize = 100;

/// Creates a directory that only its owner may enter, unless it exists.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(writing(path)),
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).map_err(reading(path))?.sync_all().map_err(writing(path))
}

/// Whether a write must survive a power cut before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Synced, then renamed, then the directory synced.
    Synced,
    /// Renamed only: for records that carry their own checksum and can be made again.
    Renamed,
}

/// Replaces `target` by `bytes` in one step, by way of `temporary` on the same file system.
pub(crate) fn replace(temporary: &Path, target: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let outcome = write_and_rename(temporary, target, bytes, durability);
    if outcome.is_err() {
        let _ = std::fs::remove_file(temporary);
    }
    outcome
}

fn write_and_rename(temporary: &Path, target: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let mut file = create(temporary)?;
    file.write_all(bytes).map_err(writing(target))?;
    if durability == Durability::Synced {
        file.sync_all().map_err(writing(target))?;
    }
    std::fs::rename(temporary, target).map_err(writing(target))?;
    match target.parent() {
        Some(parent) if durability == Durability::Synced => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Creates a new private file.
pub(crate) fn create(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(writing(path))
}

/// A file's bytes, or nothing when it does not exist.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(reading(path)(error)),
    }
}

/// Removes a directory with everything in it, however deep; one that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let top = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(removing(path))?,
    };
    empty_dir(&top).map_err(removing(path))?;
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(removing(path)),
    }
}

/// Removes everything in a directory, following nothing.
pub(crate) fn empty_dir(top: &OwnedFd) -> io::Result<()> {
    let mut lifted = 0;
    while empty(top, top, 0, &mut lifted)? {
        // Another round reads the directory from its start.
        rustix::fs::seek(top, SeekFrom::Start(0))?;
    }
    Ok(())
}

/// Empties a directory. What lies too deep to hold a descriptor for every level is lifted to the top, for another round: says whether there
/// was such.
fn empty(top: &OwnedFd, dir: &OwnedFd, depth: usize, lifted: &mut u64) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut again = false;
    for name in sorted_names(dir)? {
        match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        }
        if depth == REMOVE_DEPTH {
            *lifted += 1;
            rustix::fs::renameat(dir, &name, top, format!(".strake-lifted-{lifted}"))?;
            again = true;
            continue;
        }
        let child = rustix::fs::openat(dir, &name, flags, Mode::empty())?;
        again |= empty(top, &child, depth + 1, lifted)?;
        rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(again)
}

/// A held `flock`; released when dropped, or when the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of the file at `path`, which is created when missing.
    pub(crate) fn hold(path: &Path, operation: FlockOperation) -> Result<Self> {
        let file = lock_file(path)?;
        loop {
            match flock(&file, operation) {
                Err(Errno::INTR) => {}
                other => break other.map_err(writing(path))?,
            }
        }
        Ok(Lock { _file: file })
    }

    /// Takes the lock if nobody holds it against us now.
    pub(crate) fn try_hold(path: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        let file = lock_file(path)?;
        match flock(&file, operation) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(writing(path)(error)),
        }
    }
}

fn lock_file(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(writing(path))
}
