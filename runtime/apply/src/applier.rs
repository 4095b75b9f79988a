//! One object to a cluster: applied, compared, replaced. What comes when is [`crate::engine`]'s.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::Value;
use strake_client::{Client, ClientError, DeleteParams, Patch, Propagation, Resource, WriteParams};
use strake_kinds::structural;
use strake_plan::{Change, DeployPlan, ObjectId};
use tokio::sync::watch;

use crate::changes::{FieldChange, changes_by};
use crate::conceal::Key;
use crate::failure::Policy;
use crate::inventory::{self, Scope};
use crate::journal::{self, Journal};
use crate::ownership::Left;
use crate::predict::{self, predict};
use crate::send::Sent;
use crate::{ApplyError, Event, Outcome};

/// The field manager of everything strake applies.
pub const MANAGER: &str = "strake";
/// Objects applied at once.
pub(crate) const CONCURRENCY: usize = 8;

/// How long an object may take to get ready when nobody has said.
pub(crate) const WAIT: Duration = Duration::from_secs(600);
/// How long the end of an object that is replaced may take.
const REPLACE: Duration = Duration::from_secs(120);

/// How to apply.
#[derive(Clone, Debug)]
pub struct Options {
    /// Take fields over that others own.
    pub force_conflicts: bool,
    /// Take objects over that belong to another set or tool.
    pub adopt: bool,
    /// Members that hold data or other objects and may be deleted all the same: `kind/name`, or `kind/name in namespace`.
    pub confirmed: Vec<String>,
    /// The key of the hashes that stand for secrets, as long as the inventory has none.
    pub key: Key,
    /// Delete what left the set.
    pub prune: bool,
    /// Delete even most of the set.
    pub allow_mass_delete: bool,
    /// Delete and make anew what has a field that differs and cannot be changed.
    pub replace: bool,
    /// Roll Deployments out at once, whatever their annotations say.
    pub at_once: bool,
    /// Wait for health, so long for each object; `None` waits only for what something else depends on.
    pub wait: Option<Duration>,
    /// Hold the set's lock meanwhile. Without it nothing keeps two applies of a set apart: for who may not write Leases.
    pub lock: bool,
    /// How long another apply of the same set may take to end before this one gives up.
    pub lock_wait: Duration,
    /// Which failures are tolerated before an object counts as lost.
    pub policy: Policy,
    /// Tell what containers that are starting write.
    pub logs: bool,
    /// Leave hooks as they are: on the way back no migration of then is run.
    pub skip_hooks: bool,
    /// Ends the apply when it becomes true.
    pub stop: Option<watch::Receiver<bool>>,
    /// What is written into the set's history; `None` writes nothing.
    pub note: Option<crate::Note>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            force_conflicts: false,
            adopt: false,
            confirmed: Vec::new(),
            key: Key::random(),
            prune: true,
            allow_mass_delete: false,
            replace: false,
            at_once: false,
            wait: Some(WAIT),
            lock: true,
            lock_wait: Duration::from_secs(600),
            policy: Policy::default(),
            logs: false,
            skip_hooks: false,
            stop: None,
            note: None,
        }
    }
}

/// What was done to one object, or would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Applied {
    /// The object.
    pub id: ObjectId,
    /// What was done.
    pub outcome: Outcome,
    /// Fields that differ (filled by [`Applier::diff`]).
    pub changes: Vec<FieldChange>,
    /// Fields that differ and cannot be changed (filled by [`Applier::diff`]).
    pub fixed: Vec<String>,
    /// The object as the cluster has it after.
    #[serde(skip)]
    pub object: Value,
    /// The object as the cluster had it.
    #[serde(skip)]
    pub before: Option<Value>,
    /// `file:line` of the manifest.
    pub origin: String,
    /// Fields that are left to others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
}

/// The outcome of an apply or a diff.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// In the plan's order.
    pub applied: Vec<Applied>,
    /// Deleted, or to be deleted.
    pub pruned: Vec<ObjectId>,
    /// Left the set but stay, with the reason.
    pub kept: Vec<(ObjectId, String)>,
    /// Those of them that are still members: they go when somebody consents.
    #[serde(skip)]
    pub still: Vec<ObjectId>,
    /// What was deleted or is to be, as it was.
    #[serde(skip)]
    pub gone: Vec<Value>,
    /// What would be refused (filled by [`Applier::diff`]).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// How often the inventory was written; 0 when there is none.
    #[serde(skip)]
    pub generation: u64,
    /// The key of the hashes that stand for secrets.
    #[serde(skip)]
    pub key: Option<Key>,
}

