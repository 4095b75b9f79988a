//! Performs rollouts as [`crate::rollout`] decides them: looks at the Deployment, the one beside it, its pods and its Services, and does the next thing, until the
//! rollout has ended. Everything that has to outlive this process is written into the cluster before it is done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use strake_client::{DeleteParams, ListParams, Patch, Propagation, Resource, WriteParams};
use strake_kinds::apply::Owner;
use strake_plan::{Change, DeployPlan, ObjectId, Rollout, Strategy};

use crate::applier::{WAIT, namespace, resource};
use crate::failure::Tally;
use crate::health::health;
use crate::lock::Lock;
use crate::rollout::{
    Action, Back, COMMAND, Checked, Command, FORMAT_VERSION, Phase, Pods, Pointing, RECORD, Record, SWITCHED, Seen, TRACK, decide, track_name,
};
use crate::{Applied, Applier, ApplyError, Blame, Event, evidence, inventory, journal};

/// The field manager of what a rollout changes for a time.
pub(crate) const MANAGER: &str = "strake-rollout";
/// The label by which a ReplicaSet's pods are told from others.
const HASH: &str = "pod-template-hash";
/// How often everything is looked at.
const LOOK: Duration = Duration::from_millis(400);

/// How soon a Service is written again.
const AGAIN: Duration = Duration::from_millis(50);

/// Who is given up for strake itself when a rollout has ended.
pub(crate) fn is_ours(owner: &Owner) -> bool {
    owner.operation == "Update" && owner.subresource.is_empty() && owner.manager == MANAGER
}

/// The names that the Deployment beside a Deployment may have.
fn track_ids(own: &ObjectId) -> impl Iterator<Item = ObjectId> + '_ {
    [Strategy::Canary, Strategy::BlueGreen].into_iter().map(|strategy| ObjectId { name: track_name(&own.name, strategy), ..own.clone() })
}

/// Deployments that rollouts of this plan may make: members of the set while they are there.
pub(crate) fn tracks(plan: &DeployPlan) -> impl Iterator<Item = ObjectId> + '_ {
    plan.changes.iter().filter(|change| change.rollout.is_some()).flat_map(|change| track_ids(&change.id).collect::<Vec<_>>())
}

/// The Deployment of the plan whose rollout has switched a Service.
pub(crate) fn switched_for<'p>(plan: &'p DeployPlan, service: &Value) -> Option<&'p Change> {
    let name = service["metadata"]["annotations"][SWITCHED].as_str()?;
    let space = service["metadata"]["namespace"].as_str().unwrap_or_default();
    plan.changes.iter().find(|change| change.rollout.is_some() && change.id.kind == "Deployment" && change.id.name == name && change.id.namespace == space)
}

/// What is looked at of a rollout.
struct View {
    own: Value,
    /// The generation of the old pods, when there is one only.
    hash: Option<String>,
    track: Option<(ObjectId, Value, Record)>,
    services: BTreeMap<String, Value>,
    seen: Seen,
}

/// What this process knows of a rollout and nobody else.
struct Memory {
    goal: Option<String>,
    own_is_new: bool,
    checked: Option<Checked>,
    tally: Option<Tally>,
    began: Instant,
    deadline: Instant,
    said: String,
    said_at: Instant,
    told: String,
    blame: Option<Blame>,
}

