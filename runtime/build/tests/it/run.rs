//! RUN in real containers (dockerfile.md RUN; buildkit-facts 7 and 16).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use strake_plan::{CopySource, InlineFile, Mount, MountKind, Network};

use crate::world::World;
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("run::writes_become_a_layer_without_stubs", Needs::Containers, writes_become_a_layer_without_stubs),
    ("run::on_an_empty_file_system", Needs::Containers, on_an_empty_file_system),
    ("run::the_process_finds_what_it_expects", Needs::Containers, the_process_finds_what_it_expects),
    ("run::users_are_found_in_the_image", Needs::Containers, users_are_found_in_the_image),
    ("run::networks", Needs::Containers, networks),
    ("run::bind_mounts_of_contexts_and_stages", Needs::Containers, bind_mounts_of_contexts_and_stages),
    ("run::a_mounted_directory_is_as_it_is", Needs::Containers, a_mounted_directory_is_as_it_is),
    ("run::cache_and_tmpfs_mounts", Needs::Containers, cache_and_tmpfs_mounts),
    ("run::scripts_are_given_for_one_step", Needs::Containers, scripts_are_given_for_one_step),
    ("run::background_processes_end_with_it", Needs::Containers, background_processes_end_with_it),
];

/// What a RUN on busybox leaves in its layer, and what it printed.
fn after(world: &World, script: &str, change: impl FnOnce(&mut strake_plan::Run)) -> (Vec<String>, String) {
    let mut plan = world.plan();
    let base = plan.busybox(world);
    let step = plan.run_so(base, script, change);
    let built = world.build(plan.image(step)).unwrap_or_else(|error| panic!("{}\n{:?}", crate::world::chain_of(&error), world.told.take()));
    let output: String = world.told.take().iter().filter_map(|line| line.strip_prefix("output ")).collect();
    (world.top_layer(&built[0]), output)
}

fn writes_become_a_layer_without_stubs() {
    let world = World::new();
    let kept = ["d 755 0:0 dev", "d 755 0:0 proc", "d 755 0:0 sys"];
    let layer = |script: &str| after(&world, script, |_| {}).0;
    let plain = |lines: Vec<String>| lines.into_iter().filter(|line| !kept.contains(&line.as_str())).collect::<Vec<_>>();
    assert_eq!(plain(layer("true")), [""; 0], "mount points of hosts and resolv.conf are gone, and /etc is as it was");
    assert_eq!(
        plain(layer("echo 1 > /a; mkdir -p /d/e; echo x > /etc/new")),
        ["f 644 0:0 a = 1\n", "d 755 0:0 d", "d 755 0:0 d/e", "d 755 0:0 etc", "f 644 0:0 etc/new = x\n"]
    );
    let deleted = plain(layer("rm -r /etc || true"));
    assert_eq!(deleted, ["d 755 0:0 etc", "c 0 0:0 etc/group", "c 0 0:0 etc/passwd"], "deletions stay, mount points do not");
}

fn on_an_empty_file_system() {
    let world = World::new();
    fs::copy("/bin/busybox", world.context().join("busybox")).unwrap();
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let base = plan.copy(scratch, &["busybox"], "/");
    let step = plan.run_so(base, "", |run| run.args = ["/busybox", "true"].map(str::to_owned).to_vec());
    let lines = world.files(plan.image(step));
    let names: Vec<_> = lines.iter().map(|line| line.split(' ').nth(3).unwrap()).collect();
    assert_eq!(names, ["busybox", "dev", "proc", "sys"], "as BuildKit leaves it");
}

fn the_process_finds_what_it_expects() {
    let world = World::new();
    let script = "pwd; echo $HOME $A $http_proxy; cat /proc/sys/kernel/hostname /etc/hosts; umask; echo pid $$; echo x > /etc/hosts || echo read-only";
    let (_, output) = after(&world, script, |run| {
        run.cwd = "/tmp".to_owned();
        run.env.push("A=b c".to_owned());
        run.proxy_env.push("http_proxy=p".to_owned());
    });
    let expected = "/tmp\n/root b c p\nbuildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n0022\npid 1\n";
    assert!(output.starts_with(expected), "{output}");
    assert!(output.ends_with("read-only\n"), "{output}");
}

