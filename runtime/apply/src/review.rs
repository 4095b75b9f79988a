//! What an apply would do, as data that a person or a program can judge before it happens, and that can be checked again right before it does.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strake_plan::{DeployPlan, ObjectId, Wanted};

use crate::changes::FieldChange;
use crate::conceal::{Key, conceal, is_hash};
use crate::{Applied, Outcome, Report, inventory, predict};

/// The version of the form; a reader refuses a greater one.
pub const FORMAT_VERSION: u32 = 1;

/// A reviewed plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// What it was made from and for.
    pub header: Header,
    /// How many of each action.
    pub summary: BTreeMap<Action, usize>,
    /// In the order of the plan; deletions at the end.
    pub changes: Vec<Reviewed>,
    /// Why it cannot be applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Finding>,
    /// What the compiler and the cluster warn of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Finding>,
    /// There is something to apply, and nothing against it.
    #[serde(default)]
    pub applyable: bool,
    /// Every object was looked at: nothing is missing here that an apply would do.
    #[serde(default)]
    pub complete: bool,
    /// The key of its hashes, for showing more with the same; never written.
    #[serde(skip)]
    pub key: Option<Key>,
}

/// Something to know of, with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Finding {
    /// `strake explain CODE`; empty for what a cluster says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ObjectId>,
    /// `file:line:column`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// What it says.
    pub message: String,
}

/// What a plan was made from and for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// strake's version.
    pub tool: String,
    /// The digest of everything that was compiled, without the values of Secrets.
    pub input: String,
    /// The git revision of the directory, with whether it has other changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitState>,
    /// The directory, for applying the plan later.
    pub directory: String,
    /// What was compiled with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<String>,
    /// The set's name.
    pub set: String,
    /// The set's namespace.
    pub namespace: String,
    /// The cluster's address, or what it was compared with: `revision X`, `nothing`.
    pub target: String,
    /// The environment of the project's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Files of values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The registry that was named for its images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_to: Option<String>,
    /// The cluster, when it was one that was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// The set's inventory, when it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inventory: Option<InventoryState>,
    /// When it was made (RFC 3339); nothing for a plan without a cluster, which is the same whenever it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Until when it may be applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// What tells the keys apart with which secrets are hashed: hashes of different keys cannot be compared.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hashed_with: String,
    /// What was allowed: applying the plan allows the same.
    pub consent: Consent,
}

impl Header {
    /// The same, with what was agreed to.
    #[must_use]
    pub fn agreed(self, consent: &Consent) -> Header {
        Header { consent: consent.clone(), ..self }
    }
}

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cluster {
    /// The uid of its namespace kube-system, which no other cluster has; empty when it may not be read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The API versions of the plan's objects, by which they are read and written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_versions: Vec<String>,
}

/// A set's inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InventoryState {
    /// The set's id, which its members have as a label.
    pub id: String,
    /// How often it was written; 0 when there is none yet.
    pub generation: u64,
}

/// What somebody has agreed to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Consent {
    /// To keep what left the directory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_prune: bool,
    /// To delete most of the set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_mass_delete: bool,
    /// To take over fields.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force_conflicts: bool,
    /// To take over objects of other sets and tools.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
    /// To make objects anew.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// To delete these, which hold data or other objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confirmed: Vec<String>,
}

/// A repository's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// The commit.
    pub revision: String,
    /// Files differ from it.
    pub dirty: bool,
}

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It does not exist.
    Create,
    /// It is different.
    Update,
    /// A field differs that cannot be changed: it is deleted and made anew.
    Replace,
    /// It exists, and becomes a member of the set.
    Adopt,
    /// It left the directory.
    Delete,
    /// It left the directory, and stays.
    Forget,
    /// It is as it should be.
    Noop,
}

