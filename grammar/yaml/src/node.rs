//! The tree.

use serde_json::{Map, Number, Value};
use strake_source::{Span, Spanned};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it was written. The copy that an alias or a merge makes stands where the original does.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// A whole number in the range of `i64` or `u64`.
    Int(i128),
    /// A finite number.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order written; keys are distinct.
    Mapping(Vec<(Spanned<String>, Node)>),
}

impl Node {
    /// The value of a mapping's key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A mapping's key and its value.
    pub fn entry(&self, key: &str) -> Option<(&Spanned<String>, &Node)> {
        let found = self.entries().iter().find(|(name, _)| name.value == key)?;
        Some((&found.0, &found.1))
    }

    /// A mapping's entries; none for anything else.
    pub fn entries(&self) -> &[(Spanned<String>, Node)] {
        match &self.kind {
            Kind::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// A sequence's items; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The text of a string node.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }

    /// What people call this kind: `text`, `a number`, …
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "true or false",
            Kind::Int(_) => "a whole number",
            Kind::Float(_) => "a number",
            Kind::String(_) => "text",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
        }
    }

    /// The node at a JSON pointer (RFC 6901) such as `/spec/containers/0/image`; the empty pointer is this node.
    pub fn pointer(&self, pointer: &str) -> Option<&Node> {
        self.find(pointer).map(|(_, node)| node)
    }

    /// The span of the value at a JSON pointer.
    pub fn span_at(&self, pointer: &str) -> Option<Span> {
        self.find(pointer).map(|(_, node)| node.span)
    }

    /// The span of the key that leads to the value at a JSON pointer; of the value itself where a list index leads to it.
    pub fn key_span_at(&self, pointer: &str) -> Option<Span> {
        self.find(pointer).map(|(key, node)| key.unwrap_or(node.span))
    }

    /// The span of the nearest thing that exists on the way to a JSON pointer: where to point when something is missing.
    pub fn nearest_span(&self, pointer: &str) -> Span {
        let mut rest = pointer;
        loop {
            if let Some((key, node)) = self.find(rest) {
                return key.unwrap_or(node.span);
            }
            rest = rest.rfind('/').map_or("", |at| &rest[..at]);
        }
    }

    fn find(&self, pointer: &str) -> Option<(Option<Span>, &Node)> {
        let mut at = (None, self);
        if pointer.is_empty() {
            return Some(at);
        }
        for token in pointer.strip_prefix('/')?.split('/') {
            at = match &at.1.kind {
                Kind::Mapping(_) => {
                    let key = if token.contains('~') { token.replace("~1", "/").replace("~0", "~") } else { token.to_owned() };
                    let (name, value) = at.1.entry(&key)?;
                    (Some(name.span), value)
                }
                Kind::Sequence(items) => (None, items.get(token.parse::<usize>().ok()?)?),
                _ => return None,
            };
        }
        Some(at)
    }

    /// The same value as JSON; a whole float is a whole number, as Kubernetes' conversion makes it.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Int(value) => Number::from_i128(*value).map_or(Value::Null, Value::Number),
            Kind::Float(value) => float(*value),
            Kind::String(text) => Value::String(text.clone()),
            Kind::Sequence(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Kind::Mapping(entries) => {
                let mut map = Map::with_capacity(entries.len());
                map.extend(entries.iter().map(|(key, value)| (key.value.clone(), value.to_json())));
                Value::Object(map)
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn float(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9.0e15 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
