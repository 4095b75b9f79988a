//! strake build

mod agent;
mod annotate;
mod attest;
mod attributes;
mod cache;
mod call;
mod compile;
mod context;
mod output;
mod parts;
mod platforms;
mod private;
mod product;
pub mod remote;
mod rules;
mod secret;
mod shell;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use strake_build::attest::Dependency;
use strake_build::{BuildError, BuildOptions, Builder, BuiltImage, CancelFlag, StepError};
use strake_container::LinuxExecutor;
use strake_oci::Platform;
use strake_plan::{BuildPlan, Context, ContextKind, Network, StepIndex};
use strake_source::{Diagnostic, Sources, Style, render};
use strake_stages::Request;
use strake_store::Store;

use crate::args::{Build, Progress};
use crate::commands::images::full;
use crate::commands::lock::Sourcing;
use crate::commands::serve::need_root;
use crate::failure::{Failure, chain};
use crate::interrupt;
use crate::output::{Paint, note, say};
use crate::progress;
use attest::Attest;
use call::Call;
pub use compile::bases;
use compile::{compile, compile_as};
pub use context::NAMES;
use context::{MainContext, NamedContexts};
use output::Written;
pub use parts::{Needed, Part, needed, repository, run as run_parts};
use product::{Facts, Product, Wishes};

/// The name of the main context in a plan.
const CONTEXT: &str = "context";
/// Lines of a failed step's output that are shown again below the error.
const OUTPUT_LINES: usize = 24;

/// Builds an image.
pub fn run(root: &Path, args: &Build) -> Result<(), Failure> {
    args.foreign.refuse()?;
    need_root("strake build")?;
    let call = Call::parse(args.call.as_deref(), args.check)?;
    let outputs = output::outputs(args)?;
    let mut caches = cache::Caches::parse(args)?;
    let (secrets, ssh) = (secret::secrets(&args.secrets)?, secret::agents(&args.ssh)?);
    let store = Store::open(root)?;
    let _lease = store.lease()?;
    let fetcher = remote::Fetcher::new(&store, args.offline, &secrets, ssh.get("default").map(|agent| agent.path.clone()));
    let request = read(&store, args, &fetcher)?;
    match call {
        Call::Build => {}
        Call::Outline(format) => return call::outline(&request.request, format),
        Call::Targets(format) => return call::targets(&request.request, format),
        Call::Check(format) => {
            let (_, findings) = compile(&store, &request, args, &fetcher)?;
            return call::check(&request.sources, &findings, format);
        }
    }
    let composed = request.wishes.composes(&request.platforms);
    request.wishes.check(&request.platforms, &Default::default())?;
    outputs.iter().try_for_each(|output| output.accepts(&request.wishes, &request.platforms))?;
    product::warn_of_values(&request.wishes, &request.request);
    let (mut shell, started) = (shell::wanted(args)?, jiff::Timestamp::now());
    let (plan, findings) = match (&mut shell, &args.debug_step) {
        (Some(shell), Some(word)) => debugged(&store, &request, args, &fetcher, (shell, word))?,
        _ => compile(&store, &request, args, &fetcher)?,
    };
    report(&request.sources, &findings);
    let plan = plan.ok_or_else(|| Failure::silent(1))?;
    let sources = &request.sources;
    let kind = match (args.quiet, &shell) {
        (true, _) => Progress::Quiet,
        // A view that is drawn anew would draw over the shell.
        (_, Some(_)) if args.progress != Progress::Json => Progress::Plain,
        _ => args.progress,
    };
    let mut options = BuildOptions {
        workers: if shell.is_some() { 1 } else { args.jobs.unwrap_or(0) },
        source_date_epoch: epoch_of(&request.request)?,
        secrets: secrets.clone(),
        ssh,
        hosts: hosts(&args.add_host)?,
        shm_bytes: shm_bytes(args)?,
        shell,
        cgroup_parent: rules::cgroup_parent(args)?,
        ..BuildOptions::default()
    };
    caches.prepare(&store, &mut options)?;
    let epoch = options.source_date_epoch;
    let images = build_with(root, &store, &plan, sources, kind, options)?;
    let product = request.product(&store, images, &plan, &fetcher, (epoch, started))?;
    let mut written = Written::default();
    for output in &outputs {
        output.write(&store, &product, epoch.unwrap_or(0), &mut written)?;
    }
    caches.export(&store)?;
    if let Some(path) = &args.metadata_file {
        let text = serde_json::to_string_pretty(&written.metadata(&product))?;
        std::fs::write(path, text + "\n").map_err(|source| Failure::text(format!("cannot write {}: {source}", path.display())))?;
    }
    if let Some(path) = &args.iidfile {
        std::fs::write(path, product.id()).map_err(|source| Failure::text(format!("cannot write {}: {source}", path.display())))?;
    }
    if args.quiet {
        say(product.id());
    } else if composed {
        product.tell();
    }
    Ok(())
}

