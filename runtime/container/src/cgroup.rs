//! Control groups, version 1, version 2, and machines that have both.
//!
//! Only the controllers that a limit asks for are joined: joining a v1 hierarchy after some idleness waits for an RCU grace period, about 10 ms.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Limits;
use crate::failure::{Doing, Failure};
use crate::process::send_signal;

/// The period over which CPU time is counted, in microseconds.
const PERIOD_US: u64 = 100_000;

/// Where this machine's control groups are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// The unified hierarchy and the controllers it has.
    unified: Option<(PathBuf, Vec<String>)>,
    /// v1 controllers and their mount points.
    legacy: Vec<(String, PathBuf)>,
}

/// A cgroup of one container: one for each v1 controller, or one for all on v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The v1 controller; empty on v2.
    pub controller: String,
    /// The mount point.
    root: PathBuf,
    /// Names from the mount point down to the container's own directory.
    names: Vec<String>,
    /// v2 controllers that must be passed down to it.
    enable: Vec<String>,
    /// Files to write, and whether the file may be missing.
    settings: Vec<(&'static str, String, bool)>,
}

impl Hierarchies {
    /// Reads the mount table of this process.
    pub(crate) fn detect() -> io::Result<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::parse(&table, |root| fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()))
    }

    /// From the text of a mount table; `controllers` reads `cgroup.controllers` of a unified hierarchy.
    fn parse(table: &str, controllers: impl Fn(&Path) -> String) -> Self {
        let mut found = Hierarchies::default();
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4).map(unescape) else { continue };
            let mut fields = right.split(' ');
            match fields.next() {
                Some("cgroup2") if found.unified.is_none() => {
                    let names = controllers(&point).split_whitespace().map(str::to_owned).collect();
                    found.unified = Some((point, names));
                }
                Some("cgroup") => {
                    for option in fields.nth(1).unwrap_or_default().split(',') {
                        if matches!(option, "memory" | "cpu" | "pids") && !found.legacy.iter().any(|(name, _)| name == option) {
                            found.legacy.push((option.to_owned(), point.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The groups that these limits need; none when there are no limits.
    pub(crate) fn plan(&self, parent: &str, leaf: &str, limits: &Limits) -> Result<Vec<Group>, Failure> {
        let mut names: Vec<String> = parent.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.iter().any(|name| name == "." || name == "..") {
            return Err(Failure::new(format!("the cgroup parent {parent:?} is not a plain path")));
        }
        names.push(leaf.to_owned());
        let mut groups: Vec<Group> = Vec::new();
        for (controller, v1, v2) in settings(limits) {
            if v1.is_empty() && !limits.below_parent {
                continue;
            }
            if let Some((_, root)) = self.legacy.iter().find(|(name, _)| name == controller) {
                let (controller, root, names) = (controller.to_owned(), root.clone(), names.clone());
                groups.push(Group { controller, root, names, enable: Vec::new(), settings: v1 });
                continue;
            }
            let Some((root, _)) = self.unified.as_ref().filter(|(_, known)| known.iter().any(|name| name == controller)) else {
                if v1.is_empty() {
                    continue;
                }
                return Err(Failure::new(format!("a limit needs the cgroup controller {controller}, which this machine does not have")));
            };
            match groups.iter_mut().find(|group| group.controller.is_empty()) {
                Some(group) => {
                    group.enable.push(controller.to_owned());
                    group.settings.extend(v2);
                }
                None => {
                    let enable = vec![controller.to_owned()];
                    groups.push(Group { controller: String::new(), root: root.clone(), names: names.clone(), enable, settings: v2 });
                }
            }
        }
        Ok(groups)
    }
}

type Settings = Vec<(&'static str, String, bool)>;

/// For each controller, the files of version 1 and of version 2.
fn settings(limits: &Limits) -> [(&'static str, Settings, Settings); 3] {
    let (mut memory, mut memory2, mut cpu, mut cpu2, mut pids, mut pids2) = (vec![], vec![], vec![], vec![], vec![], vec![]);
    if let Some(bytes) = limits.memory_bytes {
        memory.push(("memory.limit_in_bytes", bytes.to_string(), false));
        memory.push(("memory.memsw.limit_in_bytes", bytes.to_string(), true));
        memory2.push(("memory.max", bytes.to_string(), false));
        memory2.push(("memory.swap.max", "0".to_owned(), true));
        memory2.push(("memory.oom.group", "1".to_owned(), true));
    }
    if let Some(milli) = limits.cpu_request_milli {
        let shares = (milli.saturating_mul(1024) / 1000).clamp(2, 262_144);
        cpu.push(("cpu.shares", shares.to_string(), false));
        cpu2.push(("cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string(), false));
    }
    if let Some(milli) = limits.cpu_milli {
        let quota = (milli.saturating_mul(PERIOD_US) / 1000).max(1000);
        cpu.push(("cpu.cfs_period_us", PERIOD_US.to_string(), false));
        cpu.push(("cpu.cfs_quota_us", quota.to_string(), false));
        cpu2.push(("cpu.max", format!("{quota} {PERIOD_US}"), false));
    }
    if let Some(count) = limits.pids {
        pids.push(("pids.max", count.to_string(), false));
        pids2.push(("pids.max", count.to_string(), false));
    }
    [("memory", memory, memory2), ("cpu", cpu, cpu2), ("pids", pids, pids2)]
}

impl Group {
    /// Its directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.names.iter().fold(self.root.clone(), |path, name| path.join(name))
    }

    /// Makes it and its parents, and writes the limits.
    pub(crate) fn make(&self) -> Result<(), Failure> {
        let path = self.path();
        // Another container's end may remove a parent between our steps: then from the top again.
        let mut attempts = 0;
        while let Err(error) = self.make_directories() {
            attempts += 1;
            if error.kind() != io::ErrorKind::NotFound || attempts == 50 {
                return Err(error).doing_to("make the cgroup", &path.display());
            }
        }
        for (file, value, optional) in &self.settings {
            match write(&path.join(file), value) {
                Err(_) if *optional => {}
                written => written.doing_to(&format!("write {value} to"), &path.join(file).display())?,
            }
        }
        Ok(())
    }

    fn make_directories(&self) -> io::Result<()> {
        let mut path = self.root.clone();
        for name in &self.names {
            for controller in &self.enable {
                write(&path.join("cgroup.subtree_control"), &format!("+{controller}"))?;
            }
            path.push(name);
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Moves a process (all its threads) into a group.
pub(crate) fn join(group: &Path, pid: i32) -> io::Result<()> {
    write(&group.join("cgroup.procs"), &pid.to_string())
}

/// The file that takes processes into a group, to be written later by a process that no longer sees the path.
pub(crate) fn open_procs(group: &Path) -> io::Result<OwnedFd> {
    Ok(fs::OpenOptions::new().write(true).open(group.join("cgroup.procs"))?.into())
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Whether the kernel killed a process of these groups for memory.
pub(crate) fn was_out_of_memory(groups: &[PathBuf]) -> bool {
    let counted = |group: &PathBuf, file: &str| fs::read_to_string(group.join(file)).is_ok_and(|text| oom_kills(&text) > 0);
    groups.iter().any(|group| counted(group, "memory.oom_control") || counted(group, "memory.events"))
}

/// The count behind `oom_kill` in `memory.oom_control` and `memory.events`.
fn oom_kills(text: &str) -> u64 {
    text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).find_map(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Kills whatever is left in the groups and removes them, and as many parents as are empty, at most `parents`.
///
/// # Errors
/// When a group stays.
pub(crate) fn destroy(groups: &[PathBuf], parents: usize) -> Result<(), (PathBuf, io::Error)> {
    let deadline = Instant::now() + Duration::from_secs(5);
    for group in groups {
        loop {
            match fs::remove_dir(group) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) if Instant::now() > deadline => return Err((group.clone(), error)),
                Err(_) => {
                    kill_all(group);
                    sleep(Duration::from_millis(1));
                }
            }
        }
        for parent in group.ancestors().skip(1).take(parents) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Kills what is in a group. On v1 there is no such order, so each process is opened first and only killed if it is still listed then.
fn kill_all(group: &Path) {
    if write(&group.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let listed = || fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let opened: Vec<(String, OwnedFd)> =
        listed().lines().filter_map(|line| Some((line.to_owned(), pidfd_open(Pid::from_raw(line.parse().ok()?)?, PidfdFlags::empty()).ok()?))).collect();
    let still = listed();
    for (pid, fd) in opened {
        if still.lines().any(|line| line == pid) {
            let _ = send_signal(&fd, libc::SIGKILL);
        }
    }
}

/// The mount table writes blanks, tabs, line feeds and backslashes as octal numbers.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => bytes.push(byte),
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pi\\040ds rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn limits() -> Limits {
        Limits { memory_bytes: Some(1 << 20), cpu_milli: Some(250), cpu_request_milli: Some(100), pids: Some(64), ..Limits::default() }
    }

    fn described(groups: &[Group]) -> Vec<String> {
        let one = |group: &Group| {
            let settings: Vec<String> = group.settings.iter().map(|(file, value, _)| format!("{file}={value}")).collect();
            format!("{} [{}] {}", group.path().display(), group.enable.join(" "), settings.join(", "))
        };
        groups.iter().map(one).collect()
    }

    #[test]
    fn hybrid_machines_use_version_1_for_what_it_has() {
        let found = Hierarchies::parse(HYBRID, |_| "hugetlb".to_owned());
        let groups = found.plan("strake/pod-1", "c", &limits()).unwrap();
        assert_eq!(
            described(&groups),
            [
                "/sys/fs/cgroup/memory/strake/pod-1/c [] memory.limit_in_bytes=1048576, memory.memsw.limit_in_bytes=1048576",
                "/sys/fs/cgroup/cpu,cpuacct/strake/pod-1/c [] cpu.shares=102, cpu.cfs_period_us=100000, cpu.cfs_quota_us=25000",
                "/sys/fs/cgroup/pi ds/strake/pod-1/c [] pids.max=64",
            ]
        );
        assert_eq!(groups[2].controller, "pids");
    }

    #[test]
    fn the_unified_hierarchy_has_one_group() {
        let found = Hierarchies::parse(UNIFIED, |_| "cpuset cpu io memory hugetlb pids\n".to_owned());
        let groups = found.plan("/strake/", "c", &limits()).unwrap();
        assert_eq!(
            described(&groups),
            [
                "/sys/fs/cgroup/strake/c [memory cpu pids] memory.max=1048576, memory.swap.max=0, memory.oom.group=1, cpu.weight=4, cpu.max=25000 100000, pids.max=64"
            ]
        );
    }

    #[test]
    fn no_limits_no_groups() {
        assert_eq!(Hierarchies::default().plan("p", "c", &Limits::default()).unwrap(), []);
        let only = Limits { pids: Some(5), ..Limits::default() };
        assert!(Hierarchies::default().plan("p", "c", &only).unwrap_err().text.contains("controller pids"));
        assert!(Hierarchies::default().plan("a/../..", "c", &Limits::default()).is_err());
        let below = Limits { below_parent: true, ..Limits::default() };
        assert_eq!(Hierarchies::default().plan("p", "c", &below).unwrap(), []);
        assert_eq!(Hierarchies::parse(UNIFIED, |_| "memory pids".to_owned()).plan("p", "c", &below).unwrap().len(), 1);
    }

    #[test]
    fn limits_are_kept_in_the_kernels_ranges() {
        let odd = Limits { cpu_milli: Some(1), cpu_request_milli: Some(0), ..Limits::default() };
        let [_, (_, v1, v2), _] = settings(&odd);
        assert_eq!(v1[0].1, "2");
        assert_eq!(v1[2].1, "1000");
        assert_eq!(v2[0].1, "1");
    }

    #[test]
    fn out_of_memory_is_counted() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 31\noom 1\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\n"), 0);
    }

    /// A process that waits to be killed, in this cgroup or in none.
    fn sleeper(into: Option<&OwnedFd>) -> crate::program::Forked {
        match crate::program::fork_with(0, into).unwrap() {
            Some(process) => process,
            None => {
                // SAFETY: the child of a process with threads does nothing but this; pause only returns for a signal handler, and there is none.
                unsafe { libc::pause() };
                crate::program::end(0)
            }
        }
    }

    #[test]
    fn what_is_left_in_a_group_is_killed_and_the_group_removed() {
        let found = Hierarchies::detect().unwrap();
        let name = format!("strake-unit-{}", std::process::id());
        let roots = found.unified.iter().map(|(root, _)| (true, root)).chain(found.legacy.iter().map(|(_, root)| (false, root)));
        let mut tried = 0;
        for (unified, root) in roots {
            let group = root.join(&name).join("inner");
            if fs::create_dir_all(&group).is_err() {
                println!("SKIPPED: {} is not writable", root.display());
                continue;
            }
            tried += 1;
            let process = if unified {
                sleeper(Some(&fs::File::open(&group).unwrap().into()))
            } else {
                let process = sleeper(None);
                join(&group, process.pid).unwrap();
                process
            };
            assert_eq!(fs::read_to_string(group.join("cgroup.procs")).unwrap().trim(), process.pid.to_string(), "{}", group.display());
            destroy(std::slice::from_ref(&group), 1).unwrap();
            assert!(!root.join(&name).exists());
            assert_eq!(crate::serve::reap(&process), (137, Some(9)));
        }
        println!("tried {tried} hierarchies");
    }
}
