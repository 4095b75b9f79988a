//! What all workers of a node have in common.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strake_client::Client;
use strake_container::Executor;
use strake_network::Network;
use strake_store::Store;

use crate::events::Events;
use crate::images::Images;
use crate::machine::Machine;
use crate::objects::Objects;
use crate::worker::Handle;

/// A pod's namespace and name.
pub(crate) type PodKey = (String, String);

/// What all workers use.
pub(crate) struct Shared {
    pub root: PathBuf,
    pub name: String,
    pub client: Client,
    pub store: Store,
    pub executor: Arc<dyn Executor>,
    pub network: Arc<Network>,
    pub events: Events,
    pub images: Images,
    pub objects: Objects,
    pub machine: Machine,
    pub host_ips: Vec<String>,
    /// The cgroup that all pods of this state directory are below.
    pub cgroup: String,
    /// Workers by the pod's uid.
    pub workers: Mutex<HashMap<String, Handle>>,
}

impl Shared {
    pub(crate) fn workers(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker of the pod that has this name now.
    pub(crate) fn worker(&self, namespace: &str, name: &str) -> Option<Handle> {
        let workers = self.workers();
        let fits = |handle: &&Handle| handle.key.0 == namespace && handle.key.1 == name;
        let mut found: Vec<&Handle> = workers.values().filter(fits).collect();
        // A pod that is being cleaned up may still have the name of its successor.
        found.sort_by_key(|handle| handle.is_leaving());
        found.first().map(|handle| (*handle).clone())
    }

    /// The cgroup of a pod.
    pub(crate) fn pod_cgroup(&self, uid: &str) -> String {
        format!("{}/pod-{uid}", self.cgroup)
    }
}
