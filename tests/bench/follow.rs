//! Following git repositories: how soon a commit is on its way, and what it costs to follow ten.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use strake_tests::{PATIENCE, World, find, until};

use crate::report::{Report, median};

const COMMITS: usize = 5;
const REPOSITORIES: usize = 10;

/// `git daemon`, until it is dropped.
struct Server(Child);

impl Server {
    fn start(world: &World) -> Server {
        // The program itself: `git daemon` would be another process that stays when this one is ended.
        let program = format!("{}/git-daemon", sh(world, "git --exec-path"));
        let base = format!("--base-path={}", world.path("served").display());
        let mut command = world.command(program);
        command.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1", &base]).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server(command.spawn().expect("git daemon runs"));
        let listening = || world.run("cat", &["/proc/net/tcp"]).stdout.contains(":24CA 00000000:0000 0A");
        assert!(until(PATIENCE, listening), "git daemon never listens");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sh(world: &World, script: &str) -> String {
    let ran = world.run("sh", &["-c", script]).ok();
    ran.stdout.trim().to_owned()
}

/// A Deployment of one pod; the version is what a commit changes.
fn manifest(name: &str, version: usize) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}, annotations: {{version: v{version}}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers: [{{name: c, image: 'busybox:1', command: [sleep, '100000']}}]\n"
    )
}

fn repository(world: &World, name: &str, text: &str) {
    world.write(&format!("work/{name}/deploy/app.yaml"), text);
    let own = format!(
        "set -e; mkdir -p served; cd work/{name}; git init -q -b main .; git config user.name t; git config user.email t@t; git add -A; git commit -qm one"
    );
    sh(world, &format!("{own}; git clone -q --bare . ../../served/{name}.git"));
}

fn follow(world: &World, name: &str, interval: &str) {
    let url = format!("git://127.0.0.1/{name}.git");
    world.strake(&["sync", &url, "--ref", "main", "--path", "deploy/", "--interval", interval]).ok();
}

/// Measures both.
pub fn measure(report: &mut Report) {
    if find("git").is_none() {
        return eprintln!("SKIPPED following repositories: git is not installed");
    }
    if find("busybox").is_some() {
        latency(report);
    } else {
        eprintln!("SKIPPED from a commit to its rollout: busybox is not installed");
    }
    memory(report);
}

fn latency(report: &mut Report) {
    let world = World::with_busybox();
    repository(&world, "shop", &manifest("web", 0));
    let server = Server::start(&world);
    follow(&world, "shop", "1s");
    let version = || world.get("deployment", "web")["spec"]["template"]["metadata"]["annotations"]["version"].clone();
    // One that is still being rolled out is waited for: what is measured is a commit that finds nothing under way.
    let runs = || {
        let commit = sh(&world, "git -C work/shop rev-parse HEAD");
        let status: Value = serde_json::from_str(&world.strake(&["sync", "status", "shop", "-o", "json"]).stdout).unwrap_or_default();
        status["status"]["lastAppliedRevision"] == commit.as_str()
    };
    world.eventually("the first commit runs", runs);
    let mut next = 0;
    for (title, told) in [("asked each second", false), ("told of it", true)] {
        let mut once = || {
            next += 1;
            world.write("work/shop/deploy/app.yaml", manifest("web", next));
            sh(&world, "set -e; cd work/shop; git add -A; git commit -qm change");
            let started = Instant::now();
            let millis = || started.elapsed().as_secs_f64() * 1000.0;
            sh(&world, "git -C work/shop push -q ../../served/shop.git HEAD:main");
            if told {
                world.strake(&["sync", "now", "shop"]).ok();
            }
            let wanted = format!("v{next}");
            assert!(until(PATIENCE, || version() == wanted.as_str()), "the commit is never applied: {}", world.server_log());
            let begun = millis();
            assert!(until(PATIENCE, runs), "the commit never runs: {}", world.server_log());
            (begun, millis())
        };
        let (begun, healthy): (Vec<f64>, Vec<f64>) = (0..COMMITS).map(|_| once()).unzip();
        report.add(&format!("commit to rollout start, {title} (median)"), "strake", median(begun), "ms", None);
        report.add(&format!("commit to all healthy, {title} (median)"), "strake", median(healthy), "ms", None);
    }
    world.strake(&["sync", "delete", "shop"]).ok();
    world.strake(&["down", "--set", "shop"]).ok();
    drop(server);
    world.stop();
}

/// Resident memory of the server in MB.
fn resident(world: &World) -> f64 {
    let text = std::fs::read_to_string(world.root().join("run/serve.lock")).expect("the server's note");
    let holder: Value = serde_json::from_str(&text).expect("JSON");
    let status = std::fs::read_to_string(format!("/proc/{}/status", holder["pid"])).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn memory(report: &mut Report) {
    let world = World::new();
    let names: Vec<String> = (0..REPOSITORIES).map(|number| format!("app-{number}")).collect();
    for name in &names {
        repository(&world, name, &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n"));
    }
    let server = Server::start(&world);
    world.serve();
    let before = resident(&world);
    for name in &names {
        follow(&world, name, "2s");
    }
    world.eventually("all repositories are applied", || names.iter().all(|name| world.get("configmap", name)["data"]["a"] == "b"));
    // They are asked again and again: what is measured is the state that lasts.
    std::thread::sleep(Duration::from_secs(10));
    let after = resident(&world);
    report.add("memory of the server, nothing followed", "strake", before, "MB", None);
    report.add("memory of the server, ten repositories followed", "strake", after, "MB", None);
    for name in &names {
        world.strake(&["sync", "delete", name]).ok();
        world.strake(&["down", "--set", name]).ok();
    }
    drop(server);
    world.stop();
}
