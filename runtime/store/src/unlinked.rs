//! Blobs that a repository no longer has, although the store does: a registry's clients deleted them there. The store shares blobs between all repositories,
//! so what goes is a repository's link; the bytes go with a prune, when nothing else needs them.

use std::io;
use std::path::PathBuf;

use strake_oci::Digest;

use crate::error::{Result, reading, removing, writing};
use crate::files::make_dir;
use crate::store::Store;

/// Notes: the digest of a repository's name, a dot, the digits of the blob's digest.
const UNLINKED: &str = "unlinked";

impl Store {
    /// Notes that a repository does not have a blob any more.
    pub fn unlink(&self, repository: &str, blob: &Digest) -> Result<()> {
        make_dir(&self.path(UNLINKED))?;
        let path = self.unlinked_path(repository, blob);
        std::fs::write(&path, b"").map_err(writing(&path))
    }

    /// Notes that a repository has a blob (again).
    pub fn relink(&self, repository: &str, blob: &Digest) -> Result<()> {
        let path = self.unlinked_path(repository, blob);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(removing(&path)),
        }
    }

    /// Whether a blob was deleted from a repository and has not come back.
    pub fn is_unlinked(&self, repository: &str, blob: &Digest) -> bool {
        self.unlinked_path(repository, blob).exists()
    }

    /// Removes notes about blobs that the store no longer has.
    pub fn sweep_unlinked(&self) -> Result<()> {
        let parent = self.path(UNLINKED);
        let entries = match std::fs::read_dir(&parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(reading(&parent))?,
        };
        for entry in entries {
            let path = entry.map_err(reading(&parent))?.path();
            let blob = path.extension().and_then(|hex| format!("sha256:{}", hex.to_str()?).parse::<Digest>().ok());
            if !blob.is_some_and(|blob| self.has(&blob)) {
                std::fs::remove_file(&path).map_err(removing(&path))?;
            }
        }
        Ok(())
    }

    fn unlinked_path(&self, repository: &str, blob: &Digest) -> PathBuf {
        self.path(UNLINKED).join(format!("{}.{}", Digest::of(repository.as_bytes()).hex(), blob.hex()))
    }
}
