//! What can go wrong with a running cluster.

use std::time::Duration;

use strake_tests::{PATIENCE, World, needs, until};

fn manifest(image: &str, args: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 1\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
         spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: web\n        image: {image}\n        imagePullPolicy: IfNotPresent\n        args: [{args}]\n"
    )
}

fn served() -> World {
    let world = World::new();
    world.program("app/guestbook");
    world.write("app/Dockerfile", "# image: web\nFROM scratch\nCOPY guestbook /guestbook\nENTRYPOINT [\"/guestbook\"]\nSTOPSIGNAL SIGKILL\nCMD [\"store\"]\n");
    world.serve();
    world
}

#[test]
fn a_second_serve_names_the_first_and_a_port_in_use_is_named() {
    needs!();
    let world = World::new();
    world.serve();
    let pid = world.strake(&["serve"]).fails(1, "already served by process");
    assert!(pid.stderr.contains("strake stop"), "{}", pid.stderr);
    let other = world.path("other");
    world.strake(&["--root", other.to_str().expect("UTF-8"), "serve"]).fails(1, "127.0.0.1:6443");
    world.stop();
}

#[test]
fn a_crashing_container_is_blamed_with_its_code_and_its_last_lines() {
    needs!();
    let world = served();
    world.write("app/web.yaml", manifest("web", "sing"));
    let ran = world.strake(&["apply", "app", "--timeout", "600"]);
    assert_eq!(ran.code, 3, "{}", ran.all());
    for part in ["deployment/web", "web.yaml:", "exit", "usage: guestbook"] {
        assert!(ran.all().contains(part), "{part} in {}", ran.all());
    }
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn an_image_that_is_nowhere_fails_before_the_time_out() {
    needs!();
    let world = served();
    world.write("app/web.yaml", manifest("localhost:1/nothing:1", "store"));
    let started = std::time::Instant::now();
    let ran = world.strake(&["apply", "app", "--timeout", "600"]);
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(ran.all().contains("localhost:1/nothing:1"), "{}", ran.all());
    assert!(started.elapsed() < Duration::from_secs(600), "it did not wait for the time-out");
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn containers_survive_kill_9_of_strake_and_are_adopted() {
    needs!();
    let world = served();
    world.write("app/web.yaml", manifest("web", "store"));
    world.strake(&["apply", "app"]).ok();
    let list = |what: &str| world.strake(&["get", "pods", "-o", what]).ok().stdout;
    let before = list("json");
    let find = |text: &str, key: &str| text.lines().find(|line| line.contains(key)).map(str::to_owned);
    world.kill_server();
    world.serve();
    let adopted = || {
        let now = list("json");
        find(&now, "\"containerID\"") == find(&before, "\"containerID\"") && now.contains("\"ready\": true")
    };
    assert!(until(PATIENCE, adopted), "before {before}\nafter {}", list("json"));
    let now = list("json");
    assert_eq!(find(&now, "\"restartCount\""), find(&before, "\"restartCount\""));
    assert_eq!(find(&now, "\"uid\""), find(&before, "\"uid\""));
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn stop_after_a_crash_cleans_up_without_a_server() {
    needs!();
    let world = served();
    world.write("app/web.yaml", manifest("web", "store"));
    world.strake(&["apply", "app"]).ok();
    // At once: the kernel may still be taking the server apart.
    let server = world.server().expect("a server");
    rustix::process::kill_process(server, rustix::process::Signal::KILL).expect("killed");
    world.stop();
}

#[test]
fn no_cluster_is_said_to_be_none() {
    needs!();
    let world = World::new();
    world.strake(&["get", "pods"]).fails(1, "strake serve");
}