fn users_are_found_in_the_image() {
    let world = World::new();
    let as_user = |user: &str| after(&world, "id; echo $HOME", |run| run.user = user.to_owned()).1;
    assert_eq!(as_user("app"), "uid=1000(app) gid=1001 groups=50(staff)\n/home/app\n");
    assert!(as_user("app:staff").starts_with("uid=1000(app) gid=50(staff)"));
    assert!(as_user("4242").starts_with("uid=4242 gid=0(root)"));
    let mut plan = world.plan();
    let base = plan.busybox(&world);
    let step = plan.run_so(base, "true", |run| run.user = "nobody-here".to_owned());
    assert!(world.failure(plan.image(step)).contains("unable to find user nobody-here: no matching entries in passwd file"));
}

fn networks() {
    let world = World::new();
    let interfaces = |network| after(&world, "ls /sys/class/net", |run| run.network = network).1;
    assert_eq!(interfaces(Network::None), "lo\n");
    let of_host: Vec<_> = fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let seen = interfaces(Network::Default);
    assert!(of_host.iter().all(|name| seen.lines().any(|line| line == name)), "{seen}");
}

fn bind(from: CopySource, source: &str, target: &str, read_only: bool) -> Mount {
    Mount { target: target.to_owned(), kind: MountKind::Bind { from, source: source.to_owned() }, read_only }
}

fn bind_mounts_of_contexts_and_stages() {
    let world = World::new();
    world.write("src/a", "from the context");
    world.write("src/secret", "ignored");
    let mut plan = world.plan_ignoring(&["src/secret"]);
    let base = plan.busybox(&world);
    let stage = plan.run(base, "mkdir -p /out/d; echo made > /out/d/f");
    let context = || CopySource::Context { name: "main".to_owned() };
    let script = "ls /m; cat /m/a /s/f /one; echo x > /m/a || echo refused; echo x > /w/a; cat /w/a; ls -l /w/a > /dev/null";
    let step = plan.run_so(base, script, |run| {
        run.mounts = vec![
            bind(context(), "src", "/m", true),
            bind(CopySource::Step { step: stage }, "/out/d", "/s", true),
            bind(context(), "src/a", "/one", true),
            bind(context(), "src", "/w", false),
        ];
    });
    let built = world.build(plan.image(step)).unwrap_or_else(|error| panic!("{}\n{:?}", crate::world::chain_of(&error), world.told.take()));
    let output: String = world.told.take().iter().filter_map(|line| line.strip_prefix("output ")).collect();
    assert!(output.starts_with("a\nfrom the contextmade\nfrom the context"), "{output}");
    assert!(output.ends_with("refused\nx\n"), "{output}");
    let layer = world.top_layer(&built[0]);
    assert!(layer.iter().all(|line| ["dev", "proc", "sys"].iter().any(|name| line.ends_with(name))), "{layer:?}");
    assert_eq!(fs::read_to_string(world.context().join("src/a")).unwrap(), "from the context", "writes are thrown away");
    // What is mounted read-only from the context is part of the key.
    world.write("src/a", "changed");
    world.build(&plan).unwrap();
    assert_eq!(world.told.executed().len(), 1);
}

fn cache(id: &str, sharing: &str) -> Mount {
    let kind = MountKind::Cache { id: id.to_owned(), sharing: sharing.to_owned(), mode: 0o711, uid: 3, gid: 4, from: None, source: String::new() };
    Mount { target: "/cache".to_owned(), kind, read_only: false }
}

