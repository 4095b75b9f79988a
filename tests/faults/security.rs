//! Attacks of the field against builds, pods and the state directory, end to end: reference/reliability-and-security.md, rows S1 to S48.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use strake_tests::{World, needs, pod};

/// What must never be seen from a build or a pod.
const HOST_SECRET: &str = "only-for-the-host";

/// A world with a file beside the state directory that only the host may read; gives its path.
fn with_host_file(world: &World) -> PathBuf {
    world.write("host/secret", HOST_SECRET)
}

/// Everything below `host/` is as it was.
#[track_caller]
fn host_untouched(world: &World) {
    let names: Vec<_> = std::fs::read_dir(world.path("host")).expect("there").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["secret"], "the host's directory");
    assert_eq!(std::fs::read_to_string(world.path("host/secret")).expect("text"), HOST_SECRET);
}

#[test]
fn s1_a_working_directory_in_proc_does_not_lead_to_the_host() {
    needs!("busybox");
    let world = World::with_busybox();
    let secret = with_host_file(&world);
    for number in [3, 4, 7, 8, 9, 12] {
        let up = format!("../../../../../../../../..{}", secret.display());
        world.write("app/Dockerfile", format!("FROM busybox:1\nWORKDIR /proc/self/fd/{number}\nRUN cat {up}; cat ..{up}; pwd -P; ls /\n"));
        let ran = world.strake(&["build", "--progress", "plain", "app"]);
        assert_ne!(ran.code, 0, "{number}: {}", ran.all());
        assert!(!ran.all().contains(HOST_SECRET), "{number}: {}", ran.all());
    }
    let place = pod("fd", "sleep 1000", "").replace("image: busybox:1", "image: busybox:1\n      workingDir: /proc/self/fd/7");
    world.apply_no_wait("fd", &place);
    let refused = || {
        world.list("events").iter().any(|event| event["type"] == "Warning" && event["reason"] != "FailedScheduling" && event["involvedObject"]["name"] == "fd")
    };
    world.eventually("a warning", refused);
    assert_ne!(world.get("pod", "fd")["status"]["phase"], "Running");
    world.strake(&["delete", "pod", "fd"]).ok();
    world.stop();
    host_untouched(&world);
}

#[test]
fn s3_s6_an_image_whose_dev_proc_and_etc_are_links_does_nothing_to_the_host() {
    needs!("busybox");
    let world = World::with_busybox();
    with_host_file(&world);
    let host = world.path("host");
    let pattern = std::fs::read("/proc/sys/kernel/core_pattern").expect("the kernel's");
    for name in ["dev", "proc", "sys", "etc", "run", "tmp", "dev/null"] {
        let base = format!("evil-{}", name.replace('/', "-"));
        world.run("cp", &["-a", "base", &base]).ok();
        let place = world.path(&base).join(name);
        if place.is_dir() {
            std::fs::remove_dir_all(&place).expect("removed");
        }
        std::fs::create_dir_all(place.parent().expect("a parent")).expect("a folder");
        let target = if name == "dev/null" { Path::new("/proc/sys/kernel/core_pattern") } else { host.as_path() };
        symlink(target, &place).expect("a link");
        world.strake(&["image", "import", &base, &format!("{base}:1")]).ok();
        world.write(
            "app/Dockerfile",
            format!("FROM {base}:1\nRUN echo x > /etc/written; echo x > /run/written; echo x > /dev/null; echo x > /tmp/written; true\n"),
        );
        // It may work inside its own root or be refused; a refusal has words.
        let ran = world.strake(&["build", "app"]);
        assert!(ran.code == 0 || (ran.code == 1 && !ran.stderr.contains("panicked")), "{name}: {}", ran.all());
        host_untouched(&world);
        let object = pod(&base, "echo x > /etc/written; echo x > /dev/null; exec sleep 1000", "").replace("busybox:1", &format!("{base}:1"));
        world.apply_no_wait(&base, &object);
        let decided = || {
            let events = world.list("events");
            let warned = events
                .iter()
                .any(|event| event["type"] == "Warning" && event["reason"] != "FailedScheduling" && event["involvedObject"]["name"] == base.as_str());
            warned || world.get("pod", &base)["status"]["phase"] == "Running"
        };
        world.eventually(&format!("{name}: it runs or is refused"), decided);
        host_untouched(&world);
        world.strake(&["delete", "pod", &base]).ok();
    }
    assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").expect("the kernel's"), pattern);
    world.stop();
}

