//! Reads how sets are: from the inventory and the history in the cluster, without the directory that they came from.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use strake_client::{Client, ClientError, ListParams, Resource};
use strake_plan::{DeployPlan, ObjectId};

use crate::drift::{Additions, Drifted, added, drift};
use crate::history::{self, Entry, Status};
use crate::inventory::{self, Scope};
use crate::lock;
use crate::tree::{Node, tree, worst};
use crate::{Applied, Applier, ApplyError, Options, Revisions, predict};

/// A set that has been applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SetName {
    /// The namespace of its inventory.
    pub namespace: String,
    /// Its name.
    pub set: String,
}

/// How a set is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetStatus {
    /// Which.
    #[serde(flatten)]
    pub name: SetName,
    /// The worst health of its objects.
    pub health: &'static str,
    /// The newest revision that was deployed; none when none was, and when no history is kept.
    pub revision: Option<u64>,
    /// The last apply, with how it ended.
    pub last: Option<Told>,
    /// Who applies it just now.
    pub held_by: Option<String>,
    /// Its objects.
    pub objects: Vec<Node>,
}

/// A revision with its status.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// Its status, seen beside the others.
    pub status: Status,
    /// What it says of itself.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Every set of the cluster, by namespace and name.
///
/// # Errors
/// The cluster's Secrets cannot be listed.
pub async fn sets(client: &Client) -> Result<Vec<SetName>, ApplyError> {
    let listed = client.list(&Resource::SECRETS, None, &ListParams::labels(inventory::parents_selector())).await;
    let parents = listed.map_err(|source| ApplyError::Read { what: "inventories".to_owned(), source })?;
    let named = |parent: &Value| {
        Scope::read(parent)?;
        Some(SetName { namespace: parent["metadata"]["namespace"].as_str()?.to_owned(), set: inventory::set_name(parent)?.to_owned() })
    };
    let mut sets: Vec<SetName> = parents.items.iter().filter_map(named).collect();
    sets.sort();
    Ok(sets)
}

/// The revisions of a set with their statuses, oldest first.
///
/// # Errors
/// The cluster cannot be read.
pub async fn told(client: &Client, name: &SetName) -> Result<Vec<Told>, ApplyError> {
    let entries = Revisions::new(client, &name.set, &name.namespace).list().await?;
    let held = holder(client, name).await?.is_some();
    let statuses = history::statuses(&entries, held);
    Ok(entries.into_iter().zip(statuses).map(|(entry, status)| Told { status, entry }).collect())
}

/// How a set is just now; `None` when there is no such set.
///
/// # Errors
/// The cluster cannot be read.
pub async fn status(client: &Client, name: &SetName) -> Result<Option<SetStatus>, ApplyError> {
    let told = told(client, name).await?;
    // What was tried last, as far as it can be read: what is missing of it is to be seen.
    let plan = match told.last() {
        Some(last) => Revisions::new(client, &name.set, &name.namespace).plan(&last.entry).await.ok(),
        None => None,
    };
    let plan = plan.unwrap_or_else(|| DeployPlan { set: name.set.clone(), namespace: name.namespace.clone(), ..DeployPlan::default() });
    let applier = Applier::new(client, &plan, Options::default(), &|_| {});
    let scope = applier.scope().await?;
    if scope == Scope::default() && told.is_empty() {
        return Ok(None);
    }
    let found = applier.members(&scope).await?;
    let mut members: Vec<(ObjectId, Option<Value>)> = Vec::new();
    let key = |id: &ObjectId| (inventory::group_kind(id), id.namespace.clone(), id.name.clone());
    let mut live: BTreeMap<_, (ObjectId, Value)> = found
        .into_iter()
        .map(|(id, mut object, resource)| {
            // Lists leave out what all of their items are.
            object["kind"] = Value::from(resource.kind.to_string());
            object["apiVersion"] = Value::from(resource.api_version());
            (key(&id), (id, object))
        })
        .collect();
    for change in &plan.changes {
        match live.remove(&key(&change.id)) {
            Some((id, object)) => members.push((id, Some(object))),
            // A hook may be gone once it has run.
            None if change.hook.is_some() => {}
            None => members.push((change.id.clone(), None)),
        }
    }
    members.extend(live.into_values().map(|(id, object)| (id, Some(object))));
    let objects = tree(&members, &made(client, &members).await?);
    let revision = told.iter().rfind(|told| told.status == Status::Deployed).map(|told| told.entry.number);
    let held_by = holder(client, name).await?;
    Ok(Some(SetStatus { name: name.clone(), health: worst(&objects), revision, last: told.last().cloned(), held_by, objects }))
}

