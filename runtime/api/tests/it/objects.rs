//! The life of objects: writes, conflicts, finalizers, namespaces, allocation, subresources.

use serde_json::{Value, json};

use crate::scene::{CONFIG_MAPS, DEPLOYMENTS, JSON, PODS, SERVICES, Scene, config_map, deployment, pod};

const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_new_object_gets_what_only_a_server_gives() {
    let scene = Scene::new().await;
    let object = scene.created(DEPLOYMENTS, deployment("web")).await;
    let metadata = &object["metadata"];
    assert_eq!((&metadata["namespace"], &metadata["generation"]), (&json!("default"), &json!(1)));
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(version(&object), scene.revision());
    assert_eq!(object["spec"]["strategy"]["type"], "RollingUpdate", "defaults are applied");
    assert_eq!(metadata["managedFields"][0]["manager"], "tester");
    assert_eq!(scene.get(&format!("{DEPLOYMENTS}/web")).await.1, object, "what is read is what was answered");
    let (code, status) = scene.post(DEPLOYMENTS, deployment("web")).await;
    assert_eq!((code, &status["reason"], &status["message"]), (409, &json!("AlreadyExists"), &json!("deployments.apps \"web\" already exists")));

    let generated = scene.created(CONFIG_MAPS, json!({"metadata": {"generateName": "part-"}})).await;
    let name = generated["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("part-") && name.len() == 10, "{name}");
}

#[tokio::test]
async fn writes_are_optimistic() {
    let scene = Scene::new().await;
    let first = scene.created(CONFIG_MAPS, config_map("c")).await;
    let path = format!("{CONFIG_MAPS}/c");
    let mut mine = first.clone();
    mine["data"]["key"] = "mine".into();
    let (code, second) = scene.put(&path, mine.clone()).await;
    assert_eq!(code, 200);
    assert!(version(&second) > version(&first));
    let (code, status) = scene.put(&path, mine.clone()).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")), "the revision it names has passed");
    mine["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    mine["data"]["key"] = "unconditional".into();
    assert_eq!(scene.put(&path, mine.clone()).await.0, 200, "without a revision it is a blind write");
    let (code, _) = scene.merge(&path, json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"key": "late"}})).await;
    assert_eq!(code, 409);
    mine["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000".into();
    assert_eq!(scene.put(&path, mine).await.0, 409, "another object of the same name");
    let (code, _) = scene.put(&path, config_map("other")).await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn a_change_that_changes_nothing_writes_nothing() {
    let scene = Scene::new().await;
    let object = scene.created(DEPLOYMENTS, deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web");
    let before = scene.revision();
    assert_eq!(scene.put(&path, object.clone()).await, (200, object.clone()));
    assert_eq!(scene.merge(&path, json!({"spec": {"replicas": 2}})).await.0, 200);
    for _ in 0..2 {
        let applied = scene.ask("PATCH", &format!("{path}?fieldManager=a&force=true"), APPLY, deployment("web").to_string()).await;
        assert_eq!(applied.0, 200, "{}", applied.1);
    }
    assert_eq!(scene.revision(), before + 1, "the first apply notes its manager, the second has nothing to add");
}

#[tokio::test]
async fn the_four_patches() {
    let scene = Scene::new().await;
    scene.created(DEPLOYMENTS, deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web");
    let sidecar = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "example.com/side:1"}]}}}});
    let (code, object) = scene.ask("PATCH", &path, STRATEGIC, sidecar.to_string()).await;
    assert_eq!(code, 200, "{object}");
    let names: Vec<&Value> = object["spec"]["template"]["spec"]["containers"].as_array().unwrap().iter().map(|container| &container["name"]).collect();
    assert_eq!(names.len(), 2, "a strategic patch merges containers by name: {names:?}");
    assert_eq!(object["metadata"]["generation"], 2);

    let (code, object) = scene.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(
        (code, &object["metadata"]["labels"]["a"], &object["metadata"]["generation"]),
        (200, &json!("b"), &json!(2)),
        "labels are not what is wanted of it"
    );

    let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 5}, {"op": "remove", "path": "/metadata/labels/a"}]);
    let (code, object) = scene.ask("PATCH", &path, "application/json-patch+json", operations.to_string()).await;
    assert_eq!((code, &object["spec"]["replicas"]), (200, &json!(5)), "{object}");
    let failing = json!([{"op": "test", "path": "/spec/replicas", "value": 1}]);
    assert_eq!(scene.ask("PATCH", &path, "application/json-patch+json", failing.to_string()).await.0, 422);

    let mut intent = deployment("web");
    intent["spec"]["replicas"] = 7.into();
    let (code, status) = scene.ask("PATCH", &format!("{path}?fieldManager=gitops"), APPLY, intent.to_string()).await;
    assert_eq!((code, &status["reason"], &status["details"]["causes"][0]["reason"]), (409, &json!("Conflict"), &json!("FieldManagerConflict")), "{status}");
    let (code, object) = scene.ask("PATCH", &format!("{path}?fieldManager=gitops&force=true"), APPLY, intent.to_string()).await;
    assert_eq!((code, &object["spec"]["replicas"]), (200, &json!(7)));
    assert_eq!(scene.ask("PATCH", &path, APPLY, intent.to_string()).await.0, 422, "an apply needs a manager");

    let (code, created) = scene.ask("PATCH", &format!("{DEPLOYMENTS}/fresh?fieldManager=gitops"), APPLY, deployment("fresh").to_string()).await;
    assert_eq!((code, &created["metadata"]["managedFields"][0]["operation"]), (201, &json!("Apply")), "{created}");
    assert_eq!(scene.merge(&format!("{DEPLOYMENTS}/none"), json!({})).await.0, 404);
    let unknown = json!({"spec": {"replica": 1}}).to_string();
    let (code, status) = scene.ask("PATCH", &format!("{path}?fieldValidation=Strict"), STRATEGIC, unknown).await;
    assert_eq!(code, 400, "{status}");
    let (code, status) = scene.merge(&path, json!({"spec": {"selector": {"matchLabels": {"app": "else"}}}})).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{status}");
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let scene = Scene::new().await;
    scene.created(CONFIG_MAPS, config_map("c")).await;
    let (before, path) = (scene.revision(), format!("{CONFIG_MAPS}/c?dryRun=All"));
    assert_eq!(scene.post(&format!("{CONFIG_MAPS}?dryRun=All"), config_map("new")).await.0, 201);
    assert_eq!(scene.merge(&path, json!({"data": {"key": "other"}})).await.1["data"]["key"], "other");
    assert_eq!(scene.ask("PATCH", &format!("{CONFIG_MAPS}/ssa?dryRun=All&fieldManager=a"), APPLY, config_map("ssa").to_string()).await.0, 201);
    assert_eq!(scene.delete(&path, Value::Null).await.0, 200);
    assert_eq!(scene.delete(&format!("{CONFIG_MAPS}/c"), json!({"dryRun": ["All"]})).await.0, 200);
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.43.0.77", "ports": [{"port": 80}]}});
    assert_eq!(scene.post(&format!("{SERVICES}?dryRun=All"), service.clone()).await.0, 201);
    assert_eq!(scene.post(&format!("{CONFIG_MAPS}?dryRun=Some"), config_map("new")).await.0, 400);
    assert_eq!(scene.revision(), before);
    scene.created(SERVICES, service).await;
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let scene = Scene::new().await;
    let mut object = deployment("web");
    object["status"] = json!({"readyReplicas": 9});
    let object = scene.created(DEPLOYMENTS, object).await;
    assert!(object["status"]["readyReplicas"].is_null(), "a client cannot bring a status along");
    let path = format!("{DEPLOYMENTS}/web");
    let (code, object) = scene.merge(&format!("{path}/status"), json!({"spec": {"replicas": 9}, "status": {"readyReplicas": 2}})).await;
    assert_eq!(
        (code, &object["status"]["readyReplicas"], &object["spec"]["replicas"], &object["metadata"]["generation"]),
        (200, &json!(2), &json!(2), &json!(1))
    );
    let (_, object) = scene.merge(&path, json!({"spec": {"replicas": 3}, "status": {"readyReplicas": 8}})).await;
    assert_eq!((&object["status"]["readyReplicas"], &object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(2), &json!(3), &json!(2)));
    let bare = json!({"metadata": {"name": "web"}, "status": {"readyReplicas": 1}});
    let (_, object) = scene.put(&format!("{path}/status"), bare).await;
    assert_eq!((&object["status"]["readyReplicas"], &object["spec"]["replicas"]), (&json!(1), &json!(3)), "a status needs no spec");
    assert_eq!(scene.merge(&format!("{CONFIG_MAPS}/x/status"), json!({})).await.0, 404);
}

