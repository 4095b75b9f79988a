//! What a bake file is made of, HCL or JSON: attributes and blocks with their places.

use std::collections::BTreeMap;

use hcl_edit::Span as _;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{self, BlockLabel, Structure};
use strake_source::{Diagnostic, FileId, Span};
use strake_yaml::{Kind, Node};

use crate::expr::{Eval, Evaluator, Names, Place, Scope};
use crate::template::syntax;
use crate::value::Value;

/// The blocks that have a label.
pub(crate) const BLOCKS: [&str; 4] = ["target", "group", "variable", "function"];

/// A file that was read.
#[derive(Debug)]
pub(crate) enum Document {
    Hcl(FileId, Box<structure::Body>),
    Json(Node),
}

/// An expression as written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expr<'a> {
    Hcl(Place, &'a Expression),
    Json(&'a Node),
}

/// `name = value`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) name: &'a str,
    pub(crate) name_span: Span,
    pub(crate) value: Expr<'a>,
}

/// A block with its label.
#[derive(Clone, Debug)]
pub(crate) struct Block<'a> {
    pub(crate) kind: &'a str,
    pub(crate) label: &'a str,
    /// The label, or the kind of a block that has none.
    pub(crate) span: Span,
    pub(crate) attributes: Vec<Attribute<'a>>,
    pub(crate) blocks: Vec<Block<'a>>,
}

/// The content of all files, in their order.
#[derive(Debug, Default)]
pub(crate) struct Body<'a> {
    pub(crate) attributes: Vec<Attribute<'a>>,
    pub(crate) blocks: Vec<Block<'a>>,
}

impl Document {
    /// Reads HCL.
    pub(crate) fn hcl(file: FileId, text: &str) -> Result<Document, Box<Diagnostic>> {
        let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        match hcl_edit::parser::parse_body(&text[start..]) {
            Ok(body) => Ok(Document::Hcl(file, Box::new(body))),
            Err(error) => {
                let at = start + error.location().offset();
                Err(Box::new(Diagnostic::error("bake-syntax", format!("this is no HCL: {}", syntax(&error))).at(Span::new(file, at, at))))
            }
        }
    }

    /// Reads JSON.
    pub(crate) fn json(file: FileId, text: &str) -> (Option<Document>, Vec<Diagnostic>) {
        let (documents, mut findings) = strake_yaml::parse(file, text);
        let root = documents.into_iter().next().map(|document| document.root);
        let root = root.filter(|root| matches!(root.kind, Kind::Mapping(_)));
        if root.is_none() && findings.is_empty() {
            findings.push(Diagnostic::error("bake-syntax", "expected an object with target, group, variable or function").at(Span::new(file, 0, 0)));
        }
        (root.map(Document::Json), findings)
    }

    /// Adds the file's content to a body.
    pub(crate) fn read<'a>(&'a self, body: &mut Body<'a>, diagnostics: &mut Vec<Diagnostic>) {
        match self {
            Document::Hcl(file, tree) => read_hcl(Place { file: *file, fixed: None }, tree, body, diagnostics),
            Document::Json(root) => read_json(root, body, diagnostics),
        }
    }
}

fn attribute(place: Place, attribute: &structure::Attribute) -> Attribute<'_> {
    Attribute { name: attribute.key.as_str(), name_span: place.span(attribute.key.span()), value: Expr::Hcl(place, &attribute.value) }
}

fn read_hcl<'a>(place: Place, tree: &'a structure::Body, body: &mut Body<'a>, diagnostics: &mut Vec<Diagnostic>) {
    for item in tree {
        match item {
            Structure::Attribute(one) => body.attributes.push(attribute(place, one)),
            Structure::Block(block) => {
                let kind = block.ident.as_str();
                let kind_span = place.span(block.ident.span());
                if !BLOCKS.contains(&kind) {
                    diagnostics.push(unknown_block(kind, kind_span));
                    continue;
                }
                let label = match block.labels.as_slice() {
                    [only] => only,
                    labels => {
                        let message = format!("a {kind} block has one label, its name, and this has {}", labels.len());
                        diagnostics.push(Diagnostic::error("bake-name", message).at(kind_span));
                        continue;
                    }
                };
                let span = match label {
                    BlockLabel::Ident(name) => place.span(name.span()),
                    BlockLabel::String(name) => place.span(name.span()),
                };
                body.blocks.push(hcl_block(place, kind, label.as_str(), span, &block.body));
            }
        }
    }
}

fn hcl_block<'a>(place: Place, kind: &'a str, label: &'a str, span: Span, body: &'a structure::Body) -> Block<'a> {
    let attributes = body.attributes().map(|one| attribute(place, one)).collect();
    let inner = |block: &'a structure::Block| hcl_block(place, block.ident.as_str(), "", place.span(block.ident.span()), &block.body);
    Block { kind, label, span, attributes, blocks: body.blocks().map(inner).collect() }
}

fn unknown_block(kind: &str, span: Span) -> Diagnostic {
    match strake_source::nearest(kind, BLOCKS) {
        Some(near) => Diagnostic::error("bake-unknown-block", format!("there is no block `{kind}`")).at(span).help(format!("did you mean `{near}`?")),
        // Others may keep theirs in the same file.
        None => Diagnostic::warning("bake-unknown-block", format!("the block `{kind}` is not read")).at(span),
    }
}