/// What controllers may have made of these.
async fn made(client: &Client, members: &[(ObjectId, Option<Value>)]) -> Result<Vec<Value>, ApplyError> {
    let mut wanted: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (id, _) in members {
        let namespace = id.namespace.as_str();
        match id.kind.as_str() {
            "Deployment" => wanted.extend([(namespace, "ReplicaSet"), (namespace, "Pod")]),
            "CronJob" => wanted.extend([(namespace, "Job"), (namespace, "Pod")]),
            "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => wanted.extend([(namespace, "Pod")]),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (namespace, kind) in wanted {
        let resource = match kind {
            "ReplicaSet" => Resource::REPLICA_SETS,
            "Job" => Resource::new("batch", "v1", "jobs", "Job", true),
            _ => Resource::PODS,
        };
        let listed = client.list(&resource, Some(namespace), &ListParams::default()).await;
        let list = listed.map_err(|source| ApplyError::Read { what: format!("{} in {namespace}", resource.plural), source })?;
        found.extend(list.items.into_iter().map(|mut item| {
            item["kind"] = Value::from(kind);
            item
        }));
    }
    Ok(found)
}

/// How a set differs from a revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drift {
    /// Objects that are not as they were applied.
    pub drifted: Vec<Drifted>,
    /// Objects that have more than was applied: for information.
    pub added: Vec<Additions>,
}

/// What of a set is not as the revision says, which is what was deployed last.
///
/// # Errors
/// The cluster refuses the dry run, or the revision cannot be read.
pub async fn drifted(client: &Client, name: &SetName, entry: &Entry) -> Result<Drift, ApplyError> {
    let plan = Revisions::new(client, &name.set, &name.namespace).plan(entry).await?;
    // Whoever has a field now: that it is another value is what is asked.
    let options = Options { force_conflicts: true, adopt: true, ..Options::default() };
    let applier = Applier::new(client, &plan, options, &|_| {});
    let report = applier.diff().await?;
    let hooks = plan.changes.iter().filter(|change| change.hook.is_some()).map(|change| &change.id).collect();
    let more = |applied: &Applied| {
        let change = plan.changes.iter().find(|change| change.id == applied.id)?;
        let mut wanted = predict::wanted(change, &applier.set_id());
        if let Some(kind) = strake_kinds::by_kind(&change.id.api_version(), &change.id.kind) {
            strake_kinds::default::fold_write_only(&mut wanted, kind);
        }
        added(applied, &wanted, applier.hiding(), &change.sensitive)
    };
    Ok(Drift { drifted: drift(&report, &hooks), added: report.applied.iter().filter_map(more).collect() })
}

/// Who applies a set just now.
async fn holder(client: &Client, name: &SetName) -> Result<Option<String>, ApplyError> {
    match lock::holder(client, &name.set, &name.namespace).await {
        Ok(held) => Ok(held.map(|held| if held.since.is_empty() { held.by } else { format!("{} since {}", held.by, held.since) })),
        // Somebody who may not read Leases sees everything else.
        Err(ClientError::Api(_)) => Ok(None),
        Err(source) => Err(ApplyError::Read { what: format!("the lock of set {}", name.set), source }),
    }
}
