//! Findings of one object, with their places in its file.

use serde_json::Value;
use strake_kinds::apply::{self, ApplyError};
use strake_kinds::decode::{self, FieldError, Problem};
use strake_kinds::path::{FieldPath, Segment};
use strake_kinds::structural;
use strake_kinds::validate::{self, Invalid, Reason};
use strake_source::{Diagnostic, Sources};

use crate::Manifest;
use crate::documents::Found;

/// Strict decoding first; what decodes is defaulted and validated, and must have keys that server-side apply can tell apart.
pub(crate) fn check(manifest: &Manifest, sources: &Sources) -> Vec<Diagnostic> {
    if manifest.kind.is_custom() {
        return name(manifest);
    }
    let schema = manifest.kind.schema();
    let errors = decode::check(&manifest.value, schema);
    if !errors.is_empty() {
        return errors.iter().map(|error| field(manifest, error, sources)).collect();
    }
    let mut findings = name(manifest);
    let mut value = manifest.value.clone();
    strake_kinds::default::apply(&mut value, manifest.kind);
    let invalid = validate::object(&value, manifest.kind);
    // Names have been looked at already.
    let named = |error: &&Invalid| error.path.pointer() != "/metadata/name" || findings.is_empty();
    let invalid: Vec<Diagnostic> = invalid.iter().filter(named).map(|error| refused(manifest, error)).collect();
    findings.extend(invalid);
    if let Err(ApplyError::List { path, problem }) = apply::tell_apart(&manifest.value, schema) {
        let span = manifest.span(&path.pointer());
        let duplicate = findings.iter().any(|finding| finding.span.is_some_and(|other| other.start >= span.start && other.end <= span.end));
        if !duplicate {
            findings.push(Diagnostic::error("duplicate-item", format!("`{path}`: {problem}")).at(span));
        }
    }
    findings
}

/// A custom resource by its schema: what a server that has its definition would refuse. Rules that only the server can evaluate are said once for a kind.
pub(crate) fn custom(manifest: &Manifest, schema: &Value, sources: &Sources) -> Vec<Found> {
    let found = structural::check(&manifest.value, schema);
    let mut findings: Vec<Found> = found.fields.iter().map(|error| field(manifest, error, sources).into()).collect();
    let named = |error: &&Invalid| error.path.pointer() != "/metadata/name" || !manifest.id.name.is_empty();
    let general = validate::object(&manifest.value, manifest.kind);
    findings.extend(general.iter().filter(named).chain(&found.invalid).map(|error| Found::from(refused(manifest, error))));
    // A rule often fails for what is missing, which is told already.
    for left in found.left.iter().filter(|_| found.fields.is_empty()) {
        let message = format!("a rule of {} is left to the server: {}", manifest.kind.kind, left.why);
        let finding = Diagnostic::warning("server-rule", message).at(manifest.span(&left.path.pointer())).help(format!("the rule: {}", left.rule));
        findings.push(Found { finding, rule: Some((manifest.kind.kind, left.rule.clone())) });
    }
    findings
}

/// An applied object is found again by its name.
fn name(manifest: &Manifest) -> Vec<Diagnostic> {
    if !manifest.id.name.is_empty() {
        return Vec::new();
    }
    let generated = manifest.at("/metadata/generateName").is_some();
    let message = format!("this {} has no name", manifest.kind.kind);
    let finding = Diagnostic::error("missing-field", message).at(manifest.node.nearest_span("/metadata/name"));
    let help = if generated { "generateName makes a new object each time: an applied object needs metadata.name" } else { "give it metadata.name" };
    vec![finding.help(help)]
}

fn last(path: &FieldPath) -> String {
    match path.0.last() {
        Some(Segment::Field(name) | Segment::Key(name)) => name.clone(),
        Some(Segment::Index(index)) => format!("item {index}"),
        None => "object".to_owned(),
    }
}

fn parent(path: &FieldPath) -> FieldPath {
    FieldPath(path.0[..path.0.len().saturating_sub(1)].to_vec())
}

fn place(manifest: &Manifest, path: &FieldPath) -> String {
    if path.0.is_empty() { manifest.kind.kind.to_owned() } else { format!("{} {path}", manifest.kind.kind) }
}

fn field(manifest: &Manifest, error: &FieldError, sources: &Sources) -> Diagnostic {
    let pointer = error.path.pointer();
    let name = last(&error.path);
    let inside = place(manifest, &parent(&error.path));
    match &error.problem {
        Problem::Unknown { nearest, belongs } => {
            let span = manifest.node.key_span_at(&pointer).unwrap_or(manifest.node.span);
            let mut finding = Diagnostic::error("unknown-field", format!("unknown field `{name}` in {inside}")).at(span);
            if let Some(belongs) = belongs {
                finding = finding.label("does not belong here").help(format!("`{name}` belongs at `{belongs}`"));
            } else if let Some(nearest) = nearest {
                finding = finding.label(format!("did you mean `{nearest}`?"));
            }
            finding
        }
        Problem::Duplicate => Diagnostic::error("duplicate-field", format!("`{name}` is given twice in {inside}")).at(manifest.span(&pointer)),
        Problem::WrongType { found, expected } => {
            let finding = Diagnostic::error("wrong-type", format!("`{}` must be {expected}, found {found}", error.path));
            let finding = finding.at(manifest.span(&pointer)).label(format!("expected {expected}"));
            match quoted(manifest, &pointer, expected, sources) {
                Some(help) => finding.help(help),
                None => finding,
            }
        }
        Problem::MissingRequired => {
            let span = manifest.node.nearest_span(&pointer);
            Diagnostic::error("missing-field", format!("{inside} has no `{name}`")).at(span).label(format!("`{name}` must be given"))
        }
    }
}

/// Text that YAML reads as something else is the most common mistake of this kind.
fn quoted(manifest: &Manifest, pointer: &str, expected: &str, sources: &Sources) -> Option<String> {
    let value = manifest.at(pointer)?;
    let plain = matches!(value, Value::Number(_) | Value::Bool(_));
    let written = sources.text(manifest.node.span_at(pointer)?);
    (plain && expected == "a string").then(|| format!("write it in quotes: \"{written}\""))
}

fn refused(manifest: &Manifest, error: &Invalid) -> Diagnostic {
    let pointer = error.path.pointer();
    let code = match error.reason {
        Reason::Required => "missing-field",
        Reason::Duplicate => "duplicate-item",
        Reason::Forbidden => "forbidden-field",
        Reason::Invalid | Reason::NotSupported | Reason::TooLong | Reason::NotFound => "invalid-value",
    };
    let what = match error.reason {
        Reason::Required => format!("`{}` must be given", error.path),
        Reason::Duplicate => format!("`{}` is there twice", error.path),
        Reason::Forbidden => format!("`{}` may not be given", error.path),
        Reason::TooLong => format!("`{}` is too long", error.path),
        Reason::Invalid | Reason::NotSupported | Reason::NotFound => match &error.value {
            Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => format!("`{}` cannot be {value}", error.path),
            _ => format!("`{}` is not valid", error.path),
        },
    };
    let message = if error.message.is_empty() { what } else { format!("{what}: {}", error.message) };
    Diagnostic::error(code, message).at(manifest.span(&pointer))
}
