//! How containers live and end: restarts, probes, hooks, signals, and what their output says afterwards.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use strake_tests::{PATIENCE, World, needs, pod, until};

#[test]
fn restart_policies() {
    needs!("busybox");
    let world = World::with_busybox();
    let manifests = [
        pod("never", "echo no; exit 4", "  restartPolicy: Never\n"),
        pod("done", "echo fine", "  restartPolicy: OnFailure\n"),
        pod("retried", "test -e /work/second && exit 0; touch /work/second; exit 5", "  restartPolicy: OnFailure\n  volumes: [{name: work, emptyDir: {}}]\n")
            + "      volumeMounts: [{name: work, mountPath: /work}]\n",
        pod("crashing", "echo run $(cat /proc/uptime); echo last words > /dev/termination-log; exit 6", ""),
    ];
    world.apply_no_wait("policies", &manifests.concat());
    world.phase("never", "Failed");
    let ended = world.container("never", "main");
    assert_eq!((&ended["state"]["terminated"]["exitCode"], &ended["restartCount"]), (&4.into(), &0.into()));
    assert_eq!(ended["state"]["terminated"]["reason"], "Error");
    world.phase("done", "Succeeded");
    assert_eq!(world.container("done", "main")["state"]["terminated"]["reason"], "Completed");
    assert_eq!(world.container("done", "main")["restartCount"], 0);
    world.phase("retried", "Succeeded");
    assert_eq!(world.container("retried", "main")["restartCount"], 1);
    let mut crashing = serde_json::Value::Null;
    world.eventually("CrashLoopBackOff", || {
        crashing = world.container("crashing", "main");
        crashing["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    let last = &crashing["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&6.into(), &"Error".into()), "{crashing}");
    assert_eq!(last["message"], "last words\n");
    let said = crashing["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(said.starts_with("back-off "), "{said}");
    world.eventually("told", || world.events("BackOff").contains("restarting failed container main in pod crashing"));
    for shown in ["Error", "Completed", "CrashLoopBackOff"] {
        world.eventually(shown, || world.strake(&["get", "pods"]).ok().stdout.contains(shown));
    }
    // Each run has its own log.
    assert!(crashing["restartCount"].as_i64() >= Some(1), "{crashing}");
    let log = |args: &[&str]| world.strake(&[&["logs", "crashing"], args].concat()).ok().stdout;
    // In this order: it may run once more in between.
    let before = log(&["--previous"]);
    assert!(before.starts_with("run "), "{before}");
    world.eventually("another log", || log(&[]).starts_with("run ") && log(&[]) != before);
    world.strake(&["logs", "never", "--previous"]).fails(1, "previous terminated container \"main\" in pod \"never\" not found");
    world.stop();
}

#[test]
fn probes_gate_kill_and_take_out_of_service() {
    needs!("busybox");
    let world = World::with_busybox();
    // A slow machine must not look like a sick container.
    let probe = |kind: &str, how: &str, more: &str| format!("      {kind}: {{{how}, periodSeconds: 1, timeoutSeconds: 30{more}}}\n");
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: ready}\nspec: {selector: {app: ready}, ports: [{port: 80, targetPort: 8080}]}\n";
    let manifests = [
        pod("by-exec", "touch /alive; sleep 3600", "")
            + &probe("livenessProbe", "exec: {command: [test, -e, /alive]}", ", initialDelaySeconds: 2, failureThreshold: 4"),
        pod("by-tcp", "httpd -f -p 9000 -h /www & echo $! > /pid; sleep 3600", "")
            + &probe("livenessProbe", "tcpSocket: {port: 9000}", ", initialDelaySeconds: 2, failureThreshold: 4"),
        pod("by-http", "touch /www/alive; httpd -f -p 8080 -h /www", "")
            + &probe("livenessProbe", "httpGet: {path: /alive, port: 8080}", ", initialDelaySeconds: 2, failureThreshold: 4"),
        pod("starts", "sleep 2; touch /www/up; httpd -f -p 8080 -h /www", "")
            + &probe("startupProbe", "httpGet: {path: /up, port: web}", ", failureThreshold: 300")
            + &probe("livenessProbe", "httpGet: {path: /up, port: 8080}", ", failureThreshold: 1")
            + "      ports: [{name: web, containerPort: 8080}]\n",
        pod("ready", "touch /www/ok; httpd -f -p 8080 -h /www", "") + &probe("readinessProbe", "httpGet: {path: /ok, port: 8080}", ", failureThreshold: 1"),
        service.to_owned(),
    ];
    world.apply("probes", &manifests.concat()).ok();
    for name in ["by-exec", "by-tcp", "by-http", "starts"] {
        assert_eq!(world.container(name, "main")["restartCount"], 0, "{name}: {}", world.events("Unhealthy"));
    }
    assert_eq!(world.container("starts", "main")["started"], true);
    let endpoints = || {
        let all = world.list("endpointslices");
        let of = all.iter().find(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "ready").cloned().unwrap_or_default();
        of["endpoints"].as_array().into_iter().flatten().filter(|one| one["conditions"]["ready"] == true).count()
    };
    world.eventually("in service", || endpoints() == 1);
    world.sh("ready", "rm /www/ok").ok();
    world.eventually("out of service", || endpoints() == 0);
    world.eventually("not ready", || world.strake(&["get", "pods"]).ok().stdout.lines().any(|line| line.starts_with("ready") && line.contains("0/1")));
    world.sh("by-exec", "rm /alive").ok();
    world.sh("by-tcp", "kill $(cat /pid)").ok();
    world.sh("by-http", "rm /www/alive").ok();
    world.sh("ready", "touch /www/ok").ok();
    world.eventually("in service again", || endpoints() == 1);
    for name in ["by-exec", "by-tcp", "by-http"] {
        world.eventually(&format!("{name} is restarted"), || world.container(name, "main")["restartCount"] == 1);
        world.eventually(&format!("{name} runs again"), || world.container(name, "main")["state"]["running"].is_object());
        assert_eq!(world.container(name, "main")["lastState"]["terminated"]["exitCode"], 137);
    }
    assert_eq!(world.container("ready", "main")["restartCount"], 0, "readiness never kills");
    for said in ["Liveness probe failed", "Readiness probe failed: HTTP probe failed with statuscode: 404"] {
        world.eventually(said, || world.events("Unhealthy").contains(said));
    }
    world.eventually("why it was killed", || world.events("Killing").contains("Container main failed liveness probe, will be restarted"));
    world.stop();
}

#[test]
fn hooks_signals_and_grace() {
    needs!("busybox");
    let world = World::with_busybox();
    let host = world.path("seen").display().to_string();
    let mount = "      volumeMounts: [{name: seen, mountPath: /seen}]\n";
    let volume = format!("  volumes: [{{name: seen, hostPath: {{path: {host}, type: DirectoryOrCreate}}}}]\n");
    let of = |name: &str, script: &str, grace: u32, more: &str| {
        pod(name, script, &volume).replace("PeriodSeconds: 0", &format!("PeriodSeconds: {grace}")) + mount + more
    };
    let hooks = "      lifecycle:\n        postStart: {exec: {command: [sh, -c, 'echo post > /seen/post']}}\n        preStop: {exec: {command: [sh, -c, 'echo pre > /seen/pre; sleep 0.5']}}\n";
    let manifests = [
        of("polite", "trap 'echo term > /seen/term; sleep 0.5; echo done > /seen/done; exit 0' TERM; while :; do sleep 0.1; done", 600, hooks),
        of("deaf", "trap '' TERM; while :; do sleep 0.1; done", 2, ""),
        of("fails", "sleep 3600", 0, "      lifecycle: {postStart: {exec: {command: [sh, -c, 'exit 9']}}}\n"),
    ];
    world.apply_no_wait("hooks", &manifests.concat());
    world.phase("polite", "Running");
    world.phase("deaf", "Running");
    let read = |name: &str| std::fs::read_to_string(world.path("seen").join(name)).unwrap_or_default();
    world.eventually("postStart ran", || read("post") == "post\n");
    world.eventually("a failed postStart is told", || world.events("FailedPostStartHook").contains("exit"));
    world.eventually("and the container started again", || world.container("fails", "main")["restartCount"].as_i64() >= Some(1));
    let began = Instant::now();
    world.strake(&["delete", "pod", "polite"]).ok();
    let took = began.elapsed();
    assert_eq!((read("pre"), read("term"), read("done")), ("pre\n".to_owned(), "term\n".to_owned(), "done\n".to_owned()));
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(600), "as long as it takes, and not the whole grace: {took:?}");
    let began = Instant::now();
    world.strake(&["delete", "pod", "deaf"]).ok();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1900), "its grace: {took:?}");
    world.stop();
}

