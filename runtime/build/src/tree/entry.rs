//! One file of a walk.

use std::ffi::OsString;
use std::path::PathBuf;

use rustix::fs::{FileType, Stat};

/// A file as it was found.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Path from the source's root, without symbolic links before its end.
    pub path: PathBuf,
    /// Path from the walk's start; empty for the start itself.
    pub relative: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// A directory that is only here because something below it is.
    pub implied: bool,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Seconds and nanoseconds.
    pub ctime: (i64, u32),
    /// Device and inode: the file's identity.
    pub identity: (u64, u64),
    /// Names it has.
    pub links: u64,
    /// Bytes on disk, in blocks of 512: less than `size` for a file with holes.
    pub blocks: u64,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
    Link(OsString),
    Fifo,
    CharacterDevice(u64),
    BlockDevice(u64),
    Socket,
}

impl Entry {
    /// From a stat; `link` is the text of a symbolic link.
    pub fn new(path: PathBuf, relative: PathBuf, stat: &Stat, link: OsString) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link(link),
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharacterDevice(stat.st_rdev),
            FileType::BlockDevice => Kind::BlockDevice(stat.st_rdev),
            FileType::Socket => Kind::Socket,
            FileType::RegularFile | FileType::Unknown => Kind::File,
        };
        Entry {
            path,
            relative,
            kind,
            implied: false,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
            identity: (stat.st_dev, stat.st_ino),
            links: stat.st_nlink,
            blocks: stat.st_blocks as u64,
        }
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }
}
