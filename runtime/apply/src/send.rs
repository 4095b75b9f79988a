//! Sends an object under strake's name, and settles whose each field is.

use serde_json::{Value, json};
use strake_client::{ClientError, ListParams, Patch, Resource, WriteParams};
use strake_kinds::apply::{self, Owner};
use strake_plan::{Change, ObjectId};

use crate::applier::{MANAGER, namespace, resource};
use crate::ownership::{Left, Verdict, is_former, judge, leave, left_alone, scales};
use crate::rollout::SWITCHED;
use crate::{Applier, ApplyError, Event, inventory, ownership};

/// How often an object is sent again when others write in between.
const TRIES: usize = 5;

/// What sending an object has come to.
pub(crate) struct Sent {
    /// The object after it, or why the server refused it.
    pub result: Result<Value, ClientError>,
    /// What was left to others.
    pub left: Vec<Left>,
}

/// The object in the form in which it is applied. Servers keep who owns `stringData` apart from who owns `data`: a key that leaves the manifest would stay in the
/// Secret.
pub(crate) fn as_sent(id: &ObjectId, wanted: &Value) -> Value {
    let mut config = wanted.clone();
    if let Some(kind) = strake_kinds::by_kind(&id.api_version(), &id.kind) {
        strake_kinds::default::fold_write_only(&mut config, kind);
    }
    config
}

