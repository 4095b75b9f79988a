//! How a build looks while it runs: a live view on a terminal, a line an event elsewhere, an object a line for programs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::IsTerminal;
use strake_build::{BuiltImage, Progress as Listener, ProgressEvent};
use strake_plan::{Step, StepIndex};

use crate::args::Progress;
use crate::commands::images::familiar;
use crate::output::{Paint, note, took};

/// Lines of a running step's output shown below it.
const SHOWN_OUTPUT: usize = 1;
/// A step that is done this fast is not drawn while it runs.
const REFRESH: Duration = Duration::from_millis(100);

/// The view of a kind, for this terminal or none.
pub fn view(kind: Progress) -> Box<dyn Listener> {
    match kind {
        Progress::Quiet => Box::new(()),
        Progress::Json => Box::new(Json),
        Progress::Tty => Box::new(Live::new()),
        Progress::Auto if std::io::stderr().is_terminal() => Box::new(Live::new()),
        Progress::Auto | Progress::Plain => Box::new(Plain::default()),
    }
}

/// A view that also keeps how long each step took that was executed.
pub struct Timed {
    view: Box<dyn Listener>,
    times: Mutex<BTreeMap<StepIndex, Duration>>,
}

impl Timed {
    /// Over another view.
    pub fn new(view: Box<dyn Listener>) -> Timed {
        Timed { view, times: Mutex::default() }
    }

    /// What was kept.
    pub fn times(&self) -> BTreeMap<StepIndex, Duration> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Listener for Timed {
    fn event(&self, event: ProgressEvent<'_>) {
        if let ProgressEvent::Done { index, duration, .. } = &event {
            self.times.lock().unwrap_or_else(PoisonError::into_inner).insert(*index, *duration);
        }
        self.view.event(event);
    }
}

fn title(step: &Step) -> String {
    format!("[{}] {}", step.stage, step.origin.text)
}

/// A line an event; a step's output is told line by line.
#[derive(Default)]
struct Plain {
    /// Output without its line end yet, by step.
    partial: Mutex<BTreeMap<usize, Vec<u8>>>,
}

impl Plain {
    fn output(&self, index: StepIndex, bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = partial.entry(index.0).or_default();
        buffer.extend_from_slice(bytes);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            note(format!("#{} {}", index.0, String::from_utf8_lossy(&line[..end]).trim_end_matches('\r')));
        }
    }

    fn flush(&self, index: StepIndex) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = partial.remove(&index.0).filter(|rest| !rest.is_empty()) {
            note(format!("#{} {}", index.0, String::from_utf8_lossy(&rest)));
        }
    }
}

impl Listener for Plain {
    fn event(&self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Started { index, step } => note(format!("#{} {}", index.0, title(step))),
            ProgressEvent::Cached { index, step } => note(format!("#{} {} CACHED", index.0, title(step))),
            ProgressEvent::Output { index, bytes, .. } => self.output(index, bytes),
            ProgressEvent::Warning { index, text, .. } => note(format!("#{} warning: {text}", index.0)),
            ProgressEvent::CacheGivenUp { name, reason } => note(format!("warning: {}", given_up(name, reason))),
            ProgressEvent::Done { index, duration, .. } => {
                self.flush(index);
                note(format!("#{} DONE {}", index.0, took(duration)));
            }
            ProgressEvent::Failed { index, .. } => {
                self.flush(index);
                note(format!("#{} FAILED", index.0));
            }
            ProgressEvent::Assembled { image } => note(assembled(image)),
            _ => {}
        }
    }
}

fn assembled(image: &BuiltImage) -> String {
    let tags: Vec<String> = image.tags.iter().map(|tag| familiar(tag)).collect();
    let tags = if tags.is_empty() { "image".to_owned() } else { tags.join(", ") };
    // The digest that containers are given, and that `strake status` shows.
    format!("built {tags} {}", image.manifest)
}

/// An object a line on stderr.
struct Json;

impl Listener for Json {
    fn event(&self, event: ProgressEvent<'_>) {
        if let Some(object) = object(&event) {
            note(object);
        }
    }
}

