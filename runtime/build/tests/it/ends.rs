//! How builds end: failures with their line, output and code; cancellation that leaves nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use strake_build::{BuildError, CancelFlag, StepError};
use strake_container::ContainerStatus;
use strake_oci::Digest;
use strake_plan::{CopySource, Mount, MountKind, Op, StepIndex};

use crate::world::{World, chain_of};
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("ends::a_failing_run_says_line_output_and_code", Needs::Containers, a_failing_run_says_line_output_and_code),
    ("ends::a_program_that_is_not_there", Needs::Containers, a_program_that_is_not_there),
    ("ends::one_failure_stops_the_others", Needs::Containers, one_failure_stops_the_others),
    ("ends::cancelling_leaves_nothing", Needs::Containers, cancelling_leaves_nothing),
    ("ends::a_base_that_is_missing_is_named", Needs::Root, a_base_that_is_missing_is_named),
    ("ends::a_base_is_what_the_store_holds", Needs::Root, a_base_is_what_the_store_holds),
    ("ends::what_dead_builds_left_is_cleared", Needs::Root, what_dead_builds_left_is_cleared),
    ("ends::a_build_that_is_killed", Needs::Containers, a_build_that_is_killed),
    ("ends::damaged_plans_are_refused", Needs::Root, damaged_plans_are_refused),
    ("ends::a_context_that_changes_meanwhile_is_not_remembered_wrongly", Needs::Containers, a_context_that_changes_meanwhile),
    ("ends::images_of_one_build_are_all_there", Needs::Root, images_of_one_build_are_all_there),
];

fn nothing_left(world: &World) {
    let root = world.store.root();
    let names = |path: &Path| fs::read_dir(path).map(|list| list.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()).unwrap_or_default();
    assert!(names(&root.join("containers")).is_empty(), "{:?}", names(&root.join("containers")));
    assert!(names(&root.join("cache/locks")).is_empty());
    for session in names(&root.join("tmp")) {
        let left: Vec<_> = names(&root.join("tmp").join(&session)).into_iter().filter(|name| *name != "alive").collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(root.to_str().unwrap()), "a mount is left");
}

fn a_failing_run_says_line_output_and_code() {
    let world = World::new();
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    let step = plan.run(base, "echo to stdout; echo to stderr >&2; exit 3");
    let error = world.build(plan.image(step)).unwrap_err();
    let BuildError::StepFailed { origin, exit_code, output_tail, .. } = &error else { panic!("{error:?}") };
    assert_eq!((origin.file.as_str(), origin.line, *exit_code), ("Dockerfile", 3, Some(3)));
    assert_eq!(String::from_utf8_lossy(output_tail), "to stdout\nto stderr\n");
    let text = chain_of(&error);
    assert!(text.starts_with("Dockerfile:3: `RUN echo to stdout"), "{text}");
    assert!(text.ends_with("did not complete successfully: exit code 3"), "{text}");
    nothing_left(&world);
    // Much output: the end of it is kept.
    let step = plan.run(base, "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; false");
    plan.plan.images[0].step = step;
    let Err(BuildError::StepFailed { output_tail, .. }) = world.build(&plan) else { panic!("it must fail") };
    assert!(output_tail.ends_with(b"line 29999\n") && output_tail.len() <= 64 << 10, "{}", output_tail.len());
}

fn a_program_that_is_not_there() {
    let world = World::new();
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    let step = plan.run_so(base, "", |run| run.args = vec!["/no/such".to_owned()]);
    let text = world.failure(plan.image(step));
    assert!(text.contains("/no/such") && text.contains("could not be executed"), "{text}");
    nothing_left(&world);
}

fn one_failure_stops_the_others() {
    let mut world = World::new();
    world.options.workers = 4;
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    let slow = plan.run(base, "sleep 3000");
    let failing = plan.run(base, "sleep 0.2; exit 9");
    plan.image(slow).image(failing);
    let begin = Instant::now();
    let Err(BuildError::StepFailed { exit_code, .. }) = world.build(&plan) else { panic!("it must fail") };
    assert_eq!(exit_code, Some(9));
    assert!(begin.elapsed() < Duration::from_secs(3000), "{:?}", begin.elapsed());
    assert_eq!(world.told.take().iter().filter(|line| line.starts_with("failed")).count(), 1, "what was stopped did not fail");
    nothing_left(&world);
}

