//! Puts selected files into a destination tree, with every rule that COPY has for what is there already.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::files::{Dressing, copy_file, keep_attributes, make_special};
use super::mode::ModeChange;
use super::owner::Owner;
use super::source::{Selection, Source, SourceOrigin};
use crate::CancelFlag;
use crate::tree::{Entry, Kind, LastLink, Root, clean, kind};

/// Files are copied in groups of this many: each opens its two directories once.
const GROUP: usize = 64;

/// Why files could not be put in place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// A directory cannot take the place of something else.
    #[error("cannot copy a directory to `/{}`: it is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    /// A file cannot take the place of a directory.
    #[error("cannot copy a file to `/{}`: it is a directory", path.display())]
    IsADirectory { path: PathBuf },
    /// A name that would mean "deleted" in a layer.
    #[error("cannot copy to `/{}`: names that begin with .wh. mark deletions in a layer", path.display())]
    ReservedName { path: PathBuf },
    /// A device that would mean "deleted" in an overlay.
    #[error("cannot copy the character device 0:0 to `/{}`: it marks a deletion in a layer", path.display())]
    Whiteout { path: PathBuf },
    /// The build was given up.
    #[error("given up")]
    Cancelled,
    /// The source is another file than the one that was found.
    #[error("`/{}` changed while it was copied", path.display())]
    Changed { path: PathBuf },
    /// Writing failed.
    #[error("cannot write `/{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Reading failed.
    #[error("cannot read `/{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// Maps an error of writing a path.
pub(super) fn writing<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> PlaceError + '_ {
    move |error| PlaceError::Write { path: path.to_owned(), source: error.into() }
}

/// Maps an error of reading a path.
pub(super) fn reading<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> PlaceError + '_ {
    move |error| PlaceError::Read { path: path.to_owned(), source: error.into() }
}

/// How files are changed on their way.
#[derive(Debug, Default)]
pub struct Placing {
    /// --chown, looked up.
    pub owner: Option<Owner>,
    /// --chmod.
    pub mode: Option<ModeChange>,
    /// Ends the copying early.
    pub cancel: CancelFlag,
    /// What is copied is a tree with a root of its own, root's and 0755, and not only what is in it.
    pub tree: bool,
}

/// A destination.
pub struct Destination<'a> {
    /// The tree.
    pub root: &'a Root,
    /// Absolute path in it; a final `/` means "into this directory".
    pub path: &'a str,
}

/// A directory that files go into.
#[derive(Clone, Debug)]
struct Target {
    path: PathBuf,
    /// Made by this copy: nothing in it needs to be looked at first.
    fresh: bool,
}

impl Placing {
    /// Puts a selection in place.
    ///
    /// # Errors
    /// What could not be written, with its path in the destination.
    pub fn place(&self, source: &Source, selection: &Selection, destination: &Destination<'_>) -> Result<(), PlaceError> {
        let root = destination.root;
        let (target, fresh) = self.target(selection.top.is_dir(), &selection.name, destination)?;
        if selection.top.is_dir() {
            self.place_tree(source, selection, root, Target { path: target.clone(), fresh })?;
            // With a final `/` the directory is one for it to go into.
            if self.tree && fresh && !leads_into(destination.path) {
                let dir = root.open_dir(&target).map_err(writing(&target))?;
                self.dressing(0o755, Owner::default(), None, true).apply(&dir).map_err(writing(&target))?;
            }
            return Ok(());
        }
        let parent = Target { path: parent_of(&target), fresh: false };
        let name = target.file_name().unwrap_or_default().to_owned();
        self.place_files(source, root, &parent, &[(&selection.top, &name)])
    }

