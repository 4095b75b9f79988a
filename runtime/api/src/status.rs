//! Refusals, in the form that every Kubernetes client reads: `Status`.

use std::fmt;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use strake_kinds::KindInfo;
use strake_state::StateError;

/// One field's part in a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid`, `FieldManagerConflict`.
    pub reason: String,
    /// What is wrong with it.
    pub message: String,
    /// The field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// Whom a refusal is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its resource (for validation errors: its kind).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What is wrong, field by field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// A refusal. What a Go server would answer in its place, in the same terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP code.
    pub code: StatusCode,
    /// The machine's word for it.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// Whom it is about.
    pub details: Option<Box<Details>>,
}

/// What handlers give.
pub(crate) type Answer<T = Response> = Result<T, Refusal>;

fn resource_name(kind: &KindInfo) -> String {
    if kind.group.is_empty() { kind.plural.to_owned() } else { format!("{}.{}", kind.plural, kind.group) }
}

fn about(kind: &KindInfo, name: &str) -> Option<Box<Details>> {
    Some(Box::new(Details { name: name.to_owned(), group: kind.group.to_owned(), kind: kind.plural.to_owned(), ..Details::default() }))
}

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, reason, message: message.into(), details: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn no_route() -> Refusal {
        let mut refusal = Refusal::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource");
        refusal.details = Some(Box::default());
        refusal
    }

    pub(crate) fn not_found(kind: &KindInfo, name: &str) -> Refusal {
        let message = format!("{} {name:?} not found", resource_name(kind));
        Refusal { details: about(kind, name), ..Refusal::new(StatusCode::NOT_FOUND, "NotFound", message) }
    }

    pub(crate) fn already_exists(kind: &KindInfo, name: &str) -> Refusal {
        let message = format!("{} {name:?} already exists", resource_name(kind));
        Refusal { details: about(kind, name), ..Refusal::new(StatusCode::CONFLICT, "AlreadyExists", message) }
    }

    pub(crate) fn conflict(kind: &KindInfo, name: &str, why: &str) -> Refusal {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource_name(kind));
        Refusal { details: about(kind, name), ..Refusal::new(StatusCode::CONFLICT, "Conflict", message) }
    }

    pub(crate) fn modified(kind: &KindInfo, name: &str) -> Refusal {
        Refusal::conflict(kind, name, "the object has been modified; please apply your changes to the latest version and try again")
    }

    pub(crate) fn forbidden(kind: &KindInfo, name: &str, why: &str) -> Refusal {
        let message = format!("{} {name:?} is forbidden: {why}", resource_name(kind));
        Refusal { details: about(kind, name), ..Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message) }
    }

    pub(crate) fn invalid(kind: &KindInfo, name: &str, causes: Vec<Cause>) -> Refusal {
        let sentences: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let list = if let [one] = &sentences[..] { one.clone() } else { format!("[{}]", sentences.join(", ")) };
        let subject = if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) };
        let details = Details { name: name.to_owned(), group: kind.group.to_owned(), kind: kind.kind.to_owned(), causes, ..Details::default() };
        let message = format!("{subject} {name:?} is invalid: {list}");
        Refusal { details: Some(Box::new(details)), ..Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
    }

    /// A single invalid field.
    pub(crate) fn invalid_field(kind: &KindInfo, name: &str, field: &str, message: impl Into<String>) -> Refusal {
        let cause = Cause { reason: "FieldValueInvalid".to_owned(), message: message.into(), field: field.to_owned() };
        Refusal::invalid(kind, name, vec![cause])
    }

    pub(crate) fn unprocessable(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    pub(crate) fn field_conflicts(message: impl Into<String>, causes: Vec<Cause>) -> Refusal {
        let details = Some(Box::new(Details { causes, ..Details::default() }));
        Refusal { details, ..Refusal::new(StatusCode::CONFLICT, "Conflict", message) }
    }

    pub(crate) fn method_not_allowed() -> Refusal {
        let message = "the server does not allow this method on the requested resource";
        let mut refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
        refusal.details = Some(Box::default());
        refusal
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(crate) fn unsupported_media(found: &str, expected: &str) -> Refusal {
        let message = format!("the body of the request was in an unknown format ({found}): accepted media types include: {expected}");
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::GONE, "Expired", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// What a failed write of the state means to its client. A conflict is not for here: the caller knows what it meant.
    pub(crate) fn of_state(error: &StateError) -> Refusal {
        match error {
            StateError::Compacted { asked, oldest, .. } => Refusal::expired(format!("too old resource version: {asked} ({oldest})")),
            StateError::Closed => Refusal::unavailable("the server is stopping"),
            other => {
                let source = std::error::Error::source(other).map(|source| format!(": {source}")).unwrap_or_default();
                Refusal::internal(format!("{other}{source}"))
            }
        }
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if let Some(details) = &self.details {
            status["details"] = json!(details);
        }
        status
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json_response(self.code, &self.status());
        if let Some(seconds) = self.details.as_ref().and_then(|details| details.retry_after_seconds) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON answer.
pub(crate) fn json_response(code: StatusCode, value: &Value) -> Response {
    bytes_response(code, bytes::Bytes::from(value.to_string()))
}

/// An answer whose JSON is there already.
pub(crate) fn bytes_response(code: StatusCode, bytes: bytes::Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
