//! The process that builds and applies one commit for a Sync: `strake sync-worker`, which nobody types.

use std::io::{BufRead, Read};
use std::path::Path;

use clap::Parser;
use strake_apply::{Outcome, Report};
use strake_source::{Severity, Style, render};
use strake_sync::{AppliedSet, Reason, Trouble};

use super::deploy::{Ended, Job};
use super::keys::unnamed;
use crate::args::{Apply, Cli, Command, Progress};
use crate::commands::apply::{build_into, gets_there, reach, send_plan};
use crate::commands::delivery::{Delivery, Shipment};
use crate::commands::lock;
use crate::commands::plan::{Compiled, outcome};
use crate::connect::connect;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{note, say};
use crate::project;

/// Reads the job from the standard input, does it, and prints how it ended.
///
/// # Errors
/// When there is no job. What goes wrong with one is printed.
pub fn run(root: &Path) -> Result<(), Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let job: Job = serde_json::from_str(&line).map_err(|error| Failure::text(format!("sync-worker is started by strake itself: {error}")))?;
    end_with_the_input()?;
    let ended = work(root, &job).map_or_else(Ended::Wrong, |(report, set)| Ended::Done { message: summary(&report), changed: !report.unchanged(), set });
    say(serde_json::to_string(&ended)?);
    Ok(())
}

/// Whoever started this process holds its input open: when that one ends, in whatever way, this one is interrupted like by Ctrl-C.
fn end_with_the_input() -> Result<(), Failure> {
    let watch = || {
        let mut rest = Vec::new();
        let _ = std::io::stdin().lock().read_to_end(&mut rest);
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    };
    std::thread::Builder::new().name("input".to_owned()).spawn(watch)?;
    Ok(())
}

/// The arguments of `strake apply`, read as if they had been typed.
fn arguments(job: &Job) -> Result<Apply, Trouble> {
    let wrong = |message: String| Trouble::new(Reason::InvalidSpec, message);
    let words = ["strake", "apply", "--progress=plain"].map(str::to_owned).into_iter().chain(job.words.iter().cloned());
    let words = words.chain(["--".to_owned(), job.dir.display().to_string()]);
    match Cli::try_parse_from(words).map_err(|error| wrong(error.to_string()))?.command {
        Command::Apply(args) => Ok(args),
        _ => Err(wrong("it is not an apply".to_owned())),
    }
}

fn work(root: &Path, job: &Job) -> Result<(Report, AppliedSet), Trouble> {
    let mut args = arguments(job)?;
    // Open for as long as it is used.
    let login = job.kubeconfig.as_ref().map(|text| unnamed(text.as_bytes())).transpose()?;
    if let Some((_, path)) = &login {
        args.target.kubeconfig = Some(path.clone());
    }
    let invalid = |failure: Failure| told(Reason::ManifestsInvalid, &failure);
    let (name, settings) = project::identity(&job.dir, args.input.env.as_deref()).map_err(invalid)?;
    // Who follows a repository decides where it is deployed to, and nobody who may push to it.
    if let (Some(context), false) = (&settings.context, args.target.is_foreign()) {
        let environment = args.input.env.as_deref().unwrap_or_default();
        let message = format!(
            "{} has the context `{context}` for the environment `{environment}`: a repository that is followed does not choose the cluster. Who follows it names one (--context, --kubeconfig or --kubeconfig-secret), or an environment without a context",
            project_file(job)
        );
        return Err(Trouble::new(Reason::TargetForbidden, message));
    }
    if let (Some(registry), None, true) = (&settings.registry, &args.outgoing.push_to, args.target.is_foreign()) {
        let message = format!(
            "{} has the registry `{registry}`: a repository that is followed does not choose where images are pushed with this machine's logins. Who follows it names the registry (--push-to, spec.pushTo)",
            project_file(job)
        );
        return Err(Trouble::new(Reason::TargetForbidden, message));
    }
    if args.input.set.is_none() && name.is_none() {
        args.input.set = Some(job.name.clone());
    }
    if args.input.namespace.is_none() && settings.namespace.is_none() {
        args.input.namespace = Some(job.namespace.clone());
    }
    // The machine's other files are none of the repository's business.
    args.input.within = Some(job.tree.clone());
    // What tags mean changes by a commit that changes the lock file, and in no other way.
    let there = inside(job).any(|dir| dir.join(lock::NAME).is_file());
    if args.input.locked && !there {
        let message = format!("the commit has no {} in {}, and this sync obeys nothing else: `strake image lock` makes it", lock::NAME, folder(job));
        return Err(Trouble::new(Reason::LockMissing, message));
    }
    args.input.locked = there;
    let mut compiled = compiled(root, &args, job)?;
    if compiled.plan.deploy.changes.is_empty() {
        let message = "nothing comes out of what is there: a set is not emptied by a repository. To take it away, use `strake down --set`";
        return Err(Trouble::new(Reason::NothingRendered, message));
    }
    // Waiting for a cluster that does not answer is not what the build is for.
    reach(root, &compiled.target).map_err(|failure| told(Reason::ClusterUnreachable, &failure))?;
    let failed = |failure: Failure| told(Reason::BuildFailed, &failure);
    let delivery = Delivery::elsewhere(&args.outgoing, &compiled.target).map_err(failed)?;
    gets_there(root, &delivery, &compiled).map_err(failed)?;
    let shipment = build_into(root, &mut compiled, Progress::Plain, &delivery).map_err(failed)?;
    shipment.iter().try_for_each(Shipment::send).map_err(failed)?;
    let Compiled { plan, target, .. } = compiled;
    let set = AppliedSet { name: plan.deploy.set.clone(), namespace: plan.deploy.namespace.clone() };
    let sent = interrupt::wait_or("the deployment was interrupted", async {
        let client = connect(root, &target).await?;
        send_plan(root, &client, &plan, &args, &target, None).await
    });
    let sent = sent.map(|report| (report, set));
    sent.map_err(|failure| {
        let reason = match failure.code() {
            interrupt::INTERRUPTED => Reason::Interrupted,
            3 => Reason::Unhealthy,
            _ if failure.to_string().contains(" not ready") => Reason::Unhealthy,
            _ if reach(root, &target).is_err() => Reason::ClusterUnreachable,
            _ => Reason::ApplyFailed,
        };
        told(reason, &failure)
    })
}