fn read_json<'a>(root: &'a Node, body: &mut Body<'a>, diagnostics: &mut Vec<Diagnostic>) {
    for (key, value) in root.entries() {
        let Some(kind) = BLOCKS.into_iter().find(|kind| *kind == key.value) else {
            body.attributes.push(Attribute { name: &key.value, name_span: key.span, value: Expr::Json(value) });
            continue;
        };
        let parts: Vec<&Node> = if value.items().is_empty() { vec![value] } else { value.items().iter().collect() };
        for part in parts {
            if !matches!(part.kind, Kind::Mapping(_)) {
                diagnostics.push(Diagnostic::error("bake-value", format!("`{kind}` holds its blocks by name, and this is {}", part.kind_name())).at(part.span));
            }
            for (label, content) in part.entries() {
                let contents: Vec<&Node> = if content.items().is_empty() { vec![content] } else { content.items().iter().collect() };
                for content in contents {
                    if !matches!(content.kind, Kind::Mapping(_)) {
                        let message = format!("the {kind} `{}` is an object, and this is {}", label.value, content.kind_name());
                        diagnostics.push(Diagnostic::error("bake-value", message).at(content.span));
                    }
                    body.blocks.push(json_block(kind, &label.value, label.span, content));
                }
            }
        }
    }
}

fn json_block<'a>(kind: &'a str, label: &'a str, span: Span, content: &'a Node) -> Block<'a> {
    let mut block = Block { kind, label, span, attributes: Vec::new(), blocks: Vec::new() };
    for (key, value) in content.entries() {
        if kind == "variable" && key.value == "validation" {
            let rules: Vec<&Node> = if value.items().is_empty() { vec![value] } else { value.items().iter().collect() };
            block.blocks.extend(rules.into_iter().map(|rule| json_block("validation", "", key.span, rule)));
        } else {
            block.attributes.push(Attribute { name: &key.value, name_span: key.span, value: Expr::Json(value) });
        }
    }
    block
}

impl<'a> Block<'a> {
    /// The attribute of that name.
    pub(crate) fn get(&self, name: &str) -> Option<Attribute<'a>> {
        self.attributes.iter().find(|attribute| attribute.name == name).copied()
    }
}

impl<'a> Expr<'a> {
    /// Where it stands.
    pub(crate) fn span(self) -> Span {
        match self {
            Expr::Hcl(place, expression) => place.span(expression.span()),
            Expr::Json(node) => node.span,
        }
    }

    /// Its value.
    pub(crate) fn value(self, names: &dyn Names, scope: &Scope<'_>) -> Eval<Value> {
        match self {
            Expr::Hcl(place, expression) => Evaluator { names, place }.value(expression, scope),
            Expr::Json(node) => json_value(node, names, scope),
        }
    }

    /// What it is when it is only a name: a parameter.
    pub(crate) fn name(self) -> Option<&'a str> {
        match self {
            Expr::Hcl(_, Expression::Variable(name)) => Some(name.as_str()),
            Expr::Json(node) => node.as_str(),
            Expr::Hcl(..) => None,
        }
    }

    /// Its items when it is written as a list.
    pub(crate) fn items(self) -> Option<Vec<Expr<'a>>> {
        match self {
            Expr::Hcl(place, Expression::Array(items)) => Some(items.iter().map(|item| Expr::Hcl(place, item)).collect()),
            Expr::Json(Node { kind: Kind::Sequence(items), .. }) => Some(items.iter().map(Expr::Json).collect()),
            _ => None,
        }
    }

    /// The span of one of its items, or its own.
    pub(crate) fn item_span(self, place: usize) -> Span {
        self.items().and_then(|items| items.get(place).map(|item| item.span())).unwrap_or_else(|| self.span())
    }

    /// The span of the value at a key of an object as it is written, or its own.
    pub(crate) fn entry_span(self, key: &str) -> Span {
        match self {
            Expr::Hcl(place, Expression::Object(entries)) => {
                let is_it = |name: &hcl_edit::expr::ObjectKey| match name {
                    hcl_edit::expr::ObjectKey::Ident(name) => name.as_str() == key,
                    hcl_edit::expr::ObjectKey::Expression(Expression::Variable(name)) => name.as_str() == key,
                    hcl_edit::expr::ObjectKey::Expression(name) => name.as_str() == Some(key),
                };
                entries.iter().find(|(name, _)| is_it(name)).map_or_else(|| self.span(), |(_, value)| place.span(value.expr().span()))
            }
            Expr::Json(node) => node.get(key).map_or(node.span, |value| value.span),
            Expr::Hcl(..) => self.span(),
        }
    }
}

fn json_value(node: &Node, names: &dyn Names, scope: &Scope<'_>) -> Eval<Value> {
    let templates = Evaluator { names, place: Place { file: node.span.file, fixed: Some(node.span) } };
    #[expect(clippy::cast_precision_loss, reason = "numbers of bake files are floats")]
    match &node.kind {
        Kind::Null => Ok(Value::Null),
        Kind::Bool(value) => Ok(Value::Bool(*value)),
        Kind::Int(number) => Ok(Value::Number(*number as f64)),
        Kind::Float(number) => Ok(Value::Number(*number)),
        Kind::String(text) => templates.json_text(text, scope),
        Kind::Sequence(items) => Ok(Value::List(items.iter().map(|item| json_value(item, names, scope)).collect::<Eval<_>>()?)),
        Kind::Mapping(entries) => {
            let mut map = BTreeMap::new();
            for (key, value) in entries {
                let name = templates.json_text(&key.value, scope)?.to_text().unwrap_or_else(|| key.value.clone());
                map.insert(name, json_value(value, names, scope)?);
            }
            Ok(Value::Object(map))
        }
    }
}
