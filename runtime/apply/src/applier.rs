//! Applies a plan: inventory first, then the objects as soon as what they need is there, then health, then prune.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use serde_json::Value;
use strake_client::{Client, ClientError, Patch, Resource, WriteParams};
use strake_plan::{Change, DeployPlan, ObjectId};

use crate::changes::{FieldChange, changes};
use crate::inventory::{self, Scope};
use crate::ownership::overruled;
use crate::{ApplyError, Event, Outcome};

/// The field manager of everything strake applies.
pub const MANAGER: &str = "strake";
/// Objects applied at once.
const CONCURRENCY: usize = 8;

/// How long the end of an object that is replaced may take.
const REPLACE: Duration = Duration::from_secs(120);

/// How to apply.
#[derive(Clone, Debug)]
pub struct Options {
    /// Take fields over that others own.
    pub force_conflicts: bool,
    /// Delete what left the set.
    pub prune: bool,
    /// Delete even most of the set.
    pub allow_mass_delete: bool,
    /// Delete and make anew what has a field that differs and cannot be changed.
    pub replace: bool,
    /// Wait for health; `None` does not wait.
    pub wait: Option<Duration>,
    /// What is written into the set's history; `None` writes nothing.
    pub note: Option<crate::Note>,
}

impl Default for Options {
    fn default() -> Self {
        Options { force_conflicts: false, prune: true, allow_mass_delete: false, replace: false, wait: Some(Duration::from_secs(600)), note: None }
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
    let fixed = |message: &str| message.contains("immutable") || message.contains("may not be changed") || message.contains("may not change");
    if causes.is_empty() || !causes.iter().all(|cause| fixed(&cause.message)) {
        return Vec::new();
    }
    causes.iter().map(|cause| cause.field.clone()).collect()
}

impl<'a> Applier<'a> {
    /// Prepares; nothing is sent yet.
    pub fn new(client: &'a Client, plan: &'a DeployPlan, options: Options, events: &'a (dyn Fn(Event) + Sync)) -> Self {
        Applier { client, plan, options, events }
    }

    /// Applies the plan and waits for health.
    ///
    /// # Errors
    /// The first refusal stops what depends on it; objects that do not get ready are reported together with why. Prune happens only after everything is ready.
    pub async fn apply(&self) -> Result<Report, ApplyError> {
        let begun = self.begin_revision().await?;
        let result = self.apply_now().await;
        let told = self.end_revision(begun, &result).await;
        result.and_then(|report| told.map(|()| report))
    }

    async fn apply_now(&self) -> Result<Report, ApplyError> {
        let before = self.scope().await?;
        let now = Scope::of(self.plan);
        let mut report = Report { applied: self.objects(false).await?, ..Report::default() };
        let members = if self.options.prune { self.orphans(&before, &report).await? } else { Vec::new() };
        self.write_scope(&before.union(&now), &before, report.unchanged()).await?;
        if let Some(timeout) = self.options.wait {
            self.wait(&report.applied, timeout).await?;
        }
        self.prune(members, &mut report).await?;
        if self.options.prune && before != now {
            self.write_scope(&now, &before.union(&now), false).await?;
        }
        Ok(report)
    }

    /// What [`Applier::apply`] would do, by the server's dry run.
    ///
    /// # Errors
    /// As apply; an object whose namespace does not exist yet counts as new.
    pub async fn diff(&self) -> Result<Report, ApplyError> {
        let before = self.scope().await?;
        let mut report = Report { applied: self.objects(true).await?, ..Report::default() };
        for (id, member, _) in self.orphans(&before, &report).await? {
            match inventory::protected(&member) {
                Some(reason) => report.kept.push((id, reason.to_owned())),
                None => report.pruned.push(id),
            }
        }
        Ok(report)
    }

    pub(crate) fn set_id(&self) -> String {
        inventory::set_id(&self.plan.set, &self.plan.namespace)
    }

    pub(crate) async fn scope(&self) -> Result<Scope, ApplyError> {
        let name = inventory::parent_name(&self.plan.set);
        let read = self.client.get(&Resource::SECRETS, Some(&self.plan.namespace), &name).await;
        let parent = read.map_err(|source| ApplyError::Read { what: format!("inventory {name}"), source })?;
        match parent {
            None => Ok(Scope::default()),
            Some(parent) => Scope::read(&parent).ok_or(ApplyError::ForeignInventory(name)),
        }
    }

    async fn write_scope(&self, scope: &Scope, known: &Scope, unchanged: bool) -> Result<(), ApplyError> {
        if scope == known && unchanged {
            return Ok(());
        }
        let parent = scope.parent(&self.plan.set, &self.plan.namespace);
        let name = inventory::parent_name(&self.plan.set);
        let patch = Patch::Apply { object: parent, manager: MANAGER.to_owned(), force: true };
        let sent = self.client.patch(&Resource::SECRETS, Some(&self.plan.namespace), &name, &patch, None, &WriteParams::default()).await;
        sent.map_err(|source| ApplyError::Refused { object: format!("inventory {name}"), origin: "strake".to_owned(), source })?;
        Ok(())
    }

