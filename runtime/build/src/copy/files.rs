//! One file at a time: its bytes, its holes, its owner, mode, attributes and time.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom as Hole, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::owner::Owner;
use super::place::{CREATE, PlaceError, reading, set_owner, set_time, writing};
use super::source::SourceOrigin;
use crate::tree::{Entry, Kind};

/// Files up to this length are read whole: two calls instead of asking the kernel for ways to share the data.
const SMALL: u64 = 128 << 10;

/// What a file looks like in the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dressing {
    pub owner: Owner,
    pub mode: u32,
    pub mtime: Option<(i64, u32)>,
}

impl Dressing {
    /// Puts it on something open.
    pub fn apply(&self, fd: &impl AsFd) -> rustix::io::Result<()> {
        set_owner(fd, self.owner)?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode))?;
        self.mtime.map_or(Ok(()), |time| set_time(fd, time))
    }

    /// Puts it on a name that cannot be opened without effect. Symbolic links have no mode.
    fn apply_at(&self, dir: &OwnedFd, name: &OsStr, is_link: bool) -> rustix::io::Result<()> {
        rustix::fs::chownat(dir, name, Some(Uid::from_raw(self.owner.uid)), Some(Gid::from_raw(self.owner.gid)), AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_link {
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        }
        let Some((seconds, nanoseconds)) = self.mtime else { return Ok(()) };
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: omit, last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() } };
        rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// A new empty file that only its owner may read until it is dressed.
pub(super) fn create(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<File> {
    rustix::fs::openat(dir, name, CREATE, Mode::from_raw_mode(0o600)).map(File::from)
}

/// Copies a regular file.
pub(super) fn copy_file(
    from: &OwnedFd,
    entry: &Entry,
    to: &OwnedFd,
    name: &OsStr,
    path: &Path,
    dressing: &Dressing,
    origin: SourceOrigin,
) -> Result<(), PlaceError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(from, entry.path.file_name().unwrap_or_default(), flags, Mode::empty());
    let mut source = match opened {
        Ok(opened) => File::from(opened),
        // Removed, or replaced by a link.
        Err(Errno::NOENT | Errno::LOOP) => return Err(PlaceError::Changed { path: entry.path.clone() }),
        Err(error) => return Err(reading(&entry.path)(error)),
    };
    let stat = rustix::fs::fstat(&source).map_err(reading(&entry.path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(PlaceError::Changed { path: entry.path.clone() });
    }
    let mut target = create(to, name).map_err(writing(path))?;
    copy_data(&mut source, &mut target, entry).map_err(writing(path))?;
    if origin == SourceOrigin::Context && has_changed(&source, entry).map_err(reading(&entry.path))? {
        return Err(PlaceError::Changed { path: entry.path.clone() });
    }
    dressing.apply(&target).map_err(writing(path))?;
    if origin == SourceOrigin::Stage {
        keep_attributes(&source, &target).map_err(writing(path))?;
    }
    Ok(())
}

/// Whether the file, after it was copied, is still the one that was digested: what is remembered under a key must be what the key says.
fn has_changed(source: &File, entry: &Entry) -> rustix::io::Result<bool> {
    let stat = rustix::fs::fstat(source)?;
    let times = ((stat.st_mtime, stat.st_mtime_nsec as u32), (stat.st_ctime, stat.st_ctime_nsec as u32));
    Ok((stat.st_dev, stat.st_ino) != entry.identity || stat.st_size as u64 != entry.size || times != (entry.mtime, entry.ctime))
}

fn copy_data(source: &mut File, target: &mut File, entry: &Entry) -> io::Result<()> {
    if entry.size <= SMALL {
        let mut bytes = Vec::with_capacity(entry.size as usize + 1);
        source.read_to_end(&mut bytes)?;
        return target.write_all(&bytes);
    }
    if rustix::fs::ioctl_ficlone(&*target, &*source).is_ok() {
        return Ok(());
    }
    if entry.blocks.saturating_mul(512) < entry.size {
        return copy_with_holes(source, target, entry.size);
    }
    // Asks the kernel to copy by itself, where the two file systems allow it.
    io::copy(source, target).map(drop)
}

/// Copies the parts that hold data, and leaves the same holes.
fn copy_with_holes(source: &mut File, target: &mut File, size: u64) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(&*source, Hole::Data(at)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*source, Hole::Hole(begin))?;
        source.seek(SeekFrom::Start(begin))?;
        target.seek(SeekFrom::Start(begin))?;
        io::copy(&mut Read::by_ref(source).take(end - begin), target)?;
        at = end;
    }
    target.set_len(size)
}

/// Links, pipes and devices; a socket becomes an empty file, for a layer cannot hold one.
pub(super) fn make_special(entry: &Entry, dir: &OwnedFd, name: &OsStr, path: &Path, dressing: &Dressing) -> Result<(), PlaceError> {
    let node = |kind: FileType, device: u64| rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device);
    let made = match &entry.kind {
        Kind::Link(text) => rustix::fs::symlinkat(text, dir, name),
        Kind::Fifo => node(FileType::Fifo, 0),
        Kind::CharacterDevice(0) => return Err(PlaceError::Whiteout { path: path.to_owned() }),
        Kind::CharacterDevice(device) => node(FileType::CharacterDevice, *device),
        Kind::BlockDevice(device) => node(FileType::BlockDevice, *device),
        Kind::Socket | Kind::File | Kind::Directory => create(dir, name).map(drop),
    };
    made.map_err(writing(path))?;
    dressing.apply_at(dir, name, matches!(entry.kind, Kind::Link(_))).map_err(writing(path))
}

/// Copies extended attributes that belong to content. A file system that takes none keeps none, as it is everywhere.
pub(super) fn keep_attributes(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    for (name, value) in attributes(from)? {
        match rustix::fs::fsetxattr(to, name.as_slice(), &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The extended attributes of something open that belong to content, sorted: not the overlay's own, not labels of security modules.
pub(crate) fn attributes(fd: &impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = Vec::with_capacity(1024);
    match rustix::fs::flistxattr(fd, rustix::buffer::spare_capacity(&mut list)) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(Errno::RANGE) => {
            list = Vec::with_capacity(64 << 10);
            rustix::fs::flistxattr(fd, rustix::buffer::spare_capacity(&mut list))?;
        }
        Err(error) => return Err(error.into()),
    }
    let mut found = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| belongs(name)) {
        let mut value = Vec::with_capacity(64 << 10);
        rustix::fs::fgetxattr(fd, name, rustix::buffer::spare_capacity(&mut value))?;
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

fn belongs(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let host = (name.starts_with(b"security.") && name != b"security.capability") || name.starts_with(b"system.");
    !name.is_empty() && !overlay && !host
}
