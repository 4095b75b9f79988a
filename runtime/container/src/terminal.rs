//! Terminals, made in the container's own devpts and passed on by descriptor: nothing is looked up by its name in a directory that a container can write to.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;

use crate::mount;

/// Opens a new terminal of a devpts instance: master and slave.
pub(crate) fn open(devpts: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    if rustix::fs::fstatfs(devpts)?.f_type != libc::DEVPTS_SUPER_MAGIC {
        return Err(io::Error::other("/dev/pts is no devpts file system"));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = rustix::fs::openat(devpts, "ptmx", flags, rustix::fs::Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok((master, slave))
}

/// The devpts instance of the root file system that this process is in.
pub(crate) fn of_this_root() -> io::Result<OwnedFd> {
    let top = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    mount::open_plain(top, "dev/pts")
}
