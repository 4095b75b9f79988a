//! CustomResourceDefinitions: names, versions, and schemas that are structural.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use serde_json::{Map, Value};

use super::{Findings, Reason, child, items, names, text};
use crate::path::At;
use crate::structural;

/// What only the outermost part of a schema may have, and not those in `allOf` and its like.
const STRUCTURE: [&str; 11] = [
    "type",
    "description",
    "title",
    "default",
    "nullable",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
];
const FORMS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

pub(super) fn definition(root: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let empty = Map::new();
    let (spec, at_spec) = (child(root, "spec").unwrap_or(&empty), at.field("spec"));
    let (group, names) = (text(spec, "group"), child(spec, "names").unwrap_or(&empty));
    let plural = text(names, "plural");
    if !plural.is_empty() && !group.is_empty() && text(child(root, "metadata").unwrap_or(&empty), "name") != format!("{plural}.{group}") {
        let name = text(child(root, "metadata").unwrap_or(&empty), "name");
        let message = format!("must be spec.names.plural+\".\"+spec.group: {plural}.{group}");
        findings.invalid(&at.field("metadata").field("name"), name, message);
    }
    let at_group = at_spec.field("group");
    match group {
        "" => findings.required(&at_group, "the API group must be given"),
        group if !group.contains('.') => findings.invalid(&at_group, group, "should be a domain with at least one dot"),
        group => findings.check(&at_group, group, names::dns_subdomain),
    }
    findings.one_of(&at_spec.field("scope"), text(spec, "scope"), &["Cluster", "Namespaced"]);
    named(names, &at_spec.field("names"), findings);
    versions(spec, &at_spec, findings);
}

fn named(names: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    for field in ["plural", "kind"] {
        if text(names, field).is_empty() {
            findings.required(&at.field(field), "");
        }
    }
    for field in ["plural", "singular"] {
        let name = text(names, field);
        if !name.is_empty() {
            findings.check(&at.field(field), name, names::dns_label_1035);
        }
    }
    // Kinds have capitals, and are else written as names are.
    for field in ["kind", "listKind"] {
        let name = text(names, field);
        if let Err(message) = names::dns_label_1035(&name.to_lowercase())
            && !name.is_empty()
        {
            findings.invalid(&at.field(field), name, message);
        }
    }
    if !text(names, "kind").is_empty() && text(names, "kind") == text(names, "listKind") {
        findings.invalid(&at.field("listKind"), text(names, "listKind"), "kind and listKind may not be the same");
    }
}

fn versions(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("versions");
    let mut stored = 0;
    let mut seen: Vec<&str> = Vec::new();
    let mut count = 0;
    for (index, version) in items(spec, "versions") {
        count += 1;
        let at = at.index(index);
        let name = text(version, "name");
        findings.check(&at.field("name"), name, names::dns_label_1035);
        if seen.contains(&name) {
            findings.invalid(&at.field("name"), name, "must contain unique version names");
        }
        seen.push(name);
        stored += usize::from(version.get("storage") == Some(&Value::Bool(true)));
        let at_schema = at.field("schema");
        match child(version, "schema").and_then(|schema| schema.get("openAPIV3Schema")).filter(|schema| schema.is_object()) {
            Some(schema) => root_schema(schema, &at_schema.field("openAPIV3Schema"), findings),
            None if spec.get("preserveUnknownFields") == Some(&Value::Bool(true)) => {}
            None => findings.required(&at_schema.field("openAPIV3Schema"), "schemas are required"),
        }
    }
    match (count, stored) {
        (0, _) => findings.required(&at, "must have exactly one version marked as storage version"),
        (_, 1) => {}
        _ => findings.add(&at, Reason::Invalid, None, format!("must have exactly one version marked as storage version, {stored} are")),
    }
}

fn root_schema(schema: &Value, at: &At<'_>, findings: &mut Findings) {
    match schema["type"].as_str().unwrap_or_default() {
        "object" => {}
        "" => findings.required(&at.field("type"), "must not be empty at the root"),
        other => findings.invalid(&at.field("type"), other, "must be object at the root"),
    }
    structure(schema, at, true, findings);
}

