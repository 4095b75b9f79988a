//! Network namespaces bound to a path. Entering one is done in a thread that ends right after, so that no thread of the
//! daemon is ever found in a pod's namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};

use crate::NetworkError;

/// Makes a namespace, binds it to `path` and runs `inside` in it. A namespace bound there already is entered instead.
pub(crate) fn create<T: Send>(path: &Path, inside: impl FnOnce() -> Result<T, NetworkError> + Send) -> Result<T, NetworkError> {
    let failed = |source| NetworkError::CreateNamespace { path: path.to_owned(), source };
    if is_bound(path) {
        return enter(path, inside);
    }
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    File::create(path).map_err(failed)?;
    let made = in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))?;
        let own = format!("/proc/self/task/{}/ns/net", rustix::thread::gettid().as_raw_nonzero());
        rustix::mount::mount_bind(own, path).map_err(|error| failed(error.into()))?;
        inside()
    })
    .map_err(failed)
    .flatten();
    if made.is_err() {
        let _ = remove(path);
    }
    made
}

/// Runs `inside` in the namespace bound to `path`.
pub(crate) fn enter<T: Send>(path: &Path, inside: impl FnOnce() -> Result<T, NetworkError> + Send) -> Result<T, NetworkError> {
    let failed = |source| NetworkError::EnterNamespace { path: path.to_owned(), source };
    let namespace = File::open(path).map_err(failed)?;
    in_thread(|| {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))?;
        inside()
    })
    .map_err(failed)
    .flatten()
}

/// Unbinds and removes; a path that isn't there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::RemoveNamespace { path: path.to_owned(), source };
    match rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW) {
        // Not a mount point, or nothing there.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(failed(error.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Whether a namespace is bound there: after a reboot the file is an ordinary one.
pub(crate) fn is_bound(path: &Path) -> bool {
    const NSFS: u64 = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|facts| u64::try_from(facts.f_type).is_ok_and(|kind| kind == NSFS))
}

fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("strake-netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| io::Error::other("the thread that entered the namespace panicked"))
    })
}
