//! Where forges call when something was pushed: `POST /hooks/NAMESPACE/NAME`. TLS with a certificate that forges trust, or plain HTTP, for a reverse proxy to stand
//! before; whoever calls proves itself to the one who heeds it.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, http};
use futures::future::BoxFuture;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::ClusterError;

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

/// The certificate that forges see, with its chain, and its key: PEM files, read anew for each connection, so that one that was renewed counts at once.
#[derive(Clone, Debug)]
pub struct HookTls {
    certificate: PathBuf,
    key: PathBuf,
}

impl HookTls {
    /// Of two files, which are tried.
    ///
    /// # Errors
    /// A file that cannot be read, or that has something else in it; a key that does not belong to the certificate.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Result<HookTls, ClusterError> {
        let tls = HookTls { certificate, key };
        tls.acceptor().map(|_| tls)
    }

    fn acceptor(&self) -> Result<TlsAcceptor, ClusterError> {
        let unread =
            |path: &FilePath, error: pem::Error| ClusterError::Tls(rustls::Error::General(format!("{} cannot be read as PEM: {error}", path.display())));
        let certificates = CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.map_err(|error| unread(&self.certificate, error))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unread(&self.key, error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(ClusterError::Tls)?;
        let mut config = builder.with_no_client_auth().with_single_cert(certificates, key).map_err(ClusterError::Tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Serves until the task is dropped.
pub async fn serve_hooks(listener: TcpListener, tls: Option<HookTls>, hooks: Hooks) {
    let door = Door { hooks, places: Arc::new(Semaphore::new(AT_ONCE)) };
    let router = Router::new()
        .route("/hooks/{namespace}/{name}", post(deliver))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::disable())
        .with_state(door);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(accepted(stream, tls.clone(), router.clone()))),
            // Out of descriptors: let some connections end.
            Err(error) => {
                tracing::warn!("cannot accept a webhook's connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A peer that does not finish its handshake is let go.
async fn accepted(stream: TcpStream, tls: Option<HookTls>, router: Router) {
    let Some(tls) = tls else { return connection(stream, router).await };
    match tls.acceptor() {
        Ok(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                connection(stream, router).await;
            }
        }
        Err(error) => {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            tracing::warn!("a webhook's connection is refused: {why}");
        }
    }
}

/// A peer that does not finish its headers is let go.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
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
