//! Changing what runs without anyone noticing, and going back when the change is bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strake_tests::{World, needs};

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: main
          image: busybox:1
          command: [sh, -c, \"echo v1 > /www/index.html; exec httpd -f -p 8080 -h /www\"]
          lifecycle: {preStop: {exec: {command: [sleep, '0.5']}}}
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
";

/// Asks the Service at port 30081 again and again from the node, until told to stop; gives how often it answered with something like `v1` and the failures.
pub fn ask_always(world: &World, address: &str, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<(usize, Vec<String>)> {
    let mut command = world.command("curl");
    command.args(["-s", "-S", "-m", "60", &format!("http://{address}:30081/")]);
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let (mut answered, mut failures) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let output = command.output().expect("curl runs");
            match output.status.success() && output.stdout.starts_with(b"v") {
                true => answered += 1,
                false => failures.push(String::from_utf8_lossy(&output.stderr).into_owned()),
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        (answered, failures)
    })
}

#[test]
fn a_restart_is_not_noticed_and_a_bad_image_serves_on() {
    needs!("busybox", "curl");
    let world = World::with_busybox();
    world.apply("web", WEB).ok();
    world.eventually("it answers", || world.run("curl", &["-s", "-m", "30", "http://127.0.0.1:30081/"]).stdout == "v1\n");
    let names = || world.strake(&["get", "pods", "-l", "app=web", "-o", "name"]).ok().stdout;
    let before = names();
    let stop = Arc::new(AtomicBool::new(false));
    let asking = ask_always(&world, "127.0.0.1", &stop);
    world.strake(&["rollout", "restart", "deployment/web"]).ok();
    world.strake(&["rollout", "status", "deployment/web"]).ok();
    for name in before.lines() {
        // One that goes is not there at the second look.
        let goes = || !names().contains(name) || world.get("pod", name.trim_start_matches("pod/"))["metadata"]["deletionTimestamp"].is_string();
        world.eventually(&format!("{name} goes"), goes);
    }
    // A change that cannot work: nothing that serves is taken away.
    let bad = world.apply("web", &WEB.replace("busybox:1", "localhost:1/no/such:image"));
    assert_eq!(bad.code, 3, "{}", bad.all());
    assert!(bad.all().contains("localhost:1/no/such") && bad.all().contains("ImagePull"), "{}", bad.all());
    let ready = || world.get("deployment", "web")["status"]["availableReplicas"].clone();
    assert_eq!(ready(), 3);
    world.strake(&["rollout", "undo", "deployment/web"]).ok();
    world.strake(&["rollout", "status", "deployment/web"]).ok();
    // A good one.
    world.apply("web", &WEB.replace("echo v1", "echo v2")).ok();
    world.eventually("only the new answers", || (0..5).all(|_| world.run("curl", &["-s", "-m", "30", "http://127.0.0.1:30081/"]).stdout == "v2\n"));
    stop.store(true, Ordering::Relaxed);
    let (answered, failures) = asking.join().expect("no panic");
    assert!(failures.is_empty(), "{} of {} failed: {failures:?}", failures.len(), failures.len() + answered);
    assert!(answered > 10, "only {answered} answers");
    let sets = world.list("replicasets");
    let running = sets.iter().filter(|set| set["spec"]["replicas"].as_i64() > Some(0)).count();
    assert_eq!(running, 1, "old ReplicaSets are kept, empty");
    assert!(sets.len() >= 3, "for going back: {}", sets.len());
    world.stop();
}

#[test]
fn a_rollout_goes_on_after_its_daemon_was_killed() {
    needs!("busybox", "curl");
    let world = World::with_busybox();
    world.apply("web", WEB).ok();
    let address = world.node()["status"]["addresses"][0]["address"].as_str().expect("an address").to_owned();
    world.eventually("it answers", || world.run("curl", &["-s", "-m", "30", &format!("http://{address}:30081/")]).stdout == "v1\n");
    let stop = Arc::new(AtomicBool::new(false));
    let asking = ask_always(&world, &address, &stop);
    world.apply_no_wait("web", &WEB.replace("echo v1", "echo v2"));
    for _ in 0..2 {
        std::thread::sleep(std::time::Duration::from_millis(400));
        world.kill_server();
        std::thread::sleep(std::time::Duration::from_millis(300));
        world.serve();
    }
    world.strake(&["rollout", "status", "deployment/web"]).ok();
    world.eventually("only the new answers", || (0..5).all(|_| world.run("curl", &["-s", "-m", "30", &format!("http://{address}:30081/")]).stdout == "v2\n"));
    stop.store(true, Ordering::Relaxed);
    let (answered, failures) = asking.join().expect("no panic");
    assert!(failures.is_empty(), "{} of {} failed: {failures:?}", failures.len(), failures.len() + answered);
    // As many pods as wanted, none twice and none forgotten.
    world.eventually("three pods", || world.list("pods").len() == 3);
    world.stop();
}
