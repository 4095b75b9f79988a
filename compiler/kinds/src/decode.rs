//! From JSON to objects: strict checks, the canonical form that a server stores, and typed values.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use crate::path::{FieldPath, Segment};
use crate::quantity;
use crate::schema::{Field, Message, Type};

mod strict;
mod typed;

pub use strict::{StrictError, parse_strict};
pub use typed::{DecodeError, Typed, encode, typed};

/// A field that does not fit its kind's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where it stands.
    pub path: FieldPath,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The schema has no such field here.
    Unknown {
        /// The field here with the nearest name.
        nearest: Option<Cow<'static, str>>,
        /// The path of a field of exactly this name, further up or further down.
        belongs: Option<FieldPath>,
    },
    /// Given more than once.
    Duplicate,
    /// Of another type than the schema says.
    WrongType {
        /// What stands there: `a string`.
        found: &'static str,
        /// What should: `an integer`.
        expected: &'static str,
    },
    /// Not given, though clients must.
    MissingRequired,
}

impl FieldError {
    /// The sentence that the API server uses for it in a strict decoding error.
    pub fn server_message(&self) -> String {
        match &self.problem {
            Problem::Unknown { .. } => format!("unknown field {:?}", self.path.to_string()),
            Problem::Duplicate => format!("duplicate field {:?}", self.path.to_string()),
            Problem::WrongType { found, expected } => format!("{}: found {found}, expected {expected}", self.path),
            Problem::MissingRequired => format!("missing required field {:?}", self.path.to_string()),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.server_message())
    }
}

/// The one-line error of `fieldValidation=Strict` for unknown and duplicate fields, `None` when there are none.
pub fn strict_message(errors: &[FieldError]) -> Option<String> {
    let strict = errors.iter().filter(|error| matches!(error.problem, Problem::Unknown { .. } | Problem::Duplicate));
    let text = strict.map(FieldError::server_message).collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then(|| format!("strict decoding error: {text}"))
}

/// Everything in `value` that does not fit `message`: unknown fields, wrong types, missing required fields. `null` counts as absent, as it does on a server.
pub fn check(value: &Value, message: &'static Message) -> Vec<FieldError> {
    let mut walk = Walk { at: Vec::new(), above: Vec::new(), errors: Vec::new() };
    walk.object(value, message);
    walk.errors
}

#[derive(Clone, Copy)]
enum At<'a> {
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

struct Walk<'a> {
    at: Vec<At<'a>>,
    /// The messages around the current place: how much of `at` leads to each.
    above: Vec<(usize, &'static Message)>,
    errors: Vec<FieldError>,
}

impl<'a> Walk<'a> {
    fn path(&self, length: usize) -> FieldPath {
        let owned = self.at[..length].iter().map(|at| match at {
            At::Field(name) => Segment::Field((*name).to_owned()),
            At::Key(name) => Segment::Key((*name).to_owned()),
            At::Index(index) => Segment::Index(*index),
        });
        FieldPath(owned.collect())
    }

    fn report(&mut self, problem: Problem) {
        let path = self.path(self.at.len());
        self.errors.push(FieldError { path, problem });
    }

    fn wrong(&mut self, value: &Value, expected: &'static str) {
        self.report(Problem::WrongType { found: found(value), expected });
    }

    fn object(&mut self, value: &'a Value, message: &'static Message) {
        let Some(map) = value.as_object() else { return self.wrong(value, "an object") };
        self.above.push((self.at.len(), message));
        for (name, value) in map {
            self.at.push(At::Field(name));
            match message.field(name) {
                Some(field) => self.value(value, field.ty),
                None => self.unknown(name, message),
            }
            self.at.pop();
        }
        for field in message.fields.iter().filter(|field| field.required) {
            if map.get(field.name).is_none_or(Value::is_null) {
                self.at.push(At::Field(field.name));
                self.report(Problem::MissingRequired);
                self.at.pop();
            }
        }
        self.above.pop();
    }

    fn unknown(&mut self, name: &str, message: &'static Message) {
        let nearest = strake_source::nearest(name, message.fields.iter().map(|field| field.name)).map(Cow::Borrowed);
        let belongs = self.elsewhere(name);
        self.report(Problem::Unknown { nearest, belongs });
    }

    /// Looks for a field of this name in the messages above, nearest first, and then up to three levels below.
    fn elsewhere(&self, name: &str) -> Option<FieldPath> {
        let (here, above) = self.above.split_last()?;
        let up = above.iter().rev().find(|(_, message)| message.field(name).is_some());
        if let Some((length, _)) = up {
            return Some(self.path(*length).field(name));
        }
        let start = self.path(here.0);
        let mut level = vec![(start, here.1)];
        for _ in 0..3 {
            let children = level.iter().flat_map(|(path, message)| {
                let objects = message.fields.iter().filter(|field| !matches!(field.name, "metadata" | "status"));
                objects.filter_map(|field| match field.ty {
                    Type::Message(id) => Some((path.field(field.name), id.get())),
                    _ => None,
                })
            });
            level = children.collect();
            if let Some((path, _)) = level.iter().find(|(_, message)| message.field(name).is_some()) {
                return Some(path.field(name));
            }
        }
        None
    }

