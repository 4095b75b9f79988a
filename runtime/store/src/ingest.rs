//! Blobs that arrive in parts: `ingest/<name>` holds what is here of one, and its lock tells who is at work on it. What arrived stays there when its writer
//! dies, for the next one to go on with; it is not visible as a blob before it is complete, verified and synced.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use strake_oci::{Digest, Hasher};

use crate::blob::Blob;
use crate::error::{Result, StoreError, reading, removing, writing};
use crate::files::{make_dir, sync_dir};
use crate::store::Store;

/// The directory of what arrives.
pub(crate) const INGEST: &str = "ingest";
/// Notes about blobs that came by themselves, before anything that names them.
const HELD: &str = "ingest/held";
/// Before the names of uploads; pulls are named by their digest alone.
const UPLOAD: &str = "upload-";
/// How long the rest of an upload is waited for, and how long a blob that nothing names is kept because a manifest may follow.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A blob in the making, by this caller alone. Dropped, it stays as far as it is.
pub struct Ingest {
    store: Store,
    /// Locked for as long as it is open.
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size_bytes: u64,
}

impl Store {
    /// Starts or goes on with fetching a blob; `None` while somebody else does, in this process or another. What is here already is read once, for its digest.
    pub fn try_ingest(&self, digest: &Digest) -> Result<Option<Ingest>> {
        self.open_ingest(&digest.hex(), true)
    }

    /// How much of a blob that is being fetched is here, in bytes.
    pub fn arrived_bytes(&self, digest: &Digest) -> u64 {
        std::fs::metadata(self.path(INGEST).join(digest.hex())).map_or(0, |metadata| metadata.len())
    }

    /// Starts an upload under a name of letters, digits and dashes that nobody else uses.
    pub fn begin_upload(&self, name: &str) -> Result<()> {
        self.open_ingest(&upload_name(name)?, true).map(drop)
    }

    /// Goes on with an upload; `None` while another request writes to it.
    ///
    /// # Errors
    /// [`StoreError::UploadMissing`] when there is none of that name (any more).
    pub fn upload(&self, name: &str) -> Result<Option<Ingest>> {
        let file = upload_name(name)?;
        match self.open_ingest(&file, false) {
            Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Err(StoreError::UploadMissing { name: name.to_owned() }),
            other => other,
        }
    }