/// Why something happens to an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It does not exist.
    Missing,
    /// Fields differ.
    Differs,
    /// Fields differ that cannot be changed.
    Immutable,
    /// It exists, and no set has it.
    NoSet,
    /// It exists, and another set or tool has it.
    OtherSet,
    /// It left the directory.
    LeftDirectory,
    /// It left the directory, and is protected or somebody else's.
    Kept,
    /// It is as the directory says.
    #[default]
    AsDeclared,
}

/// A change that comes before another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What comes before.
    pub id: ObjectId,
    /// How far it must have come.
    pub state: Wanted,
}

/// What may go wrong, or be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Data is lost.
    DataLoss,
    /// Nothing answers for a while.
    Downtime,
    /// Pods are replaced.
    RestartsPods,
    /// Somebody may do more than before.
    WidensAccess,
}

/// One object of a review.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reviewed {
    /// The object.
    pub id: ObjectId,
    /// What happens.
    pub action: Action,
    /// Why, for programs.
    #[serde(default)]
    pub code: Reason,
    /// Why.
    pub reason: String,
    /// `file:line`; empty for deletions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// Fields that change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// Fields that only the cluster knows, once it is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// Places of the changes that come before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
    /// The same by name, with how far each must have come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// Fields that are left to others, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<String, String>,
    /// How its pods are replaced, where that is in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// What to think of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<Risk>,
    /// The object that was looked at; none for one that does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precondition: Option<Precondition>,
}

/// Which version of an object a plan was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Precondition {
    /// Its uid.
    pub uid: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// A keyed hash of what was seen of it, without status and what a server writes for itself.
    pub observed: String,
}

/// Reviews what a dry run found. Pure: the same report gives the same review.
pub fn review(plan: &DeployPlan, report: &Report, header: Header) -> Review {
    let key = report.key.clone().unwrap_or_else(|| Key::of([0; 32]));
    let places: BTreeMap<&ObjectId, usize> = plan.changes.iter().enumerate().map(|(place, change)| (&change.id, place)).collect();
    let mut changes: Vec<Reviewed> = report.applied.par_iter().map(|applied| reviewed(plan, places.get(&applied.id).copied(), applied, &key)).collect();
    for (place, id) in report.pruned.iter().enumerate() {
        let precondition = report.gone.get(place).map(|object| precondition(object, &key, &[]));
        let risks = risks(Action::Delete, id, &[], report.gone.get(place));
        changes.push(Reviewed { risks, precondition, ..gone(id, Action::Delete, Reason::LeftDirectory, "left the directory".to_owned()) });
    }
    changes.extend(report.kept.iter().map(|(id, reason)| gone(id, Action::Forget, Reason::Kept, format!("left the directory, but {reason}"))));
    let mut summary = BTreeMap::new();
    changes.iter().for_each(|change| *summary.entry(change.action).or_insert(0) += 1);
    let errors: Vec<Finding> = report
        .refused
        .iter()
        .map(|refused| Finding { code: String::new(), id: refused.id.clone(), origin: refused.origin.clone(), message: refused.message.clone() })
        .collect();
    let warnings = report.applied.iter().flat_map(|applied| applied.left.iter().map(move |left| (applied, left))).map(|(applied, left)| Finding {
        code: String::new(),
        id: Some(applied.id.clone()),
        origin: applied.origin.clone(),
        message: format!("{} is left as it is: {}", left.path, left.reason),
    });
    let mut header = header;
    if let Some(key) = &report.key {
        header.hashed_with = key.id();
    }
    if let Some(inventory) = &mut header.inventory {
        inventory.generation = report.generation;
    }
    let mut review = Review {
        format_version: FORMAT_VERSION,
        header,
        summary,
        changes,
        warnings: warnings.collect(),
        errors,
        applyable: false,
        complete: false,
        key: report.key.clone(),
    };
    review.applyable = review.errors.is_empty() && !review.unchanged();
    review.complete = review.errors.is_empty();
    review
}

