//! Who reaches whom: pods, Services by address and name, the node, and the world outside.

use std::process::{Child, Command, Stdio};

use strake_tests::{World, needs, pod};

fn service(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

fn web(name: &str, says: &str) -> String {
    pod(name, &format!("echo {says} > /www/index.html; httpd -f -p 8080 -h /www"), "") + "      readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}\n"
}

fn fetch(address: &str) -> String {
    format!("wget -q -O - http://{address}/")
}

fn manifests() -> String {
    let elsewhere = web("far", "far").replace("metadata: {name: far,", "metadata: {name: far, namespace: other,")
        + &service("far", "selector: {app: far}, ports: [{port: 80, targetPort: 8080}]").replace("{name: far}", "{name: far, namespace: other}");
    let named = web("named", "named").replace("\nspec:\n", "\nspec:\n  hostname: first\n  subdomain: headless\n").replace("app: named", "app: set");
    [
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n".to_owned(),
        web("one", "from-one"),
        named,
        pod("client", "sleep 3600", ""),
        elsewhere,
        service("web", "selector: {app: one}, type: NodePort, ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]"),
        service("headless", "selector: {app: set}, clusterIP: None, ports: [{name: http, port: 8080}]"),
        service("nobody", "selector: {app: nobody}, ports: [{port: 80}]"),
        service("alias", "type: ExternalName, externalName: web.default.svc.cluster.local"),
    ]
    .concat()
}

#[test]
fn pods_services_and_names() {
    needs!("busybox");
    let world = World::with_busybox();
    world.apply("net", &manifests()).ok();
    let client = |script: &str| world.sh("client", script).ok().stdout.trim().to_owned();
    let ip = |pod: &str| world.get("pod", pod)["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let cluster_ip = |name: &str| world.get("service", name)["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let one = ip("one");
    assert_eq!(client(&fetch(&format!("{one}:8080"))), "from-one");
    let answers = |from: &str, address: &str, says: &str| {
        world.eventually(&format!("{address} says {says} to {from}"), || world.sh(from, &fetch(address)).stdout.trim() == says);
    };
    answers("client", &cluster_ip("web"), "from-one");
    // A pod reaches itself through its own Service.
    answers("one", "web", "from-one");
    for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "alias"] {
        answers("client", name, "from-one");
    }
    answers("client", "far.other", "far");
    assert_ne!(world.sh("client", &fetch("far")).code, 0, "a bare name is of its own namespace");
    let look = |name: &str, kind: &str| world.sh("client", &format!("nslookup -type={kind} {name}")).stdout;
    assert!(look("web.default.svc.cluster.local", "a").contains(&cluster_ip("web")));
    let named = ip("named");
    world.eventually("a headless Service's pod", || look("headless.default.svc.cluster.local", "a").contains(&named));
    answers("client", "first.headless:8080", "named");
    let srv = look("_http._tcp.headless.default.svc.cluster.local", "srv");
    assert!(srv.contains("8080") && srv.contains("headless.default.svc.cluster.local"), "{srv}");
    let srv = look("_http._tcp.web.default.svc.cluster.local", "srv");
    assert!(srv.contains(" 80 web.default.svc.cluster.local"), "{srv}");
    let absent = look("absent.default.svc.cluster.local", "a");
    assert!(absent.contains("NXDOMAIN"), "{absent}");
    assert!(look("kubernetes.default.svc.cluster.local", "a").contains("10.43.0.1"));
    // No endpoints: refused at once, not a silence.
    world.eventually("refused", || world.sh("client", "wget -q -O - http://nobody/").stderr.contains("refused"));
    // From the node: loopback, its own address, the cluster's address and the pod's.
    let node = world.node()["status"]["addresses"][0]["address"].as_str().expect("an address").to_owned();
    for address in ["127.0.0.1:30080".to_owned(), format!("{node}:30080"), cluster_ip("web"), format!("{one}:8080")] {
        world.eventually(&address, || world.run("curl", &["-s", "-m", "30", &format!("http://{address}/")]).stdout == "from-one\n");
    }
    answers("client", &format!("{node}:30080"), "from-one");
    // The Service follows its pod.
    world.strake(&["delete", "pod", "one"]).ok();
    world.eventually("refused after its pod went", || world.sh("client", "wget -q -O - http://web/").stderr.contains("refused"));
    world.stop();
}

/// Links the world with a second network namespace, where a server tells who asks; ends with its guard.
struct Outside {
    holder: Child,
    server: Option<Child>,
}

impl Outside {
    fn beside(world: &World) -> Outside {
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up; echo ready; exec sleep 3600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare runs");
        let mut outside = Outside { holder: child, server: None };
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(outside.holder.stdout.take().expect("a pipe")), &mut line).expect("it is ready");
        let pid = outside.holder.id().to_string();
        let links = format!(
            "ip link add out0 type veth peer name in0 netns {pid} && ip addr add 192.0.2.1/24 dev out0 && ip link set out0 up && ip route add default via 192.0.2.2"
        );
        world.run("sh", &["-c", &links]).ok();
        outside.run("ip addr add 192.0.2.2/24 dev in0 && ip link set in0 up");
        outside
    }

    fn run(&self, script: &str) -> String {
        let output = Command::new("nsenter").args(["--net", "--target", &self.holder.id().to_string(), "sh", "-c", script]).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a server that answers with its caller's address.
    fn serve(&mut self, dir: &std::path::Path) {
        std::fs::create_dir_all(dir.join("cgi-bin")).expect("a folder");
        let script = dir.join("cgi-bin/who");
        std::fs::write(&script, "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s\\n' \"$REMOTE_ADDR\"\n").expect("a script");
        Command::new("chmod").arg("755").arg(&script).status().expect("chmod");
        let pid = self.holder.id().to_string();
        let mut server = Command::new("nsenter");
        server.args(["--net", "--target", &pid, "busybox", "httpd", "-f", "-p", "192.0.2.2:80", "-h"]).arg(dir);
        self.server = Some(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for child in self.server.iter_mut().chain([&mut self.holder]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn outward_and_inward_through_the_node() {
    needs!("busybox");
    let world = World::with_busybox();
    let mut outside = Outside::beside(&world);
    outside.serve(&world.path("site"));
    let local = service("web", "selector: {app: web}, type: NodePort, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]");
    world.apply("out", &[web("web", "inside"), pod("client", "sleep 3600", ""), local].concat()).ok();
    let asked = || world.sh("client", "wget -q -O - http://192.0.2.2/cgi-bin/who").stdout;
    world.eventually("the world answers", || !asked().is_empty());
    assert_eq!(asked().trim().trim_start_matches("::ffff:"), "192.0.2.1", "the world sees the node");
    // And inward: the node's port from another machine.
    world.eventually("the node's port answers", || outside.run("curl -s -m 30 http://192.0.2.1:30080/ || true") == "inside\n");
    let hidden =
        Command::new("nsenter").args(["--net", "--target", &outside.holder.id().to_string(), "curl", "-s", "-m", "1", "http://192.0.2.1:6443/"]).status();
    assert!(!hidden.expect("it runs").success(), "the API listens on loopback only");
    drop(outside);
    world.strake(&["stop"]).ok();
    let _ = world.run("ip", &["link", "del", "out0"]);
    world.nothing_left();
}
