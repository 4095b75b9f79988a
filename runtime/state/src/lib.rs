//! Objects at revisions: read from memory, written with compare-and-set, watched in order.
//!
//! One counter numbers every write; a write is acknowledged only when it is as durable as its back end can make it. [`Memory`] keeps nothing,
//! [`Embedded`] keeps a file. Both give the meaning that `tests/it/contract.rs` writes down; another back end is right when it passes that suite.
//!
//! Values are opaque bytes here. Keys are text whose order and prefixes the caller chooses (the API uses `group/resource/namespace/name`).

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

mod board;
mod embedded;
mod memory;
mod watch;

pub use embedded::Embedded;
pub use memory::Memory;
pub use watch::{Event, Watch};

/// The number of a write. The first write is 1; 0 means "before everything".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key holds. Cloning is cheap: text and bytes are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// The write that put this value here.
    pub revision: Revision,
    /// The value, as the writer encoded it.
    pub value: Bytes,
}

/// What a writer demands of the key before its write happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key holds nothing.
    Absent,
    /// The key holds the value of this very write.
    Revision(Revision),
    /// No demand. (A delete still needs something to delete.)
    Any,
}

/// A part of a listing, in key order, and the revision at which it was read.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Every write up to here is reflected in `entries`; a watch may begin after it.
    pub revision: Revision,
    /// How many more keys with the prefix follow the last entry.
    pub remaining: usize,
}

/// Makes the bytes of a value once its revision is known, so that a value can embed its own revision. It runs on the writing thread: keep it short.
pub type Encode = Box<dyn FnOnce(Revision) -> Bytes + Send>;

/// Makes the last bytes of a deleted value (what watchers are shown) from the entry that goes away.
pub type EncodeLast = Box<dyn FnOnce(Revision, &Entry) -> Bytes + Send>;

/// The answer to a write, ready once the write is durable.
pub type Ack = Pin<Box<dyn Future<Output = Result<Entry, StateError>> + Send>>;

/// The seam between the API and what keeps its objects.
pub trait State: Send + Sync {
    /// The newest durable revision.
    fn revision(&self) -> Revision;

    /// What `key` holds, from memory.
    fn get(&self, key: &str) -> Option<Entry>;

    /// At most `limit` entries (0: all) whose key starts with `prefix` and is greater than `after`, from memory and all of one moment.
    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Listing;

    /// Writes `key` if `expect` holds. The future gives the new entry; the write happens even when the future is dropped.
    fn put_if(&self, key: &str, expect: Expect, encode: Encode) -> Ack;

    /// Removes `key` if `expect` holds. The future gives what was removed, with the bytes of `encode` and the revision of the removal.
    fn delete_if(&self, key: &str, expect: Expect, encode: EncodeLast) -> Ack;

    /// Every write to a key that starts with `prefix`, made after the revision `after`, in order and without holes.
    ///
    /// # Errors
    /// [`StateError::Compacted`] when those events are not all remembered any more, or when `after` lies in the future: list again.
    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StateError>;
}

/// What can go wrong. Variants are named by what failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateError {
    /// The demand of a compare-and-set did not hold; `current` is what the key held.
    #[error("{key} is not what the write expected: {}", describe(.current))]
    Conflict {
        /// The key of the write.
        key: String,
        /// What it held when the write was tried.
        current: Option<Entry>,
    },
    /// A watch asked for events that are not remembered.
    #[error("revision {asked} cannot be resumed from: events since {oldest} up to {newest} are remembered")]
    Compacted {
        /// The revision that was asked for.
        asked: Revision,
        /// The oldest revision after which nothing is forgotten.
        oldest: Revision,
        /// The newest revision.
        newest: Revision,
    },
    /// Another process has the file.
    #[error("the state in {path} is in use by another process", path = .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a version of strake that this one cannot read.
    #[error("the state in {path} has format {found}; this version reads format {supported}", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it says it has.
        found: u64,
        /// The format that is understood.
        supported: u64,
    },
    /// The file could not be opened or created.
    #[error("opening the state in {path}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The file opened, but its content could not be read.
    #[error("reading the state in {path}", path = .path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<redb::Error>,
    },
    /// A group of writes could not be made durable. None of them happened.
    #[error("writing the state in {path}", path = .path.display())]
    Commit {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The writer has stopped: the process is ending.
    #[error("the state is closed")]
    Closed,
}

fn describe(current: &Option<Entry>) -> String {
    match current {
        Some(entry) => format!("it is at revision {}", entry.revision),
        None => "it does not exist".to_owned(),
    }
}
