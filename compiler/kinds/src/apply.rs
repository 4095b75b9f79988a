//! Field ownership: server-side apply, and the managed fields of other writes.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::path::FieldPath;
use crate::schema::Message;

mod fieldset;
mod managers;
mod owners;
mod walk;

pub use fieldset::FieldSet;
pub use owners::{Owned, Owner, custom_item_step, find, hand_over, item_step, owned, owners, take, without};

use managers::{Manager, Operation};
use walk::Shape;

/// Who writes, through what, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager's name.
    pub manager: &'a str,
    /// Empty for the object itself, or `status`, `scale`.
    pub subresource: &'a str,
    /// The time to note.
    pub now: Timestamp,
}

/// Fields that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: &'static str,
    /// The version it wrote.
    pub api_version: String,
    /// The subresource it wrote through.
    pub subresource: String,
    /// When it wrote, if known.
    pub time: Option<String>,
    /// The fields: `.spec.replicas`.
    pub fields: Vec<String>,
}

impl Conflict {
    /// Who it is with, as in `conflict with "kubectl" using apps/v1`.
    pub fn summary(&self) -> String {
        let subresource = if self.subresource.is_empty() { String::new() } else { format!(" with subresource {:?}", self.subresource) };
        let time = match (&self.time, self.operation) {
            (Some(time), "Update") => format!(" at {time}"),
            _ => String::new(),
        };
        format!("conflict with {:?}{subresource} using {}{time}", self.manager, self.api_version)
    }
}

/// Why an apply is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Other managers own fields that would change.
    #[error("{}", conflicts_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration brings `metadata.managedFields`.
    #[error("metadata.managedFields must be left out of an applied configuration")]
    ManagedFieldsGiven,
    /// A keyed list whose items cannot be told apart.
    #[error("{path}: {problem}")]
    List {
        /// The item.
        path: FieldPath,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The configuration is not an object.
    #[error("an applied configuration must be an object")]
    NotAnObject,
}

fn conflicts_message(conflicts: &[Conflict]) -> String {
    let count: usize = conflicts.iter().map(|conflict| conflict.fields.len()).sum();
    let noun = if count == 1 { "conflict" } else { "conflicts" };
    let each: Vec<String> = conflicts.iter().map(|conflict| format!("{}: {}", conflict.summary(), conflict.fields.join(", "))).collect();
    format!("apply failed with {count} {noun}: {}", each.join("; "))
}

/// Server-side apply: the object after `writer` applied `config` to `live`, with its managed fields. Defaults and validation come after it.
///
/// What the manager applied before and leaves out now is removed, unless another manager owns it too. A field that another manager owns with another
/// value is a conflict, or taken over when `force` is set. Time is renewed only when something changed.
pub fn server_side_apply(live: Option<&Value>, config: &Value, writer: &Writer<'_>, force: bool, message: &'static Message) -> Result<Value, ApplyError> {
    apply_shaped(live, config, writer, force, (Shape::root(message), has_status(message)))
}

/// The same for a custom resource, by the structural schema of its definition; `has_status` is whether that gives it a status of its own.
///
/// # Errors
/// As [`server_side_apply`].
pub fn server_side_apply_custom(
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
    (schema, has_status): (&Value, bool),
) -> Result<Value, ApplyError> {
    apply_shaped(live, config, writer, force, (Shape::Custom(schema, true), has_status))
}

fn apply_shaped(live: Option<&Value>, config: &Value, writer: &Writer<'_>, force: bool, (shape, has_status): (Shape<'_>, bool)) -> Result<Value, ApplyError> {
    let given = config.pointer("/metadata/managedFields").and_then(Value::as_array);
    if given.is_some_and(|list| !list.is_empty()) {
        return Err(ApplyError::ManagedFieldsGiven);
    }
    let config = wanted(config, writer.subresource, has_status).ok_or(ApplyError::NotAnObject)?;
    let whole = walk::fields(&config, shape)?;
    let api_version = config.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let me = Manager::new(writer, Operation::Apply, &api_version);
    let Some(live) = live else {
        // A new object is the configuration, and nobody else has a part in it.
        let (mut created, mut own) = (config, whole);
        strip(&mut own);
        let mine = me.owning(own, Some(managers::time(writer.now)));
        managers::put(&mut created, Some(mine).filter(|mine| !mine.fields.is_empty()).into_iter().collect());
        return Ok(created);
    };
    let mut own = whole.clone();
    strip(&mut own);

    let mut base = live.clone();
    let mut managers = managers::take(&mut base);
    if managers.is_empty() {
        managers.extend(before_first_apply(&base, shape));
    }
    let before = managers.clone();
    let last = managers.iter().position(|manager| manager.is(&me)).map(|index| managers.remove(index));

    let mut kept = whole;
    managers.iter().for_each(|manager| kept.extend(&manager.fields));
    let mut merged = walk::merge(base.clone(), &config, shape);
    if let Some(last) = &last {
        walk::prune(&mut merged, &last.fields, &kept, shape);
    }
    let changes = walk::compare(&base, &merged, shape);
    settle(&mut managers, &changes, force)?;

    managers.push(me.clone().owning(own, last.and_then(|last| last.time)));
    managers.retain(|manager| !manager.fields.is_empty());
    if !changes.is_empty() || !managers::same(&managers, &before) {
        let mine = managers.iter_mut().filter(|manager| manager.is(&me));
        mine.for_each(|manager| manager.time = Some(managers::time(writer.now)));
    }
    managers::put(&mut merged, managers);
    Ok(merged)
}

