//! strake history, strake rollback: what was applied, by whom and how it ended; and the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use strake_apply::history::{End, Entry, ImageUse, KEEP, back, is_of, number_of, pin, references, same};
use strake_apply::review::{Header, Review, review};
use strake_apply::status::{SetName, Told, sets, told};
use strake_apply::{Applier, ApplyError, Note, Options, Revisions};
use strake_client::{Client, ClientError, ListParams, Resource};
use strake_oci::{Digest, Platform};
use strake_plan::DeployPlan;
use strake_registry::{PullOptions, pull_with};
use strake_store::{Pin, Store};

use crate::args::{Format, History, Input, Progress, Rollback, SetArgs, Target};
use crate::commands::apply::{explain, send, summary};
use crate::commands::images::{familiar, full};
use crate::commands::plan::{hide_secrets, set_name};
use crate::connect::connect;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Paint, age, counted, data, say, table};
use crate::project;

/// Who applies: the actor of a CI, else the user at this machine.
pub fn who() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(actor) = ["GITHUB_ACTOR", "GITLAB_USER_LOGIN"].iter().find_map(|name| variable(name)) {
        return format!("{actor} (CI)");
    }
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| variable(name)).unwrap_or_else(|| "root".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}

/// A set as the command line names it, with the cluster that has it.
pub struct Named {
    /// Which set.
    pub name: SetName,
    /// Its cluster.
    pub client: Client,
    /// The cluster is strake's own.
    pub own: bool,
    /// How many revisions stay, when the project's file says it.
    pub keep: Option<usize>,
}

/// Finds the set that is meant: by its directory, or by its name, when that is gone.
///
/// # Errors
/// A directory that does not exist, a cluster that does not answer, a name that sets of several namespaces have.
pub async fn named(root: &Path, dir: &Path, of: &SetArgs) -> Result<Named, Failure> {
    // A typing mistake must not look like a set that is gone.
    if of.set.is_none() && !dir.exists() {
        let dir = dir.display();
        return Err(Failure::text(format!("cannot read {dir}: there is no such file or directory. A set whose directory is gone is named with --set")));
    }
    let (project, settings) = project::identity(dir, of.env.as_deref())?;
    let mut target = of.target.clone();
    if !target.is_foreign() {
        target.context = settings.context;
    }
    let input = Input { set: of.set.clone(), env: of.env.clone(), ..Input::of(dir, &[]) };
    let set = set_name(&input, project.as_deref());
    let client = connect(root, &target).await?;
    let namespace = match of.namespace.clone().or(settings.namespace) {
        Some(namespace) => namespace,
        None if of.set.is_some() => space_of(&client, &set).await?,
        None => "default".to_owned(),
    };
    Ok(Named { name: SetName { namespace, set }, client, own: !target.is_foreign(), keep: settings.keep_revisions })
}

/// The namespace of the only set of this name; `default` when there is none, or when nobody may look everywhere.
async fn space_of(client: &Client, set: &str) -> Result<String, Failure> {
    let sets = match sets(client).await {
        Ok(sets) => sets,
        Err(ApplyError::Read { source: ClientError::Api(_), .. }) => return Ok("default".to_owned()),
        Err(error) => return Err(Failure::chain(&error)),
    };
    let spaces: Vec<String> = sets.into_iter().filter(|name| name.set == set).map(|name| name.namespace).collect();
    match spaces.as_slice() {
        [one] => Ok(one.clone()),
        [] => Ok("default".to_owned()),
        many if many.iter().any(|space| space == "default") => Ok("default".to_owned()),
        many => Err(Failure::text(format!("sets of several namespaces are called {set}: say which with --namespace: {}", many.join(", "))).with_code(2)),
    }
}

