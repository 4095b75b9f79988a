//! One pull or push: which reference, which registries are asked for it, which store.

use std::sync::Arc;

use strake_store::{Store, StoreError};
use strake_words::Reference;
use tokio::sync::RwLock;

use crate::endpoint::{Endpoint, Operation};
use crate::error::RegistryError;
use crate::pull::{PullOptions, parse};
use crate::registries::Registries;

pub(crate) struct Session<'a> {
    pub(crate) reference: Reference,
    /// The full reference.
    pub(crate) name: String,
    /// Mirrors in their order, then the registry itself. A push goes to the registry alone.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) store: &'a Store,
    pub(crate) options: &'a PullOptions,
    /// Held for reading by every task that writes a blob.
    pub(crate) writers: Arc<RwLock<()>>,
}

impl<'a> Session<'a> {
    pub(crate) fn open(text: &str, store: &'a Store, options: &'a PullOptions, operation: Operation) -> Result<Self, RegistryError> {
        let reference = parse(text)?;
        let name = reference.to_string();
        let registries = match &options.registries {
            Some(set) => Arc::clone(set),
            None => Arc::new(Registries::load(store.root())?),
        };
        let (host, path) = (&reference.domain, &reference.path);
        let settings = registries.of(host);
        let mut endpoints = Vec::new();
        if operation == Operation::Pull {
            for mirror in &settings.mirrors {
                endpoints.push(Endpoint::mirror(mirror, path, &name, operation, registries.of(&mirror.host), options)?);
            }
        }
        endpoints.push(Endpoint::of(host, path, &name, operation, settings, options)?);
        Ok(Session { reference, name, endpoints, store, options, writers: Arc::default() })
    }

    /// The registry itself.
    pub(crate) fn registry(&self) -> &Endpoint {
        &self.endpoints[self.endpoints.len() - 1]
    }

    /// Asks mirrors and registry one after the other, as long as the next may do better. The last one's error counts.
    pub(crate) async fn each<'s, T>(&'s self, ask: impl AsyncFn(&'s Endpoint) -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        for endpoint in &self.endpoints[..self.endpoints.len() - 1] {
            match ask(endpoint).await {
                Err(error) if error.is_of_this_host() => {
                    tracing::warn!(mirror = %endpoint.host, reference = %self.name, error = %crate::error::chain(&error), "a mirror cannot help, the next is asked");
                }
                outcome => return outcome,
            }
        }
        ask(self.registry()).await
    }

    /// Waits until every task that writes a blob has ended.
    pub(crate) async fn writers_ended(&self) {
        drop(self.writers.write().await);
    }

    pub(crate) fn decode<T: for<'de> serde::Deserialize<'de>>(&self, bytes: &[u8]) -> Result<T, RegistryError> {
        serde_json::from_slice(bytes).map_err(|source| RegistryError::Decode { reference: self.name.clone(), source })
    }

    pub(crate) fn refused(&self, reason: String) -> RegistryError {
        RegistryError::Manifest { reference: self.name.clone(), reason }
    }

    pub(crate) fn storing(&self, source: StoreError) -> RegistryError {
        RegistryError::Store { reference: self.name.clone(), source: Box::new(source) }
    }
}