#[test]
fn s21_a_user_number_that_overflows_is_refused_and_not_root() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    for user in ["4294967296", "4294967296:0", "0:4294967296", "-1", "99999999999999999999", "18446744073709551616"] {
        world.write("app/Dockerfile", format!("FROM busybox:1\nUSER {user}\nRUN id; echo was=$(id -u)\n"));
        let ran = world.strake(&["build", "--progress", "plain", "app"]);
        assert_eq!(ran.code, 1, "{user}: {}", ran.all());
        assert!(!ran.all().contains("was=0\n"), "{user}: {}", ran.all());
        assert!(ran.stderr.contains(user.split(':').find(|part| *part != "0").unwrap_or(user)), "{user} is named: {}", ran.stderr);
    }
    world.serve();
    let big = pod("big", "id; exec sleep 1000", "").replace("image: busybox:1", "image: busybox:1\n      securityContext: {runAsUser: 4294967296}");
    world.write("big/app.yaml", big);
    if world.strake(&["apply", "big", "--no-wait"]).code == 0 {
        let refused = || {
            world
                .list("events")
                .iter()
                .any(|event| event["type"] == "Warning" && event["reason"] != "FailedScheduling" && event["involvedObject"]["name"] == "big")
        };
        world.eventually("a warning", refused);
        assert_ne!(world.get("pod", "big")["status"]["phase"], "Running");
        assert!(world.running_containers().is_empty(), "{:?}", world.running_containers());
        world.strake(&["delete", "pod", "big"]).ok();
    }
    world.stop();
}

#[test]
fn s9_copy_does_not_follow_links_out_of_its_root() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    let secret = with_host_file(&world);
    let host = world.path("host");
    std::fs::create_dir_all(world.path("app")).expect("a folder");
    symlink(&host, world.path("app/out")).expect("a link");
    symlink(&secret, world.path("app/file")).expect("a link");
    symlink("../host", world.path("app/up")).expect("a link");
    // From the context.
    for source in ["out/secret", "up/secret", "out", "up", "file", "../host/secret", "out/../host/secret"] {
        world.write("app/Dockerfile", format!("FROM busybox:1\nCOPY {source} /got\nRUN cat /got /got/secret; ls -lR /got; true\n"));
        let ran = world.strake(&["build", "--progress", "plain", "app"]);
        assert!(!ran.all().contains(HOST_SECRET), "{source}: {}", ran.all());
    }
    // From another stage, and a mount of it.
    let text = format!("FROM busybox:1 AS a\nRUN ln -s {host} /out && ln -s / /up\nFROM busybox:1\n", host = host.display());
    for step in [
        "COPY --from=a /out/secret /got".to_owned(),
        format!("COPY --from=a /up{}/secret /got", host.display()),
        "RUN --mount=type=bind,from=a,source=/out,target=/got cat /got/secret".to_owned(),
        "RUN --mount=type=cache,from=a,source=/out,target=/got cat /got/secret; touch /got/written".to_owned(),
    ] {
        world.write("app/Dockerfile", format!("{text}{step}\nRUN cat /got; true\n"));
        let ran = world.strake(&["build", "--progress", "plain", "app"]);
        assert!(!ran.all().contains(HOST_SECRET), "{step}: {}", ran.all());
        host_untouched(&world);
    }
    // Into a target that is a link: it stays in the image.
    world.write("app/small", "small");
    for target in ["/out/", "/out/written", "/out/deep/er"] {
        world.write("app/Dockerfile", format!("FROM busybox:1\nRUN ln -s {} /out\nCOPY small {target}\nWORKDIR /out/made\nRUN true\n", host.display()));
        world.strake(&["build", "app"]);
        host_untouched(&world);
    }
    world.strake(&["image", "verify"]).ok();
    world.nothing_left();
}

