//! A store that is out of room, out of names, out of descriptors, read-only, or whose owner is killed at any moment: it verifies clean and the next work is right.

use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;

use strake_tests::{Dice, Ran, World, needs, until};

/// Layers of different kinds: many small files, one large one, deletions.
const STEPS: &str = "FROM busybox:1 AS a
RUN i=0; while [ $i -lt 200 ]; do i=$((i+1)); mkdir -p /many/$((i % 7)); echo $i > /many/$((i % 7))/$i; done
FROM busybox:1
COPY --from=a /many /many
COPY big /big
RUN rm -rf /many/3 && ln /big /again && echo done > /done
";

fn world() -> World {
    let world = World::new();
    world.import_busybox();
    world.write("app/Dockerfile", STEPS);
    // Half of it compresses, half does not.
    let mut dice = Dice::new(11);
    let big: Vec<u8> = (0..3 << 20).map(|at: usize| if at.is_multiple_of(2) { 7 } else { u8::try_from(dice.below(256)).expect("a byte") }).collect();
    world.write("app/big", big);
    world
}

/// The same in another store.
fn with(world: &World, root: &str, words: &[&str]) -> Ran {
    let root = world.path(root);
    world.strake(&[&["--root", root.to_str().expect("UTF-8")], words].concat())
}

/// The image's digest, from a store that nothing has ever happened to.
fn right(world: &World) -> String {
    with(world, "clean", &["image", "import", "base", "busybox:1"]).ok();
    with(world, "clean", &["build", "-q", "-t", "app", "app"]).ok().stdout
}

