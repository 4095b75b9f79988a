//! Build caches of elsewhere in one build: what their records gave, and their layers when they are needed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use strake_oci::{Descriptor, Digest};
use strake_solve::Chain;
use strake_store::Store;

use super::document::{ImportedCache, ImportedLayer};
use super::lock::KeyLock;
use crate::{CancelFlag, StepError};

/// How far a cache is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Use {
    /// Wholly.
    #[default]
    Whole,
    /// Only records whose layers can be had: files were needed that other records only know of.
    WithLayers,
    /// It was found to be broken.
    Nothing,
}

/// The caches of one build.
pub(crate) struct Imports<'a> {
    caches: &'a [ImportedCache],
    /// By the place of the cache.
    uses: Vec<Use>,
    found: Mutex<HashMap<Digest, Found>>,
    broken: Mutex<Option<Broken>>,
}

/// A chain whose topmost layer is in a cache, and perhaps nowhere else.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub parent: Chain,
    pub layer: ImportedLayer,
    /// All keys of the step that gave it.
    pub keys: Vec<Digest>,
    pub cache: usize,
}

/// A cache whose layer could not be had.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub cache: usize,
    /// Why; nothing when the cache never promised the layer.
    pub reason: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Imports<'a> {
    pub(crate) fn new(caches: &'a [ImportedCache], uses: &[Use]) -> Self {
        Imports { caches, uses: uses.to_vec(), found: Mutex::default(), broken: Mutex::default() }
    }

    fn enabled(&self) -> impl Iterator<Item = (usize, &'a ImportedCache)> {
        self.caches.iter().enumerate().filter(|(place, _)| self.uses[*place] != Use::Nothing)
    }

    /// The chain that a step of this key gives on top of `parent`.
    pub(crate) fn look_up(&self, key: &Digest, parent: Chain) -> Option<Digest> {
        let usable = |place: usize, layer: &ImportedLayer| layer.blob.is_some() || self.uses[place] == Use::Whole;
        let found = self.enabled().filter_map(|(place, cache)| Some((place, cache.find(key)?)));
        let (cache, (layer, keys)) = found.filter(|(place, (layer, _))| usable(*place, layer)).min_by_key(|(_, (layer, _))| layer.blob.is_none())?;
        let chain = Digest::chain(parent.as_ref(), &layer.diff_id);
        lock(&self.found).insert(chain, Found { parent, layer, keys: keys.to_vec(), cache });
        Some(chain)
    }

    /// What is known of a chain from a cache.
    pub(crate) fn found(&self, chain: &Digest) -> Option<Found> {
        lock(&self.found).get(chain).cloned()
    }

    /// The cache whose layer could not be had.
    pub(crate) fn broken(&self) -> Option<Broken> {
        lock(&self.broken).clone()
    }

    /// The files of a cache mount, with the place of the cache that has them.
    pub(crate) fn mount(&self, id: &str) -> Option<(usize, &'a Descriptor, Digest)> {
        self.enabled().find_map(|(place, cache)| cache.mount(id).and_then(|layer| Some((place, layer.blob.as_ref()?, layer.diff_id))))
    }

    /// Puts a cache's blob into the store.
    pub(crate) fn fetch(&self, cache: usize, blob: &Descriptor, store: &Store) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.caches[cache].source().fetch(blob, store)
    }

    /// Sees to it that a chain is in the store, fetching what a cache has of it. What no cache has is left to whoever asks the store for it.
    pub(crate) fn ensure(&self, chain: Chain, store: &Store, locks: &Path, cancel: &CancelFlag) -> Result<(), StepError> {
        let mut missing = Vec::new();
        let mut next = chain;
        while let Some(chain) = next.filter(|chain| !store.has_chain(chain)) {
            let Some(found) = self.found(&chain) else { break };
            next = found.parent;
            missing.push((chain, found));
        }
        for (chain, found) in missing.into_iter().rev() {
            // Another build may fetch the same now.
            let _lock = KeyLock::wait(&locks.join(format!("fetch-{}", chain.hex())), cancel)?;
            if store.has_chain(&chain) {
                continue;
            }
            let brought = match &found.layer.blob {
                Some(blob) => self.bring(&found, blob, store).map_err(Some),
                None => Err(None),
            };
            if let Err(reason) = brought {
                let cache = self.caches[found.cache].name.clone();
                lock(&self.broken).get_or_insert_with(|| Broken { cache: found.cache, reason: reason.clone() });
                return Err(StepError::ImportLayer { cache, reason: reason.unwrap_or_else(|| "the layer is not part of it".to_owned()) });
            }
        }
        Ok(())
    }

    fn bring(&self, found: &Found, blob: &Descriptor, store: &Store) -> Result<(), String> {
        self.fetch(found.cache, blob, store).map_err(|error| told(&*error))?;
        store.unpack_layer(found.parent.as_ref(), blob, &found.layer.diff_id).map_err(|error| told(&error))
    }
}

/// An error with its causes, in one line.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
