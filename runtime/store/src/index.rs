//! Images for several platforms: an index lists a manifest for each, and attestations about them (OCI image specification, image-index.md).

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use strake_oci::{Descriptor, Digest, ImageConfig, MediaType, Platform, platform_of};

use crate::error::{Result, StoreError};
use crate::image::{Image, MAX_DOCUMENT_BYTES, descriptor, digest_of, encode, is_manifest_type, said_to_be};
use crate::store::Store;

/// Annotation by which a manifest of an index says what it is besides an image.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// Annotation that names the manifest which an attestation is about.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// [`REFERENCE_TYPE`] of attestations.
pub const ATTESTATION: &str = "attestation-manifest";
/// Annotation of a statement's layer: what kind of statement it is.
pub const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// Media type of a statement's layer.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Statements longer than this are not read: a list of packages can be long.
const MAX_STATEMENT_BYTES: u64 = 256 << 20;
/// Media type of Docker's form of an index.
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Marks an index that was put together here from what was pulled for one platform after another.
const COLLECTED: &str = "dev.strake.collected";

/// An index that is in the store. Not everything that it lists must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Of the index itself.
    pub descriptor: Descriptor,
    /// What it lists, in order.
    pub children: Vec<Descriptor>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The images it lists, without attestations.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.children.iter().filter(|child| !is_attestation(child))
    }

    /// The platforms of its images, in order.
    pub fn platforms(&self) -> Vec<Platform> {
        self.images().filter_map(platform_of).collect()
    }

    /// The image for a platform: the best that fits. An image that is the only one and says nothing of its platform fits all.
    pub fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        let images: Vec<&Descriptor> = self.images().collect();
        let platforms: Vec<Option<Platform>> = images.iter().map(|image| platform_of(image)).collect();
        if let ([only], [None]) = (&images[..], &platforms[..]) {
            return Some(only);
        }
        wanted.choose(platforms.iter().map(Option::as_ref)).map(|place| images[place])
    }

    /// The attestations about a manifest.
    pub fn attestations(&self, manifest: &Digest) -> impl Iterator<Item = &Descriptor> {
        let about = manifest.to_string();
        self.children.iter().filter(move |child| is_attestation(child) && annotation(child, REFERENCE_DIGEST) == Some(about.as_str()))
    }
}

/// Whether an entry of an index is an attestation.
pub fn is_attestation(descriptor: &Descriptor) -> bool {
    annotation(descriptor, REFERENCE_TYPE) == Some(ATTESTATION)
}

/// The value of a descriptor's annotation.
pub(crate) fn annotation<'d>(descriptor: &'d Descriptor, name: &str) -> Option<&'d str> {
    descriptor.annotations().as_ref()?.get(name).map(String::as_str)
}

/// Whether a descriptor says that it is of an index.
pub(crate) fn says_index(descriptor: &Descriptor) -> bool {
    *descriptor.media_type() == MediaType::ImageIndex || descriptor.media_type().to_string() == DOCKER_LIST
}

/// A descriptor as JSON, with its keys and annotations always in the same order.
pub(crate) fn descriptor_value(descriptor: &Descriptor) -> Value {
    let digest: &str = descriptor.digest().as_ref();
    let mut value = json!({ "mediaType": descriptor.media_type(), "digest": digest, "size": descriptor.size() });
    if let Some(platform) = descriptor.platform() {
        let mut shown = json!({ "architecture": platform.architecture(), "os": platform.os() });
        if let Some(variant) = platform.variant().as_ref().filter(|variant| !variant.is_empty()) {
            shown["variant"] = variant.clone().into();
        }
        value["platform"] = shown;
    }
    if let Some(annotations) = descriptor.annotations().as_ref().filter(|annotations| !annotations.is_empty()) {
        value["annotations"] = sorted(annotations.iter());
    }
    if let Some(kind) = descriptor.artifact_type() {
        value["artifactType"] = kind.to_string().into();
    }
    value
}

fn sorted<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> Value {
    let pairs: BTreeMap<&String, &String> = pairs.collect();
    Value::Object(pairs.into_iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect::<Map<_, _>>())
}

/// The bytes of an index, the same for the same parts.
pub(crate) fn index_document(children: &[Descriptor], annotations: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let listed: Vec<Value> = children.iter().map(descriptor_value).collect();
    let mut value = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex.to_string(), "manifests": listed });
    if !annotations.is_empty() {
        value["annotations"] = sorted(annotations.iter());
    }
    encode("index", &value)
}

