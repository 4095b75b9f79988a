//! Whose an object is, whose its fields are, and what goes when it leaves the directory: against kubectl's client-side apply, Helm, controllers and other sets.

use serde_json::Value;
use strake_tests::{World, needs};

fn map(name: &str, more: &str, data: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}{more}}}\ndata: {{{data}}}\n")
}

/// A Deployment whose pods find no node: nothing of it runs.
fn deployment(replicas: u32, more: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web{more}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec: {{nodeSelector: {{no: where}}, containers: [{{name: web, image: example.org/web:1}}]}}\n"
    )
}

fn object(world: &World, kind: &str, name: &str) -> Option<Value> {
    let ran = world.kubectl(&["get", kind, name, "-o", "json", "--show-managed-fields", "--ignore-not-found"]).ok();
    serde_json::from_str(&ran.stdout).ok()
}

fn there(world: &World, kind: &str, name: &str) -> Value {
    object(world, kind, name).unwrap_or_else(|| panic!("{kind}/{name} is there"))
}

fn managers(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.filter_map(|entry| entry["manager"].as_str()).collect()
}

fn review(world: &World, args: &[&str]) -> Value {
    let ran = world.strake(&[&["plan", "app", "-o", "json"], args].concat());
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.all()));
    plan["review"].clone()
}

fn change(review: &Value, name: &str) -> Value {
    let changes = review["changes"].as_array().expect("changes");
    changes.iter().find(|change| change["id"]["name"] == name).unwrap_or_else(|| panic!("{name} is in {review:#}")).clone()
}

