//! The last steps of a process of ours before it becomes the container's program.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libc::sock_filter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Resource, Rlimit};

use crate::capability::Capabilities;
use crate::failure::{Doing, Failure};
use crate::mount::{clean, open_in_root};
use crate::seccomp;
use crate::spec::{ContainerSpec, ExecSpec, ResourceLimit, SecretMount, User, VolumeMount};

/// Where programs are looked up when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with everything it is to run under, made while memory can still be allocated without a thought.
pub(crate) struct Program {
    name: String,
    /// What to try, in order.
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: String,
    user: User,
    capabilities: Capabilities,
    filter: Option<Vec<sock_filter>>,
    no_new_privileges: bool,
    limits: Vec<(Resource, Rlimit)>,
}

/// The standard streams of a program.
pub(crate) enum Stdio {
    /// stdin, stdout, stderr.
    Files([OwnedFd; 3]),
    /// The slave side of a terminal, which also becomes the controlling one.
    Terminal(OwnedFd),
}

impl Program {
    /// A container's own program.
    pub(crate) fn of(spec: &ContainerSpec) -> Result<Self, Failure> {
        let mut env = spec.env.clone();
        env.extend(secrets(spec)?);
        Self::new(spec, &spec.args, env, &spec.cwd, &spec.user, spec.terminal)
    }

    /// A further program in a container; the secrets of the first are not its own.
    pub(crate) fn in_container(spec: &ContainerSpec, exec: &ExecSpec) -> Result<Self, Failure> {
        let mut env: Vec<String> = spec.env.clone();
        for entry in &exec.env {
            let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
            env.retain(|old| old.split_once('=').map_or(old.as_str(), |(old, _)| old) != key);
            env.push(entry.clone());
        }
        let cwd = exec.cwd.as_ref().unwrap_or(&spec.cwd);
        Self::new(spec, &exec.args, env, cwd, exec.user.as_ref().unwrap_or(&spec.user), exec.terminal)
    }

    fn new(spec: &ContainerSpec, args: &[String], mut env: Vec<String>, cwd: &str, user: &User, terminal: bool) -> Result<Self, Failure> {
        let Some(name) = args.first().filter(|name| !name.is_empty()).cloned() else {
            return Err(Failure { text: "no program is given".to_owned(), code: 127 });
        };
        if !cwd.is_empty() && !cwd.starts_with('/') {
            return Err(Failure::new(format!("the working directory {cwd:?} is not absolute")));
        }
        if terminal && !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        let candidates = if name.contains('/') { vec![name.clone()] } else { lookups(path, &name) };
        let available = Capabilities::available().doing("read the capabilities of this process")?;
        let capabilities = Capabilities::of(&spec.security, available)?;
        let filtered = spec.security.seccomp && !spec.security.privileged;
        Ok(Program {
            candidates: strings(&candidates)?,
            args: strings(args)?,
            env: strings(&env)?,
            cwd: clean(cwd),
            user: user.clone(),
            capabilities,
            filter: filtered.then(|| seccomp::program(capabilities)),
            no_new_privileges: spec.security.no_new_privileges,
            limits: spec.rlimits.iter().map(limit).collect::<Result<_, _>>()?,
            name,
        })
    }

    /// The working directory, without its leading `/`.
    pub(crate) fn cwd(&self) -> &str {
        &self.cwd
    }

