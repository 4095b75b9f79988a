//! Compose files: services with a `build` are targets.

mod dotenv;
mod interpolate;
mod model;
mod service;
mod sizes;

use std::collections::BTreeMap;

use strake_source::{Diagnostic, FileId, Sources};
use strake_yaml::{Kind, Node};

use crate::Inputs;
use crate::decode::is_name;
use crate::resolve::sanitised;
use crate::target::{Group, Target};

pub use dotenv::dotenv;

/// What of a service says how it is built.
const READ: [&str; 5] = ["image", "build", "environment", "env_file", "extends"];

/// Reads compose files, each on top of those before it.
pub(crate) fn read(sources: &Sources, files: &[(FileId, &str)], inputs: &Inputs, diagnostics: &mut Vec<Diagnostic>) -> (Vec<Target>, Vec<Group>) {
    let lookup = |name: &str| [&inputs.variables, &inputs.environment, &inputs.dotenv].into_iter().find_map(|map| map.get(name)).cloned();
    let (mut services, mut secrets): (BTreeMap<String, Node>, BTreeMap<String, Node>) = (BTreeMap::new(), BTreeMap::new());
    for (file, text) in files {
        let (documents, findings) = strake_yaml::parse(*file, text);
        diagnostics.extend(findings);
        let Some(root) = documents.first().map(|document| &document.root) else { continue };
        if let Some((key, _)) = root.entry("include") {
            let finding = Diagnostic::error("compose-unsupported", "`include` is not supported").at(key.span);
            diagnostics.push(finding.help("give the other files with -f as well"));
        }
        let Some(listed) = root.get("services").filter(|node| matches!(node.kind, Kind::Mapping(_))) else {
            let finding = Diagnostic::error("compose-value", "expected `services`, by name").at(root.span);
            diagnostics.push(finding.help("a bake file ends in .hcl or .json"));
            continue;
        };
        for (name, service) in listed.entries() {
            let read = service.entries().iter().filter(|(key, _)| READ.contains(&key.value.as_str())).cloned().collect();
            let service = interpolate_service(&Node { span: service.span, kind: Kind::Mapping(read) }, &lookup, diagnostics);
            add(&mut services, &name.value, model::lengthen(sources, &service));
        }
        for (name, secret) in root.get("secrets").map(Node::entries).unwrap_or_default() {
            add(&mut secrets, &name.value, model::interpolate(secret, &lookup, diagnostics));
        }
    }
    let services = model::extend(sources, &services, diagnostics);
    let mut group = Group { name: "default".to_owned(), ..Group::default() };
    let mut targets = Vec::new();
    for (name, service) in &services {
        let Some(build) = service.get("build").filter(|build| build.kind != Kind::Null) else { continue };
        let target_name = sanitised(name);
        if !is_name(&target_name) {
            let message = format!("`{name}` is no name of a target: letters, digits, `_`, `-` and `.` are");
            diagnostics.push(Diagnostic::error("bake-name", message).at(service.span));
            continue;
        }
        let mut reader = service::Reader { sources, inputs, service, build, secrets: &secrets, lookup: &lookup, diagnostics };
        targets.push(Target { name: target_name.clone(), ..reader.target() });
        group.targets.push(target_name);
    }
    (targets, vec![group])
}

/// The files that the compose files' services name in `env_file`: their text belongs into [`Inputs::env_files`].
pub fn env_files(inputs: &Inputs) -> Vec<String> {
    let mut names = Vec::new();
    for file in inputs.files.iter().filter(|file| crate::is_compose(file)) {
        let mut sources = Sources::default();
        let id = sources.add(file.name.clone(), file.text.as_str());
        let (documents, _) = strake_yaml::parse(id, &file.text);
        let services = documents.iter().filter_map(|document| document.root.get("services")).flat_map(Node::entries);
        for name in services.flat_map(|(_, service)| service::env_files(&sources, service)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

fn interpolate_service(service: &Node, lookup: &dyn Fn(&str) -> Option<String>, diagnostics: &mut Vec<Diagnostic>) -> Node {
    model::interpolate(service, lookup, diagnostics)
}

fn add(all: &mut BTreeMap<String, Node>, name: &str, node: Node) {
    let merged = all.get(name).map_or_else(|| node.clone(), |known| model::merge(known, &node));
    all.insert(name.to_owned(), merged);
}
