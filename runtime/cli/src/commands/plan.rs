//! strake plan, strake check: what a directory means, without doing any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
use crate::commands::apply::{build_into, reach};
use crate::commands::build::remote::Fetcher;
use crate::commands::build::{bases, build_args, ignore_lines, report};
use crate::commands::lock::Sourcing;
use crate::commands::review;
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
    // Somebody else's repository chooses no login of this machine.
    if !target.is_foreign() && input.within.is_none() {
        target.context.clone_from(&found.settings.context);
    }
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
    let reviewed = reviewed(root, args, &mut compiled)?;
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
            let mut plan = serde_json::to_value(&compiled.plan)?;
            let key = review.as_ref().and_then(|review| review.key.clone()).unwrap_or_else(|| review::key(root));
            hash_secrets(&mut plan, &key);
            if let Some(review) = review {
                plan["review"] = serde_json::to_value(review)?;
            }
            say(data(&plan, if format == PlanFormat::Yaml { Format::Yaml } else { Format::Json }));
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

/// The comparison that was asked for; with the cluster when there is one.
pub fn reviewed(root: &Path, args: &Plan, compiled: &mut Compiled) -> Result<Option<Review>, Failure> {
    if args.out.is_some() && (inputs::is_stdin(&args.input) || args.input.more.iter().any(|word| word == Path::new("-"))) {
        return Err(Failure::text("--out keeps a plan for later, and stdin cannot be read again then: put the manifests into a file").with_code(2));
    }
    if let Some(revision) = &args.against {
        if !args.input.more.is_empty() || inputs::is_stdin(&args.input) {
            return Err(Failure::text("--against compares one directory or repository with itself as it was: name one").with_code(2));
        }
        if inputs::is_repository(&args.input.dir) {
            let input = Input { dir: inputs::at_reference(&args.input.dir, revision)?, set: Some(compiled.plan.deploy.set.clone()), ..args.input.clone() };
            let before = compile(root, &input, &compiled.target)?.plan.deploy;
            let header = review::header(&args.input, &compiled.plan, &format!("revision {revision}"));
            return Ok(Some(offline(root, &before, compiled, header)));
        }
        let (_folder, dir) = review::at_revision(&args.input.dir, revision)?;
        let before = before(root, args, &compiled.target, &dir)?;
        let header = review::header(&args.input, &compiled.plan, &format!("revision {revision}"));
        return Ok(Some(offline(root, &before, compiled, header)));
    }
    if args.empty {
        let header = review::header(&args.input, &compiled.plan, "nothing");
        return Ok(Some(offline(root, &Default::default(), compiled, header)));
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
    build_into(root, compiled, Progress::Quiet)?;
    let plan = compiled.plan.clone();
    let warnings = std::mem::take(&mut compiled.warnings);
    interrupt::wait(async {
        let client = connect(root, &target).await?;
        let header = review::header(&args.input, &plan, client.server()).agreed(&review::agreed(&args.allowed));
        let mut review = review::against_cluster(root, &client, &plan, header).await?;
        review.warnings.splice(0..0, warnings);
        Ok(Some(review))
    })
}

/// A comparison without a cluster.
fn offline(root: &Path, before: &strake_plan::DeployPlan, compiled: &mut Compiled, header: strake_apply::review::Header) -> Review {
    let mut review = review::against_plan(root, before, &compiled.plan, !compiled.target.is_foreign(), header);
    review.warnings.splice(0..0, std::mem::take(&mut compiled.warnings));
    review
}

/// What the directory meant at another revision; nothing when it was not there.
fn before(root: &Path, args: &Plan, target: &Target, dir: &Path) -> Result<strake_plan::DeployPlan, Failure> {
    let input = Input { dir: dir.to_owned(), set: Some(set_name(&args.input, None)), ..args.input.clone() };
    if std::fs::read_dir(dir)?.next().is_none() {
        return Ok(Default::default());
    }
    Ok(compile(root, &input, target)?.plan.deploy)
}

/// The same with a keyed hash for each value: as in the review beside it, so that equal values look equal.
fn hash_secrets(plan: &mut Value, key: &Key) {
    for change in plan["deploy"]["changes"].as_array_mut().into_iter().flatten() {
        let sensitive: Vec<String> = change["sensitive"].as_array().into_iter().flatten().filter_map(|pointer| pointer.as_str().map(str::to_owned)).collect();
        if change["object"]["kind"] == "Secret" {
            // A server has it as data: so has the review.
            for value in change["object"].get_mut("stringData").and_then(Value::as_object_mut).into_iter().flat_map(|values| values.values_mut()) {
                *value = Value::from(STANDARD.encode(value.as_str().unwrap_or_default()));
            }
        }
        change["object"] = conceal(&change["object"], key, &sensitive);
    }
    plan["hashedWith"] = Value::from(key.id());
}

/// Plans are kept, mailed and logged: the values of Secrets are not among what they show.
pub fn hide_secrets(plan: &mut Value) {
    let changes = plan["deploy"]["changes"].as_array_mut().into_iter().flatten();
    for change in changes {
        // What comes from an encrypted file is a secret wherever it stands.
        let pointers: Vec<String> = change["sensitive"].as_array().into_iter().flatten().filter_map(|pointer| pointer.as_str().map(str::to_owned)).collect();
        for pointer in pointers {
            change["object"].pointer_mut(&pointer).into_iter().for_each(|value| *value = Value::from(CONCEALED));
        }
        let object = &mut change["object"];
        if object["kind"] != "Secret" {
            continue;
        }
        let fields = ["data", "stringData"].iter().filter_map(|field| object.get(*field)?.as_object().map(|values| (*field, values.clone())));
        for (field, values) in fields.collect::<Vec<_>>() {
            object[field] = values.keys().map(|key| (key.clone(), Value::from(CONCEALED))).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use strake_apply::conceal::{Key, is_hash};

    use super::{hash_secrets, hide_secrets, set_name};
    use crate::args::Input;

    #[test]
    fn only_the_values_of_secrets_are_hidden() {
        let object = |kind: &str, value: &str| serde_json::json!({"object": {"kind": kind, "data": {"a": value}}});
        let mut plan = serde_json::json!({"deploy": {"changes": [object("Secret", "x"), object("ConfigMap", "x")]}});
        hide_secrets(&mut plan);
        assert_eq!(plan["deploy"]["changes"], serde_json::json!([object("Secret", "(secret)"), object("ConfigMap", "x")]));
    }

    #[test]
    fn a_printed_plan_has_hashes_where_secrets_are() {
        let object = |kind: &str, value: &str| serde_json::json!({"object": {"kind": kind, "data": {"a": value}}});
        let mut sealed = object("ConfigMap", "x");
        sealed["sensitive"] = serde_json::json!(["/data/a"]);
        // "x" in base64 is "eA==".
        let written = serde_json::json!({"object": {"kind": "Secret", "data": {"a": "eA=="}, "stringData": {"b": "x"}}});
        let mut plan = serde_json::json!({"deploy": {"changes": [object("Secret", "x"), object("ConfigMap", "x"), sealed, written]}});
        hash_secrets(&mut plan, &Key::of([1; 32]));
        let value = |place: usize| &plan["deploy"]["changes"][place]["object"]["data"]["a"];
        assert!(is_hash(value(0)) && value(0) == value(2), "equal values look equal: {plan:#}");
        assert_eq!(value(1), "x");
        assert_eq!(value(3), &plan["deploy"]["changes"][3]["object"]["stringData"]["b"], "as the server will have it");
        assert_eq!(plan["hashedWith"], Key::of([1; 32]).id());
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
