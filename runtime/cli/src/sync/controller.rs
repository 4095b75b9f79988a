//! The controller of Syncs inside `strake serve`: one follower an object.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use strake_client::{Change, Client, ListParams, Resource};
use strake_cluster::HookTls;
use tokio::sync::{Notify, watch};

use super::follower::{Follower, Keeper, resource};
use super::hooks::{self, Door};
use super::keys::Keys;
use super::{Context, Key};
use crate::args::{Target, Webhooks};
use crate::failure::Failure;

/// A follower, seen from outside.
struct Known {
    objects: watch::Sender<Arc<Value>>,
    nudge: Arc<Notify>,
}

/// Everybody who is followed.
#[derive(Clone, Default)]
pub struct Followers(Arc<Mutex<BTreeMap<Key, Known>>>);

impl Followers {
    /// The object of a Sync and the bell of its follower.
    pub fn find(&self, key: &Key) -> Option<(Arc<Value>, Arc<Notify>)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).map(|known| (known.objects.borrow().clone(), known.nudge.clone()))
    }

    fn take(&self, context: &Arc<Context>, client: &Client, object: Arc<Value>) {
        let key = Key::of(&object);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&key).filter(|known| known.objects.borrow()["metadata"]["uid"] == object["metadata"]["uid"]) {
            // What the follower itself has written is no news.
            let wanted = |object: &Value| (object["spec"].clone(), object["metadata"]["annotations"].clone(), object["metadata"]["generation"].clone());
            if wanted(&known.objects.borrow()) != wanted(&object) {
                known.objects.send_replace(object);
            }
            return;
        }
        let (objects, received) = watch::channel(object);
        let nudge = Arc::new(Notify::new());
        let keys = Keys::Cluster(client.clone(), key.namespace.clone());
        let follower = Follower::new(context.clone(), keys, Keeper::Object, received, nudge.clone());
        tokio::spawn(follower.run(|_, _| {}));
        known.insert(key, Known { objects, nudge });
    }

    /// The follower learns of it when it looks next; what it applied stays.
    fn drop(&self, object: &Value) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&Key::of(object));
    }

    /// A Secret has changed: whoever uses it may get on now.
    fn ring(&self, secret: &Value) {
        let Key { namespace, name } = Key::of(secret);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, known) in known.iter().filter(|(key, _)| key.namespace == namespace) {
            let object = known.objects.borrow();
            let uses = |place: &Value| place["secretRef"]["name"] == name.as_str();
            if ["report", "kubeConfig"].iter().any(|part| uses(&object["spec"][*part])) || uses(&object["spec"]) {
                known.nudge.notify_one();
            }
        }
    }
}

/// Follows every Sync of the cluster until the task is dropped; hears webhooks when it is told where.
pub async fn run(root: PathBuf, client: Client, hooks: Option<Entrance>) {
    if let Err(error) = strake_cluster::make_private(&root, "sync") {
        tracing::error!("no repository is followed: cannot make {}: {error}", root.join("sync").display());
        return;
    }
    let context = Context::new(root, Some(client.clone()), Target::default());
    let followers = Followers::default();
    if let Some((listener, tls)) = hooks {
        let door = Door::Cluster(client.clone(), followers.clone());
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::spawn(strake_cluster::serve_hooks(listener, tls, hooks::heed(door)))),
            Err(error) => tracing::error!("webhooks cannot be heard: {error}"),
        }
    }
    let mut syncs = client.reflect(&resource(), None, &ListParams::default());
    let mut secrets = client.reflect(&Resource::SECRETS, None, &ListParams::default());
    let mut secrets_known = false;
    loop {
        tokio::select! {
            change = syncs.next() => match change {
                Some(Change::Applied(object)) if object["metadata"]["deletionTimestamp"].is_null() => followers.take(&context, &client, object),
                Some(Change::Applied(object) | Change::Deleted(object)) => followers.drop(&object),
                Some(Change::Synced) => {}
                None => return,
            },
            change = secrets.next() => match change {
                // Those that were there before are no news.
                Some(Change::Applied(secret)) if secrets_known => followers.ring(&secret),
                Some(Change::Synced) => secrets_known = true,
                Some(_) => {}
                None => return,
            },
        }
    }
}

/// Where webhooks come in, and with which certificate.
pub type Entrance = (std::net::TcpListener, Option<HookTls>);

/// Opens the door for webhooks, when there is to be one.
///
/// # Errors
/// When the address cannot be had, or the certificate cannot be used.
pub fn listen(args: &Webhooks) -> Result<Option<Entrance>, Failure> {
    let Some(address) = args.hooks else { return Ok(None) };
    let tls = match (&args.hooks_cert, &args.hooks_key) {
        (Some(certificate), Some(key)) => Some(HookTls::new(certificate.clone(), key.clone())?),
        _ => None,
    };
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listener = listen().map_err(|error: std::io::Error| Failure::text(format!("cannot listen at {address}: {error}")))?;
    Ok(Some((listener, tls)))
}
