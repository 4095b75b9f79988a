//! Pods' lives: start, configuration, crash, restart of the daemon, end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use strake_client::Resource;
use strake_node::LogOptions;

use crate::Test;
use crate::stage::{PATIENCE, Stage, shell, waits_for};

pub const TESTS: &[Test] = &[
    ("a_pod_starts_fast_and_sees_what_it_was_given", a_pod_starts_fast_and_sees_what_it_was_given),
    ("files_of_objects_follow_their_objects", files_of_objects_follow_their_objects),
    ("what_is_missing_is_waited_for", what_is_missing_is_waited_for),
    ("a_crash_is_restarted_and_remembered", a_crash_is_restarted_and_remembered),
    ("a_job_ends_and_leaves_its_log", a_job_ends_and_leaves_its_log),
    ("a_program_that_is_not_there_is_named", a_program_that_is_not_there_is_named),
    ("a_daemon_that_dies_loses_nothing", a_daemon_that_dies_loses_nothing),
    ("a_pod_deleted_meanwhile_is_removed", a_pod_deleted_meanwhile_is_removed),
    ("stopping_keeps_the_objects_and_starting_runs_them_again", stopping_keeps_the_objects_and_starting_runs_them_again),
    ("users_rights_and_limits", users_rights_and_limits),
    ("commands_in_containers", commands_in_containers),
    ("logs_are_followed_to_the_end", logs_are_followed_to_the_end),
];

fn a_pod_starts_fast_and_sees_what_it_was_given(stage: Stage) {
    stage.run(|running| async move {
        running.create(&Resource::CONFIG_MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"k": "from-map"}})).await;
        let mut container = shell("echo started; sleep 1000");
        container["env"] = json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "k"}}}, {"name": "BOTH", "value": "$(K)-$(HOME)"}]);
        container["volumeMounts"] = json!([{"name": "tmp", "mountPath": "/data"}, {"name": "mem", "mountPath": "/mem"}]);
        let volumes = json!([{"name": "tmp", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
        running.pod("warm", json!({"containers": [shell("sleep 1000")]})).await;
        running.ready("warm").await;
        let began = Instant::now();
        running.pod("p", json!({"containers": [container], "volumes": volumes, "hostname": "box"})).await;
        let pod = running.ready("p").await;
        println!("apply to ready: {:?}", began.elapsed());
        let (code, out, _) =
            running.exec("p", &["sh", "-c", "echo $K $BOTH; hostname; cat /etc/resolv.conf; cat /etc/hosts; touch /data/x /mem/y; mount"]).await;
        assert_eq!(code, 0);
        let address = pod["status"]["podIP"].as_str().unwrap();
        let expected =
            ["from-map from-map-$(HOME)", "box\n", "search default.svc.cluster.local", "nameserver 10.43.0.10", "options ndots:5", &format!("{address}\tbox")];
        for part in expected {
            assert!(out.contains(part), "{part} in {out}");
        }
        assert!(out.contains("on /mem type tmpfs"), "{out}");
        running.says("p", "started\n").await;
        for reason in ["Pulled: ", "Created: ", "Started: "] {
            running.told("p", |event| event.starts_with(reason)).await;
        }
        assert_eq!(pod["status"]["qosClass"], "BestEffort");
        assert!(pod["status"]["containerStatuses"][0]["imageID"].as_str().unwrap().starts_with("docker.io/library/box@sha256:"));
    });
}

fn files_of_objects_follow_their_objects(stage: Stage) {
    stage.run(|running| async move {
        running.create(&Resource::CONFIG_MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "one"}})).await;
        running.create(&Resource::SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"}, "stringData": {"pw": "hush"}})).await;
        let mut container = shell("sleep 1000");
        container["volumeMounts"] = json!([{"name": "conf", "mountPath": "/conf"}, {"name": "sec", "mountPath": "/sec"}]);
        let volumes = json!([{"name": "conf", "configMap": {"name": "conf"}}, {"name": "sec", "secret": {"secretName": "sec", "defaultMode": 0o400}}]);
        running.pod("p", json!({"containers": [container], "volumes": volumes})).await;
        running.ready("p").await;
        assert_eq!(running.exec("p", &["cat", "/conf/a", "/sec/pw"]).await.1, "onehush");
        assert_ne!(running.exec("p", &["touch", "/conf/b"]).await.0, 0, "not the container's to change");
        running.patch(&Resource::CONFIG_MAPS, "conf", json!({"data": {"a": "two"}})).await;
        let deadline = Instant::now() + PATIENCE;
        while running.exec("p", &["cat", "/conf/a"]).await.1 != "two" {
            assert!(Instant::now() < deadline, "the file never changed");
        }
    });
}

