//! Compose files: services with a `build` are targets.

mod dotenv;
mod include;
mod interpolate;
mod model;
mod service;
mod sizes;

use strake_source::{Diagnostic, FileId, Sources};
use strake_yaml::Kind;

use crate::Inputs;
use crate::decode::is_name;
use crate::resolve::sanitised;
use crate::target::{Group, Target};

use include::{Loader, Project};

pub use dotenv::dotenv;

/// What of a service says how it is built.
const READ: [&str; 5] = ["image", "build", "environment", "env_file", "extends"];

/// Reads compose files, each on top of those before it, with what they include.
pub(crate) fn read(sources: &mut Sources, files: &[(FileId, &str)], inputs: &Inputs, diagnostics: &mut Vec<Diagnostic>) -> (Vec<Target>, Vec<Group>) {
    let lookup = |name: &str| [&inputs.variables, &inputs.environment, &inputs.dotenv].into_iter().find_map(|map| map.get(name)).cloned();
    let Project { services, secrets } = Loader::new(sources, inputs, diagnostics).load(files);
    let sources = &*sources;
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
    let mut sources = Sources::default();
    let project = load(&mut sources, inputs).0;
    include::env_files(&sources, &project)
}

/// Files that compose files include (with the variables of those) and that are not in [`Inputs::included`] yet: more may be wanted when they are.
pub fn includes(inputs: &Inputs) -> Vec<String> {
    load(&mut Sources::default(), inputs).1
}

fn load(sources: &mut Sources, inputs: &Inputs) -> (Project, Vec<String>) {
    let compose = inputs.files.iter().filter(|file| crate::is_compose(file));
    let files: Vec<(FileId, &str)> = compose.map(|file| (sources.add(file.name.clone(), file.text.as_str()), file.text.as_str())).collect();
    let mut unseen = Vec::new();
    let mut loader = Loader::new(sources, inputs, &mut unseen);
    let project = loader.load(&files);
    let wanted = loader.wanted.into_iter().collect();
    (project, wanted)
}
