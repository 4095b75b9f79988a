//! What the development loop says: a calm line for people, an object a line for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::args::Progress;
use crate::output::{Paint, note, raw};

/// Says it.
#[derive(Clone, Copy, Debug)]
pub struct Tell {
    progress: Progress,
    paint: Paint,
    /// For logs.
    out: Paint,
}

/// How a line opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Doing,
    Bad,
}

/// Colours of pods' names, in turn.
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "96"];

impl Tell {
    /// As the user wishes.
    pub fn new(progress: Progress) -> Tell {
        Tell { progress, paint: Paint::stderr(), out: Paint::stdout() }
    }

    /// Whether programs read.
    pub fn is_json(self) -> bool {
        self.progress == Progress::Json
    }

    /// An event: `name` and `facts` for programs, `name` and `words` for people.
    pub fn event(self, tone: Tone, name: &str, words: &str, facts: Value) {
        if self.is_json() {
            let mut object = json!({"event": name});
            if let (Some(object), Value::Object(facts)) = (object.as_object_mut(), facts) {
                object.extend(facts);
            }
            note(object);
            return;
        }
        if self.progress == Progress::Quiet && tone != Tone::Bad {
            return;
        }
        let name = format!("{name:<9}");
        let name = match tone {
            Tone::Good => self.paint.green(&name),
            Tone::Doing => self.paint.yellow(&name),
            Tone::Bad => self.paint.red(&name),
        };
        note(format!("{name} {words}").trim_end());
    }

    /// Something for people only.
    pub fn line(self, text: &str) {
        if !self.is_json() && self.progress != Progress::Quiet {
            note(text);
        }
    }

    /// Something that did not work: where, and everything that is known of it.
    pub fn failed(self, stage: &str, message: &str) {
        let message = message.trim_end();
        self.event(Tone::Bad, "failed", message, json!({"stage": stage, "message": message}));
    }

    /// A line of a container's log.
    pub fn log(self, source: &Source, line: &str) {
        if self.is_json() {
            note(json!({"event": "log", "namespace": source.namespace, "pod": source.pod, "container": source.container, "text": line}));
            return;
        }
        let name = if source.alone { source.pod.clone() } else { format!("{}/{}", source.pod, source.container) };
        let name = if self.out.is_on() { format!("\x1b[{}m{name} |\x1b[0m", COLOURS[colour(&source.pod)]) } else { format!("{name} |") };
        raw(format!("{name} {line}\n").as_bytes());
    }
}

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// The pod has no other container.
    pub alone: bool,
}

/// The same pod always has the same colour.
fn colour(pod: &str) -> usize {
    pod.bytes().fold(7usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte))) % COLOURS.len()
}

/// Milliseconds.
pub fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