/// What an index lists, and its annotations.
type Listing = (Vec<Descriptor>, BTreeMap<String, String>);

/// Reads an index; `None` when the bytes are no index. A document that could also be read as a manifest is refused (CVE-2021-41190).
pub(crate) fn parse_index(digest: &Digest, bytes: &[u8]) -> Result<Option<Listing>> {
    let decode = |source| StoreError::Decode { what: format!("index {digest}"), source };
    let value: Value = serde_json::from_slice(bytes).map_err(decode)?;
    let Some(listed) = value.get("manifests") else { return Ok(None) };
    if value.get("layers").is_some() || value.get("config").is_some() {
        let reason = "it can be read as an index of images and as an image".to_owned();
        return Err(StoreError::Invalid { what: format!("manifest {digest}"), reason });
    }
    if let Some(said) = said_to_be(&value, is_manifest_type) {
        let reason = format!("it lists images and calls itself {said}");
        return Err(StoreError::Invalid { what: format!("manifest {digest}"), reason });
    }
    let children: Vec<Descriptor> = serde_json::from_value(listed.clone()).map_err(decode)?;
    let annotations: Option<BTreeMap<String, String>> = value.get("annotations").map_or(Ok(None), |all| serde_json::from_value(all.clone())).map_err(decode)?;
    Ok(Some((children, annotations.unwrap_or_default())))
}

impl Store {
    /// What a name stands for: the descriptor of a manifest or of an index. Names are references, and digests of either.
    ///
    /// # Errors
    /// [`StoreError::ImageMissing`] when there is nothing of that name.
    pub fn named(&self, name: &str) -> Result<Descriptor> {
        if let Some(descriptor) = self.resolve(name)? {
            return Ok(descriptor);
        }
        let missing = || StoreError::ImageMissing { name: name.to_owned() };
        let digest: Digest = name.parse().map_err(|_| missing())?;
        if let Some(size_bytes) = self.size(&digest).filter(|size| *size <= MAX_DOCUMENT_BYTES)
            && let Ok(found) = parse_index(&digest, &self.read(&digest, MAX_DOCUMENT_BYTES)?)
            && found.is_some()
        {
            return descriptor(MediaType::ImageIndex, &digest, size_bytes);
        }
        Ok(self.image(name)?.descriptor)
    }

    /// The index that a name stands for; `None` when it is a single image.
    pub fn index(&self, name: &str) -> Result<Option<Index>> {
        self.index_at(&self.named(name)?)
    }

    /// The index at a descriptor; `None` when it is a single image.
    pub fn index_at(&self, descriptor: &Descriptor) -> Result<Option<Index>> {
        if !says_index(descriptor) {
            return Ok(None);
        }
        let digest = digest_of(descriptor)?;
        let found = parse_index(&digest, &self.read(&digest, MAX_DOCUMENT_BYTES)?)?;
        Ok(found.map(|(children, annotations)| Index { descriptor: descriptor.clone(), children, annotations }))
    }

    /// The image for a platform under a name.
    ///
    /// # Errors
    /// [`StoreError::PlatformMissing`] when the name stands for images of other platforms only.
    pub fn image_for(&self, name: &str, platform: &Platform) -> Result<Image> {
        let top = self.named(name)?;
        let missing = |available| StoreError::PlatformMissing { name: name.to_owned(), platform: Box::new(platform.clone()), available };
        if let Some(index) = self.index_at(&top)? {
            let chosen = index.choose(platform).ok_or_else(|| missing(index.platforms()))?;
            return self.manifest_at(chosen);
        }
        let image = self.manifest_at(&top)?;
        let found = image.config.platform();
        if found.os.is_empty() || found.architecture.is_empty() || platform.choose([Some(&found)]).is_some() { Ok(image) } else { Err(missing(vec![found])) }
    }

    /// Writes an index; it has no name before [`Store::tag`].
    pub fn put_index(&self, children: &[Descriptor], annotations: &BTreeMap<String, String>) -> Result<Descriptor> {
        let blob = self.put(&index_document(children, annotations)?)?;
        descriptor(MediaType::ImageIndex, &blob.digest, blob.size_bytes)
    }

