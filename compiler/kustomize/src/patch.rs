//! `patches` and its two older forms: where a patch comes from, what it is aimed at, and applying it.

use strake_source::{Diagnostic, FileId, Sources, Span};
use strake_yaml::{Kind, Node};

use crate::edit::{relocate, set, text_at};
use crate::layer::Layer;
use crate::merge::{self, Conflict};
use crate::pointer;
use crate::resource::{Id, Resource};
use crate::select::Selector;
use crate::work::Work;

/// What a patch may change besides content.
#[derive(Clone, Copy, Default)]
struct Allow {
    name: bool,
    kind: bool,
}

/// All patches of a layer, in kustomize's order except for `patchesJson6902`, which come later.
pub(crate) fn apply(work: &mut Work<'_>, layer: &Layer, resources: &mut Vec<Resource>) {
    for entry in layer.items("patchesStrategicMerge") {
        let Some(text) = entry.as_str() else { continue };
        // A text with several lines is the patch itself.
        let documents = if text.contains('\n') || text.trim_start().starts_with('{') { inline(work, entry) } else { from_file(work, layer, entry) };
        documents.iter().for_each(|patch| aimed_by_itself(work, patch, resources));
    }
    for entry in layer.items("patches") {
        one(work, layer, entry, resources);
    }
}

/// `patchesJson6902`.
pub(crate) fn apply_json(work: &mut Work<'_>, layer: &Layer, resources: &mut Vec<Resource>) {
    for entry in layer.items("patchesJson6902") {
        one(work, layer, entry, resources);
    }
}

fn one(work: &mut Work<'_>, layer: &Layer, entry: &Node, resources: &mut Vec<Resource>) {
    let documents = match (entry.get("path"), entry.get("patch")) {
        (Some(_), Some(second)) => {
            return work.error("kustomize-field", "a patch has either `path` or `patch`, not both", second.span);
        }
        (Some(path), None) => from_file(work, layer, path),
        (None, Some(text)) => inline(work, text),
        (None, None) => return work.error("kustomize-field", "a patch needs `path` (a file) or `patch` (its text)", entry.span),
    };
    let target = match entry.get("target") {
        Some(node) => match Selector::read(node, work.diagnostics) {
            Some(selector) => Some(selector),
            None => return,
        },
        None => None,
    };
    let flag = |name: &str| entry.get("options").and_then(|options| options.get(name)).is_some_and(|node| matches!(node.kind, Kind::Bool(true)));
    let allow = Allow { name: flag("allowNameChange"), kind: flag("allowKindChange") };
    for patch in &documents {
        match (&target, &patch.kind) {
            (Some(target), _) => aimed(work, patch, target, allow, resources),
            (None, Kind::Sequence(_)) => work.error("kustomize-patch", "a JSON patch needs a `target`: it does not say what it changes", entry.span),
            (None, _) => aimed_by_itself(work, patch, resources),
        }
    }
}

fn from_file(work: &mut Work<'_>, layer: &Layer, path: &Node) -> Vec<Node> {
    let Some(file) = work.file(layer, path) else { return Vec::new() };
    work.documents(file).into_iter().filter(|node| shaped(work, node)).collect()
}

/// A patch is an object or a list of operations.
fn shaped(work: &mut Work<'_>, node: &Node) -> bool {
    let good = matches!(node.kind, Kind::Mapping(_) | Kind::Sequence(_));
    if !good {
        work.error("kustomize-patch", format!("found {}, expected a part of an object or a list of operations", node.kind_name()), node.span);
    }
    good
}

/// A patch inside a kustomization. Its places are found again in the lines of the block that holds it.
fn inline(work: &mut Work<'_>, node: &Node) -> Vec<Node> {
    let Some(text) = node.as_str() else {
        work.error("kustomize-patch", format!("found {}, expected a patch as text: write `patch: |-`", node.kind_name()), node.span);
        return Vec::new();
    };
    let mut scratch = Sources::default();
    let file = scratch.add("patch", text);
    let (documents, findings) = strake_yaml::parse(file, text);
    let place = places(work.sources, node.span, text);
    for mut finding in findings {
        finding.span = finding.span.map(&place);
        finding.labels.iter_mut().for_each(|label| label.span = place(label.span));
        work.diagnostics.push(finding);
    }
    let mut roots: Vec<Node> = documents.into_iter().map(|document| document.root).collect();
    roots.iter_mut().for_each(|root| relocate(root, &place));
    roots.retain(|root| shaped(work, root));
    roots
}

/// Places in a block's text to places in its file; the block as a whole where its lines cannot be found.
fn places(sources: &Sources, block: Span, text: &str) -> impl Fn(Span) -> Span + use<> {
    let source = &sources.get(block.file).text;
    let mut starts: Vec<(usize, usize)> = Vec::new();
    let mut at = block.start as usize;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let words = line.trim();
        let found = if words.is_empty() { Some(at) } else { source.get(at..).and_then(|rest| rest.find(words)).map(|found| at + found) };
        let Some(found) = found else {
            starts.clear();
            break;
        };
        let indent = line.len() - line.trim_start().len();
        starts.push((offset, found.saturating_sub(indent)));
        at = found + words.len();
        offset += line.len();
    }
    move |span: Span| {
        let shift = |offset: u32| {
            let line = starts.iter().rev().find(|(start, _)| *start <= offset as usize)?;
            Some(line.1 + offset as usize - line.0)
        };
        match (shift(span.start), shift(span.end)) {
            (Some(start), Some(end)) if end >= start => Span::new(FileId(block.file.0), start, end),
            _ => block,
        }
    }
}