    /// Becomes the program; comes back only when that failed. `owner` is a socket to the process that owns this one: when its other end is gone, so
    /// is the owner, and this process ends.
    pub(crate) fn run(self, stdio: Stdio, owner: &OwnedFd) -> Failure {
        match self.become_it(stdio, owner) {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    fn become_it(self, stdio: Stdio, owner: &OwnedFd) -> Result<std::convert::Infallible, Failure> {
        let _ = rustix::process::setsid();
        take_stdio(stdio, self.user.uid).doing("set up the standard streams")?;
        enter_directory(&self.cwd)?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        default_signals();
        self.drop_privileges()?;
        // Changing the user cleared the order to die with the owner; an owner that went in between shows as a closed socket.
        die_with_parent().doing("bind the process to its owner")?;
        if closed(owner) {
            return Err(Failure::new("the process that owns this one has ended"));
        }
        close_on_exec_from(3).doing("close inherited files")?;
        Err(self.execute())
    }

    /// The filter goes in before CAP_SYS_ADMIN goes, because without no_new_privs it needs it; it allows the calls that follow.
    fn drop_privileges(&self) -> Result<(), Failure> {
        for (resource, limit) in &self.limits {
            rustix::process::setrlimit(*resource, *limit).doing("set a resource limit")?;
        }
        set_groups(&self.user.groups).doing("set the supplementary groups")?;
        set_gid(self.user.gid).doing_to("become group", &self.user.gid)?;
        self.capabilities.bound().doing("drop capabilities")?;
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).doing("set no_new_privs")?;
        }
        if let Some(filter) = &self.filter {
            seccomp::install(filter).doing("install the seccomp filter")?;
        }
        set_uid(self.user.uid).doing_to("become user", &self.user.uid)?;
        if self.user.uid == 0 {
            self.capabilities.apply().doing("drop capabilities")?;
        }
        Ok(())
    }

    fn execute(&self) -> Failure {
        let mut refused = None;
        for candidate in &self.candidates {
            let error = execve(candidate, &self.args, &self.env);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) if !exists(candidate) => {}
                Some(libc::EACCES) => refused = Some(error), // perhaps a directory of PATH holds a usable one further on
                _ => return self.failed(&error),
            }
        }
        match refused {
            Some(error) => self.failed(&error),
            None if self.name.contains('/') => Failure { text: format!("exec: {:?}: no such file or directory", self.name), code: 127 },
            None => Failure { text: format!("exec: {:?}: executable file not found in $PATH", self.name), code: 127 },
        }
    }

    fn failed(&self, error: &io::Error) -> Failure {
        let why = match error.raw_os_error() {
            Some(libc::EACCES) => "permission denied".to_owned(),
            Some(libc::ENOEXEC) => "exec format error: not a program for this machine, and no script that begins with #!".to_owned(),
            Some(libc::ENOENT) => "its interpreter or dynamic loader is not in the image".to_owned(),
            Some(libc::E2BIG) => "arguments and environment are too long".to_owned(),
            _ => error.to_string(),
        };
        let code = if error.raw_os_error() == Some(libc::ENOENT) { 127 } else { 126 };
        Failure { text: format!("exec: {:?}: {why}", self.name), code }
    }
}

/// The paths that a name may be at; an empty entry of PATH is the working directory.
fn lookups(path: &str, name: &str) -> Vec<String> {
    path.split(':').map(|dir| if dir.is_empty() { format!("./{name}") } else { format!("{}/{name}", dir.trim_end_matches('/')) }).collect()
}

/// The secrets that are variables, as `NAME=value`. The value is read here and is in no file of the container.
fn secrets(spec: &ContainerSpec) -> Result<Vec<String>, Failure> {
    let named = spec.mounts.iter().filter_map(|volume| match volume {
        VolumeMount::Secret(secret) => secret.env.as_ref().map(|name| (name, secret)),
        _ => None,
    });
    let read = |(name, secret): (&String, &SecretMount)| {
        let value = std::fs::read_to_string(&secret.source).doing_to("read the secret for the variable", name)?;
        Ok(format!("{name}={value}"))
    };
    named.map(read).collect()
}

/// A limit by its name.
fn limit(limit: &ResourceLimit) -> Result<(Resource, Rlimit), Failure> {
    let resource = match limit.name.as_str() {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        other => return Err(Failure::new(format!("there is no resource limit {other:?}"))),
    };
    Ok((resource, Rlimit { current: limit.soft, maximum: limit.hard }))
}

fn strings(texts: &[String]) -> Result<Vec<CString>, Failure> {
    texts.iter().map(|text| CString::new(text.as_str()).map_err(|_| Failure::new(format!("{text:?} holds a NUL byte")))).collect()
}

/// Whether there is something at a path, whatever it is.
fn exists(path: &CStr) -> bool {
    rustix::fs::statat(rustix::fs::CWD, path, rustix::fs::AtFlags::empty()).is_ok()
}

