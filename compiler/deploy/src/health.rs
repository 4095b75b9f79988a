//! When objects are as they should be, where that is said in CEL: by their annotations, or for a whole kind by the project's file. What the file says becomes
//! annotations of the kind's objects, so that whoever looks at them later, from wherever, judges them alike.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strake_kinds::health::{ALL, check as check_expression};
use strake_source::{Diagnostic, Spanned, nearest};

use crate::manifest::Manifest;
use crate::wishes::place;

/// What the project's file says of the health of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthRule {
    /// `KIND.GROUP` as it is written.
    pub kind: Spanned<String>,
    /// The group.
    pub group: String,
    /// The kind.
    pub name: String,
    /// Expressions by the annotation that stands for each.
    pub expressions: BTreeMap<&'static str, String>,
}

impl HealthRule {
    fn is_about(&self, manifest: &Manifest) -> bool {
        manifest.id.group == self.group && manifest.id.kind == self.name
    }
}

fn annotation<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a str> {
    manifest.value["metadata"]["annotations"][name].as_str()
}

/// The object with what the file says of its kind. What its own annotations say counts more: then the file says nothing of it.
pub(crate) fn stated(mut object: Value, manifest: &Manifest, rules: &[HealthRule]) -> Value {
    let rule = rules.iter().find(|rule| rule.is_about(manifest));
    let Some(rule) = rule.filter(|_| ALL.iter().all(|name| annotation(manifest, name).is_none())) else { return object };
    let metadata = &mut object["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    for (name, expression) in &rule.expressions {
        metadata["annotations"][*name] = expression.as_str().into();
    }
    object
}

/// What is wrong with annotations, and rules of the file that are about nothing.
pub(crate) fn check(manifests: &[Manifest], rules: &[HealthRule]) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for manifest in manifests {
        for name in ALL {
            if let Some(Err(why)) = annotation(manifest, name).map(check_expression) {
                let finding = Diagnostic::error("health-expression", format!("the expression of {name} cannot be used: {why}"));
                findings.push(finding.at(place(manifest, name)));
            }
        }
    }
    let full = |manifest: &Manifest| [manifest.id.kind.as_str(), manifest.id.group.as_str()].join(".").trim_end_matches('.').to_owned();
    for rule in rules.iter().filter(|rule| !manifests.iter().any(|manifest| rule.is_about(manifest))) {
        let kinds: Vec<String> = manifests.iter().map(full).collect();
        let message = format!("no object is a {}", rule.kind.value);
        findings.push(match nearest(&rule.kind.value, kinds.iter().map(String::as_str)) {
            Some(near) => Diagnostic::warning("project-file", message).at(rule.kind.span).label(format!("did you mean `{near}`?")),
            // Another environment may have some.
            None => Diagnostic::note("project-file", message).at(rule.kind.span),
        });
    }
    findings
}
