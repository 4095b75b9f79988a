//! A small model of the API in memory: enough of its rules that controllers can be run against it under a virtual clock.
//!
//! It is what the simulations and the tests of the controllers use, and what "how will this rollout go" is answered with. It
//! defaults and validates objects with the same functions as the real API, keeps revisions and generations, honours
//! preconditions, finalizers, graceful deletion of pods and the end of namespaces, and refuses what the real API refuses. It has
//! no managed fields, no selectors and no watch: [`World::take_changes`] says what has happened since the last call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::garbage::{FOREGROUND, ORPHAN};
use crate::{Action, Kind, ObjectId, Propagation};

/// Why the world refused a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    AlreadyExists(ObjectId),
    NotFound(ObjectId),
    /// A precondition does not hold.
    Conflict(ObjectId),
    /// What the object is to be is not allowed.
    Invalid(ObjectId, String),
    /// The namespace is on its way out, or there is none.
    Namespace(ObjectId),
    /// It has no kind or no name.
    Nameless,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExists(id) => write!(f, "{id} already exists"),
            Self::NotFound(id) => write!(f, "{id} not found"),
            Self::Conflict(id) => write!(f, "{id} has changed"),
            Self::Invalid(id, why) => write!(f, "{id} is invalid: {why}"),
            Self::Namespace(id) => write!(f, "{id}: its namespace takes no new objects"),
            Self::Nameless => f.write_str("the object has no kind or no name"),
        }
    }
}

impl std::error::Error for Refused {}

/// A change, as a watch would tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub id: ObjectId,
    /// The object or, if it was removed, its last state.
    pub object: Arc<Value>,
    pub removed: bool,
}

/// The objects. See the module.
#[derive(Clone, Debug, Default)]
pub struct World {
    objects: BTreeMap<ObjectId, Arc<Value>>,
    revision: u64,
    uids: u64,
    changes: Vec<Notice>,
}

impl World {
    /// A world with the namespaces `default` and `kube-system`.
    pub fn new(now: Timestamp) -> Self {
        let mut world = Self::default();
        for name in ["default", "kube-system", "kube-node-lease"] {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            world.create(object, now).expect("an empty world takes its first namespaces");
        }
        world
    }

    /// The object with this identity.
    pub fn get(&self, id: &ObjectId) -> Option<&Arc<Value>> {
        self.objects.get(id)
    }