    fn value(&mut self, value: &'a Value, ty: Type) {
        if value.is_null() {
            return;
        }
        match ty {
            Type::Message(id) => self.object(value, id.get()),
            Type::List(inner) => match value.as_array() {
                Some(items) => self.items(items, *inner),
                None => self.wrong(value, "a list"),
            },
            Type::StringList => match value.as_array() {
                Some(items) => self.items(items, Type::String),
                None => self.wrong(value, "a list"),
            },
            Type::Map(inner) => match value.as_object() {
                Some(map) => self.entries(map, *inner),
                None => self.wrong(value, "a map"),
            },
            scalar => {
                if let Some(expected) = mismatch(value, scalar) {
                    self.wrong(value, expected);
                }
            }
        }
    }

    fn items(&mut self, items: &'a [Value], inner: Type) {
        for (index, item) in items.iter().enumerate() {
            self.at.push(At::Index(index));
            self.value(item, inner);
            self.at.pop();
        }
    }

    fn entries(&mut self, map: &'a Map<String, Value>, inner: Type) {
        for (key, value) in map {
            self.at.push(At::Key(key));
            self.value(value, inner);
            self.at.pop();
        }
    }
}

/// What a scalar type expects, when `value` is not that.
fn mismatch(value: &Value, ty: Type) -> Option<&'static str> {
    let (fits, expected) = match ty {
        Type::String | Type::Duration => (value.is_string(), "a string"),
        Type::Int32 => (value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()), "a 32-bit integer"),
        Type::Int64 => (value.as_i64().is_some(), "an integer"),
        Type::Bool => (value.is_boolean(), "a boolean"),
        Type::Double => (value.is_number(), "a number"),
        Type::Bytes => (value.as_str().is_some_and(is_base64), "base64 text"),
        Type::Quantity => (quantity::of(value).is_some(), "a quantity such as 500m or 1Gi"),
        Type::IntOrString => (value.is_string() || value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()), "an integer or a string"),
        Type::Time | Type::MicroTime => (value.as_str().is_some_and(is_time), "an RFC 3339 time"),
        Type::FieldsV1 => (value.is_object(), "an object"),
        _ => (true, ""),
    };
    (!fits).then_some(expected)
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    let clean = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r'));
    base64::engine::general_purpose::STANDARD.decode(clean.collect::<Vec<_>>()).is_ok()
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

pub(crate) fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Reads nulls as a server does: a field that is null is absent, an entry of a map or a list that is null is the empty value of its type.
pub fn settle_nulls(value: &mut Value, message: &'static Message) {
    let Some(map) = value.as_object_mut() else { return };
    for (name, value) in map {
        if let Some(field) = message.field(name).filter(|_| !value.is_null()) {
            settle_inside(value, field.ty);
        }
    }
}

fn settle_inside(value: &mut Value, ty: Type) {
    let settle = |item: &mut Value, inner: Type| {
        if item.is_null() {
            *item = zero(inner);
        } else {
            settle_inside(item, inner);
        }
    };
    match (ty, value) {
        (Type::Message(id), value @ Value::Object(_)) => settle_nulls(value, id.get()),
        (Type::List(inner), Value::Array(items)) => items.iter_mut().for_each(|item| settle(item, *inner)),
        (Type::StringList, Value::Array(items)) => items.iter_mut().for_each(|item| settle(item, Type::String)),
        (Type::Map(inner), Value::Object(map)) => map.values_mut().for_each(|item| settle(item, *inner)),
        _ => {}
    }
}

/// What a server's memory holds where nothing was given.
fn zero(ty: Type) -> Value {
    match ty {
        Type::String | Type::Bytes => Value::from(""),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Value::from(0),
        Type::Bool => Value::from(false),
        Type::Quantity => Value::from("0"),
        Type::Message(_) | Type::Map(_) => Value::Object(Map::new()),
        Type::List(_) | Type::StringList => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

/// Brings an object into the form in which a server stores it: unknown fields, nulls and empty values without a meaning of their own are dropped;
/// quantities are written canonically.
pub fn canonical(value: &mut Value, message: &'static Message) {
    let Some(map) = value.as_object_mut() else { return };
    map.retain(|name, value| match message.field(name) {
        None => false,
        Some(field) => {
            canonical_value(value, field.ty);
            !is_empty(value, field)
        }
    });
}

fn canonical_value(value: &mut Value, ty: Type) {
    match (ty, &mut *value) {
        (Type::Message(id), Value::Object(_)) => canonical(value, id.get()),
        (Type::List(inner), Value::Array(items)) => items.iter_mut().for_each(|item| canonical_value(item, *inner)),
        (Type::Map(inner), Value::Object(map)) => map.values_mut().for_each(|item| canonical_value(item, *inner)),
        (Type::Quantity, _) => {
            if let Some(text) = quantity::canonical(value) {
                *value = Value::String(text);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value, field: &Field) -> bool {
    let optional = field.omit_empty && !field.pointer;
    match value {
        Value::Null => true,
        Value::String(text) => optional && text.is_empty(),
        Value::Bool(truth) => optional && !truth,
        Value::Number(number) => optional && !matches!(field.ty, Type::IntOrString) && number.as_f64() == Some(0.0),
        Value::Array(items) => optional && items.is_empty(),
        Value::Object(map) => optional && map.is_empty() && matches!(field.ty, Type::Map(_)),
    }
}
