//! What was applied, the way back, what has drifted, how a set is, and taking it away.

use std::process::{Command, Stdio};

use serde_json::Value;
use strake_tests::{World, needs};

fn map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{colour: {value}}}\n---\n")
}

/// A Deployment of an image that is built.
const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: web}]
---
";

/// The directory `app`: an image with this text in it, and these manifests.
fn write(world: &World, version: &str, manifests: &str) {
    world.program("app/guestbook");
    let dockerfile = "# image: web\nFROM scratch\nCOPY guestbook /guestbook\nCOPY version /version\nENTRYPOINT [\"/guestbook\"]\nCMD [\"store\"]\n";
    world.write("app/Dockerfile", dockerfile);
    world.write("app/version", version);
    world.write("app/app.yaml", manifests);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn history(world: &World, args: &[&str]) -> Vec<Value> {
    let text = world.strake(&[&["history", "-o", "json"], args].concat()).ok().stdout;
    json(&text).as_array().expect("a list").clone()
}

fn statuses(world: &World, args: &[&str]) -> Vec<String> {
    history(world, args).iter().map(|told| format!("{} {}", told["number"], told["status"].as_str().unwrap_or_default())).collect()
}

/// The image that the Deployment runs.
fn image(world: &World) -> String {
    let deployment = json(&world.strake(&["get", "deployment", "web", "-o", "json"]).ok().stdout);
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("an image").to_owned()
}

fn names(world: &World) -> String {
    world.strake(&["get", "configmaps", "-o", "name"]).ok().stdout
}

#[test]
fn complaint_10_a_rollback_takes_what_was_added_and_brings_back_what_was_removed() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    write(&world, "one", &format!("{WEB}{}{}", map("settings", "red"), map("removed", "x")));
    world.strake(&["history", "app"]).ok();
    world.strake(&["rollback", "app"]).fails(1, "has no history");
    let applied = world.strake(&["apply", "app"]).ok();
    let first = image(&world);
    // One digest, wherever it is shown.
    let digest = first.split_once('@').expect("a digest").1;
    assert!(applied.stderr.lines().any(|line| line.starts_with("built ") && line.ends_with(digest)), "{digest}: {}", applied.stderr);
    let status = world.strake(&["status", "app"]).ok().stdout;
    assert!(status.contains(&digest[..19]), "{digest}: {status}");
    world.strake(&["rollback", "app"]).fails(1, "was not deployed before");
    write(&world, "two", &format!("{WEB}{}{}", map("settings", "blue"), map("added", "y")));
    world.strake(&["apply", "app"]).ok();
    let second = image(&world);
    assert_ne!(first, second, "another digest");
    assert_eq!(statuses(&world, &["app"]), ["1 superseded", "2 deployed"]);

    // It is shown before it is done.
    let shown = world.strake(&["rollback", "app", "--dry-run"]).fails(2, "");
    for part in ["back to revision 1", "+ create  configmap/removed", "- delete  configmap/added", "~ change  configmap/settings", "~ change  deployment/web"] {
        assert!(shown.stdout.contains(part), "{part} in {}", shown.all());
    }
    assert_eq!(image(&world), second, "only shown");
    // What kept revisions run is not pruned, although its name means another image by now.
    world.strake(&["image", "prune", "--all", "--force", "--wait"]).ok();
    let back = world.strake(&["rollback", "app"]).ok();
    assert!(back.stdout.contains("1 created") && back.stdout.contains("1 deleted"), "{}", back.all());
    assert_eq!(image(&world), first, "the same digest as then");
    let there = names(&world);
    assert!(there.contains("configmap/removed") && !there.contains("configmap/added"), "{there}");
    assert!(world.strake(&["get", "configmap", "settings", "-o", "yaml"]).ok().stdout.contains("colour: red"));

    // It is a revision itself, and is gone back from like any other.
    assert_eq!(statuses(&world, &["app"]), ["1 superseded", "2 superseded", "3 deployed"]);
    assert_eq!(history(&world, &["app"])[2]["backTo"], 1);
    let table = world.strake(&["history", "app"]).ok().stdout;
    assert!(table.contains("deployed (back to 1)") && table.contains("1 created, 2 changed, 1 deleted"), "{table}");
    world.strake(&["rollback", "2", "app"]).ok();
    assert_eq!(image(&world), second);
    world.strake(&["rollback", "9", "app"]).fails(1, "there are: 1, 2, 3, 4");

    let one = world.strake(&["history", "app", "--revision", "1"]).ok().stdout;
    assert!(one.contains("configmap/removed in default") && one.contains("app/app.yaml:") && one.contains(&first), "{one}");
    // Anybody's tools see it.
    let kept = world.kubectl(&["get", "secrets", "--field-selector", "type=strake.dev/revision", "-o", "name"]).ok().stdout;
    assert_eq!(kept.lines().count(), 4, "{kept}");
    world.strake(&["apply", "app", "--keep-revisions", "2"]).ok();
    world.write("app/more.yaml", map("more", "z"));
    world.strake(&["apply", "app", "--keep-revisions", "2"]).ok();
    assert_eq!(statuses(&world, &["app"]), ["4 superseded", "5 deployed"]);
    // The project can say it; the command line counts more.
    world.write("app/strake.yaml", "keepRevisions: 1\n");
    world.write("app/more.yaml", map("more", "zz"));
    world.strake(&["apply", "app"]).ok();
    assert_eq!(statuses(&world, &["app"]), ["6 deployed"]);
    world.write("app/more.yaml", map("more", "zzz"));
    world.strake(&["apply", "app", "--keep-revisions", "2"]).ok();
    assert_eq!(statuses(&world, &["app"]), ["6 superseded", "7 deployed"]);
    world.strake(&["rollback", "app"]).ok();
    assert_eq!(statuses(&world, &["app"]), ["8 deployed"]);
    world.strake(&["down", "app"]).ok();
    assert_eq!(history(&world, &["app"]).len(), 0);
    world.stop();
}

