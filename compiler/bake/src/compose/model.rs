//! Compose files as one tree: variables filled in, short forms made long, files and `extends` merged.

use std::collections::BTreeMap;

use strake_source::{Diagnostic, Sources, Span, Spanned};
use strake_yaml::{Kind, Node};

use super::interpolate::fill;

/// Keys of `build` (and of a service) that are a mapping or a list of `KEY=VALUE`.
const PAIRS: [&str; 5] = ["args", "labels", "additional_contexts", "extra_hosts", "environment"];

/// The text of a scalar, as the file's readers have it: `yes` and its like are words here, not truths.
pub(crate) fn text(sources: &Sources, node: &Node) -> Option<String> {
    match &node.kind {
        Kind::String(text) => Some(text.clone()),
        Kind::Bool(value) => {
            let written = sources.text(node.span);
            Some(if ["true", "false"].iter().any(|word| written.eq_ignore_ascii_case(word)) { value.to_string() } else { written.to_owned() })
        }
        Kind::Int(number) => Some(number.to_string()),
        Kind::Float(number) => Some(number.to_string()),
        Kind::Null | Kind::Sequence(_) | Kind::Mapping(_) => None,
    }
}

/// Fills variables into every text below a node.
pub(crate) fn interpolate(node: &Node, lookup: &dyn Fn(&str) -> Option<String>, diagnostics: &mut Vec<Diagnostic>) -> Node {
    let kind = match &node.kind {
        Kind::String(text) if text.contains('$') => match fill(text, lookup) {
            Ok(filled) => {
                for name in filled.unset {
                    let message = format!("the variable {name} is not set: it is taken as an empty text");
                    diagnostics.push(Diagnostic::warning("compose-variable", message).at(node.span).help(format!("give it a default: ${{{name}:-…}}")));
                }
                Kind::String(filled.text)
            }
            Err(why) => {
                diagnostics.push(Diagnostic::error("compose-variable", why).at(node.span));
                node.kind.clone()
            }
        },
        Kind::Sequence(items) => Kind::Sequence(items.iter().map(|item| interpolate(item, lookup, diagnostics)).collect()),
        Kind::Mapping(entries) => Kind::Mapping(entries.iter().map(|(key, value)| (key.clone(), interpolate(value, lookup, diagnostics))).collect()),
        other => other.clone(),
    };
    Node { span: node.span, kind }
}

/// Makes short forms long, so that two services can be merged.
pub(crate) fn lengthen(sources: &Sources, service: &Node) -> Node {
    let each = |(key, value): &(Spanned<String>, Node)| {
        let value = match (key.value.as_str(), &value.kind) {
            ("build", Kind::String(_)) => mapping(value.span, vec![("context".to_owned(), value.span, value.clone())]),
            ("build", Kind::Mapping(_)) => pairs(sources, value),
            ("environment", _) => as_mapping(sources, value, '='),
            _ => value.clone(),
        };
        (key.clone(), value)
    };
    Node { span: service.span, kind: Kind::Mapping(service.entries().iter().map(each).collect()) }
}

fn pairs(sources: &Sources, build: &Node) -> Node {
    let each = |(key, value): &(Spanned<String>, Node)| {
        let value = match key.value.as_str() {
            "extra_hosts" => as_mapping(sources, value, ':'),
            name if PAIRS.contains(&name) => as_mapping(sources, value, '='),
            _ => value.clone(),
        };
        (key.clone(), value)
    };
    Node { span: build.span, kind: Kind::Mapping(build.entries().iter().map(each).collect()) }
}

fn mapping(span: Span, entries: Vec<(String, Span, Node)>) -> Node {
    let entries = entries.into_iter().map(|(key, span, value)| (Spanned { value: key, span }, value)).collect();
    Node { span, kind: Kind::Mapping(entries) }
}

/// A list of `KEY=VALUE` as a mapping; a key alone has no value. Other forms stay, and are reported where they are read.
fn as_mapping(sources: &Sources, node: &Node, separator: char) -> Node {
    let Kind::Sequence(items) = &node.kind else { return node.clone() };
    let mut entries: Vec<(String, Span, Node)> = Vec::new();
    for item in items {
        let Some(text) = text(sources, item) else { return node.clone() };
        let (key, kind) = match text.split_once('=').or_else(|| text.split_once(separator)) {
            Some((key, value)) => (key.to_owned(), Kind::String(value.to_owned())),
            None => (text, Kind::Null),
        };
        entries.retain(|(known, ..)| *known != key);
        entries.push((key, item.span, Node { span: item.span, kind }));
    }
    mapping(node.span, entries)
}

/// One tree on top of another: mappings are joined, lists grow, anything else is replaced.
pub(crate) fn merge(below: &Node, above: &Node) -> Node {
    let kind = match (&below.kind, &above.kind) {
        (Kind::Mapping(old), Kind::Mapping(new)) => {
            let mut entries = old.clone();
            for (key, value) in new {
                match entries.iter_mut().find(|(known, _)| known.value == key.value) {
                    Some((_, known)) => *known = merge(known, value),
                    None => entries.push((key.clone(), value.clone())),
                }
            }
            Kind::Mapping(entries)
        }
        (Kind::Sequence(old), Kind::Sequence(new)) => {
            let fresh = new.iter().filter(|item| !old.iter().any(|known| known.to_json() == item.to_json()));
            Kind::Sequence(old.iter().chain(fresh).cloned().collect())
        }
        (_, new) => new.clone(),
    };
    Node { span: above.span, kind }
}

/// The services with what they extend.
pub(crate) fn extend(sources: &Sources, services: &BTreeMap<String, Node>, diagnostics: &mut Vec<Diagnostic>) -> BTreeMap<String, Node> {
    services.keys().filter_map(|name| Some((name.clone(), extended(sources, services, name, &mut Vec::new(), diagnostics)?))).collect()
}

fn extended(sources: &Sources, services: &BTreeMap<String, Node>, name: &str, path: &mut Vec<String>, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
    let service = services.get(name)?;
    let Some(extends) = service.get("extends") else { return Some(service.clone()) };
    let mut fail = |code, message: String, help: Option<String>| {
        let mut finding = Diagnostic::error(code, message).at(extends.span);
        finding.help.extend(help);
        diagnostics.push(finding);
        None
    };
    if extends.get("file").is_some() {
        let message = "`extends` of another file is not supported".to_owned();
        return fail("compose-unsupported", message, Some("give that file with -f as well, and extend its service by name alone".to_owned()));
    }
    let Some(other) = extends.get("service").or(Some(extends)).and_then(|node| text(sources, node)) else {
        return fail("compose-value", "`extends` names a service".to_owned(), None);
    };
    if path.contains(&other) || other == name {
        return fail("bake-cycle", format!("the service `{name}` extends itself"), None);
    }
    if !services.contains_key(&other) {
        let near = strake_source::nearest(&other, services.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        return fail("bake-unknown-target", format!("there is no service `{other}`"), near);
    }
    path.push(name.to_owned());
    let below = extended(sources, services, &other, path, diagnostics)?;
    path.pop();
    // What a service extends says nothing about what it depends on.
    let entries = below.entries().iter().filter(|(key, _)| key.value != "extends").cloned().collect();
    Some(merge(&Node { span: below.span, kind: Kind::Mapping(entries) }, service))
}
