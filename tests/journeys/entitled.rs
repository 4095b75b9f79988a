//! What RUNs may do and use: what must be allowed, limits of processes, a cgroup of one's own, keys in files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use strake_tests::{World, needs, until};

fn world(dockerfile: &str) -> World {
    let world = World::new();
    world.import_busybox();
    world.write("app/Dockerfile", dockerfile);
    world
}

#[test]
fn what_reaches_beyond_the_build_must_be_allowed() {
    needs!("busybox");
    let world = world(
        "FROM busybox:1\nRUN --security=insecure mount -t tmpfs x /mnt 2>/dev/null || { mkdir /mnt && mount -t tmpfs x /mnt; }\nRUN --network=host true\n",
    );
    let refused = world.strake(&["build", "app"]);
    for name in ["network.host", "security.insecure"] {
        assert!(refused.code == 1 && refused.stderr.contains(&format!("{name} is not allowed")), "{}", refused.stderr);
    }
    world.strake(&["build", "--allow", "network.host", "app"]).fails(1, "security.insecure is not allowed");
    world.strake(&["build", "--allow", "network.host", "--allow", "security.insecure", "app"]).ok();
    world.strake(&["build", "--network", "host", "--allow", "security.insecure", "app"]).ok();
    world.strake(&["build", "--allow", "everything", "app"]).fails(2, "expected network.host or security.insecure");
    world.strake(&["build", "--allow", "device", "app"]).fails(2, "RUN --device is not supported");
    world.write("app/Dockerfile", "FROM busybox:1\nRUN --security=sandbox mkdir /mnt && mount -t tmpfs x /mnt\n");
    world.strake(&["build", "--allow", "security.insecure", "app"]).fails(1, "exit code");
    world.write("app/Dockerfile", "FROM busybox:1\nRUN --device=vendor.com/class true\n");
    world.strake(&["build", "app"]).fails(1, "RUN --device is not supported yet");
    world.nothing_left();
}

#[test]
fn processes_have_the_limits_that_were_given() {
    needs!("busybox");
    let world = world("FROM busybox:1\nRUN test \"$(ulimit -Sn) $(ulimit -Hn) $(ulimit -c)\" = '100 200 0'\n");
    world.strake(&["build", "--ulimit", "nofile=100:200", "--ulimit", "core=0", "app"]).ok();
    // They are part of what the step is.
    world.strake(&["build", "--ulimit", "nofile=100:300", "--ulimit", "core=0", "app"]).fails(1, "exit code 1");
    world.strake(&["build", "--ulimit", "files=1", "app"]).fails(2, "there is no limit `files`");
    world.strake(&["build", "--ulimit", "nofile=2:1", "app"]).fails(2, "above the hard one");
    world.nothing_left();
}

fn cgroups(name: &str) -> Vec<PathBuf> {
    let tops = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let places = tops.chain([PathBuf::from("/sys/fs/cgroup")]).map(|top| top.join(name).join("strake-build"));
    places.filter(|place| place.is_dir()).collect()
}

#[test]
fn cgroups_of_runs_are_where_they_were_wished() {
    needs!("busybox");
    let world = world("FROM busybox:1\nRUN sleep 3333\n");
    let name = format!("strake-test-{}", std::process::id());
    let mut build = world.strake_command(&["build", "--cgroup-parent", &format!("/{name}"), "app"]).spawn().expect("strake runs");
    let found = until(Duration::from_secs(30), || !cgroups(&name).is_empty());
    let pid = rustix::process::Pid::from_child(&build);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
    assert_eq!(build.wait().expect("ended").code(), Some(130));
    assert!(found, "the cgroup was never there");
    assert!(cgroups(&name).is_empty(), "{:?}", cgroups(&name));
    for odd in ["..", "a/../..", "/"] {
        world.strake(&["build", "--cgroup-parent", odd, "app"]).fails(2, "expected a path");
    }
    assert!(!Path::new("/sys/fs/cgroup").join(&name).exists());
    world.nothing_left();
}

#[test]
fn keys_in_files_are_an_agent_for_as_long_as_the_build() {
    needs!("busybox", "git", "ssh-agent", "ssh-add", "ssh-keygen");
    let world = world("FROM busybox:1\nADD git@forge:app.git /app\nRUN --mount=type=ssh,required test -S $SSH_AUTH_SOCK\n");
    let run = |script: &str| world.run("sh", &["-c", script]).ok().stdout;
    run("git init -q -b main app.git && cd app.git && echo a > a && git add a && git -c user.name=t -c user.email=t@t commit -qm a");
    for (name, passphrase) in [("key", ""), ("other", ""), ("locked", "hidden")] {
        world.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", passphrase, "-f", &world.path(name).display().to_string()]).ok();
    }
    // Stands for ssh, and tells what the agent knows.
    world.write("bin/ssh", "#!/bin/sh\nfor last; do :; done\nssh-add -l >> \"$0.log\"\ncd \"${0%/*}/..\"\nexec sh -c \"$last\"\n");
    run("chmod 755 bin/ssh");
    let build = |word: &str| {
        let mut command = world.strake_command(&["build", "--no-cache", "--progress", "plain", "--ssh", word, "app"]);
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let output = command.env("PATH", path).env("TMPDIR", world.path("")).env_remove("SSH_AUTH_SOCK").output().expect("strake runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (good, said) = build("default=key,other");
    assert!(good, "{said}");
    let known = std::fs::read_to_string(world.path("bin/ssh.log")).expect("a log");
    for name in ["key", "other"] {
        let print = run(&format!("ssh-keygen -lf {name}.pub"));
        assert!(known.contains(print.split(' ').nth(1).expect("a fingerprint")), "{known}");
    }
    for (word, expected) in [
        ("default=locked", "with a passphrase"),
        ("default=nowhere", "no such file"),
        ("default=app/Dockerfile", "cannot be used"),
        ("default", "SSH_AUTH_SOCK is not set"),
    ] {
        let (good, said) = build(word);
        assert!(!good && said.contains(expected), "{word}: {said}");
    }
    let left = std::fs::read_dir(world.path("")).expect("a folder").flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("strake-ssh-"));
    assert_eq!(left.count(), 0);
    world.nothing_left();
}
