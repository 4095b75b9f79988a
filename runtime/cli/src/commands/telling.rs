//! What an apply says: while it goes on, at its end, and when it fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use strake_apply::journal::Status;
use strake_apply::{ApplyError, Event, Outcome, Report};
use strake_plan::ObjectId;

use crate::args::Progress;
use crate::failure::{Failure, chain};
use crate::interrupt::INTERRUPTED;
use crate::output::{Paint, note, say, took};

/// Applied, and something of it is not healthy.
pub const UNHEALTHY: u8 = 3;
/// Another apply of the same set goes on.
pub const LOCKED: u8 = 5;
/// What an interrupted apply leaves.
pub const STAYS: &str = "what was sent to the cluster stays; run it again to go on, or `strake down` to take it back";
/// Objects that are named which were not begun.
const SHOWN: usize = 20;

/// Where events go.
enum Way {
    /// Nowhere.
    Quiet,
    /// A JSON object a line, to the standard error or, as the command's result, to the standard output.
    Json { result: bool },
    /// A line for what has happened; `true` also for what is waited for.
    Lines(bool),
    /// Lines, and below them what is waited for.
    Live(MultiProgress),
}

/// What applying tells, a calm line an object.
pub struct View {
    way: Way,
    paint: Paint,
    since: Mutex<BTreeMap<ObjectId, (Instant, Option<ProgressBar>)>>,
}

impl View {
    /// For this terminal or none; `result`: the events are what the command prints.
    pub fn new(progress: Progress, result: bool) -> View {
        let terminal = std::io::stderr().is_terminal();
        let way = match progress {
            _ if result => Way::Json { result },
            Progress::Quiet => Way::Quiet,
            Progress::Json => Way::Json { result },
            Progress::Tty => Way::Live(MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            Progress::Auto if terminal => Way::Live(MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            Progress::Auto => Way::Lines(false),
            Progress::Plain => Way::Lines(true),
        };
        View { way, paint: Paint::stderr(), since: Mutex::new(BTreeMap::new()) }
    }

    /// Takes an event in.
    pub fn show(&self, event: &Event) {
        match &self.way {
            Way::Quiet => {}
            Way::Json { result: true } => say(json_of(event)),
            Way::Json { result: false } => note(json_of(event)),
            Way::Lines(waiting) => {
                if *waiting || !matches!(event, Event::Waiting { .. }) {
                    self.line(event).into_iter().for_each(note);
                }
                self.forget(event);
            }
            Way::Live(bars) => self.live(bars, event),
        }
    }

    fn since(&self) -> MutexGuard<'_, BTreeMap<ObjectId, (Instant, Option<ProgressBar>)>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, bars: &MultiProgress, event: &Event) {
        if let Event::Waiting { id, reason } = event {
            let mut since = self.since();
            let (_, bar) = since.entry(id.clone()).or_insert_with(|| (Instant::now(), None));
            let bar = bar.get_or_insert_with(|| {
                let bar = bars.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{spinner:.yellow} {prefix}  {elapsed:.dim}  {wide_msg:.dim}") {
                    bar.set_style(style);
                }
                bar.set_prefix(id.to_string());
                bar.enable_steady_tick(Duration::from_millis(100));
                bar
            });
            bar.set_message(reason.clone());
            return;
        }
        let line = self.line(event);
        if let Some(bar) = self.forget(event) {
            bar.finish_and_clear();
            bars.remove(&bar);
        }
        if let Some(line) = line
            && bars.println(&line).is_err()
        {
            note(line);
        }
    }

    /// Ends what was waited for, and gives the bar that showed it.
    fn forget(&self, event: &Event) -> Option<ProgressBar> {
        match event {
            Event::Applied { id, .. } => {
                self.since().entry(id.clone()).or_insert_with(|| (Instant::now(), None)).0 = Instant::now();
                None
            }
            Event::Ready { id } | Event::Skipped { id, .. } => self.since().remove(id).and_then(|(_, bar)| bar),
            _ => None,
        }
    }

    fn line(&self, event: &Event) -> Option<String> {
        let paint = self.paint;
        Some(match event {
            Event::Applied { outcome: Outcome::Unchanged, .. } => return None,
            Event::Applied { id, outcome } => format!("{}  {id}", paint.green(if *outcome == Outcome::Created { "created" } else { "changed" })),
            Event::Overruled { id, managers } => {
                format!("{} {id}: what {} had changed by hand is as the directory says again", paint.yellow("taken back"), managers.join(", "))
            }
            Event::Left { id, path, reason } => format!("{}     {id}: {path} is left as it is: {reason}", paint.dim("left")),
            Event::Waiting { id, reason } => format!("{}  {id}: {reason}", paint.yellow("waiting")),
            Event::Ready { id } => {
                let time = self.since().get(id).map(|(since, _)| format!("  {}", paint.dim(&took(since.elapsed())))).unwrap_or_default();
                format!("{}    {id}{time}", paint.green("ready"))
            }
            Event::Pruned { id } => format!("{}  {id}", paint.yellow("deleted")),
            Event::Locked { by, since } => format!("{}  another apply of this set goes on: {by} has it since {since}", paint.yellow("waiting")),
            Event::Resumed { since, status } => {
                let how = match status {
                    Status::Failed => "failed",
                    Status::Interrupted => "was interrupted",
                    Status::Running | Status::Done => "did not reach its end",
                };
                format!("{}  the apply of {since} {how}", paint.yellow("resumed"))
            }
            Event::Recreated { id } => format!("{} {id}: an apply that did not reach its end had deleted it to make it anew", paint.yellow("recreated")),
            Event::Hook { id } => format!("{}  {id}", paint.green("running")),
            Event::HookFailed { id, reason } => format!("{} {id}, a hook that runs after a failure: {reason}", paint.red("failed")),
            Event::Rollout { id, place } => format!("{}  {id}: {place}", paint.green("rollout")),
            Event::Skipped { id, because } => format!("{}  {id}: it needs {because}", paint.red("skipped")),
            Event::Log { pod, container, line } if container.is_empty() => format!("{} {line}", paint.dim(&format!("{pod} |"))),
            Event::Log { pod, container, line } => format!("{} {line}", paint.dim(&format!("{pod}/{container} |"))),
        })
    }
}

