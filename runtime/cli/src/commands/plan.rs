//! strake plan, strake check: what a directory means, without doing any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use strake_compile::lint::{Level, rules};
use strake_compile::{Dockerfile, Inputs, Manifest, Options, Outcome, Project, render};
use strake_oci::Platform;
use strake_plan::Plan as CompiledPlan;
use strake_source::{CONCEALED, Severity, Sources};
use strake_stages::BaseImage;
use strake_store::Store;

use strake_apply::conceal::{Key, conceal};
use strake_apply::review::{Finding, Review};

use crate::args::{Format, Input, Plan, PlanFormat, Progress, Target};
use crate::commands::apply::{build_into, gets_there, reach};
use crate::commands::build::remote::Fetcher;
use crate::commands::build::{bases, build, build_args, ignore_lines, report};
use crate::commands::delivery::Delivery;
use crate::commands::images::familiar;
use crate::commands::lock::Sourcing;
use crate::commands::review::{self, Heading};
use crate::commands::serve::need_root;
use crate::connect::connect;
use crate::definitions;
use crate::failure::Failure;
use crate::inputs::{self, Located};
use crate::interrupt;
use crate::output::{Paint, data, note, say};
use crate::project;
use crate::sealed;

/// A plan with the files that it was written in.
pub struct Compiled {
    /// The plan.
    pub plan: CompiledPlan,
    /// The files.
    pub sources: Sources,
    /// The cluster that it is for.
    pub target: Target,
    /// What the compiler warns of.
    pub warnings: Vec<Finding>,
}

/// Folders that say where manifests are kept, and not whose they are.
const SHELVES: [&str; 10] = ["overlays", "environments", "envs", "k8s", "kubernetes", "kustomize", "manifests", "deploy", "deployment", "base"];

/// The set's name: as given, or the directory's. An overlay is called by its project too: many projects have a `prod`.
pub fn set_name(input: &Input, project: Option<&str>) -> String {
    if let Some(set) = input.set.as_deref().or(project) {
        // Environments of one project are sets of their own.
        return match (&input.set, &input.env) {
            (None, Some(env)) => format!("{set}-{env}"),
            _ => set.to_owned(),
        };
    }
    let path = std::fs::canonicalize(&input.dir).unwrap_or_else(|_| input.dir.clone());
    let fetched = inputs::is_repository(&input.dir).then(|| inputs::names_of(&input.dir));
    let names: Vec<String> = path.iter().skip(1).map(|name| name.to_string_lossy().to_lowercase()).collect();
    let name = if let Some(names) = fetched {
        let own: Vec<&str> = names.iter().map(String::as_str).filter(|name| !SHELVES.contains(name)).collect();
        own[own.len().saturating_sub(2)..].join("-").to_lowercase()
    } else if strake_kustomize::FILE_NAMES.iter().any(|name| path.join(name).is_file()) {
        let mut own: Vec<&str> = names.iter().map(String::as_str).filter(|name| !SHELVES.contains(name)).rev().take(2).collect();
        own.reverse();
        own.join("-")
    } else {
        names.last().cloned().unwrap_or_default()
    };
    let valid: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    let trimmed = valid.trim_matches('-');
    if trimmed.is_empty() { "strake".to_owned() } else { trimmed.to_owned() }
}

/// `CODE=LEVEL` as given on the command line.
fn levels(words: &[String]) -> Result<BTreeMap<String, Level>, Failure> {
    let usage = |text: String| Failure::text(text).with_code(2);
    let known = || rules().into_iter().map(|rule| rule.code);
    let read = |word: &String| {
        let (code, level) = word.split_once('=').ok_or_else(|| usage(format!("--lint {word}: expected CODE=LEVEL, such as latest-tag=off")))?;
        if code != "all" && !known().any(|other| other == code) {
            let hint = strake_source::nearest(code, known()).map_or_else(String::new, |near| format!(": did you mean {near}?"));
            return Err(usage(format!("--lint {word}: there is no rule `{code}`{hint}")));
        }
        let level = Level::parse(level).ok_or_else(|| usage(format!("--lint {word}: a level is off, note, warning or error")))?;
        let codes = known().filter(|other| code == "all" || *other == code);
        Ok(codes.map(|code| (code.to_owned(), level)).collect::<Vec<_>>())
    };
    Ok(words.iter().map(read).collect::<Result<Vec<_>, Failure>>()?.into_iter().flatten().collect())
}