/// Lists the revisions of a set, or shows one.
pub fn history(root: &Path, args: &History) -> Result<(), Failure> {
    interrupt::wait(async {
        let Named { name, client, .. } = named(root, &args.dir, &args.of).await?;
        let revisions = told(&client, &name).await?;
        if let Some(number) = args.revision {
            let chosen = revisions.iter().find(|told| told.entry.number == number).ok_or_else(|| unknown(&name, number, &revisions))?;
            return show(&client, &name, chosen, args.output).await;
        }
        if args.output != Format::Text {
            say(data(&revisions, args.output));
        } else if revisions.is_empty() {
            say(format!("set {} in {} has no history", name.set, name.namespace));
        } else {
            say(table(&["REVISION", "APPLIED", "STATUS", "GIT", "BY", "OBJECTS", "WHAT"], &revisions.iter().map(row).collect::<Vec<_>>()));
        }
        Ok(())
    })
}

fn unknown(name: &SetName, number: u64, revisions: &[Told]) -> Failure {
    let numbers: Vec<String> = revisions.iter().map(|told| told.entry.number.to_string()).collect();
    let there = if numbers.is_empty() { "it has no history".to_owned() } else { format!("there are: {}", numbers.join(", ")) };
    Failure::text(format!("set {} in {} has no revision {number}; {there}", name.set, name.namespace))
}

fn row(told: &Told) -> Vec<String> {
    let entry = &told.entry;
    vec![entry.number.to_string(), ago(entry.started), ended(told), git(entry), entry.who.clone(), entry.objects.to_string(), what(entry)]
}

/// How long ago.
pub fn ago(time: Timestamp) -> String {
    format!("{} ago", age(Timestamp::now().as_second() - time.as_second()))
}

/// A revision's status, with what it went back to.
pub fn ended(told: &Told) -> String {
    let back = told.entry.back_to.map_or_else(String::new, |number| format!(" (back to {number})"));
    format!("{}{back}", told.status.word())
}

fn git(entry: &Entry) -> String {
    entry
        .git
        .as_ref()
        .map_or_else(|| "-".to_owned(), |git| format!("{}{}", git.revision.chars().take(10).collect::<String>(), if git.dirty { "+changes" } else { "" }))
}

