//! Looking for damage: every blob, image and snapshot is read in full.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use strake_oci::{Digest, Hasher};

use crate::error::{Result, StoreError, reading};
use crate::image::{digest_of, name_of};
use crate::snapshot::SnapshotMeta;
use crate::store::Store;
use crate::tape::sink::HashAhead;
use crate::tape::tree::{Times, TreeOptions, write_tree};

/// One thing that is wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// A blob whose bytes are not what its name says: remove it, then pull or build again.
    Blob { digest: Digest, found: Digest },
    /// An image that lacks something, or whose manifest or configuration cannot be read.
    Image { reference: String, why: StoreError },
    /// A snapshot that is not what its record says: remove it, then unpack or build again.
    Snapshot { chain: Digest, why: StoreError },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Blob { digest, found } => write!(f, "blob {digest} is corrupt: its digest is {found}"),
            Problem::Image { reference, why } => write!(f, "image {reference}: {why}"),
            Problem::Snapshot { chain, why } => write!(f, "snapshot {chain}: {why}"),
        }
    }
}

impl Store {
    /// Checks everything; an empty list is a sound store. Reads every byte, so it takes as long as that takes.
    pub fn verify(&self) -> Result<Vec<Problem>> {
        let _lease = self.lease()?;
        let mut problems = Vec::new();
        for blob in self.blobs()? {
            let mut hasher = Hasher::default();
            let path = self.blob_path(&blob.digest);
            io::copy(&mut self.open_blob(&blob.digest)?, &mut hasher).map_err(reading(&path))?;
            let found = hasher.finish();
            if found != blob.digest {
                problems.push(Problem::Blob { digest: blob.digest, found });
            }
        }
        for entry in self.read_index()?.manifests() {
            let reference = name_of(entry).unwrap_or("without a name").to_owned();
            match self.leaves(entry) {
                Err(why) => problems.push(Problem::Image { reference, why }),
                Ok(leaves) => {
                    for leaf in leaves {
                        let checked = match self.artifact_at(&leaf) {
                            Ok(Some(blobs)) => self.artifact_is_complete(&blobs),
                            _ => self.manifest_at(&leaf).and_then(|image| self.complete(&image)),
                        };
                        if let Err(why) = checked {
                            problems.push(Problem::Image { reference: reference.clone(), why });
                        }
                    }
                }
            }
        }
        let chains: BTreeSet<Digest> = self.chains()?.into_iter().collect();
        for chain in &chains {
            if let Err(why) = self.check_snapshot(chain) {
                problems.push(Problem::Snapshot { chain: *chain, why });
            }
        }
        Ok(problems)
    }

    /// Whether every layer is here: as a snapshot, or as a blob that gives one.
    fn complete(&self, image: &crate::image::Image) -> Result<()> {
        let mut parent = None;
        for (layer, diff_id) in image.manifest.layers().iter().zip(&image.config.rootfs.diff_ids) {
            let chain = Digest::chain(parent.as_ref(), diff_id);
            let digest = digest_of(layer)?;
            match (self.size(&digest), self.has_chain(&chain)) {
                (Some(found), _) if found != layer.size() => return Err(StoreError::SizeMismatch { digest, expected: layer.size(), found }),
                (None, false) => return Err(StoreError::BlobMissing { digest }),
                _ => {}
            }
            parent = Some(chain);
        }
        Ok(())
    }

    fn check_snapshot(&self, chain: &Digest) -> Result<()> {
        let meta = self.snapshot_meta(chain)?;
        let layer = meta.layer;
        if layer.chain_id != *chain || Digest::chain(layer.parent.as_ref(), &layer.diff_id) != *chain {
            return Err(StoreError::Invalid { what: "its record".to_owned(), reason: "it describes another chain".to_owned() });
        }
        if let Some(parent) = layer.parent.filter(|parent| !self.has_chain(parent)) {
            return Err(StoreError::ChainMissing { chain: parent });
        }
        if meta.mtime.is_some() {
            let mut counted = Counted(0);
            self.write_tar(&layer, &mut counted)?;
            return same_size(&meta, counted.0);
        }
        self.check_unpacked(&meta)
    }

    /// An unpacked layer is compared with what its blob gives now.
    fn check_unpacked(&self, meta: &SnapshotMeta) -> Result<()> {
        let Some(source) = &meta.source else { return Err(StoreError::ChainMissing { chain: meta.layer.chain_id }) };
        let draft = self.begin(meta.layer.parent.as_ref())?;
        let (diff_id, size_bytes) = self.extract_blob(source, &draft)?;
        if diff_id != meta.layer.diff_id {
            return Err(StoreError::DiffIdMismatch { blob: digest_of(source)?, expected: meta.layer.diff_id, found: diff_id });
        }
        same_size(meta, size_bytes)?;
        let options = TreeOptions { times: Times::All(0), stamp: false, below: self.root_metadata(meta.layer.parent.as_ref())? };
        let sum = |root: &std::path::Path| {
            let mut sink = HashAhead::default();
            write_tree(root, options, &mut sink)?;
            sink.finish().map(|(digest, _)| digest).map_err(reading(root))
        };
        let (expected, found) = (sum(&draft.upper)?, sum(&self.snapshot_path(&meta.layer.chain_id).join("fs"))?);
        if expected == found { Ok(()) } else { Err(StoreError::SnapshotCorrupt { chain: meta.layer.chain_id, expected, found }) }
    }
}

fn same_size(meta: &SnapshotMeta, found: u64) -> Result<()> {
    let expected = meta.layer.size_bytes;
    if expected == found { Ok(()) } else { Err(StoreError::SizeMismatch { digest: meta.layer.diff_id, expected, found }) }
}

struct Counted(u64);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
