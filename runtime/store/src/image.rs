//! Images: `index.json` names them, a manifest and a configuration blob describe each.

use std::collections::{BTreeMap, HashMap};

use rustix::fs::FlockOperation;
use strake_oci::{Descriptor, Digest, ImageConfig, ImageIndex, ImageManifest, MediaType, Platform};

use crate::error::{Result, StoreError};
use crate::files::{Durability, Lock, read_optional, replace};
use crate::index::{Index, descriptor_value, parse_index, says_index};
use crate::snapshot::Layer;
use crate::store::Store;

/// Annotation that carries the full reference.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Manifests and configurations longer than this are refused.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// An image that is in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Of the manifest.
    pub descriptor: Descriptor,
    /// The manifest. An image built here lists its layers as uncompressed tars, which exist as snapshots only (see [`Store::pack`]).
    pub manifest: ImageManifest,
    /// The configuration.
    pub config: ImageConfig,
    /// Digest of the configuration, the image's identity whatever its layers' compression.
    pub config_digest: Digest,
}

impl Image {
    /// Digest of the manifest.
    pub fn digest(&self) -> Result<Digest> {
        digest_of(&self.descriptor)
    }

    /// The chain of all its layers; nothing for an image without layers.
    pub fn chain(&self) -> Option<Digest> {
        self.config.rootfs.diff_ids.iter().fold(None, |parent, diff_id| Some(Digest::chain(parent.as_ref(), diff_id)))
    }

    /// Length of everything the manifest lists, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.manifest.config().size() + self.manifest.layers().iter().map(Descriptor::size).sum::<u64>()
    }
}

/// One named image, as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRecord {
    /// The full reference, such as `docker.io/library/nginx:1.27`.
    pub reference: String,
    /// Of the manifest.
    pub descriptor: Descriptor,
    /// Digest of the configuration.
    pub config_digest: Digest,
    /// RFC 3339 time from the configuration.
    pub created: Option<String>,
    /// Length of everything the manifest lists, in bytes; of all that are here for an index.
    pub size_bytes: u64,
    /// What it is for: one platform, or those of an index.
    pub platforms: Vec<Platform>,
    /// The name stands for an index.
    pub is_index: bool,
}

/// The digest of a descriptor, if it is one that strake accepts.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest> {
    let text: &str = descriptor.digest().as_ref();
    text.parse()
        .map_err(|error: strake_oci::DigestError| StoreError::Invalid { what: format!("descriptor of {}", descriptor.media_type()), reason: error.to_string() })
}

/// A descriptor of a blob.
pub fn descriptor(media_type: MediaType, digest: &Digest, size_bytes: u64) -> Result<Descriptor> {
    let text = digest.to_string();
    let digest: oci_spec::image::Digest =
        text.parse().map_err(|error: oci_spec::OciSpecError| StoreError::Invalid { what: text.clone(), reason: error.to_string() })?;
    Ok(Descriptor::new(media_type, size_bytes, digest))
}

impl Store {
    /// Names an image. `reference` is the full, normalised text. Naming what is so named already writes nothing.
    pub fn tag(&self, reference: &str, descriptor: &Descriptor) -> Result<()> {
        let digest = digest_of(descriptor)?;
        if !self.has(&digest) {
            return Err(StoreError::BlobMissing { digest });
        }
        let mut named = Descriptor::new(descriptor.media_type().clone(), descriptor.size(), descriptor.digest().clone());
        named.set_platform(descriptor.platform().clone());
        named.set_annotations(Some(HashMap::from([(REF_NAME.to_owned(), reference.to_owned())])));
        if self.read_index()?.manifests().contains(&named) {
            return Ok(());
        }
        self.change_index(|entries| {
            entries.retain(|entry| name_of(entry) != Some(reference));
            entries.push(named);
        })
    }

    /// The manifest that a reference names.
    pub fn resolve(&self, reference: &str) -> Result<Option<Descriptor>> {
        let index = self.read_index()?;
        Ok(index.manifests().iter().find(|entry| name_of(entry) == Some(reference)).map(bare))
    }

    /// Removes a name; says whether it was there. The content stays until [`Store::prune`].
    pub fn untag(&self, reference: &str) -> Result<bool> {
        if self.resolve(reference)?.is_none() {
            return Ok(false);
        }
        let mut found = false;
        self.change_index(|entries| {
            let before = entries.len();
            entries.retain(|entry| name_of(entry) != Some(reference));
            found = entries.len() != before;
        })?;
        Ok(found)
    }

