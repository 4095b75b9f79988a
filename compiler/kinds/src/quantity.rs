//! Quantities as objects hold them: text, or a plain number.

use serde_json::Value;
use strake_words::Quantity;

/// The amount that a JSON value stands for; `None` when it is not one.
pub fn of(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// The text that a server stores for it.
pub fn canonical(value: &Value) -> Option<String> {
    of(value).map(|quantity| quantity.to_string())
}
