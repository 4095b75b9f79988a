//! kill -9, of the daemon and of the monitor.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use strake_container::{ContainerSpec, ContainerStatus, Executor, LinuxExecutor, Output};

use crate::Test;
use crate::stage::{Stage, eventually, read_all};

pub const TESTS: &[Test] = &[
    ("containers_outlive_the_daemon", containers_outlive_the_daemon),
    ("builds_die_with_their_creator", builds_die_with_their_creator),
    ("a_thread_that_ends_is_no_creator_that_ends", a_thread_that_ends_is_no_creator_that_ends),
    ("a_killed_monitor_takes_its_container_along", a_killed_monitor_takes_its_container_along),
    ("repair_removes_what_crashes_left", repair_removes_what_crashes_left),
    ("killed_at_any_moment_nothing_is_lost_track_of", killed_at_any_moment_nothing_is_lost_track_of),
    ("what_a_killed_daemon_had_just_begun_is_taken_up_or_removed", what_a_killed_daemon_had_just_begun_is_taken_up_or_removed),
];

const VERB: &str = "__daemon";

/// The part of a daemon: creates and starts the container whose spec is in a file, says so, and waits to be killed.
pub fn intercept(args: &[OsString]) -> Option<u8> {
    if args.get(1)? != VERB {
        return None;
    }
    let spec: ContainerSpec = serde_json::from_slice(&fs::read(&args[3]).unwrap()).unwrap();
    let executor = LinuxExecutor::new(Path::new(&args[2]), std::env::current_exe().unwrap()).unwrap();
    if args.get(4).is_some_and(|arg| arg == "churn") {
        churn(&executor, spec);
    }
    let created = executor.create(&spec).unwrap();
    if args.get(4).is_none() {
        executor.start(&spec.id).unwrap();
    }
    println!("ready");
    drop(created);
    loop {
        std::thread::park();
    }
}

/// Makes, starts and removes containers until it is killed.
fn churn(executor: &LinuxExecutor, mut spec: ContainerSpec) -> ! {
    let rootfs = spec.rootfs.clone();
    for number in 0.. {
        spec.id.0 = format!("churn-{}-{number}", std::process::id());
        spec.dies_with_creator = number % 2 == 0;
        let of = |path: &Path| {
            let path = path.join(number.to_string());
            fs::create_dir_all(&path).unwrap();
            path
        };
        (spec.rootfs.upper, spec.rootfs.work) = (of(&rootfs.upper), of(&rootfs.work));
        let _ = executor.create(&spec);
        println!("ready");
        let _ = executor.start(&spec.id);
        if number % 3 != 0 {
            executor.remove(&spec.id).unwrap();
        }
    }
    unreachable!("it is killed")
}

fn daemon(stage: &Stage, spec: &ContainerSpec, started: bool) -> Child {
    let path = stage.dir.path().join("daemon-spec.json");
    fs::write(&path, serde_json::to_vec(spec).unwrap()).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(VERB).arg(stage.dir.path().join("root")).arg(path).stdout(Stdio::piped());
    if !started {
        command.arg("create-only");
    }
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn logged(stage: &Stage, script: &str) -> (ContainerSpec, PathBuf) {
    let mut spec = stage.shell(script);
    let path = stage.extra("logs").join("0.log");
    spec.output = Output::Log { path: path.clone(), max_bytes: 0, max_files: 1 };
    spec.limits.pids = Some(50);
    (spec, path)
}

fn containers_outlive_the_daemon(stage: &Stage) {
    let (spec, log) = logged(stage, "echo before; while [ ! -e /data/go ]; do sleep 0.01; done; echo after; exit 9");
    let mut spec = spec;
    let volume = stage.extra("volume");
    spec.mounts = vec![crate::stage::bind(&volume, "/data", false)];
    let mut child = daemon(stage, &spec, true);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(stage.executor.repair().unwrap(), []);
    assert_eq!(stage.executor.list().unwrap(), std::slice::from_ref(&spec.id));
    assert!(matches!(stage.executor.status(&spec.id).unwrap(), ContainerStatus::Running { .. }));
    let hello = read_all(stage.exec(&spec.id, &["echo", "hello"]).stdout.take().unwrap());
    assert_eq!(hello, "hello\n");
    fs::write(volume.join("go"), "").unwrap();
    assert_eq!(stage.executor.wait(&spec.id).unwrap().code, 9);
    let text = fs::read_to_string(log).unwrap();
    assert!(text.contains(" stdout F before\n") && text.contains(" stdout F after\n"), "{text}");
    stage.executor.remove(&spec.id).unwrap();

    // One that was only created can be started by the next daemon.
    let (spec, _) = logged(stage, "exit 4");
    let mut child = daemon(stage, &spec, false);
    child.kill().unwrap();
    child.wait().unwrap();
    stage.executor.start(&spec.id).unwrap();
    assert_eq!(stage.executor.wait(&spec.id).unwrap().code, 4);
    stage.executor.remove(&spec.id).unwrap();
}

fn builds_die_with_their_creator(stage: &Stage) {
    for started in [true, false] {
        let (mut spec, _) = logged(stage, "sleep 1000");
        spec.dies_with_creator = true;
        let mut child = daemon(stage, &spec, started);
        assert!(stage.processes().len() >= 2);
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("monitor and container are gone", || stage.processes().is_empty());
        assert!(stage.cgroups().is_empty());
        assert_eq!(stage.executor.repair().unwrap(), [spec.id]);
    }
}

fn a_thread_that_ends_is_no_creator_that_ends(stage: &Stage) {
    let mut spec = stage.spec(&["sleep", "1000"]);
    spec.dies_with_creator = true;
    std::thread::scope(|scope| scope.spawn(|| stage.start(&spec)).join().map(drop).unwrap());
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(matches!(stage.executor.status(&spec.id).unwrap(), ContainerStatus::Running { .. }));
    stage.executor.remove(&spec.id).unwrap();
}

fn monitor_pid(stage: &Stage, spec: &ContainerSpec) -> i32 {
    let path = stage.dir.path().join("root/containers").join(&spec.id.0).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    state["monitor"]["pid"].as_i64().unwrap() as i32
}

fn a_killed_monitor_takes_its_container_along(stage: &Stage) {
    let (mut spec, _) = logged(stage, "sleep 1000 & sleep 1000");
    // Another user: changing it clears the kernel's order to die with the parent, which must be given again.
    spec.user.uid = 1000;
    let pid = stage.start(&spec);
    rustix::process::kill_process(rustix::process::Pid::from_raw(monitor_pid(stage, &spec)).unwrap(), rustix::process::Signal::KILL).unwrap();
    let record = stage.executor.wait(&spec.id).unwrap();
    assert_eq!((record.code, record.error.as_str()), (137, "the process that watched the container was killed"));
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "at most a zombie that init has not collected yet: {state}");
    assert!(stage.cgroups().is_empty());
    assert_eq!(stage.executor.status(&spec.id).unwrap(), ContainerStatus::Exited(record));
    stage.executor.remove(&spec.id).unwrap();
}

