//! What can go wrong in the store, named by the action that failed.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use strake_oci::{Digest, Platform};

use crate::extract::ExtractError;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The root was written by a later release.
    #[error("the store {} has format {found}; this strake reads format {known}: use the newer strake, or another --root", root.display())]
    NewerFormat { root: PathBuf, found: String, known: u32 },
    /// The file system, or the user's quota of it, is full. Whatever was being written is gone; nothing visible changed.
    #[error("no space left on the device for {}", path.display())]
    DiskFull { path: PathBuf, source: io::Error },
    /// A file or directory could not be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file or directory could not be written, created or renamed.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A file or directory could not be removed.
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    /// A build, pull or import holds the store while an exclusive operation was asked for.
    #[error("the store {} is in use by a build, a pull or an import; try again when it has ended", root.display())]
    Busy { root: PathBuf },
    /// No such blob.
    #[error("blob {digest} is not in the store")]
    BlobMissing { digest: Digest },
    /// No such upload, or it was given up long ago.
    #[error("there is no upload {name}")]
    UploadMissing { name: String },
    /// Bytes whose digest is not the one that was promised.
    #[error("content of {expected} is corrupt: its digest is {found}")]
    DigestMismatch { expected: Digest, found: Digest },
    /// Bytes whose length is not the one that was promised.
    #[error("content of {digest} has {found} bytes, its descriptor says {expected}")]
    SizeMismatch { digest: Digest, expected: u64, found: u64 },
    /// A document larger than what is sensible to hold in memory.
    #[error("{digest} has {size_bytes} bytes; at most {max_bytes} are read at once")]
    TooLarge { digest: Digest, size_bytes: u64, max_bytes: u64 },
    /// JSON that is not what it should be.
    #[error("cannot decode {what}")]
    Decode { what: String, source: serde_json::Error },
    /// JSON that could not be made.
    #[error("cannot encode {what}")]
    Encode { what: String, source: serde_json::Error },
    /// A well-formed document with an unacceptable meaning.
    #[error("{what} is not acceptable: {reason}")]
    Invalid { what: String, reason: String },
    /// No image of that reference or digest.
    #[error("image {name} is not in the store")]
    ImageMissing { name: String },
    /// The name stands for images of other platforms.
    #[error("image {name} is not here for {platform}: there is {}", list(available))]
    PlatformMissing { name: String, platform: Box<Platform>, available: Vec<Platform> },
    /// No snapshot of that chain id.
    #[error("snapshot {chain} is not in the store")]
    ChainMissing { chain: Digest },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {digest}")]
    Unpack { digest: Digest, source: ExtractError },
    /// A layer whose tar is not the one the image configuration names.
    #[error("layer {blob} unpacks to diff id {found}, the image configuration says {expected}")]
    DiffIdMismatch { blob: Digest, expected: Digest, found: Digest },
    /// A snapshot whose files no longer give the tar that it was made as.
    #[error("snapshot {chain} is corrupt: its files give diff id {found}, not {expected}")]
    SnapshotCorrupt { chain: Digest, expected: Digest, found: Digest },
    /// A file that is to be taken in could not be understood.
    #[error("cannot import {}: {reason}", path.display())]
    Import { path: PathBuf, reason: String },
    /// A file that is to be taken in could not be extracted.
    #[error("cannot extract {}", path.display())]
    Extract { path: PathBuf, source: ExtractError },
    /// A file whose name means "deleted" inside a layer.
    #[error("{} cannot be part of a layer: names that begin with .wh. mark deletions", path.display())]
    ReservedName { path: PathBuf },
    /// An overlay feature that a layer's tar cannot express (redirects and metadata-only copies are never switched on by strake).
    #[error("{} carries the overlay attribute {attribute}, which a layer cannot express", path.display())]
    OverlayFeature { path: PathBuf, attribute: String },
    /// The layers of an image could not be looked at as one tree.
    #[error("cannot view the files of the image as one tree")]
    View { source: crate::overlay::OverlayError },
    /// A directory tree deeper than what is walked.
    #[error("{} is nested deeper than {limit} directories", path.display())]
    TooDeep { path: PathBuf, limit: usize },
    /// A name of a container file system that is not a plain file name.
    #[error("`{name}` cannot name a container's file system: expected letters, digits, dot, dash and underscore")]
    Name { name: String },
    /// A container's file system exists on top of another chain.
    #[error("the file system of {name} exists already on top of {found}, not of {expected}")]
    OtherParent { name: String, found: String, expected: String },
}

fn list(platforms: &[Platform]) -> String {
    let shown: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    if shown.is_empty() { "no image in its index".to_owned() } else { shown.join(", ") }
}

/// Shorthand of this package.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// Maps an I/O error of reading `path`.
pub(crate) fn reading<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> StoreError + '_ {
    move |error| StoreError::Read { path: path.to_owned(), source: error.into() }
}

/// Maps an I/O error of writing `path`; a full disk gets its own variant.
pub(crate) fn writing<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> StoreError + '_ {
    move |error| {
        let source = error.into();
        let path = path.to_owned();
        if is_full(&source) { StoreError::DiskFull { path, source } } else { StoreError::Write { path, source } }
    }
}

/// Maps an I/O error of removing `path`.
pub(crate) fn removing<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> StoreError + '_ {
    move |error| StoreError::Remove { path: path.to_owned(), source: error.into() }
}

/// Whether an I/O error says that space, inodes or quota ran out.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(code) if code == Errno::NOSPC.raw_os_error() || code == Errno::DQUOT.raw_os_error())
}

impl StoreError {
    /// Whether this is about a full disk (also deep inside an extraction).
    pub fn is_disk_full(&self) -> bool {
        match self {
            StoreError::DiskFull { .. } => true,
            StoreError::Unpack { source, .. } | StoreError::Extract { source, .. } => source.is_disk_full(),
            _ => false,
        }
    }
}
