//! The monitor: one small process with one thread for each container, which owns the container's output, log and exit record, and outlives strake.
//!
//! It is this same binary, executed again as `strake __monitor DIRECTORY CREATOR-PID`, with a socket to its creator as stdin and, for
//! [`Output::Pipe`], the pipe as stdout. When it dies, the kernel kills the container with it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, setpriority_process};
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Group, Hierarchies};
use crate::failure::{Doing, Failure};
use crate::init::{FromInit, Init, clone_flags, open_network};
use crate::log::LogWriter;
use crate::process::ProcessId;
use crate::program::{Forked, Program, fork_with};
use crate::serve::{Container, Outputs, serve};
use crate::spec::{ContainerSpec, Limits, Output};
use crate::state::{Directory, State};
use crate::wire;

/// What the monitor tells its creator.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Waiting for the order to start.
    Created { stubs: Vec<String> },
    /// There is no container, and this process is about to end.
    Failed(Failure),
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The main function of a monitor process.
pub(crate) fn main(args: &[OsString]) -> i32 {
    let [dir, creator] = args else { return 64 };
    let Some(creator) = creator.to_str().and_then(|text| text.parse().ok()) else { return 64 };
    let dir = PathBuf::from(dir);
    let Ok((report, output)) = settle_in(&dir) else { return 71 };
    match create(&dir, creator, output) {
        Ok((container, stubs)) => {
            // A creator that died meanwhile will find the container by its directory.
            let _ = wire::send(&report, &Report::Created { stubs }, &[]);
            drop(report);
            serve(container);
            0
        }
        Err(failure) => {
            let _ = wire::send(&report, &Report::Failed(failure), &[]);
            1
        }
    }
}

/// A session of its own, no signals from terminals, standard streams that hold nothing of the creator. Gives the socket to the creator and the pipe.
fn settle_in(dir: &Path) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let report = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::process::chdir(dir)?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let _ = rustix::process::setsid();
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
        // SAFETY: SIG_IGN is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let log = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open("monitor.log")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok((report, output))
}

/// Makes the container up to the point where it waits for the order to start.
fn create(dir: &Path, creator_pid: i32, output: OwnedFd) -> Result<(Container, Vec<String>), Failure> {
    let directory = Directory::at(dir.to_owned());
    let spec = read_spec(dir)?;
    let creator = ProcessId::of(creator_pid).doing("look at the creator")?.ok_or_else(|| Failure::new("the creator has ended"))?;
    let creator_fd = creator.open().doing("watch the creator")?.ok_or_else(|| Failure::new("the creator has ended"))?;
    let groups = plan_cgroups(&spec)?;
    let monitor = ProcessId::of(std::process::id() as i32).doing("look at this process")?.ok_or_else(|| Failure::new("this process is not in /proc"))?;
    let cgroups = groups.iter().map(Group::path).collect();
    let mut state = State { monitor, creator, container: None, started_at_ns: None, cgroups };
    directory.write_state(&state).map_err(|error| told(&error))?;
    let parents = spec.cgroup_parent.split('/').filter(|name| !name.is_empty()).count();

    match make(dir, &spec, &groups, output) {
        Ok((made, outputs, stubs)) => {
            state.container = ProcessId::of(made.process.pid).doing("look at the first process")?;
            directory.write_state(&state).map_err(|error| told(&error))?;
            let control = listen().doing("open the control socket")?;
            let creator = spec.dies_with_creator.then_some(creator_fd);
            Ok((Container { directory, state, process: made.process, init: made.init, control, creator, outputs, parents, stdin: made.stdin }, stubs))
        }
        Err(failure) => {
            // The first process ends with this one; its cgroups would not.
            let _ = cgroup::destroy(&state.cgroups, parents);
            Err(failure)
        }
    }
}

fn read_spec(dir: &Path) -> Result<ContainerSpec, Failure> {
    let bytes = std::fs::read(dir.join("spec.json")).doing("read the spec")?;
    serde_json::from_slice(&bytes).map_err(std::io::Error::from).doing("read the spec")
}

fn told(error: &dyn std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Failure::new(text)
}

fn plan_cgroups(spec: &ContainerSpec) -> Result<Vec<Group>, Failure> {
    let Limits { memory_bytes, cpu_milli, cpu_request_milli, pids, below_parent, .. } = spec.limits;
    if !below_parent && memory_bytes.is_none() && cpu_milli.is_none() && cpu_request_milli.is_none() && pids.is_none() {
        return Ok(Vec::new());
    }
    Hierarchies::detect().doing("find the cgroup hierarchies")?.plan(&spec.cgroup_parent, &spec.id.0, &spec.limits)
}

/// The first process and what belongs to it.
struct Made {
    process: Forked,
    init: OwnedFd,
    stdin: Option<OwnedFd>,
}

