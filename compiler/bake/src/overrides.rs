//! `--set PATTERN.KEY[.NAME][+]=VALUE`.

use std::collections::BTreeMap;

use strake_source::{Diagnostic, nearest};

use crate::decode::RESOURCES;
use crate::entry::{Agent, Entry, EntryKind, Secret};
use crate::target::Target;
use crate::types::go_bool;

/// The keys, with what they do with their value.
const KEYS: [&str; 31] = [
    "annotations",
    "args",
    "attest",
    "cache-from",
    "cache-to",
    "call",
    "context",
    "contexts",
    "dockerfile",
    "dockerfile-inline",
    "entitlements",
    "extra-hosts",
    "labels",
    "load",
    "network",
    "no-cache",
    "no-cache-filter",
    "output",
    "platform",
    "platforms",
    "policy",
    "pull",
    "push",
    "resources",
    "secret",
    "secrets",
    "shm-size",
    "ssh",
    "tags",
    "target",
    "ulimits",
];

/// One key with the values that all its `--set`s give.
#[derive(Clone, Debug, Default)]
struct Setting {
    values: Vec<String>,
    append: bool,
}

/// The settings of each target, by target, then by key (with the name behind it).
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    by_target: BTreeMap<String, BTreeMap<(String, String), Setting>>,
}

fn wrong(text: &str, why: &str) -> Diagnostic {
    Diagnostic::error("bake-override", format!("--set {text}: {why}"))
}

impl Overrides {
    /// Reads the words. `names` are all targets.
    pub(crate) fn parse(words: &[String], names: &[&str], environment: &BTreeMap<String, String>, diagnostics: &mut Vec<Diagnostic>) -> Overrides {
        let mut overrides = Overrides::default();
        for word in words {
            if let Err(finding) = overrides.add(word, names, environment) {
                diagnostics.push(*finding);
            }
        }
        overrides
    }

    fn add(&mut self, word: &str, names: &[&str], environment: &BTreeMap<String, String>) -> Result<(), Box<Diagnostic>> {
        let (left, value) = word.split_once('=').map_or((word, None), |(left, value)| (left, Some(value)));
        let (left, append) = left.strip_suffix('+').map_or((left, false), |left| (left, true));
        let mut parts = left.splitn(3, '.');
        let (Some(pattern), Some(key)) = (parts.next(), parts.next()) else {
            return Err(Box::new(wrong(word, "expected TARGET.KEY=VALUE")));
        };
        let name = parts.next().unwrap_or_default();
        if !KEYS.contains(&key) {
            let mut finding = wrong(word, &format!("there is no key `{key}`"));
            finding.help.extend(nearest(key, KEYS).map(|near| format!("did you mean `{near}`?")));
            return Err(Box::new(finding));
        }
        let named = matches!(key, "args" | "contexts" | "labels" | "extra-hosts" | "resources" | "secret");
        if named == name.is_empty() {
            let why = if named { format!("expected a name behind the key, as in {pattern}.{key}.NAME=VALUE") } else { format!("`{key}` has no parts") };
            return Err(Box::new(wrong(word, &why)));
        }
        let value = match value {
            Some(value) => value.to_owned(),
            // As for --build-arg: the environment's, or none.
            None if key == "args" => match environment.get(name) {
                Some(value) => value.clone(),
                None => return Ok(()),
            },
            None => return Err(Box::new(wrong(word, "expected TARGET.KEY=VALUE"))),
        };
        for target in matching(pattern, names).map_err(|why| Box::new(not_found(word, &why, pattern, names)))? {
            let setting = self.by_target.entry(target.to_owned()).or_default().entry((key.to_owned(), name.to_owned())).or_default();
            setting.append = append;
            if is_list(key) { setting.values.push(value.clone()) } else { setting.values = vec![value.clone()] }
        }
        Ok(())
    }

    /// Changes a target.
    pub(crate) fn apply(&self, target: &mut Target, diagnostics: &mut Vec<Diagnostic>) {
        let Some(settings) = self.by_target.get(&target.name) else { return };
        for ((key, name), setting) in settings {
            if let Err(why) = set(target, key, name, setting) {
                let shown = if name.is_empty() { key.clone() } else { format!("{key}.{name}") };
                let finding = wrong(&format!("{}.{shown}={}", target.name, setting.values.join(",")), &why);
                diagnostics.push(finding);
            }
        }
    }
}

fn not_found(word: &str, why: &str, pattern: &str, names: &[&str]) -> Diagnostic {
    let mut finding = Diagnostic::error("bake-unknown-target", format!("--set {word}: {why}"));
    finding.help.extend(nearest(pattern, names.iter().copied()).map(|near| format!("did you mean `{near}`?")));
    finding
}

fn is_list(key: &str) -> bool {
    matches!(
        key,
        "annotations"
            | "attest"
            | "cache-from"
            | "cache-to"
            | "entitlements"
            | "no-cache-filter"
            | "output"
            | "platform"
            | "platforms"
            | "policy"
            | "secrets"
            | "ssh"
            | "tags"
            | "ulimits"
    )
}