impl Applier<'_> {
    /// Applies one object. Former owners give up what they own before it; a field that a person has changed is taken back; one that is a controller's business is
    /// left to it.
    ///
    /// # Errors
    /// Fields that others own, when nobody has said whose they are. What the server refuses is in the result.
    pub(crate) async fn send(&self, change: &Change, live: Option<&Value>, wanted: &Value, dry_run: bool) -> Result<Sent, ApplyError> {
        let (id, resource) = (&change.id, resource(&change.id));
        let mut config = as_sent(id, wanted);
        let mut known = live.cloned();
        let mut left = match &known {
            Some(live) => {
                let alone = self.left_alone(change, live, &config).await;
                leave(&mut config, live, alone)
            }
            None => Vec::new(),
        };
        if !dry_run && let Some(live) = &mut known {
            self.end_former(change, &resource, live).await.map_err(|source| refused(change, source))?;
        }
        let params = WriteParams { dry_run, ..WriteParams::default() };
        let mut force = self.options.force_conflicts;
        let mut told: Vec<String> = Vec::new();
        for attempt in 1.. {
            let patch = Patch::Apply { object: config.clone(), manager: MANAGER.to_owned(), force };
            let error = match self.client.patch(&resource, namespace(id), &id.name, &patch, None, &params).await {
                Ok(after) => {
                    if !dry_run && !told.is_empty() {
                        (self.events)(Event::Overruled { id: id.clone(), managers: told });
                    }
                    return Ok(Sent { result: Ok(if dry_run { given_up(id, after) } else { after }), left });
                }
                Err(error) if !error.is_conflict() || attempt == TRIES => return Ok(Sent { result: Err(error), left }),
                Err(error) => error,
            };
            let disputes = known.as_ref().map(|live| judge(&error, live, wanted)).unwrap_or_default();
            let open: Vec<String> = disputes.iter().filter(|one| one.verdict == Verdict::Stop).map(|one| format!("{}: {}", one.path, one.owner)).collect();
            if !open.is_empty() {
                return Err(ApplyError::Conflicts { object: id.to_string(), origin: change.origin.clone(), fields: open });
            }
            for dispute in &disputes {
                match &dispute.verdict {
                    Verdict::Leave(why) => {
                        apply::take(&mut config, &dispute.steps);
                        left.push(Left { path: dispute.path.clone(), reason: format!("{}: {why}", dispute.owner.manager) });
                    }
                    Verdict::TakeBack if !told.contains(&dispute.owner.manager) => told.push(dispute.owner.manager.clone()),
                    _ => {}
                }
            }
            let takes = disputes.iter().any(|one| matches!(one.verdict, Verdict::Take | Verdict::TakeBack));
            // What is taken is what was looked at: who comes in between is asked about anew.
            let fresh = self.client.get(&resource, namespace(id), &id.name).await.map_err(|source| refused(change, source))?;
            let fields = |object: Option<&Value>| object.map(|object| object["metadata"]["managedFields"].clone());
            let judged = takes && fields(fresh.as_ref()) == fields(known.as_ref());
            force = self.options.force_conflicts || judged;
            cut_version(&mut config);
            match &fresh {
                Some(fresh) if judged && !dry_run => config["metadata"]["resourceVersion"] = fresh["metadata"]["resourceVersion"].clone(),
                _ => {}
            }
            if !judged {
                told.clear();
            }
            known = fresh;
        }
        // The loop is left by an answer.
        Ok(Sent { result: Ok(config), left })
    }

    /// What is not strake's business in an object that exists.
    pub(crate) async fn left_alone(&self, change: &Change, live: &Value, config: &Value) -> Vec<Left> {
        let mut left = left_alone(self.plan, change);
        if let Some(deployment) = crate::progressive::switched_for(self.plan, live) {
            left.push(Left { path: "spec.selector".to_owned(), reason: format!("the rollout of {} switches it", deployment.id) });
        }
        let replicas = &config["spec"]["replicas"];
        // Who scales it is asked only where it makes a difference.
        let asks = !replicas.is_null() && *replicas != live["spec"]["replicas"] && !left.iter().any(|left| left.path == "spec.replicas");
        if asks && let Some(scaler) = self.autoscaler(&change.id).await {
            left.push(Left { path: "spec.replicas".to_owned(), reason: format!("{scaler} scales it") });
        }
        left
    }

    /// The autoscaler of the cluster for an object. KEDA makes one of these for each of its own.
    async fn autoscaler(&self, id: &ObjectId) -> Option<String> {
        let resource = Resource::new("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true);
        // A cluster that has none of the kind, or does not show them, has no say.
        let list = self.client.list(&resource, namespace(id), &ListParams::all()).await.ok()?;
        let found = list.items.iter().find(|item| scales(item, id))?;
        Some(format!("horizontalpodautoscaler/{}", found["metadata"]["name"].as_str().unwrap_or_default()))
    }

    /// What former owners have is strake's from now on: other tools, and a rollout that has ended, by whatever has ended it.
    async fn end_former(&self, change: &Change, resource: &Resource, live: &mut Value) -> Result<(), ClientError> {
        self.end_switch(&change.id, resource, live).await?;
        let ended = match change.id.kind.as_str() {
            "Service" => live["metadata"]["annotations"][SWITCHED].is_null(),
            _ => change.rollout.is_none(),
        };
        let former = |owner: &Owner| is_former(owner) || ended && crate::progressive::is_ours(owner);
        self.take_over(&change.id, resource, live, &former).await
    }

    /// What a rollout has switched that is none any more is the manifest's again.
    async fn end_switch(&self, id: &ObjectId, resource: &Resource, live: &mut Value) -> Result<(), ClientError> {
        let mark = &live["metadata"]["annotations"][SWITCHED];
        if id.kind != "Service" || mark.is_null() || crate::progressive::switched_for(self.plan, live).is_some() {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"metadata": {"annotations": {SWITCHED: null}}}));
        *live = self.client.patch(resource, namespace(id), &id.name, &patch, None, &WriteParams::manager(crate::progressive::MANAGER)).await?;
        Ok(())
    }

    /// Makes strake the owner of what its former owners have; only of the version that was looked at.
    pub(crate) async fn take_over(&self, id: &ObjectId, resource: &Resource, live: &Value, from: &(dyn Fn(&Owner) -> bool + Sync)) -> Result<(), ClientError> {
        let mut live = live.clone();
        for _ in 0..TRIES {
            let Some(fields) = apply::hand_over(&live, from, MANAGER) else { return Ok(()) };
            let version = live["metadata"]["resourceVersion"].clone();
            let patch = Patch::Json(json!([
                {"op": "replace", "path": "/metadata/managedFields", "value": fields},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            ]));
            match self.client.patch(resource, namespace(id), &id.name, &patch, None, &WriteParams::manager(MANAGER)).await {
                Err(error) if error.is_conflict() => match self.client.get(resource, namespace(id), &id.name).await? {
                    Some(fresh) => live = fresh,
                    None => return Ok(()),
                },
                other => return other.map(drop),
            }
        }
        Ok(())
    }

    /// Refuses what belongs to somebody else: applying would take it out of their hands in silence.
    ///
    /// # Errors
    /// Who has it; with [`crate::Options::adopt`] nothing is refused.
    pub(crate) async fn claimed(&self, change: &Change, live: Option<&Value>) -> Result<(), ApplyError> {
        let Some(live) = live.filter(|_| !self.options.adopt) else { return Ok(()) };
        let (object, origin) = (change.id.to_string(), change.origin.clone());
        match inventory::set_of(live) {
            Some(set) if set == self.set_id() => return Ok(()),
            Some(set) => {
                // The parent of a set of kubectl's may be a ConfigMap too. A set without one is gone: its members belong to nobody.
                for resource in [Resource::SECRETS, Resource::CONFIG_MAPS] {
                    let parents = self.client.list(&resource, None, &ListParams::labels(inventory::parent_selector(set))).await;
                    let parents = parents.map_err(|source| ApplyError::Read { what: "inventories".to_owned(), source })?;
                    if let Some(parent) = parents.items.first() {
                        let name = parent["metadata"]["name"].as_str().unwrap_or_default();
                        let set = inventory::set_name(parent).unwrap_or(name).to_owned();
                        return Err(ApplyError::OfAnotherSet { object, origin, set });
                    }
                }
            }
            None => {}
        }
        match ownership::claim(live, &change.object) {
            Some(owner) => Err(ApplyError::Claimed { object, origin, owner }),
            None => Ok(()),
        }
    }
}

fn cut_version(config: &mut Value) {
    if let Some(metadata) = config["metadata"].as_object_mut() {
        metadata.shift_remove("resourceVersion");
    }
}

fn refused(change: &Change, source: ClientError) -> ApplyError {
    ApplyError::Refused { object: change.id.to_string(), origin: change.origin.clone(), source }
}

/// What a dry run cannot know: what only former owners have goes with them.
fn given_up(id: &ObjectId, after: Value) -> Value {
    let former = |owner: &Owner| is_former(owner);
    let mut left = apply::without(&after, &former);
    if left != after
        && let Some(kind) = strake_kinds::by_kind(&id.api_version(), &id.kind)
    {
        // What goes may have a default.
        strake_kinds::default::apply(&mut left, kind);
        strake_kinds::decode::canonical(&mut left, kind.schema());
    }
    left
}
