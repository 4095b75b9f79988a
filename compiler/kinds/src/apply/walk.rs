//! Walks over objects along their schema: which fields are there, what differs, merging, pruning.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::ApplyError;
use super::fieldset::FieldSet;
use crate::path::At;
use crate::schema::{Field, ListKind, Message, Type};

/// How the fields of a value are owned.
#[derive(Clone, Copy)]
pub(super) enum Shape<'s> {
    /// As a whole.
    Leaf,
    /// Field by field.
    Struct(&'static Message),
    /// Key by key.
    Map(Type),
    /// Value by value.
    Set,
    /// Item by item, named by keys.
    Items(&'static [&'static str], Type),
    /// A custom resource, or an object in one, by its structural schema: field by field. `true` is the resource itself.
    Custom(&'s Value, bool),
    /// Item by item, named by the keys that the structural schema of the list says.
    CustomItems(&'s Value),
}

impl<'s> Shape<'s> {
    pub(super) fn root(message: &'static Message) -> Self {
        Shape::Struct(message)
    }

    fn of(ty: Type) -> Self {
        match ty {
            Type::Message(id) if !id.get().atomic => Shape::Struct(id.get()),
            Type::Map(inner) => Shape::Map(*inner),
            _ => Shape::Leaf,
        }
    }

    fn of_field(field: &Field) -> Self {
        match (field.ty, field.list) {
            _ if field.atomic => Shape::Leaf,
            (Type::List(_), ListKind::Set) => Shape::Set,
            (Type::List(inner), ListKind::Map(keys)) => Shape::Items(keys, *inner),
            (ty, _) => Shape::of(ty),
        }
    }

    /// Of a part of a structural schema. Objects are granular unless they say otherwise, lists atomic.
    fn of_schema(schema: &'s Value) -> Self {
        match (schema["type"].as_str(), schema["x-kubernetes-list-type"].as_str(), schema["x-kubernetes-map-type"].as_str()) {
            (Some("array"), Some("map"), _) => Shape::CustomItems(schema),
            (Some("array"), Some("set"), _) => Shape::Set,
            (Some("array"), ..) | (_, _, Some("atomic")) => Shape::Leaf,
            (Some("object"), ..) => Shape::Custom(schema, schema["x-kubernetes-embedded-resource"] == true),
            // What nothing is known of below: by its fields, as far as it has some.
            _ if schema["x-kubernetes-preserve-unknown-fields"] == true => Shape::Custom(schema, schema["x-kubernetes-embedded-resource"] == true),
            _ => Shape::Leaf,
        }
    }

    /// The shape of a field of an object; unknown fields are leaves.
    fn inner(self, name: &str) -> Shape<'s> {
        match self {
            Shape::Struct(message) => message.field(name).map_or(Shape::Leaf, Shape::of_field),
            Shape::Map(inner) => Shape::of(inner),
            Shape::Custom(_, true) if name == "metadata" => {
                crate::schema::message("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").map_or(Shape::Leaf, Shape::Struct)
            }
            Shape::Custom(schema, _) => {
                let others = schema.get("additionalProperties").filter(|others| others.is_object());
                schema["properties"].get(name).or(others).map_or(Shape::Leaf, Shape::of_schema)
            }
            _ => Shape::Leaf,
        }
    }

    /// A part that is there whenever its parent is: its own presence says nothing.
    fn implied(self, name: &str) -> bool {
        match self {
            Shape::Struct(message) => message.field(name).is_some_and(|field| match field.ty {
                Type::Message(_) => !field.pointer,
                _ => !field.omit_empty && !field.pointer,
            }),
            Shape::Custom(_, own) => own && name == "metadata",
            _ => false,
        }
    }
}

/// `f:name`.
fn field_step(name: &str) -> String {
    format!("f:{name}")
}

/// The step of an item of a keyed list of a built-in kind.
fn item_step(item: &Value, keys: &[&str], item_type: Type) -> Result<String, &'static str> {
    key_step(item, keys, &|key| item_type.message()?.field(key)?.default.and_then(|json| serde_json::from_str(json).ok()))
}

