//! `strake plan` against a cluster, a revision and nothing; plans kept in a file; overlays and environments.

use std::process::Command;

use serde_json::Value;
use strake_tests::{World, needs};

fn map(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{colour: {value}}}\n")
}

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: hunter2-plan}\n";

fn actions(json: &str) -> Vec<String> {
    let plan: Value = serde_json::from_str(json).expect("JSON");
    let changes = plan["review"]["changes"].as_array().expect("changes");
    changes.iter().map(|change| format!("{} {}", change["action"].as_str().unwrap_or_default(), change["id"]["name"].as_str().unwrap_or_default())).collect()
}

#[test]
fn a_plan_is_what_happens_and_a_stale_one_does_not() {
    needs!();
    let world = World::new();
    world.serve();
    world.write("app/a.yaml", format!("{}---\n{SECRET}", map("red")));
    let first = world.strake(&["plan", "app"]).fails(2, "");
    assert!(first.stdout.contains("+ create  configmap/settings") && first.stdout.contains("2 to create"), "{}", first.all());
    world.strake(&["plan", "app", "--out", "one.json"]).fails(2, "");
    let kept = std::fs::read_to_string(world.path("one.json")).expect("a plan");
    assert!(!kept.contains("hunter2-plan"), "no secret is in a plan");
    world.strake(&["apply", "one.json"]).ok();
    let none = world.strake(&["plan", "app", "-o", "json"]).ok();
    assert_eq!(actions(&none.stdout), ["noop settings", "noop login"]);

    world.write("app/a.yaml", map("blue"));
    let next = world.strake(&["plan", "app", "-o", "json"]).fails(2, "");
    assert_eq!(actions(&next.stdout), ["update settings", "delete login"]);
    let markdown = world.strake(&["plan", "app", "-o", "markdown"]).fails(2, "").stdout;
    assert!(markdown.contains("| update | configmap/settings in default |") && markdown.contains("- data.colour: \"red\""), "{markdown}");
    world.strake(&["plan", "app", "--out", "two.json"]).fails(2, "");

    // Somebody else changes what the plan would change.
    world.write("other/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: green}\n");
    world.strake(&["apply", "other", "--set", "app", "--no-prune"]).ok();
    let stale = world.strake(&["apply", "two.json"]).fails(4, "the plan is stale");
    assert!(stale.stderr.contains("configmap/settings in default: it has changed since"), "{}", stale.all());
    assert!(world.strake(&["get", "configmap", "settings", "-o", "json"]).ok().stdout.contains("green"), "nothing was applied");
    // Or the directory is another.
    world.strake(&["plan", "app", "--out", "two.json"]).fails(2, "");
    world.write("app/a.yaml", map("black"));
    world.strake(&["apply", "two.json"]).fails(4, "is not as it was when the plan was made");
    world.write("app/a.yaml", map("blue"));
    world.strake(&["apply", "two.json"]).ok();
    world.strake(&["plan", "app"]).ok();
    world.stop();
}

#[test]
fn without_a_cluster_a_plan_compares_revisions() {
    needs!("git");
    let world = World::new();
    world.write("repo/deploy/a.yaml", map("red"));
    world.write("repo/deploy/gone.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gone}\n");
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(world.path("repo")).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(args).output();
        assert!(output.expect("git runs").status.success(), "{args:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    world.strake(&["plan", "repo/deploy", "--against", "HEAD"]).ok();
    world.write("repo/deploy/a.yaml", map("blue"));
    std::fs::remove_file(world.path("repo/deploy/gone.yaml")).expect("removed");
    world.write("repo/deploy/b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: new}\n");
    let plan = world.strake(&["plan", "repo/deploy", "--against", "HEAD", "-o", "json"]).fails(2, "");
    assert_eq!(actions(&plan.stdout), ["create new", "update settings", "delete gone"]);
    let header: Value = serde_json::from_str(&plan.stdout).expect("JSON");
    assert_eq!(header["review"]["header"]["git"]["dirty"], true);
    world.strake(&["plan", "repo/deploy", "--against", "nowhere"]).fails(1, "there is no such revision here");
    world.strake(&["plan", "repo/deploy", "--against", "--output=x"]).fails(2, "");
    let all = world.strake(&["plan", "repo/deploy", "--empty", "-o", "json"]).fails(2, "");
    assert_eq!(actions(&all.stdout), ["create new", "create settings"]);
}

#[test]
fn an_overlay_is_applied_with_its_environment() {
    needs!();
    let world = World::new();
    world.serve();
    world.write("app/k8s/base/kustomization.yaml", "resources: [a.yaml]\nconfigMapGenerator:\n- name: generated\n  literals: [a=b]\n");
    world.write("app/k8s/base/a.yaml", map("\"${{ colour }}\""));
    world.write("app/k8s/overlays/prod/kustomization.yaml", "resources: [../../base]\nnamePrefix: prod-\n");
    world.write("app/k8s/overlays/test/kustomization.yaml", "resources: [../../base]\nnamePrefix: test-\n");
    world.strake(&["plan", "app"]).fails(1, "holds several overlays");
    world.write(
        "app/strake.yaml",
        "name: shop\nvalues: {colour: red}\nenvironments:\n  prod: {overlay: k8s/overlays/prod, values: {colour: blue}}\n  test: {overlay: k8s/overlays/test}\n",
    );
    world.strake(&["apply", "app", "--env", "prod"]).ok();
    world.strake(&["apply", "app", "--env", "test"]).ok();
    let names = world.strake(&["get", "configmaps", "-o", "name"]).ok().stdout;
    for name in ["prod-settings", "test-settings", "prod-generated-", "test-generated-"] {
        assert!(names.contains(name), "{name}: {names}");
    }
    assert!(world.strake(&["get", "configmap", "prod-settings", "-o", "yaml"]).ok().stdout.contains("colour: blue"));
    world.strake(&["down", "app", "--env", "test"]).ok();
    let names = world.strake(&["get", "configmaps", "-o", "name"]).ok().stdout;
    assert!(names.contains("prod-settings") && !names.contains("test-settings"), "environments are sets of their own: {names}");
    world.stop();
}