fn what_is_missing_is_waited_for(stage: Stage) {
    stage.run(|running| async move {
        let mut container = shell("sleep 1000");
        container["env"] = json!([{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "late", "key": "pw"}}}]);
        running.pod("p", json!({"containers": [container]})).await;
        let pod = running.until("p", "refused", |pod| waits_for(pod) == "CreateContainerConfigError").await;
        assert_eq!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"], "secret \"late\" not found");
        running.create(&Resource::SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late"}, "stringData": {"pw": "x"}})).await;
        running.ready("p").await;
        let mut container = shell("sleep 1000");
        container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        running.pod("q", json!({"containers": [container], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]})).await;
        let pod = running.until("q", "refused", |pod| waits_for(pod) == "CreateContainerConfigError").await;
        let message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("persistentVolumeClaim, which is not supported"), "{message}");
        running.pod("r", json!({"containers": [{"name": "c", "image": "nowhere.invalid/x:1", "imagePullPolicy": "Never"}]})).await;
        running.until("r", "without its image", |pod| waits_for(pod) == "ErrImageNeverPull").await;
        let mut always = shell("sleep 1000");
        always["imagePullPolicy"] = json!("Always");
        running.pod("s", json!({"containers": [always]})).await;
        running.ready("s").await;
        // No registry here, but the image is.
        running.told("s", |event| event.starts_with("PullFailedUsingLocal: ")).await;
        let on_host = json!({"hostNetwork": true, "hostPID": true, "containers": [shell("sleep 1000")]});
        running.pod("t", on_host).await;
        let pod = running.ready("t").await;
        assert_eq!((&pod["status"]["podIP"], &pod["status"]["hostIP"]), (&json!("10.42.0.1"), &json!("10.42.0.1")));
        running.told("t", |event| event == "UnsupportedField: spec.hostPID is not supported and has no effect").await;
    });
}

