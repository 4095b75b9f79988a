//! Images whose tag a policy of strake.yaml chooses: `lock: {policies: [{image: registry/app, semver: ">=1.2 <2"}]}`. What was chosen is kept in strake.lock.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{Timestamp, Unit};
use serde_json::{Value, json};
use strake_compile::config;
use strake_oci::{Digest, Platform};
use strake_registry::PullOptions;
use strake_source::{Diagnostic, Sources, Style, render};
use strake_store::Store;
use strake_sync::{Order, TagPolicy};
use strake_words::Reference;
use strake_yaml::Node;

use super::{CODE, Lock, LockArgs, resolve};
use crate::commands::images::familiar;
use crate::failure::Failure;
use crate::interrupt;

/// The fields of a choice.
const FIELDS: [&str; 4] = ["tag", "digest", "platform", "resolvedAt"];

/// What a policy has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The tag.
    pub tag: String,
    /// What it meant then: an image, or an index of images.
    pub digest: Digest,
    /// The platform that it was found to have.
    pub platform: Platform,
    /// When.
    pub resolved_at: Timestamp,
}

impl Chosen {
    /// As it stands in the file.
    pub fn text(&self, repository: &str) -> String {
        // A tag may look like a number.
        let tag = Value::from(self.tag.as_str());
        format!("  {repository}:\n    tag: {tag}\n    digest: {}\n    platform: {}\n    resolvedAt: \"{}\"\n", self.digest, self.platform, self.resolved_at)
    }
}

/// Reads what a lock file says of policies.
pub fn read(node: &Node, findings: &mut Vec<Diagnostic>) -> BTreeMap<String, Chosen> {
    let mut found = BTreeMap::new();
    for (name, value) in node.entries() {
        let Some(repository) = Reference::parse(&name.value).ok().filter(|parsed| parsed.tag.is_none() && parsed.digest.is_none()) else {
            findings.push(Diagnostic::error(CODE, format!("`{}` is no image without a tag", name.value)).at(name.span));
            continue;
        };
        for (field, _) in value.entries().iter().filter(|(field, _)| !FIELDS.contains(&field.value.as_str())) {
            findings.push(Diagnostic::error(CODE, format!("unknown field `{}`", field.value)).at(field.span).label(format!("expected {}", FIELDS.join(", "))));
        }
        let text = |field: &str| value.get(field).and_then(Node::as_str).unwrap_or_default();
        let whole = Reference::parse(&format!("{}:{}", repository.repository(), text("tag"))).ok().and_then(|parsed| parsed.tag);
        let times = text("resolvedAt").parse().ok();
        match (whole, text("digest").parse().ok(), text("platform").parse().ok(), times) {
            (Some(tag), Some(digest), Some(platform), Some(resolved_at)) => {
                drop(found.insert(repository.repository(), Chosen { tag, digest, platform, resolved_at }));
            }
            _ => {
                let finding = Diagnostic::error(CODE, format!("what is locked of `{}` cannot be read", name.value)).at(value.span);
                findings.push(finding.label("expected tag, digest (sha256: …), platform (linux/amd64) and resolvedAt (a time)"));
            }
        }
    }
    found
}

/// The policies of a directory's strake.yaml, by repository.
///
/// # Errors
/// Every mistake in the file, with its place.
pub fn of(dir: &Path) -> Result<BTreeMap<String, TagPolicy>, Failure> {
    let path = dir.join(config::FILE_NAME);
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let text = std::fs::read_to_string(&path).map_err(|source| Failure::read(&path, source))?;
    let mut sources = Sources::default();
    let file = sources.add(path.display().to_string(), text.as_str());
    let (read, mut findings) = config::read(file, &text);
    findings.retain(Diagnostic::is_error);
    let mut policies = BTreeMap::new();
    for rule in &read.tags {
        let mut wrong = |message: String| findings.push(Diagnostic::error(CODE, message).at(rule.image.span));
        let order = match rule.order.as_deref() {
            None | Some("numeric") => Order::Numeric,
            Some("alphabetical") => Order::Alphabetical,
            Some(other) => {
                wrong(format!("`order` is numeric or alphabetical, found `{other}`: registries do not say which tag is newest"));
                continue;
            }
        };
        let policy = TagPolicy { semver: rule.semver.clone(), pattern: rule.tag.clone(), order };
        if let Err(message) = policy.check() {
            wrong(message);
        }
        match Reference::parse(&rule.image.value) {
            Ok(parsed) if parsed.tag.is_none() && parsed.digest.is_none() => {
                if policies.insert(parsed.repository(), policy).is_some() {
                    wrong(format!("there are two policies for {}", parsed.familiar()));
                }
            }
            _ => wrong(format!("`{}` is no image without a tag", rule.image.value)),
        }
    }
    if findings.is_empty() { Ok(policies) } else { Err(Failure::text(render(&sources, &findings, Style::Plain).trim_end())) }
}

/// The repository of a reference that policies choose the tag of: one without a tag, or with `latest`.
pub fn governed(reference: &str) -> Option<String> {
    let parsed = Reference::parse(reference).ok()?.with_default_tag();
    (parsed.tag.as_deref() == Some("latest") && parsed.digest.is_none()).then(|| parsed.repository())
}

