//! A build cache that travels, as documents: an OCI image manifest whose layers are those of steps (and of cache mounts), and whose configuration says
//! which key gave which layer. Any registry holds it, any tool that copies images copies it.
//!
//! ```json
//! {"version": 1,
//!  "layers":  ["sha256:…"],                              the uncompressed tars of the manifest's layers, in its order
//!  "records": [{"keys": ["sha256:…"], "layer": 0},       a step of one of these keys, on top of its parent, gives that layer
//!              {"keys": ["sha256:…"], "diffId": "sha256:…"}],  or one that is known but not here: a stage whose files no image has (`mode=min`)
//!  "mounts":  [{"id": "go-build", "layer": 1}]}          cache mounts that were asked for
//! ```
//!
//! An image may carry the same (without `version` and `layers`, which are its own `rootfs.diff_ids`) in its configuration: an inline cache.
//!
//! **Trust.** Nothing about a key can be checked without executing the step, so who names a cache (`--cache-from`) trusts those who can write to it, for
//! this one build: what a record says is never written into the machine's own cache, and a build that does not name the cache does not see it. What can be
//! checked is: a layer's blob against its digest, its tar against the digest that the record names, its paths as for any image. A record names only the
//! layer that its step adds: what lies below is known from the step itself, so no record can bring in another base.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strake_oci::{Descriptor, Digest, ImageConfig, ImageManifest, MediaType};
use strake_plan::is_cache_of;
use strake_store::{Compression, Store, digest_of};

/// The media type of a cache's configuration.
pub const CACHE_CONFIG_TYPE: &str = "application/vnd.strake.buildcache.config.v1+json";
const VERSION: u32 = 1;

/// The configuration of a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDocument {
    /// Of this form.
    #[serde(default)]
    pub version: u32,
    /// The uncompressed tars of the manifest's layers, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Digest>,
    /// What steps gave.
    #[serde(default)]
    pub records: Vec<CacheRecord>,
    /// Cache mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<CacheMount>,
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The keys by which the step is known.
    pub keys: Vec<Digest>,
    /// The place of the layer it added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// The uncompressed tar of a layer that is not part of the cache: enough to know the keys of what stands on it.
    #[serde(rename = "diffId", default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
}

/// A cache mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// Its id.
    pub id: String,
    /// The place of its files.
    pub layer: usize,
}

/// Why a document is no build cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheDocumentError {
    /// No JSON of the right shape.
    #[error("cannot decode its {what}")]
    Decode { what: &'static str, source: serde_json::Error },
    /// An image without an inline cache, or something else.
    #[error("it is a {found}, not a build cache, nor an image that carries one")]
    NoCache { found: String },
    /// Written by a later release.
    #[error("its form is version {found}; this strake reads version {VERSION}")]
    Version { found: u32 },
    /// Documents that contradict each other.
    #[error("it contradicts itself: {reason}")]
    Contradiction { reason: String },
}

/// Where the blobs of a cache are.
pub trait BlobSource: fmt::Debug + Send + Sync {
    /// Puts a blob into the store, verified against its digest; one that is there already is fine.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn fetch(&self, blob: &Descriptor, store: &Store) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// A build cache of elsewhere. Its records are here, its layers stay where they are until they are used.
#[derive(Clone, Debug)]
pub struct ImportedCache {
    /// What people call it.
    pub name: String,
    /// Whether its cache mounts are used, where there are none of the same id.
    pub use_mounts: MountChoice,
    records: Vec<CacheRecord>,
    by_key: HashMap<Digest, usize>,
    layers: Vec<ImportedLayer>,
    mounts: BTreeMap<String, usize>,
    source: Arc<dyn BlobSource>,
}

/// Cache mounts that travel with a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MountChoice {
    /// None.
    #[default]
    None,
    /// All that the build's steps use.
    All,
    /// Those with these ids.
    These(Vec<String>),
}

impl MountChoice {
    /// Whether a mount is chosen.
    pub fn takes(&self, id: &str) -> bool {
        match self {
            MountChoice::None => false,
            MountChoice::All => true,
            MountChoice::These(ids) => ids.iter().any(|one| is_cache_of(id, one)),
        }
    }
}

/// A layer of a cache.
#[derive(Clone, Debug)]
pub(crate) struct ImportedLayer {
    pub diff_id: Digest,
    /// Nothing for a layer that is known and not to be had.
    pub blob: Option<Descriptor>,
}

