//! What the server itself adds to an object and holds on to: identity, times, generation, the parts a client may not write.

use jiff::Timestamp;
use serde_json::Value;
use strake_kinds::{KindInfo, decode, default, validate};

use crate::meta;
use crate::server::ApiServer;
use crate::status::{Answer, Cause, Refusal};
use crate::target::{Target, builtin, key};

/// What part of an object a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Whole,
    /// The status only.
    Status,
    /// A change that the server makes itself (a binding, a scale, a finalization): not held against the rules for clients.
    Trusted,
}

impl Part {
    pub(crate) fn of(subresource: &str) -> Part {
        if subresource == "status" { Part::Status } else { Part::Whole }
    }
}

/// Kinds whose status a client may bring along when it creates the object: nodes register themselves whole.
fn keeps_status(kind: &KindInfo) -> bool {
    !kind.status_subresource || kind.kind == "Node"
}

/// Kinds that count changes of what is wanted.
fn has_generation(kind: &KindInfo) -> bool {
    kind.kind == "Pod" || matches!(kind.group, "apps" | "batch" | "discovery.k8s.io" | "autoscaling" | "networking.k8s.io" | "policy" | "strake.dev")
}

fn refuse(kind: &KindInfo, object: &Value, findings: Vec<validate::Invalid>) -> Answer<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let cause =
        |finding: validate::Invalid| Cause { reason: finding.reason.cause().to_owned(), message: finding.cause_message(), field: finding.path.to_string() };
    Err(Refusal::invalid(kind, meta::text(object, "name"), findings.into_iter().map(cause).collect()))
}

/// Creates need their namespace, and one that is not on its way out.
pub(crate) fn check_namespace_lives(server: &ApiServer, target: &Target, name: &str) -> Answer<()> {
    if !target.kind.namespaced {
        return Ok(());
    }
    let namespaces = builtin("Namespace");
    let entry = server.state.get(&key(namespaces, "", &target.namespace)).ok_or_else(|| Refusal::not_found(namespaces, &target.namespace))?;
    if meta::brief(&entry.value)?.deletion_timestamp.is_some() {
        let why = format!("unable to create new content in namespace {} because it is being terminated", target.namespace);
        let mut refusal = Refusal::forbidden(target.kind, name, &why);
        if let Some(details) = &mut refusal.details {
            let cause = Cause {
                reason: "NamespaceTerminating".to_owned(),
                message: format!("namespace {} is being terminated", target.namespace),
                field: "metadata.namespace".to_owned(),
            };
            details.causes.push(cause);
        }
        return Err(refusal);
    }
    Ok(())
}

/// Makes a client's new object whole: named, dated, defaulted, valid. Services do not have their addresses yet.
pub(crate) fn new_object(kind: &'static KindInfo, object: &mut Value, now: Timestamp) -> Answer<()> {
    let prefix = meta::text(object, "generateName").to_owned();
    if meta::text(object, "name").is_empty() && !prefix.is_empty() {
        meta::set(object, "name", meta::generated_name(&prefix)?.into());
    }
    for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        meta::set(object, field, Value::Null);
    }
    meta::set(object, "uid", meta::new_uid()?.into());
    meta::set(object, "creationTimestamp", meta::time(now).into());
    if has_generation(kind) {
        meta::set(object, "generation", 1.into());
    }
    if let Some(map) = object.as_object_mut().filter(|_| !keeps_status(kind)) {
        map.shift_remove("status");
    }
    admit(kind, object, None)?;
    settle(kind, object);
    refuse(kind, object, validate::object(object, kind))
}

/// Defaults, and the form in which objects are kept.
fn settle(kind: &KindInfo, object: &mut Value) {
    decode::settle_nulls(object, kind.schema());
    default::apply(object, kind);
    decode::canonical(object, kind.schema());
}

/// What a client has written, as a server reads it before anything else is done: with the defaults that come of reading. Who writes owns them too.
pub(crate) fn as_read(kind: &KindInfo, object: &Value) -> Value {
    let mut read = object.clone();
    settle(kind, &mut read);
    // Filled in later, by the server and not by who writes.
    let later: &[&str] = match (kind.group, kind.kind) {
        ("", "Service") => &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"],
        ("", "Namespace") => &["finalizers"],
        _ => &[],
    };
    for field in later.iter().filter(|field| object["spec"].get(**field).is_none_or(Value::is_null)) {
        if let Some(spec) = read["spec"].as_object_mut() {
            spec.shift_remove(*field);
        }
    }
    if !keeps_status(kind)
        && let Some(map) = read.as_object_mut()
    {
        put_or_remove(map, "status", object.get("status"));
    }
    read
}

