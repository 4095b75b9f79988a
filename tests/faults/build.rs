//! What can be wrong with a build.

use strake_tests::{Follow, PATIENCE, World, needs, until};

fn world(dockerfile: &str) -> World {
    let world = World::new();
    world.write("app/Dockerfile", dockerfile);
    world.program("app/guestbook");
    world
}

#[test]
fn a_missing_file_is_named_with_its_line() {
    needs!();
    let world = world("FROM scratch\nCOPY missing.txt /x\n");
    let ran = world.strake(&["build", "app"]).fails(1, "missing.txt");
    assert!(ran.stderr.contains("Dockerfile:2"), "{}", ran.stderr);
    world.nothing_left();
}

#[test]
fn a_missing_dockerfile_or_context_is_named() {
    needs!();
    let world = World::new();
    world.strake(&["build", "nowhere"]).fails(1, "nowhere");
    std::fs::create_dir_all(world.path("empty")).expect("a folder");
    world.strake(&["build", "empty"]).fails(1, "Dockerfile");
    world.nothing_left();
}

#[test]
fn a_typo_in_an_instruction_gets_the_nearest_name() {
    needs!();
    let world = world("FROM scratch\nCOPPY a /a\n");
    let ran = world.strake(&["build", "app"]).fails(1, "COPPY");
    assert!(ran.stderr.contains("COPY"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Dockerfile:2:1"), "{}", ran.stderr);
}

#[test]
fn a_cycle_of_stages_is_an_error_that_names_them() {
    needs!();
    let world = world("FROM scratch AS a\nCOPY --from=b /x /x\nFROM scratch AS b\nCOPY --from=a /x /x\n");
    world.strake(&["build", "app"]).fails(1, "`b`");
}

#[test]
fn an_unknown_base_says_how_to_get_it() {
    needs!();
    let world = world("FROM nothing/like-this:1\n");
    let ran = world.strake(&["build", "app"]).fails(1, "nothing/like-this:1");
    assert!(ran.stderr.contains("image import"), "{}", ran.stderr);
    world.nothing_left();
}

#[test]
fn a_failing_run_shows_its_output_its_code_and_its_line() {
    needs!();
    let world = world("FROM scratch\nCOPY guestbook /guestbook\nRUN [\"/guestbook\", \"sing\"]\n");
    let ran = world.strake(&["build", "app"]).fails(1, "usage: guestbook");
    assert!(ran.stderr.contains("exit code 1"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Dockerfile:3"), "{}", ran.stderr);
    world.nothing_left();
}

#[test]
fn a_program_that_is_not_there_is_said_to_be_missing() {
    needs!();
    let world = world("FROM scratch\nRUN [\"/nope\"]\n");
    let ran = world.strake(&["build", "app"]).fails(1, "/nope");
    assert!(ran.stderr.contains("not found") || ran.stderr.contains("no such file"), "{}", ran.stderr);
    world.nothing_left();
}

#[test]
fn ctrl_c_in_a_run_ends_it_and_leaves_nothing() {
    needs!();
    let world = world("FROM scratch\nCOPY guestbook /interrupted\nRUN [\"/interrupted\", \"store\"]\n");
    let root = world.root();
    let mut build = Follow::start(world.strake_command(&["build", "--progress", "plain", "app"]));
    assert!(until(PATIENCE, || !world.processes(&["/interrupted", "store"]).is_empty()), "the step runs: {}", build.stderr());
    build.signal(rustix::process::Signal::INT);
    let ran = build.end();
    assert_eq!(ran.code, 130, "{ran:#?}");
    world.nothing_left();
    let drafts = std::fs::read_dir(root.join("snapshots")).into_iter().flatten().flatten();
    let open: Vec<_> =
        drafts.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.contains("tmp") || name.contains("draft")).collect();
    assert!(open.is_empty(), "{open:?}");
    // And the next build is right.
    world.write("app/Dockerfile", "FROM scratch\nCOPY guestbook /guestbook\n");
    world.strake(&["build", "app"]).ok();
}

#[test]
fn a_full_disk_is_said_to_be_full_and_the_store_stays_whole() {
    needs!("mount");
    let world = world("FROM scratch\nCOPY big /big\n");
    world.write("app/big", vec![7u8; 12 << 20]);
    std::fs::create_dir_all(world.root()).expect("a folder");
    world.run("mount", &["-t", "tmpfs", "-o", "size=8m", "tmpfs", world.root().to_str().expect("UTF-8")]).ok();
    world.strake(&["build", "app"]).fails(1, "No space left");
    world.strake(&["image", "verify"]).ok();
    world.write("app/big", b"small");
    world.strake(&["build", "app"]).ok();
    world.run("umount", &[world.root().to_str().expect("UTF-8")]).ok();
    world.nothing_left();
}

#[test]
fn a_corrupt_blob_is_found_by_verify_and_never_used() {
    needs!();
    let world = world("FROM scratch\nCOPY guestbook /guestbook\n");
    world.strake(&["build", "-t", "app", "app"]).ok();
    world.strake(&["image", "verify"]).ok();
    let blobs = std::fs::read_dir(world.root().join("blobs/sha256")).expect("blobs");
    let first = blobs.flatten().next().expect("a blob").path();
    let mut bytes = std::fs::read(&first).expect("readable");
    bytes[0] ^= 1;
    std::fs::write(&first, bytes).expect("written");
    let name = first.file_name().expect("a name").to_string_lossy().into_owned();
    let ran = world.strake(&["image", "verify"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.all().contains(&name[..12]), "{}", ran.all());
}

#[test]
fn without_root_it_says_so() {
    needs!("setpriv");
    let world = world("FROM scratch\n");
    let binary = strake_tests::binary();
    let open = std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(world.path("")).status().expect("chmod runs");
    assert!(open.success());
    let copy = world.path("strake");
    std::fs::copy(binary, &copy).expect("copied");
    let copy = copy.to_str().expect("UTF-8");
    let ran = world.run("setpriv", &["--reuid", "65534", "--regid", "65534", "--clear-groups", copy, "--root", "/tmp/strake-nobody", "serve"]);
    ran.fails(1, "root");
    let ran = world.run("setpriv", &["--reuid", "65534", "--regid", "65534", "--clear-groups", copy, "--root", "/tmp/strake-nobody", "build", "app"]);
    ran.fails(1, "root");
    assert!(!std::path::Path::new("/tmp/strake-nobody").exists());
}