/// One part of a schema and what is below it.
fn structure(schema: &Value, at: &At<'_>, root: bool, findings: &mut Findings) {
    let either = schema["x-kubernetes-int-or-string"] == true;
    let kind = schema["type"].as_str().unwrap_or_default();
    let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
    match kind {
        _ if root => {}
        "" if !either && !free => findings.required(&at.field("type"), "must not be empty for a field or an item"),
        "" | "object" | "array" | "string" | "integer" | "number" | "boolean" if either && !kind.is_empty() => {
            findings.invalid(&at.field("type"), kind, "must be empty when x-kubernetes-int-or-string is true");
        }
        "" | "object" | "array" | "string" | "integer" | "number" | "boolean" => {}
        other => findings.one_of(&at.field("type"), other, &["array", "boolean", "integer", "number", "object", "string"]),
    }
    ruled_out(schema, at, findings);
    if kind == "array" && !schema["items"].is_object() {
        findings.required(&at.field("items"), "must be specified");
    }
    if root || schema["x-kubernetes-embedded-resource"] == true {
        own_metadata(schema, at, findings);
    }
    lists(schema, kind, at, findings);
    if let Some(pattern) = schema["pattern"].as_str()
        && structural::unreadable(pattern)
    {
        findings.invalid(&at.field("pattern"), pattern, "must be a regular expression");
    }
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        let found = structural::part(default, schema);
        for error in found.fields {
            findings.add(&at.field("default"), Reason::Invalid, None, error.server_message());
        }
        for error in found.invalid {
            findings.add(&at.field("default"), Reason::Invalid, Some(default.clone()), error.to_string());
        }
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let own = root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        let at = at.field("properties");
        structure_of(below, &at.key(name), own, findings);
    }
    for field in ["items", "additionalProperties"] {
        if let Some(below) = schema.get(field).filter(|below| below.is_object()) {
            structure(below, &at.field(field), false, findings);
        }
    }
    for field in FORMS {
        for (index, form) in schema[field].as_array().into_iter().flatten().enumerate() {
            form_of(form, either, &at.field(field).index(index), findings);
        }
    }
    if let Some(form) = schema.get("not").filter(|form| form.is_object()) {
        form_of(form, false, &at.field("not"), findings);
    }
}

/// A field of a schema; those that every object has may go without a type of their own.
fn structure_of(schema: &Value, at: &At<'_>, own: bool, findings: &mut Findings) {
    structure(schema, at, own && schema["type"].is_null(), findings);
}

/// What structural schemas never have.
fn ruled_out(schema: &Value, at: &At<'_>, findings: &mut Findings) {
    for field in ["$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id"] {
        if schema.get(field).is_some_and(|value| !value.is_null()) {
            findings.forbidden(&at.field(field), format!("{field} is not supported"));
        }
    }
    if schema["uniqueItems"] == true {
        findings.forbidden(&at.field("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
    }
    if schema["additionalProperties"] == false {
        findings.forbidden(&at.field("additionalProperties"), "additionalProperties cannot be set to false");
    }
    if schema["additionalProperties"].is_object() && schema["properties"].as_object().is_some_and(|properties| !properties.is_empty()) {
        findings.forbidden(&at.field("additionalProperties"), "additionalProperties and properties are mutual exclusive");
    }
}

fn own_metadata(schema: &Value, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("properties");
    let properties = schema["properties"]["metadata"]["properties"].as_object().into_iter().flatten();
    for (name, _) in properties.filter(|(name, _)| !matches!(name.as_str(), "name" | "generateName")) {
        let message = format!("must not specify anything other than name and generateName, but metadata is implicitly specified; `{name}` is");
        findings.forbidden(&at.key("metadata"), message);
    }
}

fn lists(schema: &Value, kind: &str, at: &At<'_>, findings: &mut Findings) {
    let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let at_type = at.field("x-kubernetes-list-type");
    match schema["x-kubernetes-list-type"].as_str() {
        None if !keys.is_empty() => findings.required(&at_type, "must be map when x-kubernetes-list-map-keys is given"),
        None => {}
        Some(_) if kind != "array" => {
            findings.add(&at.field("type"), Reason::Invalid, Some(kind.into()), "must be array if x-kubernetes-list-type is specified")
        }
        Some("map") if keys.is_empty() => findings.required(&at.field("x-kubernetes-list-map-keys"), "must not be empty if x-kubernetes-list-type is map"),
        Some("map") => {
            let of = &schema["items"];
            for key in keys {
                let there = !of["properties"][key].is_null();
                let given = of["required"].as_array().is_some_and(|names| names.iter().any(|name| name == key)) || !of["properties"][key]["default"].is_null();
                let at = at.field("items");
                if !there {
                    findings.invalid(&at.field("properties"), key, "entries of x-kubernetes-list-map-keys must all be names of item properties");
                } else if !given {
                    findings.required(
                        &at.field("properties").key(key).field("default"),
                        "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                    );
                }
            }
        }
        Some(other) => findings.one_of(&at_type, other, &["atomic", "set", "map"]),
    }
}

/// A part of `allOf` and its like: it says what values are possible, and nothing about structure.
fn form_of(form: &Value, either: bool, at: &At<'_>, findings: &mut Findings) {
    for field in STRUCTURE {
        // How an integer or a string is said for other tools.
        let usual = field == "type" && either;
        if !usual && form.get(field).is_some_and(|value| !value.is_null()) {
            findings.forbidden(&at.field(field), "must be empty to be structural");
        }
    }
    for (name, below) in form["properties"].as_object().into_iter().flatten() {
        let at = at.field("properties");
        form_of(below, false, &at.key(name), findings);
    }
    if let Some(below) = form.get("items").filter(|below| below.is_object()) {
        form_of(below, false, &at.field("items"), findings);
    }
    for field in FORMS {
        for (index, below) in form[field].as_array().into_iter().flatten().enumerate() {
            form_of(below, either, &at.field(field).index(index), findings);
        }
    }
}
