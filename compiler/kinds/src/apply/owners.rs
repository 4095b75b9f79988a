//! Who owns which field of an object, and how ownership is handed over. It needs no schema: managed fields name list items themselves.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fieldset::FieldSet;
use super::managers::{self, Manager, Operation};
use super::{Writer, walk};
use crate::schema::Field;

/// Who owns a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The field manager.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: &'static str,
    /// The subresource it wrote through; empty for the object itself.
    pub subresource: String,
    /// The version it wrote.
    pub api_version: String,
    /// When it wrote (RFC 3339), if known.
    pub time: Option<String>,
}

/// A field and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Who owns it.
    pub owner: Owner,
    /// The path as a server writes it: `.spec.containers[name="web"].image`.
    pub path: String,
    /// The path in steps of the wire form: `f:spec`, `k:{"name":"web"}`.
    pub steps: Vec<String>,
}

fn entries(object: &Value) -> Vec<Manager> {
    managers::take(&mut json!({"metadata": {"managedFields": object["metadata"]["managedFields"]}}))
}

/// Every owned field of an object with its owner.
pub fn owned(object: &Value) -> Vec<Owned> {
    let mut found = Vec::new();
    for entry in entries(object) {
        let owner = entry.owner();
        found.extend(entry.fields.leaves().into_iter().map(|(path, steps)| Owned { owner: owner.clone(), path, steps }));
    }
    found
}

/// The owners of a field: of itself, of something below it, or of a whole that it is a part of.
pub fn owners(object: &Value, steps: &[String]) -> Vec<Owner> {
    entries(object).iter().filter(|entry| entry.fields.covers(steps)).map(Manager::owner).collect()
}

/// The managed fields of an object in which what the managers that `from` chooses own belongs to the apply of `to`; nothing when `from` chooses nobody.
pub fn hand_over(object: &Value, from: &dyn Fn(&Owner) -> bool, to: &str) -> Option<Value> {
    let (given, mut kept): (Vec<Manager>, Vec<Manager>) = entries(object).into_iter().partition(|entry| from(&entry.owner()));
    if given.is_empty() {
        return None;
    }
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let taker = Manager::new(&Writer { manager: to, subresource: "", now: Timestamp::UNIX_EPOCH }, Operation::Apply, api_version);
    let own = kept.iter().position(|entry| entry.is(&taker)).map(|place| kept.remove(place));
    let mut fields = own.as_ref().map(|own| own.fields.clone()).unwrap_or_default();
    let mut time = own.and_then(|own| own.time);
    for entry in given {
        fields.extend(&entry.fields);
        time = time.max(entry.time);
    }
    kept.push(taker.owning(fields, time));
    let mut holder = json!({"metadata": {}});
    managers::put(&mut holder, kept);
    Some(holder["metadata"]["managedFields"].take())
}

/// The object without the fields that only the managers that `from` chooses own: what is left of it when they apply nothing any more.
pub fn without(object: &Value, from: &dyn Fn(&Owner) -> bool) -> Value {
    let (given, kept): (Vec<Manager>, Vec<Manager>) = entries(object).into_iter().partition(|entry| from(&entry.owner()));
    let sum = |entries: &[Manager]| {
        let mut fields = FieldSet::default();
        entries.iter().for_each(|entry| fields.extend(&entry.fields));
        fields
    };
    let (gone, kept) = (sum(&given), sum(&kept));
    let mut object = object.clone();
    for part in ["spec", "metadata", "data", "stringData", "binaryData"] {
        let step = format!("f:{part}");
        if let (Some(value), Some(gone)) = (object.get_mut(part), gone.children.get(&step)) {
            remove(value, gone, kept.children.get(&step).unwrap_or(&FieldSet::default()));
        }
    }
    let others = gone.children.keys().filter_map(|step| step.strip_prefix("f:").filter(|_| !kept.children.contains_key(step)));
    let fixed = ["apiVersion", "kind", "metadata", "spec", "status", "data", "stringData", "binaryData"];
    for name in others.filter(|name| !fixed.contains(name)).map(str::to_owned).collect::<Vec<_>>() {
        object.as_object_mut().and_then(|map| map.shift_remove(&name));
    }
    object
}

fn remove(value: &mut Value, gone: &FieldSet, kept: &FieldSet) {
    for (step, gone) in &gone.children {
        match kept.children.get(step).filter(|kept| !kept.is_empty()) {
            None => {
                take(value, std::slice::from_ref(step));
            }
            Some(kept) => {
                if let Some(inner) = find_mut(value, step) {
                    remove(inner, gone, kept);
                }
            }
        }
    }
}