    /// Puts a file whose content is in memory in place: a heredoc.
    pub fn place_inline(&self, name: &str, content: &[u8], destination: &Destination<'_>) -> Result<(), PlaceError> {
        let root = destination.root;
        let (target, _) = self.target(false, OsStr::new(name), destination)?;
        let name = target.file_name().unwrap_or_default();
        let dir = root.open_dir(&parent_of(&target)).map_err(writing(&target))?;
        clear_way(&dir, name, &target)?;
        let dressing = self.dressing(0o644, Owner::default(), None, false);
        let mut file = super::files::create(&dir, name).map_err(writing(&target))?;
        io::Write::write_all(&mut file, content).map_err(writing(&target))?;
        dressing.apply(&file).map_err(writing(&target))
    }

    /// Where something goes, by the rules for destinations; directories on the way are made. The flag says that the path is a directory that was made
    /// now.
    fn target(&self, is_dir: bool, name: &OsStr, destination: &Destination<'_>) -> Result<(PathBuf, bool), PlaceError> {
        let root = destination.root;
        let written = clean(Path::new(destination.path));
        let into = leads_into(destination.path) || written.as_os_str().is_empty();
        let ensured = if into { written.clone() } else { parent_of(&written) };
        let made = self.make_dirs(root, &ensured)?;
        let found = root.resolve(&written, LastLink::Follow).map_err(writing(&written))?;
        let is_there = found.stat.as_ref().map(|stat| kind(stat) == FileType::Directory);
        match (is_dir, is_there) {
            (true, Some(true)) => Ok((found.path.clone(), made.as_deref() == Some(&*found.path))),
            (true, Some(false)) => Err(PlaceError::NotADirectory { path: found.path }),
            (true, None) => self.make_dirs(root, &found.path).map(|_| (found.path, true)),
            (false, Some(true)) => Ok((found.path.join(name), false)),
            // A link whose target is missing may lead to where no directory is.
            (false, _) => self.make_dirs(root, &parent_of(&found.path)).map(|_| (found.path, false)),
        }
    }

