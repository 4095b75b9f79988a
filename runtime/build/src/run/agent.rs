//! SSH agents of a build: a socket of our own in the step, each connection passed on to the agent of whoever runs the build, so that the socket can belong
//! to the step's user and ends with the step.

use std::any::Any;
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// The socket of an agent that a build may use.
#[derive(Clone)]
pub struct AgentSocket {
    /// Where it is.
    pub path: PathBuf,
    /// What the agent lives as long as.
    pub keeps: Option<Arc<dyn Any + Send + Sync>>,
}

impl From<PathBuf> for AgentSocket {
    /// The socket of an agent that lives by itself.
    fn from(path: PathBuf) -> Self {
        AgentSocket { path, keeps: None }
    }
}

impl PartialEq for AgentSocket {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl fmt::Debug for AgentSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// A socket that leads to an agent for as long as this lives.
pub(crate) struct Agent {
    dir: PathBuf,
    ended: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Agent {
    /// Listens on a socket in a new directory below `parent`. The agent must be there.
    pub(crate) fn forward(agent: &Path, parent: &Path, (mode, uid, gid): (u32, u32, u32)) -> io::Result<Self> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        drop(UnixStream::connect(agent)?);
        let dir = parent.join(format!("agent-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir)?;
        let mut made = Agent { dir, ended: Arc::default(), listening: None };
        fs::set_permissions(&made.dir, Permissions::from_mode(0o700))?;
        let listener = made.near(|path| UnixListener::bind(path))?;
        chown(made.socket(), Some(uid), Some(gid))?;
        fs::set_permissions(made.socket(), Permissions::from_mode(mode))?;
        let (agent, ended) = (agent.to_owned(), Arc::clone(&made.ended));
        made.listening = Some(std::thread::spawn(move || {
            for connection in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                if let Err(error) = relay(connection, &agent) {
                    tracing::warn!(%error, "a connection to the SSH agent could not be passed on");
                }
            }
        }));
        Ok(made)
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Does something with a path of the socket that is short enough for the kernel (108 bytes, unix(7)).
    fn near<T>(&self, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let dir = fs::File::open(&self.dir)?;
        act(Path::new(&format!("/proc/self/fd/{}/socket", dir.as_raw_fd())))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let woken = self.near(|path| UnixStream::connect(path));
        if woken.is_ok()
            && let Some(listening) = self.listening.take()
        {
            let _ = listening.join();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Copies both ways until either side ends.
fn relay(step: UnixStream, agent: &Path) -> io::Result<()> {
    let agent = UnixStream::connect(agent)?;
    for (mut from, mut to) in [(step.try_clone()?, agent.try_clone()?), (agent, step)] {
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_said_reaches_the_agent_and_back_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("real");
        let real = UnixListener::bind(&path).unwrap();
        let answering = std::thread::spawn(move || {
            // The first connection only asks whether anybody is there.
            for (number, connection) in real.incoming().take(2).enumerate() {
                let mut connection = connection.unwrap();
                let mut said = Vec::new();
                connection.read_to_end(&mut said).unwrap();
                connection.write_all(&[&said[..], b" back"].concat()).unwrap_or_else(|error| assert_eq!(number, 0, "{error}"));
            }
        });
        let parent = dir.path().join("a-very-long-name".repeat(10));
        fs::create_dir(&parent).unwrap();
        let agent = Agent::forward(&path, &parent, (0o600, 0, 0)).unwrap();
        let mut step = agent.near(|path| UnixStream::connect(path)).unwrap();
        step.write_all(b"there").unwrap();
        step.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        step.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "there back");
        answering.join().unwrap();
        drop(agent);
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 0);
        assert!(Agent::forward(&dir.path().join("nothing"), &parent, (0o600, 0, 0)).is_err());
    }
}
