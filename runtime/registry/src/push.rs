//! Pushing: an image's blobs to its registry, then its manifests, the index last, then a look at what the registry has now.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use reqwest::Method;
use strake_oci::{Descriptor, Digest};
use strake_store::{Growth, PackedAll, Packing, Store, StoreError, Watcher, digest_of};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use crate::endpoint::{Operation, Payload};
use crate::error::RegistryError;
use crate::pull::{PullOptions, parse};
use crate::retry::again;
use crate::session::Session;
use crate::upload::{Content, Extent, Step};

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
    pub compression: Option<Packing>,
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
    let elsewhere = session.elsewhere().map_err(storing)?;
    elsewhere.values().for_each(|other| session.registry().also_read(other));
    let (watcher, growing) = watching(elsewhere.keys().copied().collect());
    let packing = {
        let (store, name, compression) = (store.clone(), name.to_owned(), options.compression);
        // Layers may have to be compressed.
        tokio::task::spawn_blocking(move || store.packed_all_watched(&name, compression, Some(&watcher)))
    };
    let (packed, sent) = tokio::join!(packing, session.send_growing(growing, progress));
    let packed = packed.map_err(|source| RegistryError::Pack { reference: reference.to_owned(), source })?.map_err(storing)?;
    let repositories = session.repositories(&packed, &elsewhere);
    let mut blobs: Vec<&Descriptor> = packed.images.iter().flat_map(|image| image.layers.iter().chain([&image.config])).collect();
    blobs.sort_by_key(|blob| blob.digest().to_string());
    blobs.dedup_by_key(|blob| blob.digest().to_string());
    blobs.retain(|blob| digest_of(blob).map_or(true, |digest| !sent.contains(&digest)));
    let sending = futures::stream::iter(blobs).map(|blob| session.offer(blob, &repositories, progress)).buffer_unordered(options.limits.concurrency.max(1));
    sending.try_collect::<()>().await?;
    session.name(&packed).await
}

/// Hears of layers that are packed, and gives those that may be sent meanwhile: not the ones that the registry is likely to have, for what they are called there
/// is known at their end only.
fn watching(known: HashSet<Digest>) -> (Watcher, UnboundedReceiver<Content>) {
    let (give, growing) = unbounded_channel();
    let extents = Mutex::new(HashMap::new());
    let watcher = move |growth| {
        let mut extents = extents.lock().unwrap_or_else(PoisonError::into_inner);
        match growth {
            Growth::Begun { diff_id, .. } if known.contains(&diff_id) => {}
            Growth::Begun { diff_id, file } => {
                let (sender, extent) = watch::channel(Extent::default());
                // Whoever pushes may have given up.
                if give.send(Content { file, extent }).is_ok() {
                    extents.insert(diff_id, sender);
                }
            }
            Growth::Grown { diff_id, size_bytes } => {
                if let Some(extent) = extents.get(&diff_id) {
                    extent.send_replace(Extent { size_bytes, blob: None });
                }
            }
            // Nothing more will be heard of it.
            Growth::Complete { diff_id, blob } => {
                if let Some(extent) = extents.remove(&diff_id) {
                    extent.send_replace(Extent { size_bytes: blob.size_bytes, blob: Some(blob) });
                }
            }
        }
    };
    (Arc::new(watcher), growing)
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
    /// Layers, by diff id, that another repository of the same registry probably has: those of images of the store that were pushed or pulled there.
    fn elsewhere(&self) -> Result<HashMap<Digest, String>, StoreError> {
        let mut repositories = HashMap::new();
        for record in self.store.images()? {
            let Ok(other) = parse(&record.reference) else { continue };
            if other.domain != self.reference.domain || other.path == self.reference.path {
                continue;
            }
            let Ok(image) = self.store.image_at(&record.descriptor) else { continue };
            for diff_id in image.config.rootfs.diff_ids {
                repositories.entry(diff_id).or_insert_with(|| other.path.clone());
            }
        }
        Ok(repositories)
    }

    /// The blobs that another repository probably has.
    fn repositories(&self, packed: &PackedAll, elsewhere: &HashMap<Digest, String>) -> HashMap<Digest, String> {
        let mut repositories = HashMap::new();
        for image in &packed.images {
            let digests = image.layers.iter().filter_map(|layer| digest_of(layer).ok());
            // The layers of an image and its configuration's diff ids stand side by side.
            let Ok(stored) = self.store.manifest_at(&image.descriptor).or_else(|_| self.store.image(image.config.digest().as_ref())) else { continue };
            for (diff_id, digest) in stored.config.rootfs.diff_ids.iter().zip(digests) {
                repositories.extend(elsewhere.get(diff_id).map(|repository| (digest, repository.clone())));
            }
        }
        repositories
    }

    /// Sends layers while they are packed; gives those that the registry has then. What cannot be sent so goes in the end, as if nothing had been tried.
    async fn send_growing(&self, growing: UnboundedReceiver<Content>, progress: &(dyn Fn(Pushed) + Send + Sync)) -> HashSet<Digest> {
        let one = async |content| {
            let (blob, how) = match self.upload_ahead(content).await {
                Ok(Step::Done(blob)) => (blob, Sent::Uploaded),
                Ok(Step::Present(blob)) => (blob, Sent::Present),
                Ok(Step::GivenUp | Step::More) => return None,
                Err(error) => {
                    tracing::debug!(host = %self.registry().host, error = %crate::error::chain(&error), "a layer is sent when it is packed");
                    return None;
                }
            };
            progress(Pushed { digest: blob.digest, size_bytes: blob.size_bytes, how });
            Some(blob.digest)
        };
        let sending = futures::stream::unfold(growing, async |mut growing| growing.recv().await.map(|content| (content, growing)))
            .map(one)
            .buffer_unordered(self.options.concurrency.max(1));
        sending.filter_map(async |digest| digest).collect().await
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
