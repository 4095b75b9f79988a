//! `strake registry serve` and what speaks to it; strake.lock; pulls and pushes that are killed.

use std::fs::File;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use strake_tests::{Dice, PATIENCE, Ran, World, needs, until};

/// The bcrypt hash of `secret`, at the lowest cost.
const USERS: &str = "me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// A registry of a state directory of its own beside the world's, with a log of every request.
struct Registry<'w> {
    world: &'w World,
    child: Child,
    log: String,
}

impl<'w> Registry<'w> {
    fn start(world: &'w World, more: &[&str]) -> Registry<'w> {
        let root = world.path("registry").display().to_string();
        let arguments = [&["--root", &root, "registry", "serve"], more].concat();
        let mut command = world.strake_command(&arguments);
        let out = world.path("registry.out");
        let log = world.path("registry.log");
        command.env("STRAKE_LOG", "strake_registry=debug").stdout(File::create(&out).expect("a file")).stderr(File::create(&log).expect("a file"));
        let child = command.spawn().expect("strake runs");
        let started = until(PATIENCE, || std::fs::read_to_string(&out).is_ok_and(|text| text.contains("serving the images")));
        assert!(started, "{}", std::fs::read_to_string(&log).unwrap_or_default());
        Registry { world, child, log: log.display().to_string() }
    }

    /// A command on the registry's own state directory.
    fn own(&self, arguments: &[&str]) -> Ran {
        let root = self.world.path("registry").display().to_string();
        self.world.strake(&[&["--root", &root], arguments].concat())
    }

    fn requests(&self) -> usize {
        let text = std::fs::read_to_string(&self.log).expect("a log");
        text.lines().filter(|line| line.contains("answered")).count()
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        let _ = kill_process(pid, signal);
        self.child.wait().expect("ended").code()
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An image of one file, under a name.
fn image(registry: &Registry<'_>, name: &str, content: &str) {
    let folder = format!("base-{}", name.replace([':', '/'], "-"));
    registry.world.write(&format!("{folder}/file"), content);
    registry.own(&["image", "import", &folder, name]).ok();
}

#[test]
fn a_registry_is_served_with_logins_of_credential_helpers() {
    needs!("skopeo", "curl");
    let world = World::new();
    world.write("users", USERS);
    let mut registry = Registry::start(&world, &["--htpasswd", "users", "--listen", "0.0.0.0:5000"]);
    let said = std::fs::read_to_string(&registry.log).expect("a log");
    assert!(said.contains("logins cross the network in the clear"), "{said}");
    image(&registry, "team/web:1", "first");
    world.run("curl", &["-sf", "http://127.0.0.1:5000/v2/"]).fails(22, "");
    world.run("skopeo", &["inspect", "--tls-verify=false", "--creds", "me:secret", "docker://127.0.0.1:5000/team/web:1"]).ok();
    world.run("skopeo", &["inspect", "--tls-verify=false", "--creds", "me:wrong", "docker://127.0.0.1:5000/team/web:1"]).fails(1, "unauthorized");

    // The helper is a program of docker's kind, found in PATH.
    let helper = world
        .write("bin/docker-credential-strake-test", "#!/bin/sh\ncat > \"$0.asked\"\necho '{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"secret\"}'\n");
    world.run("chmod", &["+x", &helper.display().to_string()]).ok();
    world.write("docker/config.json", r#"{"credHelpers": {"127.0.0.1:5000": "strake-test"}}"#);
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").expect("a path"));
    let with_helper = |arguments: &[&str]| {
        let mut command = world.strake_command(arguments);
        command.env("PATH", &path).env("DOCKER_CONFIG", world.path("docker"));
        command.output().expect("strake runs")
    };
    let pulled = with_helper(&["image", "pull", "127.0.0.1:5000/team/web:1"]);
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    assert_eq!(std::fs::read_to_string(world.path("bin/docker-credential-strake-test.asked")).expect("asked"), "127.0.0.1:5000");
    let pushed = with_helper(&["image", "push", "127.0.0.1:5000/team/web:1", "127.0.0.1:5000/team/web:2"]);
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    assert!(registry.own(&["images"]).ok().stdout.contains("team/web:2"));
    // Without it: a refusal that says what is missing, and no password anywhere.
    world.strake(&["image", "pull", "127.0.0.1:5000/team/web:2"]).fails(1, "needs a login");
    assert!(!std::fs::read_to_string(&registry.log).expect("a log").contains("secret"));
    assert_eq!(registry.end(Signal::TERM), Some(0), "a server that is told to end ends well");
    drop(registry);
    world.strake(&["registry", "serve", "--tls-cert", "users"]).fails(2, "--tls-key");
    world.write("users", "me:secret\n");
    world.strake(&["registry", "serve", "--htpasswd", "users"]).fails(1, "users:1: expected a bcrypt hash");
    world.nothing_left();
}

#[test]
fn the_registries_file_is_obeyed_and_its_mistakes_are_told() {
    needs!();
    let world = World::new();
    let registry = Registry::start(&world, &[]);
    image(&registry, "team/web:1", "first");
    let file = |text: &str| {
        std::fs::create_dir_all(world.root()).expect("a folder");
        std::fs::write(world.root().join("registries.yaml"), text).expect("written");
    };
    file("registries:\n  example.org:\n    mirors: [x]\n");
    let told = world.strake(&["image", "pull", "example.org/team/web:1"]).fails(1, "registries.yaml:3:5");
    assert!(told.stderr.contains("did you mean `mirrors`?"), "{}", told.stderr);
    // The registry itself is out of reach here: the second mirror has it.
    file("registries:\n  example.org:\n    mirrors: ['http://127.0.0.1:9', 'http://127.0.0.1:5000/team']\n");
    world.strake(&["image", "pull", "example.org/web:1"]).ok();
    assert!(world.strake(&["images"]).ok().stdout.contains("example.org/web:1"));
    drop(registry);
    world.nothing_left();
}

#[test]
fn a_lock_holds_builds_and_manifests_and_offline_asks_nobody() {
    needs!();
    let world = World::new();
    let registry = Registry::start(&world, &[]);
    image(&registry, "base:1", "first");
    image(&registry, "tool:1", "tool");
    world.write("app/web/Dockerfile", "FROM 127.0.0.1:5000/base:1 AS base\nFROM base\nCOPY file /own\n");
    world.write("app/web/file", "own");
    world.write(
        "app/pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n    - {name: a, image: 127.0.0.1:5000/tool:1}\n    - {name: b, image: web}\n",
    );
    world.strake(&["plan", "app", "--locked"]).fails(1, "there is no strake.lock");
    world.strake(&["image", "lock", "app"]).ok();
    let lock = || std::fs::read_to_string(world.path("app/strake.lock")).expect("a lock file");
    let first = lock();
    let names: Vec<&str> = first.lines().filter_map(|line| line.trim().rsplit_once(": sha256:")).map(|(name, _)| name).collect();
    assert_eq!(names, ["127.0.0.1:5000/base:1", "127.0.0.1:5000/tool:1"]);
    world.strake(&["image", "lock", "--check", "app"]).ok();
    world.strake(&["image", "lock", "app"]).ok();
    assert_eq!(lock(), first, "nothing changed, so nothing is changed");

    // The plan names the tool by the digest.
    let plan = world.strake(&["plan", "app", "--locked", "-o", "json"]).ok().stdout;
    let tool = first.lines().find(|line| line.contains("tool")).and_then(|line| line.rsplit_once(": ")).map(|(_, digest)| digest).expect("locked");
    assert!(plan.contains(&format!("127.0.0.1:5000/tool:1@{tool}")), "{plan}");
    let build = |more: &[&str]| world.strake(&[&["build", "-q", "app/web"], more].concat()).ok().stdout;
    let locked = build(&["--locked"]);

    // What a base's triggers name is locked with it.
    world.write("trigger/Dockerfile", "FROM 127.0.0.1:5000/base:1\nONBUILD COPY --from=127.0.0.1:5000/tool:1 /file /tool\n");
    world.strake(&["build", "-q", "--push", "-t", "127.0.0.1:5000/trigger:1", "trigger"]).ok();
    world.write("user/Dockerfile", "FROM 127.0.0.1:5000/trigger:1\n");
    world.strake(&["image", "lock", "user/Dockerfile"]).ok();
    let locked_too = std::fs::read_to_string(world.path("user/strake.lock")).expect("a lock file");
    assert!(locked_too.contains("/tool:1: sha256:") && locked_too.contains("/trigger:1: sha256:"), "{locked_too}");
    world.strake(&["build", "-q", "--locked", "user"]).ok();

    // The tag moves: with the lock everything stays, without it the new one is taken.
    image(&registry, "base:1", "second");
    world.strake(&["image", "lock", "--check", "app"]).fails(2, "is not what the tags mean now");
    assert_eq!(lock(), first);
    assert_ne!(build(&["--pull"]), locked);
    assert_eq!(build(&["--locked"]), locked);
    world.write("app/web/Dockerfile", "FROM 127.0.0.1:5000/other:1\n");
    world.strake(&["build", "app/web", "--locked"]).fails(1, "has no entry for 127.0.0.1:5000/other:1");
    world.write("app/web/Dockerfile", "FROM 127.0.0.1:5000/base:1\nCOPY file /own\n");

    world.strake(&["down", "app", "--locked"]).fails(2, "down takes none");

    // What is here is not asked for, and what is not is named.
    let before = registry.requests();
    build(&["--offline"]);
    build(&["--offline", "--locked"]);
    world.strake(&["plan", "app", "--offline", "--locked"]).ok();
    world.strake(&["image", "lock", "--offline", "app"]).fails(1, "127.0.0.1:5000/tool:1: not in the store");
    world.write("app/web/Dockerfile", "FROM 127.0.0.1:5000/base:1\nCOPY --from=127.0.0.1:5000/none:1 / /\n");
    world.strake(&["build", "--offline", "app/web"]).fails(1, "--offline: not in the store: 127.0.0.1:5000/none:1");
    assert_eq!(registry.requests(), before, "{}", std::fs::read_to_string(&registry.log).expect("a log"));

    // A lock whose content is nowhere any more.
    world.write("app/web/Dockerfile", "FROM 127.0.0.1:5000/base:1\n");
    world.write("app/strake.lock", format!("version: 1\nimages:\n  127.0.0.1:5000/base:1: sha256:{}\n", "0".repeat(64)));
    let gone = world.strake(&["build", "app/web", "--locked"]).fails(1, "which cannot be had");
    assert!(gone.stderr.contains("the store's 127.0.0.1:5000/base:1 is sha256:"), "{}", gone.stderr);
    world.write("app/strake.lock", "version: 1\nimages:\n  a:1: b\n");
    world.strake(&["build", "app/web", "--locked"]).fails(1, "strake.lock:3:8");
    drop(registry);
    world.nothing_left();
}

/// One commit holds what every tag means, the choice is the same each time, and a tag that moves changes nothing before somebody writes the lock again.
#[test]
fn complaint_16_a_tag_that_moves_changes_nothing_until_the_lock_is_written_again() {
    needs!();
    let world = World::new();
    let registry = Registry::start(&world, &[]);
    for name in ["tool:1", "other:1"] {
        image(&registry, name, "first");
    }
    let pod = |name: &str, image: &str| {
        format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n")
    };
    world.write("app/pods.yaml", pod("a", "127.0.0.1:5000/tool:1") + &pod("b", "127.0.0.1:5000/other:1"));
    let manifests = std::fs::read_to_string(world.path("app/pods.yaml")).expect("manifests");
    world.strake(&["image", "lock", "app"]).ok();
    let lock = || std::fs::read_to_string(world.path("app/strake.lock")).expect("a lock file");
    let plan = || world.strake(&["plan", "app", "--empty", "--locked", "-o", "json"]).stdout;
    let (first, planned) = (lock(), plan());
    assert!(planned.contains("127.0.0.1:5000/tool:1@sha256:") && planned.contains("127.0.0.1:5000/other:1@sha256:"), "{planned}");
    for _ in 0..3 {
        world.strake(&["image", "lock", "app"]).ok();
        assert_eq!(lock(), first, "the same tags give the same file");
    }
    image(&registry, "tool:1", "second");
    assert_eq!(plan(), planned, "what was locked stays");
    world.strake(&["image", "lock", "--check", "app"]).fails(2, "is not what the tags mean now");
    world.strake(&["image", "lock", "app"]).ok();
    let moved: Vec<(String, String)> =
        first.lines().map(str::to_owned).zip(lock().lines().map(str::to_owned)).filter(|(before, after)| before != after).collect();
    assert!(matches!(&moved[..], [(line, _)] if line.contains("tool:1")), "one line of one file is the whole change: {moved:?}");
    assert_ne!(plan(), planned);
    assert_eq!(std::fs::read_to_string(world.path("app/pods.yaml")).expect("manifests"), manifests, "no manifest is ever written by it");
    drop(registry);
    world.nothing_left();
}

#[test]
fn a_pull_and_a_push_that_are_killed_leave_a_sound_store_and_go_on() {
    needs!();
    let world = World::new();
    let mut registry = Registry::start(&world, &[]);
    let mut dice = Dice::new(71);
    let noise: Vec<u8> = (0..8 << 20).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect();
    for part in 0..3 {
        world.write(&format!("big/file-{part}"), &noise[part << 20..]);
    }
    world.strake(&["image", "import", "big", "big:1"]).ok();
    let remote = "127.0.0.1:5000/team/big:1";
    let kill_after = |world: &World, arguments: &[&str], dice: &mut Dice| {
        let mut child = world.strake_command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs");
        std::thread::sleep(dice.millis(250));
        let _ = child.kill();
        child.wait().expect("ended");
    };
    // The client dies in the middle of a push, then the server does.
    for _ in 0..4 {
        kill_after(&world, &["image", "push", "big:1", remote], &mut dice);
        registry.own(&["image", "verify"]).ok();
    }
    for _ in 0..3 {
        let mut child = world.strake_command(&["image", "push", "big:1", remote]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs");
        std::thread::sleep(dice.millis(250));
        registry.end(Signal::KILL);
        let _ = child.kill();
        child.wait().expect("ended");
        registry.own(&["image", "verify"]).ok();
        registry = Registry::start(&world, &[]);
    }
    world.strake(&["image", "push", "big:1", remote]).ok();
    registry.own(&["image", "verify"]).ok();
    world.strake(&["image", "verify"]).ok();

    // A pull is killed again and again; what arrived is gone on with.
    let elsewhere = world.path("elsewhere").display().to_string();
    let there = |arguments: &[&str]| world.strake(&[&["--root", &elsewhere], arguments].concat());
    for _ in 0..6 {
        kill_after(&world, &["--root", &elsewhere, "image", "pull", remote], &mut dice);
        there(&["image", "verify"]).ok();
    }
    // Two at once, of two processes, then the image is right.
    let mut other =
        world.strake_command(&["--root", &elsewhere, "image", "pull", remote]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs");
    there(&["image", "pull", remote]).ok();
    assert!(other.wait().expect("ended").success());
    there(&["image", "verify"]).ok();
    world.write("check/Dockerfile", format!("FROM {remote}\n"));
    there(&["build", "-q", "-o", "out", "check"]).ok();
    for part in 0..3 {
        assert_eq!(std::fs::read(world.path(&format!("out/file-{part}"))).expect("a file"), &noise[part << 20..], "file {part}");
    }
    drop(registry);
    world.nothing_left();
}

#[test]
fn a_full_disk_ends_a_pull_and_a_push_cleanly() {
    needs!("mount");
    let world = World::new();
    let mut registry = Registry::start(&world, &[]);
    let mut dice = Dice::new(72);
    let noise: Vec<u8> = (0..12 << 20).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect();
    world.write("base-noise-1/noise", &noise);
    registry.own(&["image", "import", "base-noise-1", "noise:1"]).ok();
    let small = |place: &std::path::Path| {
        std::fs::create_dir_all(place).expect("a folder");
        world.run("mount", &["-t", "tmpfs", "-o", "size=6m", "tmpfs", &place.display().to_string()]).ok();
    };
    let larger = |place: &std::path::Path| world.run("mount", &["-o", "remount,size=64m", &place.display().to_string()]).ok();
    small(&world.root());
    world.strake(&["image", "pull", "127.0.0.1:5000/noise:1"]).fails(1, "no space left");
    world.strake(&["image", "verify"]).ok();
    let left = world.run("find", &[&world.root().join("ingest").display().to_string(), "-type", "f", "-size", "+100k"]).ok().stdout;
    assert_eq!(left, "", "what cannot be completed does not fill the disk");
    larger(&world.root());
    world.strake(&["image", "pull", "127.0.0.1:5000/noise:1"]).ok();

    assert_eq!(registry.end(Signal::TERM), Some(0));
    drop(registry);
    small(&world.path("registry"));
    let registry = Registry::start(&world, &[]);
    let refused = world.strake(&["image", "push", "127.0.0.1:5000/noise:1"]).fails(1, "507");
    assert!(refused.stderr.contains("the registry has no space left"), "{}", refused.stderr);
    registry.own(&["image", "verify"]).ok();
    larger(&world.path("registry"));
    world.strake(&["image", "push", "127.0.0.1:5000/noise:1"]).ok();
    assert!(registry.own(&["images"]).ok().stdout.contains("noise:1"));
    registry.own(&["image", "verify"]).ok();
    drop(registry);
    for place in [world.root(), world.path("registry")] {
        world.run("umount", &[&place.display().to_string()]).ok();
    }
    world.nothing_left();
}
