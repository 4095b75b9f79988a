//! `replacements`: a value of one object, written into others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strake_source::{Diagnostic, Span};
use strake_yaml::{Kind, Node};

use crate::edit::{items_mut, mapping, scalar, set, text, text_at};
use crate::layer::{Layer, check_replacement};
use crate::resource::Resource;
use crate::select::Selector;
use crate::work::Work;

/// Applies all replacements of a layer in their order.
pub(crate) fn apply(work: &mut Work<'_>, layer: &Layer, resources: &mut [Resource]) {
    for entry in layer.items("replacements") {
        let Some(path) = entry.get("path") else {
            one(work, entry, resources);
            continue;
        };
        let Some(file) = work.file(layer, path) else { continue };
        for document in work.documents(file) {
            let list = if let Kind::Sequence(items) = document.kind { items } else { vec![document] };
            for item in &list {
                check_replacement(item, work.diagnostics);
                one(work, item, resources);
            }
        }
    }
}

fn one(work: &mut Work<'_>, entry: &Node, resources: &mut [Resource]) {
    let Some(value) = source(work, entry, resources) else { return };
    for target in entry.get("targets").map(Node::items).unwrap_or_default() {
        write(work, target, &value, resources);
    }
}

fn source(work: &mut Work<'_>, entry: &Node, resources: &[Resource]) -> Option<Node> {
    if let Some(value) = entry.get("sourceValue") {
        return Some(value.clone());
    }
    let Some(source) = entry.get("source") else {
        work.error("kustomize-field", "a replacement needs `source`", entry.span);
        return None;
    };
    let selector = Selector::read(source, work.diagnostics)?;
    let found: Vec<&Resource> = resources.iter().filter(|resource| selector.fits(resource)).collect();
    let [resource] = found.as_slice() else {
        let message =
            if found.is_empty() { "this source fits no object".to_owned() } else { format!("this source fits {} objects, expected one", found.len()) };
        let finding = Diagnostic::error("kustomize-no-target", message).at(source.span);
        let finding = found.iter().fold(finding, |finding, resource| finding.related(resource.span(), resource.id().to_string()));
        work.diagnostics.push(finding);
        return None;
    };
    let words = Some(text_at(source, &["fieldPath"])).filter(|words| !words.is_empty()).unwrap_or("metadata.name");
    let place = source.get("fieldPath").map_or(source.span, |node| node.span);
    let value = path(words).and_then(|steps| steps.iter().try_fold(&resource.node, |node, step| step.read(node)));
    let Some(value) = value else {
        let finding = Diagnostic::error("kustomize-no-target", format!("{} has no `{words}`", resource.id())).at(place);
        work.diagnostics.push(finding.related(resource.span(), "this one"));
        return None;
    };
    let Some(options) = source.get("options") else { return Some(value.clone()) };
    let whole = scalar(value)?;
    match part(&whole, options) {
        Ok(part) => Some(text(part, value.span)),
        Err(message) => {
            work.error("kustomize-field", message, options.span);
            None
        }
    }
}

fn number(options: &Node, name: &str) -> i128 {
    match options.get(name).map(|node| &node.kind) {
        Some(Kind::Int(number)) => *number,
        _ => 0,
    }
}

/// The part of a value between delimiters.
fn part(whole: &str, options: &Node) -> Result<String, String> {
    let delimiter = text_at(options, &["delimiter"]);
    let part = if delimiter.is_empty() {
        whole.to_owned()
    } else {
        let index = number(options, "index");
        let parts: Vec<&str> = whole.split(delimiter).collect();
        let at = usize::try_from(index).ok().filter(|at| *at < parts.len());
        at.map(|at| parts[at].to_owned()).ok_or_else(|| format!("`{whole}` has no part {index} between `{delimiter}`"))?
    };
    Ok(if text_at(options, &["encoding"]) == "base64" { STANDARD.encode(part) } else { part })
}

fn write(work: &mut Work<'_>, target: &Node, value: &Node, resources: &mut [Resource]) {
    let Some(select) = target.get("select") else { return work.error("kustomize-field", "a target needs `select`", target.span) };
    let Some(selector) = Selector::read(select, work.diagnostics) else { return };
    let rejects = target.get("reject").map(Node::items).unwrap_or_default();
    let rejects: Vec<Selector> = rejects.iter().filter_map(|node| Selector::read(node, work.diagnostics)).collect();
    let default = text("metadata.name", target.span);
    let paths = target.get("fieldPaths").map(Node::items).filter(|items| !items.is_empty()).unwrap_or(std::slice::from_ref(&default));
    let options = target.get("options");
    let create = options.and_then(|options| options.get("create")).is_some_and(|node| matches!(node.kind, Kind::Bool(true)));
    let mut any = false;
    for resource in resources.iter_mut().filter(|resource| selector.fits(resource) && !rejects.iter().any(|reject| reject.fits(resource))) {
        any = true;
        resource.remember();
        for place in paths {
            let words = place.as_str().unwrap_or_default();
            let Some(steps) = path(words) else {
                work.error("kustomize-field", format!("`{words}` is not a path such as `spec.template.spec.containers.[name=web].image`"), place.span);
                continue;
            };
            let mut problem = None;
            let mut count = 0;
            descend(&mut resource.node, &steps, create.then_some(value.span), &mut |node| {
                count += 1;
                match merged(node, value, options) {
                    Ok(new) => *node = new,
                    Err(message) => problem = Some(message),
                }
            });
            if let Some(message) = problem {
                work.error("kustomize-field", message, place.span);
            } else if count == 0 {
                let finding = Diagnostic::error("kustomize-no-target", format!("{} has no `{words}`", resource.id())).at(place.span);
                work.diagnostics.push(finding.related(resource.span(), "this one").help("to make the field, write `options: {create: true}`"));
            }
        }
    }
    if !any {
        work.diagnostics.push(Diagnostic::warning("kustomize-no-target", "this target fits no object: nothing is replaced").at(select.span));
    }
}