    /// Applies every object as soon as those it depends on are there.
    async fn objects(&self, dry_run: bool) -> Result<Vec<Applied>, ApplyError> {
        let changes = &self.plan.changes;
        let mut waiting: BTreeSet<usize> = (0..changes.len()).collect();
        let mut done: BTreeMap<usize, Applied> = BTreeMap::new();
        let mut running = FuturesUnordered::new();
        loop {
            let free = CONCURRENCY.saturating_sub(running.len());
            let met = |change: &Change| change.after.iter().all(|edge| done.contains_key(&edge.change.0));
            let next: Vec<usize> = waiting.iter().copied().filter(|place| met(&changes[*place])).take(free).collect();
            for place in next {
                waiting.remove(&place);
                running.push(async move { (place, self.object(&changes[place], dry_run).await) });
            }
            let Some((place, result)) = running.next().await else { break };
            let applied = result?;
            if !dry_run {
                (self.events)(Event::Applied { id: applied.id.clone(), outcome: applied.outcome });
            }
            done.insert(place, applied);
        }
        Ok(done.into_values().collect())
    }

    async fn object(&self, change: &Change, dry_run: bool) -> Result<Applied, ApplyError> {
        let id = &change.id;
        let resource = resource(id);
        let refused = |source| ApplyError::Refused { object: id.to_string(), origin: change.origin.clone(), source };
        let live = self.client.get(&resource, namespace(id), &id.name).await.map_err(refused)?;
        if let Some(set) = self.other_owner(live.as_ref()).await? {
            return Err(ApplyError::OfAnotherSet { object: id.to_string(), origin: change.origin.clone(), set });
        }
        let wanted = inventory::labelled(&change.object, &self.set_id());
        let params = WriteParams { dry_run, ..WriteParams::default() };
        let patch = |force| Patch::Apply { object: wanted.clone(), manager: MANAGER.to_owned(), force };
        let mut sent = self.client.patch(&resource, namespace(id), &id.name, &patch(self.options.force_conflicts), None, &params).await;
        if let Some(managers) = sent.as_ref().err().and_then(overruled) {
            sent = self.client.patch(&resource, namespace(id), &id.name, &patch(true), None, &params).await;
            if !dry_run {
                (self.events)(Event::Overruled { id: id.clone(), managers });
            }
        }
        let mut fixed = Vec::new();
        let after = match sent {
            Ok(after) => after,
            // It would have to be deleted and made anew.
            Err(error) if live.is_some() && !immutable(&error).is_empty() && (dry_run || self.options.replace) => {
                fixed = immutable(&error);
                if dry_run { wanted } else { self.replace(change, live.as_ref(), &wanted).await? }
            }
            // Its namespace is made by the same apply.
            Err(error) if dry_run && live.is_none() && error.is_not_found() => wanted,
            Err(error) => return Err(refused(error)),
        };
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        let found = if dry_run { changes(live.as_ref(), &after) } else { Vec::new() };
        let outcome = match &live {
            None => Outcome::Created,
            Some(_) if dry_run && found.is_empty() && fixed.is_empty() => Outcome::Unchanged,
            Some(live) if !dry_run && version(live) == version(&after) => Outcome::Unchanged,
            Some(_) => Outcome::Configured,
        };
        Ok(Applied { id: id.clone(), outcome, changes: found, fixed, object: after, before: live, origin: change.origin.clone() })
    }

    /// Deletes the object that was looked at, waits until it is gone, and makes the wanted one.
    async fn replace(&self, change: &Change, live: Option<&Value>, wanted: &Value) -> Result<Value, ApplyError> {
        let (id, resource) = (&change.id, resource(&change.id));
        let refused = |source| ApplyError::Refused { object: id.to_string(), origin: change.origin.clone(), source };
        let uid = live.and_then(|live| live["metadata"]["uid"].as_str()).unwrap_or_default();
        self.delete(id, live.unwrap_or(&Value::Null), &resource).await?;
        let end = tokio::time::Instant::now() + REPLACE;
        loop {
            let there = self.client.get(&resource, namespace(id), &id.name).await.map_err(refused)?;
            if there.is_none_or(|there| there["metadata"]["uid"].as_str() != Some(uid)) {
                break;
            }
            if tokio::time::Instant::now() > end {
                return Err(ApplyError::Lingering { objects: id.to_string(), seconds: REPLACE.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let patch = Patch::Apply { object: wanted.clone(), manager: MANAGER.to_owned(), force: self.options.force_conflicts };
        self.client.patch(&resource, namespace(id), &id.name, &patch, None, &WriteParams::default()).await.map_err(refused)
    }
}
