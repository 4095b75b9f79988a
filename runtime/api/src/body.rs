//! Request bodies: JSON or protobuf, within bounds.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use strake_kinds::{KindInfo, decode, protobuf};

use crate::query::FieldValidation;
use crate::status::{Answer, Refusal};

/// Most bytes of a request's body.
pub(crate) const MOST_BYTES: usize = 3 << 20;
/// Most bytes of a stored object, as in etcd's default.
pub(crate) const MOST_OBJECT_BYTES: usize = 3 << 19;
/// Objects nest at most this deep.
pub(crate) const MOST_DEPTH: usize = 64;
/// Operations of a JSON patch.
pub(crate) const MOST_OPERATIONS: usize = 10_000;

/// A decoded object and what has to be said about it.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) object: Value,
    pub(crate) warnings: Vec<String>,
}

/// Reads a body, at most [`MOST_BYTES`] of it.
pub(crate) async fn bytes(body: Body) -> Answer<Bytes> {
    match Limited::new(body, MOST_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(Refusal::too_large(format!("limit is {MOST_BYTES}"))),
        Err(error) => Err(Refusal::bad_request(format!("the body could not be read: {error}"))),
    }
}

/// The content type without its parameters, empty when there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Whether arrays and objects nest in `value` more than `most` deep. It looks no deeper than that.
pub(crate) fn deeper_than(value: &Value, most: usize) -> bool {
    match value {
        Value::Array(items) => most == 0 || items.iter().any(|item| deeper_than(item, most - 1)),
        Value::Object(map) => most == 0 || map.values().any(|item| deeper_than(item, most - 1)),
        _ => false,
    }
}

/// Reads JSON that nests within bounds, and the fields it gives twice.
pub(crate) fn json(bytes: &[u8]) -> Answer<(Value, Vec<decode::FieldError>)> {
    let (value, twice) = decode::parse_strict(bytes).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Refusal::bad_request(format!("the body is not valid JSON{source}"))
    })?;
    if deeper_than(&value, MOST_DEPTH) {
        return Err(Refusal::bad_request(format!("the body nests deeper than {MOST_DEPTH} levels")));
    }
    Ok((value, twice))
}

/// Reads a body in any accepted form, whatever it describes.
pub(crate) fn any(headers: &HeaderMap, bytes: &[u8]) -> Answer<(Value, Vec<decode::FieldError>)> {
    match media_type(headers) {
        "application/vnd.kubernetes.protobuf" => {
            let (_, _, object) = protobuf::decode(bytes).map_err(|error| Refusal::bad_request(error.to_string()))?;
            if deeper_than(&object, MOST_DEPTH) {
                return Err(Refusal::bad_request(format!("the body nests deeper than {MOST_DEPTH} levels")));
            }
            Ok((object, Vec::new()))
        }
        // Go clients that send raw bytes leave the type out.
        "" | "application/json" | "text/plain" | "application/octet-stream" => json(bytes),
        other => Err(Refusal::unsupported_media(other, "application/json, application/vnd.kubernetes.protobuf")),
    }
}

/// Reads an object of `kind`; `apiVersion` and `kind` may be left out but not be others.
pub(crate) fn object(kind: &KindInfo, headers: &HeaderMap, bytes: &[u8], validation: FieldValidation) -> Answer<Decoded> {
    let (mut object, twice) = any(headers, bytes)?;
    identify(kind, &mut object)?;
    let warnings = fit(kind, &object, twice, validation)?;
    if let Some(map) = object.as_object_mut().filter(|map| map.get("metadata").is_none_or(Value::is_null)) {
        map.insert("metadata".to_owned(), Value::Object(serde_json::Map::new()));
    }
    Ok(Decoded { object, warnings })
}

/// Fills in and checks `apiVersion` and `kind`.
pub(crate) fn identify(kind: &KindInfo, object: &mut Value) -> Answer<()> {
    let Some(map) = object.as_object_mut() else { return Err(Refusal::bad_request("the body must be a JSON object")) };
    let expected = [("apiVersion", kind.api_version()), ("kind", kind.kind.to_owned())];
    for (name, wanted) in expected {
        match map.get(name).and_then(Value::as_str).filter(|given| !given.is_empty()) {
            None => drop(map.insert(name.to_owned(), wanted.into())),
            Some(given) if given == wanted => {}
            Some(given) => return Err(Refusal::bad_request(format!("the {name} of the body is {given:?}, but the URL is one of {wanted:?}"))),
        }
    }
    Ok(())
}

/// Holds an object against its schema: wrong types are refused, unknown and duplicate fields are treated as `validation` says.
pub(crate) fn fit(kind: &KindInfo, object: &Value, twice: Vec<decode::FieldError>, validation: FieldValidation) -> Answer<Vec<String>> {
    let (mut strict, mut wrong) = (twice, Vec::new());
    for error in decode::check(object, kind.schema()) {
        match error.problem {
            decode::Problem::WrongType { .. } => wrong.push(error.server_message()),
            // What must be given is known to validation, in its own words.
            decode::Problem::MissingRequired => {}
            _ => strict.push(error),
        }
    }
    if !wrong.is_empty() {
        let message = format!("{} in version {:?} cannot be handled as a {}: {}", kind.kind, kind.version, kind.kind, wrong.join(", "));
        return Err(Refusal::bad_request(message));
    }
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(strict.iter().map(decode::FieldError::server_message).collect()),
        FieldValidation::Strict => match decode::strict_message(&strict) {
            None => Ok(Vec::new()),
            Some(message) => {
                let message = format!("{} in version {:?} cannot be handled as a {}: {message}", kind.kind, kind.version, kind.kind);
                Err(Refusal::bad_request(message))
            }
        },
    }
}
