//! The cluster's figures: no peer of these runs without images from a registry, so they stand beside the targets.

use std::time::{Duration, Instant};

use strake_tests::{World, repository};

use crate::report::Report;

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: web
      image: guestbook
      imagePullPolicy: IfNotPresent
      args: [/bin/guestbook, store]
      readinessProbe: {httpGet: {path: /healthz, port: 8080}}
";

/// Measures a cluster from its start to its idleness.
pub fn measure(report: &mut Report) {
    let world = World::new();
    let example = repository().join("examples/guestbook").display().to_string();
    world.strake(&["build", "-q", "-t", "guestbook", &example]).ok();
    let started = Instant::now();
    world.serve();
    report.add("serve to API ready", "strake", started.elapsed().as_secs_f64() * 1000.0, "ms", Some("300 ms"));
    world.strake(&["stop"]).ok();

    let started = Instant::now();
    world.strake(&["up", "--progress", "quiet", &example]).ok();
    report.add("serve to the demo's pods ready", "strake", started.elapsed().as_secs_f64() * 1000.0, "ms", Some("2000 ms"));
    let started = Instant::now();
    world.strake(&["up", "--progress", "quiet", &example]).ok();
    report.add("second up, nothing to change", "strake", started.elapsed().as_secs_f64() * 1000.0, "ms", Some("well under 1000 ms"));

    let times: Vec<f64> = (0..7).map(|number| pod(&world, number)).collect();
    report.add("a pod from apply to ready (median of 7)", "strake", crate::report::median(times), "ms", Some("200 ms"));
    idle(&world, report);
    world.strake(&["down", &example]).ok();
    world.stop();
}

fn pod(world: &World, number: usize) -> f64 {
    let name = format!("pod-{number}");
    world.write(&format!("{name}/pod.yaml"), POD.replace("NAME", &name));
    let started = Instant::now();
    world.strake(&["apply", "--progress", "quiet", &name]).ok();
    let seconds = started.elapsed().as_secs_f64();
    world.strake(&["down", &name]).ok();
    seconds * 1000.0
}

/// CPU time and resident memory of the server while nothing happens.
fn idle(world: &World, report: &mut Report) {
    let text = std::fs::read_to_string(world.root().join("run/serve.lock")).expect("the server's note");
    let holder: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let pid = holder["pid"].as_i64().expect("a pid");
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        after[11].parse::<f64>().unwrap_or(0.0) + after[12].parse::<f64>().unwrap_or(0.0)
    };
    std::thread::sleep(Duration::from_secs(3));
    let (before, seconds) = (ticks(), 20.0);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let used = (ticks() - before) / 100.0 / seconds * 100.0;
    report.add("idle with the demo: CPU", "strake", used, "% of a core", Some("1 %"));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    report.add("idle with the demo: memory", "strake", rss.unwrap_or(f64::NAN) / 1024.0, "MB", Some("60 MB"));
}