fn reviewed(plan: &DeployPlan, place: Option<usize>, applied: &Applied, key: &Key) -> Reviewed {
    let change = place.and_then(|place| plan.changes.get(place));
    let edges = change.map(|change| change.after.as_slice()).unwrap_or_default();
    let name = |place: usize| plan.changes.get(place).map(|change| change.id.clone());
    let (action, code, reason) = action(plan, applied);
    let sensitive = change.map(|change| change.sensitive.as_slice()).unwrap_or_default();
    let made = matches!(action, Action::Create | Action::Replace);
    Reviewed {
        id: applied.id.clone(),
        action,
        code,
        reason,
        origin: applied.origin.clone(),
        rollout: change.and_then(|change| change.rollout.as_ref()).filter(|_| replaces_pods(action, applied)).map(ToString::to_string),
        risks: risks(action, &applied.id, &applied.changes, Some(&applied.object)),
        unknown: if made { predict::unknown(change.map_or(&applied.object, |change| &change.object)) } else { Vec::new() },
        fields: applied.changes.clone(),
        after: edges.iter().map(|edge| edge.change.0).collect(),
        depends_on: edges.iter().filter_map(|edge| Some(Dependency { id: name(edge.change.0)?, state: edge.state })).collect(),
        left: applied.left.iter().map(|left| (left.path.clone(), left.reason.clone())).collect(),
        precondition: applied.before.as_ref().map(|before| precondition(before, key, sensitive)),
    }
}

fn gone(id: &ObjectId, action: Action, code: Reason, reason: String) -> Reviewed {
    Reviewed {
        id: id.clone(),
        action,
        code,
        reason,
        origin: String::new(),
        fields: Vec::new(),
        unknown: Vec::new(),
        after: Vec::new(),
        depends_on: Vec::new(),
        left: BTreeMap::new(),
        rollout: None,
        risks: Vec::new(),
        precondition: None,
    }
}

impl Review {
    /// True when nothing would be done.
    pub fn unchanged(&self) -> bool {
        self.changes.iter().all(|change| matches!(change.action, Action::Noop | Action::Forget))
    }

    /// Whether the same fields change in the same way. Hashes of different keys say nothing; then the object itself must be the same.
    fn same_fields(&self, one: &Reviewed, other: &Reviewed, now: &Review) -> bool {
        if self.header.hashed_with == now.header.hashed_with {
            return one.fields == other.fields;
        }
        let blind = |change: &Reviewed| -> Vec<FieldChange> {
            let hide = |value: &Option<Value>| value.as_ref().map(|value| if is_hash(value) { Value::Null } else { value.clone() });
            change.fields.iter().map(|field| FieldChange { before: hide(&field.before), after: hide(&field.after), ..field.clone() }).collect()
        };
        let secret = one.fields.iter().any(|field| field.sensitive);
        blind(one) == blind(other) && (!secret || self.same_object(one, other, now))
    }

