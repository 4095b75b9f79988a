//! Unpacked layers: `snapshots/<chain id>/fs` is an overlayfs lower directory, `meta.json` beside it says what it is.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use strake_oci::{Descriptor, Digest};

use crate::durable;
use crate::error::{Result, StoreError, reading, writing};
use crate::files::{Durability, Lock, make_dir, read_optional, remove_tree, replace, sync_dir};
use crate::store::{Lease, Store};
use crate::tape::sink::HashAhead;
use crate::tape::tree::{RootMetadata, Times, TreeOptions, write_varied};

/// A layer on top of its parents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the layer's uncompressed tar.
    pub diff_id: Digest,
    /// Digest of the whole chain up to this layer; the snapshot's key.
    pub chain_id: Digest,
    /// Chain below it.
    pub parent: Option<Digest>,
    /// Length of the uncompressed tar.
    pub size_bytes: u64,
}

/// What `meta.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMeta {
    #[serde(flatten)]
    pub layer: Layer,
    /// The time of every entry, when the layer was committed here and its tar can be made again from the files.
    pub mtime: Option<i64>,
    /// The blob it was unpacked from, whose tar only that blob can give back.
    pub source: Option<Descriptor>,
    /// Identity of the machine's run in which it was written.
    pub boot: String,
    /// The layer on the same parent that it varies: what its own files do not cover shows through from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Digest>,
}

/// How a draft becomes a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitOptions {
    /// Modification time of every entry, in seconds since 1970 (SOURCE_DATE_EPOCH).
    pub mtime: i64,
}

/// A layer in the making: mount an overlay of these, write, unmount, commit. Dropped without commit, it is removed.
#[derive(Debug)]
pub struct Draft {
    /// Lower directories, topmost first; never empty (an empty directory stands for "nothing").
    pub lowers: Vec<PathBuf>,
    /// What the layer adds.
    pub upper: PathBuf,
    /// Overlay's working directory.
    pub work: PathBuf,
    parent: Option<Digest>,
    over: Option<Digest>,
    store: Store,
    dir: PathBuf,
    _lease: Lease,
}

impl Store {
    /// Whether the snapshot of this chain is here.
    pub fn has_chain(&self, chain: &Digest) -> bool {
        self.snapshot_path(chain).join("meta.json").exists()
    }

    /// The lower directories of a chain, topmost first.
    ///
    /// # Errors
    /// [`StoreError::ChainMissing`] names the first chain that is not here.
    pub fn lowers(&self, chain: &Digest) -> Result<Vec<PathBuf>> {
        let mut lowers = Vec::new();
        let mut next = Some(*chain);
        while let Some(chain) = next {
            let (dirs, parent) = self.layer_dirs(&chain)?;
            lowers.extend(dirs);
            next = parent;
        }
        Ok(lowers)
    }

    /// The directories of one layer, topmost first (a variation has two), and the chain below it.
    pub fn layer_dirs(&self, chain: &Digest) -> Result<(Vec<PathBuf>, Option<Digest>)> {
        let meta = self.snapshot_meta(chain)?;
        let mut dirs = vec![self.snapshot_path(chain).join("fs")];
        if let Some(over) = &meta.over {
            dirs.push(self.varied(over)?);
        }
        Ok((dirs, meta.layer.parent))
    }