/// Something that an apply would be refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The object; none when it is about all of them.
    pub id: Option<ObjectId>,
    /// `file:line` of the manifest.
    pub origin: String,
    /// Why.
    pub message: String,
}

impl Report {
    /// True when the cluster already was as the plan says.
    pub fn unchanged(&self) -> bool {
        self.pruned.is_empty() && self.applied.iter().all(|applied| applied.outcome == Outcome::Unchanged)
    }
}

/// A plan on its way to a cluster.
pub struct Applier<'a> {
    pub(crate) client: &'a Client,
    pub(crate) plan: &'a DeployPlan,
    pub(crate) options: Options,
    pub(crate) events: &'a (dyn Fn(Event) + Sync),
    /// What has been done so far; none outside of an apply.
    pub(crate) journal: Mutex<Option<Journal>>,
    /// The inventory's key.
    pub(crate) key: OnceLock<Key>,
    /// The schemas of kinds of custom resources, as far as they were asked for: by group, version and kind.
    schemas: tokio::sync::Mutex<BTreeMap<(String, String, String), Option<Value>>>,
}

pub(crate) fn resource(id: &ObjectId) -> Resource {
    Resource::new(&id.group, &id.version, &id.resource, &id.kind, !id.namespace.is_empty())
}

pub(crate) fn namespace(id: &ObjectId) -> Option<&str> {
    Some(id.namespace.as_str()).filter(|namespace| !namespace.is_empty())
}

/// The fields for which a server refused the object because they can never change.
pub(crate) fn immutable(error: &ClientError) -> Vec<String> {
    let Some(status) = error.status().filter(|status| status.code == 422) else { return Vec::new() };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let words = ["immutable", "may not be changed", "may not change", "cannot be changed", "can be changed"];
    let fixed = |message: &str| words.iter().any(|word| message.contains(word));
    if causes.is_empty() || !causes.iter().all(|cause| fixed(&cause.message)) {
        return Vec::new();
    }
    causes.iter().map(|cause| cause.field.clone()).collect()
}

impl<'a> Applier<'a> {
    /// Prepares; nothing is sent yet.
    pub fn new(client: &'a Client, plan: &'a DeployPlan, options: Options, events: &'a (dyn Fn(Event) + Sync)) -> Self {
        Applier { client, plan, options, events, journal: Mutex::new(None), key: OnceLock::new(), schemas: tokio::sync::Mutex::default() }
    }

    /// What [`Applier::apply`] would do, by the server's dry run.
    ///
    /// # Errors
    /// As apply; an object whose namespace does not exist yet counts as new.
    pub async fn diff(&self) -> Result<Report, ApplyError> {
        let (before, past) = self.parent().await?;
        let mut report = Report { generation: before.generation, key: Some(self.hiding().clone()), ..Report::default() };
        let each = self.plan.changes.iter().map(|change| async move { (change, self.object(change, true).await) });
        let mut answers = futures::stream::iter(each).buffered(CONCURRENCY);
        while let Some((change, answer)) = answers.next().await {
            match answer {
                Ok(applied) => report.applied.push(applied),
                Err(error) if error.ends_everything() => return Err(error),
                Err(error) => report.refused.push(Refused { id: Some(change.id.clone()), origin: change.origin.clone(), message: told(&error) }),
            }
        }
        if self.options.prune {
            self.rehearse_prune(&before, &mut report).await?;
        }
        self.rehearse_hooks(&mut report, past.as_ref(), before != Scope::default());
        Ok(report)
    }

    pub(crate) fn set_id(&self) -> String {
        inventory::set_id(&self.plan.set, &self.plan.namespace)
    }

    pub(crate) async fn scope(&self) -> Result<Scope, ApplyError> {
        self.parent().await.map(|(scope, _)| scope)
    }

    /// What the inventory says: where members may be, and what the apply before this one has come to.
    pub(crate) async fn parent(&self) -> Result<(Scope, Option<Journal>), ApplyError> {
        let name = inventory::parent_name(&self.plan.set);
        let read = self.client.get(&Resource::SECRETS, Some(&self.plan.namespace), &name).await;
        let parent = read.map_err(|source| ApplyError::Read { what: format!("inventory {name}"), source })?;
        match parent {
            None => Ok((Scope::default(), None)),
            Some(parent) => {
                let mut scope = Scope::read(&parent).ok_or(ApplyError::ForeignInventory(name))?;
                let journal = Journal::read(&parent);
                journal.iter().for_each(|journal| journal.forget_uids(&mut scope));
                if let Some(key) = &scope.key {
                    // The first that was read stays: hashes of one run can be compared.
                    let _ = self.key.set(key.clone());
                }
                Ok((scope, journal))
            }
        }
    }