fn make(dir: &Path, spec: &ContainerSpec, groups: &[Group], output: OwnedFd) -> Result<(Made, Outputs, Vec<String>), Failure> {
    for group in groups {
        group.make()?;
    }
    std::fs::create_dir(dir.join("empty")).doing("make an empty directory")?;
    let program = Program::of(spec)?;
    let network = open_network(spec)?;
    let Plumbing { mut outputs, streams, stdin, held } = plumb(spec, output)?;
    let (init, monitor) = wire::pair().doing("make a socket")?;
    let unified = groups.iter().find(|group| group.controller.is_empty());
    let into = unified.map(|group| File::open(group.path()).map(OwnedFd::from)).transpose().doing("open the cgroup")?;
    let cgroups = groups.iter().map(|group| (group.controller.clone(), group.path())).collect();

    let Some(process) = fork_with(clone_flags(spec), into.as_ref()).doing("make namespaces")? else {
        drop((init, outputs, held));
        Init { spec, dir, cgroups, network, program, stdin, outputs: streams, monitor }.run()
    };
    drop((streams, stdin, monitor, network, program));
    set_oom_score(process.pid, spec.limits.oom_score_adj);
    if let Some(pid) = Pid::from_raw(process.pid).filter(|_| spec.limits.niceness > 0) {
        // What it starts inherits it; giving way is allowed to everybody.
        let _ = setpriority_process(Some(pid), i32::from(spec.limits.niceness.min(19)));
    }
    // While the first process mounts its file systems: joining a v1 hierarchy may wait for the whole machine.
    for group in groups.iter().filter(|group| !group.controller.is_empty()) {
        cgroup::join(&group.path(), process.pid).doing_to("join the cgroup", &group.path().display())?;
    }
    match wire::receive::<FromInit>(&init).doing("hear from the first process")? {
        Some((FromInit::Ready { stubs }, mut fds)) => {
            outputs.terminal = fds.pop();
            Ok((Made { process, init, stdin: held }, outputs, stubs))
        }
        Some((FromInit::Failed(failure), _)) => Err(failure),
        None => Err(Failure::new("the first process ended before it was ready (out of memory, perhaps)")),
    }
}

/// The container's standard streams.
struct Plumbing {
    /// What the monitor reads and writes.
    outputs: Outputs,
    /// The first process's stdout and stderr, unless there is a terminal.
    streams: Option<[OwnedFd; 2]>,
    /// Its stdin, when that is kept open.
    stdin: Option<OwnedFd>,
    /// What keeps it open.
    held: Option<OwnedFd>,
}

fn plumb(spec: &ContainerSpec, output: OwnedFd) -> Result<Plumbing, Failure> {
    let log = match &spec.output {
        Output::Log { path, max_bytes, max_files } => Some(LogWriter::open(path, *max_bytes, *max_files).doing_to("open the log file", &path.display())?),
        Output::Pipe => None,
    };
    let outputs = Outputs { log, pipe: None, stdout: None, stderr: None, terminal: None };
    let mut plumbing = Plumbing { outputs, streams: None, stdin: None, held: None };
    let outputs = &mut plumbing.outputs;
    if spec.terminal {
        outputs.pipe = outputs.log.is_none().then_some(output);
        return Ok(plumbing);
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC).doing("make a pipe");
    if outputs.log.is_none() {
        let second = output.try_clone().doing("duplicate a descriptor")?;
        plumbing.streams = Some([output, second]);
    } else {
        let ((out_read, out_write), (err_read, err_write)) = (pipe()?, pipe()?);
        (outputs.stdout, outputs.stderr) = (Some(out_read), Some(err_read));
        plumbing.streams = Some([out_write, err_write]);
    }
    if spec.stdin {
        let (read, write) = pipe()?;
        (plumbing.stdin, plumbing.held) = (Some(read), Some(write));
    }
    Ok(plumbing)
}

/// Lower than now would need CAP_SYS_RESOURCE: such a value is raised to what is allowed.
fn set_oom_score(pid: i32, wanted: Option<i32>) {
    let path = format!("/proc/{pid}/oom_score_adj");
    let now: i32 = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let value = wanted.unwrap_or(0).clamp(-1000, 1000);
    if value != now {
        let write = |value: i32| OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(value.to_string().as_bytes()));
        if write(value).is_err() && value < now && now < 0 {
            let _ = write(0);
        }
    }
}

/// The socket in the container's directory (which is this process's own) that takes the order to start.
fn listen() -> std::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // It gets its name when it listens: whoever finds it can connect.
    rustix::net::bind(socket.as_fd(), &SocketAddrUnix::new(".control")?)?;
    rustix::net::listen(socket.as_fd(), 8)?;
    std::fs::rename(".control", "control")?;
    Ok(socket)
}
