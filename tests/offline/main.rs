//! What a plan says without a cluster is what strake's own cluster then does: over every manifest in the repository, and over edits of them.
//! The cluster is the real API code over a state in memory; it needs neither root nor a network.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod consent;
mod corpora;
mod edits;
mod foreign;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use strake_api::{ApiOptions, ApiServer, NoNode, router};
use strake_apply::conceal::Key;
use strake_apply::review::{Action, Header, Review, review};
use strake_apply::{Applier, ApplyError, Options, Report, predict};
use strake_client::{Client, DeleteParams, ListParams, Patch, Resource, WriteParams};
use strake_plan::{DeployPlan, ObjectId};
use strake_state::Memory;
use strake_tests::Dice;

/// Edits of each corpus.
const EDITS: u64 = 12;

async fn cluster() -> Client {
    Client::in_process(served().await)
}

async fn served() -> axum::Router {
    let server = Arc::new(ApiServer::new(Arc::new(Memory::new()), ApiOptions::default(), Arc::new(NoNode)));
    server.bootstrap().await.unwrap();
    router(server)
}

fn options() -> Options {
    Options { wait: None, replace: true, allow_mass_delete: true, key: Key::of([7; 32]), ..Options::default() }
}

async fn apply(client: &Client, plan: &DeployPlan) -> Result<Report, ApplyError> {
    let applier = Applier::new(client, plan, options(), &|_| {});
    tokio::select! {
        report = applier.apply() => report,
        () = collect_garbage(client) => unreachable!("it has no end"),
    }
}

