//! What hits the cache and what does not (dockerfile.md 1.10; buildkit-facts 17).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use strake_plan::CopySource;

use crate::world::{Planned, World, chown, digests};
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("cache::what_does_not_matter_hits", Needs::Root, what_does_not_matter_hits),
    ("cache::what_matters_misses_and_going_back_hits", Needs::Root, what_matters_misses_and_going_back_hits),
    ("cache::a_decided_mode_hides_that_of_the_source", Needs::Root, a_decided_mode_hides_that_of_the_source),
    ("cache::copying_between_stages_goes_by_content", Needs::Root, copying_between_stages_goes_by_content),
    ("cache::no_cache_runs_and_is_remembered", Needs::Root, no_cache_runs_and_is_remembered),
    ("cache::a_time_of_its_own_is_another_result", Needs::Root, a_time_of_its_own_is_another_result),
    ("cache::a_rebuilt_step_with_the_same_result_changes_nothing", Needs::Containers, a_rebuilt_step_with_the_same_result_changes_nothing),
    ("cache::two_builds_do_each_step_once", Needs::Containers, two_builds_do_each_step_once),
    ("cache::steps_nobody_needs_are_not_executed", Needs::Root, steps_nobody_needs_are_not_executed),
];

/// Copies `dir` and then `other`.
fn two_copies(world: &World) -> Planned {
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let first = plan.copy(scratch, &["dir"], "/dir/");
    let step = plan.copy(first, &["other"], "/");
    plan.image(step);
    plan
}

fn executed(world: &World, plan: &Planned) -> Vec<String> {
    world.build(plan).unwrap();
    world.told.executed()
}

fn settled(world: &World) {
    world.write("dir/a", "a");
    world.write("dir/s/b", "b");
    world.write("other", "o");
    world.write("unrelated", "u");
}

const BOTH: [&str; 2] = ["COPY dir /dir/", "COPY other /"];

