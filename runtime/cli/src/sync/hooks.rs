//! Heeds webhooks: whoever proves to know a Sync's secret makes its repository be asked at once.

use std::sync::Arc;

use futures::FutureExt;
use serde_json::Value;
use strake_client::Client;
use strake_cluster::{HookAnswer, HookRequest, Hooks};
use strake_sync::{Delivery, Hook, read_hook};
use tokio::sync::Notify;

use super::Key;
use super::controller::Followers;
use super::keys::Keys;

/// Whom deliveries are for.
#[derive(Clone)]
pub enum Door {
    /// The Syncs of the cluster.
    Cluster(Client, Followers),
    /// The one of the foreground.
    One(Key, Arc<Value>, Keys, Arc<Notify>),
}

/// What an answer says when nobody of that name is there, or has no webhook: as much as to a wrong signature.
const REFUSED: &str = "refused: no sync of this name takes deliveries, or the signature is wrong";

impl Door {
    fn find(&self, key: &Key) -> Option<(Arc<Value>, Keys, Arc<Notify>)> {
        match self {
            Door::Cluster(client, followers) => {
                let (object, nudge) = followers.find(key)?;
                Some((object, Keys::Cluster(client.clone(), key.namespace.clone()), nudge))
            }
            Door::One(own, object, keys, nudge) => (own == key).then(|| (object.clone(), keys.clone(), nudge.clone())),
        }
    }

    async fn heed(self, request: HookRequest) -> HookAnswer {
        let key = Key { namespace: request.namespace.clone(), name: request.name.clone() };
        let refused = || (401, REFUSED.to_owned());
        let Some((object, keys, nudge)) = self.find(&key) else { return refused() };
        let Some(secret) = object["spec"]["webhook"]["secretRef"]["name"].as_str() else { return refused() };
        let secret = match keys.webhook(secret).await {
            Ok(secret) => secret,
            Err(trouble) => {
                tracing::warn!("sync {key}: a webhook cannot be checked: {}", trouble.message);
                return refused();
            }
        };
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match read_hook(&Hook { header: &header, body: &request.body }, secret.as_bytes()) {
            Ok(Delivery::Push(reference)) => {
                tracing::info!("sync {key}: a push to {} is announced", reference.as_deref().unwrap_or("it"));
                nudge.notify_one();
                (202, "the repository is asked now".to_owned())
            }
            Ok(Delivery::Other) => (202, "nothing to do".to_owned()),
            Err(reason @ (strake_sync::Refused::Signature | strake_sync::Refused::Unsigned)) => {
                tracing::warn!("sync {key}: a delivery is refused: {}", reason.as_str());
                refused()
            }
            Err(reason) => (400, reason.as_str().to_owned()),
        }
    }
}

/// For the server.
pub fn heed(door: Door) -> Hooks {
    Arc::new(move |request| door.clone().heed(request).boxed())
}
