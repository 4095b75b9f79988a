//! What the last full copy of a step's files was: so that the next one, if it differs little, is made as a variation of it.

use std::path::PathBuf;
use std::time::SystemTime;

use strake_oci::{Digest, Hasher};

use crate::error::{Result, reading};
use crate::files::{Durability, read_optional, replace};
use crate::snapshot::Layer;
use crate::store::Store;

const MAGIC: &[u8; 4] = b"SKK1";
/// Records that are kept; those that were written longest ago go first.
const MAX_RECORDS: usize = 64;

/// One file of a copy, by digests: where it is, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KinLine {
    /// Of its path.
    pub path: [u8; 16],
    /// Of its kind, content and mode.
    pub rest: [u8; 15],
    /// Its kind, as whoever writes it sees fit.
    pub kind: u8,
}

impl Store {
    /// The layer that was made in full for `key`, and its files in the order in which they were copied. A damaged record is none.
    pub fn kin(&self, key: &Digest) -> Option<(Digest, Vec<KinLine>)> {
        let bytes = read_optional(&self.kin_path(key)).ok()??;
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        let list = body.strip_prefix(MAGIC)?;
        let (chain, lines) = list.split_at_checked(32)?;
        if sum != checksum(key, body).as_bytes() || lines.len() % 32 != 0 {
            return None;
        }
        let line = |bytes: &[u8]| Some(KinLine { path: bytes[..16].try_into().ok()?, rest: bytes[16..31].try_into().ok()?, kind: bytes[31] });
        Some((Digest::from_bytes(chain.try_into().ok()?), lines.chunks_exact(32).map(line).collect::<Option<_>>()?))
    }

    /// Remembers a layer that was made in full. Losing it costs time only.
    pub fn remember_kin(&self, key: &Digest, layer: &Layer, lines: &[KinLine]) -> Result<()> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + 32 + lines.len() * 32 + 32);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(layer.chain_id.as_bytes());
        for line in lines {
            bytes.extend_from_slice(&line.path);
            bytes.extend_from_slice(&line.rest);
            bytes.push(line.kind);
        }
        let sum = checksum(key, &bytes);
        bytes.extend_from_slice(sum.as_bytes());
        crate::files::make_dir(&self.path("cache/kin"))?;
        self.forget_old_kin()?;
        replace(&self.temporary("kin"), &self.kin_path(key), &bytes, Durability::Renamed)
    }

    fn forget_old_kin(&self) -> Result<()> {
        let parent = self.path("cache/kin");
        let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&parent).map_err(reading(&parent))?.flatten() {
            let written = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((written, entry.path()));
        }
        if found.len() >= MAX_RECORDS {
            found.sort();
            for (_, path) in &found[..=found.len() - MAX_RECORDS] {
                // Another process may have done it.
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn kin_path(&self, key: &Digest) -> PathBuf {
        self.path("cache/kin").join(key.hex())
    }
}

/// Over the key too, so that a record under a wrong name is no record.
fn checksum(key: &Digest, body: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.field(b"kin");
    hasher.field(key.as_bytes());
    hasher.field(body);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_comes_back_unless_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = Digest::of(b"key");
        let layer = Layer { diff_id: Digest::of(b"diff"), chain_id: Digest::of(b"chain"), parent: None, size_bytes: 7 };
        let lines = vec![KinLine { path: [1; 16], rest: [2; 15], kind: 3 }, KinLine { path: [4; 16], rest: [5; 15], kind: 6 }];
        assert_eq!(store.kin(&key), None);
        store.remember_kin(&key, &layer, &lines).unwrap();
        assert_eq!(store.kin(&key), Some((layer.chain_id, lines.clone())));
        let path = store.kin_path(&key);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[50] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(store.kin(&key), None);
        for number in 0..MAX_RECORDS as u64 + 5 {
            store.remember_kin(&Digest::of(&number.to_le_bytes()), &layer, &lines).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path().join("cache/kin")).unwrap().count(), MAX_RECORDS);
    }
}
