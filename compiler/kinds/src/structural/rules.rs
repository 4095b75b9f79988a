//! `x-kubernetes-validations`: rules in CEL. What is not sure here is left to the server, which is said.

use serde_json::{Map, Value};

use crate::expression::{self, Limits, Unclear};

const LIMITS: Limits = Limits { length: 2048, depth: 16, loops: 2 };
/// Values that a rule with loops may visit.
const MOST_VISITS: usize = 100_000;
/// Words that CEL keeps for itself; a field of that name is written with underscores around it.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What a rule says of a value and of what it was before; `None` when it is about a change and there is nothing before.
pub(super) fn holds(rule: &str, (value, old): (&Value, Option<&Value>), schema: &Value, root: bool, optional: bool) -> Option<Result<bool, String>> {
    let changes = mentions(rule, "oldSelf");
    if changes && optional {
        // There `oldSelf` is a value of another kind, which may hold nothing.
        return Some(Err("it takes `oldSelf` as optional".to_owned()));
    }
    let old = if changes { Some(old?) } else { None };
    if converts(schema) {
        return Some(Err("it is about times or bytes, which have types of their own in rules".to_owned()));
    }
    let seen = value_of(value, schema, root);
    let before = old.map(|old| value_of(old, schema, root));
    let both = size(&seen) + before.as_ref().map_or(0, size);
    let visits = both.saturating_pow(u32::try_from(expression::loops(rule)).unwrap_or(u32::MAX));
    if visits > MOST_VISITS {
        return Some(Err("it would look at very many values".to_owned()));
    }
    let variables: Vec<(&str, &Value)> = std::iter::once(("self", &seen)).chain(before.as_ref().map(|before| ("oldSelf", before))).collect();
    Some(match expression::holds(rule, &variables, LIMITS) {
        Ok(truth) => Ok(truth),
        Err(Unclear::Missing) => Err("it asks for a field that is not there".to_owned()),
        Err(Unclear::Unusable(why)) => Err(why),
    })
}

fn mentions(rule: &str, word: &str) -> bool {
    rule.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|found| found == word)
}

/// Whether a rule sees something else than the JSON of a value.
fn converts(schema: &Value) -> bool {
    let converted = schema["format"].as_str().is_some_and(|format| matches!(format, "date-time" | "datetime" | "date" | "duration" | "byte"));
    let below = |name: &str| schema.get(name).filter(|below| below.is_object()).is_some_and(converts);
    converted || below("items") || below("additionalProperties") || schema["properties"].as_object().into_iter().flatten().any(|(_, below)| converts(below))
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// A value as rules see it: the fields that the schema names, under names that CEL can write.
fn value_of(value: &Value, schema: &Value, root: bool) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| value_of(item, &schema["items"], false)).collect(),
        Value::Object(map) => match schema["properties"].as_object() {
            None => map.iter().map(|(name, value)| (name.clone(), value_of(value, &schema["additionalProperties"], false))).collect(),
            Some(properties) => {
                let own = root || schema["x-kubernetes-embedded-resource"] == true;
                let mut seen: Map<String, Value> = Map::new();
                for (name, value) in map {
                    match (properties.get(name), name.as_str()) {
                        (_, "apiVersion" | "kind") if own => drop(seen.insert(name.clone(), value.clone())),
                        (_, "metadata") if own => {
                            let named = ["name", "generateName"].into_iter().filter_map(|field| Some((field.to_owned(), value.get(field)?.clone())));
                            seen.insert(name.clone(), named.collect());
                        }
                        (Some(schema), _) => drop(seen.insert(escaped(name), value_of(value, schema, false))),
                        (None, _) => {}
                    }
                }
                Value::Object(seen)
            }
        },
        _ => value.clone(),
    }
}

fn escaped(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}
