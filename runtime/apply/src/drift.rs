//! What in a cluster is not as it was last applied, field by field, with who changed it and when. Pure: a dry run of what was applied goes in.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use strake_kinds::apply::{self, Owned};
use strake_plan::ObjectId;

use crate::changes::{FieldChange, FieldOwner, strip};
use crate::conceal::{Key, conceal, is_hash};
use crate::ownership::{is_of_the_cluster, plain};
use crate::{Applied, Outcome, Report};

/// An object that is not as it was applied.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drifted {
    /// The object.
    pub id: ObjectId,
    /// What became of it.
    pub state: State,
    /// `file:line` of its manifest.
    pub origin: String,
    /// Fields that were applied and are different.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<DriftedField>,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is gone.
    Missing,
    /// It is being deleted.
    Terminating,
    /// Fields of it are different.
    Changed,
}

/// A field that is not as it was applied. Values of Secrets are not shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftedField {
    /// Such as `spec.template.spec.containers[web].image`.
    pub path: String,
    /// What was applied.
    pub applied: Option<Value>,
    /// What is there; none when the field is gone.
    pub found: Option<Value>,
    /// The values are secret, and shown as hashes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
    /// Who changed it last; none when the field is gone: nobody owns it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<FieldOwner>,
}

/// An object that is as it was applied, or not, and has more than that.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Additions {
    /// The object.
    pub id: ObjectId,
    /// `file:line` of its manifest.
    pub origin: String,
    /// Fields that others have added.
    pub fields: Vec<AddedField>,
}

/// A field that was not applied, and that somebody else has. An apply leaves it alone. Values of Secrets are not shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddedField {
    /// Such as `metadata.labels.team`.
    pub path: String,
    /// What is there.
    pub found: Value,
    /// The value is secret, and shown as a hash.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
    /// Who added it.
    pub by: FieldOwner,
}

/// What others have added to an object. `wanted`: what is applied, with what strake adds to it by itself. What the cluster's own controllers write is left out.
pub fn added(applied: &Applied, wanted: &Value, key: &Key, sensitive: &[String]) -> Option<Additions> {
    let live = applied.before.as_ref().filter(|_| applied.outcome != Outcome::Created)?;
    let shown = conceal(strip(live), key, sensitive);
    let foreign = |owned: &Owned| {
        let told = applied.changes.iter().any(|change| plain(&owned.path).starts_with(&change.path));
        !told && !is_of_the_cluster(&owned.owner, &plain(&owned.path)) && apply::find(wanted, &owned.steps).is_none()
    };
    let found: Vec<Owned> = apply::owned(live).into_iter().filter(foreign).collect();
    let begins = |long: &Owned, short: &Owned| long.steps.len() > short.steps.len() && long.steps.starts_with(&short.steps);
    let is_item = |owned: &Owned| owned.steps.last().is_some_and(|step| step.starts_with("k:"));
    // An item that somebody has added is one addition, whatever it has; of a map each entry is.
    let whole = |owned: &&Owned| {
        let part = found.iter().any(|other| is_item(other) && begins(owned, other));
        let parts = !is_item(owned) && found.iter().any(|other| begins(other, owned));
        !part && !parts
    };
    let field = |owned: &Owned| {
        let value = apply::find(&shown, &owned.steps)?.clone();
        Some(AddedField { path: plain(&owned.path), sensitive: is_hash(&value), found: value, by: owned.owner.clone().into() })
    };
    let mut fields: Vec<AddedField> = found.iter().filter(whole).filter_map(field).collect();
    fields.sort_by(|a, b| a.path.cmp(&b.path));
    fields.dedup_by(|a, b| a.path == b.path);
    (!fields.is_empty()).then(|| Additions { id: applied.id.clone(), origin: applied.origin.clone(), fields })
}

/// What is different, by a dry run that would put everything back. `hooks` are run once and may be gone.
pub fn drift(report: &Report, hooks: &BTreeSet<&ObjectId>) -> Vec<Drifted> {
    report.applied.iter().filter(|applied| !hooks.contains(&applied.id)).filter_map(drifted).collect()
}

