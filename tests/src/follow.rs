//! A program that runs beside the test: what it says is there to be waited for.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::{PATIENCE, Ran, until};

/// Whether a process of strake has said what SIGINT and SIGTERM do to it; before that the kernel itself ends it.
pub fn hears_signals(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let wanted = [Signal::INT, Signal::TERM].iter().fold(0, |mask, signal| mask | 1 << (signal.as_raw() - 1));
    caught.is_some_and(|mask| mask & wanted == wanted)
}

/// A running program; ended with its guard.
pub struct Follow {
    child: Child,
    words: String,
    streams: [Stream; 2],
}

/// What a stream has said so far, read by a thread of its own.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(mut source: impl Read + Send + 'static) -> Stream {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
        Stream { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// All of it, once nobody writes any more.
    fn end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader does not panic");
        }
        self.text()
    }
}

impl Follow {
    /// Starts it.
    pub fn start(mut command: Command) -> Follow {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let streams = [Stream::of(child.stdout.take().expect("a pipe")), Stream::of(child.stderr.take().expect("a pipe"))];
        Follow { child, words: format!("{command:?}"), streams }
    }

    /// Its process: what nsenter has replaced itself by.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it has written to the standard output so far.
    pub fn stdout(&self) -> String {
        self.streams[0].text()
    }

    /// What it has written to the standard error so far.
    pub fn stderr(&self) -> String {
        self.streams[1].text()
    }

    /// Waits until what it has said holds.
    #[track_caller]
    pub fn says(&self, what: &str, mut holds: impl FnMut(&str) -> bool) {
        let said = || format!("{}{}", self.stdout(), self.stderr());
        assert!(until(PATIENCE, || holds(&said())), "{} never said {what}: {}", self.words, said());
    }

    /// Waits until it hears signals; `false` when it has ended before.
    #[track_caller]
    pub fn hears(&mut self) -> bool {
        let pid = self.child.id();
        let hears = until(PATIENCE, || hears_signals(pid) || self.has_ended());
        assert!(hears, "{} does not wait for a signal: {}{}", self.words, self.stdout(), self.stderr());
        !self.has_ended()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waited").is_some()
    }

    /// Sends a signal; one that has ended hears nothing.
    pub fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            kill_process(self.pid(), signal).expect("signalled");
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ran {
        let ended = until(PATIENCE, || self.has_ended());
        assert!(ended, "{} does not end: {}{}", self.words, self.stdout(), self.stderr());
        let code = self.child.wait().expect("waited").code().unwrap_or(-1);
        Ran { stdout: self.streams[0].end(), stderr: self.streams[1].end(), code }
    }

    /// Ends it now; gives what it had said.
    pub fn kill(mut self) -> Ran {
        let _ = self.child.kill();
        self.child.wait().expect("waited");
        Ran { stdout: self.streams[0].end(), stderr: self.streams[1].end(), code: -1 }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        // A failed test must not leave it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
