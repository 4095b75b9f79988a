//! Strategic merge patches as kustomize applies them: items of a patch come first, a port without a protocol is the port that has one.

use strake_kinds::schema::{Field, ListKind, Message, Type};
use strake_source::Span;
use strake_yaml::{Kind, Node};

use crate::edit::{entries_mut, get_mut, remove, scalar};

const PATCH: &str = "$patch";

/// What a patch replaced: the new place and the old one.
pub(crate) type Replaced = Vec<(Span, Span)>;

/// Why a patch cannot be merged.
pub(crate) struct Conflict {
    pub(crate) span: Span,
    pub(crate) message: String,
}

/// What the schema knows of a value.
#[derive(Clone, Copy)]
enum Shape {
    Message(&'static Message),
    Of(Type),
    Unknown,
}

impl Shape {
    fn field(self, name: &str) -> (Option<&'static Field>, Shape) {
        match self {
            Shape::Message(message) => message.field(name).map_or((None, Shape::Unknown), |field| (Some(field), Shape::of(field.ty))),
            Shape::Of(Type::Map(inner)) => (None, Shape::of(*inner)),
            _ => (None, Shape::Unknown),
        }
    }

    fn of(ty: Type) -> Shape {
        match ty {
            Type::Message(id) => Shape::Message(id.get()),
            other => Shape::Of(other),
        }
    }

    fn item(self) -> Shape {
        match self {
            Shape::Of(Type::List(inner)) => Shape::of(*inner),
            _ => Shape::Unknown,
        }
    }
}

/// Merges `patch` into `node`; `false` when the patch deletes the whole object.
pub(crate) fn merge(node: &mut Node, patch: &Node, schema: Option<&'static Message>, replaced: &mut Replaced) -> Result<bool, Conflict> {
    merge_mapping(node, patch, schema.map_or(Shape::Unknown, Shape::Message), replaced)
}

fn directive(patch: &Node) -> Result<Option<&str>, Conflict> {
    match patch.get(PATCH) {
        None => Ok(None),
        Some(node) => match node.as_str() {
            Some(word @ ("merge" | "replace" | "delete")) => Ok(Some(word)),
            _ => Err(Conflict { span: node.span, message: "`$patch` is merge, replace or delete".to_owned() }),
        },
    }
}

fn merge_mapping(node: &mut Node, patch: &Node, shape: Shape, replaced: &mut Replaced) -> Result<bool, Conflict> {
    match directive(patch)? {
        Some("delete") => return Ok(false),
        Some("replace") => {
            replaced.push((patch.span, node.span));
            *node = plain(patch);
            return Ok(true);
        }
        _ => {}
    }
    for (key, value) in patch.entries().iter().filter(|(key, _)| key.value != PATCH) {
        if matches!(value.kind, Kind::Null) {
            remove(node, &key.value);
            continue;
        }
        let (field, inner) = shape.field(&key.value);
        let Some(old) = get_mut(node, &key.value).filter(|old| !matches!(old.kind, Kind::Null)) else {
            remove(node, &key.value);
            if let (Some(entries), false) = (entries_mut(node), directive(value)? == Some("delete")) {
                entries.push((key.clone(), plain(value)));
            }
            continue;
        };
        let kept = match (&old.kind, &value.kind) {
            (Kind::Mapping(_), Kind::Mapping(_)) => merge_mapping(old, value, inner, replaced)?,
            (Kind::Sequence(_), Kind::Sequence(items)) => merge_list(old, value.span, items, field, inner, replaced)?,
            _ => {
                replaced.push((value.span, old.span));
                *old = plain(value);
                true
            }
        };
        if !kept {
            remove(node, &key.value);
        }
    }
    Ok(true)
}

/// The keys that name an item: those of the list's map, or the one of the patch strategy. `None`: the list is replaced.
fn merge_keys(field: Option<&'static Field>) -> Option<Vec<&'static str>> {
    let field = field?;
    let patch = field.patch.filter(strake_kinds::schema::Patch::merge)?;
    Some(match field.list {
        ListKind::Map(keys) => keys.to_vec(),
        _ => patch.key.into_iter().collect(),
    })
}

fn merge_list(old: &mut Node, span: Span, patch: &[Node], field: Option<&'static Field>, shape: Shape, replaced: &mut Replaced) -> Result<bool, Conflict> {
    let whole = patch.iter().any(|item| matches!(item.get(PATCH).and_then(Node::as_str), Some("replace")) && item.entries().len() == 1);
    let keys = merge_keys(field).filter(|_| !whole);
    let (Some(keys), Kind::Sequence(items)) = (keys, &mut old.kind) else {
        replaced.push((span, old.span));
        let rest = patch.iter().filter(|item| item.get(PATCH).is_none());
        *old = Node { span, kind: Kind::Sequence(rest.map(plain).collect()) };
        return Ok(true);
    };
    let mut rest: Vec<Node> = std::mem::take(items);
    // Items with one key are brought to the front with the patch; where several keys name them, only new ones are.
    let several = keys.iter().filter(|key| rest.iter().chain(patch).any(|item| item.get(key).is_some())).count() > 1;
    let mut merged: Vec<Node> = Vec::with_capacity(rest.len() + patch.len());
    for item in patch {
        let found = rest.iter().position(|other| same(other, item, &keys));
        let directive = directive(item)?;
        let Some(at) = found else {
            if directive != Some("delete") && !merged.iter().any(|other| same(other, item, &keys)) {
                merged.push(plain(item));
            }
            continue;
        };
        let mut other = rest.remove(at);
        let kept = match (&other.kind, &item.kind) {
            (Kind::Mapping(_), Kind::Mapping(_)) => merge_mapping(&mut other, item, shape.item(), replaced)?,
            _ => true,
        };
        match (kept, several) {
            (true, true) => rest.insert(at, other),
            (true, false) => merged.push(other),
            (false, _) => {}
        }
    }
    merged.extend(rest);
    *items = merged;
    Ok(!items.is_empty())
}

/// Whether two items have the same name: at least one key equal, none different, one that is missing fits any.
fn same(left: &Node, right: &Node, keys: &[&str]) -> bool {
    if keys.is_empty() {
        return left.kind == right.kind;
    }
    let pairs = keys.iter().map(|key| (left.get(key).and_then(scalar), right.get(key).and_then(scalar)));
    let mut equal = false;
    for (left, right) in pairs {
        match (left, right) {
            (Some(left), Some(right)) if left == right => equal = true,
            (Some(_), Some(_)) => return false,
            _ => {}
        }
    }
    equal
}

/// A patch's value where nothing was before: directives and nulls have nothing to act on.
fn plain(node: &Node) -> Node {
    let kind = match &node.kind {
        Kind::Mapping(entries) => {
            let kept = entries.iter().filter(|(key, value)| key.value != PATCH && !matches!(value.kind, Kind::Null));
            Kind::Mapping(kept.map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        Kind::Sequence(items) => {
            let kept = items.iter().filter(|item| item.get(PATCH).is_none_or(|directive| directive.as_str() == Some("merge")));
            Kind::Sequence(kept.map(plain).collect())
        }
        other => other.clone(),
    };
    Node { span: node.span, kind }
}
