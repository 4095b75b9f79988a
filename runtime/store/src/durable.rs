//! Making trees of files survive a power cut, with as little writing as that takes.
//!
//! A sync of the whole file system also writes what other programs, and steps whose layers nobody keeps, have in memory: after a build of some hundred
//! megabytes that is most of the wait. So files are synced one by one while they are few.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::OFlags;

use crate::error::{Result, StoreError, reading, writing};

/// So many files and directories are synced one by one; more are faster by a sync of the file system.
const FEW: usize = 1_000;
/// Syncs that wait at the same time: the kernel makes one flush of the disk's cache for all of them.
const AT_ONCE: usize = 16;

/// Syncs everything below these directories, and the directories.
///
/// `root` is on the same file system. Nothing may write to the trees meanwhile.
pub(crate) fn sync_trees(root: &Path, trees: &[PathBuf]) -> Result<()> {
    // What cannot be listed or opened, for a path too long for one, is as well synced as a whole. A failed sync is final: the next one would not say so.
    let synced = list(trees, FEW).unwrap_or_default().map(|found| sync_all(&found));
    match synced {
        Some(outcome) if !matches!(outcome, Err(StoreError::Read { .. })) => outcome,
        _ => {
            let root_dir = File::open(root).map_err(reading(root))?;
            rustix::fs::syncfs(&root_dir).map_err(writing(root))
        }
    }
}

/// Syncs files and directories, many at the same time.
pub(crate) fn sync_all<P: AsRef<Path> + Sync>(paths: &[P]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            sync(path.as_ref())?;
        }
        Ok(())
    };
    let panicked = |_| StoreError::Write { path: PathBuf::new(), source: io::Error::other("a thread that syncs files panicked") };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..AT_ONCE.min(paths.len())).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().map(|thread| thread.join().map_err(panicked)?).fold(own, Result::and)
    })
}

fn sync(path: &Path) -> Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(path).map_err(reading(path))?;
    file.sync_all().map_err(writing(path))
}

/// Every file and directory of the trees, or nothing when they are more than `most`, or when there is what cannot be opened to sync it: a device's or a
/// pipe's own metadata. A symbolic link is an entry of its directory.
fn list(trees: &[PathBuf], most: usize) -> io::Result<Option<Vec<PathBuf>>> {
    let mut found: Vec<PathBuf> = trees.to_vec();
    let mut open = trees.to_vec();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                continue;
            }
            if found.len() >= most || !(kind.is_dir() || kind.is_file()) {
                return Ok(None);
            }
            if kind.is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    // What a directory names is written before the directory.
    found.reverse();
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{FEW, list, sync_trees};

    #[test]
    fn every_file_and_directory_is_listed_and_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::create_dir_all(one.join("deep/er")).unwrap();
        std::fs::create_dir(&two).unwrap();
        std::fs::write(one.join("deep/er/file"), "x").unwrap();
        symlink("/etc/passwd", one.join("link")).unwrap();
        let mut found = list(&[one.clone(), two.clone()], 10).unwrap().unwrap();
        found.sort();
        assert_eq!(found, [one.clone(), one.join("deep"), one.join("deep/er"), one.join("deep/er/file"), two.clone()]);
        sync_trees(dir.path(), &[one, two]).unwrap();
    }

    #[test]
    fn many_files_and_special_ones_are_left_to_a_sync_of_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        for name in 0..5 {
            std::fs::write(tree.join(name.to_string()), "x").unwrap();
        }
        let trees = [tree.clone()];
        assert!(list(&trees, 5).unwrap().is_none());
        assert!(list(&trees, 6).unwrap().is_some());
        nix::unistd::mkfifo(&tree.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(list(&trees, FEW).unwrap().is_none());
        sync_trees(dir.path(), &[tree, dir.path().join("missing")]).unwrap();
    }
}
