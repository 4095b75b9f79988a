//! Making room: what no image, no container and no fresh part of the build cache needs goes away, and then what was used least recently, down to a cap.
//! Every item is accounted for: what goes with the bytes that the disk gives back, what stays with the reasons why.

mod claims;
mod decide;
mod usage;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use strake_oci::Digest;

use crate::error::{Result, removing};
use crate::image::{digest_of, name_of};
use crate::store::Store;
use decide::{Facts, decide};
use usage::{Found, allocated_bytes};

pub use usage::What;

/// What a prune keeps besides images and containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneOptions {
    /// Parts of the build cache used within this time, cache mounts included. Zero: the whole build cache goes.
    pub keep_cache: Duration,
    /// Whether names of images that no container uses go too.
    pub unused_images: bool,
    /// With `unused_images`: those made or pulled within this time stay.
    pub keep_images: Duration,
    /// What may stay in all, in bytes on disk: of the build cache (and with `unused_images` of the images) as much goes as it takes.
    pub cap_bytes: Option<u64>,
    /// Only say what would go.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    /// A week of build cache, and every image that has a name.
    fn default() -> Self {
        PruneOptions { keep_cache: Duration::from_secs(7 * 24 * 3600), unused_images: false, keep_images: Duration::ZERO, cap_bytes: None, dry_run: false }
    }
}

/// Why something stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A container stands on it, or wrote it.
    Container { name: String },
    /// An image has it; `in_use` when a container runs it.
    Image { name: String, in_use: bool },
    /// Somebody may go back to it, such as `revision 3 of set shop`.
    Pinned { by: String },
    /// It is on its way into the store.
    Arriving,
    /// It came by itself a short while ago, and what names it may follow.
    Held,
    /// A cache mount of builds.
    Mount { id: String },
    /// The build cache has it, and it was used not long ago.
    Cache,
    /// A layer that stays, compressed for registries.
    Packed,
    /// What a layer that stays was unpacked from: the bytes that its image's manifest names, which nothing gives back once they are gone.
    Original,
}

/// One item of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub what: What,
    /// What it takes on disk, in bytes.
    pub size_bytes: u64,
    /// When it was made, or used last as far as is known.
    pub used: SystemTime,
    /// Why it stays; the reasons why it was there until now when it goes. None: nothing needed it.
    pub reasons: Vec<Reason>,
}

/// What a prune removed and what it left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Blobs that went, those that were arriving included.
    pub blobs: usize,
    /// Layers that went.
    pub snapshots: usize,
    /// Cache records that went.
    pub records: usize,
    /// What the disk gave back, in bytes.
    pub size_bytes: u64,
    /// What stays, in bytes on disk.
    pub kept_bytes: u64,
    /// Names of images that went.
    pub untagged: Vec<String>,
    /// Everything that went.
    pub removed: Vec<Item>,
    /// Everything that stays.
    pub kept: Vec<Item>,
}

impl Store {
    /// Removes an image's name and, unless something else needs it, leaves its content to the next [`Store::prune`]. Says whether the name was
    /// there.
    pub fn remove_image(&self, reference: &str) -> Result<bool> {
        self.untag(reference)
    }

    /// Removes everything that nothing needs. Needed are: named images with all that they list, what containers' file systems stand on,
    /// and what was used of the build cache recently. An image without a name is not needed.
    ///
    /// A prune that is killed leaves a sound store: what refers goes before what it refers to.
    ///
    /// # Errors
    /// [`crate::StoreError::Busy`] while anything is built, pulled, unpacked or imported, in any process; not when it is only to say what would go.
    pub fn prune(&self, options: PruneOptions) -> Result<PruneReport> {
        let _lease = if options.dry_run { self.lease()? } else { self.exclusive()? };
        let items = self.items()?;
        let claims = self.claims(&items)?;
        let sizes: HashMap<What, u64> = items.iter().map(|item| (item.what.clone(), item.size_bytes)).collect();
        let diff_ids = self.diff_ids(&items);
        let decision = decide(&Facts { claims: &claims, sizes: &sizes, diff_ids: &diff_ids, now: SystemTime::now() }, &options);
        let mut report = PruneReport { untagged: decision.untagged.clone(), ..PruneReport::default() };
        let mut given_up: HashMap<&What, Vec<usize>> = HashMap::new();
        for place in &decision.given_up {
            claims[*place].items.iter().for_each(|item| given_up.entry(item).or_default().push(*place));
        }
        let originals = self.originals(&decision.kept);
        let mut gone = Vec::new();
        for item in items {
            let keeping = decision.kept.get(&item.what);
            let places = keeping.or_else(|| given_up.get(&item.what));
            let mut reasons: BTreeSet<Reason> = places.into_iter().flatten().map(|place| claims[*place].reason.clone()).collect();
            reasons.extend(originals.contains(&item.what).then_some(Reason::Original));
            let told = Item { what: item.what.clone(), size_bytes: item.size_bytes, used: item.time, reasons: reasons.into_iter().collect() };
            if keeping.is_some() {
                report.kept_bytes += item.size_bytes;
                report.kept.push(told);
            } else {
                report.size_bytes += item.size_bytes;
                report.removed.push(told);
                gone.push(item);
            }
        }
        report.count();
        if !options.dry_run {
            report.size_bytes += self.untag_all(&decision.untagged)?;
            self.remove_items(gone)?;
        }
        Ok(report)
    }

