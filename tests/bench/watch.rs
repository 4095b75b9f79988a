//! The development loop: from a save to the new code answering through the forwarded port.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use strake_tests::{Follow, PATIENCE, World, find, until};

use crate::report::{Report, median};

const SAVES: usize = 9;

/// Parts of an app that busybox serves.
const DOCKERFILE: &str =
    "FROM busybox:1\nRUN ln -s busybox /bin/tar\nCOPY www /www\nSTOPSIGNAL SIGKILL\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";
const MANIFESTS: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: web
          readinessProbe: {httpGet: {path: /, port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 8080}]
";

/// Measures a changed COPY with a new image and a rollout, and the same put straight into the container.
pub fn measure(report: &mut Report) {
    if find("busybox").is_none() {
        eprintln!("SKIPPED the development loop: busybox is not installed");
        return;
    }
    let world = World::with_busybox();
    world.write("app/Dockerfile", DOCKERFILE);
    world.write("app/web.yaml", MANIFESTS);
    world.write("app/www/index.html", "begin");
    for (title, more, target) in
        [("save to answer: new image and rollout (median)", &[][..], Some("1000 ms")), ("save to answer: synced (median)", &["--sync"][..], None)]
    {
        let args = [&["up", "app", "--watch", "--progress", "json"], more].concat();
        let mut running = Follow::start(world.strake_command(&args));
        let event = |running: &Follow, name: &str, field: &str| {
            let events = running.stderr();
            let found = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|event| event["event"] == name);
            found.map(|event| event[field].as_str().unwrap_or_default().to_owned())
        };
        assert!(until(PATIENCE, || event(&running, "answering", "local").is_some()), "{}", running.stderr());
        let local = event(&running, "forwarding", "local").expect("it is forwarded");
        let times = (0..SAVES).map(|number| save(&world, &local, &format!("{} {number}", more.len()))).collect();
        report.add(title, "strake", median(times), "ms", target);
        running.signal(rustix::process::Signal::INT);
        running.end();
    }
    world.strake(&["down", "app"]).ok();
    world.stop();
}

/// Milliseconds from a save until it answers. One program asks all the time: starting one for each question would be measured too.
fn save(world: &World, local: &str, text: &str) -> f64 {
    // What came before has settled.
    std::thread::sleep(Duration::from_millis(1500));
    let script = format!("while :; do wget -q -O - http://{local}/ || true; echo; done");
    let mut command: Command = world.command("busybox");
    let mut asking = command.args(["sh", "-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("busybox runs");
    let mut answers = asking.stdout.take().expect("a pipe");
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    let mut file = std::fs::File::create(world.path("next")).expect("a file");
    file.write_all(format!("<{text}>").as_bytes()).expect("written");
    drop(file);
    let started = Instant::now();
    std::fs::rename(world.path("next"), world.path("app/www/index.html")).expect("renamed");
    let wanted = format!("<{text}>");
    while !String::from_utf8_lossy(&said).contains(&wanted) {
        let length = answers.read(&mut buffer).expect("answers");
        assert!(length > 0 && started.elapsed() < PATIENCE, "the change never answers");
        said.extend_from_slice(&buffer[..length]);
    }
    let time = started.elapsed();
    let _ = asking.kill();
    let _ = asking.wait();
    time.as_secs_f64() * 1000.0
}