    /// Removes uploads that nobody went on with for an hour; gives how many.
    pub fn sweep_uploads(&self) -> Result<usize> {
        let mut count = 0;
        for (path, name, age, _) in self.ingests()? {
            if name.starts_with(UPLOAD)
                && age > PATIENCE
                && let Some(_alone) = idle(&path)?
            {
                std::fs::remove_file(&path).map_err(removing(&path))?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Keeps a blob that nothing names yet from [`Store::prune`], for an hour: a manifest that names it is on its way.
    pub fn hold(&self, digest: &Digest) -> Result<()> {
        make_dir(&self.path(INGEST))?;
        make_dir(&self.path(HELD))?;
        let path = self.path(HELD).join(digest.hex());
        std::fs::write(&path, b"").map_err(writing(&path))
    }

    /// Whether a blob is held.
    pub fn is_held(&self, digest: &Digest) -> bool {
        self.path(HELD).join(digest.hex()).exists()
    }

    /// Holds a blob no longer.
    pub fn release(&self, digest: &Digest) -> Result<()> {
        let path = self.path(HELD).join(digest.hex());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(removing(&path)),
        }
    }

    /// Blobs that are held; notes that are too old go.
    pub(crate) fn held(&self) -> Result<Vec<Digest>> {
        let parent = self.path(HELD);
        let mut held = Vec::new();
        let entries = match std::fs::read_dir(&parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(held),
            other => other.map_err(reading(&parent))?,
        };
        for entry in entries {
            let entry = entry.map_err(reading(&parent))?;
            let digest = entry.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
            match digest.filter(|_| age(&entry) <= PATIENCE) {
                Some(digest) => held.push(digest),
                None => std::fs::remove_file(entry.path()).map_err(removing(&entry.path()))?,
            }
        }
        Ok(held)
    }

    /// Whether what arrived in part may still be gone on with: somebody is at work on it, or it is an upload of the last hour.
    pub(crate) fn is_arriving(&self, name: &str) -> Result<bool> {
        let path = self.path(INGEST).join(name);
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { return Ok(false) };
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
        Ok((name.starts_with(UPLOAD) && age <= PATIENCE) || idle(&path)?.is_none())
    }

    /// Removes what arrived in part, unless somebody is at work on it.
    pub(crate) fn abandon(&self, name: &str) -> Result<()> {
        let path = self.path(INGEST).join(name);
        match idle(&path)? {
            Some(_alone) => std::fs::remove_file(&path).map_err(removing(&path)),
            None => Ok(()),
        }
    }

    /// Path, name, age and length of everything that is arriving.
    fn ingests(&self) -> Result<Vec<(PathBuf, String, Duration, u64)>> {
        let parent = self.path(INGEST);
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(&parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            other => other.map_err(reading(&parent))?,
        };
        for entry in entries {
            let entry = entry.map_err(reading(&parent))?;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                found.push((entry.path(), entry.file_name().to_string_lossy().into_owned(), age(&entry), metadata.len()));
            }
        }
        Ok(found)
    }

    fn open_ingest(&self, name: &str, create: bool) -> Result<Option<Ingest>> {
        make_dir(&self.path(INGEST))?;
        let path = self.path(INGEST).join(name);
        loop {
            let opened = OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(&path);
            let mut file = if create { opened.map_err(writing(&path))? } else { opened.map_err(reading(&path))? };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                other => other.map_err(writing(&path))?,
            }
            // Whoever had the lock before may have made the file a blob, or removed it.
            let named = std::fs::metadata(&path).map(|metadata| metadata.ino()).ok();
            if named != file.metadata().map(|metadata| metadata.ino()).ok() {
                continue;
            }
            let (mut hasher, mut piece, mut size_bytes) = (Hasher::default(), vec![0; 256 << 10], 0);
            loop {
                match file.read(&mut piece).map_err(reading(&path))? {
                    0 => break,
                    got => {
                        hasher.update(&piece[..got]);
                        size_bytes += got as u64;
                    }
                }
            }
            return Ok(Some(Ingest { store: self.clone(), file, path, hasher, size_bytes }));
        }
    }
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("path", &self.path).field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl Ingest {
    /// How much is here, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Adds bytes at the end. When the disk is full, everything that arrived is removed.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            let error = writing(&self.path)(error);
            if error.is_disk_full() {
                self.restart()?;
                let _ = std::fs::remove_file(&self.path);
            }
            return Err(error);
        }
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what is here.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(writing(&self.path))?;
        self.file.rewind().map_err(writing(&self.path))?;
        (self.hasher, self.size_bytes) = (Hasher::default(), 0);
        Ok(())
    }

    /// Removes what is here.
    pub fn discard(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(removing(&self.path))
    }

    /// Verifies, syncs and publishes the blob.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when the content is not `expected`; then what arrived is removed.
    pub fn commit(mut self, expected: &Digest) -> Result<Blob> {
        let found = std::mem::take(&mut self.hasher).finish();
        if found != *expected {
            self.discard()?;
            return Err(StoreError::DigestMismatch { expected: *expected, found });
        }
        let blob = Blob { digest: found, size_bytes: self.size_bytes };
        if self.store.size(&found) == Some(self.size_bytes) {
            self.discard()?;
            return Ok(blob);
        }
        let target = self.store.blob_path(&found);
        self.file.sync_all().map_err(writing(&self.path))?;
        std::fs::rename(&self.path, &target).map_err(writing(&target))?;
        sync_dir(&self.store.path("blobs/sha256"))?;
        Ok(blob)
    }
}

