//! Requests to the Kubernetes API, a few in a row on one server: method, path, headers and body of anybody. It answers each, and never with its own mistake.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use libfuzzer_sys::fuzz_target;
use strake_api::{ApiOptions, ApiServer, NoNode, router};
use strake_state::Memory;
use tower::ServiceExt;

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const TYPES: [&str; 6] = [
    "application/json",
    "application/vnd.kubernetes.protobuf",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
];
const ACCEPTS: [&str; 3] = ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf"];

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));

fn server() -> Arc<ApiServer> {
    Arc::new(ApiServer::new(Arc::new(Memory::new()), ApiOptions::default(), Arc::new(NoNode)))
}

/// The documents of OpenAPI hold nothing of the state, and a server takes long to make them: they are asked of one that lives as long as the process.
static DOCUMENTS: LazyLock<Arc<ApiServer>> = LazyLock::new(server);

/// `how`, a line with the path, a body up to a zero byte: one request.
fn request(bytes: &[u8]) -> Option<Request<Body>> {
    let [how, rest @ ..] = bytes else { return None };
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let path = std::str::from_utf8(&rest[..end]).ok()?;
    let how = usize::from(*how);
    let request = Request::builder()
        .method(METHODS[how % METHODS.len()])
        .uri(path)
        .header("content-type", TYPES[how / METHODS.len() % TYPES.len()])
        .header("accept", ACCEPTS[how / (METHODS.len() * TYPES.len()) % ACCEPTS.len()]);
    request.body(Body::from(rest[end + 1..].to_vec())).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let own = server();
    RUNTIME.block_on(async {
        for request in bytes.split(|byte| *byte == 0xff).filter_map(request).take(8) {
            let what = format!("{} {}", request.method(), request.uri());
            let server = if request.uri().path().starts_with("/openapi") { &*DOCUMENTS } else { &own };
            // A watch and a followed log have no end: only their beginning is looked at.
            let answered = tokio::time::timeout(Duration::from_secs(10), router(server.clone()).oneshot(request)).await;
            let response = answered.unwrap_or_else(|_| panic!("no answer to {what}")).expect("infallible");
            assert_ne!(response.status(), 500, "{what}");
        }
    });
});
