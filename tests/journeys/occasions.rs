//! Hooks at other occasions than an apply, as Helm and Argo CD have them: a deletion, a way back, a failure, a test. And the order in which objects go.

use serde_json::Value;
use strake_tests::{World, needs, pod};

fn map(name: &str, annotations: &str, value: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\ndata: {{value: \"{value}\"}}\n")
}

/// A pod that runs a script to its end, as a hook.
fn hook(name: &str, script: &str, annotations: &str) -> String {
    pod(name, script, "  restartPolicy: Never\n").replace("metadata: {", &format!("metadata: {{annotations: {{{annotations}}}, "))
}

/// Where the words stand in what was said, each after the one before.
#[track_caller]
fn in_order(said: &str, words: &[&str]) {
    let mut rest = said;
    for word in words {
        let at = rest.find(word).unwrap_or_else(|| panic!("{word:?} is not said, or too early, in:\n{said}"));
        rest = &rest[at + word.len()..];
    }
}

/// The hooks that an apply has run, by its events.
fn ran(text: &str) -> Vec<String> {
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["event"] == "hook").filter_map(|event| event["object"]["name"].as_str().map(str::to_owned)).collect()
}

const SPACE: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: extra}\n";

#[test]
fn hooks_of_a_deletion_run_before_and_after_it_once_and_a_failed_one_deletes_nothing() {
    needs!("busybox", "kubectl");
    let world = World::with_busybox();
    let app = |script: &str| {
        hook("save", script, "helm.sh/hook: pre-delete, helm.sh/hook-weight: '-1', helm.sh/hook-delete-policy: hook-succeeded")
            + &hook("second", "echo second", "helm.sh/hook: pre-delete, helm.sh/hook-weight: '3'")
            + &hook("bye", "echo bye", "argocd.argoproj.io/hook: PostDelete")
            + &map("settings", "", "1")
            + SPACE
    };
    world.write("app/app.yaml", app("echo cannot save; exit 4"));
    let plan = world.strake(&["plan", "app", "--empty", "-o", "json"]);
    assert!(plan.stdout.contains("pre-delete") && plan.stdout.contains("post-delete"), "{}", plan.all());
    let applied = world.strake(&["apply", "app", "--no-wait", "-o", "json"]).ok();
    assert_eq!(ran(&applied.stdout), [""; 0], "an apply runs none of them");
    assert!(world.get("pod", "save").is_null());

    // What cannot be saved is not deleted.
    let failed = world.strake(&["down", "app"]).fails(3, "exited with code 4");
    assert!(failed.stderr.contains("cannot save"), "{}", failed.stderr);
    assert!(world.get("configmap", "settings").is_object() && world.get("pod", "second").is_null() && world.get("pod", "bye").is_null());

    // The hooks are those of what is deployed.
    world.write("app/app.yaml", app("echo saved"));
    world.strake(&["apply", "app", "--no-wait"]).ok();
    // What others have put into a namespace of the set keeps that namespace.
    world.kubectl(&["create", "configmap", "guest", "-n", "extra"]).ok();
    let down = world.strake(&["down", "app"]).ok();
    in_order(&down.stderr, &["running  pod/save", "running  pod/second", "configmap/settings", "running  pod/bye"]);
    assert!(world.get("configmap", "settings").is_null());
    assert!(world.get("pod", "save").is_null(), "it goes when it has succeeded");
    assert!(world.get("pod", "second").is_object() && world.get("pod", "bye").is_object(), "these say nothing, and stay as with Helm");
    assert!(down.stderr.contains("namespace/extra stays: it holds configmap/guest"), "{}", down.stderr);

    // What is gone on with runs no hook twice.
    let again = world.strake(&["down", "app", "--all"]).ok();
    assert!(!again.stderr.contains("running"), "{}", again.stderr);
    assert!(world.strake(&["down", "app"]).ok().stdout.contains("nothing of set app is there"));
    // A set that was made anew is deleted with its hooks again.
    world.strake(&["apply", "app", "--no-wait"]).ok();
    in_order(&world.strake(&["down", "app", "--all"]).ok().stderr, &["running  pod/save", "running  pod/second", "running  pod/bye"]);
    world.stop();
}

