//! Requests and their answers: discovery, forms, errors, bounds.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::scene::{CONFIG_MAPS, DEPLOYMENTS, JSON, PODS, SERVICES, Scene, config_map, deployment, pod};

#[tokio::test]
async fn paths_without_objects() {
    let scene = Scene::new().await;
    for (path, code, pointer, expected) in [
        ("/version?timeout=5s", 200, "/gitVersion", json!("v1.33.0+strake")),
        ("/version", 200, "/minor", json!("33")),
        ("/api", 200, "/versions/0", json!("v1")),
        ("/apis", 200, "/kind", json!("APIGroupList")),
        ("/apis/apps", 200, "/preferredVersion/groupVersion", json!("apps/v1")),
        ("/api/v1", 200, "/kind", json!("APIResourceList")),
        ("/apis/apps/v1", 200, "/groupVersion", json!("apps/v1")),
        ("/apis/policy/v1", 404, "/reason", json!("NotFound")),
        ("/openapi/v2", 404, "/reason", json!("NotFound")),
        ("/api/v1/namespaces/default/endpoints", 404, "/reason", json!("NotFound")),
        ("/api/v1/namespaces/default/configmaps/none", 404, "/message", json!("configmaps \"none\" not found")),
        ("/apis/apps/v1/namespaces/default/deployments/none", 404, "/message", json!("deployments.apps \"none\" not found")),
        ("/apis/apps/v1/namespaces/default/deployments/none", 404, "/details", json!({"name": "none", "group": "apps", "kind": "deployments"})),
    ] {
        let (found, body) = scene.get(path).await;
        assert_eq!((found, body.pointer(pointer)), (code, Some(&expected)), "{path}: {body}");
    }
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping"] {
        let response = scene.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(&response.into_body().collect().await.unwrap().to_bytes()[..], b"ok");
    }
}