fn a_crash_is_restarted_and_remembered(stage: Stage) {
    stage.run(|running| async move {
        let script = "echo life; echo -n last words > /dev/termination-log; exit 3";
        running.pod("p", json!({"containers": [shell(script)]})).await;
        let pod = running.until("p", "restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(1)).await;
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!((last["exitCode"].as_i64(), last["message"].as_str()), (Some(3), Some("last words")));
        let previous = running.logs("p", LogOptions { previous: true, ..LogOptions::default() }).await;
        assert_eq!(previous, "life\n");
        running.until("p", "backing off", |pod| waits_for(pod) == "CrashLoopBackOff").await;
    });
}

fn a_job_ends_and_leaves_its_log(stage: Stage) {
    stage.run(|running| async move {
        running.pod("p", json!({"restartPolicy": "Never", "containers": [shell("echo done")]})).await;
        running.until("p", "succeeded", |pod| pod["status"]["phase"] == "Succeeded").await;
        assert_eq!(running.logs("p", LogOptions::default()).await, "done\n");
        running.pod("f", json!({"restartPolicy": "Never", "containers": [shell("exit 4")]})).await;
        let pod = running.until("f", "failed", |pod| pod["status"]["phase"] == "Failed").await;
        assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 4);
        let init = json!({"name": "i", "image": "box:1", "command": ["sh", "-c", "echo ready > /v/flag"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let mut main = shell("cat /v/flag");
        main["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        let spec = json!({"restartPolicy": "Never", "initContainers": [init], "containers": [main], "volumes": [{"name": "v", "emptyDir": {}}]});
        running.pod("with-init", spec).await;
        running.until("with-init", "succeeded", |pod| pod["status"]["phase"] == "Succeeded").await;
        assert_eq!(running.logs("with-init", LogOptions::default()).await, "ready\n");
    });
}

fn a_program_that_is_not_there_is_named(stage: Stage) {
    stage.run(|running| async move {
        running.pod("p", json!({"containers": [{"name": "c", "image": "box:1", "command": ["/no/such/program"]}]})).await;
        running.until("p", "refused", |pod| matches!(waits_for(pod), "RunContainerError" | "CrashLoopBackOff")).await;
        running.told("p", |event| event.contains("/no/such/program")).await;
    });
}

fn pid(root: &std::path::Path) -> String {
    let mut found = String::new();
    for entry in std::fs::read_dir(root.join("containers")).unwrap() {
        found += &std::fs::read_to_string(entry.unwrap().path().join("state.json")).unwrap_or_default();
    }
    found
}

fn a_daemon_that_dies_loses_nothing(stage: Stage) {
    stage.runtime.block_on(async {
        let first = stage.node().await;
        first.pod("p", json!({"containers": [shell("n=0; while true; do n=$((n+1)); echo $n; sleep 0.02; done")]})).await;
        let before = first.ready("p").await;
        let state = pid(&first.root);
        // As a kill would: its tasks end in the middle, nothing is told to anybody.
        first.node.leave().await;
        first.network.close().await;
        drop(first);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        let second = stage.node().await;
        println!("taken up after {:?}", began.elapsed());
        second.create(&Resource::CONFIG_MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let after = second.ready("p").await;
        assert_eq!(before["status"]["podIP"], after["status"]["podIP"]);
        assert_eq!(before["status"]["containerStatuses"][0]["containerID"], after["status"]["containerStatuses"][0]["containerID"]);
        assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);
        assert_eq!(state, pid(&second.root), "the same process");
        let deadline = Instant::now() + PATIENCE;
        let mut log = String::new();
        while log.lines().count() <= 10 {
            assert!(Instant::now() < deadline, "it says no more: {log}");
            log = second.logs("p", LogOptions::default()).await;
        }
        let numbers: Vec<u32> = log.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.len() > 10 && numbers.iter().zip(1..).all(|(number, expected)| *number == expected), "no line was lost: {numbers:?}");
        second.delete("p").await;
        second.gone("p").await;
        second.node.stop_all().await.unwrap();
        second.network.teardown().await.unwrap();
    });
    stage.assert_nothing_left();
}

fn a_pod_deleted_meanwhile_is_removed(stage: Stage) {
    stage.runtime.block_on(async {
        let first = stage.node().await;
        first.pod("p", json!({"containers": [shell("sleep 1000")]})).await;
        first.ready("p").await;
        first.node.leave().await;
        first.network.close().await;
        let now = strake_client::DeleteParams { grace_seconds: Some(0), ..Default::default() };
        stage.client.delete(&Resource::PODS, Some("default"), "p", &now).await.unwrap();
        drop(first);
        let second = stage.node().await;
        let deadline = Instant::now() + PATIENCE;
        while std::fs::read_dir(second.root.join("pods")).unwrap().count() > 0 {
            assert!(Instant::now() < deadline, "the pod's directory never went");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        second.node.stop_all().await.unwrap();
        second.network.teardown().await.unwrap();
    });
    stage.assert_nothing_left();
}

fn stopping_keeps_the_objects_and_starting_runs_them_again(stage: Stage) {
    stage.runtime.block_on(async {
        let first = stage.node().await;
        first
            .pod(
                "p",
                json!({"containers": [shell("trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.05; done")], "terminationGracePeriodSeconds": 600}),
            )
            .await;
        first.ready("p").await;
        // A signal before the trap is set would be nobody's.
        first.says("p", "up\n").await;
        let began = Instant::now();
        first.node.stop_all().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(600), "it ended by itself after {:?}", began.elapsed());
        first.network.teardown().await.unwrap();
        stage.assert_nothing_left();
        let nodes = stage.client.list(&Resource::NODES, None, &strake_client::ListParams::all()).await.unwrap();
        let ready = nodes.items[0]["status"]["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Ready").unwrap().clone();
        assert_eq!(ready["status"], "False");
        assert!(stage.client.get(&Resource::PODS, Some("default"), "p").await.unwrap().is_some(), "the object stays");
        drop(first);
        let second = stage.node().await;
        second.until("p", "run again", |pod| pod["status"]["containerStatuses"][0]["state"]["running"].is_object() && second.node.pods() == 1).await;
        let (code, _, _) = {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let path = second.root.join("containers");
                if std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
                    break (0, String::new(), String::new());
                }
                assert!(Instant::now() < deadline, "no container was made");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert_eq!(code, 0);
        second.node.stop_all().await.unwrap();
        second.network.teardown().await.unwrap();
    });
    stage.assert_nothing_left();
}

fn users_rights_and_limits(stage: Stage) {
    stage.run(|running| async move {
        let mut container = shell("sleep 1000");
        container["securityContext"] = json!({"runAsUser": 100, "runAsGroup": 7, "readOnlyRootFilesystem": true});
        container["resources"] = json!({"limits": {"memory": "32Mi", "cpu": "500m"}});
        container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        let spec = json!({"securityContext": {"fsGroup": 42}, "containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]});
        running.pod("p", spec).await;
        running.ready("p").await;
        let (_, out, _) = running.exec("p", &["sh", "-c", "id -u; id -g; id -G; touch /x; touch /v/y && echo written"]).await;
        assert_eq!(out.lines().collect::<Vec<_>>(), ["100", "7", "7 42", "written"], "{out}");
        let mut root = shell("sleep 1000");
        root["securityContext"] = json!({"runAsNonRoot": true});
        running.pod("q", json!({"containers": [root]})).await;
        let pod = running.until("q", "refused", |pod| waits_for(pod) == "CreateContainerConfigError").await;
        assert!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap().contains("runAsNonRoot"));
        running
            .pod(
                "oom",
                json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "box:1",
            "command": ["sh", "-c", "x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done"], "resources": {"limits": {"memory": "16Mi"}}}]}),
            )
            .await;
        let pod = running.until("oom", "killed", |pod| pod["status"]["phase"] == "Failed").await;
        assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "OOMKilled", "{}", pod["status"]);
    });
}

