//! A container's image: found in the store, or fetched; then its layers as directories.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strake_kinds::core::Pod;
use strake_oci::{Digest, ImageConfig, Platform};
use strake_pod::{PullFailure, PullPolicy};
use strake_registry::PullOptions;
use strake_store::{Image, Store, StoreError};
use strake_words::Reference;

use crate::events::Events;

/// A registry that doesn't answer within this time, when the image is here anyway, is left alone.
const IMPATIENT: Duration = Duration::from_secs(3);

/// An image that is ready to run.
#[derive(Debug)]
pub(crate) struct Ready {
    /// `repository@sha256:…`.
    pub id: String,
    pub config: ImageConfig,
    /// The chain of its layers; nothing for an image without any.
    pub chain: Option<Digest>,
    /// For looking up users.
    pub lowers: Vec<PathBuf>,
}

/// Why an image cannot be had.
pub(crate) type Failure = (PullFailure, String);

/// Finds and fetches images. The same one is fetched once at a time.
pub(crate) struct Images {
    store: Store,
    events: Events,
    fetching: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What an image is wanted for.
pub(crate) struct Wanted<'a> {
    pub pod: &'a Pod,
    pub container: &'a str,
    pub image: &'a str,
    pub policy: PullPolicy,
}

impl Images {
    pub(crate) fn new(store: Store, events: Events) -> Self {
        Images { store, events, fetching: Mutex::default() }
    }

    /// Sees that an image is here and unpacked.
    pub(crate) async fn ensure(&self, wanted: &Wanted<'_>) -> Result<Arc<Ready>, Failure> {
        let full = strake_registry::full_reference(wanted.image).map_err(|error| (PullFailure::InvalidName, text(&error)))?;
        let gate = Arc::clone(self.fetching.lock().unwrap_or_else(PoisonError::into_inner).entry(full.clone()).or_default());
        let image = {
            let _alone = gate.lock().await;
            self.find_or_fetch(wanted, &full).await?
        };
        self.forget_gate(&full);
        let store = self.store.clone();
        let repository = Reference::parse(&full).map_or_else(|_| full.clone(), |reference| reference.repository());
        let made = tokio::task::spawn_blocking(move || unpack(&store, &repository, image)).await;
        let made = made.map_err(|error| (PullFailure::Pull, error.to_string()))?;
        made.map(Arc::new).map_err(|error| (PullFailure::Pull, text(&error)))
    }

    /// STOPSIGNAL of an image that is here; empty text otherwise.
    pub(crate) async fn stop_signal(&self, image: &str) -> String {
        let Ok(full) = strake_registry::full_reference(image) else { return String::new() };
        self.find(&full).await.ok().flatten().map(|image| image.config.config.stop_signal).unwrap_or_default()
    }

    async fn find_or_fetch(&self, wanted: &Wanted<'_>, full: &str) -> Result<Image, Failure> {
        let here = self.find(full).await.map_err(|error| (PullFailure::Pull, text(&error)))?;
        match (wanted.policy, here) {
            (PullPolicy::Never, None) => {
                Err((PullFailure::NeverPull, format!("Container image \"{}\" is not present with pull policy of Never", wanted.image)))
            }
            // What a digest names is here already: no registry could say anything else.
            (policy, Some(image)) if policy != PullPolicy::Always || full.contains('@') => {
                self.say(wanted, "Normal", "Pulled", format!("Container image \"{}\" already present on machine", wanted.image));
                Ok(image)
            }
            (PullPolicy::IfNotPresent, None) => self.fetch(wanted, full, &PullOptions::default()).await,
            (PullPolicy::Always, None) => self.fetch(wanted, full, &PullOptions::default()).await,
            (_, Some(image)) => {
                let impatient = PullOptions { connect_timeout: IMPATIENT, manifest_timeout: IMPATIENT, attempts: 1, ..PullOptions::default() };
                match self.fetch(wanted, full, &impatient).await {
                    Ok(image) => Ok(image),
                    Err((_, reason)) => {
                        let message = format!("Registry of \"{}\" could not be asked, the image on this machine is used: {reason}", wanted.image);
                        self.say(wanted, "Warning", "PullFailedUsingLocal", message);
                        Ok(image)
                    }
                }
            }
        }
    }

    async fn fetch(&self, wanted: &Wanted<'_>, full: &str, options: &PullOptions) -> Result<Image, Failure> {
        self.say(wanted, "Normal", "Pulling", format!("Pulling image \"{}\"", wanted.image));
        let began = Instant::now();
        // On a thread that may block: the compiler cannot tell that the pull's future may change threads.
        let (store, name, options, runtime) = (self.store.clone(), full.to_owned(), options.clone(), tokio::runtime::Handle::current());
        let pull = move || {
            let pulled = runtime.block_on(strake_registry::pull_with(&name, &Platform::host(), &store, &|_| {}, &options));
            pulled.map_err(|error| (PullFailure::Pull, text(&error)))
        };
        let image = tokio::task::spawn_blocking(pull).await.map_err(|error| (PullFailure::Pull, error.to_string()))??;
        let message = format!("Successfully pulled image \"{}\" in {}ms. Image size: {} bytes.", wanted.image, began.elapsed().as_millis(), image.size_bytes());
        self.say(wanted, "Normal", "Pulled", message);
        Ok(image)
    }

    /// By the name, or by the digest where the reference has one.
    async fn find(&self, full: &str) -> Result<Option<Image>, StoreError> {
        let (store, full) = (self.store.clone(), full.to_owned());
        let looked = tokio::task::spawn_blocking(move || {
            let digest = full.split_once('@').map(|(_, digest)| digest.to_owned());
            for name in std::iter::once(full).chain(digest) {
                match store.image(&name) {
                    Ok(image) => return Ok(Some(image)),
                    Err(StoreError::ImageMissing { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        });
        looked.await.unwrap_or(Ok(None))
    }

    fn say(&self, wanted: &Wanted<'_>, event_type: &'static str, reason: &str, message: String) {
        self.events.pod(wanted.pod, Some(wanted.container), event_type, reason, message);
    }

    fn forget_gate(&self, full: &str) {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if fetching.get(full).is_some_and(|gate| Arc::strong_count(gate) <= 2) {
            fetching.remove(full);
        }
    }
}

fn unpack(store: &Store, repository: &str, image: Image) -> Result<Ready, StoreError> {
    let chain = store.unpack(&image)?;
    let lowers = chain.as_ref().map(|chain| store.lowers(chain)).transpose()?.unwrap_or_default();
    let id = format!("{repository}@{}", image.digest()?);
    Ok(Ready { id, config: image.config, chain, lowers })
}

/// An error and its causes as one sentence.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut result = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        result.push_str(": ");
        result.push_str(&cause.to_string());
        source = cause.source();
    }
    result
}