/// Reads everything that a compilation needs. The target is the one that is given, or that of the environment.
fn inputs(located: &Located, input: &Input, target: &Target) -> Result<(Inputs, Target), Failure> {
    let found = located.read(input.env.as_deref())?;
    let mut target = target.clone();
    // Where somebody else's repository is followed, that has been refused before: it chooses no login of this machine.
    if !target.is_foreign() {
        target.context.clone_from(&found.settings.context);
    }
    target.registry.clone_from(&found.settings.registry);
    let manifest = |text: project::Text| Manifest { path: text.path.display().to_string(), text: text.text };
    let file = |text: project::Text, directory: &Path, image| -> Result<Dockerfile, Failure> {
        let context = std::fs::canonicalize(directory).map_err(|source| Failure::read(directory, source))?;
        let ignore = ignore_lines(&text.path, &context)?;
        let (path, context) = (text.path.display().to_string(), context.display().to_string());
        Ok(Dockerfile { path, text: text.text, context, ignore, optional: text.outside, image })
    };
    let own = |text: project::Text| {
        let directory = text.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        file(text, &directory, None)
    };
    let options = Options {
        set: set_name(input, found.name.as_deref()),
        namespace: input.namespace.clone().or(found.settings.namespace).unwrap_or_else(|| "default".to_owned()),
        platform: Platform::host(),
        build_platform: Platform::host(),
        build_args: build_args(&input.build_args)?,
        foreign: target.is_foreign(),
        environment: input.env.clone(),
        lints: levels(&input.lints)?,
        no_cache: false,
    };
    let named = found.named.into_iter().map(|named| file(named.file, &named.context, Some(named.image)));
    let dockerfiles = found.dockerfiles.into_iter().map(own).chain(named).collect::<Result<_, _>>()?;
    let values: Vec<Manifest> = input.values.iter().map(|path| Ok(manifest(project::text(path)?))).collect::<Result<_, Failure>>()?;
    let manifests: Vec<Manifest> = found.manifests.into_iter().map(manifest).collect();
    let mut encrypted = BTreeMap::new();
    for file in manifests.iter().chain(&values) {
        encrypted.extend(sealed::open(Path::new(&file.path), &file.text)?.map(|opened| (file.path.clone(), opened)));
    }
    Ok((Inputs { config: found.config.map(manifest), values, overlay: found.overlay, manifests, dockerfiles, sealed: encrypted, options }, target))
}

/// Compiles a directory; what is wrong is in the outcome.
pub fn outcome(root: &Path, input: &Input, target: &Target) -> Result<(Outcome, Target), Failure> {
    let located = inputs::locate(root, input)?;
    let (inputs, target) = self::inputs(&located, input, target)?;
    let mut project = Project::read(&inputs);
    let unknown = if target.is_foreign() && !target.unasked { project.undefined() } else { Vec::new() };
    if !unknown.is_empty() {
        let definitions = definitions::ask(root, &target, &unknown)?;
        if !definitions.is_empty() {
            project = Project::read_knowing(&inputs, definitions);
        }
    }
    let how = Sourcing::new(false, input.offline, input.locked, located.first())?;
    let bases = ingredients(root, &mut project, &how)?;
    let mut outcome = project.compile(&bases);
    if let (Some(lock), Some(plan)) = (&how.lock, &mut outcome.plan) {
        lock.pin(plan)?;
    }
    located.name_files(&mut outcome);
    Ok((outcome, target))
}

/// What the Dockerfiles are made of: their base images; what ADD names of elsewhere is fetched.
fn ingredients(root: &Path, project: &mut Project, how: &Sourcing) -> Result<BTreeMap<String, BaseImage>, Failure> {
    let mut found: BTreeMap<String, BaseImage> = BTreeMap::new();
    let mut asked = BTreeSet::new();
    loop {
        let needed: Vec<_> = project.needs(&found).into_iter().filter(|base| asked.insert(base.key.clone())).collect();
        if needed.is_empty() {
            break;
        }
        found.extend(bases(&Store::open(root)?, &needed, how)?);
    }
    let sources = project.remotes(&found);
    if !sources.is_empty() {
        let store = Store::open(root)?;
        let secrets = BTreeMap::new();
        project.fetched(&Fetcher::new(&store, how.offline, &secrets, None).all(&sources)?);
    }
    Ok(found)
}

