//! A finished build as a build cache that travels.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use strake_oci::{Descriptor, Digest, MediaType};
use strake_plan::{BuildPlan, Op, StepIndex};
use strake_store::{Packed, Packing, Store, StoreError, descriptor, digest_of};

use super::document::{BlobSource, CACHE_CONFIG_TYPE, CacheMount, CacheRecord, ImportedCache, MountChoice, inline, written};
use crate::session::Session;
use crate::step::{complete_keys, keys};

/// What a step of a finished build gave.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// The step's place in the plan.
    pub step: StepIndex,
    /// The keys by which the step is known.
    pub keys: Vec<Digest>,
    /// The chain up to the layer it added.
    pub chain: Digest,
    /// Whether the layer is part of an image of the plan.
    pub in_image: bool,
    /// Ids of the cache mounts it uses.
    pub mounts: Vec<String>,
    /// A layer that was never fetched: its tar, its blob when that can be had, and the place of the imported cache that knows it.
    pub elsewhere: Option<(Digest, Option<Descriptor>, usize)>,
}

/// The steps of some of a plan's images: what a cache of one target of several is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Every step that the images are made from.
    needed: BTreeSet<StepIndex>,
    /// Those whose layers are in the images.
    own: BTreeSet<StepIndex>,
}

impl Share {
    /// The share of images, each by the step whose file system it is.
    pub fn of(plan: &BuildPlan, images: &[StepIndex]) -> Share {
        let mut share = Share { needed: images.iter().copied().collect(), own: BTreeSet::new() };
        let mut waiting = images.to_vec();
        while let Some(step) = waiting.pop() {
            waiting.extend(plan.step(step).op.inputs().into_iter().filter(|input| share.needed.insert(*input)));
        }
        for image in images {
            let mut next = Some(*image);
            while let Some(step) = next.filter(|step| share.own.insert(*step)) {
                next = plan.step(step).op.parent();
            }
        }
        share
    }

    /// Of a build's records those of these images' steps.
    pub fn records(&self, all: &[StepRecord]) -> Vec<StepRecord> {
        let own = all.iter().filter(|record| self.needed.contains(&record.step));
        own.map(|record| StepRecord { in_image: self.own.contains(&record.step), ..record.clone() }).collect()
    }
}

/// Which images carry the records of their own steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InlineCache {
    #[default]
    None,
    All,
    /// Those of these steps.
    Of(BTreeSet<StepIndex>),
}

impl InlineCache {
    pub(crate) fn is_in(&self, image: StepIndex) -> bool {
        match self {
            InlineCache::None => false,
            InlineCache::All => true,
            InlineCache::Of(images) => images.contains(&image),
        }
    }
}

/// What of a build goes into a cache.
#[derive(Clone, Debug)]
pub struct CacheExport {
    /// `mode=max`: every step, not only those whose layers are in an image.
    pub every_step: bool,
    /// What the layers are to have.
    pub compression: Packing,
    /// Cache mounts of the build's steps.
    pub mounts: MountChoice,
}

/// A cache that is ready to go.
#[derive(Debug)]
pub struct PackedCache {
    /// Its documents and blobs. Every blob is in the store, those in `elsewhere` excepted.
    pub packed: Packed,
    /// Blobs that were never fetched, and where they can be had.
    pub elsewhere: Vec<(Descriptor, Arc<dyn BlobSource>)>,
    /// Number of records.
    pub records: usize,
    /// Cache mounts that could not be read, and why: they are left out.
    pub left_out: Vec<(String, String)>,
}

/// Why a cache could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A layer could not be packed, or a document not stored.
    #[error("cannot pack the build cache")]
    Pack { source: StoreError },
    /// A document could not be made.
    #[error("cannot encode the build cache")]
    Encode { source: serde_json::Error },
}

/// Everything that the steps of a finished build gave.
pub(crate) fn step_records(session: &Session<'_>) -> Vec<StepRecord> {
    let images: Vec<StepIndex> = session.plan.images.iter().map(|image| image.step).collect();
    let own = Share::of(session.plan, &images).own;
    let steps = (0..session.plan.steps.len()).map(StepIndex).filter(|step| adds_layer(session, *step));
    steps.filter_map(|step| Some(record(session, step, session.chain(step)?, own.contains(&step)))).collect()
}

fn adds_layer(session: &Session<'_>, step: StepIndex) -> bool {
    session.plan.step(step).op.parent().is_some()
}

fn record(session: &Session<'_>, step: StepIndex, chain: Digest, in_image: bool) -> StepRecord {
    complete_keys(session, step);
    let found = session.imports.found(&chain);
    let elsewhere = found.as_ref().filter(|_| !session.store.has_chain(&chain)).map(|found| (found.layer.diff_id, found.layer.blob.clone(), found.cache));
    let mounts = match &session.plan.step(step).op {
        Op::Run(run) => run.mounts.iter().filter_map(|mount| mount.kind.cache_key()).collect(),
        _ => Vec::new(),
    };
    StepRecord { step, keys: all_keys(session, step), chain, in_image, mounts, elsewhere }
}

/// The keys of a step that are known, those that an imported record has for it included.
fn all_keys(session: &Session<'_>, step: StepIndex) -> Vec<Digest> {
    let (by_result, by_content) = keys(session, step);
    let imported = session.chain(step).and_then(|chain| session.imports.found(&chain)).map(|found| found.keys).unwrap_or_default();
    let mut all: Vec<Digest> = Vec::new();
    for key in [Some(by_result), by_content].into_iter().flatten().chain(imported) {
        if !all.contains(&key) {
            all.push(key);
        }
    }
    all
}

