//! The two ways a request can go: a call of a service in this process, or HTTP to a server.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kube::client::Connection;
use kube::config::KubeconfigError;
use tower::{Service, ServiceExt};

use crate::ClientError;
use crate::query::Query;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
/// A body in either direction, whatever made it.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Room in each direction of the pipe that an in-process websocket runs over.
const PIPE_BYTES: usize = 64 << 10;

pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A service of any type, as a function.
type Call = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> + Send + Sync>;

#[derive(Clone)]
pub(crate) enum Transport {
    Local { call: Call, upgrades: kube::Client },
    Remote(kube::Client),
}

impl Transport {
    pub(crate) fn local<S, B>(service: S) -> Transport
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let call: Call = Arc::new(move |request| {
            let answer = service.clone().oneshot(request);
            answer.map(|answer| Ok(answer.map_err(Into::into)?.map(|body| body.map_err(Into::into).boxed_unsync()))).boxed()
        });
        let upgrades = kube::Client::new(Piped(call.clone()), "default");
        Transport::Local { call, upgrades }
    }

    pub(crate) async fn remote(path: Option<&Path>, context: Option<&str>) -> Result<(Transport, String, String), ClientError> {
        let failed = |source| match source {
            KubeconfigError::ReadConfig(source, path) => ClientError::ReadKubeconfig { path, source },
            source => ClientError::Kubeconfig { path: path.map(Path::to_owned), source: Box::new(source) },
        };
        let kubeconfig = match path {
            Some(path) => kube::config::Kubeconfig::read_from(path),
            None => kube::config::Kubeconfig::read(),
        };
        let kubeconfig = kubeconfig.map_err(failed)?;
        if let Some(context) = context.filter(|context| kubeconfig.contexts.iter().all(|one| one.name != **context)) {
            let known = kubeconfig.contexts.iter().map(|one| one.name.clone()).collect();
            return Err(ClientError::NoContext { path: path.map(Path::to_owned), context: context.to_owned(), known });
        }
        let options = kube::config::KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
        let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
        let client = kube::Client::try_from(config).map_err(|source| ClientError::Prepare { server: server.clone(), source: Box::new(source) })?;
        Ok((Transport::Remote(client), namespace, server))
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        match self {
            Transport::Local { call, .. } => call(request.map(full)).await,
            Transport::Remote(client) => {
                let response = client.send(request.map(kube::client::Body::from)).await.map_err(|error| match error {
                    // The one name that says nothing.
                    kube::Error::Service(cause) => cause,
                    other => other.into(),
                })?;
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
        }
    }

    /// A websocket to `path`.
    pub(crate) async fn websocket(&self, path: &str, query: Query) -> Result<Connection, ClientError> {
        let client = match self {
            Transport::Local { upgrades, .. } => upgrades,
            Transport::Remote(client) => client,
        };
        let request = Request::get(query.finish()).body(Vec::new()).map_err(|source| ClientError::Build { path: path.to_owned(), source })?;
        client.connect(request).await.map_err(|error| match error {
            kube::Error::Api(status) => ClientError::Api(status),
            other => ClientError::Send { method: http::Method::GET, path: path.to_owned(), source: Box::new(other) },
        })
    }
}

/// A service that is reached through HTTP/1.1 over a pipe in memory: what an upgrade needs, since it takes over a connection.
#[derive(Clone)]
struct Piped(Call);

impl Service<Request<kube::client::Body>> for Piped {
    type Response = Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, hyper::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), hyper::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let call = self.0.clone();
        let service =
            hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| call(request.map(|body| body.map_err(Into::into).boxed_unsync())));
        async move {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
            // Both ends finish when the connection does; what goes wrong shows at the other end as a broken stream.
            tokio::spawn(server.with_upgrades().map(drop));
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await?;
            tokio::spawn(connection.with_upgrades().map(drop));
            sender.send_request(request).await
        }
        .boxed()
    }
}
