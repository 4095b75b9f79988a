//! What the store has on disk, item by item, with the bytes that the file system gives for it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use strake_oci::Digest;

use crate::error::{Result, reading};
use crate::store::Store;

/// Something that goes or stays as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A layer, unpacked.
    Layer(Digest),
    /// A blob.
    Blob(Digest),
    /// What a step gave.
    Record(Digest),
    /// Which blob a layer was packed to.
    Packed(String),
    /// A cache mount's directory, by the name of the directory.
    Mount(String),
    /// A file that ADD fetched.
    Fetched(String),
    /// What is known of the files of a build context, or of the last full copy of a step.
    Stats(String),
    /// A blob that arrives.
    Arriving(String),
    /// What a container wrote.
    Container(String),
}

/// An item with its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub what: What,
    pub paths: Vec<PathBuf>,
    pub size_bytes: u64,
    /// When it was made or used last, as far as its files tell.
    pub time: SystemTime,
}

impl What {
    /// One word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            What::Layer(_) => "layer",
            What::Blob(_) => "blob",
            What::Record(_) => "record",
            What::Packed(_) => "packed",
            What::Mount(_) => "mount",
            What::Fetched(_) => "fetched",
            What::Stats(_) => "stats",
            What::Arriving(_) => "arriving",
            What::Container(_) => "container",
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        match self {
            What::Layer(digest) | What::Blob(digest) | What::Record(digest) => digest.to_string(),
            What::Packed(name) | What::Mount(name) | What::Fetched(name) | What::Stats(name) | What::Arriving(name) | What::Container(name) => name.clone(),
        }
    }
}

/// The bytes that the file system gives for everything at a path: blocks, not lengths; a file with several names once. What is gone counts nothing.
pub(crate) fn allocated_bytes(path: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let several = metadata.nlink() > 1 && !metadata.is_dir();
        if several && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        total += metadata.blocks() * 512;
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    total
}

impl Store {
    /// Everything that can be removed, and what containers wrote.
    pub(super) fn items(&self) -> Result<Vec<Found>> {
        let digest = |name: &str| format!("sha256:{name}").parse::<Digest>().ok();
        let mut items = Vec::new();
        self.list("snapshots", &mut items, |name| digest(name).map(What::Layer))?;
        self.list("blobs/sha256", &mut items, |name| digest(name).map(What::Blob))?;
        self.list("cache/steps", &mut items, |name| digest(name).map(What::Record))?;
        self.list("cache/packed", &mut items, |name| Some(What::Packed(name.to_owned())))?;
        self.list("cache/mounts", &mut items, |name| Some(What::Mount(name.to_owned())))?;
        self.list("cache/remote", &mut items, |name| Some(What::Fetched(name.to_owned())))?;
        self.list("cache/stat", &mut items, |name| Some(What::Stats(name.to_owned())))?;
        self.list("cache/kin", &mut items, |name| Some(What::Stats(name.to_owned())))?;
        self.list("ingest", &mut items, |name| (name != "held").then(|| What::Arriving(name.to_owned())))?;
        self.list("containers-fs", &mut items, |name| Some(What::Container(name.to_owned())))?;
        for item in &mut items {
            // The note about a mount goes with it, and says when it was used.
            if let What::Mount(name) = &item.what {
                let note = self.path("cache/mount-ids").join(name);
                if let Ok(metadata) = fs::metadata(&note) {
                    item.time = metadata.modified().unwrap_or(item.time);
                    item.size_bytes += allocated_bytes(&note);
                    item.paths.push(note);
                }
            }
        }
        Ok(items)
    }

    fn list(&self, parent: &str, items: &mut Vec<Found>, what: impl Fn(&str) -> Option<What>) -> Result<()> {
        let parent = self.path(parent);
        let entries = match fs::read_dir(&parent) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(reading(&parent))?,
        };
        for entry in entries {
            let path = entry.map_err(reading(&parent))?.path();
            let Some(what) = path.file_name().and_then(|name| name.to_str()).and_then(&what) else { continue };
            // It may have gone in between.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let time = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            items.push(Found { what, size_bytes: allocated_bytes(&path), paths: vec![path], time });
        }
        Ok(())
    }

    /// The id of a cache mount, when it is known.
    pub(super) fn mount_id(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path("cache/mount-ids").join(name)).ok()
    }
}
