//! The server of a world: killed without warning, or asked about what it left on the disk.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{PATIENCE, World, until};

impl World {
    /// The process that serves, by its lock's note; `None` when nobody ever did.
    pub fn server(&self) -> Option<Pid> {
        let note = std::fs::read_to_string(self.inside(&self.root().join("run/serve.lock"))).ok()?;
        let note: Value = serde_json::from_str(&note).ok()?;
        Pid::from_raw(i32::try_from(note["pid"].as_i64()?).ok()?)
    }

    /// Kills the server with SIGKILL and waits until it is gone; one that has ended by itself is fine.
    #[track_caller]
    pub fn kill_server(&self) {
        let pid = self.server().expect("a server");
        // The note may be of a `stop` that cleans up after it.
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).unwrap_or_default();
        if !line.split(|byte| *byte == 0).any(|word| word == b"serve") {
            return;
        }
        let _ = kill_process(pid, Signal::KILL);
        assert!(until(PATIENCE, || is_gone(pid)), "the server is gone");
    }

    /// The containers of pods on the disk that run: their first process's id by their name.
    pub fn running_containers(&self) -> BTreeMap<String, i64> {
        let entries = std::fs::read_dir(self.inside(&self.root().join("containers"))).into_iter().flatten().flatten();
        let each = entries.filter_map(|entry| {
            if entry.path().join("exit.json").exists() {
                return None;
            }
            let state: Value = serde_json::from_slice(&std::fs::read(entry.path().join("state.json")).ok()?).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), state["container"]["pid"].as_i64()?))
        });
        each.collect()
    }

    /// Processes of this machine whose command line begins with these words; programs of a test have names of their own.
    pub fn processes(&self, words: &[&str]) -> Vec<i32> {
        let wanted = words.iter().map(|word| format!("{word}\0")).collect::<String>();
        let list = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = list.filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(wanted.as_bytes())));
        pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).filter(|pid| !self.is_of_another_world(*pid)).collect()
    }

    /// Whether one of the processes above it belongs to a test that runs beside this one. An orphan may be anybody's, so ours too.
    fn is_of_another_world(&self, mut pid: i32) -> bool {
        let own = self.path("").display().to_string();
        while pid > 1 {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            if line.contains("/strake-test-") {
                return !line.contains(own.trim_end_matches('/'));
            }
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            pid = parent.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        }
        false
    }

    /// What the server has logged.
    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.inside(&self.root().join("run/serve.log"))).unwrap_or_default()
    }
}

/// Whether a process has ended, although perhaps nobody has asked for its exit code yet: a container's first process may collect no orphans.
fn is_gone(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).map(str::trim_start);
    // A zombie with threads that still run has not ended.
    let alone = status.lines().any(|line| line.split_whitespace().eq(["Threads:", "1"]));
    state.is_none_or(|state| state.starts_with('X') || state.starts_with('Z') && alone)
}

/// Numbers that look random and are the same every time; `STRAKE_SEED` chooses others.
pub struct Dice(u64);

impl Dice {
    /// Dice for a test.
    pub fn new(test: u64) -> Dice {
        let seed: u64 = std::env::var("STRAKE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(test))
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }

    /// A time below `limit` milliseconds.
    pub fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}
