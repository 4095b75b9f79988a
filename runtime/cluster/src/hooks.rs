//! Where forges call when something was pushed: `POST /hooks/NAMESPACE/NAME`. Plain HTTP, for a reverse proxy to stand before; whoever calls proves itself
//! to the one who heeds it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, http};
use futures::future::BoxFuture;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// The largest delivery, in bytes; a push of very many commits is larger, and then the clock finds it.
const MOST_BYTES: usize = 8 * 1024 * 1024;
const MOST_HEADER_BYTES: usize = 64 * 1024;
/// Deliveries that are read at a time.
const AT_ONCE: usize = 16;
/// How long one may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// A delivery.
#[derive(Clone, Debug)]
pub struct HookRequest {
    /// The namespace in its address.
    pub namespace: String,
    /// The name in its address.
    pub name: String,
    /// Headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// An answer: a code and a line.
pub type HookAnswer = (u16, String);

/// Who heeds deliveries.
pub type Hooks = Arc<dyn Fn(HookRequest) -> BoxFuture<'static, HookAnswer> + Send + Sync>;

#[derive(Clone)]
struct Door {
    hooks: Hooks,
    places: Arc<Semaphore>,
}

/// Serves until the task is dropped.
pub async fn serve_hooks(listener: TcpListener, hooks: Hooks) {
    let door = Door { hooks, places: Arc::new(Semaphore::new(AT_ONCE)) };
    let router = Router::new()
        .route("/hooks/{namespace}/{name}", post(deliver))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::disable())
        .with_state(door);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, router.clone()))),
            // Out of descriptors: let some connections end.
            Err(error) => {
                tracing::warn!("cannot accept a webhook's connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A peer that does not finish its headers is let go.
async fn connection(stream: TcpStream, router: Router) {
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| router.clone().oneshot(request.map(Body::new)));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(MOST_HEADER_BYTES);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("a webhook's connection ended: {error}");
    }
}

fn answer(code: u16, line: &str) -> Response {
    let code = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    (code, format!("{line}\n")).into_response()
}

async fn deliver(State(door): State<Door>, Path((namespace, name)): Path<(String, String)>, request: http::Request<Body>) -> Response {
    let Ok(_place) = door.places.try_acquire() else {
        return answer(503, "too many deliveries at a time: try again");
    };
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, MOST_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return answer(413, "the delivery is too large, or was cut off"),
        Err(_) => return answer(408, "the delivery takes too long"),
    };
    let (code, line) = (door.hooks)(HookRequest { namespace, name, headers: head.headers, body }).await;
    answer(code, &line)
}
