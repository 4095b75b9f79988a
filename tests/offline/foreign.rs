//! What only other clusters have, before strake's own API: autoscalers, and a kind of custom resources.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use strake_apply::{Applier, ApplyError, Options};
use strake_client::{Client, Patch, Resource, WriteParams};
use strake_plan::{Change, ChangeId, DeployPlan, Edge, ObjectId, Wanted};

use super::{apply, asked, served};

type Store = Arc<Mutex<BTreeMap<String, Value>>>;
type Answer = (StatusCode, Json<Value>);

fn refusal(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason, "metadata": {}});
    (StatusCode::from_u16(code).unwrap(), Json(status))
}

async fn read(State(store): State<Store>, Path(name): Path<String>) -> Answer {
    store.lock().unwrap().get(&name).map_or_else(|| refusal(404, "NotFound"), |object| (StatusCode::OK, Json(object.clone())))
}

async fn write(State(store): State<Store>, Path(name): Path<String>, RawQuery(query): RawQuery, body: String) -> Answer {
    let mut object: Value = serde_json::from_str(&body).unwrap();
    object["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000001");
    object["metadata"]["managedFields"] = json!([{"manager": "strake", "operation": "Apply", "fieldsV1": {"f:spec": {}}}]);
    if !query.unwrap_or_default().contains("dryRun") {
        store.lock().unwrap().insert(name, object.clone());
    }
    (StatusCode::OK, Json(object))
}

/// Deletes only what was looked at.
async fn delete(State(store): State<Store>, Path(name): Path<String>, body: String) -> Answer {
    let options: Value = serde_json::from_str(&body).unwrap();
    let mut store = store.lock().unwrap();
    match store.get(&name) {
        Some(object) if options["preconditions"]["uid"] == object["metadata"]["uid"] => {
            store.remove(&name);
            (StatusCode::OK, Json(json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}})))
        }
        Some(_) => refusal(409, "Conflict"),
        None => refusal(404, "NotFound"),
    }
}

/// A cluster with widgets, and with an autoscaler for the Deployment `web` when `scaled`.
async fn foreign(store: &Store, scaled: bool) -> Client {
    let scaler = json!({"metadata": {"name": "web"}, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    let list = json!({"kind": "List", "metadata": {}, "items": if scaled { vec![scaler] } else { Vec::new() }});
    let scalers = get(move || async move { Json(list) });
    let own = Router::new()
        .route("/apis/example.org/v1/namespaces/default/widgets/{name}", get(read).patch(write).delete(delete))
        .route("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", scalers)
        .with_state(store.clone());
    Client::in_process(own.fallback_service(served().await))
}

fn change(api_version: &str, kind: &str, resource: &str, name: &str, spec: &Value) -> Change {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let id =
        ObjectId { group: group.into(), version: version.into(), kind: kind.into(), resource: resource.into(), namespace: "default".into(), name: name.into() };
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    Change { id, object, ..Change::default() }
}

fn plan(changes: Vec<Change>) -> DeployPlan {
    DeployPlan { set: "shop".into(), namespace: "default".into(), changes, ..DeployPlan::default() }
}

#[tokio::test]
async fn complaint_13_replicas_are_left_to_an_autoscaler_of_the_cluster() {
    let labels = json!({"app": "web"});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}});
    let plan = plan(vec![change("apps/v1", "Deployment", "deployments", "web", &spec)]);
    for (scaled, replicas) in [(true, 5), (false, 1)] {
        let client = foreign(&Store::default(), scaled).await;
        apply(&client, &plan).await.unwrap();
        // Only who scales tells this apart from what a person does by hand.
        let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
        client.patch(&Resource::DEPLOYMENTS, Some("default"), "web", &patch, None, &WriteParams::manager("kubectl-scale")).await.unwrap();
        let said = asked(&client, &plan).await;
        assert_eq!(said.unchanged(), scaled);
        let left: Vec<&str> = said.applied[0].left.iter().map(|left| left.reason.as_str()).collect();
        assert_eq!(left, if scaled { vec!["horizontalpodautoscaler/web scales it"] } else { Vec::new() });
        apply(&client, &plan).await.unwrap();
        let live = client.get(&Resource::DEPLOYMENTS, Some("default"), "web").await.unwrap().unwrap();
        assert_eq!(live["spec"]["replicas"], replicas);
    }
}

#[tokio::test]
async fn complaint_03_custom_resources_are_pruned_when_their_kind_has_left_the_plan() {
    let store = Store::default();
    let client = foreign(&store, false).await;
    let widget = change("example.org/v1", "Widget", "widgets", "w", &json!({"size": 1}));
    let mut map = change("v1", "ConfigMap", "configmaps", "m", &Value::Null);
    map.object.as_object_mut().unwrap().remove("spec");
    apply(&client, &plan(vec![widget.clone(), map.clone()])).await.unwrap();
    assert!(store.lock().unwrap().contains_key("w"));
    // Nothing of the kind is in the plan: what it is called in a path only the inventory knows.
    let left = plan(vec![map]);
    assert_eq!(asked(&client, &left).await.pruned, std::slice::from_ref(&widget.id));
    assert_eq!(apply(&client, &left).await.unwrap().pruned, [widget.id]);
    assert!(store.lock().unwrap().is_empty());
    assert!(asked(&client, &left).await.unchanged());
}