fn repair_removes_what_crashes_left(stage: &Stage) {
    let containers = stage.dir.path().join("root/containers");
    fs::create_dir(containers.join("half")).unwrap();
    assert_eq!(stage.executor.repair().unwrap(), [], "it may be in the making");
    assert_eq!(stage.executor.list().unwrap(), []);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::open(containers.join("half")).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(stage.executor.repair().unwrap().len(), 1);
    assert!(!containers.join("half").exists());
    // A record of a process number that now belongs to another is not taken for a running container.
    let spec = stage.spec(&["sleep", "1000"]);
    stage.start(&spec);
    let path = containers.join(&spec.id.0).join("state.json");
    let original = fs::read(&path).unwrap();
    let mut state: serde_json::Value = serde_json::from_slice(&original).unwrap();
    let me = std::process::id();
    state["container"]["pid"] = me.into();
    state["monitor"]["pid"] = me.into();
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    stage.executor.signal(&spec.id, libc::SIGKILL).unwrap(); // would end this very process
    assert!(matches!(stage.executor.status(&spec.id).unwrap(), ContainerStatus::Exited(_)));
    fs::remove_file(path.with_file_name("exit.json")).unwrap();
    fs::write(&path, original).unwrap();
    stage.executor.remove(&spec.id).unwrap();
}

/// A daemon whose containers nobody else makes cleans up at once, while monitors that the killed one had begun may still be on their way.
fn what_a_killed_daemon_had_just_begun_is_taken_up_or_removed(stage: &Stage) {
    let mut spec = stage.shell("sleep 1000");
    spec.limits.pids = Some(10);
    spec.output = Output::Log { path: stage.extra("logs").join("0.log"), max_bytes: 0, max_files: 1 };
    let path = stage.dir.path().join("daemon-spec.json");
    let root = stage.dir.path().join("root");
    for round in 0..25u64 {
        (spec.rootfs.upper, spec.rootfs.work) = (stage.extra(&format!("own-up-{round}")), stage.extra(&format!("own-wk-{round}")));
        fs::write(&path, serde_json::to_vec(&spec).unwrap()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg(VERB).arg(&root).arg(&path).arg("churn").stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(1_000 + round * 1_117));
        child.kill().unwrap();
        child.wait().unwrap();
        stage.executor.repair_own(&|_| true).unwrap();
        let known = stage.executor.list().unwrap();
        assert_eq!(fs::read_dir(root.join("containers")).unwrap().count(), known.len(), "round {round}: nothing is half-made");
        known.iter().for_each(|id| stage.executor.remove(id).unwrap());
    }
    eventually("nobody is left", || stage.processes().is_empty());
    assert_eq!(fs::read_dir(root.join("containers")).unwrap().count(), 0);
}

fn killed_at_any_moment_nothing_is_lost_track_of(stage: &Stage) {
    let mut spec = stage.shell("sleep 1000");
    spec.limits.pids = Some(10);
    spec.output = Output::Log { path: stage.extra("logs").join("0.log"), max_bytes: 0, max_files: 1 };
    let path = stage.dir.path().join("daemon-spec.json");
    let root = stage.dir.path().join("root");
    for round in 0..25u64 {
        (spec.rootfs.upper, spec.rootfs.work) = (stage.extra(&format!("up-{round}")), stage.extra(&format!("wk-{round}")));
        fs::write(&path, serde_json::to_vec(&spec).unwrap()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg(VERB).arg(&root).arg(&path).arg("churn").stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(2_000 + round * 1_371));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Monitors in the making finish or give up.
    eventually("nothing changes any more", || {
        let before = stage.processes();
        std::thread::sleep(std::time::Duration::from_millis(1000));
        before == stage.processes()
    });
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for entry in fs::read_dir(root.join("containers")).unwrap().flatten() {
        fs::File::open(entry.path()).unwrap().set_modified(long_ago).unwrap();
    }
    stage.executor.repair().unwrap();
    for id in stage.executor.list().unwrap() {
        let status = stage.executor.status(&id).unwrap();
        match status {
            ContainerStatus::Running { .. } | ContainerStatus::Created { .. } => {}
            // The daemon was killed in the middle of removing it.
            ContainerStatus::Exited(record) => assert_eq!((record.code, record.error.as_str()), (137, ""), "{id}"),
        }
        stage.executor.remove(&id).unwrap();
    }
}
