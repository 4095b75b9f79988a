//! What can be named: directories, files, several of them, stdin, repositories.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;
use strake_tests::{Ran, World, needs};

use crate::repositories::{repository, sh};

fn map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{colour: red}}\n")
}

fn with_stdin(world: &World, args: &[&str], text: &str) -> Ran {
    let mut child = world.strake_command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("strake runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end before it has read all.
    let _ = stdin.write_all(text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap_or(-1) }
}

fn names(text: &str) -> Vec<String> {
    let plan: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let changes = plan["deploy"]["changes"].as_array().expect("changes");
    changes.iter().map(|change| format!("{} {}", change["id"]["name"].as_str().unwrap_or_default(), change["origin"].as_str().unwrap_or_default())).collect()
}

#[test]
fn manifests_come_from_stdin_and_from_several_places() {
    needs!();
    let world = World::new();
    world.write("a/one.yaml", map("one"));
    world.write(
        "two.json",
        "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"two\"}}]}",
    );
    let text = format!("---\n{}---\n{}", map("three"), map("four"));
    let plan = with_stdin(&world, &["plan", "a", "two.json", "-", "a/one.yaml", "-o", "json"], &text).ok();
    assert_eq!(names(&plan.stdout), ["four <stdin>:7", "one a/one.yaml:1", "three <stdin>:2", "two two.json:1"]);
    let wrong = with_stdin(&world, &["check", "-"], &text.replace("kind: ConfigMap\nmetadata: {name: four}", "kind: ConfigMap\nmetadata: {nme: four}"));
    wrong.fails(1, "--> <stdin>:9:12");
    // JSON too, and a list.
    let list = "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadta\": {}}]}";
    with_stdin(&world, &["check", "-"], list).fails(1, "--> <stdin>:1:");

    // Applied, and deleted again when it is no more among them.
    world.serve();
    with_stdin(&world, &["apply", "-", "--set", "piped"], &text).ok();
    with_stdin(&world, &["apply", "-", "--set", "piped"], &map("three")).ok();
    let names = world.strake(&["get", "configmaps", "-o", "name"]).ok().stdout;
    assert!(names.contains("configmap/three") && !names.contains("configmap/four"), "{names}");
    world.stop();
}

#[test]
fn mixtures_that_make_no_sense_are_refused_before_anything_is_done() {
    needs!();
    let world = World::new();
    world.write("image/Dockerfile", "FROM scratch\n");
    world.write("a/strake.yaml", "name: a\n");
    world.write("a/a.yaml", map("a"));
    world.write("b/strake.yaml", "name: b\n");
    world.write("b/b.yaml", map("b"));
    world.write("k/kustomization.yaml", "resources: []\n");
    world.write("l/kustomization.yaml", "resources: []\n");
    let rows: [(&[&str], i32, &str); 13] = [
        (&["up", "-", "--set", "x", "--watch"], 2, "name a directory"),
        (&["plan", "-"], 2, "--set NAME"),
        (&["plan", "-", "-", "--set", "x"], 2, "there is one stdin"),
        (&["plan", "-", "image", "--set", "x"], 2, "image/Dockerfile builds an image"),
        (&["plan", "-", "--set", "x", "--env", "prod"], 2, "stdin has none beside it"),
        (&["plan", "-", "--set", "x", "--locked"], 2, "stdin has none beside it"),
        (&["plan", "-", "--set", "x", "--out", "plan.json"], 2, "stdin cannot be read again"),
        (&["plan", "-", "--set", "x", "--against", "HEAD"], 2, "name one"),
        (&["plan", "a", "b"], 2, "two projects"),
        (&["plan", "k", "l"], 2, "kustomize overlays"),
        (&["plan", "https://h.example/a.git#--upload-pack=x"], 2, "cannot be a branch"),
        (&["plan", "file:///nowhere/a.git"], 1, "git cannot ask file:///nowhere/a.git"),
        (&["check", "nowhere"], 1, "there is no such file"),
    ];
    for (args, code, expected) in rows {
        with_stdin(&world, args, &map("piped")).fails(code, expected);
    }
    with_stdin(&world, &["check", "-"], " \n").fails(1, "there is nothing on stdin");
}

#[test]
fn a_repository_is_planned_applied_and_named_in_what_is_found() {
    needs!("git");
    let world = World::new();
    world.program("guestbook");
    let deployment = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{name: web, image: web}]\n";
    world.write("pod.yaml", deployment);
    let script = "mkdir -p deploy web; cp ../../pod.yaml deploy/; cp ../../guestbook web/; printf 'FROM scratch\\nCOPY guestbook /g\\nENTRYPOINT [\"/g\"]\\nCMD [\"store\"]\\n' > web/Dockerfile; \
                  git add -A; git commit -qm one; git checkout -q -b broken; sed -i s/image:/imag:/ deploy/pod.yaml; git commit -qam two; git checkout -q main";
    repository(&world, "shop", script);
    let commit = |branch: &str| sh(&world, &format!("git -C work/shop rev-parse --short=7 {branch}"));
    let address = |more: &str| format!("file://{}{more}", world.path("served/shop.git").display());
    let broken = world.strake(&["check", &address("#broken:deploy")]).fails(1, &format!("--> shop@{}:deploy/pod.yaml:6:28", commit("broken")));
    assert!(!broken.all().contains("cache/remote"), "{}", broken.all());
    let json = world.strake(&["check", &address("#broken"), "-o", "json"]).fails(1, "");
    assert!(json.stdout.contains(&format!("shop@{}:deploy/pod.yaml", commit("broken"))), "{}", json.stdout);
    let plan = world.strake(&["plan", &address(""), "-o", "json"]).ok();
    assert_eq!(names(&plan.stdout), [format!("web shop@{}:deploy/pod.yaml:1", commit("main"))]);
    assert_eq!(serde_json::from_str::<Value>(&plan.stdout).expect("JSON")["deploy"]["set"], "shop");
    // Two of its revisions, without a cluster.
    let changed = world.strake(&["plan", &address("#main:deploy"), "--against", "broken"]);
    assert_ne!(changed.code, 0, "the other one is broken: {}", changed.all());
    world.strake(&["plan", &address("#main:deploy"), "--against", "main"]).ok();
    // Its images are built from its own files.
    world.serve();
    world.strake(&["apply", &address("#main")]).ok();
    assert!(world.strake(&["get", "pods"]).ok().stdout.contains("Running"));
    // A plan that is kept is of this commit, wherever the branch goes.
    world.strake(&["plan", &address("#main"), "--out", "plan.json"]).ok();
    let kept = std::fs::read_to_string(world.path("plan.json")).expect("kept");
    assert!(kept.contains(&sh(&world, "git -C work/shop rev-parse main")), "{kept}");
    sh(&world, "git -C served/shop.git update-ref refs/heads/main refs/heads/broken");
    world.strake(&["apply", "plan.json"]).ok();
    world.strake(&["apply", &address("#main")]).fails(1, "unknown-field");
    world.stop();
}