    /// All objects, by kind, namespace and name.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectId, &Arc<Value>)> {
        self.objects.iter()
    }

    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What has changed since the last call.
    pub fn take_changes(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.changes)
    }

    /// Performs an action. Events count as done.
    pub fn perform(&mut self, action: &Action, now: Timestamp) -> Result<Option<Arc<Value>>, Refused> {
        match action {
            Action::Create { object, .. } => self.create(object.clone(), now).map(Some),
            Action::Update { object, .. } => self.replace(object, None, now).map(Some),
            Action::UpdateStatus { object, .. } => self.replace(object, Some("status"), now).map(Some),
            Action::Finalize { object, .. } => self.replace(object, Some("finalize"), now).map(Some),
            Action::Patch { id, subresource, patch, .. } => self.patch(id, *subresource, patch, now).map(Some),
            Action::Delete { id, uid, propagation, grace_seconds, .. } => self.delete(id, uid, *propagation, *grace_seconds, now),
            Action::RecordEvent { .. } => Ok(None),
        }
    }

    /// Creates an object.
    pub fn create(&mut self, mut object: Value, now: Timestamp) -> Result<Arc<Value>, Refused> {
        let id = identity(&object).ok_or(Refused::Nameless)?;
        if self.objects.contains_key(&id) {
            return Err(Refused::AlreadyExists(id));
        }
        let namespace = self.objects.get(&ObjectId::new(Kind::NAMESPACE, "", &id.namespace));
        if !id.namespace.is_empty() && namespace.is_none_or(|namespace| is_deleting(namespace)) {
            return Err(Refused::Namespace(id));
        }
        self.uids += 1;
        // Uids look random: nothing may depend on their order.
        let uid = format!("{:016x}-{}", crate::names::hash(&[&self.uids.to_le_bytes()]), self.uids);
        let meta = &mut object["metadata"];
        meta["uid"] = json!(uid);
        meta["creationTimestamp"] = json!(text(now));
        meta["generation"] = json!(1);
        if id.kind == Kind::NAMESPACE {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
        }
        if id.kind == Kind::POD {
            object["status"] = json!({"phase": "Pending"});
        }
        if id.kind == Kind::JOB {
            strake_kinds::default::generate_selector(&mut object);
        }
        settle(&id, &mut object)?;
        Ok(self.store(id, object))
    }

    /// Merges a patch into an object or its status.
    pub fn patch(&mut self, id: &ObjectId, subresource: Option<&str>, patch: &Value, now: Timestamp) -> Result<Arc<Value>, Refused> {
        let known = self.objects.get(id).ok_or_else(|| Refused::NotFound(id.clone()))?;
        let mut object = (**known).clone();
        strake_kinds::merge::json_merge(&mut object, patch);
        self.write(id, subresource, object, now)
    }

    /// Replaces an object, its status, or its finalizers.
    pub fn replace(&mut self, object: &Value, subresource: Option<&str>, now: Timestamp) -> Result<Arc<Value>, Refused> {
        let id = identity(object).ok_or(Refused::Nameless)?;
        self.write(&id, subresource, object.clone(), now)
    }

    /// Binds a pod to a node.
    pub fn bind(&mut self, id: &ObjectId, uid: &str, node: &str, now: Timestamp) -> Result<Arc<Value>, Refused> {
        let known = self.objects.get(id).filter(|known| known["metadata"]["uid"] == uid).ok_or_else(|| Refused::NotFound(id.clone()))?;
        if known["spec"]["nodeName"].as_str().is_some_and(|bound| !bound.is_empty()) || is_deleting(known) {
            return Err(Refused::Conflict(id.clone()));
        }
        self.patch(id, None, &json!({"spec": {"nodeName": node}}), now)
    }

    fn write(&mut self, id: &ObjectId, subresource: Option<&str>, mut object: Value, now: Timestamp) -> Result<Arc<Value>, Refused> {
        let known = self.objects.get(id).ok_or_else(|| Refused::NotFound(id.clone()))?.clone();
        for field in ["uid", "resourceVersion"] {
            let given = object["metadata"][field].as_str().unwrap_or_default();
            if !given.is_empty() && Some(given) != known["metadata"][field].as_str() {
                return Err(Refused::Conflict(id.clone()));
            }
        }
        match subresource {
            Some("status") => {
                let status = object["status"].take();
                object = (*known).clone();
                object["status"] = status;
            }
            Some("finalize") => {
                let spec = object["spec"].take();
                object = (*known).clone();
                object["spec"] = spec;
            }
            _ => keep(&mut object, &known, id),
        }
        settle(id, &mut object)?;
        if same(&object, &known) {
            return Ok(known);
        }
        if object["spec"] != known["spec"] && subresource.is_none() {
            object["metadata"]["generation"] = json!(known["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        let stored = self.store(id.clone(), object);
        self.release(id, now);
        Ok(stored)
    }

    /// Deletes an object, or begins to. `None`: it is gone.
    pub fn delete(
        &mut self,
        id: &ObjectId,
        uid: &str,
        propagation: Propagation,
        grace_seconds: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<Arc<Value>>, Refused> {
        let known = self.objects.get(id).ok_or_else(|| Refused::NotFound(id.clone()))?.clone();
        if !uid.is_empty() && known["metadata"]["uid"] != uid {
            return Err(Refused::Conflict(id.clone()));
        }
        let mut object = (*known).clone();
        let grace = if id.kind == Kind::POD { pod_grace(&known, grace_seconds) } else { 0 };
        let meta = &mut object["metadata"];
        let before = meta["deletionGracePeriodSeconds"].as_i64();
        if before.is_none_or(|before| grace < before) {
            meta["deletionTimestamp"] = json!(text(now + SignedDuration::from_secs(grace)));
            meta["deletionGracePeriodSeconds"] = json!(grace);
        }
        let finalizer = match propagation {
            Propagation::Background => None,
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Orphan => Some(ORPHAN),
        };
        if let Some(finalizer) = finalizer {
            let mut finalizers = meta["finalizers"].as_array().cloned().unwrap_or_default();
            if !finalizers.iter().any(|known| known == finalizer) {
                finalizers.push(json!(finalizer));
            }
            meta["finalizers"] = json!(finalizers);
        }
        if id.kind == Kind::NAMESPACE {
            object["status"]["phase"] = json!("Terminating");
        }
        if object != *known {
            self.store(id.clone(), object);
        }
        self.release(id, now);
        Ok(self.objects.get(id).cloned())
    }

    /// Removes an object that is being deleted once nothing holds it.
    fn release(&mut self, id: &ObjectId, _now: Timestamp) {
        let Some(object) = self.objects.get(id).filter(|object| is_deleting(object)) else { return };
        let some = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
        let graceful = id.kind == Kind::POD && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
        let holds = some(&object["metadata"]["finalizers"]) || (id.kind == Kind::NAMESPACE && some(&object["spec"]["finalizers"]));
        if graceful || holds {
            return;
        }
        self.revision += 1;
        if let Some(object) = self.objects.remove(id) {
            self.changes.push(Notice { id: id.clone(), object, removed: true });
        }
    }

    fn store(&mut self, id: ObjectId, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(object);
        self.objects.insert(id.clone(), object.clone());
        self.changes.push(Notice { id, object: object.clone(), removed: false });
        object
    }
}

/// The identity of an object in its JSON form.
pub fn identity(object: &Value) -> Option<ObjectId> {
    let kind = Kind::known(object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let meta = &object["metadata"];
    Some(ObjectId::new(kind, meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str()?))
}

fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn text(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What a client may not change is as it was.
fn keep(object: &mut Value, known: &Value, id: &ObjectId) {
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion"] {
        match known["metadata"].get(field) {
            Some(value) => object["metadata"][field] = value.clone(),
            None => drop(object["metadata"].as_object_mut().map(|meta| meta.shift_remove(field))),
        }
    }
    let has_status = !matches!(&*id.kind.kind, "Lease" | "ConfigMap" | "ServiceAccount" | "EndpointSlice");
    match known.get("status") {
        Some(status) if has_status => object["status"] = status.clone(),
        _ if has_status => drop(object.as_object_mut().map(|fields| fields.shift_remove("status"))),
        _ => {}
    }
}

/// Defaults, checks, and the form in which objects are kept.
fn settle(id: &ObjectId, object: &mut Value) -> Result<(), Refused> {
    let Some(kind) = strake_kinds::by_kind(&id.kind.api_version, &id.kind.kind) else { return Ok(()) };
    strake_kinds::default::apply(object, kind);
    strake_kinds::decode::canonical(object, kind.schema());
    let mistakes = strake_kinds::validate::object(object, kind);
    match mistakes.first() {
        None => Ok(()),
        Some(mistake) => Err(Refused::Invalid(id.clone(), format!("{}: {}", mistake.path, mistake.message))),
    }
}

/// The same but for the revision.
fn same(one: &Value, other: &Value) -> bool {
    let stripped = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = Value::Null;
        object
    };
    stripped(one) == stripped(other)
}

/// Only pods that may be running somewhere take time to go.
fn pod_grace(pod: &Value, asked: Option<i64>) -> i64 {
    let bound = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !bound || over {
        return 0;
    }
    asked.or(pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30).max(0)
}
