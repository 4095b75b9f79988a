//! Create, start, signal, wait, exec, remove.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use strake_container::{ContainerError, ContainerId, ContainerStatus, Executor};

use crate::Test;
use crate::stage::{Stage, eventually, exec_spec, read_all};

pub const TESTS: &[Test] = &[
    ("exit_codes_pass_through", exit_codes_pass_through),
    ("a_program_that_cannot_run_says_why", a_program_that_cannot_run_says_why),
    ("the_states_follow_each_other", the_states_follow_each_other),
    ("signals_reach_the_first_process", signals_reach_the_first_process),
    ("remove_kills_what_runs", remove_kills_what_runs),
    ("what_is_refused_leaves_nothing", what_is_refused_leaves_nothing),
    ("exec_runs_beside", exec_runs_beside),
    ("exec_has_a_terminal", exec_has_a_terminal),
    ("exec_dies_when_dropped", exec_dies_when_dropped),
    ("several_run_at_once", several_run_at_once),
];

fn exit_codes_pass_through(stage: &Stage) {
    // The first process of a pid namespace cannot kill itself: the last one goes on after it tried.
    for (args, code) in [(&["true"][..], 0), (&["false"], 1), (&["sh", "-c", "exit 3"], 3), (&["/bin/sh", "-c", "kill -9 $$; exit 4"], 4)] {
        let (record, _) = stage.run(&stage.spec(args));
        assert_eq!((record.code, record.signal, record.oom_killed), (code, None, false), "{args:?}");
        assert_eq!(record.error, "");
        assert!(record.started_at_ns > 1_700_000_000_000_000_000 && record.finished_at_ns >= record.started_at_ns);
    }
}

