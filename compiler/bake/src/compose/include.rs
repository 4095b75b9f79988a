//! Compose files with those that they include: each included file is a project of its own, with its directory and its variables, whose services and secrets
//! join the others.

use std::collections::{BTreeMap, BTreeSet};

use strake_source::{Diagnostic, FileId, Sources, Span, Spanned};
use strake_yaml::{Kind, Node};

use super::{READ, model, service};
use crate::Inputs;
use crate::functions::clean;
use crate::resolve::is_remote;

/// More includes than this are a mistake: files that include each other twice over grow with every level.
const MOST: usize = 500;

/// The services and secrets of some files, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Project {
    pub(super) services: BTreeMap<String, Node>,
    pub(super) secrets: BTreeMap<String, Node>,
}

/// Reads compose files and what they include.
pub(super) struct Loader<'l> {
    pub(super) sources: &'l mut Sources,
    pub(super) inputs: &'l Inputs,
    pub(super) diagnostics: &'l mut Vec<Diagnostic>,
    /// Files that are not among the inputs yet.
    pub(super) wanted: BTreeSet<String>,
    count: usize,
}

/// One entry of `include`.
struct Include {
    paths: Vec<String>,
    directory: String,
    env_files: Vec<String>,
    /// Whether its author named the files of variables.
    own_env: bool,
    span: Span,
}

/// Where a project is: its directory, the variables of includes above it (the outermost first), and the files that led to it.
#[derive(Clone, Default)]
struct Place {
    directory: String,
    variables: Vec<BTreeMap<String, String>>,
    path: Vec<String>,
}

impl Place {
    /// A variable: what is outside has precedence, so that a project can decide for what it includes.
    fn lookup(&self, inputs: &Inputs, name: &str) -> Option<String> {
        let outer = [&inputs.variables, &inputs.environment, &inputs.dotenv].into_iter();
        outer.chain(&self.variables).find_map(|map| map.get(name)).cloned()
    }
}

/// A path that is said relative to a directory.
fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') || directory.is_empty() { clean(path) } else { clean(&format!("{directory}/{path}")) }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or_else(|| ".".to_owned(), |(parent, _)| if parent.is_empty() { "/".to_owned() } else { parent.to_owned() })
}

impl<'l> Loader<'l> {
    pub(super) fn new(sources: &'l mut Sources, inputs: &'l Inputs, diagnostics: &'l mut Vec<Diagnostic>) -> Self {
        Loader { sources, inputs, diagnostics, wanted: BTreeSet::new(), count: 0 }
    }

    /// The project of the files that were given: each on top of those before it.
    pub(super) fn load(&mut self, files: &[(FileId, &str)]) -> Project {
        self.files(files, &Place::default())
    }

    fn files(&mut self, files: &[(FileId, &str)], place: &Place) -> Project {
        let mut project = Project::default();
        for (file, text) in files {
            let (documents, findings) = strake_yaml::parse(*file, text);
            self.diagnostics.extend(findings);
            let Some(root) = documents.first().map(|document| &document.root) else { continue };
            let included = root.get("include").filter(|node| node.kind != Kind::Null);
            let listed = root.get("services").filter(|node| matches!(node.kind, Kind::Mapping(_)));
            if listed.is_none() && included.is_none() {
                let finding = Diagnostic::error("compose-value", "expected `services`, by name").at(root.span);
                self.diagnostics.push(finding.help("a bake file ends in .hcl or .json"));
                continue;
            }
            let own = self.own(root, listed, place);
            if let Some(included) = included {
                for other in self.includes(included, place) {
                    self.import(&own.services, &other.services, "service");
                    self.import(&own.secrets, &other.secrets, "secret");
                    other.services.iter().for_each(|(name, node)| add(&mut project.services, name, node.clone()));
                    other.secrets.iter().for_each(|(name, node)| add(&mut project.secrets, name, node.clone()));
                }
            }
            own.services.into_iter().for_each(|(name, node)| add(&mut project.services, &name, node));
            own.secrets.into_iter().for_each(|(name, node)| add(&mut project.secrets, &name, node));
        }
        Project { services: model::extend(self.sources, &project.services, self.diagnostics), ..project }
    }

    /// What stands in one file itself.
    fn own(&mut self, root: &Node, services: Option<&Node>, place: &Place) -> Project {
        let inputs = self.inputs;
        let lookup = |name: &str| place.lookup(inputs, name);
        let mut own = Project::default();
        for (name, service) in services.map(Node::entries).unwrap_or_default() {
            let read = service.entries().iter().filter(|(key, _)| READ.contains(&key.value.as_str())).cloned().collect();
            let service = model::interpolate(&Node { span: service.span, kind: Kind::Mapping(read) }, &lookup, self.diagnostics);
            let service = model::lengthen(self.sources, &service);
            own.services.insert(name.value.clone(), if place.path.is_empty() { service } else { self.rebased(&service, place) });
        }
        for (name, secret) in root.get("secrets").map(Node::entries).unwrap_or_default() {
            let secret = model::interpolate(secret, &lookup, self.diagnostics);
            let secret = each(&secret, |key, value| if key == "file" { self.moved(value, &place.directory, false) } else { value.clone() });
            own.secrets.insert(name.value.clone(), secret);
        }
        own
    }

