//! strake up --watch: the development loop. A save becomes a round (compile, build, apply), or goes straight into the containers where that is allowed.
//!
//! A round reads everything anew: the builder's cache decides what is done. A save that comes while images are built gives the build up, one that comes
//! while pods are waited for ends the wait; the next round has all of it. Nothing is ever built twice at once: there is one loop.

mod inbox;
mod logs;
pub mod sync;
mod tell;
mod watcher;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use strake_build::CancelFlag;
use strake_client::{Change, Client, ClientError, ListParams, Resource};
use strake_compile::config;
use strake_dockerfile::Ignore;
use strake_plan::{ContextKind, DeployPlan, Plan};
use strake_source::{Severity, Sources, Style, render};
use strake_store::Store;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::args::{Apply, Down, EventsFormat, Progress, Target, Up};
use crate::commands::apply;
use crate::commands::build::build_until;
use crate::commands::delivery::{Delivery, Shipment};
use crate::commands::forward::{self, Entry, Forwards};
use crate::commands::plan::outcome;
use crate::commands::serve::need_root;
use crate::connect::{connect, is_own};
use crate::failure::Failure;
use crate::interrupt::{self, INTERRUPTED};
use crate::output::{Paint, counted, note, table, took};
use inbox::{Inbox, Saved, Scope};
use logs::Logs;
use tell::{Tell, Tone, ms};
use watcher::Watcher;

/// Threads of forwarding and logs.
const THREADS: usize = 2;
/// How long a port is given to answer once its pods are ready.
const ANSWER: Duration = Duration::from_secs(30);
/// What fails when a cluster does not answer.
const APPLY: &str = "apply";
/// How soon a cluster that did not answer is looked at again: each time after twice as long, until it is the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Names of files that are told one by one.
const NAMED: usize = 3;

/// Runs the loop until it is interrupted.
pub fn run(root: &Path, args: &Up) -> Result<(), Failure> {
    let input = &args.apply.input;
    if let Some(word) = std::iter::once(&input.dir).chain(&input.more).find(|word| *word == Path::new("-") || crate::inputs::is_repository(word)) {
        let text = format!("--watch sees files of this machine as they are saved, and `{}` is none: name a directory", word.display());
        return Err(Failure::text(text).with_code(2));
    }
    let inbox = Inbox::new();
    let told = interrupt::when({
        let inbox = Arc::clone(&inbox);
        move || inbox.stop()
    });
    let background = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let project = project_of(&args.apply.input.dir)?;
    inbox.scope(Scope { project: project.clone(), ..Scope::default() });
    let progress = if args.apply.output == EventsFormat::Json { Progress::Json } else { args.apply.progress };
    let mut looping = Loop {
        root,
        args,
        progress,
        tell: Tell::new(progress),
        watcher: Watcher::new(&inbox)?,
        inbox: &inbox,
        background: &background,
        project,
        covered: Vec::new(),
        warned: BTreeSet::new(),
        session: None,
        deployed: None,
        pending: BTreeSet::new(),
        shown: String::new(),
        target: args.apply.target.clone(),
        away: None,
    };
    looping.first();
    while let Some(saved) = inbox.wait(looping.away) {
        if saved.is_empty() { looping.again() } else { looping.saved(saved) }
    }
    let ended = looping.end();
    drop(told);
    background.shutdown_background();
    ended
}

/// The directory whose files are the project's.
fn project_of(dir: &Path) -> Result<PathBuf, Failure> {
    let path = std::fs::canonicalize(dir).map_err(|source| Failure::read(dir, source))?;
    Ok(if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("/")).to_owned() })
}

/// What goes on beside the rounds, once something runs.
struct Session {
    client: Client,
    forwards: Forwards,
    logs: Option<Logs>,
    /// Watches containers that have got files: one that starts again has lost them.
    guard: Option<JoinHandle<()>>,
}

impl Session {
    fn unguard(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.abort();
        }
    }
}

/// What has been applied.
struct Deployed {
    plan: Plan,
    target: Target,
    /// Containers have files that no image has.
    synced: bool,
    /// Whether all of it came to be healthy.
    healthy: bool,
}

struct Loop<'a> {
    root: &'a Path,
    args: &'a Up,
    progress: Progress,
    tell: Tell,
    watcher: Watcher,
    inbox: &'a Arc<Inbox>,
    background: &'a Runtime,
    project: PathBuf,
    covered: Vec<PathBuf>,
    warned: BTreeSet<String>,
    session: Option<Session>,
    deployed: Option<Deployed>,
    /// Saved, and in no image that runs.
    pending: BTreeSet<PathBuf>,
    /// The findings that were shown last.
    shown: String,
    /// The cluster of the last round.
    target: Target,
    /// The cluster does not answer: when it is looked at again.
    away: Option<Duration>,
}

