//! Who needs what: images, containers, and the parts of the build cache.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use strake_oci::{Descriptor, Digest, MediaType};

use super::Reason;
use super::usage::{Found, What};
use crate::error::Result;
use crate::image::{descriptor, digest_of, name_of};
use crate::pins::Pin;
use crate::store::Store;

/// One reason to keep some items.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub reason: Reason,
    pub items: BTreeSet<What>,
    /// When it was of use last; a claim without a time is never given up.
    pub used: Option<SystemTime>,
    /// For a record: the layer that it is about.
    pub top: Option<Digest>,
    /// For the packed form of a layer: it is of use only while the layer is there.
    pub packed: Option<Digest>,
}

/// What is read once for all claims.
struct Known<'a> {
    store: &'a Store,
    times: HashMap<&'a What, SystemTime>,
    here: HashSet<&'a What>,
    /// Chains that containers stand on.
    used_chains: BTreeSet<Digest>,
}

impl Store {
    /// Every claim on the items.
    pub(super) fn claims(&self, items: &[Found]) -> Result<Vec<Claim>> {
        let mut known = Known {
            store: self,
            times: items.iter().map(|item| (&item.what, item.time)).collect(),
            here: items.iter().map(|item| &item.what).collect(),
            used_chains: BTreeSet::new(),
        };
        let mut claims = Vec::new();
        known.containers(&mut claims)?;
        known.images(&mut claims)?;
        known.pins(&mut claims)?;
        known.records(&mut claims)?;
        known.packed(items, &mut claims);
        known.others(items, &mut claims)?;
        Ok(claims)
    }
}

impl Known<'_> {
    /// A chain with everything below it, as far as it is here, and the blobs that alone can give back the tars of unpacked layers.
    fn chain(&self, chain: Digest, items: &mut BTreeSet<What>) {
        let mut next = Some(chain);
        while let Some(chain) = next.filter(|chain| items.insert(What::Layer(*chain))) {
            let Ok(meta) = self.store.snapshot_meta(&chain) else { return };
            items.extend(meta.source.as_ref().and_then(|source| digest_of(source).ok()).map(What::Blob));
            // What shows through a variation stands on the same parent.
            items.extend(meta.over.map(What::Layer));
            next = meta.layer.parent;
        }
    }

    fn time(&self, what: &What) -> SystemTime {
        self.times.get(what).copied().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn containers(&mut self, claims: &mut Vec<Claim>) -> Result<()> {
        for name in self.store.workings()? {
            let mut items = BTreeSet::from([What::Container(name.clone())]);
            if let Some(parent) = self.store.find_working(&name).ok().flatten().and_then(|working| working.parent) {
                self.chain(parent, &mut items);
                self.used_chains.insert(parent);
            }
            claims.push(Claim { reason: Reason::Container { name }, items, used: None, top: None, packed: None });
        }
        Ok(())
    }

    /// Everything that a manifest or an index leads to, and whether a container stands on it.
    fn image(&self, entry: &Descriptor) -> (BTreeSet<What>, bool) {
        let mut items: BTreeSet<What> = digest_of(entry).ok().map(What::Blob).into_iter().collect();
        let mut in_use = false;
        for leaf in self.store.leaves(entry).unwrap_or_default() {
            items.extend(digest_of(&leaf).ok().map(What::Blob));
            if let Ok(Some(blobs)) = self.store.artifact_at(&leaf) {
                items.extend(blobs.iter().filter_map(|blob| digest_of(blob).ok()).map(What::Blob));
                continue;
            }
            // Of an image that cannot be read, nothing else is known to be needed.
            let Ok(image) = self.store.manifest_at(&leaf) else { continue };
            items.insert(What::Blob(image.config_digest));
            items.extend(image.manifest.layers().iter().filter_map(|layer| digest_of(layer).ok()).map(What::Blob));
            if let Some(chain) = image.chain() {
                in_use |= self.used_chains.contains(&chain);
                self.chain(chain, &mut items);
            }
        }
        (items, in_use)
    }

    fn images(&self, claims: &mut Vec<Claim>) -> Result<()> {
        for entry in self.store.read_index()?.manifests() {
            let (items, in_use) = self.image(entry);
            let used = digest_of(entry).map_or(SystemTime::UNIX_EPOCH, |digest| self.time(&What::Blob(digest)));
            let name = name_of(entry).unwrap_or("without a name").to_owned();
            claims.push(Claim { reason: Reason::Image { name, in_use }, items, used: Some(used), top: None, packed: None });
        }
        Ok(())
    }

    /// What somebody may go back to; what is not here keeps nothing.
    fn pins(&self, claims: &mut Vec<Claim>) -> Result<()> {
        for Pin { why: by, digest, .. } in self.store.pins()? {
            let Some(size_bytes) = self.store.size(&digest) else { continue };
            // Looked at as an index, which a manifest is found not to be; the other way round it is not looked at.
            let (items, _) = self.image(&descriptor(MediaType::ImageIndex, &digest, size_bytes)?);
            claims.push(Claim { reason: Reason::Pinned { by }, items, used: None, top: None, packed: None });
        }
        Ok(())
    }

    /// Records of layers that are gone claim nothing.
    fn records(&self, claims: &mut Vec<Claim>) -> Result<()> {
        for (path, layer, _) in self.store.records()? {
            let key = path.file_name().and_then(|name| name.to_str()).and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let (Some(key), Some(layer)) = (key, layer.filter(|layer| self.here.contains(&What::Layer(layer.chain_id)))) else { continue };
            let record = What::Record(key);
            let used = self.time(&record);
            let mut items = BTreeSet::from([record]);
            self.chain(layer.chain_id, &mut items);
            claims.push(Claim { reason: Reason::Cache, items, used: Some(used), top: Some(layer.chain_id), packed: None });
        }
        Ok(())
    }

    fn packed(&self, items: &[Found], claims: &mut Vec<Claim>) {
        for item in items {
            let What::Packed(name) = &item.what else { continue };
            let diff_id = name.split('.').next().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let blob = std::fs::read(&item.paths[0]).ok().and_then(|bytes| serde_json::from_slice::<Descriptor>(&bytes).ok());
            let blob = blob.and_then(|blob| digest_of(&blob).ok()).map(What::Blob).filter(|blob| self.here.contains(blob));
            let (Some(diff_id), Some(blob)) = (diff_id, blob) else { continue };
            claims.push(Claim {
                reason: Reason::Packed,
                items: BTreeSet::from([item.what.clone(), blob]),
                used: Some(item.time),
                top: None,
                packed: Some(diff_id),
            });
        }
    }

    fn others(&self, items: &[Found], claims: &mut Vec<Claim>) -> Result<()> {
        let mut claim = |item: &What, reason, used| claims.push(Claim { reason, items: BTreeSet::from([item.clone()]), used, top: None, packed: None });
        for held in self.store.held()? {
            claim(&What::Blob(held), Reason::Held, None);
        }
        for item in items {
            match &item.what {
                // One with an ending was in the making when its build died.
                What::Mount(name) if !name.contains('.') => {
                    let id = self.store.mount_id(name).unwrap_or_else(|| name.clone());
                    claim(&item.what, Reason::Mount { id }, Some(item.time));
                }
                What::Fetched(_) | What::Stats(_) => claim(&item.what, Reason::Cache, Some(item.time)),
                What::Arriving(name) if self.store.is_arriving(name)? => claim(&item.what, Reason::Arriving, None),
                _ => {}
            }
        }
        Ok(())
    }
}
