//! strake up, apply, diff, down

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use strake_apply::{Applier, ApplyError, Event, Options, Outcome, Report};
use strake_build::BuiltImage;
use strake_client::{Client, ClientError, ListParams, Resource, Row, Table};
use strake_plan::Plan;
use strake_store::Store;

use strake_apply::review::Review;

use crate::args::{Apply, Diff, Down, Format, Input, Progress, Target};
use crate::commands::build::build;
use crate::commands::get::Shape;
use crate::commands::plan::{Compiled, compile};
use crate::commands::review;
use crate::commands::serve::{detach, need_root};
use crate::connect::connect;
use crate::failure::{Failure, chain};
use crate::interrupt;
use crate::output::{Paint, counted, data, note, say, took};
use crate::project;

/// What an interrupted apply leaves.
const STAYS: &str = "what was sent to the cluster stays; run it again to go on, or `strake down` to take it back";

/// Builds and applies.
pub fn apply(root: &Path, args: &Apply) -> Result<(), Failure> {
    if let Some(saved) = review::saved(&args.input.dir)? {
        return apply_saved(root, args, &saved);
    }
    apply_checked(root, args, None)
}

/// Applies a plan that was kept in a file: exactly that, or nothing.
fn apply_saved(root: &Path, args: &Apply, saved: &Review) -> Result<(), Failure> {
    let header = &saved.header;
    let given = &args.input;
    let input = Input {
        dir: header.directory.clone().into(),
        set: Some(header.set.clone()),
        namespace: Some(header.namespace.clone()),
        env: given.env.clone().or_else(|| header.environment.clone()),
        values: if given.values.is_empty() { header.values.iter().map(Into::into).collect() } else { given.values.clone() },
        ..given.clone()
    };
    apply_checked(root, &Apply { input, ..args.clone() }, Some(saved))
}

fn apply_checked(root: &Path, args: &Apply, saved: Option<&Review>) -> Result<(), Failure> {
    let started = Instant::now();
    let compiled = compile(root, &args.input, &args.target)?;
    let target = compiled.target.clone();
    reach(root, &target)?;
    let plan = built(root, compiled, args.progress)?;
    interrupt::wait_or(STAYS, async {
        let client = connect(root, &target).await?;
        if let Some(saved) = saved {
            let header = review::header(&args.input, &plan, client.server());
            review::check(saved, &review::against_cluster(&client, &plan, header).await?)?;
        }
        let report = send(&client, &plan, args).await?;
        summary(&report, started.elapsed());
        Ok(())
    })
}

/// The same, with a cluster that is started when none runs; then shows what runs and where it answers.
pub fn up(root: &Path, args: &Apply) -> Result<(), Failure> {
    need_root("strake up")?;
    let started = Instant::now();
    let compiled = compile(root, &args.input, &args.target)?;
    let target = compiled.target.clone();
    let own = !target.is_foreign();
    if own && strake_cluster::holder(root).is_none() {
        let begun = Instant::now();
        detach(root, args.listen)?;
        note(format!("{} the cluster in {}", Paint::stderr().green("started"), took(begun.elapsed())));
    }
    if !own {
        reach(root, &target)?;
    }
    let plan = built(root, compiled, args.progress)?;
    interrupt::wait_or(STAYS, async {
        let client = connect(root, &target).await?;
        let report = send(&client, &plan, args).await?;
        summary(&report, started.elapsed());
        if let Some(table) = pods(&client, &plan).await? {
            say(format!("\n{table}\n"));
        }
        for line in addresses(&client, &plan).await? {
            say(line);
        }
        Ok(())
    })
}

/// A cluster that isn't there is told before minutes of building.
pub fn reach(root: &Path, target: &Target) -> Result<(), Failure> {
    interrupt::wait_or("nothing was sent to the cluster", async {
        let client = connect(root, target).await?;
        match client.get(&Resource::NAMESPACES, None, "default").await {
            // An answer is an answer, even to somebody who may not read namespaces.
            Ok(_) | Err(ClientError::Api(_)) => Ok(()),
            Err(error) => Err(Failure::text(format!("the cluster at {} does not answer: {}", client.server(), chain(&error)))),
        }
    })
}

/// Builds the plan's images and fills their digests in where containers use them.
fn built(root: &Path, mut compiled: Compiled, progress: Progress) -> Result<Plan, Failure> {
    build_into(root, &mut compiled, progress)?;
    Ok(compiled.plan)
}

/// The same, in place.
pub fn build_into(root: &Path, compiled: &mut Compiled, progress: Progress) -> Result<(), Failure> {
    let Compiled { plan, sources, .. } = compiled;
    if plan.build.images.is_empty() {
        return Ok(());
    }
    need_root("building images")?;
    let store = Store::open(root)?;
    let images = build(root, &store, &plan.build, sources, progress, None)?;
    let pinned: Vec<String> = images.iter().map(pinned).collect();
    plan.deploy.fill_images(&pinned);
    Ok(())
}

