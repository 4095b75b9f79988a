//! Takes away what left the set: members by the inventory, and nothing else. [`fate`] decides, and is pure.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use strake_client::{DeleteParams, ListParams, Patch, Propagation, Resource, WriteParams};
use strake_kinds::KindInfo;
use strake_plan::{DeployPlan, ObjectId};

use crate::applier::{CONCURRENCY, MANAGER, namespace, resource};
use crate::deletion::{Wave, waves};
use crate::inventory::{self, Member, MemberKey, Scope};
use crate::{Applier, ApplyError, Event, Refused, Report, history, journal};

/// Deletions beyond this share of the set (and more than [`FREE_DELETIONS`]) need consent.
const MASS_DELETE_PERCENT: usize = 30;
const FREE_DELETIONS: usize = 5;
/// A member's annotation: `early` deletes it before anything is applied, `confirmed` is the consent that a protected kind needs, `never` keeps it.
const PRUNE: &str = "strake.dev/prune";

/// Members that left the plan.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// They go.
    pub doomed: Vec<Orphan>,
    /// They stay members: they go when somebody consents, or nothing uses them any more.
    pub still: Vec<(ObjectId, String)>,
    /// They stay, and are members no more.
    pub released: Vec<(Orphan, String)>,
}

/// A member that left the plan.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub id: ObjectId,
    pub object: Value,
}

impl Orphans {
    /// Nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.doomed.is_empty() && self.released.is_empty()
    }
}

/// What becomes of a member that left the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is deleted.
    Delete,
    /// It stays a member: with why.
    Protected(String),
    /// It stays, and is a member no more: with why.
    Release(String),
}

/// What the fate of a member depends on besides itself.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// The set's id.
    pub set: String,
    /// Uids of objects that the plan has under another name or group.
    pub applied: BTreeSet<String>,
    /// Namespaces in which the plan has objects, and that of the inventory.
    pub inhabited: BTreeSet<String>,
    /// `kind/name`, or `kind/name in namespace`: consent to delete what is protected.
    pub confirmed: BTreeSet<String>,
    /// ConfigMaps and Secrets that pods and older generations of them use: `kind/namespace/name`, with by what.
    pub used: BTreeMap<String, String>,
    /// Hooks stay.
    pub skip_hooks: bool,
}

/// What becomes of a member that left the plan: `recorded` is what the inventory knows of it, `object` what is there.
pub fn fate(recorded: &Member, id: &ObjectId, object: &Value, around: &Circumstances) -> Fate {
    let metadata = &object["metadata"];
    let uid = metadata["uid"].as_str().unwrap_or_default();
    match inventory::set_of(object) {
        Some(set) if set == around.set => {}
        Some(_) => return Fate::Release("belongs to another set now".to_owned()),
        None => return Fate::Release("was taken out of the set by hand".to_owned()),
    }
    if !recorded.uid.is_empty() && recorded.uid != uid {
        return Fate::Release("was made anew by somebody else".to_owned());
    }
    if around.applied.contains(uid) {
        return Fate::Release("is applied under another name".to_owned());
    }
    if inventory::is_kept(object) {
        return Fate::Release("is marked to be kept".to_owned());
    }
    let owner = metadata["ownerReferences"].as_array().into_iter().flatten().find(|owner| owner["controller"] == true);
    if let Some(owner) = owner {
        let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
        return Fate::Release(format!("belongs to {}/{}", text("kind").to_lowercase(), text("name")));
    }
    let managers: Vec<&str> = metadata["managedFields"].as_array().into_iter().flatten().filter_map(|entry| entry["manager"].as_str()).collect();
    if !managers.is_empty() && !managers.iter().any(|manager| [MANAGER, crate::progressive::MANAGER].contains(manager)) {
        return Fate::Release(format!("is managed by {} now", managers.join(", ")));
    }
    if around.skip_hooks && metadata["annotations"][journal::DIGEST].is_string() {
        return Fate::Protected("is a hook: the way back neither runs nor deletes it".to_owned());
    }
    if id.kind == "Namespace" && around.inhabited.contains(&id.name) {
        return Fate::Protected("holds objects of the set".to_owned());
    }
    let mut kinded = object.clone();
    kinded["kind"] = Value::from(id.kind.clone());
    if let Some(reason) = inventory::protected(&kinded).filter(|_| !is_confirmed(id, object, around)) {
        return Fate::Protected(reason.to_owned());
    }
    match around.used.get(&format!("{}/{}/{}", id.kind, id.namespace, id.name)) {
        Some(user) => Fate::Protected(format!("is used by {user}")),
        None => Fate::Delete,
    }
}

