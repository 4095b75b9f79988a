//! The real executor: starts monitors, and reads what they leave in the containers' directories.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::executor::ExecHandle;
use crate::helper::{ExecAnswer, ExecRequest};
use crate::monitor::{Report, now_ns};
use crate::process::wait_readable;
use crate::serve::{Answer, Order};
use crate::state::{Directory, State};
use crate::{ContainerError, ContainerId, ContainerSpec, ContainerStatus, Created, ExecProcess, ExecSpec, Executor, ExitRecord, Output};
use crate::{cgroup, mount, wire};

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// A directory without a monitor is only taken for a leftover when it is older than this: its creator may be about to start one.
const HALF_MADE_AGE: Duration = Duration::from_secs(30);

/// Runs containers on this machine. Cheap to share; all state is in the directory, so that any number of processes may use the same one.
#[derive(Debug)]
pub struct LinuxExecutor {
    containers: PathBuf,
    binary: PathBuf,
    /// A private read-only mount of the binary: what is executed in a container's reach cannot be written through it.
    pinned: Option<OwnedFd>,
    /// Monitors that are children of this process and must be reaped by it.
    monitors: Mutex<HashMap<ContainerId, Child>>,
}

impl LinuxExecutor {
    /// Uses `<root>/containers` (made when missing, mode 0700). `binary` is executed again as monitor and exec helper; its main function must call
    /// [`crate::intercept`] first. The file is opened now, so a later replacement of it does no harm.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(root: &Path, binary: PathBuf) -> Result<Self, ContainerError> {
        let failed = |source| ContainerError::StateDirectory { path: root.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o711).create(root).map_err(failed)?;
        let containers = fs::canonicalize(root).map_err(failed)?.join("containers");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&containers).map_err(failed)?;
        let pinned = pin(&binary).ok();
        Ok(LinuxExecutor { containers, binary, pinned, monitors: Mutex::default() })
    }

    /// Removes what crashes have left: directories that never got a monitor, and containers that were not to outlive a creator who is dead. Containers
    /// whose monitor was killed get an exit record. To be called when a daemon starts; gives what was removed.
    ///
    /// # Errors
    /// When the directory cannot be read, or something stays.
    pub fn repair(&self) -> Result<Vec<ContainerId>, ContainerError> {
        self.repair_own(&|_| false)
    }

    /// The same for a daemon that is the only one to make the containers for which `own` holds, and has made none yet: those that were left half-made are
    /// removed at once, since nobody can be making them.
    ///
    /// # Errors
    /// As [`LinuxExecutor::repair`].
    pub fn repair_own(&self, own: &dyn Fn(&ContainerId) -> bool) -> Result<Vec<ContainerId>, ContainerError> {
        let mut removed = Vec::new();
        for id in self.names()? {
            let directory = self.directory(&id)?;
            if own(&id) {
                self.let_finish(&id, &directory)?;
            }
            let leftover = match directory.state()? {
                None => own(&id) || self.is_old(&directory),
                Some(state) => {
                    let alive = |process: &crate::process::ProcessId| process.open().map(|fd| fd.is_some()).unwrap_or(true);
                    let bound = directory.spec(&id).is_ok_and(|spec| spec.dies_with_creator);
                    if alive(&state.monitor) {
                        false
                    } else {
                        self.settle(&id, &directory)?;
                        bound && !alive(&state.creator)
                    }
                }
            };
            if leftover {
                self.remove(&id)?;
                removed.push(id);
            }
        }
        Ok(removed)
    }

    /// Waits while a monitor that a killed daemon had just begun is on its way: it comes to where it takes orders, or it ends by itself.
    fn let_finish(&self, id: &ContainerId, directory: &Directory) -> Result<(), ContainerError> {
        let deadline = Instant::now() + KILL_LIMIT;
        let failed = |source| ContainerError::Wait { id: id.clone(), source };
        loop {
            let on_its_way = match directory.state()? {
                None => monitor_of(directory.path()),
                Some(state) => !directory.path().join("control").exists() && state.monitor.open().map_err(failed)?.is_some(),
            };
            if !on_its_way || Instant::now() > deadline {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn is_old(&self, directory: &Directory) -> bool {
        let made = fs::metadata(directory.path()).and_then(|metadata| metadata.modified());
        made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age > HALF_MADE_AGE))
    }

    fn directory(&self, id: &ContainerId) -> Result<Directory, ContainerError> {
        Directory::of(&self.containers, id)
    }

    /// The directory of a container that exists.
    fn existing(&self, id: &ContainerId) -> Result<Directory, ContainerError> {
        let directory = self.directory(id)?;
        if directory.path().is_dir() { Ok(directory) } else { Err(ContainerError::NotFound { id: id.clone() }) }
    }

    fn monitors(&self) -> MutexGuard<'_, HashMap<ContainerId, Child>> {
        self.monitors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The binary as one of its private verbs.
    fn command(&self, verb: &str) -> Command {
        let mut command = match &self.pinned {
            Some(fd) => Command::new(format!("/proc/self/fd/{}", fd.as_raw_fd())),
            None => Command::new(&self.binary),
        };
        command.arg0("strake").arg(verb).env_clear().stderr(Stdio::null());
        command
    }

    fn spawn_monitor(&self, spec: &ContainerSpec, directory: &Directory) -> Result<(Child, OwnedFd, Option<OwnedFd>), ContainerError> {
        let failed = |source: io::Error| ContainerError::Spawn { id: spec.id.clone(), binary: self.binary.clone(), source };
        let (report, theirs) = wire::pair().map_err(failed)?;
        let (output, stdout) = match spec.output {
            Output::Pipe => pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (Some(read), Stdio::from(write))).map_err(|error| failed(error.into()))?,
            Output::Log { .. } => (None, Stdio::null()),
        };
        let mut command = self.command(crate::MONITOR);
        command.arg(directory.path()).arg(std::process::id().to_string()).stdin(theirs).stdout(stdout);
        let child = command.spawn().map_err(failed)?;
        Ok((child, report, output))
    }

    /// Collects a monitor of ours that has ended.
    fn reap(&self, id: &ContainerId) {
        let mut monitors = self.monitors();
        if let Some(child) = monitors.get_mut(id)
            && !matches!(child.try_wait(), Ok(None))
        {
            monitors.remove(id);
        }
    }

    /// After a monitor has ended: its exit record. When it was killed before it wrote one, its container is ended and the record made here.
    fn settle(&self, id: &ContainerId, directory: &Directory) -> Result<ExitRecord, ContainerError> {
        if let Some(record) = directory.exit()? {
            return Ok(record);
        }
        let Some(state) = directory.state()? else { return Err(ContainerError::NotFound { id: id.clone() }) };
        self.end_processes(id, &state, &directory.spec(id)?)?;
        let now = now_ns();
        let record = ExitRecord {
            code: 128 + libc::SIGKILL,
            signal: Some(libc::SIGKILL),
            oom_killed: false,
            started_at_ns: state.started_at_ns.unwrap_or(now),
            finished_at_ns: now,
            error: "the process that watched the container was killed".to_owned(),
        };
        directory.write_exit(&record)?;
        Ok(record)
    }

    /// Kills the first process (and with it its whole pid namespace) and whatever is left in the cgroups.
    fn end_processes(&self, id: &ContainerId, state: &State, spec: &ContainerSpec) -> Result<(), ContainerError> {
        if let Some(first) = &state.container {
            first.kill(KILL_LIMIT).map_err(|source| ContainerError::Signal { id: id.clone(), signal: libc::SIGKILL, source })?;
        }
        let parents = spec.cgroup_parent.split('/').filter(|name| !name.is_empty()).count();
        cgroup::destroy(&state.cgroups, parents).map_err(|(path, source)| ContainerError::Remove { id: id.clone(), path, source })
    }

    fn names(&self) -> Result<Vec<ContainerId>, ContainerError> {
        let failed = |source| ContainerError::List { path: self.containers.clone(), source };
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.containers).map_err(failed)? {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                ids.push(ContainerId(name));
            }
        }
        ids.retain(|id| self.directory(id).is_ok());
        ids.sort();
        Ok(ids)
    }

    /// Sends the order to start and gives the answer.
    fn order(&self, directory: &Directory) -> io::Result<Option<Answer>> {
        // Through a descriptor, since the path of a socket may only have 107 bytes.
        let dir = rustix::fs::openat(CWD, directory.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(format!("/proc/self/fd/{}/control", dir.as_raw_fd()))?)?;
        wire::send(&socket, &Order::Start, &[])?;
        Ok(wire::receive::<Answer>(&socket)?.map(|(answer, _)| answer))
    }
}