/// `repository:tag@digest`: what runs is what was built, whatever the tag comes to mean.
fn pinned(image: &BuiltImage) -> String {
    let tag = image.tags.first().map(String::as_str).unwrap_or_default();
    format!("{tag}@{}", image.manifest)
}

async fn send(client: &Client, plan: &Plan, args: &Apply) -> Result<Report, Failure> {
    let options = Options {
        force_conflicts: args.force_conflicts,
        prune: !args.no_prune,
        allow_mass_delete: args.allow_mass_delete,
        replace: args.replace,
        wait: (!args.no_wait).then(|| Duration::from_secs(args.timeout)),
    };
    let view = View { progress: args.progress, paint: Paint::stderr() };
    let show = |event: Event| view.show(&event);
    Applier::new(client, &plan.deploy, options, &show).apply().await.map_err(explain)
}

/// What applying tells, a calm line an event.
struct View {
    progress: Progress,
    paint: Paint,
}

impl View {
    fn show(&self, event: &Event) {
        if self.progress == Progress::Quiet {
            return;
        }
        if self.progress == Progress::Json {
            note(json_of(event));
            return;
        }
        let paint = self.paint;
        match event {
            Event::Applied { outcome: Outcome::Unchanged, .. } => {}
            Event::Applied { id, outcome } => note(format!("{}  {id}", paint.green(if *outcome == Outcome::Created { "created" } else { "changed" }))),
            Event::Overruled { id, managers } => {
                note(format!("{} {id}: what {} had changed by hand is as the directory says again", paint.yellow("taken back"), managers.join(", ")))
            }
            Event::Waiting { id, reason } if std::io::stderr().is_terminal() || self.progress == Progress::Plain => {
                note(format!("{}  {id}: {reason}", paint.yellow("waiting")));
            }
            Event::Waiting { .. } => {}
            Event::Ready { id } => note(format!("{}    {id}", paint.green("ready"))),
            Event::Pruned { id } => note(format!("{}  {id}", paint.yellow("deleted"))),
        }
    }
}

fn json_of(event: &Event) -> Value {
    let with = |name: &str, id: &strake_plan::ObjectId| serde_json::json!({"event": name, "object": id});
    match event {
        Event::Applied { id, outcome } => serde_json::json!({"event": "applied", "object": id, "outcome": outcome}),
        Event::Waiting { id, reason } => serde_json::json!({"event": "waiting", "object": id, "reason": reason}),
        Event::Overruled { id, managers } => serde_json::json!({"event": "overruled", "object": id, "managers": managers}),
        Event::Ready { id } => with("ready", id),
        Event::Pruned { id } => with("pruned", id),
    }
}

/// A refusal or a failed rollout with everything a person needs to act on it.
pub fn explain(error: ApplyError) -> Failure {
    match &error {
        ApplyError::Unhealthy { blames } => {
            let mut text = error.to_string();
            blames.iter().for_each(|blame| text = format!("{text}\n\n{blame}"));
            Failure::text(text.trim_end())
        }
        ApplyError::Refused { source, .. } => {
            let mut text = chain(&error);
            let causes = source.status().and_then(|status| status.details.as_ref()).map(|details| details.causes.as_slice()).unwrap_or_default();
            causes
                .iter()
                .filter(|cause| !text.contains(&cause.message))
                .map(|cause| format!("\n  {}: {}", cause.field, cause.message))
                .collect::<Vec<_>>()
                .iter()
                .for_each(|line| text.push_str(line));
            if source.is_not_found() && text.contains("namespaces \"") {
                text.push_str("\n  nothing makes this namespace: add a Namespace manifest to the directory, or name another with --namespace");
            }
            if source.is_conflict() {
                text.push_str("\n  another manager owns those fields: leave them out, or take them over with --force-conflicts");
            }
            Failure::text(text)
        }
        _ => Failure::chain(&error),
    }
}

fn summary(report: &Report, time: Duration) {
    for (id, reason) in &report.kept {
        note(format!("{} {id} left the directory but stays: it {reason}", Paint::stderr().yellow("kept")));
    }
    if report.unchanged() {
        let count = report.applied.len();
        say(format!("nothing to change: {} {} as the directory says ({})", counted(count, "object"), if count == 1 { "is" } else { "are" }, took(time)));
        return;
    }
    let count = |outcome| report.applied.iter().filter(|applied| applied.outcome == outcome).count();
    let parts = [
        (count(Outcome::Created), "created"),
        (count(Outcome::Configured), "changed"),
        (count(Outcome::Unchanged), "unchanged"),
        (report.pruned.len(), "deleted"),
    ];
    let text: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    say(format!("{} in {}", text.join(", "), took(time)));
}

