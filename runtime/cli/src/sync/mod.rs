//! Following git repositories: performs what `strake_sync` decides, inside `strake serve` for objects of the kind Sync and for one repository in the
//! foreground. Building and applying is a process of its own, which ends with this one and is the same command that a person would type.

pub mod controller;
pub mod deploy;
mod drift;
pub mod follower;
pub mod hooks;
pub mod keys;
pub mod source;
pub mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use strake_client::Client;
use strake_cluster::Recorder;
use tokio::sync::Semaphore;

use crate::args::Target;

/// Repositories that are asked or fetched at a time.
const ASKS: usize = 4;
/// Builds and applies at a time.
const DEPLOYS: usize = 2;

/// What all followers of a process share.
pub struct Context {
    /// The state directory.
    pub root: PathBuf,
    /// Where Secrets and Syncs are; nothing in the foreground.
    pub client: Option<Client>,
    /// The cluster that is deployed to.
    pub target: Target,
    /// Who tells events; nobody in the foreground.
    pub recorder: Option<Recorder>,
    asks: Semaphore,
    deploys: Semaphore,
}

impl Context {
    /// For a process, inside a tokio runtime.
    pub fn new(root: PathBuf, client: Option<Client>, target: Target) -> Arc<Context> {
        let recorder = client.clone().map(|client| Recorder::new(client, "strake-sync"));
        Arc::new(Context { root, client, target, recorder, asks: Semaphore::new(ASKS), deploys: Semaphore::new(DEPLOYS) })
    }
}

/// A Sync's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Of an object.
    pub fn of(object: &serde_json::Value) -> Key {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        Key { namespace: text("namespace"), name: text("name") }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
