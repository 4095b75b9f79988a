//! Capabilities by name, the default set, and giving the rest up.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::Security;
use crate::failure::Failure;

/// In the kernel's order: the position is the number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has unless told otherwise: what containerd gives, without NET_RAW (forging packets) and MKNOD.
const DEFAULT: [&str; 12] =
    ["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"];

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    pub(crate) fn contains(self, name: &str) -> bool {
        NAMES.iter().position(|known| *known == name).is_some_and(|number| self.0 & (1 << number) != 0)
    }

    /// The set that a container has: never more than `available`, whose lack is not an error.
    pub(crate) fn of(security: &Security, available: u64) -> Result<Self, Failure> {
        if security.privileged {
            return Ok(Capabilities(available));
        }
        let mut set = 0;
        for name in DEFAULT {
            set |= bits(name)?;
        }
        // The order does not depend on how they are written: what is dropped by ALL can be added by name, and the other way round.
        let drop_all = security.drop_capabilities.iter().any(|name| plain(name) == "ALL");
        if drop_all {
            set = 0;
        }
        for name in &security.add_capabilities {
            set |= bits(name)?;
        }
        for name in security.drop_capabilities.iter().filter(|name| plain(name) != "ALL") {
            set &= !bits(name)?;
        }
        Ok(Capabilities(set & available))
    }

    /// What this process may pass on: its permitted set.
    pub(crate) fn available() -> io::Result<u64> {
        Ok(rustix::thread::capabilities(None)?.permitted.bits())
    }

    /// Takes everything else out of the bounding set and empties the ambient one. Needs CAP_SETPCAP.
    pub(crate) fn bound(self) -> io::Result<()> {
        for number in 0..64 {
            if self.0 & (1 << number) != 0 {
                continue;
            }
            // SAFETY: this prctl takes plain numbers.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) } != 0 {
                match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::EINVAL) => break, // beyond the last one of this kernel
                    error => return Err(error),
                }
            }
        }
        // SAFETY: this prctl takes plain numbers.
        match unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Makes it the permitted and effective set; nothing is inheritable.
    pub(crate) fn apply(self) -> io::Result<()> {
        let set = CapabilitySet::from_bits_retain(self.0) & rustix::thread::capabilities(None)?.permitted;
        Ok(rustix::thread::set_capabilities(None, CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() })?)
    }
}

/// `CAP_` is optional, case does not matter.
fn plain(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
}

fn bits(name: &str) -> Result<u64, Failure> {
    let plain = plain(name);
    if plain == "ALL" {
        return Ok((1 << NAMES.len()) - 1);
    }
    let number = NAMES.iter().position(|known| *known == plain);
    number.map(|number| 1 << number).ok_or_else(|| Failure::new(format!("there is no capability {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = (1 << 41) - 1;

    fn set(add: &[&str], drop: &[&str], available: u64) -> u64 {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Capabilities::of(&Security { add_capabilities: names(add), drop_capabilities: names(drop), ..Security::default() }, available).unwrap().0
    }

    #[test]
    fn a_build_has_what_buildkit_gives_and_a_pod_less() {
        assert_eq!(set(&["NET_RAW", "MKNOD"], &[], ALL), 0xa804_25fb);
        assert_eq!(set(&[], &[], ALL), 0xa804_25fb & !(1 << 13) & !(1 << 27));
    }

    #[test]
    fn adding_and_dropping() {
        assert_eq!(set(&["NET_BIND_SERVICE"], &["ALL"], ALL), 1 << 10);
        assert_eq!(set(&["cap_net_bind_service"], &["all"], ALL), 1 << 10);
        assert_eq!(set(&["ALL"], &["CAP_SYS_ADMIN"], ALL), ALL & !(1 << 21));
        assert_eq!(set(&["SYS_RESOURCE"], &["ALL"], ALL & !(1 << 24)), 0, "what we lack cannot be given");
        let unknown = Security { add_capabilities: vec!["FLY".to_owned()], ..Security::default() };
        assert_eq!(Capabilities::of(&unknown, ALL).unwrap_err().text, "there is no capability \"FLY\"");
    }
}
