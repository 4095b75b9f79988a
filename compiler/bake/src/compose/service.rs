//! One service's `build`, with its `x-bake`.

use std::collections::BTreeMap;

use strake_source::{Diagnostic, Sources, Span, nearest};
use strake_yaml::{Kind, Node};

use super::{model, sizes};
use crate::Inputs;
use crate::entry::{Agent, Entry, EntryKind, Secret, attestation};
use crate::functions::clean;
use crate::resolve::{is_remote, sanitised};
use crate::target::Target;

/// The keys of `build`.
const BUILD: [&str; 24] = [
    "context",
    "additional_contexts",
    "dockerfile",
    "dockerfile_inline",
    "args",
    "target",
    "cache_from",
    "cache_to",
    "labels",
    "shm_size",
    "network",
    "platforms",
    "no_cache",
    "pull",
    "extra_hosts",
    "tags",
    "privileged",
    "ssh",
    "secrets",
    "ulimits",
    "isolation",
    "entitlements",
    "provenance",
    "sbom",
];
/// The keys of `x-bake`.
const BAKE: [&str; 11] = ["tags", "cache-from", "cache-to", "secret", "ssh", "platforms", "output", "pull", "no-cache", "no-cache-filter", "contexts"];

pub(super) struct Reader<'r> {
    pub(super) sources: &'r Sources,
    pub(super) inputs: &'r Inputs,
    pub(super) service: &'r Node,
    pub(super) build: &'r Node,
    pub(super) secrets: &'r BTreeMap<String, Node>,
    pub(super) lookup: &'r dyn Fn(&str) -> Option<String>,
    pub(super) diagnostics: &'r mut Vec<Diagnostic>,
}

/// A path of this machine without `.` and `..`; anything of elsewhere as it is.
fn path(text: &str) -> String {
    if is_remote(text) || text.starts_with("service:") || text.starts_with("cwd://") { text.to_owned() } else { clean(text) }
}

/// A context as a link to the target of a service.
fn linked(text: &str) -> String {
    match text.strip_prefix("service:").or_else(|| text.strip_prefix("target:")) {
        Some(name) => format!("target:{}", sanitised(name)),
        None => path(text),
    }
}

impl<'r> Reader<'r> {
    fn wrong(&mut self, message: impl Into<String>, span: Span) {
        self.diagnostics.push(Diagnostic::error("compose-value", message).at(span));
    }

    fn check_keys(&mut self, node: &Node, what: &str, known: &[&str]) {
        for (key, _) in node.entries().iter().filter(|(key, _)| !known.contains(&key.value.as_str()) && !key.value.starts_with("x-")) {
            let mut finding = Diagnostic::error("compose-unknown-key", format!("`{what}` has no key `{}`", key.value)).at(key.span);
            finding.help.extend(nearest(&key.value, known.iter().copied()).map(|near| format!("did you mean `{near}`?")));
            self.diagnostics.push(finding);
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let node = self.build.get(key).filter(|node| node.kind != Kind::Null)?;
        let text = model::text(self.sources, node);
        if text.is_none() {
            self.wrong(format!("`{key}` is text, and this is {}", node.kind_name()), node.span);
        }
        text.filter(|text| !text.is_empty())
    }

    fn truth_of(&mut self, key: &str, node: &Node) -> Option<bool> {
        match &node.kind {
            Kind::Null => None,
            Kind::Bool(value) => Some(*value),
            Kind::String(text) if matches!(text.to_lowercase().as_str(), "true" | "yes" | "on" | "1" | "y") => Some(true),
            Kind::String(text) if matches!(text.to_lowercase().as_str(), "false" | "no" | "off" | "0" | "n" | "") => Some(false),
            _ => {
                self.wrong(format!("`{key}` is true or false, and this is {}", node.kind_name()), node.span);
                None
            }
        }
    }

    /// True when it is; false is not set.
    fn truth(&mut self, key: &str) -> Option<bool> {
        let node = self.build.get(key)?;
        self.truth_of(key, node).filter(|value| *value)
    }

    fn texts_of(&mut self, key: &str, node: &Node) -> Vec<(String, Span)> {
        let Kind::Sequence(items) = &node.kind else {
            if node.kind != Kind::Null {
                self.wrong(format!("`{key}` is a list, and this is {}", node.kind_name()), node.span);
            }
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match model::text(self.sources, item) {
                Some(text) => texts.push((text, item.span)),
                None => self.wrong(format!("`{key}` is a list of texts, and this is {}", item.kind_name()), item.span),
            }
        }
        texts
    }

    fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let node = self.build.get(key)?;
        Some(self.texts_of(key, node).into_iter().map(|(text, _)| text).collect())
    }

