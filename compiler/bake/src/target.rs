//! A target: what one build of a bake file is asked for, how two of them become one, and how it is printed.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use strake_source::Span;

use crate::entry::{Agent, Entry, EntryKind, Secret};

/// One target. `None` is not set, which is not the same as empty: an empty list takes the place of an inherited one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Where its block stands.
    pub span: Option<Span>,
    /// Where its attributes were set last.
    pub places: BTreeMap<&'static str, Span>,
    /// What it is for.
    pub description: String,
    /// Targets whose attributes it takes.
    pub inherits: Vec<String>,
    /// `key=value`, with `type:` in front where it has one.
    pub annotations: Option<Vec<String>>,
    /// Attestations.
    pub attest: Option<Vec<Entry>>,
    /// The main context.
    pub context: Option<String>,
    /// Named contexts.
    pub contexts: BTreeMap<String, String>,
    /// The Dockerfile, from the context.
    pub dockerfile: Option<String>,
    /// The Dockerfile's text.
    pub dockerfile_inline: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Names of the image.
    pub tags: Option<Vec<String>>,
    /// Where steps may be found.
    pub cache_from: Option<Vec<Entry>>,
    /// Where steps are written to.
    pub cache_to: Option<Vec<Entry>>,
    /// The stage.
    pub target: Option<String>,
    /// Secrets.
    pub secrets: Option<Vec<Secret>>,
    /// SSH agents.
    pub ssh: Option<Vec<Agent>>,
    /// Platforms.
    pub platforms: Option<Vec<String>>,
    /// Where the image goes.
    pub outputs: Option<Vec<Entry>>,
    /// Pull base images.
    pub pull: Option<bool>,
    /// Do everything again.
    pub no_cache: Option<bool>,
    /// The network of RUNs.
    pub network: Option<String>,
    /// Stages that are done again.
    pub no_cache_filter: Option<Vec<String>>,
    /// Size of /dev/shm.
    pub shm_size: Option<String>,
    /// Limits of RUNs: `name=soft:hard`.
    pub ulimits: Option<Vec<String>>,
    /// Limits of RUNs by cgroup.
    pub resources: BTreeMap<String, String>,
    /// What to do instead of a build.
    pub call: Option<String>,
    /// What it must be allowed.
    pub entitlements: Option<Vec<String>>,
    /// Names in /etc/hosts.
    pub extra_hosts: BTreeMap<String, String>,
    /// Policies, as written.
    pub policy: Option<Vec<Json>>,
    /// It is built only because another target's context is this one.
    pub linked: bool,
}

/// The last one set.
fn last<T: Clone>(mine: &mut Option<T>, other: Option<&T>) {
    if let Some(value) = other {
        *mine = Some(value.clone());
    }
}

/// One behind the other.
fn both<T: Clone>(mine: &mut Option<Vec<T>>, other: Option<&Vec<T>>) {
    if let Some(more) = other {
        mine.get_or_insert_default().extend_from_slice(more);
    }
}

/// Each once, the first counts; empty ones go.
fn once(list: &mut Option<Vec<String>>) {
    let mut kept: Vec<String> = Vec::new();
    if let Some(all) = list {
        all.drain(..).for_each(|one| {
            if !one.is_empty() && !kept.contains(&one) {
                kept.push(one);
            }
        });
        *all = kept;
    }
}

/// Each once by its key: the last counts, in the place of the first.
fn once_by<T, K: PartialEq>(list: &mut Option<Vec<T>>, key: impl Fn(&T) -> K) {
    let mut kept: Vec<T> = Vec::new();
    if let Some(all) = list {
        for one in all.drain(..) {
            match kept.iter_mut().find(|other| key(other) == key(&one)) {
                Some(other) => *other = one,
                None => kept.push(one),
            }
        }
        *all = kept;
    }
}

impl Target {
    /// Takes what another one sets: single values, tags, platforms, outputs and cache-to are replaced, other lists grow, maps are joined.
    pub fn merge(&mut self, other: &Target) {
        last(&mut self.context, other.context.as_ref());
        last(&mut self.dockerfile, other.dockerfile.as_ref());
        last(&mut self.dockerfile_inline, other.dockerfile_inline.as_ref());
        last(&mut self.target, other.target.as_ref());
        last(&mut self.call, other.call.as_ref());
        last(&mut self.tags, other.tags.as_ref());
        last(&mut self.platforms, other.platforms.as_ref());
        last(&mut self.cache_to, other.cache_to.as_ref());
        last(&mut self.outputs, other.outputs.as_ref());
        last(&mut self.pull, other.pull.as_ref());
        last(&mut self.no_cache, other.no_cache.as_ref());
        last(&mut self.network, other.network.as_ref());
        last(&mut self.shm_size, other.shm_size.as_ref());
        both(&mut self.annotations, other.annotations.as_ref());
        both(&mut self.attest, other.attest.as_ref());
        both(&mut self.secrets, other.secrets.as_ref());
        both(&mut self.ssh, other.ssh.as_ref());
        both(&mut self.cache_from, other.cache_from.as_ref());
        both(&mut self.no_cache_filter, other.no_cache_filter.as_ref());
        both(&mut self.ulimits, other.ulimits.as_ref());
        both(&mut self.entitlements, other.entitlements.as_ref());
        both(&mut self.policy, other.policy.as_ref());
        let maps = [
            (&mut self.contexts, &other.contexts),
            (&mut self.args, &other.args),
            (&mut self.labels, &other.labels),
            (&mut self.resources, &other.resources),
            (&mut self.extra_hosts, &other.extra_hosts),
        ];
        maps.into_iter().for_each(|(mine, more)| mine.extend(more.iter().map(|(key, value)| (key.clone(), value.clone()))));
        if !other.description.is_empty() {
            self.description.clone_from(&other.description);
        }
        self.inherits.extend_from_slice(&other.inherits);
        self.places.extend(other.places.iter().map(|(name, span)| (*name, *span)));
        self.span = other.span.or(self.span);
    }

