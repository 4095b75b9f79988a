//! Manifests that are looked at before their blobs are fetched, and manifests that are no image of the store: build caches.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt};
use strake_oci::{Descriptor, Digest, ImageManifest, Platform};
use strake_store::{Packed, PackedAll, Store, digest_of};

use crate::documents::{MAX_DOCUMENT_BYTES, Wanted};
use crate::endpoint::Operation;
use crate::error::RegistryError;
use crate::pull::PullOptions;
use crate::push::{PushOptions, Pushed};
use crate::retry::again;
use crate::session::Session;

/// A manifest and its configuration, verified; no layer was fetched.
#[derive(Clone, Debug)]
pub struct Documents {
    /// Of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The configuration, whatever its media type.
    pub config: Vec<u8>,
}

/// Fetches a manifest (of an index: the one for `platform`) with its configuration, and nothing else.
pub async fn documents(reference: &str, platform: &Platform, store: &Store, options: &PullOptions) -> Result<Documents, RegistryError> {
    let session = Session::open(reference, store, options, Operation::Pull)?;
    let _lease = store.lease().map_err(|source| session.storing(source))?;
    let found = session.documents(Wanted::Platform(platform)).await?.chosen;
    let parsed: ImageManifest = session.decode(&found.bytes)?;
    let described = parsed.config();
    if described.size() > MAX_DOCUMENT_BYTES {
        return Err(session.refused(format!("its configuration is longer than {MAX_DOCUMENT_BYTES} bytes")));
    }
    session.blob(described, &|_| {}).await?;
    let config = digest_of(described).and_then(|digest| store.read(&digest, MAX_DOCUMENT_BYTES)).map_err(|source| session.storing(source))?;
    Ok(Documents { digest: found.digest, manifest: found.bytes, config })
}

/// Fetches one blob of a repository into the store, verified, unless it is there.
pub async fn fetch_blob(reference: &str, blob: &Descriptor, store: &Store, options: &PullOptions) -> Result<(), RegistryError> {
    let session = Session::open(reference, store, options, Operation::Pull)?;
    let digest = digest_of(blob).map_err(|source| session.storing(source))?;
    if blob.size() > options.max_blob_bytes {
        return Err(RegistryError::TooLarge { digest, max_bytes: options.max_blob_bytes });
    }
    let fetched = session.blob(blob, &|_| {}).await;
    session.writers_ended().await;
    fetched
}

/// Which of the blobs a repository does not have.
pub async fn absent(reference: &str, blobs: &[Descriptor], store: &Store, options: &PullOptions) -> Result<Vec<Descriptor>, RegistryError> {
    let session = Session::open(reference, store, options, Operation::Push)?;
    let mut absent = Vec::new();
    for blob in blobs {
        let digest = digest_of(blob).map_err(|source| session.storing(source))?;
        if !again(options, || session.has_blob(&digest)).await? {
            absent.push(blob.clone());
        }
    }
    Ok(absent)
}

/// Pushes a manifest with its blobs; gives the digest that it has there. Blobs that the repository has need not be in the store.
///
/// # Errors
/// The registry names nothing unless every blob arrived.
pub async fn push_packed(
    packed: &Packed,
    reference: &str,
    store: &Store,
    progress: &(dyn Fn(Pushed) + Send + Sync),
    options: &PushOptions,
) -> Result<Digest, RegistryError> {
    let session = Session::open(reference, store, &options.limits, Operation::Push)?;
    let (mut blobs, nowhere): (Vec<&Descriptor>, _) = (packed.layers.iter().chain([&packed.config]).collect(), HashMap::new());
    blobs.sort_by_key(|blob| blob.digest().to_string());
    blobs.dedup_by_key(|blob| blob.digest().to_string());
    let sending = futures::stream::iter(blobs).map(|blob| session.offer(blob, &nowhere, progress)).buffer_unordered(options.limits.concurrency.max(1));
    sending.try_collect::<()>().await?;
    session.name(&PackedAll { images: vec![packed.clone()], index: None }).await
}