    /// A name that a file and one that it includes both give something else to is a mistake.
    fn import(&mut self, own: &BTreeMap<String, Node>, other: &BTreeMap<String, Node>, what: &str) {
        for (name, node) in own {
            if other.get(name).is_some_and(|other| other.to_json() != node.to_json()) {
                let finding = Diagnostic::error("compose-value", format!("the {what} `{name}` is in an included file as well, and differs")).at(node.span);
                self.diagnostics
                    .push(finding.help("change it in a file that is given after this one (-f, or compose.override.yaml), or in the include's own `path` list"));
            }
        }
    }

    fn includes(&mut self, node: &Node, place: &Place) -> Vec<Project> {
        let inputs = self.inputs;
        let node = model::interpolate(node, &|name| place.lookup(inputs, name), self.diagnostics);
        let Kind::Sequence(items) = &node.kind else {
            self.diagnostics.push(Diagnostic::error("compose-value", format!("`include` is a list, and this is {}", node.kind_name())).at(node.span));
            return Vec::new();
        };
        let mut projects: Vec<Project> = Vec::new();
        for item in items {
            let Some(project) = self.entry(item, place).and_then(|include| self.project(&include, place)) else { continue };
            for before in &projects {
                self.import(&project.services, &before.services, "service");
                self.import(&project.secrets, &before.secrets, "secret");
            }
            projects.push(project);
        }
        projects
    }

    /// Reads one entry: a path, or a mapping.
    fn entry(&mut self, item: &Node, place: &Place) -> Option<Include> {
        let mut wrong = |message: String, span: Span, help: &str| {
            let mut finding = Diagnostic::error("compose-value", message).at(span);
            finding.help.extend(Some(help.to_owned()).filter(|help| !help.is_empty()));
            self.diagnostics.push(finding);
        };
        let texts = |node: &Node| match &node.kind {
            Kind::Sequence(items) => items.iter().map(|item| model::text(self.sources, item)).collect::<Option<Vec<_>>>(),
            _ => model::text(self.sources, node).map(|text| vec![text]),
        };
        for (key, _) in item.entries().iter().filter(|(key, _)| !["path", "project_directory", "env_file"].contains(&key.value.as_str())) {
            wrong(format!("`include` has no key `{}`", key.value), key.span, "expected path, project_directory or env_file");
        }
        let named = if matches!(item.kind, Kind::Mapping(_)) { item.get("path") } else { Some(item) };
        let Some(paths) = named.and_then(texts).filter(|paths| !paths.is_empty() && paths.iter().all(|path| !path.is_empty())) else {
            wrong("an include is a path, or a mapping with `path`".to_owned(), item.span, "");
            return None;
        };
        if let Some(path) = paths.iter().find(|path| is_remote(path) || path.contains("://")) {
            wrong(format!("`{path}` is not on this machine: an include of elsewhere is not supported"), item.span, "clone it, and include its path");
            return None;
        }
        let paths: Vec<String> = paths.iter().map(|path| join(&place.directory, path)).collect();
        let directory = match item.get("project_directory").and_then(|node| model::text(self.sources, node)).filter(|text| !text.is_empty()) {
            Some(directory) => join(&place.directory, &directory),
            None => parent(&paths[0]),
        };
        let named = item.get("env_file").filter(|node| node.kind != Kind::Null);
        let Some(env_files) =
            named.map_or(Some(vec![join(&directory, ".env")]), |node| Some(texts(node)?.iter().map(|path| join(&place.directory, path)).collect()))
        else {
            wrong("`env_file` of an include is a path, or a list of paths".to_owned(), item.span, "");
            return None;
        };
        Some(Include { paths, directory, env_files, own_env: named.is_some(), span: item.span })
    }

    /// The project that an entry names, as the one that includes it sees it.
    fn project(&mut self, include: &Include, place: &Place) -> Option<Project> {
        let mut fail = |code, message: String| self.diagnostics.push(Diagnostic::error(code, message).at(include.span));
        if let Some(path) = include.paths.iter().find(|path| place.path.contains(path)) {
            let way: Vec<&str> = place.path.iter().skip_while(|other| *other != path).chain([path]).map(String::as_str).collect();
            fail("bake-cycle", format!("{path} includes itself: {}", way.join(" -> ")));
            return None;
        }
        self.count += 1;
        if self.count > MOST {
            if self.count == MOST + 1 {
                fail("compose-value", format!("there are more than {MOST} includes"));
            }
            return None;
        }
        let mut inner = Place { directory: include.directory.clone(), ..place.clone() };
        inner.path.extend(include.paths.iter().cloned());
        let variables = self.variables(include, place);
        inner.variables.push(variables);
        let texts: Vec<(String, Option<String>)> = include.paths.iter().map(|path| (path.clone(), self.text(path))).collect();
        let mut files = Vec::new();
        for (path, text) in &texts {
            match text {
                Some(text) => files.push((self.sources.add(path.clone(), text.as_str()), text.as_str())),
                None => self.diagnostics.push(Diagnostic::error("compose-value", format!("the included file {path} cannot be read")).at(include.span)),
            }
        }
        let mut project = self.files(&files, &inner);
        // Only now, for another file of the include may have said it.
        project.services.values_mut().for_each(|node| *node = in_directory(node, &inner.directory));
        Some(project)
    }