fn cancelling_leaves_nothing() {
    let world = World::new();
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    let step = plan.run(base, "echo begun; sleep 3000");
    plan.image(step);
    let cancel = CancelFlag::new();
    std::thread::scope(|scope| {
        let build = scope.spawn(|| world.build_with(&plan, &cancel));
        let deadline = Instant::now() + Duration::from_secs(120);
        while !world.told.lines.lock().unwrap().iter().any(|line| line == "output begun\n") {
            assert!(Instant::now() < deadline, "the step never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        let begin = Instant::now();
        cancel.cancel();
        assert!(matches!(build.join().unwrap(), Err(BuildError::Cancelled)));
        assert!(begin.elapsed() < Duration::from_secs(3000), "{:?}", begin.elapsed());
    });
    nothing_left(&world);
    let raised = CancelFlag::new();
    raised.cancel();
    assert!(matches!(world.build_with(&plan, &raised), Err(BuildError::Cancelled)));
    nothing_left(&world);
}

/// The private verb of [`a_build_that_is_killed`]'s other process.
const SLEEPER: &str = "__sleeping_build";

/// Builds something that takes long, when this process was started for it.
pub fn intercept(args: &[std::ffi::OsString]) -> bool {
    if args.get(1).is_none_or(|verb| verb != SLEEPER) {
        return false;
    }
    let world = World::at(Path::new(&args[2]));
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    let step = plan.run(base, "echo begun > /cache/begun; sleep 1000");
    if let Op::Run(run) = &mut plan.plan.steps[step.0].op {
        let kind = MountKind::Cache { id: "c".into(), sharing: "locked".into(), mode: 0o755, uid: 0, gid: 0, from: None, source: String::new() };
        run.mounts.push(Mount { target: "/cache".to_owned(), kind, read_only: false });
    }
    let _ = world.build(plan.image(step));
    true
}

fn a_build_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("/proc/self/exe").arg(SLEEPER).arg(dir.path()).spawn().unwrap();
    let mounts = dir.path().join("root/cache/mounts");
    let has_begun = || fs::read_dir(&mounts).into_iter().flatten().flatten().any(|entry| entry.path().join("begun").exists());
    let deadline = Instant::now() + Duration::from_secs(120);
    while !has_begun() {
        assert!(Instant::now() < deadline, "the other build never began");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Its container ends with it, by the kernel's doing; then the next build clears what is left.
    let world = World::at(dir.path());
    while world.executor.list().unwrap().iter().any(|id| !matches!(world.executor.status(id), Ok(ContainerStatus::Exited(_)) | Err(_))) {
        assert!(Instant::now() < deadline, "the container of the killed build still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
    world.write("a", "");
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy(scratch, &["a"], "/");
    world.build(plan.image(step)).unwrap();
    nothing_left(&world);
}

fn a_base_that_is_missing_is_named() {
    let world = World::new();
    let mut plan = world.plan();
    let digest = Digest::of(b"a layer");
    let base = Op::Base { reference: "docker.io/library/debian:bookworm".to_owned(), manifest: digest, diff_ids: vec![digest] };
    let step = plan.push(base, "FROM debian:bookworm");
    let text = world.failure(plan.image(step));
    assert!(text.contains("the base image docker.io/library/debian:bookworm is not in the store"), "{text}");
}

fn a_base_is_what_the_store_holds() {
    let world = World::new();
    world.write("a", "1");
    world.write("b", "2");
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy(scratch, &["a"], "/");
    let base = world.build(plan.image(step)).unwrap().remove(0);
    let diff_ids = base.layers.iter().map(|layer| layer.diff_id).collect();
    let mut plan = world.plan();
    let from = plan.push(Op::Base { reference: base.tags[0].clone(), manifest: base.manifest, diff_ids }, "FROM test");
    let step = plan.copy(from, &["b"], "/");
    let built = world.build(plan.image(step)).unwrap();
    assert_eq!(world.list(&built[0]), ["f 644 0:0 a = 1", "f 644 0:0 b = 2"]);
    assert_eq!(built[0].layers[0], base.layers[0]);
}

fn what_dead_builds_left_is_cleared() {
    let world = World::new();
    world.write("a", "1");
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy(scratch, &["a"], "/");
    plan.image(step);
    world.build(&plan).unwrap();
    let locks = world.store.root().join("cache/locks");
    fs::write(locks.join("of-a-build-that-was-killed"), "").unwrap();
    let held = fs::File::create(locks.join("of-a-build-that-runs")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    world.build(&plan).unwrap();
    let left: Vec<_> = fs::read_dir(&locks).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["of-a-build-that-runs"]);
}

fn damaged_plans_are_refused() {
    let world = World::new();
    let mut plan = world.plan();
    plan.image(StepIndex(7));
    assert!(matches!(world.build(&plan), Err(BuildError::DamagedPlan { .. })));
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy_so(scratch, &["a"], "/", |copy| copy.from = CopySource::Context { name: "other".to_owned() });
    assert!(world.failure(plan.image(step)).contains("the plan has no build context `other`"));
}

/// A RUN stands before the COPY, and the context is changed while it runs: after its files were digested.
fn a_context_that_changes_meanwhile() {
    let mut world = World::new();
    world.options.workers = 4;
    world.write("a", "old");
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    let ran = plan.run(base, "echo begun; sleep 0.7");
    let step = plan.copy(ran, &["a"], "/a");
    plan.image(step);
    let first = std::thread::scope(|scope| {
        let build = scope.spawn(|| world.build(&plan).unwrap());
        while !world.told.lines.lock().unwrap().iter().any(|line| line == "output begun\n") {
            std::thread::sleep(Duration::from_millis(5));
        }
        world.write("a", "new");
        build.join().unwrap()
    });
    assert!(world.list(&first[0]).contains(&"f 644 0:0 a = new".to_owned()));
    assert!(world.told.take().iter().any(|line| line.starts_with("warning the build context changed")));
    world.write("a", "old");
    let second = world.build(&plan).unwrap();
    assert!(world.list(&second[0]).contains(&"f 644 0:0 a = old".to_owned()), "what is remembered for `old` is old");
}

fn images_of_one_build_are_all_there() {
    let world = World::new();
    world.write("a", "1");
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy(scratch, &["a"], "/");
    plan.image(step).image(scratch).image(step);
    let built = world.build(&plan).unwrap();
    let layers: Vec<_> = built.iter().map(|image| image.layers.len()).collect();
    assert_eq!(layers, [1, 0, 1]);
    for image in &built {
        let stored = world.store.image(&image.tags[0]).unwrap();
        assert_eq!(stored.digest().unwrap(), image.manifest);
        assert_eq!(stored.config.created.as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(stored.config.rootfs.diff_ids.len(), image.layers.len());
        assert_eq!(stored.config.history.iter().filter(|row| !row.empty_layer).count(), image.layers.len().max(1));
    }
    let unsupported = StepError::Unsupported { what: "x".to_owned() };
    assert_eq!(unsupported.exit_code(), None);
}
