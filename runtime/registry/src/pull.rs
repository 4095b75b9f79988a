//! Pulling: reference -> manifest for a platform -> blobs into the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use strake_oci::{Descriptor, Digest, ImageManifest, MediaType, Platform};
use strake_store::{Image, Store, digest_of};

use crate::documents::{Document, Wanted};
use crate::endpoint::Operation;
use crate::error::RegistryError;
use crate::registries::Registries;
use crate::session::Session;

/// Configurations longer than this are refused.
const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// More blobs than this in one image are refused: their records alone would be a burden.
const MAX_BLOBS: usize = 1024;

/// What happens during a pull, for showing it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The manifest is known.
    Resolved {
        /// Of the manifest for the platform.
        digest: Digest,
        /// Of all blobs that it lists.
        total_bytes: u64,
    },
    /// Bytes of a blob arrived. `done_bytes` can fall back when a broken transfer starts again.
    Blob {
        /// The blob.
        digest: Digest,
        /// Arrived so far.
        done_bytes: u64,
        /// In all.
        total_bytes: u64,
    },
    /// A blob is complete; `fetched` is false when it was in the store already, or somebody else has fetched it.
    Complete {
        /// The blob.
        digest: Digest,
        /// Whether it came over the network.
        fetched: bool,
    },
}

/// Limits of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullOptions {
    /// What is set for registries; nothing: what the state directory's `registries.yaml` says, else the system's.
    pub registries: Option<Arc<Registries>>,
    /// Hosts (with port) spoken to without TLS, besides this machine itself.
    pub insecure_hosts: Vec<String>,
    /// Directory of docker's `config.json` with the logins; nothing: `$DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// Blobs fetched at the same time.
    pub concurrency: usize,
    /// Largest blob.
    pub max_blob_bytes: u64,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// Without a byte arriving.
    pub idle_timeout: Duration,
    /// For one manifest.
    pub manifest_timeout: Duration,
    /// Attempts for what fails in passing; counted anew while a blob makes progress.
    pub attempts: u32,
    /// Before the second attempt; each pause is twice the one before.
    pub first_pause: Duration,
    /// A registry that asks to be left alone for longer than this is not waited for.
    pub longest_wait: Duration,
    /// Of an image for several platforms, pull all and keep the index under its digest.
    pub all_platforms: bool,
}

impl Default for PullOptions {
    fn default() -> Self {
        PullOptions {
            registries: None,
            insecure_hosts: Vec::new(),
            docker_config: None,
            concurrency: 4,
            max_blob_bytes: 32 << 30,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            manifest_timeout: Duration::from_secs(60),
            attempts: 4,
            first_pause: Duration::from_millis(250),
            longest_wait: Duration::from_secs(60),
            all_platforms: false,
        }
    }
}

