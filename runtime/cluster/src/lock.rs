//! One server a state directory: a lock that dies with its process, and a note that says where it answers.
//!
//! The lock is a record lock (fcntl), not flock: a program that a server begins to start inherits its descriptors until it is executed, and with them an
//! flock, which would outlive a server that is killed in just that moment. A record lock is its process's alone, the kernel names the process, and whoever
//! looks need not take it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Flock, FlockType, Pid, PidfdFlags, fcntl_getlk, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::ClusterError;

/// A server that was killed has the lock until the kernel has taken it apart: only a lock that stays is another server's.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(2);
/// How long the rest of a process may take to end that has let go of the lock already.
const ENDING: Duration = Duration::from_secs(10);

/// Who serves a state directory, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: i32,
    /// `address:port` of the API once it answers; empty before.
    pub address: String,
    /// What a person should know about this start.
    pub warnings: Vec<String>,
}

/// What a server writes about itself. It stays after its end: the next one reads who was before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pid: i32,
    address: String,
    #[serde(default)]
    warnings: Vec<String>,
    /// When the process started, in clock ticks since boot: a number that was given to another process is not taken for it.
    #[serde(default)]
    start_ticks: u64,
    #[serde(default)]
    boot: String,
    /// It ended by itself.
    #[serde(default)]
    ended: bool,
}

impl Note {
    fn own() -> Note {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        Note { pid, start_ticks: start_ticks(pid).unwrap_or(0), boot: boot(), ..Note::default() }
    }

    /// Its process, when there is still something of it.
    fn process(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid).filter(|pid| *pid != rustix::process::getpid())?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        (start_ticks(self.pid) == Some(self.start_ticks) && boot() == self.boot).then_some(pidfd)
    }
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may hold anything, so counting begins after its last parenthesis.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// What this process holds itself. A record lock is gone as soon as its process closes the file anywhere, so who holds one must never look at the file again.
static HELD: Mutex<Vec<(PathBuf, Note)>> = Mutex::new(Vec::new());

fn held(path: &Path) -> Option<Note> {
    let path = fs::canonicalize(path).ok()?;
    HELD.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|(other, _)| *other == path).map(|(_, note)| note.clone())
}

/// Remembers what is held, or that it is not held any more.
fn hold(path: &Path, note: Option<Note>) {
    let Ok(path) = fs::canonicalize(path) else { return };
    let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(other, _)| *other != path);
    all.extend(note.map(|note| (path, note)));
}

/// Held for as long as the server runs.
pub struct ServeLock {
    file: File,
    path: PathBuf,
    after_crash: bool,
}

fn path(root: &Path) -> PathBuf {
    root.join("run/serve.lock")
}

/// Makes a directory of the server's below the state directory: nobody else has anything to look for in it.
pub fn make_private(root: &Path, name: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(root)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(name))
}

impl ServeLock {
    /// Takes the lock, and waits until nothing is left of the process that had it before.
    ///
    /// # Errors
    /// [`ClusterError::AlreadyServed`] names the holder.
    pub fn take(root: &Path) -> Result<ServeLock, ClusterError> {
        let path = path(root);
        let failed = |source| ClusterError::Write { path: path.clone(), source };
        make_private(root, "run").map_err(failed)?;
        if let Some(own) = held(&path) {
            return Err(ClusterError::AlreadyServed { root: root.to_owned(), pid: own.pid });
        }
        let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path).map_err(failed)?;
        let end = Instant::now() + PATIENCE;
        while let Err(error) = fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            if !matches!(error, rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) {
                return Err(failed(error.into()));
            }
            if Instant::now() > end {
                let pid = locked_by(&file).unwrap_or(0);
                return Err(ClusterError::AlreadyServed { root: root.to_owned(), pid });
            }
            std::thread::sleep(LOOK);
        }
        let before = read(&file);
        if let Some(process) = before.as_ref().and_then(Note::process) {
            let limit = Timespec { tv_sec: i64::try_from(ENDING.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
            while poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)) == Err(rustix::io::Errno::INTR) {}
        }
        let after_crash = before.is_some_and(|before| !before.ended);
        let mut lock = ServeLock { file, path, after_crash };
        lock.note("", Vec::new())?;
        Ok(lock)
    }

    /// Whether the server before this one did not end by itself. Programs that it was about to start may then have its sockets open for a moment more.
    pub fn after_crash(&self) -> bool {
        self.after_crash
    }

    /// Says where the API answers, and what a person should know.
    pub fn note(&mut self, address: &str, warnings: Vec<String>) -> Result<(), ClusterError> {
        let note = Note { address: address.to_owned(), warnings, ..Note::own() };
        hold(&self.path, Some(note.clone()));
        self.write(&note).map_err(|source| ClusterError::Write { path: self.path.clone(), source })
    }

    fn write(&mut self, note: &Note) -> io::Result<()> {
        let text = serde_json::to_string(note).unwrap_or_default();
        // Over the old one first: a disk that is full takes no more, but it takes this.
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)
    }
}

