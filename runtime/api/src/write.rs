//! Create, replace, patch: all of them end in [`store_new`] or [`modify`].

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use strake_kinds::apply::{self, Writer};
use strake_state::{Entry, Expect, StateError};

use crate::body::{self, Decoded, MOST_OBJECT_BYTES};
use crate::encode::{Halves, halves};
use crate::patch::Patch;
use crate::prepare::{self, Part};
use crate::query::FieldValidation;
use crate::server::{ApiServer, Call, check_name, check_namespace};
use crate::status::{Answer, Refusal};
use crate::target::{Target, key};
use crate::{meta, read};

/// How often a change that names no revision is tried again when others write in between.
const TRIES: usize = 32;

/// Adds `Warning` headers (RFC 9111 section 5.5, code 299) for what was let through.
fn warn(mut response: Response, warnings: &[String]) -> Response {
    for text in warnings.iter().take(10) {
        let quoted: String = text
            .chars()
            .filter(|character| !character.is_control())
            .flat_map(|character| match character {
                '"' | '\\' => vec!['\\', character],
                other => vec![other],
            })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// `POST` to a collection.
pub(crate) async fn create(server: &ApiServer, call: &Call, body: Body) -> Answer {
    let (dry_run, validation) = (call.query.dry_run()?, call.query.field_validation()?);
    let bytes = body::bytes(body).await?;
    let Decoded { mut object, warnings } = body::object(call.target.kind, &call.parts.headers, &bytes, validation)?;
    let mut target = call.target.clone();
    if target.kind.namespaced && target.namespace.is_empty() {
        return Err(Refusal::method_not_allowed());
    }
    check_namespace(&target, &mut object)?;
    strake_kinds::default::fold_write_only(&mut object, target.kind);
    let writer = Writer { manager: call.manager(), subresource: "", now: call.now };
    note(None, &mut object, &writer, target.kind);
    let generated = meta::text(&object, "name").is_empty();
    // A generated name that is taken is drawn again.
    for attempt in 0.. {
        let mut candidate = object.clone();
        prepare::new_object(target.kind, &mut candidate, call.now)?;
        meta::text(&candidate, "name").clone_into(&mut target.name);
        prepare::check_namespace_lives(server, &target, &target.name)?;
        match store_new(server, &target, candidate, dry_run).await {
            Err(refusal) if refusal.reason == "AlreadyExists" && generated && attempt < 8 => {}
            outcome => {
                let stored = outcome?;
                furnish(server, &target, dry_run).await?;
                return Ok(warn(read::shaped(call, StatusCode::CREATED, stored)?, &warnings));
            }
        }
    }
    Err(Refusal::internal("no free name was found"))
}

/// What comes with a new object: a namespace has the account that its pods run as.
async fn furnish(server: &ApiServer, target: &Target, dry_run: bool) -> Answer<()> {
    if target.kind.kind == "Namespace" && !dry_run { server.ensure_account(&target.name).await } else { Ok(()) }
}

/// Notes who wrote what, when it is known who.
fn note(old: Option<&Value>, object: &mut Value, writer: &Writer<'_>, kind: &'static strake_kinds::KindInfo) {
    if !writer.manager.is_empty() {
        let mut read = prepare::as_read(kind, object);
        apply::update_managed_fields(old, &mut read, writer, kind.schema());
        meta::set(object, "managedFields", read["metadata"]["managedFields"].take());
    }
}

/// Refuses objects that are too large to keep.
fn sized(halves: &Halves) -> Answer<()> {
    if halves.len() > MOST_OBJECT_BYTES {
        return Err(Refusal::too_large(format!("the object would be {} bytes long; limit is {MOST_OBJECT_BYTES}", halves.len())));
    }
    Ok(())
}

/// Stores an object that [`prepare::new_object`] made whole; gives its bytes.
pub(crate) async fn store_new(server: &ApiServer, target: &Target, mut object: Value, dry_run: bool) -> Answer<Bytes> {
    let key = key(target.kind, &target.namespace, &target.name);
    if server.state.get(&key).is_some() {
        return Err(Refusal::already_exists(target.kind, &target.name));
    }
    let taken = if target.kind.kind == "Service" { Some(server.allocations.take(&mut object, None)?) } else { None };
    let release = |object: &Value| {
        if let Some(taken) = &taken {
            server.allocations.release(object, taken);
        }
    };
    let parts = halves(&object);
    if let Err(refusal) = sized(&parts) {
        release(&object);
        return Err(refusal);
    }
    if dry_run {
        release(&object);
        return Ok(Bytes::from(object.to_string()));
    }
    match server.state.put_if(&key, Expect::Absent, Box::new(move |revision| parts.at(revision))).await {
        Ok(entry) => Ok(entry.value),
        Err(error) => {
            release(&object);
            Err(match error {
                StateError::Conflict { .. } => Refusal::already_exists(target.kind, &target.name),
                other => Refusal::of_state(&other),
            })
        }
    }
}

/// A change to an object that exists.
pub(crate) struct Change<'a> {
    pub(crate) target: &'a Target,
    pub(crate) part: Part,
    pub(crate) dry_run: bool,
    /// Who is noted; `None` when `make` takes care of managed fields itself.
    pub(crate) writer: Option<Writer<'a>>,
}

/// Reads the object, lets `make` change it, and writes it if nobody else did in between; otherwise starts again, unless what `make` gives names the
/// revision it is meant for. A change that changes nothing writes nothing. An object that nothing holds back any more goes.
pub(crate) async fn modify(server: &ApiServer, change: &Change<'_>, mut make: impl FnMut(&Value) -> Answer<Value>) -> Answer<Bytes> {
    let kind = change.target.kind;
    for _ in 0..TRIES {
        let entry = server.entry(change.target)?;
        let old = meta::parse(&entry)?;
        let mut object = make(&old)?;
        strake_kinds::default::fold_write_only(&mut object, kind);
        let named = meta::text(&object, "resourceVersion");
        let bound = !named.is_empty() && named != "0";
        if bound && named != meta::text(&old, "resourceVersion") {
            return Err(Refusal::modified(kind, &change.target.name));
        }
        if let Some(writer) = change.writer.filter(|writer| !writer.manager.is_empty()) {
            note(Some(&old), &mut object, &writer, kind);
        } else if change.writer.is_some() {
            meta::set(&mut object, "managedFields", old["metadata"]["managedFields"].clone());
        }
        prepare::changed_object(kind, change.part, &mut object, &old)?;
        if same(&object, &old) {
            return Ok(entry.value);
        }
        if let Some(bytes) = write(server, change, &entry, &old, object).await? {
            return Ok(bytes);
        }
    }
    Err(Refusal::modified(kind, &change.target.name))
}

/// Whether a change is none. Times in managed fields do not count, since a manager who repeats itself has nothing to add.
fn same(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return false };
    let equal = |name: &String, value: &Value| match name.as_str() {
        "metadata" => same_metadata(value, old.get(name).unwrap_or(&Value::Null)),
        _ => old.get(name) == Some(value),
    };
    new.len() == old.len() && new.iter().all(|(name, value)| equal(name, value))
}