/// The records of an image's own layers and of the steps that those are made from, for its configuration.
pub(crate) fn image_records(session: &Session<'_>, image: StepIndex, layer_count: usize) -> serde_json::Value {
    let mut own = HashMap::new();
    let (mut next, mut place) = (Some(image), layer_count);
    while let Some(step) = next.filter(|step| place > 0 && adds_layer(session, *step)) {
        place -= 1;
        own.insert(step, place);
        next = session.plan.step(step).op.parent();
    }
    let mut needed = BTreeSet::from([image]);
    for step in (0..=image.0).rev().map(StepIndex) {
        if needed.contains(&step) {
            needed.extend(session.plan.step(step).op.inputs());
        }
    }
    let record = |step: StepIndex| {
        complete_keys(session, step);
        let layer = own.get(&step).copied();
        let diff_id = if layer.is_some() { None } else { Some(session.diff_id(step)?) };
        Some(CacheRecord { keys: all_keys(session, step), layer, diff_id })
    };
    inline(needed.into_iter().filter(|step| adds_layer(session, *step)).filter_map(record).collect())
}

/// Packs the results of a build as a cache. `imported` are the caches that the build was given. Hold a lease for as long as the blobs are read.
///
/// # Errors
/// A layer that cannot be read, a store that cannot be written.
pub fn pack_cache(store: &Store, records: &[StepRecord], imported: &[ImportedCache], export: &CacheExport) -> Result<PackedCache, ExportError> {
    let pack = |source| ExportError::Pack { source };
    let mut making = Making::default();
    let mut written_records = Vec::new();
    for record in records {
        let wanted = export.every_step || record.in_image;
        let (layer, diff_id) = match &record.elsewhere {
            Some((diff_id, Some(blob), cache)) if wanted => {
                making.elsewhere.push((blob.clone(), Arc::clone(imported[*cache].source())));
                (Some(making.layer(*diff_id, blob.clone())), None)
            }
            Some((diff_id, ..)) => (None, Some(*diff_id)),
            None => {
                let Some(layer) = store.layers(&record.chain).map_err(pack)?.pop() else { continue };
                match making.places.get(&layer.diff_id) {
                    Some(place) => (Some(*place), None),
                    None if wanted => (Some(making.layer(layer.diff_id, store.pack(&layer, export.compression).map_err(pack)?)), None),
                    None => (None, Some(layer.diff_id)),
                }
            }
        };
        written_records.push(CacheRecord { keys: record.keys.clone(), layer, diff_id });
    }
    let mut ids: Vec<&String> = records.iter().flat_map(|record| &record.mounts).filter(|id| export.mounts.takes(id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let (mut mounts, mut left_out) = (Vec::new(), Vec::new());
    for id in ids {
        match making.mount(store, imported, id, export.compression) {
            Ok(Some(layer)) => mounts.push(CacheMount { id: id.clone(), layer }),
            Ok(None) => {}
            Err(error) => left_out.push((id.clone(), super::told(&error))),
        }
    }
    let count = written_records.len();
    let document = written(making.diff_ids, written_records, mounts);
    let bytes = serde_json::to_vec(&document).map_err(|source| ExportError::Encode { source })?;
    let config = store.put(&bytes).map_err(pack)?;
    let config = descriptor(MediaType::Other(CACHE_CONFIG_TYPE.to_owned()), &config.digest, config.size_bytes).map_err(pack)?;
    let value = serde_json::json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "config": config, "layers": making.blobs });
    let manifest = serde_json::to_vec(&value).map_err(|source| ExportError::Encode { source })?;
    let descriptor = descriptor(MediaType::ImageManifest, &Digest::of(&manifest), manifest.len() as u64).map_err(pack)?;
    let packed = Packed { descriptor, manifest, config, layers: making.blobs };
    let mut elsewhere = making.elsewhere;
    elsewhere.retain(|(blob, _)| digest_of(blob).is_ok_and(|digest| !store.has(&digest)));
    Ok(PackedCache { packed, elsewhere, records: count, left_out })
}

/// The layers of a cache in the making, each once.
#[derive(Default)]
struct Making {
    diff_ids: Vec<Digest>,
    blobs: Vec<Descriptor>,
    places: HashMap<Digest, usize>,
    elsewhere: Vec<(Descriptor, Arc<dyn BlobSource>)>,
}

impl Making {
    fn layer(&mut self, diff_id: Digest, blob: Descriptor) -> usize {
        *self.places.entry(diff_id).or_insert_with(|| {
            self.diff_ids.push(diff_id);
            self.blobs.push(blob);
            self.blobs.len() - 1
        })
    }

    /// The files of a cache mount: those of this machine, else those of an imported cache; nothing when nobody has it.
    fn mount(&mut self, store: &Store, imported: &[ImportedCache], id: &str, compression: Packing) -> Result<Option<usize>, StoreError> {
        let dir = crate::run::mount_dir(store.root(), id);
        if dir.is_dir() {
            let (diff_id, blob) = store.pack_files(&dir, compression)?;
            return Ok(Some(self.layer(diff_id, blob)));
        }
        let Some((cache, layer)) = imported.iter().find_map(|cache| Some((cache, cache.mount(id)?))) else { return Ok(None) };
        let Some(blob) = &layer.blob else { return Ok(None) };
        self.elsewhere.push((blob.clone(), Arc::clone(cache.source())));
        Ok(Some(self.layer(layer.diff_id, blob.clone())))
    }
}
