//! Pushing: an image's blobs to its registry, then its manifests, the index last, then a look at what the registry has now.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use reqwest::Method;
use strake_oci::{Descriptor, Digest};
use strake_store::{Compression, PackedAll, Store, StoreError, digest_of};

use crate::endpoint::{Operation, Payload};
use crate::error::RegistryError;
use crate::pull::{PullOptions, parse};
use crate::retry::again;
use crate::session::Session;

/// How a blob came to be in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sent {
    /// It was there.
    Present,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// It was uploaded.
    Uploaded,
}

/// A blob that is in the registry now, for showing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The blob.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// How it got there.
    pub how: Sent,
}

/// What to push.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// What layers are to have; `None` leaves those that were pulled as they came and packs the others with gzip.
    pub compression: Option<Compression>,
    /// Where to and within which limits.
    pub limits: PullOptions,
}

/// Pushes what the store knows as `name` to `reference`: one image, or an index with everything that it lists. Gives the digest that it has there.
///
/// A reference without a tag but with a digest (`repository@sha256:…`) gets no name in the registry.
///
/// # Errors
/// The registry names nothing unless every blob arrived; what arrived stays there for the next attempt.
pub async fn push(
    name: &str,
    reference: &str,
    store: &Store,
    progress: &(dyn Fn(Pushed) + Send + Sync),
    options: &PushOptions,
) -> Result<Digest, RegistryError> {
    let storing = |source: StoreError| RegistryError::Store { reference: reference.to_owned(), source: Box::new(source) };
    let session = Session::open(reference, store, &options.limits, Operation::Push)?;
    let _lease = store.lease().map_err(storing)?;
    let packed = {
        let (store, name, compression) = (store.clone(), name.to_owned(), options.compression);
        // Layers may have to be compressed.
        let packing = tokio::task::spawn_blocking(move || store.packed_all(&name, compression)).await;
        packing.map_err(|source| RegistryError::Pack { reference: reference.to_owned(), source })?.map_err(storing)?
    };
    let repositories = session.repositories(&packed).map_err(storing)?;
    repositories.values().for_each(|other| session.registry().also_read(other));
    let mut blobs: Vec<&Descriptor> = packed.images.iter().flat_map(|image| image.layers.iter().chain([&image.config])).collect();
    blobs.sort_by_key(|blob| blob.digest().to_string());
    blobs.dedup_by_key(|blob| blob.digest().to_string());
    let sending = futures::stream::iter(blobs).map(|blob| session.offer(blob, &repositories, progress)).buffer_unordered(options.limits.concurrency.max(1));
    sending.try_collect::<()>().await?;
    session.name(&packed).await
}

/// [`push`], for callers that say so.
pub async fn push_all(
    name: &str,
    reference: &str,
    store: &Store,
    progress: &(dyn Fn(Pushed) + Send + Sync),
    options: &PushOptions,
) -> Result<Digest, RegistryError> {
    push(name, reference, store, progress, options).await
}

impl Session<'_> {
    /// Other repositories of the same registry that probably have a layer: those of images of the store that share it.
    fn repositories(&self, packed: &PackedAll) -> Result<HashMap<Digest, String>, StoreError> {
        let mut wanted = HashMap::new();
        for image in &packed.images {
            let digests = image.layers.iter().filter_map(|layer| digest_of(layer).ok()).collect::<Vec<_>>();
            // The layers of an image and its configuration's diff ids stand side by side.
            let Ok(stored) = self.store.manifest_at(&image.descriptor).or_else(|_| self.store.image(image.config.digest().as_ref())) else { continue };
            wanted.extend(stored.config.rootfs.diff_ids.into_iter().zip(digests));
        }
        let mut repositories = HashMap::new();
        for record in self.store.images()? {
            let Ok(other) = parse(&record.reference) else { continue };
            if other.domain != self.reference.domain || other.path == self.reference.path {
                continue;
            }
            let Ok(image) = self.store.image_at(&record.descriptor) else { continue };
            for digest in image.config.rootfs.diff_ids.iter().filter_map(|diff_id| wanted.get(diff_id)) {
                repositories.entry(*digest).or_insert_with(|| other.path.clone());
            }
        }
        Ok(repositories)
    }

    /// Sees to it that the registry has a blob.
    pub(crate) async fn offer(
        &self,
        blob: &Descriptor,
        repositories: &HashMap<Digest, String>,
        progress: &(dyn Fn(Pushed) + Send + Sync),
    ) -> Result<(), RegistryError> {
        let digest = digest_of(blob).map_err(|source| self.storing(source))?;
        let tell = |how| progress(Pushed { digest, size_bytes: blob.size(), how });
        if again(self.options, || self.has_blob(&digest)).await? {
            tell(Sent::Present);
            return Ok(());
        }
        let mounted = self.upload(&digest, blob.size(), repositories.get(&digest).map(String::as_str)).await?;
        tell(if mounted { Sent::Mounted } else { Sent::Uploaded });
        Ok(())
    }

    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let registry = self.registry();
        let ask = registry.ask(Method::HEAD, &format!("blobs/{digest}"))?;
        Ok(registry.send(&ask, &[404]).await?.status().is_success())
    }

    /// The manifests, the index last: from then on the registry names the image.
    pub(crate) async fn name(&self, packed: &PackedAll) -> Result<Digest, RegistryError> {
        let top = digest_of(packed.top().0).map_err(|source| self.storing(source))?;
        for (descriptor, bytes) in packed.documents() {
            let digest = digest_of(descriptor).map_err(|source| self.storing(source))?;
            let word = if digest == top { self.reference.tag.clone().unwrap_or_else(|| digest.to_string()) } else { digest.to_string() };
            self.put_document(&word, descriptor.media_type().as_ref(), bytes).await?;
        }
        let word = self.reference.tag.clone().unwrap_or_else(|| top.to_string());
        let found = again(self.options, || self.digest_at(self.registry(), &word)).await?;
        match found {
            Some(found) if found != top => Err(self.refused(format!("{top} was pushed, the registry has {found}"))),
            _ => Ok(top),
        }
    }

    async fn put_document(&self, word: &str, kind: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let registry = self.registry();
        let mut ask = registry.ask(Method::PUT, &format!("manifests/{word}"))?;
        ask.headers.push(("content-type", kind.to_owned()));
        ask.payload = Payload::Bytes(Bytes::copy_from_slice(bytes));
        // A registry may look at every layer before it answers.
        ask.timeout = ask.timeout.max(Duration::from_secs(120));
        again(self.options, || registry.send(&ask, &[])).await.map(drop)
    }
}