impl Drop for ServeLock {
    fn drop(&mut self) {
        let note = Note { ended: true, ..Note::own() };
        if let Err(error) = self.write(&note) {
            tracing::debug!(%error, "the note of this server's end could not be written");
        }
        hold(&self.path, None);
    }
}

fn read(mut file: &File) -> Option<Note> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The process that holds the lock; 0 for one of another process namespace.
fn locked_by(file: &File) -> Option<i32> {
    let held = fcntl_getlk(file, &Flock::from(FlockType::WriteLock)).ok()??;
    Some(held.pid.map_or(0, Pid::as_raw_pid))
}

/// Who serves the directory now; `None` when nobody does.
pub fn holder(root: &Path) -> Option<Holder> {
    if let Some(own) = held(&path(root)) {
        return Some(Holder { pid: own.pid, address: own.address, warnings: own.warnings });
    }
    let file = File::open(path(root)).ok()?;
    let pid = locked_by(&file)?;
    // A note that is half written, or of a server before this one, says nothing.
    let note = read(&file).filter(|note| pid == 0 || note.pid == pid).unwrap_or_default();
    Some(Holder { pid, address: note.address, warnings: note.warnings })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use super::{Note, ServeLock, holder, read, start_ticks};

    const DIRECTORY: &str = "STRAKE_TEST_LOCK";

    /// Another process that takes the lock, notes an address, says so and waits.
    fn other(dir: &Path) -> Child {
        let mut command = Command::new(std::env::current_exe().expect("a test knows its program"));
        command.args(["lock::tests::holds_when_asked", "--exact", "--nocapture"]).env(DIRECTORY, dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let lines = BufReader::new(child.stdout.as_mut().expect("a pipe")).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.ends_with("held")), "it has the lock");
        child
    }

    #[test]
    fn holds_when_asked() {
        let Some(dir) = std::env::var_os(DIRECTORY) else { return };
        let mut lock = ServeLock::take(Path::new(&dir)).expect("free");
        lock.note("127.0.0.1:6443", Vec::new()).expect("noted");
        // What a server asks about itself does not cost it the lock.
        assert_eq!(holder(Path::new(&dir)).expect("itself").address, "127.0.0.1:6443");
        assert!(ServeLock::take(Path::new(&dir)).is_err());
        println!("held");
        let _ = std::io::stdin().read_line(&mut String::new());
    }

    #[test]
    fn a_second_server_learns_who_holds_the_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(holder(dir.path()), None);
        let mut child = other(dir.path());
        let pid = i32::try_from(child.id()).expect("a pid");
        let text = match ServeLock::take(dir.path()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(text.contains(&pid.to_string()), "{text}");
        // Looking does not take it.
        for _ in 0..2 {
            let found = holder(dir.path()).expect("held");
            assert_eq!((found.pid, found.address.as_str()), (pid, "127.0.0.1:6443"));
        }
        drop(child.stdin.take());
        assert!(child.wait().expect("ended").success());
        assert_eq!(holder(dir.path()), None);
        assert!(!ServeLock::take(dir.path()).expect("free").after_crash(), "it ended by itself");
    }

    #[test]
    fn a_killed_server_leaves_the_lock_free_although_what_it_started_has_its_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = other(dir.path());
        // As a program that the server was about to start: it has the file open.
        let inherited = std::fs::File::open(dir.path().join("run/serve.lock")).expect("there");
        child.kill().expect("killed");
        // Not collected yet: a zombie is gone too.
        let lock = ServeLock::take(dir.path()).expect("free");
        assert!(lock.after_crash());
        child.wait().expect("ended");
        let note = read(&inherited).expect("a note");
        assert_eq!((note.pid, note.ended), (std::process::id().cast_signed(), false));
        drop(lock);
        assert!(read(&inherited).expect("a note").ended);
    }

    #[test]
    fn a_number_that_was_given_to_another_process_is_not_waited_for() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("it runs");
        let pid = child.id().cast_signed();
        let ticks = start_ticks(pid).expect("running");
        let note = Note { pid, start_ticks: ticks, boot: super::boot(), ..Note::default() };
        assert!(note.process().is_some());
        assert!(Note { start_ticks: ticks + 1, ..note.clone() }.process().is_none());
        assert!(Note { boot: "another".to_owned(), ..note.clone() }.process().is_none());
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(note.process().is_none());
    }
}
