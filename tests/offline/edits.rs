//! Random edits of a plan: what people change in manifests, and what they should not.

use serde_json::{Value, json};
use strake_plan::{Change, DeployPlan, ObjectId};
use strake_tests::Dice;

/// The plan after an edit, and what the edit was.
pub fn edit(plan: &DeployPlan, dice: &mut Dice) -> (DeployPlan, String) {
    let mut plan = plan.clone();
    let place = dice.below(plan.changes.len() as u64) as usize;
    match dice.below(8) {
        0 if plan.changes.len() > 1 && plan.changes[place].id.kind != "Namespace" => {
            let gone = plan.changes.remove(place);
            forget(&mut plan, place);
            return (plan, format!("{} is left out", gone.id));
        }
        1 => {
            let name = format!("added-{}", dice.below(1000));
            let id = ObjectId {
                version: "v1".into(),
                kind: "ConfigMap".into(),
                resource: "configmaps".into(),
                namespace: "default".into(),
                name: name.clone(),
                ..ObjectId::default()
            };
            if plan.changes.iter().all(|change| change.id != id) {
                let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": "b"}});
                plan.changes.push(Change { id: id.clone(), object, ..Change::default() });
            }
            return (plan, format!("{id} is added"));
        }
        _ => {}
    }
    let change = &mut plan.changes[place];
    let mut paths = Vec::new();
    collect(&change.object, &mut String::new(), &mut paths);
    paths.retain(|path| !["/apiVersion", "/kind", "/metadata", "/metadata/name", "/metadata/namespace"].contains(&path.as_str()));
    if paths.is_empty() {
        change.object["metadata"]["labels"]["edited"] = json!("yes");
        return (plan, "a label is added".to_owned());
    }
    let path = paths[dice.below(paths.len() as u64) as usize].clone();
    let what = alter(&mut change.object, &path, dice);
    let edit = format!("{}: {path} {what}", change.id);
    (plan, edit)
}

/// Places move up where one is taken out.
fn forget(plan: &mut DeployPlan, place: usize) {
    for change in &mut plan.changes {
        change.after.retain(|edge| edge.change.0 != place);
        change.after.iter_mut().filter(|edge| edge.change.0 > place).for_each(|edge| edge.change.0 -= 1);
    }
}

/// All places of an object, as JSON pointers.
fn collect(value: &Value, at: &mut String, paths: &mut Vec<String>) {
    if !at.is_empty() {
        paths.push(at.clone());
    }
    let length = at.len();
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                at.push_str(&format!("/{}", name.replace('~', "~0").replace('/', "~1")));
                collect(value, at, paths);
                at.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                at.push_str(&format!("/{index}"));
                collect(value, at, paths);
                at.truncate(length);
            }
        }
        _ => {}
    }
}

fn alter(object: &mut Value, path: &str, dice: &mut Dice) -> String {
    if dice.below(3) == 0 {
        let (parent, name) = path.rsplit_once('/').unwrap();
        match object.pointer_mut(parent) {
            Some(Value::Object(map)) => {
                map.remove(&name.replace("~1", "/").replace("~0", "~"));
            }
            Some(Value::Array(items)) => {
                items.remove(name.parse().unwrap());
            }
            _ => {}
        }
        return "is left out".to_owned();
    }
    match object.pointer_mut(path) {
        Some(Value::String(text)) => {
            *text = if dice.below(4) == 0 { String::new() } else { format!("{text}x") };
            format!("is {text:?}")
        }
        Some(value @ Value::Number(_)) => {
            *value = json!(value.as_i64().unwrap_or_default() + dice.below(3) as i64 - 1);
            format!("is {value}")
        }
        Some(Value::Bool(flag)) => {
            *flag = !*flag;
            format!("is {flag}")
        }
        Some(Value::Object(map)) => {
            map.insert("added".to_owned(), json!("new"));
            "has one more".to_owned()
        }
        Some(Value::Array(items)) => {
            let mut more = items.last().cloned().unwrap_or_else(|| json!("new"));
            match &mut more {
                Value::Object(map) => map.iter_mut().for_each(|(name, value)| {
                    if let (true, Some(text)) = (matches!(name.as_str(), "name" | "mountPath"), value.as_str()) {
                        *value = json!(format!("{text}2"));
                    }
                }),
                Value::String(text) => text.push('2'),
                _ => {}
            }
            items.push(more);
            "has one more".to_owned()
        }
        _ => "stays".to_owned(),
    }
}
