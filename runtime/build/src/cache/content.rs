//! The digest of what a step reads: names, contents and the metadata that will result, never times.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

use strake_oci::{Digest, Hasher};
use strake_store::KinLine;

use super::stat::{Content, StatCache, digest};
use crate::StepError;
use crate::copy::{ModeChange, Selection, Source, SourceOrigin, attributes, vary};
use crate::tree::{Entry, Kind};

/// The form of the digest: another one is another content.
pub(crate) const FORM: &[u8] = b"strake content 1";

/// What of the metadata is decided by the step itself and so is no part of the content.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decided<'a> {
    /// --chown is given.
    pub owner: bool,
    /// --chmod.
    pub mode: Option<&'a ModeChange>,
    /// Nothing is copied into a directory of the step's own: the source is seen as it is, with the metadata that it has itself.
    pub shown: bool,
}

/// What selections are known by.
pub(crate) struct Digested {
    pub digest: Digest,
    /// For a later copy that differs little.
    pub lines: Option<Vec<KinLine>>,
}

/// Digests selections. `stats` is there for contexts; the files of stages are read.
pub(crate) fn content(source: &Source, selections: &[Selection], stats: Option<&StatCache>, decided: Decided<'_>) -> Result<Digested, StepError> {
    let mut hasher = Hasher::default();
    let mut lines = None;
    hasher.field(FORM);
    for selection in selections {
        // A directory's own name and metadata never get into what is copied; a file's do.
        let top = (!selection.top.is_dir()).then_some(&selection.top);
        let entries: Vec<&Entry> = top.into_iter().chain(&selection.below).collect();
        let contents = contents(source, &entries, stats)?;
        lines = vary::lines(source, selections, &contents, decided);
        hasher.field(if top.is_some() { selection.name.as_bytes() } else { b"" });
        hasher.field(&(entries.len() as u64).to_le_bytes());
        let mut seen = HashMap::new();
        if decided.shown && top.is_none() && !source.is_own_root(&selection.top) {
            describe(&mut hasher, source, &selection.top, None, decided, &mut HashMap::new())?;
        }
        for (entry, content) in entries.iter().zip(contents) {
            describe(&mut hasher, source, entry, content, decided, &mut seen)?;
        }
    }
    Ok(Digested { digest: hasher.finish(), lines })
}

fn contents(source: &Source, entries: &[&Entry], stats: Option<&StatCache>) -> Result<Vec<Option<Content>>, StepError> {
    let failed = |(path, error): (std::path::PathBuf, std::io::Error)| StepError::ReadContent { path: path.display().to_string(), source: error };
    if let Some(stats) = stats {
        return stats.contents(&source.root, entries).map_err(failed);
    }
    use rayon::prelude::*;
    let read = |entry: &&Entry| match entry.kind {
        Kind::File => digest(&source.root, entry).map(Some).map_err(|error| failed((entry.path.clone(), error))),
        _ => Ok(None),
    };
    entries.par_iter().map(read).collect()
}

fn describe<'a>(
    hasher: &mut Hasher,
    source: &Source,
    entry: &'a Entry,
    content: Option<Content>,
    decided: Decided<'_>,
    seen: &mut HashMap<(u64, u64), &'a Entry>,
) -> Result<(), StepError> {
    hasher.field(entry.relative.as_os_str().as_bytes());
    if entry.links > 1 && !entry.is_dir() {
        if let Some(first) = seen.get(&entry.identity) {
            hasher.field(b"same as");
            hasher.field(first.relative.as_os_str().as_bytes());
            return Ok(());
        }
        seen.insert(entry.identity, entry);
    }
    let (tag, detail): (&[u8], Vec<u8>) = match &entry.kind {
        Kind::Directory if entry.implied => (b"implied directory", Vec::new()),
        Kind::Directory => (b"directory", Vec::new()),
        Kind::File => (b"file", content.unwrap_or_default().to_vec()),
        Kind::Link(text) => (b"link", text.as_bytes().to_vec()),
        Kind::Fifo => (b"fifo", Vec::new()),
        Kind::CharacterDevice(device) => (b"character device", device.to_le_bytes().to_vec()),
        Kind::BlockDevice(device) => (b"block device", device.to_le_bytes().to_vec()),
        Kind::Socket => (b"file", Content::default().to_vec()),
    };
    hasher.field(tag);
    hasher.field(&detail);
    if !matches!(entry.kind, Kind::Link(_)) {
        let mode = decided.mode.map_or(entry.mode, |change| change.apply(entry.mode, entry.is_dir()));
        hasher.field(&mode.to_le_bytes());
    }
    if source.origin == SourceOrigin::Context {
        return Ok(());
    }
    if !decided.owner {
        hasher.field(&[entry.uid.to_le_bytes(), entry.gid.to_le_bytes()].concat());
    }
    describe_attributes(hasher, source, entry)
}

fn describe_attributes(hasher: &mut Hasher, source: &Source, entry: &Entry) -> Result<(), StepError> {
    if !matches!(entry.kind, Kind::File | Kind::Directory) {
        return Ok(());
    }
    let failed = |error: std::io::Error| StepError::ReadContent { path: entry.path.display().to_string(), source: error };
    let fd = source.root.open_at(&entry.path, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
    for (name, value) in attributes(&fd).map_err(failed)? {
        hasher.field(&name);
        hasher.field(&value);
    }
    Ok(())
}