    /// The key of the hashes that stand for secrets.
    pub(crate) fn hiding(&self) -> &Key {
        self.key.get().unwrap_or(&self.options.key)
    }

    /// Writes the inventory; gives what was written.
    pub(crate) async fn write_scope(&self, scope: &Scope) -> Result<Scope, ApplyError> {
        let scope = Scope { key: scope.key.clone().or_else(|| Some(Key::random())), generation: scope.generation + 1, ..scope.clone() };
        let parent = scope.parent(&self.plan.set, &self.plan.namespace);
        let name = inventory::parent_name(&self.plan.set);
        let patch = Patch::Apply { object: parent, manager: MANAGER.to_owned(), force: true };
        let sent = self.client.patch(&Resource::SECRETS, Some(&self.plan.namespace), &name, &patch, None, &WriteParams::default()).await;
        sent.map_err(|source| ApplyError::Refused { object: format!("inventory {name}"), origin: "strake".to_owned(), source })?;
        Ok(scope)
    }

    /// What a dry run says of every object.
    pub(crate) async fn rehearse(&self) -> Result<Vec<Applied>, ApplyError> {
        // Nothing waits for anything: a dry run of what needs something else answers the same.
        let each = self.plan.changes.iter().map(|change| self.object(change, true));
        futures::stream::iter(each).buffered(CONCURRENCY).try_collect().await
    }

    pub(crate) async fn object(&self, change: &Change, dry_run: bool) -> Result<Applied, ApplyError> {
        let id = &change.id;
        let refused = |source| ApplyError::Refused { object: id.to_string(), origin: change.origin.clone(), source };
        let live = self.staying(change, dry_run).await?;
        self.claimed(change, live.as_ref()).await?;
        let wanted = predict::wanted(change, &self.set_id());
        let Sent { result, left } = self.send(change, live.as_ref(), &wanted, dry_run).await?;
        for left in left.iter().filter(|_| !dry_run) {
            (self.events)(Event::Left { id: id.clone(), path: left.path.clone(), reason: left.reason.clone() });
        }
        let mut fixed = Vec::new();
        let after = match result {
            Ok(after) => after,
            // It would have to be deleted and made anew.
            Err(error) if live.is_some() && !immutable(&error).is_empty() && (dry_run || self.options.replace || self.is_run_anew(change, live.as_ref())) => {
                fixed = immutable(&error);
                if dry_run { predict(None, &wanted).after } else { self.replace(change, live.as_ref(), &wanted).await? }
            }
            // Its namespace is made by the same apply.
            Err(error) if dry_run && live.is_none() && error.is_not_found() => predict(None, &wanted).after,
            // What is being deleted answers for what will be made after it.
            Err(error) if dry_run && live.is_none() && (error.is_conflict() || !immutable(&error).is_empty()) => predict(None, &wanted).after,
            Err(error) => return Err(refused(error)),
        };
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        let mut found = Vec::new();
        if dry_run {
            let schema = self.schema(id).await;
            found = changes_by(live.as_ref(), &after, self.hiding(), &change.sensitive, schema.as_ref());
        }
        forces(&mut found, &fixed);
        let outcome = match &live {
            None => Outcome::Created,
            Some(_) if dry_run && found.is_empty() && fixed.is_empty() => Outcome::Unchanged,
            Some(live) if !dry_run && version(live) == version(&after) => Outcome::Unchanged,
            Some(_) => Outcome::Configured,
        };
        Ok(Applied { id: id.clone(), outcome, changes: found, fixed, object: after, before: live, origin: change.origin.clone(), left })
    }

