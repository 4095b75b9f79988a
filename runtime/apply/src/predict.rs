//! What a server makes of an object that is applied, without asking it: the functions that strake's own API server calls, in the same order.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rayon::prelude::*;
use serde_json::{Value, json};
use strake_kinds::apply::{self, Writer};
use strake_kinds::{KindInfo, decode, default, structural, validate};
use strake_plan::{Change, DeployPlan, ObjectId};

use crate::applier::{MANAGER, forces};
use crate::changes::changes_by;
use crate::conceal::Key;
use crate::inventory::{self, MemberKey};
use crate::{Applied, Outcome, Refused, Report, journal};

/// What would become of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predicted {
    /// The object after the apply, as far as only the server knows nothing more.
    pub after: Value,
    /// Fields that differ and cannot be changed.
    pub fixed: Vec<String>,
    /// What the server would refuse.
    pub refused: Vec<String>,
}

/// The schemas of custom resources that are known, by group, version and kind.
pub type Schemas = BTreeMap<(String, String, String), Value>;

/// The schemas that a plan brings itself.
pub fn schemas(plan: &DeployPlan) -> Schemas {
    let defining = plan.changes.iter().filter(|change| change.id.kind == "CustomResourceDefinition");
    structural::schemas(defining.map(|change| &change.object))
}

/// The schema of an object's kind.
pub(crate) fn schema_of<'s>(schemas: &'s Schemas, id: &ObjectId) -> Option<&'s Value> {
    schemas.get(&(id.group.clone(), id.version.clone(), id.kind.clone()))
}

/// What applying a custom resource makes of what is there, by the schema of its definition: merged, with defaults, and with rules about the change evaluated.
pub fn predict_custom(live: Option<&Value>, wanted: &Value, schema: &Value) -> Predicted {
    let writer = Writer { manager: MANAGER, subresource: "", now: Timestamp::UNIX_EPOCH };
    let mut after = match apply::server_side_apply_custom(live, wanted, &writer, true, (schema, false)) {
        Ok(after) => after,
        Err(error) => return Predicted { after: wanted.clone(), refused: vec![error.to_string()], ..Predicted::default() },
    };
    structural::fill(&mut after, schema);
    let found = match live {
        Some(live) => structural::check_change(live, &after, schema),
        None => structural::check(&after, schema),
    };
    let refused = found.invalid.iter().map(|finding| format!("{}: {}", finding.path, finding.cause_message())).collect();
    Predicted { after, refused, ..Predicted::default() }
}

/// What applying `wanted` makes of what is there. Of a kind that is not built in nothing is known here: see [`predict_custom`].
pub fn predict(live: Option<&Value>, wanted: &Value) -> Predicted {
    predicted(live, wanted, true)
}

/// `noted` is whether the object after it says who owns its fields: without it a new object is made in half the time.
fn predicted(live: Option<&Value>, wanted: &Value, noted: bool) -> Predicted {
    let text = |name: &str| wanted[name].as_str().unwrap_or_default();
    let Some(kind) = strake_kinds::by_kind(text("apiVersion"), text("kind")) else {
        return Predicted { after: wanted.clone(), ..Predicted::default() };
    };
    let mut config = wanted.clone();
    default::fold_write_only(&mut config, kind);
    let wrong = decode::check(&config, kind.schema()).into_iter().filter(|error| matches!(error.problem, decode::Problem::WrongType { .. }));
    let wrong: Vec<String> = wrong.map(|error| error.server_message()).collect();
    if !wrong.is_empty() {
        return Predicted { after: config, refused: wrong, ..Predicted::default() };
    }
    let writer = Writer { manager: MANAGER, subresource: "", now: Timestamp::UNIX_EPOCH };
    let applied = match live {
        None if !noted => apply::new_object(&config, kind.schema()),
        live => apply::server_side_apply(live, &config, &writer, true, kind.schema()),
    };
    let mut after = match applied {
        Ok(after) => after,
        Err(error) => return Predicted { after: config, refused: vec![error.to_string()], ..Predicted::default() },
    };
    match live {
        None => created(kind, &mut after),
        Some(live) => kept(kind, &mut after, live),
    }
    default::admit(kind, &mut after, live);
    default::apply(&mut after, kind);
    decode::canonical(&mut after, kind.schema());
    let told = |finding: &validate::Invalid| format!("{}: {}", finding.path, finding.cause_message());
    let refused = validate::object(&after, kind).iter().map(told).collect();
    let fixed = live.map(|live| validate::update(live, &after, kind)).unwrap_or_default();
    Predicted { after, fixed: fixed.into_iter().map(|finding| finding.path.to_string()).collect(), refused }
}

