//! Kubernetes objects in protobuf, as clients send them in request bodies: decoded to JSON along the schema.
//!
//! The body is the four bytes `k8s\0`, then `runtime.Unknown { 1: TypeMeta { 1: apiVersion, 2: kind }, 2: raw, … }`; `raw` is the object.
//! Senders write every non-pointer scalar, also when it is zero; JSON leaves those out, and so does this decoder.

use serde_json::{Map, Number, Value};

use crate::schema::{Field, Message, Type};

mod scalars;
mod wire;

use wire::{Reader, Wire};

const MAGIC: &[u8] = b"k8s\0";

/// Objects nest at most this deep (JSON schemas in custom resource definitions are the deepest in practice).
const MAX_DEPTH: usize = 64;

/// Why a body is not an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The first four bytes are others.
    #[error("a protobuf body must start with the bytes `k8s\\0`")]
    Magic,
    /// The body ends inside a field.
    #[error("the protobuf body ends inside a field")]
    Truncated,
    /// A variable-length integer of more than ten bytes.
    #[error("the protobuf body has an integer of more than 64 bits")]
    Varint,
    /// A wire type that no field can have.
    #[error("field {tag} has the wire type {wire}, which does not fit its type")]
    WireType {
        /// The field's tag.
        tag: u32,
        /// The wire type found.
        wire: u8,
    },
    /// Text that is not UTF-8.
    #[error("field {0} is not valid UTF-8")]
    Utf8(u32),
    /// Too deep.
    #[error("the protobuf body nests deeper than {MAX_DEPTH} messages")]
    Depth,
    /// The envelope names a kind that the schema does not have.
    #[error("no kind {kind} in {api_version} is known")]
    UnknownKind {
        /// From the envelope.
        api_version: String,
        /// From the envelope.
        kind: String,
    },
    /// JSON inside a field that holds JSON cannot be read.
    #[error("field {0} holds text that is not JSON")]
    Json(u32),
    /// A form that only JSON bodies can carry here.
    #[error("field {0} can be read from a JSON body only")]
    Unsupported(u32),
    /// The object is compressed or encoded in another way.
    #[error("the content encoding {0:?} is not supported")]
    Encoding(String),
}

/// True when a body starts as this form does.
pub fn is_protobuf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// An object with its `apiVersion` and `kind` from an enveloped body. Kinds and the option objects of `meta/v1` (such as `DeleteOptions`) are known.
pub fn decode(bytes: &[u8]) -> Result<(String, String, Value), ProtobufError> {
    let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(body);
    while let Some((tag, wire)) = reader.next()? {
        match tag {
            1 => {
                let mut meta = Reader::new(wire.bytes(tag)?);
                while let Some((tag, wire)) = meta.next()? {
                    match tag {
                        1 => api_version = wire.text(tag)?.to_owned(),
                        2 => kind = wire.text(tag)?.to_owned(),
                        _ => {}
                    }
                }
            }
            2 => raw = wire.bytes(tag)?,
            3 if !wire.bytes(tag)?.is_empty() => return Err(ProtobufError::Encoding(wire.text(tag)?.to_owned())),
            _ => {}
        }
    }
    let message = message_of(&api_version, &kind).ok_or_else(|| ProtobufError::UnknownKind { api_version: api_version.clone(), kind: kind.clone() })?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.clone().into());
    object.insert("kind".to_owned(), kind.clone().into());
    let Value::Object(fields) = decode_message(raw, message)? else { return Ok((api_version, kind, Value::Object(object))) };
    object.extend(fields.into_iter().filter(|(name, _)| name != "apiVersion" && name != "kind"));
    Ok((api_version, kind, Value::Object(object)))
}

/// One message without an envelope.
pub fn decode_message(bytes: &[u8], message: &'static Message) -> Result<Value, ProtobufError> {
    let mut map = Map::new();
    read_message(bytes, message, &mut map, 0)?;
    Ok(Value::Object(map))
}

/// Kinds of the table first, then messages of their group by name, then those that every group has: options, scale, eviction.
fn message_of(api_version: &str, kind: &str) -> Option<&'static Message> {
    if let Some(row) = crate::by_kind(api_version, kind) {
        return crate::schema::message(row.message);
    }
    let same_group = crate::table().iter().find(|row| row.api_version() == api_version);
    let sibling = same_group.and_then(|row| crate::schema::message(&format!("{}.{kind}", row.message.rsplit_once('.')?.0)));
    sibling.or_else(|| crate::schema::message(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")))
}

fn read_message(bytes: &[u8], message: &'static Message, map: &mut Map<String, Value>, depth: usize) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::Depth);
    }
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        if let Some(field) = message.fields.iter().find(|field| field.tag == tag && !field.inlined) {
            read_field(field, wire, map, depth)?;
        } else if let Some((_, id)) = message.inlines.iter().find(|(inline, _)| *inline == tag) {
            read_message(wire.bytes(tag)?, id.get(), map, depth + 1)?;
        }
        // Other tags come from newer clients: they are unknown fields, which a server drops.
    }
    Ok(())
}

