//! The test double of [`Executor`]: it runs nothing, remembers every call, and ends containers as scripted.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::executor::ExecHandle;
use crate::{ContainerError, ContainerId, ContainerSpec, ContainerStatus, Created, ExecProcess, ExecSpec, Executor, ExitRecord, Output};

/// One call that the recorder saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `create`, with the whole spec.
    Create(Box<ContainerSpec>),
    /// `start`.
    Start(ContainerId),
    /// `signal`, with the number.
    Signal(ContainerId, i32),
    /// `exec`, with its arguments.
    Exec(ContainerId, Vec<String>),
    /// `remove`.
    Remove(ContainerId),
}

/// How a scripted container behaves once started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// It ends at once with this code.
    Exit(i32),
    /// It prints this (with [`Output::Pipe`]) and ends with this code.
    Print(Vec<u8>, i32),
    /// Its program cannot be executed: this text, code 127.
    Fail(String),
    /// It runs until [`Recorder::exit`] or a signal.
    Run,
}

/// Runs nothing: containers do what [`Recorder::script`] said for their program (the first argument), [`Script::Run`] unless told.
/// SIGKILL ends a running container with 137 and SIGTERM with 143, unless [`Recorder::ignore_term`] was called.
#[derive(Debug, Default)]
pub struct Recorder {
    world: Mutex<World>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct World {
    now_ns: i64,
    next_pid: i32,
    ignore_term: bool,
    calls: Vec<Call>,
    scripts: BTreeMap<String, VecDeque<Script>>,
    exec_scripts: BTreeMap<String, (i32, Vec<u8>)>,
    create_failures: BTreeMap<String, String>,
    containers: BTreeMap<ContainerId, Double>,
}

#[derive(Debug)]
struct Double {
    spec: ContainerSpec,
    status: ContainerStatus,
    ended: OwnedFd,
    output: Option<OwnedFd>,
}

impl Recorder {
    /// An empty world at time 0.
    #[must_use]
    pub fn new() -> Self {
        Recorder::default()
    }

    /// The time that the following records carry, in nanoseconds since 1970.
    pub fn set_now(&self, now_ns: i64) {
        self.lock().now_ns = now_ns;
    }

    /// What the next container started with this program does; several calls queue up, and the last one stays.
    pub fn script(&self, program: &str, script: Script) {
        self.lock().scripts.entry(program.to_owned()).or_default().push_back(script);
    }

    /// What every exec of this program gives: exit code and stdout.
    pub fn script_exec(&self, program: &str, code: i32, stdout: &[u8]) {
        self.lock().exec_scripts.insert(program.to_owned(), (code, stdout.to_vec()));
    }

    /// `create` of a container with this program fails with this reason from now on; an empty reason lifts it.
    pub fn fail_create(&self, program: &str, reason: &str) {
        let mut world = self.lock();
        if reason.is_empty() {
            world.create_failures.remove(program);
        } else {
            world.create_failures.insert(program.to_owned(), reason.to_owned());
        }
    }

    /// SIGTERM is ignored from now on, so that only SIGKILL ends containers.
    pub fn ignore_term(&self) {
        self.lock().ignore_term = true;
    }

    /// Ends a running container.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn exit(&self, id: &ContainerId, code: i32) -> Result<(), ContainerError> {
        let mut world = self.lock();
        if !world.containers.contains_key(id) {
            return Err(ContainerError::NotFound { id: id.clone() });
        }
        world.end(id, code, None, String::new());
        self.changed.notify_all();
        Ok(())
    }

    /// Every call so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Forgets the calls so far and gives them.
    #[must_use]
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.lock().calls)
    }

    /// The spec of a container that exists.
    #[must_use]
    pub fn spec(&self, id: &ContainerId) -> Option<ContainerSpec> {
        self.lock().containers.get(id).map(|double| double.spec.clone())
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn end(&mut self, id: &ContainerId, code: i32, signal: Option<i32>, error: String) {
        let now_ns = self.now_ns;
        let Some(double) = self.containers.get_mut(id) else { return };
        let started_at_ns = match double.status {
            ContainerStatus::Exited(_) => return,
            ContainerStatus::Running { started_at_ns, .. } => started_at_ns,
            ContainerStatus::Created { .. } => now_ns,
        };
        double.status = ContainerStatus::Exited(ExitRecord { code, signal, oom_killed: false, started_at_ns, finished_at_ns: now_ns, error });
        double.output = None;
        let _ = rustix::io::write(&double.ended, &1u64.to_ne_bytes());
    }

    fn get(&self, id: &ContainerId) -> Result<&Double, ContainerError> {
        self.containers.get(id).ok_or_else(|| ContainerError::NotFound { id: id.clone() })
    }

    fn next_script(&mut self, program: &str) -> Script {
        match self.scripts.get_mut(program) {
            Some(queue) if queue.len() > 1 => queue.pop_front().unwrap_or(Script::Run),
            Some(queue) => queue.front().cloned().unwrap_or(Script::Run),
            None => Script::Run,
        }
    }
}

