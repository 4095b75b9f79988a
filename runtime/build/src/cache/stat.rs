//! Digests of files by their stat: what has not changed is not read again.
//!
//! A record holds for the same device, inode, size, mtime and ctime. ctime cannot be set by a program, so a file that was written carries another one,
//! unless the write fell into the same tick of the file system's clock as the record: records that young are never trusted.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use crate::tree::{Entry, Kind, Root};

/// A file's content.
pub(crate) type Content = [u8; 32];

const MAGIC: &[u8; 8] = b"strkst01";
const RECORD_BYTES: usize = 88;
const CHECKSUM_BYTES: usize = 32;
/// Records that are read and written at once: enough for the checksum to be quick.
const PIECE_RECORDS: usize = 1024;
/// Files whose records are collected before they are put with the others.
const AT_ONCE: usize = 4096;
/// Longer than a tick of any kernel's coarse clock (10 ms at most).
const TICK_NS: i64 = 20_000_000;
/// File systems without sub-second times: FAT counts in twos.
const COARSE_TICK_NS: i64 = 2_500_000_000;
/// Above this many records those that this build did not see are dropped.
const MAX_UNSEEN: usize = 1 << 20;

/// The records of one build context.
#[derive(Debug)]
pub(crate) struct StatCache {
    path: PathBuf,
    records: Mutex<HashMap<(u64, u64), Record>>,
    changed: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    /// When reading began, nanoseconds since 1970.
    read_at_ns: i64,
    content: Content,
    seen: bool,
}

impl StatCache {
    /// Loads the records for the context at `context` from the directory `dir`; damaged ones are forgotten.
    pub(crate) fn load(dir: &Path, context: &Path) -> Self {
        let name = blake3::hash(context.as_os_str().as_encoded_bytes()).to_hex();
        let path = dir.join(&name.as_str()[..32]);
        let records = fs::File::open(&path).ok().and_then(|file| decode(file.metadata().ok()?.len(), file)).unwrap_or_default();
        StatCache { path, records: Mutex::new(records), changed: AtomicBool::new(false) }
    }

    /// The content of every regular file among `entries`, in their order; other entries have none. Files without a record are read, in parallel.
    ///
    /// # Errors
    /// The path of a file that could not be read, and why.
    pub(crate) fn contents(&self, root: &Root, entries: &[&Entry]) -> Result<Vec<Option<Content>>, (PathBuf, io::Error)> {
        let mut found: Vec<Option<Content>> = vec![None; entries.len()];
        let mut missing = Vec::new();
        {
            let mut records = self.lock();
            for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.kind == Kind::File) {
                match records.get_mut(&entry.identity).filter(|record| record.holds_for(entry)) {
                    Some(record) => {
                        record.seen = true;
                        found[place] = Some(record.content);
                    }
                    None => missing.push(place),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let read = |place: &usize| read_content(root, entries[*place]).map(|record| (*place, record)).map_err(|error| (entries[*place].path.clone(), error));
        for some in missing.chunks(AT_ONCE) {
            let records: Vec<(usize, Record)> = some.par_iter().map(read).collect::<Result<_, _>>()?;
            let mut known = self.lock();
            for (place, record) in records {
                found[place] = Some(record.content);
                known.insert(entries[place].identity, record);
            }
        }
        self.changed.store(true, Ordering::Relaxed);
        Ok(found)
    }

    /// Whether the digests of all these files can be trusted as long as nothing of their metadata changes.
    pub(crate) fn are_settled<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> bool {
        let records = self.lock();
        let mut files = entries.filter(|entry| entry.kind == Kind::File);
        files.all(|entry| records.get(&entry.identity).is_some_and(|record| record.holds_for(entry)))
    }

    /// Writes the records down when some are new.
    pub(crate) fn save(&self) -> io::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let temporary = self.path.with_extension(format!("{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed)));
        let file = fs::File::create(&temporary);
        let written = file.and_then(|file| encode(&self.lock(), io::BufWriter::new(file))).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u64, u64), Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn holds_for(&self, entry: &Entry) -> bool {
        self.size == entry.size && self.mtime == entry.mtime && self.ctime == entry.ctime && !self.is_racy()
    }

    /// The file could have been written again after it was read without its times telling.
    fn is_racy(&self) -> bool {
        let tick = if self.mtime.1 == 0 && self.ctime.1 == 0 { COARSE_TICK_NS } else { TICK_NS };
        let ns = |(seconds, nanoseconds): (i64, u32)| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into());
        ns(self.mtime).max(ns(self.ctime)).saturating_add(tick) >= self.read_at_ns
    }
}

fn read_content(root: &Root, entry: &Entry) -> io::Result<Record> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let read_at_ns = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    let content = digest(root, entry)?;
    Ok(Record { size: entry.size, mtime: entry.mtime, ctime: entry.ctime, read_at_ns, content, seen: true })
}

/// The digest of a file's bytes.
pub(crate) fn digest(root: &Root, entry: &Entry) -> io::Result<Content> {
    let mut file = root.open_file(&entry.path)?;
    let mut hasher = blake3::Hasher::new();
    if entry.size <= 1 << 20 {
        let mut bytes = Vec::with_capacity(entry.size as usize + 1);
        file.read_to_end(&mut bytes)?;
        hasher.update(&bytes);
    } else {
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => drop(hasher.update(&buffer[..length])),
            }
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

fn encode(records: &HashMap<(u64, u64), Record>, mut out: impl Write) -> io::Result<()> {
    let drop_unseen = records.len() > MAX_UNSEEN;
    let mut sum = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        sum.update(bytes);
        out.write_all(bytes)
    };
    put(MAGIC)?;
    let mut bytes = Vec::with_capacity(PIECE_RECORDS * RECORD_BYTES);
    for ((device, inode), record) in records.iter().filter(|(_, record)| record.seen || !drop_unseen) {
        if bytes.len() == PIECE_RECORDS * RECORD_BYTES {
            put(&bytes)?;
            bytes.clear();
        }
        for number in [*device, *inode, record.size, record.mtime.0 as u64, record.ctime.0 as u64, record.read_at_ns as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&record.mtime.1.to_le_bytes());
        bytes.extend_from_slice(&record.ctime.1.to_le_bytes());
        bytes.extend_from_slice(&record.content);
    }
    put(&bytes)?;
    out.write_all(sum.finalize().as_bytes())?;
    out.flush()
}

/// The records of a file of that length; nothing when it is damaged.
fn decode(length: u64, mut file: impl Read) -> Option<HashMap<(u64, u64), Record>> {
    let body = length.checked_sub((MAGIC.len() + CHECKSUM_BYTES) as u64)?;
    if body % RECORD_BYTES as u64 != 0 {
        return None;
    }
    let count = usize::try_from(body / RECORD_BYTES as u64).ok()?;
    let mut sum = blake3::Hasher::new();
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).ok()?;
    sum.update(&magic);
    let mut records = HashMap::with_capacity(count);
    let mut bytes = vec![0; count.min(PIECE_RECORDS) * RECORD_BYTES];
    while records.len() < count {
        let piece = bytes.get_mut(..(count - records.len()).min(PIECE_RECORDS) * RECORD_BYTES)?;
        file.read_exact(piece).ok()?;
        sum.update(piece);
        let before = records.len();
        for record in piece.chunks_exact(RECORD_BYTES) {
            let (identity, record) = decode_record(record)?;
            records.insert(identity, record);
        }
        // A file that names a record twice is none of ours.
        if records.len() - before != piece.len() / RECORD_BYTES {
            return None;
        }
    }
    let mut checksum = [0; CHECKSUM_BYTES];
    file.read_exact(&mut checksum).ok()?;
    (magic == *MAGIC && *sum.finalize().as_bytes() == checksum).then_some(records)
}