/// The same by a structural schema.
fn custom_step(item: &Value, schema: &Value) -> Result<String, &'static str> {
    let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    key_step(item, &keys, &|key| schema["items"]["properties"][key].get("default").cloned())
}

/// `k:{…}`: keys in order of name; a missing key takes its default.
fn key_step(item: &Value, keys: &[&str], default: &dyn Fn(&str) -> Option<Value>) -> Result<String, &'static str> {
    let object = item.as_object().ok_or("an item of a keyed list must be an object")?;
    let mut named: BTreeMap<&str, Value> = BTreeMap::new();
    for key in keys {
        match object.get(*key).filter(|value| !value.is_null()).cloned().or_else(|| default(key)) {
            Some(value) => named.insert(key, value),
            None if keys.len() > 1 => None,
            None => return Err("an item of a keyed list lacks its key"),
        };
    }
    if named.is_empty() {
        return Err("an item of a keyed list lacks its keys");
    }
    let map: Map<String, Value> = named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Ok(format!("k:{}", Value::Object(map)))
}

/// The step that names an item of a list with this structural schema, if the list is not owned as a whole.
pub(super) fn named_custom_item(schema: &Value, item: &Value) -> Option<String> {
    match Shape::of_schema(schema) {
        shape @ (Shape::Set | Shape::CustomItems(_)) => list_step(shape, item).ok(),
        _ => None,
    }
}

/// The step that names a list item, if the list is not owned as a whole.
fn list_step(shape: Shape<'_>, item: &Value) -> Result<String, &'static str> {
    match shape {
        Shape::CustomItems(schema) => custom_step(item, schema),
        Shape::Items(keys, inner) => item_step(item, keys, inner),
        _ => Ok(format!("v:{item}")),
    }
}

/// The step that names an item of a field's list, if the list is not owned as a whole.
pub(super) fn named_item(field: &Field, item: &Value) -> Option<String> {
    match Shape::of_field(field) {
        shape @ (Shape::Set | Shape::Items(..)) => list_step(shape, item).ok(),
        _ => None,
    }
}

fn item_shape(shape: Shape<'_>) -> Shape<'_> {
    match shape {
        Shape::CustomItems(schema) => schema.get("items").map_or(Shape::Leaf, Shape::of_schema),
        Shape::Items(_, inner) => Shape::of(inner),
        _ => Shape::Leaf,
    }
}

/// The fields of a configuration. Keyed lists must have keys, and no key twice.
pub(super) fn fields(value: &Value, shape: Shape<'_>) -> Result<FieldSet, ApplyError> {
    let mut set = FieldSet::default();
    collect(value, shape, &mut set, &At::root())?;
    Ok(set)
}

fn collect(value: &Value, shape: Shape<'_>, set: &mut FieldSet, at: &At<'_>) -> Result<(), ApplyError> {
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_) | Shape::Custom(..), Value::Object(map)) => {
            for (name, value) in map {
                let inner = shape.inner(name);
                let child = set.child(field_step(name));
                collect(value, inner, child, &at.field(name))?;
                let empty = value.as_object().is_some_and(Map::is_empty);
                child.member |= empty || is_keyed(shape, name);
            }
            // An empty list of named items says nothing: no path stands for it.
            set.children.retain(|_, child| !child.is_empty());
        }
        (Shape::Set | Shape::Items(..) | Shape::CustomItems(_), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let problem = |problem| ApplyError::List { path: at.index(index).path(), problem };
                let step = list_step(shape, item).map_err(problem)?;
                if set.children.contains_key(&step) {
                    return Err(problem("it is there twice"));
                }
                let child = set.child(step);
                child.member = true;
                collect(item, item_shape(shape), child, &at.index(index))?;
            }
        }
        _ => set.member = true,
    }
    Ok(())
}

/// What [`fields`] refuses, and nothing else. `without` is a field at the top that does not count.
pub(super) fn tell_apart(config: &Map<String, Value>, shape: Shape<'_>, without: Option<&str>) -> Result<(), ApplyError> {
    let root = At::root();
    config.iter().filter(|(name, _)| without != Some(name.as_str())).try_for_each(|(name, value)| distinct(value, shape.inner(name), &root.field(name)))
}

