//! A shell in a step: in the file system that a RUN left when it failed, or before the RUN that somebody wants to look at. Same user, environment, directory,
//! mounts and network; what is changed there is thrown away.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use strake_container::{ContainerError, ContainerSpec, ExecProcess, ExecSpec, RootFs};
use strake_plan::{MountKind, Run, Step, StepIndex};
use strake_store::Draft;

use super::{Removed, SIGKILL, next_id};
use crate::progress::ProgressEvent;
use crate::session::Session;
use crate::tree::{LastLink, clean, view};
use crate::{CancelFlag, StepError};

/// Shells that are looked for, in this order, after the one of the command itself.
const SHELLS: [&[&str]; 6] = [&["/bin/bash"], &["/bin/sh"], &["/bin/ash"], &["/bin/busybox", "sh"], &["/busybox/sh"], &["/usr/bin/sh"]];

/// When a shell is opened, and who speaks with it.
#[derive(Clone)]
pub struct Shell {
    /// In the place of this step, which must be a RUN.
    pub at: Option<StepIndex>,
    /// In whichever RUN fails.
    pub on_error: bool,
    /// What it has in its environment besides the step's, such as `TERM=…`.
    pub env: Vec<String>,
    /// Connects people with it and returns when it has ended.
    pub attend: Arc<dyn Fn(&Visit<'_>) + Send + Sync>,
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shell").field("at", &self.at).field("on_error", &self.on_error).finish_non_exhaustive()
    }
}

/// A shell that was opened.
#[derive(Debug)]
pub struct Visit<'a> {
    /// The shell, on a terminal of its own.
    pub process: &'a ExecProcess,
    /// The step it is in.
    pub step: &'a Step,
    /// The step's command and its arguments.
    pub command: &'a [String],
    /// Why the step failed; `None` when it has not run.
    pub failed: Option<&'a StepError>,
}

/// A step as it is about to run, or has run.
pub(super) struct Scene<'a> {
    pub index: StepIndex,
    pub run: &'a Run,
    pub spec: &'a ContainerSpec,
    pub draft: &'a Draft,
}

/// Opens a shell in the step and waits until it is left. When the step has none, that is said.
pub(super) fn visit(session: &Session<'_>, shell: &Shell, scene: &Scene<'_>, failed: Option<&StepError>, cancel: &CancelFlag) -> Result<(), StepError> {
    let container = |source: ContainerError| StepError::Container { source };
    let step = session.plan.step(scene.index);
    let scratch = session.store.begin(session.chain(scene.run.parent).as_ref()).map_err(|source| StepError::Store { source })?;
    let lowers: Vec<_> = std::iter::once(&scene.draft.upper).chain(&scene.draft.lowers).cloned().collect();
    let Some(args) = find(session, scene, &lowers)? else {
        let text = "no shell is opened: the step's file system has none";
        session.tell(ProgressEvent::Warning { index: scene.index, step, text });
        return Ok(());
    };
    let rootfs = RootFs { lowers, upper: scratch.upper.clone(), work: scratch.work.clone() };
    let spec = ContainerSpec { id: next_id(), rootfs, ..scene.spec.clone() };
    let executor = session.executor.as_ref();
    let created = executor.create(&spec).map_err(container)?;
    let removed = Removed { executor, id: &spec.id };
    let kill = {
        let (executor, id) = (Arc::clone(&session.executor), spec.id.clone());
        // One that has ended in the meantime needs no signal.
        cancel.on_cancel(move || drop(executor.signal(&id, SIGKILL)))
    };
    // The command itself is held back: the shell is the container's only program.
    let env = shell.env.iter().cloned().chain(secrets(session, scene.run)).collect();
    let process = executor.exec(&spec.id, &ExecSpec { args, env, cwd: None, user: None, terminal: true, stdin: true }).map_err(container)?;
    (shell.attend)(&Visit { process: &process, step, command: &scene.run.args, failed });
    drop((process, kill, removed, created));
    Ok(())
}

/// Secrets that the command would have as variables.
fn secrets(session: &Session<'_>, run: &Run) -> Vec<String> {
    let each = run.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Secret { id, env: Some(name), .. } => Some(format!("{name}={}", std::str::from_utf8(session.options.secrets.get(id)?.expose()).ok()?)),
        _ => None,
    });
    each.collect()
}

/// A shell that the file system has.
fn find(session: &Session<'_>, scene: &Scene<'_>, lowers: &[std::path::PathBuf]) -> Result<Option<Vec<String>>, StepError> {
    let root = view(&session.store, lowers).map_err(|source| StepError::View { source })?;
    let own = scene.run.args.first().filter(|program| program.ends_with("sh"));
    let known = SHELLS.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let exists = |words: &Vec<String>| {
        let path = clean(Path::new(&words[0]));
        words[0].starts_with('/') && root.resolve(&path, LastLink::Follow).is_ok_and(|found| found.stat.is_some())
    };
    Ok(own.map(|program| vec![program.clone()]).into_iter().chain(known).find(exists))
}
