//! A directory that paths are looked up in and never leave: every look-up goes by file descriptor, no symbolic link is followed by the kernel.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// How many symbolic links a path may lead through: the kernel's own limit.
const MAX_LINKS: usize = 40;

/// The root of a tree. Paths given to it are relative, `/`-separated, and empty for the root itself.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// Where a path leads.
#[derive(Debug)]
pub struct Resolved {
    /// The path without symbolic links, `.` and `..`; parts that do not exist stand at its end as written.
    pub path: PathBuf,
    /// What is there; `None` when nothing is.
    pub stat: Option<Stat>,
}

/// What to do with a symbolic link at the very end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// Look at what it leads to.
    Follow,
    /// Look at the link.
    Keep,
}

impl Root {
    /// Opens a directory of this machine.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Root { fd })
    }

    /// Takes an open directory or mount.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Root { fd }
    }

    /// The root's own descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a path that holds no symbolic links. A link at its end is an error (ELOOP), unless `flags` ask for the link itself.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_below(self.fd.as_fd(), path, flags)
    }

    /// Opens a directory for reading.
    pub fn open_dir(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the regular file at a path for reading; anything else there is an error.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        open_regular(self.fd.as_fd(), path)
    }

    /// What is at a path that holds no symbolic links before its end; `None` when nothing is.
    pub fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match self.open_at(path, OFlags::PATH) {
            Ok(fd) => Ok(Some(rustix::fs::fstat(fd)?)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The text of the symbolic link at a path.
    pub fn read_link(&self, path: &Path) -> io::Result<OsString> {
        let fd = self.open_at(path, OFlags::PATH)?;
        let text = rustix::fs::readlinkat(fd, c"", Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()))
    }

    /// Follows a path as a process rooted here would.
    ///
    /// # Errors
    /// ENOTDIR when something that is no directory stands in the middle, ELOOP for a circle of links.
    pub fn resolve(&self, path: &Path, last: LastLink) -> io::Result<Resolved> {
        self.resolve_visible(path, last, &|_| true)
    }

    /// The same, where paths for which `visible` is false do not exist.
    pub fn resolve_visible(&self, path: &Path, last: LastLink, visible: &dyn Fn(&Path) -> bool) -> io::Result<Resolved> {
        let mut todo: VecDeque<OsString> = names(path.as_os_str());
        let mut found = PathBuf::new();
        let mut stat = Some(rustix::fs::fstat(&self.fd)?);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                found.pop();
                stat = self.stat(&found)?;
                continue;
            }
            if stat.as_ref().is_some_and(|stat| kind(stat) != FileType::Directory) {
                return Err(Errno::NOTDIR.into());
            }
            let candidate = found.join(&name);
            let here = if stat.is_some() && visible(&candidate) { self.stat(&candidate)? } else { None };
            let is_link = here.as_ref().is_some_and(|stat| kind(stat) == FileType::Symlink);
            if is_link && (last == LastLink::Follow || !todo.is_empty()) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = self.read_link(&candidate)?;
                if target.as_bytes().first() == Some(&b'/') {
                    found.clear();
                }
                names(&target).into_iter().rev().for_each(|name| todo.push_front(name));
                stat = self.stat(&found)?;
                continue;
            }
            found = candidate;
            stat = here;
        }
        Ok(Resolved { path: found, stat })
    }
}

/// What kind of file a stat is of.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Permission bits with setuid, setgid and sticky.
pub fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// The regular file at a path below `dir`; anything else there is an error. Never blocks on a pipe.
pub fn open_regular(dir: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let fd = open_below(dir, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    match kind(&rustix::fs::fstat(&fd)?) {
        FileType::RegularFile => Ok(File::from(fd)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

fn open_below(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere on the machine can make the kernel unsure whether a path stayed below; it asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// The names in a path, without empty ones and `.`.
fn names(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

/// A path as if it were written at the root: no leading `/`, no `.`, and `..` goes up to the root at most.
pub fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn resolved(root: &Root, path: &str) -> (String, bool) {
        let found = root.resolve(Path::new(path), LastLink::Follow).unwrap();
        (found.path.to_string_lossy().into_owned(), found.stat.is_some())
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        fs::write(dir.path().join("usr/lib/a"), "a").unwrap();
        symlink("usr/lib", dir.path().join("lib")).unwrap();
        symlink("/usr", dir.path().join("abs")).unwrap();
        symlink("../../../../../etc", dir.path().join("up")).unwrap();
        symlink("nowhere/x", dir.path().join("dangling")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(resolved(&root, "lib/a"), ("usr/lib/a".into(), true));
        assert_eq!(resolved(&root, "/abs/lib/../lib/./a"), ("usr/lib/a".into(), true));
        assert_eq!(resolved(&root, "up/passwd"), ("etc/passwd".into(), false));
        assert_eq!(resolved(&root, "dangling"), ("nowhere/x".into(), false));
        assert_eq!(resolved(&root, "dangling/../y"), ("nowhere/y".into(), false));
        assert_eq!(resolved(&root, "../.."), (String::new(), true));
        assert_eq!(root.resolve(Path::new("loop"), LastLink::Follow).unwrap_err().raw_os_error(), Some(40));
        assert_eq!(root.resolve(Path::new("usr/lib/a/b"), LastLink::Follow).unwrap_err().raw_os_error(), Some(20));
        let kept = root.resolve(Path::new("dangling"), LastLink::Keep).unwrap();
        assert!(kept.stat.is_some() && kept.path == Path::new("dangling"));
    }

    #[test]
    fn paths_are_cleaned_as_if_rooted() {
        assert_eq!(clean(Path::new("../a/./b//c/../d/")), Path::new("a/b/d"));
        assert_eq!(clean(Path::new("/")), Path::new(""));
    }
}
