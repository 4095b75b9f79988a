//! Images that somebody outside of the store still wants: the revisions of a deployment that can be gone back to. A note for each such somebody, in `pins/`; what a note
//! names is kept by [`Store::prune`], with a name or without one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rustix::fs::FlockOperation;
use strake_oci::Digest;

use crate::error::{Result, StoreError, reading, removing};
use crate::files::{Durability, Lock, make_dir, replace};
use crate::store::Store;

const PINS: &str = "pins";
/// Who writes a note holds this.
const LOCK: &str = "tmp/.pins-lock";

/// An image that somebody wants: who, why, and the digest of its manifest or index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin {
    /// Whose note it is in.
    pub owner: String,
    /// Such as `revision 3 of set shop`.
    pub why: String,
    /// Its manifest or index.
    pub digest: Digest,
}

impl Store {
    /// Keeps these images from being pruned until `owner` says otherwise: why, and the digests of their manifests or indexes. Nothing at all takes the note away.
    ///
    /// # Errors
    /// A name that is no file name; a note that cannot be written.
    pub fn pin(&self, owner: &str, pins: &BTreeMap<String, Vec<Digest>>) -> Result<()> {
        let valid = !owner.is_empty() && owner.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
        if !valid {
            return Err(StoreError::Invalid { what: format!("pins of {owner}"), reason: "letters, digits, - and _ are allowed".to_owned() });
        }
        let _lock = Lock::hold(&self.path(LOCK), FlockOperation::LockExclusive)?;
        self.write_pins(owner, pins)
    }

    /// Takes away exactly these: what was pinned anew since they were read stays.
    ///
    /// # Errors
    /// A note that cannot be read or written.
    pub fn unpin(&self, gone: &[Pin]) -> Result<()> {
        let _lock = Lock::hold(&self.path(LOCK), FlockOperation::LockExclusive)?;
        let there = self.pins()?;
        let owners: BTreeSet<&str> = gone.iter().map(|pin| pin.owner.as_str()).collect();
        for owner in owners {
            let mut left: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
            for pin in there.iter().filter(|pin| pin.owner == owner && !gone.contains(pin)) {
                left.entry(pin.why.clone()).or_default().push(pin.digest);
            }
            self.write_pins(owner, &left)?;
        }
        Ok(())
    }

    fn write_pins(&self, owner: &str, pins: &BTreeMap<String, Vec<Digest>>) -> Result<()> {
        let path = self.path(PINS).join(format!("{owner}.json"));
        if pins.is_empty() {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(removing(&path)(error)),
                _ => Ok(()),
            };
        }
        make_dir(&self.path(PINS))?;
        let text: BTreeMap<&str, Vec<String>> = pins.iter().map(|(why, digests)| (why.as_str(), digests.iter().map(Digest::to_string).collect())).collect();
        let bytes = serde_json::to_vec(&text).map_err(|source| StoreError::Decode { what: path.display().to_string(), source })?;
        replace(&self.temporary("pins"), &path, &bytes, Durability::Synced)
    }

    /// Every pinned digest with who wants it and why.
    ///
    /// # Errors
    /// A note that cannot be read: what it keeps is not known, so nothing may go.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let parent = self.path(PINS);
        let entries = match std::fs::read_dir(&parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(reading(&parent))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(reading(&parent))?.path();
            let bytes = match std::fs::read(&path) {
                // Taken away just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(reading(&path))?,
            };
            let note: BTreeMap<String, Vec<String>> =
                serde_json::from_slice(&bytes).map_err(|source| StoreError::Decode { what: path.display().to_string(), source })?;
            let owner = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            for (why, digests) in note {
                let pin = |text: &String| Some(Pin { owner: owner.clone(), why: why.clone(), digest: text.parse().ok()? });
                found.extend(digests.iter().filter_map(pin));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PruneOptions;

    #[test]
    fn what_is_pinned_outlives_its_name_until_it_is_let_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a store");
        let image = store.put_image(&strake_oci::ImageConfig::default(), &[]).expect("an image");
        let digest = image.digest().expect("a digest");
        store.tag("docker.io/library/web:1", &image.descriptor).expect("tagged");
        store.pin("set", &BTreeMap::from([("revision 1 of set web".to_owned(), vec![digest])])).expect("pinned");
        store.untag("docker.io/library/web:1").expect("untagged");
        let all = PruneOptions { unused_images: true, keep_cache: std::time::Duration::ZERO, cap_bytes: Some(0), ..PruneOptions::default() };
        store.prune(all).expect("pruned");
        assert!(store.image(&digest.to_string()).is_ok(), "manifest and configuration are there");
        store.pin("set", &BTreeMap::new()).expect("let go");
        store.prune(all).expect("pruned");
        assert!(store.image(&digest.to_string()).is_err());
        assert!(store.pin("../x", &BTreeMap::new()).is_err());
    }

    #[test]
    fn only_the_pins_that_were_read_are_taken_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a store");
        let digest = |text: &str| Digest::of(text.as_bytes());
        let note = |second: &str| BTreeMap::from([("revision 1".to_owned(), vec![digest("one")]), ("revision 2".to_owned(), vec![digest(second)])]);
        store.pin("set", &note("two")).expect("pinned");
        store.pin("other", &note("two")).expect("pinned");
        let read: Vec<Pin> = store.pins().expect("pins").into_iter().filter(|pin| pin.owner == "set").collect();
        assert_eq!(read.len(), 2);
        // The number is given to another apply meanwhile.
        store.pin("set", &note("another")).expect("pinned");
        store.unpin(&read).expect("taken away");
        let left: Vec<(String, Digest)> = store.pins().expect("pins").into_iter().filter(|pin| pin.owner == "set").map(|pin| (pin.why, pin.digest)).collect();
        assert_eq!(left, [("revision 2".to_owned(), digest("another"))]);
        assert_eq!(store.pins().expect("pins").len(), 3, "what is not this set's is not touched");
    }
}
