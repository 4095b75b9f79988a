//! Everything that has a name, images or not: what a registry lists and serves.

use strake_oci::{Descriptor, ImageManifest, MediaType};

use crate::error::{Result, StoreError};
use crate::image::{MAX_DOCUMENT_BYTES, digest_of, name_of, parse_manifest};
use crate::store::Store;

impl Store {
    /// Every name with the manifest or index that it stands for, by name: also of what is no image, and of what is damaged.
    pub fn names(&self) -> Result<Vec<(String, Descriptor)>> {
        let index = self.read_index()?;
        let named = index.manifests().iter().filter_map(|entry| Some((name_of(entry)?.to_owned(), crate::image::bare(entry))));
        let mut names: Vec<(String, Descriptor)> = named.collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// What a manifest lists that is no container image (a chart, a signature, a list of packages): all of it are blobs. `None` for images.
    pub fn artifact_at(&self, descriptor: &Descriptor) -> Result<Option<Vec<Descriptor>>> {
        let digest = digest_of(descriptor)?;
        let manifest = parse_manifest(&digest, &self.read(&digest, MAX_DOCUMENT_BYTES)?)?;
        if is_image(&manifest) {
            return Ok(None);
        }
        Ok(Some(manifest.layers().iter().chain([manifest.config()]).cloned().collect()))
    }

    /// Whether everything that an artifact lists is here.
    pub(crate) fn artifact_is_complete(&self, blobs: &[Descriptor]) -> Result<()> {
        for blob in blobs {
            let digest = digest_of(blob)?;
            match self.size(&digest) {
                None => return Err(StoreError::BlobMissing { digest }),
                Some(found) if found != blob.size() => return Err(StoreError::SizeMismatch { digest, expected: blob.size(), found }),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether a manifest is that of a container image.
fn is_image(manifest: &ImageManifest) -> bool {
    let kind = manifest.config().media_type();
    *kind == MediaType::ImageConfig || kind.to_string() == "application/vnd.docker.container.image.v1+json"
}