    fn same_object(&self, one: &Reviewed, other: &Reviewed, now: &Review) -> bool {
        match (&one.precondition, &other.precondition) {
            (Some(one), Some(other)) if one.uid == other.uid && !one.resource_version.is_empty() && one.resource_version == other.resource_version => true,
            (Some(_), Some(_)) if self.header.hashed_with != now.header.hashed_with => false,
            (Some(one), Some(other)) => one.uid == other.uid && one.observed == other.observed,
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// What has changed in the cluster since this plan was made: a sentence for each object that is not as it was, unless the plan for it is still the same.
    /// `now` is a review of the same inputs made just now.
    pub fn stale(&self, now: &Review) -> Vec<String> {
        let key = |change: &Reviewed| change.id.clone();
        let fresh: BTreeMap<ObjectId, &Reviewed> = now.changes.iter().map(|change| (key(change), change)).collect();
        let mut found = Vec::new();
        for change in &self.changes {
            let Some(other) = fresh.get(&change.id) else {
                found.push(format!("{}: the plan would {}, and now there is nothing to do with it", change.id, verb(change.action)));
                continue;
            };
            let same = change.action == other.action && self.same_fields(change, other, now);
            if !self.same_object(change, other, now) && !same {
                let fields: Vec<&str> = other.fields.iter().filter(|field| !change.fields.contains(field)).map(|field| field.path.as_str()).collect();
                let drifted = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
                found.push(format!("{}: it has changed since{drifted}", change.id));
            } else if !same {
                found.push(format!("{}: the plan would {}, now it would {}", change.id, verb(change.action), verb(other.action)));
            }
        }
        let known: Vec<&ObjectId> = self.changes.iter().map(|change| &change.id).collect();
        let new = now.changes.iter().filter(|change| !known.contains(&&change.id) && change.action != Action::Noop);
        found.extend(new.map(|change| format!("{}: the plan does not have it, now it would {}", change.id, verb(change.action))));
        // What is refused now was not when the plan was made.
        found.extend(now.errors.iter().filter(|error| !self.errors.contains(error)).map(|error| error.message.clone()));
        found
    }
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create it",
        Action::Update => "change it",
        Action::Replace => "replace it",
        Action::Adopt => "take it into the set",
        Action::Delete => "delete it",
        Action::Forget => "leave it",
        Action::Noop => "do nothing",
    }
}

fn action(plan: &DeployPlan, applied: &Applied) -> (Action, Reason, String) {
    if !applied.fixed.is_empty() {
        return (Action::Replace, Reason::Immutable, format!("{} cannot be changed", applied.fixed.join(", ")));
    }
    let own = || inventory::set_id(&plan.set, &plan.namespace);
    match (applied.outcome, &applied.before) {
        (Outcome::Created, _) => (Action::Create, Reason::Missing, "it does not exist".to_owned()),
        (Outcome::Unchanged, _) => (Action::Noop, Reason::AsDeclared, "it is as the directory says".to_owned()),
        (Outcome::Configured, Some(before)) if inventory::set_of(before).is_none() => {
            let owner = crate::ownership::claim(before, &Value::Null);
            match owner {
                Some(owner) => (Action::Adopt, Reason::OtherSet, format!("it exists, and is taken from {owner}")),
                None => (Action::Adopt, Reason::NoSet, "it exists, and belongs to no set".to_owned()),
            }
        }
        (Outcome::Configured, Some(before)) if inventory::set_of(before) != Some(own().as_str()) => {
            (Action::Adopt, Reason::OtherSet, "it exists, and is taken from another set".to_owned())
        }
        (Outcome::Configured, _) => {
            let paths: Vec<&str> = applied.changes.iter().map(|field| field.path.as_str()).collect();
            (Action::Update, Reason::Differs, if paths.is_empty() { "it is different".to_owned() } else { format!("{} differ", paths.join(", ")) })
        }
    }
}

fn replaces_pods(action: Action, applied: &Applied) -> bool {
    matches!(action, Action::Update | Action::Adopt) && applied.changes.iter().any(|field| field.path.starts_with("spec.template"))
}

const WORKLOADS: [&str; 6] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "Job"];

fn risks(action: Action, id: &ObjectId, fields: &[FieldChange], object: Option<&Value>) -> Vec<Risk> {
    let mut risks = Vec::new();
    let kind = id.kind.as_str();
    let workload = WORKLOADS.contains(&kind);
    let gone = matches!(action, Action::Delete | Action::Replace);
    let changed = matches!(action, Action::Update | Action::Adopt);
    let template = changed && fields.iter().any(|field| field.path.starts_with("spec.template"));
    if gone && matches!(kind, "PersistentVolumeClaim" | "PersistentVolume" | "Namespace" | "CustomResourceDefinition" | "StatefulSet") {
        risks.push(Risk::DataLoss);
    }
    let recreates = object.is_some_and(|object| object["spec"]["strategy"]["type"] == "Recreate");
    let to_zero = changed && fields.iter().any(|field| field.path == "spec.replicas" && field.after == Some(0.into()));
    // What runs to its end serves nobody.
    let serves = workload && kind != "Job";
    if (gone && (serves || matches!(kind, "Service" | "Ingress"))) || (template && recreates) || to_zero {
        risks.push(Risk::Downtime);
    }
    if workload && template {
        risks.push(Risk::RestartsPods);
    }
    if widens(action, kind, fields) {
        risks.push(Risk::WidensAccess);
    }
    risks
}

