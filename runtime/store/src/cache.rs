//! The build cache: step id -> layer, one small file a record with a checksum of its own.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use strake_oci::{Digest, Hasher};

use crate::error::{Result, removing};
use crate::files::{Durability, replace};
use crate::snapshot::Layer;
use crate::store::Store;

/// Begins every record.
const MAGIC: &[u8; 4] = b"SKC1";
/// magic, diff id, chain id, parent flag, parent, size, checksum.
const RECORD_BYTES: usize = 4 + 32 + 32 + 1 + 32 + 8 + 32;
/// A hit renews a record's time only when it is older: so that one build does it once.
const RENEW_AFTER: Duration = Duration::from_secs(1);

impl Store {
    /// The layer that the step `key` made before, if its snapshot is still here and the record is whole.
    pub fn cached(&self, key: &Digest) -> Option<Layer> {
        let mut file = File::open(self.record_path(key)).ok()?;
        let mut bytes = [0; RECORD_BYTES + 1];
        let mut length = 0;
        while length < bytes.len() {
            match file.read(&mut bytes[length..]).ok()? {
                0 => break,
                count => length += count,
            }
        }
        let layer = decode(key, bytes.get(..length)?)?;
        if !self.has_chain(&layer.chain_id) {
            return None;
        }
        let age = file.metadata().ok().and_then(|metadata| metadata.modified().ok()).and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > RENEW_AFTER) {
            // The time only steers pruning.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(layer)
    }

    /// Remembers what the step `key` made. Not synced: a record lost or torn by a power cut is a cache miss, never a wrong hit.
    pub fn remember(&self, key: &Digest, layer: &Layer) -> Result<()> {
        replace(&self.temporary("record"), &self.record_path(key), &encode(key, layer), Durability::Renamed)
    }

    /// Forgets what the step `key` made.
    pub fn forget(&self, key: &Digest) -> Result<()> {
        let path = self.record_path(key);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(removing(&path)),
        }
    }

    /// Every record with the age since it was last of use; unreadable ones as `None`.
    pub(crate) fn records(&self) -> Result<Vec<(PathBuf, Option<Layer>, Duration)>> {
        let parent = self.path("cache/steps");
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&parent).map_err(crate::error::reading(&parent))? {
            let entry = entry.map_err(crate::error::reading(&parent))?;
            let key = entry.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let layer = key.and_then(|key| decode(&key, &std::fs::read(entry.path()).ok()?));
            let age = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()).and_then(|time| time.elapsed().ok());
            records.push((entry.path(), layer, age.unwrap_or_default()));
        }
        Ok(records)
    }

    fn record_path(&self, key: &Digest) -> PathBuf {
        self.path("cache/steps").join(key.hex())
    }
}

fn encode(key: &Digest, layer: &Layer) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(layer.diff_id.as_bytes());
    bytes.extend_from_slice(layer.chain_id.as_bytes());
    bytes.push(u8::from(layer.parent.is_some()));
    bytes.extend_from_slice(layer.parent.as_ref().unwrap_or(&Digest::from_bytes([0; 32])).as_bytes());
    bytes.extend_from_slice(&layer.size_bytes.to_le_bytes());
    let sum = checksum(key, &bytes);
    bytes.extend_from_slice(sum.as_bytes());
    bytes
}

fn decode(key: &Digest, bytes: &[u8]) -> Option<Layer> {
    let body = bytes.get(..RECORD_BYTES - 32)?;
    if bytes.len() != RECORD_BYTES || !body.starts_with(MAGIC) || bytes[RECORD_BYTES - 32..] != *checksum(key, body).as_bytes() {
        return None;
    }
    let digest = |at: usize| body[at..at + 32].try_into().ok().map(Digest::from_bytes);
    let size = body[101..109].try_into().ok().map(u64::from_le_bytes)?;
    let parent = if body[68] == 1 { Some(digest(69)?) } else { None };
    Some(Layer { diff_id: digest(4)?, chain_id: digest(36)?, parent, size_bytes: size })
}

/// Over the key too, so that a record under a wrong name is no record.
fn checksum(key: &Digest, body: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.field(key.as_bytes());
    hasher.field(body);
    hasher.finish()
}
