//! strake up, apply, diff, down

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use strake_apply::failure::{Mode, Policy};
use strake_apply::status::SetName;
use strake_apply::{Applier, ApplyError, Event, Note, Options, Outcome, Report};
use strake_client::{Client, ClientError, ListParams, Resource, Row, Table};
use strake_plan::{DeployPlan, Plan};
use strake_store::Store;

use strake_apply::review::{Action, Consent as Agreed, Review};

use crate::args::{Apply, Consent, Diff, Down, EventsFormat, Format, Input, Outgoing, Progress, SetArgs, Target};
use crate::commands::build::build;
use crate::commands::delivery::{Delivery, Shipment};
use crate::commands::dev::sync::replace_synced;
use crate::commands::get::Shape;
use crate::commands::history::{self, Named};
use crate::commands::plan::{Compiled, compile};
use crate::commands::review;
use crate::commands::serve::{detach, need_root};
pub use crate::commands::telling::explain;
use crate::commands::telling::{STAYS, View, done, failed};
use crate::connect::{connect, is_own};
use crate::failure::{Failure, chain};
use crate::interrupt;
use crate::output::{Paint, counted, data, note, say, took};

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
    if !given.more.is_empty() {
        return Err(Failure::text("a plan that was kept is applied by itself: it knows what it was made from").with_code(2));
    }
    let input = Input {
        dir: header.directory.clone().into(),
        more: header.more.iter().map(Into::into).collect(),
        set: Some(header.set.clone()),
        namespace: Some(header.namespace.clone()),
        env: given.env.clone().or_else(|| header.environment.clone()),
        values: if given.values.is_empty() { header.values.iter().map(Into::into).collect() } else { given.values.clone() },
        ..given.clone()
    };
    // What was agreed to when it was reviewed needs no second word.
    let agreed = &header.consent;
    let args = Apply {
        input,
        no_prune: args.no_prune || agreed.no_prune,
        allow_mass_delete: args.allow_mass_delete || agreed.allow_mass_delete,
        force_conflicts: args.force_conflicts || agreed.force_conflicts,
        outgoing: Outgoing { push_to: args.outgoing.push_to.clone().or_else(|| header.push_to.clone()) },
        // A plan that makes objects anew says so.
        replace: args.replace || saved.summary.contains_key(&Action::Replace),
        consent: Consent {
            adopt: args.consent.adopt || agreed.adopt,
            confirm_delete: [args.consent.confirm_delete.clone(), agreed.confirmed.clone()].concat(),
        },
        ..args.clone()
    };
    apply_checked(root, &args, Some(saved))
}

/// What the arguments agree to.
pub fn consent(args: &Apply) -> Agreed {
    Agreed {
        no_prune: args.no_prune,
        allow_mass_delete: args.allow_mass_delete,
        force_conflicts: args.force_conflicts,
        adopt: args.consent.adopt,
        replace: args.replace,
        confirmed: args.consent.confirm_delete.clone(),
    }
}

fn apply_checked(root: &Path, args: &Apply, saved: Option<&Review>) -> Result<(), Failure> {
    let started = Instant::now();
    let mut compiled = compile(root, &args.input, &args.target)?;
    let target = compiled.target.clone();
    let delivery = Delivery::elsewhere(&args.outgoing, &target)?;
    reach(root, &target)?;
    gets_there(root, &delivery, &compiled)?;
    let shipment = build_into(root, &mut compiled, args.progress, &delivery)?;
    let plan = compiled.plan;
    if let Some(saved) = saved {
        // Before anything is pushed.
        interrupt::wait(async {
            let client = connect(root, &target).await?;
            let header = review::header(&args.input, &plan, client.server()).agreed(&consent(args));
            review::check(saved, &review::against_cluster(root, &client, &plan, header).await?)
        })?;
    }
    shipment.iter().try_for_each(Shipment::send)?;
    told(
        args,
        interrupt::gracefully(STAYS, async |stop| {
            let client = connect(root, &target).await?;
            let report = send_plan(root, &client, &plan, args, &target, Some(stop)).await?;
            tell(args, &report, started.elapsed());
            Ok(())
        }),
    )
}

/// The end of an apply, as it was asked for.
fn tell(args: &Apply, report: &Report, time: Duration) {
    if args.output == EventsFormat::Json { say(done(report, time)) } else { summary(report, time) }
}

/// A failure is an event too.
fn told(args: &Apply, result: Result<(), Failure>) -> Result<(), Failure> {
    if let (EventsFormat::Json, Err(failure)) = (args.output, &result) {
        say(failed(failure));
    }
    result
}