/// Whether somebody may do or reach more than before.
fn widens(action: Action, kind: &str, fields: &[FieldChange]) -> bool {
    let made = matches!(action, Action::Create | Action::Adopt | Action::Replace);
    let changed = matches!(action, Action::Update | Action::Adopt | Action::Create | Action::Replace);
    let adds = |parts: &[&str]| fields.iter().any(|field| field.after.is_some() && parts.iter().any(|part| field.path.starts_with(part)));
    match kind {
        "Role" | "ClusterRole" | "RoleBinding" | "ClusterRoleBinding" => {
            made || (changed && adds(&["rules", "subjects", "roleRef", "aggregationRule", "metadata.labels"]))
        }
        // Nobody is kept out any more, or fewer are.
        "NetworkPolicy" => action == Action::Delete || (action == Action::Update && !fields.is_empty()),
        "Service" => {
            let outside =
                |field: &FieldChange| field.path == "spec.type" && matches!(field.after.as_ref().and_then(Value::as_str), Some("NodePort" | "LoadBalancer"));
            action == Action::Update && fields.iter().any(outside)
        }
        _ => {
            let loose = ["privileged", "allowPrivilegeEscalation", "hostNetwork", "hostPID", "hostIPC"];
            action == Action::Update && fields.iter().any(|field| field.after == Some(true.into()) && loose.iter().any(|name| field.path.ends_with(name)))
        }
    }
}

