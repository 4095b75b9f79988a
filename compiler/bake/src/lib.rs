//! Bake files and compose files to resolved targets: what `strake bake` builds.
//!
//! ```text
//! docker-bake.hcl, .json --parse--> Body --decode--> Target, Group      compose.yaml --read--> Target, Group
//!     --merge--> Config --resolve(words, --set)--> Resolved { targets, groups }
//! ```
//!
//! Semantics are those of `docker buildx bake`. What differs:
//!
//! - Inheriting from oneself, `extends` of oneself, and an attribute that is set twice in one block are errors. An unknown block is one when it is nearly a known one,
//!   else a warning; an unknown key of `x-bake` is one.
//! - `target.NAME.ATTRIBUTE` is that of the last block that sets it, not of the last block.
//! - The targets of a matrix come in the order of its keys and values.
//! - `bcrypt` and `rsadecrypt` are refused by name; numbers have 15 digits that count; sets are sorted lists.
//! - `--set` also takes `dockerfile-inline`, `platforms` for `platform`, and lists for `no-cache-filter`; `ulimits: {n: 10}` of a compose file is `n=10:10`.
//! - Compose files: `extends` is for services of the given and included files, `include` for files of this machine; `entitlements` are read.
//!
//! Nothing here reads files, clocks or the environment: the caller brings them in [`Inputs`].

mod body;
mod compose;
mod constraint;
mod decode;
mod entry;
mod expr;
mod functions;
mod glob;
mod names;
mod overrides;
mod resolve;
mod target;
mod template;
mod types;
mod value;

use std::collections::BTreeMap;

use strake_source::{Diagnostic, FileId, Sources};

pub use compose::{dotenv, env_files, includes};
pub use entry::{Agent, Entry, EntryKind, Secret, attestation};
pub use functions::Host;
pub use resolve::{Resolved, is_remote};
pub use target::{Group, Target};

use body::{Body, Document};

/// One file to read.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name as the user gave it; `-` is stdin. What it ends in says what it is; otherwise its content does.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Everything that decides what a bake file means.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The files, in the order in which they are merged.
    pub files: Vec<File>,
    /// `--var`: values of variables.
    pub variables: BTreeMap<String, String>,
    /// The environment: values of variables that `--var` does not give, and of compose files.
    pub environment: BTreeMap<String, String>,
    /// What a `.env` file adds to the environment for compose files.
    pub dotenv: BTreeMap<String, String>,
    /// Files that compose services name in `env_file`, by name.
    pub env_files: BTreeMap<String, String>,
    /// Files that compose files include, and their `.env` files, by path; nothing for one that cannot be read.
    pub included: BTreeMap<String, Option<String>>,
    /// The repository that the files are from: paths of contexts are within it, but for those that begin with `cwd://`.
    pub repository: Option<String>,
    /// The platform of this machine: `BAKE_LOCAL_PLATFORM`.
    pub local_platform: String,
    /// What functions need that only the caller knows.
    pub host: Host,
}

/// A variable, for `--list variables`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its type, when it is declared with one.
    pub kind: Option<String>,
    /// Its value; none is null.
    pub value: Option<String>,
}

/// All files merged.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Targets, each name once.
    pub targets: Vec<Target>,
    /// Groups, each name once.
    pub groups: Vec<Group>,
    /// Variables by name.
    pub variables: Vec<Variable>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Hcl,
    Json,
    Compose,
}

fn language(file: &File) -> Language {
    let name = file.name.to_lowercase();
    let text = file.text.trim_start_matches('\u{feff}').trim_start();
    let is_services = || text.lines().any(|line| line.starts_with("services:"));
    match name.rsplit('.').next() {
        Some("yml" | "yaml") => Language::Compose,
        Some("json") => Language::Json,
        Some("hcl") => Language::Hcl,
        _ if text.starts_with('{') => Language::Json,
        _ if is_services() => Language::Compose,
        _ => Language::Hcl,
    }
}

fn is_compose(file: &File) -> bool {
    language(file) == Language::Compose
}

/// Reads and merges the files. They are added to `sources`, so that findings can be shown.
pub fn read(sources: &mut Sources, inputs: &Inputs) -> (Config, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let ids: Vec<(FileId, &File, Language)> =
        inputs.files.iter().map(|file| (sources.add(shown_name(&file.name), file.text.as_str()), file, language(file))).collect();
    let mut documents = Vec::new();
    for (id, file, kind) in &ids {
        match kind {
            Language::Compose => {}
            Language::Hcl => match Document::hcl(*id, &file.text) {
                Ok(document) => documents.push(document),
                Err(finding) => diagnostics.push(*finding),
            },
            Language::Json => {
                let (document, findings) = Document::json(*id, &file.text);
                documents.extend(document);
                diagnostics.extend(findings);
            }
        }
    }
    let compose: Vec<(FileId, &str)> = ids.iter().filter(|(.., kind)| *kind == Language::Compose).map(|(id, file, _)| (*id, file.text.as_str())).collect();
    let mut config = Config::default();
    if !compose.is_empty() {
        let (targets, groups) = compose::read(sources, &compose, inputs, &mut diagnostics);
        targets.into_iter().for_each(|target| config.add_target(target));
        groups.into_iter().for_each(|group| config.add_group(group));
    }
    // A file that cannot be read at all would make names unknown that it defines.
    if diagnostics.iter().any(Diagnostic::is_error) {
        return (config, diagnostics);
    }
    let mut body = Body::default();
    documents.iter().for_each(|document| document.read(&mut body, &mut diagnostics));
    let mut definitions = names::Definitions::new(inputs, &body, &mut diagnostics);
    let decoded = decode::decode(&mut definitions, &body, &mut diagnostics);
    decoded.targets.into_iter().for_each(|target| config.add_target(target));
    decoded.groups.into_iter().for_each(|group| config.add_group(group));
    config.variables = definitions.finish(&mut diagnostics);
    diagnostics.sort_by_key(|finding| finding.span.map(|span| (span.file, span.start)));
    let mut once: Vec<Diagnostic> = Vec::new();
    diagnostics.into_iter().for_each(|finding| {
        if !once.contains(&finding) {
            once.push(finding)
        }
    });
    (config, once)
}

fn shown_name(name: &str) -> &str {
    if name == "-" { "stdin" } else { name }
}

impl Config {
    /// A target of a known name is merged into it.
    fn add_target(&mut self, target: Target) {
        match self.targets.iter_mut().find(|known| known.name == target.name) {
            Some(known) => known.merge(&target),
            None => {
                let mut first = Target { name: target.name.clone(), ..Target::default() };
                first.merge(&target);
                self.targets.push(first);
            }
        }
    }

    /// A group of a known name takes its place.
    fn add_group(&mut self, mut group: Group) {
        let mut once: Vec<String> = Vec::new();
        group.targets.drain(..).for_each(|name| {
            if !once.contains(&name) {
                once.push(name)
            }
        });
        group.targets = once;
        match self.groups.iter_mut().find(|known| known.name == group.name) {
            Some(known) => *known = group,
            None => self.groups.push(group),
        }
    }
}