fn what_does_not_matter_hits() {
    let world = World::new();
    settled(&world);
    let plan = two_copies(&world);
    assert_eq!(executed(&world, &plan), BOTH);
    assert_eq!(executed(&world, &plan), [""; 0]);
    let path = |name: &str| world.context().join(name);
    fs::File::options().write(true).open(path("dir/a")).unwrap().set_modified(SystemTime::now() - Duration::from_secs(1000)).unwrap();
    assert_eq!(executed(&world, &plan), [""; 0], "touch");
    std::os::unix::fs::chown(path("dir/a"), Some(5), Some(6)).unwrap();
    assert_eq!(executed(&world, &plan), [""; 0], "owner on the host");
    fs::set_permissions(path("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(executed(&world, &plan), [""; 0], "mode of the named directory");
    world.write("unrelated", "changed");
    world.write("new", "new");
    assert_eq!(executed(&world, &plan), [""; 0], "what is not copied");
    fs::rename(path("dir/a"), path("dir/moved")).unwrap();
    fs::rename(path("dir/moved"), path("dir/a")).unwrap();
    assert_eq!(executed(&world, &plan), [""; 0], "moved away and back");
    fs::write(path("dir/copy"), "a").unwrap();
    fs::rename(path("dir/copy"), path("dir/a")).unwrap();
    assert_eq!(executed(&world, &plan), [""; 0], "another file with the same content");
}

fn what_matters_misses_and_going_back_hits() {
    let world = World::new();
    settled(&world);
    let plan = two_copies(&world);
    let first = digests(&world.build(&plan).unwrap());
    world.told.take();
    let path = |name: &str| world.context().join(name);
    world.write("dir/a", "A");
    assert_eq!(executed(&world, &plan), BOTH, "content, of the same length and at once");
    world.write("dir/a", "a");
    assert_eq!(digests(&world.build(&plan).unwrap()), first);
    assert_eq!(world.told.executed(), [""; 0], "back again");
    fs::set_permissions(path("dir/a"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(executed(&world, &plan), BOTH, "chmod");
    fs::set_permissions(path("dir/a"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(executed(&world, &plan), [""; 0]);
    world.write("dir/new", "");
    assert_eq!(executed(&world, &plan), BOTH, "a new file");
    fs::remove_file(path("dir/new")).unwrap();
    assert_eq!(executed(&world, &plan), [""; 0]);
    world.write("other", "changed");
    assert_eq!(executed(&world, &plan), BOTH[1..], "only what comes after");
    fs::remove_file(path("dir/a")).unwrap();
    world.link("dir/a", "s/b");
    assert_eq!(executed(&world, &plan), BOTH, "a link instead of a file");
}

fn a_decided_mode_hides_that_of_the_source() {
    let world = World::new();
    settled(&world);
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy_so(scratch, &["dir"], "/d", |copy| {
        copy.chmod = Some("755".to_owned());
        copy.chown = chown("1:1");
    });
    plan.image(step);
    assert_eq!(executed(&world, &plan).len(), 1);
    fs::set_permissions(world.context().join("dir/a"), fs::Permissions::from_mode(0o664)).unwrap();
    assert_eq!(executed(&world, &plan), [""; 0], "a umask of another machine");
}

fn copying_between_stages_goes_by_content() {
    let world = World::new();
    settled(&world);
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let stage = plan.copy(scratch, &["."], "/all/");
    let step = plan.copy_from(scratch, stage, &["/all/dir"], "/d");
    plan.image(step);
    assert_eq!(executed(&world, &plan).len(), 2);
    world.write("unrelated", "changed");
    assert_eq!(executed(&world, &plan), ["COPY . /all/"], "the files that are taken are the same");
    assert_eq!(executed(&world, &plan), [""; 0]);
    world.write("dir/a", "changed");
    assert_eq!(executed(&world, &plan).len(), 2);
}

fn no_cache_runs_and_is_remembered() {
    let world = World::new();
    settled(&world);
    let mut plan = two_copies(&world);
    executed(&world, &plan);
    for step in &mut plan.plan.steps {
        step.origin.no_cache = step.origin.text.starts_with("COPY dir");
    }
    assert_eq!(executed(&world, &plan), BOTH[..1], "its result is the same, so the next one hits");
    assert_eq!(executed(&world, &plan), BOTH[..1]);
    assert_eq!(executed(&world, &two_copies(&world)), [""; 0]);
}

fn a_time_of_its_own_is_another_result() {
    let mut world = World::new();
    settled(&world);
    let plan = two_copies(&world);
    let first = world.build(&plan).unwrap();
    world.options.source_date_epoch = Some(1_700_000_000);
    let second = world.build(&plan).unwrap();
    assert_eq!(second[0].config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(second[0].config.history[0].created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_ne!(first[0].layers[0].diff_id, second[0].layers[0].diff_id);
    world.look(&second[0], |root| {
        let modified = fs::metadata(root.join("dir/a")).unwrap().modified().unwrap();
        assert_eq!(modified.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_700_000_000);
    });
}

fn a_rebuilt_step_with_the_same_result_changes_nothing() {
    let world = World::new();
    let with = |script: &str| {
        let mut plan = world.plan();
        let base = plan.busybox(&world);
        let first = plan.run(base, script);
        let step = plan.run(first, "cat /made > /copied");
        plan.image(step);
        plan
    };
    assert_eq!(executed(&world, &with("echo 1 > /made")).len(), 3);
    assert_eq!(executed(&world, &with("echo 1 >/made")), ["RUN echo 1 >/made"]);
}

fn two_builds_do_each_step_once() {
    let world = Arc::new(World::new());
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    // Each execution leaves a mark outside of any layer.
    let step = plan.run_so(base, "echo x >> /marks/marks; sleep 0.3", |run| {
        run.mounts.push(strake_plan::Mount {
            target: "/marks".to_owned(),
            kind: strake_plan::MountKind::Cache {
                id: "marks".to_owned(),
                sharing: "shared".to_owned(),
                mode: 0o755,
                uid: 0,
                gid: 0,
                from: None,
                source: String::new(),
            },
            read_only: false,
        });
    });
    plan.image(step);
    let results: Vec<_> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..3).map(|_| scope.spawn(|| digests(&world.build(&plan).unwrap()))).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(world.told.executed().iter().filter(|text| text.starts_with("RUN")).count(), 1);
    let mounts = world.store.root().join("cache/mounts");
    let dir = fs::read_dir(mounts).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(dir.join("marks")).unwrap(), "x\n");
    assert_eq!(fs::read_dir(world.store.root().join("cache/locks")).unwrap().count(), 0, "no lock file is left");
}

fn steps_nobody_needs_are_not_executed() {
    let world = World::new();
    world.write("a", "");
    let mut plan = world.plan();
    let scratch = plan.scratch();
    plan.copy(scratch, &["missing"], "/");
    let step = plan.copy_so(scratch, &["a"], "/", |copy| copy.from = CopySource::Context { name: "main".to_owned() });
    plan.image(step);
    assert_eq!(executed(&world, &plan), ["COPY a /"]);
}