/// Compiles a directory and says what is wrong with it.
///
/// # Errors
/// Any error among the diagnostics, after all of them have been printed.
pub fn compile(root: &Path, input: &Input, target: &Target) -> Result<Compiled, Failure> {
    if inputs::is_stdin(input) && input.set.is_none() {
        let text = "manifests from stdin belong to no directory whose name their set could have: give it one with --set NAME";
        return Err(Failure::text(text).with_code(2));
    }
    let (Outcome { plan, mut diagnostics, sources }, target) = outcome(root, input, target)?;
    // Notes are for those who ask: `strake check`.
    diagnostics.retain(|finding| finding.severity != Severity::Note);
    report(&sources, &diagnostics);
    let warnings = diagnostics.iter().map(|finding| review::finding(&sources, finding)).collect();
    plan.map(|plan| Compiled { plan, sources, target, warnings }).ok_or_else(|| Failure::silent(1))
}

/// Prints the plan: what the directory means, or what it changes.
pub fn plan(root: &Path, args: &Plan) -> Result<(), Failure> {
    let target = Target { unasked: args.empty || args.against.is_some(), ..args.target.clone() };
    let mut compiled = compile(root, &args.input, &target)?;
    let delivery = Delivery::elsewhere(&args.outgoing, &compiled.target)?;
    let offline = args.empty || args.against.is_some();
    if args.build && offline {
        let images = digests(root, &compiled, &delivery)?;
        compiled.plan.deploy.fill_images(&images);
    }
    let reviewed = reviewed(root, args, &mut compiled, &|other| digests(root, other, &delivery))?;
    if let (Some(path), Some(review)) = (&args.out, &reviewed) {
        review::save(path, review)?;
    }
    match (args.output, &reviewed) {
        (PlanFormat::Text, None) => say(render(&compiled.plan).trim_end()),
        (PlanFormat::Text, Some(review)) => say(review::text(review, Paint::stdout())),
        (PlanFormat::Markdown, Some(review)) => say(review::markdown(review).trim_end()),
        (PlanFormat::Markdown, None) => {
            return Err(Failure::text("-o markdown shows changes: name what to compare with (--against, --empty or --context)").with_code(2));
        }
        (format, review) => {
            let key = review.as_ref().and_then(|review| review.key.clone()).unwrap_or_else(|| review::key(root));
            hash_secrets(&mut compiled.plan, &key);
            say(shown(&compiled.plan, &Beside { hashed_with: key.id(), review: review.as_ref() }, format)?);
        }
    }
    match reviewed {
        Some(review) if !review.errors.is_empty() => {
            review.errors.iter().for_each(|error| note(format!("{} {}", Paint::stderr().red("error:"), error.message)));
            Err(Failure::silent(1))
        }
        Some(review) if !review.unchanged() => Err(Failure::silent(2)),
        _ => Ok(()),
    }
}

/// Builds, for the digests: what containers of the target run of each image.
fn digests(root: &Path, compiled: &Compiled, delivery: &Delivery) -> Result<Vec<String>, Failure> {
    let plan = &compiled.plan.build;
    if plan.images.is_empty() {
        return Ok(Vec::new());
    }
    need_root("building images")?;
    let store = Store::open(root)?;
    let _lease = store.lease()?;
    let images = build(root, &store, plan, &compiled.sources, Progress::Quiet, None)?;
    delivery.running(&store, &images, &compiled.target)
}

