//! A collection kept in view: listed, watched, and listed again whenever the watch is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{Client, ClientError, ListParams, Resource, WatchKind};

/// Changes that may wait for their reader.
const WAITING: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a reader has to do to its own view.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The object is there, as this.
    Applied(Arc<Value>),
    /// The object has gone; this was its last known state.
    Deleted(Arc<Value>),
    /// Everything that existed when the list was made has been told. Comes once after every list, first and later ones.
    Synced,
}

/// A collection kept in view. Dropping it stops it.
#[derive(Debug)]
pub struct Reflection {
    changes: mpsc::Receiver<Change>,
}

impl Reflection {
    /// The next change, in the order they happened to each object. Safe to cancel. `None` only when the runtime shuts down.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }

    /// The next change if there is one already.
    pub fn try_next(&mut self) -> Option<Change> {
        self.changes.try_recv().ok()
    }

    /// The channel itself.
    pub fn into_receiver(self) -> mpsc::Receiver<Change> {
        self.changes
    }
}

/// The reader has gone.
struct Gone;

struct Reflector {
    client: Client,
    resource: Resource,
    namespace: Option<String>,
    params: ListParams,
    seen: HashMap<(String, String), Arc<Value>>,
    changes: mpsc::Sender<Change>,
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn key(object: &Value) -> (String, String) {
    (text(object, "namespace").to_owned(), text(object, "name").to_owned())
}

impl Client {
    /// Keeps the objects of a namespace (or of all) in view: first those that exist, then [`Change::Synced`], then every change. A lost watch is
    /// resumed, and where that is impossible the difference to a new list is told, so that a reader that applies every change is never wrong for long.
    /// Must be called inside a tokio runtime.
    pub fn reflect(&self, resource: &Resource, namespace: Option<&str>, params: &ListParams) -> Reflection {
        let (changes, received) = mpsc::channel(WAITING);
        let reflector = Reflector {
            client: self.clone(),
            resource: resource.clone(),
            namespace: namespace.map(str::to_owned),
            params: params.clone(),
            seen: HashMap::new(),
            changes,
        };
        tokio::spawn(reflector.run());
        Reflection { changes: received }
    }
}

impl Reflector {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.turn().await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(Ok(error)) => {
                    tracing::debug!(%error, resource = %self.resource.plural, "a reflection lists again");
                    let sleep = if error.is_expired() { FIRST_PAUSE } else { pause };
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    tokio::select! {
                        () = tokio::time::sleep(sleep) => {}
                        () = self.changes.closed() => return,
                    }
                }
                Err(Err(Gone)) => return,
            }
        }
    }

    /// One list, and watches from it for as long as they can be resumed.
    async fn turn(&mut self) -> Result<(), Result<ClientError, Gone>> {
        let mut revision = self.list().await?;
        loop {
            let watch = self.client.watch(&self.resource, self.namespace.as_deref(), &self.params, &revision);
            let mut watch = tokio::select! {
                watch = watch => watch.map_err(Ok)?,
                () = self.changes.closed() => return Err(Err(Gone)),
            };
            let mut quiet = true;
            loop {
                let event = tokio::select! {
                    event = watch.next() => event,
                    () = self.changes.closed() => return Err(Err(Gone)),
                };
                let Some(event) = event else { break };
                let event = event.map_err(Ok)?;
                quiet = false;
                event.resource_version().clone_into(&mut revision);
                match event.kind {
                    WatchKind::Added | WatchKind::Modified => self.applied(event.object).await.map_err(Err)?,
                    WatchKind::Deleted => self.deleted(event.object).await.map_err(Err)?,
                    WatchKind::Bookmark => {}
                }
            }
            if quiet {
                // A server that ends watches at once must not be asked without rest.
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        }
    }

    async fn list(&mut self) -> Result<String, Result<ClientError, Gone>> {
        let list = tokio::select! {
            list = self.client.list(&self.resource, self.namespace.as_deref(), &self.params) => list.map_err(Ok)?,
            () = self.changes.closed() => return Err(Err(Gone)),
        };
        let mut vanished = std::mem::take(&mut self.seen);
        for object in list.items {
            match vanished.remove(&key(&object)) {
                Some(known) if text(&known, "resourceVersion") == text(&object, "resourceVersion") => {
                    self.seen.insert(key(&object), known);
                }
                Some(known) if text(&known, "uid") != text(&object, "uid") => {
                    self.tell(Change::Deleted(known)).await.map_err(Err)?;
                    self.applied(object).await.map_err(Err)?;
                }
                _ => self.applied(object).await.map_err(Err)?,
            }
        }
        for (_, known) in vanished {
            self.tell(Change::Deleted(known)).await.map_err(Err)?;
        }
        self.tell(Change::Synced).await.map_err(Err)?;
        Ok(list.resource_version)
    }

    async fn applied(&mut self, object: Value) -> Result<(), Gone> {
        let object = Arc::new(object);
        self.seen.insert(key(&object), object.clone());
        self.tell(Change::Applied(object)).await
    }

    async fn deleted(&mut self, object: Value) -> Result<(), Gone> {
        self.seen.remove(&key(&object));
        self.tell(Change::Deleted(Arc::new(object))).await
    }

    async fn tell(&self, change: Change) -> Result<(), Gone> {
        self.changes.send(change).await.map_err(|_| Gone)
    }
}