/// The same, with a cluster that is started when none runs; then shows what runs and where it answers.
pub fn up(root: &Path, args: &Apply) -> Result<(), Failure> {
    need_root("strake up")?;
    let started = Instant::now();
    let mut compiled = compile(root, &args.input, &args.target)?;
    let target = compiled.target.clone();
    let delivery = Delivery::elsewhere(&args.outgoing, &target)?;
    cluster(root, &target, args.listen)?;
    gets_there(root, &delivery, &compiled)?;
    let shipment = build_into(root, &mut compiled, args.progress, &delivery)?;
    shipment.iter().try_for_each(Shipment::send)?;
    let plan = compiled.plan;
    told(
        args,
        interrupt::gracefully(STAYS, async |stop| {
            let client = connect(root, &target).await?;
            let report = send_plan(root, &client, &plan, args, &target, Some(stop)).await?;
            tell(args, &report, started.elapsed());
            if args.output == EventsFormat::Json {
                return Ok(());
            }
            if let Some(table) = pods(&client, &plan).await? {
                say(format!("\n{table}\n"));
            }
            for line in addresses(&client, &plan).await? {
                say(line);
            }
            Ok(())
        }),
    )
}

/// Strake's own cluster, started when none runs; another one has to answer.
pub fn cluster(root: &Path, target: &Target, listen: std::net::SocketAddr) -> Result<(), Failure> {
    if target.is_foreign() {
        return reach(root, target);
    }
    need_root("strake's own cluster")?;
    if strake_cluster::holder(root).is_none() {
        let begun = Instant::now();
        detach(root, listen, &Default::default())?;
        note(format!("{} the cluster in {}", Paint::stderr().green("started"), took(begun.elapsed())));
    }
    Ok(())
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

/// Before anything is built: the target can have the images that it is to run.
///
/// # Errors
/// Images that it cannot pull from anywhere.
pub fn gets_there(root: &Path, delivery: &Delivery, compiled: &Compiled) -> Result<(), Failure> {
    if compiled.plan.build.images.is_empty() || !compiled.target.is_foreign() {
        return Ok(());
    }
    let own = interrupt::wait(async { Ok(is_own(root, &compiled.target).await) })?;
    delivery.check(&compiled.target, &compiled.plan, own)
}

/// Builds the plan's images and fills their digests in where containers use them, as they are called where the target finds them. What it has to pull is still to be sent.
pub fn build_into(root: &Path, compiled: &mut Compiled, progress: Progress, delivery: &Delivery) -> Result<Option<Shipment>, Failure> {
    let Compiled { plan, sources, target, .. } = compiled;
    if plan.build.images.is_empty() {
        return Ok(None);
    }
    need_root("building images")?;
    let store = Store::open(root)?;
    let _lease = store.lease()?;
    let images = build(root, &store, &plan.build, sources, progress, None)?;
    plan.deploy.fill_images(&delivery.running(&store, &images, target)?);
    Shipment::of(store, images, &plan.deploy, delivery, target)
}

/// Applies what was built, and writes it into the set's history. Ends in order when `stop` becomes true.
pub async fn send_plan(
    root: &Path,
    client: &Client,
    plan: &Plan,
    args: &Apply,
    target: &Target,
    stop: Option<tokio::sync::watch::Receiver<bool>>,
) -> Result<Report, Failure> {
    // What the development loop has put into containers is not what the plan says.
    replace_synced(client, &plan.deploy).await?;
    let header = review::header(&args.input, plan, client.server());
    let keep = args.keep_revisions.or(plan.deploy.keep_revisions).unwrap_or(strake_apply::history::KEEP);
    let note = Note::of(&header, &history::who(), keep);
    let options = Options {
        force_conflicts: args.force_conflicts,
        prune: !args.no_prune,
        allow_mass_delete: args.allow_mass_delete,
        replace: args.replace,
        at_once: args.at_once,
        adopt: args.consent.adopt,
        confirmed: args.consent.confirm_delete.clone(),
        wait: (!args.no_wait).then(|| Duration::from_secs(args.timeout)),
        lock: !args.no_lock,
        lock_wait: Duration::from_secs(args.lock_wait),
        logs: !args.no_logs && args.progress != Progress::Quiet,
        policy: policy(args),
        stop,
        note: Some(note),
        ..Options::default()
    };
    let view = View::new(args.progress, args.output == EventsFormat::Json);
    let sent = send_to(client, &plan.deploy, options, &view).await.map_err(explain);
    if !target.is_foreign() {
        let name = SetName { namespace: plan.deploy.namespace.clone(), set: plan.deploy.set.clone() };
        history::protect(root, client, &name).await?;
    }
    sent
}

/// Applies a plan, told as it happens.
pub async fn send(client: &Client, plan: &DeployPlan, options: Options, progress: Progress) -> Result<Report, ApplyError> {
    send_to(client, plan, options, &View::new(progress, false)).await
}

async fn send_to(client: &Client, plan: &DeployPlan, options: Options, view: &View) -> Result<Report, ApplyError> {
    let show = |event: Event| view.show(&event);
    Applier::new(client, plan, options, &show).apply().await
}

/// Says what an apply did.
pub fn summary(report: &Report, time: Duration) {
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

/// Which failures are tolerated.
fn policy(args: &Apply) -> Policy {
    let mode = if args.until_deadline { Mode::UntilDeadline } else { Mode::FailFast };
    let inactive = args.no_activity_timeout.map(Duration::from_secs);
    Policy { mode, failures_per_replica: args.failures_per_replica, inactive, ..Policy::default() }
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
    let mut compiled = compile(root, &args.input, &args.target)?;
    let target = compiled.target.clone();
    let delivery = Delivery::elsewhere(&args.outgoing, &target)?;
    reach(root, &target)?;
    gets_there(root, &delivery, &compiled)?;
    build_into(root, &mut compiled, Progress::Quiet, &delivery)?;
    let plan = compiled.plan;
    interrupt::wait(async {
        let client = connect(root, &target).await?;
        let options = review::options(root, &review::agreed(&args.allowed));
        let report = Applier::new(&client, &plan.deploy, options, &|_| {}).diff().await.map_err(explain)?;
        if args.output == Format::Text {
            print_diff(&report);
        } else {
            say(data(&report, args.output));
        }
        match (report.refused.is_empty(), report.unchanged()) {
            (false, _) => Err(Failure::silent(1)),
            (true, false) => Err(Failure::silent(2)),
            (true, true) => Ok(()),
        }
    })
}

fn print_diff(report: &Report) {
    let paint = Paint::stdout();
    if report.unchanged() && report.refused.is_empty() {
        say("nothing to change");
    }
    for refused in &report.refused {
        note(format!("{} {}", Paint::stderr().red("error:"), refused.message));
    }
    for applied in report.applied.iter().filter(|applied| applied.outcome != Outcome::Unchanged) {
        let sign = match (applied.outcome, applied.fixed.is_empty()) {
            (Outcome::Created, _) => paint.green("+ create"),
            (_, true) => paint.yellow("~ change"),
            (_, false) => paint.red("± replace"),
        };
        say(format!("{sign} {}  {}", applied.id, paint.dim(&applied.origin)));
        if applied.outcome == Outcome::Created {
            continue;
        }
        for change in &applied.changes {
            let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "(none)".to_owned(), ToString::to_string);
            let owner = change.owner.as_ref().map(|owner| paint.dim(&format!("  (of {owner})"))).unwrap_or_default();
            say(format!("    {}: {} -> {}{owner}", change.path, paint.red(&show(&change.before)), paint.green(&show(&change.after))));
        }
        for left in &applied.left {
            say(format!("    {} is left as it is: {}", left.path, left.reason));
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
    let Input { set, namespace, env, .. } = args.input.clone();
    let of = SetArgs { set, namespace, env, target: args.target.clone() };
    interrupt::gracefully("what was deleted is gone; run it again to delete the rest", async |stop| {
        let Named { name, client, own, .. } = history::named(root, &args.input.dir, &of).await?;
        let plan = DeployPlan { set: name.set.clone(), namespace: name.namespace.clone(), ..DeployPlan::default() };
        let view = View::new(Progress::Auto, false);
        let show = |event: Event| view.show(&event);
        let options = Options { lock: !args.no_lock, stop: Some(stop), ..Options::default() };
        let removed = Applier::new(&client, &plan, options, &show).down(Duration::from_secs(args.timeout), args.all).await.map_err(|error| match error {
            ApplyError::Interrupted => Failure::interrupted("what was deleted is gone; run it again to delete the rest"),
            error => explain(error),
        })?;
        if own {
            history::protect(root, &client, &name).await?;
        }
        for (id, reason) in removed.kept.iter().chain(&removed.released) {
            note(format!("{} {id} stays: it {reason}", Paint::stderr().yellow("kept")));
        }
        if !removed.known && removed.deleted.is_empty() {
            say(format!("nothing of set {} is there", name.set));
            return Ok(());
        }
        let stays = removed.kept.len();
        let left = if stays == 0 {
            String::new()
        } else {
            format!(", {} {} (--all deletes it, data too)", counted(stays, "object"), if stays == 1 { "stays" } else { "stay" })
        };
        say(format!("{} deleted{left}", counted(removed.deleted.len(), "object")));
        Ok(())
    })
}
