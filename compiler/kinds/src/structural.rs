//! Custom resources by the structural schema of their CustomResourceDefinition (`apiextensions.k8s.io/v1`), as an API server treats them on a write: nulls are
//! pruned and defaults filled in, unknown fields are found, values are checked, and rules in CEL are evaluated as far as it is known here what they mean.
//!
//! A schema is read as the JSON that it is: it is walked beside the object, once.

mod defaults;
mod formats;
mod rules;
mod walk;

use serde_json::Value;

pub use defaults::fill;

use crate::decode::FieldError;
use crate::path::FieldPath;
use crate::validate::Invalid;

/// What a CustomResourceDefinition says.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// API group.
    pub group: String,
    /// Kind of its objects.
    pub kind: String,
    /// Resource name, as in URLs.
    pub plural: String,
    /// Its objects live in namespaces.
    pub namespaced: bool,
    /// In the order in which they were written.
    pub versions: Vec<Version>,
}

/// One version of a [`Definition`].
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// `v1`.
    pub name: String,
    /// The API serves it.
    pub served: bool,
    /// Its structural schema.
    pub schema: Option<Value>,
}

impl Definition {
    /// What an object of the kind CustomResourceDefinition says; `None` when it is none, or lacks what names its kind.
    pub fn of(object: &Value) -> Option<Definition> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let is_one = object["kind"] == "CustomResourceDefinition" && object["apiVersion"].as_str()?.starts_with("apiextensions.k8s.io/");
        is_one.then_some(())?;
        let versions = object.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
        let version = |version: &Value| {
            let schema = version.pointer("/schema/openAPIV3Schema").filter(|schema| schema.is_object()).cloned();
            Some(Version { name: version["name"].as_str()?.to_owned(), served: version["served"] != false, schema })
        };
        Some(Definition {
            group: text("/spec/group")?,
            kind: text("/spec/names/kind")?,
            plural: text("/spec/names/plural")?,
            namespaced: text("/spec/scope").as_deref() != Some("Cluster"),
            versions: versions.filter_map(version).collect(),
        })
    }

    /// The version of that name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }
}

/// What is wrong with a custom resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Unknown fields, wrong types, what is missing.
    pub fields: Vec<FieldError>,
    /// Values that are not possible.
    pub invalid: Vec<Invalid>,
    /// Rules that only the server can evaluate.
    pub left: Vec<Left>,
}

/// A rule of a schema that was not evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The field that it is about.
    pub path: FieldPath,
    /// The expression.
    pub rule: String,
    /// Why.
    pub why: String,
}

/// Whether a pattern is none that can be read.
pub(crate) fn unreadable(pattern: &str) -> bool {
    // What only this reader does not know (it has no look-around, as the server's has none) is told too.
    walk::pattern(pattern).is_none()
}

/// What is wrong with a value of a part of a schema, such as its own default.
pub(crate) fn part(value: &Value, schema: &Value) -> Found {
    let mut filled = value.clone();
    fill(&mut filled, schema);
    walk::part(&filled, schema)
}

/// Everything in a custom resource that its schema does not allow. The metadata's own rules are those of every object: [`crate::validate::object`].
pub fn check(object: &Value, schema: &Value) -> Found {
    let mut filled = object.clone();
    fill(&mut filled, schema);
    walk::check(&filled, None, schema)
}

/// The same for an object in place of another one: rules about a change (`oldSelf`) are evaluated too, where it is known which value was there before: fields, keys of
/// maps, and items of lists that are told apart by keys.
pub fn check_change(old: &Value, object: &Value, schema: &Value) -> Found {
    let filled = |object: &Value| {
        let mut filled = object.clone();
        fill(&mut filled, schema);
        filled
    };
    walk::check(&filled(object), Some(&filled(old)), schema)
}

/// The schemas of these objects that define kinds: by group, version and kind.
pub fn schemas<'a>(objects: impl Iterator<Item = &'a Value>) -> std::collections::BTreeMap<(String, String, String), Value> {
    let definitions = objects.filter_map(Definition::of);
    let each = definitions.flat_map(|definition| {
        let (group, kind) = (definition.group, definition.kind);
        definition.versions.into_iter().filter_map(move |version| Some(((group.clone(), version.name, kind.clone()), version.schema?)))
    });
    each.collect()
}
