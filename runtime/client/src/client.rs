//! The client and its reads.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::Service;

use crate::error::refusal;
use crate::transport::{Body, BoxError, Transport};
use crate::{ClientError, Resource};

/// How often a request is sent to a server that asks for patience, as other clients do.
const MOST_TRIES: usize = 10;
/// The longest pause that a server is granted at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
        let mut tries = 1;
        loop {
            let mut builder = Request::builder().method(method.clone()).uri(&path).header(ACCEPT, accept);
            if let Some((kind, _)) = body {
                builder = builder.header(CONTENT_TYPE, kind);
            }
            let request = builder.body(body.as_ref().map(|(_, bytes)| bytes.clone()).unwrap_or_default());
            let request = request.map_err(|source| ClientError::Build { path: bare.clone(), source })?;
            let response = self.transport.send(request).await;
            let response = response.map_err(|source| ClientError::Send { method: method.clone(), path: bare.clone(), source })?;
            if response.status().is_success() {
                return Ok(response);
            }
            if let Some(pause) = asked_to_wait(&response).filter(|_| tries < MOST_TRIES) {
                tries += 1;
                tokio::time::sleep(pause).await;
                continue;
            }
            let code = response.status();
            let body = collect(bare, response.into_body()).await?;
            return Err(refusal(code, &body));
        }
    }
}

/// How long a server that has too much to do asks its client to wait before the same request: it has done nothing of this one. A refusal that does not say when
/// is none of these.
fn asked_to_wait(response: &Response<Body>) -> Option<Duration> {
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// A path without its query: what errors name.
pub(crate) fn bare(path: &str) -> String {
    path.split('?').next().unwrap_or_default().to_owned()
}

pub(crate) async fn collect(path: String, body: Body) -> Result<Bytes, ClientError> {
    let collected = body.collect().await.map_err(|source| ClientError::Receive { path, source })?;
    Ok(collected.to_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A server that answers like this until it has been asked `times` times.
    async fn asked(code: u16, pause: Option<&'static str>, times: usize) -> (Result<Value, ClientError>, usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let client = Client::in_process(tower::service_fn(move |request: Request<Body>| {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                let sent = request.into_body().collect().await.unwrap().to_bytes();
                let mut answer = Response::builder();
                if number < times {
                    answer = pause.into_iter().fold(answer.status(code), |answer, pause| answer.header(RETRY_AFTER, pause));
                }
                Ok::<_, std::convert::Infallible>(answer.body(http_body_util::Full::new(sent)).unwrap())
            }
        }));
        let said = client.json(Method::POST, "/api/v1/namespaces".to_owned(), Some(("application/json", Bytes::from_static(b"{\"a\":1}")))).await;
        (said, asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_server_that_is_busy_is_asked_again() {
        for code in [429, 503] {
            let (said, times) = asked(code, Some("0"), 4).await;
            assert_eq!((said.unwrap(), times), (serde_json::json!({"a": 1}), 4), "the same request, until it is answered");
        }
        let (said, times) = asked(429, Some("0"), usize::MAX).await;
        assert_eq!((said.unwrap_err().status().map(|status| status.code), times), (Some(429), MOST_TRIES));
        for (code, pause) in [(429, None), (500, Some("0")), (429, Some("Wed, 21 Oct 2026 07:28:00 GMT"))] {
            let (said, times) = asked(code, pause, usize::MAX).await;
            assert_eq!((said.unwrap_err().status().map(|status| status.code), times), (Some(code), 1));
        }
    }
}
