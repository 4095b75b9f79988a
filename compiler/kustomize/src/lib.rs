//! kustomize overlays: a directory with a `kustomization.yaml` to the objects that it means, each value with the place that wrote it.
//!
//! Work goes in kustomize's order: resources (bases first, depth first), generators, components, then patches, namespace, prefix, suffix, labels, annotations,
//! JSON patches, replicas, images, replacements; at the very end names get their hashes and references follow the names. What strake does not do is an error
//! that names it.
//!
//! Nothing is read here: [`wanted`] says which files are needed next, and the caller puts them into the [`Tree`] until nothing more is wanted.

mod content;
mod edit;
mod fields;
mod generate;
mod layer;
mod merge;
mod names;
mod patch;
mod pointer;
mod refer;
mod replace;
mod resource;
mod select;
mod tree;
mod want;
mod work;

use std::collections::{BTreeMap, HashMap, hash_map};

use strake_source::{Diagnostic, Sources, Span};
use strake_yaml::{Kind, Node};

use crate::layer::Layer;
use crate::resource::Resource;
use crate::tree::join;
pub use crate::tree::{Entry, FILE_NAMES, Tree, normal};
pub use crate::want::{references, wanted};
use crate::work::Work;

/// Layers may stand on layers this deep.
const MAX_DEPTH: usize = 32;
/// An object with this annotation is for tools, not for a cluster.
const LOCAL: &str = "config.kubernetes.io/local-config";

/// What an overlay means.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// The objects, in the order of their layers.
    pub objects: Vec<Node>,
    /// Where a patch's value took the place of another: the new place and the old one.
    pub replaced: BTreeMap<Span, Span>,
}

impl Built {
    /// Shows at each finding on a patched value what the value was before.
    pub fn trace(&self, diagnostics: &mut [Diagnostic]) {
        for finding in diagnostics {
            let mut at = finding.span;
            let mut steps = 0;
            while let Some(before) = at.and_then(|span| self.replaced.get(&span)).copied() {
                if steps == MAX_DEPTH || finding.labels.iter().any(|label| label.span == before) {
                    break;
                }
                finding.labels.push(strake_source::Label { span: before, message: "in place of this one".to_owned() });
                (at, steps) = (Some(before), steps + 1);
            }
        }
    }
}

/// Builds the overlay of a directory. Findings go to `diagnostics`, files that are read to `sources`; with an error among the findings, the objects are what could
/// be made.
pub fn build(tree: &Tree, directory: &str, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) -> Built {
    let mut work = Work::new(tree, sources, diagnostics);
    let mut resources = Vec::new();
    match tree.kustomization(&normal(directory)) {
        Ok(file) => {
            if let Some(layer) = open(&mut work, &file, None) {
                run(&mut work, &layer, &mut resources, &[file]);
            }
        }
        Err(why) => work.diagnostics.push(Diagnostic::error("kustomize-missing-file", format!("`{directory}` {why}"))),
    }
    generate::hash_names(&mut resources);
    refer::follow(&mut work, &mut resources);
    let replaced = std::mem::take(&mut work.replaced).into_iter().collect();
    let kept = resources.into_iter().filter(|resource| resource.texts("annotations").get(LOCAL).is_none_or(|value| value == "false"));
    Built { objects: kept.map(|resource| resource.node).collect(), replaced }
}

fn open(work: &mut Work<'_>, file: &str, named: Option<Span>) -> Option<Layer> {
    let place = named.unwrap_or_else(|| Span::new(strake_source::FileId(0), 0, 0));
    let id = work.open(file, place)?;
    let mut documents = work.documents(id);
    if documents.len() > 1 {
        let span = documents[1].span;
        work.error("kustomize-field", "a kustomization is one document", span);
    }
    let node = if documents.is_empty() { edit::mapping(Span::new(id, 0, 0)) } else { documents.remove(0) };
    let layer = Layer::new(node, file);
    // A base that two overlays share has its findings once.
    let mut findings = Vec::new();
    layer.check(&mut findings);
    findings.retain(|finding| !work.diagnostics.contains(finding));
    work.diagnostics.append(&mut findings);
    Some(layer)
}