/// Goes to a directory below `/`. Nothing of /proc is accepted: its links lead to files outside.
fn enter_directory(cwd: &str) -> Result<(), Failure> {
    let shown = format!("/{cwd}");
    if cwd == "proc" || cwd.starts_with("proc/") {
        return Err(Failure::new(format!("the working directory {shown} is inside /proc")));
    }
    let top = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty()).doing("open the root directory")?;
    let dir = open_in_root(top, cwd, OFlags::PATH | OFlags::DIRECTORY).doing_to("open the working directory", &shown)?;
    if rustix::fs::fstatfs(&dir).doing_to("inspect the working directory", &shown)?.f_type == libc::PROC_SUPER_MAGIC {
        return Err(Failure::new(format!("the working directory {shown} is inside /proc")));
    }
    rustix::process::fchdir(&dir).doing_to("enter the working directory", &shown)?;
    let real = rustix::process::getcwd(Vec::new()).doing("name the working directory")?;
    if real.to_bytes().first() != Some(&b'/') {
        return Err(Failure::new(format!("the working directory {shown} is outside the root file system")));
    }
    Ok(())
}

/// Pipes and terminals become the user's, so that `/dev/stdout` can be opened; the null device, which all share, does not.
fn take_stdio(stdio: Stdio, uid: u32) -> io::Result<()> {
    let onto = |fd: &OwnedFd, number: i32| -> io::Result<()> {
        if uid != 0 && (FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Fifo || rustix::termios::isatty(fd)) {
            rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None)?;
        }
        // SAFETY: dup2 with an open descriptor; the standard streams it replaces are owned by nobody in this process.
        if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    match stdio {
        Stdio::Files(files) => files.iter().zip(0..).try_for_each(|(fd, number)| onto(fd, number)),
        Stdio::Terminal(slave) => {
            (0..3).try_for_each(|number| onto(&slave, number))?;
            Ok(rustix::process::ioctl_tiocsctty(&slave)?)
        }
    }
}

/// Default action for every signal and none blocked: Rust ignores SIGPIPE, our monitor a few more, and both are inherited.
fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; numbers that cannot be changed are refused, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that sigprocmask then reads.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// This process gets SIGKILL when its parent ends. (Parents here have one thread: the kernel goes by threads.)
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

/// Whether the other end of a socket is closed.
pub(crate) fn closed(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(count) if count > 0)
}

/// Marks every descriptor from this number on to be closed on exec.
fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: plain numbers; the descriptors stay open, only a flag is set on them.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and the count describe one slice; gid_t is u32.
    if unsafe { libc::setgroups(groups.len(), groups.as_ptr()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: plain numbers.
    if unsafe { libc::setresgid(gid, gid, gid) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: plain numbers.
    if unsafe { libc::setresuid(uid, uid, uid) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Replaces the program of this process; returns only on failure.
fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> { strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect() };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: path is a C string; both arrays end with a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Keeps mounts of this namespace and those of others apart, in both directions.
pub(crate) fn make_mounts_private() -> io::Result<()> {
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// libc's own constant has the wrong width.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A process made by `fork_with`.
pub(crate) struct Forked {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Forks with namespace flags; `None` in the child. Only for processes with one thread, which then may do anything in the child.
pub(crate) fn fork_with(flags: u64, into_cgroup: Option<&OwnedFd>) -> io::Result<Option<Forked>> {
    use std::os::fd::FromRawFd;
    let mut pidfd: i32 = -1;
    let mut args = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(group) = into_cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_fd().as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and with no stack this is a fork: the child continues here on its own copy of the memory. The process has one thread,
    // so no lock can be held by another. `args` is valid and has the size that is passed.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, std::mem::size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(None),
        // SAFETY: on success the kernel wrote a new descriptor, which nothing else owns.
        pid if pid > 0 => Ok(Some(Forked { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process at once, without any of the exit handlers that belong to the process it was forked from.
pub(crate) fn end(code: i32) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_order() {
        assert_eq!(lookups("/a:/b/::c", "x"), ["/a/x", "/b/x", "./x", "c/x"]);
    }
}