fn created(kind: &KindInfo, object: &mut Value) {
    // What only a server writes is not the writer's.
    if let Some(map) = object.as_object_mut().filter(|_| kind.status_subresource && kind.kind != "Node") {
        map.shift_remove("status");
    }
}

fn kept(kind: &KindInfo, object: &mut Value, live: &Value) {
    for part in ["status", "spec"] {
        let held = (part == "status" && kind.status_subresource) || (part == "spec" && kind.kind == "Namespace");
        if let Some(map) = object.as_object_mut().filter(|_| held) {
            match live.get(part) {
                Some(value) => map.insert(part.to_owned(), value.clone()),
                None => map.shift_remove(part),
            };
        }
    }
}

/// The paths of a new object that only the server knows: what it allots and writes for itself.
pub fn unknown(object: &Value) -> Vec<String> {
    let mut unknown = vec!["metadata.uid".to_owned(), "metadata.creationTimestamp".to_owned(), "metadata.resourceVersion".to_owned(), "status".to_owned()];
    if object["kind"] == "Namespace" {
        unknown.extend(["spec.finalizers".to_owned(), "metadata.labels.kubernetes.io/metadata.name".to_owned()]);
    }
    if object["kind"] != "Service" || object["apiVersion"] != "v1" || object["spec"]["type"] == "ExternalName" {
        return unknown;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if object["spec"].get(field).is_none() {
            unknown.push(format!("spec.{field}"));
        }
    }
    let open = matches!(object["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer"));
    let ports = object["spec"]["ports"].as_array().into_iter().flatten();
    unknown.extend(ports.filter(|port| open && port.get("nodePort").is_none()).map(|port| format!("spec.ports[{}].nodePort", port["port"])));
    if open && object["spec"]["externalTrafficPolicy"] == "Local" {
        unknown.push("spec.healthCheckNodePort".to_owned());
    }
    unknown
}

/// An object as a server would have it that has just made it: dated, so that what is applied on it is a change.
fn made(mut object: Value) -> Value {
    object["metadata"]["creationTimestamp"] = json!("1970-01-01T00:00:00Z");
    object
}

/// What a change's object is sent as.
pub(crate) fn wanted(change: &Change, set: &str) -> Value {
    let mut wanted = inventory::labelled(&change.object, set);
    if change.hook.is_some() {
        wanted["metadata"]["annotations"][journal::DIGEST] = journal::digest(&change.object).into();
    }
    wanted
}

/// What applying `plan` would do where `before` was applied, without any cluster: what strake's own then does. An empty `before` is an empty cluster.
/// `own` is whether it is strake's, which does not admit everything.
pub fn compare(before: &DeployPlan, plan: &DeployPlan, key: &Key, own: bool) -> Report {
    let set = inventory::set_id(&plan.set, &plan.namespace);
    let old: BTreeMap<MemberKey, &Change> = before.changes.iter().map(|change| (MemberKey::of(&change.id), change)).collect();
    let mut report = Report { key: Some(key.clone()), ..Report::default() };
    let mut known = schemas(before);
    known.extend(schemas(plan));
    // Each object by itself, on any core; in the plan's order.
    let found: Vec<(Applied, Vec<Refused>)> =
        plan.changes.par_iter().map(|change| one(old.get(&MemberKey::of(&change.id)).copied(), change, &set, (key, own), &known)).collect();
    for (applied, refused) in found {
        report.applied.push(applied);
        report.refused.extend(refused);
    }
    let kept: BTreeSet<MemberKey> = plan.changes.iter().map(|change| MemberKey::of(&change.id)).collect();
    for change in before.changes.iter().filter(|change| !kept.contains(&MemberKey::of(&change.id))) {
        match inventory::protected(&change.object) {
            Some(reason) => report.kept.push((change.id.clone(), reason.to_owned())),
            None => report.pruned.push(change.id.clone()),
        }
    }
    report
}