/// How a round ended when it did not end well.
enum Ended {
    /// It was given up for something newer.
    Overtaken,
    /// It did not work: in which stage, and why.
    Failed(&'static str, Failure),
}

impl Loop<'_> {
    fn first(&mut self) {
        self.cover();
        let begun = Instant::now();
        self.finish(begun, true);
    }

    fn saved(&mut self, saved: Saved) {
        let begun = saved.since.unwrap_or_else(Instant::now);
        let names: Vec<String> = saved.files.iter().map(|path| self.short(path)).collect();
        let words = match (names.len(), saved.lost) {
            (_, true) => "everything is looked at".to_owned(),
            (count, false) if count > NAMED => format!("{}, and {} more", names[..NAMED].join(", "), count - NAMED),
            _ => names.join(", "),
        };
        self.tell.event(Tone::Doing, "saved", &words, json!({"files": names, "all": saved.lost}));
        self.cover();
        if !saved.lost && self.sync(&saved.files, begun) {
            return;
        }
        self.pending.extend(saved.files);
        self.finish(begun, false);
    }

    /// A round, told.
    fn finish(&mut self, begun: Instant, is_first: bool) {
        match self.round(begun, is_first) {
            Ok(()) => {
                self.pending.clear();
                self.away = None;
            }
            // What overtook it is in the inbox already.
            Err(Ended::Overtaken) => {}
            Err(Ended::Failed(stage, failure)) => {
                self.tell.failed(stage, &failure.to_string());
                // What failed for want of an answer is done again when there is one.
                self.away = (stage == APPLY && (failure.is_away() || !self.is_there())).then_some(FIRST_PAUSE);
                let stays = if self.deployed.is_some() { "what ran before goes on; " } else { "" };
                let next = if self.away.is_some() { "waiting until the cluster answers, or for the next save" } else { "waiting for the next save" };
                self.tell.line(&format!("{stays}{next}"));
            }
        }
        if !self.inbox.is_disturbed() {
            self.tell.event(Tone::Doing, "watching", &self.short(&self.project), json!({"ms": ms(begun.elapsed())}));
        }
    }

    /// The time is over after which a cluster that did not answer is looked at again: a round when it does, a longer time when not.
    fn again(&mut self) {
        if !self.is_there() {
            self.away = self.away.map(|pause| (pause * 2).min(LAST_PAUSE));
            return;
        }
        self.tell.event(Tone::Doing, "again", "the cluster answers", json!({}));
        self.finish(Instant::now(), false);
    }

    /// Whether the cluster answers; a save is not kept waiting for that.
    fn is_there(&self) -> bool {
        self.background.block_on(async {
            let asked = async {
                let client = connect(self.root, &self.target).await?;
                match client.get(&Resource::NAMESPACES, None, "default").await {
                    // A refusal is an answer.
                    Ok(_) | Err(ClientError::Api(_)) => Ok(()),
                    Err(error) => Err(Failure::chain(&error)),
                }
            };
            tokio::select! {
                asked = tokio::time::timeout(ANSWER, asked) => asked.is_ok_and(|asked| asked.is_ok()),
                _ = self.inbox.disturbed() => false,
            }
        })
    }