    /// A file's text; one that nobody looked for yet is wanted.
    fn text(&mut self, path: &str) -> Option<String> {
        let known = self.inputs.included.get(path);
        if known.is_none() {
            self.wanted.insert(path.to_owned());
        }
        known.cloned().flatten()
    }

    /// What the files of variables say. The file of the usual name need not be there.
    fn variables(&mut self, include: &Include, place: &Place) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for path in &include.env_files {
            let mut wrong = None;
            match self.text(path) {
                Some(text) => {
                    let mut known = self.inputs.environment.clone();
                    place.variables.iter().rev().for_each(|map| known.extend(map.clone()));
                    match super::dotenv(&text, &known) {
                        Ok(found) => all.extend(found),
                        Err(why) => wrong = Some(format!("{path}: {why}")),
                    }
                }
                None if include.own_env => wrong = Some(format!("the file of variables {path} cannot be read")),
                None => {}
            }
            self.diagnostics.extend(wrong.map(|why| Diagnostic::error("compose-value", why).at(include.span)));
        }
        all
    }

    /// A service of an included file, its paths as seen from outside, and its arguments with the values that only the included project knows.
    fn rebased(&self, service: &Node, place: &Place) -> Node {
        let own: BTreeSet<&str> = service.get("environment").map(Node::entries).unwrap_or_default().iter().map(|(key, _)| key.value.as_str()).collect();
        each(service, |key, value| match key {
            "build" if matches!(value.kind, Kind::Mapping(_)) => self.rebased_build(value, place, &own),
            "env_file" => match &value.kind {
                Kind::Sequence(items) => Node { span: value.span, kind: Kind::Sequence(items.iter().map(|item| self.moved_file(item, place)).collect()) },
                _ => self.moved_file(value, place),
            },
            _ => value.clone(),
        })
    }

    fn rebased_build(&self, build: &Node, place: &Place, own: &BTreeSet<&str>) -> Node {
        let directory = place.directory.as_str();
        each(build, |key, value| match key {
            "context" => self.moved(value, directory, true),
            "additional_contexts" => each(value, |_, value| self.moved(value, directory, true)),
            "x-bake" => each(value, |key, value| if key == "contexts" { each(value, |_, value| self.moved(value, directory, true)) } else { value.clone() }),
            "args" => each(value, |name, value| match (&value.kind, place.lookup(self.inputs, name)) {
                (Kind::Null, Some(text)) if !own.contains(name) => Node { span: value.span, kind: Kind::String(text) },
                _ => value.clone(),
            }),
            _ => value.clone(),
        })
    }

    fn moved_file(&self, item: &Node, place: &Place) -> Node {
        match &item.kind {
            Kind::Mapping(_) => each(item, |key, value| if key == "path" { self.moved(value, &place.directory, false) } else { value.clone() }),
            _ => self.moved(item, &place.directory, false),
        }
    }

    /// A path; a context may also be something of elsewhere, which stays as it is.
    fn moved(&self, node: &Node, directory: &str, is_context: bool) -> Node {
        let Some(text) = model::text(self.sources, node).filter(|text| !text.is_empty()) else { return node.clone() };
        let elsewhere = is_context && (is_remote(&text) || ["service:", "cwd://"].iter().any(|start| text.starts_with(start)));
        Node { span: node.span, kind: Kind::String(if elsewhere { text } else { join(directory, &text) }) }
    }
}

/// A service whose build names no context is built in its project's directory.
fn in_directory(service: &Node, directory: &str) -> Node {
    each(service, |key, value| match &value.kind {
        Kind::Mapping(entries) if key == "build" && !entries.iter().any(|(key, _)| key.value == "context") => {
            let span = value.span;
            let context = (Spanned { value: "context".to_owned(), span }, Node { span, kind: Kind::String(directory.to_owned()) });
            Node { span, kind: Kind::Mapping(entries.iter().cloned().chain([context]).collect()) }
        }
        _ => value.clone(),
    })
}

/// A mapping with its values changed; anything else as it is.
fn each(node: &Node, change: impl Fn(&str, &Node) -> Node) -> Node {
    let Kind::Mapping(entries) = &node.kind else { return node.clone() };
    let entries = entries.iter().map(|(key, value)| (key.clone(), change(&key.value, value))).collect();
    Node { span: node.span, kind: Kind::Mapping(entries) }
}

fn add(all: &mut BTreeMap<String, Node>, name: &str, node: Node) {
    let merged = all.get(name).map_or_else(|| node.clone(), |known| model::merge(known, &node));
    all.insert(name.to_owned(), merged);
}

/// The files that the services of a project name in `env_file`.
pub(super) fn env_files(sources: &Sources, project: &Project) -> Vec<String> {
    let mut names = Vec::new();
    for name in project.services.values().flat_map(|node| service::env_files(sources, node)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
