//! Watches, as raw streams and through the client's reflection.

use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use strake_client::{Change, ListParams, Resource, WatchKind};

use crate::scene::{CONFIG_MAPS, PODS, Scene, config_map, pod};

/// How long what has to come may take: a loaded machine is slow, and that is no failure.
const SOON: Duration = Duration::from_secs(60);

/// The next `count` events of a raw watch as `TYPE name key`.
async fn events(scene: &Scene, path: &str, count: usize) -> Vec<String> {
    let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let mut body = scene.send(request).await.into_body();
    let mut found = Vec::new();
    while found.len() < count {
        let Some(frame) = tokio::time::timeout(SOON, body.frame()).await.expect("an event comes") else { break };
        let event: Value = serde_json::from_slice(&frame.unwrap().into_data().unwrap()).unwrap();
        let object = &event["object"];
        found.push(format!(
            "{} {} {}",
            event["type"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap_or("-"),
            object["data"]["key"].as_str().unwrap_or("-")
        ));
    }
    found
}

#[tokio::test]
async fn a_watch_goes_on_from_its_revision() {
    let scene = Scene::new().await;
    scene.created(CONFIG_MAPS, config_map("a")).await;
    let from = scene.revision();
    scene.merge(&format!("{CONFIG_MAPS}/a"), json!({"data": {"key": "two"}})).await;
    scene.created(CONFIG_MAPS, config_map("b")).await;
    scene.created(PODS, pod("unrelated")).await;
    scene.delete(&format!("{CONFIG_MAPS}/a"), Value::Null).await;
    let seen = events(&scene, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}"), 3).await;
    assert_eq!(seen, ["MODIFIED a two", "ADDED b value", "DELETED a two"]);
    let all = events(&scene, "/api/v1/configmaps?watch=1&resourceVersion=0&timeoutSeconds=1", 9).await;
    assert_eq!(all, ["ADDED b value"], "it begins with what is there, and ends after its time");
    let one = events(&scene, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}&fieldSelector=metadata.name%3Da"), 2).await;
    assert_eq!(one, ["MODIFIED a two", "DELETED a two"]);
}

#[tokio::test]
async fn a_selector_turns_changes_into_comings_and_goings() {
    let scene = Scene::new().await;
    let from = scene.revision();
    scene.created(CONFIG_MAPS, config_map("a")).await;
    for (label, key) in [(json!("yes"), "in"), (json!("yes"), "still"), (json!(null), "out"), (json!("yes"), "again")] {
        scene.merge(&format!("{CONFIG_MAPS}/a"), json!({"metadata": {"labels": {"watched": label}}, "data": {"key": key}})).await;
    }
    scene.delete(&format!("{CONFIG_MAPS}/a"), Value::Null).await;
    let seen = events(&scene, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}&labelSelector=watched"), 5).await;
    assert_eq!(seen, ["ADDED a in", "MODIFIED a still", "DELETED a still", "ADDED a again", "DELETED a again"]);
}

#[tokio::test]
async fn what_is_forgotten_is_gone() {
    let scene = Scene::new().await;
    assert_eq!(events(&scene, &format!("{CONFIG_MAPS}?watch=true&resourceVersion=999999"), 2).await, ["ERROR - -"]);
    let error = scene.client.watch(&Resource::CONFIG_MAPS, None, &ListParams::all(), "999999").await.unwrap().next().await.unwrap().unwrap_err();
    assert!(error.is_expired(), "{error}");
    assert_eq!(scene.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=x")).await.0, 400);
}

#[tokio::test]
async fn bookmarks_tell_how_far_it_is() {
    let scene = Scene::new().await;
    scene.created(CONFIG_MAPS, config_map("a")).await;
    let path = format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1");
    let body = scene.send(http::Request::get(&path).body(axum::body::Body::empty()).unwrap()).await.into_body().collect().await.unwrap().to_bytes();
    let frames: Vec<Value> = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!(frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect::<Vec<_>>(), ["ADDED", "BOOKMARK", "BOOKMARK"]);
    assert_eq!(frames[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(frames[2]["object"]["metadata"]["resourceVersion"], scene.revision().to_string());
    assert_eq!(frames[2]["object"]["kind"], "ConfigMap");
}

#[tokio::test]
async fn a_table_watch_has_a_row_an_event() {
    let scene = Scene::new().await;
    scene.created(PODS, pod("a")).await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let request = http::Request::get(format!("{PODS}?watch=true")).header("accept", accept).body(axum::body::Body::empty()).unwrap();
    let mut body = scene.send(request).await.into_body();
    let event: Value = serde_json::from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap();
    assert_eq!((&event["object"]["kind"], &event["object"]["rows"][0]["cells"][2]), (&json!("Table"), &json!("Pending")));
}

async fn change(reflection: &mut strake_client::Reflection) -> String {
    match tokio::time::timeout(SOON, reflection.next()).await.expect("a change comes").expect("it goes on") {
        Change::Applied(object) => format!("+{}={}", object["metadata"]["name"].as_str().unwrap(), object["data"]["key"].as_str().unwrap()),
        Change::Deleted(object) => format!("-{}", object["metadata"]["name"].as_str().unwrap()),
        Change::Synced => "synced".to_owned(),
    }
}

#[tokio::test]
async fn a_reflection_follows() {
    let scene = Scene::new().await;
    scene.created(CONFIG_MAPS, config_map("a")).await;
    let mut reflection = scene.client.reflect(&Resource::CONFIG_MAPS, Some("default"), &ListParams::all());
    assert_eq!(change(&mut reflection).await, "+a=value");
    assert_eq!(change(&mut reflection).await, "synced");
    scene.created(CONFIG_MAPS, config_map("b")).await;
    scene.merge(&format!("{CONFIG_MAPS}/a"), json!({"data": {"key": "two"}})).await;
    scene.delete(&format!("{CONFIG_MAPS}/b"), Value::Null).await;
    assert_eq!(change(&mut reflection).await, "+b=value");
    assert_eq!(change(&mut reflection).await, "+a=two");
    assert_eq!(change(&mut reflection).await, "-b");
}

#[tokio::test]
async fn a_reflection_that_fell_behind_tells_the_difference() {
    let scene = Scene::new().await;
    for name in ["a", "b"] {
        scene.created(CONFIG_MAPS, config_map(name)).await;
    }
    let mut reflection = scene.client.reflect(&Resource::CONFIG_MAPS, Some("default"), &ListParams::all());
    for expected in ["+a=value", "+b=value", "synced"] {
        assert_eq!(change(&mut reflection).await, expected);
    }
    // More changes than the reflection, its watch and the server's memory hold together, with nobody reading.
    for index in 0..13_000 {
        scene.merge(&format!("{CONFIG_MAPS}/a"), json!({"data": {"key": index.to_string()}})).await;
    }
    scene.delete(&format!("{CONFIG_MAPS}/b"), Value::Null).await;
    let (mut a, mut b, mut changes) = (String::new(), String::from("there"), 0);
    while a != "+a=12999" || b != "-b" {
        match change(&mut reflection).await {
            text if text.starts_with("+a") => a = text,
            text if text.contains('b') => b = text,
            _ => {}
        }
        changes += 1;
    }
    assert!(changes < 13_000, "it listed anew instead of telling each of {changes}");
}

#[tokio::test]
async fn the_client_reads_and_writes() {
    let scene = Scene::new().await;
    let (client, maps) = (&scene.client, Resource::CONFIG_MAPS);
    assert_eq!(client.get(&maps, Some("default"), "a").await.unwrap(), None);
    let params = strake_client::WriteParams::manager("m");
    let created = client.create(&maps, Some("default"), &config_map("a"), &params).await.unwrap();
    assert!(client.create(&maps, Some("default"), &config_map("a"), &params).await.unwrap_err().is_already_exists());
    let mut changed = created.clone();
    changed["data"]["key"] = "two".into();
    client.replace(&maps, Some("default"), &changed, None, &params).await.unwrap();
    assert!(client.replace(&maps, Some("default"), &changed, None, &params).await.unwrap_err().is_conflict());
    let patch = strake_client::Patch::Apply {
        object: json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"mine": "1"}}),
        manager: "x".to_owned(),
        force: false,
    };
    let patched = client.patch(&maps, Some("default"), "a", &patch, None, &strake_client::WriteParams::default()).await.unwrap();
    assert_eq!(patched["data"], json!({"key": "two", "mine": "1"}));
    let list = client.list(&maps, None, &ListParams { limit: Some(1), ..ListParams::all() }).await.unwrap();
    assert_eq!((list.items.len(), &list.items[0]["kind"]), (1, &json!("ConfigMap")));
    let mut watch = client.watch(&maps, None, &ListParams::all(), &list.resource_version).await.unwrap();
    let uid = created["metadata"]["uid"].as_str().unwrap().to_owned();
    client.delete(&maps, Some("default"), "a", &strake_client::DeleteParams { uid: Some(uid), ..Default::default() }).await.unwrap();
    let event = watch.next().await.unwrap().unwrap();
    assert_eq!((event.kind, event.object["metadata"]["name"].as_str()), (WatchKind::Deleted, Some("a")));
    let error = client.delete(&maps, Some("default"), "a", &strake_client::DeleteParams::default()).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string() == "configmaps \"a\" not found", "{error}");
    assert_eq!(client.raw_text("/readyz").await.unwrap(), "ok");
}