/// A strategic merge patch says itself what it changes: by kind, name and namespace.
fn aimed_by_itself(work: &mut Work<'_>, patch: &Node, resources: &mut Vec<Resource>) {
    if !matches!(patch.kind, Kind::Mapping(_)) {
        return work.error("kustomize-patch", format!("found {}, expected a part of an object", patch.kind_name()), patch.span);
    }
    let id = Id::of(patch);
    if id.kind.is_empty() || id.name.is_empty() {
        let message = "a patch without a `target` names its object: it needs apiVersion, kind and metadata.name";
        return work.error("kustomize-patch", message, patch.span);
    }
    let found: Vec<usize> = (0..resources.len()).filter(|at| resources[*at].was(&id)).collect();
    if found.is_empty() {
        let span = patch.span_at("/metadata/name").unwrap_or(patch.span);
        let names: Vec<String> = resources.iter().map(|resource| resource.id()).filter(|other| other.kind == id.kind).map(|other| other.name).collect();
        let mut finding = Diagnostic::error("kustomize-no-target", format!("this patch changes {id}, but there is no such object")).at(span);
        if let Some(near) = strake_source::nearest(&id.name, names.iter().map(String::as_str)) {
            finding = finding.label(format!("did you mean `{near}`?"));
        } else if !names.is_empty() {
            finding = finding.help(format!("objects of kind {}: {}", id.kind, names.join(", ")));
        }
        return work.diagnostics.push(finding);
    }
    change(work, patch, &found, Allow { name: true, kind: true }, resources);
}

fn aimed(work: &mut Work<'_>, patch: &Node, target: &Selector, allow: Allow, resources: &mut Vec<Resource>) {
    let found: Vec<usize> = (0..resources.len()).filter(|at| target.fits(&resources[*at])).collect();
    if found.is_empty() {
        let finding = Diagnostic::warning("kustomize-no-target", "this target fits no object: the patch changes nothing").at(target.span);
        return work.diagnostics.push(finding);
    }
    change(work, patch, &found, allow, resources);
}

fn change(work: &mut Work<'_>, patch: &Node, found: &[usize], allow: Allow, resources: &mut Vec<Resource>) {
    let mut gone = Vec::new();
    for at in found {
        let resource = &mut resources[*at];
        let (before, schema) = (resource.id(), resource.schema());
        let changed = match &patch.kind {
            Kind::Sequence(_) => pointer::apply(&mut resource.node, patch, &mut work.replaced).map(|()| true),
            _ => merge::merge(&mut resource.node, patch, schema, &mut work.replaced),
        };
        match changed {
            // Operations mean what they say; only a merge is held to its object.
            Ok(true) if matches!(patch.kind, Kind::Sequence(_)) => keep_name(resource, &before, Allow { name: true, kind: true }),
            Ok(true) => {
                keep_version(resource, &before);
                keep_name(resource, &before, allow);
            }
            Ok(false) => gone.push(*at),
            Err(Conflict { span, message }) => {
                let finding = Diagnostic::error("kustomize-patch", message).at(span);
                work.diagnostics.push(finding.related(resource.span(), format!("while it changes {before}")));
            }
        }
    }
    for at in gone.into_iter().rev() {
        resources.remove(at);
    }
}

/// A merge never changes the group and version: a patch with a target may name any.
fn keep_version(resource: &mut Resource, before: &Id) {
    let version = if before.group.is_empty() { before.version.clone() } else { format!("{}/{}", before.group, before.version) };
    if text_at(&resource.node, &["apiVersion"]) != version {
        let span = resource.node.span_at("/apiVersion").unwrap_or(resource.node.span);
        set(&mut resource.node, "apiVersion", crate::edit::text(version.as_str(), span));
    }
}

/// Name and kind stay as they were unless the patch may change them.
fn keep_name(resource: &mut Resource, before: &Id, allow: Allow) {
    let name = resource.node.get("metadata").and_then(|metadata| metadata.get("name")).cloned();
    let now = resource.id();
    if now.name != before.name && !allow.name {
        let span = name.map_or(resource.node.span, |node| node.span);
        if let Some(metadata) = crate::edit::child(&mut resource.node, "metadata", span) {
            set(metadata, "name", crate::edit::text(before.name.as_str(), span));
        }
    }
    if now.kind != before.kind && !allow.kind {
        let span = resource.node.span_at("/kind").unwrap_or(resource.node.span);
        set(&mut resource.node, "kind", crate::edit::text(before.kind.as_str(), span));
    }
    if text_at(&resource.node, &["metadata", "name"]) != before.name || resource.id().kind != before.kind {
        resource.before.push(before.clone());
    }
}
