//! What every executor does, asked of the real one and of the test double.

use strake_container::{ContainerError, ContainerStatus, Executor, Recorder, Script};

use crate::Test;
use crate::stage::{Stage, exec_spec, read_all};

pub const TESTS: &[Test] =
    &[("the_linux_executor_keeps_the_contract", |stage| contract(stage, &stage.executor)), ("the_recorder_keeps_the_contract", recorder)];

fn recorder(stage: &Stage) {
    let recorder = Recorder::new();
    recorder.script("true", Script::Exit(0));
    recorder.script("false", Script::Exit(1));
    recorder.script("absent", Script::Fail("exec: \"absent\": executable file not found in $PATH".to_owned()));
    recorder.script("echo", Script::Print(b"hello\n".to_vec(), 0));
    recorder.script_exec("false", 1, b"");
    recorder.script_exec("echo", 0, b"inside\n");
    recorder.fail_create("", "no program is given");
    contract(stage, &recorder);
}

fn contract(stage: &Stage, executor: &dyn Executor) {
    ends(stage, executor);
    runs(stage, executor);
    refuses(stage, executor);
    assert_eq!(executor.list().unwrap(), []);
}

fn ends(stage: &Stage, executor: &dyn Executor) {
    for (args, code, error, output) in [
        (&["true"][..], 0, "", ""),
        (&["false"], 1, "", ""),
        (&["absent"], 127, "exec: \"absent\": executable file not found in $PATH", ""),
        (&["echo", "hello"], 0, "", "hello\n"),
    ] {
        let spec = stage.spec(args);
        let created = executor.create(&spec).unwrap();
        assert!(matches!(executor.status(&spec.id).unwrap(), ContainerStatus::Created { pid } if pid > 0));
        executor.start(&spec.id).unwrap();
        assert_eq!(read_all(created.output.unwrap()), output, "{args:?}");
        let record = executor.wait(&spec.id).unwrap();
        assert_eq!((record.code, record.signal, record.error.as_str()), (code, None, error), "{args:?}");
        assert_eq!(executor.status(&spec.id).unwrap(), ContainerStatus::Exited(record));
        assert!(executor.monitor_pidfd(&spec.id).unwrap().is_none());
        executor.remove(&spec.id).unwrap();
    }
}

fn runs(stage: &Stage, executor: &dyn Executor) {
    let spec = stage.spec(&["sleep", "1000"]);
    let id = &spec.id;
    drop(executor.create(&spec).unwrap());
    executor.start(id).unwrap();
    assert!(matches!(executor.status(id).unwrap(), ContainerStatus::Running { pid, .. } if pid > 0));
    assert_eq!(executor.list().unwrap(), std::slice::from_ref(id));
    assert!(matches!(executor.start(id), Err(ContainerError::Start { .. })));
    assert_eq!(executor.exec(id, &exec_spec(&["false"])).unwrap().wait().unwrap(), 1);
    let mut process = executor.exec(id, &exec_spec(&["echo", "inside"])).unwrap();
    assert_eq!(read_all(process.stdout.take().unwrap()), "inside\n");
    drop(process);
    let ended = executor.monitor_pidfd(id).unwrap().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| executor.wait(id).unwrap());
        executor.signal(id, libc::SIGKILL).unwrap();
        let record = waiting.join().unwrap();
        assert_eq!((record.code, record.signal), (137, Some(9)));
    });
    let mut fds = [rustix::event::PollFd::new(&ended, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut fds, None), Ok(1));
    executor.signal(id, libc::SIGTERM).unwrap();
    assert!(matches!(executor.exec(id, &exec_spec(&["true"])), Err(ContainerError::NotRunning { .. })));
    executor.remove(id).unwrap();
    // One that runs is killed.
    let spec = stage.spec(&["sleep", "1000"]);
    drop(executor.create(&spec).unwrap());
    executor.start(&spec.id).unwrap();
    executor.remove(&spec.id).unwrap();
    executor.remove(&spec.id).unwrap();
}

fn refuses(stage: &Stage, executor: &dyn Executor) {
    let spec = stage.spec(&["true"]);
    let id = &spec.id;
    for error in [
        executor.start(id).unwrap_err(),
        executor.status(id).unwrap_err(),
        executor.wait(id).unwrap_err(),
        executor.signal(id, libc::SIGTERM).unwrap_err(),
        executor.exec(id, &exec_spec(&["true"])).unwrap_err(),
        executor.monitor_pidfd(id).unwrap_err(),
    ] {
        assert!(matches!(error, ContainerError::NotFound { .. }), "{error}");
    }
    drop(executor.create(&spec).unwrap());
    assert!(matches!(executor.create(&spec), Err(ContainerError::AlreadyExists { .. })));
    // Its own program is held back: others may look around.
    assert_eq!(executor.exec(id, &exec_spec(&["true"])).unwrap().wait().unwrap(), 0);
    assert!(matches!(executor.status(id).unwrap(), ContainerStatus::Created { .. }));
    executor.remove(id).unwrap();
    let error = executor.create(&stage.spec(&[""])).unwrap_err();
    assert!(matches!(&error, ContainerError::Create { reason, .. } if reason == "no program is given"), "{error}");
}
