//! The monitor's loop: the order to start, output to the log, the creator's end, the container's end.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::SocketFlags;
use serde::{Deserialize, Serialize};

use crate::ExitRecord;
use crate::cgroup;
use crate::failure::Failure;
use crate::init::{FromInit, ToInit};
use crate::log::{LogWriter, Stream};
use crate::monitor::now_ns;
use crate::process::send_signal;
use crate::program::Forked;
use crate::state::{Directory, State};
use crate::wire;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Asked over the control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Execute the program.
    Start,
}

/// Answered over the control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Done (also when the program could not be executed: that is told by the exit record).
    Started,
    /// Not done.
    Refused(String),
}

/// Where the container's output comes from and goes to.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// The log file, or none with a pipe.
    pub log: Option<LogWriter>,
    /// The creator's pipe, when the monitor must copy a terminal into it.
    pub pipe: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// The terminal's master side.
    pub terminal: Option<OwnedFd>,
}

/// A container that waits to be started, and everything its monitor holds.
pub(crate) struct Container {
    pub directory: Directory,
    pub state: State,
    pub process: Forked,
    /// The socket to the first process, until it has become the program.
    pub init: OwnedFd,
    pub control: OwnedFd,
    /// Readable when the creator has ended; only watched when the container must not outlive it.
    pub creator: Option<OwnedFd>,
    pub outputs: Outputs,
    /// How many directories of the cgroup path are above the container's own.
    pub parents: usize,
    /// Held so that a read of stdin waits instead of ending.
    #[expect(dead_code, reason = "owning the descriptor is its use")]
    pub stdin: Option<OwnedFd>,
}

/// Watches the container to its end, then leaves its exit record and nothing else.
pub(crate) fn serve(mut container: Container) {
    let mut failure = None;
    let mut buffer = vec![0u8; CHUNK_BYTES];
    let mut creator_is_gone = false;
    loop {
        let ready = container.wait_for_something(creator_is_gone);
        for (stream, ready) in [(Source::Stdout, ready.stdout), (Source::Stderr, ready.stderr), (Source::Terminal, ready.terminal)] {
            if ready {
                container.outputs.read(stream, &mut buffer);
            }
        }
        if ready.creator {
            creator_is_gone = true;
            let _ = send_signal(&container.process.pidfd, libc::SIGKILL);
        }
        if ready.ended {
            break;
        }
        if ready.control
            && let Some(failed) = container.answer()
        {
            failure = Some(failed);
        }
    }
    container.finish(failure, &mut buffer);
}

#[derive(Clone, Copy)]
enum Source {
    Stdout,
    Stderr,
    Terminal,
}

#[derive(Default)]
struct Ready {
    ended: bool,
    control: bool,
    creator: bool,
    stdout: bool,
    stderr: bool,
    terminal: bool,
}

impl Container {
    fn wait_for_something(&self, creator_is_gone: bool) -> Ready {
        let watched = [
            Some(&self.process.pidfd),
            Some(&self.control),
            self.creator.as_ref().filter(|_| !creator_is_gone),
            self.outputs.stdout.as_ref(),
            self.outputs.stderr.as_ref(),
            self.outputs.terminal.as_ref(),
        ];
        let mut fds: Vec<PollFd<'_>> = watched.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
        while let Err(rustix::io::Errno::INTR) = poll(&mut fds, None) {}
        let mut results = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |fd: &Option<&OwnedFd>| fd.is_some() && results.next().unwrap_or(false);
        let [ended, control, creator, stdout, stderr, terminal] = watched.each_ref().map(&mut next);
        Ready { ended, control, creator, stdout, stderr, terminal }
    }

