//! Deleting: at once, after a grace period, or when finalizers let go.

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strake_state::{Expect, StateError};

use crate::encode::halves;
use crate::select::Selection;
use crate::server::{ApiServer, Call};
use crate::status::{Answer, Refusal, bytes_response, json_response};
use crate::target::Target;
use crate::{body, meta, prepare, read, write};

/// Finalizers that stand for a propagation policy; the garbage collector removes them.
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const TRIES: usize = 32;

/// A delete's wishes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) grace_seconds: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Propagation {
    Background,
    Foreground,
    Orphan,
}

fn propagation(text: &str) -> Answer<Propagation> {
    match text {
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        "Orphan" => Ok(Propagation::Orphan),
        other => Err(Refusal::unprocessable(format!("propagationPolicy: {other:?} is none of Background, Foreground, Orphan"))),
    }
}

impl Options {
    /// From a body, which wins, and the query.
    pub(crate) async fn read(call: &Call, body: Body) -> Answer<Options> {
        let bytes = body::bytes(body).await?;
        let given = if bytes.is_empty() { Value::Null } else { body::any(&call.parts.headers, &bytes)?.0 };
        Options::from_value(&given, call)
    }

    /// From `DeleteOptions`, or null.
    pub(crate) fn from_value(given: &Value, call: &Call) -> Answer<Options> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let policy = given["propagationPolicy"].as_str().or(call.query.get("propagationPolicy")).map(propagation).transpose()?;
        let orphan = given["orphanDependents"].as_bool().map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background });
        let dry_run = match given["dryRun"].as_array().map(Vec::as_slice) {
            None | Some([]) => call.query.dry_run()?,
            Some(values) if values.iter().all(|value| value == "All") => true,
            Some(_) => return Err(Refusal::bad_request("dryRun: the only value is All")),
        };
        let grace_seconds = match given["gracePeriodSeconds"].as_i64() {
            Some(seconds) => Some(seconds),
            None => call.query.number("gracePeriodSeconds")?,
        };
        Ok(Options {
            grace_seconds,
            propagation: policy.or(orphan),
            uid: text(&given["preconditions"]["uid"]),
            resource_version: text(&given["preconditions"]["resourceVersion"]),
            dry_run,
        })
    }

    fn check(&self, target: &Target, object: &Value) -> Answer<()> {
        let checks = [("UID", &self.uid, "uid"), ("ResourceVersion", &self.resource_version, "resourceVersion")];
        for (name, wanted, field) in checks {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != meta::text(object, field)) {
                let why = format!("Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {}", meta::text(object, field));
                return Err(Refusal::conflict(target.kind, &target.name, &why));
            }
        }
        Ok(())
    }
}

/// What a delete came to.
pub(crate) enum Outcome {
    /// The object is gone; these were its last bytes.
    Gone(Bytes),
    /// The object is on its way out.
    Going(Bytes),
}

/// `DELETE` of one object.
pub(crate) async fn one(server: &ApiServer, call: &Call, body: Body) -> Answer {
    let options = Options::read(call, body).await?;
    match delete(server, &call.target, &options, call.now).await? {
        Outcome::Going(bytes) => read::shaped(call, StatusCode::OK, bytes),
        // A pod that goes at once is answered with itself, other objects with a Status, as in a Go server.
        Outcome::Gone(bytes) if matches!(call.target.kind.kind, "Pod" | "Service") => read::shaped(call, StatusCode::OK, bytes),
        Outcome::Gone(bytes) => Ok(json_response(StatusCode::OK, &success(&call.target, &meta::parse_bytes(&bytes)?))),
    }
}