    /// Makes every missing directory of a path, through links; gives the last one if it was made.
    pub fn make_dirs(&self, root: &Root, path: &Path) -> Result<Option<PathBuf>, PlaceError> {
        let found = root.resolve(path, LastLink::Follow).map_err(writing(path))?;
        match found.stat {
            Some(stat) if kind(&stat) == FileType::Directory => return Ok(None),
            Some(_) => return Err(PlaceError::NotADirectory { path: found.path }),
            None => {}
        }
        let above = parent_of(&found.path);
        self.make_dirs(root, &above)?;
        let name = found.path.file_name().unwrap_or_default();
        refuse_reserved(name, &found.path)?;
        let parent = root.open_dir(&above).map_err(writing(&found.path))?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)).map_err(writing(&found.path))?;
        let dir = root.open_dir(&found.path).map_err(writing(&found.path))?;
        // What a directory with setgid above gives to a new one is kept, as the kernel does it for BuildKit.
        let made = rustix::fs::fstat(&dir).map_err(writing(&found.path))?;
        let owner = self.owner.unwrap_or(Owner { uid: 0, gid: made.st_gid });
        let mode = ModeChange::of_parents(self.mode.as_ref()) | made.st_mode & Mode::SGID.as_raw_mode();
        Dressing { owner, mode, mtime: None }.apply(&dir).map_err(writing(&found.path))?;
        Ok(Some(found.path))
    }

    /// What a file ends up as.
    fn dressing(&self, mode: u32, owner: Owner, mtime: Option<(i64, u32)>, is_dir: bool) -> Dressing {
        let mode = self.mode.as_ref().map_or(mode, |change| change.apply(mode, is_dir));
        Dressing { owner: self.owner.unwrap_or(owner), mode, mtime }
    }

    fn dress(&self, source: &Source, entry: &Entry) -> Dressing {
        let owner = match source.origin {
            SourceOrigin::Context => Owner::default(),
            SourceOrigin::Stage => Owner { uid: entry.uid, gid: entry.gid },
        };
        self.dressing(entry.mode, owner, Some(entry.mtime), entry.is_dir())
    }

    fn place_tree(&self, source: &Source, selection: &Selection, root: &Root, top: Target) -> Result<(), PlaceError> {
        let mut targets: HashMap<&Path, Target> = HashMap::from([(Path::new(""), top)]);
        let mut dressed: Vec<(&Entry, PathBuf)> = Vec::new();
        let mut files: Vec<(&Entry, &Path)> = Vec::new();
        for entry in &selection.below {
            let above = entry.relative.parent().unwrap_or(Path::new(""));
            if !entry.is_dir() {
                files.push((entry, above));
                continue;
            }
            let Some(parent) = targets.get(above) else { continue };
            let target = make_dir_in(root, parent, entry)?;
            if target.fresh || !entry.implied {
                dressed.push((entry, target.path.clone()));
            }
            targets.insert(&entry.relative, target);
        }
        self.place_below(source, root, &targets, &files)?;
        // From the end: what is written below a directory changes its time.
        for (entry, path) in dressed.iter().rev() {
            let dir = root.open_dir(path).map_err(writing(path))?;
            self.dress(source, entry).apply(&dir).map_err(writing(path))?;
            if source.origin == SourceOrigin::Stage {
                keep_attributes(&source.root.open_dir(&entry.path).map_err(reading(&entry.path))?, &dir).map_err(writing(path))?;
            }
        }
        self.keep_time_of_top(selection, root, &targets)
    }

    /// The directory that is the destination takes over its source's time, and nothing else of it.
    fn keep_time_of_top(&self, selection: &Selection, root: &Root, targets: &HashMap<&Path, Target>) -> Result<(), PlaceError> {
        let Some(top) = targets.get(Path::new("")).filter(|top| !top.path.as_os_str().is_empty()) else { return Ok(()) };
        let dir = root.open_dir(&top.path).map_err(writing(&top.path))?;
        set_time(&dir, selection.top.mtime).map_err(writing(&top.path))
    }

    /// Files in parallel, then further names of files that have several: those need the first one.
    fn place_below(&self, source: &Source, root: &Root, targets: &HashMap<&Path, Target>, files: &[(&Entry, &Path)]) -> Result<(), PlaceError> {
        let mut first_names: HashMap<(u64, u64), &Entry> = HashMap::new();
        let mut groups: Vec<(&Target, Vec<(&Entry, &OsStr)>)> = Vec::new();
        let mut links: Vec<(&Entry, &Entry)> = Vec::new();
        for (entry, above) in files {
            let Some(target) = targets.get(above) else { continue };
            if entry.links > 1 {
                match first_names.get(&entry.identity) {
                    Some(first) => {
                        links.push((entry, first));
                        continue;
                    }
                    None => drop(first_names.insert(entry.identity, entry)),
                }
            }
            let name = entry.relative.file_name().unwrap_or_default();
            match groups.last_mut() {
                Some((last, group)) if std::ptr::eq(*last, target) && group.len() < GROUP => group.push((entry, name)),
                _ => groups.push((target, vec![(entry, name)])),
            }
        }
        groups.par_iter().try_for_each(|(target, group)| self.place_group(source, root, target, group))?;
        links.iter().try_for_each(|(entry, first)| link(root, targets, entry, first))
    }

    fn place_files(&self, source: &Source, root: &Root, parent: &Target, files: &[(&Entry, &OsStr)]) -> Result<(), PlaceError> {
        self.place_group(source, root, parent, files)
    }

    fn place_group(&self, source: &Source, root: &Root, parent: &Target, files: &[(&Entry, &OsStr)]) -> Result<(), PlaceError> {
        let to = root.open_dir(&parent.path).map_err(writing(&parent.path))?;
        let Some((first, _)) = files.first() else { return Ok(()) };
        let above = parent_of(&first.path);
        let from = source.root.open_dir(&above).map_err(reading(&above))?;
        for (entry, name) in files {
            if self.cancel.is_cancelled() {
                return Err(PlaceError::Cancelled);
            }
            let path = parent.path.join(name);
            refuse_reserved(name, &path)?;
            if !parent.fresh {
                clear_way(&to, name, &path)?;
            }
            let dressing = self.dress(source, entry);
            match entry.kind {
                Kind::File => copy_file(&from, entry, &to, name, &path, &dressing, source.origin)?,
                _ => make_special(entry, &to, name, &path, &dressing)?,
            }
        }
        Ok(())
    }
}

