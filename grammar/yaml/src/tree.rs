//! From the parser's events to nodes.

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, ScalarStyle, Tag};
use strake_source::{Diagnostic, Span, Spanned};

use crate::{ALIAS_BUDGET, Kind, MAX_DEPTH, Node, scalar};

/// A text counts as one node for each so many bytes when an alias copies it.
const BYTES_A_NODE: usize = 64;
/// Up to so many keys are compared one by one.
const FEW_KEYS: usize = 16;

/// What an anchor names.
struct Anchored {
    node: Node,
    weight: usize,
    height: usize,
}

/// A container that is not closed yet.
struct Frame {
    span: Span,
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<(Spanned<String>, Node)>, key: Pending, merges: Vec<(Span, Node)> },
}

/// What the next value of a mapping belongs to.
enum Pending {
    /// The next node is a key.
    Nothing,
    Key(Spanned<String>),
    /// `<<`
    Merge(Span),
    /// A key that has been complained about.
    Wrong,
}

/// Builds one document at a time.
#[derive(Default)]
pub(crate) struct Builder {
    frames: Vec<Frame>,
    /// How many containers are open inside one that is left out.
    skipping: usize,
    too_deep: bool,
    anchors: BTreeMap<usize, Anchored>,
    spent: usize,
    root: Option<Node>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Builder {
    /// The document read so far, if any; the next one starts from nothing (but the alias budget is the file's).
    pub(crate) fn take(&mut self) -> Option<Node> {
        self.frames.clear();
        self.anchors.clear();
        self.skipping = 0;
        self.too_deep = false;
        self.root.take()
    }

    /// Takes the next event of a document's content.
    pub(crate) fn event(&mut self, event: Event<'_>, span: Span) {
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) if self.skipping > 0 => self.skipping += 1,
            Event::SequenceEnd | Event::MappingEnd if self.skipping > 0 => {
                self.skipping -= 1;
                if self.skipping == 0 {
                    self.skipped(span);
                }
            }
            _ if self.skipping > 0 => {}
            Event::SequenceStart(anchor, _) => self.open(span, anchor, Content::Sequence(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.open(span, anchor, Content::Mapping { entries: Vec::new(), key: Pending::Nothing, merges: Vec::new() });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Scalar(text, style, anchor, tag) => self.scalar(text.into_owned(), style, anchor, tag.as_deref(), span),
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => {}
        }
    }

    fn error(&mut self, code: &'static str, message: impl Into<String>, span: Span) {
        self.diagnostics.push(Diagnostic::error(code, message).at(span));
    }

    fn expects_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { content: Content::Mapping { key: Pending::Nothing, .. }, .. }))
    }

    fn open(&mut self, span: Span, anchor: usize, content: Content) {
        if self.expects_key() {
            let finding = Diagnostic::error("yaml-key", "a list or mapping cannot be a key; expected text").at(span);
            self.diagnostics.push(finding.help("if this is a template's `{{`, render it before"));
            self.skipping = 1;
        } else if self.frames.len() >= MAX_DEPTH {
            if !self.too_deep {
                self.error("yaml-depth", format!("nested deeper than {MAX_DEPTH} levels"), span);
            }
            self.too_deep = true;
            self.skipping = 1;
        } else {
            self.frames.push(Frame { span, anchor, content });
        }
    }

    /// Something was left out: it stands as null, or as a key that is known to be wrong.
    fn skipped(&mut self, span: Span) {
        if self.expects_key() {
            self.set_key(Pending::Wrong);
        } else {
            self.place(Node { span, kind: Kind::Null });
        }
    }

    fn set_key(&mut self, pending: Pending) {
        if let Some(Frame { content: Content::Mapping { key, .. }, .. }) = self.frames.last_mut() {
            *key = pending;
        }
    }

    fn close(&mut self, end: Span) {
        let Some(frame) = self.frames.pop() else { return };
        let node = match frame.content {
            Content::Sequence(items) => {
                let last = items.last().map(|node| node.span);
                Node { span: extent(frame.span, end, last), kind: Kind::Sequence(items) }
            }
            Content::Mapping { mut entries, merges, .. } => {
                let last = entries.last().map(|(key, node)| key.span.to(node.span));
                self.check_duplicates(&mut entries);
                for (place, value) in merges {
                    self.merge(&mut entries, place, value);
                }
                Node { span: extent(frame.span, end, last), kind: Kind::Mapping(entries) }
            }
        };
        self.remember(frame.anchor, &node);
        self.place(node);
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor > 0 {
            let (weight, height) = measure(node);
            self.anchors.insert(anchor, Anchored { node: node.clone(), weight, height });
        }
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, mut node: Node) {
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut frame.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping { entries, key, merges } => match std::mem::replace(key, Pending::Nothing) {
                Pending::Key(name) => {
                    if node.kind == Kind::Null && node.span.start == node.span.end {
                        // Nothing was written: say so right behind the key.
                        node.span = Span { start: name.span.end, ..name.span };
                    }
                    entries.push((name, node));
                }
                Pending::Merge(place) => merges.push((place, node)),
                Pending::Wrong => {}
                Pending::Nothing => *key = Pending::Wrong,
            },
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, anchor: usize, tag: Option<&Tag>, span: Span) {
        let is_merge = style == ScalarStyle::Plain && tag.is_none() && text == "<<";
        if is_merge && self.expects_key() {
            self.set_key(Pending::Merge(span));
            return;
        }
        let kind = match tag {
            Some(tag) => self.tagged(text, tag, span),
            None if style == ScalarStyle::Plain => match scalar::plain(&text) {
                Some(kind) => kind,
                None => self.not_finite(&text, span),
            },
            None => Kind::String(text),
        };
        let node = Node { span, kind };
        self.remember(anchor, &node);
        self.key_or_value(node);
    }

    fn not_finite(&mut self, text: &str, span: Span) -> Kind {
        self.error("yaml-number", format!("`{text}` is not a finite number: JSON, which Kubernetes stores, has none such"), span);
        Kind::Null
    }

    fn tagged(&mut self, text: String, tag: &Tag, span: Span) -> Kind {
        let name = if tag.is_yaml_core_schema() || tag.handle == "!!" { tag.suffix.as_str() } else { "" };
        let kind = match name {
            "str" => return Kind::String(text),
            "null" => Some(Kind::Null),
            "bool" | "int" => scalar::plain(&text).filter(|kind| matches!((name, kind), ("bool", Kind::Bool(_)) | ("int", Kind::Int(_)))),
            "float" => match scalar::number(&text) {
                #[expect(clippy::cast_precision_loss, reason = "a float was asked for")]
                Some(Kind::Int(value)) => Some(Kind::Float(value as f64)),
                kind => kind.filter(|kind| matches!(kind, Kind::Float(_))),
            },
            _ if tag.handle == "!" && tag.suffix.is_empty() => return Kind::String(text),
            _ => {
                self.error("yaml-tag", format!("tag `{tag}` is not supported: expected !!str, !!int, !!float, !!bool or !!null"), span);
                return Kind::Null;
            }
        };
        kind.unwrap_or_else(|| {
            self.error("yaml-tag", format!("`{text}` is not a value of its tag !!{name}"), span);
            Kind::Null
        })
    }

    fn key_or_value(&mut self, node: Node) {
        if !self.expects_key() {
            self.place(node);
            return;
        }
        let name = match node.kind {
            Kind::String(text) => text,
            Kind::Bool(value) => value.to_string(),
            Kind::Int(value) => value.to_string(),
            Kind::Float(value) => value.to_string(),
            Kind::Null | Kind::Sequence(_) | Kind::Mapping(_) => {
                self.error("yaml-key", "a key must be text", node.span);
                self.set_key(Pending::Wrong);
                return;
            }
        };
        self.set_key(Pending::Key(Spanned::new(name, node.span)));
    }

    fn alias(&mut self, anchor: usize, span: Span) {
        let nesting = self.frames.len();
        let Some(anchored) = self.anchors.get(&anchor) else {
            self.error("yaml-alias", "this alias stands inside the value that it names", span);
            self.key_or_value(Node { span, kind: Kind::Null });
            return;
        };
        let was_spent = self.spent > ALIAS_BUDGET;
        self.spent = self.spent.saturating_add(anchored.weight);
        if self.spent > ALIAS_BUDGET {
            if !was_spent {
                self.error("yaml-alias-budget", format!("aliases of this file copy more than {ALIAS_BUDGET} values"), span);
            }
            self.key_or_value(Node { span, kind: Kind::Null });
        } else if nesting + anchored.height > MAX_DEPTH {
            self.error("yaml-depth", format!("this alias nests deeper than {MAX_DEPTH} levels"), span);
            self.key_or_value(Node { span, kind: Kind::Null });
        } else {
            let node = anchored.node.clone();
            self.key_or_value(node);
        }
    }

    fn merge(&mut self, entries: &mut Vec<(Spanned<String>, Node)>, place: Span, value: Node) {
        let sources = match value.kind {
            Kind::Mapping(_) => vec![value],
            Kind::Sequence(items) => items,
            _ => vec![value],
        };
        for source in sources {
            let Kind::Mapping(merged) = source.kind else {
                self.error("yaml-merge", "`<<` takes a mapping or a list of mappings", place);
                return;
            };
            for (key, value) in merged {
                if !entries.iter().any(|(known, _)| known.value == key.value) {
                    entries.push((key, value));
                }
            }
        }
    }

    /// Reports keys written twice and keeps the first of each.
    fn check_duplicates(&mut self, entries: &mut Vec<(Spanned<String>, Node)>) {
        let Some(repeated) = repeated_keys(entries) else { return };
        for (again, first) in &repeated {
            let (key, first) = (&entries[*again].0, entries[*first].0.span);
            let finding = Diagnostic::error("yaml-duplicate-key", format!("key `{}` is written twice in this mapping", key.value));
            self.diagnostics.push(finding.at(key.span).label("again here").related(first, "first here"));
        }
        let mut index = 0;
        entries.retain(|_| {
            index += 1;
            !repeated.iter().any(|(again, _)| *again == index - 1)
        });
    }
}