impl Applier<'_> {
    /// Applies a Deployment that is rolled out in steps; `true` when there is nothing left to wait for.
    ///
    /// # Errors
    /// The server refuses something, or the rollout has gone back: [`ApplyError::Unhealthy`].
    pub(crate) async fn roll_out(&self, change: &Change, rollout: &Rollout, lock: &Lock<'_>) -> Result<(Applied, bool), ApplyError> {
        loop {
            let rehearsed = self.object(change, true).await?;
            let track = self.track(&change.id).await?;
            let differs = rehearsed.changes.iter().any(|field| field.path.starts_with("spec.template")) && rehearsed.fixed.is_empty();
            let serves = rehearsed.before.as_ref().is_some_and(|live| live["spec"]["replicas"].as_i64().unwrap_or(1) > 0);
            match track {
                None if !differs || !serves || self.options.at_once => return Ok((self.object(change, false).await?, false)),
                None => self.begin_rollout(change, rollout, &rehearsed).await?,
                // Whoever is in a hurry has no steps: the own Deployment gets what is wanted as any other does.
                Some((id, _, record)) if self.options.at_once && record.phase == Phase::Advance => {
                    self.note(&id, &Record { phase: Phase::Promote, since: None, ..record }).await?;
                }
                Some(_) => {}
            }
            let goal = journal::digest(&change.object["spec"]["template"]);
            let (back, blame) = self.drive(&change.id, Some((change, &goal)), Some(lock)).await?;
            match back {
                None => {
                    let applied = self.object(change, false).await?;
                    (self.events)(Event::Ready { id: change.id.clone() });
                    return Ok((Applied { outcome: crate::Outcome::Configured, before: rehearsed.before, ..applied }, true));
                }
                Some(Back::Superseded) => {}
                Some(reason) => return Err(ApplyError::Unhealthy { blames: vec![self.blame_rollout(change, &reason, blame)] }),
            }
        }
    }

    /// Brings a rollout back that nobody drives, after somebody has said so.
    ///
    /// # Errors
    /// The server refuses something; [`ApplyError::Locked`] when an apply goes on, which then does it.
    pub async fn abort_rollout(&self, own: &ObjectId) -> Result<(), ApplyError> {
        let lock = Lock::take(self.client, &self.plan.set, &self.plan.namespace, Duration::ZERO, &|_| {}).await?;
        let result = tokio::select! {
            biased;
            () = lock.keep() => Err(ApplyError::LockLost(self.plan.set.clone())),
            result = self.drive(own, None, Some(&lock)) => result.map(drop),
        };
        lock.release().await;
        result
    }

    /// The Deployment beside this one, with the record of the rollout that goes on.
    async fn track(&self, own: &ObjectId) -> Result<Option<(ObjectId, Value, Record)>, ApplyError> {
        for id in track_ids(own) {
            let found = self.client.get(&resource(&id), namespace(&id), &id.name).await.map_err(|source| read(&id, source))?;
            let Some(found) = found.filter(|found| found["metadata"]["annotations"][RECORD].is_string()) else { continue };
            match Record::read(&found) {
                Some(record) => return Ok(Some((id, found, record))),
                None => return Err(ApplyError::RolloutUnread(id.to_string())),
            }
        }
        Ok(None)
    }

    /// Makes the Deployment for the new pods, with none of them yet.
    async fn begin_rollout(&self, change: &Change, rollout: &Rollout, rehearsed: &Applied) -> Result<(), ApplyError> {
        let Some(own) = &rehearsed.before else { return Ok(()) };
        let id = ObjectId { name: track_name(&change.id.name, rollout.strategy), ..change.id.clone() };
        let there = self.client.get(&resource(&id), namespace(&id), &id.name).await.map_err(|source| read(&id, source))?;
        if there.is_some() {
            return Err(ApplyError::RolloutName { object: change.id.to_string(), origin: change.origin.clone(), taken: id.to_string() });
        }
        let replicas = own["spec"]["replicas"].as_i64().unwrap_or(1);
        let left = self.left_alone(change, own, &change.object).await;
        let ready = own["status"]["readyReplicas"].as_i64().unwrap_or(0);
        let record = Record {
            format_version: FORMAT_VERSION,
            digest: journal::digest(&change.object["spec"]["template"]),
            track: id.name.clone(),
            rollout: rollout.clone(),
            phase: Phase::Advance,
            step: 0,
            since: None,
            replicas,
            floor: ready.min(replicas),
            scales: change.object["spec"]["replicas"].is_number() && !left.iter().any(|left| left.path == "spec.replicas"),
            services: if rollout.strategy == Strategy::BlueGreen { self.services_of(change) } else { BTreeMap::new() },
            back: None,
        };
        let object = track_object(change, own, &id.name, &self.set_id(), &record);
        let patch = Patch::Apply { object, manager: MANAGER.to_owned(), force: true };
        let sent = self.client.patch(&resource(&id), namespace(&id), &id.name, &patch, None, &WriteParams::default()).await;
        sent.map(drop).map_err(|source| ApplyError::Refused { object: id.to_string(), origin: change.origin.clone(), source })
    }

    /// The selectors of the set's Services that select a Deployment's pods.
    fn services_of(&self, change: &Change) -> BTreeMap<String, Value> {
        let labels = &change.object["spec"]["template"]["metadata"]["labels"];
        let services =
            self.plan.changes.iter().filter(|other| other.id.kind == "Service" && other.id.group.is_empty() && other.id.namespace == change.id.namespace);
        let selects = |selector: &Value| selector.as_object().is_some_and(|map| !map.is_empty() && map.iter().all(|(key, value)| labels[key] == *value));
        let found = services.filter(|service| selects(&service.object["spec"]["selector"]));
        found.map(|service| (service.id.name.clone(), service.object["spec"]["selector"].clone())).collect()
    }

    /// Does one thing after the other until the rollout has ended; gives why it went back, if it did.
    async fn drive(&self, own: &ObjectId, wanted: Option<(&Change, &String)>, lock: Option<&Lock<'_>>) -> Result<(Option<Back>, Option<Blame>), ApplyError> {
        let wait = self.options.wait.unwrap_or(WAIT);
        let mut memory = Memory {
            goal: wanted.map(|(_, goal)| goal.clone()),
            own_is_new: false,
            checked: None,
            tally: None,
            began: Instant::now(),
            deadline: Instant::now() + wait,
            said: String::new(),
            said_at: Instant::now(),
            told: String::new(),
            blame: None,
        };
        let mut back = None;
        loop {
            let view = self.look(own, &mut memory, wanted.map(|(change, _)| change)).await?;
            if let Some(lock) = lock {
                lock.check().await?;
            }
            let action = decide(&view.seen, Timestamp::now());
            let Some((track, object, record)) = &view.track else { return Ok((back, memory.blame)) };
            back.clone_from(&record.back);
            self.tell(own, record, &action, &mut memory);
            match action {
                Action::Nothing => return Ok((back, memory.blame)),
                Action::Note(next) => {
                    if next.phase == Phase::Return {
                        memory.blame = self.evidence_of(object, wanted.map(|(change, _)| change), &next).await;
                    }
                    if *next != *record {
                        memory.rearm(wait);
                    }
                    self.note(track, &next).await?;
                }
                Action::ScaleTrack(replicas) => self.scale(track, replicas).await?,
                Action::ScaleOwn(replicas) => self.scale(own, replicas).await?,
                Action::Point(to) => {
                    self.point(own, &view, record, to).await?;
                    // Who writes a Service at the same time gets his turn.
                    tokio::time::sleep(AGAIN).await;
                }
                Action::Check => {
                    let failed = self.check_track(object, record).await;
                    memory.checked = Some(Checked { step: record.step, at: Timestamp::now(), failed });
                }
                Action::Promote => {
                    let Some((change, _)) = wanted else { return Ok((back, memory.blame)) };
                    self.object(change, false).await?;
                    memory.own_is_new = true;
                    memory.rearm(wait);
                }
                Action::Drop => self.end_rollout(own, track, object, record).await?,
                Action::Wait(why) => {
                    if let (Phase::Promote, None) = (record.phase, wanted) {
                        return Ok((back, memory.blame));
                    }
                    if !why.starts_with("pauses") && memory.said_at.elapsed() >= wait {
                        return Err(self.stuck(own, wanted.map(|(change, _)| change), &view.own, &why).await);
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// Hands over what was changed for a time, and takes the track away.
    async fn end_rollout(&self, own: &ObjectId, track: &ObjectId, object: &Value, record: &Record) -> Result<(), ApplyError> {
        for name in record.services.keys() {
            let id = service_id(own, name);
            self.hand_back(&id).await?;
            // What was handed over and is not in the manifest goes.
            if let Some(change) = self.plan.changes.iter().find(|change| change.id == id) {
                self.object(change, false).await?;
            }
        }
        self.hand_back(own).await?;
        self.drop_track(track, object).await
    }

    /// Tells where the rollout is, once for each place.
    fn tell(&self, own: &ObjectId, record: &Record, action: &Action, memory: &mut Memory) {
        let place = match (&record.back, action) {
            (Some(Back::Superseded), _) => format!("{}: something else is wanted now", record.place()),
            (_, Action::Wait(why)) if why.starts_with("pauses until") => {
                format!("{}: paused until `strake rollout promote deployment/{} -n {}`", record.place(), own.name, own.namespace)
            }
            _ => record.place(),
        };
        // A pause is told when it begins to be waited for, with what it waits for.
        let is_before_pause =
            matches!(record.at(), Some(strake_plan::RolloutStep::Pause(None))) && record.phase == Phase::Advance && !matches!(action, Action::Wait(_));
        if place != memory.told && !is_before_pause {
            (self.events)(Event::Rollout { id: own.clone(), place: place.clone() });
            memory.told = place;
        }
        if let Action::Wait(why) = action
            && *why != memory.said
        {
            (self.events)(Event::Waiting { id: own.clone(), reason: why.clone() });
            memory.said.clone_from(why);
            memory.said_at = Instant::now();
        }
    }

    async fn look(&self, own: &ObjectId, memory: &mut Memory, change: Option<&Change>) -> Result<View, ApplyError> {
        let client = self.client;
        let found = client.get(&resource(own), namespace(own), &own.name).await.map_err(|source| read(own, source))?;
        let object = found.ok_or_else(|| ApplyError::NotReady {
            object: own.to_string(),
            origin: change.map_or_else(String::new, |change| change.origin.clone()),
            needs: own.to_string(),
            reason: "it was deleted during its rollout".to_owned(),
        })?;
        let track = self.track(own).await?;
        let list = |resource: Resource| async move {
            let listed = client.list(&resource, namespace(own), &ListParams::all()).await;
            listed.map(|list| list.items).map_err(|source| ApplyError::Read { what: resource.plural.to_string(), source })
        };
        let (sets, pods) = (list(Resource::REPLICA_SETS).await?, list(Resource::PODS).await?);
        let mut services = BTreeMap::new();
        for name in track.iter().flat_map(|(_, _, record)| record.services.keys()) {
            let id = service_id(own, name);
            if let Some(service) = client.get(&Resource::SERVICES, namespace(own), name).await.map_err(|source| read(&id, source))? {
                services.insert(name.clone(), service);
            }
        }
        let hash = only_generation(&object, &sets);
        if let Some((change, (_, _, record))) = change.zip(track.as_ref()).filter(|(_, (_, _, record))| record.phase == Phase::Promote && !memory.own_is_new) {
            let same = memory.goal.as_ref() == Some(&record.digest);
            memory.own_is_new = same && self.object(change, true).await?.outcome == crate::Outcome::Unchanged;
        }
        let track_pods = track.as_ref().map(|(_, track, _)| pods_of(track, &sets, &pods));
        let trouble = match &track {
            Some((_, track, record)) if record.phase == Phase::Advance => self.trouble(track, &pods_below(track, &sets, &pods), memory),
            _ => None,
        };
        let seen = Seen {
            goal: memory.goal.clone(),
            own: pods_of(&object, &sets, &pods),
            own_is_new: memory.own_is_new,
            track: track.as_ref().map(|(_, _, record)| record.clone()).zip(track_pods),
            command: track.as_ref().and_then(|(_, track, _)| Command::read(track["metadata"]["annotations"][COMMAND].as_str()?)),
            services: track.as_ref().and_then(|(_, _, record)| pointing(record, &services, hash.as_deref())),
            own_is_one: hash.is_some(),
            trouble,
            checked: memory.checked.clone(),
        };
        Ok(View { own: object, hash, track, services, seen })
    }

    /// Why the new pods will not get ready, if that is sure.
    fn trouble(&self, track: &Value, pods: &[Value], memory: &mut Memory) -> Option<String> {
        let state = health(track);
        if let crate::health::Health::Failed(reason) = &state {
            return Some(reason.clone());
        }
        if state.is_settled() {
            memory.rearm(self.options.wait.unwrap_or(WAIT));
            return None;
        }
        if Instant::now() >= memory.deadline {
            return Some(format!("not ready in time: {}", state.reason()));
        }
        let at = memory.began.elapsed();
        let tally = memory.tally.get_or_insert_with(|| Tally::starting_from(pods));
        let space = track["metadata"]["namespace"].as_str().unwrap_or_default();
        let coming =
            |kind: &str, name: &str| self.plan.changes.iter().any(|change| change.id.kind == kind && change.id.name == name && change.id.namespace == space);
        tally.look(pods, track["spec"]["replicas"].as_i64().unwrap_or(1), at, &self.options.policy.of(track), &coming).map(|lost| lost.why)
    }

    /// What is to be told of new pods that did not pass, before they go.
    async fn evidence_of(&self, track: &Value, change: Option<&Change>, record: &Record) -> Option<Blame> {
        match record.back.as_ref()? {
            Back::Unhealthy(reason) | Back::Check(reason) => {
                let mut blame = evidence::gather(self.client, change, track, reason.clone()).await;
                blame.owner = crate::blame::label(track);
                Some(blame)
            }
            Back::Superseded | Back::Aborted(_) => None,
        }
    }

    fn blame_rollout(&self, change: &Change, back: &Back, found: Option<Blame>) -> Blame {
        let place = |field: &str| format!("metadata.annotations.{field}");
        let blame = Blame { object: change.id.to_string(), origin: change.origin.clone(), ..found.unwrap_or_default() };
        let returned = "the rollout went back, and the old version serves";
        match back {
            Back::Check(why) => Blame {
                reason: format!("the new pods did not pass the check: {why}; {returned}"),
                field: place("strake.dev/check"),
                at: change.origin.clone(),
                hint: "see what the new version answers there; the check is asked three times before it counts".to_owned(),
                ..blame
            },
            Back::Unhealthy(why) => Blame { reason: format!("the new pods did not get ready: {why}; {returned}"), ..blame },
            Back::Aborted(who) => Blame { reason: format!("aborted by {who}; {returned}"), ..blame },
            Back::Superseded => Blame { reason: returned.to_owned(), ..blame },
        }
    }

    async fn stuck(&self, own: &ObjectId, change: Option<&Change>, object: &Value, why: &str) -> ApplyError {
        let found = evidence::gather(self.client, change, object, format!("not ready in time: {why}")).await;
        let origin = change.map_or_else(String::new, |change| change.origin.clone());
        ApplyError::Unhealthy { blames: vec![Blame { object: own.to_string(), origin, ..found }] }
    }

    async fn write(&self, id: &ObjectId, patch: Patch) -> Result<(), ApplyError> {
        match self.client.patch(&resource(id), namespace(id), &id.name, &patch, None, &WriteParams::manager(MANAGER)).await {
            // What is gone is seen at the next look; what somebody else has just written too.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            other => other.map(drop).map_err(|source| ApplyError::Refused { object: id.to_string(), origin: "its rollout".to_owned(), source }),
        }
    }

    async fn note(&self, track: &ObjectId, record: &Record) -> Result<(), ApplyError> {
        let text = serde_json::to_string(record).unwrap_or_default();
        self.write(track, Patch::Merge(json!({"metadata": {"annotations": {RECORD: text}}}))).await
    }

    async fn scale(&self, id: &ObjectId, replicas: i64) -> Result<(), ApplyError> {
        self.write(id, Patch::Merge(json!({"spec": {"replicas": replicas}}))).await
    }

    /// Changes Services over: all at once as far as each of them goes.
    async fn point(&self, own: &ObjectId, view: &View, record: &Record, to: Pointing) -> Result<(), ApplyError> {
        for name in view.services.keys() {
            let Some(selector) = selector(record, name, to, view.hash.as_deref()) else { continue };
            let mark = if to == Pointing::Open { Value::Null } else { Value::from(own.name.clone()) };
            let version = &view.services[name]["metadata"]["resourceVersion"];
            let patch = Patch::Json(json!([
                {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
                {"op": "replace", "path": "/spec/selector", "value": selector},
            ]));
            let id = service_id(own, name);
            // The mark first: who applies the Service in between leaves its selector alone.
            if to == Pointing::Open {
                self.write(&id, patch).await?;
                self.write(&id, Patch::Merge(json!({"metadata": {"annotations": {SWITCHED: mark}}}))).await?;
            } else if view.services[name]["metadata"]["annotations"][SWITCHED] == mark {
                self.write(&id, patch).await?;
            } else {
                self.write(&id, Patch::Merge(json!({"metadata": {"annotations": {SWITCHED: mark}}}))).await?;
            }
        }
        Ok(())
    }

    /// What the rollout has changed for a time is strake's again.
    async fn hand_back(&self, id: &ObjectId) -> Result<(), ApplyError> {
        let found = self.client.get(&resource(id), namespace(id), &id.name).await.map_err(|source| read(id, source))?;
        let Some(live) = found else { return Ok(()) };
        let taken = self.take_over(id, &resource(id), &live, &is_ours).await;
        taken.map_err(|source| ApplyError::Refused { object: id.to_string(), origin: "its rollout".to_owned(), source })
    }

    async fn drop_track(&self, id: &ObjectId, track: &Value) -> Result<(), ApplyError> {
        let uid = track["metadata"]["uid"].as_str().map(str::to_owned);
        let params = DeleteParams { uid, propagation: Some(Propagation::Foreground), ..DeleteParams::default() };
        match self.client.delete(&resource(id), namespace(id), &id.name, &params).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(ApplyError::Delete { object: id.to_string(), source: error }),
            _ => {}
        }
        let end = Instant::now() + WAIT;
        while Instant::now() < end {
            let there = self.client.get(&resource(id), namespace(id), &id.name).await.map_err(|source| read(id, source))?;
            if there.is_none_or(|there| there["metadata"]["uid"] != track["metadata"]["uid"]) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(ApplyError::Lingering { objects: id.to_string(), seconds: WAIT.as_secs() })
    }
}

impl Memory {
    /// Something has come forward: there is all the time again.
    fn rearm(&mut self, wait: Duration) {
        self.deadline = Instant::now() + wait;
        self.began = Instant::now();
        self.tally = None;
    }
}

fn read(id: &ObjectId, source: strake_client::ClientError) -> ApplyError {
    ApplyError::Read { what: id.to_string(), source }
}

fn service_id(own: &ObjectId, name: &str) -> ObjectId {
    let text = str::to_owned;
    ObjectId {
        version: text("v1"),
        kind: text("Service"),
        resource: text("services"),
        namespace: own.namespace.clone(),
        name: text(name),
        ..ObjectId::default()
    }
}

/// The Deployment for the new pods: the wanted template, told apart by a label.
fn track_object(change: &Change, own: &Value, name: &str, set: &str, record: &Record) -> Value {
    let mut spec = change.object["spec"].clone();
    spec["replicas"] = json!(0);
    for labels in ["/selector/matchLabels", "/template/metadata/labels"] {
        if let Some(labels) = spec.pointer_mut(labels).and_then(Value::as_object_mut) {
            labels.insert(TRACK.to_owned(), name.into());
        }
    }
    // A selector of expressions only has nothing to add to.
    if !spec["selector"]["matchLabels"].is_object() {
        spec["selector"]["matchLabels"] = json!({TRACK: name});
    }
    let record = serde_json::to_string(record).unwrap_or_default();
    let metadata = &change.object["metadata"];
    let mut labels = metadata["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(inventory::PART_OF.to_owned(), set.into());
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "namespace": change.id.namespace, "labels": labels, "annotations": {RECORD: record},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": change.id.name, "uid": own["metadata"]["uid"]}],
        },
        "spec": spec,
    })
}

fn is_owned(object: &Value, owner: &Value) -> bool {
    let uid = &owner["metadata"]["uid"];
    uid.is_string()
        && object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().any(|one| one["uid"] == *uid && one["controller"] == true))
}

/// The pods of a Deployment that are not ending.
fn pods_below(deployment: &Value, sets: &[Value], pods: &[Value]) -> Vec<Value> {
    let sets: Vec<&Value> = sets.iter().filter(|set| is_owned(set, deployment)).collect();
    let mine = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && sets.iter().any(|set| is_owned(pod, set));
    pods.iter().filter(mine).cloned().collect()
}

/// Counts a Deployment's pods. None counts as ready while a controller may still take some away.
fn pods_of(deployment: &Value, sets: &[Value], pods: &[Value]) -> Pods {
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let mine: Vec<&Value> = sets.iter().filter(|set| is_owned(set, deployment)).collect();
    let observed = |object: &Value| {
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
        object["status"]["observedGeneration"].as_i64().is_some_and(|seen| seen >= generation)
    };
    let all: i64 = mine.iter().map(|set| set["spec"]["replicas"].as_i64().unwrap_or(1)).sum();
    let steady = observed(deployment) && mine.iter().all(|set| observed(set)) && all >= wanted;
    let below = pods_below(deployment, sets, pods);
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.is_some_and(|list| list.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
    };
    let ready = i64::try_from(below.iter().filter(is_ready).count()).unwrap_or(0);
    let settled = observed(deployment) && health(deployment).is_settled();
    Pods { wanted, ready: if steady { ready.min(wanted) } else { 0 }, present: i64::try_from(below.len()).unwrap_or(0), settled }
}

/// The generation of a Deployment's pods, when all are of one.
fn only_generation(deployment: &Value, sets: &[Value]) -> Option<String> {
    let mut live = sets.iter().filter(|set| {
        let count = |part: &str| set[part]["replicas"].as_i64().unwrap_or(0);
        is_owned(set, deployment) && (count("spec") > 0 || count("status") > 0)
    });
    let only = live.next()?["metadata"]["labels"][HASH].as_str()?.to_owned();
    live.next().is_none().then_some(only)
}

/// The selector of a Service that points somewhere.
fn selector(record: &Record, service: &str, to: Pointing, hash: Option<&str>) -> Option<Value> {
    let mut selector = record.services.get(service)?.clone();
    match to {
        Pointing::Own => selector[HASH] = hash?.into(),
        Pointing::Track => selector[TRACK] = record.track.clone().into(),
        Pointing::Open | Pointing::Mixed => {}
    }
    Some(selector)
}

/// Where the Services point, all of them.
fn pointing(record: &Record, services: &BTreeMap<String, Value>, hash: Option<&str>) -> Option<Pointing> {
    let one = |(name, service): (&String, &Value)| {
        let found = &service["spec"]["selector"];
        let is = |to: &Pointing| selector(record, name, *to, hash).as_ref() == Some(found);
        let marked = !service["metadata"]["annotations"][SWITCHED].is_null();
        match [Pointing::Track, Pointing::Own].into_iter().find(is) {
            Some(to) if marked => to,
            None if !marked && is(&Pointing::Open) => Pointing::Open,
            _ => Pointing::Mixed,
        }
    };
    let mut each = services.iter().map(one);
    let first = each.next()?;
    Some(if each.all(|other| other == first) { first } else { Pointing::Mixed })
}
