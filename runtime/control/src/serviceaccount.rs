//! What every namespace has: the ServiceAccount `default` and the ConfigMap with the cluster's root certificate.

use jiff::Timestamp;
use serde_json::json;
use strake_kinds::core::ConfigMap;

use crate::action::{Action, Decision};
use crate::object::{Body, Kind, Object};
use crate::view::{Change, View};
use crate::{Controller, Key, write};

const ACCOUNT: &str = "default";
const ROOT: &str = "kube-root-ca.crt";
const ROOT_KEY: &str = "ca.crt";
/// The namespace whose copy of the root certificate the others follow. The cluster writes it when it starts.
const SOURCE: &str = "kube-system";

/// See the module.
pub struct ServiceAccounts;

impl Controller for ServiceAccounts {
    fn name(&self) -> &'static str {
        "serviceaccount-controller"
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::NAMESPACE, Kind::SERVICE_ACCOUNT, Kind::CONFIG_MAP]
    }

    fn keys_for(&self, view: &View, change: &Change) -> Vec<Key> {
        let namespace = |name: &str| Key::new(Kind::NAMESPACE, "", name);
        match change.id.name.as_str() {
            _ if change.id.kind == Kind::NAMESPACE => vec![change.id.clone()],
            ROOT if change.id.kind == Kind::CONFIG_MAP && change.id.namespace == SOURCE => {
                view.all(&Kind::NAMESPACE).map(|namespace| namespace.id.clone()).collect()
            }
            ROOT | ACCOUNT => vec![namespace(&change.id.namespace)],
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, view: &View, key: &Key, _now: Timestamp) -> Decision {
        let is_namespace = |object: &&std::sync::Arc<Object>| matches!(object.body, Body::Namespace(_)) && !object.is_terminating();
        if view.get(key).filter(is_namespace).is_none() {
            return Decision::default();
        }
        let mut actions = Vec::new();
        if view.find(&Kind::SERVICE_ACCOUNT, &key.name, ACCOUNT).is_none() {
            let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": key.name}});
            actions.push(Action::Create { object, reason: "every namespace has a default ServiceAccount".into() });
        }
        actions.extend(root(view, &key.name));
        Decision { actions, requeue_after: None }
    }
}

fn root(view: &View, namespace: &str) -> Option<Action> {
    let source = certificate(view.find(&Kind::CONFIG_MAP, SOURCE, ROOT)?)?;
    match view.find(&Kind::CONFIG_MAP, namespace, ROOT) {
        None => {
            let meta = json!({"name": ROOT, "namespace": namespace});
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {ROOT_KEY: source}});
            Some(Action::Create { object, reason: "every namespace has the cluster's root certificate".into() })
        }
        Some(copy) if certificate(copy) != Some(source) => {
            Some(write::patch(copy, json!({"data": {ROOT_KEY: source}}), "the cluster's root certificate has changed"))
        }
        Some(_) => None,
    }
}

fn certificate(object: &Object) -> Option<&String> {
    let Body::ConfigMap(map) = &object.body else { return None };
    let map: &ConfigMap = map;
    map.data.as_ref()?.get(ROOT_KEY)
}
