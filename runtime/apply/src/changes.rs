//! What would change: two versions of an object, field by field. What is secret is shown as a keyed hash: equal values look equal, and nothing else is told.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use strake_kinds::apply;
use strake_kinds::schema::{Field, ListKind, Message, Type};

use crate::conceal::{Key, conceal, is_hash};

/// One field that differs. List items are named by their merge key where they have one, else by their place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// Such as `spec.template.spec.containers[web].image`.
    pub path: String,
    /// The value now; `None` when the field is new.
    pub before: Option<Value>,
    /// The value after; `None` when the field goes.
    pub after: Option<Value>,
    /// The values are secret, and shown as hashes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
    /// Who else owns the field now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<FieldOwner>,
    /// It cannot be changed: the object has to be made anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forces_replacement: bool,
}

/// A field manager other than strake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldOwner {
    /// Its name.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// The subresource it wrote through; empty for the object itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// When it wrote (RFC 3339), if the server says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

impl From<apply::Owner> for FieldOwner {
    fn from(owner: apply::Owner) -> FieldOwner {
        FieldOwner { manager: owner.manager, operation: owner.operation.to_owned(), subresource: owner.subresource, time: owner.time }
    }
}

impl fmt::Display for FieldOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " through {}", self.subresource)?;
        }
        write!(f, ", {}", self.operation)?;
        self.time.as_ref().map_or(Ok(()), |time| write!(f, " at {time}"))
    }
}

/// Fields the server writes for itself.
const SERVER_FIELDS: [&str; 9] = [
    "managedFields",
    "resourceVersion",
    "generation",
    "uid",
    "creationTimestamp",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generateName",
];

/// The fields in which `after` differs from `before`, without status and what the server owns. The values of Secrets, what stands at one of the `sensitive`
/// JSON pointers, and what is called a password are shown as hashes with `key`.
pub fn changes(before: Option<&Value>, after: &Value, key: &Key, sensitive: &[String]) -> Vec<FieldChange> {
    changes_by(before, after, key, sensitive, None)
}

/// The same for a custom resource, whose structural schema says which lists have keys.
pub fn changes_by(before: Option<&Value>, after: &Value, key: &Key, sensitive: &[String], schema: Option<&Value>) -> Vec<FieldChange> {
    let empty = Value::Object(Map::new());
    let seen = |object: &Value| conceal(strip(object), key, sensitive);
    let (old, new) = (before.map_or(empty, seen), seen(after));
    let text = |name: &str| after[name].as_str().unwrap_or_default();
    let built_in = strake_kinds::by_kind(text("apiVersion"), text("kind")).map(strake_kinds::KindInfo::schema);
    let known = match (built_in, schema) {
        (None, Some(schema)) => Known::Custom(schema),
        _ => Known::Object(built_in),
    };
    let mut walk = Walk { live: before, found: Vec::new() };
    walk.compare(&Place { text: String::new(), steps: Some(Vec::new()) }, Some(&old), Some(&new), known);
    walk.found
}

/// What can be compared of an object: all but status and what the server writes for itself.
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