/// What was looked at of an object. `sensitive` are JSON pointers to what is secret in it.
fn precondition(object: &Value, key: &Key, sensitive: &[String]) -> Precondition {
    let seen = conceal(crate::changes::strip(object), key, sensitive);
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let observed = key.digest("observed", seen.to_string().as_bytes()).chars().take(32).collect();
    Precondition { uid: text("uid"), resource_version: text("resourceVersion"), observed }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Applied;

    fn id(kind: &str, name: &str) -> ObjectId {
        ObjectId { group: String::new(), version: "v1".into(), kind: kind.into(), resource: String::new(), namespace: "n".into(), name: name.into() }
    }

    fn applied(kind: &str, outcome: Outcome, before: Option<Value>, paths: &[&str], fixed: &[&str]) -> Applied {
        let change = |path: &&str| FieldChange { path: (*path).to_owned(), after: Some(json!(1)), ..FieldChange::default() };
        Applied {
            id: id(kind, "x"),
            outcome,
            changes: paths.iter().map(change).collect(),
            fixed: fixed.iter().map(|path| (*path).to_owned()).collect(),
            object: json!({"apiVersion": "v1", "kind": kind, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
            before,
            origin: "a.yaml:1".into(),
            left: Vec::new(),
        }
    }

    fn of(applied: Vec<Applied>) -> Review {
        review(&DeployPlan::default(), &Report { applied, ..Report::default() }, Header::default())
    }

    #[test]
    fn actions_come_with_reasons_and_risks() {
        let owned = || Some(json!({"metadata": {"uid": "1", "labels": {inventory::PART_OF: inventory::set_id("", "")}}}));
        let rows = [
            (applied("Service", Outcome::Created, None, &[], &[]), Action::Create, vec![]),
            (applied("Service", Outcome::Unchanged, owned(), &[], &[]), Action::Noop, vec![]),
            (applied("Deployment", Outcome::Configured, owned(), &["spec.template.spec.containers[x].image"], &[]), Action::Update, vec![Risk::RestartsPods]),
            (applied("Deployment", Outcome::Configured, owned(), &["spec.replicas"], &[]), Action::Update, vec![]),
            (applied("ConfigMap", Outcome::Configured, Some(json!({})), &["data.a"], &[]), Action::Adopt, vec![]),
            (applied("Job", Outcome::Configured, owned(), &[], &["spec.template"]), Action::Replace, vec![]),
            (applied("ClusterRoleBinding", Outcome::Created, None, &[], &[]), Action::Create, vec![Risk::WidensAccess]),
        ];
        for (applied, action, risks) in rows {
            let review = of(vec![applied]);
            assert_eq!((review.changes[0].action, &review.changes[0].risks), (action, &risks), "{}", review.changes[0].reason);
            assert_eq!(review.unchanged(), action == Action::Noop);
            assert_eq!(review.summary[&action], 1);
        }
        let service = of(vec![applied("Service", Outcome::Created, None, &[], &[])]);
        assert_eq!(
            service.changes[0].unknown,
            predict::unknown(&json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "NodePort", "ports": [{"port": 80}]}}))
        );
        assert!(service.changes[0].unknown.contains(&"spec.ports[80].nodePort".to_owned()), "{:?}", service.changes[0].unknown);
        let foreign =
            of(vec![applied("ConfigMap", Outcome::Configured, Some(json!({"metadata": {"labels": {inventory::PART_OF: "other"}}})), &["data.a"], &[])]);
        assert_eq!((foreign.changes[0].action, foreign.changes[0].code), (Action::Adopt, Reason::OtherSet));
    }

    #[test]
    fn a_plan_is_stale_when_what_it_would_do_is_another_thing_now() {
        let at = |version: &str| Some(json!({"metadata": {"uid": "1", "labels": {inventory::PART_OF: inventory::set_id("", "")}}, "spec": version}));
        let planned = of(vec![applied("Deployment", Outcome::Configured, at("a"), &["spec.replicas"], &[])]);
        assert_eq!(planned.stale(&planned), Vec::<String>::new());
        // Something else changed in the object, but what is to be done stays the same.
        let elsewhere = of(vec![applied("Deployment", Outcome::Configured, at("b"), &["spec.replicas"], &[])]);
        assert_eq!(planned.stale(&elsewhere), Vec::<String>::new());
        let drifted = of(vec![applied("Deployment", Outcome::Configured, at("b"), &["spec.replicas", "spec.paused"], &[])]);
        assert_eq!(planned.stale(&drifted), ["deployment/x in n: it has changed since: spec.paused"]);
        let done = of(vec![applied("Deployment", Outcome::Unchanged, at("a"), &[], &[])]);
        assert_eq!(planned.stale(&done), ["deployment/x in n: the plan would change it, now it would do nothing"]);
        // Made with another key: hashes of secrets say nothing, so the object itself must be the same.
        let secret = |key: u8, version: &str| {
            let hashed = FieldChange { path: "data.a".into(), after: Some(json!(format!("secret:{:016x}", key))), sensitive: true, ..FieldChange::default() };
            let before = json!({"metadata": {"uid": "1", "resourceVersion": version, "labels": {inventory::PART_OF: inventory::set_id("", "")}}});
            let mut applied = applied("Secret", Outcome::Configured, Some(before), &[], &[]);
            applied.changes = vec![hashed];
            review(&DeployPlan::default(), &Report { applied: vec![applied], key: Some(Key::of([key; 32])), ..Report::default() }, Header::default())
        };
        assert_eq!(secret(1, "5").stale(&secret(2, "5")), Vec::<String>::new());
        assert_eq!(secret(1, "5").stale(&secret(2, "6")).len(), 1);
        let text = serde_json::to_string(&planned).expect("JSON");
        assert_eq!(serde_json::from_str::<Review>(&text).expect("the same form"), planned);
    }
}