fn decode_record(bytes: &[u8]) -> Option<((u64, u64), Record)> {
    let long = |place: usize| bytes.get(place * 8..place * 8 + 8).and_then(|part| part.try_into().ok()).map(u64::from_le_bytes);
    let short = |at: usize| bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map(u32::from_le_bytes);
    let record = Record {
        size: long(2)?,
        mtime: (long(3)? as i64, short(48)?),
        ctime: (long(4)? as i64, short(52)?),
        read_at_ns: long(5)? as i64,
        content: bytes.get(56..88)?.try_into().ok()?,
        seen: false,
    };
    Some(((long(0)?, long(1)?), record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Verdict, walk};

    #[test]
    fn records_survive_and_damage_is_noticed() {
        let record = Record { size: 3, mtime: (-4, 5), ctime: (6, 7), read_at_ns: 8, content: [9; 32], seen: false };
        let records = HashMap::from([((1, 2), record)]);
        let mut bytes = Vec::new();
        encode(&records, &mut bytes).unwrap();
        let decoded = |bytes: &[u8]| decode(bytes.len() as u64, bytes);
        assert_eq!(decoded(&bytes), Some(records));
        assert_eq!(decoded(&bytes[..bytes.len() - RECORD_BYTES]), None, "cut off");
        bytes[20] ^= 1;
        assert_eq!(decoded(&bytes), None);
        assert_eq!(decoded(b"short"), None);
    }

    #[test]
    fn a_record_as_young_as_its_file_is_not_trusted() {
        let mut record = Record { size: 0, mtime: (100, 5), ctime: (100, 5), read_at_ns: 100_000_000_005, content: [0; 32], seen: true };
        assert!(record.is_racy());
        record.read_at_ns += TICK_NS + 1;
        assert!(!record.is_racy());
        (record.mtime.1, record.ctime.1) = (0, 0);
        assert!(record.is_racy(), "times in whole seconds say less");
    }

    #[test]
    fn an_unchanged_file_is_not_read_and_a_changed_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("context/a");
        fs::create_dir(dir.path().join("context")).unwrap();
        fs::write(&file, "one").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(40));
        let root = Root::open(&dir.path().join("context")).unwrap();
        let content = |cache: &StatCache| {
            let entries = walk(&root, Path::new(""), &|_, _, _| Verdict::Take).unwrap();
            cache.contents(&root, &entries.iter().collect::<Vec<_>>()).unwrap()[0].unwrap()
        };
        let cache = StatCache::load(dir.path(), Path::new("context"));
        assert_eq!(content(&cache), *blake3::hash(b"one").as_bytes());
        cache.save().unwrap();
        let again = StatCache::load(dir.path(), Path::new("context"));
        // The record, not the file, must be what answers: make them differ behind its back.
        again.lock().values_mut().for_each(|record| record.content = [7; 32]);
        assert_eq!(content(&again), [7; 32]);
        fs::write(&file, "two").unwrap();
        assert_eq!(content(&again), *blake3::hash(b"two").as_bytes());
    }
}
