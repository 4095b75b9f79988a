//! strake ci: check, build, push, and plan or apply, as a pipeline asks for it; told to people, programs and the service that runs it.

mod base;
mod images;
mod provider;
mod summary;

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use strake_apply::Outcome as Applied;
use strake_compile::Outcome;
use strake_source::{Diagnostic, Severity};

use crate::args::{Apply, Ci, EventsFormat, Format, Input, Plan, PlanConsent, PlanFormat, Target};
use crate::commands::apply::{consent, reach, send_plan};
use crate::commands::build::report;
use crate::commands::check;
use crate::commands::plan::{Compiled, outcome};
use crate::commands::review;
use crate::connect::{connect, is_own};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Paint, data, note, say, secrets, took, without_secrets};
use provider::{Provider, Run};
use summary::Told;

/// Where GitLab looks for findings.
const CODE_QUALITY: &str = "gl-code-quality-report.json";
const STAYS: &str = "what was sent to the cluster stays; run the pipeline again to go on";

/// What is done after building.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Compare with another revision.
    Plan,
    /// Compare with the cluster.
    Rehearse,
    Apply,
}

/// Runs the pipeline, and tells how it went even when it went wrong.
pub fn run(root: &Path, args: &Ci) -> Result<(), Failure> {
    let run = provider::detect(&|name| std::env::var(name).ok(), &|path| std::fs::read_to_string(path).ok());
    let mode = mode(args, &run);
    let mut told = Told { mode: if mode == Mode::Apply { "apply" } else { "plan" }, ..Told::default() };
    note(format!("{} {}: {}", Paint::stderr().bold("strake ci"), run.what(), intent(mode)));
    let mut ended = pipeline(root, args, &run, mode, &mut told);
    if let Err(failure) = &ended {
        told.failure = Some(match failure.to_string() {
            words if words.is_empty() => summary::findings(&told.findings),
            words => without_secrets(&words),
        });
        told.code = failure.code();
    } else if args.detailed_exitcode && told.review.as_ref().is_some_and(|review| !review.unchanged()) && mode != Mode::Apply {
        told.code = 2;
        ended = Err(Failure::silent(2));
    }
    let published = publish(args, &run, &told);
    // Why it failed counts more than that nobody could be told.
    ended.and(published)
}

fn mode(args: &Ci, run: &Run) -> Mode {
    match (args.plan, args.force_apply || run.deploys(args.deploy_branch.as_deref()), args.dry_run) {
        (false, true, false) => Mode::Apply,
        (false, true, true) => Mode::Rehearse,
        _ => Mode::Plan,
    }
}

fn intent(mode: Mode) -> &'static str {
    match mode {
        Mode::Plan => "check, build and plan; the cluster is not touched",
        Mode::Rehearse => "check, build and plan against the cluster; nothing is changed",
        Mode::Apply => "check, build and apply",
    }
}

fn pipeline(root: &Path, args: &Ci, run: &Run, mode: Mode, told: &mut Told) -> Result<(), Failure> {
    let (input, target) = (&bounded(&args.apply.input), &args.apply.target);
    if crate::inputs::is_stdin(input) && input.set.is_none() {
        return Err(Failure::text("manifests from stdin belong to no directory whose name their set could have: give it one with --set NAME").with_code(2));
    }
    let target = &Target { unasked: mode == Mode::Plan, ..target.clone() };
    let (Outcome { plan, diagnostics, sources }, target) = outcome(root, input, target)?;
    let push = images::Push::of(args, run, &target, mode == Mode::Apply)?;
    mask(run.provider, args.apply.output);
    told.findings = diagnostics.iter().map(|diagnostic| check::finding(&sources, diagnostic)).collect();
    let shown: Vec<Diagnostic> = diagnostics.into_iter().filter(|finding| finding.severity != Severity::Note).collect();
    report(&sources, &shown);
    if run.provider.has_commands() {
        command(args, check::github(&told.findings).trim_end());
    }
    let Some(plan) = plan else { return Err(Failure::silent(1)) };
    let warnings = shown.iter().map(|finding| review::finding(&sources, finding)).collect();
    let mut compiled = Compiled { plan, sources, target, warnings };
    if mode != Mode::Plan {
        // Before minutes of building.
        crate::commands::apply::cluster(root, &compiled.target, args.apply.listen)?;
        reach(root, &compiled.target)?;
        push.check(&compiled, interrupt::wait(async { Ok(is_own(root, &compiled.target).await) })?)?;
    }
    let (made, running) = push.build(root, args, &compiled)?;
    told.images = made;
    compiled.plan.deploy.fill_images(&running);
    if mode == Mode::Plan {
        told.review = base::review(root, args, run, &push, &mut compiled)?;
        return Ok(());
    }
    told.review = against_cluster(root, args, &compiled)?;
    if mode == Mode::Apply {
        told.applied = Some(apply(root, &args.apply, &compiled)?);
    }
    Ok(())
}

