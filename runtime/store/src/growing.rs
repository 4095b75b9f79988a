//! Packed layers that are read while they are being made: whoever sends one need not wait for its end.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use strake_oci::Digest;

use crate::blob::Blob;

/// A watcher hears of a blob's growth when so much was added.
const STEP_BYTES: u64 = 1 << 20;

/// What happens to a layer that is being packed. One that was packed before, or came as a blob, is not made and tells nothing.
#[derive(Clone, Debug)]
pub enum Growth {
    /// It is begun. The file only ever grows, and can be read here whatever becomes of its name.
    Begun {
        /// The layer.
        diff_id: Digest,
        /// What there is of its blob.
        file: Arc<File>,
    },
    /// The first bytes of the blob are there, and stay as they are.
    Grown {
        /// The layer.
        diff_id: Digest,
        /// So many.
        size_bytes: u64,
    },
    /// All of it is there and was made of the right files. It is not in the store yet, because it is not on disk.
    Complete {
        /// The layer.
        diff_id: Digest,
        /// What it became.
        blob: Blob,
    },
}

/// Hears of everything that is packed, on whichever thread packs. One that is slow makes packing slow.
pub type Watcher = Arc<dyn Fn(Growth) + Send + Sync>;

/// One blob's watcher.
pub(crate) struct Watching {
    diff_id: Digest,
    watcher: Watcher,
    told_bytes: u64,
}

impl Watching {
    pub(crate) fn begin(diff_id: Digest, file: &File, watcher: Watcher) -> io::Result<Self> {
        watcher(Growth::Begun { diff_id, file: Arc::new(file.try_clone()?) });
        Ok(Watching { diff_id, watcher, told_bytes: 0 })
    }

    pub(crate) fn grown(&mut self, size_bytes: u64) {
        if size_bytes - self.told_bytes >= STEP_BYTES {
            self.told_bytes = size_bytes;
            (self.watcher)(Growth::Grown { diff_id: self.diff_id, size_bytes });
        }
    }

    pub(crate) fn complete(&self, blob: Blob) {
        (self.watcher)(Growth::Complete { diff_id: self.diff_id, blob });
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").field("diff_id", &self.diff_id).finish_non_exhaustive()
    }
}
