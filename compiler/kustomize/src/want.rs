//! Which files an overlay needs.

use std::collections::BTreeSet;

use strake_source::Sources;
use strake_yaml::Node;

use crate::layer::Layer;
use crate::tree::{Entry, FILE_NAMES, Tree, join, normal};

/// Paths to look at next, so that the overlay of `directory` can be built; nothing when all has been looked at. Each answer is about what is in the tree: look at
/// all of it, insert what is there, and ask again.
pub fn wanted(tree: &Tree, directory: &str) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    let mut seen = BTreeSet::new();
    layer(tree, &normal(directory), &mut wanted, &mut seen);
    wanted
}

/// The directories that the kustomization in a file's text stands on: the bases and components of a file at `path`.
pub fn references(path: &str, text: &str) -> BTreeSet<String> {
    read(path, text).map(|layer| layers(&layer).collect()).unwrap_or_default()
}

fn read(path: &str, text: &str) -> Option<Layer> {
    let mut scratch = Sources::default();
    let file = scratch.add(path, text);
    let (documents, _) = strake_yaml::parse(file, text);
    Some(Layer::new(documents.into_iter().next()?.root, path))
}

fn layers(layer: &Layer) -> impl Iterator<Item = String> {
    let names = layer.resources().chain(layer.items("components")).filter_map(Node::as_str);
    let local: Vec<String> = names.filter(|name| !crate::is_remote(name)).map(|name| join(&layer.directory, name)).collect();
    local.into_iter()
}

fn layer(tree: &Tree, directory: &str, wanted: &mut BTreeSet<String>, seen: &mut BTreeSet<String>) {
    if !seen.insert(directory.to_owned()) {
        return;
    }
    let mut files = FILE_NAMES.iter().map(|name| join(directory, name)).peekable();
    let unknown: Vec<String> = files.by_ref().filter(|path| tree.get(path).is_none()).collect();
    if !unknown.is_empty() {
        return wanted.extend(unknown);
    }
    let Ok(path) = tree.kustomization(directory) else { return };
    let Some(layer) = tree.text(&path).ok().and_then(|text| read(&path, text)) else { return };
    for below in layers(&layer) {
        match tree.get(&below) {
            None => {
                wanted.insert(below);
            }
            Some(Entry::Directory) => self::layer(tree, &below, wanted, seen),
            Some(_) => {}
        }
    }
    let paths = paths(&layer).into_iter().map(|name| join(&layer.directory, &name));
    wanted.extend(paths.filter(|path| tree.get(path).is_none()));
}

/// The files that a layer reads besides its objects.
fn paths(layer: &Layer) -> Vec<String> {
    let text = |node: &Node| node.as_str().map(str::to_owned);
    let patches = layer.items("patches").iter().chain(layer.items("patchesJson6902")).chain(layer.items("replacements"));
    let mut paths: Vec<String> = patches.filter_map(|entry| text(entry.get("path")?)).collect();
    paths.extend(layer.items("patchesStrategicMerge").iter().filter_map(text).filter(|words| !words.contains('\n') && !words.trim_start().starts_with('{')));
    for entry in layer.items("configMapGenerator").iter().chain(layer.items("secretGenerator")) {
        let list = |name: &str| entry.get(name).map(Node::items).unwrap_or_default();
        paths.extend(list("envs").iter().chain(entry.get("env")).filter_map(text));
        let files = list("files").iter().filter_map(Node::as_str);
        paths.extend(files.map(|words| words.split_once('=').map_or(words, |(_, path)| path).to_owned()));
    }
    paths
}