/// The names that a pattern means.
pub(crate) fn matching<'n>(pattern: &str, names: &[&'n str]) -> Result<Vec<&'n str>, String> {
    if let Some(name) = names.iter().find(|name| **name == pattern) {
        return Ok(vec![name]);
    }
    let found: Vec<&str> = names.iter().filter(|name| crate::glob::matches(pattern, name)).copied().collect();
    if found.is_empty() { Err(format!("no target matches `{pattern}`")) } else { Ok(found) }
}

/// In the place of what there was, or behind it.
fn put<T>(list: &mut Option<Vec<T>>, values: Vec<T>, append: bool) {
    if append { list.get_or_insert_default().extend(values) } else { *list = Some(values) }
}

fn set(target: &mut Target, key: &str, name: &str, setting: &Setting) -> Result<(), String> {
    let (value, append) = (setting.values.last().cloned().unwrap_or_default(), setting.append);
    let texts = || setting.values.clone();
    let given = || setting.values.iter().filter(|value| !value.is_empty());
    let entries = |what| given().map(|text| Entry::parse(text, what)).collect::<Result<Vec<_>, _>>();
    let caches = || given().map(|text| Entry::caches(text)).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat());
    let truth = || go_bool(&value).ok_or_else(|| format!("`{key}` is true or false"));
    match key {
        "context" => target.context = Some(value),
        "dockerfile" => target.dockerfile = Some(value),
        "dockerfile-inline" => target.dockerfile_inline = Some(value),
        "target" => target.target = Some(value),
        "call" => target.call = Some(value),
        "network" => target.network = Some(value),
        "shm-size" => target.shm_size = Some(value),
        "args" => drop(target.args.insert(name.to_owned(), value)),
        "contexts" => drop(target.contexts.insert(name.to_owned(), value)),
        "labels" => drop(target.labels.insert(name.to_owned(), value)),
        "extra-hosts" => drop(target.extra_hosts.insert(name.to_owned(), value)),
        "tags" => put(&mut target.tags, texts(), append),
        "platform" | "platforms" => put(&mut target.platforms, texts(), append),
        "no-cache-filter" => put(&mut target.no_cache_filter, texts(), append),
        "ulimits" => put(&mut target.ulimits, texts(), append),
        "annotations" => put(&mut target.annotations, texts(), true),
        "entitlements" => put(&mut target.entitlements, texts(), true),
        "cache-from" => put(&mut target.cache_from, caches()?, append),
        "cache-to" => put(&mut target.cache_to, caches()?, append),
        "output" => put(&mut target.outputs, entries(EntryKind::Output)?, append),
        "attest" => put(&mut target.attest, entries(EntryKind::Attest)?, true),
        "secrets" => put(&mut target.secrets, given().map(|text| Secret::parse(text)).collect::<Result<_, _>>()?, append),
        "ssh" => put(&mut target.ssh, given().map(|text| Agent::parse(text)).collect(), append),
        "policy" => put(&mut target.policy, given().map(|text| text.as_str().into()).collect(), append),
        "pull" => target.pull = Some(truth()?),
        "no-cache" => target.no_cache = Some(truth()?),
        "push" => push(&mut target.outputs, truth()?),
        "load" if truth()? => load(&mut target.outputs),
        "load" => {}
        "secret" => secret(target, name, &value)?,
        _ if RESOURCES.contains(&name) => drop(target.resources.insert(name.to_owned(), value)),
        _ => return Err(format!("expected one of {}", RESOURCES.join(", "))),
    }
    Ok(())
}

/// Gives a declared secret another source.
fn secret(target: &mut Target, id: &str, value: &str) -> Result<(), String> {
    let other = Secret::parse(value)?;
    if !other.id.is_empty() && other.id != id {
        return Err(format!("the value names another secret, `{}`", other.id));
    }
    let declared = target.secrets.iter_mut().flatten().find(|secret| secret.id == id);
    let declared = declared.ok_or_else(|| format!("the target declares no secret `{id}`: use {}.secrets to add one", target.name))?;
    *declared = Secret { id: id.to_owned(), ..other };
    Ok(())
}

/// `--push`: images are pushed; a target without outputs (but for those to docker) gets one that is.
fn push(outputs: &mut Option<Vec<Entry>>, wanted: bool) {
    let list = outputs.get_or_insert_default();
    if !wanted {
        list.retain(|entry| entry.kind != "registry");
    }
    for entry in list.iter_mut().filter(|entry| entry.kind == "image") {
        entry.attributes.insert("push".to_owned(), wanted.to_string());
    }
    if wanted && list.iter().all(|entry| entry.kind == "docker") {
        let mut image = Entry::of("image");
        image.attributes.insert("push".to_owned(), "true".to_owned());
        list.push(image);
    }
}

/// `--load`: an output to docker, unless there is one, or one that is no image.
fn load(outputs: &mut Option<Vec<Entry>>) {
    let list = outputs.get_or_insert_default();
    let loads = |entry: &Entry| entry.kind == "docker" && entry.attributes.get("dest").is_none_or(String::is_empty);
    let other = |entry: &Entry| !matches!(entry.kind.as_str(), "docker" | "image" | "registry" | "oci");
    if !list.iter().any(|entry| loads(entry) || other(entry)) {
        list.push(Entry::of("docker"));
    }
}
