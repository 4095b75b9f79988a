//! The exec helper: this binary executed again as `strake __exec`, which enters a container, runs one program there and passes its exit code on.
//!
//! Its stdin is a socket to strake: the request comes in over it, and when it closes, the program is killed.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::failure::{Doing, Failure};
use crate::init::{FromInit, ToInit};
use crate::process::send_signal;
use crate::program::{Forked, Program, Stdio, die_with_parent, end, fork_with};
use crate::serve::reap;
use crate::spec::{ContainerSpec, ExecSpec};
use crate::state::State;
use crate::{rootfs, terminal, wire};

/// What to run, and where. Without a terminal, stdout and stderr come along, and before them stdin when it is to be kept open.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    /// The container's directory.
    pub directory: PathBuf,
    pub spec: ExecSpec,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ExecAnswer {
    /// The program runs, or has told on its stderr why not. A terminal's master side comes along.
    Started,
    /// The container could not be entered.
    Failed(Failure),
}

/// The namespaces of a container.
const NAMESPACES: ThreadNameSpaceType = ThreadNameSpaceType::MOUNT
    .union(ThreadNameSpaceType::PROCESS_ID)
    .union(ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)
    .union(ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME)
    .union(ThreadNameSpaceType::NETWORK)
    .union(ThreadNameSpaceType::CONTROL_GROUP);

/// The main function of an exec helper.
pub(crate) fn main() -> i32 {
    let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else { return 71 };
    let Ok(Some((request, fds))) = wire::receive::<ExecRequest>(&socket) else { return 71 };
    let _ = rustix::process::setsid();
    // Nothing in the container may look into this process or its child before that has become the program.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    match enter(request, fds) {
        Ok(Entered { process, master, failure, stderr }) => {
            let attached: Vec<_> = master.iter().map(AsFd::as_fd).collect();
            let _ = wire::send(&socket, &ExecAnswer::Started, &attached);
            if let Some(failure) = failure {
                let _ = std::fs::File::from(stderr).write_all(format!("{}\n", failure.text).as_bytes());
                return failure.code;
            }
            drop((master, stderr));
            watch(&process, &socket)
        }
        Err(failure) => {
            let _ = wire::send(&socket, &ExecAnswer::Failed(failure), &[]);
            126
        }
    }
}

/// A process in the container.
struct Entered {
    process: Forked,
    master: Option<OwnedFd>,
    /// Why the program could not be executed.
    failure: Option<Failure>,
    stderr: OwnedFd,
}

fn enter(request: ExecRequest, mut fds: Vec<OwnedFd>) -> Result<Entered, Failure> {
    let read = |name: &str| std::fs::read(request.directory.join(name)).doing_to("read the container's", &name);
    let spec: ContainerSpec = serde_json::from_slice(&read("spec.json")?).map_err(std::io::Error::from).doing("read the container's spec")?;
    let state: State = serde_json::from_slice(&read("state.json")?).map_err(std::io::Error::from).doing("read the container's state")?;
    let first = state.container.ok_or_else(|| Failure::new("the container is not running"))?;
    let first = first.open().doing("open the container's first process")?.ok_or_else(|| Failure::new("the container has ended"))?;
    let program = Program::in_container(&spec, &request.spec)?;
    let groups: Vec<OwnedFd> = state.cgroups.iter().map(|group| cgroup::open_procs(group)).collect::<Result<_, _>>().doing("open the container's cgroups")?;

    rustix::thread::move_into_thread_name_spaces(first.as_fd(), NAMESPACES).doing("enter the container's namespaces")?;
    let (master, stdio, stderr) = if request.spec.terminal {
        let (master, slave) = terminal::of_this_root().and_then(|devpts| terminal::open(&devpts)).doing("open a terminal")?;
        let stderr = slave.try_clone().doing("duplicate a descriptor")?;
        (Some(master), Stdio::Terminal(slave), stderr)
    } else {
        let (Some(stderr), Some(stdout)) = (fds.pop(), fds.pop()) else {
            return Err(Failure::new("the standard streams are missing"));
        };
        let stdin = fds.pop().map_or_else(rootfs::open_null, Ok).doing("open /dev/null")?;
        let copy = stderr.try_clone().doing("duplicate a descriptor")?;
        (None, Stdio::Files([stdin, stdout, stderr]), copy)
    };
    let (ours, theirs) = wire::pair().doing("make a socket")?;
    let Some(process) = fork_with(0, None).doing("fork")? else {
        drop((ours, groups, master, stderr, first));
        become_program(program, stdio, &theirs)
    };
    drop((theirs, stdio, program));
    for group in &groups {
        let joined = rustix::io::write(group, process.pid.to_string().as_bytes());
        if let Err(error) = joined {
            let _ = send_signal(&process.pidfd, libc::SIGKILL);
            return Err(error).doing("join the container's cgroups");
        }
    }
    wire::send(&ours, &ToInit::Go, &[]).doing("start the program")?;
    let failure = match wire::receive::<FromInit>(&ours) {
        Ok(Some((FromInit::Failed(failure), _))) => Some(failure),
        _ => None,
    };
    // Its other end is the child's proof of this process's life until it has become the program.
    drop(ours);
    Ok(Entered { process, master, failure, stderr })
}

/// In the child: waits until it is in its cgroups, then becomes the program.
fn become_program(program: Program, stdio: Stdio, helper: &OwnedFd) -> ! {
    let bound = die_with_parent();
    if bound.is_err() || !matches!(wire::receive::<ToInit>(helper), Ok(Some(_))) {
        end(126);
    }
    let failure = program.run(stdio, helper);
    let _ = wire::send(helper, &FromInit::Failed(failure.clone()), &[]);
    end(failure.code)
}

/// Waits for the program's end and gives its code; kills it when strake closes the socket.
fn watch(process: &Forked, socket: &OwnedFd) -> i32 {
    let mut killed = false;
    loop {
        let mut fds = [PollFd::new(&process.pidfd, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
        let watched = if killed { &mut fds[..1] } else { &mut fds[..] };
        if poll(watched, None).is_err() {
            continue;
        }
        if !fds[0].revents().is_empty() {
            return reap(process).0;
        }
        if !killed && !fds[1].revents().is_empty() {
            killed = true;
            let _ = send_signal(&process.pidfd, libc::SIGKILL);
        }
    }
}
