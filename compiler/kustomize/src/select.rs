//! Which resources a patch or a replacement means.

use regex::Regex;
use strake_source::{Diagnostic, Span};
use strake_words::LabelSelector;
use strake_yaml::Node;

use crate::resource::{Id, Resource};

/// A target: every given part must fit; names are regular expressions for the whole text.
pub(crate) struct Selector {
    parts: Vec<(Part, Regex)>,
    labels: Option<LabelSelector>,
    annotations: Option<LabelSelector>,
    pub(crate) span: Span,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Group,
    Version,
    Kind,
    Namespace,
    Name,
}

impl Part {
    fn of(self, id: &Id) -> &str {
        match self {
            Part::Group => &id.group,
            Part::Version => &id.version,
            Part::Kind => &id.kind,
            Part::Namespace => id.effective_namespace(),
            Part::Name => &id.name,
        }
    }
}

impl Selector {
    /// Reads a mapping; mistakes become findings.
    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Selector> {
        let mut selector = Selector { parts: Vec::new(), labels: None, annotations: None, span: node.span };
        let mut sound = true;
        let mut fail = |span: Span, message: String| {
            diagnostics.push(Diagnostic::error("kustomize-field", message).at(span));
            sound = false;
        };
        for (key, value) in node.entries() {
            // Unknown and mistyped fields are told by the table of fields.
            let Some(text) = value.as_str() else { continue };
            let part = match key.value.as_str() {
                "group" => Part::Group,
                "version" => Part::Version,
                "kind" => Part::Kind,
                "namespace" => Part::Namespace,
                "name" => Part::Name,
                "labelSelector" | "annotationSelector" => {
                    match LabelSelector::parse(text) {
                        Ok(read) if key.value == "labelSelector" => selector.labels = Some(read),
                        Ok(read) => selector.annotations = Some(read),
                        Err(error) => fail(value.span, format!("`{text}` is not a selector: {error}")),
                    }
                    continue;
                }
                _ => continue,
            };
            if text.is_empty() {
                continue;
            }
            match Regex::new(&format!("^(?:{text})$")) {
                Ok(regex) => selector.parts.push((part, regex)),
                Err(_) => fail(value.span, format!("`{text}` is not a regular expression")),
            }
        }
        sound.then_some(selector)
    }

    /// Whether a resource is meant, by any name it has had.
    pub(crate) fn fits(&self, resource: &Resource) -> bool {
        let named = resource.ids().iter().any(|id| self.parts.iter().all(|(part, regex)| regex.is_match(part.of(id))));
        let labels = || self.labels.as_ref().is_none_or(|selector| selector.matches(&resource.texts("labels")));
        let annotations = || self.annotations.as_ref().is_none_or(|selector| selector.matches(&resource.texts("annotations")));
        named && labels() && annotations()
    }
}