    /// Reads each text, and reports those that cannot be.
    fn parsed<T>(&mut self, texts: Vec<(String, Span)>, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut all = Vec::new();
        for (text, span) in texts.into_iter().filter(|(text, _)| !text.is_empty()) {
            match parse(&text) {
                Ok(one) => all.push(one),
                Err(why) => self.wrong(why, span),
            }
        }
        all
    }

    fn caches(&mut self, texts: Vec<(String, Span)>) -> Vec<Entry> {
        self.parsed(texts, Entry::caches).concat()
    }

    fn cache(&mut self, key: &str) -> Option<Vec<Entry>> {
        let node = self.build.get(key)?;
        let texts = self.texts_of(key, node);
        Some(self.caches(texts))
    }

    /// Keys with their texts; a key without a value is `None`.
    fn map(&mut self, of: &Node, key: &str) -> BTreeMap<String, Option<String>> {
        let Some(node) = of.get(key).filter(|node| node.kind != Kind::Null) else { return BTreeMap::new() };
        if !matches!(node.kind, Kind::Mapping(_)) {
            self.wrong(format!("`{key}` is a mapping, or a list of KEY=VALUE, and this is {}", node.kind_name()), node.span);
        }
        let mut map = BTreeMap::new();
        for (name, value) in node.entries() {
            let text = model::text(self.sources, value);
            if text.is_none() && value.kind != Kind::Null {
                self.wrong(format!("`{}` of `{key}` is text, and this is {}", name.value, value.kind_name()), value.span);
            }
            map.insert(name.value.clone(), text);
        }
        map
    }

    /// The target, without its name.
    pub(super) fn target(&mut self) -> Target {
        let (service, build) = (self.service, self.build);
        self.check_keys(build, "build", &BUILD);
        self.name_unused();
        let mut target = Target {
            span: Some(build.span),
            context: self.text("context").map(|text| path(&text)),
            contexts: self.map(build, "additional_contexts").into_iter().filter_map(|(name, value)| Some((name, linked(&value?)))).collect(),
            dockerfile: self.text("dockerfile"),
            dockerfile_inline: self.text("dockerfile_inline"),
            args: self.args(),
            labels: self.map(build, "labels").into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect(),
            tags: self.texts("tags").filter(|tags| !tags.is_empty()),
            cache_from: self.cache("cache_from"),
            cache_to: self.cache("cache_to"),
            target: self.text("target"),
            secrets: self.secrets(),
            ssh: self.agents(),
            platforms: self.texts("platforms"),
            pull: self.truth("pull"),
            no_cache: self.truth("no_cache"),
            network: self.text("network"),
            shm_size: self.shm_size(),
            ulimits: self.ulimits(),
            entitlements: self.texts("entitlements"),
            extra_hosts: self.hosts(),
            attest: self.attestations(),
            ..Target::default()
        };
        if let Some(bake) = build.get("x-bake").filter(|node| node.kind != Kind::Null) {
            self.bake(bake, &mut target);
        }
        if target.tags.is_none() {
            let image = service.get("image").and_then(|node| model::text(self.sources, node));
            target.tags = image.filter(|image| !image.is_empty()).map(|image| vec![image]);
        }
        target
    }

    /// What a build here does not do is said.
    fn name_unused(&mut self) {
        for key in ["privileged", "isolation"] {
            let Some(node) = self.build.get(key) else { continue };
            let harmless = match &node.kind {
                Kind::Bool(value) => !value,
                Kind::String(text) => text.is_empty() || text == "default" || text == "false",
                _ => true,
            };
            if !harmless {
                self.diagnostics.push(Diagnostic::warning("compose-unsupported", format!("`{key}` has no effect on builds here")).at(node.span));
            }
        }
    }

