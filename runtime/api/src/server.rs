//! The server: what it needs, what it is told, and the way of a request through it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, header, request::Parts};
use jiff::Timestamp;
use serde_json::Value;
use strake_state::{Entry, State};

use crate::allocate::Allocations;
use crate::node::NodeAccess;
use crate::openapi::Documents;
use crate::query::Query;
use crate::status::{Answer, Refusal, json_response};
use crate::target::Target;
use crate::{delete, discovery, exec, forward, logs, meta, openapi, read, reviews, subresource, watching, write};

/// What a cluster decides about its API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiOptions {
    /// The range of Service addresses: network address and prefix length. The first address is the API's own.
    pub service_cidr: (std::net::Ipv4Addr, u8),
    /// The range of node ports.
    pub node_port_range: std::ops::RangeInclusive<u16>,
    /// `1`.
    pub major: String,
    /// `33`.
    pub minor: String,
    /// `v1.33.0+strake`.
    pub git_version: String,
    /// The port that the `kubernetes` Service points to.
    pub secure_port: u16,
}

impl Default for ApiOptions {
    fn default() -> Self {
        ApiOptions {
            service_cidr: (std::net::Ipv4Addr::new(10, 43, 0, 0), 16),
            node_port_range: 30000..=32767,
            major: "1".to_owned(),
            minor: "33".to_owned(),
            git_version: "v1.33.0+strake".to_owned(),
            secure_port: 6443,
        }
    }
}

/// Who asks. Whoever terminates TLS puts one into the request's extensions; without one the request came from this process and is `system:admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
}

impl Default for Identity {
    fn default() -> Self {
        Identity { name: "system:admin".to_owned(), groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()] }
    }
}

/// The API server of one cluster.
pub struct ApiServer {
    pub(crate) state: Arc<dyn State>,
    pub(crate) options: ApiOptions,
    pub(crate) nodes: Arc<dyn NodeAccess>,
    pub(crate) allocations: Allocations,
    pub(crate) documents: Documents,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("options", &self.options).field("revision", &self.state.revision()).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// A server of `state`. Addresses and ports that its Services hold are taken from it. Call [`ApiServer::bootstrap`] before the first request.
    pub fn new(state: Arc<dyn State>, options: ApiOptions, nodes: Arc<dyn NodeAccess>) -> ApiServer {
        let allocations = Allocations::of_state(&*state, &options);
        ApiServer { state, options, nodes, allocations, documents: Documents::default() }
    }

    /// The object's entry, or the refusal that there is none.
    pub(crate) fn entry(&self, target: &Target) -> Answer<Entry> {
        self.state.get(&target.key()).ok_or_else(|| Refusal::not_found(target.kind, &target.name))
    }
}

/// A request to a resource, read as far as all handlers need it.
pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) parts: Parts,
    pub(crate) now: Timestamp,
}

impl Call {
    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Who is noted in managed fields: the parameter, or the client's name. Calls from inside that give neither are not noted.
    pub(crate) fn manager(&self) -> &str {
        self.query.get("fieldManager").unwrap_or_else(|| self.header(header::USER_AGENT).split(['/', ' ']).next().unwrap_or_default())
    }
}

/// The HTTP face of `server`.
pub fn router(server: Arc<ApiServer>) -> Router {
    Router::new().fallback(move |request: Request| {
        let server = server.clone();
        async move { answer(&server, request).await.unwrap_or_else(IntoResponse::into_response) }
    })
}

async fn answer(server: &Arc<ApiServer>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if let Some(target) = Target::parse(path) {
        let query = Query::parse(parts.uri.query());
        return resource(server, Call { target, query, parts, now: Timestamp::now() }, body).await;
    }
    let trimmed = path.trim_end_matches('/');
    if parts.method == Method::POST {
        return reviews::answer(trimmed, &parts, body).await;
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(Refusal::no_route());
    }
    match trimmed {
        "/version" => Ok(json_response(http::StatusCode::OK, &discovery::version(&server.options))),
        "/healthz" | "/livez" | "/readyz" => Ok(plain("ok")),
        path if ["/healthz/", "/livez/", "/readyz/"].iter().any(|prefix| path.starts_with(prefix)) => Ok(plain("ok")),
        path if path == "/openapi/v3" || path.starts_with("/openapi/v3/") => openapi::answer(&server.documents, path, &parts.headers),
        path => discovery::answer(path, &parts.headers),
    }
}

fn plain(text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

async fn resource(server: &Arc<ApiServer>, call: Call, body: Body) -> Answer {
    let collection = call.target.name.is_empty();
    let subresource = call.target.subresource.clone();
    match (call.parts.method.as_str(), subresource.as_str()) {
        ("GET", "") if call.query.flag("watch") => watching::watch(server, &call),
        ("GET", "") if collection => read::list(server, &call),
        ("GET", "") => read::get(server, &call),
        ("POST", "") if collection => write::create(server, &call, body).await,
        ("PUT", "") if !collection => write::replace(server, &call, body).await,
        ("PATCH", "") if !collection => write::patch(server, &call, body).await,
        ("DELETE", "") if collection => delete::collection(server, &call, body).await,
        ("DELETE", "") => delete::one(server, &call, body).await,
        ("GET", "status") if call.target.kind.status_subresource => read::get(server, &call),
        ("PUT", "status") if call.target.kind.status_subresource => write::replace(server, &call, body).await,
        ("PATCH", "status") if call.target.kind.status_subresource => write::patch(server, &call, body).await,
        ("GET", "log") if call.target.kind.kind == "Pod" => logs::answer(server, &call).await,
        ("GET", "exec") if call.target.kind.kind == "Pod" => exec::answer(server, call).await,
        ("GET" | "POST", "portforward") if call.target.kind.kind == "Pod" => forward::answer(server, call).await,
        _ => subresource::answer(server, &call, body).await,
    }
}

/// The name a write is about, checked against the URL's.
pub(crate) fn check_name(target: &Target, object: &mut Value) -> Answer<()> {
    let given = meta::text(object, "name").to_owned();
    if given.is_empty() {
        meta::set(object, "name", target.name.clone().into());
    } else if given != target.name {
        return Err(Refusal::bad_request(format!("the name of the object ({given}) does not match the name on the URL ({})", target.name)));
    }
    Ok(())
}

/// The namespace a write is about, checked against the URL's.
pub(crate) fn check_namespace(target: &Target, object: &mut Value) -> Answer<()> {
    let given = meta::text(object, "namespace").to_owned();
    if !target.kind.namespaced {
        meta::set(object, "namespace", Value::Null);
    } else if given.is_empty() {
        meta::set(object, "namespace", target.namespace.clone().into());
    } else if given != target.namespace {
        let message = format!("the namespace of the provided object does not match the namespace sent on the request ({given} is not {})", target.namespace);
        return Err(Refusal::bad_request(message));
    }
    Ok(())
}
