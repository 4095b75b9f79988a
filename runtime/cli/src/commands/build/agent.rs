//! Keys in files, for `--ssh ID=KEY`: an agent of OpenSSH's that knows them alone and ends with the build.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::Failure;

/// An agent with keys. It lives as long as a pipe to it, so it ends with this process too, however that ends.
pub struct KeyAgent {
    dir: tempfile::TempDir,
    /// What keeps it: a shell that waits for the end of its stdin.
    keeper: Child,
    held: Option<ChildStdin>,
    pid: Option<Pid>,
}

/// Agents by their keys: several targets of one build share one.
static KNOWN: Mutex<Vec<(Vec<PathBuf>, Weak<KeyAgent>)>> = Mutex::new(Vec::new());

impl KeyAgent {
    /// The agent with these keys, started when there is none.
    pub fn of(word: &str, keys: &[PathBuf]) -> Result<Arc<Self>, Failure> {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = known.iter().find(|(of, _)| of == keys).and_then(|(_, agent)| agent.upgrade()) {
            return Ok(agent);
        }
        let agent = Arc::new(Self::start(word, keys)?);
        known.push((keys.to_vec(), Arc::downgrade(&agent)));
        Ok(agent)
    }

    /// Starts an agent and gives it the keys.
    fn start(word: &str, keys: &[PathBuf]) -> Result<Self, Failure> {
        let failed = |what: &str, error: &std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::text(format!("--ssh {word}: keys in files need {what}, which is not installed")),
            _ => Failure::text(format!("--ssh {word}: cannot run {what}: {error}")),
        };
        let dir = tempfile::Builder::new().prefix("strake-ssh-").tempdir()?;
        let socket = dir.path().join("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-a").arg(&socket).args(["sh", "-c", "echo $SSH_AGENT_PID; cat >/dev/null"]);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(|error| failed("ssh-agent", &error))?;
        let held = keeper.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let agent = KeyAgent { dir, keeper, held, pid };
        for key in keys {
            agent.add(word, key).map_err(|error| failed("ssh-add", &error))??;
        }
        Ok(agent)
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// Adds a key. One with a passphrase is refused: nobody is asked for it.
    fn add(&self, word: &str, key: &Path) -> std::io::Result<Result<(), Failure>> {
        let mut command = Command::new("ssh-add");
        command.env("SSH_AUTH_SOCK", self.socket()).env("SSH_ASKPASS_REQUIRE", "force").env("SSH_ASKPASS", "/bin/false");
        let output = command.arg("-q").arg("--").arg(key).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next_back().unwrap_or("it does not say why").chars().filter(|c| !c.is_control()).collect::<String>();
        let hint = "a key with a passphrase belongs into an agent of your own, by ssh-add";
        Ok(Err(Failure::text(format!("--ssh {word}: {} cannot be used: {said} ({hint})", key.display()))))
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // One that has ended needs no signal.
            let _ = kill_process(pid, Signal::TERM);
        }
        drop(self.held.take());
        let _ = self.keeper.wait();
    }
}