    /// An argument without a value takes that of the service's environment, or the outer one's, or none.
    fn args(&mut self) -> BTreeMap<String, String> {
        let own = self.environment();
        let each = |(name, value): (String, Option<String>)| {
            let value = value.or_else(|| own.get(&name).cloned()).or_else(|| (self.lookup)(&name))?;
            Some((name, value))
        };
        let given = self.map(self.build, "args");
        given.into_iter().filter_map(each).collect()
    }

    /// `environment` on top of the files of `env_file`.
    fn environment(&mut self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for name in env_files(self.sources, self.service) {
            if let Some(text) = self.inputs.env_files.get(&name) {
                match super::dotenv(text, &self.inputs.environment) {
                    Ok(found) => all.extend(found),
                    Err(why) => self.wrong(format!("{name}: {why}"), self.service.span),
                }
            }
        }
        let own = self.map(self.service, "environment");
        all.extend(own.into_iter().filter_map(|(name, value)| Some((name, value?))));
        all
    }

    fn secrets(&mut self) -> Option<Vec<Secret>> {
        let node = self.build.get("secrets")?;
        let mut secrets = Vec::new();
        for item in node.items() {
            let Some(id) = model::text(self.sources, item.get("source").unwrap_or(item)) else {
                self.wrong("a secret is a name, or a mapping with `source`", item.span);
                continue;
            };
            let declared = self.secrets.get(&id);
            let of = |key: &str| declared.and_then(|node| node.get(key)).and_then(|node| model::text(self.sources, node)).unwrap_or_default();
            if of("external") == "true" {
                self.diagnostics.push(Diagnostic::error("compose-unsupported", format!("the secret `{id}` is external: a build cannot have it")).at(item.span));
            }
            let source = of("file");
            secrets.push(Secret { source: if source.is_empty() { source } else { path(&source) }, variable: of("environment"), id });
        }
        Some(secrets)
    }

    fn agents(&mut self) -> Option<Vec<Agent>> {
        let node = self.build.get("ssh")?;
        let mut agents: Vec<Agent> = match &node.kind {
            Kind::Mapping(entries) => {
                let each = |(id, value): &(strake_source::Spanned<String>, Node)| Agent {
                    id: id.value.clone(),
                    paths: model::text(self.sources, value).filter(|path| !path.is_empty()).into_iter().collect(),
                };
                entries.iter().map(each).collect()
            }
            Kind::String(text) => vec![Agent::parse(text)],
            _ => self.texts_of("ssh", node).iter().map(|(text, _)| Agent::parse(text)).collect(),
        };
        agents.sort_by(|a, b| (&a.id, &a.paths).cmp(&(&b.id, &b.paths)));
        Some(agents)
    }

    fn shm_size(&mut self) -> Option<String> {
        let text = self.text("shm_size")?;
        let bytes = sizes::bytes(&text);
        if bytes.is_none() {
            let span = self.build.get("shm_size").map_or(self.build.span, |node| node.span);
            self.wrong(format!("`{text}` is no size: expected bytes, with a unit such as 64m"), span);
        }
        bytes.filter(|bytes| *bytes > 0).map(sizes::shown)
    }

    fn ulimits(&mut self) -> Option<Vec<String>> {
        let node = self.build.get("ulimits")?;
        let mut limits = Vec::new();
        for (name, value) in node.entries() {
            let of = |key: &str| value.get(key).and_then(|node| model::text(self.sources, node));
            let both = model::text(self.sources, value).map(|limit| (limit.clone(), limit)).or_else(|| Some((of("soft")?, of("hard")?)));
            match both {
                Some((soft, hard)) => limits.push(format!("{}={soft}:{hard}", name.value)),
                None => self.wrong("a limit is a number, or a mapping with `soft` and `hard`", value.span),
            }
        }
        limits.sort();
        Some(limits)
    }

