//! Everything below a directory, sorted, in parallel.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};

use super::{Entry, Root};

/// Deeper trees are refused: they exist only to exhaust whoever walks them.
const MAX_DEPTH: usize = 500;
/// Entries of a directory that are looked into at once.
const AT_ONCE: usize = 256;

/// What a walk does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Takes it.
    Take,
    /// Leaves it and everything below it.
    Leave,
    /// Leaves it unless something below it is taken.
    LookBelow,
}

/// What a walk needs at every level.
struct Walk<'a> {
    judge: &'a (dyn Fn(&Path, &Path, bool) -> Verdict + Sync),
}

/// Lists what is below the directory `start` (which is not in the list), directories before what they hold, names in the order of their bytes.
///
/// `judge` is asked for each file with its path from the root, its path from `start`, and whether it is a directory.
pub fn walk(root: &Root, start: &Path, judge: &(dyn Fn(&Path, &Path, bool) -> Verdict + Sync)) -> io::Result<Vec<Entry>> {
    let dir = root.open_dir(start).map_err(|error| named(start, error.into()))?;
    let mut entries = Vec::new();
    Walk { judge }.directory(dir, (start, Path::new("")), 0, &mut entries)?;
    Ok(entries)
}

/// An I/O error that says which file it is about.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("/{}: {error}", path.display()))
}

impl Walk<'_> {
    /// Adds what is below a directory, which is named by its path from the root and from the start.
    fn directory(&self, dir: OwnedFd, (path, relative): (&Path, &Path), depth: usize, out: &mut Vec<Entry>) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(named(path, io::Error::new(io::ErrorKind::InvalidInput, format!("nested deeper than {MAX_DEPTH} directories"))));
        }
        let mut below = Vec::new();
        for name in names(dir.as_fd()).map_err(|error| named(path, error))? {
            if let Some(found) = self.look(dir.as_fd(), &name, path, relative)? {
                below.push(found);
            }
        }
        if below.iter().filter(|(entry, _)| entry.is_dir()).count() < 2 {
            return below.into_iter().try_for_each(|found| self.expand(dir.as_fd(), found, depth, out));
        }
        let expand = |found: (Entry, Verdict)| {
            let mut list = Vec::new();
            self.expand(dir.as_fd(), found, depth, &mut list).map(|()| list)
        };
        let mut below = below.into_iter();
        // Some at a time: what they give is never held twice for the whole tree.
        loop {
            let some: Vec<(Entry, Verdict)> = below.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                return Ok(());
            }
            let lists: Vec<Vec<Entry>> = some.into_par_iter().map(expand).collect::<io::Result<_>>()?;
            lists.into_iter().for_each(|list| out.extend(list));
        }
    }

    /// Adds a directory's entry with all below it; anything else as it is.
    fn expand(&self, dir: BorrowedFd<'_>, (entry, verdict): (Entry, Verdict), depth: usize, out: &mut Vec<Entry>) -> io::Result<()> {
        if !entry.is_dir() {
            out.push(entry);
            return Ok(());
        }
        let name = entry.path.file_name().unwrap_or_default();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|error| named(&entry.path, error.into()))?;
        let (path, relative, place) = (entry.path.clone(), entry.relative.clone(), out.len());
        out.push(entry);
        self.directory(inner, (&path, &relative), depth + 1, out)?;
        if verdict == Verdict::LookBelow {
            if out.len() == place + 1 {
                out.pop();
            } else {
                out[place].implied = true;
            }
        }
        Ok(())
    }

    fn look(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, relative: &Path) -> io::Result<Option<(Entry, Verdict)>> {
        let (path, relative) = (join(path, name), join(relative, name));
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed between the listing and now: as if it had never been there.
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(named(&path, error.into())),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let verdict = (self.judge)(&path, &relative, kind == FileType::Directory);
        if verdict == Verdict::Leave || (verdict == Verdict::LookBelow && kind != FileType::Directory) {
            return Ok(None);
        }
        let link = match kind {
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|error| named(&path, error.into()))?;
                OsString::from_vec(text.into_bytes())
            }
            _ => OsString::new(),
        };
        Ok(Some((Entry::new(path, relative, &stat, link), verdict)))
    }
}

/// The names in a directory, in the order of their bytes.
pub fn list(root: &Root, path: &Path) -> io::Result<Vec<OsString>> {
    let dir = root.open_dir(path).map_err(|error| named(path, error.into()))?;
    names(dir.as_fd()).map_err(|error| named(path, error))
}

/// `Path::join` for a plain name, without a second look at it.
fn join(path: &Path, name: &OsStr) -> PathBuf {
    let mut joined = OsString::with_capacity(path.as_os_str().len() + 1 + name.len());
    joined.push(path);
    if !joined.is_empty() {
        joined.push("/");
    }
    joined.push(name);
    joined.into()
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut list = RawDir::new(dir, &mut buffer);
    while let Some(entry) = list.next() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if name != c"." && name != c".." {
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