/// What is known of the form of a value.
#[derive(Clone, Copy)]
enum Known<'s> {
    Object(Option<&'static Message>),
    Type(Option<Type>),
    List(Option<&'static Field>),
    /// A custom resource or a part of one, by its structural schema.
    Custom(&'s Value),
}

/// How the items of a list are told apart.
#[derive(Clone, Copy)]
enum Keys<'s> {
    Unknown,
    Field(&'static Field),
    Custom(&'s Value),
}

impl<'s> Known<'s> {
    fn of(field: Option<&'static Field>) -> Known<'s> {
        match field.map(|field| field.ty) {
            Some(Type::List(_)) => Known::List(field),
            ty => Known::Type(ty),
        }
    }

    fn inner(self, name: &str) -> Known<'s> {
        match self {
            Known::Object(message) => Known::of(message.and_then(|message| message.field(name))),
            Known::Type(Some(Type::Message(id))) => Known::of(id.get().field(name)),
            Known::Type(Some(Type::Map(inner))) => Known::Type(Some(*inner)),
            Known::Custom(schema) => {
                let others = schema.get("additionalProperties").filter(|others| others.is_object());
                schema["properties"].get(name).or(others).map_or(Known::Type(None), Known::Custom)
            }
            Known::Type(_) | Known::List(_) => Known::Type(None),
        }
    }

    fn keys(self) -> Keys<'s> {
        match self {
            Known::List(Some(field)) => Keys::Field(field),
            Known::Custom(schema) => Keys::Custom(schema),
            _ => Keys::Unknown,
        }
    }

    fn item(self) -> Known<'s> {
        match self {
            Known::List(Some(Field { ty: Type::List(inner), .. })) => Known::Type(Some(**inner)),
            Known::Custom(schema) => schema.get("items").map_or(Known::Type(None), Known::Custom),
            _ => Known::Type(None),
        }
    }
}

/// Where a value stands: for people, and in the steps of managed fields. Inside of what is owned as a whole there are no steps.
struct Place {
    text: String,
    steps: Option<Vec<String>>,
}

impl Place {
    fn field(&self, name: &str) -> Place {
        let text = if self.text.is_empty() { name.to_owned() } else { format!("{}.{name}", self.text) };
        let steps = self.steps.clone().map(|mut steps| {
            steps.push(format!("f:{name}"));
            steps
        });
        Place { text, steps }
    }
}

struct Walk<'a> {
    live: Option<&'a Value>,
    found: Vec<FieldChange>,
}

impl Walk<'_> {
    fn compare(&mut self, place: &Place, before: Option<&Value>, after: Option<&Value>, known: Known<'_>) {
        match (before, after) {
            (Some(before), Some(after)) if before == after => {}
            // A Job that is made anew selects its pods by a uid that only the server will know.
            (Some(Value::String(_)), Some(Value::String(new))) if new.is_empty() && place.text.ends_with("controller-uid") => {}
            // Some servers write a time into templates that is never there.
            (Some(Value::Null), None) | (None, Some(Value::Null)) if place.text.ends_with(".creationTimestamp") => {}
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                let new = after.keys().filter(|key| !before.contains_key(*key));
                for key in before.keys().chain(new) {
                    self.compare(&place.field(key), before.get(key), after.get(key), known.inner(key));
                }
            }
            (Some(Value::Array(before)), Some(Value::Array(after))) => self.lists(place, before, after, known),
            // Several secrets in one field: each has a line of its own.
            (None, Some(Value::Object(map))) | (Some(Value::Object(map)), None) if map.values().any(is_hash) => {
                for (key, value) in map {
                    let (old, new) = if before.is_some() { (Some(value), None) } else { (None, Some(value)) };
                    self.compare(&place.field(key), old, new, known.inner(key));
                }
            }
            (before, after) => self.tell(place, before, after),
        }
    }

    fn tell(&mut self, place: &Place, before: Option<&Value>, after: Option<&Value>) {
        let owners = match (&place.steps, self.live) {
            (Some(steps), Some(live)) => apply::owners(live, steps),
            _ => Vec::new(),
        };
        // The latest of the others.
        let owner = owners.into_iter().filter(|owner| owner.manager != crate::applier::MANAGER).max_by(|a, b| a.time.cmp(&b.time));
        self.found.push(FieldChange {
            path: place.text.clone(),
            before: before.cloned(),
            after: after.cloned(),
            sensitive: [before, after].into_iter().flatten().any(holds_hash),
            owner: owner.map(FieldOwner::from),
            forces_replacement: false,
        });
    }

    /// Items with a name are matched by it, others by their place.
    fn lists(&mut self, place: &Place, before: &[Value], after: &[Value], known: Known<'_>) {
        let (old, new) = (labels(before, known.keys()), labels(after, known.keys()));
        let inner = |item: &Value, label: &str| {
            let step = match known.keys() {
                Keys::Field(field) => apply::item_step(field, item),
                Keys::Custom(schema) => apply::custom_item_step(schema, item),
                Keys::Unknown => None,
            };
            // A part of a list that is owned as a whole is owned with it.
            let steps = match (&place.steps, step) {
                (Some(steps), Some(step)) => Some(steps.iter().cloned().chain([step]).collect()),
                (steps, _) => steps.clone(),
            };
            Place { text: format!("{}[{label}]", place.text), steps }
        };
        for (label, item) in new.iter().zip(after) {
            let other = old.iter().position(|old| old == label).map(|index| &before[index]);
            self.compare(&inner(item, label), other, Some(item), known.item());
        }
        for (label, item) in old.iter().zip(before).filter(|(label, _)| !new.contains(*label)) {
            self.compare(&inner(item, label), Some(item), None, known.item());
        }
    }
}

