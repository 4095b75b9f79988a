//! One object with one field changed, for each of its fields and each way in which people and programs get one wrong.

use serde_json::{Value, json};

/// A changed object.
pub struct Twist {
    /// The field: `spec.ports[0].port`.
    pub path: String,
    /// What was done to it.
    pub how: &'static str,
    /// The object with it.
    pub object: Value,
}

/// Every twist of `object`, but none of `apiVersion` and `kind`: they choose where it is sent.
pub fn twists(object: &Value) -> Vec<Twist> {
    let mut pointers = Vec::new();
    walk(object, &mut String::new(), &mut String::new(), &mut pointers);
    let mut made = Vec::new();
    for (pointer, path) in pointers {
        let Some(old) = object.pointer(&pointer) else { continue };
        for (how, new) in changes(old) {
            let mut twisted = object.clone();
            if let Some(place) = twisted.pointer_mut(&pointer) {
                *place = new;
                made.push(Twist { path: path.clone(), how, object: twisted });
            }
        }
        if let Some(object) = without(object, &pointer) {
            made.push(Twist { path, how: "left out", object });
        }
    }
    made
}

fn walk(value: &Value, pointer: &mut String, path: &mut String, found: &mut Vec<(String, String)>) {
    let (pointer_length, path_length) = (pointer.len(), path.len());
    let mut visit = |child: &Value, step: &str, shown: &str| {
        pointer.push('/');
        pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
        path.push_str(shown.strip_prefix('.').filter(|_| path.is_empty()).unwrap_or(shown));
        found.push((pointer.clone(), path.clone()));
        walk(child, pointer, path, found);
        pointer.truncate(pointer_length);
        path.truncate(path_length);
    };
    match value {
        Value::Object(map) => {
            for (name, child) in map.iter().filter(|(name, _)| pointer_length > 0 || !matches!(name.as_str(), "apiVersion" | "kind")) {
                visit(child, name, &format!(".{name}"));
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                visit(child, &index.to_string(), &format!("[{index}]"));
            }
        }
        _ => {}
    }
}

fn without(object: &Value, pointer: &str) -> Option<Value> {
    let (parent, name) = pointer.rsplit_once('/')?;
    let mut object = object.clone();
    let name = name.replace("~1", "/").replace("~0", "~");
    object.pointer_mut(parent)?.as_object_mut()?.shift_remove(&name)?;
    Some(object)
}

/// What stands in the place of a value.
fn changes(old: &Value) -> Vec<(&'static str, Value)> {
    let mut made = vec![("null", Value::Null)];
    match old {
        Value::String(_) => made.extend([
            ("empty", json!("")),
            ("a word in capitals", json!("Not_A-valid.Value!")),
            ("another word", json!("other")),
            ("a path", json!("../a")),
            ("long", json!("x".repeat(300))),
            ("a number", json!(7)),
            ("an object", json!({})),
        ]),
        Value::Number(_) => made.extend([
            ("negative", json!(-1)),
            ("zero", json!(0)),
            ("one", json!(1)),
            ("large", json!(70_000)),
            ("too large", json!(99_999_999_999_i64)),
            ("a fraction", json!(1.5)),
            ("a word", json!("word")),
        ]),
        Value::Bool(truth) => made.extend([("the other", json!(!truth)), ("a word", json!("yes"))]),
        Value::Object(map) => {
            made.extend([("empty", json!({})), ("a word", json!("word")), ("a list", json!([]))]);
            let mut more = map.clone();
            more.insert("notAField".to_owned(), json!("value"));
            made.push(("with another entry", Value::Object(more)));
        }
        Value::Array(items) => {
            made.extend([("empty", json!([])), ("a word", json!("word")), ("a list of null", json!([null]))]);
            let twice: Vec<Value> = items.iter().chain(items.first()).cloned().collect();
            made.push(("with one twice", Value::Array(twice)));
            if items.len() > 1 {
                made.push(("backwards", items.iter().rev().cloned().collect()));
            }
        }
        Value::Null => {}
    }
    made.retain(|(_, new)| new != old);
    made
}

#[test]
fn each_twist_changes_one_field() {
    let object = json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}], "a/b": true}});
    let made = twists(&object);
    let of = |path: &str| made.iter().filter(|twist| twist.path == path).map(|twist| twist.how).collect::<Vec<_>>();
    assert_eq!(of("spec.ports[0].port"), ["null", "negative", "zero", "one", "large", "too large", "a fraction", "a word", "left out"]);
    assert_eq!(of("spec.a/b"), ["null", "the other", "a word", "left out"]);
    assert!(of("kind").is_empty());
    assert!(made.iter().all(|twist| twist.object != object));
}
