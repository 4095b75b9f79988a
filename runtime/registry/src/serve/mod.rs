//! The store as a registry (OCI distribution specification 1.1): what `strake images` lists can be pulled, what is pushed is an image of the store.
//!
//! Manifests are served byte by byte as the store has them, so an image has the same digest here and there. Layers that were built here are listed
//! uncompressed, and their tar is made from their files while it is sent: nothing is compressed and nothing is kept twice.

mod answer;
mod blobs;
mod lists;
mod manifests;
mod names;
mod route;
mod uploads;
mod users;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use strake_store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use answer::{API_VERSION, Answer, Denied, empty};
use lists::Query;
use route::Route;
use uploads::Uploads;
use users::Users;

/// A peer that does not finish its handshake or its headers is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once; more wait until one ends.
const MAX_CONNECTIONS: usize = 512;
const MAX_STREAMS: u32 = 128;
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// How often uploads that were given up are looked for.
const SWEEP: Duration = Duration::from_secs(600);

/// How a registry is served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate chain and key (PEM files); plain HTTP without.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Users with bcrypt hashes; anybody without.
    pub htpasswd: Option<PathBuf>,
}

/// Why a registry cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    /// A certificate or key cannot be read.
    #[error("cannot read {}", path.display())]
    Certificate { path: PathBuf, source: rustls::pki_types::pem::Error },
    /// Certificate and key do not fit.
    #[error("the certificate {} and its key are of no use", path.display())]
    Tls { path: PathBuf, source: rustls::Error },
    /// The users cannot be read.
    #[error("cannot read {}", path.display())]
    Users { path: PathBuf, source: io::Error },
    /// A line of the users' file is wrong.
    #[error("{}:{line}: {reason}", path.display())]
    UsersLine { path: PathBuf, line: usize, reason: String },
    /// The users' file has no user.
    #[error("{} names no user", path.display())]
    NoUsers { path: PathBuf },
    /// The system gives no random numbers.
    #[error("cannot get random numbers")]
    Random { source: io::Error },
}

/// A registry that listens.
pub struct Listening {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    registry: Arc<Registry>,
}

struct Registry {
    store: Store,
    users: Option<Arc<Users>>,
    uploads: Uploads,
}

/// Listens, so that clients can connect; [`Listening::serve`] answers them.
///
/// # Errors
/// An address that is taken, a certificate or users' file that is wrong.
pub async fn listen(store: &Store, options: &ServeOptions) -> Result<Listening, ServeError> {
    let users = options.htpasswd.as_deref().map(Users::load).transpose()?.map(Arc::new);
    let tls = options.tls.as_ref().map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
    let listener = TcpListener::bind(options.listen).await.map_err(|source| ServeError::Listen { address: options.listen, source })?;
    Ok(Listening { listener, tls, registry: Arc::new(Registry { store: store.clone(), users, uploads: Uploads::default() }) })
}

impl Listening {
    /// The address, with the port that the system chose where none was given.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers until the future is dropped. One slow or hostile peer never holds up another.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = sweep.tick() => {
                    let registry = Arc::clone(&self.registry);
                    tokio::task::spawn_blocking(move || registry.uploads.sweep(&registry.store));
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                    let _ = stream.set_nodelay(true);
                    let (tls, registry) = (self.tls.clone(), Arc::clone(&self.registry));
                    tokio::spawn(async move {
                        connection(stream, tls, registry).await;
                        drop(place);
                    });
                }
                // Out of descriptors: let some connections end.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, ServeError> {
    let reading = |path: &Path| {
        let path = path.to_owned();
        move |source| ServeError::Certificate { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(reading(certificate))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(reading(key))?;
    let useless = |source| ServeError::Tls { path: certificate.to_owned(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(useless)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, secret).map_err(useless)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, registry: Arc<Registry>) {
    match tls {
        None => talk(stream, registry).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                talk(stream, registry).await;
            }
        }
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, registry: Arc<Registry>) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let registry = Arc::clone(&registry);
        async move { Ok::<_, std::convert::Infallible>(respond(&registry, request.map(Body::new)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_HEADER_BYTES);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn respond(registry: &Registry, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let head = method == Method::HEAD;
    let mut response = answer(registry, request).await.unwrap_or_else(IntoResponse::into_response);
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    if head {
        // Its length stays said.
        *response.body_mut() = Body::empty();
    }
    response.headers_mut().insert(API_VERSION.0, HeaderValue::from_static(API_VERSION.1));
    response
}

async fn answer(registry: &Registry, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    if let Some(users) = &registry.users {
        users.check(&parts.headers).await?;
    }
    let (store, uploads) = (&registry.store, &registry.uploads);
    let query = Query::parse(parts.uri.query());
    let route = Route::parse(parts.uri.path())?;
    match (parts.method.as_str(), route) {
        ("GET" | "HEAD", Route::Base) => Ok(answer::bytes("application/json", b"{}".to_vec(), &[])),
        ("GET", Route::Catalog) => lists::catalog(store, &query),
        ("GET", Route::Tags(repository)) => lists::tags(store, &repository, &query),
        ("GET", Route::Referrers(repository, digest)) => lists::referrers(store, &repository, &digest, &query),
        ("GET" | "HEAD", Route::Manifest(repository, word)) => manifests::get(store, repository, word).await,
        ("PUT", Route::Manifest(repository, word)) => manifests::put(store, repository, word, &parts.headers, body).await,
        ("DELETE", Route::Manifest(repository, word)) => manifests::delete(store, repository, word).await,
        ("GET", Route::Blob(repository, digest)) => blobs::get(store, repository, digest, &parts.headers, true).await,
        ("HEAD", Route::Blob(repository, digest)) => blobs::get(store, repository, digest, &parts.headers, false).await,
        ("DELETE", Route::Blob(repository, digest)) => blobs::delete(store, repository, digest).await,
        ("POST", Route::Uploads(repository)) => uploads.begin(store, repository, &query, body).await,
        ("PATCH", Route::Upload(repository, id)) => uploads.append(store, repository, &id, &parts.headers, body).await,
        ("PUT", Route::Upload(repository, id)) => {
            let wanted = query.get("digest").ok_or_else(|| Denied::digest_invalid("the digest is missing"))?;
            uploads.complete(store, repository, &id, route::digest(wanted)?, &parts.headers, body).await
        }
        ("GET", Route::Upload(repository, id)) => uploads.status(store, repository, &id).await,
        ("DELETE", Route::Upload(_, id)) => uploads.cancel(store, &id).await,
        ("OPTIONS", _) => Ok(empty(StatusCode::OK, &[])),
        _ => Err(Denied::unsupported("not with this method")),
    }
}