/// The plan that ends where `--debug-step` says, and its shell aimed at that step.
fn debugged(
    store: &Store,
    dockerfile: &Dockerfile,
    args: &Build,
    fetcher: &remote::Fetcher<'_>,
    (shell, word): (&mut strake_build::Shell, &str),
) -> Result<(Option<BuildPlan>, Vec<Diagnostic>), Failure> {
    let (whole, findings) = compile(store, dockerfile, args, fetcher)?;
    if whole.is_none() {
        return Ok((None, findings));
    }
    let place = shell::place(word, whole.as_ref())?;
    let request =
        strake_stages::debug::cut_off(&dockerfile.request, &place).map_err(|wrong| Failure::text(format!("--debug-step {word}: {wrong}")).with_code(2))?;
    let (mut plan, _) = compile_as(store, &request, dockerfile, args, fetcher)?;
    if let Some(plan) = &mut plan {
        shell::aim(shell, plan);
    }
    Ok((plan, findings))
}

/// A Dockerfile with everything that decides how it is built.
struct Dockerfile {
    sources: Sources,
    request: Request,
    diagnostics: Vec<Diagnostic>,
    /// What is built: an image for each.
    platforms: Vec<Platform>,
    /// Annotations and attestations.
    wishes: Wishes,
    /// Places of the layouts that `--build-context` gives, by the reference under which the compiler looks for them.
    layouts: BTreeMap<String, String>,
    /// The context that was fetched, when it is not of this machine.
    source: Option<Dependency>,
    _contexts: (MainContext, NamedContexts),
}

impl Dockerfile {
    /// What the images of all platforms become together, with its names.
    fn product(
        &self,
        store: &Store,
        images: Vec<BuiltImage>,
        plan: &BuildPlan,
        fetcher: &remote::Fetcher<'_>,
        (epoch, started): (Option<i64>, jiff::Timestamp),
    ) -> Result<Product, Failure> {
        let (request, written) = (&self.request, self.sources.iter().next());
        let text = written.map_or("", |(_, file)| &*file.text);
        let facts = Facts { plan, request, text, source: self.source.clone(), remotes: fetcher.fetched(), epoch, started };
        Product::make(store, images, &self.platforms, &request.tags, &self.wishes, &facts)
    }
}

fn read(store: &Store, args: &Build, fetcher: &remote::Fetcher<'_>) -> Result<Dockerfile, Failure> {
    let wishes = Wishes { annotations: annotate::parse(&args.annotations)?, attest: Attest::parse(args)? };
    let context = MainContext::open(store, args, fetcher)?;
    let source = fetcher.fetched().into_iter().next();
    let mut named = NamedContexts::read(store, &args.build_contexts, fetcher)?;
    let mut sources = Sources::default();
    let id = sources.add(context.file_name.clone(), context.text.clone());
    let given = build_args(&args.build_args)?;
    let check = given.get("BUILDKIT_DOCKERFILE_CHECK").and_then(Option::as_deref);
    let (file, diagnostics) = strake_dockerfile::parse_checked(id, &sources.get(id).text, check);
    let platforms = platforms::wanted(&args.platforms)?;
    let tags = args.tags.iter().map(|tag| full(tag)).collect::<Result<Vec<_>, _>>()?;
    let request = Request {
        file,
        file_name: context.file_name.clone(),
        target: args.target.clone(),
        build_args: given,
        platform: platforms[0].clone(),
        build_platform: Platform::host(),
        tags,
        labels: labels(&args.labels)?,
        no_cache: args.no_cache,
        context_name: CONTEXT.to_owned(),
        context: Context { kind: ContextKind::Directory { path: context.dir.display().to_string() }, ignore: context.ignore.clone() },
        named_contexts: std::mem::take(&mut named.directories),
        named_images: std::mem::take(&mut named.images),
        named_builds: BTreeMap::new(),
        remotes: BTreeMap::new(),
        no_cache_stages: args.no_cache_filter.iter().flat_map(|stages| stages.split(',')).map(str::to_owned).collect(),
        network: match args.network.as_deref() {
            Some("none") => Network::None,
            Some("host") => Network::Host,
            _ => Network::Default,
        },
        extra_hosts: hosts(&args.add_host)?.into_keys().collect(),
        rules: rules::rules(args)?,
    };
    let layouts = std::mem::take(&mut named.layouts);
    Ok(Dockerfile { sources, request, diagnostics, platforms, wishes, layouts, source, _contexts: (context, named) })
}

