//! Defaults of a structural schema.

use serde_json::{Map, Value};

/// Removes nulls where none is allowed, and fills in defaults, from the outside to the inside.
pub fn fill(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            let properties = schema["properties"].as_object();
            for (name, property) in properties.into_iter().flatten() {
                let empty = map.get(name).is_none_or(|value| value.is_null() && property["nullable"] != true);
                match property.get("default") {
                    Some(default) if empty => drop(map.insert(name.clone(), default.clone())),
                    _ if empty => drop(map.shift_remove(name)),
                    _ => {}
                }
            }
            let others = schema.get("additionalProperties").filter(|others| others.is_object());
            let of = |name: &str| properties.and_then(|properties: &Map<String, Value>| properties.get(name)).or(others);
            map.retain(|name, value| !value.is_null() || of(name).is_none_or(|schema| schema["nullable"] == true));
            for (name, value) in map.iter_mut() {
                if let Some(schema) = of(name) {
                    fill(value, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items").filter(|items| items.is_object()) {
                items.iter_mut().for_each(|item| fill(item, schema));
            }
        }
        _ => {}
    }
}
