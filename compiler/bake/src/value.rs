//! Values of expressions, and what they are as text, number, truth or JSON.

use std::collections::BTreeMap;

use serde_json::Map;

/// What an expression gives. Sets are lists without repetition; objects and maps are one kind, in the order of their keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number; whole ones are exact up to 2^53.
    Number(f64),
    /// Text.
    String(String),
    /// A list, tuple or set.
    List(Vec<Value>),
    /// A map or object.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// What people call this kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    /// Text, or what a number or truth is as text.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number_text(*number)),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::List(_) | Value::Object(_) => None,
        }
    }

    /// A number, or text that is one.
    pub fn to_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::String(text) => parse_number(text),
            _ => None,
        }
    }

    /// A truth, or the text of one.
    pub fn to_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            Value::String(text) if matches!(text.as_str(), "true" | "1") => Some(true),
            Value::String(text) if matches!(text.as_str(), "false" | "0") => Some(false),
            _ => None,
        }
    }

    /// The same value as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => json_number(*number),
            Value::String(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Value::to_json).collect(),
            Value::Object(entries) => {
                let mut map = Map::new();
                map.extend(entries.iter().map(|(key, value)| (key.clone(), value.to_json())));
                map.into()
            }
        }
    }

    /// The value that a JSON document describes.
    pub fn from_json(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or_default()),
            serde_json::Value::String(text) => Value::String(text.clone()),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Value::from_json).collect()),
            serde_json::Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), Value::from_json(value))).collect()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

/// A number as people write it: whole ones without a point, others with at most 15 digits that count.
pub fn number_text(number: f64) -> String {
    if number == number.trunc() && number.abs() < 1e21 {
        return format!("{:.0}", number + 0.0);
    }
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    rounded.to_string()
}

fn parse_number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn json_number(number: f64) -> serde_json::Value {
    if number == number.trunc() && number.abs() < 9.0e15 {
        return (number as i64).into();
    }
    serde_json::Number::from_f64(number).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

#[cfg(test)]
mod tests {
    use super::{Value, number_text};

    #[test]
    fn numbers_as_text() {
        for (number, text) in [(42.0, "42"), (-1.5, "-1.5"), (0.1 + 0.2, "0.3"), (1e20, "100000000000000000000"), (-0.0, "0"), (1.0 / 3.0, "0.333333333333333")]
        {
            assert_eq!(number_text(number), text);
        }
        assert_eq!(Value::from("1e3").to_number(), Some(1000.0));
        assert_eq!(Value::from("inf").to_number(), None);
        assert_eq!(Value::from("0x10").to_number(), None);
        assert_eq!(Value::from("yes").to_bool(), None);
    }
}