    /// Takes one order; gives the failure when the program could not be executed.
    fn answer(&mut self) -> Option<Failure> {
        let connection = rustix::net::accept_with(&self.control, SocketFlags::CLOEXEC).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&connection).ok()?;
        if peer.uid != rustix::process::geteuid() {
            return None;
        }
        // An order is one message that was sent right after connecting; whoever does not send it must not hold the container up.
        let limit = Some(std::time::Duration::from_secs(5));
        if !crate::process::wait_readable(&connection, limit).unwrap_or(false) {
            return None;
        }
        let Ok(Some((Order::Start, _))) = wire::receive::<Order>(&connection) else { return None };
        let (answer, failure) = self.start();
        let _ = wire::send(&connection, &answer, &[]);
        failure
    }

    fn start(&mut self) -> (Answer, Option<Failure>) {
        if self.state.started_at_ns.is_some() {
            return (Answer::Refused("it was started before".to_owned()), None);
        }
        self.state.started_at_ns = Some(now_ns());
        if wire::send(&self.init, &ToInit::Go, &[]).is_err() {
            return (Answer::Refused("its first process has ended".to_owned()), None);
        }
        // The socket closes when the program is executed.
        let failure = match wire::receive::<FromInit>(&self.init) {
            Ok(Some((FromInit::Failed(failure), _))) => Some(failure),
            _ => None,
        };
        match self.directory.write_state(&self.state) {
            Ok(()) => (Answer::Started, failure),
            Err(error) => {
                let _ = send_signal(&self.process.pidfd, libc::SIGKILL);
                (Answer::Refused(format!("{error}")), failure)
            }
        }
    }

    /// Takes the rest of the output, writes the exit record, removes the cgroups.
    fn finish(mut self, failure: Option<Failure>, buffer: &mut [u8]) {
        let (code, signal) = reap(&self.process);
        for source in [Source::Stdout, Source::Stderr, Source::Terminal] {
            self.outputs.drain(source, buffer);
        }
        let finished_at_ns = now_ns();
        if let Some(log) = &mut self.outputs.log {
            log.finish(finished_at_ns);
        }
        let mut record = ExitRecord {
            code,
            signal,
            oom_killed: code != 0 && cgroup::was_out_of_memory(&self.state.cgroups),
            started_at_ns: self.state.started_at_ns.unwrap_or(finished_at_ns),
            finished_at_ns,
            error: String::new(),
        };
        if let Some(failure) = failure {
            (record.code, record.signal, record.error) = (failure.code, None, failure.text);
        }
        if let Err(error) = self.directory.write_exit(&record) {
            // Nobody else would ever know; whoever looks finds a dead monitor and says so.
            let _ = rustix::io::write(rustix::stdio::stderr(), format!("{error}\n").as_bytes());
        }
        let _ = cgroup::destroy(&self.state.cgroups, self.parents);
    }
}

/// Code and signal of the first process, which has ended.
pub(crate) fn reap(process: &Forked) -> (i32, Option<i32>) {
    loop {
        match rustix::process::waitpid(rustix::process::Pid::from_raw(process.pid), rustix::process::WaitOptions::empty()) {
            Ok(Some((_, status))) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => return (code, None),
                (None, Some(signal)) => return (128 + signal, Some(signal)),
                (None, None) => {}
            },
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            Err(_) => return (255, None),
        }
    }
}

impl Outputs {
    fn source(&mut self, source: Source) -> &mut Option<OwnedFd> {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
            Source::Terminal => &mut self.terminal,
        }
    }

    /// Reads once from a source that is ready; at its end the source is closed.
    fn read(&mut self, source: Source, buffer: &mut [u8]) {
        let Some(fd) = self.source(source) else { return };
        match rustix::io::read(fd, &mut *buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => *self.source(source) = None, // a terminal ends with EIO
            Ok(length) => self.take(source, &buffer[..length]),
            Err(_) => {}
        }
    }

    /// Takes what is there after every writer has ended, without waiting for more: a descriptor may have been passed out of the container.
    fn drain(&mut self, source: Source, buffer: &mut [u8]) {
        if let Some(fd) = self.source(source) {
            let _ = rustix::io::ioctl_fionbio(fd, true);
        }
        while let Some(fd) = self.source(source) {
            match rustix::io::read(fd, &mut *buffer) {
                Ok(length) if length > 0 => self.take(source, &buffer[..length]),
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
    }

    fn take(&mut self, source: Source, bytes: &[u8]) {
        let stream = if matches!(source, Source::Stderr) { Stream::Stderr } else { Stream::Stdout };
        if let Some(log) = &mut self.log {
            log.push(stream, bytes, now_ns());
        }
        let mut rest = bytes;
        while let Some(pipe) = self.pipe.as_ref().filter(|_| !rest.is_empty()) {
            match rustix::io::write(pipe.as_fd(), rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => self.pipe = None, // nobody reads any more
            }
        }
    }
}
