//! Pods on the network: probes, Services, names.

use std::time::Instant;

use serde_json::{Value, json};
use strake_client::Resource;

use crate::Test;
use crate::stage::{PATIENCE, Running, Stage, is_ready, shell};

pub const TESTS: &[Test] = &[
    ("probes_decide_when_a_pod_is_ready", probes_decide_when_a_pod_is_ready),
    ("a_failing_liveness_probe_restarts", a_failing_liveness_probe_restarts),
    ("pods_find_each_other_by_name", pods_find_each_other_by_name),
    ("several_containers_share_one_address", several_containers_share_one_address),
];

const SERVER: &str = "echo hello > /www/index.html; httpd -f -p 8080 -h /www";

fn probes_decide_when_a_pod_is_ready(stage: Stage) {
    stage.run(|running| async move {
        let mut container = shell("httpd -f -p 8080 -h /www");
        container["ports"] = json!([{"name": "web", "containerPort": 8080}]);
        container["readinessProbe"] = json!({"httpGet": {"port": "web", "path": "/flag"}, "periodSeconds": 1});
        running.pod("p", json!({"containers": [container]})).await;
        let pod = running.until("p", "running", |pod| pod["status"]["containerStatuses"][0]["state"]["running"].is_object()).await;
        assert!(!is_ready(&pod), "nobody made the flag yet");
        running.told("p", |event| event.starts_with("Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 404")).await;
        running.exec("p", &["touch", "/www/flag"]).await;
        running.ready("p").await;
        let mut quick = shell(SERVER);
        quick["readinessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 10});
        let began = Instant::now();
        running.pod("quick", json!({"containers": [quick]})).await;
        running.ready("quick").await;
        println!("apply to ready with a probe: {:?}", began.elapsed());
    });
}

fn a_failing_liveness_probe_restarts(stage: Stage) {
    stage.run(|running| async move {
        let mut container = shell("touch /tmp/alive; sleep 0.5; sleep 1000");
        container["livenessProbe"] = json!({"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1});
        container["terminationGracePeriodSeconds"] = Value::Null;
        container.as_object_mut().unwrap().remove("terminationGracePeriodSeconds");
        running.pod("p", json!({"containers": [container]})).await;
        running.until("p", "restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(1)).await;
        running.told("p", |event| event.starts_with("Unhealthy: Liveness probe failed: dial tcp 10.42.0.2:9: connect: connection refused")).await;
        running.told("p", |event| event.starts_with("Killing: ")).await;
    });
}

/// Makes a Service with one endpoint; gives its address.
async fn service(running: &Running, name: &str, pod_ip: &str) -> String {
    let spec = json!({"selector": {"app": name}, "type": "NodePort", "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30123}]});
    let made = running.create(&Resource::SERVICES, json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})).await;
    let labels = json!({"kubernetes.io/service-name": name});
    let endpoints = json!([{"addresses": [pod_ip], "conditions": {"ready": true}}]);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": format!("{name}-1"), "labels": labels},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints});
    running.create(&Resource::ENDPOINT_SLICES, slice).await;
    made["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

fn pods_find_each_other_by_name(stage: Stage) {
    stage.run(|running| async move {
        running.pod("web", json!({"containers": [shell(SERVER)]})).await;
        running.pod("client", json!({"containers": [shell("sleep 1000")]})).await;
        let web = running.ready("web").await;
        running.ready("client").await;
        let address = service(&running, "web", web["status"]["podIP"].as_str().unwrap()).await;
        let deadline = Instant::now() + PATIENCE;
        // By name and by address apart, and without wget: the static glibc of the busybox at hand crashes when it looks for its plug-ins.
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 60 {address} 80");
        loop {
            let (code, out, err) = running.exec("client", &["sh", "-c", &script]).await;
            if code == 0 {
                assert!(out.ends_with("hello\n"), "{out}");
                break;
            }
            assert!(Instant::now() < deadline, "wget ended with {code}: {err}\n{}", crate::stage::sh("nft list ruleset"));
        }
        let (code, out, _) = running.exec("client", &["nslookup", "web.default.svc.cluster.local"]).await;
        assert!(code == 0 && out.contains(&format!("Address: {address}")), "{out}");
        let (code, ..) = running.exec("client", &["nslookup", "nobody.default.svc.cluster.local"]).await;
        assert_ne!(code, 0);
        let answer = tokio::task::spawn_blocking(|| ask("127.0.0.1:30123")).await.unwrap();
        assert!(answer.ends_with("hello\n"), "the node port on localhost: {answer}");
        // Any group may open ICMP sockets: there is no NET_RAW. (The busybox at hand cannot use them.)
        let (_, range, _) = running.exec("client", &["cat", "/proc/sys/net/ipv4/ping_group_range"]).await;
        assert_eq!(range.split_whitespace().collect::<Vec<_>>(), ["0", "2147483647"]);
    });
}

fn ask(address: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn several_containers_share_one_address(stage: Stage) {
    stage.run(|running| async move {
        let mut server = shell(SERVER);
        server["name"] = json!("server");
        running.pod("p", json!({"containers": [server, shell("sleep 1000")]})).await;
        running.ready("p").await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (code, out, err) = running.exec("p", &["wget", "-q", "-O", "-", "http://127.0.0.1:8080/"]).await;
            if code == 0 {
                assert_eq!(out, "hello\n");
                break;
            }
            assert!(Instant::now() < deadline, "{err}");
        }
    });
}