    /// Takes out what is there twice, and what is empty.
    pub fn normalise(&mut self) {
        [&mut self.annotations, &mut self.tags, &mut self.platforms, &mut self.no_cache_filter, &mut self.ulimits].into_iter().for_each(once);
        once_by(&mut self.attest, |entry| entry.kind.clone());
        once_by(&mut self.secrets, |secret| secret.id.clone());
        once_by(&mut self.ssh, |agent| agent.id.clone());
        once_by(&mut self.cache_from, Clone::clone);
        once_by(&mut self.cache_to, Clone::clone);
        once_by(&mut self.outputs, Clone::clone);
        if self.network.as_deref() == Some("host") {
            self.entitlements.get_or_insert_default().push("network.host".to_owned());
        }
        once(&mut self.entitlements);
        self.contexts.retain(|_, value| !value.is_empty());
    }

    /// The targets whose results it uses as contexts, with the context's name.
    pub fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.contexts.iter().filter_map(|(name, value)| value.strip_prefix("target:").map(|target| (name.as_str(), target)))
    }

    /// As `--print` shows it.
    pub fn to_json(&self) -> Json {
        let mut map = Map::new();
        let mut set = |key: &str, value: Json| {
            let empty = match &value {
                Json::Null => true,
                Json::Array(items) => items.is_empty(),
                Json::Object(entries) => entries.is_empty(),
                _ => false,
            };
            if !empty {
                map.insert(key.to_owned(), value);
            }
        };
        let entries = |list: &Option<Vec<Entry>>, what| list.iter().flatten().map(|entry| entry.to_json(what)).collect::<Json>();
        let escaped = |entries: &BTreeMap<String, String>| -> Json {
            entries.iter().map(|(key, value)| (key.clone(), Json::from(escape(value)))).collect::<Map<_, _>>().into()
        };
        set("description", if self.description.is_empty() { Json::Null } else { self.description.as_str().into() });
        set("annotations", self.annotations.iter().flatten().map(|text| Json::from(escape(text))).collect());
        set("attest", entries(&self.attest, EntryKind::Attest));
        set("context", self.context.clone().into());
        set("contexts", self.contexts.iter().map(|(key, value)| (key.clone(), Json::from(value.as_str()))).collect::<Map<_, _>>().into());
        set("dockerfile", self.dockerfile.clone().into());
        set("dockerfile-inline", self.dockerfile_inline.as_deref().map(escape).into());
        set("args", escaped(&self.args));
        set("labels", escaped(&self.labels));
        set("tags", self.tags.clone().into());
        set("cache-from", entries(&self.cache_from, EntryKind::Cache));
        set("cache-to", entries(&self.cache_to, EntryKind::Cache));
        set("target", self.target.clone().into());
        set("secret", self.secrets.iter().flatten().map(Secret::to_json).collect());
        set("ssh", self.ssh.iter().flatten().map(Agent::to_json).collect());
        set("platforms", self.platforms.clone().into());
        set("output", entries(&self.outputs, EntryKind::Output));
        set("pull", self.pull.into());
        set("no-cache", self.no_cache.into());
        set("network", self.network.clone().into());
        set("no-cache-filter", self.no_cache_filter.clone().into());
        set("shm-size", self.shm_size.clone().into());
        set("ulimits", self.ulimits.clone().into());
        let resource = |(key, value): (&String, &String)| {
            let number = value.parse::<i64>().ok().filter(|_| key.starts_with("cpu-"));
            (key.clone(), number.map_or_else(|| Json::from(value.as_str()), Json::from))
        };
        set("resources", self.resources.iter().map(resource).collect::<Map<_, _>>().into());
        set("call", self.call.clone().into());
        set("entitlements", self.entitlements.clone().into());
        set("extra-hosts", escaped(&self.extra_hosts));
        set("policy", self.policy.clone().into());
        map.into()
    }
}

/// A text that a bake file reads as it is.
fn escape(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

/// A group of targets and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Where its targets stand.
    pub span: Option<Span>,
    /// What it is for.
    pub description: String,
    /// Targets and groups.
    pub targets: Vec<String>,
}

impl Group {
    /// As `--print` shows it.
    pub fn to_json(&self) -> Json {
        let mut map = Map::new();
        if !self.description.is_empty() {
            map.insert("description".to_owned(), self.description.as_str().into());
        }
        map.insert("targets".to_owned(), self.targets.clone().into());
        map.into()
    }
}