/// Whether the items of all keyed lists can be told apart, without which [`server_side_apply`] refuses a configuration. It looks at nothing else.
///
/// # Errors
/// The first item that cannot be told from another one, or a configuration that is no object.
pub fn tell_apart(config: &Value, message: &'static Message) -> Result<(), ApplyError> {
    let without = has_status(message).then_some("status");
    walk::tell_apart(config.as_object().ok_or(ApplyError::NotAnObject)?, Shape::root(message), without)
}

/// What [`server_side_apply`] makes of a configuration where there is nothing, without a note of who owns what: for showing it.
///
/// # Errors
/// As [`server_side_apply`].
pub fn new_object(config: &Value, message: &'static Message) -> Result<Value, ApplyError> {
    let given = config.pointer("/metadata/managedFields").and_then(Value::as_array);
    if given.is_some_and(|list| !list.is_empty()) {
        return Err(ApplyError::ManagedFieldsGiven);
    }
    tell_apart(config, message)?;
    wanted(config, "", has_status(message)).ok_or(ApplyError::NotAnObject)
}

/// Notes in `new` that `writer` changed it from `old` by create, replace or patch.
///
/// Managed fields that `new` brings along are taken as the client's wish; `[{}]` forgets all of them.
pub fn update_managed_fields(old: Option<&Value>, new: &mut Value, writer: &Writer<'_>, message: &'static Message) {
    let shape = Shape::root(message);
    let mut base = old.cloned().unwrap_or_else(|| json!({}));
    let stored = managers::take(&mut base);
    let reset = new.pointer("/metadata/managedFields").and_then(Value::as_array).is_some_and(|list| list.len() == 1 && list[0] == json!({}));
    let given = managers::take(new);
    let mut managers = if reset || !given.is_empty() { given } else { stored };

    let changes = walk::compare(&base, new, shape);
    let api_version = new.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let me = Manager::new(writer, Operation::Update, &api_version);
    let mine = managers.iter().position(|manager| manager.is(&me)).map(|index| managers.remove(index));
    for manager in &mut managers {
        manager.fields.subtract(&changes.modified);
        manager.fields.subtract(&changes.added);
        manager.fields.subtract(&changes.removed);
    }
    let before = mine.as_ref().map(|mine| mine.fields.clone()).unwrap_or_default();
    let mut fields = before.clone();
    fields.subtract(&changes.removed);
    fields.extend(&changes.modified);
    fields.extend(&changes.added);
    strip(&mut fields);
    drop_foreign(&mut fields, writer.subresource, message);
    let old_time = mine.and_then(|mine| mine.time);
    let time = if fields == before { old_time } else { Some(managers::time(writer.now)) };
    managers.push(me.owning(fields, time));
    managers.retain(|manager| !manager.fields.is_empty());
    managers::cap(&mut managers);
    managers::put(new, managers);
}

/// Conflicts are refused or taken over; removed fields have no owners.
fn settle(managers: &mut [Manager], changes: &walk::Changes, force: bool) -> Result<(), ApplyError> {
    let mut touched = changes.modified.clone();
    touched.extend(&changes.added);
    let disputed: Vec<FieldSet> = managers.iter().map(|manager| manager.fields.intersection(&touched)).collect();
    if !force {
        let pairs = managers.iter().zip(&disputed).filter(|(_, fields)| !fields.is_empty());
        let conflicts: Vec<Conflict> = pairs.map(|(manager, fields)| manager.conflict(fields.paths())).collect();
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
    }
    for (manager, lost) in managers.iter_mut().zip(&disputed) {
        manager.fields.subtract(lost);
        manager.fields.subtract(&changes.removed);
    }
    Ok(())
}

/// The configuration without nulls and without what the subresource does not write.
fn wanted(config: &Value, subresource: &str, has_status: bool) -> Option<Value> {
    let mut map = config.as_object()?.clone();
    if subresource == "status" {
        map.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| matches!(name.as_str(), "name" | "namespace" | "uid" | "resourceVersion"));
        }
    } else if has_status {
        map.shift_remove("status");
    }
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    let mut value = Value::Object(map);
    drop_nulls(&mut value);
    Some(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn has_status(message: &'static Message) -> bool {
    let name = message.full_name();
    crate::table().iter().any(|kind| kind.message == name && kind.status_subresource)
}

/// What names and versions an object is owned by nobody.
fn strip(set: &mut FieldSet) {
    set.remove(&["f:apiVersion"]);
    set.remove(&["f:kind"]);
    for name in ["name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion"] {
        set.remove(&["f:metadata", &format!("f:{name}")]);
    }
    set.forget("f:metadata");
}

/// A write through one door does not own what only the other door can write.
fn drop_foreign(set: &mut FieldSet, subresource: &str, message: &'static Message) {
    if subresource == "status" {
        set.remove(&["f:spec"]);
        set.remove(&["f:metadata"]);
    } else if subresource.is_empty() && has_status(message) {
        set.remove(&["f:status"]);
    }
}

/// An object from before ownership was noted: its fields have an owner with which an apply can conflict.
fn before_first_apply(object: &Value, shape: Shape<'_>) -> Option<Manager> {
    object.pointer("/metadata/creationTimestamp")?;
    let mut fields = walk::compare(&Value::Object(Map::new()), object, shape).added;
    strip(&mut fields);
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    Some(Manager::unknown("before-first-apply", api_version, fields))
}
