//! Blocks of bake files to targets and groups: names, matrices, attributes.

use std::collections::BTreeMap;

use strake_source::{Diagnostic, Span};

use crate::body::{Attribute, Block, Body};
use crate::entry::{Agent, Entry, EntryKind, Secret};
use crate::expr::{Eval, Scope, wrong};
use crate::names::{Definitions, Named, unknown_attributes};
use crate::target::{Group, Target};
use crate::value::Value;

/// The attributes of a target.
pub(crate) const TARGET: [&str; 31] = [
    "inherits",
    "name",
    "matrix",
    "description",
    "annotations",
    "args",
    "attest",
    "cache-from",
    "cache-to",
    "call",
    "context",
    "contexts",
    "dockerfile",
    "dockerfile-inline",
    "entitlements",
    "extra-hosts",
    "labels",
    "network",
    "no-cache",
    "no-cache-filter",
    "output",
    "platforms",
    "policy",
    "pull",
    "resources",
    "secret",
    "shm-size",
    "ssh",
    "tags",
    "target",
    "ulimits",
];
/// The attributes of a group.
pub(crate) const GROUP: [&str; 2] = ["targets", "description"];
/// The keys of `resources`.
pub(crate) const RESOURCES: [&str; 7] = ["memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems"];
/// One block does not become more targets.
const MOST_TARGETS: usize = 1024;

/// Letters, digits, `_` and `-`.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// What the blocks of a bake file are, in the order written.
pub(crate) struct Decoded {
    pub(crate) targets: Vec<Target>,
    pub(crate) groups: Vec<Group>,
}

/// Finds the names of all targets and groups, then what they set.
pub(crate) fn decode<'a>(definitions: &mut Definitions<'a>, body: &'a Body<'a>, diagnostics: &mut Vec<Diagnostic>) -> Decoded {
    let mut decoded = Decoded { targets: Vec::new(), groups: Vec::new() };
    let mut all = Vec::new();
    for block in body.blocks.iter().filter(|block| matches!(block.kind, "target" | "group")) {
        let known: &[&str] = if block.kind == "target" { &TARGET } else { &GROUP };
        unknown_attributes(block, known, diagnostics);
        for inner in &block.blocks {
            let message = format!("a {} has no block `{}`", block.kind, inner.kind);
            diagnostics.push(Diagnostic::error("bake-unknown-block", message).at(inner.span).help(format!("write `{} = {{ … }}` for a map", inner.kind)));
        }
        match expand(definitions, block) {
            Ok(named) => {
                if named.iter().any(|one| one.name != block.label) || named.len() > 1 {
                    let targets: Vec<String> = named.iter().map(|one| one.name.clone()).collect();
                    match decoded.groups.iter_mut().find(|group| group.name == block.label) {
                        Some(group) => group.targets.extend(targets),
                        None => decoded.groups.push(Group { name: block.label.to_owned(), span: Some(block.span), description: String::new(), targets }),
                    }
                }
                all.extend(named);
            }
            Err(finding) => diagnostics.push(*finding),
        }
    }
    definitions.blocks = all;
    for named in &definitions.blocks {
        let mut reader = Reader { definitions, named, scope: Scope { parent: None, values: named.matrix.clone() }, diagnostics };
        if named.block.kind == "group" {
            let group = reader.group();
            decoded.groups.push(group);
        } else {
            let target = reader.target();
            decoded.targets.push(target);
        }
    }
    decoded
}