/// What a policy chooses now, given what is locked, and what the tag means now when that is not what is locked.
///
/// With `--update` the highest tag is taken, and a tag that was locked keeps its digest; without, the locked tag is kept while it fits, with what it means now.
///
/// # Errors
/// The registry cannot be asked; no tag fits; the image is not to be had for the platform.
pub fn choose(store: &Store, repository: &str, policy: &TagPolicy, locked: Option<&Chosen>, args: &LockArgs) -> Result<(Chosen, Option<Digest>), Failure> {
    let kept = locked.filter(|locked| !args.update && policy.fits(&locked.tag)).map(|locked| locked.tag.clone());
    let tag = match kept {
        Some(tag) => tag,
        None => policy.choose(&tags(store, repository, args.offline)?).map_err(Failure::text)?,
    };
    let reference = format!("{repository}:{tag}");
    let digest = resolve(store, &reference, args.offline)?;
    let same_tag = locked.filter(|locked| locked.tag == tag);
    if let Some(locked) = same_tag.filter(|locked| locked.digest == digest || args.update) {
        let moved = (locked.digest != digest).then_some(digest);
        return Ok((locked.clone(), moved));
    }
    let platform = platform(store, &format!("{reference}@{digest}"), args)?;
    let now = Timestamp::now();
    Ok((Chosen { tag, digest, platform, resolved_at: now.round(Unit::Second).unwrap_or(now) }, None))
}

fn tags(store: &Store, repository: &str, offline: bool) -> Result<Vec<String>, Failure> {
    if offline {
        let own = |name: &str| Reference::parse(name).ok().filter(|parsed| parsed.repository() == repository).and_then(|parsed| parsed.tag);
        return Ok(store.names()?.iter().filter_map(|(name, _)| own(name)).collect());
    }
    interrupt::wait_or("nothing was locked", async { Ok(strake_registry::tags(repository, store, &PullOptions::default()).await?) })
}

/// The platform for which the image is to be had, as its own configuration says.
fn platform(store: &Store, reference: &str, args: &LockArgs) -> Result<Platform, Failure> {
    let wanted = match &args.platform {
        Some(text) => text.parse().map_err(|error| Failure::text(format!("--platform {text}: {error}")).with_code(2))?,
        None => Platform::host(),
    };
    if args.offline {
        return Ok(wanted);
    }
    let found = interrupt::wait_or("nothing was locked", async { Ok(strake_registry::documents(reference, &wanted, store, &PullOptions::default()).await?) })?;
    let config: Value = serde_json::from_slice(&found.config)?;
    let said = match (config["os"].as_str(), config["architecture"].as_str(), config["variant"].as_str()) {
        (Some(os), Some(architecture), None) => format!("{os}/{architecture}"),
        (Some(os), Some(architecture), Some(variant)) => format!("{os}/{architecture}/{variant}"),
        _ => return Ok(wanted),
    };
    said.parse().map_err(|error| Failure::text(format!("{} has the platform {said}, which cannot be read: {error}", familiar(reference))))
}

/// What a name means: its tag, where a policy chose it, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    tag: Option<String>,
    digest: Digest,
}

impl Meaning {
    fn text(&self) -> String {
        self.tag.as_ref().map_or_else(|| self.digest.to_string(), |tag| format!("{tag} ({})", self.digest))
    }

    fn data(&self) -> Value {
        json!({"tag": self.tag, "digest": self.digest.to_string()})
    }
}

/// How a lock file differs from what it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    image: String,
    before: Option<Meaning>,
    after: Option<Meaning>,
    /// The tag is the same and means something else, which is not followed.
    pub moved: bool,
}

impl Change {
    /// A line for people.
    pub fn text(&self) -> String {
        let image = familiar(&self.image);
        match (&self.before, &self.after) {
            (Some(old), Some(new)) if self.moved => {
                let name = old.tag.as_ref().map_or_else(|| image.clone(), |tag| format!("{image}:{tag}"));
                format!("! {name}  moved: it is {} now, and stays locked to {}; `strake image lock` without --update follows it", new.digest, old.digest)
            }
            (Some(old), Some(new)) if new.tag.is_some() || old.tag.is_some() => format!("~ {image}  {} -> {}", old.text(), new.text()),
            (Some(old), Some(new)) => format!("~ {image}  {}, was {}", new.digest, old.digest),
            (None, Some(new)) => format!("+ {image}  {}", new.text()),
            (Some(_), None) => format!("- {image}"),
            (None, None) => image,
        }
    }

    /// For programs.
    pub fn data(&self) -> Value {
        let action = match (&self.before, &self.after) {
            _ if self.moved => "moved",
            (Some(_), Some(_)) => "change",
            (None, _) => "add",
            (_, None) => "remove",
        };
        let side = |meaning: &Option<Meaning>| meaning.as_ref().map(Meaning::data);
        json!({"image": familiar(&self.image), "action": action, "from": side(&self.before), "to": side(&self.after)})
    }

    /// A tag that means something else than what it is locked to.
    pub fn moved(image: &str, tag: Option<&str>, locked: &Digest, now: Digest) -> Change {
        let meaning = |digest: Digest| Some(Meaning { tag: tag.map(str::to_owned), digest });
        Change { image: image.to_owned(), before: meaning(*locked), after: meaning(now), moved: true }
    }
}

/// What is different between two lock files, by name.
pub fn changes(before: &Lock, after: &Lock) -> Vec<Change> {
    let all = |lock: &Lock| -> BTreeMap<String, Meaning> {
        let plain = lock.images.iter().map(|(name, digest)| (name.clone(), Meaning { tag: None, digest: *digest }));
        let chosen = lock.policies.iter().map(|(name, chosen)| (name.clone(), Meaning { tag: Some(chosen.tag.clone()), digest: chosen.digest }));
        plain.chain(chosen).collect()
    };
    let (before, after) = (all(before), all(after));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    differs.map(|name| Change { image: name.clone(), before: before.get(name).cloned(), after: after.get(name).cloned(), moved: false }).collect()
}