fn commands_in_containers(stage: Stage) {
    stage.run(|running| async move {
        running.pod("p", json!({"containers": [shell("sleep 1000")]})).await;
        running.ready("p").await;
        assert_eq!(running.exec("p", &["sh", "-c", "echo out; echo err >&2; exit 7"]).await, (7, "out\n".to_owned(), "err\n".to_owned()));
        assert_eq!(running.exec_with("p", &["cat"], Some("typed"), false).await, (0, "typed".to_owned(), String::new()));
        let (code, out, _) = running.exec_with("p", &["sh", "-c", "test -t 0 && echo terminal"], None, true).await;
        assert_eq!((code, out.trim_end()), (0, "terminal"));
        let (code, _, err) = running.exec("p", &["/no/such"]).await;
        assert_eq!(code, 127, "{err}");
        let streams_of_none = running.node.exec("default", "nobody", Default::default(), streams()).await;
        assert_eq!(streams_of_none.unwrap_err().to_string(), "the node does not run pod default/nobody");
        // A client that goes away ends its command.
        let (request, streams) =
            (strake_node::ExecRequest { container: "c".to_owned(), command: vec!["sleep".to_owned(), "7777".to_owned()], ..Default::default() }, streams());
        let node = Arc::clone(&running.node);
        let task = tokio::time::timeout(PATIENCE, async move { node.exec("default", "p", request, streams).await });
        assert!(task.await.is_ok(), "nobody listens, so it ended");
    });
}

/// Streams whose other ends are gone.
fn streams() -> strake_node::ExecStreams {
    let (_, stdin) = tokio::sync::mpsc::channel(1);
    let (stdout, _) = tokio::sync::mpsc::channel(1);
    let (stderr, _) = tokio::sync::mpsc::channel(1);
    let (_, resize) = tokio::sync::mpsc::channel(1);
    strake_node::ExecStreams { stdin, stdout, stderr, resize }
}

fn logs_are_followed_to_the_end(stage: Stage) {
    stage.run(|running| async move {
        let script = "echo one; sleep 0.3; echo two; sleep 0.3; echo three";
        running.pod("p", json!({"restartPolicy": "Never", "containers": [shell(script)]})).await;
        running.until("p", "started", |pod| !pod["status"]["containerStatuses"][0]["containerID"].is_null()).await;
        let followed = tokio::time::timeout(PATIENCE, running.logs("p", LogOptions { follow: true, ..LogOptions::default() })).await;
        assert_eq!(followed.expect("it ends with the container"), "one\ntwo\nthree\n");
        let tail = running.logs("p", LogOptions { tail_lines: Some(1), timestamps: true, ..LogOptions::default() }).await;
        assert!(tail.ends_with(" three\n") && tail.starts_with("20"), "{tail}");
        let missing = running.node.logs("default", "p", LogOptions { container: "c".to_owned(), previous: true, ..LogOptions::default() }).await;
        assert!(missing.err().unwrap().to_string().contains("previous terminated container \"c\" in pod"));
    });
}