/// What the images of another revision are, one each, built by `digests`. Those that cannot be built are unknown by name: nothing is claimed of them.
fn known(before: &mut Compiled, revision: &str, digests: Digests<'_>) -> Result<Vec<Finding>, Failure> {
    if before.plan.deploy.images.is_empty() {
        return Ok(Vec::new());
    }
    note(format!("{} the images of {revision}, to compare their digests", Paint::stderr().dim("building")));
    let failure = match digests(before) {
        Ok(images) => {
            before.plan.deploy.fill_images(&images);
            return Ok(Vec::new());
        }
        Err(failure) if failure.code() == interrupt::INTERRUPTED => return Err(failure),
        Err(failure) => failure.to_string(),
    };
    let why = failure.lines().next().unwrap_or("the build failed").to_owned();
    let images = &before.plan.build.images;
    let name = |image: &strake_plan::Image| image.tags.first().map(|tag| familiar(tag)).unwrap_or_default();
    let words: Vec<String> = images.iter().map(|image| format!("{} (unknown: {revision} cannot be built)", name(image))).collect();
    let used: BTreeSet<usize> = before.plan.deploy.images.iter().map(|edge| edge.image).collect();
    let told = used.into_iter().filter_map(|index| images.get(index)).map(|image| {
        let message = format!("what {} was at {revision} is unknown, so whether it changes too: its build failed: {why}", name(image));
        Finding { code: "unknown-image".to_owned(), id: None, origin: format!("{}:{}", image.origin.file, image.origin.line), message }
    });
    let told: Vec<Finding> = told.collect();
    before.plan.deploy.fill_images(&words);
    told.iter().for_each(|finding| note(format!("{} {}", Paint::stderr().yellow("warning:"), finding.message)));
    Ok(told)
}

/// Builds the images of a revision: what containers run of each.
pub type Digests<'a> = &'a dyn Fn(&Compiled) -> Result<Vec<String>, Failure>;

/// The comparison that was asked for; with the cluster when there is one. With `--build` the images of a revision are built by `digests`; those of `compiled` are by then.
pub fn reviewed(root: &Path, args: &Plan, compiled: &mut Compiled, digests: Digests<'_>) -> Result<Option<Review>, Failure> {
    if args.out.is_some() && (inputs::is_stdin(&args.input) || args.input.more.iter().any(|word| word == Path::new("-"))) {
        return Err(Failure::text("--out keeps a plan for later, and stdin cannot be read again then: put the manifests into a file").with_code(2));
    }
    if let Some(revision) = &args.against {
        if !args.input.more.is_empty() || inputs::is_stdin(&args.input) {
            return Err(Failure::text("--against compares one directory or repository with itself as it was: name one").with_code(2));
        }
        if inputs::is_repository(&args.input.dir) {
            let input = Input { dir: inputs::at_reference(&args.input.dir, revision)?, set: Some(compiled.plan.deploy.set.clone()), ..args.input.clone() };
            let before = compile(root, &input, &compiled.target)?;
            return against(root, args, Some(before), compiled, revision, digests).map(Some);
        }
        let (_folder, dir) = review::at_revision(&args.input.dir, revision)?;
        let before = before(root, args, &compiled.target, &dir)?;
        return against(root, args, before, compiled, revision, digests).map(Some);
    }
    if args.empty {
        let header = |plan: &CompiledPlan| review::header(&args.input, plan, "nothing");
        return Ok(Some(offline(root, &Default::default(), compiled, &header, args.build)));
    }
    let target = compiled.target.clone();
    if !target.is_foreign() && strake_cluster::holder(root).is_none() {
        return match args.out {
            Some(_) => Err(Failure::text("--out keeps what is to be changed: no cluster runs to compare with, and none is named with --context").with_code(2)),
            None => Ok(None),
        };
    }
    reach(root, &target)?;
    // What runs is what is built: without its digest nothing can be said of an image.
    let delivery = Delivery::elsewhere(&args.outgoing, &target)?;
    gets_there(root, &delivery, compiled)?;
    build_into(root, compiled, Progress::Quiet, &delivery)?;
    let plan = compiled.plan.clone();
    let warnings = std::mem::take(&mut compiled.warnings);
    interrupt::wait(async {
        let client = connect(root, &target).await?;
        let mut header = review::header(&args.input, &plan, client.server()).agreed(&review::agreed(&args.allowed));
        header.push_to.clone_from(&args.outgoing.push_to);
        let mut review = review::against_cluster(root, &client, &plan, header).await?;
        review.warnings.splice(0..0, warnings);
        Ok(Some(review))
    })
}

/// A comparison with a revision, which may have had nothing.
fn against(root: &Path, args: &Plan, before: Option<Compiled>, compiled: &mut Compiled, revision: &str, digests: Digests<'_>) -> Result<Review, Failure> {
    let header = |plan: &CompiledPlan| review::header(&args.input, plan, &format!("revision {revision}"));
    let Some(mut before) = before else { return Ok(offline(root, &Default::default(), compiled, &header, args.build)) };
    let unknown = if args.build { known(&mut before, revision, digests)? } else { Vec::new() };
    let mut review = offline(root, &before.plan.deploy, compiled, &header, args.build && unknown.is_empty());
    review.warnings.extend(unknown);
    Ok(review)
}