fn what(entry: &Entry) -> String {
    if let Some(reason) = &entry.reason {
        return reason.chars().take(100).collect();
    }
    let words = ["created", "changed", "deleted"];
    let parts: Vec<String> = words.iter().filter_map(|word| entry.summary.get(*word).map(|count| format!("{count} {word}"))).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

/// One revision, with its objects; values of Secrets are not shown.
async fn show(client: &Client, name: &SetName, told: &Told, output: Format) -> Result<(), Failure> {
    let plan = Revisions::new(client, &name.set, &name.namespace).plan(&told.entry).await?;
    if output != Format::Text {
        let mut whole = serde_json::json!({"deploy": &plan});
        hide_secrets(&mut whole);
        let mut about = serde_json::to_value(told)?;
        about["plan"] = whole["deploy"].take();
        say(data(&about, output));
        return Ok(());
    }
    let entry = &told.entry;
    say(format!("set {} in {}, revision {}: {}", name.set, name.namespace, entry.number, ended(told)));
    if let Some(reason) = &entry.reason {
        say(format!("  {reason}"));
    }
    let took = entry.ended.map_or_else(String::new, |end| format!(", took {} s", end.as_second() - entry.started.as_second()));
    say(format!("applied {} by {}{took}", entry.started, entry.who));
    if entry.git.is_some() {
        say(format!("git     {}", git(entry)));
    }
    if let Some(environment) = &entry.environment {
        say(format!("env     {environment}"));
    }
    say(format!("input   {}", entry.input));
    say("\nobjects");
    plan.changes.iter().for_each(|change| say(format!("  {}  {}", change.id, change.origin)));
    if !entry.images.is_empty() {
        say("\nimages");
        let shown = |image: &ImageUse| match &image.digest {
            Some(digest) if !image.reference.contains('@') => format!("{} ({digest})", image.reference),
            _ => image.reference.clone(),
        };
        entry.images.iter().for_each(|image| say(format!("  {}", shown(image))));
    }
    Ok(())
}

/// The revision and the directory of `strake rollback [REVISION] [DIR]`.
fn words(words: &[String]) -> Result<(Option<u64>, PathBuf), Failure> {
    let number = |text: &String| text.parse::<u64>().ok();
    match words {
        [] => Ok((None, ".".into())),
        [one] => Ok(number(one).map_or_else(|| (None, one.into()), |revision| (Some(revision), ".".into()))),
        [first, second] => match (number(first), number(second)) {
            (Some(revision), _) => Ok((Some(revision), second.into())),
            (None, Some(revision)) => Ok((Some(revision), first.into())),
            (None, None) => Err(Failure::text(format!("{first}: a revision is a number")).with_code(2)),
        },
        _ => Err(Failure::text("a revision and a directory are all that is taken").with_code(2)),
    }
}

/// Applies again what was deployed before.
pub fn rollback(root: &Path, args: &Rollback) -> Result<(), Failure> {
    let (number, dir) = words(&args.words)?;
    interrupt::gracefully("what was sent to the cluster stays; run it again to go on", async |stop| {
        let Named { name, client, own, keep } = named(root, &dir, &args.of).await?;
        let revisions = told(&client, &name).await?;
        let entries: Vec<Entry> = revisions.iter().map(|told| told.entry.clone()).collect();
        let to = match number {
            Some(number) => entries.iter().find(|entry| entry.number == number).ok_or_else(|| unknown(&name, number, &revisions))?,
            None => back(&entries).ok_or_else(|| nothing_before(&name, &revisions))?,
        };
        if to.end != End::Deployed {
            let status = revisions.iter().find(|told| told.entry.number == to.number).map_or("failed", |told| told.status.word());
            return Err(Failure::text(format!("revision {} was {status}: only what was deployed can be gone back to", to.number)));
        }
        let mut plan = Revisions::new(&client, &name.set, &name.namespace).plan(to).await?;
        pin(&mut plan, &to.images, entries.last().map_or(&[], |entry| entry.images.as_slice()));
        let skipped = plan.changes.iter().filter(|change| change.hook.is_some()).count();
        if own {
            images_are_there(root, &plan, to, !args.dry_run).await?;
        }
        let review = tried(&client, &plan, to, args).await?;
        tell(&review, to, skipped, args.output);
        if args.dry_run {
            return if review.unchanged() { Ok(()) } else { Err(Failure::silent(2)) };
        }
        if review.unchanged() && is_newest(&client, &name, &entries, &plan).await {
            return Ok(());
        }
        let note = Note {
            git: to.git.clone(),
            input: to.input.clone(),
            who: who(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            environment: to.environment.clone(),
            back_to: Some(to.number),
            // A rollback is a revision itself.
            keep: args.keep_revisions.or(keep).unwrap_or(KEEP).max(1),
        };
        let started = Instant::now();
        let options = Options { wait: (!args.no_wait).then(|| Duration::from_secs(args.timeout)), note: Some(note), stop: Some(stop), ..options(args) };
        let progress = if args.output == Format::Text { Progress::Auto } else { Progress::Quiet };
        let sent = send(&client, &plan, options, progress).await;
        if own {
            protect(root, &client, &name).await?;
        }
        let report = sent.map_err(|error| match error {
            ApplyError::Interrupted => Failure::interrupted(goes_back(&name, to.number, &args.of.target)),
            error => explain(error),
        })?;
        if args.output == Format::Text {
            summary(&report, started.elapsed());
        }
        Ok(())
    })
}

/// What is to be done after an interrupted rollback.
fn goes_back(name: &SetName, number: u64, target: &Target) -> String {
    let context = target.context.as_ref().map_or_else(String::new, |context| format!(" --context {context}"));
    let again = format!("`strake rollback {number} --set {} -n {}{context}`", name.set, name.namespace);
    format!("what was sent to the cluster stays; {again} goes on with it, and `strake apply` goes forward to what the directory says")
}

fn nothing_before(name: &SetName, revisions: &[Told]) -> Failure {
    if revisions.is_empty() {
        return Failure::text(format!("set {} in {} has no history: there is nothing to go back to", name.set, name.namespace));
    }
    Failure::text(format!("set {} in {} was not deployed before: there is nothing to go back to (`strake history` lists what was)", name.set, name.namespace))
}

/// Whether the newest revision was deployed and sent the same: then a rollback has nothing to write down either.
async fn is_newest(client: &Client, name: &SetName, entries: &[Entry], plan: &DeployPlan) -> bool {
    let Some(newest) = entries.last().filter(|newest| newest.end == End::Deployed) else { return false };
    Revisions::new(client, &name.set, &name.namespace).plan(newest).await.is_ok_and(|newest| same(&newest, plan))
}

fn options(args: &Rollback) -> Options {
    Options {
        force_conflicts: args.force_conflicts,
        adopt: args.consent.adopt,
        confirmed: args.consent.confirm_delete.clone(),
        allow_mass_delete: args.allow_mass_delete,
        replace: args.replace,
        skip_hooks: true,
        lock: !args.no_lock,
        ..Options::default()
    }
}

/// Tries the way back with the server's dry run, and with the rules that would stop it half-way.
async fn tried(client: &Client, plan: &DeployPlan, to: &Entry, args: &Rollback) -> Result<Review, Failure> {
    let stays = |failure: &Failure| Failure::text(format!("revision {} cannot be gone back to, and nothing was changed: {failure}", to.number));
    let applier = Applier::new(client, plan, options(args), &|_| {});
    let report = applier.diff().await.map_err(|error| stays(&explain(error)))?;
    let header = Header {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        input: to.input.clone(),
        git: to.git.clone(),
        set: plan.set.clone(),
        namespace: plan.namespace.clone(),
        target: client.server().to_owned(),
        environment: to.environment.clone(),
        ..Header::default()
    };
    let reviewed = review(plan, &report, header);
    if !args.dry_run {
        let fixed: Vec<String> = report.applied.iter().filter(|applied| !applied.fixed.is_empty()).map(|applied| applied.id.to_string()).collect();
        if !fixed.is_empty() && !args.replace {
            return Err(stays(&Failure::text(format!("{} would have to be deleted and made anew: say --replace", fixed.join(", ")))));
        }
        applier.may_prune(report.pruned.len()).map_err(|error| stays(&explain(error)))?;
    }
    Ok(reviewed)
}

fn tell(review: &Review, to: &Entry, skipped: usize, output: Format) {
    if output != Format::Text {
        say(data(review, output));
        return;
    }
    let git = to.git.as_ref().map_or_else(String::new, |_| format!(", git {}", git(to)));
    say(format!("back to revision {} of {}, applied by {}{git}", to.number, ago(to.started), to.who));
    say(crate::commands::review::text(review, Paint::stdout()));
    if skipped > 0 {
        say(format!("{} not run on the way back", counted(skipped, "hook")));
    }
}

/// Sees to it that every image is in the store, before anything is changed: what a registry has is pulled, unless it is only to be
/// shown, and what is gone is told.
async fn images_are_there(root: &Path, plan: &DeployPlan, to: &Entry, pull: bool) -> Result<(), Failure> {
    let store = Store::open(root)?;
    let mut missing = Vec::new();
    let run = plan.changes.iter().filter(|change| change.hook.is_none());
    let references: BTreeSet<String> = run.flat_map(|change| references(&change.object)).map(|(_, reference)| reference).collect();
    for reference in references {
        let Ok(full) = full(&reference) else { continue };
        let digest = full.split_once('@').map(|(_, digest)| digest.to_owned());
        let here = store.image(&full).is_ok() || digest.is_some_and(|digest| store.image(&digest).is_ok());
        let built = to.images.iter().any(|image| image.reference == reference && image.built);
        if here {
            continue;
        }
        // What was built here under a plain name is nowhere else.
        let local = built && !familiar(&reference).contains('/');
        if local || (pull && pull_with(&full, &Platform::host(), &store, &|_| {}, &PullOptions::default()).await.is_err()) {
            missing.push(format!("\n  {reference}{}", if built { ": it was built here, and has been removed since" } else { ": no registry has it either" }));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let git = to.git.as_ref().map_or_else(String::new, |_| format!(" Build it again from git {}.", git(to)));
    let text = format!("revision {} cannot be gone back to, and nothing was changed: its images are not in the store any more{}", to.number, missing.concat());
    Err(Failure::text(format!("{text}{git}")))
}

/// Keeps the images of the set's revisions from being pruned: for strake's own cluster, which runs what the store has.
pub async fn protect(root: &Path, client: &Client, name: &SetName) -> Result<(), Failure> {
    let entries = Revisions::new(client, &name.set, &name.namespace).list().await?;
    let mut pins: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
    for entry in &entries {
        let digests: Vec<Digest> = entry.images.iter().filter_map(|image| image.digest.as_deref()?.parse().ok()).collect();
        if !digests.is_empty() {
            pins.insert(format!("{} of set {}", wanted_by(entry.number), name.set), digests);
        }
    }
    // Another user's store cannot be written, and a cluster without one has nothing to keep.
    if !pins.is_empty() || root.join("pins").exists() {
        Store::open(root)?.pin(&strake_apply::inventory::set_id(&name.set, &name.namespace), &pins)?;
    }
    Ok(())
}

fn wanted_by(number: u64) -> String {
    format!("revision {number}")
}

/// Lets go of the images of revisions that are not in the cluster any more, because somebody has deleted them by hand. While strake's own cluster does not answer
/// nobody can say, and everything is kept.
pub fn let_go(root: &Path, store: &Store) -> Result<(), Failure> {
    // In this order: what is pinned after it was read is not looked at.
    let pins = store.pins()?;
    if pins.is_empty() || strake_cluster::holder(root).is_none_or(|holder| holder.address.is_empty()) {
        return Ok(());
    }
    let secrets = interrupt::wait(async {
        let Ok(client) = connect(root, &Target::default()).await else { return Ok(None) };
        let chosen = ListParams::fields(format!("type={}", strake_apply::history::TYPE));
        Ok(client.list(&Resource::SECRETS, None, &chosen).await.ok().map(|list| list.items))
    })?;
    let Some(secrets) = secrets else { return Ok(()) };
    let there = |pin: &Pin| {
        let words = |secret: &Value| number_of(secret).map(|number| format!("{} of ", wanted_by(number)));
        secrets.iter().any(|secret| is_of(secret, &pin.owner) && words(secret).is_some_and(|words| pin.why.starts_with(&words)))
    };
    let gone: Vec<Pin> = pins.into_iter().filter(|pin| !there(pin)).collect();
    if gone.is_empty() { Ok(()) } else { Ok(store.unpin(&gone)?) }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_revision_and_a_directory_come_in_any_order() {
        let read = |list: &[&str]| words(&list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).ok();
        assert_eq!(read(&[]), Some((None, ".".into())));
        assert_eq!(read(&["3"]), Some((Some(3), ".".into())));
        assert_eq!(read(&["deploy"]), Some((None, "deploy".into())));
        assert_eq!(read(&["3", "deploy"]), Some((Some(3), "deploy".into())));
        assert_eq!(read(&["deploy", "3"]), Some((Some(3), "deploy".into())));
        assert_eq!(read(&["deploy", "other"]), None);
    }
}