fn holds_hash(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().any(holds_hash),
        Value::Array(items) => items.iter().any(holds_hash),
        value => is_hash(value),
    }
}

/// A name for each item: its merge key, where that tells all of them apart; else its place.
fn labels(items: &[Value], keys: Keys<'_>) -> Vec<String> {
    let (keys, is_set): (Vec<&str>, bool) = match keys {
        Keys::Field(Field { list: ListKind::Map(keys), .. }) => (keys.to_vec(), false),
        Keys::Field(field) => (field.patch.and_then(|patch| patch.key).into_iter().collect(), field.list == ListKind::Set),
        Keys::Custom(schema) => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
            (keys.collect(), schema["x-kubernetes-list-type"] == "set")
        }
        Keys::Unknown => (Vec::new(), false),
    };
    // A value of a set is its own name.
    let of_set = items.iter().map(|item| word(item).filter(|_| is_set)).collect::<Option<Vec<String>>>().filter(|labels| all_different(labels));
    if let Some(labels) = of_set {
        return labels;
    }
    let first: Option<Vec<String>> = items.iter().map(|item| name_of(item, keys.first().copied())).collect();
    let whole = || -> Option<Vec<String>> {
        items
            .iter()
            .map(|item| Some(keys.iter().filter_map(|key| word(item.get(*key)?)).collect::<Vec<_>>().join("/")).filter(|label| !label.is_empty()))
            .collect()
    };
    let places = || (0..items.len()).map(|index| index.to_string()).collect();
    first.filter(|labels| all_different(labels)).or_else(|| whole().filter(|labels| all_different(labels))).unwrap_or_else(places)
}