/// What the control loop does of a cluster in which nothing runs: what is being deleted goes at once.
async fn collect_garbage(client: &Client) {
    let jobs = Resource::new("batch", "v1", "jobs", "Job", true);
    loop {
        for resource in [&Resource::PODS, &jobs] {
            let list = client.list(resource, None, &ListParams::all()).await.unwrap();
            for object in list.items.iter().filter(|object| object["metadata"]["deletionTimestamp"].is_string()) {
                let text = |field: &str| object["metadata"][field].as_str();
                let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                // It may be gone by now.
                let _ = client.patch(resource, text("namespace"), text("name").unwrap(), &patch, None, &WriteParams::default()).await;
                let at_once = DeleteParams { grace_seconds: Some(0), ..DeleteParams::default() };
                let _ = client.delete(resource, text("namespace"), text("name").unwrap(), &at_once).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the server says by its dry run.
async fn asked(client: &Client, plan: &DeployPlan) -> Report {
    Applier::new(client, plan, options(), &|_| {}).diff().await.unwrap()
}

/// What is said without asking.
fn offline(before: &DeployPlan, plan: &DeployPlan, key: Option<&Key>) -> Report {
    predict::compare(before, plan, key.unwrap_or(&Key::of([7; 32])), true)
}

/// Namespaces that the objects need and do not bring.
async fn namespaces(client: &Client, plan: &DeployPlan) {
    let own: BTreeSet<&str> = plan.changes.iter().filter(|change| change.id.kind == "Namespace").map(|change| change.id.name.as_str()).collect();
    let needed: BTreeSet<&str> =
        plan.changes.iter().map(|change| change.id.namespace.as_str()).filter(|name| !name.is_empty() && !own.contains(name)).collect();
    for name in needed {
        if client.get(&Resource::NAMESPACES, None, name).await.unwrap().is_none() {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            client.create(&Resource::NAMESPACES, None, &object, &WriteParams::default()).await.unwrap();
        }
    }
}

/// An object without what only a server knows: times, versions, ownership, and the paths that the plan calls unknown.
fn comparable(object: &Value, unknown: &[String]) -> Value {
    let mut object = object.clone();
    for field in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    for path in unknown {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        if let Some(label) = path.strip_prefix("metadata.labels.") {
            object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut).map(|labels| labels.remove(label));
        } else if parent.starts_with("spec.ports[") {
            object["spec"]["ports"].as_array_mut().into_iter().flatten().for_each(|port| {
                port.as_object_mut().unwrap().remove(name);
            });
        } else if parent.is_empty() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            object.pointer_mut(&format!("/{}", parent.replace('.', "/"))).and_then(Value::as_object_mut).map(|map| map.remove(name));
        }
    }
    // Nothing is left of a part that only the server fills.
    if object["spec"] == json!({}) {
        object.as_object_mut().unwrap().remove("spec");
    }
    object
}

fn resource(id: &ObjectId) -> Resource {
    Resource::new(&id.group, &id.version, &id.resource, &id.kind, !id.namespace.is_empty())
}

/// Every object of the plan is in the cluster as the report without a cluster said.
async fn is_as_said(client: &Client, said: &Report, plan: &DeployPlan, what: &str) {
    for (applied, change) in said.applied.iter().zip(&plan.changes) {
        let id = &applied.id;
        let namespace = Some(id.namespace.as_str()).filter(|name| !name.is_empty());
        let there = client.get(&resource(id), namespace, &id.name).await.unwrap();
        let there = there.unwrap_or_else(|| panic!("{what}: {id} is there"));
        let unknown = predict::unknown(&change.object);
        assert_eq!(comparable(&applied.object, &unknown), comparable(&there, &unknown), "{what}: {id}");
    }
}

/// A field with its value before and after.
type Field = (String, Option<Value>, Option<Value>);

/// The actions with their fields, without those that only a server knows.
fn told(report: &Report, plan: &DeployPlan) -> Vec<(ObjectId, Action, Vec<Field>)> {
    let Review { changes, .. } = review(plan, report, Header::default());
    let mut told: Vec<_> = changes
        .into_iter()
        .filter(|change| change.action != Action::Noop)
        .map(|change| {
            let object = plan.changes.iter().find(|planned| planned.id == change.id).map(|planned| predict::unknown(&planned.object)).unwrap_or_default();
            let known = |path: &str| !object.iter().any(|unknown| path.starts_with(unknown.as_str()));
            // Of what is made, the whole is compared once it is there.
            let fields = if matches!(change.action, Action::Create | Action::Delete | Action::Replace) { Vec::new() } else { change.fields };
            let mut fields: Vec<_> = fields.into_iter().filter(|field| known(&field.path)).map(|field| (field.path, field.before, field.after)).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            (change.id, change.action, fields)
        })
        .collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    told
}

fn refused(report: &Report) -> BTreeSet<String> {
    report.refused.iter().filter_map(|refused| refused.id.as_ref().map(ToString::to_string)).collect()
}

#[tokio::test]
async fn the_offline_plan_of_every_corpus_is_what_the_server_then_does() {
    let corpora = corpora::all();
    assert!(corpora.len() >= 15, "the repository has manifests: {}", corpora.len());
    let mut objects = 0;
    for (name, plan) in &corpora {
        let client = cluster().await;
        namespaces(&client, plan).await;
        let said = offline(&DeployPlan::default(), plan, None);
        let answered = asked(&client, plan).await;
        assert_eq!(refused(&said), refused(&answered), "{name}: said {:?}, answered {:?}", said.refused, answered.refused);
        if !said.refused.is_empty() {
            continue;
        }
        assert_eq!(told(&said, plan), told(&asked(&client, plan).await, plan), "{name}");
        apply(&client, plan).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        is_as_said(&client, &said, plan, name).await;
        let again = asked(&client, plan).await;
        assert!(again.unchanged() && again.refused.is_empty(), "{name}: a second plan is empty: {:?}", told(&again, plan));
        assert!(offline(plan, plan, None).unchanged(), "{name}");
        objects += plan.changes.len();
    }
    assert!(objects >= 40, "only {objects} objects were compared");
}

#[tokio::test]
async fn the_offline_plan_of_an_edit_is_what_the_server_then_does() {
    let (mut edited, mut refusals, mut replaced) = (0, 0, 0);
    for (number, (name, first)) in corpora::all().into_iter().enumerate() {
        let client = cluster().await;
        namespaces(&client, &first).await;
        if apply(&client, &first).await.is_err() {
            continue;
        }
        let mut dice = Dice::new(number as u64);
        let mut before = first;
        for _ in 0..EDITS {
            let (plan, edit) = edits::edit(&before, &mut dice);
            let what = format!("{name}: {edit}");
            // The inventory has a key of its own.
            let asked = asked(&client, &plan).await;
            let said = offline(&before, &plan, asked.key.as_ref());
            assert_eq!(refused(&said), refused(&asked), "{what}: said {:?}, answered {:?}", said.refused, asked.refused);
            if !said.refused.is_empty() {
                refusals += 1;
                continue;
            }
            assert_eq!(told(&said, &plan), told(&asked, &plan), "{what}");
            replaced += usize::from(said.applied.iter().any(|applied| !applied.fixed.is_empty()));
            apply(&client, &plan).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            is_as_said(&client, &said, &plan, &what).await;
            let again = self::asked(&client, &plan).await;
            assert!(again.unchanged(), "{what}: a second plan is empty: {:?}", told(&again, &plan));
            edited += 1;
            before = plan;
        }
    }
    eprintln!("{edited} edits applied, {replaced} of them made something anew, {refusals} refused by both");
    assert!(edited >= 60, "only {edited} edits were applied");
}
