//! What a command took: its time, and the most memory that it and the daemons it works through ever had.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

/// How often the memory of a command is looked at; what it had at most is kept by the kernel, so only the very end can be missed.
const LOOK: Duration = Duration::from_millis(2);

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// From its start to its end.
    pub seconds: f64,
    /// Of the command's first process, and of the daemons.
    pub peak_mb: f64,
}

/// Runs a command to its good end. `daemons` are the processes that do the work for it.
pub fn timed(command: &mut Command, daemons: &[u32]) -> Usage {
    for pid in daemons {
        // Forgets what it had at most before (proc(5), clear_refs).
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut inside = Inside::of(command);
    let started = Instant::now();
    let child = match &mut inside {
        Some(inside) => inside.spawn(),
        None => command.spawn(),
    };
    let child = child.expect("the builder runs");
    let (pid, peak_kb, over) = (child.id(), AtomicU64::new(0), AtomicBool::new(false));
    let (output, seconds) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peak_kb.fetch_max(high_water_kb(pid), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        let output = child.wait_with_output().expect("the builder runs");
        let seconds = started.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        (output, seconds)
    });
    assert!(output.status.success(), "{command:?}\n{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let all_kb = peak_kb.into_inner() + daemons.iter().map(|pid| high_water_kb(*pid)).sum::<u64>();
    Usage { seconds, peak_mb: all_kb as f64 / 1024.0 }
}

/// A command of a world without the program that enters the world: that takes a millisecond, which is no work of who is measured.
struct Inside {
    command: Command,
    /// A process in the world.
    holder: String,
}

impl Inside {
    fn of(command: &Command) -> Option<Self> {
        let words: Vec<&OsStr> = command.get_args().collect();
        let [target, holder, mount, net, place, end, program, args @ ..] = words.as_slice() else { return None };
        let place = place.to_str()?.strip_prefix("--wdns=")?;
        if command.get_program() != "nsenter" || [*target, *mount, *net, *end] != ["--target", "--mount", "--net", "--"] {
            return None;
        }
        let mut direct = Command::new(program);
        direct.args(args).current_dir(place).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => direct.env(name, value),
                None => direct.env_remove(name),
            };
        }
        Some(Inside { command: direct, holder: holder.to_str()?.to_owned() })
    }

    /// Starts it from a thread that has entered the world.
    fn spawn(&mut self) -> io::Result<Child> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // A thread enters a mount namespace only with a working directory of its own (setns(2)).
                unshare(CloneFlags::CLONE_FS)?;
                for (name, kind) in [("net", CloneFlags::CLONE_NEWNET), ("mnt", CloneFlags::CLONE_NEWNS)] {
                    setns(File::open(format!("/proc/{}/ns/{name}", self.holder))?, kind)?;
                }
                self.command.spawn()
            });
            thread.join().expect("a thread that starts a command")
        })
    }
}

fn high_water_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A process and everything below it.
pub fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let stats: Vec<(u32, u32)> = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| parent_of(&entry.path())).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(stats.iter().filter(|(_, above)| *above == parent).map(|(child, _)| *child));
        next += 1;
    }
    found
}

fn parent_of(process: &Path) -> Option<(u32, u32)> {
    let pid = process.file_name()?.to_str()?.parse().ok()?;
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    Some((pid, parent))
}

/// Bytes that the files below a directory take on disk; every file once, however many names it has.
pub fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut seen, mut todo, mut bytes) = (std::collections::HashSet::new(), vec![dir.to_owned()], 0);
    while let Some(path) = todo.pop() {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if seen.insert((metadata.dev(), metadata.ino())) {
            bytes += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    bytes
}