fn one(old: Option<&Change>, change: &Change, set: &str, (key, own): (&Key, bool), known: &Schemas) -> (Applied, Vec<Refused>) {
    let schema = schema_of(known, &change.id);
    let predict = |live: Option<&Value>, wanted: &Value, noted: bool| match schema {
        Some(schema) => predict_custom(live, wanted, schema),
        None => predicted(live, wanted, noted),
    };
    let live = old.map(|old| made(predict(None, &wanted(old, set), true).after));
    let wanted = wanted(change, set);
    let Predicted { mut after, fixed, mut refused } = predict(live.as_ref(), &wanted, false);
    let kind = strake_kinds::by_kind(&change.id.api_version(), &change.id.kind).filter(|_| own);
    refused.extend(kind.and_then(|kind| default::denied(kind, &after, live.as_ref())).map(str::to_owned));
    if !fixed.is_empty() {
        after = predict(None, &wanted, false).after;
    }
    let refuse = |message| Refused { id: Some(change.id.clone()), origin: change.origin.clone(), message };
    let refused = refused.into_iter().map(refuse).collect();
    let mut fields = changes_by(live.as_ref(), &after, key, &change.sensitive, schema);
    forces(&mut fields, &fixed);
    let outcome = match (&live, fields.is_empty() && fixed.is_empty()) {
        (None, _) => Outcome::Created,
        (Some(_), true) => Outcome::Unchanged,
        (Some(_), false) => Outcome::Configured,
    };
    let origin = change.origin.clone();
    (Applied { id: change.id.clone(), outcome, changes: fields, fixed, object: after, before: live, origin, left: Vec::new() }, refused)
}

#[cfg(test)]
mod tests {

    use super::*;

    fn plan(objects: Vec<Value>) -> DeployPlan {
        let change = |object: Value| {
            let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
            let (group, version) =
                text("apiVersion").split_once('/').map_or((String::new(), text("apiVersion")), |(group, version)| (group.to_owned(), version.to_owned()));
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            Change { id: ObjectId { group, version, kind: text("kind"), resource: String::new(), namespace: "n".into(), name }, object, ..Change::default() }
        };
        DeployPlan { set: "s".into(), namespace: "n".into(), changes: objects.into_iter().map(change).collect(), ..DeployPlan::default() }
    }

    fn service(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "n"}, "spec": spec})
    }

    #[test]
    fn what_a_server_would_fill_in_is_no_change() {
        let short = plan(vec![service(json!({"ports": [{"port": 80}]}))]);
        let long = plan(vec![service(json!({"type": "ClusterIP", "sessionAffinity": "None", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}))]);
        let report = compare(&short, &long, &Key::random(), true);
        assert_eq!(report.applied[0].changes, []);
        assert!(report.unchanged());
        let other = plan(vec![service(json!({"ports": [{"port": 80, "targetPort": 8080}]}))]);
        let report = compare(&short, &other, &Key::random(), true);
        assert_eq!(report.applied[0].changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["spec.ports[80].targetPort"]);
    }

    #[test]
    fn what_cannot_be_changed_is_made_anew() {
        let deployment = |name: &str| {
            let labels = json!({"app": name});
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "n"},
                "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}})
        };
        let report = compare(&plan(vec![deployment("a")]), &plan(vec![deployment("b")]), &Key::random(), true);
        assert_eq!(report.applied[0].fixed, ["spec.selector"]);
        let forcing: Vec<&str> = report.applied[0].changes.iter().filter(|change| change.forces_replacement).map(|change| change.path.as_str()).collect();
        assert_eq!(forcing, ["spec.selector.matchLabels.app"]);
    }

    #[test]
    fn custom_resources_are_compared_by_the_schema_that_the_plan_brings() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "class": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "cannot be changed"}]},
            "size": {"type": "integer", "default": 1},
            "pools": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["zone"], "items": {"type": "object", "required": ["zone"],
                "properties": {"zone": {"type": "string"}, "count": {"type": "integer"}}}}}}}});
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.org"},
            "spec": {"group": "example.org", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
        let widget = |spec: Value| json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "n"}, "spec": spec});
        let with = |spec: Value| plan(vec![definition.clone(), widget(spec)]);
        let pool = |zone: &str, count: u8| json!({"zone": zone, "count": count});
        let before = with(json!({"class": "a", "pools": [pool("a", 1), pool("b", 1)]}));
        // Of a default that is written out nothing changes; an item is the one with its key.
        let report = compare(&before, &with(json!({"class": "a", "size": 1, "pools": [pool("b", 2), pool("a", 1)]})), &Key::random(), false);
        let paths: Vec<&str> = report.applied[1].changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!((paths, report.refused.as_slice()), (vec!["spec.pools[b].count"], [].as_slice()));
        // A rule about the change is evaluated where the object as it was is known.
        let report = compare(&before, &with(json!({"class": "b", "pools": [pool("a", 1), pool("b", 1)]})), &Key::random(), false);
        let refused: Vec<&str> = report.refused.iter().map(|refused| refused.message.as_str()).collect();
        assert!(refused.len() == 1 && refused[0].contains("spec.class") && refused[0].contains("cannot be changed"), "{refused:?}");
        let report = compare(&plan(vec![definition.clone()]), &with(json!({"class": "b"})), &Key::random(), false);
        assert_eq!(report.refused, []);
    }
}
