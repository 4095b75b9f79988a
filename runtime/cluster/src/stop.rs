//! Stopping: pods, network and server; or what a server that was killed left.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use strake_container::{ContainerId, Executor, LinuxExecutor};
use strake_network::Network;
use strake_store::Store;

use crate::ClusterError;
use crate::lock::{ServeLock, holder};
use crate::serve::{network_options, patiently};

/// How long a server may take to stop its pods. Their own grace periods run inside this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What there was to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing.
    Nothing,
    /// A running server with its pods.
    Server { pods: usize },
    /// Pods and network of a server that is gone.
    Remains { pods: usize },
}

/// A server that is told to end finds this and stops its pods too.
pub(crate) fn marker(root: &Path) -> PathBuf {
    root.join("run/stop")
}

/// There from before the network of a directory's cluster is made until it is gone: without it, the network of this machine is another cluster's.
pub(crate) fn network_marker(root: &Path) -> PathBuf {
    root.join("run/network")
}

/// Whether a container is a pod's: a build that runs beside the cluster keeps its own.
pub(crate) fn is_pods(id: &ContainerId) -> bool {
    id.0.contains('_')
}

/// Pods that have containers.
pub(crate) fn pods(executor: &LinuxExecutor) -> usize {
    let ids = executor.list().unwrap_or_default();
    let mut uids: Vec<String> = ids.iter().filter_map(|id| id.0.split_once('_').map(|(uid, _)| uid.to_owned())).collect();
    uids.sort();
    uids.dedup();
    uids.len()
}

/// Stops the cluster of a state directory.
///
/// # Errors
/// What cannot be removed is named.
pub fn stop(root: &Path) -> Result<Stopped, ClusterError> {
    if !root.exists() {
        return Ok(Stopped::Nothing);
    }
    let executor = LinuxExecutor::new(root, PathBuf::from("/proc/self/exe")).map_err(ClusterError::Container)?;
    let pods = pods(&executor);
    let Some(server) = holder(root) else {
        let something = pods > 0 || network_marker(root).exists();
        remains(root, &executor)?;
        return Ok(if something { Stopped::Remains { pods } } else { Stopped::Nothing });
    };
    let path = marker(root);
    fs::write(&path, "pods\n").map_err(|source| ClusterError::Write { path: path.clone(), source })?;
    end(server.pid)?;
    // Whatever a server left that had to be killed, or that was killed just now by somebody else.
    remains(root, &executor)?;
    let _ = fs::remove_file(path);
    Ok(Stopped::Server { pods })
}

/// Tells a server to end and waits for it; one that has ended meanwhile is fine.
fn end(server: i32) -> Result<(), ClusterError> {
    let system = |action| move |source: Errno| ClusterError::System { action, source: source.into() };
    // The kernel names no process when it is one of another process namespace.
    let pid = Pid::from_raw(server).ok_or(ClusterError::System { action: "find the server", source: std::io::ErrorKind::NotFound.into() })?;
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        opened => opened.map_err(system("find the server"))?,
    };
    match pidfd_send_signal(&pidfd, Signal::TERM) {
        Err(Errno::SRCH) => return Ok(()),
        sent => sent.map_err(system("signal the server"))?,
    }
    if !wait(&pidfd).map_err(system("wait for the server"))? {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        wait(&pidfd).map_err(system("wait for the server"))?;
    }
    Ok(())
}

/// Whether it ends in time.
fn wait(pidfd: &OwnedFd) -> Result<bool, Errno> {
    let limit = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&limit)) {
            Err(Errno::INTR) => {}
            ended => return ended.map(|count| count > 0),
        }
    }
}

/// Whether there is anything of a cluster that no server looks after: pods that go on, or their network.
pub fn is_left(root: &Path) -> bool {
    let containers = fs::read_dir(root.join("containers")).into_iter().flatten().flatten();
    holder(root).is_none() && (network_marker(root).exists() || containers.into_iter().any(|entry| entry.file_name().to_string_lossy().contains('_')))
}

/// Removes containers, their file systems and the network without a server.
fn remains(root: &Path, executor: &LinuxExecutor) -> Result<(), ClusterError> {
    let lock = ServeLock::take(root)?;
    executor.repair_own(&is_pods).map_err(ClusterError::Container)?;
    for id in executor.list().map_err(ClusterError::Container)?.into_iter().filter(is_pods) {
        executor.remove(&id).map_err(ClusterError::Container)?;
    }
    let store = Store::open(root).map_err(ClusterError::Store)?;
    for name in store.workings().map_err(ClusterError::Store)? {
        store.remove_working(&name).map_err(ClusterError::Store)?;
    }
    if network_marker(root).exists() {
        remove_network(root, &lock)?;
    }
    strake_node::remove_remains(root).map_err(ClusterError::Node)
}

fn remove_network(root: &Path, lock: &ServeLock) -> Result<(), ClusterError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| ClusterError::System { action: "start a runtime", source })?;
    runtime.block_on(async {
        let open = async || Network::open(network_options(root)).await.map_err(ClusterError::network);
        let network = match patiently(lock, open).await {
            // Another cluster took over what a killed server of ours left.
            Err(ClusterError::NetworkTaken { .. }) => return Ok(()),
            opened => opened?,
        };
        network.repair(&[]).map_err(ClusterError::Network)?;
        network.teardown().await.map_err(ClusterError::Network)
    })?;
    let path = network_marker(root);
    fs::remove_file(&path).map_err(|source| ClusterError::Write { path, source })
}
