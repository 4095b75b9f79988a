//! Tags that policies choose: from a registry into strake.lock by a command, and from there into what runs; in no other way.

use serde_json::Value;
use strake_tests::{World, binary, needs};

use crate::repositories::Server;

/// Pushes an image with its own tag in `/etc/marker`.
fn publish(world: &World, image: &str, marker: &str) {
    world.write("base/etc/marker", format!("{marker}\n"));
    let reference = format!("127.0.0.1:5000/{image}");
    world.strake(&["image", "import", "base", &reference]).ok();
    world.strake(&["image", "push", &reference]).ok();
    // What is asked for is what the registry has.
    world.strake(&["image", "rm", &reference]).ok();
}

fn deployment(name: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers: [{{name: main, image: 127.0.0.1:5000/{name}, command: [sh, -c, 'cat /etc/marker; exec sleep 100000']}}]\n"
    )
}

fn image(world: &World, name: &str) -> String {
    world.get("deployment", name)["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_new_tag_changes_the_lock_file_by_a_command_and_is_then_seen_in_the_plan() {
    needs!("busybox");
    let world = World::with_busybox();
    let root = world.path("hub").display().to_string();
    let registry = Server::start(&world, &binary().display().to_string(), &["--root", &root, "registry", "serve", "--listen", "127.0.0.1:5000"], 5000);
    publish(&world, "app:1.0.0", "app 1.0.0");
    publish(&world, "job:main-9", "job main-9");
    world.write(
        "app/strake.yaml",
        "lock:\n  policies:\n    - {image: 127.0.0.1:5000/app, semver: '>=1 <2'}\n    - {image: 127.0.0.1:5000/job, tag: 'main-*'}\n",
    );
    world.write("app/app.yaml", deployment("app") + &deployment("job"));
    let lock = || std::fs::read_to_string(world.path("app/strake.lock")).unwrap_or_default();
    world.strake(&["image", "lock", "--update", "app"]).ok();
    let first = lock();
    assert!(first.contains("tag: \"1.0.0\"") && first.contains("tag: \"main-9\""), "{first}");
    world.strake(&["apply", "app", "--locked", "--timeout", "300"]).ok();
    assert!(image(&world, "app").starts_with("127.0.0.1:5000/app:1.0.0@sha256:"), "{}", image(&world, "app"));
    let says = |name: &str, words: &str| world.eventually(words, || world.strake(&["logs", &format!("deployment/{name}")]).stdout.contains(words));
    says("app", "app 1.0.0");
    says("job", "job main-9");

    // New tags change nothing by themselves: not what runs, not the plan, not the lock file.
    for (tag, marker) in [("app:1.1.0", "app 1.1.0"), ("app:2.0.0", "app 2.0.0"), ("app:1.2.0-rc.1", "app 1.2.0-rc.1"), ("job:main-11", "job main-11")] {
        publish(&world, tag, marker);
    }
    let nothing = world.strake(&["plan", "app", "--locked"]).ok();
    assert!(!nothing.stdout.contains("1.1.0"), "{}", nothing.stdout);
    assert!(world.strake(&["apply", "app", "--locked"]).ok().stdout.contains("nothing to change"));
    world.strake(&["image", "lock", "app"]).ok();
    assert_eq!(lock(), first, "without --update the tags stay");
    let shown = world.strake(&["image", "lock", "--update", "--check", "app", "-o", "json"]).fails(2, "");
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert!(shown.to_string().contains("1.1.0") && shown.to_string().contains("main-11"), "{shown:#}");
    assert_eq!(lock(), first, "--check writes nothing");
    let told = world.strake(&["image", "lock", "--update", "app"]).ok();
    assert!(told.all().contains("1.0.0") && told.all().contains("1.1.0"), "from what to what: {}", told.all());
    let second = lock();
    assert!(second.contains("tag: \"1.1.0\"") && second.contains("tag: \"main-11\""), "neither 2.0.0 nor a release candidate: {second}");

    let plan = world.strake(&["plan", "app", "--locked"]).fails(2, "");
    for words in ["deployment/app", "app:1.0.0@sha256:", "app:1.1.0@sha256:", "job:main-9@sha256:", "job:main-11@sha256:"] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
    }
    assert!(image(&world, "app").contains("app:1.0.0@"), "a plan changes nothing");
    world.strake(&["apply", "app", "--locked", "--timeout", "300"]).ok();
    says("app", "app 1.1.0");
    says("job", "job main-11");

    // A tag that means something else now is told, and followed only when that is asked for.
    publish(&world, "app:1.1.0", "app 1.1.0 again");
    let moved = world.strake(&["image", "lock", "--update", "--check", "app"]).fails(2, "");
    assert!(moved.all().contains("moved"), "{}", moved.all());
    world.strake(&["image", "lock", "--update", "app"]);
    assert_eq!(lock(), second, "it stays locked to what it was");
    world.strake(&["plan", "app", "--locked"]).ok();
    world.strake(&["image", "lock", "app"]).ok();
    world.strake(&["apply", "app", "--locked", "--timeout", "300"]).ok();
    says("app", "app 1.1.0 again");
    drop(registry);
    world.stop();
}
