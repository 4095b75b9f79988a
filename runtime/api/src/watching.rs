//! Watches. An event in plain JSON is encoded once for all who watch it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use strake_kinds::KindInfo;
use strake_state::{Event, Revision, Watch};
use tokio::time::Instant;

use crate::read::{Form, partial};
use crate::select::Selection;
use crate::server::{ApiServer, Call};
use crate::status::{Answer, Refusal};
use crate::target::Target;
use crate::{meta, table};

/// Between bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// How long a watch lasts when its client does not say.
const LONGEST: Duration = Duration::from_secs(45 * 60);

/// One client's watch.
struct Watching {
    kind: &'static KindInfo,
    form: Form,
    selection: Selection,
    /// Encoded and not sent yet.
    ready: VecDeque<Bytes>,
    watch: Watch,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    /// The revision up to which the client knows everything.
    reached: Revision,
    over: bool,
}

/// `GET` with `watch=true`.
pub(crate) fn watch(server: &Arc<ApiServer>, call: &Call) -> Answer {
    let mut target = call.target.clone();
    let selection = Selection::parse(target.kind, &call.query)?;
    let form = Form::of(call)?;
    let single = if target.name.is_empty() { selection.name().unwrap_or_default().to_owned() } else { std::mem::take(&mut target.name) };
    let prefix = if target.namespace.is_empty() && target.kind.namespaced { target.prefix() } else { format!("{}{single}", target.prefix()) };
    let selection = if call.target.name.is_empty() { selection } else { single_selection(&call.target)? };
    let asked: u64 = call.query.number("resourceVersion")?.unwrap_or(0);
    let initial = asked == 0 || call.query.flag("sendInitialEvents");
    let mut ready = VecDeque::new();
    let from = if initial {
        let listing = server.state.list(&prefix, None, 0);
        for entry in &listing.entries {
            if selection.matches_bytes(&entry.value)? {
                ready.push_back(frame(target.kind, form, "ADDED", &entry.value, call.now)?);
            }
        }
        listing.revision
    } else {
        Revision(asked)
    };
    let watch = match server.state.watch(&prefix, from) {
        Ok(watch) => watch,
        // A watch that asks for something forgotten is answered in the stream, where clients of every kind look for it.
        Err(error) => return Ok(streamed(Body::from(error_frame(&Refusal::of_state(&error))))),
    };
    let bookmarks = call.query.flag("allowWatchBookmarks");
    if bookmarks && call.query.flag("sendInitialEvents") {
        ready.push_back(bookmark(target.kind, form, from, true));
    }
    let seconds: Option<u64> = call.query.number("timeoutSeconds")?;
    let lasts = seconds.filter(|seconds| *seconds > 0).map_or(LONGEST, Duration::from_secs);
    let now = Instant::now();
    let watching =
        Watching { kind: target.kind, form, selection, ready, watch, bookmarks, next_bookmark: now + BOOKMARKS, end: now + lasts, reached: from, over: false };
    let frames =
        stream::unfold(watching, |mut watching| async move { watching.next().await.map(|bytes| (Ok::<_, std::convert::Infallible>(bytes), watching)) });
    Ok(streamed(Body::from_stream(frames)))
}

fn single_selection(target: &Target) -> Answer<Selection> {
    let selector: String = form_urlencoded::byte_serialize(format!("metadata.name={}", target.name).as_bytes()).collect();
    Selection::parse(target.kind, &crate::query::Query::parse(Some(&format!("fieldSelector={selector}"))))
}

fn streamed(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn error_frame(refusal: &Refusal) -> Bytes {
    Bytes::from(format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", refusal.status()))
}

/// An object in plain JSON, framed.
fn plain(kind: &str, object: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(object.len() + 40);
    bytes.extend_from_slice(b"{\"type\":\"");
    bytes.extend_from_slice(kind.as_bytes());
    bytes.extend_from_slice(b"\",\"object\":");
    bytes.extend_from_slice(object);
    bytes.extend_from_slice(b"}\n");
    Bytes::from(bytes)
}

fn frame(kind: &KindInfo, form: Form, what: &str, object: &[u8], now: Timestamp) -> Answer<Bytes> {
    let value = match form {
        Form::Json => return Ok(plain(what, object)),
        Form::Metadata => partial(&meta::parse_bytes(object)?),
        Form::Table(include) => {
            let object = meta::parse_bytes(object)?;
            let revision = meta::text(&object, "resourceVersion").to_owned();
            table::table(kind, vec![object], &revision, include, now)
        }
    };
    Ok(plain(what, value.to_string().as_bytes()))
}

fn bookmark(kind: &KindInfo, form: Form, revision: Revision, initial_end: bool) -> Bytes {
    let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
    if initial_end {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = match form {
        Form::Json => json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata}),
        Form::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
        Form::Table(_) => {
            json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision.to_string()}, "columnDefinitions": [], "rows": []})
        }
    };
    plain("BOOKMARK", object.to_string().as_bytes())
}

impl Watching {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                event = self.watch.next() => match event {
                    Some(event) => {
                        self.reached = event.revision;
                        match self.frame(&event) {
                            Ok(None) => {}
                            Ok(Some(bytes)) => return Some(bytes),
                            Err(refusal) => {
                                self.over = true;
                                return Some(error_frame(&refusal));
                            }
                        }
                    }
                    // The state closed it: this client was too slow, or the server is stopping. It will come again from where it was.
                    None => return None,
                },
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARKS;
                    return Some(bookmark(self.kind, self.form, self.reached, false));
                }
                () = tokio::time::sleep_until(self.end) => {
                    self.over = true;
                    if self.bookmarks {
                        return Some(bookmark(self.kind, self.form, self.reached, false));
                    }
                }
            }
        }
    }

    /// An event as this client sees it: what enters its selection is new to it, what leaves has gone.
    fn frame(&self, event: &Event) -> Answer<Option<Bytes>> {
        let before = match &event.previous {
            Some(entry) => self.selection.matches_bytes(&entry.value)?,
            None => false,
        };
        let now = !event.removed && self.selection.matches_bytes(&event.value)?;
        let natural = match (event.removed, &event.previous) {
            (true, _) => "DELETED",
            (false, None) => "ADDED",
            (false, Some(_)) => "MODIFIED",
        };
        let what = match (before, now) {
            (false, false) => return Ok(None),
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        if what == natural && self.form == Form::Json {
            return Ok(Some(event.encoded.get_or_init(|| plain(natural, &event.value)).clone()));
        }
        if what == "DELETED" && !event.removed {
            // It left the selection: the client is told what it knew, at the revision of the change.
            let mut object = event.previous.as_ref().map_or(Ok(Value::Null), meta::parse)?;
            meta::set(&mut object, "resourceVersion", event.revision.to_string().into());
            return frame(self.kind, self.form, what, object.to_string().as_bytes(), Timestamp::now()).map(Some);
        }
        frame(self.kind, self.form, what, &event.value, Timestamp::now()).map(Some)
    }
}