fn place_of(items: &[Value], step: &str) -> Option<usize> {
    let (form, text) = step.split_once(':')?;
    match form {
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(text).ok()?;
            items.iter().position(|item| keys.iter().all(|(name, value)| item.get(name) == Some(value)))
        }
        "v" => {
            let wanted: Value = serde_json::from_str(text).ok()?;
            items.iter().position(|item| *item == wanted)
        }
        _ => text.parse().ok().filter(|place| *place < items.len()),
    }
}

fn find_mut<'a>(value: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) => map.get_mut(step.strip_prefix("f:")?),
        Value::Array(items) => {
            let place = place_of(items, step)?;
            items.get_mut(place)
        }
        _ => None,
    }
}

/// The value of a field.
pub fn find<'a>(value: &'a Value, steps: &[String]) -> Option<&'a Value> {
    steps.iter().try_fold(value, |value, step| match value {
        Value::Object(map) => map.get(step.strip_prefix("f:")?),
        Value::Array(items) => items.get(place_of(items, step)?),
        _ => None,
    })
}

/// Takes a field out of an object; gives its value.
pub fn take(value: &mut Value, steps: &[String]) -> Option<Value> {
    let (last, parents) = steps.split_last()?;
    let parent = parents.iter().try_fold(value, |value, step| find_mut(value, step))?;
    match parent {
        Value::Object(map) => map.shift_remove(last.strip_prefix("f:")?),
        Value::Array(items) => place_of(items, last).map(|place| items.remove(place)),
        _ => None,
    }
}

/// The step that names an item of a list in managed fields; nothing for a list that is owned as a whole.
pub fn item_step(field: &Field, item: &Value) -> Option<String> {
    walk::named_item(field, item)
}

/// The same for a list of a custom resource, by its structural schema.
pub fn custom_item_step(schema: &Value, item: &Value) -> Option<String> {
    walk::named_custom_item(schema, item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"a": "1", "b": "2"}, "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}, "managedFields": [
                {"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-01-02T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {
                    "f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/last-applied-configuration": {}}, "f:labels": {"f:a": {}, "f:b": {}}},
                    "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {}}, "k:{\"name\":\"old\"}": {".": {}, "f:name": {}}}}}},
                }},
                {"manager": "strake", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:a": {}}},
                    "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {}}}}}},
                }},
            ]},
            "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "old"}, {"name": "web", "image": "x", "args": ["y"]}]}}},
        })
    }

    fn is_kubectl(owner: &Owner) -> bool {
        owner.manager.starts_with("kubectl")
    }

    #[test]
    fn what_only_the_former_owner_had_goes() {
        let left = without(&live(), &is_kubectl);
        assert_eq!(left["metadata"]["labels"], json!({"a": "1"}));
        assert_eq!(left["spec"], json!({"template": {"spec": {"containers": [{"name": "web", "image": "x"}]}}}));
        assert_eq!(without(&live(), &|_| false), live());
    }

    #[test]
    fn ownership_is_handed_over_once() {
        let moved = hand_over(&live(), &is_kubectl, "strake").expect("there is something to hand over");
        let mut object = live();
        object["metadata"]["managedFields"] = moved;
        let entries = object["metadata"]["managedFields"].as_array().expect("a list");
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!((entries[0]["manager"].as_str(), entries[0]["operation"].as_str()), (Some("strake"), Some("Apply")));
        assert!(entries[0]["fieldsV1"]["f:spec"]["f:replicas"].is_object() && entries[0]["fieldsV1"]["f:metadata"]["f:labels"]["f:b"].is_object());
        assert_eq!(hand_over(&object, &is_kubectl, "strake"), None);
    }

    #[test]
    fn owners_are_found_at_below_and_above() {
        let steps = |path: &[&str]| path.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>();
        let names = |path: &[&str]| owners(&live(), &steps(path)).into_iter().map(|owner| owner.manager).collect::<Vec<_>>();
        assert_eq!(names(&["f:spec", "f:replicas"]), ["kubectl-client-side-apply"]);
        assert_eq!(names(&["f:spec", "f:template"]), ["kubectl-client-side-apply", "strake"]);
        let args = ["f:spec", "f:template", "f:spec", "f:containers", "k:{\"name\":\"web\"}", "f:args", "i:0"];
        assert_eq!(names(&args), ["kubectl-client-side-apply"], "a part of a whole");
        assert_eq!(names(&["f:spec", "f:paused"]), Vec::<String>::new());
        let mut object = live();
        assert_eq!(take(&mut object, &steps(&args[..6])), Some(json!(["y"])));
        assert_eq!(find(&object, &steps(&args[..6])), None);
        let paths: Vec<String> = owned(&object).into_iter().map(|owned| owned.path).collect();
        assert!(paths.contains(&".spec.template.spec.containers[name=\"web\"].image".to_owned()), "{paths:?}");
    }
}