#[tokio::test]
async fn discovery_in_one_answer() {
    let scene = Scene::new().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let fetch = async |path: &str| {
        let response = scene.send(Request::get(path).header("accept", accept).body(Body::empty()).unwrap()).await;
        assert_eq!(response.headers()["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
        serde_json::from_slice::<Value>(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    };
    let core = fetch("/api?timeout=32s").await;
    let resources = core["items"][0]["versions"][0]["resources"].as_array().unwrap();
    let pods = resources.iter().find(|resource| resource["resource"] == "pods").unwrap();
    assert_eq!((&pods["shortNames"], &pods["categories"], &pods["scope"]), (&json!(["po"]), &json!(["all"]), &json!("Namespaced")));
    let eviction = pods["subresources"].as_array().unwrap().iter().find(|sub| sub["subresource"] == "eviction").unwrap();
    assert_eq!(eviction["responseKind"], json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
    assert!(resources.iter().all(|resource| resource["resource"] != "persistentvolumes"), "what is not supported is absent");
    let others = fetch("/apis").await;
    let names: Vec<&str> = others["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["apps", "batch", "coordination.k8s.io", "discovery.k8s.io", "strake.dev", "authentication.k8s.io", "authorization.k8s.io"]);
    let apps = &others["items"][0]["versions"][0]["resources"];
    let scale = apps[0]["subresources"].as_array().unwrap().iter().find(|sub| sub["subresource"] == "scale").unwrap();
    assert_eq!(scale["responseKind"]["kind"], "Scale");
    let (_, legacy) = scene.get("/apis/apps/v1").await;
    assert!(legacy["resources"].as_array().unwrap().iter().any(|resource| resource["name"] == "deployments/scale" && resource["group"] == "autoscaling"));
}

#[tokio::test]
async fn openapi_is_cached_by_its_hash() {
    let scene = Scene::new().await;
    let (_, index) = scene.get("/openapi/v3?timeout=32s").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let response = scene.send(Request::get(&url).body(Body::empty()).unwrap()).await;
    let tag = response.headers()["etag"].clone();
    let document: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert!(document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
    let again = scene.send(Request::get(&url).header("if-none-match", tag).body(Body::empty()).unwrap()).await;
    assert_eq!(again.status(), 304);
    assert_eq!(scene.get("/openapi/v3/apis/policy/v1").await.0, 404);
}

#[tokio::test]
async fn bodies_that_are_refused() {
    let scene = Scene::new().await;
    let strict = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let strict_deployments = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let cases = [
        (CONFIG_MAPS, JSON, "{".to_owned(), 400, "not valid JSON"),
        (CONFIG_MAPS, JSON, "[]".to_owned(), 400, "must be a JSON object"),
        (CONFIG_MAPS, JSON, json!({"kind": "Secret"}).to_string(), 400, "\"ConfigMap\""),
        (CONFIG_MAPS, JSON, json!({"metadata": {"name": "a", "namespace": "other"}}).to_string(), 400, "does not match the namespace"),
        (CONFIG_MAPS, JSON, json!({"metadata": {"name": "Bad_Name"}}).to_string(), 422, "metadata.name"),
        (CONFIG_MAPS, JSON, json!({"metadata": {}}).to_string(), 422, "metadata.name"),
        (CONFIG_MAPS, JSON, json!({"metadata": {"name": "a"}, "data": {"a": 1}}).to_string(), 400, "data[a]"),
        (strict.as_str(), JSON, json!({"metadata": {"name": "a"}, "dota": {}}).to_string(), 400, "unknown field \"dota\""),
        (strict.as_str(), JSON, r#"{"metadata": {"name": "a"}, "data": {"a": "1", "a": "2"}}"#.to_owned(), 400, "duplicate field \"data.a\""),
        (strict_deployments.as_str(), JSON, json!({"metadata": {"name": "a"}, "spec": {"replica": 1}}).to_string(), 400, "unknown field \"spec.replica\""),
        (DEPLOYMENTS, JSON, json!({"metadata": {"name": "a"}, "spec": {"replicas": "two"}}).to_string(), 400, "spec.replicas"),
        (DEPLOYMENTS, JSON, json!({"metadata": {"name": "a"}, "spec": {}}).to_string(), 422, "spec.selector"),
        (CONFIG_MAPS, "application/xml", "<a/>".to_owned(), 415, "application/json"),
        ("/api/v1/namespaces/none/configmaps", JSON, config_map("a").to_string(), 404, "namespaces \"none\" not found"),
        (SERVICES, JSON, json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}], "externalIPs": ["8.8.8.8"]}}).to_string(), 403, "external IPs"),
        ("/api/v1/configmaps", JSON, config_map("a").to_string(), 405, "does not allow this method"),
    ];
    for (path, media, body, code, part) in cases {
        let (found, status) = scene.ask("POST", path, media, body.clone()).await;
        let message = status["message"].as_str().unwrap_or_default();
        assert!(found == code && message.contains(part), "{path} {body}: {found} {status}");
        assert_eq!((&status["kind"], &status["status"], &status["code"]), (&json!("Status"), &json!("Failure"), &json!(code)));
    }
    assert_eq!(scene.get(CONFIG_MAPS).await.1["items"], json!([]), "nothing of it was stored");
}

#[tokio::test]
async fn an_unknown_field_is_a_warning_unless_it_is_an_error() {
    let scene = Scene::new().await;
    let body = json!({"metadata": {"name": "a"}, "dota": {"x": 1}}).to_string();
    let response = scene.send(Request::post(CONFIG_MAPS).body(Body::from(body)).unwrap()).await;
    assert_eq!(response.status(), 201, "a missing content type means JSON");
    assert_eq!(response.headers()["warning"], "299 - \"unknown field \\\"dota\\\"\"");
    let stored: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(stored.get("dota"), None, "it is dropped");
}

#[tokio::test]
async fn bounds_hold_at_their_edges() {
    let scene = Scene::new().await;
    let sized = |bytes: usize| json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(bytes)}}).to_string();
    let (code, status) = scene.ask("POST", CONFIG_MAPS, JSON, sized(3 << 20)).await;
    assert_eq!((code, &status["reason"]), (413, &json!("RequestEntityTooLarge")));
    let nested = |levels: usize| format!("{{\"metadata\":{{\"name\":\"n\"}},\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(scene.ask("POST", CONFIG_MAPS, JSON, nested(63)).await.0, 201);
    let (code, status) = scene.ask("POST", CONFIG_MAPS, JSON, nested(64)).await;
    assert!(code == 400 && status["message"].as_str().unwrap().contains("deeper than 64"), "{status}");
    assert_eq!(scene.ask("POST", CONFIG_MAPS, JSON, nested(100_000)).await.0, 400);

    let path = format!("{CONFIG_MAPS}/n");
    let operations = |count: usize| Value::from(vec![json!({"op": "test", "path": "/kind", "value": "ConfigMap"}); count]).to_string();
    let patch = "application/json-patch+json";
    assert_eq!(scene.ask("PATCH", &path, patch, operations(10_000)).await.0, 200);
    assert_eq!(scene.ask("PATCH", &path, patch, operations(10_001)).await.0, 413);
    let mut doubling = vec![json!({"op": "add", "path": "/data", "value": {"a0": "x".repeat(1000)}})];
    doubling.extend((0..40).map(|round| json!({"op": "copy", "from": "/data", "path": format!("/data/b{round}")})));
    let (code, status) = scene.ask("PATCH", &path, patch, Value::from(doubling).to_string()).await;
    assert_eq!((code, &status["reason"]), (413, &json!("RequestEntityTooLarge")));
    let mut nesting = vec![json!({"op": "add", "path": "/data", "value": {}})];
    nesting.extend((0..5_000).map(|_| json!({"op": "copy", "from": "/data", "path": "/data/a"})));
    let (code, status) = scene.ask("PATCH", &path, patch, Value::from(nesting).to_string()).await;
    assert!(code == 422 && status["message"].as_str().unwrap().contains("deeper than 64"), "{status}");
}

