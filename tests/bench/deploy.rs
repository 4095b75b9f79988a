//! From manifests to a running system: compiling and planning many objects, applying a shop; beside kubectl on the same server.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Instant;

use strake_tests::{World, find};

use crate::report::{Report, median};

/// Deployments of the shop, each with its Service.
const SHOP: usize = 12;
const ROUNDS: usize = 3;
/// How often what takes milliseconds is measured.
const MANY: usize = 7;

/// Milliseconds of a command, which must end with one of these codes.
fn time(command: &mut Command, codes: &[i32]) -> f64 {
    let started = Instant::now();
    let output = command.output().expect("the program runs");
    let millis = started.elapsed().as_secs_f64() * 1000.0;
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(codes.contains(&output.status.code().unwrap_or(-1)), "{command:?}\n{}", said());
    millis
}

fn median_of(times: usize, mut one: impl FnMut() -> f64) -> f64 {
    median((0..times).map(|_| one()).collect())
}

fn workload(name: &str, replicas: u32, image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: {image}
          command: [httpd, -f, -p, '8080', -h, /www]
          ports: [{{containerPort: 8080}}]
          readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
{}",
        service(name)
    )
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: {name}}}\n  ports: [{{port: 80, targetPort: 8080}}]\n")
}

fn map(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  mode: production\n  address: http://{name}.example.org:8080\n  name: {name}\n"
    )
}

/// A quarter each of Deployments, Services, ConfigMaps and ServiceAccounts, in as many files; every Deployment uses its own of them.
fn app(world: &World, folder: &str, objects: usize) {
    let mut listed = String::from("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n");
    for number in 0..objects / 4 {
        let name = format!("app-{number:04}");
        let account = format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n");
        let (deployment, service) =
            workload(&name, 2, "example.org/web:1").split_once("---\n").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("two documents");
        let uses = format!("      serviceAccountName: {name}\n      containers:");
        let deployment = deployment.replace("      containers:", &uses) + &format!("          envFrom: [{{configMapRef: {{name: {name}}}}}]\n");
        for (kind, text) in [("deployment", deployment), ("service", service), ("config", map(&name)), ("account", account)] {
            world.write(&format!("{folder}/{name}-{kind}.yaml"), &text);
            world.write(&format!("{folder}-overlay/{name}-{kind}.yaml"), &text);
            let _ = writeln!(listed, "- {name}-{kind}.yaml");
        }
    }
    world.write(&format!("{folder}-overlay/kustomization.yaml"), listed);
}

/// Manifests to a plan, without a cluster.
pub fn compile(objects: usize, report: &mut Report) {
    let world = World::new();
    app(&world, "many", objects);
    let work = |what: &str| format!("{what} {objects} manifests");
    let target = (objects == 1000).then_some("100 ms");
    let plan = |folder: &str| median_of(MANY, || time(&mut world.strake_command(&["plan", folder, "--empty", "-o", "json"]), &[2]));
    report.add(&work("plan --empty of"), "strake", plan("many"), "ms", target);
    report.add(&work("check"), "strake", median_of(MANY, || time(&mut world.strake_command(&["check", "many"]), &[0])), "ms", target);
    report.add(&work("an overlay of"), "strake", plan("many-overlay"), "ms", None);
    for (tool, args) in [("kubectl", &["kustomize", "many-overlay"][..]), ("kustomize", &["build", "many-overlay"])] {
        match find(tool) {
            // It checks nothing and orders little: the least that such a tool does.
            Some(program) => report.add(
                &work("an overlay of"),
                &format!("{tool} (builds only)"),
                median_of(ROUNDS, || time(world.command(&program).args(args), &[0])),
                "ms",
                None,
            ),
            None => eprintln!("SKIPPED {tool}: not installed"),
        }
    }
    world.nothing_left();
}

/// Many objects against a cluster that has them already.
pub fn plan(objects: usize, report: &mut Report) {
    let world = World::new();
    let mut text = String::new();
    for number in 0..objects / 2 {
        let name = format!("app-{number:04}");
        let _ = write!(text, "{}---\n{}---\n", map(&name), service(&name));
    }
    world.write("same/app.yaml", text);
    world.serve();
    let first = format!("first apply of {objects} objects");
    report.add(&first, "strake", time(&mut world.strake_command(&["apply", "same", "--progress", "quiet"]), &[0]), "ms", None);
    let work = format!("plan of {objects} objects, nothing to change");
    report.add(&work, "strake", median_of(ROUNDS, || time(&mut world.strake_command(&["plan", "same"]), &[0])), "ms", None);
    if find("kubectl").is_some() {
        world.kubectl(&["create", "namespace", "peer"]).ok();
        let kubectl = |args: &[&str]| time(world.kubectl_command(args).args(["-n", "peer", "-f", "same"]), &[0]);
        report.add(&first, "kubectl apply", kubectl(&["apply"]), "ms", None);
        report.add(&work, "kubectl diff", kubectl(&["diff"]), "ms", None);
        report.add(&work, "kubectl apply --dry-run=server", kubectl(&["apply", "--dry-run=server"]), "ms", None);
    } else {
        eprintln!("SKIPPED kubectl: not installed");
    }
    world.strake(&["down", "same"]).ok();
    world.stop();
}

/// A shop, until every part of it is healthy.
pub fn shop(report: &mut Report) {
    if find("busybox").is_none() {
        return eprintln!("SKIPPED the shop: busybox is not installed");
    }
    let world = World::with_busybox();
    let text: Vec<String> = (0..SHOP).map(|number| workload(&format!("part-{number}"), 1, "busybox:1")).collect();
    world.write("shop/app.yaml", text.join("---\n"));
    let gone = || world.eventually("the shop's pods are gone", || world.list("pods").is_empty());
    let work = format!("a shop of {SHOP} Deployments and Services, to all healthy");
    let ours = median_of(ROUNDS, || {
        let millis = time(&mut world.strake_command(&["apply", "shop", "--progress", "quiet"]), &[0]);
        world.strake(&["down", "shop"]).ok();
        gone();
        millis
    });
    report.add(&work, "strake", ours, "ms", None);
    if find("kubectl").is_some() {
        let theirs = median_of(ROUNDS, || {
            let millis = time(&mut world.kubectl_command(&["apply", "-f", "shop"]), &[0])
                + time(&mut world.kubectl_command(&["wait", "--for=condition=Available", "deployment", "--all", "--timeout=300s"]), &[0]);
            world.kubectl(&["delete", "-f", "shop"]).ok();
            gone();
            millis
        });
        report.add(&work, "kubectl apply and wait", theirs, "ms", None);
    }
    world.stop();
}
