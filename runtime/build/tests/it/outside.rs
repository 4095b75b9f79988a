//! Nothing in an image, a context or a step leads out of where it belongs (reliability-and-security.md, S1 to S10).

use std::fs;
use std::path::PathBuf;

use strake_plan::{CopySource, Mount, MountKind};

use crate::world::World;
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("outside::copies_cannot_write_there", Needs::Root, copies_cannot_write_there),
    ("outside::copies_cannot_read_there", Needs::Root, copies_cannot_read_there),
    ("outside::owners_are_not_looked_up_there", Needs::Root, owners_are_not_looked_up_there),
    ("outside::mounts_cannot_show_it", Needs::Containers, mounts_cannot_show_it),
    ("outside::clearing_mount_points_cannot_reach_it", Needs::Containers, clearing_mount_points_cannot_reach_it),
];

/// A directory beside the context with a file in it, and links to it in the context: absolute, and up through the root.
fn with_outside(world: &World) -> PathBuf {
    let outside = world.context().parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("passwd"), "app:x:77:78::/:/\n").unwrap();
    let absolute = outside.canonicalize().unwrap();
    world.link("links/absolute", absolute.to_str().unwrap());
    world.link("links/up", &format!("{}{}", "../".repeat(30), absolute.to_str().unwrap().trim_start_matches('/')));
    outside
}

fn unchanged(outside: &std::path::Path) {
    let names: Vec<_> = fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["passwd"]);
    assert_eq!(fs::read_to_string(outside.join("passwd")).unwrap(), "app:x:77:78::/:/\n");
}

fn copies_cannot_write_there() {
    let world = World::new();
    let outside = with_outside(&world);
    world.write("a", "written");
    world.write("tree/absolute/a", "written");
    for link in ["absolute", "up"] {
        let mut plan = world.plan();
        let scratch = plan.scratch();
        let base = plan.copy(scratch, &["links"], "/");
        let copied = plan.copy(base, &["a"], &format!("/{link}/a"));
        let passwd = plan.copy(copied, &["a"], &format!("/{link}/passwd"));
        let step = plan.mkdir(passwd, &format!("/{link}/made"), "");
        let built = world.build(plan.image(step)).unwrap();
        // Inside the image the links lead to the same path below its own root.
        let inside = outside.canonicalize().unwrap();
        world.look(&built[0], |root| assert_eq!(fs::read_to_string(root.join(inside.strip_prefix("/").unwrap()).join("a")).unwrap(), "written"));
        unchanged(&outside);
    }
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let base = plan.copy(scratch, &["links"], "/");
    let step = plan.copy(base, &["tree"], "/");
    assert!(world.failure(plan.image(step)).contains("`/absolute`: it is not a directory"));
    unchanged(&outside);
}

fn copies_cannot_read_there() {
    let world = World::new();
    with_outside(&world);
    for link in ["absolute", "up"] {
        let mut plan = world.plan();
        let scratch = plan.scratch();
        let step = plan.copy(scratch, &[&format!("links/{link}/passwd")], "/");
        assert!(world.failure(plan.image(step)).contains("is not there"), "from the context by {link}");
        let mut plan = world.plan();
        let scratch = plan.scratch();
        let stage = plan.copy(scratch, &["links"], "/");
        let step = plan.copy_from(scratch, stage, &[&format!("/{link}/passwd")], "/");
        assert!(world.failure(plan.image(step)).contains("is not there"), "from a stage by {link}");
    }
}

fn owners_are_not_looked_up_there() {
    let world = World::new();
    let outside = with_outside(&world);
    world.link("etc/passwd", outside.canonicalize().unwrap().join("passwd").to_str().unwrap());
    world.write("a", "");
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let base = plan.copy(scratch, &["etc"], "/etc");
    let step = plan.copy_so(base, &["a"], "/a", |copy| copy.chown = crate::world::chown("app"));
    assert!(world.files(plan.image(step)).contains(&"f 644 0:0 a = ".to_owned()));
}

fn mounts_cannot_show_it() {
    let world = World::new();
    with_outside(&world);
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    let stage = plan.copy(base, &["links"], "/links");
    for (from, source) in [(CopySource::Context { name: "main".to_owned() }, "links/absolute"), (CopySource::Step { step: stage }, "/links/up")] {
        let mut plan = plan.clone();
        let step = plan.run_so(base, "cat /m/passwd", |run| {
            run.mounts.push(Mount { target: "/m".to_owned(), kind: MountKind::Bind { from, source: source.to_owned() }, read_only: true });
        });
        world.failure(plan.image(step));
        assert!(!world.told.take().iter().any(|line| line.contains("app:x:77")), "{source}");
    }
}

fn clearing_mount_points_cannot_reach_it() {
    let world = World::new();
    let outside = with_outside(&world);
    fs::write(outside.join("hosts"), "").unwrap();
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    // While the step runs, the mount point's parent is replaced by a link that leads to a file of the same name outside.
    let script = format!("busybox mv /point /moved && ln -s {} /point && ls /moved", outside.canonicalize().unwrap().display());
    let step = plan.run_so(base, &script, |run| {
        run.mounts.push(Mount { target: "/point/hosts".to_owned(), kind: MountKind::Tmpfs { size_bytes: 0 }, read_only: false });
    });
    let built = world.build(plan.image(step)).unwrap_or_else(|error| panic!("{} {:?}", crate::world::chain_of(&error), world.told.take()));
    assert!(world.top_layer(&built[0]).iter().any(|line| line.starts_with("l 0:0 point -> ")));
    assert!(outside.join("hosts").exists());
    fs::remove_file(outside.join("hosts")).unwrap();
    unchanged(&outside);
}
