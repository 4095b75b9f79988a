//! Takes a set away again: in the reverse of the order in which it was applied, each step gone before the next begins.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use strake_client::{DeleteParams, Propagation, Resource};
use strake_plan::{DeployPlan, ObjectId, Occasion};

use crate::applier::{namespace, resource};
use crate::deletion::{rank, waves};
use crate::inventory::{self, MemberKey, Scope, parent_name, protected};
use crate::prune::Orphan;
use crate::{Applier, ApplyError, Event, history};

/// How often to look whether the objects are gone.
const LOOK: Duration = Duration::from_millis(50);

/// How many objects are named that keep a namespace.
const SHOWN: usize = 3;

/// What [`Applier::down`](crate::Applier::down) removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Removed {
    /// In the order in which they went.
    pub deleted: Vec<ObjectId>,
    /// What stays, with why.
    pub kept: Vec<(ObjectId, String)>,
    /// What carried the set's mark and stays for good: it is no member any more, with why.
    pub released: Vec<(ObjectId, String)>,
    /// How many revisions of its history went.
    pub revisions: usize,
    /// Whether the set was known at all.
    pub known: bool,
    /// The namespace that the set lives in, when it is to go with it: after the lock, which is in it.
    #[serde(skip)]
    pub(crate) home: Option<(ObjectId, Value, Resource)>,
}

