//! The build cache: keys, the digests of what steps read, and locks. Results themselves are the store's.

mod content;
mod document;
mod export;
mod imports;
mod key;
mod listing;
mod lock;
mod stat;

pub(crate) use content::{Decided, content};
pub use document::{BlobSource, CACHE_CONFIG_TYPE, CacheDocument, CacheDocumentError, CacheMount, CacheRecord, ImportedCache, MountChoice};
pub use export::{CacheExport, ExportError, InlineCache, PackedCache, Share, StepRecord, pack_cache};
pub(crate) use export::{image_records, step_records};
pub(crate) use imports::{Broken, Imports, Use, told};
pub(crate) use key::{Reads, key};
pub(crate) use listing::{Listings, listing};
pub(crate) use lock::KeyLock;
pub(crate) use stat::{Content, StatCache};
