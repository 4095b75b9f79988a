//! Mounting by file descriptor. Paths of an image are opened inside its root and never walked again as text, so nothing in the image (nor another
//! container that shares a volume with it) can move a mount elsewhere.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::failure::{Doing, Failure};

/// Attributes that make a mount unable to hold usable device nodes, set-uid programs, or programs.
pub(crate) const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// How many links a path may lead through: the kernel's own limit.
const MAX_LINKS: usize = 40;

/// A new file system, mounted nowhere yet.
pub(crate) fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of the mount at a path, mounted nowhere yet. With an empty path it is the directory or file of the descriptor itself.
pub(crate) fn copy(at: impl AsFd, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    Ok(rustix::mount::open_tree(at, path, flags)?)
}

/// Mounts what `copy` or `new` gave onto an open directory or file.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// Gives the root of a mount that is attached nowhere the mode of the directory it will cover.
pub(crate) fn same_mode(covered: impl AsFd, mount: impl AsFd) -> io::Result<()> {
    let mode = rustix::fs::fstat(covered)?.st_mode & 0o7777;
    let root = rustix::fs::openat(mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fchmod(root, Mode::from_raw_mode(mode))?)
}

/// Adds attributes to a mount (and to those below it).
pub(crate) fn set_attributes(mount: impl AsFd, attributes: MountAttrFlags, recursive: bool) -> io::Result<()> {
    /// `struct mount_attr` of the kernel.
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attr = MountAttr { set: attributes.bits().into(), clear: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is open for the call, the path is a valid empty C string, and the structure has the size that is passed.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, mount.as_fd().as_raw_fd(), c"".as_ptr(), flags, &raw const attr, std::mem::size_of::<MountAttr>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Opens a path as the root file system sees it: absolute links and `..` stay inside.
pub(crate) fn open_in_root(root: impl AsFd, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, if path.is_empty() { "." } else { path }, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Opens a path below a directory without following any link.
pub(crate) fn open_plain(at: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(at, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// What is mounted decides what it is mounted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

impl Kind {
    /// Of an open file or mount.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(fd)?;
        Ok(if FileType::from_raw_mode(stat.st_mode) == FileType::Directory { Kind::Directory } else { Kind::File })
    }
}

/// A root file system being furnished.
#[derive(Debug)]
pub(crate) struct Root {
    /// Its topmost directory.
    pub fd: OwnedFd,
    /// What had to be made to mount on, as absolute paths inside, parents first.
    pub stubs: Vec<String>,
}

impl Root {
    /// Opens the place to mount on; what is missing is made (directories 0755, an empty file 0644) and remembered. Links are followed as the root
    /// file system sees them, also those to what does not exist yet.
    pub(crate) fn target(&mut self, path: &str, kind: Kind) -> Result<OwnedFd, Failure> {
        let found = match open_in_root(&self.fd, &clean(path), OFlags::PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.walk(path, kind),
            opened => opened,
        };
        check_kind(found.doing_to("make the mount point", &path)?, path, kind)
    }

    /// Goes down one name at a time, each opened in the directory before it and never through a link; links are put in front of the names to come.
    fn walk(&mut self, path: &str, kind: Kind) -> io::Result<OwnedFd> {
        let mut names: VecDeque<String> = clean(path).split('/').map(str::to_owned).collect();
        let mut way = vec![self.fd.try_clone()?];
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            let Some(parent) = way.last() else { break };
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    way.truncate((way.len() - 1).max(1));
                    continue;
                }
                _ => {}
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = match rustix::fs::openat(parent, name.as_str(), flags, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) => {
                    let kind = if names.is_empty() { kind } else { Kind::Directory };
                    let parent = parent.try_clone()?;
                    self.make(&parent, &name, kind)?
                }
                opened => opened?,
            };
            if FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) != FileType::Symlink {
                way.push(next);
                continue;
            }
            links += 1;
            if links > MAX_LINKS || rustix::fs::fstatfs(&next)?.f_type == libc::PROC_SUPER_MAGIC {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let link = rustix::fs::readlinkat(&next, "", Vec::new())?.to_string_lossy().into_owned();
            if link.starts_with('/') {
                way.truncate(1);
            }
            link.split('/').rev().for_each(|name| names.push_front(name.to_owned()));
        }
        way.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes one file or directory, which must not be there.
    fn make(&mut self, parent: &OwnedFd, name: &str, kind: Kind) -> io::Result<OwnedFd> {
        match kind {
            Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                drop(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        let made = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if let (Ok(path), Ok(root)) = (path_of(&made), path_of(&self.fd)) {
            self.stubs.push(path.strip_prefix(root.trim_end_matches('/')).unwrap_or(&path).to_owned());
        }
        Ok(made)
    }

    /// One of the system's own directories (`dev`, `proc`, `sys`): a link in its place is refused, missing ones are made.
    pub(crate) fn system_directory(&mut self, name: &str) -> Result<OwnedFd, Failure> {
        let opened = match open_plain(&self.fd, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(&self.fd.try_clone().doing("duplicate a descriptor")?, name, Kind::Directory),
            opened => opened,
        };
        match opened {
            Ok(fd) if Kind::of(&fd).doing("inspect a directory")? == Kind::Directory => Ok(fd),
            Ok(_) => Err(Failure::new(format!("/{name} of the image is no directory"))),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Err(Failure::new(format!("/{name} of the image is a symbolic link"))),
            Err(error) => Err(error).doing_to("open the image's", &format!("/{name}")),
        }
    }
}

/// The path that the kernel gives an open file, as this process sees it.
fn path_of(fd: &OwnedFd) -> io::Result<String> {
    let link = rustix::fs::readlinkat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    Ok(link.to_string_lossy().into_owned())
}

fn check_kind(found: OwnedFd, path: &str, kind: Kind) -> Result<OwnedFd, Failure> {
    let is = Kind::of(&found).doing_to("inspect the mount point", &path)?;
    let filesystem = rustix::fs::fstatfs(&found).doing_to("inspect the mount point", &path)?;
    if filesystem.f_type == libc::PROC_SUPER_MAGIC {
        return Err(Failure::new(format!("the mount point {path} is inside /proc")));
    }
    match (is, kind) {
        (Kind::Directory, Kind::File) => Err(Failure::new(format!("the mount point {path} is a directory, and what is to be mounted is a file"))),
        (Kind::File, Kind::Directory) => Err(Failure::new(format!("the mount point {path} is a file, and what is to be mounted is a directory"))),
        _ => Ok(found),
    }
}

/// A path without leading `/`, `.`, `..` and doubled slashes, by its text alone.
pub(crate) fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_text() {
        for (path, cleaned) in [("/", ""), ("/a//b/./c", "a/b/c"), ("/../../a", "a"), ("/a/../b", "b"), ("a/..", "")] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn targets_are_made_inside_and_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        let inside = dir.path().join("root");
        std::fs::create_dir_all(inside.join("run")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink("/run", inside.join("var")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("escape")).unwrap();
        let fd = rustix::fs::open(&inside, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut root = Root { fd, stubs: Vec::new() };
        root.target("/var/secrets/token", Kind::File).unwrap();
        root.target("/data", Kind::Directory).unwrap();
        assert_eq!(root.stubs, ["/run/secrets", "/run/secrets/token", "/data"]);
        assert!(inside.join("run/secrets/token").is_file());
        assert!(root.target("/data", Kind::File).unwrap_err().text.contains("is a directory"));
        // A link to a host path means a path inside, as it will to the container.
        root.target("/escape/x", Kind::Directory).unwrap();
        assert!(inside.join(outside.strip_prefix("/").unwrap()).join("x").is_dir());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        std::os::unix::fs::symlink("loop", inside.join("loop")).unwrap();
        std::os::unix::fs::symlink("../../../new/place", inside.join("run/up")).unwrap();
        assert!(root.target("/loop/x", Kind::Directory).is_err());
        root.target("/run/up", Kind::File).unwrap();
        assert!(inside.join("new/place").is_file());
        assert!(root.system_directory("escape").unwrap_err().text.contains("symbolic link"));
        root.system_directory("proc").unwrap();
        assert_eq!(root.stubs.last().map(String::as_str), Some("/proc"));
    }
}
