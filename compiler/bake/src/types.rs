//! Types of variables: how they are written, and how values become them.

use std::collections::BTreeMap;
use std::fmt;

use crate::value::Value;

/// A type constraint.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Whatever the value is.
    Any,
    /// Text.
    String,
    /// A number.
    Number,
    /// A truth.
    Bool,
    /// A list of one type.
    List(Box<Type>),
    /// A set of one type.
    Set(Box<Type>),
    /// A map of one type.
    Map(Box<Type>),
    /// A list of these, in this order.
    Tuple(Vec<Type>),
    /// These attributes.
    Object(BTreeMap<String, Type>),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => f.write_str("any type"),
            Type::String => f.write_str("string"),
            Type::Number => f.write_str("number"),
            Type::Bool => f.write_str("bool"),
            Type::List(of) => write!(f, "list of {of}"),
            Type::Set(of) => write!(f, "set of {of}"),
            Type::Map(of) => write!(f, "map of {of}"),
            Type::Tuple(_) => f.write_str("tuple"),
            Type::Object(_) => f.write_str("object"),
        }
    }
}

impl Type {
    /// The value as this type; `null` is of every type. `Err` says what it is not.
    pub fn convert(&self, value: &Value) -> Result<Value, String> {
        let wrong = || format!("{self} required, but this is {}", value.kind());
        if *value == Value::Null {
            return Ok(Value::Null);
        }
        match (self, value) {
            (Type::Any, _) => Ok(value.clone()),
            (Type::String, _) => value.to_text().map(Value::String).ok_or_else(wrong),
            (Type::Number, _) => value.to_number().map(Value::Number).ok_or_else(wrong),
            (Type::Bool, _) => value.to_bool().map(Value::Bool).ok_or_else(wrong),
            (Type::List(of), Value::List(items)) => Ok(Value::List(items.iter().map(|item| of.convert(item)).collect::<Result<_, _>>()?)),
            (Type::Set(of), Value::List(items)) => Ok(set(items.iter().map(|item| of.convert(item)).collect::<Result<_, _>>()?)),
            (Type::Tuple(types), Value::List(items)) if types.len() == items.len() => {
                Ok(Value::List(types.iter().zip(items).map(|(one, item)| one.convert(item)).collect::<Result<_, _>>()?))
            }
            (Type::Tuple(types), Value::List(items)) => Err(format!("{} elements required, but there are {}", types.len(), items.len())),
            (Type::Map(of), Value::Object(entries)) => {
                let each = |(key, value): (&String, &Value)| Ok((key.clone(), of.convert(value)?));
                Ok(Value::Object(entries.iter().map(each).collect::<Result<_, String>>()?))
            }
            (Type::Object(types), Value::Object(entries)) => {
                let each = |(key, one): (&String, &Type)| {
                    let value = entries.get(key).ok_or_else(|| format!("attribute \"{key}\" is required"))?;
                    Ok((key.clone(), one.convert(value).map_err(|why| format!("attribute \"{key}\": {why}"))?))
                };
                Ok(Value::Object(types.iter().map(each).collect::<Result<_, String>>()?))
            }
            _ => Err(wrong()),
        }
    }
}

/// The items of a set: sorted, each once.
pub fn set(items: Vec<Value>) -> Value {
    let mut sorted = items;
    sorted.sort_by(|a, b| match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.total_cmp(b),
        _ => a.to_json().to_string().cmp(&b.to_json().to_string()),
    });
    sorted.dedup();
    Value::List(sorted)
}

/// A value for a variable as the environment has it: `true`, `3`, `a,b`, `k:v,k2:v2`.
pub fn from_environment(name: &str, text: &str, wanted: &Type) -> Result<Value, String> {
    let primitive = |text: &str, wanted: &Type| match wanted {
        Type::String => Ok(Value::from(text)),
        Type::Bool => go_bool(text).map(Value::Bool).ok_or_else(|| format!("`{text}` is neither true nor false")),
        Type::Number => Value::from(text).to_number().map(Value::Number).ok_or_else(|| format!("`{text}` is not a number")),
        other => Err(format!("a value of type {other} can only be given as JSON, in {name}_JSON")),
    };
    let fields = || crate::entry::fields(text).ok_or_else(|| "a quote is not closed".to_owned());
    match wanted {
        Type::List(of) => Ok(Value::List(fields()?.iter().map(|field| primitive(field, of)).collect::<Result<_, _>>()?)),
        Type::Set(of) => Ok(set(fields()?.iter().map(|field| primitive(field, of)).collect::<Result<_, _>>()?)),
        Type::Tuple(types) => {
            let fields = fields()?;
            if fields.len() != types.len() {
                return Err(format!("{} elements are expected, separated by commas, and {} are given", types.len(), fields.len()));
            }
            Ok(Value::List(types.iter().zip(&fields).map(|(one, field)| primitive(field, one)).collect::<Result<_, _>>()?))
        }
        Type::Map(of) => {
            let each = |field: &String| {
                let (key, value) = field.split_once(':').ok_or_else(|| format!("`{field}`: expected KEY:VALUE"))?;
                Ok((key.to_owned(), primitive(value, of)?))
            };
            Ok(Value::Object(fields()?.iter().map(each).collect::<Result<_, String>>()?))
        }
        other => primitive(text, other),
    }
}

/// What Go's strconv takes for a truth.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
