//! Logs and exec, through the client: a websocket in memory.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use serde_json::json;
use strake_client::{ExecEvent, ExecInput, ExecParams, LogParams};

use crate::scene::{PODS, Scene, pod};

async fn placed(scene: &Scene, name: &str) {
    scene.created(PODS, pod(name)).await;
    let (code, _) = scene.post(&format!("{PODS}/{name}/binding"), json!({"target": {"kind": "Node", "name": "n"}})).await;
    assert_eq!(code, 201);
}

#[tokio::test]
async fn logs() {
    let scene = Scene::new().await;
    placed(&scene, "a").await;
    let params = LogParams { follow: true, tail: Some(3), ..LogParams::default() };
    let pieces: Vec<Bytes> = scene.client.logs("default", "a", &params).await.unwrap().try_collect().await.unwrap();
    assert_eq!(String::from_utf8(pieces.concat()).unwrap(), "default/a main follow=true tail=Some(3)\nsecond line\n");
    let refused = async |name: &str, params: LogParams| scene.client.logs("default", name, &params).await.err().unwrap().to_string();
    assert_eq!(refused("a", LogParams { previous: true, ..LogParams::default() }).await, "previous terminated container \"main\" in pod \"a\" not found");
    assert_eq!(refused("a", LogParams { container: Some("x".to_owned()), ..LogParams::default() }).await, "container x is not valid for pod a");
    assert_eq!(refused("none", LogParams::default()).await, "pods \"none\" not found");
    let mut two = pod("two");
    two["spec"]["containers"] = json!([{"name": "b", "image": "i"}, {"name": "c", "image": "i"}]);
    scene.created(PODS, two).await;
    assert_eq!(refused("two", LogParams::default()).await, "a container name must be specified for pod two, choose one of: [b c]");
    assert_eq!(refused("two", LogParams { container: Some("b".to_owned()), ..LogParams::default() }).await, "pod two does not have a host assigned");
}

fn params(command: &[&str]) -> ExecParams {
    ExecParams { command: command.iter().map(|word| (*word).to_owned()).collect(), ..ExecParams::default() }
}

#[tokio::test]
async fn exec_carries_streams_and_the_exit_code() {
    let scene = Scene::new().await;
    placed(&scene, "a").await;
    let exec = scene.client.exec("default", "a", &ExecParams { stdin: true, ..params(&["cat"]) }).await.unwrap();
    let input = exec.input();
    for piece in ["one ", "two"] {
        input.send(ExecInput::Stdin(Bytes::from(piece))).await.unwrap();
    }
    input.send(ExecInput::CloseStdin).await.unwrap();
    assert_eq!(exec.collect().await.unwrap(), (0, b"one two".to_vec(), b"end of input".to_vec()));
    let exec = scene.client.exec("default", "a", &params(&["fail", "42"])).await.unwrap();
    assert_eq!(exec.collect().await.unwrap().0, 42);
    let error = scene.client.exec("default", "a", &params(&["missing"])).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("missing: not found"), "{error}");
    let error = scene.client.exec("default", "none", &params(&["cat"])).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let error = scene.client.exec("default", "a", &ExecParams { command: Vec::new(), ..ExecParams::default() }).await.unwrap_err();
    assert_eq!(error.status().unwrap().code, 400, "{error}");
}