#[test]
fn complaint_10_a_rollback_that_cannot_be_made_changes_nothing() {
    needs!();
    let world = World::new();
    world.serve();
    write(&world, "one", &format!("{WEB}{}", map("settings", "red")));
    world.strake(&["apply", "app"]).ok();
    write(&world, "two", &format!("{WEB}{}", map("settings", "blue")));
    world.strake(&["apply", "app"]).ok();
    // Somebody has let the images of the history go.
    std::fs::remove_dir_all(world.inside(&world.root().join("pins"))).expect("there were pins");
    world.strake(&["image", "prune", "--all", "--force", "--wait"]).ok();
    world.strake(&["builder", "prune", "--all", "--wait"]).ok();
    let refused = world.strake(&["rollback", "app"]).fails(1, "nothing was changed");
    assert!(refused.stderr.contains("web:latest@sha256:") && refused.stderr.contains("has been removed since"), "{}", refused.all());
    assert!(world.strake(&["get", "configmap", "settings", "-o", "yaml"]).ok().stdout.contains("colour: blue"));
    assert_eq!(statuses(&world, &["app"]), ["1 superseded", "2 deployed"], "it is no revision");

    // Most of a set is not deleted by the way.
    let many: String = (0..12).map(|number| map(&format!("many-{number}"), "x")).collect();
    write(&world, "two", &format!("{WEB}{}{many}", map("settings", "blue")));
    world.strake(&["apply", "app"]).ok();
    world.strake(&["rollback", "app"]).fails(1, "nothing was changed: 12 of 14 objects would be deleted");
    assert!(names(&world).contains("many-11"));
    world.strake(&["rollback", "app", "--allow-mass-delete"]).ok();
    assert!(!names(&world).contains("many-11"));
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_14_what_has_not_changed_is_not_applied_again() {
    needs!("kubectl", "git");
    let world = World::new();
    world.serve();
    write(&world, "one", &format!("{WEB}{}", map("settings", "red")));
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(world.path("app")).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(args).output();
        assert!(output.expect("git runs").status.success(), "{args:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    world.strake(&["apply", "app"]).ok();
    let revision = history(&world, &["app"]).remove(0);
    assert_eq!((revision["git"]["dirty"].as_bool(), revision["git"]["revision"].as_str().map(str::len)), (Some(false), Some(40)), "{revision}");
    let versions = || {
        let all = world.kubectl(&["get", "deployments,replicasets,configmaps,secrets", "-o", "json"]).ok().stdout;
        // A status may still come to rest.
        let version = |item: &Value| {
            let field = if item["metadata"]["generation"].is_null() { "resourceVersion" } else { "generation" };
            format!("{} {} {}", item["kind"], item["metadata"]["name"], item["metadata"][field])
        };
        json(&all)["items"].as_array().expect("items").iter().map(version).collect::<Vec<_>>()
    };
    let before = versions();
    // Another commit, another time on every file, a comment: the inputs of the image and the objects are the same.
    write(&world, "one", &format!("# a comment\n{WEB}{}", map("settings", "red")));
    git(&["commit", "-qam", "two"]);
    let again = world.strake(&["apply", "app"]).ok();
    assert!(again.stdout.contains("nothing to change"), "{}", again.all());
    assert_eq!(versions(), before, "nothing was written, and no revision was made");
    assert_eq!(statuses(&world, &["app"]), ["1 deployed"]);
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn drift_is_told_with_who_and_when_and_an_apply_ends_it() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: hunter2-drift}\n---\n";
    write(&world, "one", &format!("{WEB}{secret}{}{}", map("settings", "red"), map("gone", "x")));
    world.strake(&["drift", "app"]).fails(1, "nothing to compare with");
    world.strake(&["apply", "app"]).ok();
    let none = world.strake(&["drift", "app"]).ok();
    assert!(none.stdout.contains("no drift: 4 objects are as") || none.stdout.contains("no drift: 4 objects as revision 1 says"), "{}", none.all());

    // What was not applied is not compared.
    world.kubectl(&["label", "configmap", "settings", "by=hand"]).ok();
    world.kubectl(&["patch", "secret", "login", "-p", "{\"stringData\":{\"more\":\"added-drift\"}}"]).ok();
    let none = world.strake(&["drift", "app"]).ok().stdout;
    assert!(none.contains("no drift") && none.contains("added to configmap/settings"), "{none}");
    assert!(none.contains("metadata.labels.by: \"hand\"  by kubectl-label, Update at 20"), "who and when: {none}");
    assert!(none.contains("data.more") && !none.contains("YWRkZWQtZHJpZnQ"), "no value of a Secret: {none}");
    assert!(!none.contains("deployment/web"), "the cluster's own book-keeping is nothing that was added: {none}");
    let none = json(&world.strake(&["drift", "app", "-o", "json"]).ok().stdout);
    assert_eq!(none["objects"], serde_json::json!([]));
    let added = |name: &str| none["added"].as_array().expect("a list").iter().find(|one| one["id"]["name"] == name).cloned().unwrap_or_default();
    let label = added("settings")["fields"][0].clone();
    assert_eq!((&label["path"], &label["found"], &label["by"]["manager"]), (&json("\"metadata.labels.by\""), &json("\"hand\""), &json("\"kubectl-label\"")));
    assert_eq!(added("login")["fields"][0]["sensitive"], true);
    let mut edit = world.kubectl_command(&["edit", "configmap", "settings"]);
    let edited = edit.env("KUBE_EDITOR", "sed -i s/red/green/").output().expect("kubectl runs");
    assert!(edited.status.success(), "{edited:?}");
    world.kubectl(&["delete", "configmap", "gone"]).ok();
    world.kubectl(&["scale", "deployment", "web", "--replicas", "0"]).ok();
    world.kubectl(&["patch", "secret", "login", "-p", "{\"stringData\":{\"password\":\"other-drift\"}}"]).ok();
    let found = world.strake(&["drift", "app", "-o", "json"]).fails(2, "");
    assert!(!found.all().contains("drift\"") && !found.all().contains("aHVudGVyMi1kcmlmdA"), "no value of a Secret: {}", found.all());
    let found = json(&found.stdout);
    assert_eq!(found["revision"], 1);
    let of = |name: &str| found["objects"].as_array().expect("objects").iter().find(|object| object["id"]["name"] == name).cloned().unwrap_or_default();
    assert_eq!(of("gone")["state"], "missing");
    let settings = of("settings");
    assert_eq!((&settings["state"], settings["fields"].as_array().map(Vec::len)), (&Value::from("changed"), Some(1)), "{settings}");
    let field = &settings["fields"][0];
    assert_eq!((field["path"].as_str(), field["applied"].as_str(), field["found"].as_str()), (Some("data.colour"), Some("red"), Some("green")));
    assert_eq!(field["by"]["manager"], "kubectl-edit");
    assert!(field["by"]["time"].as_str().is_some_and(|time| time.starts_with("20")), "{field}");
    assert_eq!(of("web")["fields"][0]["path"], "spec.replicas");
    assert_eq!(of("login")["fields"][0]["path"], "data.password");
    let text = world.strake(&["drift", "--set", "app"]).fails(2, "").stdout;
    assert!(text.contains("missing configmap/gone") && text.contains("by kubectl-edit, Update at 20"), "{text}");

    world.strake(&["apply", "app", "--force-conflicts"]).ok();
    world.strake(&["drift", "app"]).ok();
    // It was the same as before, and had something to mend: that is told.
    assert_eq!(statuses(&world, &["app"]), ["1 superseded", "2 deployed"]);
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn a_status_is_a_tree_down_to_the_container_that_fails() {
    needs!();
    let world = World::new();
    world.serve();
    assert!(world.strake(&["status"]).ok().stdout.contains("no set was applied here"));
    write(&world, "one", &format!("{WEB}{}", map("settings", "red")));
    world.strake(&["status", "app"]).fails(1, "no set app was applied in namespace default");
    world.strake(&["apply", "app"]).ok();
    let text = world.strake(&["status", "app"]).ok().stdout;
    for part in [
        "set app in default: healthy",
        "revision 1: deployed",
        "deployment/web in default",
        "replicaset/web-",
        "pod/web-",
        "container/web",
        "web:latest (sha256:",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let deployment =
        |status: &Value| status["objects"].as_array().expect("objects").iter().find(|node| node["kind"] == "Deployment").cloned().unwrap_or_default();
    let container = |status: &Value| deployment(status)["children"][0]["children"][0]["children"][0].clone();
    let status = json(&world.strake(&["status", "--set", "app", "-o", "json"]).ok().stdout);
    assert_eq!((status["health"].as_str(), status["last"]["status"].as_str()), (Some("Current"), Some("deployed")), "{status:#}");
    let running = container(&status);
    assert_eq!((running["kind"].as_str(), running["restarts"].as_i64()), (Some("Container"), Some(0)), "{status:#}");
    assert!(image(&world).ends_with(running["digest"].as_str().expect("a digest")), "{running}");

    // A change that cannot work: the program ends with an error, and is never ready before.
    world.write("app/Dockerfile", "# image: web\nFROM scratch\nCOPY guestbook /guestbook\nENTRYPOINT [\"/guestbook\", \"nonsense\"]\n");
    let never = WEB.replace("image: web}", "image: web, readinessProbe: {exec: {command: [/guestbook, nonsense]}}}");
    world.write("app/app.yaml", format!("{never}{}", map("settings", "red")));
    world.strake(&["apply", "app"]).fails(3, "deployment/web");
    let status = json(&world.strake(&["status", "app", "-o", "json"]).ok().stdout);
    assert_eq!((status["revision"].as_u64(), status["last"]["status"].as_str()), (Some(1), Some("failed")), "{status:#}");
    assert!(status["last"]["reason"].as_str().is_some_and(|reason| reason.contains("deployment/web")), "{status:#}");
    assert_ne!(status["health"], "Current", "{status:#}");
    assert_eq!(deployment(&status)["children"].as_array().map(Vec::len), Some(2), "two generations: {status:#}");
    let text = || world.strake(&["status", "app"]).ok().stdout;
    assert!(text().contains("revision 2: failed") && text().contains("deployed last: revision 1"), "{}", text());
    world.eventually("the container says how it ended", || text().contains("exit code 1") || text().contains("exited with code 1"));
    // What was deployed last is one command away.
    world.strake(&["rollback", "app"]).ok();
    assert_eq!(statuses(&world, &["app"]), ["1 superseded", "2 failed", "3 deployed"]);
    world.strake(&["rollback", "2", "app"]).fails(1, "only what was deployed can be gone back to");
    let all = world.strake(&["status"]).ok().stdout;
    assert!(all.contains("default") && all.contains("app") && all.contains("deployed (back to 1)"), "{all}");
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_09_an_apply_that_is_killed_is_interrupted_and_not_pending_for_ever() {
    needs!();
    let world = World::new();
    world.serve();
    write(&world, "one", WEB);
    world.strake(&["apply", "app"]).ok();
    let never = WEB.replace("image: web}", "image: web, readinessProbe: {exec: {command: [/guestbook, nonsense]}}}");
    write(&world, "one", &never);
    let mut apply = world.strake_command(&["apply", "app"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs");
    let status = || json(&world.strake(&["status", "app", "-o", "json"]).ok().stdout);
    world.eventually("it is told that it is applied, and by whom", || {
        let status = status();
        status["last"]["status"] == "applying" && status["heldBy"].as_str().is_some_and(|holder| holder.contains("pid"))
    });
    apply.kill().expect("killed");
    apply.wait().expect("ended");
    let after = status();
    assert_eq!((after["last"]["status"].as_str(), after["heldBy"].as_str()), (Some("interrupted"), None), "{after:#}");
    assert_eq!(statuses(&world, &["app"]), ["1 deployed", "2 interrupted"]);
    // Nothing has to be unlocked or repaired.
    world.strake(&["rollback", "app"]).ok();
    assert_eq!(statuses(&world, &["app"]), ["1 superseded", "2 interrupted", "3 deployed"]);
    assert_eq!(status()["health"], "Current");
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn a_set_goes_by_its_name_and_leaves_what_is_not_its_own() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: hunter2-down}\n---\n";
    world.write("shop/app.yaml", format!("{namespace}{}{secret}", map("settings", "red")));
    world.strake(&["apply", "shop", "--namespace", "shop"]).ok();
    world.kubectl(&["create", "configmap", "guest", "-n", "shop"]).ok();
    std::fs::remove_dir_all(world.path("shop")).expect("removed");
    world.strake(&["down", "shop"]).fails(1, "named with --set");
    assert!(world.strake(&["down", "--set", "nobody"]).ok().stdout.contains("nothing of set nobody is there"));
    // The namespace is found by the set's name; another one's object keeps it.
    let down = world.strake(&["down", "--set", "shop"]).ok();
    assert!(down.stderr.contains("namespace/shop stays: it holds configmap/guest") && down.stdout.contains("--all"), "{}", down.all());
    let left = world.kubectl(&["get", "configmaps,secrets", "-n", "shop", "-o", "name"]).ok().stdout;
    assert!(left.contains("guest") && !left.contains("settings") && !left.contains("strake-rev"), "{left}");
    let gone = world.strake(&["down", "--set", "shop", "--all"]).ok();
    assert!(gone.stdout.contains("1 object deleted"), "{}", gone.all());
    world.strake(&["get", "namespace", "shop"]).fails(1, "not found");
    let rest = world.kubectl(&["get", "secrets,leases", "-A", "-o", "name"]).ok().stdout;
    assert!(!rest.contains("strake-set-shop"), "{rest}");

    // A namespace in which nothing else is goes with the set that made it, and through a kubeconfig as well.
    world.write("shop/app.yaml", format!("{namespace}{}", map("settings", "red")));
    let kubeconfig = world.strake(&["kubeconfig", "--path"]).ok().stdout.trim().to_owned();
    let elsewhere = world.path("elsewhere").display().to_string();
    let foreign = ["--kubeconfig", &kubeconfig, "--context", "strake"];
    let run = |args: &[&str]| world.strake(&[&["--root", &elsewhere], args, &foreign].concat());
    run(&["apply", "shop", "-n", "shop"]).ok();
    let told = json(&run(&["history", "--set", "shop", "-o", "json"]).ok().stdout);
    assert_eq!(told[0]["status"], "deployed", "{told}");
    run(&["status", "--set", "shop"]).ok();
    run(&["drift", "--set", "shop"]).ok();
    run(&["down", "--set", "shop"]).ok();
    world.strake(&["get", "namespace", "shop"]).fails(1, "not found");
    world.stop();
}

#[test]
fn overlays_environments_and_kept_plans_have_histories_of_their_own() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let settings = |colour: &str| format!("resources: [a.yaml]\nconfigMapGenerator:\n- name: generated\n  literals: [colour={colour}]\n");
    world.write("app/k8s/base/kustomization.yaml", settings("red"));
    world.write("app/k8s/base/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {where: \"${{ place }}\"}\n");
    world.write("app/k8s/overlays/prod/kustomization.yaml", "resources: [../../base]\nnamePrefix: prod-\n");
    world.write("app/k8s/overlays/test/kustomization.yaml", "resources: [../../base]\nnamePrefix: test-\n");
    world.write(
        "app/strake.yaml",
        "name: shop\nvalues: {place: here}\nenvironments:\n  prod: {overlay: k8s/overlays/prod, namespace: live, values: {place: there}}\n  test: {overlay: k8s/overlays/test}\n",
    );
    world.kubectl(&["create", "namespace", "live"]).ok();
    world.strake(&["plan", "app", "--env", "prod", "--out", "one.json"]).fails(2, "");
    world.strake(&["apply", "one.json"]).ok();
    world.strake(&["apply", "app", "--env", "test"]).ok();
    // Older generations stay for a while: what is meant is what the newest revision has.
    let generated = |number: &str| {
        let told = json(&world.strake(&["history", "app", "--env", "prod", "--revision", number, "-o", "json"]).ok().stdout);
        let names = told["plan"]["changes"].as_array().expect("changes").iter().filter_map(|change| change["id"]["name"].as_str());
        names.filter(|name| name.starts_with("prod-generated-")).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = generated("1");
    world.write("app/k8s/base/kustomization.yaml", settings("blue"));
    world.strake(&["apply", "app", "--env", "prod"]).ok();
    assert_ne!(generated("2"), first, "another hash");
    let prod = history(&world, &["app", "--env", "prod"]);
    assert_eq!(prod.iter().map(|told| told["environment"].as_str().unwrap_or_default()).collect::<Vec<_>>(), ["prod", "prod"]);
    assert_eq!(statuses(&world, &["app", "--env", "test"]), ["1 deployed"]);
    // The set's name finds its namespace.
    world.strake(&["rollback", "--set", "shop-prod"]).ok();
    assert_eq!(generated("3"), first);
    world.kubectl(&["get", "configmap", &first[0], "-n", "live"]).ok();
    world.strake(&["drift", "app", "--env", "prod"]).ok();
    let table = world.strake(&["status"]).ok().stdout;
    assert!(table.contains("shop-prod") && table.contains("shop-test"), "{table}");
    world.strake(&["down", "app", "--env", "prod"]).ok();
    assert_eq!(statuses(&world, &["app", "--env", "test"]), ["1 deployed"], "environments are sets of their own");
    world.strake(&["down", "app", "--env", "test"]).ok();
    world.stop();
}

#[test]
fn values_of_secrets_are_kept_in_their_own_namespace_and_come_back() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    world.kubectl(&["create", "namespace", "pay"]).ok();
    let secret = |value: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: card, namespace: pay}}\nstringData: {{number: {value}}}\n");
    let number = || world.kubectl(&["get", "secret", "card", "-n", "pay", "-o", "jsonpath={.data.number}"]).ok().stdout;
    world.write("app/a.yaml", secret("hunter2-one"));
    world.strake(&["apply", "app"]).ok();
    let first = number();
    world.write("app/a.yaml", secret("hunter2-two"));
    world.strake(&["apply", "app"]).ok();
    assert_ne!(number(), first);
    // Who may read Secrets in the namespace of the set reads none of the other's.
    let own = world.kubectl(&["get", "secrets", "-n", "default", "--field-selector", "type=strake.dev/revision", "-o", "json"]).ok().stdout;
    for item in json(&own)["items"].as_array().expect("items") {
        let packed = item["data"]["plan.json.gz"].as_str().expect("data").to_owned();
        let text = world.run("sh", &["-c", &format!("echo {packed} | base64 -d | gunzip")]).ok().stdout;
        assert!(text.contains("\"card\"") && !text.contains("hunter2"), "{text}");
    }
    let shown = world.strake(&["history", "app", "--revision", "1", "-o", "json"]).ok().stdout;
    assert!(shown.contains("(secret)") && !shown.contains("hunter2"), "{shown}");
    world.strake(&["rollback", "app"]).ok();
    assert_eq!(number(), first);
    world.strake(&["down", "app"]).ok();
    let left = world.kubectl(&["get", "secrets", "-n", "pay", "-o", "name"]).ok().stdout;
    assert!(!left.contains("strake"), "{left}");
    world.stop();
}

#[test]
fn an_image_of_a_revision_that_somebody_has_deleted_is_not_kept_for_it() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    write(&world, "one", WEB);
    world.strake(&["apply", "app"]).ok();
    let blob = world.root().join("blobs/sha256").join(image(&world).rsplit_once("sha256:").expect("a digest").1);
    write(&world, "two", WEB);
    world.strake(&["apply", "app"]).ok();
    let old = blob.clone();
    let prune = || world.strake(&["image", "prune", "--all", "--force", "--wait", "--filter", "until=0s"]).ok();
    world.eventually("its pod is gone", || world.list("pods").len() == 1);
    prune();
    assert!(old.exists(), "the revision keeps it");
    world.kubectl(&["delete", "secret", "strake-rev-app-1"]).ok();
    world.eventually("nothing keeps it any more", || {
        prune();
        !old.exists()
    });
    let now = world.root().join("blobs/sha256").join(image(&world).rsplit_once("sha256:").expect("a digest").1);
    assert!(now.exists(), "the other revision keeps its own");
    world.strake(&["down", "app"]).ok();
    world.stop();
}