/// A pull request is somebody else's: what its files name must be in the repository, and is not read from the machine that runs it.
fn bounded(input: &Input) -> Input {
    let repository = |dir: &Path| std::fs::canonicalize(dir).ok()?.ancestors().find(|place| place.join(".git").exists()).map(Path::to_owned);
    Input { within: input.within.clone().or_else(|| repository(&input.dir)), ..input.clone() }
}

/// The values of encrypted files are hidden by the service too, whoever prints them in a later step.
fn mask(provider: Provider, output: EventsFormat) {
    if !provider.has_commands() {
        return;
    }
    for value in secrets() {
        let line = format!("::add-mask::{}", value.replace('%', "%25").replace('\r', "%0D"));
        // Not by way of what hides secrets; the service hides this line itself.
        match output {
            EventsFormat::Json => crate::output::error_bytes(format!("{line}\n").as_bytes()),
            EventsFormat::Text => say(line),
        }
    }
}

/// A command to the service, which reads both streams; what is JSON stays JSON.
fn command(args: &Ci, line: &str) {
    if line.is_empty() {
        return;
    }
    if args.apply.output == EventsFormat::Json { note(line) } else { say(line) }
}

fn against_cluster(root: &Path, args: &Ci, compiled: &Compiled) -> Result<Option<strake_apply::review::Review>, Failure> {
    interrupt::wait(async {
        let client = connect(root, &compiled.target).await?;
        let header = review::header(&args.apply.input, &compiled.plan, client.server()).agreed(&consent(&args.apply));
        review::against_cluster(root, &client, &compiled.plan, header).await.map(Some)
    })
}

fn apply(root: &Path, args: &Apply, compiled: &Compiled) -> Result<Value, Failure> {
    let started = Instant::now();
    interrupt::gracefully(STAYS, async |stop| {
        let client = connect(root, &compiled.target).await?;
        // Events for programs are not what stdout is for here.
        let args = Apply { output: EventsFormat::Text, ..args.clone() };
        let report = send_plan(root, &client, &compiled.plan, &args, &compiled.target, Some(stop)).await?;
        note(format!("{} in {}", Paint::stderr().green("applied"), took(started.elapsed())));
        let ids = |outcome| report.applied.iter().filter(move |applied| applied.outcome == outcome).map(|applied| applied.id.to_string()).collect::<Vec<_>>();
        let pruned: Vec<String> = report.pruned.iter().map(ToString::to_string).collect();
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(
            json!({"created": ids(Applied::Created), "changed": ids(Applied::Configured), "unchanged": ids(Applied::Unchanged).len(), "deleted": pruned, "timeMs": milliseconds}),
        )
    })
}

/// Writes what was found to wherever it is looked for.
fn publish(args: &Ci, run: &Run, told: &Told) -> Result<(), Failure> {
    let written = |path: &Path, result: std::io::Result<()>| result.map_err(|error| Failure::text(format!("cannot write {}: {error}", path.display())));
    let text = without_secrets(&summary::markdown(run, told));
    if let Some(path) = &args.summary {
        written(path, std::fs::write(path, &text))?;
    }
    let own = |name: &str| std::env::var_os(name).filter(|path| run.provider.has_commands() && !path.is_empty()).map(std::path::PathBuf::from);
    if let Some(path) = own("GITHUB_STEP_SUMMARY") {
        written(&path, append(&path, &text))?;
    }
    if let Some(path) = own("GITHUB_OUTPUT") {
        let changed = told.review.as_ref().is_some_and(|review| !review.unchanged());
        written(&path, append(&path, &format!("mode={}\nchanged={changed}\nexit-code={}\n", told.mode, told.code)))?;
    }
    let quality = args.code_quality.clone().or_else(|| (run.provider == Provider::GitLab).then(|| CODE_QUALITY.into()));
    if let Some(path) = quality {
        let report = serde_json::to_string_pretty(&summary::code_quality(&told.findings))? + "\n";
        written(&path, std::fs::write(&path, report))?;
    }
    if let (Some(failure), true) = (&told.failure, run.provider.has_commands()) {
        command(args, &format!("::error title=strake ci::{}", failure.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")));
    }
    if args.apply.output == EventsFormat::Json {
        say(data(&summary::data(run, told), Format::Json));
    } else if let Some(review) = told.review.as_ref().filter(|_| told.applied.is_none()) {
        say(without_secrets(&review::text(review, Paint::stdout())));
    }
    Ok(())
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

/// What `strake plan` would be asked for.
fn plan_args(args: &Ci, against: Option<String>, empty: bool) -> Plan {
    let apply = &args.apply;
    let allowed = PlanConsent { allow_mass_delete: apply.allow_mass_delete, force_conflicts: apply.force_conflicts, consent: apply.consent.clone() };
    Plan {
        input: args.apply.input.clone(),
        target: args.apply.target.clone(),
        outgoing: args.apply.outgoing.clone(),
        against,
        empty,
        build: true,
        out: None,
        allowed,
        output: PlanFormat::Text,
    }
}