#[test]
fn logs_and_exec() {
    needs!("busybox");
    let world = World::with_busybox();
    let script = "for i in 1 2 3; do echo line $i; done; while ! test -e /err; do sleep 0.1; done; echo bad >&2; while ! test -e /go; do sleep 0.1; done; echo more; while ! test -e /stop; do sleep 0.1; done; echo end";
    world.apply("talks", &pod("talks", script, "  restartPolicy: Never\n")).ok();
    let logs = |args: &[&str]| world.strake(&[&["logs", "talks"], args].concat()).ok().stdout;
    world.eventually("it speaks", || logs(&[]).contains("line 3"));
    world.sh("talks", "touch /err").ok();
    world.eventually("all is said", || logs(&[]).contains("bad"));
    assert_eq!(logs(&[]), "line 1\nline 2\nline 3\nbad\n");
    assert_eq!(logs(&["--tail", "2"]), "line 3\nbad\n");
    let stamped = logs(&["--timestamps", "--tail", "1"]);
    assert!(stamped.starts_with("20") && stamped.contains("Z bad") || stamped.contains("+00:00 bad"), "{stamped}");
    let mut follower = world.strake_command(&["logs", "-f", "talks"]);
    let follower = follower.stdout(Stdio::piped()).spawn().expect("it starts");
    world.sh("talks", "touch /go").ok();
    assert!(until(PATIENCE, || logs(&[]).contains("more")));
    // stdin, both outputs and the exit code.
    let mut exec = world.strake_command(&["exec", "-i", "talks", "--", "sh", "-c", "cat; echo wrong >&2; exit 7"]);
    let mut exec = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let big = "0123456789abcdef\n".repeat(20_000);
    let mut stdin = exec.stdin.take().expect("a pipe");
    let text = big.clone();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = exec.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("all is read");
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == big.as_bytes(), "{} bytes of {}", output.stdout.len(), big.len());
    assert!(String::from_utf8_lossy(&output.stderr).contains("wrong"));
    assert_eq!(world.sh("talks", "kill -9 $$").code, 137);
    let missing = world.strake(&["exec", "talks", "--", "/no/such"]);
    assert!(missing.code != 0 && missing.all().contains("/no/such"), "{missing:?}");
    world.sh("talks", "touch /stop").ok();
    // The follower ends with the container.
    let output = follower.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "line 1\nline 2\nline 3\nbad\nmore\nend\n");
    world.phase("talks", "Succeeded");
    assert!(logs(&[]).ends_with("end\n"), "the log outlives the container");
    assert_ne!(world.sh("talks", "true").code, 0);
    world.stop();
}
