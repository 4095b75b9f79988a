//! An index as other stores and registries get it: its images packed, and what depends on their digests written again.

use std::collections::BTreeMap;

use serde_json::Value;
use strake_oci::{Descriptor, Digest, MediaType};

use crate::error::{Result, StoreError};
use crate::export::Packed;
use crate::growing::Watcher;
use crate::image::{MAX_DOCUMENT_BYTES, descriptor, digest_of, encode};
use crate::index::{REFERENCE_DIGEST, annotation, index_document, is_attestation};
use crate::packing::Packing;
use crate::store::Store;

/// A single image, or an index with everything that it lists: every blob is in the store, the documents' bytes are here.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedAll {
    /// The images, and the attestations after them.
    pub images: Vec<Packed>,
    /// The index with its bytes, unless it is a single image.
    pub index: Option<(Descriptor, Vec<u8>)>,
}

impl PackedAll {
    /// What the whole is named by: the index, or the only manifest.
    pub fn top(&self) -> (&Descriptor, &[u8]) {
        match &self.index {
            Some((descriptor, bytes)) => (descriptor, bytes),
            None => (&self.images[0].descriptor, &self.images[0].manifest),
        }
    }

    /// The manifests, then the index: each after what it refers to.
    pub fn documents(&self) -> impl Iterator<Item = (&Descriptor, &[u8])> {
        let manifests = self.images.iter().map(|image| (&image.descriptor, image.manifest.as_slice()));
        manifests.chain(self.index.iter().map(|(descriptor, bytes)| (descriptor, bytes.as_slice())))
    }

    /// Configurations and layers, each once, in a fixed order.
    pub fn blobs(&self) -> Result<Vec<Digest>> {
        let mut blobs = Vec::new();
        for blob in self.images.iter().flat_map(|image| [&image.config].into_iter().chain(&image.layers)) {
            let digest = digest_of(blob)?;
            if !blobs.contains(&digest) {
                blobs.push(digest);
            }
        }
        Ok(blobs)
    }
}

impl Store {
    /// Everything that a registry or another store is to get of an image or an index: [`Store::packed`] for each image of it. Attestations follow their images:
    /// where packing changes a manifest's digest, the statements about it name the new one. Hold a lease for as long as the blobs are read.
    ///
    /// # Errors
    /// [`StoreError::BlobMissing`] when the index lists an image that is not here.
    pub fn packed_all(&self, name: &str, packing: Option<Packing>) -> Result<PackedAll> {
        self.packed_all_watched(name, packing, None)
    }

    /// [`Store::packed_all`] for somebody who reads layers while they are made.
    pub fn packed_all_watched(&self, name: &str, packing: Option<Packing>, watcher: Option<&Watcher>) -> Result<PackedAll> {
        let _lease = self.lease()?;
        let top = self.named(name)?;
        let Some(index) = self.index_at(&top)? else {
            return Ok(PackedAll { images: vec![self.oci_parts(&self.manifest_at(&top)?, packing, watcher)?], index: None });
        };
        let (mut moved, mut listed, mut images) = (BTreeMap::new(), index.children.clone(), Vec::new());
        for child in listed.iter_mut().filter(|child| !is_attestation(child)) {
            let parts = self.oci_parts(&self.manifest_at(child)?, packing, watcher)?;
            if parts.descriptor.digest() != child.digest() {
                moved.insert(digest_of(child)?, digest_of(&parts.descriptor)?);
                relist(child, &parts.descriptor);
            }
            images.push(parts);
        }
        for child in listed.iter_mut().filter(|child| is_attestation(child)) {
            let about = annotation(child, REFERENCE_DIGEST).and_then(|text| text.parse::<Digest>().ok());
            if let Some((old, new)) = about.and_then(|old| moved.get(&old).map(|new| (old, *new))) {
                let statements = self.statements(child)?.into_iter().map(|(kind, bytes)| Ok((kind, renamed(&bytes, &old, &new)?)));
                *child = self.put_attestation(&new, &statements.collect::<Result<Vec<_>>>()?)?;
            }
            images.push(self.attestation_parts(child)?);
        }
        if moved.is_empty() {
            let bytes = self.read(&digest_of(&top)?, MAX_DOCUMENT_BYTES)?;
            return Ok(PackedAll { images, index: Some((top, bytes)) });
        }
        let bytes = index_document(&listed, &index.annotations)?;
        let descriptor = descriptor(MediaType::ImageIndex, &Digest::of(&bytes), bytes.len() as u64)?;
        Ok(PackedAll { images, index: Some((descriptor, bytes)) })
    }

    /// An attestation goes out as it is.
    fn attestation_parts(&self, child: &Descriptor) -> Result<Packed> {
        let image = self.manifest_at(child)?;
        let manifest = self.read(&digest_of(child)?, MAX_DOCUMENT_BYTES)?;
        Ok(Packed { descriptor: image.descriptor, manifest, config: image.manifest.config().clone(), layers: image.manifest.layers().clone() })
    }
}

/// The entry names another manifest of the same platform.
fn relist(child: &mut Descriptor, to: &Descriptor) {
    child.set_media_type(to.media_type().clone());
    child.set_size(to.size());
    child.set_digest(to.digest().clone());
}

/// The statement, about the manifest's new digest.
fn renamed(statement: &[u8], old: &Digest, new: &Digest) -> Result<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(statement).map_err(|source| StoreError::Decode { what: format!("a statement about {old}"), source })?;
    for subject in value.get_mut("subject").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(digest) = subject.pointer_mut("/digest/sha256")
            && *digest == old.hex()
        {
            *digest = new.hex().into();
        }
    }
    encode("statement", &value)
}