fn same_metadata(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return false };
    let managers = |value: Option<&Value>| {
        let mut list = value.and_then(Value::as_array).cloned().unwrap_or_default();
        for manager in &mut list {
            manager["time"] = Value::Null;
        }
        list
    };
    let ours = |name: &str| name != "managedFields" && name != "resourceVersion";
    let count = |map: &serde_json::Map<String, Value>| map.keys().filter(|name| ours(name)).count();
    count(new) == count(old)
        && new.iter().filter(|(name, _)| ours(name)).all(|(name, value)| old.get(name) == Some(value))
        && managers(new.get("managedFields")) == managers(old.get("managedFields"))
}

/// Writes the changed object over `entry`, or lets it go. `None`: somebody else wrote first.
async fn write(server: &ApiServer, change: &Change<'_>, entry: &Entry, old: &Value, mut object: Value) -> Answer<Option<Bytes>> {
    let service = change.target.kind.kind == "Service";
    let taken = if service { Some(server.allocations.take(&mut object, Some(old))?) } else { None };
    let parts = halves(&object);
    let outcome = match sized(&parts) {
        Err(refusal) => Err(refusal),
        Ok(()) if change.dry_run => Ok(Some(parts.at(entry.revision))),
        Ok(()) if prepare::may_go(change.target.kind, &object) => remove(server, change.target, entry, old, parts).await,
        Ok(()) => match server.state.put_if(&entry.key, Expect::Revision(entry.revision), Box::new(move |revision| parts.at(revision))).await {
            Ok(entry) => Ok(Some(entry.value)),
            Err(StateError::Conflict { .. }) => Ok(None),
            Err(other) => Err(Refusal::of_state(&other)),
        },
    };
    match (&outcome, &taken) {
        (Ok(Some(_)), Some(_)) if !change.dry_run => server.allocations.settle(old, Some(&object)),
        (_, Some(taken)) => server.allocations.release(&object, taken),
        _ => {}
    }
    outcome
}

