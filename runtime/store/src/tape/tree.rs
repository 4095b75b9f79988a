//! A layer's directory tree as one canonical tar: sorted entries, numeric owners, one time for all, overlay marks turned into whiteouts.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, UTIME_OMIT};
use tar::EntryType;

use super::header::{BLOCK, Entry, pad};
use crate::attributes::{self, Attributes};
use crate::error::{Result, StoreError, reading, writing};

/// Directories below one another that are walked or made: each costs an open descriptor, of which a process may have as few as a thousand.
pub(crate) const MAX_DEPTH: usize = 500;
/// Size of the pieces in which files are read.
const READ_BYTES: usize = 128 << 10;

/// Metadata of a root directory; a layer says it only when it differs from what lies below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootMetadata {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl RootMetadata {
    /// What an image without any layer has.
    pub(crate) const DEFAULT: RootMetadata = RootMetadata { mode: 0o755, uid: 0, gid: 0 };

    pub(crate) fn of(path: &Path) -> Result<Self> {
        let stat = rustix::fs::stat(path).map_err(reading(path))?;
        Ok(RootMetadata { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid })
    }
}

/// The times of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// The same for all, in seconds since 1970: what layers have.
    All(i64),
    /// Each its own, without the fraction.
    Kept,
}

impl Times {
    fn of(self, stat: &Stat) -> i64 {
        match self {
            Times::All(mtime) => mtime,
            Times::Kept => stat.st_mtime,
        }
    }

    /// For what has no file of its own.
    fn fixed(self) -> i64 {
        if let Times::All(mtime) = self { mtime } else { 0 }
    }
}

/// How a tree is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TreeOptions {
    /// What entries have as time.
    pub times: Times,
    /// Whether the files on disk get that time too.
    pub stamp: bool,
    /// The root's metadata below this layer.
    pub below: RootMetadata,
}

/// Writes the tree at `root` with its two closing blocks.
pub(crate) fn write_tree(root: &Path, options: TreeOptions, out: &mut impl Write) -> Result<()> {
    write_varied(root, None, options, out)
}

/// The same of a tree that lies over another one, as overlayfs shows the two: what is in both comes from `root`. Nothing of the other is stamped.
pub(crate) fn write_varied(root: &Path, over: Option<&Path>, options: TreeOptions, out: &mut impl Write) -> Result<()> {
    let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(reading(path));
    let (fd, over) = (open(root)?, over.map(open).transpose()?);
    let mut walk = Walk { root, options, out, links: HashMap::new(), buffer: vec![0; READ_BYTES], path: Vec::new(), side: Side::Top };
    walk.root(&fd)?;
    walk.below(Dirs { top: Some(fd), over })?;
    walk.out.write_all(&[0; 2 * BLOCK]).map_err(writing(root))
}

struct Walk<'a, W> {
    root: &'a Path,
    options: TreeOptions,
    out: &'a mut W,
    /// The first path of every file with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    /// Of the entry at hand, relative to the root.
    path: Vec<u8>,
    /// Where the entry at hand is from.
    side: Side,
}

/// How a directory is opened.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// A directory of the tree, of the one that it lies over, or of both.
struct Dirs {
    top: Option<OwnedFd>,
    over: Option<OwnedFd>,
}

/// Which of the two something is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Top,
    Over,
}

impl Dirs {
    fn of(&self, side: Side) -> Option<&OwnedFd> {
        match side {
            Side::Top => self.top.as_ref(),
            Side::Over => self.over.as_ref(),
        }
    }

    /// The names in both, each once, in the order of their bytes.
    fn names(&self) -> io::Result<Vec<(CString, Side)>> {
        let of = |side: Side| -> io::Result<Vec<(CString, Side)>> {
            let names = self.of(side).map_or(Ok(Vec::new()), sorted_names)?;
            Ok(names.into_iter().map(|name| (name, side)).collect())
        };
        let mut names = of(Side::Top)?;
        if self.over.is_some() {
            names.extend(of(Side::Over)?);
            // Stable: of two equal names the top's comes first and stays.
            names.sort_by(|one, other| one.0.cmp(&other.0));
            names.dedup_by(|later, first| later.0 == first.0);
        }
        Ok(names)
    }
}

/// A directory on the way down.
struct Level {
    dirs: Dirs,
    names: std::vec::IntoIter<(CString, Side)>,
    /// Length of the directory's own path, its slash included.
    path_bytes: usize,
}

