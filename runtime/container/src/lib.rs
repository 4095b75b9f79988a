//! Containers: from a [`ContainerSpec`] to a running process, owned by a monitor process that outlives strake.
//!
//! One [`Executor`] serves both a build's RUN and a pod's container. This is the only package with unsafe code.

use std::ffi::OsString;

mod capability;
mod cgroup;
mod error;
mod executor;
mod failure;
mod helper;
mod init;
mod layers;
mod linux;
mod log;
mod monitor;
mod mount;
mod overlay;
mod process;
mod program;
mod recorder;
mod rootfs;
mod seccomp;
mod serve;
mod spec;
mod state;
mod syscalls;
mod terminal;
mod user;
mod wire;

pub use error::ContainerError;
pub use executor::{Created, ExecProcess, Executor};
pub use linux::LinuxExecutor;
pub use recorder::{Call, Recorder, Script};
pub use spec::{
    BindMount, ContainerId, ContainerSpec, ContainerStatus, ExecSpec, ExitRecord, LayersMount, Limits, NetworkNamespace, Output, PartMount, ResourceLimit,
    RootFs, Scratch, SecretMount, Security, TmpfsMount, User, VolumeMount,
};
pub use user::{ResolvedUser, UserError, resolve_user};

/// The private verb of a monitor process.
const MONITOR: &str = "__monitor";

/// The private verb of an exec helper.
const EXEC: &str = "__exec";

/// To be called first thing in `main`, before any thread is made, with all arguments: when this process was started by a [`LinuxExecutor`] to be a
/// monitor or an exec helper, it does that work and gives the exit code to end with. `None` for every other command line.
#[must_use]
pub fn intercept(args: &[OsString]) -> Option<i32> {
    match args.get(1)?.to_str()? {
        MONITOR => Some(monitor::main(&args[2..])),
        EXEC => Some(helper::main()),
        _ => None,
    }
}
