//! What can be wrong with manifests: all of it is said at once, with places, before anything is done.

use strake_tests::{World, needs};

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicsa: 3
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
        - name: web
          image: web
          ports:
            - containerPort: \"eighty\"
";

#[test]
fn a_wrong_field_gets_file_line_column_and_the_nearest_name() {
    needs!();
    let world = World::new();
    world.write("app/web.yaml", DEPLOYMENT);
    let ran = world.strake(&["check", "app"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.all().contains("app/web.yaml:6:3"), "{}", ran.all());
    assert!(ran.all().contains("replicas"), "{}", ran.all());
    // The second mistake is said in the same run.
    assert!(ran.all().contains("web.yaml:17"), "{}", ran.all());
    world.strake(&["plan", "app"]).fails(1, "replicsa");
    world.strake(&["apply", "app"]).fails(1, "replicsa");
}

#[test]
fn a_kind_that_is_not_supported_yet_is_named() {
    needs!();
    let world = World::new();
    world.write("app/job.yaml", "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x}\nspec: {}\n");
    let ran = world.strake(&["check", "app"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.all().contains("StatefulSet"), "{}", ran.all());
}

#[test]
fn broken_yaml_is_shown_where_it_breaks() {
    needs!();
    let world = World::new();
    world.write("app/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: x\n");
    let ran = world.strake(&["check", "app"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.all().contains("a.yaml:4"), "{}", ran.all());
}

#[test]
fn a_key_given_twice_shows_both_places() {
    needs!();
    let world = World::new();
    world.write("app/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: b\n  a: c\n");
    let ran = world.strake(&["check", "app"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.all().contains("a.yaml:6:3"), "{}", ran.all());
}

#[test]
fn an_empty_directory_is_said_to_hold_nothing() {
    needs!();
    let world = World::new();
    std::fs::create_dir_all(world.path("empty")).expect("a folder");
    world.strake(&["plan", "empty"]).fails(1, "neither a Dockerfile nor a manifest");
}
