//! ConfigMaps, Secrets and Services as the API has them now, kept in view: a container's start waits for no request.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use strake_client::{Change, Client, ListParams, Resource};
use strake_kinds::core::{ConfigMap, Secret, Service};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::env::Facts;
use crate::volumes::project::Kind;

type Key = (String, String);

/// How long a start waits for the first list.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// A ConfigMap or Secret has changed.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

/// A collection in view.
#[derive(Clone)]
struct Kept {
    resource: Resource,
    objects: Arc<RwLock<HashMap<Key, Arc<Value>>>>,
    synced: watch::Receiver<bool>,
}

/// What pods refer to.
pub(crate) struct Objects {
    client: Client,
    config_maps: Kept,
    secrets: Kept,
    services: Kept,
    tasks: Vec<AbortHandle>,
}

impl Objects {
    /// Begins to watch. Changes after the first list are told to `changes`.
    pub(crate) fn start(client: Client, changes: mpsc::UnboundedSender<Changed>) -> Self {
        let mut tasks = Vec::new();
        let mut keep = |resource: Resource, kind: Option<Kind>| {
            let (synced, received) = watch::channel(false);
            let kept = Kept { resource: resource.clone(), objects: Arc::default(), synced: received };
            let told = kind.map(|kind| (kind, changes.clone()));
            let task = tokio::spawn(follow(client.clone(), resource, Arc::clone(&kept.objects), synced, told));
            tasks.push(task.abort_handle());
            kept
        };
        let config_maps = keep(Resource::CONFIG_MAPS, Some(Kind::ConfigMap));
        let secrets = keep(Resource::SECRETS, Some(Kind::Secret));
        let services = keep(Resource::SERVICES, None);
        Objects { client, config_maps, secrets, services, tasks }
    }

    /// Puts the data of the named objects of a namespace into `facts`; `None` for one that isn't there.
    pub(crate) async fn fill(&self, namespace: &str, config_maps: &[String], secrets: &[String], facts: &mut Facts) {
        for name in config_maps {
            let found: Option<ConfigMap> = self.find(&self.config_maps, namespace, name).await;
            facts.config_maps.insert(name.clone(), found.map(data_of_config_map));
        }
        for name in secrets {
            let found: Option<Secret> = self.find(&self.secrets, namespace, name).await;
            facts.secrets.insert(name.clone(), found.map(|secret| secret.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)).collect()));
        }
    }

    /// The Services of the pods' namespaces.
    pub(crate) async fn services(&self) -> Vec<Service> {
        self.services.wait().await;
        let objects = self.services.objects.read().unwrap_or_else(PoisonError::into_inner);
        let mut services: Vec<Service> = objects.values().filter_map(|object| typed(object)).collect();
        services.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        services
    }

    async fn find<T: DeserializeOwned>(&self, kept: &Kept, namespace: &str, name: &str) -> Option<T> {
        kept.wait().await;
        let known = kept.objects.read().unwrap_or_else(PoisonError::into_inner).get(&(namespace.to_owned(), name.to_owned())).cloned();
        if let Some(object) = known {
            return typed(&object);
        }
        // Made a moment ago together with the pod: its news may be on the way.
        self.client.get(&kept.resource, Some(namespace), name).await.ok().flatten().and_then(|object| typed(&object))
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Kept {
    async fn wait(&self) {
        let mut synced = self.synced.clone();
        let _ = tokio::time::timeout(SYNC_LIMIT, synced.wait_for(|synced| *synced)).await;
    }
}

fn typed<T: DeserializeOwned>(object: &Value) -> Option<T> {
    T::deserialize(object).inspect_err(|error| tracing::warn!(%error, "an object of the API could not be read")).ok()
}

fn data_of_config_map(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
    text.chain(map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0))).collect()
}

async fn follow(
    client: Client,
    resource: Resource,
    objects: Arc<RwLock<HashMap<Key, Arc<Value>>>>,
    synced: watch::Sender<bool>,
    told: Option<(Kind, mpsc::UnboundedSender<Changed>)>,
) {
    let mut reflection = client.reflect(&resource, None, &ListParams::all());
    while let Some(change) = reflection.next().await {
        let key = match &change {
            Change::Synced => {
                let _ = synced.send(true);
                continue;
            }
            Change::Applied(object) | Change::Deleted(object) => {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
                (text("namespace"), text("name"))
            }
        };
        {
            let mut objects = objects.write().unwrap_or_else(PoisonError::into_inner);
            match change {
                Change::Applied(object) => objects.insert(key.clone(), object),
                _ => objects.remove(&key),
            };
        }
        if let Some((kind, sender)) = told.as_ref().filter(|_| *synced.borrow()) {
            let _ = sender.send(Changed { kind: *kind, namespace: key.0, name: key.1 });
        }
    }
}
