//! `/openapi/v3`: an index whose entries carry a hash, and one document per group and version, made when first asked for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use strake_kinds::openapi;

use crate::status::{Answer, Refusal};
use crate::target::served_kinds;

/// A document and its hash.
#[derive(Debug, Clone)]
struct Document {
    bytes: Bytes,
    hash: String,
}

/// The documents that were asked for already.
#[derive(Debug, Default)]
pub(crate) struct Documents(Mutex<HashMap<String, Document>>);

impl Documents {
    fn get(&self, group: &str, version: &str) -> Option<Document> {
        let path = openapi::path(group, version);
        let mut documents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = documents.get(&path) {
            return Some(known.clone());
        }
        let bytes = Bytes::from(openapi::group_version(group, version)?.to_string());
        let document = Document { hash: hash(&bytes), bytes };
        documents.insert(path, document.clone());
        Some(document)
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
}

fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = served_kinds().map(|kind| (kind.group, kind.version)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Answers `/openapi/v3` and what is below it.
pub(crate) fn answer(documents: &Documents, path: &str, headers: &HeaderMap) -> Answer {
    let below = path.strip_prefix("/openapi/v3").unwrap_or_default().trim_matches('/');
    if below.is_empty() {
        let mut paths = serde_json::Map::new();
        for (group, version) in group_versions() {
            let Some(document) = documents.get(group, version) else { continue };
            let name = openapi::path(group, version);
            let url = format!("/openapi/v3/{name}?hash={}", document.hash);
            paths.insert(name, json!({ "serverRelativeURL": url }));
        }
        let bytes = Bytes::from(json!({ "paths": Value::Object(paths) }).to_string());
        return Ok(cached(Document { hash: hash(&bytes), bytes }, headers));
    }
    let found = group_versions().into_iter().find(|(group, version)| openapi::path(group, version) == below);
    let (group, version) = found.ok_or_else(Refusal::no_route)?;
    documents.get(group, version).map(|document| cached(document, headers)).ok_or_else(Refusal::no_route)
}

/// The document, unless the client has it.
fn cached(document: Document, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", document.hash);
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| value.contains(&tag));
    let mut response = Response::new(if known { Body::empty() } else { Body::from(document.bytes) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, must-revalidate"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}
