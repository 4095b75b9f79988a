//! Opening a store: its layout, its version, and the temporaries of processes that died.

use std::fmt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;

use crate::error::{Result, StoreError, reading, writing};
use crate::files::{Durability, Lock, make_dir, read_optional, remove_tree, replace};

/// The layout that this release writes.
const FORMAT: u32 = 1;

/// Blobs, images, snapshots and cache records below one directory. Cheap to clone; any number of processes may have the same root open.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    session: PathBuf,
    serial: AtomicU64,
    /// Held for as long as this process uses its temporaries: whoever can take it knows that the owner is dead.
    _alive: Lock,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = remove_tree(&self.session);
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.inner.root).finish()
    }
}

/// A promise that [`Store::prune`] removes nothing while it is held.
///
/// Hold one from the first [`Store::cached`] of a build to its [`Store::tag`]. Drafts, working file systems' creation, unpacking and importing
/// take their own.
#[derive(Debug)]
pub struct Lease {
    _lock: Lock,
}

impl Store {
    /// Opens the store at `root`, creating it when missing.
    ///
    /// Temporaries of dead processes are removed, and after a restart of the machine also the snapshots that were never synced.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`] when a later release wrote the root; otherwise what could not be read or written.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(root).map_err(writing(root))?;
        let root = root.canonicalize().map_err(reading(root))?;
        let fresh = check_format(&root)?;
        for name in ["blobs", "blobs/sha256", "snapshots", "cache", "cache/steps", "cache/packed", "containers-fs", "empty", "tmp"] {
            make_dir(&root.join(name))?;
        }
        let (session, alive) = begin_session(&root)?;
        let store = Store { inner: Arc::new(Inner { root, session, serial: AtomicU64::new(0), _alive: alive }) };
        if fresh {
            store.write_layout()?;
        }
        store.sweep_temporaries()?;
        store.discard_unsynced_after_restart()?;
        Ok(store)
    }

    /// The directory of this store, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Keeps [`Store::prune`] away until the lease is dropped; waits for a prune that is running.
    pub fn lease(&self) -> Result<Lease> {
        Lock::hold(&self.path("tmp/.gc-lock"), FlockOperation::LockShared).map(|lock| Lease { _lock: lock })
    }

    /// The opposite of a lease: nobody else holds one.
    pub(crate) fn exclusive(&self) -> Result<Lease> {
        match Lock::try_hold(&self.path("tmp/.gc-lock"), FlockOperation::NonBlockingLockExclusive)? {
            Some(lock) => Ok(Lease { _lock: lock }),
            None => Err(StoreError::Busy { root: self.root().to_owned() }),
        }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.inner.root.join(relative)
    }

    /// A name in this process's own temporary directory that nobody else uses.
    pub(crate) fn temporary(&self, kind: &str) -> PathBuf {
        let serial = self.inner.serial.fetch_add(1, Ordering::Relaxed);
        self.inner.session.join(format!("{kind}-{serial}"))
    }

    fn write_layout(&self) -> Result<()> {
        let put = |name: &str, text: &str| replace(&self.temporary("layout"), &self.path(name), text.as_bytes(), Durability::Synced);
        put("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}")?;
        let _lock = self.lock_index()?;
        if read_optional(&self.path("index.json"))?.is_none() {
            put("index.json", "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}")?;
        }
        put("version", &format!("{FORMAT}\n"))
    }

    /// Removes what dead processes left below `tmp/`.
    fn sweep_temporaries(&self) -> Result<()> {
        let mut dead = Vec::new();
        {
            let _lock = Lock::hold(&self.path("tmp/.lock"), FlockOperation::LockExclusive)?;
            let parent = self.path("tmp");
            for entry in std::fs::read_dir(&parent).map_err(reading(&parent))? {
                let path = entry.map_err(reading(&parent))?.path();
                if path == self.inner.session || !path.is_dir() {
                    continue;
                }
                if Lock::try_hold(&path.join("alive"), FlockOperation::NonBlockingLockExclusive)?.is_some() {
                    let grave = self.temporary("dead");
                    std::fs::rename(&path, &grave).map_err(writing(&path))?;
                    dead.push(grave);
                }
            }
        }
        for grave in dead {
            tracing::debug!(path = %grave.display(), "removing the temporaries of a dead process");
            if let Err(error) = remove_tree(&grave) {
                // Not worth refusing to start: it is tried again with our own temporaries.
                tracing::warn!(path = %grave.display(), %error, "temporaries of a dead process could not be removed");
            }
        }
        Ok(())
    }
}

/// Refuses a later format; says whether the root is new (or its creation was interrupted).
fn check_format(root: &Path) -> Result<bool> {
    let Some(bytes) = read_optional(&root.join("version"))? else { return Ok(true) };
    let found = String::from_utf8_lossy(&bytes).trim().to_owned();
    match found.parse::<u32>() {
        Ok(format) if format <= FORMAT => Ok(false),
        _ => Err(StoreError::NewerFormat { root: root.to_owned(), found, known: FORMAT }),
    }
}

/// Makes this process's temporary directory and holds its lock. The names are never reused while their owner lives, whatever its process id.
fn begin_session(root: &Path) -> Result<(PathBuf, Lock)> {
    let _lock = Lock::hold(&root.join("tmp/.lock"), FlockOperation::LockExclusive)?;
    let id = std::process::id();
    for attempt in 0_u64.. {
        let path = root.join(format!("tmp/{id}-{attempt}"));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok((path.clone(), Lock::hold(&path.join("alive"), FlockOperation::LockExclusive)?)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(writing(&path)(error)),
        }
    }
    Err(StoreError::Busy { root: root.to_owned() })
}