#[test]
fn complaint_13_what_kubectl_applied_goes_when_the_manifest_drops_it() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let file = world.write("by-hand/a.yaml", map("settings", ", labels: {team: a, old: x}", "kept: \"1\", dropped: \"2\""));
    world.kubectl(&["apply", "-f", &file.display().to_string()]).ok();
    assert!(managers(&there(&world, "configmap", "settings")).contains(&"kubectl-client-side-apply"));

    world.write("app/a.yaml", map("settings", ", labels: {team: a}", "kept: \"1\""));
    let plan = change(&review(&world, &[]), "settings");
    assert_eq!((plan["action"].as_str(), plan["code"].as_str()), (Some("adopt"), Some("no-set")), "{plan:#}");
    let field = plan["fields"].as_array().and_then(|fields| fields.iter().find(|field| field["path"] == "data.dropped")).cloned().expect("it is planned");
    assert_eq!((field["owner"]["manager"].as_str(), &field["after"]), (Some("kubectl-client-side-apply"), &Value::Null), "{field:#}");

    world.strake(&["apply", "app"]).ok();
    let live = there(&world, "configmap", "settings");
    assert_eq!(live["data"], serde_json::json!({"kept": "1"}));
    assert!(live["metadata"]["labels"].get("old").is_none() && live["metadata"]["annotations"].is_null(), "{live:#}");
    assert!(!managers(&live).contains(&"kubectl-client-side-apply"), "{live:#}");
    world.strake(&["plan", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_13_a_helm_release_is_taken_over_with_consent_only() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let release = ", labels: {app.kubernetes.io/managed-by: Helm}, annotations: {meta.helm.sh/release-name: shop, meta.helm.sh/release-namespace: default}";
    let file = world.write("chart/a.yaml", map("settings", release, "kept: \"1\", dropped: \"2\""));
    world.kubectl(&["create", "--field-manager", "helm", "-f", &file.display().to_string()]).ok();
    world.write("app/a.yaml", map("settings", "", "kept: \"2\""));
    world.strake(&["apply", "app"]).fails(1, "belongs to the Helm release `shop`");
    assert_eq!(there(&world, "configmap", "settings")["data"]["kept"], "1", "nothing was done");
    let refused = review(&world, &[]);
    assert_eq!((refused["applyable"].as_bool(), refused["complete"].as_bool()), (Some(false), Some(false)), "{refused:#}");
    world.strake(&["apply", "app", "--adopt"]).ok();
    let live = there(&world, "configmap", "settings");
    assert_eq!(live["data"], serde_json::json!({"kept": "2"}), "what only Helm had goes");
    assert!(live["metadata"]["annotations"].is_null() && live["metadata"]["labels"].get("app.kubernetes.io/managed-by").is_none(), "{live:#}");
    world.strake(&["plan", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_13_conflicts_are_named_and_settled_field_by_field() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    world.write("app/a.yaml", map("settings", "", "a: ours, b: ours"));
    world.strake(&["apply", "app"]).ok();
    let theirs = world.write("theirs/a.yaml", map("settings", "", "a: theirs")).display().to_string();
    world.kubectl(&["apply", "--server-side", "--force-conflicts", "--field-manager", "gitops", "-f", &theirs]).ok();
    let error = world.strake(&["apply", "app"]).fails(1, "data.a: gitops, Apply at 2");
    assert!(error.stderr.contains("--force-conflicts") && error.stderr.contains("strake.dev/leave-fields"), "{}", error.stderr);
    world.strake(&["plan", "app"]).fails(1, "data.a: gitops, Apply at 2");
    world.strake(&["diff", "app"]).fails(1, "data.a: gitops, Apply at 2");
    assert_eq!(there(&world, "configmap", "settings")["data"]["a"], "theirs", "never a silent loss");

    world.write("app/a.yaml", map("settings", ", annotations: {strake.dev/leave-fields: data.a}", "a: ours, b: new"));
    let left = world.strake(&["apply", "app"]).ok();
    assert!(left.stderr.contains("data.a is left as it is: strake.dev/leave-fields says so"), "{}", left.all());
    assert_eq!(there(&world, "configmap", "settings")["data"], serde_json::json!({"a": "theirs", "b": "new"}));
    world.strake(&["plan", "app"]).ok();

    world.write("app/a.yaml", map("settings", ", annotations: {strake.dev/take-fields: data.a}", "a: ours, b: new"));
    world.strake(&["apply", "app"]).ok();
    assert_eq!(there(&world, "configmap", "settings")["data"]["a"], "ours");
    // What a person has changed is taken back, and told.
    world.kubectl(&["patch", "configmap", "settings", "--type", "merge", "-p", "{\"data\":{\"b\":\"by hand\"}}"]).ok();
    let told = world.strake(&["apply", "app"]).ok();
    assert!(told.stderr.contains("what kubectl-patch had changed by hand"), "{}", told.all());
    assert_eq!(there(&world, "configmap", "settings")["data"]["b"], "new");
    world.kubectl(&["apply", "--server-side", "--force-conflicts", "--field-manager", "gitops", "-f", &theirs]).ok();
    world.write("app/a.yaml", map("settings", "", "a: ours, b: new"));
    world.strake(&["apply", "app", "--force-conflicts"]).ok();
    assert_eq!(there(&world, "configmap", "settings")["data"]["a"], "ours");
    world.stop();
}

#[test]
fn complaint_13_replicas_that_an_autoscaler_has_set_stay() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    world.write("app/a.yaml", deployment(1, ""));
    world.strake(&["apply", "app", "--no-wait"]).ok();
    world
        .kubectl(&[
            "patch",
            "deployment",
            "web",
            "--subresource",
            "scale",
            "--field-manager",
            "kube-controller-manager",
            "--type",
            "merge",
            "-p",
            "{\"spec\":{\"replicas\":4}}",
        ])
        .ok();
    let plan = world.strake(&["plan", "app", "-o", "json"]).ok();
    let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
    let warnings = plan["review"]["warnings"].to_string();
    assert!(warnings.contains("spec.replicas is left as it is: kube-controller-manager: an autoscaler sets it"), "{warnings}");
    world.write("app/a.yaml", deployment(1, ", labels: {v: \"2\"}"));
    let told = world.strake(&["apply", "app", "--no-wait"]).ok();
    assert!(told.stderr.contains("spec.replicas is left as it is"), "{}", told.all());
    assert_eq!(there(&world, "deployment", "web")["spec"]["replicas"], 4);
    // A person who scales is overruled.
    world.kubectl(&["scale", "deployment", "web", "--replicas", "2"]).ok();
    world.strake(&["apply", "app", "--no-wait"]).ok();
    assert_eq!(there(&world, "deployment", "web")["spec"]["replicas"], 1);
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_03_prune_takes_members_only_and_what_holds_others_with_consent() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let space = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: side}\n";
    let kept = map("kept", ", annotations: {client.lifecycle.config.k8s.io/deletion: detach}", "a: b");
    world.write("app/a.yaml", map("stays", "", "a: b"));
    world.write("app/b.yaml", [space, &map("gone", "", "a: b"), &map("anew", "", "a: b"), &kept].concat());
    world.strake(&["apply", "app"]).ok();
    // Rule 1: somebody makes a member anew, label and all.
    let mut anew = there(&world, "configmap", "anew");
    anew["metadata"].as_object_mut().expect("metadata").retain(|name, _| matches!(name.as_str(), "name" | "namespace" | "labels"));
    let file = world.write("anew.json", anew.to_string()).display().to_string();
    world.kubectl(&["delete", "configmap", "anew"]).ok();
    world.kubectl(&["create", "-f", &file]).ok();
    // Rule 1: a label alone makes no member.
    let id = anew["metadata"]["labels"]["applyset.kubernetes.io/part-of"].as_str().expect("a label").to_owned();
    world.kubectl(&["create", "configmap", "stranger"]).ok();
    world.kubectl(&["label", "configmap", "stranger", &format!("applyset.kubernetes.io/part-of={id}")]).ok();

    std::fs::remove_file(world.path("app/b.yaml")).expect("removed");
    let plan = review(&world, &[]);
    for (name, action, reason) in [
        ("gone", "delete", "left the directory"),
        ("anew", "forget", "made anew by somebody else"),
        ("kept", "forget", "marked to be kept"),
        ("side", "forget", "holds other objects"),
    ] {
        let change = change(&plan, name);
        assert_eq!(change["action"], action, "{change:#}");
        assert!(change["reason"].as_str().is_some_and(|text| text.contains(reason)), "{change:#}");
    }
    assert!(change(&plan, "gone")["precondition"]["uid"].is_string());
    // Rule 6: an apply of a part prunes nothing, and forgets nothing.
    world.strake(&["apply", "app", "--no-prune"]).ok();
    assert!(object(&world, "configmap", "gone").is_some());
    world.strake(&["apply", "app"]).ok();
    assert!(object(&world, "configmap", "gone").is_none());
    for name in ["stays", "anew", "stranger", "kept"] {
        assert!(object(&world, "configmap", name).is_some(), "{name}");
    }
    // Rule 5: what is let go is marked no more.
    assert!(there(&world, "configmap", "kept")["metadata"]["labels"]["applyset.kubernetes.io/part-of"].is_null());
    // Rule 2: the namespace is still a member, and goes with consent.
    assert!(object(&world, "namespace", "side").is_some());
    let plan = review(&world, &["--confirm-delete", "namespace/side"]);
    let side = change(&plan, "side");
    assert_eq!((side["action"].as_str(), side["risks"][0].as_str()), (Some("delete"), Some("data-loss")), "{side:#}");
    world.strake(&["plan", "app", "--confirm-delete", "namespace/side", "--out", "plan.json"]).fails(2, "");
    world.strake(&["apply", "plan.json"]).ok();
    world.eventually("the namespace goes", || object(&world, "namespace", "side").is_none_or(|side| side["metadata"]["deletionTimestamp"].is_string()));
    world.strake(&["plan", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_03_most_of_a_set_is_never_deleted_by_a_slip() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let many: String = (0..9).map(|place| map(&format!("m{place}"), "", "a: b")).collect();
    world.write("app/many.yaml", many);
    world.write("app/one.yaml", map("one", "", "a: b"));
    world.strake(&["apply", "app"]).ok();
    std::fs::remove_file(world.path("app/many.yaml")).expect("removed");
    world.write("app/one.yaml", map("one", "", "a: changed"));
    world.strake(&["apply", "app"]).fails(1, "9 of 10 objects would be deleted: if that is meant, say --allow-mass-delete");
    assert_eq!(there(&world, "configmap", "one")["data"]["a"], "b", "it is refused before anything is done");
    world.strake(&["plan", "app"]).fails(1, "9 of 10 objects would be deleted");
    // Rule 7: an apply that fails prunes nothing.
    world.write(
        "app/bad.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: [{name: c, image: example.invalid/none:1, imagePullPolicy: Never}]}\n",
    );
    let failed = world.strake(&["apply", "app", "--allow-mass-delete"]);
    assert_ne!(failed.code, 0, "{}", failed.all());
    assert!(object(&world, "configmap", "m0").is_some());
    std::fs::remove_file(world.path("app/bad.yaml")).expect("removed");
    world.strake(&["apply", "app", "--allow-mass-delete"]).ok();
    assert!(object(&world, "configmap", "m0").is_none());
    world.stop();
}

#[test]
fn complaint_03_a_directory_that_has_become_empty_deletes_nothing() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    world.write("app/kustomization.yaml", "resources: [a.yaml]\n");
    world.write("app/a.yaml", map("one", "", "a: b") + &map("two", "", "a: b"));
    world.strake(&["apply", "app", "--set", "shop"]).ok();
    // What a mistake in an overlay, a branch or a path leaves of a directory.
    world.write("app/kustomization.yaml", "resources: []\n");
    world.write("blank/a.yaml", "# nothing any more\n---\n");
    std::fs::create_dir(world.path("none")).expect("a folder");
    for dir in ["app", "blank", "none"] {
        for command in ["plan", "apply", "up", "diff"] {
            let ran = world.strake(&[command, dir, "--set", "shop"]);
            assert_eq!(ran.code, 1, "{command} {dir}: {}", ran.all());
            assert!(!ran.stderr.trim().is_empty(), "{command} {dir} says why");
        }
        for name in ["one", "two"] {
            assert!(object(&world, "configmap", name).is_some(), "{name} after {dir}");
        }
    }
    world.strake(&["plan", "app", "--set", "shop"]).fails(1, "there is nothing to apply, and all 2 objects of the set would be deleted");
    world.strake(&["apply", "app", "--set", "shop", "--no-wait"]).fails(1, "say --allow-mass-delete, or use strake down");
    world.stop();
}

#[test]
fn complaint_03_what_blocks_its_successor_goes_early_when_it_says_so() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let service = |name: &str, more: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}{more}}}\nspec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80, nodePort: 30123}}]}}\n"
        )
    };
    world.write("app/a.yaml", service("old", "") + &map("stays", "", "a: b"));
    world.strake(&["apply", "app"]).ok();
    // The port is taken until everything new is healthy, which it can never be.
    world.write("app/a.yaml", service("new", "") + &map("stays", "", "a: b"));
    world.strake(&["apply", "app"]).fails(1, "30123");
    assert!(object(&world, "service", "old").is_some() && object(&world, "service", "new").is_none(), "an apply that failed prunes nothing");
    world.write("app/a.yaml", service("old", ", annotations: {strake.dev/prune: early}") + &map("stays", "", "a: b"));
    world.strake(&["apply", "app"]).ok();
    world.write("app/a.yaml", service("new", "") + &map("stays", "", "a: b"));
    world.strake(&["apply", "app"]).ok();
    assert!(object(&world, "service", "old").is_none());
    assert_eq!(there(&world, "service", "new")["spec"]["ports"][0]["nodePort"], 30123);
    world.strake(&["plan", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_04_a_plan_lists_deletions_hides_secrets_and_ends_with_a_code() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let secret = |value: &str| {
        format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{one: {value}, two: {value}, three: {value}-and-longer}}\n")
    };
    world.write("app/a.yaml", secret("hunter2") + &map("gone", "", "a: b"));
    world.strake(&["apply", "app"]).ok();
    world.write("app/a.yaml", secret("hunter3"));
    let text = world.strake(&["plan", "app"]).fails(2, "");
    assert!(text.stdout.contains("- delete  configmap/gone in default"), "{}", text.stdout);
    let json = world.strake(&["plan", "app", "-o", "json", "--out", "plan.json"]).fails(2, "");
    let diff = world.strake(&["diff", "app", "-o", "json"]).fails(2, "");
    let markdown = world.strake(&["plan", "app", "-o", "markdown"]).fails(2, "");
    let kept = std::fs::read_to_string(world.path("plan.json")).expect("a plan");
    for (what, text) in [("text", text.all()), ("json", json.all()), ("diff", diff.all()), ("markdown", markdown.all()), ("file", kept)] {
        // As it is, and in base64.
        assert!(!text.contains("hunter") && !text.contains("aHVudGVy"), "{what}: {text}");
    }
    let plan: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let login = change(&plan["review"], "login");
    // The objects that are printed beside the review have the same hashes.
    let objects = plan["deploy"]["changes"].as_array().expect("changes");
    let printed = objects.iter().find(|change| change["id"]["name"] == "login").expect("the Secret");
    assert!(!json.stdout.contains("(secret)") && plan["hashedWith"] == plan["review"]["header"]["hashedWith"], "{printed:#}");
    let field = |path: &str| login["fields"].as_array().and_then(|fields| fields.iter().find(|field| field["path"] == path)).cloned().expect("the field");
    let (one, two, three) = (field("data.one"), field("data.two"), field("data.three"));
    assert_eq!((&one["before"], &one["after"], &one["sensitive"]), (&two["before"], &two["after"], &Value::Bool(true)), "equal values look equal");
    assert_ne!(one["after"], three["after"]);
    let object = &printed["object"];
    assert!([&object["data"]["one"], &object["stringData"]["one"]].contains(&&one["after"]), "{object:#} {one:#}");
    assert_eq!(one["after"].to_string().len(), three["after"].to_string().len(), "nothing is told of their length");
    let header = &plan["review"]["header"];
    for (place, name) in [
        ("/cluster/uid", "the cluster"),
        ("/cluster/version", "its version"),
        ("/inventory/id", "the inventory"),
        ("/created", "the time"),
        ("/expires", "the end"),
        ("/input", "the input"),
    ] {
        assert!(header.pointer(place).and_then(Value::as_str).is_some_and(|text| !text.is_empty()), "{name}: {header:#}");
    }
    assert!(header["inventory"]["generation"].as_u64().is_some_and(|number| number > 0), "{header:#}");
    world.strake(&["apply", "plan.json"]).ok();
    world.strake(&["plan", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_05_a_second_plan_is_empty_whatever_others_filled_in() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}\n";
    world.write("app/a.yaml", deployment(1, "") + service + "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n");
    world.strake(&["apply", "app", "--no-wait"]).ok();
    // The controllers have written their part by then.
    world.eventually("the deployment is looked at", || {
        there(&world, "deployment", "web")["metadata"]["annotations"]["deployment.kubernetes.io/revision"].is_string()
    });
    let plan = world.strake(&["plan", "app"]).ok();
    assert!(plan.stdout.contains("3 as it is"), "{}", plan.stdout);
    world.strake(&["diff", "app"]).ok();
    let again = world.strake(&["apply", "app", "--no-wait"]).ok();
    assert!(again.stdout.contains("nothing to change"), "{}", again.all());
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_12_a_field_that_cannot_change_is_a_planned_replace() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    world.write("app/a.yaml", deployment(1, ""));
    world.strake(&["apply", "app", "--no-wait"]).ok();
    let uid = there(&world, "deployment", "web")["metadata"]["uid"].clone();
    world.write("app/a.yaml", deployment(1, "").replace("{app: web}", "{app: other}"));
    let plan = change(&review(&world, &[]), "web");
    assert_eq!(
        (plan["action"].as_str(), plan["code"].as_str(), plan["reason"].as_str()),
        (Some("replace"), Some("immutable"), Some("spec.selector cannot be changed")),
        "{plan:#}"
    );
    assert!(plan["risks"].as_array().is_some_and(|risks| risks.contains(&"downtime".into())), "{plan:#}");
    let forcing = plan["fields"].as_array().into_iter().flatten().filter(|field| field["forcesReplacement"] == true);
    assert_eq!(forcing.map(|field| field["path"].as_str().unwrap_or_default()).collect::<Vec<_>>(), ["spec.selector.matchLabels.app"], "{plan:#}");
    world.strake(&["apply", "app", "--no-wait"]).fails(1, "was refused");
    assert_eq!(there(&world, "deployment", "web")["metadata"]["uid"], uid, "nothing is made anew without a word");
    // A plan that was reviewed is the word.
    world.strake(&["plan", "app", "--out", "plan.json"]).fails(2, "");
    world.strake(&["apply", "plan.json", "--no-wait"]).ok();
    assert_ne!(there(&world, "deployment", "web")["metadata"]["uid"], uid);
    world.strake(&["plan", "app"]).ok();
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn a_comparison_with_a_revision_leaves_nothing_even_when_it_was_killed() {
    needs!("git");
    let world = World::new();
    world.write("repo/a.yaml", map("settings", "", "a: b"));
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git")
            .arg("-C")
            .arg(world.path("repo"))
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(args)
            .output();
        assert!(output.expect("git runs").status.success(), "{args:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    // What one leaves that was killed, and one that goes on.
    world.write("tmp/strake-against-dead.lock", "");
    world.write("tmp/strake-against-dead/repo/a.yaml", "x");
    world.write("tmp/strake-against-alive/repo/a.yaml", "x");
    let held = std::fs::File::create(world.path("tmp/strake-against-alive.lock")).expect("a file");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("held");
    let ran = world.strake_command(&["plan", "repo", "--against", "HEAD"]).env("TMPDIR", world.path("tmp")).output().expect("it runs");
    assert!(ran.status.success(), "{ran:?}");
    let mut left: Vec<String> =
        std::fs::read_dir(world.path("tmp")).expect("a folder").flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    left.sort();
    assert_eq!(left, ["strake-against-alive", "strake-against-alive.lock"]);
}