#[test]
fn hooks_of_a_way_back_and_of_a_failure_run_there_and_nowhere_else() {
    needs!("busybox");
    let world = World::with_busybox();
    let app = |version: &str, more: &str| {
        let text = hook("before", "echo goes back", "helm.sh/hook: pre-rollback")
            + &hook("after", "echo is back", "helm.sh/hook: 'post-rollback,post-upgrade'")
            + &hook("alarm", "echo it has failed", "argocd.argoproj.io/hook: SyncFail, argocd.argoproj.io/hook-delete-policy: HookSucceeded")
            + &map("settings", "", version)
            + more;
        world.write("app/app.yaml", text);
        world.strake(&["apply", "app", "--timeout", "600", "-o", "json"])
    };
    assert_eq!(ran(&app("1", "").ok().stdout), [""; 0]);
    assert_eq!(ran(&app("2", "").ok().stdout), ["after"], "it is for an upgrade too");
    let back = world.strake(&["rollback", "app"]).ok();
    in_order(&back.all(), &["running  pod/before", "running  pod/after"]);
    assert_eq!(world.get("configmap", "settings")["data"]["value"], "1");
    // An apply that fails says so by its own error, whatever the hook does.
    let failed = app("3", &pod("bad", "echo no; exit 7", "  restartPolicy: Never\n"));
    assert_eq!((failed.code, ran(&failed.stdout)), (1, vec!["alarm".to_owned()]), "{}", failed.all());
    assert!(failed.stdout.contains("it has failed") && failed.all().contains("exited with code 7"), "{}", failed.all());
    assert!(world.get("pod", "alarm").is_null());
    // What was never sent has not failed.
    let refused = world.strake(&["apply", "app", "--lock-wait", "0", "--context", "nowhere"]);
    assert!(refused.code != 0 && !refused.all().contains("alarm"), "{}", refused.all());
    world.stop();
}

#[test]
fn tests_of_what_is_deployed_run_when_they_are_asked_for() {
    needs!("busybox", "kubectl");
    let world = World::with_busybox();
    world.write("app/app.yaml", map("settings", "", "1"));
    world.strake(&["test", "app"]).fails(1, "is not deployed");
    world.strake(&["apply", "app"]).ok();
    world.strake(&["test", "app"]).fails(1, "has no tests");
    let app = |script: &str| {
        hook("smoke", script, "helm.sh/hook: test, helm.sh/hook-weight: '1'")
            + &hook("first", "echo first", "helm.sh/hook: test-success")
            + &map("settings", "", "1")
    };
    world.write("app/app.yaml", app("echo it answers"));
    world.strake(&["apply", "app"]).ok();
    assert!(world.get("pod", "smoke").is_null());
    for _ in 0..2 {
        let passed = world.strake(&["test", "app"]).ok();
        in_order(&passed.stderr, &["running  pod/first", "running  pod/smoke"]);
        assert!(passed.stdout.contains("2 tests passed of revision 2") && passed.stderr.contains("it answers"), "{}", passed.all());
    }
    let json: Value = serde_json::from_str(&world.strake(&["test", "--set", "app", "-o", "json"]).ok().stdout).expect("JSON");
    assert_eq!(json["passed"].as_array().map(Vec::len), Some(2));
    world.write("app/app.yaml", app("echo it is silent; exit 9"));
    world.strake(&["apply", "app"]).ok();
    let failed = world.strake(&["test", "app"]).fails(3, "exited with code 9");
    assert!(failed.stderr.contains("it is silent"), "{}", failed.stderr);
    // A pod that somebody else has made is not deleted for a test.
    world.strake(&["delete", "pod", "smoke"]).ok();
    world.write("own.yaml", pod("smoke", "sleep 1000", ""));
    world.kubectl(&["apply", "-f", "own.yaml"]).ok();
    world.strake(&["test", "app"]).fails(1, "this set has not made it");
    world.stop();
}

#[test]
fn objects_go_by_the_rules_of_kapp_and_in_the_reverse_of_the_order_in_which_they_came() {
    needs!();
    let world = World::new();
    world.serve();
    let account = "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: runner}\n";
    let all = map("base", "", "1")
        + &map("above", "strake.dev/depends-on: cm/base=present", "1")
        + &map("first", "kapp.k14s.io/change-rule: 'delete before deleting {namespace}/late'", "1")
        + &map("late", "kapp.k14s.io/change-group: '{namespace}/late'", "1")
        + &map("orphan", "kapp.k14s.io/delete-strategy: orphan", "1")
        + account;
    let keep = map("keep", "", "1") + &map("keep-2", "", "1");
    let gone = |said: &str| {
        in_order(said, &["configmap/above", "configmap/base"]);
        in_order(said, &["configmap/first", "configmap/late"]);
        assert!(world.get("configmap", "orphan").is_object(), "kapp's word for it: it stays");
    };
    // Those that leave the directory.
    world.write("app/app.yaml", format!("{all}{keep}"));
    world.strake(&["apply", "app"]).ok();
    world.write("app/app.yaml", &keep);
    gone(&world.strake(&["apply", "app", "--allow-mass-delete"]).ok().stderr);
    // All of them.
    world.strake(&["delete", "configmap", "orphan"]).ok();
    world.write("app/app.yaml", format!("{all}{keep}"));
    world.strake(&["apply", "app"]).ok();
    gone(&world.strake(&["down", "app"]).ok().stderr);
    world.stop();
}
