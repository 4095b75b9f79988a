//! What a container has, and what it cannot do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use strake_container::{Executor, LayersMount, LinuxExecutor, NetworkNamespace, Scratch, TmpfsMount, User, VolumeMount};

use crate::Test;
use crate::stage::{Stage, bind, exec_spec, read_all};

pub const TESTS: &[Test] = &[
    ("namespaces_are_its_own", namespaces_are_its_own),
    ("capabilities_and_seccomp_by_spec", capabilities_and_seccomp_by_spec),
    ("seccomp_refuses", seccomp_refuses),
    ("users_have_no_capabilities", users_have_no_capabilities),
    ("the_kernels_files_are_hidden", the_kernels_files_are_hidden),
    ("devices_are_few_and_no_others_open", devices_are_few_and_no_others_open),
    ("the_binary_cannot_be_written", the_binary_cannot_be_written),
    ("memory_is_limited", memory_is_limited),
    ("processes_are_limited", processes_are_limited),
    ("programs_give_way_as_far_as_they_are_told", programs_give_way_as_far_as_they_are_told),
    ("cgroups_are_shown_read_only", cgroups_are_shown_read_only),
    ("the_root_can_be_read_only", the_root_can_be_read_only),
    ("volumes_are_mounted", volumes_are_mounted),
    ("layers_are_mounted", layers_are_mounted),
    ("links_for_system_directories_are_refused", links_for_system_directories_are_refused),
    ("mounts_stay_inside", mounts_stay_inside),
    ("working_directories_stay_inside", working_directories_stay_inside),
    ("privileged_means_everything", privileged_means_everything),
    ("a_scratch_image_works", a_scratch_image_works),
    ("the_upper_directory_is_a_plain_layer", the_upper_directory_is_a_plain_layer),
    ("real_programs_run_under_the_filter", real_programs_run_under_the_filter),
];

fn namespaces_are_its_own(stage: &Stage) {
    let text = stage.says("echo $$; hostname; ls /sys/class/net; ip addr show lo | grep -c 'inet 127.0.0.1'; umask; id; cat /proc/self/oom_score_adj; env");
    assert!(text.starts_with("1\nboat\nlo\n1\n0022\nuid=0(root) gid=0"), "{text}");
    let links = "for n in pid mnt ipc uts net; do readlink /proc/self/ns/$n; done";
    let inside = stage.says(links);
    for (line, name) in inside.lines().zip(["pid", "mnt", "ipc", "uts", "net"]) {
        assert_ne!(line, fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap());
    }
    let mut spec = stage.shell("readlink /proc/self/ns/net");
    spec.network = NetworkNamespace::Host;
    assert_eq!(stage.run(&spec).1.trim(), fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
    spec = stage.shell("readlink /proc/self/ns/net");
    spec.network = NetworkNamespace::Path("/proc/self/ns/net".into());
    assert_eq!(stage.run(&spec).1.trim(), fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
}

const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t' | tr '\\n' ' '";

fn capabilities_and_seccomp_by_spec(stage: &Stage) {
    let pod = "CapInh:0000000000000000 CapPrm:00000000a00405fb CapEff:00000000a00405fb CapBnd:00000000a00405fb CapAmb:0000000000000000 NoNewPrivs:1 Seccomp:2 ";
    assert_eq!(stage.says(STATUS), pod);
    let mut build = stage.shell(STATUS);
    build.security.add_capabilities = vec!["NET_RAW".to_owned(), "MKNOD".to_owned()];
    build.security.no_new_privileges = false;
    let expected =
        "CapInh:0000000000000000 CapPrm:00000000a80425fb CapEff:00000000a80425fb CapBnd:00000000a80425fb CapAmb:0000000000000000 NoNewPrivs:0 Seccomp:2 ";
    assert_eq!(stage.run(&build).1, expected);
    let mut none = stage.shell(STATUS);
    none.security.drop_capabilities = vec!["ALL".to_owned()];
    none.security.seccomp = false;
    let expected =
        "CapInh:0000000000000000 CapPrm:0000000000000000 CapEff:0000000000000000 CapBnd:0000000000000000 CapAmb:0000000000000000 NoNewPrivs:1 Seccomp:0 ";
    assert_eq!(stage.run(&none).1, expected);
}

fn seccomp_refuses(stage: &Stage) {
    let text = stage.says("unshare -r true 2>&1; mount -t tmpfs x /tmp 2>&1; chroot / echo chroot works; (exec 3</etc; echo forks work) & wait");
    assert!(text.contains("unshare: unshare(0x10000000): Operation not permitted"), "{text}");
    assert!(text.contains("chroot works\nforks work\n"), "{text}");
    assert!(text.contains("permission denied (are you root?)") || text.contains("Operation not permitted"), "{text}");
}

fn users_have_no_capabilities(stage: &Stage) {
    let mut spec = stage.shell(&format!("id -u; id -g; id -G; {STATUS}; echo; touch /x 2>&1"));
    spec.user = User { uid: 1000, gid: 1001, groups: vec![50, 60] };
    let (_, text) = stage.run(&spec);
    assert!(
        text.starts_with("1000\n1001\n1001 50 60\nCapInh:0000000000000000 CapPrm:0000000000000000 CapEff:0000000000000000 CapBnd:00000000a00405fb"),
        "{text}"
    );
    assert!(text.contains("touch: /x: Permission denied"), "{text}");
}

fn the_kernels_files_are_hidden(stage: &Stage) {
    let core_pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let script = "for f in kcore keys timer_list sched_debug; do [ ! -e /proc/$f ] || cat /proc/$f; done; ls -A /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v : | grep .
        echo x >/proc/sys/kernel/core_pattern; echo x >/proc/sysrq-trigger; echo x >/sys/kernel/mm/ksm/run; mkdir /sys/x
        grep -cE ' /proc/(sys|bus|fs|irq|sysrq-trigger) proc ro' /proc/mounts; true";
    let mut spec = stage.shell(script);
    spec.args = vec!["sh".to_owned(), "-c".to_owned(), format!("({script}) 2>&1")];
    let (_, text) = stage.run(&spec);
    assert!(text.contains("can't create /proc/sys/kernel/core_pattern: Read-only file system"), "{text}");
    let there = ["sys", "bus", "fs", "irq", "sysrq-trigger"].iter().filter(|name| Path::new("/proc").join(name).exists()).count();
    assert!(there >= 3 && text.trim_end().ends_with(&there.to_string()), "{text}");
    assert!(text.lines().all(|line| line.contains("Read-only") || line.contains("nonexistent") || line.len() == 1), "{text}");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), core_pattern);
}