    /// Names an image that was pulled for a platform, beside those of other platforms that were pulled under the same name.
    pub fn tag_beside(&self, reference: &str, image: &Image, wanted: &Platform) -> Result<()> {
        let mut platform = image.config.platform().normalised();
        // Many configurations leave the variant out.
        if (&platform.os, &platform.architecture) == (&wanted.os, &wanted.architecture) {
            platform = wanted.normalised();
        }
        let Some(current) = self.resolve(reference)?.filter(|_| !platform.os.is_empty()) else { return self.tag(reference, &image.descriptor) };
        let known = match self.index_at(&current)? {
            Some(index) if index.annotations.contains_key(COLLECTED) => index.children,
            Some(index) if index.children.iter().any(|child| child.digest() == image.descriptor.digest()) => return Ok(()),
            Some(_) => return self.tag(reference, &image.descriptor),
            None => match self.manifest_at(&current) {
                Ok(other) => vec![for_platform(&other.descriptor, &other.config)],
                Err(_) => Vec::new(),
            },
        };
        let mut children: Vec<Descriptor> = known.into_iter().filter(|child| platform_of(child).is_some_and(|other| other != platform)).collect();
        if children.is_empty() {
            return self.tag(reference, &image.descriptor);
        }
        let mut listed = image.descriptor.clone();
        listed.set_platform(Some(oci_platform(&platform)));
        children.push(listed);
        children.sort_by_key(platform_of);
        let index = self.put_index(&children, &BTreeMap::from([(COLLECTED.to_owned(), "true".to_owned())]))?;
        self.tag(reference, &index)
    }

    /// Puts statements about an image into an attestation manifest, as BuildKit does; gives its descriptor as an index lists it.
    ///
    /// `statements` are in-toto statements with their predicate types; `about` is the digest of the image's manifest.
    pub fn put_attestation(&self, about: &Digest, statements: &[(String, Vec<u8>)]) -> Result<Descriptor> {
        let mut layers = Vec::with_capacity(statements.len());
        let mut config = ImageConfig { architecture: "unknown".to_owned(), os: "unknown".to_owned(), ..ImageConfig::default() };
        for (kind, statement) in statements {
            let blob = self.put(statement)?;
            config.rootfs.diff_ids.push(blob.digest);
            let mut layer = descriptor(MediaType::Other(IN_TOTO.to_owned()), &blob.digest, blob.size_bytes)?;
            layer.set_annotations(Some(HashMap::from([(PREDICATE_TYPE.to_owned(), kind.clone())])));
            layers.push(layer);
        }
        let blob = self.put(&encode("image configuration", &config)?)?;
        let image = self.put_manifest(config, &blob.digest, blob.size_bytes, layers, &BTreeMap::new())?;
        let mut listed = for_platform(&image.descriptor, &image.config);
        let marks = [(REFERENCE_TYPE, ATTESTATION.to_owned()), (REFERENCE_DIGEST, about.to_string())];
        listed.set_annotations(Some(marks.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()));
        Ok(listed)
    }

    /// The statements of an attestation manifest with their predicate types.
    pub fn statements(&self, attestation: &Descriptor) -> Result<Vec<(String, Vec<u8>)>> {
        let image = self.manifest_at(attestation)?;
        let layers = image.manifest.layers().iter().filter(|layer| layer.media_type().to_string() == IN_TOTO);
        layers
            .map(|layer| Ok((annotation(layer, PREDICATE_TYPE).unwrap_or_default().to_owned(), self.read(&digest_of(layer)?, MAX_STATEMENT_BYTES)?)))
            .collect()
    }

    /// Every manifest that a named entry leads to and that is here, attestations too.
    pub(crate) fn leaves(&self, entry: &Descriptor) -> Result<Vec<Descriptor>> {
        Ok(match self.index_at(entry)? {
            None => vec![entry.clone()],
            Some(index) => index.children.into_iter().filter(|child| digest_of(child).is_ok_and(|digest| self.has(&digest))).collect(),
        })
    }
}

/// An image's descriptor as an index lists it: with the platform that its configuration says.
pub fn for_platform(image: &Descriptor, config: &ImageConfig) -> Descriptor {
    let mut listed = Descriptor::new(image.media_type().clone(), image.size(), image.digest().clone());
    listed.set_platform(Some(oci_platform(&config.platform())));
    listed
}

/// A platform in the form of descriptors.
pub fn oci_platform(platform: &Platform) -> oci_spec::image::Platform {
    let mut shown = oci_spec::image::Platform::default();
    shown.set_os(platform.os.as_str().into());
    shown.set_architecture(platform.architecture.as_str().into());
    shown.set_variant(Some(platform.variant.clone()).filter(|variant| !variant.is_empty()));
    shown
}