/// A destination that is written as a directory.
fn leads_into(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

/// A directory of the tree in its place: made, or the one that is there, also behind a link.
fn make_dir_in(root: &Root, parent: &Target, entry: &Entry) -> Result<Target, PlaceError> {
    let name = entry.relative.file_name().unwrap_or_default();
    let path = parent.path.join(name);
    refuse_reserved(name, &path)?;
    let there = if parent.fresh { None } else { root.stat(&path).map_err(writing(&path))? };
    match there.as_ref().map(kind) {
        None => {
            let dir = root.open_dir(&parent.path).map_err(writing(&path))?;
            rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)).map_err(writing(&path))?;
            Ok(Target { path, fresh: true })
        }
        Some(FileType::Directory) => Ok(Target { path, fresh: false }),
        Some(FileType::Symlink) => {
            let found = root.resolve(&path, LastLink::Follow).map_err(writing(&path))?;
            match found.stat {
                Some(stat) if kind(&stat) == FileType::Directory => Ok(Target { path: found.path, fresh: false }),
                _ => Err(PlaceError::NotADirectory { path }),
            }
        }
        Some(_) => Err(PlaceError::NotADirectory { path }),
    }
}

/// Removes what a file is about to replace; other names of it keep their content.
fn clear_way(dir: &rustix::fd::OwnedFd, name: &OsStr, path: &Path) -> Result<(), PlaceError> {
    refuse_reserved(name, path)?;
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(writing(path)(error)),
        Ok(stat) if kind(&stat) == FileType::Directory => Err(PlaceError::IsADirectory { path: path.to_owned() }),
        Ok(_) => rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(writing(path)),
    }
}

fn link(root: &Root, targets: &HashMap<&Path, Target>, entry: &Entry, first: &Entry) -> Result<(), PlaceError> {
    let dir_of = |entry: &Entry| targets.get(entry.relative.parent().unwrap_or(Path::new("")));
    let (Some(from), Some(to)) = (dir_of(first), dir_of(entry)) else { return Ok(()) };
    let name = |entry: &Entry| entry.relative.file_name().unwrap_or_default().to_owned();
    let path = to.path.join(name(entry));
    let (old, new) = (root.open_dir(&from.path).map_err(writing(&path))?, root.open_dir(&to.path).map_err(writing(&path))?);
    clear_way(&new, &name(entry), &path)?;
    rustix::fs::linkat(&old, name(first), &new, name(entry), AtFlags::empty()).map_err(writing(&path))
}

pub(super) fn refuse_reserved(name: &OsStr, path: &Path) -> Result<(), PlaceError> {
    if name.as_bytes().starts_with(b".wh.") { Err(PlaceError::ReservedName { path: path.to_owned() }) } else { Ok(()) }
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// Sets the modification time of something open.
pub(super) fn set_time(fd: &impl rustix::fd::AsFd, (seconds, nanoseconds): (i64, u32)) -> rustix::io::Result<()> {
    let times =
        Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() } };
    rustix::fs::futimens(fd, &times)
}

/// Changes owner first: that takes setuid away, which the mode then gives back.
pub(super) fn set_owner(fd: &impl rustix::fd::AsFd, owner: Owner) -> rustix::io::Result<()> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
}

/// Flags to make a new file with.
pub(super) const CREATE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
