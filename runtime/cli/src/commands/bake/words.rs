//! A target as the command line of `strake build`: what that takes, bake takes too, and what it does not take is refused by name.

use std::path::Path;

use clap::{CommandFactory, FromArgMatches};
use strake_bake::{Agent, Entry, Secret, Target, is_remote};

use crate::args::{Bake, Build, Cli};
use crate::commands::build;
use crate::failure::Failure;

/// The words of one command line.
struct Words<'t> {
    target: &'t Target,
    words: Vec<String>,
    /// The long options that `strake build` has.
    known: Vec<String>,
}

/// The arguments of `strake build` that build a target.
pub fn build(target: &Target, bake: &Bake, lock_dir: &Path) -> Result<Build, Failure> {
    let cli = <Cli>::command();
    let command = cli.find_subcommand("build").cloned().unwrap_or_default();
    let known = command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect();
    let mut words = Words { target, words: vec!["build".to_owned()], known };
    words.fill()?;
    words.flags(bake)?;
    let context = target.context.clone().unwrap_or_else(|| ".".to_owned());
    if context == "-" || target.dockerfile.as_deref() == Some("-") {
        return Err(words.wrong("context", "stdin is for bake files: `-` is neither a context nor a Dockerfile here"));
    }
    if is_remote(&context) && target.dockerfile.as_ref().is_some_and(|name| name.starts_with("cwd://")) {
        return Err(words.wrong("dockerfile", "a file of this machine with a context of elsewhere is not supported: write it as dockerfile-inline"));
    }
    words.words.extend(["--".to_owned(), context]);
    let matches = command.no_binary_name(false).try_get_matches_from(&words.words).map_err(|error| words.refused(&error))?;
    let mut args = Build::from_arg_matches(&matches).map_err(|error| words.refused(&error))?;
    args.dockerfile_inline = target.dockerfile_inline.clone().map(|text| (format!("dockerfile-inline of {}", target.name), text));
    args.lock_dir = Some(lock_dir.to_owned());
    args.progress = bake.progress;
    args.jobs = bake.jobs;
    Ok(args)
}

impl Words<'_> {
    fn wrong(&self, attribute: &str, why: &str) -> Failure {
        Failure::text(format!("target `{}`: {attribute}: {why}", self.target.name)).with_code(2)
    }

    fn refused(&self, error: &clap::Error) -> Failure {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Failure::text(format!("target `{}`: {first}", self.target.name)).with_code(2)
    }

    /// One option with its values, when there are any.
    fn option(&mut self, attribute: &str, long: &str, values: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        for value in values {
            if !self.known.iter().any(|known| known == long) {
                return Err(self.wrong(attribute, &format!("not supported yet (found `{value}`): leave it out of the target")));
            }
            self.words.push(format!("--{long}={value}"));
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), Failure> {
        let target = self.target;
        let pairs = |map: &std::collections::BTreeMap<String, String>| map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let entries = |list: &Option<Vec<Entry>>| list.iter().flatten().map(Entry::to_text).collect::<Vec<_>>();
        let outputs = target.outputs.iter().flatten().filter(|output| output.kind != "cacheonly").map(Entry::to_text).collect::<Vec<_>>();
        let contexts = target.contexts.iter().filter(|(_, value)| !value.starts_with("target:"));
        self.option("dockerfile", "file", dockerfile(target))?;
        self.option("args", "build-arg", pairs(&target.args))?;
        self.option("labels", "label", pairs(&target.labels))?;
        self.option("tags", "tag", list(&target.tags))?;
        self.option("annotations", "annotation", list(&target.annotations))?;
        self.option("attest", "attest", entries(&target.attest))?;
        self.option(
            "contexts",
            "build-context",
            contexts.map(|(name, value)| format!("{name}={}", value.strip_prefix("cwd://").unwrap_or(value))).collect::<Vec<_>>(),
        )?;
        self.option("cache-from", "cache-from", entries(&target.cache_from))?;
        self.option("cache-to", "cache-to", entries(&target.cache_to))?;
        self.option("target", "target", target.target.clone())?;
        self.option("secret", "secret", target.secrets.iter().flatten().map(Secret::to_text).collect::<Vec<_>>())?;
        self.option("ssh", "ssh", target.ssh.iter().flatten().map(Agent::to_text).collect::<Vec<_>>())?;
        self.option("platforms", "platform", list(&target.platforms))?;
        self.option("output", "output", outputs)?;
        self.option("network", "network", target.network.clone())?;
        self.option("no-cache-filter", "no-cache-filter", list(&target.no_cache_filter))?;
        self.option("shm-size", "shm-size", target.shm_size.clone())?;
        self.option("ulimits", "ulimit", list(&target.ulimits))?;
        self.option("resources", "resource", pairs(&target.resources))?;
        self.option("extra-hosts", "add-host", pairs(&target.extra_hosts))?;
        self.option("policy", "policy", target.policy.iter().flatten().map(ToString::to_string).collect::<Vec<_>>())?;
        // What may be done has been checked; agents and paths are given by what names them.
        let rights = list(&target.entitlements).into_iter().filter(|word| word != "ssh" && !word.starts_with("fs.") && !word.starts_with("image"));
        self.option("entitlements", "allow", rights)?;
        Ok(())
    }

    fn flags(&mut self, bake: &Bake) -> Result<(), Failure> {
        let call = match (&bake.call, &self.target.call) {
            (Some(call), _) => Some(call.clone()),
            (None, own) => own.clone(),
        };
        self.option("call", "call", call)?;
        for (wanted, long) in
            [(self.target.pull, "--pull"), (self.target.no_cache, "--no-cache"), (Some(bake.offline), "--offline"), (Some(bake.locked), "--locked")]
        {
            if wanted == Some(true) {
                self.words.push(long.to_owned());
            }
        }
        Ok(())
    }
}

/// `--file`: from the context, as bake files name it. The default is left out where `strake build` finds it, or another usual name, by itself.
fn dockerfile(target: &Target) -> Option<String> {
    let name = target.dockerfile.as_deref().unwrap_or("Dockerfile");
    let context = target.context.as_deref().unwrap_or(".");
    if target.dockerfile_inline.is_some() {
        return None;
    }
    if let Some(path) = name.strip_prefix("cwd://") {
        return Some(path.to_owned());
    }
    let is_elsewhere = is_remote(context) || !Path::new(context).is_dir();
    if is_elsewhere {
        return (name != "Dockerfile").then(|| name.to_owned());
    }
    let path = Path::new(context).join(name);
    let shown = path.strip_prefix("./").unwrap_or(&path).display().to_string();
    (name != "Dockerfile" || path.exists()).then_some(shown)
}

/// Whether there is a Dockerfile: a target that others inherit from needs none.
pub fn has_dockerfile(target: &Target) -> bool {
    let (name, context) = (target.dockerfile.as_deref().unwrap_or("Dockerfile"), target.context.as_deref().unwrap_or("."));
    let is_there = |name: &str| Path::new(context).join(name).exists();
    target.dockerfile_inline.is_some()
        || is_remote(context)
        || name.strip_prefix("cwd://").is_some_and(|path| Path::new(path).exists())
        || is_there(name)
        || (name == "Dockerfile" && build::NAMES.into_iter().any(is_there))
}
