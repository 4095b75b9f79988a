//! Putting entries in their place: the directory of each is opened without following links, everything else is relative to it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::{ExtractError, ExtractOptions, Links};
use crate::attributes::belongs;
use crate::files::empty_dir;
use crate::tape::reader::{TarEntry, TarReader, show};
use crate::tape::tree::by_descriptor_bytes;

/// Size of the pieces in which content is written.
const WRITE_BYTES: usize = 128 << 10;
/// Overlay's mark of a directory that hides what lies below.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// What a directory is opened for when only names in it matter.
const PATH_DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

type Outcome<T = ()> = Result<T, ExtractError>;

/// The root that is extracted to.
pub(super) struct Place<'a> {
    root: BorrowedFd<'a>,
    pub(super) options: &'a ExtractOptions,
    /// Components of the destination.
    base: Vec<Vec<u8>>,
    /// The directory of the last entry: most entries have the same as the one before.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Times of directories, set when nothing changes in them any more.
    times: Vec<(Vec<u8>, (i64, u32))>,
    buffer: Vec<u8>,
}

impl<'a> Place<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, options: &'a ExtractOptions) -> Outcome<Self> {
        let base = super::canonical(options.destination.as_os_str().as_bytes())?.into_iter().map(<[u8]>::to_vec).collect();
        let mut place = Place { root, options, base, last: None, times: Vec::new(), buffer: vec![0; WRITE_BYTES] };
        place.parent(&[])?;
        Ok(place)
    }

    /// Sets the directories' times, innermost last entries first.
    pub(super) fn finish(mut self) -> Outcome {
        for (path, time) in std::mem::take(&mut self.times).into_iter().rev() {
            let fd = match self.open(&path) {
                // Replaced by something else later in the archive.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                other => other.map_err(|error| ExtractError::open(&path, error))?,
            };
            rustix::fs::utimensat(&fd, c".", &timestamps(time), AtFlags::empty()).map_err(|error| ExtractError::write(&path, error))?;
        }
        Ok(())
    }

    /// An entry for the destination itself.
    pub(super) fn root_entry(&mut self, entry: &TarEntry) -> Outcome {
        if !self.options.root_metadata {
            return Ok(());
        }
        let dir = self.parent(&[])?;
        let here = rustix::fs::openat(&dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let fd = here.map_err(|error| ExtractError::write(&entry.path, error))?;
        self.metadata(&fd, entry)?;
        self.times.push((self.joined(&[]), entry.mtime));
        Ok(())
    }

    pub(super) fn directory(&mut self, parent: &[&[u8]], name: &[u8], entry: &TarEntry) -> Outcome {
        let dir = self.parent(parent)?;
        let mut hides = false;
        if let Err(error) = rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
            self.expect_existing(error, entry)?;
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| ExtractError::write(&entry.path, error))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                hides = is_whiteout(&stat);
                self.remove(&dir, name, entry)?;
                rustix::fs::mkdirat(&dir, name, Mode::RWXU).map_err(|error| ExtractError::write(&entry.path, error))?;
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&dir, name, flags, Mode::empty()).map_err(|error| ExtractError::open(&entry.path, error))?;
        if hides && self.options.whiteouts {
            mark_opaque(&fd, &entry.path)?;
        }
        self.metadata(&fd, entry)?;
        let path = [parent, &[name]].concat();
        self.times.push((self.joined(&path), entry.mtime));
        Ok(())
    }

    pub(super) fn file<R: Read>(&mut self, parent: &[&[u8]], name: &[u8], entry: &TarEntry, tar: &mut TarReader<R>) -> Outcome {
        let dir = self.parent(parent)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = match rustix::fs::openat(&dir, name, flags, mode) {
            Err(error) => {
                self.expect_existing(error, entry)?;
                self.remove(&dir, name, entry)?;
                rustix::fs::openat(&dir, name, flags, mode).map_err(|error| ExtractError::write(&entry.path, error))?
            }
            Ok(fd) => fd,
        };
        let mut file = File::from(fd);
        self.content(&mut file, entry, tar)?;
        self.metadata(&file, entry)?;
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).map_err(|error| ExtractError::write(&entry.path, error))
    }

    fn content<R: Read>(&mut self, file: &mut File, entry: &TarEntry, tar: &mut TarReader<R>) -> Outcome {
        let whole = [(0, entry.size_bytes)];
        let failed = |error: std::io::Error| ExtractError::write(&entry.path, error);
        for (offset, length) in entry.pieces.as_deref().unwrap_or(&whole) {
            if entry.pieces.is_some() {
                file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
            }
            let mut left = *length;
            while left > 0 {
                let want = left.min(WRITE_BYTES as u64) as usize;
                let got = tar.content(&mut self.buffer[..want])?;
                if got == 0 {
                    return Err(super::TarError::Truncated.into());
                }
                file.write_all(&self.buffer[..got]).map_err(failed)?;
                left -= got as u64;
            }
        }
        if entry.pieces.is_some() { file.set_len(entry.size_bytes).map_err(failed) } else { Ok(()) }
    }

    pub(super) fn symlink(&mut self, parent: &[&[u8]], name: &[u8], entry: &TarEntry) -> Outcome {
        if entry.link.is_empty() {
            return Err(ExtractError::Path { path: show(&entry.path), reason: "a symbolic link needs a target" });
        }
        let dir = self.parent(parent)?;
        self.create(&dir, name, entry, |dir| rustix::fs::symlinkat(entry.link.as_slice(), dir, name))?;
        self.metadata_by_name(&dir, name, entry)
    }

    pub(super) fn node(&mut self, parent: &[&[u8]], name: &[u8], entry: &TarEntry) -> Outcome {
        let kind = match entry.kind {
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if kind == FileType::CharacterDevice && entry.device == (0, 0) {
            return Err(ExtractError::Path { path: show(&entry.path), reason: "the character device 0/0 is overlayfs' own mark of a deletion" });
        }
        let dir = self.parent(parent)?;
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        self.create(&dir, name, entry, |dir| rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(entry.mode), device))?;
        self.metadata_by_name(&dir, name, entry)
    }

    pub(super) fn hard_link(&mut self, parent: &[&[u8]], name: &[u8], target: &[&[u8]], entry: &TarEntry) -> Outcome {
        let broken = |error: Errno| ExtractError::LinkTarget { path: show(&entry.path), target: show(&entry.link), source: error.into() };
        let Some(target_name) = target.last() else { return Err(broken(Errno::PERM)) };
        if target[..target.len() - 1] == *parent && *target_name == name {
            return Err(ExtractError::Path { path: show(&entry.path), reason: "it is a hard link to itself" });
        }
        let whole = self.joined(&target[..target.len() - 1]);
        let from = self.open(&whole).map_err(|error| if error == Errno::LOOP { ExtractError::open(&entry.link, error) } else { broken(error) })?;
        let stat = rustix::fs::statat(&from, *target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(broken)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory || is_whiteout(&stat) {
            return Err(broken(Errno::PERM));
        }
        let dir = self.parent(parent)?;
        self.create(&dir, name, entry, |dir| rustix::fs::linkat(&from, *target_name, dir, name, AtFlags::empty()))
    }

    /// A mark that `hidden` below is deleted, or (`.wh..wh..opq`) everything in the directory.
    pub(super) fn whiteout(&mut self, parent: &[&[u8]], hidden: &[u8], path: &[u8]) -> Outcome {
        let dir = self.parent(parent)?;
        if hidden == b".wh..opq" {
            return mark_opaque(&dir_for_attributes(&dir, path)?, path);
        }
        if hidden.starts_with(b".wh.") {
            // Bookkeeping of aufs that some old images carry.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(ExtractError::Path { path: show(path), reason: "it deletes nothing that can have a name" });
        }
        let made = rustix::fs::mknodat(&dir, hidden, FileType::CharacterDevice, Mode::empty(), 0);
        match made {
            // The same layer has that name too: it hides what is below by itself, a directory only when it is opaque.
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(&dir, hidden, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| ExtractError::write(path, error))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    return Ok(());
                }
                let fd = rustix::fs::openat(&dir, hidden, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty());
                mark_opaque(&fd.map_err(|error| ExtractError::open(path, error))?, path)
            }
            other => other.map_err(|error| ExtractError::write(path, error)),
        }
    }

    /// Creates a name; what has it is removed.
    fn create(&mut self, dir: &OwnedFd, name: &[u8], entry: &TarEntry, make: impl Fn(&OwnedFd) -> rustix::io::Result<()>) -> Outcome {
        let Err(error) = make(dir) else { return Ok(()) };
        self.expect_existing(error, entry)?;
        self.remove(dir, name, entry)?;
        make(dir).map_err(|error| ExtractError::write(&entry.path, error))
    }

    fn expect_existing(&self, error: Errno, entry: &TarEntry) -> Outcome {
        if error == Errno::EXIST { Ok(()) } else { Err(ExtractError::write(&entry.path, error)) }
    }

    /// Removes a name with everything below it.
    fn remove(&mut self, dir: &OwnedFd, name: &[u8], entry: &TarEntry) -> Outcome {
        // The directory that is remembered could be one of those that go.
        self.last = None;
        remove_name(dir.as_fd(), name).map_err(|error| ExtractError::write(&entry.path, error))
    }

    /// The directory of an entry; missing ones are made.
    fn parent(&mut self, parts: &[&[u8]]) -> Outcome<OwnedFd> {
        let path = self.joined(parts);
        if let Some((last, fd)) = &self.last
            && *last == path
        {
            return rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|error| ExtractError::write(&path, error));
        }
        let fd = match self.open(&path) {
            Err(Errno::NOENT) => self.make_parents(&path)?,
            other => other.map_err(|error| ExtractError::open(&path, error))?,
        };
        let copy = rustix::io::fcntl_dupfd_cloexec(&fd, 0).map_err(|error| ExtractError::write(&path, error))?;
        self.last = Some((path, copy));
        Ok(fd)
    }

    fn make_parents(&mut self, path: &[u8]) -> Outcome<OwnedFd> {
        let mut at = Vec::new();
        let mut dir = self.open(b".").map_err(|error| ExtractError::open(path, error))?;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(part);
            dir = match self.open(&at) {
                Err(Errno::NOENT) => self.make_implied(&dir, part, &at)?,
                other => other.map_err(|error| ExtractError::open(path, error))?,
            };
        }
        Ok(dir)
    }

    /// Makes a directory that the archive takes for granted: as it is below, or with mode 0755.
    fn make_implied(&self, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Outcome<OwnedFd> {
        let failed = |error: Errno| ExtractError::write(path, error);
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
        let (mode, uid, gid) = match (self.find_below(path), self.options.chown) {
            (Some(found), _) => found,
            (None, Some((uid, gid))) => (0o755, uid, gid),
            (None, None) => (0o755, 0, 0),
        };
        rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(failed)?;
        Ok(fd)
    }

    /// Mode and owner of a directory in the layers below.
    fn find_below(&self, path: &[u8]) -> Option<(u32, u32, u32)> {
        for lower in &self.options.lowers {
            let root = rustix::fs::open(lower, PATH_DIR, Mode::empty()).ok()?;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            if let Ok(fd) = rustix::fs::openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve) {
                let stat = rustix::fs::fstat(&fd).ok()?;
                let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                return directory.then_some((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid));
            }
        }
        None
    }

    /// Opens a directory below the root by its whole path.
    fn open(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let resolve = match self.options.links {
            Links::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
            Links::WithinRoot => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        };
        loop {
            match rustix::fs::openat2(self.root, path, PATH_DIR, Mode::empty(), resolve) {
                // The kernel saw a rename somewhere and asks to try again.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    fn joined(&self, parts: &[&[u8]]) -> Vec<u8> {
        let base = self.base.iter().map(Vec::as_slice);
        base.chain(parts.iter().copied()).collect::<Vec<_>>().join(&b'/')
    }

    /// Owner, mode and attributes, in the order in which none undoes another.
    fn metadata(&self, fd: impl AsFd, entry: &TarEntry) -> Outcome {
        let failed = |error: Errno| ExtractError::write(&entry.path, error);
        let (uid, gid) = self.options.chown.unwrap_or((entry.uid, entry.gid));
        rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode)).map_err(failed)?;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| belongs(name)) {
            tolerate(rustix::fs::fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty()), entry, name)?;
        }
        Ok(())
    }

    /// The same for what cannot be opened without effect.
    fn metadata_by_name(&self, dir: &OwnedFd, name: &[u8], entry: &TarEntry) -> Outcome {
        let failed = |error: Errno| ExtractError::write(&entry.path, error);
        let (uid, gid) = self.options.chown.unwrap_or((entry.uid, entry.gid));
        rustix::fs::chownat(dir, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if entry.kind != EntryType::Symlink {
            // Just made here and no link, in a directory that only we write to.
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty()).map_err(failed)?;
        }
        for (attribute, value) in entry.xattrs.iter().filter(|(attribute, _)| belongs(attribute)) {
            let path = by_descriptor_bytes(dir.as_fd(), name);
            tolerate(rustix::fs::lsetxattr(path.as_slice(), attribute.as_slice(), value, XattrFlags::empty()), entry, attribute)?;
        }
        rustix::fs::utimensat(dir, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }
}

/// A file system without such attributes is no reason to refuse an image.
fn tolerate(outcome: rustix::io::Result<()>, entry: &TarEntry, name: &[u8]) -> Outcome {
    match outcome {
        Err(Errno::NOTSUP) => {
            tracing::warn!(path = show(&entry.path), attribute = show(name), "the file system cannot keep an extended attribute");
            Ok(())
        }
        other => other.map_err(|error| ExtractError::write(&entry.path, error)),
    }
}

fn timestamps(time: (i64, u32)) -> Timestamps {
    let last_modification = Timespec { tv_sec: time.0, tv_nsec: i64::from(time.1) };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn dir_for_attributes(dir: &OwnedFd, path: &[u8]) -> Outcome<OwnedFd> {
    rustix::fs::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| ExtractError::write(path, error))
}

fn mark_opaque(fd: &OwnedFd, path: &[u8]) -> Outcome {
    rustix::fs::fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty()).map_err(|error| ExtractError::write(path, error))
}

/// Removes a name and, when it is a directory, what is in it; links are removed, not followed.
fn remove_name(dir: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other.map_err(Into::into),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    empty_dir(&rustix::fs::openat(dir, name, flags, Mode::empty())?)?;
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    Ok(())
}
