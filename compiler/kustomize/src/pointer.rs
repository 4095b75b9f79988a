//! JSON patches (RFC 6902) on trees.

use strake_source::Span;
use strake_yaml::{Kind, Node};

use crate::edit::{get_mut, items_mut, remove, set};
use crate::merge::{Conflict, Replaced};

/// Applies the operations of a patch in their order.
pub(crate) fn apply(node: &mut Node, patch: &Node, replaced: &mut Replaced) -> Result<(), Conflict> {
    patch.items().iter().try_for_each(|operation| one(node, operation, replaced))
}

fn conflict(span: Span, message: impl Into<String>) -> Conflict {
    Conflict { span, message: message.into() }
}

fn one(node: &mut Node, operation: &Node, replaced: &mut Replaced) -> Result<(), Conflict> {
    let text = |name: &str| operation.get(name).and_then(Node::as_str);
    let Some(verb) = text("op") else { return Err(conflict(operation.span, "an operation needs `op`: add, remove, replace, move, copy or test")) };
    let Some(path) = text("path") else { return Err(conflict(operation.span, "an operation needs `path`, such as `/spec/replicas`")) };
    let place = operation.get("path").map_or(operation.span, |node| node.span);
    let keys = tokens(path).ok_or_else(|| conflict(place, format!("`{path}` is not a JSON pointer: it starts with `/`")))?;
    let value = || operation.get("value").cloned().ok_or_else(|| conflict(operation.span, format!("`{verb}` needs `value`")));
    let from = || {
        let from = text("from").ok_or_else(|| conflict(operation.span, format!("`{verb}` needs `from`")))?;
        tokens(from).ok_or_else(|| conflict(operation.span, format!("`{from}` is not a JSON pointer: it starts with `/`")))
    };
    let missing = |what: &str| conflict(place, format!("there is nothing at `{what}`"));
    match verb {
        "add" => add(node, &keys, value()?).map_err(|reason| conflict(place, format!("`{path}`: {reason}"))),
        "replace" => {
            let value = value()?;
            let old = find(node, &keys).ok_or_else(|| missing(path))?;
            replaced.push((value.span, old.span));
            *old = value;
            Ok(())
        }
        "remove" => take(node, &keys).map(|_| ()).ok_or_else(|| missing(path)),
        "move" => {
            let moved = take(node, &from()?).ok_or_else(|| missing(text("from").unwrap_or_default()))?;
            add(node, &keys, moved).map_err(|reason| conflict(place, format!("`{path}`: {reason}")))
        }
        "copy" => {
            let copied = find(node, &from()?).cloned().ok_or_else(|| missing(text("from").unwrap_or_default()))?;
            add(node, &keys, copied).map_err(|reason| conflict(place, format!("`{path}`: {reason}")))
        }
        "test" => {
            let wanted = value()?.to_json();
            let found = find(node, &keys).ok_or_else(|| missing(path))?.to_json();
            if found == wanted { Ok(()) } else { Err(conflict(place, format!("the test of `{path}` fails: found {found}, expected {wanted}"))) }
        }
        other => Err(conflict(operation.span, format!("`{other}` is not an operation: add, remove, replace, move, copy or test"))),
    }
}

fn tokens(path: &str) -> Option<Vec<String>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    Some(path.strip_prefix('/')?.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

fn find<'a>(node: &'a mut Node, keys: &[String]) -> Option<&'a mut Node> {
    keys.iter().try_fold(node, |node, key| match &node.kind {
        Kind::Sequence(_) => {
            let at: usize = key.parse().ok()?;
            items_mut(node)?.get_mut(at)
        }
        _ => get_mut(node, key),
    })
}

fn take(node: &mut Node, keys: &[String]) -> Option<Node> {
    let (last, front) = keys.split_last()?;
    let parent = find(node, front)?;
    match &mut parent.kind {
        Kind::Sequence(items) => {
            let at: usize = last.parse().ok()?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => remove(parent, last),
    }
}

fn add(node: &mut Node, keys: &[String], value: Node) -> Result<(), String> {
    let Some((last, front)) = keys.split_last() else {
        *node = value;
        return Ok(());
    };
    let parent = find(node, front).ok_or_else(|| format!("there is nothing at `/{}`", front.join("/")))?;
    match &mut parent.kind {
        Kind::Sequence(items) if last == "-" => items.push(value),
        Kind::Sequence(items) => {
            let at = last.parse::<usize>().ok().filter(|at| *at <= items.len()).ok_or_else(|| format!("the list has {} items", items.len()))?;
            items.insert(at, value);
        }
        Kind::Mapping(_) => set(parent, last, value),
        _ => return Err(format!("`/{}` is {}, expected a list or a mapping", front.join("/"), parent.kind_name())),
    }
    Ok(())
}
