//! Changing trees: every value keeps the span of the file that wrote it.

use strake_source::{Span, Spanned};
use strake_yaml::{Kind, Node};

/// Text that stands at `span`.
pub(crate) fn text(value: impl Into<String>, span: Span) -> Node {
    Node { span, kind: Kind::String(value.into()) }
}

/// A mapping without entries.
pub(crate) fn mapping(span: Span) -> Node {
    Node { span, kind: Kind::Mapping(Vec::new()) }
}

/// A mapping's entries; `None` for anything else.
pub(crate) fn entries_mut(node: &mut Node) -> Option<&mut Vec<(Spanned<String>, Node)>> {
    match &mut node.kind {
        Kind::Mapping(entries) => Some(entries),
        _ => None,
    }
}

/// A sequence's items; `None` for anything else.
pub(crate) fn items_mut(node: &mut Node) -> Option<&mut Vec<Node>> {
    match &mut node.kind {
        Kind::Sequence(items) => Some(items),
        _ => None,
    }
}

/// The value of a mapping's key.
pub(crate) fn get_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    entries_mut(node)?.iter_mut().find(|(name, _)| name.value == key).map(|(_, value)| value)
}

/// Puts a value under a key, in the place of the one that was there. Anything that is not a mapping becomes one.
pub(crate) fn set(node: &mut Node, key: &str, value: Node) {
    if !matches!(node.kind, Kind::Mapping(_)) {
        node.kind = Kind::Mapping(Vec::new());
    }
    if let Some(old) = get_mut(node, key) {
        *old = value;
    } else if let Some(entries) = entries_mut(node) {
        entries.push((Spanned::new(key.to_owned(), value.span), value));
    }
}

/// Takes a key out.
pub(crate) fn remove(node: &mut Node, key: &str) -> Option<Node> {
    let entries = entries_mut(node)?;
    let at = entries.iter().position(|(name, _)| name.value == key)?;
    Some(entries.remove(at).1)
}

/// The mapping under a key, made when there is none.
pub(crate) fn child<'a>(node: &'a mut Node, key: &str, span: Span) -> Option<&'a mut Node> {
    if node.get(key).is_none_or(|found| matches!(found.kind, Kind::Null)) {
        set(node, key, mapping(span));
    }
    get_mut(node, key)
}

/// The text of a scalar as YAML would print it; `None` for lists, mappings and nothing.
pub(crate) fn scalar(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::String(text) => Some(text.clone()),
        Kind::Bool(value) => Some(value.to_string()),
        Kind::Int(value) => Some(value.to_string()),
        Kind::Float(_) => Some(node.to_json().to_string()),
        Kind::Null | Kind::Sequence(_) | Kind::Mapping(_) => None,
    }
}

/// The text at a path of keys; empty when there is none.
pub(crate) fn text_at<'a>(node: &'a Node, keys: &[&str]) -> &'a str {
    keys.iter().try_fold(node, |node, key| node.get(key)).and_then(Node::as_str).unwrap_or_default()
}

/// Gives every span of a tree a new place.
pub(crate) fn relocate(node: &mut Node, place: &dyn Fn(Span) -> Span) {
    node.span = place(node.span);
    match &mut node.kind {
        Kind::Sequence(items) => items.iter_mut().for_each(|item| relocate(item, place)),
        Kind::Mapping(entries) => {
            for (key, value) in entries {
                key.span = place(key.span);
                relocate(value, place);
            }
        }
        _ => {}
    }
}