fn json_of(event: &Event) -> Value {
    match event {
        Event::Applied { id, outcome } => json!({"event": "applied", "object": id, "outcome": outcome}),
        Event::Waiting { id, reason } => json!({"event": "waiting", "object": id, "reason": reason}),
        Event::Left { id, path, reason } => json!({"event": "left", "object": id, "path": path, "reason": reason}),
        Event::Overruled { id, managers } => json!({"event": "overruled", "object": id, "managers": managers}),
        Event::Ready { id } => json!({"event": "ready", "object": id}),
        Event::Pruned { id } => json!({"event": "pruned", "object": id}),
        Event::Locked { by, since } => json!({"event": "locked", "by": by, "since": since}),
        Event::Resumed { since, status } => json!({"event": "resumed", "since": since, "status": status}),
        Event::Recreated { id } => json!({"event": "recreated", "object": id}),
        Event::Hook { id } => json!({"event": "hook", "object": id}),
        Event::HookFailed { id, reason } => json!({"event": "hook-failed", "object": id, "reason": reason}),
        Event::Rollout { id, place } => json!({"event": "rollout", "object": id, "place": place}),
        Event::Skipped { id, because } => json!({"event": "skipped", "object": id, "because": because}),
        Event::Log { pod, container, line } => json!({"event": "log", "pod": pod, "container": container, "line": line}),
    }
}

/// The last event of an apply that did what it should.
pub fn done(report: &Report, time: Duration) -> Value {
    let count = |outcome| report.applied.iter().filter(|applied| applied.outcome == outcome).count();
    json!({
        "event": "done", "created": count(Outcome::Created), "changed": count(Outcome::Configured), "unchanged": count(Outcome::Unchanged),
        "deleted": report.pruned.len(), "kept": report.kept.len(), "milliseconds": u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    })
}

/// The last event of one that did not.
pub fn failed(failure: &Failure) -> Value {
    json!({"event": "failed", "code": failure.code(), "error": failure.to_string()})
}

/// A refusal or a failed rollout with everything a person needs to act on it.
pub fn explain(error: ApplyError) -> Failure {
    match &error {
        ApplyError::Unhealthy { .. } => Failure::text(text_of(&error)).with_code(UNHEALTHY),
        ApplyError::Locked { .. } => {
            let hint = "\n  wait for it, or for longer with --lock-wait SECONDS; a lock whose holder is gone is taken over by itself";
            Failure::text(chain(&error) + hint).with_code(LOCKED)
        }
        ApplyError::Interrupted => Failure::interrupted(STAYS).with_code(INTERRUPTED),
        _ => Failure::text(text_of(&error)).because(&error),
    }
}

fn text_of(error: &ApplyError) -> String {
    match error {
        ApplyError::Unhealthy { blames } => {
            let mut text = error.to_string();
            blames.iter().for_each(|blame| text = format!("{text}\n\n{blame}"));
            text.trim_end().to_owned()
        }
        ApplyError::Incomplete { refused, blames, skipped } => {
            let mut text = error.to_string();
            refused.iter().for_each(|refusal| text = format!("{text}\n\n{}", text_of(refusal)));
            blames.iter().for_each(|blame| text = format!("{}\n\n{blame}", text.trim_end()));
            text = text.trim_end().to_owned();
            if !skipped.is_empty() {
                text.push_str("\n\nnot begun:");
            }
            for (id, because) in skipped.iter().take(SHOWN) {
                // Writing to a string does not fail.
                let _ = write!(text, "\n  {id}: it comes after {because}");
            }
            if skipped.len() > SHOWN {
                let _ = write!(text, "\n  and {} more", skipped.len() - SHOWN);
            }
            text
        }
        ApplyError::Refused { source, .. } => {
            let mut text = chain(error);
            let causes = source.status().and_then(|status| status.details.as_ref()).map(|details| details.causes.as_slice()).unwrap_or_default();
            let missing: Vec<String> =
                causes.iter().filter(|cause| !text.contains(&cause.message)).map(|cause| format!("\n  {}: {}", cause.field, cause.message)).collect();
            missing.iter().for_each(|line| text.push_str(line));
            if source.is_not_found() && text.contains("namespaces \"") {
                text.push_str("\n  nothing makes this namespace: add a Namespace manifest to the directory, or name another with --namespace");
            }
            if source.is_conflict() {
                text.push_str("\n  another manager owns those fields: leave them out, or take them over with --force-conflicts");
            }
            text
        }
        _ => chain(error),
    }
}