impl ImportedCache {
    /// Reads a cache from a manifest and its configuration, both verified against their digests by the caller.
    ///
    /// # Errors
    /// It is none, or contradicts itself.
    pub fn read(name: &str, manifest: &[u8], config: &[u8], source: Arc<dyn BlobSource>) -> Result<Self, CacheDocumentError> {
        let manifest: ImageManifest = serde_json::from_slice(manifest).map_err(|source| CacheDocumentError::Decode { what: "manifest", source })?;
        let document = document(&manifest, config)?;
        let wrong = |reason: String| CacheDocumentError::Contradiction { reason };
        if document.layers.len() != manifest.layers().len() {
            return Err(wrong(format!("{} layers in its manifest, {} in its configuration", manifest.layers().len(), document.layers.len())));
        }
        let mut layers = Vec::with_capacity(document.layers.len());
        for (diff_id, blob) in document.layers.iter().zip(manifest.layers()) {
            if Compression::of_media_type(blob.media_type()).is_none() {
                return Err(wrong(format!("a layer is a {}", blob.media_type())));
            }
            digest_of(blob).map_err(|error| wrong(error.to_string()))?;
            layers.push(ImportedLayer { diff_id: *diff_id, blob: Some(plain(blob)) });
        }
        if document.records.iter().any(|record| record.layer.is_some() == record.diff_id.is_some()) {
            return Err(wrong("a record has to have a layer, or else a diff id".to_owned()));
        }
        let beyond = document
            .records
            .iter()
            .filter_map(|record| record.layer)
            .chain(document.mounts.iter().map(|mount| mount.layer))
            .find(|place| *place >= layers.len());
        if let Some(place) = beyond {
            return Err(wrong(format!("it refers to layer {place} of {}", layers.len())));
        }
        let mut by_key = HashMap::new();
        for (place, record) in document.records.iter().enumerate() {
            // The first stands, whatever a later one says.
            for key in &record.keys {
                by_key.entry(*key).or_insert(place);
            }
        }
        let mounts = document.mounts.into_iter().map(|mount| (mount.id, mount.layer)).collect();
        Ok(ImportedCache { name: name.to_owned(), use_mounts: MountChoice::None, records: document.records, by_key, layers, mounts, source })
    }

    /// How many steps it knows.
    pub fn record_count(&self) -> usize {
        self.records.len()
    }

    /// The layer that a step of this key gave, and all keys of that step.
    pub(crate) fn find(&self, key: &Digest) -> Option<(ImportedLayer, &[Digest])> {
        let record = &self.records[*self.by_key.get(key)?];
        let bare = record.diff_id.map(|diff_id| ImportedLayer { diff_id, blob: None });
        Some((bare.or_else(|| self.layers.get(record.layer?).cloned())?, &record.keys))
    }

    /// The files of a cache mount, where they are to be used.
    pub(crate) fn mount(&self, id: &str) -> Option<&ImportedLayer> {
        let place = self.mounts.get(id).filter(|_| self.use_mounts.takes(id))?;
        self.layers.get(*place)
    }

    /// Where its blobs are.
    pub fn source(&self) -> &Arc<dyn BlobSource> {
        &self.source
    }
}

/// The records of a cache proper, or those that an image carries.
fn document(manifest: &ImageManifest, config: &[u8]) -> Result<CacheDocument, CacheDocumentError> {
    let decode = |source| CacheDocumentError::Decode { what: "configuration", source };
    let kind = manifest.config().media_type().to_string();
    if kind == CACHE_CONFIG_TYPE {
        let document: CacheDocument = serde_json::from_slice(config).map_err(decode)?;
        return if document.version == VERSION { Ok(document) } else { Err(CacheDocumentError::Version { found: document.version }) };
    }
    let none = || CacheDocumentError::NoCache { found: kind.clone() };
    if kind != MediaType::ImageConfig.to_string() && kind != "application/vnd.docker.container.image.v1+json" {
        return Err(none());
    }
    let config: ImageConfig = serde_json::from_slice(config).map_err(decode)?;
    let inline = config.inline_cache.ok_or_else(none)?;
    let records: CacheDocument = serde_json::from_value(inline).map_err(decode)?;
    Ok(CacheDocument { layers: config.rootfs.diff_ids, mounts: Vec::new(), ..records })
}