#[test]
fn s24_s45_the_values_of_a_secret_are_never_shown() {
    needs!("busybox");
    let world = World::with_busybox();
    const VALUE: &str = "hunter2-hunter2";
    const BASE64: &str = "aHVudGVyMi1odW50ZXIy";
    const NEXT: &str = "hunter3-hunter3";
    let secret = |value: &str| format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{token: {value}}}\n");
    let env = "image: busybox:1\n      env: [{name: T, valueFrom: {secretKeyRef: {name: keys, key: token}}}]";
    let all = |value: &str| pod("web", "test -n \"$T\" && exec sleep 1000", "").replace("image: busybox:1", env) + &secret(value);
    let said = std::cell::RefCell::new(String::new());
    let see = |words: &[&str]| {
        let ran = world.strake(words);
        said.borrow_mut().push_str(&format!("$ {words:?}\n{}", ran.all()));
        ran
    };
    world.write("app/app.yaml", all(VALUE));
    for words in [
        &["plan", "app"][..],
        &["plan", "app", "-o", "json"],
        &["plan", "app", "-o", "yaml"],
        &["check", "app"],
        &["diff", "app"],
        &["diff", "app", "-o", "json"],
    ] {
        see(words);
    }
    see(&["apply", "app", "--progress", "json"]).ok();
    world.write("app/app.yaml", all(NEXT));
    for words in [&["plan", "app"][..], &["diff", "app"], &["diff", "app", "-o", "json"], &["diff", "app", "-o", "yaml"], &["-v", "-v", "apply", "app"]] {
        see(words);
    }
    let looks = [
        &["get", "secrets"][..],
        &["get", "secrets", "-o", "wide"],
        &["describe", "secret", "keys"],
        &["describe", "pod", "web"],
        &["get", "events", "-o", "yaml"],
    ];
    looks.iter().for_each(|words| drop(see(words)));
    said.borrow_mut().push_str(&world.server_log());
    let said = said.take();
    for value in [VALUE, BASE64, NEXT, "aHVudGVyMy1odW50ZXIz"] {
        let line = said.lines().find(|line| line.contains(value));
        assert_eq!(line, None, "{said}");
    }
    // Only who asks for the object itself gets it.
    assert!(world.strake(&["get", "secret", "keys", "-o", "yaml"]).ok().stdout.contains("token"));
    world.strake(&["down", "app"]).ok();
    world.stop();
}

/// Directories whose content is the images' and the pods' own.
fn is_content(path: &Path) -> bool {
    let text = path.display().to_string();
    ["/fs", "/volumes", "/etc", "/termination", "/logs", "/empty", "/rootfs"].iter().any(|end| text.ends_with(end))
}

fn open_to_others(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_dir() && !is_content(&entry.path()) {
            if mode & 0o066 != 0 {
                found.push(format!("{mode:o} {}", entry.path().display()));
            }
            open_to_others(&entry.path(), found);
        }
    }
}

#[test]
fn s26_others_see_nothing_of_the_state_directory() {
    needs!("busybox", "setpriv", "find");
    let world = World::with_busybox();
    world.write("app/Dockerfile", "# image: app\nFROM busybox:1\nRUN chmod u+s /bin/busybox\nCMD [\"sleep\", \"1000\"]\n");
    world.strake(&["build", "app"]).ok();
    world.apply("web", &pod("web", "exec sleep 1000", "")).ok();
    let root = world.root();
    let mode = std::fs::metadata(&root).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode & 0o066, 0, "the root is {mode:o}");
    let mut open = Vec::new();
    open_to_others(&root, &mut open);
    assert!(open.is_empty(), "{open:#?}");
    // As somebody else: nothing can be listed, read or run, by whatever name.
    std::fs::set_permissions(world.path(""), std::fs::Permissions::from_mode(0o755)).expect("opened");
    let nobody = |args: &[&str]| {
        let words = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        world.run("setpriv", &[&words[..], args].concat())
    };
    let text = root.to_str().expect("UTF-8");
    let found = nobody(&["find", text, "-mindepth", "1"]);
    assert_eq!(found.stdout, "", "{}", found.all());
    for name in ["cluster/kubeconfig", "cluster/state.redb", "cluster/pki/ca.key", "run/serve.log", "run/serve.lock", "index.json"] {
        let path = root.join(name);
        assert!(path.is_file(), "{name}");
        assert_ne!(nobody(&["cat", path.to_str().expect("UTF-8")]).code, 0, "{name}");
    }
    for snapshot in std::fs::read_dir(root.join("snapshots")).expect("snapshots").flatten() {
        let program = snapshot.path().join("fs/bin/busybox");
        assert_ne!(nobody(&["env", program.to_str().expect("UTF-8"), "id"]).code, 0, "{}", program.display());
    }
    world.strake(&["delete", "pod", "web"]).ok();
    world.stop();
}

