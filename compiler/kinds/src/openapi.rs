//! OpenAPI v3 documents of the served groups, from the schema table: what clients need to validate, to explain, and to compute patches.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::KindInfo;
use crate::schema::{Field, ListKind, Message, Type};

mod paths;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const DURATION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Duration";
const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// The document of one group and version with the kinds that are served, or `None` when none is. It is built anew on each call: keep it.
pub fn group_version(group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<&KindInfo> = crate::table().iter().filter(|kind| kind.supported && kind.group == group && kind.version == version).collect();
    if kinds.is_empty() {
        return None;
    }
    let mut components = Components::default();
    for kind in &kinds {
        components.message(kind.schema());
        if let Some(list) = crate::schema::message(&format!("{}List", kind.message)) {
            components.message(list);
        }
    }
    for name in ["DeleteOptions", "Status", "Patch"] {
        if let Some(message) = crate::schema::message(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")) {
            components.message(message);
        }
    }
    let schemas: Map<String, Value> = components.done.into_iter().map(|(name, schema)| (name, schema.unwrap_or_default())).collect();
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "v1.33.0" },
        "paths": paths::paths(&kinds),
        "components": { "schemas": schemas },
    }))
}

/// The name of a group and version in `/openapi/v3`: `api/v1`, `apis/apps/v1`.
pub fn path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Schemas by name; `None` while one is being made, so that recursive messages end.
#[derive(Default)]
struct Components {
    done: BTreeMap<String, Option<Value>>,
}

impl Components {
    fn message(&mut self, message: &'static Message) -> Value {
        let name = message.full_name();
        if !self.done.contains_key(&name) {
            self.done.insert(name.clone(), None);
            let schema = self.object(message, &name);
            self.done.insert(name.clone(), Some(schema));
        }
        reference(&name)
    }

    fn object(&mut self, message: &'static Message, name: &str) -> Value {
        let mut fields: Vec<&Field> = message.fields.iter().collect();
        fields.sort_by_key(|field| field.name);
        let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
        let properties: Map<String, Value> = fields.iter().map(|field| (field.name.to_owned(), self.property(field))).collect();
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), Value::Object(properties));
        }
        if message.atomic {
            schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
        }
        if let Some(kind) = kind_of(name) {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), json!([kind]));
        }
        Value::Object(schema)
    }

    fn property(&mut self, field: &Field) -> Value {
        let mut schema = self.of(field.ty);
        let mut extra = Map::new();
        if let Some(default) = field.default.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            extra.insert("default".to_owned(), default);
        }
        match field.list {
            _ if !matches!(field.ty, Type::List(_)) => {}
            ListKind::Atomic => {
                extra.insert("x-kubernetes-list-type".to_owned(), "atomic".into());
            }
            ListKind::Set => {
                extra.insert("x-kubernetes-list-type".to_owned(), "set".into());
            }
            ListKind::Map(keys) => {
                extra.insert("x-kubernetes-list-map-keys".to_owned(), keys.into());
                extra.insert("x-kubernetes-list-type".to_owned(), "map".into());
            }
        }
        if field.atomic && !matches!(field.ty, Type::List(_)) {
            extra.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
        }
        if let Some(patch) = field.patch {
            if let Some(key) = patch.key {
                extra.insert("x-kubernetes-patch-merge-key".to_owned(), key.into());
            }
            extra.insert("x-kubernetes-patch-strategy".to_owned(), patch.strategy.into());
        }
        // Nothing may stand beside a `$ref`.
        if !extra.is_empty() && schema.get("$ref").is_some() {
            schema = json!({ "allOf": [schema] });
        }
        if let Some(map) = schema.as_object_mut() {
            map.extend(extra);
        }
        schema
    }

    fn of(&mut self, ty: Type) -> Value {
        match ty {
            Type::String => json!({ "type": "string" }),
            Type::Int32 => json!({ "type": "integer", "format": "int32" }),
            Type::Int64 => json!({ "type": "integer", "format": "int64" }),
            Type::Bool => json!({ "type": "boolean" }),
            Type::Double => json!({ "type": "number", "format": "double" }),
            Type::Bytes => json!({ "type": "string", "format": "byte" }),
            Type::JsonUnion => json!({}),
            Type::StringList => json!({ "type": "array", "items": { "type": "string" } }),
            Type::List(inner) => json!({ "type": "array", "items": self.of(*inner) }),
            Type::Map(inner) => json!({ "type": "object", "additionalProperties": self.of(*inner) }),
            Type::Message(id) => self.message(id.get()),
            Type::Quantity => self.named(QUANTITY, || json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] })),
            Type::IntOrString => self.named(INT_OR_STRING, || json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })),
            Type::Time => self.named(TIME, || json!({ "type": "string", "format": "date-time" })),
            Type::MicroTime => self.named(MICRO_TIME, || json!({ "type": "string", "format": "date-time" })),
            Type::Duration => self.named(DURATION, || json!({ "type": "string" })),
            Type::FieldsV1 => self.named(FIELDS_V1, || json!({ "type": "object" })),
            Type::Any => self.named(RAW, || json!({ "type": "object" })),
        }
    }

    fn named(&mut self, name: &str, schema: fn() -> Value) -> Value {
        self.done.entry(name.to_owned()).or_insert_with(|| Some(schema()));
        reference(name)
    }
}

/// The kind that a message is, or is a list of.
fn kind_of(name: &str) -> Option<Value> {
    let row = crate::table().iter().find(|kind| name.strip_prefix(kind.message).is_some_and(|rest| rest.is_empty() || rest == "List"))?;
    let kind = if name == row.message { row.kind } else { row.list_kind };
    Some(json!({ "group": row.group, "version": row.version, "kind": kind }))
}
