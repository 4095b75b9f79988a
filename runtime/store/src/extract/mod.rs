//! Extraction of tars that nobody vouches for: every path is resolved by directory descriptors, below one root, never through a link that
//! the archive could have planted.

mod place;

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::io::Errno;
use tar::EntryType;

use crate::decompress::RatioExceeded;
pub use crate::tape::reader::TarError;
use crate::tape::reader::{TarEntry, TarReader, show};
use crate::tape::tree::MAX_DEPTH;
use place::Place;

/// What extraction may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most entries.
    pub max_entries: u64,
    /// Most bytes of content, holes included.
    pub max_bytes: u64,
    /// Most uncompressed bytes a compressed byte, looked at after [`Limits::ratio_after_bytes`].
    pub max_ratio: u64,
    /// Uncompressed bytes that pass whatever their ratio.
    pub ratio_after_bytes: u64,
}

impl Default for Limits {
    /// Four million entries, 64 GiB, and 200 to 1 after 256 MiB.
    fn default() -> Self {
        Limits { max_entries: 4_000_000, max_bytes: 64 << 30, max_ratio: 200, ratio_after_bytes: 256 << 20 }
    }
}

/// What happens when a directory on the way to an entry is a symbolic link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// It is an error: for layers, whose paths are canonical.
    #[default]
    Refuse,
    /// It is followed as the root's own processes would: never out of the root. For ADD into an image where `/lib` is a link.
    WithinRoot,
}

/// How an archive is extracted.
#[derive(Clone, Debug, Default)]
pub struct ExtractOptions {
    /// Where below the root; empty for the root itself. Created (mode 0755) when missing.
    pub destination: PathBuf,
    /// Whether `.wh.` names become overlay's marks of deletion. Off: they are ordinary names.
    pub whiteouts: bool,
    /// Owner of everything, instead of what the archive says.
    pub chown: Option<(u32, u32)>,
    /// Whether an entry for the destination itself changes its mode and owner.
    pub root_metadata: bool,
    /// Links on the way.
    pub links: Links,
    /// What lies below, topmost first: a directory that the archive uses without listing it takes its mode and owner from here.
    pub lowers: Vec<PathBuf>,
    /// Costs.
    pub limits: Limits,
}

/// What was extracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of content.
    pub size_bytes: u64,
}

/// Why an archive was not extracted. What was written before the error is still there: the caller extracts into something it can drop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The archive itself is unacceptable.
    #[error("the archive is not acceptable")]
    Archive { source: TarError },
    /// It expands beyond measure.
    #[error("the archive expands to more than {max_ratio} times its size: refused as a decompression bomb")]
    Ratio { max_ratio: u64 },
    /// It has too many entries.
    #[error("the archive has more than {max_entries} entries")]
    Entries { max_entries: u64 },
    /// It has too much content.
    #[error("the archive has more than {max_bytes} bytes of content")]
    Bytes { max_bytes: u64 },
    /// A path that leaves the root, or cannot name anything.
    #[error("entry `{path}` is not acceptable: {reason}")]
    Path { path: String, reason: &'static str },
    /// A directory on the way to an entry is a symbolic link.
    #[error("entry `{path}` lies behind a symbolic link")]
    ThroughLink { path: String },
    /// A hard link whose target is not in the root.
    #[error("hard link `{path}` leads to `{target}`, which is not there")]
    LinkTarget { path: String, target: String, source: std::io::Error },
    /// The file system refused.
    #[error("cannot write entry `{path}`")]
    Write { path: String, source: std::io::Error },
}

impl ExtractError {
    /// Whether the disk was full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, ExtractError::Write { source, .. } if crate::error::is_full(source))
    }

    fn write(path: &[u8], error: impl Into<std::io::Error>) -> Self {
        ExtractError::Write { path: show(path), source: error.into() }
    }

    fn open(path: &[u8], error: Errno) -> Self {
        match error {
            Errno::LOOP => ExtractError::ThroughLink { path: show(path) },
            Errno::XDEV => ExtractError::Path { path: show(path), reason: "it leads out of the root" },
            error => ExtractError::write(path, error),
        }
    }
}

impl From<TarError> for ExtractError {
    fn from(source: TarError) -> Self {
        let ratio = match &source {
            TarError::Read { source } => source.get_ref().and_then(|inner| inner.downcast_ref::<RatioExceeded>()),
            _ => None,
        };
        match ratio {
            Some(RatioExceeded { max_ratio }) => ExtractError::Ratio { max_ratio: *max_ratio },
            None => ExtractError::Archive { source },
        }
    }
}

/// Extracts an uncompressed tar below the directory `root`. To its very end: what follows the archive's own end is read and ignored.
pub fn extract(reader: impl Read, root: BorrowedFd<'_>, options: &ExtractOptions) -> Result<Extracted, ExtractError> {
    let mut tar = TarReader::new(reader);
    let mut place = Place::new(root, options)?;
    let mut done = Extracted::default();
    while let Some(entry) = tar.next_entry()? {
        done.entries += 1;
        done.size_bytes = done.size_bytes.saturating_add(entry.size_bytes);
        if done.entries > options.limits.max_entries {
            return Err(ExtractError::Entries { max_entries: options.limits.max_entries });
        }
        if done.size_bytes > options.limits.max_bytes {
            return Err(ExtractError::Bytes { max_bytes: options.limits.max_bytes });
        }
        put(&mut place, &mut tar, &entry)?;
    }
    place.finish()?;
    let mut rest = tar.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(|source| ExtractError::from(TarError::Read { source }))?;
    Ok(done)
}

fn put<R: Read>(place: &mut Place<'_>, tar: &mut TarReader<R>, entry: &TarEntry) -> Result<(), ExtractError> {
    let path = canonical(&entry.path)?;
    let Some(name) = path.last() else {
        return match entry.kind {
            EntryType::Directory => place.root_entry(entry),
            _ => Err(ExtractError::Path { path: show(&entry.path), reason: "only a directory can stand for the root" }),
        };
    };
    let parent = &path[..path.len() - 1];
    if place.options.whiteouts
        && let Some(hidden) = name.strip_prefix(b".wh.")
    {
        return place.whiteout(parent, hidden, &entry.path);
    }
    match entry.kind {
        EntryType::Directory => place.directory(parent, name, entry),
        EntryType::Symlink => place.symlink(parent, name, entry),
        EntryType::Link => place.hard_link(parent, name, &canonical(&entry.link)?, entry),
        EntryType::Char | EntryType::Block | EntryType::Fifo => place.node(parent, name, entry),
        _ => place.file(parent, name, entry, tar),
    }
}

/// A path's components. A leading slash means the root that is extracted to; `..` is never acceptable, even where it would stay inside.
fn canonical(path: &[u8]) -> Result<Vec<&[u8]>, ExtractError> {
    let refuse = |reason| Err(ExtractError::Path { path: show(path), reason });
    if path.contains(&0) {
        return refuse("it contains a zero byte");
    }
    if path.len() > 4095 {
        return refuse("it is longer than 4095 bytes");
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return refuse("it contains `..`"),
            part => parts.push(part),
        }
    }
    if parts.len() > MAX_DEPTH {
        return refuse("it is nested too deeply");
    }
    Ok(parts)
}