fn devices_are_few_and_no_others_open(stage: &Stage) {
    let listing = stage.says("cd /dev; for f in *; do if [ -L $f ]; then echo $f@; elif [ -d $f ]; then echo $f/; else echo $f; fi; done | tr '\\n' ' '");
    assert_eq!(listing, "fd@ full mqueue/ null ptmx@ pts/ random shm/ stderr@ stdin@ stdout@ tty urandom zero ");
    assert_eq!(stage.says("echo x >/dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x 2>/dev/null >/dev/full || echo full; echo y >/dev/shm/a; cat /dev/shm/a"), "3\n5\nfull\ny\n");
    // A build may make device nodes, but they open nowhere: not in the root, not in /dev, not in a volume.
    let volume = stage.extra("volume");
    let mut spec = stage
        .shell("for d in / /dev /dev/shm /data /mem; do mknod $d/node c 1 3 && (echo >$d/node) 2>&1; done; mknod /dev/mqueue/node c 1 3 2>/dev/null; true");
    spec.security.add_capabilities = vec!["MKNOD".to_owned()];
    spec.security.no_new_privileges = false;
    spec.mounts = vec![bind(&volume, "/data", false), VolumeMount::Tmpfs(TmpfsMount { target: "/mem".to_owned(), size_bytes: 0, mode: Some(0o755) })];
    let (record, text) = stage.run(&spec);
    assert_eq!((record.code, text.matches("Permission denied").count()), (0, 5), "{text}");
}

