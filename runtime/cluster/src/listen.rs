//! The HTTPS face: TLS with client certificates in front of the API's router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use strake_api::Identity;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::ClusterError;
use crate::pki::{Pki, identity};

/// A peer that does not finish its handshake or its headers is let go.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_STREAMS: u32 = 200;
const MAX_HEADER_BYTES: u32 = 64 * 1024;

/// The TLS side of the server: TLS 1.2 and 1.3; a client certificate of our authority names the user.
pub fn acceptor(pki: &Pki) -> Result<TlsAcceptor, ClusterError> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let broken = |what: &str| ClusterError::Tls(rustls::Error::General(format!("{what} is not readable")));
    let authority = CertificateDer::from_pem_slice(pki.authority.as_bytes()).map_err(|_| broken("the authority's certificate"))?;
    let certificate = CertificateDer::from_pem_slice(pki.server.certificate.as_bytes()).map_err(|_| broken("the server's certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(pki.server.key.as_bytes()).map_err(|_| broken("the server's key"))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(ClusterError::Tls)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).allow_unauthenticated().build();
    let verifier = verifier.map_err(|_| broken("the authority"))?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(ClusterError::Tls)?;
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(vec![certificate, authority], key).map_err(ClusterError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until the task is dropped. One slow or hostile peer never holds up another.
pub async fn serve(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream, acceptor.clone(), router.clone()));
            }
            // Out of descriptors: let some connections end.
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
    let user = certificate.and_then(|der| identity(&der)).map(|(name, groups)| Identity { name, groups });
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        let router = router.clone();
        let known = user.is_some() || is_open(request.uri().path());
        request.extensions_mut().insert(user.clone().unwrap_or_else(anonymous));
        async move { if known { router.oneshot(request.map(axum::body::Body::new)).await } else { Ok(unauthorized()) } }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_HEADER_BYTES);
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!("a connection ended: {error}");
    }
}

/// What anybody may ask: is it alive, and which version.
fn is_open(path: &str) -> bool {
    matches!(path, "/version" | "/healthz" | "/livez" | "/readyz")
}

fn anonymous() -> Identity {
    Identity { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
}

fn unauthorized() -> axum::response::Response {
    let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#;
    let mut response = axum::response::Response::new(axum::body::Body::from(status));
    *response.status_mut() = hyper::StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}
