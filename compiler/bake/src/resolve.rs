//! Which targets are built, and what they are with all that they inherit, link to and are told to be.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use strake_source::{Diagnostic, Span, nearest};

use crate::entry::Entry;
use crate::functions::clean;
use crate::glob;
use crate::overrides::{Overrides, matching};
use crate::target::{Group, Target};
use crate::{Config, Inputs};

/// What is to be built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// The groups that were asked for.
    pub groups: BTreeMap<String, Group>,
    /// The targets, those that others link to among them.
    pub targets: BTreeMap<String, Target>,
}

impl Resolved {
    /// What `--print` shows.
    pub fn to_json(&self) -> Json {
        let mut map = Map::new();
        if !self.groups.is_empty() {
            map.insert("group".to_owned(), self.groups.iter().map(|(name, group)| (name.clone(), group.to_json())).collect::<Map<_, _>>().into());
        }
        map.insert("target".to_owned(), self.targets.iter().map(|(name, target)| (name.clone(), target.to_json())).collect::<Map<_, _>>().into());
        map.into()
    }

    /// The targets so that each stands behind those it links to.
    pub fn in_order(&self) -> Vec<&Target> {
        let mut order: Vec<&Target> = Vec::new();
        fn visit<'t>(name: &str, targets: &'t BTreeMap<String, Target>, order: &mut Vec<&'t Target>) {
            let Some(target) = targets.get(name).filter(|target| !order.iter().any(|other| other.name == target.name)) else { return };
            target.links().for_each(|(_, other)| visit(other, targets, order));
            order.push(target);
        }
        self.targets.keys().for_each(|name| visit(name, &self.targets, &mut order));
        order
    }
}

/// The name that compose services and targets share.
pub(crate) fn sanitised(name: &str) -> String {
    name.replace('.', "_")
}

struct Resolver<'c> {
    config: &'c Config,
    overrides: Overrides,
    diagnostics: Vec<Diagnostic>,
}

impl Config {
    /// Resolves what the words name (groups, targets, patterns; `default` when there is none). With an error among the findings the answer is not to be built.
    pub fn resolve(&self, words: &[String], settings: &[String], inputs: &Inputs) -> (Resolved, Vec<Diagnostic>) {
        let names: Vec<&str> = self.targets.iter().map(|target| target.name.as_str()).collect();
        let mut diagnostics = Vec::new();
        let overrides = Overrides::parse(settings, &names, &inputs.environment, &mut diagnostics);
        let mut resolver = Resolver { config: self, overrides, diagnostics };
        let mut resolved = Resolved::default();
        let default = ["default".to_owned()];
        let words = if words.is_empty() { &default[..] } else { words };
        let wanted = resolver.wanted(words);
        for name in &wanted {
            let (mut targets, mut groups) = (Vec::new(), Vec::new());
            self.expand(name, None, &mut Vec::new(), &mut targets, &mut groups);
            for (target, span) in targets {
                if let Some(found) = resolver.target(&target, span) {
                    resolved.targets.insert(target, found);
                }
            }
            resolved.groups.extend(groups.into_iter().map(|group| (group.name.clone(), group.clone())));
        }
        default_group(&mut resolved, &wanted);
        let linking: Vec<String> = resolved.targets.keys().cloned().collect();
        for name in linking {
            resolver.link(&name, &mut resolved.targets, &mut Vec::new());
        }
        for target in resolved.targets.values_mut() {
            finish(target, inputs);
        }
        let mut findings: Vec<Diagnostic> = Vec::new();
        // What is wrong with a parent is found by each that inherits it.
        resolver.diagnostics.into_iter().for_each(|finding| {
            if !findings.contains(&finding) {
                findings.push(finding)
            }
        });
        (resolved, findings)
    }
}

