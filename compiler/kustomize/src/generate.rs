//! `configMapGenerator` and `secretGenerator`, and the hash that their names end in.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use strake_source::{Diagnostic, FileId, Plain, Span};
use strake_yaml::{Kind, Node};

use crate::edit::{child, mapping, set, text, text_at};
use crate::layer::Layer;
use crate::resource::{Id, Resource};
use crate::tree::Entry;
use crate::work::Work;

/// Makes the ConfigMaps and Secrets of a layer.
pub(crate) fn generate(work: &mut Work<'_>, layer: &Layer, resources: &mut Vec<Resource>) {
    for (field, kind) in [("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")] {
        for entry in layer.items(field) {
            if let Some(made) = make(work, layer, entry, kind) {
                place(work, entry, made, resources);
            }
        }
    }
}

fn make(work: &mut Work<'_>, layer: &Layer, entry: &Node, kind: &str) -> Option<Resource> {
    let Some(name) = entry.get("name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty())) else {
        work.error("kustomize-field", "a generator needs `name`", entry.span);
        return None;
    };
    let data = data(work, layer, entry)?;
    let mut node = mapping(entry.span);
    set(&mut node, "apiVersion", text("v1", entry.span));
    set(&mut node, "kind", text(kind, entry.span));
    let metadata = child(&mut node, "metadata", entry.span)?;
    set(metadata, "name", name.clone());
    if let Some(namespace) = entry.get("namespace").filter(|node| node.as_str().is_some()) {
        set(metadata, "namespace", namespace.clone());
    }
    // Options of the entry over those of the layer.
    let options: Vec<&Node> = [layer.get("generatorOptions"), entry.get("options")].into_iter().flatten().collect();
    for field in ["labels", "annotations"] {
        for (key, value) in options.iter().filter_map(|options| options.get(field)).flat_map(Node::entries) {
            set(child(metadata, field, value.span)?, &key.value, value.clone());
        }
    }
    if kind == "Secret" {
        let type_ = entry.get("type").filter(|node| node.as_str().is_some()).cloned();
        set(&mut node, "type", type_.unwrap_or_else(|| text("Opaque", entry.span)));
    }
    for (key, (bytes, span)) in data {
        let plain = String::from_utf8(bytes.clone()).ok().filter(|_| kind == "ConfigMap");
        let field = if kind == "ConfigMap" && plain.is_none() { "binaryData" } else { "data" };
        let value = plain.unwrap_or_else(|| STANDARD.encode(&bytes));
        set(child(&mut node, field, entry.span)?, &key, text(value, span));
    }
    let flag = |name: &str| options.iter().rev().find_map(|options| options.get(name)).is_some_and(|node| matches!(node.kind, Kind::Bool(true)));
    if flag("immutable") {
        set(&mut node, "immutable", Node { span: entry.span, kind: Kind::Bool(true) });
    }
    Some(Resource { hashed: !flag("disableNameSuffixHash"), ..Resource::new(node) })
}

type Data = BTreeMap<String, (Vec<u8>, Span)>;

/// Keys and values, sorted; `None` after a finding.
fn data(work: &mut Work<'_>, layer: &Layer, entry: &Node) -> Option<Data> {
    let mut found = Data::new();
    let mut sound = true;
    let list = |name: &str| entry.get(name).map(Node::items).unwrap_or_default();
    let envs = list("envs").iter().chain(entry.get("env"));
    for file in envs {
        let Some(id) = work.file(layer, file) else {
            sound = false;
            continue;
        };
        let lines = match work.tree.opened(&work.sources.get(id).name) {
            Some(opened) => String::from_utf8_lossy(&opened.plain).into_owned(),
            None => work.sources.get(id).text.to_string(),
        };
        for line in lines.trim_start_matches('\u{feff}').lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once('=') {
                Some((key, value)) => sound &= add(work, &mut found, key, value.as_bytes().to_vec(), written(work, id, value).unwrap_or(file.span)),
                None => {
                    let line = work.sources.redact(line);
                    let message = format!("`{line}` has no value: strake takes none from the environment, since a plan must not depend on it");
                    work.error("kustomize-field", message, file.span);
                    sound = false;
                }
            }
        }
    }
    for file in list("files") {
        let Some(words) = file.as_str() else { continue };
        let (key, path) = words.split_once('=').unwrap_or_else(|| (words.rsplit('/').next().unwrap_or(words), words));
        let Some(path) = work.path(layer, file.span, path) else {
            sound = false;
            continue;
        };
        match work.tree.get(&path) {
            Some(Entry::File(bytes)) => {
                let (bytes, span) = match work.tree.opened(&path) {
                    Some(opened) => (opened.plain.clone(), sealed_place(work, &path, file.span)),
                    None => (bytes.clone(), file.span),
                };
                sound &= add(work, &mut found, key, bytes, span);
            }
            other => {
                let why = match other {
                    Some(Entry::Missing(why)) => why.clone(),
                    Some(Entry::Directory) => "is a directory: name each file".to_owned(),
                    _ => "was not read".to_owned(),
                };
                work.error("kustomize-missing-file", format!("`{path}`: {why}"), file.span);
                sound = false;
            }
        }
    }
    for literal in list("literals") {
        let Some((key, value)) = literal.as_str().and_then(|words| words.split_once('=')) else {
            work.error("kustomize-field", "a literal is `KEY=VALUE`", literal.span);
            sound = false;
            continue;
        };
        sound &= add(work, &mut found, key, unquoted(value).as_bytes().to_vec(), literal.span);
    }
    sound.then_some(found)
}