fn upload_name(name: &str) -> Result<String> {
    let good = !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if good { Ok(format!("{UPLOAD}{name}")) } else { Err(StoreError::UploadMissing { name: name.to_owned() }) }
}

fn age(entry: &std::fs::DirEntry) -> Duration {
    let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default()
}

/// The locked file, when nobody is at work on it.
fn idle(path: &std::path::Path) -> Result<Option<File>> {
    let file = File::open(path).map_err(reading(path))?;
    Ok(rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use strake_oci::Digest;

    use crate::{PruneOptions, Store, StoreError};

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root")).unwrap();
        (dir, store)
    }

    #[test]
    fn what_arrived_is_gone_on_with_by_one_at_a_time() {
        let (_dir, store) = open();
        let digest = Digest::of(b"one two");
        let mut first = store.try_ingest(&digest).unwrap().unwrap();
        first.append(b"one ").unwrap();
        assert!(store.try_ingest(&digest).unwrap().is_none(), "somebody is at work");
        assert!(Store::open(store.root()).unwrap().try_ingest(&digest).unwrap().is_none(), "another process would be kept away too");
        assert_eq!((store.arrived_bytes(&digest), store.has(&digest)), (4, false));
        drop(first);
        let mut second = store.try_ingest(&digest).unwrap().unwrap();
        assert_eq!(second.size_bytes(), 4);
        second.append(b"two").unwrap();
        assert_eq!(second.commit(&digest).unwrap().size_bytes, 7);
        assert_eq!((store.arrived_bytes(&digest), store.read(&digest, 10).unwrap().as_slice()), (0, &b"one two"[..]));
    }

    #[test]
    fn wrong_content_is_never_visible_and_goes() {
        let (_dir, store) = open();
        let digest = Digest::of(b"right");
        let mut ingest = store.try_ingest(&digest).unwrap().unwrap();
        ingest.append(b"wrong").unwrap();
        assert!(matches!(ingest.commit(&digest), Err(StoreError::DigestMismatch { .. })));
        assert_eq!((store.arrived_bytes(&digest), store.has(&digest)), (0, false));
        let mut ingest = store.try_ingest(&digest).unwrap().unwrap();
        ingest.append(b"wro").unwrap();
        ingest.restart().unwrap();
        ingest.append(b"right").unwrap();
        ingest.commit(&digest).unwrap();
    }

    #[test]
    fn a_prune_knows_what_is_on_its_way() {
        let (_dir, store) = open();
        let digest = Digest::of(b"pulled");
        store.try_ingest(&digest).unwrap().unwrap().append(b"pul").unwrap();
        store.begin_upload("new").unwrap();
        store.begin_upload("old").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(7200);
        std::fs::File::open(store.root().join("ingest/upload-old")).unwrap().set_modified(long_ago).unwrap();
        let (held, loose) = (store.put(b"held").unwrap().digest, store.put(b"loose").unwrap().digest);
        store.hold(&held).unwrap();
        let report = store.prune(PruneOptions::default()).unwrap();
        assert!(report.size_bytes >= 3, "{report:?}");
        assert_eq!((store.arrived_bytes(&digest), store.has(&held), store.has(&loose)), (0, true, false));
        assert!(store.upload("new").unwrap().is_some());
        assert!(matches!(store.upload("old"), Err(StoreError::UploadMissing { .. })));
        assert!(matches!(store.upload("../x"), Err(StoreError::UploadMissing { .. })));
        std::fs::File::open(store.root().join("ingest/held").join(held.hex())).unwrap().set_modified(long_ago).unwrap();
        store.prune(PruneOptions::default()).unwrap();
        assert!(!store.has(&held));
        std::fs::File::open(store.root().join("ingest/upload-new")).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(store.sweep_uploads().unwrap(), 1);
    }
}
