//! `namespace`, `namePrefix` and `nameSuffix`.

use std::collections::{HashMap, hash_map};

use strake_source::{Diagnostic, Span};
use strake_yaml::Node;

use crate::edit::{child, items_mut, set, text, text_at};
use crate::fields::{NAMESPACES, visit};
use crate::resource::Resource;
use crate::work::Work;

/// Puts everything that lives in a namespace into this one.
pub(crate) fn namespace(work: &mut Work<'_>, name: &Node, resources: &mut [Resource]) {
    let Some(wanted) = name.as_str().filter(|wanted| !wanted.is_empty()) else { return };
    for resource in resources.iter_mut() {
        resource.remember();
        let id = resource.id();
        let written = || text(wanted, name.span);
        let field = match (id.cluster_scoped(), id.kind.as_str(), id.group.as_str()) {
            (false, ..) => Some("namespace"),
            (true, "Namespace", "") => Some("name"),
            _ => None,
        };
        if let Some((field, metadata)) = field.zip(child(&mut resource.node, "metadata", name.span)) {
            set(metadata, field, written());
        }
        if matches!(id.kind.as_str(), "RoleBinding" | "ClusterRoleBinding") {
            subjects(&mut resource.node, &written());
        }
        for place in NAMESPACES.iter().filter(|place| place.of(&id.group, &id.kind)) {
            visit(&mut resource.node, place.path, place.create.then_some(name.span), &mut |node| *node = written());
        }
    }
    conflicts(work, resources, name.span);
}

/// Only the subjects that everybody has: the others follow the account they name.
fn subjects(node: &mut Node, namespace: &Node) {
    let Some(items) = crate::edit::get_mut(node, "subjects").and_then(items_mut) else { return };
    for item in items.iter_mut().filter(|item| text_at(item, &["name"]) == "default") {
        set(item, "namespace", namespace.clone());
    }
}

/// Two objects may have become one.
pub(crate) fn conflicts(work: &mut Work<'_>, resources: &[Resource], cause: Span) {
    let mut known: HashMap<[String; 5], &Resource> = HashMap::new();
    for resource in resources {
        let id = resource.id();
        match known.entry(id.key()) {
            hash_map::Entry::Occupied(other) => {
                let finding = Diagnostic::error("kustomize-conflict", format!("two objects are called {id}")).at(resource.span());
                work.diagnostics.push(finding.related(other.get().span(), "the other one").related(cause, "since this change"));
            }
            hash_map::Entry::Vacant(place) => {
                place.insert(resource);
            }
        }
    }
}

/// Kinds whose names mean something by themselves.
fn keeps_its_name(resource: &Resource) -> bool {
    let id = resource.id();
    matches!(
        (id.group.as_str(), id.kind.as_str()),
        ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition") | ("apiregistration.k8s.io", "APIService")
    )
}

/// Puts text in front of every name.
pub(crate) fn prefix(prefix: &Node, resources: &mut [Resource]) {
    let Some(words) = prefix.as_str().filter(|words| !words.is_empty()) else { return };
    for resource in resources.iter_mut() {
        // The layer counts even where the name stays: references are told apart by it.
        resource.prefixes.push(words.to_owned());
        rename(resource, prefix.span, |name| format!("{words}{name}"));
    }
}

/// Puts text behind every name.
pub(crate) fn suffix(suffix: &Node, resources: &mut [Resource]) {
    let Some(words) = suffix.as_str().filter(|words| !words.is_empty()) else { return };
    for resource in resources.iter_mut() {
        resource.suffixes.push(words.to_owned());
        rename(resource, suffix.span, |name| format!("{name}{words}"));
    }
}

fn rename(resource: &mut Resource, span: Span, name: impl Fn(&str) -> String) {
    if keeps_its_name(resource) || resource.id().name.is_empty() {
        return;
    }
    resource.remember();
    // The name still stands where it was written: that is where a reader looks for it.
    let place = resource.node.span_at("/metadata/name").unwrap_or(span);
    let new = name(&resource.id().name);
    if let Some(metadata) = child(&mut resource.node, "metadata", span) {
        set(metadata, "name", text(new, place));
    }
}