fn all_different(labels: &[String]) -> bool {
    let set: std::collections::BTreeSet<&String> = labels.iter().collect();
    set.len() == labels.len()
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn name_of(item: &Value, key: Option<&str>) -> Option<String> {
    let usual = ["name", "containerPort", "port", "key", "mountPath", "ip"];
    key.into_iter().chain(usual).find_map(|key| word(item.get(key)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(before: Option<&Value>, after: &Value) -> Vec<FieldChange> {
        changes(before, after, &Key::of([7; 32]), &[])
    }

    #[test]
    fn lists_of_custom_resources_are_matched_by_the_keys_of_their_schema() {
        let entry = json!({"type": "object", "properties": {"zone": {"type": "string"}, "size": {"type": "integer"}}});
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "pools": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["zone"], "items": entry},
            "open": {"type": "array", "items": entry},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}}}});
        let widget = |spec: Value| json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
        let pool = |zone: &str, size: u8| json!({"zone": zone, "size": size});
        let before = widget(json!({"pools": [pool("a", 1), pool("b", 2)], "open": [pool("a", 1)], "tags": ["x", "y"]}));
        let after = widget(json!({"pools": [pool("b", 3), pool("c", 4)], "open": [pool("b", 1)], "tags": ["y", "z"]}));
        let found = changes_by(Some(&before), &after, &Key::of([7; 32]), &[], Some(&schema));
        let paths: Vec<&str> = found.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["spec.pools[b].size", "spec.pools[c]", "spec.pools[a]", "spec.open[0].zone", "spec.tags[z]", "spec.tags[x]"]);
        // Without it, by place.
        assert!(plain(Some(&before), &after).iter().any(|change| change.path == "spec.pools[0].zone"));
    }

    #[test]
    fn list_items_are_matched_by_name_and_server_fields_are_left_out() {
        let before = json!({"kind": "Deployment", "metadata": {"name": "a", "uid": "1", "resourceVersion": "4"}, "spec": {"containers": [{"name": "x", "image": "x:1"}, {"name": "y", "image": "y:1"}]}, "status": {"n": 1}});
        let after =
            json!({"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "y", "image": "y:2"}, {"name": "x", "image": "x:1"}]}});
        let found = plain(Some(&before), &after);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "spec.containers[y].image");
        assert_eq!(found[0].before, Some(json!("y:1")));
        assert_eq!(found[0].after, Some(json!("y:2")));
    }

    #[test]
    fn ports_of_one_number_are_told_apart_by_their_protocol() {
        let service = |node: i64| {
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [
                {"port": 53, "protocol": "TCP", "targetPort": 53}, {"port": 53, "protocol": "UDP", "targetPort": node}]}})
        };
        let found = plain(Some(&service(1)), &service(2));
        assert_eq!(found.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["spec.ports[53/UDP].targetPort"]);
        // So are their owners.
        let port = |protocol: &str| format!("k:{{\"port\":53,\"protocol\":\"{protocol}\"}}");
        let entry = |manager: &str, protocol: &str| json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:ports": {port(protocol): {"f:targetPort": {}}}}}});
        let mut live = service(1);
        live["metadata"]["managedFields"] = json!([entry("of-tcp", "TCP"), entry("of-udp", "UDP")]);
        let found = plain(Some(&live), &service(2));
        assert_eq!(found[0].owner.as_ref().map(|owner| owner.manager.as_str()), Some("of-udp"));
    }

    #[test]
    fn a_change_names_the_other_owner_of_the_field() {
        let fields = json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:args": {}}}}}}});
        let entry = json!({"manager": "kubectl-edit", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-01-02T00:00:00Z", "fieldsV1": fields});
        let object = |replicas: i64, arg: &str| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"managedFields": [entry]},
                "spec": {"replicas": replicas, "paused": arg == "a", "template": {"spec": {"containers": [{"name": "web", "args": [arg]}]}}}})
        };
        let found = plain(Some(&object(1, "a")), &object(2, "b"));
        let owners: Vec<(&str, Option<&str>)> =
            found.iter().map(|change| (change.path.as_str(), change.owner.as_ref().map(|owner| owner.manager.as_str()))).collect();
        let args = "spec.template.spec.containers[web].args[0]";
        assert_eq!(owners, [("spec.replicas", Some("kubectl-edit")), ("spec.paused", None), (args, Some("kubectl-edit"))]);
    }

    #[test]
    fn secrets_never_show_their_values_and_equal_ones_look_equal() {
        let secret = |a: &str, b: &str| json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": a, "b": b}});
        let found = plain(Some(&secret("aHVudGVyMg==", "b3RoZXI=")), &secret("b3RoZXI=", "aHVudGVyMg=="));
        let text = format!("{found:?}");
        assert!(!text.contains("aHVudGVy") && !text.contains("b3RoZXI"), "{text}");
        assert!(found.iter().all(|change| change.sensitive));
        assert_eq!((&found[0].before, &found[0].after), (&found[1].after, &found[1].before), "they were swapped, and that is seen");
        let new = plain(None, &secret("aHVudGVyMg==", "b3RoZXI="));
        assert!(new.iter().any(|change| change.path == "data.a" && change.sensitive), "{new:?}");
    }
}