impl Executor for Recorder {
    fn create(&self, spec: &ContainerSpec) -> Result<Created, ContainerError> {
        let mut world = self.lock();
        world.calls.push(Call::Create(Box::new(spec.clone())));
        let id = spec.id.clone();
        if world.containers.contains_key(&id) {
            return Err(ContainerError::AlreadyExists { id });
        }
        if let Some(reason) = spec.args.first().and_then(|program| world.create_failures.get(program)) {
            return Err(ContainerError::Create { id, reason: reason.clone() });
        }
        let refused = |source: rustix::io::Errno| ContainerError::Control { id: id.clone(), source: source.into() };
        let ended = eventfd(0, EventfdFlags::CLOEXEC).map_err(refused)?;
        let (read, write) = match spec.output {
            Output::Pipe => rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map(|(r, w)| (Some(r), Some(w))).map_err(refused)?,
            Output::Log { .. } => (None, None),
        };
        world.next_pid += 1;
        let status = ContainerStatus::Created { pid: 1000 + world.next_pid };
        world.containers.insert(id, Double { spec: spec.clone(), status, ended, output: write });
        Ok(Created { output: read, stubs: Vec::new() })
    }

    fn start(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let mut world = self.lock();
        world.calls.push(Call::Start(id.clone()));
        let double = world.get(id)?;
        let ContainerStatus::Created { pid } = double.status else {
            return Err(ContainerError::Start { id: id.clone(), reason: "it was started before".to_owned() });
        };
        let program = double.spec.args.first().cloned().unwrap_or_default();
        let script = world.next_script(&program);
        let now_ns = world.now_ns;
        if let Some(double) = world.containers.get_mut(id) {
            double.status = ContainerStatus::Running { pid, started_at_ns: now_ns };
        }
        match script {
            Script::Exit(code) => world.end(id, code, None, String::new()),
            Script::Print(text, code) => {
                if let Some(output) = world.containers.get(id).and_then(|double| double.output.as_ref()) {
                    let _ = rustix::io::write(output, &text);
                }
                world.end(id, code, None, String::new());
            }
            Script::Fail(error) => world.end(id, 127, None, error),
            Script::Run => {}
        }
        self.changed.notify_all();
        Ok(())
    }

    fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerError> {
        let mut world = self.lock();
        world.calls.push(Call::Signal(id.clone(), signal));
        world.get(id)?;
        if signal == libc::SIGKILL || (signal == libc::SIGTERM && !world.ignore_term) {
            world.end(id, 128 + signal, Some(signal), String::new());
        }
        self.changed.notify_all();
        Ok(())
    }

    fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerError> {
        self.lock().get(id).map(|double| double.status.clone())
    }

    fn wait(&self, id: &ContainerId) -> Result<ExitRecord, ContainerError> {
        let mut world = self.lock();
        loop {
            if let ContainerStatus::Exited(record) = &world.get(id)?.status {
                return Ok(record.clone());
            }
            world = self.changed.wait(world).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn monitor_pidfd(&self, id: &ContainerId) -> Result<Option<OwnedFd>, ContainerError> {
        let world = self.lock();
        let double = world.get(id)?;
        if matches!(double.status, ContainerStatus::Exited(_)) {
            return Ok(None);
        }
        let copy = double.ended.try_clone().map_err(|source| ContainerError::Control { id: id.clone(), source })?;
        Ok(Some(copy))
    }

    fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecProcess, ContainerError> {
        let mut world = self.lock();
        world.calls.push(Call::Exec(id.clone(), spec.args.clone()));
        if matches!(world.get(id)?.status, ContainerStatus::Exited(_)) {
            return Err(ContainerError::NotRunning { id: id.clone() });
        }
        let program = spec.args.first().map(String::as_str).unwrap_or_default();
        let (code, stdout) = world.exec_scripts.get(program).cloned().unwrap_or((0, Vec::new()));
        let file = |bytes: &[u8]| -> std::io::Result<OwnedFd> {
            let mut file = std::fs::File::from(rustix::fs::memfd_create("exec", rustix::fs::MemfdFlags::CLOEXEC)?);
            file.write_all(bytes)?;
            file.rewind()?;
            Ok(file.into())
        };
        let failed = |source: std::io::Error| ContainerError::Control { id: id.clone(), source };
        let (stdout, stderr) = (file(&stdout).map_err(failed)?, file(b"").map_err(failed)?);
        let process = ExecHandle::Scripted { code };
        Ok(ExecProcess { stdin: None, stdout: Some(stdout), stderr: Some(stderr), terminal: None, id: id.clone(), process })
    }

    fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let mut world = self.lock();
        world.calls.push(Call::Remove(id.clone()));
        world.end(id, 137, Some(libc::SIGKILL), String::new());
        world.containers.remove(id);
        self.changed.notify_all();
        Ok(())
    }

    fn list(&self) -> Result<Vec<ContainerId>, ContainerError> {
        Ok(self.lock().containers.keys().cloned().collect())
    }
}