#[tokio::test]
async fn scale() {
    let scene = Scene::new().await;
    scene.created(DEPLOYMENTS, deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let (code, scale) = scene.get(&path).await;
    assert_eq!((code, &scale["spec"]["replicas"], &scale["status"]["selector"], &scale["kind"]), (200, &json!(2), &json!("app=web"), &json!("Scale")));
    assert_eq!(scene.merge(&path, json!({"spec": {"replicas": 4}})).await.1["spec"]["replicas"], 4);
    let (code, _) = scene.ask("PUT", &path, "", scale.to_string()).await;
    assert_eq!(code, 409, "the scale that was read is of an older revision; kubectl sends it without a content type");
    let (_, fresh) = scene.get(&path).await;
    assert_eq!(scene.ask("PUT", &path, "", fresh.to_string()).await.0, 200);
    assert_eq!(scene.merge(&path, json!({"spec": {"replicas": -1}})).await.0, 422);
    assert_eq!(scene.get(&format!("{DEPLOYMENTS}/web")).await.1["metadata"]["generation"], 2);
    assert_eq!(scene.get("/api/v1/namespaces/default/pods/x/scale").await.0, 404);
}

#[tokio::test]
async fn pods_take_their_time_to_go() {
    let scene = Scene::new().await;
    let unplaced = scene.created(PODS, pod("unplaced")).await;
    assert_eq!((&unplaced["status"]["phase"], &unplaced["spec"]["serviceAccountName"]), (&json!("Pending"), &json!("default")));
    let (code, gone) = scene.delete(&format!("{PODS}/unplaced"), Value::Null).await;
    assert_eq!((code, &gone["metadata"]["name"]), (200, &json!("unplaced")));
    assert_eq!(scene.get(&format!("{PODS}/unplaced")).await.0, 404, "a pod that nobody runs goes at once");

    scene.created(PODS, pod("a")).await;
    let path = format!("{PODS}/a");
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(scene.post(&format!("{path}/binding"), binding.clone()).await.0, 201);
    let (_, bound) = scene.get(&path).await;
    assert_eq!((&bound["spec"]["nodeName"], &bound["status"]["conditions"][0]["type"]), (&json!("n"), &json!("PodScheduled")));
    assert_eq!(scene.post(&format!("{path}/binding"), binding).await.0, 409);
    assert_eq!(scene.merge(&path, json!({"spec": {"nodeName": "m"}})).await.0, 422);

    let (code, going) = scene.delete(&path, json!({"propagationPolicy": "Background"})).await;
    assert_eq!((code, &going["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(30)));
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let before = scene.revision();
    assert_eq!(scene.delete(&path, Value::Null).await.0, 200);
    assert_eq!(scene.revision(), before, "a second delete adds nothing");
    assert_eq!(scene.delete(&path, json!({"gracePeriodSeconds": 5})).await.1["metadata"]["deletionGracePeriodSeconds"], 5);
    assert_eq!(scene.merge(&format!("{path}/status"), json!({"status": {"phase": "Failed"}})).await.0, 200, "its node still reports");
    let (code, _) = scene.delete(&path, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!((code, scene.get(&path).await.0), (200, 404), "the node confirms");
    assert_eq!(scene.delete(&path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn eviction_is_a_delete() {
    let scene = Scene::new().await;
    scene.created(PODS, pod("a")).await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 3}});
    assert_eq!(scene.post(&format!("{PODS}/a/eviction"), eviction).await.0, 201);
    assert_eq!(scene.get(&format!("{PODS}/a")).await.0, 404);
}

#[tokio::test]
async fn finalizers_hold_what_is_deleted() {
    let scene = Scene::new().await;
    let mut held = config_map("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let held = scene.created(CONFIG_MAPS, held).await;
    let path = format!("{CONFIG_MAPS}/held");
    let wrong = json!({"preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}});
    assert_eq!(scene.delete(&path, wrong).await.0, 409);
    let (code, going) = scene.delete(&path, json!({"preconditions": {"uid": held["metadata"]["uid"]}})).await;
    assert_eq!(code, 200);
    assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
    let (code, status) = scene.merge(&path, json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));
    assert_eq!(scene.merge(&path, json!({"metadata": {"deletionTimestamp": null}})).await.0, 200);
    assert!(scene.get(&path).await.1["metadata"]["deletionTimestamp"].is_string(), "there is no way back");
    assert_eq!(scene.merge(&path, json!({"metadata": {"finalizers": null}})).await.0, 200);
    assert_eq!(scene.get(&path).await.0, 404);

    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        scene.created(DEPLOYMENTS, deployment("web")).await;
        let path = format!("{DEPLOYMENTS}/web");
        let (_, going) = scene.delete(&path, json!({"propagationPolicy": policy})).await;
        assert_eq!(going["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(scene.merge(&path, json!({"metadata": {"finalizers": null}})).await.0, 200);
        assert_eq!(scene.get(&path).await.0, 404);
    }
    scene.created(CONFIG_MAPS, config_map("plain")).await;
    let (_, status) = scene.delete(&format!("{CONFIG_MAPS}/plain"), Value::Null).await;
    assert_eq!((&status["status"], &status["details"]["kind"]), (&json!("Success"), &json!("configmaps")));
    assert!(status["details"]["uid"].is_string());
    assert_eq!(scene.delete(&format!("{CONFIG_MAPS}/plain?propagationPolicy=Sideways"), Value::Null).await.0, 422);
}

#[tokio::test]
async fn a_namespace_goes_when_its_controller_says_so() {
    let scene = Scene::new().await;
    let created = scene.created("/api/v1/namespaces", json!({"metadata": {"name": "team"}})).await;
    assert_eq!((&created["spec"]["finalizers"], &created["status"]["phase"]), (&json!(["kubernetes"]), &json!("Active")));
    assert_eq!(scene.get("/api/v1/namespaces/team/serviceaccounts/default").await.0, 200);
    let (_, going) = scene.delete("/api/v1/namespaces/team", Value::Null).await;
    assert_eq!(going["status"]["phase"], "Terminating");
    let (code, status) = scene.post("/api/v1/namespaces/team/configmaps", config_map("late")).await;
    assert_eq!((code, &status["reason"], &status["details"]["causes"][0]["reason"]), (403, &json!("Forbidden"), &json!("NamespaceTerminating")));
    let (code, _) = scene.merge("/api/v1/namespaces/team", json!({"spec": {"finalizers": []}})).await;
    assert_eq!((code, scene.get("/api/v1/namespaces/team").await.0), (200, 200), "finalizers are not for clients to remove");
    let finalized = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}, "spec": {"finalizers": []}});
    assert_eq!(scene.put("/api/v1/namespaces/team/finalize", finalized).await.0, 200);
    assert_eq!(scene.get("/api/v1/namespaces/team").await.0, 404);
}

#[tokio::test]
async fn services_hold_addresses_and_ports_once() {
    let scene = Scene::new().await;
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let first = scene.created(SERVICES, service("a", json!({"type": "NodePort", "ports": [{"port": 80}]}))).await;
    let address = first["spec"]["clusterIP"].as_str().unwrap();
    let port = first["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!(address.starts_with("10.43.") && (30000..=32767).contains(&port), "{address} {port}");
    assert_eq!(first["spec"]["clusterIPs"], json!([address]));
    for (name, spec, part) in [
        ("b", json!({"clusterIP": address, "ports": [{"port": 80}]}), "already allocated"),
        ("b", json!({"clusterIP": "10.44.0.1", "ports": [{"port": 80}]}), "not in the valid range"),
        ("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}), "already allocated"),
        ("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}), "32767"),
    ] {
        let (code, status) = scene.post(SERVICES, service(name, spec.clone())).await;
        assert!(code == 422 && status["message"].as_str().unwrap().contains(part), "{spec}: {status}");
    }
    let headless = scene.created(SERVICES, service("h", json!({"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"port": 80}]}))).await;
    assert_eq!(headless["spec"]["clusterIP"], "None");

    let (code, replaced) =
        scene.put(&format!("{SERVICES}/a"), service("a", json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "name": "b"}]}))).await;
    assert_eq!(code, 422, "two ports need names: {replaced}");
    let (code, replaced) =
        scene.put(&format!("{SERVICES}/a"), service("a", json!({"type": "NodePort", "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}))).await;
    assert_eq!((code, &replaced["spec"]["clusterIP"], &replaced["spec"]["ports"][0]["nodePort"]), (200, &json!(address), &json!(port)), "{replaced}");
    assert!(replaced["spec"]["ports"][1]["nodePort"].as_u64().is_some_and(|other| other != port));
    let (code, changed) = scene.merge(&format!("{SERVICES}/a"), json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}})).await;
    assert_eq!((code, &changed["spec"]["clusterIP"]), (200, &json!(address)), "{changed}");
    assert!(changed["spec"]["ports"][0]["nodePort"].is_null());
    scene.created(SERVICES, service("c", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}))).await;
    let (code, _) = scene.delete(&format!("{SERVICES}/a"), Value::Null).await;
    assert_eq!(code, 200);
    scene.created(SERVICES, service("d", json!({"clusterIP": address, "ports": [{"port": 80}]}))).await;

    let reborn = strake_api::ApiServer::new(scene.state.clone(), strake_api::ApiOptions::default(), std::sync::Arc::new(strake_api::NoNode));
    let client = strake_client::Client::in_process(strake_api::router(std::sync::Arc::new(reborn)));
    let taken = service("e", json!({"clusterIP": address, "ports": [{"port": 80}]}));
    let error = client.create(&strake_client::Resource::SERVICES, Some("default"), &taken, &strake_client::WriteParams::default()).await.unwrap_err();
    assert!(error.is_invalid(), "a new server knows what is held: {error}");
}

#[tokio::test]
async fn pages_and_selectors() {
    let scene = Scene::new().await;
    for index in 0..7 {
        let mut object = config_map(&format!("c{index}"));
        object["metadata"]["labels"] = json!({"even": (index % 2 == 0).to_string()});
        scene.created(CONFIG_MAPS, object).await;
    }
    let names =
        |list: &Value| list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ");
    let (_, first) = scene.get(&format!("{CONFIG_MAPS}?limit=3")).await;
    assert_eq!((names(&first).as_str(), &first["metadata"]["remainingItemCount"]), ("c0 c1 c2", &json!(4)));
    scene.created(CONFIG_MAPS, config_map("c25")).await;
    let next = |list: &Value| list["metadata"]["continue"].as_str().unwrap().to_owned();
    let (_, second) = scene.get(&format!("{CONFIG_MAPS}?limit=3&continue={}", next(&first))).await;
    assert_eq!(names(&second), "c25 c3 c4");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"], "all pages are of one revision to watch from");
    let (_, third) = scene.get(&format!("{CONFIG_MAPS}?limit=3&continue={}", next(&second))).await;
    assert_eq!((names(&third).as_str(), third["metadata"].get("continue")), ("c5 c6", None));
    assert_eq!(scene.get(&format!("{CONFIG_MAPS}?continue=nonsense")).await.0, 400);
    assert_eq!(scene.get(&format!("{CONFIG_MAPS}?limit=many")).await.0, 400);

    let (_, even) = scene.get(&format!("{CONFIG_MAPS}?labelSelector=even%3Dtrue&limit=3")).await;
    assert_eq!(names(&even), "c0 c2 c4");
    let (_, rest) = scene.get(&format!("{CONFIG_MAPS}?labelSelector=even%3Dtrue&limit=3&continue={}", next(&even))).await;
    assert_eq!(names(&rest), "c6");
    let (_, one) = scene.get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dc2&limit=500&resourceVersion=0")).await;
    assert_eq!(names(&one), "c2");
    assert_eq!(names(&scene.get("/api/v1/configmaps?fieldSelector=metadata.name%3Dc2").await.1), "c2");
    assert_eq!(scene.get(&format!("{CONFIG_MAPS}?fieldSelector=data.key%3Dvalue")).await.0, 400);

    let (code, gone) = scene.ask("DELETE", &format!("{CONFIG_MAPS}?labelSelector=even%3Dfalse"), JSON, "").await;
    assert_eq!((code, names(&gone).as_str()), (200, "c1 c3 c5"));
    assert_eq!(names(&scene.get(CONFIG_MAPS).await.1), "c0 c2 c25 c4 c6");
}

#[tokio::test]
async fn old_events_go() {
    let scene = Scene::new().await;
    let events = "/api/v1/namespaces/default/events";
    let event = |name: &str, seen: &str| {
        json!({"metadata": {"name": name, "namespace": "default"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
            "type": "Normal", "reason": "Started", "message": "m", "firstTimestamp": seen, "lastTimestamp": seen})
    };
    scene.created(events, event("old", "2026-01-01T00:00:00Z")).await;
    scene.created(events, event("new", "2026-01-01T00:00:00Z")).await;
    let now: jiff::Timestamp = jiff::Timestamp::now();
    let later = now + jiff::SignedDuration::from_mins(90);
    assert_eq!(scene.server.expire_events(now).await.unwrap(), 0, "they were made just now");
    assert_eq!(scene.merge(&format!("{events}/new"), json!({"lastTimestamp": later.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()})).await.0, 200);
    assert_eq!(scene.server.expire_events(later).await.unwrap(), 1);
    let (_, left) = scene.get(&format!("{events}?fieldSelector=involvedObject.name%3Dp,involvedObject.kind%3DPod,reason%3DStarted")).await;
    assert_eq!(left["items"][0]["metadata"]["name"], "new");
}

#[tokio::test]
async fn racing_patches_all_arrive() {
    let scene = std::sync::Arc::new(Scene::new().await);
    scene.created(CONFIG_MAPS, config_map("c")).await;
    let tasks: Vec<_> = (0..16)
        .map(|index| {
            let scene = scene.clone();
            tokio::spawn(async move { scene.merge(&format!("{CONFIG_MAPS}/c"), json!({"data": {format!("k{index}"): "v"}})).await.0 })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(scene.get(&format!("{CONFIG_MAPS}/c")).await.1["data"].as_object().unwrap().len(), 17);
}