impl Config {
    /// The targets of a group, and the groups on the way; any other name is a target's.
    fn expand<'g>(&'g self, name: &str, span: Option<Span>, path: &mut Vec<String>, targets: &mut Vec<(String, Option<Span>)>, groups: &mut Vec<&'g Group>) {
        if path.iter().any(|before| before == name) {
            return;
        }
        // A group may hold a target of its own name.
        let Some(group) = self.groups.iter().find(|group| group.name == name) else {
            if !targets.iter().any(|(known, _)| known == name) {
                targets.push((name.to_owned(), span));
            }
            return;
        };
        if !groups.iter().any(|known| known.name == name) {
            groups.push(group);
        }
        path.push(name.to_owned());
        for member in &group.targets {
            if member == name && self.targets.iter().any(|target| target.name == *name) {
                targets.push((name.to_owned(), group.span));
            } else {
                self.expand(member, group.span, path, targets, groups);
            }
        }
        path.pop();
    }
}

/// `default` is what was asked for.
fn default_group(resolved: &mut Resolved, wanted: &[String]) {
    let has_default = resolved.groups.contains_key("default");
    let group = resolved.groups.entry("default".to_owned()).or_insert_with(|| Group { name: "default".to_owned(), ..Group::default() });
    for name in wanted.iter().filter(|name| !(has_default && *name == "default")) {
        if !group.targets.contains(name) {
            group.targets.push(name.clone());
        }
    }
    group.targets.sort();
    group.targets.dedup();
}

/// The paths as they are used, and the time that the environment gives.
fn finish(target: &mut Target, inputs: &Inputs) {
    let context = target.context.as_deref().unwrap_or(".");
    let local = context.strip_prefix("cwd://");
    target.context = Some(match (local, &inputs.repository) {
        (Some(path), _) => clean(path),
        (None, _) if is_remote(context) => context.to_owned(),
        (None, Some(repository)) => within(repository, context),
        (None, None) => clean(context),
    });
    if let Some(repository) = &inputs.repository {
        for path in target.contexts.values_mut().filter(|path| !is_remote(path) && !path.starts_with("cwd://")) {
            *path = within(repository, path);
        }
    }
    if target.dockerfile.as_ref().is_none_or(String::is_empty) {
        target.dockerfile = Some("Dockerfile".to_owned());
    }
    if let Some(epoch) = inputs.environment.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) {
        target.args.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert_with(|| epoch.clone());
    }
}

/// The address of a folder of a repository, whose address may name one itself: `URL#REF:FOLDER`.
fn within(repository: &str, path: &str) -> String {
    let path = clean(path);
    if path == "." {
        return repository.to_owned();
    }
    let (url, fragment) = repository.split_once('#').unwrap_or((repository, ""));
    let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
    let folder = if folder.is_empty() { path } else { clean(&format!("{folder}/{path}")) };
    format!("{url}#{reference}:{folder}")
}

/// A context of elsewhere.
pub fn is_remote(context: &str) -> bool {
    ["http://", "https://", "git://", "git@", "ssh://", "github.com/", "docker-image:", "oci-layout:", "target:"].iter().any(|start| context.starts_with(start))
}

