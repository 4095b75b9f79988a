//! RUN: a container on top of the step's file system.

mod agent;
mod files;
mod mounts;
mod secret;
mod shell;
mod stubs;
mod weight;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use strake_container::{
    BindMount, ContainerError, ContainerId, ContainerSpec, Executor, ExitRecord, Limits, NetworkNamespace, Output, ResolvedUser, ResourceLimit, RootFs,
    Security, TmpfsMount, VolumeMount, resolve_user,
};
use strake_plan::{Network, Run, StepIndex};
use strake_store::{CommitOptions, Draft, Layer};

use crate::progress::ProgressEvent;
use crate::session::Session;
use crate::tree::view;
use crate::{CancelFlag, StepError};
use files::HOSTNAME;
use mounts::Mounts;
pub(crate) use mounts::{empty_mounts, mount_dir};
use shell::Scene;

pub use agent::AgentSocket;
pub use secret::SecretValue;
pub use shell::{Shell, Visit};

/// How much of a program's output an error keeps.
const TAIL_BYTES: usize = 64 << 10;
const SIGKILL: i32 = 9;
/// The cgroup below which those of builds are.
const CGROUP: &str = "strake-build";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Containers of builds begin so: a node leaves them alone, a build sweeps those of dead builds.
pub(crate) const ID_PREFIX: &str = "build-";

/// Tells this process from another that had the same number before: the time at which it first asked, in hexadecimal nanoseconds.
pub(crate) fn process_mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| format!("{:x}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()))
}

/// A RUN that failed, with what it printed.
pub(crate) struct RunFailure {
    pub error: Box<StepError>,
    pub output_tail: Vec<u8>,
}

impl From<StepError> for RunFailure {
    fn from(error: StepError) -> Self {
        RunFailure { error: Box::new(error), output_tail: Vec::new() }
    }
}

/// Executes a RUN and commits what it wrote.
pub(crate) fn run(session: &Session<'_>, index: StepIndex, run: &Run, cancel: &CancelFlag) -> Result<Layer, RunFailure> {
    let parent = session.chain(run.parent);
    let stored = |source| StepError::Store { source };
    let draft = session.store.begin(parent.as_ref()).map_err(stored)?;
    let user = resolve_user(&draft.lowers, &run.user).map_err(|source| StepError::User { text: run.user.clone(), source })?;
    let mounts = Mounts::prepare(session, index, run, cancel)?;
    let mut spec = spec(session, run, &draft, &user, &mounts)?;
    spec.limits.niceness = weight::niceness(session, index);
    let stubs = contain_or_show(session, &Scene { index, run, spec: &spec, draft: &draft }, cancel)?;
    drop(mounts);
    let below = view(&session.store, &draft.lowers).map_err(|source| StepError::View { source })?;
    stubs::clear(&draft.upper, &below, &stubs)?;
    drop(below);
    let layer = draft.commit(CommitOptions { mtime: session.source_date_epoch() }).map_err(stored)?;
    Ok(layer)
}

/// Runs the container; a shell takes its place, or follows its failure, when that was asked for.
fn contain_or_show(session: &Session<'_>, scene: &Scene<'_>, cancel: &CancelFlag) -> Result<Vec<String>, RunFailure> {
    let Some(shell) = &session.options.shell else { return contain(session, scene.index, scene.spec, cancel) };
    if shell.at == Some(scene.index) {
        shell::visit(session, shell, scene, None, cancel)?;
        return Err(StepError::ShellLeft.into());
    }
    let outcome = contain(session, scene.index, scene.spec, cancel);
    if let Err(failure) = &outcome
        && shell.on_error
        && failure.error.exit_code().is_some()
    {
        shell::visit(session, shell, scene, Some(&failure.error), cancel)?;
    }
    outcome
}

/// A name for a container of this process.
fn next_id() -> ContainerId {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    ContainerId(format!("{ID_PREFIX}{}-{}-{serial}", std::process::id(), process_mark()))
}

fn spec(session: &Session<'_>, run: &Run, draft: &Draft, user: &ResolvedUser, mounts: &Mounts) -> Result<ContainerSpec, StepError> {
    let given = |source, target: &str| VolumeMount::Bind(BindMount { source, target: target.to_owned(), read_only: true });
    let mut volumes = vec![
        given(files::hosts(&session.dirs.files, &run.extra_hosts, &session.options.hosts)?, "/etc/hosts"),
        given(files::resolv_conf(&session.dirs.files)?, "/etc/resolv.conf"),
    ];
    if session.options.shm_bytes > 0 {
        let shm = TmpfsMount { target: "/dev/shm".to_owned(), size_bytes: session.options.shm_bytes, mode: Some(0o1777) };
        volumes.push(VolumeMount::Tmpfs(shm));
    }
    volumes.extend(mounts.volumes.iter().cloned());
    for script in &run.scripts {
        volumes.push(given(files::script(&session.dirs.files, &script.content)?, &script.name));
    }
    Ok(ContainerSpec {
        id: next_id(),
        rootfs: RootFs { lowers: draft.lowers.clone(), upper: draft.upper.clone(), work: draft.work.clone() },
        args: run.args.clone(),
        env: environment(run, &user.home, mounts.agent.as_deref()),
        cwd: if run.cwd.is_empty() { "/".to_owned() } else { run.cwd.clone() },
        user: user.user.clone(),
        hostname: if run.hostname.is_empty() { HOSTNAME.to_owned() } else { run.hostname.clone() },
        network: match run.network {
            Network::Default | Network::Host => NetworkNamespace::Host,
            Network::None => NetworkNamespace::Isolated,
        },
        mounts: volumes,
        limits: Limits {
            memory_bytes: run.resources.memory_bytes,
            cpu_milli: run.resources.cpu_milli,
            cpu_request_milli: run.resources.cpu_weight_milli,
            below_parent: session.options.cgroup_parent.is_some(),
            ..Limits::default()
        },
        rlimits: run.ulimits.iter().map(|limit| ResourceLimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard }).collect(),
        security: security(run),
        cgroup_parent: session.options.cgroup_parent.as_deref().map_or_else(|| CGROUP.to_owned(), |parent| format!("{parent}/{CGROUP}")),
        output: Output::Pipe,
        terminal: false,
        stdin: false,
        dies_with_creator: true,
    })
}

