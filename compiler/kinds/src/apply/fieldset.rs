//! Sets of fields, in the form that `metadata.managedFields` keeps them (`FieldsV1`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A set of field paths as a tree. A step is in its wire form: `f:name`, `k:{"name":"x"}`, `v:"text"`, `i:0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// This path itself is in the set.
    pub(super) member: bool,
    /// Longer paths.
    pub(super) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Reads `FieldsV1`. What is not an object is an empty set.
    pub fn from_fields(fields: &Value) -> Self {
        let mut set = FieldSet::default();
        for (step, inner) in fields.as_object().into_iter().flatten() {
            if step == "." {
                set.member = true;
            } else {
                let mut child = FieldSet::from_fields(inner);
                // A path without longer ones is in the set: that is why it is written.
                child.member |= child.children.is_empty();
                set.children.insert(step.clone(), child);
            }
        }
        set
    }

    /// Writes `FieldsV1`.
    pub fn to_fields(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            map.insert(step.clone(), child.to_fields());
        }
        Value::Object(map)
    }

    /// True when no path is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(FieldSet::is_empty)
    }

    /// The paths of either.
    pub fn extend(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().extend(child);
        }
    }

    /// The paths of both.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let children = self.children.iter().filter_map(|(step, child)| {
            let common = child.intersection(other.children.get(step)?);
            (!common.is_empty()).then(|| (step.clone(), common))
        });
        FieldSet { member: self.member && other.member, children: children.collect() }
    }

    /// Takes the paths of `other` out.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        for (step, gone) in &other.children {
            if let Some(child) = self.children.get_mut(step) {
                child.subtract(gone);
            }
        }
        self.children.retain(|_, child| !child.is_empty());
    }

    /// Takes a path and all longer ones out.
    pub fn remove(&mut self, steps: &[&str]) {
        match steps {
            [] => *self = FieldSet::default(),
            [last] => {
                self.children.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*first) {
                    child.remove(rest);
                    if child.is_empty() {
                        self.children.remove(*first);
                    }
                }
            }
        }
    }

    /// Takes only the path itself out, not the longer ones.
    pub(super) fn forget(&mut self, step: &str) {
        if let Some(child) = self.children.get_mut(step) {
            child.member = false;
            if child.is_empty() {
                self.children.remove(step);
            }
        }
    }

    pub(super) fn child(&mut self, step: String) -> &mut FieldSet {
        self.children.entry(step).or_default()
    }

    /// The paths as people read them: `.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect(&mut String::new(), &mut out);
        out
    }

    fn collect(&self, at: &mut String, out: &mut Vec<String>) {
        if self.member {
            out.push(at.clone());
        }
        for (step, child) in &self.children {
            let length = at.len();
            write_step(at, step);
            child.collect(at, out);
            at.truncate(length);
        }
    }
}

impl FieldSet {
    /// The paths, as people read them and in steps.
    pub(super) fn leaves(&self) -> Vec<(String, Vec<String>)> {
        let mut out = Vec::new();
        self.gather(&mut String::new(), &mut Vec::new(), &mut out);
        out
    }

    fn gather(&self, at: &mut String, steps: &mut Vec<String>, out: &mut Vec<(String, Vec<String>)>) {
        if self.member {
            out.push((at.clone(), steps.clone()));
        }
        for (step, child) in &self.children {
            let length = at.len();
            write_step(at, step);
            steps.push(step.clone());
            child.gather(at, steps, out);
            steps.pop();
            at.truncate(length);
        }
    }

    /// Whether the path is in the set, or a longer one, or a whole that it is a part of.
    pub(super) fn covers(&self, steps: &[String]) -> bool {
        match steps.split_first() {
            None => !self.is_empty(),
            Some((first, rest)) => match self.children.get(first) {
                Some(child) => child.covers(rest),
                None => self.member && self.children.is_empty(),
            },
        }
    }
}

fn write_step(out: &mut String, step: &str) {
    let (form, rest) = step.split_once(':').unwrap_or(("f", step));
    // Writing to a string does not fail.
    let _ = match form {
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let shown: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
            write!(out, "[{}]", shown.join(","))
        }
        "v" => write!(out, "[={rest}]"),
        "i" => write!(out, "[{rest}]"),
        _ => write!(out, ".{rest}"),
    };
}
