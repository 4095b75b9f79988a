//! `${{ name }}` in manifests: a parameter of the project, put in as a value and not as text.

use std::collections::{BTreeMap, BTreeSet};

use strake_source::{Diagnostic, Sources, Span, nearest};
use strake_yaml::{Kind, Node};

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// Puts parameters in the place of `${{ name }}`. A text that is nothing else becomes the parameter with its type; inside a longer text a parameter must be a
/// text, a number or a flag. Keys are left as they are. The result stands where the parameter was used. Names that were used are added to `used`.
pub(crate) fn substitute(sources: &Sources, node: &mut Node, values: &BTreeMap<String, Node>, used: &mut BTreeSet<String>, diagnostics: &mut Vec<Diagnostic>) {
    match &mut node.kind {
        Kind::Sequence(items) => items.iter_mut().for_each(|item| substitute(sources, item, values, used, diagnostics)),
        Kind::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| substitute(sources, value, values, used, diagnostics)),
        Kind::String(text) if text.contains(OPEN) => {
            let text = text.clone();
            if let Some((kind, secret)) = replaced(sources, &text, node, values, used, diagnostics) {
                node.kind = kind;
                node.span = secret.unwrap_or(node.span);
            }
        }
        _ => {}
    }
}

/// What a text becomes; with the place of a secret that is a part of it: what has a secret in it stands where the secret does.
fn replaced(
    sources: &Sources,
    text: &str,
    node: &Node,
    values: &BTreeMap<String, Node>,
    used: &mut BTreeSet<String>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Kind, Option<Span>)> {
    let mut out = String::new();
    let mut secret = None;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let Some((name, behind)) = after.split_once(CLOSE) else {
            diagnostics.push(Diagnostic::error("value-syntax", format!("`{OPEN}` without `{CLOSE}`")).at(node.span));
            return None;
        };
        let name = name.trim();
        let Some(value) = values.get(name) else {
            let finding = Diagnostic::error("unknown-value", format!("there is no value `{name}`")).at(node.span);
            diagnostics.push(match nearest(name, values.keys().map(String::as_str)) {
                Some(near) => finding.label(format!("did you mean `{near}`?")),
                None => finding.help("declare it in strake.yaml, under `values`"),
            });
            return None;
        };
        used.insert(name.to_owned());
        if before.is_empty() && behind.is_empty() && out.is_empty() {
            return Some((placed(sources, value, node).kind, is_secret(sources, value)));
        }
        out.push_str(before);
        secret = secret.or_else(|| is_secret(sources, value));
        match &value.kind {
            Kind::String(text) => out.push_str(text),
            Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => out.push_str(&value.to_json().to_string()),
            Kind::Null | Kind::Sequence(_) | Kind::Mapping(_) => {
                let message = format!("`{name}` is {}, which cannot be a part of a text", value.kind_name());
                diagnostics.push(Diagnostic::error("value-syntax", message).at(node.span).related(value.span, "its value"));
                return None;
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    Some((Kind::String(out), secret))
}

/// The place of a value that stands encrypted in its file.
fn is_secret(sources: &Sources, value: &Node) -> Option<Span> {
    sources.secret_at(value.span).map(|_| value.span)
}

/// The value with the place where it is used: that is what a finding is about. A secret keeps its own.
fn placed(sources: &Sources, value: &Node, at: &Node) -> Node {
    let kind = match &value.kind {
        Kind::Sequence(items) => Kind::Sequence(items.iter().map(|item| placed(sources, item, at)).collect()),
        Kind::Mapping(entries) => {
            Kind::Mapping(entries.iter().map(|(key, value)| (strake_source::Spanned::new(key.value.clone(), at.span), placed(sources, value, at))).collect())
        }
        other => other.clone(),
    };
    Node { span: is_secret(sources, value).unwrap_or(at.span), kind }
}
