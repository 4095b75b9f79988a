//! The entries of `metadata.managedFields`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fieldset::FieldSet;
use super::owners::Owner;
use super::{Conflict, Writer};

/// More entries of updates than this are folded into one.
const MOST_UPDATES: usize = 10;
const FOLDED: &str = "ancient-changes";

/// How a manager owns its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    name: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    pub(super) time: Option<String>,
    pub(super) fields: FieldSet,
}

impl Manager {
    pub(super) fn new(writer: &Writer<'_>, operation: Operation, api_version: &str) -> Self {
        Manager {
            name: writer.manager.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: None,
            fields: FieldSet::default(),
        }
    }

    pub(super) fn unknown(name: &str, api_version: &str, fields: FieldSet) -> Self {
        Manager { name: name.to_owned(), operation: Operation::Update, api_version: api_version.to_owned(), subresource: String::new(), time: None, fields }
    }

    pub(super) fn owning(self, fields: FieldSet, time: Option<String>) -> Self {
        Manager { fields, time, ..self }
    }

    /// The same owner: one who applies is the same in any version.
    pub(super) fn is(&self, other: &Manager) -> bool {
        let version = self.operation == Operation::Apply || self.api_version == other.api_version;
        self.name == other.name && self.operation == other.operation && self.subresource == other.subresource && version
    }

    pub(super) fn conflict(&self, fields: Vec<String>) -> Conflict {
        Conflict {
            manager: self.name.clone(),
            operation: self.operation.text(),
            api_version: self.api_version.clone(),
            subresource: self.subresource.clone(),
            time: self.time.clone(),
            fields,
        }
    }

    pub(super) fn owner(&self) -> Owner {
        Owner {
            manager: self.name.clone(),
            operation: self.operation.text(),
            subresource: self.subresource.clone(),
            api_version: self.api_version.clone(),
            time: self.time.clone(),
        }
    }

    fn read(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match entry.get("operation")?.as_str()? {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Manager {
            name: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
            fields: FieldSet::from_fields(entry.get("fieldsV1").unwrap_or(&Value::Null)),
        })
    }

    fn write(&self) -> Value {
        let mut entry = Map::new();
        entry.insert("manager".to_owned(), self.name.clone().into());
        entry.insert("operation".to_owned(), self.operation.text().into());
        entry.insert("apiVersion".to_owned(), self.api_version.clone().into());
        if let Some(time) = &self.time {
            entry.insert("time".to_owned(), time.clone().into());
        }
        entry.insert("fieldsType".to_owned(), "FieldsV1".into());
        entry.insert("fieldsV1".to_owned(), self.fields.to_fields());
        if !self.subresource.is_empty() {
            entry.insert("subresource".to_owned(), self.subresource.clone().into());
        }
        Value::Object(entry)
    }
}

/// A time as entries have it: to the second.
pub(super) fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Takes the entries out of an object. Entries that cannot be read are dropped.
pub(super) fn take(object: &mut Value) -> Vec<Manager> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let entries = metadata.and_then(|metadata| metadata.shift_remove("managedFields"));
    entries.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Manager::read).collect()
}

/// Writes the entries into an object: those who apply first, then by time and name.
pub(super) fn put(object: &mut Value, mut managers: Vec<Manager>) {
    managers.sort_by(|a, b| {
        let key = |manager: &Manager| (manager.operation, manager.time.clone(), manager.name.clone(), manager.api_version.clone(), manager.subresource.clone());
        key(a).cmp(&key(b))
    });
    let entries: Vec<Value> = managers.iter().map(Manager::write).collect();
    let Some(root) = object.as_object_mut() else { return };
    let metadata = root.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut()
        && !entries.is_empty()
    {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// True when both have the same owners with the same fields.
pub(super) fn same(one: &[Manager], other: &[Manager]) -> bool {
    one.len() == other.len() && one.iter().all(|a| other.iter().any(|b| a.is(b) && a.fields == b.fields))
}

/// Folds the oldest updates into one entry.
pub(super) fn cap(managers: &mut Vec<Manager>) {
    let mut updates: Vec<usize> = (0..managers.len()).filter(|index| managers[*index].operation == Operation::Update).collect();
    if updates.len() <= MOST_UPDATES {
        return;
    }
    updates.sort_by_key(|index| managers[*index].time.clone());
    let oldest = &updates[..=updates.len() - MOST_UPDATES];
    let mut folded = Manager::unknown(FOLDED, &managers[oldest[0]].api_version, FieldSet::default());
    for index in oldest {
        folded.time = folded.time.max(managers[*index].time.clone());
        folded.fields.extend(&managers[*index].fields);
        managers[*index].fields = FieldSet::default();
    }
    managers.retain(|manager| !manager.fields.is_empty());
    managers.push(folded);
}