fn put_or_remove(map: &mut serde_json::Map<String, Value>, field: &str, value: Option<&Value>) {
    match value {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.shift_remove(field)),
    }
}

/// What admission does in a cluster: policies that are not the kind's own rules.
fn admit(kind: &KindInfo, object: &mut Value, old: Option<&Value>) -> Answer<()> {
    default::admit(kind, object, old);
    match default::denied(kind, object, old) {
        Some(why) => Err(Refusal::forbidden(kind, meta::text(object, "name"), why)),
        None => Ok(()),
    }
}

fn keep(object: &mut Value, old: &Value, field: &str) {
    meta::set(object, field, old["metadata"][field].clone());
}

fn put(object: &mut Value, field: &str, value: &Value) {
    let Some(map) = object.as_object_mut() else { return };
    if value.is_null() {
        map.shift_remove(field);
    } else {
        map.insert(field.to_owned(), value.clone());
    }
}

/// Makes a client's changed object whole: what it may not change is as in `old`.
pub(crate) fn changed_object(kind: &'static KindInfo, part: Part, object: &mut Value, old: &Value) -> Answer<()> {
    if part == Part::Status {
        let status = object["status"].take();
        let managed = object["metadata"]["managedFields"].take();
        *object = old.clone();
        put(object, "status", &status);
        meta::set(object, "managedFields", managed);
        decode::canonical(object, kind.schema());
        return Ok(());
    }
    let name = meta::text(old, "name");
    let uid = meta::text(object, "uid");
    if !uid.is_empty() && uid != meta::text(old, "uid") {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::text(old, "uid"));
        return Err(Refusal::conflict(kind, name, &why));
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "generateName"] {
        keep(object, old, field);
    }
    meta::set(object, "selfLink", Value::Null);
    meta::set(object, "resourceVersion", old["metadata"]["resourceVersion"].clone());
    if kind.status_subresource && part == Part::Whole {
        put(object, "status", &old["status"]);
    }
    if kind.kind == "Namespace" && part == Part::Whole {
        put(object, "spec", &old["spec"]);
    }
    admit(kind, object, Some(old))?;
    if part == Part::Trusted {
        decode::canonical(object, kind.schema());
    } else {
        settle(kind, object);
        no_new_finalizers(kind, object, old)?;
        refuse(kind, object, validate::object(object, kind))?;
        refuse(kind, object, validate::update(old, object, kind))?;
    }
    // A pod that gets its node is still the one that was wanted.
    let counts = has_generation(kind) && !(kind.kind == "Pod" && part == Part::Trusted);
    if counts && wanted_differs(kind, object, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
        meta::set(object, "generation", generation.into());
    }
    Ok(())
}

/// Whether more than metadata and status changed.
fn wanted_differs(kind: &KindInfo, object: &Value, old: &Value) -> bool {
    if kind.group != "discovery.k8s.io" {
        return object["spec"] != old["spec"];
    }
    object["metadata"]["labels"] != old["metadata"]["labels"] || ["addressType", "endpoints", "ports"].iter().any(|field| object[*field] != old[*field])
}

/// An object on its way out cannot be held by more than holds it already.
fn no_new_finalizers(kind: &KindInfo, object: &Value, old: &Value) -> Answer<()> {
    if !meta::is_deleting(old) {
        return Ok(());
    }
    let list = |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let before = list(old);
    match list(object).iter().find(|finalizer| !before.contains(finalizer)) {
        None => Ok(()),
        Some(new) => {
            let cause = Cause {
                reason: "FieldValueForbidden".to_owned(),
                message: format!("Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {new}"),
                field: "metadata.finalizers".to_owned(),
            };
            Err(Refusal::invalid(kind, meta::text(object, "name"), vec![cause]))
        }
    }
}

/// Whether nothing holds an object back from going: it is being deleted, no finalizer is left, and its time is up.
pub(crate) fn may_go(kind: &KindInfo, object: &Value) -> bool {
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
    let held = kind.kind == "Namespace" && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    meta::is_deleting(object) && !meta::has_finalizers(object) && grace == 0 && !held
}