fn distinct(value: &Value, shape: Shape<'_>, at: &At<'_>) -> Result<(), ApplyError> {
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_) | Shape::Custom(..), Value::Object(map)) => {
            map.iter().try_for_each(|(name, value)| distinct(value, shape.inner(name), &at.field(name)))
        }
        (Shape::Set | Shape::Items(..) | Shape::CustomItems(_), Value::Array(items)) => {
            let mut steps = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                let problem = |problem| ApplyError::List { path: at.index(index).path(), problem };
                if !steps.insert(list_step(shape, item).map_err(problem)?) {
                    return Err(problem("it is there twice"));
                }
                distinct(item, item_shape(shape), &at.index(index))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether a name is the key of a map, which is there by itself, and not that of a field.
fn is_keyed(shape: Shape<'_>, name: &str) -> bool {
    match shape {
        Shape::Map(_) => true,
        Shape::Custom(schema, _) => schema.get("additionalProperties").is_some() && schema["properties"].get(name).is_none(),
        _ => false,
    }
}

/// What one object has more than, other than, or less than another.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

pub(super) fn compare(old: &Value, new: &Value, shape: Shape<'_>) -> Changes {
    let mut changes = Changes::default();
    let sets = Sets { added: &mut changes.added, modified: &mut changes.modified, removed: &mut changes.removed };
    differ(Some(old), Some(new), shape, sets);
    for set in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
        set.children.retain(|_, child| !child.is_empty());
        shrink(set);
    }
    changes
}

fn shrink(set: &mut FieldSet) {
    set.children.values_mut().for_each(shrink);
    set.children.retain(|_, child| !child.is_empty());
}

/// The three sets at one place.
struct Sets<'a> {
    added: &'a mut FieldSet,
    modified: &'a mut FieldSet,
    removed: &'a mut FieldSet,
}

impl Sets<'_> {
    fn child(&mut self, step: &str) -> Sets<'_> {
        Sets { added: self.added.child(step.to_owned()), modified: self.modified.child(step.to_owned()), removed: self.removed.child(step.to_owned()) }
    }
}

fn differ(old: Option<&Value>, new: Option<&Value>, shape: Shape<'_>, mut sets: Sets<'_>) {
    let (old, new) = (old.filter(|value| !value.is_null()), new.filter(|value| !value.is_null()));
    if old == new {
        return;
    }
    match (old, new) {
        (None, Some(_)) => sets.added.member = true,
        (Some(_), None) => sets.removed.member = true,
        _ => {}
    }
    match shape {
        Shape::Struct(_) | Shape::Map(_) | Shape::Custom(..) if both(old, new, Value::is_object) => {
            let empty = Map::new();
            let old_map = old.and_then(Value::as_object).unwrap_or(&empty);
            let new_map = new.and_then(Value::as_object).unwrap_or(&empty);
            let more = new_map.keys().filter(|name| !old_map.contains_key(*name));
            for name in old_map.keys().chain(more) {
                differ_field((old, old_map.get(name)), (new, new_map.get(name)), shape, name, &mut sets);
            }
        }
        Shape::Set | Shape::Items(..) | Shape::CustomItems(_) if both(old, new, Value::is_array) => differ_lists(old, new, shape, &mut sets),
        _ => {
            if old.is_some() && new.is_some() {
                sets.modified.member = true;
            }
        }
    }
}

fn both(old: Option<&Value>, new: Option<&Value>, is: fn(&Value) -> bool) -> bool {
    old.is_none_or(is) && new.is_none_or(is)
}

fn differ_field(old: (Option<&Value>, Option<&Value>), new: (Option<&Value>, Option<&Value>), shape: Shape<'_>, name: &str, sets: &mut Sets<'_>) {
    if old.1 == new.1 {
        return;
    }
    let inner = shape.inner(name);
    let (no_fields, no_items) = (Value::Object(Map::new()), Value::Array(Vec::new()));
    let empty = match inner {
        Shape::Leaf => None,
        Shape::Struct(_) | Shape::Map(_) | Shape::Custom(..) => Some(&no_fields),
        Shape::Set | Shape::Items(..) | Shape::CustomItems(_) => Some(&no_items),
    };
    // A part that is there whenever its parent is neither comes nor goes: it was only not written.
    let empty = empty.filter(|_| shape.implied(name));
    let present = |(parent, value): (Option<&_>, Option<_>)| value.or_else(|| parent.and(empty));
    differ(present(old), present(new), inner, sets.child(&field_step(name)));
}