/// Pairs of places: a repeated key's and its first occurrence's. `None` when there are none.
pub(crate) fn repeated_keys(entries: &[(Spanned<String>, Node)]) -> Option<Vec<(usize, usize)>> {
    let mut repeated = Vec::new();
    if entries.len() <= FEW_KEYS {
        for (again, (key, _)) in entries.iter().enumerate() {
            if let Some(first) = entries[..again].iter().position(|(known, _)| known.value == key.value) {
                repeated.push((again, first));
            }
        }
    } else {
        let mut seen = HashMap::with_capacity(entries.len());
        for (index, (key, _)) in entries.iter().enumerate() {
            match seen.entry(key.value.as_str()) {
                std::collections::hash_map::Entry::Occupied(first) => repeated.push((index, *first.get())),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(index);
                }
            }
        }
    }
    (!repeated.is_empty()).then_some(repeated)
}

/// A block container's end event stands at the next token: its last child's end is nearer to what people see.
fn extent(start: Span, end: Span, last: Option<Span>) -> Span {
    match last {
        Some(last) if end.start == end.end || last.end > end.end => Span { start: start.start.min(last.start), end: last.end.max(start.start), ..start },
        _ => start.to(end),
    }
}

/// Nodes in a tree (long texts count for more) and levels of containers.
fn measure(node: &Node) -> (usize, usize) {
    let sum = |children: &mut dyn Iterator<Item = &Node>| {
        children.map(measure).fold((1, 1), |(weight, height): (usize, usize), child| (weight.saturating_add(child.0), height.max(child.1 + 1)))
    };
    match &node.kind {
        Kind::Sequence(items) => sum(&mut items.iter()),
        Kind::Mapping(entries) => sum(&mut entries.iter().map(|(_, value)| value)),
        Kind::String(text) => (1 + text.len() / BYTES_A_NODE, 0),
        _ => (1, 0),
    }
}
