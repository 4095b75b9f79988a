//! Answers, and refusals with the error codes of the distribution specification.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use strake_oci::Digest;
use strake_store::StoreError;

/// Told with every answer, as clients look for it.
pub(super) const API_VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A response, or why there is none.
pub(super) type Answer = Result<Response, Denied>;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Denied {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    pub headers: Vec<(HeaderName, String)>,
}

impl Denied {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Denied { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn blob_unknown(digest: &Digest) -> Self {
        Denied::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("there is no blob {digest}"))
    }

    pub(super) fn manifest_unknown(word: &str) -> Self {
        Denied::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", format!("there is no manifest {word}"))
    }

    pub(super) fn name_unknown(repository: &str) -> Self {
        Denied::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("there is no repository {repository}"))
    }

    pub(super) fn manifest_invalid(reason: impl Into<String>) -> Self {
        Denied::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", reason)
    }

    pub(super) fn digest_invalid(reason: impl Into<String>) -> Self {
        Denied::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", reason)
    }

    pub(super) fn upload_unknown() -> Self {
        Denied::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "there is no such upload, or it was given up")
    }

    pub(super) fn upload_invalid(reason: impl Into<String>) -> Self {
        Denied::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", reason)
    }

    pub(super) fn unsupported(what: &str) -> Self {
        Denied::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", what)
    }

    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        // Paths of this machine are nothing for clients.
        tracing::error!(error = %crate::error::chain(error), "a request failed");
        Denied::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the registry has a problem of its own; its log says which")
    }
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::BlobMissing { digest } => Denied::blob_unknown(digest),
            StoreError::UploadMissing { .. } => Denied::upload_unknown(),
            StoreError::DigestMismatch { expected, found } => Denied::digest_invalid(format!("{expected} was promised, {found} came")),
            _ if error.is_disk_full() => {
                tracing::error!(error = %crate::error::chain(&error), "no space is left");
                Denied::new(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", "the registry has no space left")
            }
            _ => Denied::internal(&error),
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let body = json!({ "errors": [{ "code": self.code, "message": self.message, "detail": null }] }).to_string();
        let mut response = (self.status, [(CONTENT_TYPE, "application/json")], body).into_response();
        set(&mut response, &self.headers);
        response
    }
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode, headers: &[(HeaderName, String)]) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    set(&mut response, headers);
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    response
}

/// Bytes of a media type.
pub(super) fn bytes(kind: &str, bytes: Vec<u8>, headers: &[(HeaderName, String)]) -> Response {
    let length = bytes.len();
    let mut response = Response::new(Body::from(bytes));
    set(&mut response, &[(CONTENT_TYPE, kind.to_owned()), (CONTENT_LENGTH, length.to_string())]);
    set(&mut response, headers);
    response
}

pub(super) fn set(response: &mut Response, headers: &[(HeaderName, String)]) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name.clone(), value);
        }
    }
}

/// Work on the store, which waits for disks, away from the threads that serve.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Denied> + Send + 'static) -> Result<T, Denied> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Denied::internal(&error)))
}
