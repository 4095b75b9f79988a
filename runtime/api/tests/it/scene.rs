//! A server on a state in memory, with a node that answers by script.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use strake_api::{ApiOptions, ApiServer, ExecRequest, ExecStreams, ForwardStream, LogOptions, LogStream, NodeAccess, NodeError, router};
use strake_client::Client;
use strake_state::{Memory, State};
use tower::ServiceExt;

pub const JSON: &str = "application/json";

pub struct Scene {
    pub state: Arc<Memory>,
    pub server: Arc<ApiServer>,
    pub router: Router,
    pub client: Client,
}

/// Says what it was asked for; `cat` gives its input back, `fail N` ends with N, `sizes` tells terminal sizes.
pub struct Scripted;

impl NodeAccess for Scripted {
    fn logs(&self, namespace: &str, pod: &str, options: LogOptions) -> BoxFuture<'static, Result<LogStream, NodeError>> {
        let text = format!("{namespace}/{pod} {} follow={} tail={:?}\n", options.container, options.follow, options.tail_lines);
        let missing = NodeError::NoPrevious { pod: pod.to_owned(), container: options.container };
        Box::pin(async move {
            if options.previous {
                return Err(missing);
            }
            Ok(stream::iter([Ok(Bytes::from(text)), Ok(Bytes::from_static(b"second line\n"))]).boxed())
        })
    }

    fn exec(&self, _: &str, _: &str, request: ExecRequest, mut streams: ExecStreams) -> BoxFuture<'static, Result<i32, NodeError>> {
        Box::pin(async move {
            match request.command[0].as_str() {
                "cat" => {
                    while let Some(bytes) = streams.stdin.recv().await {
                        let _ = streams.stdout.send(bytes).await;
                    }
                    let _ = streams.stderr.send(Bytes::from_static(b"end of input")).await;
                    Ok(0)
                }
                "fail" => Ok(request.command[1].parse().unwrap()),
                "sizes" => {
                    let size = streams.resize.recv().await.unwrap();
                    let _ = streams.stdout.send(Bytes::from(format!("{}x{} tty={}", size.width, size.height, request.tty))).await;
                    Ok(0)
                }
                // Runs until nobody listens.
                "yes" => {
                    while streams.stdout.send(Bytes::from_static(b"y\n")).await.is_ok() {}
                    Ok(1)
                }
                other => Err(NodeError::CannotRun { command: request.command.clone(), container: request.container, reason: format!("{other}: not found") }),
            }
        })
    }

    /// Gives back what it gets; port 1 takes nothing.
    fn forward(&self, _: &str, pod: &str, port: u16) -> BoxFuture<'static, Result<ForwardStream, NodeError>> {
        let refused = NodeError::Connect { pod: pod.to_owned(), port, source: std::io::ErrorKind::ConnectionRefused.into() };
        Box::pin(async move {
            if port == 1 {
                return Err(refused);
            }
            let (ours, theirs) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let (mut source, mut sink) = tokio::io::split(ours);
                tokio::io::copy(&mut source, &mut sink).await
            });
            Ok(Box::new(theirs) as ForwardStream)
        })
    }
}

impl Scene {
    pub async fn new() -> Scene {
        Scene::of_version("33").await
    }

    /// A server that says it is of this minor version.
    pub async fn of_version(minor: &str) -> Scene {
        let options = ApiOptions { minor: minor.to_owned(), git_version: format!("v1.{minor}.0+strake"), ..ApiOptions::default() };
        let state = Arc::new(Memory::new());
        let server = Arc::new(ApiServer::new(state.clone(), options, Arc::new(Scripted)));
        server.bootstrap().await.unwrap();
        let router = router(server.clone());
        Scene { state, server, client: Client::in_process(router.clone()), router }
    }

    pub async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// A request with a content type (none when empty); code and JSON of its answer.
    pub async fn ask(&self, method: &str, path: &str, content_type: &str, body: impl Into<Body>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path).header("user-agent", "tester/1.0");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let response = self.send(request.body(body.into()).unwrap()).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "", Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, JSON, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("PUT", path, JSON, body.to_string()).await
    }

    pub async fn merge(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("PATCH", path, "application/merge-patch+json", body.to_string()).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("DELETE", path, JSON, if body.is_null() { String::new() } else { body.to_string() }).await
    }

    pub async fn created(&self, path: &str, body: Value) -> Value {
        let (code, object) = self.post(path, body).await;
        assert_eq!(code, 201, "{object}");
        object
    }

    pub async fn table(&self, path: &str) -> Value {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let response = self.send(Request::get(path).header("accept", accept).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    pub fn revision(&self) -> u64 {
        self.state.revision().0
    }
}

pub fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"key": "value"}})
}

pub fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "example.com/app:1"}]}})
}

pub fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": "example.com/app:1"}]}},
        },
    })
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub const SERVICES: &str = "/api/v1/namespaces/default/services";