/// Removes the object of `entry`; `last` is what watchers see of it. `None`: somebody else wrote first.
pub(crate) async fn remove(server: &ApiServer, target: &Target, entry: &Entry, old: &Value, last: Halves) -> Answer<Option<Bytes>> {
    let removed = server.state.delete_if(&entry.key, Expect::Revision(entry.revision), Box::new(move |revision, _| last.at(revision))).await;
    match removed {
        Ok(gone) => {
            if target.kind.kind == "Service" {
                server.allocations.settle(old, None);
            }
            Ok(Some(gone.value))
        }
        Err(StateError::Conflict { .. }) => Ok(None),
        Err(other) => Err(Refusal::of_state(&other)),
    }
}

/// `PUT` of an object or its status.
pub(crate) async fn replace(server: &ApiServer, call: &Call, body: Body) -> Answer {
    let (dry_run, validation) = (call.query.dry_run()?, call.query.field_validation()?);
    let bytes = body::bytes(body).await?;
    let Decoded { mut object, warnings } = body::object(call.target.kind, &call.parts.headers, &bytes, validation)?;
    check_name(&call.target, &mut object)?;
    check_namespace(&call.target, &mut object)?;
    // Who holds a lease must have seen whom it is taken from.
    if call.target.kind.kind == "Lease" && matches!(meta::text(&object, "resourceVersion"), "" | "0") {
        return Err(Refusal::invalid_field(call.target.kind, &call.target.name, "metadata.resourceVersion", "must be given when an object is replaced"));
    }
    let subresource = call.target.subresource.as_str();
    let writer = Writer { manager: call.manager(), subresource, now: call.now };
    let change = Change { target: &call.target, part: Part::of(subresource), dry_run, writer: Some(writer) };
    let bytes = modify(server, &change, |_| Ok(object.clone())).await?;
    Ok(warn(read::shaped(call, StatusCode::OK, bytes)?, &warnings))
}

/// `PATCH` of an object or its status, in any of the four forms.
pub(crate) async fn patch(server: &ApiServer, call: &Call, body: Body) -> Answer {
    let (dry_run, validation) = (call.query.dry_run()?, call.query.field_validation()?);
    let bytes = body::bytes(body).await?;
    let patch = Patch::read(call, &bytes)?;
    let mut warnings = Vec::new();
    if let Patch::Apply { config, manager, force } = &patch
        && call.target.subresource.is_empty()
        && server.state.get(&call.target.key()).is_none()
    {
        return apply_new(server, call, config, manager, *force, dry_run, validation).await;
    }
    let subresource = call.target.subresource.as_str();
    let writer = Writer { manager: call.manager(), subresource, now: call.now };
    let applying = matches!(patch, Patch::Apply { .. });
    let change = Change { target: &call.target, part: Part::of(subresource), dry_run, writer: (!applying).then_some(writer) };
    let bytes = modify(server, &change, |old| {
        let mut object = patch.on(call.target.kind, old, subresource, call.now)?;
        body::identify(call.target.kind, &mut object)?;
        check_name(&call.target, &mut object)?;
        check_namespace(&call.target, &mut object)?;
        warnings = fit(call, &object, &patch, validation)?;
        Ok(object)
    })
    .await?;
    Ok(warn(read::shaped(call, StatusCode::OK, bytes)?, &warnings))
}

/// Holds what a patch made against the schema. Of an applied configuration the given text counts, since merging drops what the schema does not know.
fn fit(call: &Call, object: &Value, patch: &Patch, validation: FieldValidation) -> Answer<Vec<String>> {
    let subject = match patch {
        Patch::Apply { config, .. } => config,
        _ => object,
    };
    body::fit(call.target.kind, subject, patch.duplicates().to_vec(), validation)
}

/// Server-side apply of an object that does not exist.
async fn apply_new(server: &ApiServer, call: &Call, config: &Value, manager: &str, force: bool, dry_run: bool, validation: FieldValidation) -> Answer {
    let mut config = config.clone();
    check_name(&call.target, &mut config)?;
    check_namespace(&call.target, &mut config)?;
    if !meta::text(&config, "resourceVersion").is_empty() || !meta::text(&config, "uid").is_empty() {
        return Err(Refusal::conflict(call.target.kind, &call.target.name, "the object to be applied does not exist, but a uid or resourceVersion is given"));
    }
    let warnings = body::fit(call.target.kind, &config, Vec::new(), validation)?;
    let patch = Patch::Apply { config, manager: manager.to_owned(), force };
    let mut object = patch.on(call.target.kind, &Value::Null, "", call.now)?;
    prepare::new_object(call.target.kind, &mut object, call.now)?;
    prepare::check_namespace_lives(server, &call.target, &call.target.name)?;
    let bytes = store_new(server, &call.target, object, dry_run).await?;
    furnish(server, &call.target, dry_run).await?;
    Ok(warn(read::shaped(call, StatusCode::CREATED, bytes)?, &warnings))
}