/// The lines of the ignore file in force: the one named after the Dockerfile, else the context's.
pub fn ignore_lines(dockerfile: &Path, context: &Path) -> Result<Vec<String>, Failure> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(text.trim_start_matches('\u{feff}').lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Failure::read(&path, source)),
        }
    }
    Ok(Vec::new())
}

/// `NAME=value`; `NAME` alone takes the environment's value, or none.
pub fn build_args(words: &[String]) -> Result<BTreeMap<String, Option<String>>, Failure> {
    let each = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(Failure::text(format!("--build-arg {word}: the name is missing, as in NAME=value"))),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((word.clone(), std::env::var(word).ok())),
    };
    words.iter().map(each).collect()
}

fn labels(words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let each = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::text(format!("--label {word}: expected NAME=value"))),
    };
    words.iter().map(each).collect()
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; an address may stand in brackets.
fn hosts(words: &[String]) -> Result<BTreeMap<String, IpAddr>, Failure> {
    let each = |word: &String| {
        let wrong = || Failure::text(format!("--add-host {word}: expected NAME:ADDRESS with an IPv4 or IPv6 address")).with_code(2);
        let (name, address) = word.split_once('=').or_else(|| word.split_once(':')).ok_or_else(wrong)?;
        let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        let address = address.trim_start_matches('[').trim_end_matches(']').parse().ok().filter(|_| good).ok_or_else(wrong)?;
        Ok((name.to_owned(), address))
    };
    words.iter().map(each).collect()
}

fn shm_bytes(args: &Build) -> Result<u64, Failure> {
    let Some(text) = &args.shm_size else { return Ok(0) };
    let wrong = || Failure::text(format!("--shm-size {text}: expected bytes with an optional suffix such as k, m or g")).with_code(2);
    strake_stages::memory_bytes(text).ok_or_else(wrong)
}

/// SOURCE_DATE_EPOCH: the build argument, else the environment's.
fn epoch_of(request: &Request) -> Result<Option<i64>, Failure> {
    match request.build_args.get("SOURCE_DATE_EPOCH").and_then(Option::as_ref).filter(|text| !text.is_empty()) {
        None => Ok(epoch()),
        Some(text) => match text.parse() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(Failure::text(format!("SOURCE_DATE_EPOCH={text}: only seconds since 1970 are supported")).with_code(2)),
        },
    }
}

/// Prints diagnostics on stderr.
pub fn report(sources: &Sources, findings: &[Diagnostic]) {
    let style = if Paint::stderr().is_on() { Style::Coloured } else { Style::Plain };
    let text = render(sources, findings, style);
    if !text.is_empty() {
        note(text.trim_end());
    }
}

/// Runs a plan's build half.
pub fn build(root: &Path, store: &Store, plan: &BuildPlan, sources: &Sources, kind: Progress, jobs: Option<usize>) -> Result<Vec<BuiltImage>, Failure> {
    build_with(root, store, plan, sources, kind, BuildOptions { workers: jobs.unwrap_or(0), source_date_epoch: epoch(), ..BuildOptions::default() })
}

/// The same, given up when the flag is raised.
pub fn build_until(root: &Path, store: &Store, plan: &BuildPlan, sources: &Sources, kind: Progress, cancel: CancelFlag) -> Result<Vec<BuiltImage>, Failure> {
    let options = BuildOptions { source_date_epoch: epoch(), ..BuildOptions::default() };
    build_cancelled_by(root, store, plan, sources, kind, options, cancel)
}