/// Pulls an image for `platform` into the store and names it by its full reference.
pub async fn pull(reference: &str, platform: &Platform, store: &Store, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<Image, RegistryError> {
    pull_with(reference, platform, store, progress, &PullOptions::default()).await
}

/// [`pull`] with other limits.
///
/// Gives the image for `platform`, also when all of an index were pulled.
///
/// # Errors
/// Nothing is named in the store unless everything arrived and was verified; what arrived stays for the next attempt.
pub async fn pull_with(
    reference: &str,
    platform: &Platform,
    store: &Store,
    progress: &(dyn Fn(Progress) + Send + Sync),
    options: &PullOptions,
) -> Result<Image, RegistryError> {
    let session = Session::open(reference, store, options, Operation::Pull)?;
    let _lease = store.lease().map_err(|source| session.storing(source))?;
    let wanted = if options.all_platforms { Wanted::All(platform) } else { Wanted::Platform(platform) };
    let found = session.documents(wanted).await?;
    let mut blobs: Vec<Descriptor> = Vec::new();
    for document in &found.manifests {
        let manifest: ImageManifest = session.decode(&document.bytes)?;
        session.check(&manifest, document.attestation)?;
        for blob in manifest.layers().iter().chain([manifest.config()]) {
            if !blobs.iter().any(|known| known.digest() == blob.digest()) {
                blobs.push(blob.clone());
            }
        }
    }
    if blobs.len() > MAX_BLOBS {
        return Err(session.refused(format!("it lists {} blobs; {MAX_BLOBS} are the most", blobs.len())));
    }
    progress(Progress::Resolved { digest: found.chosen.digest, total_bytes: blobs.iter().map(Descriptor::size).sum() });
    let fetching = futures::stream::iter(&blobs).map(|blob| session.blob(blob, progress)).buffer_unordered(options.concurrency.max(1));
    let fetched = fetching.try_collect::<()>().await;
    // After an error the other transfers are cut off; their writers have ended before the caller hears of it.
    session.writers_ended().await;
    fetched?;
    for document in &found.manifests {
        session.store.put(&document.bytes).map_err(|source| session.storing(source))?;
    }
    let descriptor = session.descriptor(&found.chosen)?;
    let image = store.manifest_at(&descriptor).map_err(|source| session.storing(source))?;
    match &found.index {
        Some(index) if options.all_platforms => {
            session.store.put(&index.bytes).map_err(|source| session.storing(source))?;
            store.tag(&session.name, &session.descriptor(index)?)
        }
        _ => store.tag_beside(&session.name, &image, platform),
    }
    .map_err(|source| session.storing(source))?;
    Ok(image)
}

/// What a reference means at its registry now: the digest of its manifest, or of its index. Only the digest is asked for where the registry knows it.
///
/// # Errors
/// As [`pull`].
pub async fn resolve(reference: &str, store: &Store, options: &PullOptions) -> Result<Digest, RegistryError> {
    Session::open(reference, store, options, Operation::Pull)?.digest_of_reference().await
}

/// The full form of a reference, by which the store names it: `nginx` is `docker.io/library/nginx:latest`.
pub fn full_reference(reference: &str) -> Result<String, RegistryError> {
    parse(reference).map(|parsed| parsed.to_string())
}

/// Reads a reference; one without tag and digest means `latest`.
pub(crate) fn parse(text: &str) -> Result<strake_words::Reference, RegistryError> {
    let parsed = strake_words::Reference::parse(text).map_err(|source| RegistryError::Reference { reference: text.to_owned(), source })?;
    Ok(parsed.with_default_tag())
}

impl Session<'_> {
    /// What can be seen to be wrong before anything is fetched.
    fn check(&self, manifest: &ImageManifest, attestation: bool) -> Result<(), RegistryError> {
        for blob in manifest.layers().iter().chain([manifest.config()]) {
            let digest = digest_of(blob).map_err(|source| self.storing(source))?;
            if blob.size() > self.options.max_blob_bytes {
                return Err(RegistryError::TooLarge { digest, max_bytes: self.options.max_blob_bytes });
            }
        }
        if manifest.config().size() > MAX_CONFIG_BYTES {
            return Err(self.refused(format!("its configuration is longer than {MAX_CONFIG_BYTES} bytes")));
        }
        let kind = manifest.config().media_type().to_string();
        let image = kind == MediaType::ImageConfig.to_string() || kind == "application/vnd.docker.container.image.v1+json";
        if !image && !attestation {
            return Err(self.refused(format!("it is a {kind}, not a container image")));
        }
        Ok(())
    }

    fn descriptor(&self, document: &Document) -> Result<Descriptor, RegistryError> {
        strake_store::descriptor(document.kind.as_str().into(), &document.digest, document.bytes.len() as u64).map_err(|source| self.storing(source))
    }
}

#[cfg(test)]
mod tests {
    use super::full_reference;

    #[test]
    fn references_get_their_long_form() {
        let digest = format!("@sha256:{}", "0123456789abcdef".repeat(4));
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("a/b/c:1", "docker.io/a/b/c:1".to_owned()),
            ("localhost:5000/a__b", "localhost:5000/a__b:latest".to_owned()),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            (&format!("a.b:80/c_d.e{digest}"), format!("a.b:80/c_d.e{digest}")),
            (&format!("x:1{digest}"), format!("docker.io/library/x:1{digest}")),
        ] {
            assert_eq!(full_reference(text).unwrap(), full);
        }
        for text in ["", "A", "a//b", "a:", "a@", "a:b:c", "a@sha256:12", ":a"] {
            assert!(full_reference(text).is_err(), "{text}");
        }
    }
}