fn differ_lists(old: Option<&Value>, new: Option<&Value>, shape: Shape<'_>, sets: &mut Sets<'_>) {
    let (old, new) = (by_step(old, shape), by_step(new, shape));
    for (step, item) in &old {
        differ(Some(item), new.get(step).copied(), item_shape(shape), sets.child(step));
    }
    for (step, item) in new.iter().filter(|(step, _)| !old.contains_key(*step)) {
        differ(None, Some(item), item_shape(shape), sets.child(step));
    }
}

fn by_step<'a>(list: Option<&'a Value>, shape: Shape<'_>) -> BTreeMap<String, &'a Value> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some((list_step(shape, item).ok()?, item))).collect()
}

/// Lays a configuration over an object.
pub(super) fn merge(live: Value, config: &Value, shape: Shape<'_>) -> Value {
    match (shape, live, config) {
        (Shape::Struct(_) | Shape::Map(_) | Shape::Custom(..), Value::Object(mut map), Value::Object(config)) => {
            for (name, value) in config {
                let merged = match map.get_mut(name) {
                    Some(old) => merge(old.take(), value, shape.inner(name)),
                    None => value.clone(),
                };
                map.insert(name.clone(), merged);
            }
            Value::Object(map)
        }
        (Shape::Set | Shape::Items(..) | Shape::CustomItems(_), Value::Array(live), Value::Array(config)) => Value::Array(merge_lists(live, config, shape)),
        (_, _, config) => config.clone(),
    }
}

/// The configuration's items in its order; the others keep their place, before what the configuration adds there.
fn merge_lists(live: Vec<Value>, config: &[Value], shape: Shape<'_>) -> Vec<Value> {
    let step = |item: &Value| list_step(shape, item).unwrap_or_default();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (index, item) in live.iter().enumerate() {
        places.entry(step(item)).or_insert(index);
    }
    let wanted: Vec<Option<usize>> = config.iter().map(|item| places.get(&step(item)).copied()).collect();
    let mut pending: Vec<Option<Value>> = live.into_iter().map(Some).collect();
    let mut out = Vec::with_capacity(pending.len() + config.len());
    let mut next = 0;
    for (item, place) in config.iter().zip(&wanted) {
        while next < pending.len() && (pending[next].is_none() || !wanted.contains(&Some(next))) {
            out.extend(pending[next].take());
            next += 1;
        }
        out.push(match place.and_then(|place| pending[place].take()) {
            Some(old) => merge(old, item, item_shape(shape)),
            None => item.clone(),
        });
    }
    out.extend(pending.into_iter().flatten());
    out
}

/// Removes from `value` what `last` has and nothing in `kept` has, at or below it.
pub(super) fn prune(value: &mut Value, last: &FieldSet, kept: &FieldSet, shape: Shape<'_>) {
    match (shape, &mut *value) {
        (Shape::Struct(_) | Shape::Map(_) | Shape::Custom(..), Value::Object(map)) => {
            for (step, gone) in &last.children {
                let Some(name) = step.strip_prefix("f:") else { continue };
                match kept.children.get(step).filter(|kept| !kept.is_empty()) {
                    None => {
                        map.shift_remove(name);
                    }
                    Some(kept) => {
                        if let Some(inner) = map.get_mut(name) {
                            prune(inner, gone, kept, shape.inner(name));
                        }
                    }
                }
            }
        }
        (Shape::Set | Shape::Items(..) | Shape::CustomItems(_), Value::Array(items)) => items.retain_mut(|item| {
            let Ok(step) = list_step(shape, item) else { return true };
            let Some(gone) = last.children.get(&step) else { return true };
            match kept.children.get(&step).filter(|kept| !kept.is_empty()) {
                None => false,
                Some(kept) => {
                    prune(item, gone, kept, item_shape(shape));
                    true
                }
            }
        }),
        _ => {}
    }
}