fn build_with(root: &Path, store: &Store, plan: &BuildPlan, sources: &Sources, kind: Progress, options: BuildOptions) -> Result<Vec<BuiltImage>, Failure> {
    build_cancelled_by(root, store, plan, sources, kind, options, CancelFlag::new())
}

fn build_cancelled_by(
    root: &Path,
    store: &Store,
    plan: &BuildPlan,
    sources: &Sources,
    kind: Progress,
    options: BuildOptions,
    cancel: CancelFlag,
) -> Result<Vec<BuiltImage>, Failure> {
    build_shown(root, store, plan, sources, progress::view(kind).as_ref(), options, cancel)
}

/// With caches of elsewhere, in and out; and how long each step took that was executed.
pub fn build_timed(
    root: &Path,
    store: &Store,
    plan: &BuildPlan,
    sources: &Sources,
    kind: Progress,
    (from, to): (&[String], &[String]),
) -> Result<(Vec<BuiltImage>, BTreeMap<StepIndex, Duration>), Failure> {
    let mut caches = cache::Caches::of(from, to)?;
    let mut options = BuildOptions { source_date_epoch: epoch(), ..BuildOptions::default() };
    caches.prepare(store, &mut options)?;
    let view = progress::Timed::new(progress::view(kind));
    let images = build_shown(root, store, plan, sources, &view, options, CancelFlag::new())?;
    caches.export(store)?;
    Ok((images, view.times()))
}

fn build_shown(
    root: &Path,
    store: &Store,
    plan: &BuildPlan,
    sources: &Sources,
    view: &dyn strake_build::Progress,
    options: BuildOptions,
    cancel: CancelFlag,
) -> Result<Vec<BuiltImage>, Failure> {
    platforms::check(plan, sources)?;
    let _told = interrupt::raises(&cancel);
    let executor = Arc::new(LinuxExecutor::new(root, PathBuf::from("/proc/self/exe"))?);
    // What a build that was killed had only begun to make has no state that a list would show.
    if let Err(error) = executor.repair_own(&strake_build::is_left_behind) {
        tracing::warn!(%error, "what a killed build left could not be removed");
    }
    let builder = Builder::new(Arc::new(store.clone()), executor, options);
    builder.run(plan, view, &cancel).map_err(|error| failed(error, sources))
}

/// The environment's SOURCE_DATE_EPOCH.
fn epoch() -> Option<i64> {
    std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok())
}

/// A failed step: where it was written, what it printed last, how it ended.
fn failed(error: BuildError, sources: &Sources) -> Failure {
    match error {
        BuildError::Cancelled => Failure::interrupted("the build was given up; steps that were finished are remembered"),
        BuildError::StepFailed { reason, .. } if matches!(*reason, StepError::ShellLeft) => Failure::silent(0),
        BuildError::StepFailed { origin, output_tail, reason, .. } => {
            let why = match &*reason {
                StepError::Exit { code, .. } => format!("the command ended with exit code {code}"),
                other => chain(other),
            };
            let mut text = format!("{}:{}: {why}", origin.file, origin.line);
            let written = sources.iter().find(|(_, file)| file.name == origin.file);
            let line = written.and_then(|(_, file)| file.text.lines().nth(origin.line.saturating_sub(1) as usize).map(str::to_owned));
            text = format!("{text}\n  {:>4} | {}", origin.line, line.unwrap_or(origin.text));
            let output = String::from_utf8_lossy(&output_tail);
            let lines: Vec<&str> = output.lines().collect();
            if !lines.is_empty() {
                text = format!("{text}\n  its last output:");
                lines[lines.len().saturating_sub(OUTPUT_LINES)..].iter().for_each(|line| text = format!("{text}\n    {line}"));
            }
            Failure::text(text)
        }
        other => Failure::from(other),
    }
}

#[cfg(test)]
mod tests {
    use super::build_args;

    #[test]
    fn build_args_are_read_or_refused() {
        let args = build_args(&["A=b=c".to_owned()]).expect("read");
        assert_eq!(args["A"].as_deref(), Some("b=c"));
        assert!(build_args(&["=x".to_owned()]).is_err());
    }
}
