//! Patches: strategic merge with its directives, and JSON merge (RFC 7386).

use serde_json::{Map, Value};

use crate::schema::{Field, Message, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Why a patch cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The patch is not an object.
    #[error("a merge patch must be an object")]
    NotAnObject,
    /// `$patch` has a value that does not exist.
    #[error("`{0}` is not a $patch directive: expected merge, replace or delete")]
    Directive(String),
    /// An item of a merged list lacks the key that names it.
    #[error("an item of `{list}` has no `{key}`, the key it is merged by")]
    MissingKey {
        /// The list's field.
        list: String,
        /// The merge key.
        key: String,
    },
    /// `$retainKeys` leaves out a key that the patch sets.
    #[error("the patch sets `{0}`, which is not in its $retainKeys")]
    NotRetained(String),
    /// A directive's value has the wrong type.
    #[error("the value of `{0}` must be a list")]
    DirectiveList(String),
}

/// Merges a strategic merge patch; lists and maps are treated as the schema says.
pub fn strategic(original: &Value, patch: &Value, message: &'static Message) -> Result<Value, MergeError> {
    let patch = patch.as_object().ok_or(MergeError::NotAnObject)?;
    let mut merged = original.as_object().cloned().unwrap_or_default();
    merge_map(&mut merged, patch, Shape::Message(message))?;
    Ok(Value::Object(merged))
}

/// Merges an RFC 7386 patch: objects are merged, `null` removes, everything else replaces.
pub fn json_merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            json_merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// What the schema knows of an object.
#[derive(Clone, Copy)]
enum Shape {
    Message(&'static Message),
    Map(Type),
    Unknown,
}

impl Shape {
    fn of(ty: Type) -> Self {
        match ty {
            Type::Message(id) => Shape::Message(id.get()),
            Type::Map(inner) => Shape::Map(*inner),
            _ => Shape::Unknown,
        }
    }

    fn field(self, name: &str) -> (Option<&'static Field>, Type) {
        match self {
            Shape::Message(message) => message.field(name).map_or((None, Type::Any), |field| (Some(field), field.ty)),
            Shape::Map(inner) => (None, inner),
            Shape::Unknown => (None, Type::Any),
        }
    }
}

fn merge_map(original: &mut Map<String, Value>, patch: &Map<String, Value>, shape: Shape) -> Result<(), MergeError> {
    match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            *original = plain_map(patch);
            return Ok(());
        }
        Some("delete") => {
            original.clear();
            return Ok(());
        }
        Some(other) => return Err(MergeError::Directive(other.to_owned())),
    }
    retain_keys(original, patch)?;
    delete_primitives(original, patch)?;
    let orders = set_orders(patch)?;
    for (name, value) in patch {
        if name.starts_with('$') && (name == PATCH || name == RETAIN_KEYS || name.starts_with(SET_ORDER) || name.starts_with(DELETE_PRIMITIVES)) {
            continue;
        }
        if value.is_null() {
            original.shift_remove(name);
            continue;
        }
        let (field, ty) = shape.field(name);
        match (original.get_mut(name), value) {
            (Some(Value::Object(inner)), Value::Object(patch)) if !replaces(field) => merge_map(inner, patch, Shape::of(ty))?,
            (Some(Value::Array(items)), Value::Array(patch)) if merges(field) || deletes_items(patch) => {
                *items = merge_list(items, patch, name, field)?;
            }
            _ => {
                original.insert(name.clone(), plain(value));
            }
        }
    }
    for (name, order) in orders {
        let key = shape.field(name).0.and_then(|field| field.patch?.key);
        if let Some(Value::Array(items)) = original.get_mut(name) {
            let before = std::mem::take(items);
            *items = in_order(before.clone(), order, &before, key);
        }
    }
    Ok(())
}

fn replaces(field: Option<&Field>) -> bool {
    field.and_then(|field| field.patch).is_some_and(|patch| patch.strategy == "replace")
}

fn merges(field: Option<&Field>) -> bool {
    field.and_then(|field| field.patch).is_some_and(|patch| patch.merge())
}

fn deletes_items(patch: &[Value]) -> bool {
    patch.iter().any(|item| item.get(PATCH).is_some())
}