    fn short(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.project).unwrap_or(path);
        if below.as_os_str().is_empty() { self.args.apply.input.dir.display().to_string() } else { below.display().to_string() }
    }

    /// Watches what there is to watch now.
    fn cover(&mut self) {
        let roots: Vec<PathBuf> = std::iter::once(self.project.clone()).chain(self.covered.iter().cloned()).collect();
        for problem in self.watcher.cover(&roots) {
            if self.warned.insert(problem.clone()) {
                self.tell.event(Tone::Bad, "warning", &problem, json!({"message": problem}));
            }
        }
    }

    /// Remembers which files a plan is made from.
    fn look(&mut self, sources: &Sources, plan: Option<&Plan>) {
        let read = |path: &Path| std::fs::canonicalize(path).ok();
        let mut scope = Scope { project: self.project.clone(), ..Scope::default() };
        scope.sources = sources.iter().filter_map(|(_, file)| read(Path::new(&file.name))).collect();
        scope.sources.extend(self.args.apply.input.values.iter().filter_map(|path| read(path)));
        match plan {
            Some(plan) => {
                let context = |context: &strake_plan::Context| {
                    let ContextKind::Directory { path } = &context.kind;
                    Some((read(Path::new(path))?, Ignore::from_patterns(&context.ignore).unwrap_or_default()))
                };
                scope.contexts = plan.build.contexts.values().filter_map(context).collect();
            }
            // What does not compile is not forgotten: the mistake may be anywhere.
            None => self.inbox.with_scope(|before| {
                scope.contexts.clone_from(&before.contexts);
                scope.sources.extend(before.sources.iter().cloned());
            }),
        }
        let parents = scope.sources.iter().filter_map(|path| path.parent().map(Path::to_owned));
        let outside = |path: &PathBuf| !path.starts_with(&self.project);
        self.covered = scope.contexts.iter().map(|(root, _)| root.clone()).filter(outside).chain(parents.filter(outside)).collect();
        self.inbox.scope(scope);
        self.cover();
    }

    /// Compiles, builds, applies; then ports, logs and a word that it answers.
    fn round(&mut self, begun: Instant, is_first: bool) -> Result<(), Ended> {
        let (mut plan, sources, target) = self.compile()?;
        self.target = target.clone();
        let shipment = self.build(&mut plan, &sources, &target, is_first)?;
        if let Some(before) = &self.deployed
            && before.healthy
            && !before.synced
            && before.plan.deploy == plan.deploy
            && before.target.context == target.context
        {
            self.tell.event(Tone::Good, "unchanged", &format!("nothing that runs has changed ({})", took(begun.elapsed())), json!({"ms": ms(begun.elapsed())}));
            self.deployed = Some(Deployed { plan, target, synced: false, healthy: true });
            return Ok(());
        }
        shipment.iter().try_for_each(Shipment::send).map_err(|failure| self.ended("push", failure))?;
        let result = self.apply(&plan, &target, is_first);
        let healthy = result.is_ok();
        let known = self.session.is_some();
        if known {
            self.deployed = Some(Deployed { plan: plan.clone(), target, synced: false, healthy });
            self.show(&plan.deploy);
        }
        result?;
        self.tell.event(Tone::Good, "rolled", &took(begun.elapsed()), json!({"ms": ms(begun.elapsed())}));
        self.answers(begun);
        Ok(())
    }

    fn compile(&mut self) -> Result<(Plan, Sources, Target), Ended> {
        let failed = |failure: Failure| Ended::Failed("compile", failure);
        let input = &self.args.apply.input;
        let (found, target) = outcome(self.root, input, &self.args.apply.target).map_err(|failure| self.ended("compile", failure))?;
        let (plan, mut diagnostics, sources) = (found.plan, found.diagnostics, found.sources);
        diagnostics.retain(|finding| finding.severity != Severity::Note);
        let style = if Paint::stderr().is_on() { Style::Coloured } else { Style::Plain };
        let text = render(&sources, &diagnostics, style);
        self.look(&sources, plan.as_ref());
        match plan {
            None => {
                self.shown.clear();
                Err(failed(Failure::text(text.trim_end())))
            }
            Some(plan) => {
                // The same warnings after every save would be noise.
                if text != self.shown && !text.is_empty() && !self.tell.is_json() {
                    note(text.trim_end());
                }
                self.shown = text;
                Ok((plan, sources, target))
            }
        }
    }

    /// A failure of a stage; one that is only the wish to stop or a newer save is none.
    fn ended(&self, stage: &'static str, failure: Failure) -> Ended {
        if failure.code() == INTERRUPTED { Ended::Overtaken } else { Ended::Failed(stage, failure) }
    }

    /// Builds; what another cluster has to pull is still to be sent.
    fn build(&self, plan: &mut Plan, sources: &Sources, target: &Target, is_first: bool) -> Result<Option<Shipment>, Ended> {
        if plan.build.images.is_empty() {
            return Ok(None);
        }
        let own = self.background.block_on(is_own(self.root, target));
        let delivery = Delivery::elsewhere(&self.args.apply.outgoing, target).and_then(|delivery| delivery.check(target, plan, own).map(|()| delivery));
        let delivery = delivery.map_err(|failure| self.ended("build", failure))?;
        let begun = Instant::now();
        let flag = CancelFlag::new();
        self.inbox.cancels(&flag);
        self.tell.event(Tone::Doing, "building", &counted(plan.build.images.len(), "image"), json!({"images": plan.build.images.len()}));
        let progress = if is_first { self.progress } else { Progress::Quiet };
        let built = |deploy: &mut DeployPlan| {
            need_root("building images")?;
            let store = Store::open(self.root)?;
            let _lease = store.lease()?;
            let images = build_until(self.root, &store, &plan.build, sources, progress, flag.clone())?;
            let running = delivery.running(&store, &images, target)?;
            deploy.fill_images(&running);
            Ok((running, Shipment::of(store, images, deploy, &delivery, target)?))
        };
        let (images, shipment) = built(&mut plan.deploy).map_err(|failure: Failure| self.ended("build", failure))?;
        self.tell.event(Tone::Good, "built", &took(begun.elapsed()), json!({"ms": ms(begun.elapsed()), "images": images}));
        Ok(shipment)
    }

    fn apply(&mut self, plan: &Plan, target: &Target, is_first: bool) -> Result<(), Ended> {
        let failed = |failure| Ended::Failed(APPLY, failure);
        if is_first || self.session.is_none() {
            apply::cluster(self.root, target, self.args.apply.listen).map_err(|failure| self.ended(APPLY, failure))?;
        }
        let client = self.background.block_on(connect(self.root, target)).map_err(failed)?;
        if self.session.as_ref().is_none_or(|session| session.client.server() != client.server()) {
            let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let logs = (!self.args.apply.no_logs).then(|| Logs::new(client.clone(), self.tell, since));
            self.session = Some(Session { client: client.clone(), forwards: Forwards::new(client.clone()), logs, guard: None });
        }
        if let Some(session) = &mut self.session {
            session.unguard();
            let _runtime = self.background.enter();
            // Before pods are made: what they say first is not to be missed.
            if let Some(logs) = &mut session.logs {
                logs.update(&logs::owners(&plan.deploy));
            }
        }
        // Logs are the loop's own, and a view that is drawn anew would draw over them.
        let progress = match self.progress {
            Progress::Auto | Progress::Tty => Progress::Plain,
            other => other,
        };
        let args = Apply { progress, output: EventsFormat::Text, no_logs: true, at_once: true, ..self.args.apply.clone() };
        let (stop, stopping) = tokio::sync::watch::channel(false);
        self.background.block_on(async {
            let sending = async {
                let report = apply::send_plan(self.root, &client, plan, &args, target, Some(stopping)).await;
                report.map_err(|failure| if self.inbox.is_disturbed() { Ended::Overtaken } else { self.ended(APPLY, failure) })?;
                Ok(())
            };
            tokio::pin!(sending);
            tokio::select! {
                result = &mut sending => return result,
                _ = self.inbox.disturbed() => {}
            }
            // It ends in order: what was begun is written down.
            stop.send_replace(true);
            tokio::select! {
                _ = &mut sending => {}
                () = tokio::time::sleep(Duration::from_secs(2)) => {}
            }
            Err(Ended::Overtaken)
        })
    }

    /// Ports and their table, after an apply.
    fn show(&mut self, plan: &DeployPlan) {
        let Some(session) = &mut self.session else { return };
        session.forwards.turned();
        if self.args.no_forward {
            return;
        }
        let routes = forward::of_plan(plan);
        let (opened, failed) = self.background.block_on(session.forwards.update(&routes));
        for problem in failed {
            self.tell.event(Tone::Bad, "warning", &problem, json!({"message": problem}));
        }
        if opened.is_empty() {
            return;
        }
        if self.tell.is_json() {
            for Entry { route, local } in &opened {
                let facts = json!({"namespace": route.namespace, "object": route.what, "port": route.shown, "local": local.to_string()});
                self.tell.event(Tone::Good, "forwarding", "", facts);
            }
            return;
        }
        let row = |entry: &Entry| {
            let moved = entry.local.port() != entry.route.wished();
            let word = if moved { format!("(port {} is taken)", entry.route.wished()) } else { String::new() };
            vec![forward::place(entry.local), format!("{} port {}", entry.route.what, entry.route.shown), entry.route.namespace.clone(), word]
        };
        self.tell.line(&table(&["LOCAL", "FORWARDED TO", "NAMESPACE", ""], &opened.iter().map(row).collect::<Vec<_>>()));
    }

    /// Says of every forwarded port that it answers, once it does.
    fn answers(&self, begun: Instant) {
        let Some(session) = &self.session else { return };
        for entry in session.forwards.entries() {
            let reached = self.background.block_on(async {
                tokio::select! {
                    reached = forward::reach(&session.client, &entry.route, ANSWER) => Some(reached),
                    _ = self.inbox.disturbed() => None,
                }
            });
            let place = forward::place(entry.local);
            match reached {
                None => return,
                Some(Ok((pod, _))) => {
                    let facts = json!({"ms": ms(begun.elapsed()), "local": entry.local.to_string(), "object": entry.route.what, "pod": pod});
                    self.tell.event(Tone::Good, "answering", &format!("{place}  {} by {pod} after {}", entry.route.what, took(begun.elapsed())), facts);
                }
                Some(Err(why)) => {
                    let words = format!("{place}  {} does not answer: {why}", entry.route.what);
                    self.tell.event(Tone::Bad, "silent", &words, json!({"object": entry.route.what, "message": why}));
                }
            }
        }
    }

    /// Puts files straight into the containers, where that is allowed and possible.
    fn sync(&mut self, files: &BTreeSet<PathBuf>, begun: Instant) -> bool {
        let wishes = sync::Wishes { declared: self.declared(), project: self.project.clone(), all: self.args.sync };
        let (Some(session), Some(deployed)) = (&mut self.session, &mut self.deployed) else { return false };
        if !deployed.healthy || !self.pending.is_empty() || self.inbox.with_scope(|scope| files.iter().any(|file| scope.sources.contains(file))) {
            return false;
        }
        let Some(deliveries) = sync::deliveries(&deployed.plan, files, &wishes) else { return false };
        deployed.synced = true;
        session.unguard();
        match self.background.block_on(sync::put(&session.client, &deployed.plan.deploy, &deliveries)) {
            Ok(put) => {
                let pods: Vec<&str> = put.pods.iter().map(String::as_str).collect();
                let words = format!("{} into {}, not deployed, after {}", counted(put.files, "file"), pods.join(", "), took(begun.elapsed()));
                self.tell.event(Tone::Good, "synced", &words, json!({"ms": ms(begun.elapsed()), "files": put.files, "pods": pods, "deployed": false}));
                let guard = guard(session.client.clone(), logs::owners(&deployed.plan.deploy), Arc::clone(self.inbox));
                session.guard = Some(self.background.spawn(guard));
                true
            }
            Err(why) => {
                self.tell.event(Tone::Doing, "rebuild", &format!("not synced: {why}"), json!({"message": why}));
                false
            }
        }
    }

    /// The rules of the project's file.
    fn declared(&self) -> Vec<config::SyncRule> {
        let text = std::fs::read_to_string(self.project.join(config::FILE_NAME)).unwrap_or_default();
        config::read(strake_source::FileId(0), &text).0.sync
    }

    /// The end: at once, and what runs stays unless the user wants otherwise.
    fn end(&mut self) -> Result<(), Failure> {
        let synced = self.deployed.as_ref().is_some_and(|deployed| deployed.synced);
        let deployed = self.deployed.take();
        drop(self.session.take());
        self.tell.event(Tone::Doing, "stopped", "", json!({"synced": synced}));
        let Some(deployed) = deployed else { return Err(Failure::interrupted("nothing was applied")) };
        if !self.args.down_on_exit {
            let dir = self.args.apply.input.dir.display();
            let hint = if synced { format!("; files were synced and are in no image: `strake up {dir}` deploys them") } else { String::new() };
            return Err(Failure::interrupted(format!("the loop; the app stays up (`strake down {dir}` deletes it){hint}")));
        }
        // This interrupt was heeded; the next one ends the deletion.
        interrupt::heeded();
        let (input, timeout) = (self.args.apply.input.clone(), self.args.apply.timeout);
        let input = crate::args::Input { locked: false, offline: false, ..input };
        apply::down(self.root, &Down { input, target: deployed.target, all: false, timeout, no_lock: self.args.apply.no_lock })
    }
}

/// Brings a full round when a container that has got files starts again: it begins with those of its image.
async fn guard(client: Client, owners: logs::Owners, inbox: Arc<Inbox>) {
    let mut watches = tokio::task::JoinSet::new();
    for (space, labels) in owners {
        let (client, inbox) = (client.clone(), Arc::clone(&inbox));
        watches.spawn(async move {
            let mut pods = client.reflect(&Resource::PODS, Some(&space), &ListParams::labels(format!("{labels},{}=true", sync::SYNCED)));
            let mut known = std::collections::BTreeMap::new();
            while let Some(change) = pods.next().await {
                let Change::Applied(pod) = change else { continue };
                let restarts: i64 = pod["status"]["containerStatuses"].as_array().into_iter().flatten().filter_map(|one| one["restartCount"].as_i64()).sum();
                let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                if *known.entry(uid).or_insert(restarts) != restarts {
                    inbox.overflowed();
                    return;
                }
            }
        });
    }
    while watches.join_next().await.is_some() {}
}
