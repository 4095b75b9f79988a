//! `--allow`: what a bake file asks for beyond the directory it is run in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use strake_bake::{Inputs, Resolved, Target, is_remote};

use crate::args::Bake;
use crate::failure::Failure;

/// What may be done without a file's own word for it.
#[derive(Debug, Default)]
struct Allowed {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    /// `network.host`, `security.insecure`, `ssh`, …
    words: BTreeSet<String>,
}

/// What else may be allowed, and needs nothing here.
const OTHER: [&str; 5] = ["image", "image.push", "image.load", "device", "buildx.local.delete"];

impl Allowed {
    fn parse(args: &Bake) -> Result<Allowed, Failure> {
        let here = std::env::current_dir()?;
        let mut allowed = Allowed { read: vec![here.clone()], write: vec![here], words: BTreeSet::new() };
        for word in &args.allow {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match (key, value) {
                ("network.host" | "security.insecure" | "ssh", "") => drop(allowed.words.insert(key.to_owned())),
                ("fs" | "fs.read" | "fs.write", "") => {
                    return Err(Failure::text(format!("--allow {word}: expected {key}=PATH, or {key}=* for every path")).with_code(2));
                }
                ("fs.read", path) => allowed.read.push(place(path)),
                ("fs.write", path) => allowed.write.push(place(path)),
                ("fs", path) => {
                    allowed.read.push(place(path));
                    allowed.write.push(place(path));
                }
                (other, _) if OTHER.contains(&other) => {}
                _ => {
                    return Err(Failure::text(format!(
                        "--allow {word}: expected fs.read=PATH, fs.write=PATH, fs=PATH, ssh, network.host or security.insecure"
                    ))
                    .with_code(2));
                }
            }
        }
        // What the command line names itself is allowed by that.
        for setting in &args.settings {
            let (left, value) = setting.split_once('=').unwrap_or((setting, ""));
            let key = left.trim_end_matches('+').split('.').nth(1).unwrap_or_default();
            match key {
                "entitlements" => drop(allowed.words.insert(value.to_owned())),
                "network" if value == "host" => drop(allowed.words.insert("network.host".to_owned())),
                "ssh" => drop(allowed.words.insert("ssh".to_owned())),
                "context" | "contexts" | "dockerfile" => allowed.read.push(place(value)),
                "secrets" | "secret" | "cache-from" => allowed.read.extend(named(value, &["src", "source"]).map(place)),
                "output" if !value.contains('=') => allowed.write.push(place(value)),
                "output" | "cache-to" => allowed.write.extend(named(value, &["dest"]).map(place)),
                _ => {}
            }
        }
        Ok(allowed)
    }
}

/// The values of some keys of `key=value,…`.
fn named<'t>(text: &'t str, keys: &'t [&'t str]) -> impl Iterator<Item = &'t str> {
    text.split(',').filter_map(|field| field.split_once('=')).filter(|(key, _)| keys.contains(key)).map(|(_, value)| value)
}

/// A path without links, as far as it exists.
fn place(path: &str) -> PathBuf {
    if path == "*" {
        return PathBuf::from("/");
    }
    let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    let mut known = path.as_path();
    while let Some(parent) = known.parent() {
        if let Ok(real) = std::fs::canonicalize(known) {
            let rest = path.strip_prefix(known).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
        known = parent;
    }
    path
}

/// Refuses a file that a compose file includes from beyond the current directory, with the flag that would allow it.
pub fn read(path: &Path, args: &Bake, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let (allowed, path) = (Allowed::parse(args)?, place(&path.display().to_string()));
    if is_free(environment) || allowed.read.iter().any(|root| path.starts_with(root)) {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(&path).display();
    let text =
        format!("a compose file includes {}, which is not in the current directory; if you trust it with that, add --allow=fs.read={dir}", path.display());
    Err(Failure::text(text).with_code(2))
}

fn is_free(environment: &BTreeMap<String, String>) -> bool {
    environment.get("BUILDX_BAKE_ENTITLEMENTS_FS").is_some_and(|value| matches!(value.as_str(), "0" | "false"))
}

/// Refuses targets that reach farther than they may, with the flags that would allow it.
pub fn check(resolved: &Resolved, args: &Bake, inputs: &Inputs) -> Result<(), Failure> {
    check_for(resolved, args, inputs, false)
}

/// The same where nothing is built: only what is read counts.
pub fn check_reads(resolved: &Resolved, args: &Bake, inputs: &Inputs) -> Result<(), Failure> {
    check_for(resolved, args, inputs, true)
}

fn check_for(resolved: &Resolved, args: &Bake, inputs: &Inputs, reads_only: bool) -> Result<(), Failure> {
    let allowed = Allowed::parse(args)?;
    let free = is_free(&inputs.environment);
    let mut needed: Vec<(String, String)> = Vec::new();
    for target in resolved.targets.values() {
        let mut need = |flag: String| {
            if !needed.iter().any(|(known, _)| *known == flag) {
                needed.push((flag, target.name.clone()));
            }
        };
        let within = |list: &[PathBuf], path: &Path| list.iter().any(|root| path.starts_with(root));
        for path in reads(target).iter().map(|path| place(path)).filter(|path| !free && !within(&allowed.read, path)) {
            need(format!("fs.read={}", path.display()));
        }
        if reads_only {
            continue;
        }
        for path in writes(target).iter().map(|path| place(path)).filter(|path| !free && !within(&allowed.write, path)) {
            need(format!("fs.write={}", path.display()));
        }
        let ssh = target.ssh.as_ref().is_some_and(|agents| !agents.is_empty()).then(|| "ssh".to_owned());
        for word in target.entitlements.iter().flatten().cloned().chain(ssh) {
            if !allowed.words.contains(&word) && !OTHER.contains(&word.split('=').next().unwrap_or_default()) {
                need(word);
            }
        }
    }
    if needed.is_empty() {
        return Ok(());
    }
    let lines: String = needed.iter().map(|(flag, target)| format!("\n  --allow={flag}   for `{target}`")).collect();
    Err(Failure::text(format!("the bake file asks for more than the current directory; add what you trust it with:{lines}")).with_code(2))
}

fn is_local(path: &str) -> bool {
    !path.is_empty() && !is_remote(path)
}

fn reads(target: &Target) -> Vec<String> {
    let mut paths = Vec::new();
    let context = target.context.as_deref().unwrap_or(".");
    if is_local(context) {
        paths.push(context.to_owned());
        let name = target.dockerfile.as_deref().unwrap_or("Dockerfile");
        if target.dockerfile_inline.is_none() {
            paths.push(name.strip_prefix("cwd://").map_or_else(|| Path::new(context).join(name).display().to_string(), str::to_owned));
        }
    }
    paths.extend(target.contexts.values().map(|path| path.strip_prefix("cwd://").unwrap_or(path)).filter(|path| is_local(path)).map(str::to_owned));
    paths.extend(target.secrets.iter().flatten().map(|secret| secret.source.clone()).filter(|path| !path.is_empty()));
    let local = |entry: &&strake_bake::Entry| entry.kind == "local";
    paths.extend(target.cache_from.iter().flatten().filter(local).filter_map(|entry| entry.attributes.get("src").cloned()));
    paths
}

fn writes(target: &Target) -> Vec<String> {
    let entries = target.outputs.iter().chain(&target.cache_to).flatten();
    entries.filter_map(|entry| entry.attributes.get("dest").cloned()).filter(|path| !path.is_empty() && path != "-").collect()
}
