//! `labels`, `commonLabels`, `commonAnnotations`, `images` and `replicas`.

use strake_source::{Diagnostic, Spanned};
use strake_yaml::{Kind, Node};

use crate::edit::{child, items_mut, scalar, set, text, text_at};
use crate::fields::{ANNOTATIONS, CLAIM_LABELS, LABELS, Place, REPLICATED, SELECTORS, TEMPLATE_LABELS, visit};
use crate::layer::Layer;
use crate::resource::Resource;
use crate::work::Work;

/// `labels` and `commonLabels`.
pub(crate) fn labels(layer: &Layer, resources: &mut [Resource]) {
    for entry in layer.items("labels") {
        let Some(pairs) = entry.get("pairs") else { continue };
        let flag = |name: &str| entry.get(name).is_some_and(|node| matches!(node.kind, Kind::Bool(true)));
        let selectors = flag("includeSelectors");
        let mut places: Vec<&Place> = LABELS.iter().collect();
        if selectors {
            places.extend(SELECTORS.iter());
        }
        if selectors || flag("includeTemplates") {
            places.extend(TEMPLATE_LABELS.iter());
        }
        if selectors || flag("includeTemplates") || flag("includeVolumeClaimTemplates") {
            places.extend(CLAIM_LABELS.iter());
        }
        write(pairs, &places, resources);
        own_places(entry, pairs, resources);
    }
    if let Some(pairs) = layer.get("commonLabels") {
        let places: Vec<&Place> = [LABELS, TEMPLATE_LABELS, CLAIM_LABELS, SELECTORS].into_iter().flatten().collect();
        write(pairs, &places, resources);
    }
}

/// `commonAnnotations`.
pub(crate) fn annotations(layer: &Layer, resources: &mut [Resource]) {
    if let Some(pairs) = layer.get("commonAnnotations") {
        write(pairs, &ANNOTATIONS.iter().collect::<Vec<_>>(), resources);
    }
}

fn pairs_of(pairs: &Node) -> impl Iterator<Item = (&Spanned<String>, Node)> {
    pairs.entries().iter().filter_map(|(key, value)| Some((key, text(scalar(value)?, value.span))))
}

fn write(pairs: &Node, places: &[&Place], resources: &mut [Resource]) {
    for resource in resources.iter_mut() {
        let id = resource.id();
        for place in places.iter().filter(|place| place.of(&id.group, &id.kind)) {
            visit(&mut resource.node, place.path, place.create.then_some(pairs.span), &mut |node| {
                pairs_of(pairs).for_each(|(key, value)| set(node, &key.value, value));
            });
        }
    }
}

/// The `fields` of an entry of `labels`.
fn own_places(entry: &Node, pairs: &Node, resources: &mut [Resource]) {
    for field in entry.get("fields").map(Node::items).unwrap_or_default() {
        let (path, create) = (text_at(field, &["path"]), field.get("create").is_some_and(|node| matches!(node.kind, Kind::Bool(true))));
        let (group, version, kind) = (text_at(field, &["group"]), text_at(field, &["version"]), text_at(field, &["kind"]));
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        for resource in resources.iter_mut() {
            let id = resource.id();
            if fits(group, &id.group) && fits(version, &id.version) && fits(kind, &id.kind) {
                visit(&mut resource.node, path, create.then_some(field.span), &mut |node| {
                    pairs_of(pairs).for_each(|(key, value)| set(node, &key.value, value));
                });
            }
        }
    }
}