/// A comparison without a cluster. `built` is whether the digests of images are known on both sides.
fn offline(root: &Path, before: &strake_plan::DeployPlan, compiled: &mut Compiled, header: Heading<'_>, built: bool) -> Review {
    let mut review = review::against_plan(root, before, &compiled.plan, !compiled.target.is_foreign(), header);
    // Without a build the digests of its images are not known.
    review.complete &= built || compiled.plan.deploy.images.is_empty();
    review.warnings.splice(0..0, std::mem::take(&mut compiled.warnings));
    review
}

/// What the directory meant at another revision; nothing when it was not there.
fn before(root: &Path, args: &Plan, target: &Target, dir: &Path) -> Result<Option<Compiled>, Failure> {
    let input = Input { dir: dir.to_owned(), set: Some(set_name(&args.input, None)), ..args.input.clone() };
    if std::fs::read_dir(dir)?.next().is_none() {
        return Ok(None);
    }
    compile(root, &input, target).map(Some)
}

/// What is printed beside a plan.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Beside<'a> {
    hashed_with: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<&'a Review>,
}

/// A plan and what is beside it, as one object. Each is written on a core of its own.
fn shown(plan: &CompiledPlan, beside: &Beside<'_>, format: PlanFormat) -> Result<String, Failure> {
    if format == PlanFormat::Yaml {
        let mut whole = serde_json::to_value(plan)?;
        if let (Some(whole), Value::Object(beside)) = (whole.as_object_mut(), serde_json::to_value(beside)?) {
            whole.extend(beside);
        }
        return Ok(data(&whole, Format::Yaml));
    }
    let (plan, beside) = rayon::join(|| serde_json::to_string_pretty(plan), || serde_json::to_string_pretty(beside));
    let (plan, beside) = (plan?, beside?);
    Ok(format!("{},{}", plan.strip_suffix("\n}").unwrap_or(&plan), beside.strip_prefix('{').unwrap_or(&beside)))
}

/// A keyed hash for each secret value: as in the review beside it, so that equal values look equal.
fn hash_secrets(plan: &mut CompiledPlan, key: &Key) {
    for change in plan.deploy.all_mut() {
        if change.object["kind"] == "Secret" {
            // A server has it as data: so has the review.
            for value in change.object.get_mut("stringData").and_then(Value::as_object_mut).into_iter().flat_map(|values| values.values_mut()) {
                *value = Value::from(STANDARD.encode(value.as_str().unwrap_or_default()));
            }
        }
        change.object = conceal(std::mem::take(&mut change.object), key, &change.sensitive);
    }
}

/// The objects of a plan, with those of hooks for other occasions.
pub fn changes(plan: &mut Value) -> impl Iterator<Item = &mut Value> {
    let (mut own, mut hooks) = (None, None);
    for (name, value) in plan["deploy"].as_object_mut().into_iter().flatten() {
        match name.as_str() {
            "changes" => own = value.as_array_mut(),
            "occasions" => hooks = value.as_array_mut(),
            _ => {}
        }
    }
    own.into_iter().flatten().chain(hooks.into_iter().flatten().filter_map(|hook| hook.get_mut("change")))
}

/// Plans are kept, mailed and logged: the values of Secrets are not among what they show.
pub fn hide_secrets(plan: &mut Value) {
    changes(plan).for_each(hide_secrets_of);
}

