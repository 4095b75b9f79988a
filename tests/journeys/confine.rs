//! What holds a container in: its limits, its user, its capabilities, its read-only root.

use strake_tests::{World, needs, pod};

#[test]
fn limits_hold_and_are_told() {
    needs!("busybox");
    let world = World::with_busybox();
    let resources = "      resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 250m, memory: 32Mi}}\n";
    let manifests = [
        pod("limited", "sleep 3600", "") + resources,
        // The shell itself grows: it is the one that is killed.
        pod("greedy", "x=0123456789abcdef; while :; do x=$x$x; done", "  restartPolicy: Never\n") + resources,
        pod("child", "dd if=/dev/zero of=/dev/null bs=200M count=1; echo code $?; sleep 3600", "") + resources,
    ];
    world.apply_no_wait("limits", &manifests.concat());
    world.phase("limited", "Running");
    world.phase("greedy", "Failed");
    let ended = world.container("greedy", "main")["state"]["terminated"].clone();
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"OOMKilled".into(), &137.into()), "{ended}");
    assert!(world.strake(&["get", "pods"]).ok().stdout.contains("OOMKilled"));
    world.eventually("its child is killed, not it", || world.strake(&["logs", "child"]).stdout.contains("code 137"));
    assert_eq!(world.container("child", "main")["restartCount"], 0);
    let sh = |script: &str| world.sh("limited", script).ok().stdout.trim().to_owned();
    let memory = sh("cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes");
    assert_eq!(memory, (32 << 20).to_string());
    let cpu = sh("cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us");
    assert_eq!(cpu.split_whitespace().collect::<Vec<_>>(), ["25000", "100000"]);
    assert_eq!(sh("cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max"), "4096");
    assert_ne!(
        world.sh("limited", "echo 1 > /sys/fs/cgroup/pids/pids.max || echo 1 > /sys/fs/cgroup/pids.max").code,
        0,
        "its limits are not its own to change"
    );
    assert_eq!(world.get("pod", "limited")["status"]["qosClass"], "Burstable");
    // The node's own counting of them.
    let described = world.strake(&["describe", "pod", "limited"]).ok().stdout;
    assert!(described.contains("250m") && described.contains("32Mi"), "{described}");
    world.stop();
}

#[test]
fn users_capabilities_and_roots() {
    needs!("busybox");
    let world = World::with_busybox();
    let secure = |name: &str, own: &str, of_pod: &str| {
        pod(name, "sleep 3600", &format!("  securityContext: {{{of_pod}}}\n  volumes: [{{name: work, emptyDir: {{}}}}]\n"))
            + &format!("      securityContext: {{{own}}}\n      volumeMounts: [{{name: work, mountPath: /work}}]\n")
    };
    let manifests = [
        secure("plain", "", ""),
        secure("user", "runAsUser: 1000, runAsNonRoot: true", "fsGroup: 3000, supplementalGroups: [50], runAsGroup: 1001"),
        secure("root", "runAsNonRoot: true", ""),
        secure("fixed", "readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false", ""),
        secure("more", "capabilities: {add: [NET_ADMIN]}", ""),
        secure("all", "privileged: true", ""),
    ];
    world.apply_no_wait("secure", &manifests.concat());
    for name in ["plain", "user", "fixed", "more", "all"] {
        world.phase(name, "Running");
    }
    let sh = |pod: &str, script: &str| world.sh(pod, script).ok().stdout.trim().to_owned();
    let status = |pod: &str, field: &str| sh(pod, &format!("grep {field}: /proc/self/status")).split_whitespace().last().unwrap_or_default().to_owned();
    assert_eq!(sh("plain", "id -u; id -g"), "0\n0");
    assert_eq!(status("plain", "CapEff"), "00000000a00405fb", "the usual ones without NET_RAW");
    assert_eq!((status("plain", "Seccomp"), status("plain", "NoNewPrivs")), ("2".to_owned(), "1".to_owned()));
    assert_ne!(world.sh("plain", "mount -t tmpfs x /tmp").code, 0);
    assert_ne!(world.sh("plain", "ip addr add 192.0.2.9/32 dev lo").code, 0);
    assert_ne!(world.sh("plain", "echo 1 > /proc/sys/vm/drop_caches").code, 0);
    let id = sh("user", "id -u; id -g; id -G");
    let lines: Vec<&str> = id.lines().collect();
    assert_eq!(lines[..2], ["1000", "1001"], "{id}");
    assert!(lines[2].split(' ').any(|group| group == "3000") && lines[2].split(' ').any(|group| group == "50"), "{id}");
    assert_eq!(status("user", "CapEff"), "0000000000000000");
    assert_eq!(sh("user", "touch /work/mine && stat -c '%u %g' /work/mine"), "1000 3000");
    assert_ne!(world.sh("user", "touch /etc/mine").code, 0);
    // The name of an image's user decides too, and who would be root is told.
    let waiting = || world.container("root", "main")["state"]["waiting"].clone();
    world.eventually("root is refused", || waiting()["reason"] == "CreateContainerConfigError");
    assert!(waiting()["message"].as_str().is_some_and(|text| text.contains("runAsNonRoot")), "{}", waiting());
    assert_ne!(world.sh("fixed", "touch /anywhere").code, 0);
    world.sh("fixed", "touch /work/there /dev/null").ok();
    assert_eq!(status("fixed", "CapEff"), "0000000000000000");
    sh("more", "ip addr add 192.0.2.9/32 dev lo");
    assert_ne!(world.sh("more", "mount -t tmpfs x /tmp").code, 0);
    sh("all", "mount -t tmpfs x /tmp && umount /tmp && test -e /dev/kmsg && ip addr add 192.0.2.9/32 dev lo");
    assert_eq!(status("all", "Seccomp"), "0");
    world.stop();
}