/// `replicas`.
pub(crate) fn replicas(work: &mut Work<'_>, layer: &Layer, resources: &mut [Resource]) {
    for entry in layer.items("replicas") {
        let (Some(name), Some(count)) = (entry.get("name").and_then(Node::as_str), entry.get("count")) else { continue };
        let mut found = false;
        for resource in resources.iter_mut() {
            let ids = resource.ids();
            if !ids.iter().any(|id| id.name == name && REPLICATED.contains(&id.kind.as_str())) {
                continue;
            }
            found = true;
            if let Some(spec) = child(&mut resource.node, "spec", count.span) {
                set(spec, "replicas", count.clone());
            }
        }
        if !found {
            let message = format!("nothing with replicas is called `{name}`");
            let span = entry.get("name").map_or(entry.span, |node| node.span);
            let names: Vec<String> = resources.iter().map(Resource::original).filter(|id| REPLICATED.contains(&id.kind.as_str())).map(|id| id.name).collect();
            let finding = Diagnostic::error("kustomize-no-target", message).at(span);
            work.diagnostics.push(match strake_source::nearest(name, names.iter().map(String::as_str)) {
                Some(near) => finding.label(format!("did you mean `{near}`?")),
                None => finding.help(format!("there are: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })),
            });
        }
    }
}

/// `images`.
pub(crate) fn images(layer: &Layer, resources: &mut [Resource]) {
    for entry in layer.items("images").iter().chain(layer.items("imageTags")) {
        let change = Image {
            name: text_at(entry, &["name"]).to_owned(),
            new_name: given(entry, "newName"),
            tag: given(entry, "newTag"),
            suffix: given(entry, "tagSuffix"),
            digest: given(entry, "digest"),
        };
        for resource in resources.iter_mut().filter(|resource| resource.id().kind != "CustomResourceDefinition") {
            sweep(&mut resource.node, &change);
        }
    }
}

fn given(entry: &Node, name: &str) -> Option<Node> {
    let node = entry.get(name)?;
    Some(text(scalar(node).filter(|text| !text.is_empty())?, node.span))
}

struct Image {
    name: String,
    new_name: Option<Node>,
    tag: Option<Node>,
    suffix: Option<Node>,
    digest: Option<Node>,
}

/// Every list of containers at any depth, and the images of volumes.
fn sweep(node: &mut Node, change: &Image) {
    if let Some(items) = items_mut(node) {
        return items.iter_mut().for_each(|item| sweep(item, change));
    }
    let Some(entries) = crate::edit::entries_mut(node) else { return };
    for (key, value) in entries {
        match key.value.as_str() {
            "containers" | "initContainers" => {
                for item in items_mut(value).into_iter().flatten() {
                    crate::edit::get_mut(item, "image").into_iter().for_each(|image| rewrite(image, change));
                }
            }
            "volumes" => {
                for item in items_mut(value).into_iter().flatten() {
                    let image = crate::edit::get_mut(item, "image").and_then(|image| crate::edit::get_mut(image, "reference"));
                    image.into_iter().for_each(|image| rewrite(image, change));
                }
            }
            _ => {}
        }
        sweep(value, change);
    }
}

fn rewrite(node: &mut Node, change: &Image) {
    let Some((name, tag, digest)) = node.as_str().map(split) else { return };
    if name != change.name {
        return;
    }
    let word = |node: &Option<Node>| node.as_ref().and_then(Node::as_str).map(str::to_owned);
    let name = word(&change.new_name).unwrap_or_else(|| name.to_owned());
    let (mut tag, mut digest) = (tag.map(str::to_owned), digest.map(str::to_owned));
    // A new tag or digest says all; a suffix goes behind the tag that is there, once (kustomize 5.5 does it twice).
    match (word(&change.tag), word(&change.digest)) {
        (None, None) => {}
        (new_tag, new_digest) => (tag, digest) = (new_tag, new_digest),
    }
    if let (Some(suffix), Some(old), None) = (word(&change.suffix), &tag, &change.tag) {
        tag = Some(format!("{old}{suffix}"));
    }
    let mut image = name;
    if let Some(tag) = tag {
        image = format!("{image}:{tag}");
    }
    if let Some(digest) = digest {
        image = format!("{image}@{digest}");
    }
    let places = [&change.new_name, &change.tag, &change.digest, &change.suffix];
    let span = places.into_iter().flatten().next().map_or(node.span, |node| node.span);
    *node = text(image, span);
}

/// Name, tag and digest; a port of the registry is no tag.
fn split(image: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    match rest[slash..].rfind(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..]), digest),
        None => (rest, None, digest),
    }
}