    /// The layers of a chain, lowest first, as an image configuration lists them.
    pub fn layers(&self, chain: &Digest) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        let mut next = Some(*chain);
        while let Some(chain) = next {
            let layer = self.snapshot_meta(&chain)?.layer;
            next = layer.parent;
            layers.push(layer);
        }
        layers.reverse();
        Ok(layers)
    }

    /// Starts a layer on top of `parent` (nothing: the first layer of `FROM scratch`).
    pub fn begin(&self, parent: Option<&Digest>) -> Result<Draft> {
        let lease = self.lease()?;
        let lowers = self.lowers_or_empty(parent)?;
        self.begin_with(parent, lowers, lease)
    }

    /// The same for somebody who holds a lease and knows the lower directories of the parent ([`Store::lowers`]) already.
    pub fn begin_on(&self, parent: &Digest, lowers: Vec<PathBuf>) -> Result<Draft> {
        let lease = self.lease()?;
        self.begin_with(Some(parent), lowers, lease)
    }

    fn begin_with(&self, parent: Option<&Digest>, lowers: Vec<PathBuf>, lease: Lease) -> Result<Draft> {
        let dir = self.temporary("draft");
        let (upper, work) = (dir.join("fs"), dir.join("work"));
        let draft = Draft { lowers, upper, work, parent: parent.copied(), over: None, store: self.clone(), dir, _lease: lease };
        make_dir(&draft.dir)?;
        make_dir(&draft.work)?;
        self.make_upper(&draft.upper, parent)?;
        Ok(draft)
    }

    /// Starts a layer that differs little from another one on the same parent: only what differs is to be written, the rest shows through. Nothing when
    /// that layer is not here, or cannot be varied: one that was unpacked, or that is a variation itself.
    pub fn begin_variation(&self, of: &Digest, parent: Option<&Digest>) -> Result<Option<Draft>> {
        let mut draft = self.begin(parent)?;
        match self.snapshot_meta(of) {
            Ok(meta) if meta.layer.parent.as_ref() == parent && meta.over.is_none() && meta.mtime.is_some() => {}
            Ok(_) | Err(StoreError::ChainMissing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let fs = self.varied(of)?;
        if RootMetadata::of(&fs)? != self.root_metadata(parent)? {
            return Ok(None);
        }
        draft.lowers.insert(0, fs);
        draft.over = Some(*of);
        Ok(Some(draft))
    }

    /// The files of a layer that another one varies.
    pub(crate) fn varied(&self, over: &Digest) -> Result<PathBuf> {
        if !self.has_chain(over) {
            return Err(StoreError::ChainMissing { chain: *over });
        }
        Ok(self.snapshot_path(over).join("fs"))
    }

    /// Lower directories that overlayfs can mount even when there is no parent.
    pub(crate) fn lowers_or_empty(&self, parent: Option<&Digest>) -> Result<Vec<PathBuf>> {
        match parent {
            Some(chain) => self.lowers(chain),
            None => Ok(vec![self.path("empty")]),
        }
    }

    /// Makes an upper directory; the root of an overlay has the metadata of its upper directory, so it takes over what the parent says.
    pub(crate) fn make_upper(&self, upper: &Path, parent: Option<&Digest>) -> Result<()> {
        std::fs::DirBuilder::new().mode(0o755).create(upper).map_err(writing(upper))?;
        let metadata = self.root_metadata(parent)?;
        std::os::unix::fs::chown(upper, Some(metadata.uid), Some(metadata.gid)).map_err(writing(upper))?;
        std::fs::set_permissions(upper, std::fs::Permissions::from_mode(metadata.mode)).map_err(writing(upper))
    }

    pub(crate) fn root_metadata(&self, chain: Option<&Digest>) -> Result<RootMetadata> {
        chain.map_or(Ok(RootMetadata::DEFAULT), |chain| RootMetadata::of(&self.snapshot_path(chain).join("fs")))
    }

    pub(crate) fn snapshot_path(&self, chain: &Digest) -> PathBuf {
        self.path("snapshots").join(chain.hex())
    }

    pub(crate) fn snapshot_meta(&self, chain: &Digest) -> Result<SnapshotMeta> {
        let path = self.snapshot_path(chain).join("meta.json");
        let bytes = read_optional(&path)?.ok_or(StoreError::ChainMissing { chain: *chain })?;
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Decode { what: path.display().to_string(), source })
    }

    /// Every chain that has a directory, finished or not.
    pub(crate) fn chains(&self) -> Result<Vec<Digest>> {
        let parent = self.path("snapshots");
        let mut chains = Vec::new();
        for entry in std::fs::read_dir(&parent).map_err(reading(&parent))? {
            let name = entry.map_err(reading(&parent))?.file_name();
            chains.extend(name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
        }
        Ok(chains)
    }

    /// Makes these layers survive a power cut. Committing a layer syncs nothing; the layers of an image are synced together, and only what is new.
    pub(crate) fn sync_layers(&self, layers: &[Layer]) -> Result<()> {
        let mut missing: Vec<PathBuf> = Vec::new();
        for layer in layers {
            let mark = self.snapshot_path(&layer.chain_id).join("synced");
            if mark.exists() {
                continue;
            }
            // A layer that shows through is as much part of the image.
            let over = self.snapshot_meta(&layer.chain_id)?.over.map(|over| self.snapshot_path(&over).join("synced"));
            missing.extend([Some(mark), over.filter(|mark| !mark.exists())].into_iter().flatten());
        }
        if missing.is_empty() {
            return Ok(());
        }
        let trees: Vec<PathBuf> = missing.iter().filter_map(|mark| mark.parent()).map(Path::to_owned).collect();
        durable::sync_trees(self.root(), &trees)?;
        sync_dir(&self.path("snapshots"))?;
        for mark in &missing {
            std::fs::File::create(mark).map_err(writing(mark))?;
        }
        durable::sync_all(&trees)
    }

    /// After a restart of the machine: a snapshot that was never synced may be incomplete, so it goes, with everything on top of it.
    /// A snapshot that lacks nothing has its mark; an unpacked one comes back from its blob.
    pub(crate) fn discard_unsynced_after_restart(&self) -> Result<()> {
        let boot = boot_id()?;
        let noted = || Ok(read_optional(&self.path("cache/boot"))?.as_deref() == Some(boot.as_bytes()));
        if noted()? {
            return Ok(());
        }
        // One process looks, the others wait, so that nobody discards what another has just made again.
        let _lock = Lock::hold(&self.path("tmp/.lock"), FlockOperation::LockExclusive)?;
        if noted()? {
            return Ok(());
        }
        let mut dropped = BTreeSet::new();
        for chain in self.chains()? {
            let path = self.snapshot_path(&chain);
            let sound = path.join("synced").exists() || self.snapshot_meta(&chain).is_ok_and(|meta| meta.boot == boot);
            if !sound {
                dropped.insert(chain);
            }
        }
        self.add_children(&mut dropped)?;
        for chain in &dropped {
            tracing::info!(%chain, "discarding a snapshot that was not synced before the machine stopped");
            self.remove_snapshot(chain)?;
        }
        replace(&self.temporary("boot"), &self.path("cache/boot"), boot.as_bytes(), Durability::Renamed)
    }

    /// Adds the chains whose parent is in the set, or nowhere.
    pub(crate) fn add_children(&self, dropped: &mut BTreeSet<Digest>) -> Result<()> {
        let all = self.chains()?;
        let known: BTreeSet<Digest> = all.iter().copied().collect();
        loop {
            let before = dropped.len();
            for chain in &all {
                let meta = self.snapshot_meta(chain).ok();
                let needed = meta.iter().flat_map(|meta| [meta.layer.parent, meta.over]).flatten();
                if needed.into_iter().any(|needed| dropped.contains(&needed) || !known.contains(&needed)) {
                    dropped.insert(*chain);
                }
            }
            if dropped.len() == before {
                return Ok(());
            }
        }
    }

    /// Takes the snapshot out of sight in one step, then removes its files.
    pub(crate) fn remove_snapshot(&self, chain: &Digest) -> Result<()> {
        let path = self.snapshot_path(chain);
        let grave = self.temporary("dead");
        match std::fs::rename(&path, &grave) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(writing(&path)(error)),
            Ok(()) => remove_tree(&grave),
        }
    }
}

