//! What every test stands on: a state directory, a busybox root file system, and the check that nothing is left.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use strake_container::{
    BindMount, ContainerId, ContainerSpec, ContainerStatus, ExecProcess, ExecSpec, Executor, ExitRecord, Limits, LinuxExecutor, NetworkNamespace, Output,
    RootFs, Security, User, VolumeMount,
};

const BUSYBOX: &str = "/bin/busybox";

/// Why the tests cannot run here.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if !Path::new(BUSYBOX).exists() {
        return Some(format!("no {BUSYBOX} (Debian: apt-get install busybox-static)"));
    }
    None
}

pub struct Stage {
    pub dir: tempfile::TempDir,
    pub executor: LinuxExecutor,
    pub cgroup_parent: String,
    mounts: String,
    next: AtomicU32,
}

impl Stage {
    pub fn new() -> Self {
        static STAGES: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("strake-container-").tempdir().unwrap();
        let lower = dir.path().join("lower");
        for name in ["bin", "etc", "tmp", "usr/bin", "home/app"] {
            fs::create_dir_all(lower.join(name)).unwrap();
        }
        fs::copy(BUSYBOX, lower.join("bin/busybox")).unwrap();
        let applets = Command::new(BUSYBOX).arg("--list").output().unwrap();
        for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        fs::write(lower.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n").unwrap();
        let executor = LinuxExecutor::new(&dir.path().join("root"), std::env::current_exe().unwrap()).unwrap();
        let cgroup_parent = format!("strake-test-{}-{}/pod", std::process::id(), STAGES.fetch_add(1, Ordering::Relaxed));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        Stage { dir, executor, cgroup_parent, mounts, next: AtomicU32::new(0) }
    }

    pub fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    /// A directory for a test's own purposes.
    pub fn extra(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A container that runs these arguments, with its output in a pipe.
    pub fn spec(&self, args: &[&str]) -> ContainerSpec {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (upper, work) = (self.extra(&format!("upper-{number}")), self.extra(&format!("work-{number}")));
        ContainerSpec {
            id: ContainerId(format!("c{number}")),
            rootfs: RootFs { lowers: vec![self.lower()], upper, work },
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: vec!["PATH=/usr/bin:/bin".to_owned(), format!("STRAKE_TEST={}", self.dir.path().display())],
            cwd: "/".to_owned(),
            user: User::default(),
            hostname: "boat".to_owned(),
            network: NetworkNamespace::Isolated,
            mounts: Vec::new(),
            limits: Limits::default(),
            rlimits: Vec::new(),
            security: Security::default(),
            cgroup_parent: self.cgroup_parent.clone(),
            output: Output::Pipe,
            terminal: false,
            stdin: false,
            dies_with_creator: false,
        }
    }

    pub fn shell(&self, script: &str) -> ContainerSpec {
        self.spec(&["sh", "-c", script])
    }

    /// Runs to the end, removes it, gives the record and what it printed.
    pub fn run(&self, spec: &ContainerSpec) -> (ExitRecord, String) {
        let created = self.executor.create(spec).unwrap_or_else(|error| panic!("{}", chain(&error)));
        self.executor.start(&spec.id).unwrap();
        let text = created.output.map(read_all).unwrap_or_default();
        let record = self.executor.wait(&spec.id).unwrap();
        self.executor.remove(&spec.id).unwrap();
        (record, text)
    }

    /// What a shell script prints; it must end with 0.
    pub fn says(&self, script: &str) -> String {
        let (record, text) = self.run(&self.shell(script));
        assert_eq!((record.code, record.error.as_str()), (0, ""), "{text}");
        text
    }

    /// Starts it and leaves it running.
    pub fn start(&self, spec: &ContainerSpec) -> i32 {
        drop(self.executor.create(spec).unwrap());
        self.executor.start(&spec.id).unwrap();
        match self.executor.status(&spec.id).unwrap() {
            ContainerStatus::Running { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    pub fn exec(&self, id: &ContainerId, args: &[&str]) -> ExecProcess {
        self.executor.exec(id, &exec_spec(args)).unwrap()
    }

    pub fn create_error(&self, spec: &ContainerSpec) -> String {
        chain(&self.executor.create(spec).unwrap_err())
    }

    /// Nothing of this stage is left in the kernel or in the state directory.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.executor.list().unwrap(), [], "containers");
        let names: Vec<_> = fs::read_dir(self.dir.path().join("root/containers")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.is_empty(), "directories: {names:?}");
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), self.mounts, "mounts");
        let groups = self.cgroups();
        assert!(groups.is_empty(), "cgroups: {groups:?}");
        eventually("processes are gone", || self.processes().is_empty());
    }

    /// Directories of this stage in every hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let top = self.cgroup_parent.split('/').next().unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
        points.map(|point| Path::new(point).join(top)).filter(|path| path.exists()).collect()
    }

    /// Processes that have this stage's directory in their environment or arguments.
    pub fn processes(&self) -> Vec<String> {
        let mark = self.dir.path().to_str().unwrap().as_bytes().to_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            if entry.file_name().to_str().is_none_or(|name| name.parse::<u32>().is_err() || name == std::process::id().to_string()) {
                continue;
            }
            for file in ["environ", "cmdline"] {
                let text = fs::read(entry.path().join(file)).unwrap_or_default();
                if text.windows(mark.len()).any(|window| window == mark) {
                    found.push(format!("{:?} {}", entry.file_name(), String::from_utf8_lossy(&text)));
                }
            }
        }
        found
    }

    /// After a failed test: whatever it left.
    pub fn clean_up(&self) {
        for id in self.executor.list().unwrap_or_default() {
            let _ = self.executor.remove(&id);
        }
    }
}

pub fn exec_spec(args: &[&str]) -> ExecSpec {
    ExecSpec { args: args.iter().map(|arg| (*arg).to_owned()).collect(), env: Vec::new(), cwd: None, user: None, terminal: false, stdin: false }
}

pub fn bind(source: &Path, target: &str, read_only: bool) -> VolumeMount {
    VolumeMount::Bind(BindMount { source: source.to_owned(), target: target.to_owned(), read_only })
}

pub fn read_all(fd: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // A terminal ends with an error instead of an end of file.
    let _ = File::from(fd).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", source.unwrap_or_default())
}

pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
