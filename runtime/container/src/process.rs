//! Naming a process so that a reused number is never mistaken for it: pid, start time and boot.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// A process of this boot of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
    /// The boot it belongs to.
    pub boot: String,
}

impl ProcessId {
    /// The process that has this number now; `None` when there is none or it is a zombie.
    pub(crate) fn of(pid: i32) -> io::Result<Option<Self>> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(start_ticks(pid)?.map(|start_ticks| ProcessId { pid, start_ticks, boot }))
    }

    /// A pidfd of it, or `None` when it has ended. The number is checked after the descriptor is open, so that it cannot change in between.
    pub(crate) fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let same = start_ticks(self.pid)? == Some(self.start_ticks);
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok((same && boot.trim() == self.boot).then_some(fd))
    }

    /// Sends SIGKILL if it still runs, and waits up to `limit` for its end; says whether it has ended.
    pub(crate) fn kill(&self, limit: Duration) -> io::Result<bool> {
        let Some(fd) = self.open()? else { return Ok(true) };
        send_signal(&fd, libc::SIGKILL)?;
        wait_readable(&fd, Some(limit))
    }
}

/// The start time of a process that is no zombie.
fn start_ticks(pid: i32) -> io::Result<Option<u64>> {
    let stat = match fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(parse_start_ticks(&String::from_utf8_lossy(&stat)))
}

/// Field 22; the name in field 2 may hold anything, so counting begins after its last parenthesis. Zombies and the dead give `None`.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Sends a signal through a pidfd; a process that has ended is no error.
pub(crate) fn send_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open for the call, a null siginfo is allowed, flags are 0.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0) };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// Waits until a descriptor is readable (for a pidfd: the process has ended); `false` when the time is up first.
pub(crate) fn wait_readable(fd: impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
    let limit = limit.map(|limit| Timespec { tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: limit.subsec_nanos().into() });
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    loop {
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_field_22_whatever_the_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse_start_ticks(&format!("12 (sh) {tail}")), Some(4711));
        assert_eq!(parse_start_ticks(&format!("12 (a b) c) {tail}")), Some(4711));
        assert_eq!(parse_start_ticks(&format!("12 (sh) {}", tail.replacen('S', "Z", 1))), None);
    }

    #[test]
    fn a_process_is_itself_and_no_other() {
        let me = ProcessId::of(std::process::id() as i32).unwrap().unwrap();
        assert!(me.open().unwrap().is_some());
        assert!(ProcessId { start_ticks: me.start_ticks + 1, ..me.clone() }.open().unwrap().is_none());
        assert!(ProcessId { boot: "another".to_owned(), ..me }.open().unwrap().is_none());
        assert_eq!(ProcessId::of(i32::MAX).unwrap(), None);
    }
}
