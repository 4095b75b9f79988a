//! What an apply would do, as data that a person or a program can judge before it happens, and that can be checked again right before it does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use strake_plan::{DeployPlan, ObjectId};

use crate::changes::FieldChange;
use crate::{Outcome, Report};

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
    /// The digest of what was seen of it, without status and what a server writes for itself.
    pub observed: String,
}

/// Reviews what a dry run found. Pure: the same report gives the same review.
pub fn review(plan: &DeployPlan, report: &Report, header: Header) -> Review {
    let mut changes: Vec<Reviewed> = Vec::with_capacity(report.applied.len());
    for (place, applied) in report.applied.iter().enumerate() {
        let after = plan.changes.get(place).map(|change| change.after.iter().map(|id| id.0).collect()).unwrap_or_default();
        let (action, reason) = action(applied.outcome, applied.before.as_ref(), &applied.fixed, &applied.changes);
        changes.push(Reviewed {
            id: applied.id.clone(),
            action,
            reason,
            origin: applied.origin.clone(),
            risks: risks(action, &applied.id, &applied.changes),
            unknown: if action == Action::Create || action == Action::Replace { unknown(&applied.id, &applied.object) } else { Vec::new() },
            fields: applied.changes.clone(),
            after,
            precondition: applied.before.as_ref().map(precondition),
        });
    }
    let gone = |id: &ObjectId, action, reason: String| Reviewed {
        id: id.clone(),
        action,
        reason,
        origin: String::new(),
        fields: Vec::new(),
        unknown: Vec::new(),
        after: Vec::new(),
        risks: if action == Action::Delete { risks(action, id, &[]) } else { Vec::new() },
        precondition: None,
    };
    changes.extend(report.pruned.iter().map(|id| gone(id, Action::Delete, "left the directory".to_owned())));
    changes.extend(report.kept.iter().map(|(id, reason)| gone(id, Action::Forget, format!("left the directory, but {reason}"))));
    let mut summary = BTreeMap::new();
    changes.iter().for_each(|change| *summary.entry(change.action).or_insert(0) += 1);
    Review { format_version: FORMAT_VERSION, header, summary, changes }
}

impl Review {
    /// True when nothing would be done.
    pub fn unchanged(&self) -> bool {
        self.changes.iter().all(|change| matches!(change.action, Action::Noop | Action::Forget))
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
            let same = change.action == other.action && change.fields == other.fields;
            if change.precondition != other.precondition && !same {
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

fn action(outcome: Outcome, before: Option<&Value>, fixed: &[String], fields: &[FieldChange]) -> (Action, String) {
    if !fixed.is_empty() {
        return (Action::Replace, format!("{} cannot be changed", fixed.join(", ")));
    }
    match (outcome, before) {
        (Outcome::Created, _) => (Action::Create, "it does not exist".to_owned()),
        (Outcome::Unchanged, _) => (Action::Noop, "it is as the directory says".to_owned()),
        (Outcome::Configured, Some(before)) if crate::inventory::set_of(before).is_none() => (Action::Adopt, "it exists, and belongs to no set".to_owned()),
        (Outcome::Configured, _) => {
            let paths: Vec<&str> = fields.iter().map(|field| field.path.as_str()).collect();
            (Action::Update, if paths.is_empty() { "it is different".to_owned() } else { format!("{} differ", paths.join(", ")) })
        }
    }
}

const WORKLOADS: [&str; 6] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "Job"];

fn risks(action: Action, id: &ObjectId, fields: &[FieldChange]) -> Vec<Risk> {
    let mut risks = Vec::new();
    let workload = WORKLOADS.contains(&id.kind.as_str());
    let gone = matches!(action, Action::Delete | Action::Replace);
    if gone && matches!(id.kind.as_str(), "PersistentVolumeClaim" | "PersistentVolume" | "Namespace" | "CustomResourceDefinition" | "StatefulSet") {
        risks.push(Risk::DataLoss);
    }
    if gone && (workload || matches!(id.kind.as_str(), "Service" | "Ingress")) {
        risks.push(Risk::Downtime);
    }
    if matches!(action, Action::Update | Action::Adopt) && workload && fields.iter().any(|field| field.path.starts_with("spec.template")) {
        risks.push(Risk::RestartsPods);
    }
    let access = matches!(id.kind.as_str(), "Role" | "ClusterRole" | "RoleBinding" | "ClusterRoleBinding");
    if access && matches!(action, Action::Create | Action::Update | Action::Adopt | Action::Replace) {
        risks.push(Risk::WidensAccess);
    }
    risks
}

/// What a cluster fills in.
fn unknown(id: &ObjectId, object: &Value) -> Vec<String> {
    let mut unknown = vec!["metadata.uid".to_owned(), "status".to_owned()];
    if id.kind == "Service" && id.group.is_empty() {
        if object.pointer("/spec/clusterIP").is_none() {
            unknown.push("spec.clusterIP".to_owned());
        }
        let open = matches!(object.pointer("/spec/type").and_then(Value::as_str), Some("NodePort" | "LoadBalancer"));
        let ports = object.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten().enumerate();
        unknown.extend(ports.filter(|(_, port)| open && port.get("nodePort").is_none()).map(|(index, _)| format!("spec.ports[{index}].nodePort")));
    }
    unknown
}

fn precondition(object: &Value) -> Precondition {
    let seen = crate::changes::strip(object);
    let digest = Sha256::digest(seen.to_string().as_bytes());
    let observed = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Precondition { uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), observed }
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
        let change = |path: &&str| FieldChange { path: (*path).to_owned(), before: None, after: Some(json!(1)) };
        Applied {
            id: id(kind, "x"),
            outcome,
            changes: paths.iter().map(change).collect(),
            fixed: fixed.iter().map(|path| (*path).to_owned()).collect(),
            object: json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
            before,
            origin: "a.yaml:1".into(),
        }
    }