/// The targets that a block becomes: one, or one for each combination of its matrix.
fn expand<'a>(definitions: &Definitions<'a>, block: &'a Block<'a>) -> Eval<Vec<Named<'a>>> {
    if !is_name(block.label) {
        return wrong("bake-name", format!("`{}` is no name: letters, digits, `_` and `-` are", block.label), block.span);
    }
    let alone = || vec![Named { name: block.label.to_owned(), block, matrix: BTreeMap::new() }];
    if block.kind == "group" {
        return Ok(alone());
    }
    let Some(matrix) = block.get("matrix") else {
        return match block.get("name") {
            None => Ok(alone()),
            Some(name) => wrong("bake-name", "`name` is for targets with a matrix: this one is called by its label", name.name_span),
        };
    };
    let combinations = combinations(definitions, matrix)?;
    let name = block.get("name");
    if name.is_none() && combinations.len() > 1 {
        return wrong("bake-name", format!("the matrix gives {} targets of one name: set `name` with its variables", combinations.len()), matrix.name_span);
    }
    let mut found: Vec<Named<'a>> = Vec::new();
    for values in combinations {
        let scope = Scope { parent: None, values };
        let name = match name {
            None => block.label.to_owned(),
            Some(name) => {
                let value = name.value.value(definitions, &scope)?;
                let text = value.to_text().filter(|text| is_name(text));
                text.map_or_else(|| wrong("bake-name", not_a_name(&value), name.value.span()), Ok)?
            }
        };
        if found.iter().any(|other| other.name == name) {
            return wrong(
                "bake-name",
                format!("the matrix gives two targets the name `{name}`"),
                block.get("name").map_or(matrix.name_span, |name| name.value.span()),
            );
        }
        found.push(Named { name, block, matrix: scope.values });
    }
    Ok(found)
}

fn not_a_name(value: &Value) -> String {
    match value.to_text() {
        Some(text) => format!("`{text}` is no name of a target: letters, digits, `_` and `-` are (`sanitize` replaces others)"),
        None => format!("a target's name is text, and this is {}", value.kind()),
    }
}

fn combinations(definitions: &Definitions<'_>, matrix: Attribute<'_>) -> Eval<Vec<BTreeMap<String, Value>>> {
    let Value::Object(axes) = matrix.value.value(definitions, &Scope::default())? else {
        return wrong("bake-value", "a matrix is an object of lists", matrix.value.span());
    };
    let mut all: Vec<BTreeMap<String, Value>> = vec![BTreeMap::new()];
    for (axis, values) in axes {
        let Value::List(values) = values else {
            return wrong("bake-value", format!("`{axis}` of a matrix is a list, and this is {}", values.kind()), matrix.value.entry_span(&axis));
        };
        if all.len().saturating_mul(values.len()) > MOST_TARGETS {
            return wrong("bake-value", format!("the matrix gives more than {MOST_TARGETS} targets"), matrix.name_span);
        }
        let with = |value: &Value| {
            let longer =
                |row: &BTreeMap<String, Value>| row.iter().map(|(key, value)| (key.clone(), value.clone())).chain([(axis.clone(), value.clone())]).collect();
            all.iter().map(longer).collect::<Vec<BTreeMap<String, Value>>>()
        };
        all = values.iter().flat_map(with).collect();
    }
    Ok(all)
}

/// Reads the attributes of one target or group; what is wrong is reported and left out.
struct Reader<'r, 'a> {
    definitions: &'r Definitions<'a>,
    named: &'r Named<'a>,
    scope: Scope<'r>,
    diagnostics: &'r mut Vec<Diagnostic>,
}