fn is_confirmed(id: &ObjectId, object: &Value, around: &Circumstances) -> bool {
    let short = format!("{}/{}", id.kind.to_lowercase(), id.name);
    let plural = format!("{}/{}", id.resource, id.name);
    let given = [id.to_string(), short, plural].iter().any(|name| around.confirmed.contains(name));
    given || object["metadata"]["annotations"][PRUNE] == "confirmed"
}

/// Whether an object is one of several generations of the same content.
fn is_generation(id: &ObjectId) -> bool {
    matches!(id.kind.as_str(), "ConfigMap" | "Secret") && id.group.is_empty() && crate::generations::base(&id.name).is_some()
}

/// The resource of `Kind.group`, among the kinds strake knows.
fn resource_of_group_kind(text: &str) -> Option<Resource> {
    let (kind, group) = text.split_once('.').unwrap_or((text, ""));
    let found: &KindInfo = strake_kinds::table().iter().find(|row| row.kind == kind && row.group == group)?;
    Some(Resource::new(found.group, found.version, found.plural, found.kind, found.namespaced))
}

impl Applier<'_> {
    /// Members that are no longer in the plan, each with what becomes of it. Only what the inventory has recorded is looked at.
    pub(crate) async fn orphans(&self, scope: &Scope, report: &Report) -> Result<Orphans, ApplyError> {
        let own = self.plan.changes.iter().map(|change| MemberKey::of(&change.id));
        let planned: BTreeSet<MemberKey> = own.chain(crate::progressive::tracks(self.plan).map(|id| MemberKey::of(&id))).collect();
        let left = scope.members.iter().filter(|(key, _)| !planned.contains(*key)).map(|(key, member)| self.look_at(key.id(member), member));
        let found: Vec<Option<(Orphan, &Member)>> = futures::stream::iter(left).buffered(CONCURRENCY).try_collect().await?;
        let found: Vec<(Orphan, &Member)> = found.into_iter().flatten().collect();
        if found.is_empty() {
            return Ok(Orphans::default());
        }
        let around = self.circumstances(report, &found).await?;
        let mut orphans = Orphans::default();
        for (orphan, member) in found {
            match fate(member, &orphan.id, &orphan.object, &around) {
                Fate::Delete => orphans.doomed.push(orphan),
                Fate::Protected(reason) => orphans.still.push((orphan.id, reason)),
                Fate::Release(reason) => orphans.released.push((orphan, reason)),
            }
        }
        orphans.doomed.sort_by_key(|orphan| crate::deletion::rank(&orphan.id.kind));
        Ok(orphans)
    }

    async fn look_at<'m>(&self, id: ObjectId, member: &'m Member) -> Result<Option<(Orphan, &'m Member)>, ApplyError> {
        match self.client.get(&resource(&id), namespace(&id), &id.name).await {
            Ok(found) => Ok(found.map(|object| (Orphan { id, object }, member))),
            Err(source) => Err(ApplyError::Read { what: id.to_string(), source }),
        }
    }

    async fn circumstances(&self, report: &Report, found: &[(Orphan, &Member)]) -> Result<Circumstances, ApplyError> {
        let uids = report.applied.iter().filter_map(|applied| applied.object["metadata"]["uid"].as_str().map(str::to_owned));
        let inhabited = self.plan.changes.iter().map(|change| change.id.namespace.clone()).chain([self.plan.namespace.clone()]);
        let mut around = Circumstances {
            set: self.set_id(),
            applied: uids.collect(),
            inhabited: inhabited.collect(),
            confirmed: self.options.confirmed.iter().cloned().collect(),
            used: BTreeMap::new(),
            skip_hooks: self.options.skip_hooks,
        };
        let namespaces: BTreeSet<&str> = found.iter().filter(|(orphan, _)| is_generation(&orphan.id)).map(|(orphan, _)| orphan.id.namespace.as_str()).collect();
        for namespace in namespaces {
            self.users(namespace, &mut around.used).await?;
        }
        let left = found.iter().map(|(orphan, _)| (&orphan.id, &orphan.object));
        for key in crate::generations::youngest(self.plan.changes.iter().map(|change| &change.id), left) {
            around.used.entry(key).or_insert_with(|| crate::generations::USER.to_owned());
        }
        Ok(around)
    }

    /// What uses the ConfigMaps and Secrets of a namespace: pods, and the generations of workloads that can be gone back to.
    async fn users(&self, namespace: &str, used: &mut BTreeMap<String, String>) -> Result<(), ApplyError> {
        let revisions = Resource::new("apps", "v1", "controllerrevisions", "ControllerRevision", true);
        for (resource, optional) in [(Resource::PODS, false), (Resource::REPLICA_SETS, false), (revisions, true)] {
            let items = match self.client.list(&resource, Some(namespace), &ListParams::all()).await {
                Ok(list) => list.items,
                // A cluster without the kind has nothing of it.
                Err(error) if optional || error.is_not_found() => continue,
                Err(source) => return Err(ApplyError::Read { what: resource.plural.to_string(), source }),
            };
            for mut item in items {
                let user = format!("{}/{}", resource.kind.to_lowercase(), item["metadata"]["name"].as_str().unwrap_or_default());
                let body = match &*resource.kind {
                    "Pod" => item["spec"].take(),
                    "ReplicaSet" => item["spec"]["template"]["spec"].take(),
                    _ => item["data"]["spec"]["template"]["spec"].take(),
                };
                for (kind, name) in names_in(&body) {
                    used.insert(format!("{kind}/{namespace}/{name}"), user.clone());
                }
            }
        }
        Ok(())
    }

    /// Everything that carries the set's label.
    pub(crate) async fn members(&self, scope: &Scope) -> Result<Vec<(ObjectId, Value, Resource)>, ApplyError> {
        let params = ListParams { label_selector: Some(format!("{}={}", inventory::PART_OF, self.set_id())), ..ListParams::default() };
        let mut members = Vec::new();
        for group_kind in &scope.group_kinds {
            let recorded = || scope.members.iter().find(|(key, _)| key.group_kind == *group_kind).map(|(key, member)| resource(&key.id(member)));
            let Some(resource) = resource_of_group_kind(group_kind).or_else(recorded) else { continue };
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

    /// Whether this many members may go.
    ///
    /// # Errors
    /// They are most of the set, or nothing else is left of it, and nobody has said that this is meant.
    pub fn may_prune(&self, doomed: usize) -> Result<(), ApplyError> {
        let total = doomed + self.plan.changes.len();
        let many = doomed > FREE_DELETIONS && doomed * 100 > total * MASS_DELETE_PERCENT;
        match self.options.allow_mass_delete {
            false if doomed > 0 && self.plan.changes.is_empty() => Err(ApplyError::Empty(doomed)),
            false if many => Err(ApplyError::MassDelete { pruned: doomed, total }),
            _ => Ok(()),
        }
    }

    /// Before anything is applied: refuses to delete most of the set, and finds what is marked to go early, because it holds what the new objects need.
    pub(crate) async fn early(&self, scope: &Scope, report: &Report) -> Result<Vec<Orphan>, ApplyError> {
        if !self.options.prune {
            return Ok(Vec::new());
        }
        let orphans = self.orphans(scope, report).await?;
        self.may_prune(orphans.doomed.len())?;
        Ok(orphans.doomed.into_iter().filter(|orphan| orphan.object["metadata"]["annotations"][PRUNE] == "early").collect())
    }

    /// Deletes what goes early, and waits until it is gone.
    pub(crate) async fn prune_early(&self, early: Vec<Orphan>, report: &mut Report) -> Result<(), ApplyError> {
        for orphan in &early {
            self.remove(&orphan.id, &orphan.object).await?;
            self.tell_pruned(orphan, report);
        }
        Ok(())
    }

    /// What pruning would do.
    pub(crate) async fn rehearse_prune(&self, scope: &Scope, report: &mut Report) -> Result<(), ApplyError> {
        let orphans = self.orphans(scope, report).await?;
        if let Err(error) = self.may_prune(orphans.doomed.len()) {
            report.refused.push(Refused { id: None, origin: String::new(), message: error.to_string() });
        }
        for orphan in orphans.doomed {
            report.pruned.push(orphan.id);
            report.gone.push(orphan.object);
        }
        report.kept.extend(orphans.released.into_iter().map(|(orphan, reason)| (orphan.id, reason)));
        for (id, reason) in orphans.still {
            report.still.push(id.clone());
            report.kept.push((id, reason));
        }
        Ok(())
    }

    fn tell_pruned(&self, orphan: &Orphan, report: &mut Report) {
        (self.events)(Event::Pruned { id: orphan.id.clone() });
        report.pruned.push(orphan.id.clone());
        report.gone.push(orphan.object.clone());
    }

    /// Takes away what left the set; after everything else is healthy.
    pub(crate) async fn prune(&self, orphans: Orphans, report: &mut Report) -> Result<(), ApplyError> {
        self.may_prune(orphans.doomed.len())?;
        let order = if orphans.doomed.len() > 1 {
            self.order_of(&orphans.doomed).await?
        } else {
            vec![Wave { members: (0..orphans.doomed.len()).collect(), is_awaited: false }]
        };
        for wave in order {
            for orphan in wave.members.iter().filter_map(|place| orphans.doomed.get(*place)) {
                if wave.is_awaited {
                    self.remove(&orphan.id, &orphan.object).await?;
                } else {
                    self.delete(&orphan.id, &orphan.object, &resource(&orphan.id)).await?;
                }
                self.tell_pruned(orphan, report);
            }
        }
        for (orphan, reason) in orphans.released {
            self.release(&orphan).await?;
            report.kept.push((orphan.id, reason));
        }
        for (id, reason) in orphans.still {
            report.still.push(id.clone());
            report.kept.push((id, reason));
        }
        Ok(())
    }

    /// In which order members go: the reverse of that in which they were deployed last.
    async fn order_of(&self, doomed: &[Orphan]) -> Result<Vec<Wave>, ApplyError> {
        let revisions = self.revisions();
        let entries = revisions.list().await?;
        let applied = match history::deployed(&entries) {
            // Without it the kinds say enough.
            Some(entry) => revisions.plan(entry).await.unwrap_or_default(),
            None => DeployPlan::default(),
        };
        Ok(waves(&doomed.iter().map(|orphan| (&orphan.id, &orphan.object)).collect::<Vec<_>>(), &applied))
    }

    /// Takes the set's mark off an object that stays.
    pub(crate) async fn release(&self, orphan: &Orphan) -> Result<(), ApplyError> {
        if inventory::set_of(&orphan.object) != Some(self.set_id().as_str()) {
            return Ok(());
        }
        let uid = &orphan.object["metadata"]["uid"];
        let patch = Patch::Merge(json!({"metadata": {"uid": uid, "labels": {inventory::PART_OF: null}}}));
        let id = &orphan.id;
        match self.client.patch(&resource(id), namespace(id), &id.name, &patch, None, &WriteParams::manager(MANAGER)).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                Err(ApplyError::Refused { object: id.to_string(), origin: "strake".to_owned(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// Writes what the set has now: what was applied with its uids, and what has to stay a member. Without pruning nothing is forgotten.
    pub(crate) async fn record(&self, written: &Scope, report: &Report) -> Result<(), ApplyError> {
        let uids = report.applied.iter().map(|applied| (MemberKey::of(&applied.id), applied.object["metadata"]["uid"].as_str().unwrap_or_default()));
        let mut scope = Scope::of(self.plan);
        for (key, uid) in uids {
            if let Some(member) = scope.members.get_mut(&key) {
                uid.clone_into(&mut member.uid);
            }
        }
        let stays = |key: &MemberKey| !self.options.prune || report.still.iter().any(|id| MemberKey::of(id) == *key);
        let old = written.members.iter().filter(|(key, _)| stays(key) && !scope.members.contains_key(*key)).map(|(key, member)| (key.clone(), member.clone()));
        let members: BTreeMap<MemberKey, Member> = old.chain(scope.members.clone()).collect();
        let scope = Scope { key: written.key.clone(), generation: written.generation, ..Scope::with(members, &self.plan.namespace) };
        if scope == *written { Ok(()) } else { self.write_scope(&scope).await.map(drop) }
    }

    /// Deletes exactly this object, not one of the same name made since. Its pods are gone before it when somebody waits for that.
    pub(crate) async fn delete(&self, id: &ObjectId, member: &Value, resource: &Resource) -> Result<(), ApplyError> {
        let waited = self.options.wait.is_some() && crate::deletion::rank(&id.kind) == 0 && id.kind != "Pod";
        let propagation = Some(if waited { Propagation::Foreground } else { Propagation::Background });
        let params = DeleteParams { uid: member["metadata"]["uid"].as_str().map(str::to_owned), propagation, ..Default::default() };
        match self.client.delete(resource, namespace(id), &id.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(source) => Err(ApplyError::Delete { object: id.to_string(), source }),
        }
    }
}

/// The ConfigMaps and Secrets that a pod's spec names.
fn names_in(spec: &Value) -> BTreeSet<(&'static str, String)> {
    let mut names = BTreeSet::new();
    gather(spec, "", &mut names);
    names
}

fn gather(value: &Value, field: &str, names: &mut BTreeSet<(&'static str, String)>) {
    match value {
        Value::Object(map) => {
            let kind = match field {
                "configMap" | "configMapRef" | "configMapKeyRef" => Some(("ConfigMap", "name")),
                "secretRef" | "secretKeyRef" | "imagePullSecrets" => Some(("Secret", "name")),
                "secret" => Some(("Secret", if map.contains_key("secretName") { "secretName" } else { "name" })),
                _ => None,
            };
            names.extend(kind.and_then(|(kind, name)| Some((kind, map.get(name)?.as_str()?.to_owned()))));
            map.iter().for_each(|(name, value)| gather(value, name, names));
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, field, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: &str, name: &str) -> ObjectId {
        ObjectId {
            kind: kind.into(),
            version: "v1".into(),
            resource: format!("{}s", kind.to_lowercase()),
            namespace: "n".into(),
            name: name.into(),
            ..ObjectId::default()
        }
    }

    fn around() -> Circumstances {
        Circumstances { set: "s".into(), ..Circumstances::default() }
    }

    fn member(more: &Value) -> Value {
        let mut object = json!({"metadata": {"uid": "1", "labels": {inventory::PART_OF: "s"}, "managedFields": [{"manager": MANAGER}]}});
        strake_kinds::merge::json_merge(&mut object, more);
        object
    }

    fn of(kind: &str, name: &str, more: &Value, around: &Circumstances) -> Fate {
        fate(&Member { uid: "1".into(), ..Member::default() }, &id(kind, name), &member(more), around)
    }

    #[test]
    fn rule_1_only_recorded_members_go() {
        assert_eq!(of("ConfigMap", "x", &json!({}), &around()), Fate::Delete);
        let other = json!({"metadata": {"labels": {inventory::PART_OF: "other"}}});
        assert!(matches!(of("ConfigMap", "x", &other, &around()), Fate::Release(reason) if reason.contains("another set")));
        let none = json!({"metadata": {"labels": {inventory::PART_OF: null}}});
        assert!(matches!(of("ConfigMap", "x", &none, &around()), Fate::Release(reason) if reason.contains("by hand")));
        let anew = json!({"metadata": {"uid": "2"}});
        assert!(matches!(of("ConfigMap", "x", &anew, &around()), Fate::Release(reason) if reason.contains("made anew")));
        let pending = fate(&Member::default(), &id("ConfigMap", "x"), &member(&json!({})), &around());
        assert_eq!(pending, Fate::Delete, "made by an apply that did not reach its end");
        let renamed = Circumstances { applied: BTreeSet::from(["1".to_owned()]), ..around() };
        assert!(matches!(of("Deployment", "x", &json!({}), &renamed), Fate::Release(_)), "the same object in another group");
    }

    #[test]
    fn rule_2_protected_kinds_need_consent() {
        for kind in ["Namespace", "PersistentVolumeClaim", "PersistentVolume", "CustomResourceDefinition"] {
            assert!(matches!(of(kind, "x", &json!({}), &around()), Fate::Protected(_)), "{kind}");
            for word in [format!("{}/x", kind.to_lowercase()), format!("{}s/x", kind.to_lowercase()), format!("{}/x in n", kind.to_lowercase())] {
                let confirmed = Circumstances { confirmed: BTreeSet::from([word.clone()]), ..around() };
                assert_eq!(of(kind, "x", &json!({}), &confirmed), Fate::Delete, "{word}");
            }
            let annotated = json!({"metadata": {"annotations": {PRUNE: "confirmed"}}});
            assert_eq!(of(kind, "x", &annotated, &around()), Fate::Delete, "{kind}");
        }
        let claims = json!({"spec": {"volumeClaimTemplates": [{}]}});
        assert!(matches!(of("StatefulSet", "x", &claims, &around()), Fate::Protected(_)));
        assert_eq!(of("StatefulSet", "x", &json!({}), &around()), Fate::Delete);
        let inhabited = Circumstances { inhabited: BTreeSet::from(["x".to_owned()]), confirmed: BTreeSet::from(["namespace/x".to_owned()]), ..around() };
        assert!(
            matches!(of("Namespace", "x", &json!({}), &inhabited), Fate::Protected(reason) if reason.contains("objects of the set")),
            "whatever is confirmed"
        );
    }

    #[test]
    fn rule_5_what_is_marked_or_in_other_hands_is_let_go() {
        let marked = json!({"metadata": {"annotations": {"client.lifecycle.config.k8s.io/deletion": "detach"}}});
        assert!(matches!(of("ConfigMap", "x", &marked, &around()), Fate::Release(reason) if reason.contains("marked")));
        let owned = json!({"metadata": {"ownerReferences": [{"kind": "Sync", "name": "y", "controller": true}]}});
        assert!(matches!(of("ConfigMap", "x", &owned, &around()), Fate::Release(reason) if reason == "belongs to sync/y"));
        let taken = json!({"metadata": {"managedFields": [{"manager": "flux"}]}});
        assert!(matches!(of("ConfigMap", "x", &taken, &around()), Fate::Release(reason) if reason == "is managed by flux now"));
    }

    #[test]
    fn the_way_back_leaves_hooks_alone() {
        let hook = json!({"metadata": {"annotations": {journal::DIGEST: "a"}}});
        let back = Circumstances { skip_hooks: true, ..around() };
        assert!(matches!(of("Job", "migrate", &hook, &back), Fate::Protected(reason) if reason.contains("is a hook")));
        assert_eq!(of("Job", "migrate", &hook, &around()), Fate::Delete, "any other apply deletes what left the directory");
        assert_eq!(of("Job", "plain", &json!({}), &back), Fate::Delete);
    }

    #[test]
    fn rule_10_generations_stay_while_something_needs_them() {
        assert!(is_generation(&id("ConfigMap", "settings-7f2c8b4kkd")));
        assert!(!is_generation(&id("ConfigMap", "settings-production")) && !is_generation(&id("Deployment", "web-7f2c8b4kkd")));
        let used = BTreeMap::from([("ConfigMap/n/settings-7f2c8b4kkd".to_owned(), "replicaset/web-1".to_owned())]);
        let around = Circumstances { used, ..around() };
        assert_eq!(of("ConfigMap", "settings-7f2c8b4kkd", &json!({}), &around), Fate::Protected("is used by replicaset/web-1".into()));
        assert_eq!(of("ConfigMap", "settings-2222222222", &json!({}), &around), Fate::Delete);
        let spec = json!({
            "volumes": [{"name": "a", "configMap": {"name": "one"}}, {"name": "b", "secret": {"secretName": "two"}}, {"projected": {"sources": [{"secret": {"name": "three"}}, {"configMap": {"name": "four"}}]}}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "five"}}], "env": [{"valueFrom": {"secretKeyRef": {"name": "six", "key": "k"}}}]}],
            "imagePullSecrets": [{"name": "seven"}],
        });
        let names: Vec<String> = names_in(&spec).into_iter().map(|(kind, name)| format!("{kind} {name}")).collect();
        assert_eq!(names, ["ConfigMap five", "ConfigMap four", "ConfigMap one", "Secret seven", "Secret six", "Secret three", "Secret two"]);
    }
}
