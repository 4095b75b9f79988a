//! The client and its reads.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::Service;

use crate::error::refusal;
use crate::transport::{Body, BoxError, Transport};
use crate::{ClientError, Resource};

/// A client of one API. Cloning is cheap.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Transport,
    namespace: Arc<str>,
    server: Arc<str>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of a service in this process (an axum router is one): no sockets, no TLS. It must be made inside a tokio runtime.
    pub fn in_process<S, B>(service: S) -> Client
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Client { transport: Transport::local(service), namespace: Arc::from("default"), server: Arc::from("in this process") }
    }

    /// A client of the cluster that a kubeconfig names: the file `path` (otherwise `$KUBECONFIG`, otherwise `~/.kube/config`), in `context`
    /// (otherwise its current one).
    ///
    /// # Errors
    /// [`ClientError::Kubeconfig`] or [`ClientError::Prepare`]; the server is not spoken to yet.
    pub async fn from_kubeconfig(path: Option<&Path>, context: Option<&str>) -> Result<Client, ClientError> {
        let (transport, namespace, server) = Transport::remote(path, context).await?;
        Ok(Client { transport, namespace: Arc::from(namespace), server: Arc::from(server) })
    }

    /// The namespace that the kubeconfig's context names, `default` otherwise.
    pub fn default_namespace(&self) -> &str {
        &self.namespace
    }

    /// Where the API is, for people.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The object, or `None` when there is none.
    pub async fn get(&self, resource: &Resource, namespace: Option<&str>, name: &str) -> Result<Option<Value>, ClientError> {
        match self.json(Method::GET, resource.path(namespace, Some(name), None), None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A subresource (`scale`, `status`) of an object, or `None`.
    pub async fn get_subresource(&self, resource: &Resource, namespace: Option<&str>, name: &str, subresource: &str) -> Result<Option<Value>, ClientError> {
        match self.json(Method::GET, resource.path(namespace, Some(name), Some(subresource)), None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The JSON at any path, query included.
    pub async fn raw_get(&self, path: &str) -> Result<Value, ClientError> {
        self.json(Method::GET, path.to_owned(), None).await
    }

    /// The body at any path as text (`/readyz`, `/metrics`).
    pub async fn raw_text(&self, path: &str) -> Result<String, ClientError> {
        let body = self.answer(Method::GET, path.to_owned(), None).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends a request and reads its JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, method: Method, path: String, body: Option<(&'static str, Bytes)>) -> Result<T, ClientError> {
        let bare = bare(&path);
        let bytes = self.answer(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Decode { path: bare, source })
    }

    async fn answer(&self, method: Method, path: String, body: Option<(&'static str, Bytes)>) -> Result<Bytes, ClientError> {
        let bare = bare(&path);
        let response = self.open(method, path, body).await?;
        collect(bare, response.into_body()).await
    }

    /// Sends a request and gives the answer whose body is still to come, unless it is a refusal.
    pub(crate) async fn open(&self, method: Method, path: String, body: Option<(&'static str, Bytes)>) -> Result<Response<Body>, ClientError> {
        self.open_as("application/json", method, path, body).await
    }

    /// The same, with the form that is wanted.
    pub(crate) async fn open_as(
        &self,
        accept: &'static str,
        method: Method,
        path: String,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Response<Body>, ClientError> {
        let bare = bare(&path);
        let mut builder = Request::builder().method(method.clone()).uri(path).header(ACCEPT, accept);
        if let Some((kind, _)) = body {
            builder = builder.header(CONTENT_TYPE, kind);
        }
        let request = builder.body(body.map(|(_, bytes)| bytes).unwrap_or_default());
        let request = request.map_err(|source| ClientError::Build { path: bare.clone(), source })?;
        let response = self.transport.send(request).await.map_err(|source| ClientError::Send { method, path: bare.clone(), source })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = collect(bare, response.into_body()).await?;
        Err(refusal(code, &body))
    }
}

/// A path without its query: what errors name.
pub(crate) fn bare(path: &str) -> String {
    path.split('?').next().unwrap_or_default().to_owned()
}

pub(crate) async fn collect(path: String, body: Body) -> Result<Bytes, ClientError> {
    let collected = body.collect().await.map_err(|source| ClientError::Receive { path, source })?;
    Ok(collected.to_bytes())
}
