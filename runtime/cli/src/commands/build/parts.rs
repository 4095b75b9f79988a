//! Several images as one graph, in parallel, with one view: what `strake bake` builds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use strake_build::{BuildOptions, BuiltImage};
use strake_plan::{BuildPlan, Context, Image, StepIndex};
use strake_source::{Diagnostic, Sources};
use strake_stages::{Request, context_key};
use strake_store::Store;

use super::call::{self, Call};
use super::compile::compile_into;
use super::output::{self, Output, Written};
use super::private::Private;
use super::remote::Fetcher;
use super::{Dockerfile, cache, context, product, secret};
use crate::args::{Build, Progress};
use crate::commands::lock::with_triggers;
use crate::commands::serve::need_root;
use crate::failure::Failure;
use crate::output::say;

/// One image of several.
#[derive(Debug)]
pub struct Part {
    /// What people call it.
    pub name: String,
    /// How `strake build` would build it.
    pub args: Build,
    /// Contexts that are other parts: the context's name and the part's. They stand before this one.
    pub links: Vec<(String, String)>,
    /// It is wanted as a context only, and becomes no image.
    pub linked: bool,
    /// It gets its tags; without, it is built and nothing is called after it.
    pub named: bool,
}

/// A part that was read, with its images' places in the plan: one for each platform. None are there when something is wrong with it.
struct Read<'o> {
    dockerfile: Dockerfile,
    fetcher: Fetcher<'o>,
    images: Option<Vec<usize>>,
}

/// Builds all parts, or does with them what their `--call` says.
pub fn run(root: &Path, parts: &[Part], metadata_file: Option<&Path>) -> Result<(), Failure> {
    parts.iter().try_for_each(|part| named(part, part.args.foreign.refuse()))?;
    need_root("strake bake")?;
    let calls = parts.iter().map(|part| named(part, Call::parse(part.args.call.as_deref(), part.args.check))).collect::<Result<Vec<_>, _>>()?;
    let outputs = parts.iter().map(|part| named(part, output::outputs(&part.args))).collect::<Result<Vec<_>, _>>()?;
    let own = parts.iter().map(|part| named(part, own_options(&part.args))).collect::<Result<Vec<_>, _>>()?;
    let mut caches = cache::Caches::of_parts(parts.iter().map(|part| &part.args))?;
    let store = Store::open(root)?;
    let _lease = store.lease()?;
    let started = jiff::Timestamp::now();
    let private = Private::new(parts.iter().map(|part| part.name.as_str()).zip(&own));
    let (mut plan, mut options) = (BuildPlan::default(), private.all());
    let reads = read_all(&store, parts, (&own, &private), &calls, (&mut plan, &mut options))?;
    let wanted: Vec<bool> = parts.iter().zip(&calls).map(|(part, call)| !part.linked && *call == Call::Build).collect();
    if !wanted.contains(&true) {
        return Ok(());
    }
    for ((part, read), outputs) in parts.iter().zip(&reads).zip(&outputs) {
        let Dockerfile { wishes, platforms, request, .. } = &read.dockerfile;
        named(part, wishes.check(platforms, &Default::default()))?;
        named(part, outputs.iter().try_for_each(|output| output.accepts(wishes, platforms)))?;
        product::warn_of_values(wishes, request);
    }
    // Also of what is a context only, which is no image of the plan any more after this.
    caches.share(&plan, &reads.iter().map(|read| steps(&plan, read)).collect::<Vec<_>>());
    let shares = keep(&mut plan, &reads, &wanted);
    caches.prepare(&store, &mut options)?;
    let epoch = options.source_date_epoch;
    let kind = parts.first().map_or(Progress::Auto, |part| part.args.progress);
    let mut images = super::build_with(root, &store, &plan, &all_sources(&reads), kind, options)?.into_iter();
    let mut metadata = Map::new();
    for (place, share) in shares.into_iter().enumerate().filter(|(place, _)| wanted[*place]) {
        let own = images.by_ref().take(share.len()).collect();
        let whole = BuildPlan { images: share, ..plan.clone() };
        let delivered = deliver(&store, &reads[place], own, &whole, &outputs[place], (epoch, started));
        metadata.insert(parts[place].name.clone(), named(&parts[place], delivered)?);
    }
    caches.export(&store)?;
    if let Some(path) = metadata_file {
        let text = serde_json::to_string_pretty(&metadata)?;
        std::fs::write(path, text + "\n").map_err(|source| Failure::text(format!("cannot write {}: {source}", path.display())))?;
    }
    Ok(())
}