/// What is said of a build cache that does not keep its promises.
fn given_up(name: &str, reason: &str) -> String {
    format!("the build cache {name} is used no more: {reason}")
}

fn object(event: &ProgressEvent<'_>) -> Option<Value> {
    let about = |name: &str, index: &StepIndex, step: &Step| json!({"event": name, "step": index.0, "id": step.id.0.to_string(), "stage": step.stage, "text": step.origin.text, "file": step.origin.file, "line": step.origin.line});
    let with = |mut object: Value, key: &str, value: Value| {
        object[key] = value;
        object
    };
    let ms = |duration: &Duration| json!(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    Some(match event {
        ProgressEvent::Started { index, step } => about("started", index, step),
        ProgressEvent::Cached { index, step } => about("cached", index, step),
        ProgressEvent::Output { index, bytes, .. } => json!({"event": "output", "step": index.0, "text": String::from_utf8_lossy(bytes)}),
        ProgressEvent::Warning { index, text, .. } => json!({"event": "warning", "step": index.0, "text": text}),
        ProgressEvent::CacheGivenUp { name, reason } => json!({"event": "warning", "text": given_up(name, reason)}),
        ProgressEvent::Done { index, step, duration } => with(about("done", index, step), "duration_ms", ms(duration)),
        ProgressEvent::Failed { index, step, error } => with(about("failed", index, step), "error", json!(crate::failure::chain(*error))),
        ProgressEvent::Assembled { image } => json!({"event": "assembled", "tags": image.tags, "manifest": image.manifest, "image": image.config_digest}),
        _ => return None,
    })
}

/// A line a running step, with the last of its output; what is done moves up and stays.
struct Live {
    bars: MultiProgress,
    running: Mutex<BTreeMap<usize, (ProgressBar, Instant)>>,
    paint: Paint,
}

impl Live {
    fn new() -> Live {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Live { bars, running: Mutex::new(BTreeMap::new()), paint: Paint::stderr() }
    }

    fn line(&self, text: String) {
        if self.bars.println(&text).is_err() {
            note(text);
        }
    }

    fn end(&self, index: StepIndex) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bar, _)) = running.remove(&index.0) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn start(&self, index: StepIndex, step: &Step) {
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner:.yellow} {prefix}  {elapsed:.dim}  {wide_msg:.dim}") {
            bar.set_style(style);
        }
        bar.set_prefix(title(step));
        bar.enable_steady_tick(REFRESH);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(index.0, (bar, Instant::now()));
    }

    fn output(&self, index: StepIndex, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let last = text.lines().rev().filter(|line| !line.trim().is_empty()).take(SHOWN_OUTPUT).last().map(str::to_owned);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some((bar, _)), Some(line)) = (running.get(&index.0), last) {
            bar.set_message(line.trim_end().to_owned());
        }
    }
}

impl Listener for Live {
    fn event(&self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Started { index, step } => self.start(index, step),
            ProgressEvent::Cached { step, .. } => self.line(format!("{} {}", self.paint.dim("cached"), self.paint.dim(&title(step)))),
            ProgressEvent::Output { index, bytes, .. } => self.output(index, bytes),
            ProgressEvent::Warning { text, .. } => self.line(format!("{} {text}", self.paint.yellow("warning"))),
            ProgressEvent::CacheGivenUp { name, reason } => self.line(format!("{} {}", self.paint.yellow("warning"), given_up(name, reason))),
            ProgressEvent::Done { index, step, duration } => {
                self.end(index);
                self.line(format!("{}   {}  {}", self.paint.green("done"), title(step), self.paint.dim(&took(duration))));
            }
            ProgressEvent::Failed { index, step, .. } => {
                self.end(index);
                self.line(format!("{} {}", self.paint.red("failed"), title(step)));
            }
            ProgressEvent::Assembled { image } => self.line(format!("{}  {}", self.paint.green("built"), assembled(image).trim_start_matches("built "))),
            _ => {}
        }
    }
}