/// The same of one change.
pub fn hide_secrets_of(change: &mut Value) {
    // What comes from an encrypted file is a secret wherever it stands.
    let pointers: Vec<String> = change["sensitive"].as_array().into_iter().flatten().filter_map(|pointer| pointer.as_str().map(str::to_owned)).collect();
    for pointer in pointers {
        change["object"].pointer_mut(&pointer).into_iter().for_each(|value| *value = Value::from(CONCEALED));
    }
    let object = &mut change["object"];
    if object["kind"] != "Secret" {
        return;
    }
    let fields = ["data", "stringData"].iter().filter_map(|field| object.get(*field)?.as_object().map(|values| (*field, values.clone())));
    for (field, values) in fields.collect::<Vec<_>>() {
        object[field] = values.keys().map(|key| (key.clone(), Value::from(CONCEALED))).collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use strake_apply::conceal::{Key, is_hash};
    use strake_plan::{Change, Plan as CompiledPlan};

    use super::{Beside, hash_secrets, hide_secrets, set_name, shown};
    use crate::args::{Input, PlanFormat};

    #[test]
    fn only_the_values_of_secrets_are_hidden() {
        let object = |kind: &str, value: &str| serde_json::json!({"object": {"kind": kind, "data": {"a": value}}});
        let mut plan = serde_json::json!({"deploy": {"changes": [object("Secret", "x"), object("ConfigMap", "x")]}});
        hide_secrets(&mut plan);
        assert_eq!(plan["deploy"]["changes"], serde_json::json!([object("Secret", "(secret)"), object("ConfigMap", "x")]));
    }

    #[test]
    fn a_printed_plan_has_hashes_where_secrets_are() {
        let change = |object: Value| Change { object, ..Change::default() };
        let object = |kind: &str, value: &str| change(json!({"kind": kind, "data": {"a": value}}));
        let sealed = Change { sensitive: vec!["/data/a".to_owned()], ..object("ConfigMap", "x") };
        // "x" in base64 is "eA==".
        let written = change(json!({"kind": "Secret", "data": {"a": "eA=="}, "stringData": {"b": "x"}}));
        let mut plan = CompiledPlan::default();
        plan.deploy.changes = vec![object("Secret", "x"), object("ConfigMap", "x"), sealed, written];
        let key = Key::of([1; 32]);
        hash_secrets(&mut plan, &key);
        let beside = Beside { hashed_with: key.id(), review: None };
        let text = shown(&plan, &beside, PlanFormat::Json).expect("it is printed");
        let shown_plan: Value = serde_json::from_str(&text).expect("JSON");
        let value = |place: usize| &shown_plan["deploy"]["changes"][place]["object"]["data"]["a"];
        assert!(is_hash(value(0)) && value(0) == value(2), "equal values look equal: {text}");
        assert_eq!(value(1), "x");
        assert_eq!(value(3), &shown_plan["deploy"]["changes"][3]["object"]["stringData"]["b"], "as the server will have it");
        assert_eq!(shown_plan["hashedWith"], key.id());
        let yaml = shown(&plan, &beside, PlanFormat::Yaml).expect("it is printed");
        assert!(yaml.contains(&format!("hashedWith: {}", key.id())) || yaml.contains(&format!("hashedWith: \"{}\"", key.id())), "{yaml}");
    }

    #[test]
    fn halves_are_joined_as_if_they_had_been_one() {
        let plan = CompiledPlan::default();
        let review = strake_apply::review::review(&plan.deploy, &strake_apply::Report::default(), strake_apply::review::Header::default());
        let beside = Beside { hashed_with: "x".to_owned(), review: Some(&review) };
        let mut whole = serde_json::to_value(&plan).expect("a value");
        whole["hashedWith"] = "x".into();
        whole["review"] = serde_json::to_value(&review).expect("a value");
        assert_eq!(shown(&plan, &beside, PlanFormat::Json).expect("it is printed"), serde_json::to_string_pretty(&whole).expect("text"));
    }

    #[test]
    fn a_set_is_called_like_its_directory() {
        let input = |dir: &str| Input::of(std::path::Path::new(dir), &[]);
        assert_eq!(set_name(&input("/nowhere/My_Shop.d"), None), "my-shop-d");
        assert_eq!(set_name(&Input { set: Some("x".into()), ..input(".") }, Some("y")), "x");
        assert_eq!(set_name(&input("."), Some("shop")), "shop");
        assert_eq!(set_name(&Input { env: Some("prod".into()), ..input(".") }, Some("shop")), "shop-prod");
    }

    #[test]
    fn levels_of_rules_are_read() {
        let read = |words: &[&str]| super::levels(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let levels = read(&["all=off", "latest-tag=error"]).expect("known words");
        assert_eq!(levels.get("latest-tag"), Some(&super::Level::Error));
        assert_eq!(levels.get("privileged"), Some(&super::Level::Off));
        assert!(read(&["latest-tga=off"]).expect_err("unknown").to_string().contains("did you mean latest-tag?"));
        assert!(read(&["latest-tag=quiet"]).is_err() && read(&["latest-tag"]).is_err());
    }
}
