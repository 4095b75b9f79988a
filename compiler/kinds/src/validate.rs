//! Validation, as an API server does it after defaulting: everything in an object that a server would refuse, with the place of each.

use std::fmt;

use serde_json::{Map, Value};

use crate::KindInfo;
use crate::path::{At, FieldPath};

mod container;
mod definition;
pub mod job;
mod meta;
pub mod names;
mod placement;
mod pod;
mod probe;
mod security;
mod selector;
mod service;
pub mod sync;
mod update;
mod workload;

pub use update::update;

/// One thing that a server would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field.
    pub path: FieldPath,
    /// What kind of mistake it is.
    pub reason: Reason,
    /// The value found, where showing it helps.
    pub value: Option<Value>,
    /// What is wrong and what is expected.
    pub message: String,
}

/// The kinds of mistakes, as `Status` causes name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Must be given.
    Required,
    /// Has a value that is not possible.
    Invalid,
    /// Is there twice.
    Duplicate,
    /// Is not one of the possible values.
    NotSupported,
    /// May not be given here.
    Forbidden,
    /// Is longer than allowed.
    TooLong,
    /// Names something that is not there.
    NotFound,
}

impl Reason {
    /// The word of `details.causes[].reason`.
    pub fn cause(self) -> &'static str {
        match self {
            Reason::Required => "FieldValueRequired",
            Reason::Invalid => "FieldValueInvalid",
            Reason::Duplicate => "FieldValueDuplicate",
            Reason::NotSupported => "FieldValueNotSupported",
            Reason::Forbidden => "FieldValueForbidden",
            Reason::TooLong => "FieldValueTooLong",
            Reason::NotFound => "FieldValueNotFound",
        }
    }
}

impl Invalid {
    /// The finding without its field, as `details.causes[].message` has it.
    pub fn cause_message(&self) -> String {
        let what = match self.reason {
            Reason::Required => "Required value",
            Reason::Invalid => "Invalid value",
            Reason::Duplicate => "Duplicate value",
            Reason::NotSupported => "Unsupported value",
            Reason::Forbidden => "Forbidden",
            Reason::TooLong => "Too long",
            Reason::NotFound => "Not found",
        };
        let value = match &self.value {
            Some(value) => format!(": {value}"),
            None => String::new(),
        };
        if self.message.is_empty() { format!("{what}{value}") } else { format!("{what}{value}: {}", self.message) }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.cause_message())
    }
}

/// Everything that a server would refuse in a new object of this kind. Defaults must have been applied.
pub fn object(object: &Value, kind: &KindInfo) -> Vec<Invalid> {
    let mut findings = Findings::default();
    let Some(root) = object.as_object() else { return Vec::new() };
    let at = At::root();
    meta::metadata(root, kind, &at, &mut findings);
    let spec_at = at.field("spec");
    let spec = root.get("spec").and_then(Value::as_object);
    match (kind.group, kind.kind) {
        ("", "Pod") => match spec {
            Some(spec) => pod::spec(spec, &spec_at, &mut findings),
            None => findings.required(&spec_at, "a pod needs containers"),
        },
        ("apps", "Deployment" | "ReplicaSet") => match spec {
            Some(spec) => workload::spec(spec, kind.kind, &spec_at, &mut findings),
            None => findings.required(&spec_at, "a selector and a template must be given"),
        },
        ("", "Service") => match spec {
            Some(spec) => service::spec(spec, &spec_at, &mut findings),
            None => findings.required(&spec_at, "ports or an external name must be given"),
        },
        ("batch", "Job") => job::job(root, &mut findings),
        ("batch", "CronJob") => job::cron_job(root, &mut findings),
        ("", "ConfigMap") => meta::config_map(root, &at, &mut findings),
        ("", "Secret") => meta::secret(root, &at, &mut findings),
        ("", "Event") => meta::event(root, &at, &mut findings),
        ("discovery.k8s.io", "EndpointSlice") => service::endpoint_slice(root, &at, &mut findings),
        ("", "Node") => pod::taints(spec, &spec_at, &mut findings),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition::definition(root, &at, &mut findings),
        ("strake.dev", "Sync") => match spec {
            Some(spec) => sync::spec(spec, &spec_at, &mut findings),
            None => findings.required(&spec_at, "the address of a git repository must be given in url"),
        },
        ("coordination.k8s.io", "Lease") => meta::lease(spec, &spec_at, &mut findings),
        _ => {}
    }
    findings.0
}

/// Findings as they are made.
#[derive(Default)]
pub(crate) struct Findings(Vec<Invalid>);

impl Findings {
    fn add(&mut self, at: &At<'_>, reason: Reason, value: Option<Value>, message: impl Into<String>) {
        self.0.push(Invalid { path: at.path(), reason, value, message: message.into() });
    }

    fn required(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.add(at, Reason::Required, None, message);
    }

    fn invalid(&mut self, at: &At<'_>, value: impl Into<Value>, message: impl Into<String>) {
        self.add(at, Reason::Invalid, Some(value.into()), message);
    }

    fn duplicate(&mut self, at: &At<'_>, value: impl Into<Value>) {
        self.add(at, Reason::Duplicate, Some(value.into()), "");
    }

    fn not_supported(&mut self, at: &At<'_>, value: impl Into<Value>, message: impl Into<String>) {
        self.add(at, Reason::NotSupported, Some(value.into()), message);
    }

    fn forbidden(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.add(at, Reason::Forbidden, None, message);
    }

    fn too_long(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.add(at, Reason::TooLong, None, message);
    }

    /// The value must be one of a few; an empty one is required.
    fn one_of(&mut self, at: &At<'_>, value: &str, allowed: &[&str]) {
        if value.is_empty() {
            self.required(at, format!("one of {} must be given", allowed.join(", ")));
        } else if !allowed.contains(&value) {
            let near = strake_source::nearest(value, allowed.iter().copied()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            self.add(at, Reason::NotSupported, Some(value.into()), format!("expected one of {}{near}", allowed.join(", ")));
        }
    }

    /// Runs one of the checks of [`names`].
    fn check(&mut self, at: &At<'_>, value: &str, check: fn(&str) -> Result<(), String>) {
        if let Err(message) = check(value) {
            self.invalid(at, value, message);
        }
    }

    fn not_negative(&mut self, at: &At<'_>, value: Option<i64>) {
        if let Some(number) = value.filter(|number| *number < 0) {
            self.invalid(at, number, "must not be negative");
        }
    }
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(map: &Map<String, Value>, name: &str) -> Option<i64> {
    map.get(name).and_then(Value::as_i64)
}

fn child<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    map.get(name).and_then(Value::as_object)
}

/// The objects of a list with their places.
fn items<'a>(map: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = (usize, &'a Map<String, Value>)> + use<'a> {
    let list = map.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
    list.filter_map(|(index, item)| Some((index, item.as_object()?)))
}