/// The new value: all of it, or one part between delimiters. A text stays a text and a number a number.
fn merged(old: &Node, value: &Node, options: Option<&Node>) -> Result<Node, String> {
    let delimiter = options.map(|options| text_at(options, &["delimiter"])).unwrap_or_default();
    if delimiter.is_empty() {
        let Some(words) = scalar(value) else { return Ok(value.clone()) };
        let kind = match old.kind {
            Kind::String(_) => Kind::String(words),
            Kind::Int(_) => words.parse().map_or(Kind::String(words), Kind::Int),
            Kind::Bool(_) => words.parse().map_or(Kind::String(words), Kind::Bool),
            _ => value.kind.clone(),
        };
        return Ok(Node { span: value.span, kind });
    }
    let (Some(whole), Some(new)) = (scalar(old), scalar(value)) else { return Err("a delimiter needs a text on both sides".to_owned()) };
    let index = options.map_or(0, |options| number(options, "index"));
    let mut parts: Vec<String> = whole.split(delimiter).map(str::to_owned).collect();
    match usize::try_from(index) {
        Err(_) => parts.insert(0, new),
        Ok(at) if at >= parts.len() => parts.push(new),
        Ok(at) => parts[at] = new,
    }
    Ok(text(parts.join(delimiter), value.span))
}

/// A step of a field path.
enum Step {
    Key(String),
    Index(usize),
    /// `[name=web]`: the items of a list.
    Item(String, String),
    /// `*`.
    All,
}

impl Step {
    fn read<'a>(&self, node: &'a Node) -> Option<&'a Node> {
        match self {
            Step::Key(key) => node.get(key),
            Step::Index(at) => node.items().get(*at),
            Step::Item(key, wanted) => node.items().iter().find(|item| item.get(key).and_then(scalar).as_ref() == Some(wanted)),
            Step::All => node.items().first(),
        }
    }
}

/// Splits `a.b.[name=x].0.*`; dots inside brackets or behind a backslash do not split.
fn path(words: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut current = String::new();
    let mut depth = 0;
    let mut signs = words.chars().peekable();
    let mut parts = Vec::new();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' if matches!(signs.peek(), Some('.' | '\\')) => current.extend(signs.next()),
            '[' => {
                depth += 1;
                current.push(sign);
            }
            ']' => {
                depth -= 1;
                current.push(sign);
            }
            '.' if depth == 0 => parts.push(std::mem::take(&mut current)),
            other => current.push(other),
        }
    }
    parts.push(current);
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        let inner = part.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::to_owned);
        steps.push(match inner {
            Some(inner) => match inner.split_once('=') {
                Some((key, value)) => Step::Item(key.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()),
                None => Step::Key(inner.trim_matches(['"', '\'']).to_owned()),
            },
            None if part == "*" => Step::All,
            None => part.parse().map_or_else(|_| Step::Key(part), Step::Index),
        });
    }
    (!steps.is_empty()).then_some(steps)
}

fn descend(node: &mut Node, steps: &[Step], create: Option<Span>, change: &mut dyn FnMut(&mut Node)) {
    let Some((step, rest)) = steps.split_first() else { return change(node) };
    match step {
        Step::Key(key) => key_step(node, key, rest, create, change),
        // A number can be the key of a mapping.
        Step::Index(at) if matches!(node.kind, Kind::Mapping(_)) => key_step(node, &at.to_string(), rest, create, change),
        Step::Index(at) => items_mut(node).and_then(|items| items.get_mut(*at)).into_iter().for_each(|item| descend(item, rest, create, change)),
        Step::All => match &mut node.kind {
            Kind::Sequence(items) => items.iter_mut().for_each(|item| descend(item, rest, create, change)),
            Kind::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| descend(value, rest, create, change)),
            _ => {}
        },
        Step::Item(key, wanted) => {
            let Some(items) = items_mut(node) else { return };
            let fits = |item: &Node| item.get(key).and_then(scalar).as_ref() == Some(wanted);
            if let (false, Some(span)) = (items.iter().any(fits), create) {
                let mut made = mapping(span);
                set(&mut made, key, text(wanted.as_str(), span));
                items.push(made);
            }
            items.iter_mut().filter(|item| fits(item)).for_each(|item| descend(item, rest, create, change));
        }
    }
}

fn key_step(node: &mut Node, key: &str, rest: &[Step], create: Option<Span>, change: &mut dyn FnMut(&mut Node)) {
    let found = match create {
        Some(span) if matches!(node.kind, Kind::Mapping(_) | Kind::Null) => {
            if node.get(key).is_none() {
                let list = matches!(rest.first(), Some(Step::Item(..) | Step::Index(_)));
                let made = if list {
                    Node { span, kind: Kind::Sequence(Vec::new()) }
                } else if rest.is_empty() {
                    Node { span, kind: Kind::Null }
                } else {
                    mapping(span)
                };
                set(node, key, made);
            }
            crate::edit::get_mut(node, key)
        }
        _ => crate::edit::get_mut(node, key),
    };
    if let Some(found) = found {
        descend(found, rest, create, change);
    }
}