    /// The schema of a kind of custom resources: of the plan, else of the cluster, as far as it may be read. Without it lists are compared by the names that items usually have.
    async fn schema(&self, id: &ObjectId) -> Option<Value> {
        if strake_kinds::by_kind(&id.api_version(), &id.kind).is_some() {
            return None;
        }
        let mut known = self.schemas.lock().await;
        if known.is_empty() {
            known.extend(predict::schemas(self.plan).into_iter().map(|(kind, schema)| (kind, Some(schema))));
        }
        let key = (id.group.clone(), id.version.clone(), id.kind.clone());
        if let Some(schema) = known.get(&key) {
            return schema.clone();
        }
        let definitions = Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false);
        let read = self.client.get(&definitions, None, &format!("{}.{}", id.resource, id.group)).await.ok().flatten();
        let schema = read.and_then(|mut definition| {
            definition["kind"] = "CustomResourceDefinition".into();
            definition["apiVersion"] = "apiextensions.k8s.io/v1".into();
            structural::schemas(std::iter::once(&definition)).remove(&key)
        });
        known.insert(key, schema.clone());
        schema
    }

    /// The object as the cluster has it and will go on having it. What is being deleted takes what is applied to it and goes all the same: it counts as gone, and its end is waited for.
    async fn staying(&self, change: &Change, dry_run: bool) -> Result<Option<Value>, ApplyError> {
        let (id, resource) = (&change.id, resource(&change.id));
        let limit = self.options.wait.unwrap_or(REPLACE);
        let end = tokio::time::Instant::now() + limit;
        let mut told = false;
        loop {
            let live = self.client.get(&resource, namespace(id), &id.name).await;
            let live = live.map_err(|source| ApplyError::Refused { object: id.to_string(), origin: change.origin.clone(), source })?;
            if live.as_ref().is_none_or(|live| live["metadata"]["deletionTimestamp"].is_null()) {
                return Ok(live);
            }
            if dry_run {
                return Ok(None);
            }
            if tokio::time::Instant::now() > end {
                return Err(ApplyError::Lingering { objects: format!("{id}, which somebody has deleted"), seconds: limit.as_secs() });
            }
            if !std::mem::replace(&mut told, true) {
                (self.events)(Event::Waiting { id: id.clone(), reason: "one of this name is being deleted, and made anew when it is gone".to_owned() });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What is made anew without being asked when it cannot be changed: a Job of the set holds nothing but its own past.
    fn is_run_anew(&self, change: &Change, live: Option<&Value>) -> bool {
        change.id.kind == "Job" && change.id.group == "batch" && (self.options.adopt || live.and_then(inventory::set_of) == Some(self.set_id().as_str()))
    }

    /// Deletes the object that was looked at, waits until it is gone, and makes the wanted one.
    pub(crate) async fn replace(&self, change: &Change, live: Option<&Value>, wanted: &Value) -> Result<Value, ApplyError> {
        let (id, resource) = (&change.id, resource(&change.id));
        let refused = |source| ApplyError::Refused { object: id.to_string(), origin: change.origin.clone(), source };
        if let Some(live) = live {
            self.noted(|journal| journal.replacing.push(journal::key(id))).await?;
            self.remove(id, live).await?;
        }
        let patch = Patch::Apply { object: crate::send::as_sent(id, wanted), manager: MANAGER.to_owned(), force: self.options.force_conflicts };
        let made = self.client.patch(&resource, namespace(id), &id.name, &patch, None, &WriteParams::default()).await.map_err(refused)?;
        Ok(made)
    }

    /// Deletes exactly this object, with what it owns, and waits until it is gone.
    pub(crate) async fn remove(&self, id: &ObjectId, live: &Value) -> Result<(), ApplyError> {
        let resource = resource(id);
        let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
        // Pods of a Job that is run again must not run beside the new ones.
        let propagation = is_runnable(id).then_some(Propagation::Foreground);
        let params = DeleteParams { uid: Some(uid.to_owned()), propagation, ..DeleteParams::default() };
        match self.client.delete(&resource, namespace(id), &id.name, &params).await {
            Err(error) if !error.is_not_found() => return Err(ApplyError::Delete { object: id.to_string(), source: error }),
            _ => {}
        }
        let end = tokio::time::Instant::now() + REPLACE;
        loop {
            let there = self.client.get(&resource, namespace(id), &id.name).await;
            let there = there.map_err(|source| ApplyError::Read { what: id.to_string(), source })?;
            if there.is_none_or(|there| there["metadata"]["uid"].as_str() != Some(uid)) {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                return Err(ApplyError::Lingering { objects: id.to_string(), seconds: REPLACE.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Marks the changes for which an object has to be made anew.
pub(crate) fn forces(changes: &mut [FieldChange], fixed: &[String]) {
    let is = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    for change in changes {
        change.forces_replacement = fixed.iter().any(|path| is(&change.path, path) || is(path, &change.path));
    }
}

/// An error with what caused it, and each field that the server names.
fn told(error: &ApplyError) -> String {
    let mut text = error.to_string();
    if let ApplyError::Refused { source, .. } = error {
        text = format!("{text}: {source}");
    }
    text
}

/// Something that runs to an end.
pub(crate) fn is_runnable(id: &ObjectId) -> bool {
    matches!((id.group.as_str(), id.kind.as_str()), ("batch", "Job") | ("", "Pod"))
}