/// As BuildKit shows it: mode and owner are those of the source (a context's files are root's), except for a context's root, which is not sent at all.
fn a_mounted_directory_is_as_it_is() {
    let world = World::new();
    world.write("src/d/a", "a");
    symlink("d", world.context().join("src/l")).unwrap();
    let mode = |path: &str, mode: u32| fs::set_permissions(world.context().join(path), fs::Permissions::from_mode(mode)).unwrap();
    let looked = |of_stage: &str| {
        let mut plan = world.plan();
        let base = plan.busybox(&world);
        let stage = plan.run(base, &format!("mkdir -p /o/d; chown 5:6 /o/d; chmod {of_stage} /o/d"));
        let context = || CopySource::Context { name: "main".to_owned() };
        let step = plan.run_so(base, "stat -c '%a %u:%g %n' /root /dir /link /written /dir/a /stage", |run| {
            run.mounts = vec![
                bind(context(), "", "/root", true),
                bind(context(), "src/d", "/dir", true),
                bind(context(), "src/l", "/link", true),
                bind(context(), "/src/d", "/written", false),
                bind(CopySource::Step { step: stage }, "/o/d", "/stage", true),
            ];
        });
        world.build(plan.image(step)).unwrap_or_else(|error| panic!("{}", crate::world::chain_of(&error)));
        world.told.take().iter().filter_map(|line| line.strip_prefix("output ")).collect::<String>()
    };
    let said = |dir: &str, stage: &str| {
        [
            "755 0:0 /root",
            &format!("{dir} 0:0 /dir"),
            &format!("{dir} 0:0 /link"),
            &format!("{dir} 0:0 /written"),
            "644 0:0 /dir/a",
            &format!("{stage} 5:6 /stage"),
            "",
        ]
        .join("\n")
    };
    mode("src/d", 0o3750);
    mode("src/d/a", 0o644);
    mode("", 0o711);
    assert_eq!(looked("701"), said("3750", "701"));
    mode("", 0o700);
    fs::File::open(world.context().join("src/d")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(looked("701"), "", "neither the root's mode nor a time is part of the key");
    mode("src/d", 0o755);
    assert_eq!(looked("701"), said("755", "701"), "a chmod is a miss");
    assert_eq!(looked("711"), said("755", "711"), "also of a directory of another stage, whose files are the same");
}

fn cache_and_tmpfs_mounts() {
    let world = World::new();
    let once = |script: &str, mount: Mount| after(&world, script, |run| run.mounts.push(mount)).1;
    assert_eq!(once("stat -c '%a %u %g' /cache; echo 1 > /cache/kept", cache("c", "locked")), "711 3 4\n");
    assert_eq!(once("cat /cache/kept", cache("c", "shared")), "1\n");
    assert_eq!(once("ls /cache", cache("other", "private")), "");
    let mut owned = cache("c", "shared");
    if let MountKind::Cache { uid, .. } = &mut owned.kind {
        *uid = 9;
    }
    assert_eq!(once("stat -c '%a %u %g' /cache; ls /cache", owned), "711 9 4\n", "who is to own it has a directory of his own, as with BuildKit");
    let tmpfs = Mount { target: "/cache".to_owned(), kind: MountKind::Tmpfs { size_bytes: 1 << 20 }, read_only: false };
    let (layer, output) = after(&world, "echo x > /cache/gone; stat -f -c %b /cache; stat -c %a /cache", |run| run.mounts.push(tmpfs));
    assert!(output.ends_with("\n1777\n"), "{output}");
    assert!(!layer.iter().any(|line| line.contains("cache")), "{layer:?}");
}

fn scripts_are_given_for_one_step() {
    let world = World::new();
    let (layer, output) = after(&world, "/dev/pipes/EOF", |run| {
        run.scripts.push(InlineFile { name: "/dev/pipes/EOF".to_owned(), content: "#!/bin/cat\nthe script itself\n".to_owned() });
    });
    assert_eq!(output, "#!/bin/cat\nthe script itself\n");
    assert!(!layer.iter().any(|line| line.contains("pipes")), "{layer:?}");
}

fn background_processes_end_with_it() {
    let world = World::new();
    let begin = std::time::Instant::now();
    let (_, output) = after(&world, "sleep 3000 & echo started", |_| {});
    assert_eq!(output, "started\n");
    assert!(begin.elapsed() < std::time::Duration::from_secs(3000));
}