/// Reads the parts into one plan, and shows what those that are not built are asked for.
fn read_all<'o>(
    store: &Store,
    parts: &[Part],
    (own, private): (&'o [BuildOptions], &Private<'_>),
    calls: &[Call],
    (plan, options): (&mut BuildPlan, &mut BuildOptions),
) -> Result<Vec<Read<'o>>, Failure> {
    let (mut reads, mut contexts) = (Vec::<Read<'o>>::new(), BTreeMap::new());
    let (mut failed, mut shown, mut told) = (false, false, Vec::new());
    for (place, ((part, call), own)) in parts.iter().zip(calls).zip(own).enumerate() {
        let fetcher = Fetcher::new(store, part.args.offline, &own.secrets, own.ssh.get("default").map(|agent| agent.path.clone()));
        let mut dockerfile = named(part, super::read(store, &part.args, &fetcher))?;
        join(part, options, own, named(part, super::epoch_of(&dockerfile.request))?)?;
        name_contexts(&mut dockerfile, &mut contexts);
        dockerfile.request.named_builds = links(part, parts, &reads);
        if part.linked || !part.named {
            dockerfile.request.tags.clear();
        }
        let before = plan.steps.len();
        let (images, findings) = named(part, compile_into(store, &dockerfile.request, &dockerfile, &part.args, &fetcher, plan))?;
        private.mark(place, plan, before);
        for step in &mut plan.steps[before..] {
            step.stage = format!("{} {}", part.name, step.stage);
        }
        if *call == Call::Build || part.linked {
            tell(&dockerfile, &findings, &mut told);
            failed |= images.is_none();
        } else {
            if !call.is_data() {
                heading(part, &mut shown);
            }
            failed |= show(*call, &dockerfile, &findings).is_err();
        }
        reads.push(Read { dockerfile, fetcher, images });
    }
    if failed { Err(Failure::silent(1)) } else { Ok(reads) }
}

/// What parts take from elsewhere.
#[derive(Debug, Default)]
pub struct Needed {
    /// Base images, in full.
    pub references: Vec<String>,
    /// Dockerfiles of this machine that they are made from, without links in their paths.
    pub dockerfiles: Vec<PathBuf>,
}

/// What all parts take from elsewhere, those of every platform and those that triggers of bases in the store name.
pub fn needed(store: &Store, parts: &[Part]) -> Result<Needed, Failure> {
    let (mut needed, mut told) = (Needed::default(), Vec::new());
    for part in parts {
        // Steps need secrets; what is only read needs them for private repositories at most, and then says so.
        let (secrets, ssh) = (secret::secrets(&part.args.secrets).unwrap_or_default(), secret::agents(&part.args.ssh).unwrap_or_default());
        let fetcher = Fetcher::new(store, part.args.offline, &secrets, ssh.get("default").map(|agent| agent.path.clone()));
        let mut dockerfile = named(part, super::read(store, &part.args, &fetcher))?;
        if dockerfile.diagnostics.iter().any(Diagnostic::is_error) {
            tell(&dockerfile, &dockerfile.diagnostics, &mut told);
            return Err(Failure::silent(1));
        }
        if part.args.dockerfile_inline.is_none() && part.args.context.is_dir() {
            needed.dockerfiles.extend(std::fs::canonicalize(&dockerfile.request.file_name));
        }
        dockerfile.request.named_builds = part.links.iter().map(|(name, _)| (context_key(name), Vec::new())).collect();
        for platform in &dockerfile.platforms {
            let mut own = Vec::new();
            with_triggers(store, &Request { platform: platform.clone(), ..dockerfile.request.clone() }, &mut own)?;
            needed.references.extend(own.into_iter().filter(|reference| !dockerfile.layouts.contains_key(reference)));
        }
    }
    Ok(needed)
}

/// The files of a repository.
pub fn repository(root: &Path, url: &str, offline: bool) -> Result<PathBuf, Failure> {
    need_root("strake bake")?;
    let store = Store::open(root)?;
    let secrets = BTreeMap::new();
    context::repository(&Fetcher::new(&store, offline, &secrets, None), url, false)
}

/// Says which part a failure is about.
fn named<T>(part: &Part, result: Result<T, Failure>) -> Result<T, Failure> {
    result.map_err(|failure| match failure.to_string() {
        text if text.is_empty() => failure,
        text => Failure::text(format!("target `{}`: {text}", part.name)).with_code(failure.code()),
    })
}

/// Reports what was found, once: the targets of a matrix mostly share their Dockerfile.
fn tell(dockerfile: &Dockerfile, findings: &[Diagnostic], told: &mut Vec<String>) {
    let text = strake_source::render(&dockerfile.sources, findings, strake_source::Style::Plain);
    if !told.contains(&text) {
        super::report(&dockerfile.sources, findings);
        told.push(text);
    }
}

fn heading(part: &Part, shown: &mut bool) {
    if *shown {
        say("");
    }
    *shown = true;
    say(&part.name);
}

fn show(call: Call, dockerfile: &Dockerfile, findings: &[Diagnostic]) -> Result<(), Failure> {
    match call {
        Call::Build => Ok(()),
        Call::Outline(format) => call::outline(&dockerfile.request, format),
        Call::Targets(format) => call::targets(&dockerfile.request, format),
        Call::Check(format) => call::check(&dockerfile.sources, findings, format),
    }
}

