//! The demo, end to end.

use strake_tests::{PATIENCE, World, guestbook, needs, repository, until};

fn copy_example(world: &World) {
    let from = repository().join("examples/guestbook");
    assert!(guestbook().is_file());
    for name in
        ["Dockerfile", ".dockerignore", "bin/guestbook", "manifests/00-namespace.yaml", "manifests/config.yaml", "manifests/store.yaml", "manifests/web.yaml"]
    {
        let to = world.path(&format!("guestbook/{name}"));
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
        std::fs::copy(from.join(name), to).expect("a copy");
    }
}

#[test]
fn up_runs_the_guestbook_and_a_second_up_changes_nothing() {
    needs!("curl");
    let world = World::new();
    copy_example(&world);
    world.strake(&["up", "guestbook"]).ok();
    let pods = world.strake(&["get", "pods", "-n", "guestbook"]).ok().stdout;
    assert_eq!(pods.matches("1/1").count(), 4, "{pods}");
    assert_eq!(pods.matches("Running").count(), 4, "{pods}");

    // The page answers at the NodePort, and reaches the store by its Service's name.
    let page = || world.run("curl", &["-s", "--max-time", "60", "http://127.0.0.1:30080/"]).stdout;
    assert!(until(PATIENCE, || page().contains("A guestbook, launched by strake")), "{}", page());
    world.run("curl", &["-s", "--max-time", "60", "-d", "entry=hello+from+the+test", "http://127.0.0.1:30080/sign"]).ok();
    assert!(until(PATIENCE, || page().contains("hello from the test")), "{}", page());

    let again = world.strake(&["up", "guestbook"]).ok();
    assert!(again.all().contains("nothing to change"), "{}", again.all());
    world.strake(&["diff", "guestbook"]).ok();

    // One field changed: diff says which, with exit code 2; apply rolls it out; undo goes back.
    let path = world.path("guestbook/manifests/web.yaml");
    let text = std::fs::read_to_string(&path).expect("readable");
    std::fs::write(&path, text.replace("value: guestbook-store:8080", "value: guestbook-store.guestbook:8080")).expect("written");
    let diff = world.strake(&["diff", "guestbook"]);
    assert_eq!(diff.code, 2, "{}", diff.all());
    assert!(diff.stdout.contains("spec.template.spec.containers[web].env[STORE].value"), "{}", diff.stdout);
    world.strake(&["apply", "guestbook"]).ok();
    assert!(until(PATIENCE, || page().contains("hello from the test")), "{}", page());
    world.strake(&["rollout", "undo", "-n", "guestbook", "deployment/guestbook"]).ok();
    world.strake(&["rollout", "status", "-n", "guestbook", "deployment/guestbook"]).ok();

    // What leaves the directory is pruned.
    std::fs::remove_file(world.path("guestbook/manifests/config.yaml")).expect("removed");
    let text = std::fs::read_to_string(&path).expect("readable");
    let literal = text
        .replace("valueFrom:\n                configMapKeyRef: {name: guestbook, key: title}", "value: plain")
        .replace("valueFrom:\n                secretKeyRef: {name: guestbook, key: owner}", "value: nobody");
    std::fs::write(&path, literal).expect("written");
    world.strake(&["apply", "guestbook"]).ok();
    let left = world.strake(&["get", "configmaps,secrets", "-n", "guestbook", "-o", "name"]).ok().stdout;
    assert!(!left.contains("/guestbook\n"), "{left}");

    world.strake(&["down", "guestbook"]).ok();
    world.strake(&["get", "namespace", "guestbook"]).fails(1, "not found");
    world.stop();
}

#[test]
fn plan_shows_the_images_and_the_objects_without_a_cluster() {
    needs!();
    let world = World::new();
    copy_example(&world);
    let plan = world.strake(&["plan", "guestbook"]).ok().stdout;
    for part in ["guestbook", "deployment", "service", "configmap", "namespace"] {
        assert!(plan.to_lowercase().contains(part), "{part} in {plan}");
    }
    let json: serde_json::Value = serde_json::from_str(&world.strake(&["plan", "guestbook", "-o", "json"]).ok().stdout).expect("JSON");
    assert_eq!(json["format_version"], 1);
    assert_eq!(json["deploy"]["images"].as_array().map(Vec::len), Some(2), "two Deployments run the image: {json}");
    let same = world.strake(&["plan", "guestbook", "-o", "json"]).ok().stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&same).expect("JSON"), json, "the same plan every time");
}
