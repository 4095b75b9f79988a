//! The first process of a container, from its birth in new namespaces to the moment it becomes the program.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};
use rustix::mount::{MountAttrFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::{Deserialize, Serialize};

use crate::failure::{Doing, Failure};
use crate::mount::{self, Kind};
use crate::program::{Program, Stdio, die_with_parent, end, make_mounts_private};
use crate::rootfs::{self, Furnished};
use crate::spec::{ContainerSpec, NetworkNamespace};
use crate::{terminal, wire};

/// What the first process tells its monitor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// Everything is in place. With a terminal, its master side comes along.
    Ready { stubs: Vec<String> },
    /// It will not run.
    Failed(Failure),
}

/// What the monitor tells it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// Become the program.
    Go,
}

/// Namespaces that every container has.
const NAMESPACES: i32 = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// What the monitor hands to the process it forks.
pub(crate) struct Init<'a> {
    pub spec: &'a ContainerSpec,
    pub dir: &'a Path,
    /// (controller, directory) of each cgroup.
    pub cgroups: Vec<(String, PathBuf)>,
    pub network: Option<OwnedFd>,
    pub program: Program,
    /// stdin, or none for /dev/null.
    pub stdin: Option<OwnedFd>,
    /// stdout and stderr, unless there is a terminal.
    pub outputs: Option<[OwnedFd; 2]>,
    pub monitor: OwnedFd,
}

/// The clone flags for a spec.
pub(crate) fn clone_flags(spec: &ContainerSpec) -> u64 {
    let network = if spec.network == NetworkNamespace::Isolated { libc::CLONE_NEWNET } else { 0 };
    (NAMESPACES | network) as u64
}

impl Init<'_> {
    /// Does not return: it becomes the program or ends.
    pub(crate) fn run(self) -> ! {
        let monitor = self.monitor.try_clone();
        let failure = match self.prepare_and_run() {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        if let Ok(monitor) = monitor {
            let _ = wire::send(monitor, &FromInit::Failed(failure.clone()), &[]);
        }
        end(failure.code)
    }

    fn prepare_and_run(self) -> Result<std::convert::Infallible, Failure> {
        die_with_parent().doing("bind the process to its monitor")?;
        rustix::process::umask(rustix::fs::Mode::empty());
        rustix::system::sethostname(self.spec.hostname.as_bytes()).doing_to("set the host name", &self.spec.hostname)?;
        self.join_network()?;
        make_mounts_private().doing("part from the host's mounts")?;
        let at = self.dir.join("rootfs");
        let mut furnished = rootfs::furnish(self.spec, &at, &self.dir.join("empty"), &self.cgroups)?;
        make_cwd(&mut furnished, self.program.cwd())?;
        let terminal = if self.spec.terminal { Some(open_console(&furnished)?) } else { None };
        if self.spec.security.read_only_root {
            mount::set_attributes(&furnished.root.fd, MountAttrFlags::MOUNT_ATTR_RDONLY, false).doing("make the root file system read-only")?;
        }
        pivot(&furnished)?;

        let ready = FromInit::Ready { stubs: furnished.root.stubs };
        let (master, slave) = terminal.unzip();
        let attached: Vec<_> = master.iter().map(AsFd::as_fd).collect();
        wire::send(&self.monitor, &ready, &attached).doing("report to the monitor")?;
        drop(master);
        match wire::receive::<ToInit>(&self.monitor).doing("hear from the monitor")? {
            Some((ToInit::Go, _)) => {}
            None => end(1), // the monitor is gone
        }
        if !self.cgroups.is_empty() {
            // SAFETY: no other thread shares this process's state.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }.doing("make a cgroup namespace")?;
        }
        let stdio = match (slave, self.outputs) {
            (Some(slave), _) => Stdio::Terminal(slave),
            (None, Some([stdout, stderr])) => Stdio::Files([self.stdin.map_or_else(rootfs::open_null, Ok).doing("open /dev/null")?, stdout, stderr]),
            (None, None) => return Err(Failure::new("there are no standard streams")),
        };
        Err(self.program.run(stdio, &self.monitor))
    }

    fn join_network(&self) -> Result<(), Failure> {
        if let Some(network) = &self.network {
            rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).doing("join the network namespace")?;
        }
        if self.spec.network == NetworkNamespace::Isolated {
            bring_loopback_up().doing("bring the loopback interface up")?;
        }
        Ok(())
    }
}

/// The working directory is made when missing; it is no mount stub.
fn make_cwd(furnished: &mut Furnished, cwd: &str) -> Result<(), Failure> {
    if cwd == "proc" || cwd.starts_with("proc/") {
        return Err(Failure::new(format!("the working directory /{cwd} is inside /proc")));
    }
    if mount::open_in_root(&furnished.root.fd, cwd, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
        return Ok(());
    }
    let stubs = furnished.root.stubs.len();
    let made =
        furnished.root.target(&format!("/{cwd}"), Kind::Directory).map_err(|failure| Failure::new(format!("working directory /{cwd}: {}", failure.text)));
    furnished.root.stubs.truncate(stubs);
    made.map(drop)
}

/// A terminal, its slave side mounted as `/dev/console` by descriptor.
fn open_console(furnished: &Furnished) -> Result<(OwnedFd, OwnedFd), Failure> {
    let (master, slave) = terminal::open(&furnished.terminals).doing("open a terminal")?;
    let mounted = rootfs::place_file(&furnished.dev, "console").and_then(|()| {
        let copy = mount::copy(&slave, Path::new(""), false)?;
        mount::attach(copy, mount::open_plain(&furnished.dev, "console")?)
    });
    mounted.doing("mount /dev/console")?;
    Ok((master, slave))
}

/// Makes the furnished root this namespace's only one.
fn pivot(furnished: &Furnished) -> Result<(), Failure> {
    rustix::process::fchdir(&furnished.root.fd).doing("enter the root file system")?;
    rustix::process::pivot_root(".", ".").doing("change the root file system")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing("leave the host's file systems")?;
    rustix::process::chdir("/").doing("enter the root directory")
}

/// Opens the namespace bound to the path, when the spec names one.
pub(crate) fn open_network(spec: &ContainerSpec) -> Result<Option<OwnedFd>, Failure> {
    let NetworkNamespace::Path(path) = &spec.network else { return Ok(None) };
    let fd = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty());
    fd.map(Some).doing_to("open the network namespace", &path.display())
}

fn bring_loopback_up() -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: all zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the socket is open, and SIOCSIFFLAGS reads one ifreq.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