/// What of the options a part decides.
fn own_options(args: &Build) -> Result<BuildOptions, Failure> {
    Ok(BuildOptions {
        workers: args.jobs.unwrap_or(0),
        secrets: secret::secrets(&args.secrets)?,
        ssh: secret::agents(&args.ssh)?,
        hosts: super::hosts(&args.add_host)?,
        shm_bytes: super::shm_bytes(args)?,
        ..BuildOptions::default()
    })
}

/// One build has one value for each host, and one time and size: parts that disagree cannot be built together.
fn join(part: &Part, all: &mut BuildOptions, own: &BuildOptions, epoch: Option<i64>) -> Result<(), Failure> {
    let differ =
        |what: &str| Failure::text(format!("target `{}`: {what} differs from that of another target of this build: bake them one after the other", part.name));
    for (name, address) in &own.hosts {
        if all.hosts.get(name).is_some_and(|known| known != address) {
            return Err(differ(&format!("the address of the host `{name}`")));
        }
        all.hosts.insert(name.clone(), *address);
    }
    if own.shm_bytes != 0 && all.shm_bytes != 0 && own.shm_bytes != all.shm_bytes {
        return Err(differ("shm-size"));
    }
    if epoch.is_some() && all.source_date_epoch.is_some() && epoch != all.source_date_epoch {
        return Err(differ("SOURCE_DATE_EPOCH"));
    }
    all.shm_bytes = all.shm_bytes.max(own.shm_bytes);
    all.source_date_epoch = epoch.or(all.source_date_epoch);
    all.workers = all.workers.max(own.workers);
    Ok(())
}

/// Gives the contexts names that say the same in the whole plan: parts with the same main context share its name, and with it their steps.
fn name_contexts(dockerfile: &mut Dockerfile, known: &mut BTreeMap<String, Context>) {
    let request = &mut dockerfile.request;
    for number in 1_usize.. {
        let name = if number == 1 { super::CONTEXT.to_owned() } else { format!("{}{number}", super::CONTEXT) };
        let named = request.named_contexts.iter().map(|(key, context)| (format!("{name}#{key}"), context));
        let all: Vec<(String, Context)> =
            std::iter::once((name.clone(), &request.context)).chain(named).map(|(name, context)| (name, context.clone())).collect();
        if all.iter().all(|(name, context)| known.get(name).is_none_or(|other| other == context)) {
            known.extend(all);
            request.context_name = name;
            return;
        }
    }
}

/// The places of the images that a part's contexts are.
fn links(part: &Part, parts: &[Part], reads: &[Read<'_>]) -> BTreeMap<String, Vec<usize>> {
    let places = |other: &str| parts.iter().position(|part| part.name == other).and_then(|at| reads.get(at)?.images.clone());
    part.links.iter().map(|(name, other)| (context_key(name), places(other).unwrap_or_default())).collect()
}

/// The steps whose file systems are a part's images.
fn steps(plan: &BuildPlan, read: &Read<'_>) -> Vec<StepIndex> {
    read.images.iter().flatten().filter_map(|place| plan.images.get(*place)).map(|image| image.step).collect()
}

/// Leaves the plan's images that are wanted, and gives each part's.
fn keep(plan: &mut BuildPlan, reads: &[Read<'_>], wanted: &[bool]) -> Vec<Vec<Image>> {
    let images = |(read, wanted): (&Read<'_>, &bool)| -> Vec<Image> {
        let places = read.images.iter().flatten().filter(|_| *wanted);
        places.filter_map(|place| plan.images.get(*place)).cloned().collect()
    };
    let shares: Vec<Vec<Image>> = reads.iter().zip(wanted).map(images).collect();
    plan.images = shares.concat();
    shares
}

/// All Dockerfiles, to show a failed step's line.
fn all_sources(reads: &[Read<'_>]) -> Sources {
    let mut all = Sources::default();
    for (_, file) in reads.iter().flat_map(|read| read.dockerfile.sources.iter()) {
        all.add(file.name.clone(), file.text.clone());
    }
    all
}

/// Names a part's images, writes them where they are wanted, and says what became of them.
fn deliver(
    store: &Store,
    read: &Read<'_>,
    images: Vec<BuiltImage>,
    plan: &BuildPlan,
    outputs: &[Output],
    (epoch, started): (Option<i64>, jiff::Timestamp),
) -> Result<Value, Failure> {
    let product = read.dockerfile.product(store, images, plan, &read.fetcher, (epoch, started))?;
    let mut written = Written::default();
    for output in outputs {
        output.write(store, &product, epoch.unwrap_or(0), &mut written)?;
    }
    if read.dockerfile.wishes.composes(&read.dockerfile.platforms) {
        product.tell();
    }
    Ok(written.metadata(&product))
}
