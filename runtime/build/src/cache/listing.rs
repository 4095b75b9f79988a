//! Digests of whole listings: where nothing's metadata has changed since files were digested, they are not looked up one by one.
//!
//! A listing is everything that a walk says of what a step reads: names, kinds, lengths, times, identities. It stands for the content by the same rule by
//! which a file's stat does (see `stat`): only if every file of it was old enough when it was read.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use strake_oci::Digest;

use super::content::{Decided, FORM};
use crate::copy::Selection;
use crate::tree::{Entry, Kind};

const MAGIC: &[u8; 8] = b"strkls01";
const RECORD_BYTES: usize = 64;
const CHECKSUM_BYTES: usize = 32;
/// As many are kept for a context; the oldest go first.
const MOST: usize = 256;

/// What a listing is known by.
pub(crate) type Listing = [u8; 32];

/// The listings of one build context.
#[derive(Debug)]
pub(crate) struct Listings {
    path: PathBuf,
    /// From the oldest to the youngest.
    records: Mutex<Vec<(Listing, Digest)>>,
    changed: AtomicBool,
}

impl Listings {
    /// Loads what is known of the context at `context` from the directory `dir`; damaged records are forgotten.
    pub(crate) fn load(dir: &Path, context: &Path) -> Self {
        let name = blake3::hash(context.as_os_str().as_encoded_bytes()).to_hex();
        let path = dir.join(format!("{}.listings", &name.as_str()[..32]));
        let records = fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Listings { path, records: Mutex::new(records), changed: AtomicBool::new(false) }
    }

    /// The digest of the content that this listing had.
    pub(crate) fn get(&self, listing: &Listing) -> Option<Digest> {
        self.lock().iter().rev().find(|(known, _)| known == listing).map(|(_, digest)| *digest)
    }

    /// Remembers it.
    pub(crate) fn put(&self, listing: Listing, digest: Digest) {
        let mut records = self.lock();
        records.retain(|(known, _)| *known != listing);
        records.push((listing, digest));
        let excess = records.len().saturating_sub(MOST);
        records.drain(..excess);
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Writes the records down when some are new.
    pub(crate) fn save(&self) -> io::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let temporary = self.path.with_extension(format!("l{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed)));
        let written = fs::write(&temporary, encode(&self.lock())).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Listing, Digest)>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What selections are known by, before anything of them is read.
pub(crate) fn listing(selections: &[Selection], decided: Decided<'_>) -> Listing {
    let mut bytes = Vec::with_capacity(64 << 10);
    field(&mut bytes, FORM);
    field(&mut bytes, format!("{decided:?}").as_bytes());
    let mut hasher = blake3::Hasher::new();
    for selection in selections {
        field(&mut bytes, selection.name.as_bytes());
        field(&mut bytes, selection.top.path.as_os_str().as_bytes());
        bytes.extend_from_slice(&(selection.below.len() as u64).to_le_bytes());
        for entry in [&selection.top].into_iter().chain(&selection.below) {
            describe(&mut bytes, entry);
            if bytes.len() > 60 << 10 {
                hasher.update(&bytes);
                bytes.clear();
            }
        }
    }
    *hasher.update(&bytes).finalize().as_bytes()
}

fn field(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
}

fn describe(bytes: &mut Vec<u8>, entry: &Entry) {
    field(bytes, entry.relative.as_os_str().as_bytes());
    let (kind, device): (u8, u64) = match &entry.kind {
        Kind::Directory => (0, 0),
        Kind::File => (1, 0),
        Kind::Link(_) => (2, 0),
        Kind::Fifo => (3, 0),
        Kind::CharacterDevice(device) => (4, *device),
        Kind::BlockDevice(device) => (5, *device),
        Kind::Socket => (6, 0),
    };
    bytes.extend_from_slice(&[kind, u8::from(entry.implied)]);
    if let Kind::Link(text) = &entry.kind {
        field(bytes, text.as_bytes());
    }
    for number in [entry.mode, entry.uid, entry.gid, entry.mtime.1, entry.ctime.1] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for number in [device, entry.size, entry.mtime.0 as u64, entry.ctime.0 as u64, entry.identity.0, entry.identity.1, entry.links] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

fn encode(records: &[(Listing, Digest)]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (listing, digest) in records {
        bytes.extend_from_slice(listing);
        bytes.extend_from_slice(digest.as_bytes());
    }
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

/// Nothing when they are damaged.
fn decode(bytes: &[u8]) -> Option<Vec<(Listing, Digest)>> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    let records = body.strip_prefix(MAGIC)?;
    if blake3::hash(body).as_bytes() != checksum || records.len() % RECORD_BYTES != 0 {
        return None;
    }
    let record = |bytes: &[u8]| Some((bytes.get(..32)?.try_into().ok()?, Digest::from_bytes(bytes.get(32..)?.try_into().ok()?)));
    records.chunks_exact(RECORD_BYTES).map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Root, Verdict, walk};

    #[test]
    fn records_survive_and_damage_is_noticed() {
        let records = vec![([1; 32], Digest::of(b"one")), ([2; 32], Digest::of(b"two"))];
        let mut bytes = encode(&records);
        assert_eq!(decode(&bytes), Some(records));
        assert_eq!(decode(&bytes[..bytes.len() - RECORD_BYTES]), None, "cut off");
        bytes[20] ^= 1;
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(b"short"), None);
    }

    #[test]
    fn whatever_a_walk_tells_of_a_file_makes_another_listing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let entries = walk(&root, Path::new(""), &|_, _, _| Verdict::Take).unwrap();
        let top = Entry { kind: Kind::Directory, relative: PathBuf::new(), path: PathBuf::new(), ..entries[0].clone() };
        let of = |change: &dyn Fn(&mut Entry)| {
            let mut below = entries.clone();
            change(&mut below[0]);
            listing(&[Selection { name: "src".into(), top: top.clone(), below }], Decided::default())
        };
        let changes: [&dyn Fn(&mut Entry); 13] = [
            &|_| {},
            &|entry| entry.relative.push("x"),
            &|entry| entry.kind = Kind::Fifo,
            &|entry| entry.kind = Kind::Link("a".into()),
            &|entry| entry.kind = Kind::Link("b".into()),
            &|entry| entry.implied = true,
            &|entry| entry.mode ^= 0o100,
            &|entry| entry.size += 1,
            &|entry| entry.mtime.1 ^= 1,
            &|entry| entry.ctime.1 ^= 1,
            &|entry| entry.ctime.0 += 1,
            &|entry| entry.identity.1 += 1,
            &|entry| entry.links += 1,
        ];
        let all: std::collections::BTreeSet<Listing> = changes.iter().map(|change| of(change)).collect();
        assert_eq!(all.len(), changes.len());
        assert_eq!(of(&|_| {}), of(&|_| {}));
    }

    #[test]
    fn the_youngest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let listings = Listings::load(dir.path(), Path::new("context"));
        let name = |number: usize| *blake3::hash(&number.to_le_bytes()).as_bytes();
        for number in 0..MOST + 3 {
            listings.put(name(number), Digest::of(&number.to_le_bytes()));
        }
        listings.put(name(3), Digest::of(b"again"));
        listings.save().unwrap();
        let again = Listings::load(dir.path(), Path::new("context"));
        assert_eq!(again.get(&name(2)), None);
        assert_eq!(again.get(&name(3)), Some(Digest::of(b"again")));
        assert_eq!(again.get(&name(MOST + 2)), Some(Digest::of(&(MOST + 2).to_le_bytes())));
        assert_eq!(again.lock().len(), MOST);
    }
}