    /// The processes that hold the store against a prune, this one excepted.
    pub fn holders(&self) -> Vec<u32> {
        use std::os::unix::fs::MetadataExt;
        let Ok(lock) = std::fs::metadata(self.path("tmp/.gc-lock")) else { return Vec::new() };
        let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let ends = format!(":{}", lock.ino());
        let holder = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (kind, pid, file) = (words.get(1)?, words.get(4)?, words.get(5)?);
            (*kind == "FLOCK" && file.ends_with(&ends)).then(|| pid.parse().ok()).flatten()
        };
        let holders: BTreeSet<u32> = text.lines().filter_map(holder).filter(|pid| *pid != std::process::id()).collect();
        holders.into_iter().collect()
    }

    /// The blobs that layers were unpacked from which stay.
    fn originals(&self, kept: &HashMap<What, Vec<usize>>) -> HashSet<What> {
        let source = |what: &What| if let What::Layer(chain) = what { self.snapshot_meta(chain).ok()?.source } else { None };
        kept.keys().filter_map(source).filter_map(|blob| digest_of(&blob).ok()).map(What::Blob).collect()
    }

    fn diff_ids(&self, items: &[Found]) -> HashMap<Digest, Digest> {
        let chains = items.iter().filter_map(|item| if let What::Layer(chain) = &item.what { Some(*chain) } else { None });
        chains.filter_map(|chain| Some((chain, self.snapshot_meta(&chain).ok()?.layer.diff_id))).collect()
    }

    /// Removes names of images; gives the bytes by which the list of them became smaller.
    fn untag_all(&self, names: &[String]) -> Result<u64> {
        if names.is_empty() {
            return Ok(0);
        }
        let path = self.path("index.json");
        let before = allocated_bytes(&path);
        self.change_index(|entries| entries.retain(|entry| !name_of(entry).is_some_and(|name| names.iter().any(|gone| gone == name))))?;
        Ok(before.saturating_sub(allocated_bytes(&path)))
    }

    /// What refers goes before what it refers to: records, then layers from the top, then notes, then blobs.
    fn remove_items(&self, mut gone: Vec<Found>) -> Result<()> {
        let rank = |item: &Found| match &item.what {
            What::Record(_) | What::Packed(_) => (0, 0, false),
            What::Layer(chain) => {
                let depth = self.layers(chain).map_or(usize::MAX, |layers| layers.len());
                // Variations before what shows through them.
                (1, usize::MAX - depth, self.snapshot_meta(chain).is_ok_and(|meta| meta.over.is_none()))
            }
            _ => (2, 0, false),
        };
        gone.sort_by_cached_key(rank);
        for item in gone {
            if let What::Arriving(name) = &item.what {
                self.abandon(name)?;
                continue;
            }
            for path in &item.paths {
                if path.is_dir() {
                    self.discard(path)?;
                } else {
                    match std::fs::remove_file(path) {
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        other => other.map_err(removing(path))?,
                    }
                }
            }
        }
        Ok(())
    }
}

impl PruneReport {
    fn count(&mut self) {
        for item in &self.removed {
            match &item.what {
                What::Blob(_) | What::Arriving(_) => self.blobs += 1,
                What::Layer(_) => self.snapshots += 1,
                What::Record(_) => self.records += 1,
                _ => {}
            }
        }
        let order = |a: &Item, b: &Item| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.what.cmp(&b.what));
        self.removed.sort_by(order);
        self.kept.sort_by(order);
    }
}