fn drifted(applied: &Applied) -> Option<Drifted> {
    let make = |state, fields| Some(Drifted { id: applied.id.clone(), state, origin: applied.origin.clone(), fields });
    let Some(live) = applied.before.as_ref().filter(|_| applied.outcome != Outcome::Created) else { return make(State::Missing, Vec::new()) };
    if !live["metadata"]["deletionTimestamp"].is_null() {
        return make(State::Terminating, Vec::new());
    }
    let of = |change: &FieldChange| DriftedField {
        path: change.path.clone(),
        applied: change.after.clone(),
        found: change.before.clone(),
        sensitive: change.sensitive,
        by: change.owner.clone(),
    };
    let fields: Vec<DriftedField> = applied.changes.iter().map(of).collect();
    if fields.is_empty() { None } else { make(State::Changed, fields) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_is_named_with_them_and_what_the_cluster_writes_is_not() {
        let entry = |manager: &str, subresource: &str, fields: Value| json!({"manager": manager, "operation": "Update", "subresource": subresource, "fieldsType": "FieldsV1", "fieldsV1": fields});
        let container = json!({"k:{\"name\":\"proxy\"}": {".": {}, "f:name": {}, "f:image": {}}});
        let live = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"labels": {"app": "web", "team": "blue"}, "annotations": {"note": "x", "deployment.kubernetes.io/revision": "3"}, "managedFields": [
                entry("kubectl-label", "", json!({"f:metadata": {"f:labels": {"f:team": {}, "f:app": {}}, "f:annotations": {".": {}, "f:note": {}}}})),
                entry("sidecar-injector", "", json!({"f:spec": {"f:template": {"f:spec": {"f:containers": container}}}})),
                entry("kube-controller-manager", "", json!({"f:metadata": {"f:annotations": {"f:deployment.kubernetes.io/revision": {}}}})),
                entry("kubectl-edit", "status", json!({"f:status": {"f:replicas": {}}})),
                entry("strake-rollout", "", json!({"f:metadata": {"f:annotations": {"f:x": {}}}})),
            ]},
            "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web"}, {"name": "proxy", "image": "proxy:1"}]}}},
            "status": {"replicas": 1},
        });
        let wanted = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web"}]}}}});
        let applied = Applied {
            id: ObjectId::default(),
            outcome: Outcome::Unchanged,
            changes: Vec::new(),
            fixed: Vec::new(),
            object: json!({}),
            before: Some(live),
            origin: "a.yaml:1".into(),
            left: Vec::new(),
        };
        let found = added(&applied, &wanted, &Key::of([1; 32]), &[]).expect("additions");
        let told: Vec<(&str, &Value, &str)> = found.fields.iter().map(|field| (field.path.as_str(), &field.found, field.by.manager.as_str())).collect();
        let (note, label, proxy) = (json!("x"), json!("blue"), json!({"name": "proxy", "image": "proxy:1"}));
        assert_eq!(
            told,
            [
                ("metadata.annotations.note", &note, "kubectl-label"),
                ("metadata.labels.team", &label, "kubectl-label"),
                ("spec.template.spec.containers[proxy]", &proxy, "sidecar-injector"),
            ]
        );
        assert_eq!(added(&applied, applied.before.as_ref().expect("an object"), &Key::of([1; 32]), &[]), None);
    }

    fn changed(path: &str) -> FieldChange {
        let owner = FieldOwner { manager: "kubectl-edit".into(), operation: "Update".into(), ..FieldOwner::default() };
        FieldChange { path: path.to_owned(), before: Some(json!(3)), after: Some(json!(1)), owner: Some(owner), ..FieldChange::default() }
    }

    #[test]
    fn objects_that_are_gone_or_different_have_drifted_and_hooks_have_not() {
        let id = |name: &str| ObjectId { kind: "Deployment".into(), name: name.into(), ..ObjectId::default() };
        let applied = |name: &str, outcome, before: Option<Value>, paths: &[&str]| Applied {
            id: id(name),
            outcome,
            changes: paths.iter().map(|path| changed(path)).collect(),
            fixed: Vec::new(),
            object: json!({}),
            before,
            origin: "a.yaml:1".into(),
            left: Vec::new(),
        };
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let report = Report {
            applied: vec![
                applied("gone", Outcome::Created, None, &[]),
                applied("same", Outcome::Unchanged, Some(json!({})), &[]),
                applied("scaled", Outcome::Configured, Some(json!({})), &["spec.replicas"]),
                applied("going", Outcome::Unchanged, Some(going), &[]),
                applied("hook", Outcome::Created, None, &[]),
            ],
            ..Report::default()
        };
        let hook = id("hook");
        let found = drift(&report, &BTreeSet::from([&hook]));
        let states: Vec<(&str, State)> = found.iter().map(|drifted| (drifted.id.name.as_str(), drifted.state)).collect();
        assert_eq!(states, [("gone", State::Missing), ("scaled", State::Changed), ("going", State::Terminating)]);
        let field = &found[1].fields[0];
        assert_eq!((field.applied.clone(), field.found.clone()), (Some(json!(1)), Some(json!(3))));
        assert_eq!(field.by.as_ref().map(|by| by.manager.as_str()), Some("kubectl-edit"));
    }
}
