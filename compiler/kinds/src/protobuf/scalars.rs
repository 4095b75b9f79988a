//! Messages of the wire that are scalars in JSON.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::Value;

use super::ProtobufError;
use super::wire::Reader;

/// Seconds of the year 1, Go's zero time.
const GO_ZERO: i64 = -62_135_596_800;

pub(super) fn base64(bytes: &[u8]) -> Value {
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}

/// `{ 1: text }`
pub(super) fn quantity(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut text = "";
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        if tag == 1 {
            text = wire.text(tag)?;
        }
    }
    Ok(if text.is_empty() { "0".into() } else { text.into() })
}

/// `{ 1: 0 for a number or 1 for text, 2: number, 3: text }`
pub(super) fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut form, mut number, mut text) = (0, 0_i32, "");
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        match tag {
            1 => form = wire.varint(tag)?,
            #[expect(clippy::cast_possible_truncation, reason = "an int32 is sign-extended to 64 bits on the wire")]
            2 => number = wire.varint(tag)? as i32,
            3 => text = wire.text(tag)?,
            _ => {}
        }
    }
    Ok(if form == 1 { text.into() } else { number.into() })
}

/// `{ 1: seconds, 2: nanoseconds }`; the zero time is null.
pub(super) fn time(bytes: &[u8], micro: bool) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (None, 0_i32);
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        match tag {
            #[expect(clippy::cast_possible_wrap, reason = "negative numbers are sent as their two's complement")]
            1 => seconds = Some(wire.varint(tag)? as i64),
            #[expect(clippy::cast_possible_truncation, reason = "an int32 is sign-extended to 64 bits on the wire")]
            2 => nanos = wire.varint(tag)? as i32,
            _ => {}
        }
    }
    let Some(seconds) = seconds.filter(|seconds| *seconds != GO_ZERO) else { return Ok(Value::Null) };
    let nanos = if micro { nanos / 1000 * 1000 } else { 0 };
    let Ok(time) = Timestamp::new(seconds, nanos) else { return Ok(Value::Null) };
    let form = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(form).to_string().into())
}

/// `{ 1: nanoseconds }`
pub(super) fn duration(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut nanos = 0_i64;
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        if tag == 1 {
            #[expect(clippy::cast_possible_wrap, reason = "negative numbers are sent as their two's complement")]
            let value = wire.varint(tag)? as i64;
            nanos = value;
        }
    }
    Ok(strake_words::GoDuration { nanos }.to_string().into())
}

/// `{ 1: JSON }`
pub(super) fn json(bytes: &[u8], outer: u32) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut value = Value::Null;
    while let Some((tag, wire)) = reader.next()? {
        if tag == 1 && !wire.bytes(tag)?.is_empty() {
            value = serde_json::from_slice(wire.bytes(tag)?).map_err(|_| ProtobufError::Json(outer))?;
        }
    }
    Ok(value)
}

/// `{ 1: text, 1: text, … }`
pub(super) fn string_list(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut items = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        if tag == 1 {
            items.push(wire.text(tag)?.into());
        }
    }
    Ok(Value::Array(items))
}
