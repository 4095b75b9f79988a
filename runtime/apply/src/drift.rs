//! What in a cluster is not as it was last applied, field by field, with who changed it and when. Pure: a dry run of what was applied goes in.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use strake_plan::ObjectId;

use crate::changes::{FieldChange, FieldOwner};
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