#[tokio::test]
async fn complaint_03_what_somebody_has_made_anew_meanwhile_is_not_deleted() {
    let store = Store::default();
    let client = foreign(&store, false).await;
    let widget = change("example.org/v1", "Widget", "widgets", "w", &json!({"size": 1}));
    let mut map = change("v1", "ConfigMap", "configmaps", "m", &Value::Null);
    map.object.as_object_mut().unwrap().remove("spec");
    apply(&client, &plan(vec![widget, map.clone()])).await.unwrap();
    store.lock().unwrap().get_mut("w").unwrap()["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000002");
    let report = apply(&client, &plan(vec![map])).await.unwrap();
    assert!(report.pruned.is_empty() && report.kept[0].1.contains("made anew"), "{report:?}");
    assert!(store.lock().unwrap().contains_key("w"));
}

/// One of the API servers learns of a new kind later than the one that has accepted its definition.
#[tokio::test]
async fn complaint_06_a_kind_that_a_cluster_serves_late_is_waited_for() {
    let store = Store::default();
    let asked = Arc::new(Mutex::new(0));
    let define = |store: State<Store>, name: Path<String>, query: RawQuery, body: String| async move {
        let mut object: Value = serde_json::from_str(&body).unwrap();
        object["status"] = json!({"conditions": [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]});
        write(store, name, query, object.to_string()).await
    };
    let count = Arc::clone(&asked);
    let late = move |store: State<Store>, name: Path<String>, query: RawQuery, body: String| async move {
        *count.lock().unwrap() += 1;
        if *count.lock().unwrap() <= 2 { refusal(404, "NotFound") } else { write(store, name, query, body).await }
    };
    let own = Router::new()
        .route("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", get(read).patch(define))
        .route("/apis/example.org/v1/namespaces/default/widgets/{name}", get(read).patch(late))
        .with_state(store.clone());
    let client = Client::in_process(own.fallback_service(served().await));
    let spec = json!({"group": "example.org", "names": {"kind": "Widget", "plural": "widgets"}});
    let mut definition = change("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", "widgets.example.org", &spec);
    definition.id.namespace.clear();
    let widget = change("example.org/v1", "Widget", "widgets", "w", &json!({"size": 1}));
    let after = vec![Edge { change: ChangeId(0), state: Wanted::Ready }];
    apply(&client, &plan(vec![definition, Change { after, ..widget.clone() }])).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), 3);
    assert!(store.lock().unwrap().contains_key("w"));

    // A kind that nothing in the plan defines is not waited for: it is a mistake, or of a cluster that lacks it.
    *asked.lock().unwrap() = 0;
    store.lock().unwrap().clear();
    let refused = apply(&client, &plan(vec![widget])).await.unwrap_err();
    assert!(matches!(refused, ApplyError::Refused { .. }), "{refused:?}");
    assert_eq!(*asked.lock().unwrap(), 1);
}

/// The options of every deletion that was asked for, by path.
type Deletions = Arc<Mutex<Vec<(String, Value)>>>;

/// Strake's own API, with a look at what is deleted how.
async fn recording(deletions: &Deletions) -> Client {
    let deletions = Arc::clone(deletions);
    let look = move |request: Request, next: Next| {
        let deletions = Arc::clone(&deletions);
        async move {
            let (parts, body) = request.into_parts();
            let bytes = to_bytes(body, usize::MAX).await.unwrap();
            if parts.method == axum::http::Method::DELETE {
                deletions.lock().unwrap().push((parts.uri.path().to_owned(), serde_json::from_slice(&bytes).unwrap_or_default()));
            }
            next.run(Request::from_parts(parts, Body::from(bytes))).await
        }
    };
    Client::in_process(served().await.layer(from_fn(look)))
}

#[tokio::test]
async fn rules_8_and_9_exactly_what_was_looked_at_is_deleted_and_pods_first_when_somebody_waits() {
    let labels = json!({"app": "web"});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}});
    let web = change("apps/v1", "Deployment", "deployments", "web", &spec);
    let map = |name: &str| {
        let mut map = change("v1", "ConfigMap", "configmaps", name, &Value::Null);
        map.object.as_object_mut().unwrap().remove("spec");
        map
    };
    for (wait, policy) in [(None, "Background"), (Some(std::time::Duration::from_secs(600)), "Foreground")] {
        let deletions = Deletions::default();
        let client = recording(&deletions).await;
        apply(&client, &plan(vec![web.clone(), map("gone"), map("stays")])).await.unwrap();
        let uid = |live: Option<Value>| live.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        let of_web = uid(client.get(&Resource::DEPLOYMENTS, Some("default"), "web").await.unwrap());
        let of_map = uid(client.get(&Resource::CONFIG_MAPS, Some("default"), "gone").await.unwrap());
        deletions.lock().unwrap().clear();
        let rest = plan(vec![map("stays")]);
        let options = Options { wait, ..super::options() };
        Applier::new(&client, &rest, options, &|_| {}).apply().await.unwrap();
        let found = deletions.lock().unwrap().clone();
        let of = |name: &str| found.iter().find(|(path, _)| path.ends_with(name)).unwrap_or_else(|| panic!("{name}: {found:?}")).1.clone();
        assert_eq!((&of("/web")["preconditions"]["uid"], &of("/web")["propagationPolicy"]), (&json!(of_web), &json!(policy)));
        assert_eq!((&of("/gone")["preconditions"]["uid"], &of("/gone")["propagationPolicy"]), (&json!(of_map), &json!("Background")));
        let place = |name: &str| found.iter().position(|(path, _)| path.ends_with(name));
        assert!(place("/web") < place("/gone"), "workloads go before what they use: {found:?}");
    }
}
