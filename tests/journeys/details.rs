//! The smaller fields of a pod and a Service: each does what it says.

use strake_tests::{World, needs, pod};

#[test]
fn fields_of_a_pod() {
    needs!("busybox");
    let world = World::with_busybox();
    let two = "    - {name: side, image: 'busybox:1', command: [sleep, '3600']}\n";
    let manifests = [
        pod("on-host", "httpd -f -p 127.0.0.1:18080 -h /www", "  hostNetwork: true\n"),
        pod(
            "named",
            "sleep 3600",
            "  hostname: other\n  hostAliases: [{ip: 192.0.2.77, hostnames: [friend]}]\n  dnsConfig: {searches: [example.test], options: [{name: ndots, value: '2'}]}\n",
        ),
        pod("own-dns", "sleep 3600", "  dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.53]}\n"),
        pod("together", "sleep 3600", "  shareProcessNamespace: true\n") + two,
        pod("deadline", "sleep 3600", "  activeDeadlineSeconds: 1\n  restartPolicy: Never\n"),
        pod("fallback", "echo the reason; exit 2", "  restartPolicy: Never\n") + "      terminationMessagePolicy: FallbackToLogsOnError\n",
        pod("dir", "sleep 3600", "") + "      workingDir: /made/here\n",
    ];
    world.apply_no_wait("fields", &manifests.concat());
    for name in ["on-host", "named", "own-dns", "dir"] {
        world.phase(name, "Running");
    }
    let sh = |pod: &str, script: &str| world.sh(pod, script).ok().stdout.trim().to_owned();
    let node = world.node()["status"]["addresses"][0]["address"].clone();
    assert_eq!(world.get("pod", "on-host")["status"]["podIP"], node);
    world.eventually("it answers on the host", || {
        world.run("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:18080/"]).stdout == "404"
    });
    assert_eq!(sh("named", "hostname; cat /etc/hostname"), "other\nother");
    assert!(sh("named", "cat /etc/hosts").lines().any(|line| line.starts_with("192.0.2.77") && line.ends_with("friend")));
    let resolv = sh("named", "cat /etc/resolv.conf");
    assert!(resolv.contains("nameserver 10.43.0.10") && resolv.contains("default.svc.cluster.local svc.cluster.local cluster.local example.test"), "{resolv}");
    assert!(resolv.contains("ndots:2"), "{resolv}");
    assert_eq!(sh("own-dns", "cat /etc/resolv.conf"), "nameserver 192.0.2.53");
    assert_eq!(sh("dir", "pwd"), "/made/here");
    world.phase("deadline", "Failed");
    assert_eq!(world.get("pod", "deadline")["status"]["reason"], "DeadlineExceeded");
    world.phase("fallback", "Failed");
    assert_eq!(world.container("fallback", "main")["state"]["terminated"]["message"], "the reason\n");
    // What isn't there yet is said, never passed over in silence.
    world.eventually("an event", || world.strake(&["get", "events"]).stdout.contains("spec.shareProcessNamespace is not supported"));
    world.stop();
}

#[test]
fn fields_of_a_service() {
    needs!("busybox");
    let world = World::with_busybox();
    let web = |name: &str| {
        pod(name, &format!("echo {name} > /www/index.html; httpd -f -p 8080 -h /www"), "").replace("{app: ", "{role: web, app: ")
            + "      ports: [{name: web, containerPort: 8080}]\n      readinessProbe: {tcpSocket: {port: web}, periodSeconds: 1}\n"
    };
    let service = |name: &str, spec: &str| format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n");
    let manifests = [
        web("a"),
        web("b"),
        pod("client", "sleep 3600", ""),
        service("both", "selector: {role: web}, ports: [{port: 80, targetPort: web}]"),
        service("sticky", "selector: {role: web}, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: web}]"),
        service("ports", "selector: {app: a}, ports: [{name: x, port: 81, targetPort: 8080}, {name: y, port: 82, targetPort: web}]"),
    ];
    world.apply("services", &manifests.concat()).ok();
    let answers = |name: &str| world.sh("client", &format!("for i in $(seq 20); do wget -q -O - http://{name}/; done")).stdout;
    world.eventually("both are asked", || answers("both").contains('a') && answers("both").contains('b'));
    world.eventually("affinity is said to be missing", || world.strake(&["get", "events"]).stdout.contains("sessionAffinity"));
    world.eventually("both ports", || world.sh("client", "wget -q -O - http://ports:81/; wget -q -O - http://ports:82/").stdout == "a\na\n");
    // One of two goes: the other serves at once.
    world.strake(&["delete", "pod", "a"]).ok();
    world.eventually("only the other", || answers("both") == "b\n".repeat(20));
    world.stop();
}

#[test]
fn containers_outlive_the_daemon_with_all_they_have() {
    needs!("busybox");
    let world = World::with_busybox();
    let probe = "      livenessProbe: {exec: {command: [test, -e, /tmp]}, periodSeconds: 1}\n";
    let keeps = pod("keeps", "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done", "  volumes: [{name: work, emptyDir: {medium: Memory}}]\n")
        + "      volumeMounts: [{name: work, mountPath: /work}]\n"
        + probe;
    let ends = pod(
        "ends",
        "while ! test -e /go; do sleep 0.05; done; exit 8",
        "  restartPolicy: Never\n  volumes: [{name: go, hostPath: {path: GO, type: DirectoryOrCreate}}]\n",
    )
    .replace("GO", &world.path("go-dir").display().to_string())
    .replace("/go;", "/go-dir/go;")
        + "      volumeMounts: [{name: go, mountPath: /go-dir}]\n";
    world.apply("outlive", &[keeps, ends].concat()).ok();
    world.sh("keeps", "echo kept > /work/file").ok();
    let (ip, id) = (world.get("pod", "keeps")["status"]["podIP"].clone(), world.container("keeps", "main")["containerID"].clone());
    world.kill_server();
    // While nobody looks, one goes on and one ends.
    std::fs::write(world.path("go-dir/go"), "").expect("written");
    std::thread::sleep(std::time::Duration::from_millis(500));
    world.serve();
    world.phase("ends", "Failed");
    assert_eq!(world.container("ends", "main")["state"]["terminated"]["exitCode"], 8, "an end that nobody saw is known");
    assert_eq!(world.sh("keeps", "cat /work/file").ok().stdout, "kept\n");
    assert_eq!((world.get("pod", "keeps")["status"]["podIP"].clone(), world.container("keeps", "main")["containerID"].clone()), (ip, id));
    assert_eq!(world.container("keeps", "main")["restartCount"], 0);
    let log = world.strake(&["logs", "keeps"]).ok().stdout;
    let ticks: Vec<String> = log.lines().map(str::to_owned).collect();
    let expected: Vec<String> = (1..=ticks.len()).map(|number| format!("tick {number}")).collect();
    assert_eq!(ticks, expected, "no line is lost");
    world.stop();
}