impl Resolver<'_> {
    /// The names that the words mean.
    fn wanted(&mut self, words: &[String]) -> Vec<String> {
        let groups = self.config.groups.iter().map(|group| group.name.as_str());
        let all: Vec<&str> = groups.chain(self.config.targets.iter().map(|target| target.name.as_str())).collect();
        let mut wanted = Vec::new();
        for word in words {
            let word = sanitised(word);
            if !glob::is_pattern(&word) {
                wanted.push(word);
                continue;
            }
            match matching(&word, &all) {
                Ok(found) => wanted.extend(found.into_iter().map(str::to_owned)),
                Err(why) => self.diagnostics.push(Diagnostic::error("bake-unknown-target", why)),
            }
        }
        let mut once: Vec<String> = Vec::new();
        wanted.into_iter().for_each(|name| {
            if !once.contains(&name) {
                once.push(name)
            }
        });
        once
    }

    fn target(&mut self, name: &str, span: Option<Span>) -> Option<Target> {
        let target = self.inherited(name, span, &mut Vec::new())?;
        Some(Target { inherits: Vec::new(), ..target })
    }

    /// A target on top of what it inherits.
    fn inherited(&mut self, name: &str, span: Option<Span>, path: &mut Vec<String>) -> Option<Target> {
        let Some(own) = self.config.targets.iter().find(|target| target.name == name) else {
            self.unknown(name, span);
            return None;
        };
        if path.iter().any(|before| before == name) {
            let mut finding = Diagnostic::error("bake-cycle", format!("the target `{name}` inherits from itself, by way of {}", path.join(", ")));
            finding.span = span;
            self.diagnostics.push(finding);
            return None;
        }
        path.push(name.to_owned());
        let mut target = Target { name: name.to_owned(), ..Target::default() };
        for parent in &own.inherits {
            let parent = self.inherited(&sanitised(parent), own.places.get("inherits").copied().or(own.span), path)?;
            target.merge(&Target { inherits: Vec::new(), ..parent });
        }
        path.pop();
        target.merge(own);
        self.overrides.apply(&mut target, &mut self.diagnostics);
        target.normalise();
        Some(target)
    }

    fn unknown(&mut self, name: &str, span: Option<Span>) {
        let mut finding = Diagnostic::error("bake-unknown-target", format!("there is no target `{name}`"));
        finding.span = span;
        let names: Vec<&str> =
            self.config.targets.iter().map(|target| target.name.as_str()).chain(self.config.groups.iter().map(|group| group.name.as_str())).collect();
        finding.help.extend(nearest(name, names.iter().copied()).map(|near| format!("did you mean `{near}`?")));
        if finding.help.is_empty() && !names.is_empty() && names.len() <= 20 {
            finding.help.push(format!("there are {}", names.join(", ")));
        }
        self.diagnostics.push(finding);
    }

    /// Adds the targets that a target's contexts are.
    fn link(&mut self, name: &str, targets: &mut BTreeMap<String, Target>, path: &mut Vec<String>) {
        let Some(target) = targets.get(name).cloned() else { return };
        let place = target.places.get("contexts").copied().or(target.span);
        path.push(name.to_owned());
        for (_, other) in target.links() {
            if path.iter().any(|before| before == other) {
                let why = if other == name {
                    format!("the target `{name}` links to itself")
                } else {
                    format!("the target `{other}` links to itself, by way of {}", path.join(", "))
                };
                let mut finding = Diagnostic::error("bake-cycle", why);
                finding.span = place;
                self.diagnostics.push(finding);
                continue;
            }
            if !targets.contains_key(other) {
                let Some(found) = self.target(other, place) else { continue };
                targets.insert(other.to_owned(), Target { outputs: Some(vec![Entry::of("cacheonly")]), linked: true, ..found });
            }
            self.link(other, targets, path);
            let Some(linked) = targets.get(other).cloned() else { continue };
            self.check_platforms(&target, &linked, place);
            if let (Some(more), Some(target)) = (linked.entitlements, targets.get_mut(name)) {
                let list = target.entitlements.get_or_insert_default();
                more.into_iter().for_each(|one| {
                    if !list.contains(&one) {
                        list.push(one)
                    }
                });
            }
        }
        path.pop();
    }

    fn check_platforms(&mut self, target: &Target, linked: &Target, place: Option<Span>) {
        let (mine, others) = (target.platforms.as_deref().unwrap_or_default(), linked.platforms.as_deref().unwrap_or_default());
        if mine.len() > 1 && others.len() > 1 && !mine.iter().all(|platform| others.contains(platform)) {
            let message = format!("`{}` is for {}, and its context `{}` only for {}", target.name, mine.join(", "), linked.name, others.join(", "));
            let mut finding = Diagnostic::error("bake-value", message);
            finding.span = place;
            self.diagnostics.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn folders_of_repositories() {
        for (repository, path, expected) in [
            ("https://e.org/x.git", ".", "https://e.org/x.git"),
            ("https://e.org/x.git", "./app/", "https://e.org/x.git#:app"),
            ("https://e.org/x.git#v1", "app", "https://e.org/x.git#v1:app"),
            ("git@e.org:x.git#v1:sub", "../app", "git@e.org:x.git#v1:app"),
        ] {
            assert_eq!(within(repository, path), expected);
        }
    }
}
