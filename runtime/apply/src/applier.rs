//! Applies a plan: inventory first, then the objects as soon as what they need is there, then health, then prune.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use serde_json::Value;
use strake_client::{Client, ClientError, DeleteParams, ListParams, Patch, Resource, WriteParams};
use strake_kinds::KindInfo;
use strake_plan::{Change, ChangeId, DeployPlan, ObjectId};

use crate::changes::{FieldChange, changes};
use crate::inventory::{self, Scope};
use crate::{ApplyError, Event, Outcome};

/// The field manager of everything strake applies.
pub const MANAGER: &str = "strake";
/// Objects applied at once.
const CONCURRENCY: usize = 8;
/// Deletions beyond this share of the set (and more than [`FREE_DELETIONS`]) need consent.
const MASS_DELETE_PERCENT: usize = 30;
const FREE_DELETIONS: usize = 5;

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
}

impl Default for Options {
    fn default() -> Self {
        Options { force_conflicts: false, prune: true, allow_mass_delete: false, replace: false, wait: Some(Duration::from_secs(600)) }
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

/// The resource of `Kind.group`, among the kinds strake knows.
fn resource_of_group_kind(text: &str) -> Option<Resource> {
    let (kind, group) = text.split_once('.').unwrap_or((text, ""));
    let found: &KindInfo = strake_kinds::table().iter().find(|row| row.kind == kind && row.group == group)?;
    Some(Resource::new(found.group, found.version, found.plural, found.kind, found.namespaced))
}

/// The managers that a conflict names, when all of them are what people do by hand: the directory is the truth then, and taking the fields back is what
/// the user means. Controllers (an autoscaler, an injector) are never overruled without being told to.
fn overruled(error: &ClientError) -> Option<Vec<String>> {
    let details = error.status().filter(|_| error.is_conflict())?.details.as_ref()?;
    let manager = |message: &str| message.split('"').nth(1).map(str::to_owned);
    let managers: Option<BTreeSet<String>> = details.causes.iter().map(|cause| manager(&cause.message)).collect();
    let managers = managers.filter(|managers| !managers.is_empty() && managers.iter().all(|name| is_human(name)))?;
    Some(managers.into_iter().collect())
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

/// Tools that people drive by hand.
fn is_human(manager: &str) -> bool {
    ["kubectl", "strake-cli", "k9s", "rancher"].iter().any(|tool| manager == *tool || manager.strip_prefix(tool).is_some_and(|rest| rest.starts_with('-')))
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
            let met = |change: &Change| change.after.iter().all(|ChangeId(place)| done.contains_key(place));
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

    /// The set that has the object, when it is another one that still exists: applying would take the object out of it in silence.
    async fn other_owner(&self, live: Option<&Value>) -> Result<Option<String>, ApplyError> {
        let own = self.set_id();
        let Some(other) = live.and_then(inventory::set_of).filter(|set| *set != own && !self.options.force_conflicts) else { return Ok(None) };
        let parents = self.client.list(&Resource::SECRETS, None, &ListParams::labels(inventory::parent_selector(other))).await;
        let parents = parents.map_err(|source| ApplyError::Read { what: "inventories".to_owned(), source })?;
        Ok(parents.items.iter().find_map(|parent| inventory::set_name(parent).map(str::to_owned)))
    }

    /// Members of the set that are no longer in the plan.
    async fn orphans(&self, scope: &Scope, report: &Report) -> Result<Vec<(ObjectId, Value, Resource)>, ApplyError> {
        let applied: BTreeSet<&str> = report.applied.iter().filter_map(|applied| applied.object["metadata"]["uid"].as_str()).collect();
        let planned: BTreeSet<(String, &str, &str)> =
            self.plan.changes.iter().map(|change| (inventory::group_kind(&change.id), change.id.namespace.as_str(), change.id.name.as_str())).collect();
        let members = self.members(scope).await?;
        let gone = |(id, member, _): &(ObjectId, Value, Resource)| {
            let uid = member["metadata"]["uid"].as_str().unwrap_or_default();
            !applied.contains(uid) && !planned.contains(&(inventory::group_kind(id), id.namespace.as_str(), id.name.as_str()))
        };
        Ok(members.into_iter().filter(gone).collect())
    }

    /// Everything that carries the set's label.
    pub(crate) async fn members(&self, scope: &Scope) -> Result<Vec<(ObjectId, Value, Resource)>, ApplyError> {
        let params = ListParams { label_selector: Some(format!("{}={}", inventory::PART_OF, self.set_id())), ..ListParams::default() };
        let mut members = Vec::new();
        for group_kind in &scope.group_kinds {
            let planned = || self.plan.changes.iter().map(|change| &change.id).find(|id| inventory::group_kind(id) == *group_kind).map(resource);
            let Some(resource) = resource_of_group_kind(group_kind).or_else(planned) else {
                // What such a kind's resource is called only its definition says.
                tracing::warn!("objects of kind {group_kind} that left the set are not looked for: strake does not know this kind; delete them by hand");
                continue;
            };
            let listed = self.client.list(&resource, None, &params).await;
            let items = match listed {
                Ok(list) => list.items,
                Err(error) if error.is_not_found() => continue,
                Err(source) => return Err(ApplyError::Read { what: group_kind.clone(), source }),
            };
            for item in items {
                let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
                let id = ObjectId {
                    group: resource.group.to_string(),
                    version: resource.version.to_string(),
                    kind: resource.kind.to_string(),
                    resource: resource.plural.to_string(),
                    namespace: if resource.namespaced { text("namespace") } else { String::new() },
                    name: text("name"),
                };
                members.push((id, item, resource.clone()));
            }
        }
        Ok(members)
    }

    async fn prune(&self, orphans: Vec<(ObjectId, Value, Resource)>, report: &mut Report) -> Result<(), ApplyError> {
        let mut doomed = Vec::new();
        for (id, member, resource) in orphans {
            match inventory::protected(&member) {
                Some(reason) => report.kept.push((id, reason.to_owned())),
                None => doomed.push((id, member, resource)),
            }
        }
        let total = doomed.len() + self.plan.changes.len();
        if doomed.len() > FREE_DELETIONS && doomed.len() * 100 > total * MASS_DELETE_PERCENT && !self.options.allow_mass_delete {
            return Err(ApplyError::MassDelete { pruned: doomed.len(), total });
        }
        for (id, member, resource) in doomed {
            self.delete(&id, &member, &resource).await?;
            (self.events)(Event::Pruned { id: id.clone() });
            report.pruned.push(id);
        }
        Ok(())
    }

    /// Deletes exactly this object, not one of the same name made since.
    pub(crate) async fn delete(&self, id: &ObjectId, member: &Value, resource: &Resource) -> Result<(), ApplyError> {
        let params = DeleteParams { uid: member["metadata"]["uid"].as_str().map(str::to_owned), ..Default::default() };
        match self.client.delete(resource, namespace(id), &id.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(source) => Err(ApplyError::Delete { object: id.to_string(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_human;

    #[test]
    fn people_are_overruled_and_controllers_are_not() {
        for human in ["kubectl", "kubectl-client-side-apply", "kubectl-edit", "strake-cli", "k9s"] {
            assert!(is_human(human), "{human}");
        }
        for controller in ["kube-controller-manager", "horizontal-pod-autoscaler", "strake", "strake-controller-manager", "kubectlish"] {
            assert!(!is_human(controller), "{controller}");
        }
    }
}