fn read_field(field: &'static Field, wire: Wire<'_>, map: &mut Map<String, Value>, depth: usize) -> Result<(), ProtobufError> {
    match field.ty {
        Type::List(inner) => {
            let list = map.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(items) = list {
                read_items(*inner, field.tag, wire, items, depth)?;
            }
        }
        Type::Map(inner) => {
            let entries = map.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = entries {
                let (key, value) = read_entry(*inner, field.tag, wire, depth)?;
                entries.insert(key, value);
            }
        }
        ty => {
            let value = read_value(ty, field.tag, wire, depth)?;
            if keep(field, &value) {
                map.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Scalars in a list may come packed: many in one field.
fn read_items(inner: Type, tag: u32, wire: Wire<'_>, items: &mut Vec<Value>, depth: usize) -> Result<(), ProtobufError> {
    let scalar = matches!(inner, Type::Int32 | Type::Int64 | Type::Bool);
    match wire {
        Wire::Bytes(bytes) if scalar => {
            let mut packed = Reader::new(bytes);
            while !packed.is_empty() {
                let number = packed.varint()?;
                items.push(read_value(inner, tag, Wire::Varint(number), depth)?);
            }
        }
        wire => items.push(read_value(inner, tag, wire, depth)?),
    }
    Ok(())
}

fn read_entry(inner: Type, tag: u32, wire: Wire<'_>, depth: usize) -> Result<(String, Value), ProtobufError> {
    let mut reader = Reader::new(wire.bytes(tag)?);
    let (mut key, mut value) = (String::new(), None);
    while let Some((tag, wire)) = reader.next()? {
        match tag {
            1 => key = wire.text(tag)?.to_owned(),
            2 => value = Some(read_value(inner, tag, wire, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        None => zero(inner, tag, depth)?,
    };
    Ok((key, value))
}

/// The value of a map entry that carries none.
fn zero(ty: Type, tag: u32, depth: usize) -> Result<Value, ProtobufError> {
    match ty {
        Type::Int32 | Type::Int64 | Type::Bool => read_value(ty, tag, Wire::Varint(0), depth),
        Type::Double => read_value(ty, tag, Wire::Fixed64(0), depth),
        _ => read_value(ty, tag, Wire::Bytes(&[]), depth),
    }
}

fn read_value(ty: Type, tag: u32, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match ty {
        Type::String => wire.text(tag)?.into(),
        #[expect(clippy::cast_possible_truncation, reason = "an int32 is sign-extended to 64 bits on the wire")]
        Type::Int32 => (wire.varint(tag)? as i32).into(),
        #[expect(clippy::cast_possible_wrap, reason = "negative numbers are sent as their two's complement")]
        Type::Int64 => (wire.varint(tag)? as i64).into(),
        Type::Bool => (wire.varint(tag)? != 0).into(),
        Type::Double => Number::from_f64(f64::from_bits(wire.fixed64(tag)?)).map_or(Value::Null, Value::Number),
        Type::Bytes => scalars::base64(wire.bytes(tag)?),
        Type::Quantity => scalars::quantity(wire.bytes(tag)?)?,
        Type::IntOrString => scalars::int_or_string(wire.bytes(tag)?)?,
        Type::Time => scalars::time(wire.bytes(tag)?, false)?,
        Type::MicroTime => scalars::time(wire.bytes(tag)?, true)?,
        Type::Duration => scalars::duration(wire.bytes(tag)?)?,
        Type::Any | Type::FieldsV1 => scalars::json(wire.bytes(tag)?, tag)?,
        Type::StringList => scalars::string_list(wire.bytes(tag)?)?,
        Type::JsonUnion | Type::List(_) | Type::Map(_) => return Err(ProtobufError::Unsupported(tag)),
        Type::Message(id) => {
            let mut map = Map::new();
            read_message(wire.bytes(tag)?, id.get(), &mut map, depth + 1)?;
            Value::Object(map)
        }
    })
}

/// JSON leaves out what is empty and has no meaning of its own.
fn keep(field: &Field, value: &Value) -> bool {
    if field.pointer {
        return !value.is_null();
    }
    match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !field.omit_empty || !text.is_empty(),
        Value::Bool(truth) => !field.omit_empty || *truth,
        Value::Number(number) => !field.omit_empty || number.as_f64() != Some(0.0),
        Value::Array(items) => !items.is_empty(),
    }
}