fn the_binary_cannot_be_written(stage: &Stage) {
    use std::os::fd::AsRawFd;
    // A binary of its own, since the one of this test is busy and could not be written anyway.
    let binary = stage.dir.path().join("strake");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let executor = LinuxExecutor::new(&stage.dir.path().join("root"), binary.clone()).unwrap();
    let spec = stage.spec(&["sleep", "1000"]);
    drop(executor.create(&spec).unwrap());
    executor.start(&spec.id).unwrap();
    let state = fs::read(stage.dir.path().join("root/containers").join(&spec.id.0).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    // What a container that runs `#!/proc/self/exe` gets hold of, and writes to once nothing executes it any more.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let held = rustix::fs::open(format!("/proc/{}/exe", state["monitor"]["pid"]), flags, rustix::fs::Mode::empty()).unwrap();
    executor.remove(&spec.id).unwrap();
    let write = |path: &Path| fs::OpenOptions::new().append(true).open(path).map(drop);
    assert_eq!(write(format!("/proc/self/fd/{}", held.as_raw_fd()).as_ref()).unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    write(&binary).unwrap();
    // An upgrade in place, or a removal, does not disturb a running daemon.
    fs::remove_file(&binary).unwrap();
    let spec = stage.spec(&["true"]);
    drop(executor.create(&spec).unwrap());
    executor.start(&spec.id).unwrap();
    assert_eq!(executor.wait(&spec.id).unwrap().code, 0);
    executor.remove(&spec.id).unwrap();
}

fn memory_is_limited(stage: &Stage) {
    let mut spec = stage.shell("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; exec tail /dev/zero");
    spec.limits.memory_bytes = Some(32 << 20);
    let (record, text) = stage.run(&spec);
    assert_eq!(text, "33554432\n");
    assert_eq!((record.code, record.signal, record.oom_killed), (137, Some(9), true));
    let mut spec = stage.shell("kill -9 $(sh -c 'echo $PPID'); exit 1");
    spec.limits.memory_bytes = Some(32 << 20);
    assert!(!stage.run(&spec).0.oom_killed);
}

fn processes_are_limited(stage: &Stage) {
    let mut spec = stage.shell("i=0; while [ $i -lt 50 ]; do sleep 100 & i=$((i+1)); done; echo all");
    spec.limits.pids = Some(10);
    spec.limits.cpu_milli = Some(500);
    spec.limits.cpu_request_milli = Some(100);
    spec.limits.oom_score_adj = Some(500);
    let (record, text) = stage.run(&spec);
    assert!(record.code != 0 && !text.contains("all"), "{record:?} {text}");
    let mut spec = stage.shell("cat /proc/self/oom_score_adj");
    spec.limits.oom_score_adj = Some(500);
    assert_eq!(stage.run(&spec).1, "500\n");
    let mut spec = stage.shell("cat /proc/self/oom_score_adj");
    spec.limits.oom_score_adj = Some(-999); // lower than ours: may be refused, and then is no error
    assert_eq!(stage.run(&spec).0.code, 0);
}

fn programs_give_way_as_far_as_they_are_told(stage: &Stage) {
    let own = rustix::process::getpriority_process(None).unwrap();
    for (wanted, expected) in [(0, own), (5, 5), (30, 19)] {
        let mut spec = stage.shell("cut -d' ' -f19 /proc/self/stat");
        spec.limits.niceness = wanted;
        assert_eq!(stage.run(&spec).1.trim(), expected.to_string(), "niceness {wanted}");
    }
}

fn cgroups_are_shown_read_only(stage: &Stage) {
    let mut spec = stage.shell("(mkdir /sys/fs/cgroup/x; for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/x; echo 1 >$d/cgroup.procs; echo max >$d/pids.max; done) 2>&1; ls /sys/fs/cgroup; cut -d: -f2,3 /proc/self/cgroup | grep -E 'pids|memory'");
    spec.limits.pids = Some(20);
    spec.limits.memory_bytes = Some(64 << 20);
    let (_, text) = stage.run(&spec);
    assert!(text.matches("Read-only file system").count() >= 3 && !text.contains(&stage.cgroup_parent), "{text}");
    for line in text.lines().filter(|line| line.contains(':') && line.starts_with(['p', 'm']) && line.len() < 12) {
        assert!(line == "pids:/" || line == "memory:/", "{line}");
    }
}

fn the_root_can_be_read_only(stage: &Stage) {
    let volume = stage.extra("volume");
    let mut spec = stage.shell("(echo x >/x) 2>&1; echo y >/data/y && echo z >/dev/shm/z && echo written");
    spec.security.read_only_root = true;
    spec.mounts = vec![bind(&volume, "/data", false)];
    let (_, text) = stage.run(&spec);
    assert_eq!(text, "sh: can't create /x: Read-only file system\nwritten\n");
    assert_eq!(fs::read_to_string(volume.join("y")).unwrap(), "y\n");
}

fn volumes_are_mounted(stage: &Stage) {
    let volume = stage.extra("volume");
    fs::write(volume.join("file"), "content").unwrap();
    symlink("/run", stage.lower().join("var")).unwrap();
    let mut spec = stage
        .shell("cat /data/file /etc/single /var/secrets/token; (echo >/data/new) 2>&1; df -k /mem | tail -1 | awk '{print $2}'; stat -c %a /mem /kept /made");
    fs::create_dir(stage.lower().join("kept")).unwrap();
    fs::set_permissions(stage.lower().join("kept"), std::os::unix::fs::PermissionsExt::from_mode(0o2750)).unwrap();
    let token = stage.extra("secret").join("token");
    fs::write(&token, "secret\n").unwrap();
    spec.mounts = vec![
        bind(&volume, "/data", true),
        bind(&volume.join("file"), "/etc/single", true),
        bind(&token, "/var/secrets/token", true),
        VolumeMount::Tmpfs(TmpfsMount { target: "/mem".to_owned(), size_bytes: 1 << 20, mode: Some(0o1777) }),
        VolumeMount::Tmpfs(TmpfsMount { target: "/kept".to_owned(), size_bytes: 0, mode: None }),
        VolumeMount::Tmpfs(TmpfsMount { target: "/made".to_owned(), size_bytes: 0, mode: None }),
    ];
    let created = stage.executor.create(&spec).unwrap();
    let stubs = ["/proc", "/sys", "/dev", "/data", "/etc/single", "/run", "/run/secrets", "/run/secrets/token", "/mem", "/made"];
    // /run is only the target of a link in the image, so it has to be made as well, and is named first.
    let mut made = created.stubs.clone();
    made.sort();
    let mut expected = stubs.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(made, expected);
    stage.executor.start(&spec.id).unwrap();
    let text = read_all(created.output.unwrap());
    assert_eq!(text, "contentcontentsecret\nsh: can't create /data/new: Read-only file system\n1024\n1777\n2750\n1777\n");
    stage.executor.remove(&spec.id).unwrap();
}

fn layers_are_mounted(stage: &Stage) {
    let (low, top, outside) = (stage.extra("low"), stage.extra("top"), stage.extra("outside"));
    fs::create_dir_all(low.join("opt/tool")).unwrap();
    fs::create_dir_all(top.join("opt/tool")).unwrap();
    fs::write(low.join("opt/tool/a"), "a").unwrap();
    fs::write(top.join("opt/tool/b"), "b").unwrap();
    fs::write(outside.join("host"), "host").unwrap();
    symlink(&outside, top.join("escape")).unwrap();
    let scratch = Scratch { upper: stage.extra("scratch"), work: stage.extra("scratch-work") };
    let layers = |source: &str, target: &str, scratch: Option<Scratch>| {
        VolumeMount::Layers(LayersMount { lowers: vec![top.clone(), low.clone()], scratch, source: source.to_owned(), target: target.to_owned() })
    };
    let mut spec = stage.shell("cat /tools/a /tools/b /one; (echo >/tools/new) 2>&1; echo c >/rw/c; cat /rw/*");
    spec.mounts = vec![layers("/opt/tool", "/tools", None), layers("opt/tool/a", "/one", None), layers("/opt/tool", "/rw", Some(scratch))];
    assert_eq!(stage.run(&spec).1, "abash: can't create /tools/new: Read-only file system\nabc\n");
    assert_eq!(fs::read_to_string(stage.extra("scratch").join("opt/tool/c")).unwrap(), "c\n");
    let mut spec = stage.shell("cat /x/host");
    spec.mounts = vec![layers("/escape", "/x", None)];
    assert!(stage.create_error(&spec).contains("could not open the mount source /escape"));
    let mut spec = stage.spec(&["cat", "/x"]);
    let only = LayersMount { lowers: vec![low], scratch: None, source: "/../../opt/tool/a".to_owned(), target: "/x".to_owned() };
    spec.mounts = vec![VolumeMount::Layers(only)];
    assert_eq!(stage.run(&spec).1, "a");
}

fn links_for_system_directories_are_refused(stage: &Stage) {
    let outside = stage.extra("outside");
    for name in ["dev", "proc", "sys"] {
        for target in [outside.to_str().unwrap(), "/tmp", "nowhere", name] {
            let place = stage.lower().join(name);
            symlink(target, &place).unwrap();
            let error = stage.create_error(&stage.spec(&["true"]));
            assert!(error.ends_with(&format!("/{name} of the image is a symbolic link")), "{error}");
            fs::remove_file(place).unwrap();
        }
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_dir(stage.lower().join("tmp")).unwrap().count(), 0);
    // A device in the image is not taken for ours.
    fs::create_dir(stage.lower().join("dev")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", stage.lower().join("dev/null")).unwrap();
    assert_eq!(stage.says("stat -c '%t %T' /dev/null; cat /proc/keys | wc -c"), "1 3\n0\n");
}

fn mounts_stay_inside(stage: &Stage) {
    let (volume, outside) = (stage.extra("volume"), stage.extra("outside"));
    symlink(&outside, stage.lower().join("absolute")).unwrap();
    symlink("../../../../../../../../..", stage.lower().join("up")).unwrap();
    for target in [format!("{}/x", "/absolute"), format!("/up{}/y", outside.display())] {
        let mut spec = stage.shell("true");
        spec.mounts = vec![bind(&volume, &target, false)];
        if let Ok(created) = stage.executor.create(&spec) {
            drop(created);
            stage.executor.remove(&spec.id).unwrap();
        }
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    for (target, reason) in
        [("/proc/self/attr", "inside /proc"), ("/", "over the root directory"), ("/../..", "over the root directory"), ("/proc/1/root/x", "inside /proc")]
    {
        let mut spec = stage.shell("true");
        spec.mounts = vec![bind(&volume, target, false)];
        let error = stage.create_error(&spec);
        assert!(error.contains(reason) || error.contains("could not"), "{target}: {error}");
    }
    let mut spec = stage.shell("true");
    spec.mounts = vec![bind(&volume, "/etc/passwd", false)];
    assert!(stage.create_error(&spec).contains("/etc/passwd is a file, and what is to be mounted is a directory"));
}

fn working_directories_stay_inside(stage: &Stage) {
    let outside = stage.extra("outside");
    let pwd = |cwd: &str| {
        let mut spec = stage.spec(&["pwd"]);
        spec.cwd = cwd.to_owned();
        stage.run(&spec).1
    };
    assert_eq!(pwd("/made/here"), "/made/here\n");
    assert_eq!(pwd(""), "/\n");
    assert_eq!(pwd("/home/../etc"), "/etc\n");
    symlink("/etc", stage.lower().join("link")).unwrap();
    assert_eq!(pwd("/link"), "/etc\n");
    symlink("/proc/self/fd", stage.lower().join("fds")).unwrap();
    // A link to a place of the host means a place inside.
    symlink(&outside, stage.lower().join("out")).unwrap();
    assert_eq!(pwd("/out/in"), format!("{}/in\n", outside.display()));
    let mut bad: Vec<String> = (3..20).map(|number| format!("/proc/self/fd/{number}")).collect();
    bad.extend(["/proc", "/fds/7", "/fds", "/tmp/../proc/self/cwd", "etc", "/etc/passwd"].map(str::to_owned));
    let running = stage.spec(&["sleep", "1000"]);
    stage.start(&running);
    for cwd in bad {
        let mut spec = stage.spec(&["pwd"]);
        spec.cwd = cwd.clone();
        match stage.executor.create(&spec) {
            Err(error) => assert!(error.to_string().contains("could not create"), "{error}"),
            Ok(created) => {
                stage.executor.start(&spec.id).unwrap();
                let record = stage.executor.wait(&spec.id).unwrap();
                assert_eq!((record.code, read_all(created.output.unwrap()).as_str()), (128, ""), "{cwd}");
                assert!(record.error.contains("working directory"), "{cwd}: {}", record.error);
                stage.executor.remove(&spec.id).unwrap();
            }
        }
        let mut exec = exec_spec(&["pwd"]);
        exec.cwd = Some(cwd.clone());
        if let Ok(mut process) = stage.executor.exec(&running.id, &exec) {
            assert_ne!(process.wait().unwrap(), 0, "{cwd}");
            assert_eq!(read_all(process.stdout.take().unwrap()), "", "{cwd}");
        }
    }
    stage.executor.remove(&running.id).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

fn privileged_means_everything(stage: &Stage) {
    let mut spec = stage.shell(&format!("{STATUS}; echo; mount -t tmpfs x /tmp && echo mounted; ls /dev | wc -l; touch /sys/kernel/mm/ksm/run && echo sys"));
    spec.security.privileged = true;
    spec.security.no_new_privileges = false;
    let (_, text) = stage.run(&spec);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let effective = own.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    assert!(text.contains(&format!("CapEff:{effective} ")) && text.contains("Seccomp:0 ") && text.contains("\nmounted\n"), "{text}");
}

fn a_scratch_image_works(stage: &Stage) {
    let empty = stage.extra("scratch-image");
    fs::copy("/bin/busybox", empty.join("sh")).unwrap();
    let mut spec = stage.spec(&["/sh", "-c", "echo $$ >/out; echo done"]);
    spec.rootfs.lowers = vec![empty];
    assert_eq!(stage.run(&spec).1, "done\n");
    assert_eq!(fs::read_to_string(spec.rootfs.upper.join("out")).unwrap(), "1\n");
    let mut spec = stage.spec(&["/sh"]);
    spec.rootfs.lowers = Vec::new();
    let (record, _) = stage.run(&spec);
    assert_eq!((record.code, record.error.as_str()), (127, "exec: \"/sh\": no such file or directory"));
}

fn the_upper_directory_is_a_plain_layer(stage: &Stage) {
    let mut spec = stage.shell("mkdir /d; echo x >/d/f; mv /etc /etc2; rm -r /home; mkdir /home; chmod 700 /tmp");
    assert_eq!(stage.run(&spec).0.code, 0);
    let upper = spec.rootfs.upper.clone();
    assert_eq!(fs::read_to_string(upper.join("d/f")).unwrap(), "x\n");
    // A renamed directory is copied, never redirected: whatever reads the layer sees the files.
    assert!(fs::read_to_string(upper.join("etc2/passwd")).unwrap().starts_with("root:"));
    // The same directories can be mounted again, although the first mount was volatile; and many layers fit.
    spec.id = strake_container::ContainerId("again".to_owned());
    spec.args = vec!["sh".to_owned(), "-c".to_owned(), "cat /d/f; ls /home | wc -l".to_owned()];
    let many: Vec<_> = (0..200).map(|number| stage.extra(&format!("a-layer-with-quite-a-long-name-to-fill-the-page-of-options/{number:0>60}"))).collect();
    spec.rootfs.lowers.splice(0..0, many);
    assert_eq!(stage.run(&spec).1, "x\n0\n");
    assert!(Path::new(&upper).exists());
}

/// With this machine's own root file system as the lowest layer, so that there is something larger than busybox to run.
fn real_programs_run_under_the_filter(stage: &Stage) {
    let script = r#"set -e
        mkdir -p /pkg/DEBIAN /pkg/usr/share/boat
        printf 'Package: boat\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n' >/pkg/DEBIAN/control
        printf '#!/bin/sh\nadduser --version >/dev/null 2>&1 || true\nsu -s /bin/sh -c "id -un" nobody\n' >/pkg/DEBIAN/postinst
        chmod 755 /pkg/DEBIAN/postinst
        dpkg-deb --build /pkg /boat.deb >/dev/null
        dpkg -i /boat.deb
        dpkg -s boat | grep Status
        apt-get --version | head -1 | cut -d' ' -f1
        perl -e 'my $p = fork; if (!$p) { exit 3 } waitpid $p, 0; print "perl ", $? >> 8, "\n"'
        if command -v python3 >/dev/null; then python3 -c '
import threading, subprocess, socket, tempfile, asyncio, os
t = threading.Thread(target=lambda: None); t.start(); t.join()
assert subprocess.run(["true"]).returncode == 0
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
c = socket.create_connection(s.getsockname())
asyncio.run(asyncio.sleep(0))
for family in (38, 40):
    try: socket.socket(family, socket.SOCK_STREAM); raise SystemExit("family %d" % family)
    except PermissionError: pass
os.sched_getaffinity(0)'; echo python; else echo python; fi"#;
    if !Path::new("/usr/bin/dpkg").exists() {
        println!("    SKIPPED: no dpkg on this machine");
        return;
    }
    let mut spec = stage.spec(&["bash", "-c", script]);
    spec.rootfs.lowers = vec!["/".into()];
    spec.env[0] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    spec.security.add_capabilities = vec!["NET_RAW".to_owned(), "MKNOD".to_owned()];
    spec.security.no_new_privileges = false;
    let (record, text) = stage.run(&spec);
    assert_eq!(record.code, 0, "{text}");
    for expected in ["nobody\n", "Status: install ok installed\napt\nperl 3\npython\n"] {
        assert!(text.contains(expected), "{text}");
    }
}