/// What a RUN may do: what Docker gives it. Package managers make device nodes and gain privileges by setuid programs; raw sockets are for a network of
/// its own only.
fn security(run: &Run) -> Security {
    if run.insecure {
        return Security { privileged: true, no_new_privileges: false, seccomp: false, ..Security::default() };
    }
    let mut add_capabilities = vec!["MKNOD".to_owned()];
    if run.network == Network::None {
        add_capabilities.push("NET_RAW".to_owned());
    }
    Security { add_capabilities, no_new_privileges: false, ..Security::default() }
}

fn environment(run: &Run, home: &str, agent: Option<&str>) -> Vec<String> {
    let mut env: Vec<String> = run.proxy_env.iter().chain(&run.env).cloned().collect();
    let has = |env: &[String], name: &str| env.iter().any(|pair| pair.starts_with(name));
    if !has(&env, "PATH=") {
        env.push(DEFAULT_PATH.to_owned());
    }
    if !has(&env, "HOME=") {
        env.push(format!("HOME={home}"));
    }
    if let Some(socket) = agent {
        env.retain(|pair| !pair.starts_with("SSH_AUTH_SOCK="));
        env.push(format!("SSH_AUTH_SOCK={socket}"));
    }
    env
}

/// Removes the container when it goes out of scope, however the step ended.
struct Removed<'a> {
    executor: &'a dyn Executor,
    id: &'a ContainerId,
}

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.executor.remove(self.id) {
            tracing::warn!(id = %self.id, %error, "a build's container could not be removed");
        }
    }
}

/// Runs the container to its end and gives back the mount points it made.
fn contain(session: &Session<'_>, index: StepIndex, spec: &ContainerSpec, cancel: &CancelFlag) -> Result<Vec<String>, RunFailure> {
    let failed = |source: ContainerError| StepError::Container { source };
    if cancel.is_cancelled() {
        return Err(StepError::Cancelled.into());
    }
    let executor = session.executor.as_ref();
    let created = executor.create(spec).map_err(failed)?;
    let removed = Removed { executor, id: &spec.id };
    let kill = {
        let (executor, id) = (Arc::clone(&session.executor), spec.id.clone());
        // One that has ended in the meantime needs no signal.
        cancel.on_cancel(move || drop(executor.signal(&id, SIGKILL)))
    };
    executor.start(&spec.id).map_err(failed)?;
    let tail = created.output.map(|output| stream(session, index, output)).transpose()?.unwrap_or_default();
    let exit = executor.wait(&spec.id).map_err(failed)?;
    drop(kill);
    drop(removed);
    if cancel.is_cancelled() {
        return Err(StepError::Cancelled.into());
    }
    judge(spec, &exit).map_err(|error| RunFailure { error: Box::new(error), output_tail: tail })?;
    Ok(created.stubs)
}

/// Hands the output on as it comes, until the last writer is gone; keeps its end.
fn stream(session: &Session<'_>, index: StepIndex, output: OwnedFd) -> Result<Vec<u8>, StepError> {
    let mut file = File::from(output);
    let (mut buffer, mut tail) = (vec![0; 32 << 10], Vec::new());
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                let bytes = &buffer[..length];
                session.tell(ProgressEvent::Output { index, step: session.plan.step(index), bytes });
                tail.extend_from_slice(bytes);
                if tail.len() > 2 * TAIL_BYTES {
                    tail.drain(..tail.len() - TAIL_BYTES);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(StepError::Output { source }),
        }
    }
    let excess = tail.len().saturating_sub(TAIL_BYTES);
    tail.drain(..excess);
    Ok(tail)
}

fn judge(spec: &ContainerSpec, exit: &ExitRecord) -> Result<(), StepError> {
    let command = spec.args.join(" ");
    match exit {
        exit if !exit.error.is_empty() => Err(StepError::NotExecuted { command, reason: exit.error.clone(), code: exit.code }),
        exit if exit.oom_killed && exit.code != 0 => Err(StepError::OutOfMemory { command }),
        ExitRecord { code: 0, .. } => Ok(()),
        exit => Err(StepError::Exit { command, code: exit.code }),
    }
}