/// Whether a process runs that was started as the monitor of this directory.
fn monitor_of(directory: &Path) -> bool {
    let words = [crate::MONITOR.as_bytes(), directory.as_os_str().as_encoded_bytes()];
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.into_iter().any(|line| line.split(|byte| *byte == 0).skip(1).take(2).eq(words))
}

/// A copy of the binary's mount that is attached nowhere, read-only.
fn pin(binary: &Path) -> io::Result<OwnedFd> {
    let file = rustix::fs::openat(CWD, binary, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let copy = mount::copy(&file, Path::new(""), false)?;
    mount::set_attributes(&copy, MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV, false)?;
    Ok(copy)
}

impl Executor for LinuxExecutor {
    fn create(&self, spec: &ContainerSpec) -> Result<Created, ContainerError> {
        let id = &spec.id;
        let directory = self.directory(id)?;
        let undo = |error: ContainerError| {
            if !matches!(error, ContainerError::AlreadyExists { .. }) {
                let _ = fs::remove_dir_all(directory.path());
            }
            error
        };
        directory.make(spec).map_err(undo)?;
        let (mut child, report, output) = self.spawn_monitor(spec, &directory).map_err(undo)?;
        let refused = match wire::receive::<Report>(&report) {
            Ok(Some((Report::Created { stubs }, _))) => {
                self.monitors().insert(id.clone(), child);
                return Ok(Created { output, stubs });
            }
            Ok(Some((Report::Failed(failure), _))) => ContainerError::Create { id: id.clone(), reason: failure.text },
            Ok(None) => ContainerError::Create { id: id.clone(), reason: "its monitor ended before it was made".to_owned() },
            Err(source) => ContainerError::Control { id: id.clone(), source },
        };
        // It ends by itself after a failed report; a broken one is ended here.
        drop(report);
        let _ = child.wait();
        Err(undo(refused))
    }

    fn start(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let directory = self.existing(id)?;
        let refused = |reason: String| ContainerError::Start { id: id.clone(), reason };
        match self.order(&directory) {
            Ok(Some(Answer::Started)) => Ok(()),
            Ok(Some(Answer::Refused(reason))) => Err(refused(reason)),
            Ok(None) => Err(refused("its monitor did not answer".to_owned())),
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound | io::ErrorKind::ConnectionReset) => {
                Err(refused("it has ended".to_owned()))
            }
            Err(source) => Err(ContainerError::Control { id: id.clone(), source }),
        }
    }

    fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerError> {
        let directory = self.existing(id)?;
        let Some(process) = directory.state()?.and_then(|state| state.container) else { return Ok(()) };
        let sent = process.open().and_then(|fd| fd.map_or(Ok(()), |fd| crate::process::send_signal(&fd, signal)));
        sent.map_err(|source| ContainerError::Signal { id: id.clone(), signal, source })
    }

    fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerError> {
        let directory = self.existing(id)?;
        if let Some(record) = directory.exit()? {
            self.reap(id);
            return Ok(ContainerStatus::Exited(record));
        }
        let Some(state) = directory.state()? else { return Err(ContainerError::NotFound { id: id.clone() }) };
        let alive = state.monitor.open().map_err(|source| ContainerError::Wait { id: id.clone(), source })?.is_some();
        match (alive, state.container, state.started_at_ns) {
            (true, Some(first), Some(started_at_ns)) => Ok(ContainerStatus::Running { pid: first.pid, started_at_ns }),
            (true, first, _) => Ok(ContainerStatus::Created { pid: first.map_or(0, |first| first.pid) }),
            (false, ..) => {
                self.reap(id);
                self.settle(id, &directory).map(ContainerStatus::Exited)
            }
        }
    }

    fn wait(&self, id: &ContainerId) -> Result<ExitRecord, ContainerError> {
        let directory = self.existing(id)?;
        while let Some(fd) = self.monitor_pidfd(id)? {
            wait_readable(&fd, None).map_err(|source| ContainerError::Wait { id: id.clone(), source })?;
        }
        self.reap(id);
        self.settle(id, &directory)
    }

    fn monitor_pidfd(&self, id: &ContainerId) -> Result<Option<OwnedFd>, ContainerError> {
        let directory = self.existing(id)?;
        let Some(state) = directory.state()? else { return Ok(None) };
        state.monitor.open().map_err(|source| ContainerError::Wait { id: id.clone(), source })
    }

    fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecProcess, ContainerError> {
        let directory = self.existing(id)?;
        if matches!(self.status(id)?, ContainerStatus::Exited(_)) {
            return Err(ContainerError::NotRunning { id: id.clone() });
        }
        let failed = |source: io::Error| ContainerError::Spawn { id: id.clone(), binary: self.binary.clone(), source };
        let (socket, theirs) = wire::pair().map_err(failed)?;
        let streams = Streams::of(spec).map_err(failed)?;
        let mut command = self.command(crate::EXEC);
        let mut child = command.stdin(theirs).stdout(Stdio::null()).spawn().map_err(failed)?;
        drop(command); // with it goes our copy of the helper's end
        let request = ExecRequest { directory: directory.path().to_owned(), spec: spec.clone() };
        let fds: Vec<_> = streams.theirs.iter().map(AsFd::as_fd).collect();
        let answer = wire::send(&socket, &request, &fds).and_then(|()| wire::receive::<ExecAnswer>(&socket));
        let reason = match answer {
            Ok(Some((ExecAnswer::Started, mut fds))) => {
                let terminal = fds.pop();
                let master = terminal.as_ref().map(OwnedFd::try_clone).transpose().map_err(failed)?;
                // The number cannot be another's yet: the helper is our child and not collected.
                let pid = Pid::from_raw(child.id().cast_signed()).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
                let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
                let process = ExecHandle::Helper { child: Mutex::new(child), ended, alive: Mutex::new(Some(socket)), master };
                let Streams { stdin, stdout, stderr, .. } = streams;
                return Ok(ExecProcess { stdin, stdout, stderr, terminal, id: id.clone(), process });
            }
            Ok(Some((ExecAnswer::Failed(failure), _))) => failure.text,
            Ok(None) => "the container has ended".to_owned(),
            Err(source) => {
                drop(socket);
                let _ = child.wait();
                return Err(ContainerError::Control { id: id.clone(), source });
            }
        };
        drop(socket);
        let _ = child.wait();
        Err(ContainerError::Exec { id: id.clone(), reason })
    }

    fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let directory = self.directory(id)?;
        if !directory.path().is_dir() {
            return Ok(());
        }
        if let (Some(state), Ok(spec)) = (directory.state()?, directory.spec(id)) {
            let failed = |source| ContainerError::Wait { id: id.clone(), source };
            if let Some(first) = &state.container {
                first.kill(KILL_LIMIT).map_err(failed)?;
            }
            // The monitor sees the end, writes the record and goes; one that hangs is killed.
            if let Some(fd) = state.monitor.open().map_err(failed)?
                && (state.container.is_none() || !wait_readable(&fd, Some(KILL_LIMIT)).map_err(failed)?)
            {
                state.monitor.kill(KILL_LIMIT).map_err(failed)?;
            }
            self.end_processes(id, &state, &spec)?;
        }
        if let Some(mut child) = self.monitors().remove(id) {
            let _ = child.wait();
        }
        let deadline = Instant::now() + KILL_LIMIT;
        loop {
            match fs::remove_dir_all(directory.path()) {
                // A monitor that was just begun, and finds nothing to do any more, has written its log meanwhile.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && Instant::now() < deadline => std::thread::sleep(LOOK),
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ContainerError::Remove { id: id.clone(), path: directory.path().to_owned(), source: error });
                }
                _ => return Ok(()),
            }
        }
    }

    fn list(&self) -> Result<Vec<ContainerId>, ContainerError> {
        let mut ids = self.names()?;
        ids.retain(|id| self.directory(id).is_ok_and(|directory| directory.path().join("state.json").exists()));
        Ok(ids)
    }
}

/// The pipes of an exec without a terminal.
struct Streams {
    theirs: Vec<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Streams {
    fn of(spec: &ExecSpec) -> io::Result<Self> {
        if spec.terminal {
            return Ok(Streams { theirs: Vec::new(), stdin: None, stdout: None, stderr: None });
        }
        let (stdout, theirs_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, theirs_err) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut streams = Streams { theirs: vec![theirs_out, theirs_err], stdin: None, stdout: Some(stdout), stderr: Some(stderr) };
        if spec.stdin {
            let (theirs_in, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
            streams.theirs.insert(0, theirs_in);
            streams.stdin = Some(stdin);
        }
        Ok(streams)
    }
}