#[tokio::test]
async fn protobuf_bodies() {
    // ConfigMap{metadata{name: "pb"}, data{"k": "v"}} in its envelope, written out by hand.
    let raw = [b"\x0a\x04\x0a\x02pb".as_slice(), b"\x12\x06\x0a\x01k\x12\x01v"].concat();
    let meta = b"\x0a\x02v1\x12\x09ConfigMap".as_slice();
    let length = |bytes: &[u8]| vec![u8::try_from(bytes.len()).unwrap()];
    let body = [b"k8s\0".as_slice(), b"\x0a", &length(meta), meta, b"\x12", &length(&raw), &raw].concat();
    let scene = Scene::new().await;
    let (code, stored) = scene.ask("POST", CONFIG_MAPS, "application/vnd.kubernetes.protobuf", body).await;
    assert_eq!((code, &stored["data"]), (201, &json!({"k": "v"})), "{stored}");
    assert_eq!(scene.ask("POST", CONFIG_MAPS, "application/vnd.kubernetes.protobuf", "nonsense").await.0, 400);
}

#[tokio::test]
async fn tables() {
    let scene = Scene::new().await;
    scene.created(PODS, pod("a")).await;
    scene.created(DEPLOYMENTS, deployment("d")).await;
    scene.created(CONFIG_MAPS, config_map("c")).await;
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "", "lastHeartbeatTime": null, "lastTransitionTime": null}], "nodeInfo": {"kubeletVersion": "v1.33.0"}}});
    scene.created("/api/v1/nodes", node).await;
    let shape = |table: &Value| {
        let title = |column: &Value| format!("{}{}", column["name"].as_str().unwrap().to_uppercase(), if column["priority"] == 1 { "*" } else { "" });
        let titles: Vec<String> = table["columnDefinitions"].as_array().unwrap().iter().map(title).collect();
        let cell = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        let rows: Vec<String> =
            table["rows"].as_array().unwrap().iter().map(|row| row["cells"].as_array().unwrap().iter().map(cell).collect::<Vec<_>>().join("|")).collect();
        (titles.join(" "), rows)
    };
    let cases = [
        (PODS, "NAME READY STATUS RESTARTS AGE IP* NODE* NOMINATED NODE* READINESS GATES*", "a|0/1|Pending|0|0s|<none>|<none>|<none>|<none>"),
        (DEPLOYMENTS, "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS* IMAGES* SELECTOR*", "d|0/2|0|0|0s|main|example.com/app:1|app=d"),
        (SERVICES, "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR*", "kubernetes|ClusterIP|10.43.0.1|<none>|443/TCP|0s|<none>"),
        (CONFIG_MAPS, "NAME DATA AGE", "c|1|0s"),
        ("/api/v1/namespaces?fieldSelector=metadata.name%3Ddefault", "NAME STATUS AGE", "default|Active|0s"),
        (
            "/api/v1/nodes",
            "NAME STATUS ROLES AGE VERSION INTERNAL-IP* EXTERNAL-IP* OS-IMAGE* KERNEL-VERSION* CONTAINER-RUNTIME*",
            "n|Ready|control-plane|0s|v1.33.0|<none>|<none>|<unknown>|<unknown>|<unknown>",
        ),
        ("/api/v1/namespaces/default/serviceaccounts", "NAME SECRETS AGE", "default|0|0s"),
    ];
    for (path, titles, row) in cases {
        let table = scene.table(path).await;
        let (found_titles, rows) = shape(&table);
        let ages = rows.join("\n").replace("|1s", "|0s").replace("|2s", "|0s");
        assert_eq!((found_titles.as_str(), ages.as_str()), (titles, row), "{path}");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
    let whole = scene.table(&format!("{PODS}?includeObject=Object")).await;
    assert_eq!(whole["rows"][0]["object"]["kind"], "Pod");
    let single = scene.table(&format!("{PODS}/a")).await;
    assert_eq!(single["rows"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn metadata_only() {
    let scene = Scene::new().await;
    scene.created(CONFIG_MAPS, config_map("c")).await;
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let response = scene.send(Request::get(CONFIG_MAPS).header("accept", accept).body(Body::empty()).unwrap()).await;
    let list: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((&list["items"][0]["kind"], list["items"][0].get("data")), (&json!("PartialObjectMetadata"), None));
    let response = scene.send(Request::get(CONFIG_MAPS).header("accept", "application/xml").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 406);
}

#[tokio::test]
async fn questions_about_oneself() {
    let scene = Scene::new().await;
    let (code, review) = scene
        .post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}))
        .await;
    assert_eq!((code, &review["status"]["allowed"]), (201, &json!(true)));
    let identity = strake_api::Identity { name: "alice".to_owned(), groups: vec!["dev".to_owned()] };
    let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews").extension(identity).body(Body::from("{}")).unwrap();
    let review: Value = serde_json::from_slice(&scene.send(request).await.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(review["status"]["userInfo"], json!({"username": "alice", "groups": ["dev"]}));
}
