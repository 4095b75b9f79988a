//! Get and list, in the form that the client accepts: JSON, a Table, or metadata only.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::{Value, json};
use strake_kinds::KindInfo;

use crate::meta;
use crate::select::Selection;
use crate::server::{ApiServer, Call};
use crate::status::{Answer, Refusal, bytes_response};
use crate::table;

/// How a client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Table(table::Include),
    Metadata,
}

impl Form {
    /// The first form of `Accept` that can be served; JSON when none is asked for.
    pub(crate) fn of(call: &Call) -> Answer<Form> {
        let accept = call.header(header::ACCEPT);
        for range in accept.split(',') {
            let mut parameters = range.split(';').map(str::trim);
            let media = parameters.next().unwrap_or_default();
            let (mut shape, mut ours) = ("", true);
            for parameter in parameters {
                match parameter.split_once('=') {
                    Some(("as", value)) => shape = value,
                    Some(("g", value)) => ours &= value == "meta.k8s.io",
                    Some(("v", value)) => ours &= value == "v1",
                    _ => {}
                }
            }
            match (media, shape) {
                ("" | "application/json" | "application/*" | "*/*", "") => return Ok(Form::Json),
                ("application/json", "Table") if ours => return table::Include::parse(call.query.get("includeObject")).map(Form::Table),
                ("application/json", "PartialObjectMetadata" | "PartialObjectMetadataList") if ours => return Ok(Form::Metadata),
                _ => {}
            }
        }
        // Only JSON is ever sent; who insists on another form learns it here.
        let mut refusal = Refusal::bad_request("only the following media types are accepted: application/json");
        (refusal.code, refusal.reason) = (StatusCode::NOT_ACCEPTABLE, "NotAcceptable");
        Err(refusal)
    }
}

/// Metadata of an object, as an object of its own.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// One object in the form that the client accepts.
pub(crate) fn shaped(call: &Call, code: StatusCode, bytes: Bytes) -> Answer {
    let value = match Form::of(call)? {
        Form::Json => return Ok(bytes_response(code, bytes)),
        Form::Metadata => partial(&meta::parse_bytes(&bytes)?),
        Form::Table(include) => {
            let object = meta::parse_bytes(&bytes)?;
            let revision = meta::text(&object, "resourceVersion").to_owned();
            table::table(call.target.kind, vec![object], &revision, include, call.now)
        }
    };
    Ok(bytes_response(code, Bytes::from(value.to_string())))
}

/// `GET` of one object.
pub(crate) fn get(server: &ApiServer, call: &Call) -> Answer {
    let entry = server.entry(&call.target)?;
    shaped(call, StatusCode::OK, entry.value)
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Continue {
    /// The revision of the first page: a watch from there misses nothing of any page.
    rv: u64,
    /// The last key of the page before.
    after: String,
}

impl Continue {
    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    fn read(text: &str, prefix: &str) -> Answer<Continue> {
        let token = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice::<Continue>(&bytes).ok());
        token.filter(|token| token.after.starts_with(prefix)).ok_or_else(|| Refusal::bad_request("continue key is not valid"))
    }
}

/// A page of a collection.
struct Page {
    items: Vec<Bytes>,
    revision: u64,
    next: String,
    remaining: Option<usize>,
}

fn page(server: &ApiServer, call: &Call, selection: &Selection) -> Answer<Page> {
    let prefix = call.target.prefix();
    let from = call.query.get("continue").map(|text| Continue::read(text, &prefix)).transpose()?;
    if let (Some(name), None, true) = (selection.name(), &from, !call.target.namespace.is_empty() || !call.target.kind.namespaced) {
        // A selection of one name, which is how clients wait for an object, is no scan.
        let listing = server.state.list(&format!("{prefix}{name}"), None, 1);
        let found = listing.entries.into_iter().filter(|entry| entry.key[prefix.len()..] == *name);
        let mut items = Vec::new();
        for entry in found {
            if selection.matches_bytes(&entry.value)? {
                items.push(entry.value);
            }
        }
        return Ok(Page { items, revision: listing.revision.0, next: String::new(), remaining: None });
    }
    let limit: usize = call.query.number("limit")?.unwrap_or(0);
    let (mut items, mut next, mut remaining) = (Vec::new(), String::new(), None);
    let mut after = from.as_ref().map(|token| token.after.clone());
    let mut revision = from.map(|token| token.rv);
    loop {
        let listing = server.state.list(&prefix, after.as_deref(), if selection.is_everything() { limit } else { 0 });
        let first = *revision.get_or_insert(listing.revision.0);
        let total = listing.entries.len();
        for (index, entry) in listing.entries.into_iter().enumerate() {
            if !selection.matches_bytes(&entry.value)? {
                continue;
            }
            items.push(entry.value);
            if limit > 0 && items.len() == limit {
                let left = total - index - 1 + listing.remaining;
                if left > 0 {
                    next = Continue { rv: first, after: entry.key.to_string() }.write();
                    // With a selection it is not known how many of those left are meant.
                    remaining = selection.is_everything().then_some(left);
                }
                return Ok(Page { items, revision: first, next, remaining });
            }
            after = Some(entry.key.to_string());
        }
        if listing.remaining == 0 {
            return Ok(Page { items, revision: first, next, remaining });
        }
    }
}

/// `GET` of a collection.
pub(crate) fn list(server: &ApiServer, call: &Call) -> Answer {
    let selection = Selection::parse(call.target.kind, &call.query)?;
    let form = Form::of(call)?;
    let Page { items, revision, next, remaining } = page(server, call, &selection)?;
    let revision = revision.to_string();
    let kind = call.target.kind;
    match form {
        Form::Json => Ok(ok(list_bytes(kind, &items, &revision, &next, remaining))),
        Form::Table(include) => {
            let objects = items.iter().map(|bytes| meta::parse_bytes(bytes)).collect::<Answer<Vec<_>>>()?;
            let mut table = table::table(kind, objects, &revision, include, call.now);
            paging(&mut table["metadata"], &next, remaining);
            Ok(ok(Bytes::from(table.to_string())))
        }
        Form::Metadata => {
            let items = items.iter().map(|bytes| meta::parse_bytes(bytes).map(|object| partial(&object))).collect::<Answer<Vec<_>>>()?;
            let mut list =
                json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision}, "items": items});
            paging(&mut list["metadata"], &next, remaining);
            Ok(ok(Bytes::from(list.to_string())))
        }
    }
}

fn ok(bytes: Bytes) -> Response {
    bytes_response(StatusCode::OK, bytes)
}

fn paging(metadata: &mut Value, next: &str, remaining: Option<usize>) {
    if !next.is_empty() {
        metadata["continue"] = next.into();
    }
    if let Some(remaining) = remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
}

/// A list around objects that are encoded already.
pub(crate) fn list_bytes(kind: &KindInfo, items: &[Bytes], revision: &str, next: &str, remaining: Option<usize>) -> Bytes {
    let mut metadata = json!({ "resourceVersion": revision });
    paging(&mut metadata, next, remaining);
    let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[", kind.list_kind, kind.api_version());
    let size = head.len() + 2 + items.iter().map(|item| item.len() + 1).sum::<usize>();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(head.as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(item);
    }
    bytes.extend_from_slice(b"]}");
    Bytes::from(bytes)
}
