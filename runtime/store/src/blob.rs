//! Content-addressed blobs, `blobs/sha256/<hex>`: verified and synced before they are visible.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use strake_oci::{Digest, Hasher};

use crate::error::{Result, StoreError, reading, removing, writing};
use crate::files::{create, sync_dir};
use crate::growing::Watching;
use crate::store::Store;

/// A blob that is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Of its content.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// Writes one blob: to a temporary file, hashing on the way. Dropped without [`BlobWriter::commit`], it leaves nothing.
pub struct BlobWriter {
    store: Store,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size_bytes: u64,
    /// How much the kernel was told to begin writing to disk.
    begun_bytes: u64,
    /// Who is told of every step.
    watching: Option<Watching>,
}

/// The kernel begins to write a long blob to disk while it is being made, so that the sync at its end is short.
const BEGIN_BYTES: u64 = 16 << 20;

impl Store {
    /// Whether the blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// The blob's length in bytes, if it is here.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.blob_path(digest)).ok().map(|metadata| metadata.len())
    }

    /// Opens the blob for reading. Its bytes are not checked again: a reader that depends on them hashes as it reads.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::BlobMissing { digest: *digest },
            _ => StoreError::Read { path, source },
        })
    }

    /// The whole blob, verified against its digest; refused when longer than `max_bytes`.
    pub fn read(&self, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>> {
        let file = self.open_blob(digest)?;
        let path = self.blob_path(digest);
        let size_bytes = file.metadata().map_err(reading(&path))?.len();
        if size_bytes > max_bytes {
            return Err(StoreError::TooLarge { digest: *digest, size_bytes, max_bytes });
        }
        let mut bytes = Vec::with_capacity(size_bytes as usize);
        file.take(max_bytes).read_to_end(&mut bytes).map_err(reading(&path))?;
        let found = Digest::of(&bytes);
        if found == *digest { Ok(bytes) } else { Err(StoreError::DigestMismatch { expected: *digest, found }) }
    }

    /// Starts a blob.
    pub fn writer(&self) -> Result<BlobWriter> {
        let path = self.temporary("blob");
        let file = create(&path)?;
        Ok(BlobWriter { store: self.clone(), file, path, hasher: Hasher::default(), size_bytes: 0, begun_bytes: 0, watching: None })
    }

    /// Stores bytes that are in memory.
    pub fn put(&self, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 };
        if self.size(&blob.digest) == Some(blob.size_bytes) {
            return Ok(blob);
        }
        let mut writer = self.writer()?;
        writer.append(bytes)?;
        writer.commit(Some(&blob.digest))
    }

    /// Removes a blob; one that is not here is fine. Whether something still refers to it is the caller's question (or [`Store::prune`]'s).
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let path = self.blob_path(digest);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(removing(&path)),
        }
    }

    /// Every blob's digest and length, in no order. Files with other names are left alone.
    pub fn blobs(&self) -> Result<Vec<Blob>> {
        let parent = self.path("blobs/sha256");
        let mut blobs = Vec::new();
        for entry in std::fs::read_dir(&parent).map_err(reading(&parent))? {
            let entry = entry.map_err(reading(&parent))?;
            let digest = entry.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
            if let (Some(digest), Ok(metadata)) = (digest, entry.metadata()) {
                blobs.push(Blob { digest, size_bytes: metadata.len() });
            }
        }
        Ok(blobs)
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }
}

impl BlobWriter {
    /// From now on somebody is told how far the blob is, and reads what there is of it.
    pub(crate) fn watched(mut self, watching: impl FnOnce(&File) -> io::Result<Watching>) -> Result<Self> {
        self.watching = Some(watching(&self.file).map_err(writing(&self.path))?);
        Ok(self)
    }

    /// Adds bytes, with the store's own error (the [`Write`] implementation gives the bare I/O error).
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(writing(&self.path))?;
        self.hasher.update(bytes);
        self.added(bytes.len());
        Ok(())
    }

    fn added(&mut self, length: usize) {
        self.size_bytes += length as u64;
        self.begin_writing();
        if let Some(watching) = &mut self.watching {
            watching.grown(self.size_bytes);
        }
    }

    fn begin_writing(&mut self) {
        let length = self.size_bytes - self.begun_bytes;
        if length >= BEGIN_BYTES {
            // What is dirty is written and stays in memory: only clean pages are given up (Linux, mm/fadvise.c). Nothing depends on it.
            let _ = rustix::fs::fadvise(&self.file, self.begun_bytes, std::num::NonZeroU64::new(length), rustix::fs::Advice::DontNeed);
            self.begun_bytes = self.size_bytes;
        }
    }

    /// How many bytes were added so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Verifies, syncs and publishes the blob.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when the content is not `expected`; then nothing is published.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<Blob> {
        let digest = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(StoreError::DigestMismatch { expected: *expected, found: digest });
        }
        let blob = Blob { digest, size_bytes: self.size_bytes };
        if let Some(watching) = &self.watching {
            watching.complete(blob);
        }
        if self.store.size(&digest) == Some(self.size_bytes) {
            return Ok(blob);
        }
        let target = self.store.blob_path(&digest);
        self.file.sync_all().map_err(writing(&self.path))?;
        std::fs::rename(&self.path, &target).map_err(writing(&target))?;
        sync_dir(&self.store.path("blobs/sha256"))?;
        Ok(blob)
    }
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobWriter").field("path", &self.path).field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.added(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // After a commit the name is gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}