    /// Every named image, by reference. One whose manifest or configuration is missing or corrupt is left out: [`Store::verify`] names it.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        let mut records = Vec::new();
        for entry in self.read_index()?.manifests() {
            let Some(reference) = name_of(entry) else { continue };
            if let Ok(record) = self.record(reference, entry) {
                records.push(record);
            }
        }
        records.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(records)
    }

    fn record(&self, reference: &str, entry: &Descriptor) -> Result<ImageRecord> {
        let Some(index) = self.index_at(entry)? else {
            let image = self.manifest_at(entry)?;
            return Ok(image_record(reference, entry, &image, image.size_bytes(), vec![image.config.platform()]));
        };
        let here: Vec<Image> = self.leaves(entry)?.iter().filter_map(|leaf| self.manifest_at(leaf).ok()).collect();
        let size_bytes = here.iter().map(Image::size_bytes).sum();
        let image = self.image_at(entry).or_else(|error| index.images().find_map(|child| self.manifest_at(child).ok()).ok_or(error))?;
        Ok(image_record(reference, entry, &image, size_bytes, index.platforms()))
    }

    /// An image by its reference, the digest of its manifest, or the digest of its configuration. Of an index it is the image for this machine, or the only one.
    ///
    /// # Errors
    /// [`StoreError::ImageMissing`] when there is none, [`StoreError::PlatformMissing`] when there are several and none is for this machine.
    pub fn image(&self, name: &str) -> Result<Image> {
        if let Some(descriptor) = self.resolve(name)? {
            return self.image_at(&descriptor);
        }
        let missing = || StoreError::ImageMissing { name: name.to_owned() };
        let digest: Digest = name.parse().map_err(|_| missing())?;
        for entry in self.read_index()?.manifests().iter().filter(|entry| name_of(entry).is_some()) {
            let images = self.leaves(entry).unwrap_or_default().into_iter().filter_map(|leaf| self.manifest_at(&leaf).ok());
            if let Some(image) = images.into_iter().find(|image| image.config_digest == digest) {
                return Ok(image);
            }
        }
        let size_bytes = self.size(&digest).ok_or_else(missing)?;
        self.image_at(&descriptor(MediaType::ImageManifest, &digest, size_bytes)?)
    }

    /// The image at a descriptor: of an index the one for this machine, or the only one.
    pub fn image_at(&self, descriptor: &Descriptor) -> Result<Image> {
        let digest = digest_of(descriptor)?;
        let Some((children, annotations)) = parse_index(&digest, &self.read(&digest, MAX_DOCUMENT_BYTES)?)? else { return self.manifest_at(descriptor) };
        let index = Index { descriptor: descriptor.clone(), children, annotations };
        let images: Vec<&Descriptor> = index.images().collect();
        let chosen = index.choose(&Platform::host()).or(if let [only] = images[..] { Some(only) } else { None });
        let missing = || StoreError::PlatformMissing { name: digest.to_string(), platform: Box::new(Platform::host()), available: index.platforms() };
        self.manifest_at(chosen.ok_or_else(missing)?)
    }

    /// The image that a manifest's descriptor names; an index is refused.
    pub fn manifest_at(&self, descriptor: &Descriptor) -> Result<Image> {
        let digest = digest_of(descriptor)?;
        let manifest = parse_manifest(&digest, &self.read(&digest, MAX_DOCUMENT_BYTES)?)?;
        let config_digest = digest_of(manifest.config())?;
        let config: ImageConfig = serde_json::from_slice(&self.read(&config_digest, MAX_DOCUMENT_BYTES)?)
            .map_err(|source| StoreError::Decode { what: format!("image configuration {config_digest}"), source })?;
        if config.rootfs.diff_ids.len() != manifest.layers().len() {
            let reason = format!("it lists {} layers, its configuration {}", manifest.layers().len(), config.rootfs.diff_ids.len());
            return Err(StoreError::Invalid { what: format!("manifest {digest}"), reason });
        }
        let mut descriptor = bare(descriptor);
        if let Some(media_type) = manifest.media_type() {
            descriptor.set_media_type(media_type.clone());
        }
        Ok(Image { descriptor, manifest, config, config_digest })
    }

    /// Makes an image of layers that are here as snapshots: configuration and manifest are written, nothing is compressed.
    ///
    /// The layers replace `config.rootfs`. When this returns, the image survives a power cut; it has no name before [`Store::tag`].
    pub fn put_image(&self, config: &ImageConfig, layers: &[Layer]) -> Result<Image> {
        self.put_annotated(config, layers, &BTreeMap::new())
    }

    /// [`Store::put_image`], with annotations on the manifest.
    pub fn put_annotated(&self, config: &ImageConfig, layers: &[Layer], annotations: &BTreeMap<String, String>) -> Result<Image> {
        if let Some(missing) = layers.iter().find(|layer| !self.has_chain(&layer.chain_id)) {
            return Err(StoreError::ChainMissing { chain: missing.chain_id });
        }
        self.sync_layers(layers)?;
        let mut config = config.clone();
        config.rootfs.kind = "layers".to_owned();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let blob = self.put(&encode("image configuration", &config)?)?;
        let mut listed = Vec::with_capacity(layers.len());
        for layer in layers {
            listed.push(descriptor(MediaType::ImageLayer, &layer.diff_id, layer.size_bytes)?);
        }
        self.put_manifest(config, &blob.digest, blob.size_bytes, listed, annotations)
    }

    /// Writes a manifest over a configuration that is here.
    pub(crate) fn put_manifest(
        &self,
        config: ImageConfig,
        config_digest: &Digest,
        config_bytes: u64,
        layers: Vec<Descriptor>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Image> {
        let bytes = manifest_bytes(&descriptor(MediaType::ImageConfig, config_digest, config_bytes)?, &layers, annotations)?;
        let blob = self.put(&bytes)?;
        let manifest = parse_manifest(&blob.digest, &bytes)?;
        let descriptor = descriptor(MediaType::ImageManifest, &blob.digest, blob.size_bytes)?;
        Ok(Image { descriptor, manifest, config, config_digest: *config_digest })
    }

    pub(crate) fn lock_index(&self) -> Result<Lock> {
        Lock::hold(&self.path("tmp/.index-lock"), FlockOperation::LockExclusive)
    }

    pub(crate) fn read_index(&self) -> Result<ImageIndex> {
        let path = self.path("index.json");
        let bytes = read_optional(&path)?.unwrap_or_else(|| b"{\"schemaVersion\":2,\"manifests\":[]}".to_vec());
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Decode { what: path.display().to_string(), source })
    }

    /// Reads, changes and replaces `index.json` under its lock.
    pub(crate) fn change_index(&self, change: impl FnOnce(&mut Vec<Descriptor>)) -> Result<()> {
        let _lock = self.lock_index()?;
        let mut index = self.read_index()?;
        let mut entries = index.manifests().clone();
        change(&mut entries);
        index.set_manifests(entries);
        replace(&self.temporary("index"), &self.path("index.json"), &encode("index.json", &index)?, Durability::Synced)
    }
}