impl Applier<'_> {
    /// Deletes the members of the set, what needs others before what it needs, waits for each step until it is gone, then deletes the history and the inventory. What
    /// holds data or objects of others is deleted with `protected_too` only; else it stays, and the inventory with it.
    ///
    /// # Errors
    /// Objects that stay beyond `timeout` are named; history and inventory then stay too, so that the same command can be repeated.
    pub(crate) async fn take_down(&self, timeout: Duration, protected_too: bool) -> Result<Removed, ApplyError> {
        let started = Instant::now();
        let name = parent_name(&self.plan.set);
        let read = self.client.get(&Resource::SECRETS, Some(&self.plan.namespace), &name).await;
        let there = read.map_err(|source| ApplyError::Read { what: format!("inventory {name}"), source })?.is_some();
        let (scope, past) = self.parent().await?;
        // Hooks that have run are noted in it.
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = past.filter(|_| there);
        let revisions = self.revisions();
        let entries = revisions.list().await?;
        let applied = match history::deployed(&entries).or(entries.last()) {
            // Without it the kinds say enough.
            Some(entry) => revisions.plan(entry).await.unwrap_or_default(),
            None => DeployPlan::default(),
        };
        let mut removed = Removed { known: there || !entries.is_empty(), ..Removed::default() };
        let mut going: Vec<(ObjectId, Value, Resource)> = Vec::new();
        for (id, mut member, resource) in self.members(&scope).await? {
            // Lists leave out what all of their items are.
            member["kind"] = Value::from(id.kind.clone());
            if let Some(why) = stranger(&scope, &id, &member) {
                self.release(&Orphan { id: id.clone(), object: member }).await?;
                removed.released.push((id, why.to_owned()));
                continue;
            }
            // What is in a namespace is looked at when the rest is gone.
            let looked_at_later = id.kind == "Namespace" && id.group.is_empty();
            match protected(&member).filter(|_| !looked_at_later && !protected_too) {
                Some(why) => removed.kept.push((id, why.to_owned())),
                None => going.push((id, member, resource)),
            }
        }
        let order = waves(&going.iter().map(|(id, member, _)| (id, member)).collect::<Vec<_>>(), &applied);
        let mut going: Vec<Option<(ObjectId, Value, Resource)>> = going.into_iter().map(Some).collect();
        self.occasion(&applied.occasions, Occasion::PreDelete).await?;
        for wave in order {
            let mut members: Vec<(ObjectId, Value, Resource)> = wave.members.iter().filter_map(|place| going.get_mut(*place)?.take()).collect();
            if !protected_too {
                self.spare_namespaces(&mut members, &mut removed.kept).await?;
            }
            if let Some(place) = members.iter().position(|(id, ..)| id.kind == "Namespace" && id.group.is_empty() && id.name == self.plan.namespace) {
                removed.home = Some(members.remove(place));
            }
            for (id, member, resource) in &members {
                self.delete_with_dependents(id, member, resource).await?;
            }
            let ids: Vec<ObjectId> = members.into_iter().map(|(id, ..)| id).collect();
            self.gone(&ids, timeout.saturating_sub(started.elapsed()), timeout).await?;
            removed.deleted.extend(ids);
        }
        // Before the history goes, which knows of them.
        self.occasion(&applied.occasions, Occasion::PostDelete).await?;
        removed.revisions = revisions.forget_all().await?;
        if removed.kept.is_empty() {
            match self.client.delete(&Resource::SECRETS, Some(&self.plan.namespace), &name, &DeleteParams::default()).await {
                Err(error) if !error.is_not_found() => return Err(ApplyError::Delete { object: format!("inventory {name}"), source: error }),
                _ => {}
            }
        }
        Ok(removed)
    }

    /// Deletes the namespace that the set lived in.
    pub(crate) async fn leave_home(&self, removed: &mut Removed, timeout: Duration) -> Result<(), ApplyError> {
        let Some((id, member, resource)) = removed.home.take() else { return Ok(()) };
        self.delete_with_dependents(&id, &member, &resource).await?;
        self.gone(std::slice::from_ref(&id), timeout, timeout).await?;
        removed.deleted.push(id);
        Ok(())
    }

    /// Namespaces in which something else is stay: whoever deletes a set does not mean what others have put beside it.
    async fn spare_namespaces(&self, members: &mut Vec<(ObjectId, Value, Resource)>, kept: &mut Vec<(ObjectId, String)>) -> Result<(), ApplyError> {
        let mut staying = Vec::new();
        for (id, ..) in members.iter().filter(|(id, ..)| id.kind == "Namespace" && id.group.is_empty()) {
            let others = self.others_in(&id.name).await?;
            if !others.is_empty() {
                let rest = others.len().saturating_sub(SHOWN);
                let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
                let named: Vec<String> = others.into_iter().take(SHOWN).collect();
                staying.push((id.clone(), format!("holds {}{more}", named.join(", "))));
            }
        }
        members.retain(|(id, ..)| !staying.iter().any(|(other, _)| other == id));
        kept.extend(staying);
        Ok(())
    }

    /// What is in a namespace besides what the cluster puts there by itself and what goes with the set.
    async fn others_in(&self, namespace: &str) -> Result<Vec<String>, ApplyError> {
        let read = |source| ApplyError::Read { what: format!("what is in namespace {namespace}"), source };
        let groups = self.client.raw_get("/apis").await.map_err(read)?;
        let preferred = groups["groups"].as_array().into_iter().flatten().filter_map(|group| group["preferredVersion"]["groupVersion"].as_str());
        let mut found = Vec::new();
        for version in std::iter::once("v1").chain(preferred) {
            let path = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
            // An API whose server is away cannot be asked, nor can its objects be kept by us.
            let Ok(list) = self.client.raw_get(&path).await else { continue };
            for resource in list["resources"].as_array().into_iter().flatten().filter(|resource| is_listed(resource)) {
                let (plural, kind) = (resource["name"].as_str().unwrap_or_default(), resource["kind"].as_str().unwrap_or_default());
                let Ok(items) = self.client.raw_get(&format!("{path}/namespaces/{namespace}/{plural}")).await else { continue };
                let others = items["items"].as_array().into_iter().flatten().filter(|item| counts(kind, item, &self.set_id()));
                found.extend(others.map(|item| format!("{}/{}", kind.to_lowercase(), item["metadata"]["name"].as_str().unwrap_or_default())));
            }
        }
        Ok(found)
    }

    /// Deletes exactly this object; a workload is there until its pods have ended.
    async fn delete_with_dependents(&self, id: &ObjectId, member: &Value, resource: &Resource) -> Result<(), ApplyError> {
        let propagation = (rank(&id.kind) == 0).then_some(Propagation::Foreground);
        let uid = member["metadata"]["uid"].as_str().map(str::to_owned);
        match self.client.delete(resource, namespace(id), &id.name, &DeleteParams { uid, propagation, ..DeleteParams::default() }).await {
            Err(error) if !error.is_not_found() => Err(ApplyError::Delete { object: id.to_string(), source: error }),
            _ => Ok(()),
        }
    }

    async fn gone(&self, ids: &[ObjectId], left: Duration, timeout: Duration) -> Result<(), ApplyError> {
        let started = Instant::now();
        let mut waiting: Vec<&ObjectId> = ids.iter().collect();
        loop {
            let mut still = Vec::new();
            for id in waiting {
                let read = self.client.get(&resource(id), namespace(id), &id.name).await;
                match read.map_err(|source| ApplyError::Read { what: id.to_string(), source })? {
                    Some(_) => still.push(id),
                    None => (self.events)(Event::Pruned { id: id.clone() }),
                }
            }
            if still.is_empty() {
                return Ok(());
            }
            if started.elapsed() > left {
                let objects = still.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(ApplyError::Lingering { objects, seconds: timeout.as_secs() });
            }
            waiting = still;
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether a resource of an API's list has objects of its own in namespaces.
fn is_listed(resource: &Value) -> bool {
    let lists = resource["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "list") && verbs.iter().any(|verb| verb == "delete"));
    resource["namespaced"] == true && lists && !resource["name"].as_str().unwrap_or_default().contains('/')
}

/// Whether an object of a namespace is somebody's: not made by the cluster for every namespace, not owned by another object, not on its way out, not of this set.
fn counts(kind: &str, item: &Value, set_id: &str) -> bool {
    let metadata = &item["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let made = match kind {
        "Event" | "Endpoints" | "EndpointSlice" | "Lease" => true,
        "ServiceAccount" => name == "default",
        "ConfigMap" => matches!(name, "kube-root-ca.crt" | "openshift-service-ca.crt"),
        "Secret" => {
            let kind = item["type"].as_str().unwrap_or_default();
            kind == "kubernetes.io/service-account-token" || history::is_of(item, set_id) || inventory::is_parent_of(item, set_id)
        }
        _ => false,
    };
    let owned = metadata["ownerReferences"].as_array().is_some_and(|owners| !owners.is_empty());
    let member = inventory::set_of(item) == Some(set_id);
    !made && !owned && !member && metadata["deletionTimestamp"].is_null()
}

/// Why a thing with the set's mark is none of its own: strake did not make it, or its author wants to keep it.
fn stranger(scope: &Scope, id: &ObjectId, member: &Value) -> Option<&'static str> {
    if inventory::is_kept(member) {
        return Some("is marked to be kept");
    }
    // An inventory of before there were records knows of nothing.
    if scope.members.is_empty() {
        return None;
    }
    match scope.members.get(&MemberKey::of(id)) {
        None => Some("only carries the set's label: strake has not applied it"),
        Some(recorded) if !recorded.uid.is_empty() && member["metadata"]["uid"] != recorded.uid.as_str() => Some("was made anew by somebody else"),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_namespace_is_somebody_elses_when_it_holds_more_than_the_cluster_made() {
        use serde_json::json;
        let rows = [
            ("ConfigMap", json!({"metadata": {"name": "kube-root-ca.crt"}}), false),
            ("ConfigMap", json!({"metadata": {"name": "other"}}), true),
            ("ServiceAccount", json!({"metadata": {"name": "default"}}), false),
            ("Pod", json!({"metadata": {"name": "p", "ownerReferences": [{"uid": "1"}]}}), false),
            ("Pod", json!({"metadata": {"name": "p"}}), true),
            ("Pod", json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}}), false),
            ("Secret", json!({"metadata": {"name": "p", "labels": {"applyset.kubernetes.io/part-of": "id"}}}), false),
            ("Secret", json!({"metadata": {"name": "p", "labels": {"applyset.kubernetes.io/id": "id"}}}), false),
            ("Secret", json!({"metadata": {"name": "p", "labels": {"applyset.kubernetes.io/id": "other"}}}), true),
        ];
        for (kind, item, expected) in rows {
            assert_eq!(counts(kind, &item, "id"), expected, "{kind} {item}");
        }
    }

    #[test]
    fn what_strake_has_not_applied_is_not_deleted() {
        use crate::inventory::Member;
        use serde_json::json;
        let id = ObjectId { kind: "ConfigMap".into(), name: "a".into(), ..ObjectId::default() };
        let member = json!({"metadata": {"uid": "1"}});
        let with = |uid: &str| {
            let recorded = Member { uid: uid.to_owned(), ..Member::default() };
            Scope { members: BTreeMap::from([(MemberKey::of(&id), recorded)]), ..Scope::default() }
        };
        assert_eq!(stranger(&with("1"), &id, &member), None);
        assert_eq!(stranger(&with(""), &id, &member), None, "an apply that was killed");
        assert_eq!(stranger(&Scope::default(), &id, &member), None, "an old inventory");
        assert!(stranger(&with("2"), &id, &member).is_some_and(|why| why.contains("made anew")));
        let other = ObjectId { name: "b".into(), ..id.clone() };
        assert!(stranger(&with("1"), &other, &member).is_some_and(|why| why.contains("only carries")));
        let kept = json!({"metadata": {"uid": "1", "annotations": {"cli-utils.sigs.k8s.io/on-remove": "keep"}}});
        assert!(stranger(&with("1"), &id, &kept).is_some());
    }
}
