//! The seam: what build and node ask of containers. [`crate::LinuxExecutor`] is the real one, [`crate::Recorder`] the double for tests.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::{Mutex, PoisonError};

use crate::process::wait_readable;
use crate::{ContainerError, ContainerId, ContainerSpec, ContainerStatus, ExecSpec, ExitRecord};

/// Makes, starts, watches and removes containers. Every method blocks; none needs an async runtime.
pub trait Executor: Send + Sync {
    /// Makes the container up to the point where its program would be executed, owned by its monitor.
    ///
    /// # Errors
    /// When the spec is refused, the name is taken, or the monitor cannot make it; nothing is left behind then.
    fn create(&self, spec: &ContainerSpec) -> Result<Created, ContainerError>;

    /// Executes the program of a created container. A program that cannot be executed is no error here: the container has then ended, with the
    /// reason in [`ExitRecord::error`] and the code 127 (not found) or 126 (not executable).
    ///
    /// # Errors
    /// When there is no such container, it was started before, or its monitor is gone.
    fn start(&self, id: &ContainerId) -> Result<(), ContainerError>;

    /// Sends a signal to the first process. A container that has ended is no error.
    ///
    /// # Errors
    /// When there is no such container or the kernel refuses.
    fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerError>;

    /// What is known now.
    ///
    /// # Errors
    /// When there is no such container or its state cannot be read.
    fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerError>;

    /// Blocks until it has ended.
    ///
    /// # Errors
    /// When there is no such container or its state cannot be read.
    fn wait(&self, id: &ContainerId) -> Result<ExitRecord, ContainerError>;

    /// A descriptor that becomes readable when the container's monitor ends, which is right after the exit record is written; `None` when it
    /// has ended already.
    ///
    /// # Errors
    /// When there is no such container.
    fn monitor_pidfd(&self, id: &ContainerId) -> Result<Option<OwnedFd>, ContainerError>;

    /// Runs a further process in a container that runs, or that was made and is not started, under the same restrictions.
    ///
    /// # Errors
    /// When the container has ended or cannot be entered. A program that is not found is not an error: it ends with code 127 and says so
    /// on its stderr.
    fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecProcess, ContainerError>;

    /// Kills it when it runs, then removes its cgroups and its directory. A container that is not there is no error.
    ///
    /// # Errors
    /// When something stays.
    fn remove(&self, id: &ContainerId) -> Result<(), ContainerError>;

    /// All containers below the state directory, sorted, whoever made them: what a restarted daemon adopts.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self) -> Result<Vec<ContainerId>, ContainerError>;
}

/// What `create` gives back.
#[derive(Debug)]
pub struct Created {
    /// With [`crate::Output::Pipe`], the read end that carries stdout and stderr; it ends when the last writer in the container is gone.
    pub output: Option<OwnedFd>,
    /// Files and directories made in the root file system to mount on, as absolute paths in the container, parents before children. A build
    /// removes those that are still empty from the layer.
    pub stubs: Vec<String>,
}

/// A further process in a container. Dropping it kills the process.
#[derive(Debug)]
pub struct ExecProcess {
    /// The write end of its stdin, when the spec asked for one and no terminal.
    pub stdin: Option<OwnedFd>,
    /// The read end of its stdout, without a terminal.
    pub stdout: Option<OwnedFd>,
    /// The read end of its stderr, without a terminal.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master side, read and write, with a terminal.
    pub terminal: Option<OwnedFd>,
    pub(crate) id: ContainerId,
    pub(crate) process: ExecHandle,
}

/// What stands behind an [`ExecProcess`].
#[derive(Debug)]
pub(crate) enum ExecHandle {
    /// The helper process; it kills its child when `alive` is closed. `master` resizes the terminal even after the caller took `terminal`.
    Helper { child: Mutex<Child>, ended: OwnedFd, alive: Mutex<Option<OwnedFd>>, master: Option<OwnedFd> },
    /// A scripted result.
    Scripted { code: i32 },
}

impl ExecProcess {
    /// Blocks until the process has ended and gives its exit code (128 + signal when a signal ended it). Other threads may resize and kill meanwhile.
    ///
    /// # Errors
    /// When the helper process cannot be waited for.
    pub fn wait(&self) -> Result<i32, ContainerError> {
        if let ExecHandle::Helper { ended, .. } = &self.process {
            wait_readable(ended, None).map_err(|source| ContainerError::Wait { id: self.id.clone(), source })?;
        }
        match &self.process {
            ExecHandle::Helper { child, .. } => {
                let status = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
                status.map(exit_code).map_err(|source| ContainerError::Wait { id: self.id.clone(), source })
            }
            ExecHandle::Scripted { code } => Ok(*code),
        }
    }

    /// The exit code when it has ended already, without blocking.
    ///
    /// # Errors
    /// When the helper process cannot be waited for.
    pub fn try_wait(&self) -> Result<Option<i32>, ContainerError> {
        match &self.process {
            ExecHandle::Helper { child, .. } => {
                let status = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
                status.map(|status| status.map(exit_code)).map_err(|source| ContainerError::Wait { id: self.id.clone(), source })
            }
            ExecHandle::Scripted { code } => Ok(Some(*code)),
        }
    }

    /// A descriptor that becomes readable when the process has ended, for event loops; `None` when that is so already.
    #[must_use]
    pub fn ended(&self) -> Option<BorrowedFd<'_>> {
        match &self.process {
            ExecHandle::Helper { ended, .. } => Some(ended.as_fd()),
            ExecHandle::Scripted { .. } => None,
        }
    }

    /// Sets the terminal's size in characters. Without a terminal it does nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resize(&self, rows: u16, cols: u16) -> Result<(), ContainerError> {
        let ExecHandle::Helper { master: Some(master), .. } = &self.process else { return Ok(()) };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(master, size).map_err(|source| ContainerError::Control { id: self.id.clone(), source: source.into() })
    }

    /// Kills the process. One that has ended is no error.
    pub fn kill(&self) {
        if let ExecHandle::Helper { alive, .. } = &self.process {
            // The helper sees its end of the socket close and kills the process it runs.
            drop(alive.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Drop for ExecProcess {
    fn drop(&mut self) {
        self.kill();
        if let ExecHandle::Helper { child, .. } = &self.process {
            // The helper ends within the time a SIGKILL takes; without this wait it would stay as a zombie.
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        }
    }
}

/// A process's status as one number, as shells do it.
fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