#[tokio::test]
async fn a_terminal_has_a_size() {
    let scene = Scene::new().await;
    placed(&scene, "a").await;
    let mut exec = scene.client.exec("default", "a", &ExecParams { tty: true, stdin: true, ..params(&["sizes"]) }).await.unwrap();
    exec.input().send(ExecInput::Resize { width: 120, height: 40 }).await.unwrap();
    assert_eq!(exec.next().await.unwrap().unwrap(), ExecEvent::Stdout(Bytes::from_static(b"120x40 tty=true")));
    assert_eq!(exec.next().await.unwrap().unwrap(), ExecEvent::Exit(0));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_process() {
    let scene = Scene::new().await;
    placed(&scene, "a").await;
    let mut exec = scene.client.exec("default", "a", &params(&["yes"])).await.unwrap();
    assert!(matches!(exec.next().await.unwrap().unwrap(), ExecEvent::Stdout(_)));
    drop(exec);
    // The server's half of the exec holds the router, and so the state, until it has ended.
    let state = std::sync::Arc::downgrade(&scene.state);
    drop(scene);
    for _ in 0..5000 {
        if state.upgrade().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the exec goes on without its client");
}

#[tokio::test]
async fn exec_without_a_websocket_is_refused() {
    let scene = Scene::new().await;
    placed(&scene, "a").await;
    let (code, status) = scene.get(&format!("{PODS}/a/exec?command=ls&stdout=true")).await;
    assert!(code == 400 && status["message"].as_str().unwrap().contains("websocket"), "{status}");
    assert_eq!(scene.post(&format!("{PODS}/a/exec?command=ls&stdout=true"), json!({})).await.0, 400);
}

#[tokio::test]
async fn a_port_is_forwarded() {
    let scene = Scene::new().await;
    placed(&scene, "a").await;
    let mut forward = scene.client.forward("default", "a", 80).await.unwrap();
    forward.opened().await.unwrap();
    let outgoing = forward.outgoing();
    for piece in ["hello ", "there"] {
        outgoing.send(Bytes::from(piece)).await.unwrap();
    }
    let mut said = Vec::new();
    while said.len() < 11 {
        said.extend_from_slice(&forward.next().await.unwrap().unwrap());
    }
    assert_eq!(said, b"hello there");
    let mut refused = scene.client.forward("default", "a", 1).await.unwrap();
    let error = refused.opened().await.unwrap_err();
    assert!(error.to_string().contains("cannot connect to port 1 inside pod a: connection refused"), "{error}");
    let error = scene.client.forward("default", "none", 80).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let (code, status) = scene.get(&format!("{PODS}/a/portforward?ports=80")).await;
    assert!(code == 400 && status["message"].as_str().unwrap().contains("SPDY/3.1"), "{status}");
    // Without a connection of its own there is nothing to take over.
    let request = http::Request::post(format!("{PODS}/a/portforward")).header("upgrade", "SPDY/3.1").header("x-stream-protocol-version", "portforward.k8s.io");
    assert_eq!(scene.send(request.body(axum::body::Body::empty()).unwrap()).await.status(), 400);
}

/// A kubeconfig for a server on a free port.
async fn remote(scene: &Scene) -> (tempfile::TempDir, strake_client::Client) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let router = scene.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}, {"name": "team", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let client = strake_client::Client::from_kubeconfig(Some(&path), None).await.unwrap();
    (folder, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_client_is_used_like_one_in_process() {
    let scene = Scene::new().await;
    placed(&scene, "a").await;
    let (folder, client) = remote(&scene).await;
    let pods = strake_client::Resource::PODS;
    assert_eq!(client.get(&pods, Some("default"), "a").await.unwrap().unwrap()["spec"]["nodeName"], "n");
    assert_eq!(client.get(&pods, Some("default"), "b").await.unwrap(), None);
    let mut reflection = client.reflect(&pods, None, &strake_client::ListParams::fields("spec.nodeName=n"));
    assert!(matches!(reflection.next().await, Some(strake_client::Change::Applied(_))));
    assert_eq!(reflection.next().await, Some(strake_client::Change::Synced));
    client.delete(&pods, Some("default"), "a", &strake_client::DeleteParams { grace_seconds: Some(0), ..Default::default() }).await.unwrap();
    assert!(matches!(reflection.next().await, Some(strake_client::Change::Deleted(_))));
    placed(&scene, "c").await;
    let exec = client.exec("default", "c", &params(&["fail", "3"])).await.unwrap();
    assert_eq!(exec.collect().await.unwrap().0, 3);
    let log: Vec<Bytes> = client.logs("default", "c", &LogParams::default()).await.unwrap().try_collect().await.unwrap();
    assert!(!log.is_empty());

    let path = folder.path().join("config");
    let team = strake_client::Client::from_kubeconfig(Some(&path), Some("team")).await.unwrap();
    assert_eq!((client.default_namespace(), team.default_namespace()), ("default", "team"));
    let error = strake_client::Client::from_kubeconfig(Some(&path), Some("none")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("there is no context `none` in the kubeconfig {}: it has here, team", path.display()));
    let error = strake_client::Client::from_kubeconfig(Some(&folder.path().join("missing")), None).await.unwrap_err();
    assert!(matches!(error, strake_client::ClientError::ReadKubeconfig { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{port}")}}], "users": [{"name": "u", "user": {}}]});
    std::fs::write(&path, config.to_string()).unwrap();
    let client = strake_client::Client::from_kubeconfig(Some(&path), None).await.unwrap();
    let error = client.raw_text("/readyz").await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert_eq!(error.to_string(), "no answer to GET /readyz");
}