    fn of(applied: Vec<Applied>) -> Review {
        review(&DeployPlan::default(), &Report { applied, ..Report::default() }, Header::default())
    }

    #[test]
    fn actions_come_with_reasons_and_risks() {
        let owned = || Some(json!({"metadata": {"uid": "1", "labels": {"applyset.kubernetes.io/part-of": "s"}}}));
        let rows = [
            (applied("Service", Outcome::Created, None, &[], &[]), Action::Create, vec![]),
            (applied("Service", Outcome::Unchanged, owned(), &[], &[]), Action::Noop, vec![]),
            (applied("Deployment", Outcome::Configured, owned(), &["spec.template.spec.containers[x].image"], &[]), Action::Update, vec![Risk::RestartsPods]),
            (applied("Deployment", Outcome::Configured, owned(), &["spec.replicas"], &[]), Action::Update, vec![]),
            (applied("ConfigMap", Outcome::Configured, Some(json!({})), &["data.a"], &[]), Action::Adopt, vec![]),
            (applied("Job", Outcome::Configured, owned(), &[], &["spec.template"]), Action::Replace, vec![Risk::Downtime]),
            (applied("ClusterRoleBinding", Outcome::Created, None, &[], &[]), Action::Create, vec![Risk::WidensAccess]),
        ];
        for (applied, action, risks) in rows {
            let review = of(vec![applied]);
            assert_eq!((review.changes[0].action, &review.changes[0].risks), (action, &risks), "{}", review.changes[0].reason);
            assert_eq!(review.unchanged(), action == Action::Noop);
            assert_eq!(review.summary[&action], 1);
        }
        let service = of(vec![applied("Service", Outcome::Created, None, &[], &[])]);
        assert_eq!(service.changes[0].unknown, ["metadata.uid", "status", "spec.clusterIP", "spec.ports[0].nodePort"]);
    }

    #[test]
    fn a_plan_is_stale_when_what_it_would_do_is_another_thing_now() {
        let at = |version: &str| Some(json!({"metadata": {"uid": "1", "labels": {"applyset.kubernetes.io/part-of": "s"}}, "spec": version}));
        let planned = of(vec![applied("Deployment", Outcome::Configured, at("a"), &["spec.replicas"], &[])]);
        assert_eq!(planned.stale(&planned), Vec::<String>::new());
        // Something else changed in the object, but what is to be done stays the same.
        let elsewhere = of(vec![applied("Deployment", Outcome::Configured, at("b"), &["spec.replicas"], &[])]);
        assert_eq!(planned.stale(&elsewhere), Vec::<String>::new());
        let drifted = of(vec![applied("Deployment", Outcome::Configured, at("b"), &["spec.replicas", "spec.paused"], &[])]);
        assert_eq!(planned.stale(&drifted), ["deployment/x in n: it has changed since: spec.paused"]);
        let done = of(vec![applied("Deployment", Outcome::Unchanged, at("a"), &[], &[])]);
        assert_eq!(planned.stale(&done), ["deployment/x in n: the plan would change it, now it would do nothing"]);
        let text = serde_json::to_string(&planned).expect("JSON");
        assert_eq!(serde_json::from_str::<Review>(&text).expect("the same form"), planned);
    }
}