/// The `Status` of a deletion that is done.
pub(crate) fn success(target: &Target, object: &Value) -> Value {
    let mut details = json!({"name": target.name, "kind": target.kind.plural, "uid": meta::text(object, "uid")});
    if !target.kind.group.is_empty() {
        details["group"] = target.kind.group.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// `DELETE` of a collection: each of its objects that is selected.
pub(crate) async fn collection(server: &ApiServer, call: &Call, body: Body) -> Answer {
    if call.target.kind.kind == "Namespace" || (call.target.kind.namespaced && call.target.namespace.is_empty()) {
        return Err(Refusal::method_not_allowed());
    }
    let options = Options::read(call, body).await?;
    let selection = Selection::parse(call.target.kind, &call.query)?;
    let listing = server.state.list(&call.target.prefix(), None, 0);
    let mut items = Vec::new();
    for entry in listing.entries {
        if !selection.matches_bytes(&entry.value)? {
            continue;
        }
        let target = Target { name: meta::brief(&entry.value)?.name, ..call.target.clone() };
        match delete(server, &target, &options, call.now).await {
            Ok(_) => items.push(entry.value),
            Err(refusal) if refusal.code == StatusCode::NOT_FOUND => {}
            Err(refusal) => return Err(refusal),
        }
    }
    let list = read::list_bytes(call.target.kind, &items, &server.state.revision().to_string(), "", None);
    Ok(bytes_response(StatusCode::OK, list))
}

/// Deletes an object, or begins to.
pub(crate) async fn delete(server: &ApiServer, target: &Target, options: &Options, now: Timestamp) -> Answer<Outcome> {
    for _ in 0..TRIES {
        let entry = server.entry(target)?;
        let old = meta::parse(&entry)?;
        options.check(target, &old)?;
        let object = marked(target, &old, options, now)?;
        let parts = halves(&object);
        if prepare::may_go(target.kind, &object) {
            if options.dry_run {
                return Ok(Outcome::Gone(entry.value));
            }
            // Watchers see the object as it was, at the revision of its end; a mark that nobody had time to see is not in it.
            let last = halves(if meta::is_deleting(&old) { &object } else { &old });
            if let Some(bytes) = write::remove(server, target, &entry, &old, last).await? {
                return Ok(Outcome::Gone(bytes));
            }
            continue;
        }
        if object == old {
            return Ok(Outcome::Going(entry.value));
        }
        if options.dry_run {
            return Ok(Outcome::Going(parts.at(entry.revision)));
        }
        match server.state.put_if(&entry.key, Expect::Revision(entry.revision), Box::new(move |revision| parts.at(revision))).await {
            Ok(entry) => return Ok(Outcome::Going(entry.value)),
            Err(StateError::Conflict { .. }) => {}
            Err(other) => return Err(Refusal::of_state(&other)),
        }
    }
    Err(Refusal::modified(target.kind, &target.name))
}

/// The object marked for deletion, as its kind and the options want it.
fn marked(target: &Target, old: &Value, options: &Options, now: Timestamp) -> Answer<Value> {
    let mut object = old.clone();
    let grace = grace_seconds(target, old, options)?;
    if !meta::is_deleting(old) {
        let end = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
        meta::set(&mut object, "deletionTimestamp", meta::time(end).into());
        meta::set(&mut object, "deletionGracePeriodSeconds", grace.into());
        let generation = old["metadata"]["generation"].as_i64();
        if let Some(generation) = generation {
            meta::set(&mut object, "generation", (generation + 1).into());
        }
    } else if target.kind.kind == "Pod" {
        // A second delete can only shorten the time that is left.
        let before = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        if options.grace_seconds.is_some() && grace < before {
            let begun = meta::text(old, "deletionTimestamp").parse::<Timestamp>().unwrap_or(now);
            let end = begun.checked_sub(SignedDuration::from_secs(before - grace)).unwrap_or(now);
            meta::set(&mut object, "deletionTimestamp", meta::time(end).into());
            meta::set(&mut object, "deletionGracePeriodSeconds", grace.into());
        }
    }
    let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if let Some(policy) = options.propagation.filter(|_| !meta::is_deleting(old) || options.propagation != Some(Propagation::Background)) {
        finalizers.retain(|name| name != FOREGROUND && name != ORPHAN);
        match policy {
            Propagation::Background => {}
            Propagation::Foreground => finalizers.push(FOREGROUND.into()),
            Propagation::Orphan => finalizers.push(ORPHAN.into()),
        }
        meta::set(&mut object, "finalizers", if finalizers.is_empty() { Value::Null } else { finalizers.into() });
    }
    if target.kind.kind == "Namespace" {
        object["status"]["phase"] = "Terminating".into();
    }
    Ok(object)
}

/// Seconds that the object may take to go. Only pods take any, and only those that may be running somewhere.
fn grace_seconds(target: &Target, old: &Value, options: &Options) -> Answer<i64> {
    if target.kind.kind != "Pod" {
        return Ok(0);
    }
    if let Some(negative) = options.grace_seconds.filter(|seconds| *seconds < 0) {
        return Err(Refusal::unprocessable(format!("gracePeriodSeconds: {negative} must not be negative")));
    }
    let placed = old["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let ended = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !placed || ended {
        return Ok(0);
    }
    Ok(options.grace_seconds.or_else(|| old["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30).max(0))
}