fn a_program_that_cannot_run_says_why(stage: &Stage) {
    fs::write(stage.lower().join("bin/data"), "no program").unwrap();
    fs::write(stage.lower().join("bin/text"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(stage.lower().join("bin/text"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(stage.lower().join("bin/noise"), "\u{1}\u{2}\u{3}").unwrap();
    fs::set_permissions(stage.lower().join("bin/noise"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let table = [
        ("foo", 127, "exec: \"foo\": executable file not found in $PATH"),
        ("/bin/foo", 127, "exec: \"/bin/foo\": no such file or directory"),
        ("data", 126, "exec: \"data\": permission denied"),
        ("/etc", 126, "exec: \"/etc\": permission denied"),
        ("text", 127, "exec: \"text\": its interpreter or dynamic loader is not in the image"),
        ("noise", 126, "exec: \"noise\": exec format error: not a program for this machine, and no script that begins with #!"),
    ];
    for (program, code, error) in table {
        let (record, _) = stage.run(&stage.spec(&[program]));
        assert_eq!((record.code, record.error.as_str()), (code, error));
    }
}

fn the_states_follow_each_other(stage: &Stage) {
    let spec = stage.spec(&["sleep", "100"]);
    let id = &spec.id;
    assert!(matches!(stage.executor.status(id), Err(ContainerError::NotFound { .. })));
    let created = stage.executor.create(&spec).unwrap();
    assert!(matches!(stage.executor.status(id).unwrap(), ContainerStatus::Created { pid } if pid > 0));
    assert!(matches!(stage.executor.create(&spec), Err(ContainerError::AlreadyExists { .. })));
    assert_eq!(stage.executor.list().unwrap(), std::slice::from_ref(id));
    stage.executor.start(id).unwrap();
    assert!(matches!(stage.executor.status(id).unwrap(), ContainerStatus::Running { .. }));
    let again = stage.executor.start(id).unwrap_err();
    assert_eq!(again.to_string(), format!("could not start container {id}: it was started before"));
    let ended = stage.executor.monitor_pidfd(id).unwrap().unwrap();
    stage.executor.signal(id, libc::SIGKILL).unwrap();
    let mut fds = [rustix::event::PollFd::new(&ended, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut fds, None), Ok(1));
    assert!(stage.executor.monitor_pidfd(id).unwrap().is_none());
    let ContainerStatus::Exited(record) = stage.executor.status(id).unwrap() else { panic!() };
    assert_eq!((record.code, record.signal), (137, Some(9)));
    assert_eq!(stage.executor.wait(id).unwrap(), record);
    assert!(stage.executor.start(id).unwrap_err().to_string().contains("it has ended"));
    stage.executor.signal(id, libc::SIGTERM).unwrap();
    assert!(matches!(stage.executor.exec(id, &exec_spec(&["true"])), Err(ContainerError::NotRunning { .. })));
    assert_eq!(read_all(created.output.unwrap()), "");
    stage.executor.remove(id).unwrap();
    stage.executor.remove(id).unwrap();
}

fn signals_reach_the_first_process(stage: &Stage) {
    let spec = stage.shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    let created = stage.executor.create(&spec).unwrap();
    stage.executor.start(&spec.id).unwrap();
    let mut output = std::fs::File::from(created.output.unwrap());
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    stage.executor.signal(&spec.id, libc::SIGTERM).unwrap();
    assert_eq!(stage.executor.wait(&spec.id).unwrap().code, 7);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye\n");
    stage.executor.remove(&spec.id).unwrap();
}

fn remove_kills_what_runs(stage: &Stage) {
    let mut spec = stage.shell("trap '' TERM INT HUP; sleep 3000 & sleep 3000 & wait");
    spec.limits.pids = Some(50);
    stage.start(&spec);
    assert!(!stage.cgroups().is_empty());
    let created = stage.shell("true");
    drop(stage.executor.create(&created).unwrap());
    let before = Instant::now();
    stage.executor.remove(&spec.id).unwrap();
    stage.executor.remove(&created.id).unwrap();
    assert!(before.elapsed() < Duration::from_secs(3000), "it does not wait for their end");
}

fn what_is_refused_leaves_nothing(stage: &Stage) {
    let mut spec = stage.spec(&["true"]);
    spec.rootfs.lowers = vec![stage.dir.path().join("absent")];
    assert!(stage.create_error(&spec).contains("could not mount the root file system"), "{}", stage.create_error(&spec));
    let mut spec = stage.spec(&["true"]);
    spec.mounts = vec![crate::stage::bind(&stage.dir.path().join("absent"), "/x", false)];
    spec.limits.pids = Some(10);
    assert!(stage.create_error(&spec).contains("could not open the mount source"));
    let mut spec = stage.spec(&["true"]);
    spec.security.add_capabilities = vec!["FLY".to_owned()];
    assert!(stage.create_error(&spec).contains("there is no capability \"FLY\""));
    let mut spec = stage.spec(&[]);
    spec.limits.pids = Some(10);
    assert!(stage.create_error(&spec).contains("no program is given"));
    let mut spec = stage.spec(&["true"]);
    spec.id = ContainerId("../x".to_owned());
    assert!(stage.create_error(&spec).contains("is not valid"));
}

fn exec_runs_beside(stage: &Stage) {
    let mut spec = stage.spec(&["sleep", "1000"]);
    spec.limits.pids = Some(100);
    spec.env.push("COLOUR=red".to_owned());
    stage.start(&spec);
    let script = "echo $COLOUR $SIZE; pwd; hostname; id -u; cat /proc/1/comm; grep -c . /proc/self/cgroup >/dev/null; cat >/tmp/in; echo oops >&2; exit 5";
    let mut exec = exec_spec(&["sh", "-c", script]);
    exec.stdin = true;
    exec.env = vec!["SIZE=large".to_owned(), "COLOUR=blue".to_owned()];
    exec.cwd = Some("/home/app".to_owned());
    exec.user = Some(strake_container::User { uid: 1000, gid: 1000, groups: vec![] });
    fs::set_permissions(stage.lower().join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let mut process = stage.executor.exec(&spec.id, &exec).unwrap();
    let mut stdin = fs::File::from(process.stdin.take().unwrap());
    stdin.write_all(b"through the pipe").unwrap();
    drop(stdin);
    let output = read_all(process.stdout.take().unwrap());
    assert_eq!(output, "blue large\n/home/app\nboat\n1000\nsleep\n");
    assert_eq!(read_all(process.stderr.take().unwrap()), "oops\n");
    assert_eq!(process.wait().unwrap(), 5);
    assert_eq!(read_all(stage.exec(&spec.id, &["cat", "/tmp/in"]).stdout.take().unwrap()), "through the pipe");

    let mut missing = stage.exec(&spec.id, &["no-such-thing"]);
    assert_eq!(read_all(missing.stderr.take().unwrap()), "exec: \"no-such-thing\": executable file not found in $PATH\n");
    assert_eq!(missing.wait().unwrap(), 127);
    let killed = stage.exec(&spec.id, &["sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.wait().unwrap(), 143);
    // It is restricted as the container is, and in its cgroups.
    let mut status = stage.exec(&spec.id, &["grep", "-E", "CapBnd|Seccomp:|NoNewPrivs", "/proc/self/status"]);
    assert_eq!(read_all(status.stdout.take().unwrap()), "CapBnd:\t00000000a00405fb\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    let own = |args: &[&str]| read_all(stage.exec(&spec.id, args).stdout.take().unwrap());
    assert_eq!(own(&["grep", "pids", "/proc/self/cgroup"]), own(&["grep", "pids", "/proc/1/cgroup"]));
    stage.executor.remove(&spec.id).unwrap();
}

fn exec_has_a_terminal(stage: &Stage) {
    let spec = stage.spec(&["sleep", "1000"]);
    stage.start(&spec);
    let mut exec = exec_spec(&["sh", "-c", "tty; stty size; read line; echo got $line; stty size; exit 4"]);
    exec.terminal = true;
    let mut process = stage.executor.exec(&spec.id, &exec).unwrap();
    process.resize(33, 101).unwrap();
    let mut terminal = fs::File::from(process.terminal.take().unwrap());
    let mut seen = Vec::new();
    let mut buffer = [0; 1000];
    // Its terminal and some size: it may have looked before it was told the new one.
    while seen.windows(2).filter(|window| *window == b"\r\n").count() < 2 {
        let length = terminal.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..length]);
    }
    process.resize(40, 120).unwrap();
    terminal.write_all(b"hello\n").unwrap();
    while let Ok(length) = terminal.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..length]);
    }
    let text = String::from_utf8(seen).unwrap();
    assert!(text.starts_with("/dev/pts/0\r\n"), "{text:?}");
    assert!(text.contains("got hello\r\n40 120\r\n"), "{text:?}");
    assert_eq!(process.wait().unwrap(), 4);
    drop(process);
    stage.executor.remove(&spec.id).unwrap();
}

fn exec_dies_when_dropped(stage: &Stage) {
    let spec = stage.spec(&["sleep", "1000"]);
    stage.start(&spec);
    let process = stage.exec(&spec.id, &["sleep", "2000"]);
    let sleepers = || read_all(stage.exec(&spec.id, &["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout.take().unwrap());
    assert!(sleepers().contains("sleep 2000"), "{}", sleepers());
    drop(process);
    eventually("the process is killed", || !sleepers().contains("sleep 2000"));
    stage.executor.remove(&spec.id).unwrap();
}

fn several_run_at_once(stage: &Stage) {
    let specs: Vec<_> = (0..8).map(|number| stage.shell(&format!("echo {number}; exit {number}"))).collect();
    std::thread::scope(|scope| {
        for (number, spec) in specs.iter().enumerate() {
            scope.spawn(move || {
                let mut spec = spec.clone();
                spec.limits.pids = Some(20);
                let (record, text) = stage.run(&spec);
                assert_eq!((record.code, text), (number as i32, format!("{number}\n")));
            });
        }
    });
}
