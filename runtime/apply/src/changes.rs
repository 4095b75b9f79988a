//! What would change: two versions of an object, field by field.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One field that differs. List items are named by their `name`, `containerPort`, `port`, `key` or `mountPath` where they have one, else by their place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Such as `spec.template.spec.containers[web].image`.
    pub path: String,
    /// The value now; `None` when the field is new.
    pub before: Option<Value>,
    /// The value after; `None` when the field goes.
    pub after: Option<Value>,
}

/// Fields the server writes for itself.
const SERVER_FIELDS: [&str; 7] = ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink", "deletionTimestamp"];

/// The fields in which `after` differs from `before`, without status and what the server owns. Values of Secrets are shown as digests of themselves.
pub fn changes(before: Option<&Value>, after: &Value) -> Vec<FieldChange> {
    let empty = Value::Object(Map::new());
    let secret = after["kind"] == "Secret";
    let (before, after) = (strip(before.unwrap_or(&empty)), strip(after));
    let mut found = Vec::new();
    compare("", Some(&before), Some(&after), &mut found);
    if secret {
        found.iter_mut().filter(|change| change.path.starts_with("data") || change.path.starts_with("stringData")).for_each(mask);
    }
    found
}

fn mask(change: &mut FieldChange) {
    let hide = |value: &Value| Value::String(format!("(secret, {} bytes)", value.to_string().len()));
    change.before = change.before.as_ref().map(hide);
    change.after = change.after.as_ref().map(hide);
    if change.before == change.after {
        change.after = change.after.as_ref().map(|text| Value::String(format!("{}, different", text.as_str().unwrap_or_default())));
    }
}

pub(crate) fn strip(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        SERVER_FIELDS.iter().for_each(|field| {
            metadata.remove(*field);
        });
    }
    object
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<FieldChange>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let new = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(new) {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&inner, before.get(key), after.get(key), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => lists(path, before, after, found),
        (before, after) => found.push(FieldChange { path: path.to_owned(), before: before.cloned(), after: after.cloned() }),
    }
}

/// Items with a name are matched by it, others by their place.
fn lists(path: &str, before: &[Value], after: &[Value], found: &mut Vec<FieldChange>) {
    let label = |items: &[Value], index: usize| items.get(index).map(|item| name_of(item).unwrap_or_else(|| index.to_string()));
    let names: Vec<String> = (0..after.len()).filter_map(|index| label(after, index)).collect();
    let pick = |items: &[Value], name: &str| (0..items.len()).find(|index| label(items, *index).as_deref() == Some(name));
    for (index, name) in names.iter().enumerate() {
        let old = pick(before, name).map(|place| &before[place]);
        compare(&format!("{path}[{name}]"), old, Some(&after[index]), found);
    }
    for index in 0..before.len() {
        let name = label(before, index).unwrap_or_default();
        if !names.contains(&name) {
            compare(&format!("{path}[{name}]"), Some(&before[index]), None, found);
        }
    }
}

fn name_of(item: &Value) -> Option<String> {
    let keys = ["name", "containerPort", "port", "key", "mountPath", "ip"];
    keys.iter().find_map(|key| match &item[key] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::changes;
    use serde_json::json;

    #[test]
    fn list_items_are_matched_by_name_and_server_fields_are_left_out() {
        let before = json!({"kind": "Deployment", "metadata": {"name": "a", "uid": "1", "resourceVersion": "4"}, "spec": {"containers": [{"name": "x", "image": "x:1"}, {"name": "y", "image": "y:1"}]}, "status": {"n": 1}});
        let after =
            json!({"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "y", "image": "y:2"}, {"name": "x", "image": "x:1"}]}});
        let found = changes(Some(&before), &after);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "spec.containers[y].image");
        assert_eq!(found[0].before, Some(json!("y:1")));
        assert_eq!(found[0].after, Some(json!("y:2")));
    }

    #[test]
    fn secrets_never_show_their_values() {
        let before = json!({"kind": "Secret", "data": {"password": "aHVudGVyMg=="}});
        let after = json!({"kind": "Secret", "data": {"password": "aHVudGVyMw=="}});
        let text = format!("{:?}", changes(Some(&before), &after));
        assert!(!text.contains("aHVudGVy"), "{text}");
        assert!(text.contains("different"), "{text}");
    }
}