/// The records that an image carries.
pub(crate) fn inline(records: Vec<CacheRecord>) -> serde_json::Value {
    serde_json::json!({ "records": records })
}

/// The document of a cache with these layers.
pub(crate) fn written(layers: Vec<Digest>, records: Vec<CacheRecord>, mounts: Vec<CacheMount>) -> CacheDocument {
    CacheDocument { version: VERSION, layers, records, mounts }
}

/// A descriptor without links and annotations: a cache leads nowhere but to its own blobs.
fn plain(blob: &Descriptor) -> Descriptor {
    Descriptor::new(blob.media_type().clone(), blob.size(), blob.digest().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl BlobSource for Nowhere {
        fn fetch(&self, _: &Descriptor, _: &Store) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            Err("nowhere".into())
        }
    }

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn manifest(config_type: &str, layers: &[&str]) -> Vec<u8> {
        let blob = |kind: &str, name: &str| serde_json::json!({"mediaType": kind, "digest": digest(name), "size": 3, "urls": ["https://elsewhere.example"]});
        let layers: Vec<_> = layers.iter().map(|name| blob("application/vnd.oci.image.layer.v1.tar+gzip", name)).collect();
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "config": blob(config_type, "config"), "layers": layers})).unwrap()
    }

    fn read(config_type: &str, layers: &[&str], config: &serde_json::Value) -> Result<ImportedCache, CacheDocumentError> {
        ImportedCache::read("test", &manifest(config_type, layers), config.to_string().as_bytes(), Arc::new(Nowhere))
    }

    #[test]
    fn records_lead_to_layers() {
        let config = serde_json::json!({"version": 1, "layers": [digest("A"), digest("B")], "mounts": [{"id": "m", "layer": 1}],
            "records": [{"keys": [digest("k"), digest("l")], "layer": 0}, {"keys": [digest("k")], "layer": 1}]});
        let mut cache = read(CACHE_CONFIG_TYPE, &["a", "b"], &config).unwrap();
        let (layer, keys) = cache.find(&digest("k")).unwrap();
        assert_eq!((layer.diff_id, keys.len()), (digest("A"), 2), "the first record of a key stands");
        assert!(layer.blob.unwrap().urls().is_none(), "no link to elsewhere is kept");
        assert!(cache.find(&digest("other")).is_none());
        assert!(cache.mount("m").is_none(), "only on request");
        cache.use_mounts = MountChoice::These(vec!["m".to_owned()]);
        assert_eq!(cache.mount("m").unwrap().diff_id, digest("B"));
    }

    #[test]
    fn an_image_carries_records_of_its_own_layers() {
        let mut config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
        config.rootfs.diff_ids = vec![digest("A")];
        let kind = MediaType::ImageConfig.to_string();
        let value = |config: &ImageConfig| serde_json::to_value(config).unwrap();
        assert!(matches!(read(&kind, &["a"], &value(&config)), Err(CacheDocumentError::NoCache { .. })));
        config.inline_cache = Some(inline(vec![CacheRecord { keys: vec![digest("k")], layer: Some(0), diff_id: None }]));
        assert_eq!(read(&kind, &["a"], &value(&config)).unwrap().find(&digest("k")).unwrap().0.diff_id, digest("A"));
    }

    #[test]
    fn contradictions_are_refused() {
        let said = |layers: &[&str], config: serde_json::Value| read(CACHE_CONFIG_TYPE, layers, &config).unwrap_err().to_string();
        assert!(said(&["a"], serde_json::json!({"version": 1, "layers": []})).contains("1 layers in its manifest, 0"));
        let beyond = serde_json::json!({"version": 1, "layers": [digest("A")], "records": [{"keys": [], "layer": 7}]});
        assert!(said(&["a"], beyond).contains("layer 7 of 1"));
        let both = serde_json::json!({"version": 1, "layers": [digest("A")], "records": [{"keys": [], "layer": 0, "diffId": digest("A")}]});
        assert!(said(&["a"], both).contains("or else a diff id"));
        assert!(said(&[], serde_json::json!({"version": 9})).contains("version 9"));
        assert!(said(&[], serde_json::json!("text")).contains("cannot decode its configuration"));
        assert!(read("application/vnd.oci.empty.v1+json", &[], &serde_json::json!({})).unwrap_err().to_string().contains("not a build cache"));
    }
}