    fn hosts(&mut self) -> BTreeMap<String, String> {
        let Some(node) = self.build.get("extra_hosts").filter(|node| node.kind != Kind::Null) else { return BTreeMap::new() };
        let mut hosts = BTreeMap::new();
        for (name, value) in node.entries() {
            let addresses = match &value.kind {
                Kind::Sequence(items) => items.iter().map(|item| model::text(self.sources, item)).collect::<Option<Vec<_>>>().map(|all| all.join(",")),
                _ => model::text(self.sources, value),
            };
            match addresses {
                Some(addresses) => drop(hosts.insert(name.value.clone(), addresses)),
                None => self.wrong("a host has an address", value.span),
            }
        }
        hosts
    }

    fn attestations(&mut self) -> Option<Vec<Entry>> {
        let mut all = Vec::new();
        for kind in ["sbom", "provenance"] {
            if let Some(text) = self.text(kind) {
                let span = self.build.get(kind).map_or(self.build.span, |node| node.span);
                all.extend(self.parsed(vec![(attestation(kind, &text), span)], |text| Entry::parse(text, EntryKind::Attest)));
            }
        }
        (!all.is_empty()).then_some(all)
    }

    /// A list of texts, or one text of words.
    fn words(&mut self, bake: &Node, key: &str) -> Vec<(String, Span)> {
        match bake.get(key) {
            None => Vec::new(),
            Some(Node { kind: Kind::String(text), span }) => text.split_whitespace().map(|word| (word.to_owned(), *span)).collect(),
            Some(node) => self.texts_of(key, node),
        }
    }

    /// `x-bake`: what compose has no key for.
    fn bake(&mut self, bake: &'r Node, target: &mut Target) {
        self.check_keys(bake, "x-bake", &BAKE);
        let plain = |words: Vec<(String, Span)>| words.into_iter().map(|(text, _)| text).collect::<Vec<_>>();
        for (key, list) in [("tags", &mut target.tags), ("platforms", &mut target.platforms), ("no-cache-filter", &mut target.no_cache_filter)] {
            let words = plain(self.words(bake, key));
            if !words.is_empty() {
                let list = list.get_or_insert_default();
                words.into_iter().for_each(|word| {
                    if !list.contains(&word) {
                        list.push(word)
                    }
                });
            }
        }
        for (key, list) in [("cache-from", &mut target.cache_from), ("cache-to", &mut target.cache_to)] {
            let words = self.words(bake, key);
            let found = self.caches(words);
            if !found.is_empty() {
                list.get_or_insert_default().extend(found);
            }
        }
        let words = self.words(bake, "output");
        let outputs = self.parsed(words, |text| Entry::parse(text, EntryKind::Output));
        if !outputs.is_empty() {
            target.outputs.get_or_insert_default().extend(outputs);
        }
        let words = self.words(bake, "secret");
        let secrets = self.parsed(words, Secret::parse);
        if !secrets.is_empty() {
            target.secrets.get_or_insert_default().extend(secrets);
        }
        let agents: Vec<Agent> = self.words(bake, "ssh").iter().map(|(text, _)| Agent::parse(text)).collect();
        if !agents.is_empty() {
            let all = target.ssh.get_or_insert_default();
            all.extend(agents);
            all.sort_by(|a, b| (&a.id, &a.paths).cmp(&(&b.id, &b.paths)));
        }
        target.pull = bake.get("pull").and_then(|node| self.truth_of("pull", node)).or(target.pull);
        target.no_cache = bake.get("no-cache").and_then(|node| self.truth_of("no-cache", node)).or(target.no_cache);
        for (name, value) in self.map(bake, "contexts") {
            if let Some(value) = value {
                target.contexts.entry(name).or_insert_with(|| linked(&value));
            }
        }
    }
}

/// The files that a service's `env_file` names.
pub(super) fn env_files(sources: &Sources, service: &Node) -> Vec<String> {
    let Some(node) = service.get("env_file") else { return Vec::new() };
    let one = |node: &Node| model::text(sources, node.get("path").unwrap_or(node));
    match &node.kind {
        Kind::Sequence(items) => items.iter().filter_map(one).collect(),
        _ => one(node).into_iter().collect(),
    }
}