#[test]
fn s27_s44_without_a_certificate_nothing_is_answered_and_no_socket_is_open_to_all() {
    needs!("busybox", "curl", "ss");
    let world = World::with_busybox();
    world.apply("web", &pod("web", "exec sleep 1000", "")).ok();
    for path in ["/api/v1/pods", "/api/v1/secrets", "/apis/apps/v1/deployments", "/api/v1/namespaces/default/pods/web/log", "/metrics", "/debug/pprof"] {
        let address = format!("https://127.0.0.1:6443{path}");
        let code = world.run("curl", &["-sk", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", &address]).ok().stdout;
        assert!(["401", "403"].contains(&code.as_str()), "{path}: {code}");
        let code = world.run("curl", &["-sk", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Authorization: Bearer x", &address]).ok().stdout;
        assert_eq!(code, "401", "{path} with a token");
    }
    let exec = "https://127.0.0.1:6443/api/v1/namespaces/default/pods/web/exec?command=id&stdout=1";
    let upgrade = ["-sk", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", exec];
    assert_eq!(world.run("curl", &upgrade).ok().stdout, "401");
    // A certificate of another authority is no better than none.
    let abstract_sockets: Vec<String> = world.run("ss", &["-Hxl"]).ok().stdout.lines().filter(|line| line.contains(" @")).map(str::to_owned).collect();
    assert!(abstract_sockets.is_empty(), "{abstract_sockets:?}");
    // Nothing listens for the rest of the world but names, for pods.
    let listens = world.run("ss", &["-Hltun"]).ok().stdout;
    for line in listens.lines() {
        let local = line.split_whitespace().nth(4).unwrap_or_default();
        assert!(local.starts_with("127.0.0.1:") || local.starts_with("10.43.0.10:53"), "{line}");
    }
    world.strake(&["delete", "pod", "web"]).ok();
    world.stop();
}

#[test]
fn s29_s30_a_pod_has_no_inheritable_capabilities_and_cannot_write_to_the_kernels_files() {
    needs!("busybox");
    let world = World::with_busybox();
    world.apply("web", &pod("web", "exec sleep 1000", "")).ok();
    let status = world.sh("web", "cat /proc/1/status").ok().stdout;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    for name in ["CapInh:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&field(name), 16), Ok(0), "{name} {status}");
    }
    // Neither NET_RAW (13) nor SYS_ADMIN (21) nor MKNOD (27) of the host's devices.
    let bounding = u64::from_str_radix(&field("CapBnd:"), 16).expect("a mask");
    assert_eq!(bounding & (1 << 13 | 1 << 21), 0, "{bounding:x}");
    for script in [
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /proc/sysrq-trigger",
        "mkdir /sys/fs/cgroup/mine",
        "echo 1 > /sys/kernel/profiling",
        "mount -t tmpfs none /tmp",
        "head -c 1 /proc/kcore | grep .",
    ] {
        let ran = world.sh("web", script);
        assert_ne!(ran.code, 0, "{script}: {}", ran.all());
    }
    // Nothing of the server is open in it.
    let open = world.sh("web", "ls -l /proc/1/fd /proc/self/fd").ok().stdout;
    assert!(!open.contains("strake") && !open.contains("cgroup"), "{open}");
    world.strake(&["delete", "pod", "web"]).ok();
    world.stop();
}
