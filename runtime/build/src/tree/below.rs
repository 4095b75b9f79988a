//! What lies below a layer in the making, looked up layer by layer: a step that only adds files is then written straight into its directory, without a
//! mount, whose end alone can take the kernel longer than all the rest of the step.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, OFlags, RawDir, Stat};
use rustix::io::Errno;
use strake_oci::Digest;
use strake_solve::Chain;
use strake_store::{Store, StoreError};

use super::root::{Root, kind, permissions};
use crate::copy::attributes;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Missing,
    /// A directory without anything special.
    Directory(Looks),
    /// A file that can be replaced.
    Other,
    /// Something that only a mount shows right: a link, a directory with attributes.
    Unclear,
}

/// What a directory looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looks {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What one layer alone says about a path.
#[derive(Debug)]
enum Own {
    /// Nothing: the layer below is to be asked.
    Silent,
    /// It is not there, whatever lies below.
    Gone,
    /// `opaque` says that nothing below it shows.
    Directory {
        looks: Looks,
        opaque: bool,
        names: HashMap<OsString, FileType>,
    },
    Other,
    Unclear,
}

/// What was looked up, for all steps of a build: layers never change.
#[derive(Debug, Default)]
pub(crate) struct Below {
    known: Mutex<HashMap<PathBuf, HashMap<PathBuf, Arc<Own>>>>,
    layers: Mutex<HashMap<Digest, Layer>>,
}

/// The directories of a layer, topmost first, and the chain below it.
type Layer = (Arc<[PathBuf]>, Chain);

impl Below {
    /// The lower directories of a chain, as [`Store::lowers`] gives them.
    pub(crate) fn lowers(&self, store: &Store, chain: &Digest) -> Result<Vec<PathBuf>, StoreError> {
        let mut lowers = Vec::new();
        let mut next = Some(*chain);
        while let Some(chain) = next {
            let (dirs, parent) = self.layer(store, &chain)?;
            lowers.extend_from_slice(&dirs);
            next = parent;
        }
        Ok(lowers)
    }

    fn layer(&self, store: &Store, chain: &Digest) -> Result<Layer, StoreError> {
        let lock = || self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(chain) {
            return Ok(known.clone());
        }
        let (dirs, parent) = store.layer_dirs(chain)?;
        let layer: Layer = (dirs.into(), parent);
        lock().insert(*chain, layer.clone());
        Ok(layer)
    }

    /// What a path of a chain's file system leads to, itself and all above it without links.
    pub(crate) fn look(&self, store: &Store, chain: Chain, path: &Path) -> Result<Found, LookError> {
        let mut next = chain;
        while let Some(chain) = next {
            let (dirs, parent) = self.layer(store, &chain).map_err(LookError::Store)?;
            for dir in dirs.iter() {
                match &*self.own(dir, path)? {
                    Own::Silent => {}
                    Own::Gone => return Ok(Found::Missing),
                    Own::Directory { looks, .. } => return Ok(Found::Directory(*looks)),
                    Own::Other => return Ok(Found::Other),
                    Own::Unclear => return Ok(Found::Unclear),
                }
            }
            next = parent;
        }
        Ok(Found::Missing)
    }

    /// The same of a name in a directory, from lists of directories. Of a directory it is not said what it looks like.
    pub(crate) fn look_in(&self, store: &Store, chain: Chain, dir: &Path, name: &OsStr) -> Result<Named, LookError> {
        let mut next = chain;
        while let Some(chain) = next {
            let (dirs, parent) = self.layer(store, &chain).map_err(LookError::Store)?;
            for layer in dirs.iter() {
                match &*self.own(layer, dir)? {
                    Own::Silent => {}
                    Own::Gone | Own::Other => return Ok(Named::Missing),
                    Own::Unclear => return Ok(Named::Unclear),
                    Own::Directory { opaque, names, .. } => match names.get(name) {
                        Some(FileType::Directory) => return Ok(Named::Directory),
                        Some(FileType::RegularFile | FileType::Fifo | FileType::Socket | FileType::BlockDevice) => return Ok(Named::Other),
                        // A link; or a character device, which may be a mark of deletion.
                        Some(_) => return Ok(Named::Unclear),
                        None if *opaque => return Ok(Named::Missing),
                        None => {}
                    },
                }
            }
            next = parent;
        }
        Ok(Named::Missing)
    }

    fn own(&self, layer: &Path, path: &Path) -> Result<Arc<Own>, LookError> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(layer).and_then(|paths| paths.get(path)) {
            return Ok(Arc::clone(known));
        }
        let read = |source: io::Error| LookError::Read { path: layer.join(path), source };
        let found = Arc::new(own(&Root::open(layer).map_err(read)?, path).map_err(read)?);
        lock().entry(layer.to_owned()).or_default().insert(path.to_owned(), Arc::clone(&found));
        Ok(found)
    }
}

/// What a name in a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Missing,
    Directory,
    Other,
    Unclear,
}

/// Why something could not be looked up.
#[derive(Debug)]
pub(crate) enum LookError {
    Store(StoreError),
    Read { path: PathBuf, source: io::Error },
}

fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn own(root: &Root, path: &Path) -> io::Result<Own> {
    let at = |path: &Path| match root.open_at(path, OFlags::PATH) {
        Ok(fd) => Ok(Some(rustix::fs::fstat(fd)?)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    };
    let stat = match at(path) {
        Ok(stat) => stat,
        Err(Errno::LOOP) => return Ok(Own::Unclear),
        Err(error) => return Err(error.into()),
    };
    let Some(stat) = stat else { return above(root, path) };
    Ok(match kind(&stat) {
        FileType::Directory => directory(root, path, &stat)?,
        _ if is_whiteout(&stat) => Own::Gone,
        FileType::Symlink => Own::Unclear,
        _ => Own::Other,
    })
}

/// Nothing is at the path: perhaps because something above it hides it.
fn above(root: &Root, path: &Path) -> io::Result<Own> {
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        let Some(stat) = root.stat(above)? else { continue };
        match kind(&stat) {
            FileType::Directory if hides(root, above)? => return Ok(Own::Gone),
            FileType::Directory => {}
            FileType::Symlink => return Ok(Own::Unclear),
            _ => return Ok(Own::Gone),
        }
    }
    Ok(Own::Silent)
}

fn directory(root: &Root, path: &Path, stat: &Stat) -> io::Result<Own> {
    let fd = root.open_dir(path)?;
    if !attributes(&fd)?.is_empty() {
        return Ok(Own::Unclear);
    }
    let mut names = HashMap::new();
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut list = RawDir::new(&fd, &mut buffer);
    while let Some(entry) = list.next() {
        let entry = entry?;
        names.insert(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned(), entry.file_type());
    }
    let mut opaque = false;
    for dir in path.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        opaque |= hides(root, dir)?;
    }
    let looks = Looks { mode: permissions(stat), uid: stat.st_uid, gid: stat.st_gid };
    Ok(Own::Directory { looks, opaque, names })
}

/// Whether a layer's directory hides what lies below it.
fn hides(root: &Root, path: &Path) -> io::Result<bool> {
    let fd = root.open_dir(path)?;
    let mut value = [0u8; 8];
    match rustix::fs::fgetxattr(&fd, c"trusted.overlay.opaque", &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
