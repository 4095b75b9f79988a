//! Directories that are no layers (cache mounts of builds) as blobs, and back: with their own times, which programs like `make` and `cargo` go by.

use std::os::fd::AsFd;
use std::path::Path;

use strake_oci::{Descriptor, Digest};

use crate::error::{Result, StoreError, reading, writing};
use crate::extract::{ExtractOptions, Limits};
use crate::files::remove_tree;
use crate::image::{descriptor, digest_of};
use crate::pack::Packer;
use crate::packing::Packing;
use crate::store::Store;
use crate::tape::tree::{RootMetadata, Times, TreeOptions, write_tree};
use crate::unpack::open_root;

impl Store {
    /// The files of a directory as a blob: gives the digest of their tar, and the blob. Times are kept to the second.
    ///
    /// # Errors
    /// A file that cannot be read or changes its length while it is; a name that begins with `.wh.`.
    pub fn pack_files(&self, dir: &Path, packing: impl Into<Packing>) -> Result<(Digest, Descriptor)> {
        let _lease = self.lease()?;
        let packing = packing.into();
        // A root that differs from every real one, so that its metadata are always written.
        let below = RootMetadata { mode: u32::MAX, ..RootMetadata::DEFAULT };
        let mut sink = Packer::new(self.writer()?, packing).map_err(writing(dir))?;
        let diff_id = {
            let mut tee = crate::pack::Tee::new(&mut sink);
            write_tree(dir, TreeOptions { times: Times::Kept, stamp: false, below }, &mut tee)?;
            tee.finish().map_err(reading(dir))?
        };
        let blob = sink.finish().map_err(writing(dir))?.commit(None)?;
        Ok((diff_id, descriptor(packing.compression.media_type(), &blob.digest, blob.size_bytes)?))
    }

    /// Puts the files of such a blob into an empty directory. After an error the directory is to be removed.
    ///
    /// # Errors
    /// A blob that is not what its descriptor says, or whose tar is not `expected`; an archive that is refused.
    pub fn extract_files(&self, blob: &Descriptor, expected: &Digest, dir: &Path) -> Result<()> {
        let root = open_root(dir)?;
        let options = ExtractOptions { root_metadata: true, limits: Limits::default(), ..ExtractOptions::default() };
        let (found, _) = self.extract_to(blob, root.as_fd(), dir, &options)?;
        if found == *expected { Ok(()) } else { Err(StoreError::DiffIdMismatch { blob: digest_of(blob)?, expected: *expected, found }) }
    }

    /// Takes a directory below the store's root out of sight in one step, then removes its files; one that is not there is fine.
    pub fn discard(&self, path: &Path) -> Result<()> {
        let grave = self.temporary("dead");
        match std::fs::rename(path, &grave) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(writing(path)(error)),
            Ok(()) => remove_tree(&grave),
        }
    }
}
