//! What a test may leave behind by mistake, found where the kernel keeps it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Things that belong to one state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// What there is on the machine itself.
    pub fn of(dir: &Path) -> Leftovers {
        let mut found = BTreeSet::new();
        processes(dir, &mut found);
        mounts("self", dir, &mut found);
        cgroups(Path::new("/sys/fs/cgroup"), &mut found);
        Leftovers(found)
    }

    /// What there is on the machine and in the namespaces of process `holder`.
    pub fn inside(dir: &Path, holder: u32) -> Leftovers {
        let Leftovers(mut found) = Leftovers::of(dir);
        mounts(&holder.to_string(), dir, &mut found);
        links(holder, &mut found);
        rules(holder, &mut found);
        forwarding(holder, &mut found);
        Leftovers(found)
    }

    /// What is here and was not there.
    pub fn since(&self, before: &Leftovers) -> BTreeSet<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Processes whose command line names the directory.
fn processes(dir: &Path, found: &mut BTreeSet<String>) {
    let name = dir.display().to_string();
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&line).replace('\0', " ");
        if text.contains(&name) {
            found.insert(format!("process {pid}: {text}"));
        }
    }
}

fn mounts(process: &str, dir: &Path, found: &mut BTreeSet<String>) {
    let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let name = dir.display().to_string();
    found.extend(table.lines().filter(|line| line.contains(&name)).map(|line| format!("mount: {line}")));
}

/// Control groups of strake that hold nothing: tests that run beside this one have full ones, and empty ones only for a moment.
fn cgroups(top: &Path, found: &mut BTreeSet<String>) {
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    for hierarchy in hierarchies.chain([top.to_owned()]) {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("strake") {
                empty_leaves(&entry.path(), found);
            }
        }
    }
}

fn empty_leaves(group: &Path, found: &mut BTreeSet<String>) {
    let inner: Vec<_> = fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    inner.iter().for_each(|path| empty_leaves(path, found));
    let procs = fs::read_to_string(group.join("cgroup.procs"));
    if inner.is_empty() && procs.is_ok_and(|text| text.trim().is_empty()) {
        found.insert(format!("cgroup: {}", group.display()));
    }
}

/// Links other than loopback in the namespace of a process.
fn links(process: u32, found: &mut BTreeSet<String>) {
    let table = fs::read_to_string(format!("/proc/{process}/net/dev")).unwrap_or_default();
    let names = table.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim);
    found.extend(names.filter(|name| *name != "lo").map(|name| format!("link: {name}")));
}

/// The kernel's switch for forwarding in the namespace of a process.
fn forwarding(process: u32, found: &mut BTreeSet<String>) {
    let read = Command::new("nsenter").args(["--net", "--target", &process.to_string(), "cat", "/proc/sys/net/ipv4/ip_forward"]).output();
    if read.is_ok_and(|output| output.stdout == b"1\n") {
        found.insert("setting: net.ipv4.ip_forward is on".to_owned());
    }
}

/// Packet rules in the namespace of a process, when there is a program that lists them.
fn rules(process: u32, found: &mut BTreeSet<String>) {
    let Some(nft) = crate::find("nft") else { return };
    let listed = Command::new("nsenter").args(["--net", "--target", &process.to_string()]).arg(nft).args(["list", "tables"]).output();
    let tables = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    found.extend(tables.lines().map(|line| format!("rules: {line}")));
}