impl<W: Write> Walk<'_, W> {
    fn root(&mut self, fd: &OwnedFd) -> Result<()> {
        let stat = rustix::fs::fstat(fd).map_err(reading(self.root))?;
        let attributes = self.attributes(attributes::of_fd(fd.as_fd()))?;
        let metadata = RootMetadata { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid };
        if metadata != self.options.below || !attributes.kept.is_empty() {
            let mut entry = Entry::new(b"./".to_vec(), EntryType::Directory, metadata.mode, (metadata.uid, metadata.gid), self.options.times.of(&stat));
            entry.xattrs = attributes.kept;
            self.emit(&entry)?;
        }
        Ok(())
    }

    /// Everything below a directory. Not recursive: how deep it goes is for the tree to say, not for the stack.
    fn below(&mut self, root: Dirs) -> Result<()> {
        let mut levels = vec![self.level(root)?];
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_bytes);
            let Some((name, side)) = level.names.next() else {
                if let Some(top) = &level.dirs.top {
                    self.side = Side::Top;
                    self.stamp(top.as_fd(), c".", AtFlags::empty())?;
                }
                levels.pop();
                continue;
            };
            self.path.extend_from_slice(name.to_bytes());
            self.side = side;
            if let Some(below) = self.child(&level.dirs, &name)? {
                if levels.len() > MAX_DEPTH {
                    return Err(StoreError::TooDeep { path: self.root.to_owned(), limit: MAX_DEPTH });
                }
                levels.push(self.level(below)?);
            }
        }
        Ok(())
    }

    /// A directory whose path is at hand, with its entries by name.
    fn level(&self, dirs: Dirs) -> Result<Level> {
        let names = dirs.names().map_err(|error| reading(&self.here())(error))?;
        Ok(Level { dirs, names: names.into_iter(), path_bytes: self.path.len() })
    }

    /// Writes one entry; gives a directory, whose entries come next.
    fn child(&mut self, dirs: &Dirs, name: &CStr) -> Result<Option<Dirs>> {
        let Some(dir) = dirs.of(self.side) else { return Ok(None) };
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| reading(&self.here())(error))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            return self.whiteout(name).map(|()| None);
        }
        if name.to_bytes().starts_with(b".wh.") {
            return Err(StoreError::ReservedName { path: self.here() });
        }
        if kind == FileType::Directory {
            return self.directory(dirs, dir, name, &stat).map(Some);
        }
        if kind == FileType::Socket || (stat.st_nlink > 1 && self.hard_link(&stat)?) {
            return Ok(None);
        }
        let written = match kind {
            FileType::RegularFile => self.file(dir, name, &stat),
            FileType::Symlink => self.symlink(dir, name, &stat),
            FileType::CharacterDevice => self.node(dir, name, &stat, EntryType::Char),
            FileType::BlockDevice => self.node(dir, name, &stat, EntryType::Block),
            _ => self.node(dir, name, &stat, EntryType::Fifo),
        };
        written.map(|()| None)
    }

    fn directory(&mut self, dirs: &Dirs, dir: &OwnedFd, name: &CStr, stat: &Stat) -> Result<Dirs> {
        let fd = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()).map_err(|error| reading(&self.here())(error))?;
        let attributes = self.attributes(attributes::of_fd(fd.as_fd()))?;
        let mut opaque = attributes.opaque;
        let found = match (self.side, &dirs.over) {
            (Side::Over, _) => Dirs { top: None, over: Some(fd) },
            // What lies below an opaque directory does not show, nor does what is no directory.
            (Side::Top, Some(over)) if !opaque => {
                let over = rustix::fs::openat(over, name, DIRECTORY, Mode::empty()).ok();
                if let Some(over) = &over {
                    opaque = self.attributes(attributes::of_fd(over.as_fd()))?.opaque;
                }
                Dirs { top: Some(fd), over }
            }
            (Side::Top, _) => Dirs { top: Some(fd), over: None },
        };
        self.path.push(b'/');
        let mut entry = self.entry(EntryType::Directory, stat);
        entry.xattrs = attributes.kept;
        self.emit(&entry)?;
        if opaque {
            let path = [self.path.as_slice(), b".wh..wh..opq"].concat();
            self.emit(&Entry::new(path, EntryType::Regular, 0, (0, 0), self.options.times.fixed()))?;
        }
        Ok(found)
    }

    fn whiteout(&mut self, name: &CStr) -> Result<()> {
        let base = self.path.len() - name.to_bytes().len();
        let path = [&self.path[..base], b".wh.", name.to_bytes()].concat();
        self.emit(&Entry::new(path, EntryType::Regular, 0, (0, 0), self.options.times.fixed()))
    }

    /// Writes a link when the file was written under another name before.
    fn hard_link(&mut self, stat: &Stat) -> Result<bool> {
        let key = (stat.st_dev, stat.st_ino);
        let Some(first) = self.links.get(&key) else {
            self.links.insert(key, self.path.clone());
            return Ok(false);
        };
        let mut entry = self.entry(EntryType::Link, stat);
        entry.link = first.clone();
        self.emit(&entry)?;
        Ok(true)
    }

    fn file(&mut self, dir: &OwnedFd, name: &CStr, stat: &Stat) -> Result<()> {
        // NOATIME spares a metadata write a file; it is refused on files of others, which root never meets.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let open = rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty())
            .or_else(|_| rustix::fs::openat(dir, name, flags, Mode::empty()))
            .map_err(|error| reading(&self.here())(error));
        let fd = open?;
        let mut entry = self.entry(EntryType::Regular, stat);
        entry.size_bytes = stat.st_size as u64;
        entry.xattrs = self.attributes(attributes::of_fd(fd.as_fd()))?.kept;
        self.emit(&entry)?;
        self.content(File::from(fd), entry.size_bytes)?;
        self.stamp(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn content(&mut self, mut file: File, size_bytes: u64) -> Result<()> {
        let mut left = size_bytes;
        while left > 0 {
            let want = left.min(READ_BYTES as u64) as usize;
            let got = file.read(&mut self.buffer[..want]).map_err(|error| reading(&self.here())(error))?;
            if got == 0 {
                let ended = io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was read");
                return Err(reading(&self.here())(ended));
            }
            self.out.write_all(&self.buffer[..got]).map_err(writing(self.root))?;
            left -= got as u64;
        }
        pad(self.out, size_bytes).map_err(writing(self.root))
    }

    fn symlink(&mut self, dir: &OwnedFd, name: &CStr, stat: &Stat) -> Result<()> {
        let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|error| reading(&self.here())(error))?;
        let mut entry = self.entry(EntryType::Symlink, stat);
        entry.mode = 0o777;
        entry.link = target.into_bytes();
        entry.xattrs = self.attributes(attributes::of_name(dir.as_fd(), name))?.kept;
        self.emit(&entry)?;
        self.stamp(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn node(&mut self, dir: &OwnedFd, name: &CStr, stat: &Stat, kind: EntryType) -> Result<()> {
        let mut entry = self.entry(kind, stat);
        if kind != EntryType::Fifo {
            entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        }
        entry.xattrs = self.attributes(attributes::of_name(dir.as_fd(), name))?.kept;
        self.emit(&entry)?;
        self.stamp(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn entry(&self, kind: EntryType, stat: &Stat) -> Entry {
        Entry::new(self.path.clone(), kind, stat.st_mode & 0o7777, (stat.st_uid, stat.st_gid), self.options.times.of(stat))
    }

    fn emit(&mut self, entry: &Entry) -> Result<()> {
        entry.write_header(self.out).map_err(writing(self.root))
    }

    fn attributes(&self, read: io::Result<Attributes>) -> Result<Attributes> {
        let attributes = read.map_err(|error| reading(&self.here())(error))?;
        match attributes.inexpressible {
            None => Ok(attributes),
            Some(attribute) => Err(StoreError::OverlayFeature { path: self.here(), attribute }),
        }
    }

    /// Gives the file on disk the time that the tar says, so that a tar made later from disk is the same.
    fn stamp(&self, dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<()> {
        if !self.options.stamp || self.side == Side::Over {
            return Ok(());
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.options.times.fixed(), tv_nsec: 0 },
        };
        rustix::fs::utimensat(dir, name, &times, flags).map_err(|error| writing(&self.here())(error))
    }

    /// The path of the entry at hand, for messages.
    fn here(&self) -> PathBuf {
        self.root.join(std::ffi::OsString::from_vec(self.path.clone()))
    }
}

/// The names in a directory in byte order, `.` and `..` left out.
pub(crate) fn sorted_names(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut buffer: Vec<u8> = Vec::with_capacity(32 << 10);
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The path by which calls that take no directory descriptor reach a name without following it.
pub(crate) fn by_descriptor(dir: BorrowedFd<'_>, name: &CStr) -> Vec<u8> {
    by_descriptor_bytes(dir, name.to_bytes())
}

/// [`by_descriptor`] of a name that is no C string.
pub(crate) fn by_descriptor_bytes(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat()
}