fn list<'a>(name: &str, value: &'a Value) -> Result<&'a Vec<Value>, MergeError> {
    value.as_array().ok_or_else(|| MergeError::DirectiveList(name.to_owned()))
}

fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), MergeError> {
    let Some(keys) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let keys = list(RETAIN_KEYS, keys)?;
    let kept = |name: &str| keys.iter().any(|key| key == name);
    if let Some((name, _)) = patch.iter().find(|(name, value)| !name.starts_with('$') && !value.is_null() && !kept(name)) {
        return Err(MergeError::NotRetained(name.clone()));
    }
    original.retain(|name, _| kept(name));
    Ok(())
}

fn delete_primitives(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), MergeError> {
    for (name, value) in patch {
        let Some(field) = name.strip_prefix(DELETE_PRIMITIVES) else { continue };
        let gone = list(name, value)?;
        if let Some(items) = original.get_mut(field).and_then(Value::as_array_mut) {
            items.retain(|item| !gone.contains(item));
        }
    }
    Ok(())
}

fn set_orders(patch: &Map<String, Value>) -> Result<Vec<(&str, &Vec<Value>)>, MergeError> {
    let orders = patch.iter().filter_map(|(name, value)| name.strip_prefix(SET_ORDER).map(|field| list(name, value).map(|order| (field, order))));
    orders.collect()
}

fn merge_list(original: &[Value], patch: &[Value], name: &str, field: Option<&'static Field>) -> Result<Vec<Value>, MergeError> {
    if patch.iter().any(|item| item.get(PATCH).is_some_and(|directive| directive == "replace")) {
        let rest = patch.iter().filter(|item| item.get(PATCH).is_none());
        return Ok(rest.map(plain).collect());
    }
    let key = field.and_then(|field| field.patch?.key);
    let ty = field.map_or(Type::Any, |field| field.ty);
    let mut merged = original.to_vec();
    let mut named = Vec::with_capacity(patch.len());
    for item in patch {
        let (Some(key), Some(object)) = (key, item.as_object()) else {
            if !merged.contains(item) {
                merged.push(plain(item));
            }
            named.push(item.clone());
            continue;
        };
        let wanted = object.get(key).ok_or_else(|| MergeError::MissingKey { list: name.to_owned(), key: key.to_owned() })?;
        match object.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
            Some("delete") => merged.retain(|old| old.get(key) != Some(wanted)),
            None | Some("merge") => {
                named.push(item.clone());
                match merged.iter_mut().find(|old| old.get(key) == Some(wanted)) {
                    Some(Value::Object(old)) => merge_map(old, object, ty.message().map_or(Shape::Unknown, Shape::Message))?,
                    _ => merged.push(plain(item)),
                }
            }
            Some(other) => return Err(MergeError::Directive(other.to_owned())),
        }
    }
    Ok(in_order(merged, &named, original, key))
}

/// Orders `merged`: the items that `order` names stand in that order; the others keep their place relative to them in `before`, and come first where
/// `before` does not say.
fn in_order(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let same = |a: &Value, b: &Value| match key {
        Some(key) if a.is_object() && b.is_object() => a.get(key).is_some() && a.get(key) == b.get(key),
        _ => a == b,
    };
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(item, other));
    let (mut named, others): (Vec<Value>, Vec<Value>) = merged.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (named.peek(), others.peek()) {
        let first = matches!((place(before, left), place(before, right)), (Some(left), Some(right)) if left < right);
        out.extend(if first { named.next() } else { others.next() });
    }
    out.extend(named);
    out.extend(others);
    out
}

/// A patch's value where nothing was before: directives and nulls have nothing to act on.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(plain_map(map)),
        Value::Array(items) => {
            let kept = items.iter().filter(|item| item.get(PATCH).is_none_or(|directive| directive == "merge"));
            Value::Array(kept.map(plain).collect())
        }
        other => other.clone(),
    }
}

fn plain_map(map: &Map<String, Value>) -> Map<String, Value> {
    let directive = |name: &str| name == PATCH || name == RETAIN_KEYS || name.starts_with(SET_ORDER) || name.starts_with(DELETE_PRIMITIVES);
    let kept = map.iter().filter(|(name, value)| !value.is_null() && !directive(name));
    kept.map(|(name, value)| (name.clone(), plain(value))).collect()
}
