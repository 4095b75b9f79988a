//! Tags, repositories, and what refers to a manifest; in pages where that is asked for.

use axum::http::header::{CONTENT_TYPE, HeaderName, LINK};
use serde_json::{Value, json};
use strake_oci::Digest;
use strake_store::{Store, digest_of};

use super::answer::{Answer, Denied, bytes, set};
use super::names::{Repository, repositories};
use crate::documents::{MAX_DOCUMENT_BYTES, OCI_INDEX, kind_of};

/// Pages are never longer.
const MAX_PAGE: usize = 10_000;

/// The pairs of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Self {
        Query(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub(super) fn catalog(store: &Store, query: &Query) -> Answer {
    let (page, next) = page(repositories(store)?, query)?;
    Ok(linked(json!({ "repositories": page }), next.map(|query| format!("/v2/_catalog?{query}"))))
}

pub(super) fn tags(store: &Store, repository: &Repository, query: &Query) -> Answer {
    let entries = repository.entries(store)?;
    if entries.is_empty() {
        return Err(Denied::name_unknown(&repository.name));
    }
    let mut tags: Vec<String> = entries.into_iter().filter_map(|entry| entry.tag).collect();
    tags.sort();
    tags.dedup();
    let (page, next) = page(tags, query)?;
    Ok(linked(json!({ "name": repository.name, "tags": page }), next.map(|query| format!("/v2/{}/tags/list?{query}", repository.name))))
}

/// The part of a sorted list that `n` and `last` ask for, and the query of the next.
fn page(all: Vec<String>, query: &Query) -> Result<(Vec<String>, Option<String>), Denied> {
    let after = query.get("last").unwrap_or_default();
    let wanted = match query.get("n") {
        None => MAX_PAGE,
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| Denied::new(axum::http::StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", format!("n={text} is no number")))?,
    };
    let mut rest: Vec<String> = all.into_iter().filter(|name| after.is_empty() || name.as_str() > after).collect();
    let more = rest.len() > wanted.min(MAX_PAGE);
    rest.truncate(wanted.min(MAX_PAGE));
    let next = rest.last().filter(|_| more).map(|last| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("n", &wanted.to_string()).append_pair("last", last);
        query.finish()
    });
    Ok((rest, next))
}

fn linked(value: Value, next: Option<String>) -> axum::response::Response {
    let link: Vec<(HeaderName, String)> = next.map(|next| (LINK, format!("<{next}>; rel=\"next\""))).into_iter().collect();
    bytes("application/json", value.to_string().into_bytes(), &link)
}

/// Manifests of the repository whose `subject` is the digest, as an index (distribution specification 1.1, "Listing Referrers").
pub(super) fn referrers(store: &Store, repository: &Repository, subject: &Digest, query: &Query) -> Answer {
    let wanted = query.get("artifactType");
    let mut listed: Vec<Value> = Vec::new();
    for entry in repository.entries(store)? {
        let Ok(digest) = digest_of(&entry.descriptor) else { continue };
        let Ok(document) = store.read(&digest, MAX_DOCUMENT_BYTES) else { continue };
        let Ok(value) = serde_json::from_slice::<Value>(&document) else { continue };
        if value.pointer("/subject/digest").and_then(Value::as_str) != Some(subject.to_string().as_str()) {
            continue;
        }
        let kind = artifact_type(&value);
        if wanted.is_some_and(|wanted| kind.as_deref() != Some(wanted)) || listed.iter().any(|known| known["digest"] == digest.to_string().as_str()) {
            continue;
        }
        let mut shown = json!({ "mediaType": kind_of(&value, None).unwrap_or_default(), "digest": digest.to_string(), "size": document.len() });
        if let Some(kind) = kind {
            shown["artifactType"] = kind.into();
        }
        if let Some(annotations) = value.get("annotations").filter(|all| all.is_object()) {
            shown["annotations"] = annotations.clone();
        }
        listed.push(shown);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed });
    let mut response = bytes(OCI_INDEX, index.to_string().into_bytes(), &[]);
    set(&mut response, &[(CONTENT_TYPE, OCI_INDEX.to_owned())]);
    if wanted.is_some() {
        set(&mut response, &[(HeaderName::from_static("oci-filters-applied"), "artifactType".to_owned())]);
    }
    Ok(response)
}

/// What an artifact is: said by itself, else by its configuration's media type.
fn artifact_type(value: &Value) -> Option<String> {
    let own = value.get("artifactType").and_then(Value::as_str).filter(|text| !text.is_empty());
    own.or_else(|| value.pointer("/config/mediaType").and_then(Value::as_str)).map(str::to_owned)
}