/// Runs one layer; `path` is the files that led to it.
fn run(work: &mut Work<'_>, layer: &Layer, resources: &mut Vec<Resource>, path: &[String]) {
    let mut known: Known = HashMap::new();
    for (at, resource) in resources.iter().enumerate() {
        known.entry(resource.id().key()).or_insert(at);
    }
    let names: Vec<&Node> = layer.resources().collect();
    for (at, name) in names.iter().enumerate() {
        work.parse_ahead(layer, &names[at..]);
        accumulate(work, layer, name, (resources, &mut known), path);
    }
    generate::generate(work, layer, resources);
    for name in layer.items("components") {
        component(work, layer, name, resources, path);
    }
    patch::apply(work, layer, resources);
    if let Some(namespace) = layer.get("namespace") {
        names::namespace(work, namespace, resources);
    }
    layer.get("namePrefix").into_iter().for_each(|prefix| names::prefix(prefix, resources));
    layer.get("nameSuffix").into_iter().for_each(|suffix| names::suffix(suffix, resources));
    content::labels(layer, resources);
    content::annotations(layer, resources);
    patch::apply_json(work, layer, resources);
    content::replicas(work, layer, resources);
    content::images(layer, resources);
    replace::apply(work, layer, resources);
}

/// The places of resources, by what makes two the same.
type Known = HashMap<[String; 5], usize>;

/// A file of objects, or a layer below.
fn accumulate(work: &mut Work<'_>, layer: &Layer, name: &Node, (resources, known): (&mut Vec<Resource>, &mut Known), path: &[String]) {
    let Some(words) = name.as_str() else { return };
    if is_remote(words) {
        let finding = Diagnostic::error("kustomize-unsupported", format!("`{words}` lies elsewhere, and strake fetches no bases")).at(name.span);
        return work.diagnostics.push(finding.help("put a copy into the repository, and name its directory"));
    }
    let at = join(&layer.directory, words);
    let mut found = Vec::new();
    match work.tree.get(&at) {
        Some(Entry::Directory) => {
            let Some(below) = below(work, &at, name, path) else { return };
            if below.is_component() {
                let finding = Diagnostic::error("kustomize-field", format!("`{words}` is a component")).at(name.span);
                return work.diagnostics.push(finding.help("list it under `components`"));
            }
            run(work, &below, &mut found, &[path, std::slice::from_ref(&below.file)].concat());
        }
        _ => {
            let Some(file) = work.file(layer, name) else { return };
            work.documents(file).into_iter().for_each(|node| objects(node, &mut found));
        }
    }
    for resource in found {
        let id = resource.id();
        match known.entry(id.key()) {
            hash_map::Entry::Occupied(other) => {
                let finding = Diagnostic::error("kustomize-conflict", format!("{id} is there twice")).at(resource.span());
                work.diagnostics.push(finding.related(resources[*other.get()].span(), "first here").related(name.span, "since this is listed too"));
            }
            hash_map::Entry::Vacant(place) => {
                place.insert(resources.len());
                resources.push(resource);
            }
        }
    }
}

/// Documents; the items of a `List` one by one.
fn objects(node: Node, found: &mut Vec<Resource>) {
    let kind = edit::text_at(&node, &["kind"]);
    if kind.ends_with("List") && matches!(node.get("items").map(|items| &items.kind), Some(Kind::Sequence(_))) {
        return node.get("items").map(Node::items).unwrap_or_default().iter().for_each(|item| objects(item.clone(), found));
    }
    found.push(Resource::new(node));
}

fn component(work: &mut Work<'_>, layer: &Layer, name: &Node, resources: &mut Vec<Resource>, path: &[String]) {
    let Some(words) = name.as_str() else { return };
    if is_remote(words) {
        return work.error("kustomize-unsupported", format!("`{words}` lies elsewhere, and strake fetches no components"), name.span);
    }
    let at = join(&layer.directory, words);
    let Some(below) = below(work, &at, name, path) else { return };
    if !below.is_component() {
        let finding = Diagnostic::error("kustomize-field", format!("`{words}` is no component")).at(name.span);
        return work.diagnostics.push(finding.help("list it under `resources`, or write `kind: Component` in it"));
    }
    run(work, &below, resources, &[path, std::slice::from_ref(&below.file)].concat());
}

/// The layer of a directory, unless it leads to itself.
fn below(work: &mut Work<'_>, directory: &str, name: &Node, path: &[String]) -> Option<Layer> {
    let file = match work.tree.kustomization(directory) {
        Ok(file) => file,
        Err(why) => {
            let why = match work.tree.get(directory) {
                Some(Entry::Missing(why)) => why.clone(),
                _ => why,
            };
            work.error("kustomize-missing-file", format!("`{directory}`: {why}"), name.span);
            return None;
        }
    };
    if path.contains(&file) || path.len() > MAX_DEPTH {
        let ring = [path, std::slice::from_ref(&file)].concat().join(" -> ");
        work.error("kustomize-cycle", format!("this layer stands on itself: {ring}"), name.span);
        return None;
    }
    open(work, &file, Some(name.span))
}

/// URLs and git references.
fn is_remote(words: &str) -> bool {
    words.contains("://") || words.starts_with("git@") || words.contains("?ref=") || words.starts_with("github.com/")
}
