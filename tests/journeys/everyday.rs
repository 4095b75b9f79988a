//! The everyday verbs in all their forms, beside each other as people type them, and what they say when they are typed wrong.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use strake_tests::{Follow, PATIENCE, Ran, World, needs, until};

const APP: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: web}}
data: {greeting: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {name: web, image: web}
";

fn served() -> World {
    let world = World::new();
    world.program("app/guestbook");
    world.write("app/Dockerfile", "# image: web\nFROM scratch\nCOPY guestbook /guestbook\nENTRYPOINT [\"/guestbook\"]\nCMD [\"store\"]\n");
    world.write("app/app.yaml", APP);
    world.serve();
    let up = world.strake(&["up", "app"]).ok().stdout;
    assert!(up.contains("READY") && up.contains("1/1"), "up ends with a table of what runs: {up}");
    world
}

/// Runs strake with its arguments as words of a shell's command, so that pipes and limits can be put around it.
fn shell(world: &World, command: &str) -> Ran {
    let strake = strake_tests::binary().display().to_string();
    world.run("sh", &["-c", &format!("strake() {{ STRAKE_ROOT={} {strake} \"$@\"; }}; {command}", world.root().display())])
}

#[test]
fn get_prints_every_form() {
    needs!();
    let world = served();
    let json: serde_json::Value = serde_json::from_str(&world.strake(&["get", "deploy,cm", "-l", "app=web", "-o", "json"]).ok().stdout).expect("JSON");
    let kinds: Vec<&str> = json["items"].as_array().expect("a list").iter().filter_map(|item| item["kind"].as_str()).collect();
    assert_eq!((json["kind"].as_str(), kinds), (Some("List"), vec!["Deployment", "ConfigMap"]));
    let names = world.strake(&["get", "all", "-o", "name"]).ok().stdout;
    for part in ["pod/web-", "deployment.apps/web\n", "replicaset.apps/web-", "service/kubernetes\n"] {
        assert!(names.contains(part), "{part} in {names}");
    }
    let all = world.strake(&["get", "all", "-A"]).ok().stdout;
    assert!(all.contains("NAMESPACE") && all.contains("deployment.apps/web"), "{all}");
    world.strake(&["get", "podz"]).fails(1, "did you mean pods?");
    world.strake(&["get", "statefulsets"]).fails(1, "does not run statefulsets yet");
    world.strake(&["get", "pods", "-l", "a in (b"]).fails(1, "is not a label selector");
    world.strake(&["get", "pods", "-o", "xml"]).fails(2, "possible values: wide, yaml, json, name");
    world.strake(&["get", "pods", "a", "b", "-w"]).fails(1, "-w follows one object");
    for what in ["namespace/default", "node", "configmap/settings", "serviceaccount/default", "deployment/web", "replicasets", "pods", "svc/kubernetes"] {
        let said = world.strake(&["describe", what]).ok().stdout;
        assert!(said.contains("Name:") && said.contains("Kind:") && said.contains("Events:"), "{what}: {said}");
    }
    assert!(world.strake(&["describe", "pods", "-n", "none"]).ok().stderr.contains("No resources found in namespace none"));
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn a_watch_follows_in_every_form_and_ends_with_its_reader() {
    needs!();
    let world = served();
    let follow = |output: &[&str], seen: fn(&str) -> bool| {
        let mut args = vec!["get", "deployment", "web", "-w"];
        args.extend(output);
        let watch = Follow::start(world.strake_command(&args));
        watch.says("how it is", |said| said.contains("web"));
        world.strake(&["scale", "deploy/web", "--replicas", "2"]).ok();
        watch.says("a change", seen);
        world.strake(&["rollout", "status", "deploy/web"]).ok();
        world.strake(&["scale", "deploy/web", "--replicas", "1"]).ok();
        world.strake(&["rollout", "status", "deploy/web"]).ok();
        watch.kill().stdout
    };
    let lines = follow(&[], |said| said.contains("2/2"));
    assert!(lines.lines().count() > 2 && lines.matches("READY").count() == 1 && lines.contains("2/2"), "{lines}");
    let column = lines.lines().next().and_then(|header| header.find("READY")).expect("a header");
    assert!(lines.lines().all(|line| line.as_bytes()[column - 1] == b' ' && line.as_bytes()[column] != b' '), "columns stand below each other: {lines}");
    let names = follow(&["-o", "name"], |said| said.lines().count() > 1);
    assert!(names.lines().count() > 1 && names.lines().all(|line| line == "deployment.apps/web"), "{names}");
    let yaml = follow(&["-o", "yaml"], |said| said.matches("---\n").count() > 1 && said.contains("replicas: 2"));
    assert!(yaml.matches("---\n").count() > 1 && yaml.contains("replicas: 2"), "{yaml}");

    // The reader goes after one line: the watch ends by itself at the next change.
    let mut watch = world.strake_command(&["get", "deployment", "web", "-w"]).stdout(Stdio::piped()).spawn().expect("strake starts");
    let mut line = String::new();
    let mut reader = BufReader::new(watch.stdout.take().expect("a pipe"));
    reader.read_line(&mut line).expect("a line");
    assert!(line.contains("READY"), "{line}");
    drop(reader);
    world.strake(&["scale", "deploy/web", "--replicas", "2"]).ok();
    assert!(until(PATIENCE, || watch.try_wait().expect("waited").is_some()), "nobody reads on, so it ends");
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_a_closed_pipe_is_none() {
    needs!();
    let world = World::new();
    world.write("app/app.yaml", APP);
    shell(&world, "strake plan app > /dev/full").fails(1, "cannot write to the standard output");
    let head = shell(&world, "strake plan app | head -1").ok();
    assert_eq!(head.stdout.lines().count(), 1);
    assert!(!head.stderr.contains("error"), "{}", head.stderr);
}

#[test]
fn wrong_words_are_answered_with_what_is_right() {
    needs!();
    let world = served();
    let pod = world.strake(&["get", "pods", "-o", "name"]).ok().stdout.trim().to_owned();
    world.strake(&["scale", &pod, "--replicas", "2"]).fails(1, "pods cannot be scaled");
    world.strake(&["scale", "deploy/web", "--replicas", "-1"]).fails(2, "-1");
    world.strake(&["rollout", "undo", "deploy/web", "--to-revision", "9"]).fails(1, "there are: 1");
    world.strake(&["rollout", "status", "cm/settings"]).fails(1, "not supported yet");
    world.strake(&["logs", &pod, "-c", "nope"]).fails(1, "it has web");
    assert!(world.strake(&["logs", &pod, "--tail", "-1"]).ok().stdout.contains("listening"));
    world.strake(&["exec", &pod, "--", "/nope"]).fails(127, "no such file");
    world.strake(&["delete", "pods"]).fails(1, "choose by -l");
    world.strake(&["image", "rm", "nope"]).fails(1, "no image nope");
    world.strake(&["image", "inspect", "nope"]).fails(1, "not in the store");
    world.strake(&["explain", "unknown-feild"]).fails(1, "did you mean unknown-field?");
    world.strake(&["plan", "app/Dockerfile.md"]).fails(1, "no such file");
    world.write("notes.txt", "x");
    world.strake(&["plan", "notes.txt"]).fails(1, "neither a directory, a manifest");
    world.strake(&["down", "ap"]).fails(1, "--set");
    // One that is missing does not save the others.
    world.strake(&["delete", "configmap", "none", "settings"]).fails(1, "none not found");
    world.strake(&["get", "configmap", "settings"]).fails(1, "not found");
    assert!(world.strake(&["delete", "all", "-l", "app=none"]).ok().stderr.contains("No resources found"));
    assert!(world.strake(&["delete", "pods", "-l", "app=web", "--grace-period", "0"]).ok().stdout.contains("deleted"));
    world.strake(&["down", "app"]).ok();
    assert!(world.strake(&["down", "app"]).ok().stdout.contains("nothing of set app is there"));
    world.stop();
    assert!(world.strake(&["stop"]).ok().stdout.contains("no cluster runs here"));
}

#[test]
fn another_cluster_is_reached_by_its_kubeconfig_or_named_before_anything_is_built() {
    needs!();
    let world = served();
    let kubeconfig = world.strake(&["kubeconfig", "--path"]).ok().stdout.trim().to_owned();
    let elsewhere = world.path("elsewhere").display().to_string();
    // The same plan through its own kubeconfig: the digests are the same, so nothing changes.
    let again = world.strake(&["apply", "app", "--kubeconfig", &kubeconfig, "--context", "strake"]).ok();
    assert!(again.stdout.contains("nothing to change"), "{}", again.all());
    // From a state directory that is not the cluster's, what is built there has to be pulled from somewhere.
    world.strake(&["--root", &elsewhere, "apply", "app", "--kubeconfig", &kubeconfig, "--context", "strake"]).fails(1, "no registry is named");
    let nope = world.strake(&["apply", "app", "--kubeconfig", &kubeconfig, "--context", "nope"]);
    assert!(!nope.stderr.contains("built"), "{}", nope.stderr);
    nope.fails(1, "it has strake");
    world.strake(&["apply", "app", "--kubeconfig", "/nope"]).fails(1, "cannot read the kubeconfig /nope");
    let text = std::fs::read_to_string(&kubeconfig).expect("readable").replace(":6443", ":9");
    let dead = world.write("dead", text).display().to_string();
    world.strake(&["apply", "app", "--kubeconfig", &dead]).fails(1, "does not answer");
    // A second set does not take what a first one has.
    world.strake(&["apply", "app", "--set", "other"]).fails(1, "belongs to set `app`");
    world.strake(&["apply", "app", "--set", "other", "--adopt"]).ok();
    world.strake(&["down", "app"]).ok();
    assert!(world.strake(&["get", "deployment", "web"]).ok().stdout.contains("web"), "it is the other set's now");
    world.strake(&["down", "--set", "other"]).ok();

    // One network on a machine has one cluster: another one says so, and its stop leaves the first alone.
    world.strake(&["--root", &elsewhere, "up", "app"]).fails(1, "another program has the port");
    world.strake(&["--root", &elsewhere, "up", "app", "--listen", "127.0.0.1:7443"]).fails(1, "another strake cluster runs on this machine");
    assert!(world.strake(&["--root", &elsewhere, "stop"]).ok().stdout.contains("no cluster runs here"));
    world.strake(&["up", "app"]).ok();
    world.strake(&["down", "app"]).ok();
    world.stop();
}