impl Draft {
    /// The chain below.
    pub fn parent(&self) -> Option<&Digest> {
        self.parent.as_ref()
    }

    /// Whether there is nothing below that an overlay would have to show.
    pub fn stands_alone(&self) -> bool {
        self.parent.is_none() && self.over.is_none()
    }

    /// Turns the upper directory into a layer, without copying it: its tar is hashed, then it is renamed into place.
    ///
    /// The overlay must be unmounted before. When the same chain is here already, that one is used and this one is dropped.
    pub fn commit(self, options: CommitOptions) -> Result<Layer> {
        let below = self.store.root_metadata(self.parent.as_ref())?;
        let mut sink = HashAhead::default();
        let over = self.over.as_ref().map(|over| self.store.varied(over)).transpose()?;
        write_varied(&self.upper, over.as_deref(), TreeOptions { times: Times::All(options.mtime), stamp: true, below }, &mut sink)?;
        let (diff_id, size_bytes) = sink.finish().map_err(reading(&self.upper))?;
        self.publish(diff_id, size_bytes, Some(options.mtime), None)
    }

    /// Gives the snapshot its name.
    pub(crate) fn publish(self, diff_id: Digest, size_bytes: u64, mtime: Option<i64>, source: Option<Descriptor>) -> Result<Layer> {
        let chain_id = Digest::chain(self.parent.as_ref(), &diff_id);
        let layer = Layer { diff_id, chain_id, parent: self.parent, size_bytes };
        if self.store.has_chain(&chain_id) {
            return Ok(layer);
        }
        remove_tree(&self.work)?;
        let meta = SnapshotMeta { layer, mtime, source, boot: boot_id()?, over: self.over };
        let path = self.dir.join("meta.json");
        let bytes = serde_json::to_vec(&meta).map_err(|source| StoreError::Encode { what: path.display().to_string(), source })?;
        std::fs::write(&path, bytes).map_err(writing(&path))?;
        let target = self.store.snapshot_path(&chain_id);
        let cwd = rustix::fs::CWD;
        match rustix::fs::renameat_with(cwd, &self.dir, cwd, &target, RenameFlags::NOREPLACE) {
            // Another thread or process made the same layer at the same time.
            Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(layer),
            Err(error) => Err(writing(&target)(error)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a commit the directory has its new name.
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "a draft could not be removed; the next start tries again");
        }
    }
}

/// The kernel's identity of this run of the machine.
fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(reading(path))
}