impl<'a> Reader<'_, 'a> {
    /// An attribute's value with where it stands; nothing when it is not set, null or wrong.
    fn value(&mut self, name: &str) -> Option<(Value, Attribute<'a>)> {
        let attribute = self.named.block.get(name)?;
        match attribute.value.value(self.definitions, &self.scope) {
            Ok(Value::Null) => None,
            Ok(value) => Some((value, attribute)),
            Err(finding) => {
                self.diagnostics.push(*finding);
                None
            }
        }
    }

    fn wrong(&mut self, message: String, span: Span) {
        self.diagnostics.push(Diagnostic::error("bake-value", message).at(span));
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let (value, attribute) = self.value(name)?;
        let text = value.to_text();
        if text.is_none() {
            self.wrong(format!("`{name}` is text, and this is {}", value.kind()), attribute.value.span());
        }
        text
    }

    fn truth(&mut self, name: &str) -> Option<bool> {
        let (value, attribute) = self.value(name)?;
        let truth = value.to_bool();
        if truth.is_none() {
            self.wrong(format!("`{name}` is true or false, and this is {}", value.kind()), attribute.value.span());
        }
        truth
    }

    /// Reads each element of a list. Elements that are empty texts are left out.
    fn list<T>(&mut self, name: &str, read: impl Fn(&Value) -> Result<T, String>) -> Option<Vec<T>> {
        let (value, attribute) = self.value(name)?;
        let Value::List(items) = value else {
            self.wrong(format!("`{name}` is a list, and this is {}", value.kind()), attribute.value.span());
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate().filter(|(_, item)| **item != Value::from("")) {
            match read(item) {
                Ok(one) => list.push(one),
                Err(why) => self.wrong(format!("`{name}`: {why}"), attribute.value.item_span(place)),
            }
        }
        Some(list)
    }

    fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        self.list(name, |item| item.to_text().ok_or_else(|| format!("expected text, found {}", item.kind())))
    }

    fn entries(&mut self, name: &str, what: EntryKind) -> Option<Vec<Entry>> {
        self.list(name, |item| Entry::from_value(item, what))
    }

    fn caches(&mut self, name: &str) -> Option<Vec<Entry>> {
        let read = |item: &Value| match item {
            Value::String(text) => Entry::caches(text),
            other => Entry::from_value(other, EntryKind::Cache).map(|entry| vec![entry]),
        };
        self.list(name, read).map(|lists| lists.concat())
    }

    /// A map of texts; null takes nothing's place.
    fn map(&mut self, name: &str) -> BTreeMap<String, String> {
        let Some((value, attribute)) = self.value(name) else { return BTreeMap::new() };
        let Value::Object(entries) = value else {
            self.wrong(format!("`{name}` is a map, and this is {}", value.kind()), attribute.value.span());
            return BTreeMap::new();
        };
        let mut map = BTreeMap::new();
        for (key, value) in entries.into_iter().filter(|(_, value)| *value != Value::Null) {
            match value.to_text() {
                Some(text) => drop(map.insert(key, text)),
                None => self.wrong(format!("`{key}` of `{name}` is text, and this is {}", value.kind()), attribute.value.entry_span(&key)),
            }
        }
        map
    }

    fn resources(&mut self) -> BTreeMap<String, String> {
        let map = self.map("resources");
        for key in map.keys().filter(|key| !RESOURCES.contains(&key.as_str())) {
            let span = self.named.block.get("resources").map(|attribute| attribute.value.entry_span(key));
            let mut finding = Diagnostic::error("bake-unknown-attribute", format!("`resources` has no `{key}`"));
            finding.span = span;
            finding.help.extend(strake_source::nearest(key, RESOURCES).map(|near| format!("did you mean `{near}`?")));
            self.diagnostics.push(finding);
        }
        map
    }

    fn group(&mut self) -> Group {
        let span = self.named.block.get("targets").map_or(self.named.block.span, |targets| targets.value.span());
        if self.named.block.get("targets").is_none() {
            self.wrong("a group needs `targets`".to_owned(), self.named.block.span);
        }
        let description = self.text("description").unwrap_or_default();
        Group { name: self.named.name.clone(), span: Some(span), description, targets: self.texts("targets").unwrap_or_default() }
    }

    fn target(&mut self) -> Target {
        let places = TARGET.iter().filter_map(|name| Some((*name, self.named.block.get(name)?.value.span()))).collect();
        Target {
            name: self.named.name.clone(),
            span: Some(self.named.block.span),
            places,
            description: self.text("description").unwrap_or_default(),
            inherits: self.texts("inherits").unwrap_or_default(),
            annotations: self.texts("annotations"),
            attest: self.entries("attest", EntryKind::Attest),
            context: self.text("context"),
            contexts: self.map("contexts"),
            dockerfile: self.text("dockerfile"),
            dockerfile_inline: self.text("dockerfile-inline"),
            args: self.map("args"),
            labels: self.map("labels"),
            tags: self.texts("tags"),
            cache_from: self.caches("cache-from"),
            cache_to: self.caches("cache-to"),
            target: self.text("target"),
            secrets: self.list("secret", Secret::from_value),
            ssh: self.list("ssh", Agent::from_value),
            platforms: self.texts("platforms"),
            outputs: self.entries("output", EntryKind::Output),
            pull: self.truth("pull"),
            no_cache: self.truth("no-cache"),
            network: self.text("network"),
            no_cache_filter: self.texts("no-cache-filter"),
            shm_size: self.text("shm-size"),
            ulimits: self.texts("ulimits"),
            resources: self.resources(),
            call: self.text("call"),
            entitlements: self.texts("entitlements"),
            extra_hosts: self.map("extra-hosts"),
            policy: self.list("policy", |item| Ok(item.to_json())),
            linked: false,
        }
    }
}