fn image_record(reference: &str, entry: &Descriptor, image: &Image, size_bytes: u64, platforms: Vec<Platform>) -> ImageRecord {
    ImageRecord {
        reference: reference.to_owned(),
        descriptor: bare(entry),
        config_digest: image.config_digest,
        created: image.config.created.clone(),
        size_bytes,
        platforms,
        is_index: says_index(entry),
    }
}

/// The bytes of a manifest, the same for the same parts.
pub(crate) fn manifest_bytes(config: &Descriptor, layers: &[Descriptor], annotations: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let layers: Vec<serde_json::Value> = layers.iter().map(descriptor_value).collect();
    let mut value = serde_json::json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "config": config, "layers": layers });
    if !annotations.is_empty() {
        value["annotations"] = serde_json::json!(annotations);
    }
    encode("manifest", &value)
}

/// Parses a manifest; a document that could also be read as an index is refused (CVE-2021-41190).
pub(crate) fn parse_manifest(digest: &Digest, bytes: &[u8]) -> Result<ImageManifest> {
    let what = || format!("manifest {digest}");
    let decode = |source| StoreError::Decode { what: what(), source };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(decode)?;
    if value.get("manifests").is_some() {
        return Err(StoreError::Invalid { what: what(), reason: "it is an index of images, or ambiguous between index and manifest".to_owned() });
    }
    if let Some(said) = said_to_be(&value, is_index_type) {
        return Err(StoreError::Invalid { what: what(), reason: format!("it has an image's content and calls itself {said}") });
    }
    serde_json::from_value(value).map_err(decode)
}

/// The media type that a document gives itself, when it is one of the `wrong` ones (CVE-2021-41190: the same bytes read as two things).
pub(crate) fn said_to_be(document: &serde_json::Value, wrong: fn(&str) -> bool) -> Option<&str> {
    document.get("mediaType").and_then(serde_json::Value::as_str).filter(|said| wrong(said))
}

pub(crate) fn is_index_type(media_type: &str) -> bool {
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"].contains(&media_type)
}

pub(crate) fn is_manifest_type(media_type: &str) -> bool {
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"].contains(&media_type)
}

pub(crate) fn encode(what: &str, value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| StoreError::Encode { what: what.to_owned(), source })
}

pub(crate) fn name_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

/// A descriptor without its name.
pub(crate) fn bare(descriptor: &Descriptor) -> Descriptor {
    let mut bare = descriptor.clone();
    bare.set_annotations(None);
    bare
}