/// Compiles, with every finding in the trouble when there is an error.
fn compiled(root: &Path, args: &Apply, job: &Job) -> Result<Compiled, Trouble> {
    let result = outcome(root, &args.input, &args.target).map_err(|failure| told(Reason::ManifestsInvalid, &failure));
    let (outcome, target) = result.map_err(|trouble| relative(trouble, job))?;
    let errors: Vec<_> = outcome.diagnostics.iter().filter(|finding| finding.severity == Severity::Error).collect();
    match outcome.plan {
        Some(plan) if errors.is_empty() => Ok(Compiled { plan, sources: outcome.sources, target, warnings: Vec::new() }),
        _ => {
            let texts: Vec<String> = errors.iter().map(|finding| render(&outcome.sources, std::slice::from_ref(*finding), Style::Plain)).collect();
            let first = errors.first().map_or_else(|| "it does not compile".to_owned(), |finding| one_line(finding, &outcome.sources));
            let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
            let trouble = Trouble { reason: Reason::ManifestsInvalid, message: format!("{first}{more}"), detail: texts.join("\n") };
            Err(relative(trouble, job))
        }
    }
}

/// `deploy/web.yaml:3: unknown field …`
fn one_line(finding: &strake_source::Diagnostic, sources: &strake_source::Sources) -> String {
    let rendered = render(sources, std::slice::from_ref(finding), Style::Plain);
    let place = rendered.lines().find_map(|line| line.trim_start().strip_prefix("--> ")).map(|place| format!("{}: ", place.trim()));
    format!("{}{}", place.unwrap_or_default(), finding.message)
}

/// The directory and those above it, up to the repository's root.
fn inside(job: &Job) -> impl Iterator<Item = &Path> {
    job.dir.ancestors().take_while(|dir| dir.starts_with(&job.tree))
}

/// The project's file, as the repository has it.
fn project_file(job: &Job) -> String {
    job.dir.strip_prefix(&job.tree).unwrap_or(&job.dir).join(strake_compile::config::FILE_NAME).display().to_string()
}

/// The directory, as the repository has it.
fn folder(job: &Job) -> String {
    let folder = job.dir.strip_prefix(&job.tree).unwrap_or(&job.dir).display().to_string();
    if folder.is_empty() || folder == "." { "its root".to_owned() } else { format!("`{folder}` or above it") }
}

/// Paths as the repository has them: where it was fetched to is nobody's business.
fn relative(mut trouble: Trouble, job: &Job) -> Trouble {
    if let Some(tree) = inside(job).last().map(|tree| format!("{}/", tree.display())) {
        trouble.message = trouble.message.replace(&tree, "");
        trouble.detail = trouble.detail.replace(&tree, "");
    }
    trouble
}

/// A failure's first line, and the rest of it.
fn told(reason: Reason, failure: &Failure) -> Trouble {
    let text = failure.to_string();
    if !text.is_empty() {
        note(&text);
    }
    let (message, detail) = text.split_once('\n').unwrap_or((&text, ""));
    let message = if message.is_empty() { "it failed without a word".to_owned() } else { message.trim_end_matches(':').to_owned() };
    // The first line of a blame chain is its best summary.
    let first = detail.lines().map(str::trim).find(|line| !line.is_empty()).filter(|_| reason == Reason::Unhealthy);
    let message = first.map_or_else(|| message.clone(), |first| format!("{message}: {first}"));
    Trouble { reason, message, detail: detail.trim().to_owned() }
}

fn summary(report: &Report) -> String {
    let count = |outcome| report.applied.iter().filter(|applied| applied.outcome == outcome).count();
    let parts = [
        (count(Outcome::Created), "created"),
        (count(Outcome::Configured), "changed"),
        (report.pruned.len(), "deleted"),
        (count(Outcome::Unchanged), "unchanged"),
    ];
    let text: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    text.join(", ")
}