/// The pods of the plan's workloads; `None` when it has none.
async fn pods(client: &Client, plan: &Plan) -> Result<Option<String>, Failure> {
    let mut found = Table::default();
    for change in &plan.deploy.changes {
        let params = match change.id.kind.as_str() {
            "Deployment" | "ReplicaSet" => {
                let labels = change.object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
                let pairs: Vec<String> = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
                ListParams::labels(pairs.join(","))
            }
            "Pod" => ListParams::fields(format!("metadata.name={}", change.id.name)),
            _ => continue,
        };
        let more = client.table(&Resource::PODS, Some(&change.id.namespace), None, &params).await?;
        found.column_definitions = more.column_definitions;
        found.rows.extend(more.rows);
    }
    let other_space = |row: &Row| row.object["metadata"]["namespace"].as_str() != Some(plan.deploy.namespace.as_str());
    let shape = Shape { wide: false, namespaces: found.rows.iter().any(other_space), prefix: String::new() };
    Ok((!found.rows.is_empty()).then(|| shape.print(&found)))
}

/// Where the set's NodePort Services answer.
async fn addresses(client: &Client, plan: &Plan) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for change in plan.deploy.changes.iter().filter(|change| change.id.kind == "Service") {
        let params = ListParams::fields(format!("metadata.name={}", change.id.name));
        let found = client.list(&Resource::SERVICES, Some(&change.id.namespace), &params).await?;
        for port in found.items.iter().flat_map(|service| service["spec"]["ports"].as_array().cloned().unwrap_or_default()) {
            if let Some(number) = port["nodePort"].as_u64().filter(|number| *number > 0) {
                lines.push(format!("service {} answers at http://localhost:{number}", change.id.name));
            }
        }
    }
    Ok(lines)
}

/// Shows what apply would change.
pub fn diff(root: &Path, args: &Diff) -> Result<(), Failure> {
    let compiled = compile(root, &args.input, &args.target)?;
    let target = compiled.target.clone();
    reach(root, &target)?;
    let plan = built(root, compiled, Progress::Quiet)?;
    interrupt::wait(async {
        let client = connect(root, &target).await?;
        let report = Applier::new(&client, &plan.deploy, Options::default(), &|_| {}).diff().await.map_err(explain)?;
        if args.output == Format::Text {
            print_diff(&report);
        } else {
            say(data(&report, args.output));
        }
        if report.unchanged() { Ok(()) } else { Err(Failure::silent(2)) }
    })
}

fn print_diff(report: &Report) {
    let paint = Paint::stdout();
    if report.unchanged() {
        say("nothing to change");
    }
    for applied in report.applied.iter().filter(|applied| applied.outcome != Outcome::Unchanged) {
        let sign = if applied.outcome == Outcome::Created { paint.green("+ create") } else { paint.yellow("~ change") };
        say(format!("{sign} {}  {}", applied.id, paint.dim(&applied.origin)));
        if applied.outcome == Outcome::Created {
            continue;
        }
        for change in &applied.changes {
            let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "(none)".to_owned(), ToString::to_string);
            say(format!("    {}: {} -> {}", change.path, paint.red(&show(&change.before)), paint.green(&show(&change.after))));
        }
    }
    for id in &report.pruned {
        say(format!("{} {id}", paint.red("- delete")));
    }
    for (id, reason) in &report.kept {
        say(format!("{} {id} (it {reason})", paint.dim("  keep")));
    }
}

/// Deletes what a directory applied.
pub fn down(root: &Path, args: &Down) -> Result<(), Failure> {
    if args.input.locked || args.input.offline {
        return Err(Failure::text("--locked and --offline are about images, and down takes none").with_code(2));
    }
    // A typing mistake must not look like a set that is gone.
    if args.input.set.is_none() && !args.input.dir.exists() {
        let dir = args.input.dir.display();
        return Err(Failure::text(format!("cannot read {dir}: there is no such file or directory. A set whose directory is gone is named with --set")));
    }
    let (name, settings) = project::identity(&args.input.dir, args.input.env.as_deref())?;
    let mut plan = Plan::default();
    plan.deploy.set = crate::commands::plan::set_name(&args.input, name.as_deref());
    plan.deploy.namespace = args.input.namespace.clone().or(settings.namespace).unwrap_or_else(|| "default".to_owned());
    let mut target = args.target.clone();
    if !target.is_foreign() {
        target.context = settings.context;
    }
    let target = &target;
    interrupt::wait_or("run it again to delete the rest", async {
        let client = connect(root, target).await?;
        let show = |event: Event| View { progress: Progress::Auto, paint: Paint::stderr() }.show(&event);
        let removed = Applier::new(&client, &plan.deploy, Options::default(), &show).down(Duration::from_secs(args.timeout)).await.map_err(explain)?;
        if removed.is_empty() {
            say(format!("nothing of set {} is there", plan.deploy.set));
        } else {
            say(format!("{} deleted", counted(removed.len(), "object")));
        }
        Ok(())
    })
}