/// Ends a command at some moment of its life, with whatever it has started.
fn kill_within(mut child: Child, dice: &mut Dice, millis: u64) -> bool {
    sleep(dice.millis(millis));
    let ended = child.try_wait().expect("asked").is_some();
    let _ = child.kill();
    child.wait().expect("ended");
    !ended
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(world: &World, root: &str, words: &[&str]) -> Child {
    let root = world.path(root);
    let mut command = world.strake_command(&[&["--root", root.to_str().expect("UTF-8")], words].concat());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs")
}

/// Nothing of who was killed is left once somebody else has worked with the store.
#[track_caller]
fn clean(world: &World, root: &str, what: &str) {
    let ran = with(world, root, &["image", "verify"]);
    assert_eq!(ran.code, 0, "{what}: {}", ran.all());
    let tmp = world.inside(&world.path(root).join("tmp"));
    let left: Vec<_> = std::fs::read_dir(tmp).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{what}: temporaries {left:?}");
}

/// Work of every kind in a file system with these limits: each ends well or says that the device is full; with room, all is done and right.
fn in_small_file_system(world: &World, options: &[String], enough: &str) {
    let digest = right(world);
    with(world, "clean", &["image", "save", "-o", "app.tar", "app"]).ok();
    let root = world.path("small");
    std::fs::create_dir_all(&root).expect("a folder");
    let place = root.to_str().expect("UTF-8");
    let mut full = 0;
    for option in options {
        world.run("mount", &["-t", "tmpfs", "-o", option, "tmpfs", place]).ok();
        let works: [&[&str]; 4] = [
            &["image", "import", "base", "busybox:1"],
            &["image", "load", "-i", "app.tar"],
            &["build", "-q", "-t", "app", "app"],
            &["image", "save", "-o", "small/out.tar", "app"],
        ];
        for words in works {
            let ran = with(world, "small", words);
            assert!(ran.code == 0 || ran.code == 1, "{option} {words:?}: {}", ran.all());
            assert!(!ran.stderr.contains("panicked"), "{option} {words:?}: {}", ran.stderr);
            let is_full = ran.stderr.contains("No space left") || ran.stderr.contains("no space left");
            // What is not there because the work before had no room is no finding.
            let follows = ran.stderr.contains("busybox") || ran.stderr.contains("not in the store");
            assert!(ran.code == 0 || is_full || follows, "{option} {words:?}: {}", ran.all());
            full += usize::from(is_full);
            let verified = with(world, "small", &["image", "verify"]);
            assert_eq!(verified.code, 0, "{option} after {words:?}: {}", verified.all());
        }
        // What is full can be emptied, and more room is enough.
        with(world, "small", &["image", "prune"]).ok();
        world.run("mount", &["-o", &format!("remount,{enough}"), place]).ok();
        with(world, "small", &["image", "import", "base", "busybox:1"]).ok();
        let again = with(world, "small", &["build", "-q", "-t", "app", "app"]).ok().stdout;
        assert_eq!(again, digest, "{option}: the build with room");
        clean(world, "small", option);
        world.run("umount", &[place]).ok();
    }
    assert!(full >= options.len(), "the file systems were too small: {full} of them said so");
}

#[test]
fn a_full_disk_at_any_point_of_any_work_leaves_a_store_that_verifies() {
    needs!("busybox", "mount");
    let world = world();
    let mut dice = Dice::new(12);
    let sizes: Vec<String> = (0..4).map(|step| format!("size={}k", 600 + step * 2100 + dice.below(1900))).collect();
    in_small_file_system(&world, &sizes, "size=64m");
    world.nothing_left();
}

#[test]
fn a_full_inode_table_at_any_point_of_any_work_leaves_a_store_that_verifies() {
    needs!("busybox", "mount");
    let world = world();
    let mut dice = Dice::new(13);
    let tables: Vec<String> = (0..4).map(|step| format!("size=64m,nr_inodes={}", 12 + step * 70 + dice.below(60))).collect();
    in_small_file_system(&world, &tables, "nr_inodes=4000");
    world.nothing_left();
}

#[test]
fn kill_9_of_load_import_save_prune_and_remove_leaves_a_store_that_verifies() {
    needs!("busybox");
    let world = world();
    let digest = right(&world);
    with(&world, "clean", &["image", "save", "-o", "app.tar", "app"]).ok();
    let mut dice = Dice::new(14);
    let mut killed = 0;
    for round in 0..24 {
        let words: &[&str] = match round % 6 {
            0 | 3 => &["image", "load", "-i", "app.tar"],
            1 => &["image", "import", "base", "busybox:1"],
            2 => &["image", "prune"],
            4 => &["image", "save", "-o", "saved.tar", "app"],
            _ => &["image", "rm", "app"],
        };
        killed += usize::from(kill_within(start(&world, "killed", words), &mut dice, 120));
        clean(&world, "killed", &format!("round {round}, {words:?}"));
    }
    assert!(killed > 0, "none of 24 was still at work");
    with(&world, "killed", &["image", "import", "base", "busybox:1"]).ok();
    assert_eq!(with(&world, "killed", &["build", "-q", "-t", "app", "app"]).ok().stdout, digest, "the build after all of it");
    with(&world, "killed", &["image", "load", "-i", "app.tar"]).ok();
    with(&world, "killed", &["image", "save", "-o", "again.tar", "app"]).ok();
    let read = |name: &str| std::fs::read(world.path(name)).expect("readable");
    assert_eq!(read("again.tar"), read("app.tar"), "what is saved is what was loaded");
    world.nothing_left();
}

#[test]
fn kill_9_of_a_pull_and_of_a_push_leaves_both_stores_whole() {
    needs!("busybox");
    let world = world();
    right(&world);
    let root = world.path("served");
    let mut serve = world.strake_command(&["--root", root.to_str().expect("UTF-8"), "registry", "serve", "--listen", "127.0.0.1:5000"]);
    let serve = Running(serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs"));
    let answers = || world.run("busybox", &["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:5000/v2/"]).code == 0;
    assert!(until(strake_tests::PATIENCE, answers), "the registry answers");
    let mut dice = Dice::new(15);
    let mut killed = 0;
    for round in 0..8 {
        killed += usize::from(kill_within(start(&world, "clean", &["image", "push", "app", "127.0.0.1:5000/app:1"]), &mut dice, 150));
        clean(&world, "clean", &format!("push {round}"));
    }
    with(&world, "clean", &["image", "push", "app", "127.0.0.1:5000/app:1"]).ok();
    for round in 0..8 {
        killed += usize::from(kill_within(start(&world, "pulled", &["image", "pull", "127.0.0.1:5000/app:1"]), &mut dice, 150));
        clean(&world, "pulled", &format!("pull {round}"));
    }
    assert!(killed > 0, "none of 16 was still at work");
    with(&world, "pulled", &["image", "pull", "127.0.0.1:5000/app:1"]).ok();
    clean(&world, "pulled", "the whole pull");
    drop(serve);
    clean(&world, "served", "the registry, killed too");
    // The same files came over.
    let files = |root: &str, name: &str| {
        with(&world, root, &["build", "-o", &format!("type=tar,dest={root}.files.tar"), "-f", &format!("{name}.Dockerfile"), "app"]).ok();
        std::fs::read(world.path(&format!("{root}.files.tar"))).expect("readable")
    };
    world.write("one.Dockerfile", "FROM app\n");
    world.write("two.Dockerfile", "FROM 127.0.0.1:5000/app:1\n");
    assert_eq!(files("clean", "one"), files("pulled", "two"));
    world.nothing_left();
}

#[test]
fn a_store_that_cannot_be_written_says_so() {
    needs!("busybox", "mount");
    let world = world();
    world.strake(&["build", "-q", "-t", "app", "app"]).ok();
    let root = world.root();
    let place = root.to_str().expect("UTF-8");
    world.run("mount", &["--bind", place, place]).ok();
    world.run("mount", &["-o", "remount,bind,ro", place]).ok();
    world.write("app/big", "changed");
    for words in [
        &["build", "app"][..],
        &["image", "import", "base", "other:1"],
        &["image", "tag", "app", "other"],
        &["image", "rm", "app"],
        &["image", "prune"],
        &["serve", "--detach"],
    ] {
        let ran = world.strake(words);
        assert_eq!(ran.code, 1, "{words:?}: {}", ran.all());
        assert!(!ran.stderr.contains("panicked") && ran.stderr.to_lowercase().contains("read-only"), "{words:?}: {}", ran.all());
    }
    world.run("umount", &[place]).ok();
    world.strake(&["image", "verify"]).ok();
    world.strake(&["build", "app"]).ok();
    world.nothing_left();
}

#[test]
fn with_too_few_descriptors_it_works_or_says_so() {
    needs!("busybox");
    let world = world();
    let digest = right(&world);
    let strake = strake_tests::binary();
    let place = world.root();
    let script = |limit: u32, words: &str| {
        let text = format!("ulimit -n {limit}; exec {} --root {} {words}", strake.display(), place.display());
        world.run("sh", &["-c", &text])
    };
    let mut failed = 0;
    for limit in [4, 8, 12, 16, 24, 48, 256] {
        for words in ["build -q -t app app", "image load -i nothing.tar", "image verify"] {
            let ran = script(limit, words);
            // Below some number the dynamic loader or the runtime itself cannot begin.
            assert!(!ran.stderr.contains("panicked"), "{limit} {words}: {}", ran.all());
            failed += usize::from(ran.code != 0);
            if words.starts_with("build") && ran.code == 0 {
                assert_eq!(ran.stdout, digest, "{limit}");
            }
        }
    }
    assert!(failed > 0, "no limit was too low");
    assert_eq!(script(1024, "build -q -t app app").ok().stdout, digest);
    clean(&world, Path::new("root").to_str().expect("UTF-8"), "after all limits");
    world.nothing_left();
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    needs!("busybox");
    let world = world();
    world.strake(&["build", "-q", "-t", "app", "app"]).ok();
    let strake = strake_tests::binary();
    for words in
        ["images", "image history app", "image inspect app", "plan app -o json", "--help", "image save app", "build --progress plain --no-cache app", "explain"]
    {
        for reader in ["true", "head -c 1"] {
            let text = format!("{{ {} --root {} {words}; echo code=$? >&2; }} 2>said | {reader}; true", strake.display(), world.root().display());
            world.run("sh", &["-c", &text]);
            let said = std::fs::read_to_string(world.path("said")).expect("text");
            assert!(!said.contains("panicked"), "{words} | {reader}: {said}");
        }
    }
    world.strake(&["image", "verify"]).ok();
    world.nothing_left();
}
