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

#[test]
fn runs_use_no_more_than_they_were_given() {
    needs!("busybox");
    let files = "cpu.max memory.max cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes";
    let world = world(&format!("FROM busybox:1\nRUN cd /sys/fs/cgroup && cat {files} > /seen 2>/dev/null || true\n"));
    let limited = world.strake(&["build", "--resource", "cpu-quota=50000", "--resource", "memory=32m", "-o", "out", "app"]);
    if limited.stderr.contains("needs the cgroup controller") {
        return strake_tests::skip(module_path!(), "this machine has no cgroup controllers for cpu and memory");
    }
    limited.ok();
    let seen = std::fs::read_to_string(world.path("out/seen")).expect("written by the RUN");
    assert!(seen.contains("50000") && seen.contains("33554432"), "{seen}");
    // Whoever needs more is ended, and told.
    world.write("app/Dockerfile", "FROM busybox:1\nRUN dd if=/dev/zero of=/dev/null bs=64M count=1\n");
    let build = |limit: &str| world.strake(&["build", "--progress", "plain", "--resource", limit, "app"]);
    build("memory=32m").fails(1, "memory");
    build("memory=512m").ok();
    let again = build("memory=32m").ok().stderr;
    assert!(again.lines().any(|line| line.contains("RUN dd") && line.ends_with("CACHED")), "what it may use is no part of what it gives: {again}");
    for (word, said) in [("cpuset-cpus=0", "not bound to processors"), ("memory-swap=1g", "no swap on top"), ("disk=1g", "expected memory, cpu-quota")] {
        build(word).fails(2, said);
    }
    world.nothing_left();
}

/// What docker has and strake has not is refused by its name and with the reason.
#[test]
fn flags_of_docker_that_are_none_of_strake_say_why() {
    needs!("busybox");
    let world = world("FROM busybox:1\n");
    let build = |words: &[&str]| world.strake(&[&["build"], words, &["app"]].concat());
    for (words, said) in [
        (&["--builder", "remote"][..], "--builder remote is not supported: strake builds in its own process"),
        (&["--policy", "filename=p.rego"], "--policy filename=p.rego is not supported: policies in Rego are not evaluated"),
        (&["--squash"], "--squash is not supported: layers are not squashed"),
        (&["-m", "1g"], "--memory 1g is not supported: it is --resource now"),
        (&["--isolation", "hyperv"], "--isolation hyperv is not supported"),
        (&["--progress", "rawjson"], "BuildKit's stream of status documents is not written"),
    ] {
        build(words).fails(2, said);
    }
    build(&["--builder", "default", "--rm", "--force-rm", "--compress", "--isolation=default"]).ok();
    build(&["-D"]).ok();
    world.strake(&["bake", "--builder", "remote"]).fails(2, "--builder remote is not supported");
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