/// Where a value of an encrypted file stands: there everybody knows that it is secret.
fn written(work: &Work<'_>, file: FileId, value: &str) -> Option<Span> {
    let secrets = work.sources.get(file).secrets()?;
    let found = secrets.iter().find(|secret| matches!(&secret.value, Plain::Text(text) if text.replace('\n', "\\n") == value))?;
    Some(Span::new(file, found.start as usize, found.end as usize))
}

/// A place in an encrypted file that stands for all of it.
fn sealed_place(work: &mut Work<'_>, path: &str, named: Span) -> Span {
    let Some(id) = work.open(path, named) else { return named };
    let first = work.sources.get(id).secrets().and_then(|secrets| secrets.first());
    first.map_or(named, |first| Span::new(id, first.start as usize, first.end as usize))
}

fn add(work: &mut Work<'_>, data: &mut Data, key: &str, value: Vec<u8>, span: Span) -> bool {
    if let Some((_, before)) = data.get(key) {
        let finding = Diagnostic::error("kustomize-conflict", format!("the key `{key}` is there twice")).at(span);
        work.diagnostics.push(finding.related(*before, "first here"));
        return false;
    }
    data.insert(key.to_owned(), (value, span));
    true
}

/// Quotes around a whole value are not part of it.
fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

/// Adds what was made, or joins it to what is there, as `behavior` says.
fn place(work: &mut Work<'_>, entry: &Node, made: Resource, resources: &mut Vec<Resource>) {
    let id = made.id();
    let found = resources.iter().position(|other| other.was(&id));
    match (text_at(entry, &["behavior"]), found) {
        ("" | "create" | "unspecified", None) => resources.push(made),
        ("" | "create" | "unspecified", Some(at)) => {
            let finding = Diagnostic::error("kustomize-conflict", format!("{id} is there already")).at(made.span());
            let finding = finding.related(resources[at].span(), "the other one");
            work.diagnostics.push(finding.help("to change that one, write `behavior: merge` or `behavior: replace`"));
        }
        ("merge" | "replace", None) => {
            let finding = Diagnostic::error("kustomize-no-target", format!("there is no {id} to change")).at(made.span());
            work.diagnostics.push(finding.help("to make a new one, leave `behavior` out"));
        }
        (behavior @ ("merge" | "replace"), Some(at)) => join(&mut resources[at], made, behavior == "merge"),
        _ => work.error("kustomize-field", "`behavior` is create, merge or replace", entry.get("behavior").map_or(entry.span, |node| node.span)),
    }
}

/// The older one keeps its names, labels and annotations; what is new comes on top.
fn join(old: &mut Resource, new: Resource, merge: bool) {
    let Resource { node, hashed, .. } = new;
    for field in ["data", "binaryData"] {
        if !merge {
            crate::edit::remove(&mut old.node, field);
        }
        for (key, value) in node.get(field).map(Node::entries).unwrap_or_default() {
            if let Some(data) = child(&mut old.node, field, node.span) {
                set(data, &key.value, value.clone());
            }
        }
    }
    if let Some(immutable) = node.get("immutable") {
        set(&mut old.node, "immutable", immutable.clone());
    }
    for field in ["labels", "annotations"] {
        let pairs = node.get("metadata").and_then(|metadata| metadata.get(field)).map(Node::entries).unwrap_or_default();
        for (key, value) in pairs {
            let target = child(&mut old.node, "metadata", node.span).and_then(|metadata| child(metadata, field, value.span));
            target.into_iter().for_each(|target| set(target, &key.value, value.clone()));
        }
    }
    old.hashed |= hashed;
}

/// Appends the hash to the names that want one.
pub(crate) fn hash_names(resources: &mut [Resource]) {
    for resource in resources.iter_mut().filter(|resource| resource.hashed) {
        let id = resource.id();
        let Some(hash) = hash(&resource.node, &id) else { continue };
        resource.remember();
        let span = resource.span();
        if let Some(metadata) = child(&mut resource.node, "metadata", span) {
            set(metadata, "name", text(format!("{}-{hash}", id.name), span));
        }
    }
}

/// kustomize's hash: ten signs of a digest of the content, without vowels that could make words.
fn hash(node: &Node, id: &Id) -> Option<String> {
    let object = node.to_json();
    let data = |name: &str| object.get(name).filter(|value| !value.is_null()).cloned();
    let mut sorted: BTreeMap<&str, Value> = BTreeMap::new();
    sorted.insert("kind", json!(id.kind));
    // kustomize looks the name up where there is none: it is always empty.
    sorted.insert("name", json!(""));
    sorted.insert("data", data("data").map_or(json!(""), ordered));
    match id.kind.as_str() {
        "ConfigMap" => {
            if let Some(binary) = data("binaryData") {
                sorted.insert("binaryData", ordered(binary));
            }
        }
        "Secret" => {
            sorted.insert("type", json!(text_at(node, &["type"])));
            if let Some(plain) = data("stringData") {
                sorted.insert("stringData", ordered(plain));
            }
        }
        _ => return None,
    }
    // As Go writes JSON: three signs are escaped that would not have to be.
    let encoded = serde_json::to_string(&sorted).ok()?;
    let encoded = encoded.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    let digest = Sha256::digest(encoded.as_bytes());
    let hexadecimal: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    Some(
        hexadecimal
            .chars()
            .map(|sign| match sign {
                '0' => 'g',
                '1' => 'h',
                '3' => 'k',
                'a' => 'm',
                'e' => 't',
                other => other,
            })
            .collect(),
    )
}

/// A mapping with its keys in order.
fn ordered(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<String, Value> = map.into_iter().collect();
            Value::Object(sorted.into_iter().collect::<Map<String, Value>>())
        }
        other => other,
    }
}
