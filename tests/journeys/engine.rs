//! How an apply goes: in the order that was asked for, one at a time, and on after whatever ended it.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;
use strake_tests::{Dice, Follow, PATIENCE, World, needs, pod, until};

fn map(name: &str, annotations: &str, value: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\ndata: {{value: \"{value}\"}}\n")
}

/// A pod that is ready once somebody has touched `/tmp/ready` in it; what it needs comes with `annotations`.
fn gate(name: &str, annotations: &str) -> String {
    let text = pod(name, "while true; do sleep 0.1; done", "").replace("metadata: {", &format!("metadata: {{annotations: {{{annotations}}}, "));
    text + "      readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1000}\n"
}

/// A pod that runs a script to its end, as a hook.
fn hook(name: &str, script: &str, annotations: &str) -> String {
    pod(name, script, "  restartPolicy: Never\n").replace("metadata: {", &format!("metadata: {{annotations: {{{annotations}}}, "))
}

fn open(world: &World, name: &str) {
    world.eventually(&format!("{name} is opened"), || world.sh(name, "touch /tmp/ready").code == 0);
}

/// The events that `-o json` has printed.
fn events(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// `applied web` and the like.
fn short(text: &str) -> Vec<String> {
    let name = |event: &Value| event["object"]["name"].as_str().unwrap_or_default().to_owned();
    events(text).iter().map(|event| format!("{} {}", event["event"].as_str().unwrap_or_default(), name(event))).collect()
}

fn apply(world: &World, args: &[&str]) -> Follow {
    Follow::start(world.strake_command(&[&["apply", "app", "--timeout", "600"], args].concat()))
}

fn value(world: &World, name: &str) -> String {
    world.get("configmap", name)["data"]["value"].as_str().unwrap_or_default().to_owned()
}

fn journal(world: &World) -> Value {
    let inventory = world.get("secret", "strake-set-app");
    serde_json::from_str(inventory["metadata"]["annotations"]["strake.dev/journal"].as_str().unwrap_or("null")).expect("JSON")
}

#[test]
fn an_object_begins_when_what_it_depends_on_is_ready_and_others_do_not_wait() {
    needs!("busybox");
    let world = World::with_busybox();
    let text = gate("db", "") + &map("after", "strake.dev/depends-on: pod/db", "1") + &map("second", "strake.dev/depends-on: cm/after=present", "1");
    world.write("app/app.yaml", text + &map("zz-free", "", "1"));
    let apply = apply(&world, &["-o", "json"]);
    apply.says("the waiting", |said| short(said).iter().any(|event| event == "waiting db"));
    assert_eq!(value(&world, "zz-free"), "1", "nothing keeps it");
    assert!(world.get("configmap", "after").is_null() && world.get("configmap", "second").is_null());
    assert_eq!((journal(&world)["status"].as_str(), journal(&world)["total"].as_i64()), (Some("running"), Some(4)));
    open(&world, "db");
    let ran = apply.end().ok();
    let said = short(&ran.stdout);
    let place = |wanted: &str| said.iter().position(|event| event == wanted).unwrap_or_else(|| panic!("no {wanted} in {said:?}"));
    assert!(place("applied zz-free") < place("ready db") && place("ready db") < place("applied after") && place("applied after") < place("applied second"));
    assert_eq!(said.last().map(String::as_str), Some("done "));
    assert_eq!(journal(&world)["status"], "done");
    world.stop();
}

#[test]
fn a_cycle_and_a_missing_dependency_are_said_before_anything_is_done() {
    needs!();
    let world = World::new();
    world.serve();
    let text = map("a", "strake.dev/depends-on: cm/b", "1") + &map("b", "strake.dev/depends-on: cm/a", "1");
    world.write("app/app.yaml", &text);
    let said = world
        .strake(&["apply", "app"])
        .fails(1, "these come after each other: configmap/a in default -> configmap/b in default -> configmap/a in default")
        .stderr;
    assert!(said.contains("dependency-cycle") && said.contains("configmap/b in default comes after configmap/a in default"), "{said}");
    assert!(said.contains("4 | metadata: {name: a") && said.contains("9 | metadata: {name: b"), "a place for each: {said}");
    world.write("app/app.yaml", map("a", "strake.dev/depends-on: secret/elsewhere", "1") + &map("b", "", "1"));
    world.strake(&["apply", "app"]).fails(1, "needs secret/elsewhere in default, which is neither in the set nor in the cluster");
    assert!(world.get("configmap", "b").is_null(), "nothing was applied");
    world.write("other/app.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: elsewhere}\n");
    world.strake(&["apply", "other"]).ok();
    world.strake(&["apply", "app"]).ok();
    world.stop();
}

#[test]
fn a_refusal_stops_what_needs_it_and_nothing_else() {
    needs!();
    let world = World::new();
    world.serve();
    // The server refuses it: another kind of Secret cannot be made of this one.
    world.write("other/app.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: fixed}\nimmutable: true\nstringData: {a: b}\n");
    world.strake(&["apply", "other"]).ok();
    let refused = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: fixed}\nimmutable: true\nstringData: {a: c}\n";
    let text = refused.to_owned() + &map("needs", "strake.dev/depends-on: secret/fixed=present", "1") + &map("free", "", "1");
    world.write("app/app.yaml", text);
    let said = world.strake(&["apply", "app", "--force-conflicts"]).fails(1, "1 object refused, 1 object not begun because of that").stderr;
    assert!(said.contains("skipped  configmap/needs in default: it needs secret/fixed in default"), "{said}");
    assert_eq!(value(&world, "free"), "1");
    assert!(world.get("configmap", "needs").is_null());
    assert_eq!(journal(&world)["status"], "failed");
    world.stop();
}

#[test]
fn a_failed_hook_before_the_rest_changes_nothing_and_a_good_one_runs_once_for_each_definition() {
    needs!("busybox");
    let world = World::with_busybox();
    let before = "strake.dev/hook: before";
    let app = |script: &str, version: &str| hook("migrate", script, before) + &map("settings", "", version) + &map(&format!("new-{version}"), "", version);
    world.write("app/app.yaml", map("settings", "", "1"));
    world.strake(&["apply", "app"]).ok();
    world.write("app/app.yaml", app("echo cannot migrate; exit 3", "2"));
    let said = world.strake(&["apply", "app", "--timeout", "120"]).fails(1, "not begun").stderr;
    assert!(said.contains("migrate | cannot migrate") && said.contains("exited with code 3"), "its log and why: {said}");
    assert!(said.contains("configmap/settings in default: it comes after pod/migrate in default"), "{said}");
    assert_eq!(value(&world, "settings"), "1");
    assert!(world.get("configmap", "new-2").is_null());

    world.write("app/app.yaml", app("echo migrated", "2"));
    let said = world.strake(&["apply", "app", "--timeout", "120", "--no-logs"]).ok().stderr;
    assert!(!said.contains("migrate |"), "--no-logs: {said}");
    assert_eq!(value(&world, "settings"), "2");
    let uid = || world.get("pod", "migrate")["metadata"]["uid"].as_str().expect("it stays").to_owned();
    let first = uid();
    let again = world.strake(&["apply", "app", "--timeout", "120"]).ok();
    assert!(again.stdout.contains("nothing to change"), "{}", again.all());
    assert!(world.strake(&["plan", "app"]).ok().stdout.contains("migrate") || world.strake(&["plan", "app"]).code == 0);
    world.write("app/app.yaml", app("echo migrated", "3"));
    world.strake(&["apply", "app", "--timeout", "120"]).ok();
    assert_eq!(uid(), first, "the definition is the same: it is not run again");
    world.write("app/app.yaml", app("echo migrated; echo more", "3"));
    let said = world.strake(&["apply", "app", "--timeout", "120"]).ok().stderr;
    assert!(said.contains("migrate | more") && uid() != first, "{said}");
    world.stop();
}

#[test]
fn hooks_of_helm_and_argo_run_on_their_occasions_and_go_when_they_want_to() {
    needs!("busybox");
    let world = World::with_busybox();
    let app = |version: &str| {
        hook("first", "echo installs", "helm.sh/hook: pre-install")
            + &hook("each", "echo upgrades", "helm.sh/hook: pre-upgrade, helm.sh/hook-delete-policy: hook-succeeded")
            + &hook("last", "echo smokes", "argocd.argoproj.io/hook: PostSync, argocd.argoproj.io/hook-delete-policy: BeforeHookCreation")
            + &map("settings", "", version)
    };
    let run = |version: &str| {
        world.write("app/app.yaml", app(version));
        let said = world.strake(&["apply", "app", "--timeout", "120", "-o", "json"]).ok().stdout;
        events(&said).iter().filter(|event| event["event"] == "log").map(|event| event["line"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(run("1"), ["installs", "smokes"]);
    assert_eq!(run("1"), [""; 0], "nothing changes, so nothing runs");
    assert_eq!(run("2"), ["upgrades", "smokes"]);
    assert!(world.get("pod", "each").is_null(), "it is deleted when it has succeeded");
    assert!(world.get("pod", "last").is_object());
    world.strake(&["plan", "app"]).ok();
    world.stop();
}

#[test]
fn complaint_10_the_way_back_neither_runs_nor_deletes_hooks() {
    needs!("busybox");
    let world = World::with_busybox();
    let before = "strake.dev/hook: before";
    let apply = |script: &str, version: &str, more: &str| {
        world.write("app/app.yaml", hook("migrate", script, before) + &map("settings", "", version) + more);
        world.strake(&["apply", "app", "--timeout", "120"]).ok()
    };
    let uid = |name: &str| world.get("pod", name)["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    apply("echo one", "1", "");
    let first = uid("migrate");
    let seed = hook("seed", "echo seeds", before);
    apply("echo two", "2", &seed);
    let ran = (uid("migrate"), uid("seed"));
    assert!(ran.0 != first && !ran.0.is_empty() && !ran.1.is_empty());

    let back = world.strake(&["rollback", "app", "--timeout", "120"]).ok();
    assert!(!back.all().contains("migrate |") && back.stdout.contains("not run on the way back"), "{}", back.all());
    assert_eq!(value(&world, "settings"), "1");
    assert_eq!((uid("migrate"), uid("seed")), ran, "what has run is as it was");
    // Forward again: what the way back has left alone was done before.
    let forward = apply("echo two", "2", &seed);
    assert!(!forward.stderr.contains("migrate |") && !forward.stderr.contains("seed |"), "{}", forward.all());
    assert_eq!((value(&world, "settings").as_str(), uid("migrate"), uid("seed")), ("2", ran.0.clone(), ran.1.clone()));
    // It is a member all the time: one that leaves the directory goes.
    apply("echo two", "2", "");
    assert_eq!((uid("migrate"), uid("seed").as_str()), (ran.0, ""));
    world.stop();
}

#[test]
fn a_second_apply_of_a_set_waits_or_says_who_holds_the_lock() {
    needs!("busybox");
    let world = World::with_busybox();
    world.write("app/app.yaml", gate("web", ""));
    let first = apply(&world, &["--progress", "plain"]);
    first.says("the waiting", |said| said.contains("waiting  pod/web"));
    let refused = world.strake(&["apply", "app", "--lock-wait", "0"]).fails(5, "another apply of set `app` goes on: ").stderr;
    assert!(refused.contains(&format!("(pid {})", first.pid().as_raw_pid())), "{refused}");
    let second = apply(&world, &["--progress", "plain"]);
    second.says("that it waits for the first", |said| said.contains("another apply of this set goes on"));
    open(&world, "web");
    first.end().ok();
    assert!(second.end().ok().stdout.contains("nothing to change"));
    world.stop();
}

#[test]
fn a_lock_of_another_machine_holds_while_its_heartbeat_is_fresh() {
    needs!();
    let world = World::new();
    world.serve();
    let lease = |renewed: &str| {
        let spec =
            format!("{{holderIdentity: ci@elsewhere, leaseDurationSeconds: 3600, acquireTime: '{renewed}', renewTime: '{renewed}', leaseTransitions: 7}}");
        world.write("lock/lease.yaml", format!("apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {{name: strake-set-app}}\nspec: {spec}\n"));
        world.strake(&["apply", "lock", "--force-conflicts"]).ok();
    };
    world.write("app/app.yaml", map("settings", "", "1"));
    lease(world.run("date", &["-u", "+%Y-%m-%dT%H:%M:%S.000000Z"]).ok().stdout.trim());
    world.strake(&["apply", "app", "--lock-wait", "0"]).fails(5, "ci@elsewhere has it since");
    assert!(world.get("configmap", "settings").is_null());
    lease("2020-01-01T00:00:00.000000Z");
    world.strake(&["apply", "app", "--lock-wait", "0"]).ok();
    let token = world.get("lease", "strake-set-app")["spec"]["leaseTransitions"].clone();
    assert_eq!(token, 8, "each holder has a greater number");
    world.stop();
}

#[test]
fn an_apply_that_is_interrupted_or_killed_leaves_no_lock_and_the_next_goes_on() {
    needs!("busybox");
    let world = World::with_busybox();
    world.write("app/app.yaml", gate("web", "") + &map("after", "strake.dev/depends-on: pod/web", "1"));
    let waits = |apply: &Follow| apply.says("the waiting", |said| said.contains("waiting  pod/web"));
    let mut first = apply(&world, &["--progress", "plain"]);
    waits(&first);
    first.signal(Signal::INT);
    first.end().fails(130, "interrupted");
    assert_eq!(journal(&world)["status"], "interrupted");
    // A lock that is free is taken without waiting; so is one of a process that is no more.
    let second = apply(&world, &["--progress", "plain", "--lock-wait", "0"]);
    waits(&second);
    assert!(second.stderr().contains("was interrupted"), "{}", second.stderr());
    second.kill();
    assert_eq!(journal(&world)["status"], "running");
    let third = apply(&world, &["--progress", "plain", "--lock-wait", "0"]);
    third.says("that it goes on", |said| said.contains("did not reach its end"));
    open(&world, "web");
    third.end().ok();
    assert_eq!((value(&world, "after").as_str(), journal(&world)["status"].as_str()), ("1", Some("done")));
    world.stop();
}

#[test]
fn a_hook_that_runs_when_its_apply_is_killed_is_not_run_twice() {
    needs!("busybox");
    let world = World::with_busybox();
    let script = "echo run; while test ! -e /tmp/ready; do sleep 0.1; done";
    world.write("app/app.yaml", hook("migrate", script, "argocd.argoproj.io/hook: PreSync") + &map("settings", "", "1"));
    let first = apply(&world, &["--progress", "plain"]);
    first.says("that the hook runs", |said| said.contains("migrate | run"));
    let uid = || world.get("pod", "migrate")["metadata"]["uid"].clone();
    let before = uid();
    first.kill();
    let second = apply(&world, &["--progress", "plain", "--lock-wait", "0"]);
    second.says("that the hook runs", |said| said.contains("migrate | run"));
    assert_eq!(uid(), before, "the same pod goes on");
    open(&world, "migrate");
    second.end().ok();
    assert_eq!((uid(), value(&world, "settings")), (before, "1".to_owned()));
    world.stop();
}

#[test]
fn what_a_killed_apply_had_deleted_to_make_it_anew_is_made_by_the_next() {
    needs!("busybox");
    let world = World::with_busybox();
    // It goes when it is allowed to.
    let script = "trap 'while test ! -e /tmp/ready; do sleep 0.1; done; exit 0' TERM; while true; do sleep 0.1; done";
    let app = |port: u16| {
        pod("web", script, "")
            .replace("GracePeriodSeconds: 0", "GracePeriodSeconds: 3600")
            .replace("      image:", &format!("      ports: [{{containerPort: {port}}}]\n      image:"))
    };
    world.write("app/app.yaml", app(80));
    world.strake(&["apply", "app", "--timeout", "120"]).ok();
    world.write("app/app.yaml", app(81));
    let killed = apply(&world, &["--replace"]);
    world.eventually("the pod is being deleted", || world.get("pod", "web")["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(journal(&world)["replacing"], serde_json::json!(["Pod./default/web"]));
    killed.kill();
    open(&world, "web");
    world.eventually("the pod is gone", || world.get("pod", "web").is_null());
    let said = world.strake(&["apply", "app", "--timeout", "120", "--lock-wait", "0"]).ok().stderr;
    assert!(said.contains("recreated pod/web in default"), "{said}");
    assert_eq!(world.get("pod", "web")["spec"]["containers"][0]["ports"][0]["containerPort"], 81);
    assert!(journal(&world)["replacing"].is_null());
    open(&world, "web");
    world.stop();
}

fn job(name: &str, script: &str) -> String {
    format!(
        "---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n      terminationGracePeriodSeconds: 1\n      containers: [{{name: main, image: 'busybox:1', command: [sh, -c, \"{script}\"]}}]\n"
    )
}

#[test]
fn jobs_are_hooks_in_the_order_of_the_projects_file_and_made_anew_when_they_change() {
    needs!("busybox");
    let world = World::with_busybox();
    world.write("app/strake.yaml", "hooks: {before: [job/second, job/first], after: [job/last]}\n");
    let app = |first: &str| {
        let jobs = job("first", first) + &job("second", "echo prepares") + &job("last", "echo smokes") + &job("plain", &format!("{first}; echo plainly"));
        world.write("app/app.yaml", jobs + &map("settings", "", first));
    };
    let run = || world.strake(&["apply", "app", "--timeout", "120", "-o", "json"]);
    let lines = |text: &str| -> Vec<String> {
        events(text).iter().filter(|event| event["event"] == "log").map(|event| event["line"].as_str().unwrap_or_default().to_owned()).collect()
    };
    app("echo migrates");
    assert_eq!(lines(&run().ok().stdout), ["prepares", "migrates", "migrates", "plainly", "smokes"]);
    let uid = |name: &str| world.get("job", name)["metadata"]["uid"].clone();
    let (first, second, plain) = (uid("first"), uid("second"), uid("plain"));
    // Nobody has to say --replace: a Job's template cannot be changed, and holds nothing.
    app("echo again");
    assert_eq!(lines(&run().ok().stdout), ["again", "again", "plainly"]);
    assert!(uid("first") != first && uid("plain") != plain && uid("second") == second);
    // One that fails stops everything that comes after it.
    app("exit 4");
    let said = run().fails(1, "not begun").stderr;
    assert!(said.contains("job/first") && said.contains("configmap/settings in default: it comes after job/first in default"), "{said}");
    assert_eq!(value(&world, "settings"), "echo again");
    world.stop();
}

#[test]
fn a_rollback_that_is_interrupted_says_how_to_go_on_and_goes_on() {
    needs!("busybox");
    let world = World::with_busybox();
    world.write("app/gate.yaml", gate("web", ""));
    world.write("app/app.yaml", map("settings", "", "one"));
    let applied = apply(&world, &[]);
    open(&world, "web");
    applied.end().ok();
    std::fs::remove_file(world.path("app/gate.yaml")).expect("removed");
    world.write("app/app.yaml", map("settings", "", "two"));
    world.strake(&["apply", "app", "--allow-mass-delete"]).ok();
    // The pod is made anew, and is not ready by itself.
    let back = || Follow::start(world.strake_command(&["rollback", "1", "--set", "app", "--timeout", "600"]));
    let mut first = back();
    world.eventually("the way back has begun", || value(&world, "settings") == "one" && world.get("pod", "web").is_object());
    assert!(first.hears());
    first.signal(Signal::INT);
    let ended = first.end();
    assert_eq!(ended.code, 130, "{}", ended.all());
    assert!(ended.stderr.contains("`strake rollback 1 --set app -n default` goes on with it"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("strake down"), "nobody who wants to go back wants to lose everything: {}", ended.stderr);
    let again = Follow::start(world.strake_command(&["rollback", "--set", "app", "--timeout", "600"]));
    again.says("where it goes", |said| said.contains("back to revision 1"));
    open(&world, "web");
    again.end().ok();
    assert_eq!(value(&world, "settings"), "one");
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn a_rollout_in_which_nothing_happens_is_given_up_when_that_is_wanted() {
    needs!("busybox");
    let world = World::with_busybox();
    world.write("app/app.yaml", gate("silent", ""));
    let given_up = world.strake(&["apply", "app", "--timeout", "3600", "--no-activity-timeout", "2"]);
    assert_eq!(given_up.code, 3, "{}", given_up.all());
    assert!(given_up.stderr.contains("nothing has changed for 2 s") && given_up.stderr.contains("pod/silent"), "{}", given_up.stderr);
    world.strake(&["apply", "app", "--no-activity-timeout", "0"]).fails(2, "--no-activity-timeout");
    // What gets ready is no such rollout, however long it takes: the same apply ends well.
    let going = apply(&world, &["--no-activity-timeout", "600"]);
    open(&world, "silent");
    going.end().ok();
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn the_health_of_a_kind_is_what_the_project_says() {
    needs!("kubectl");
    let world = World::new();
    world.serve();
    let health = "health:\n  ConfigMap: {current: 'object.data.value == \"up\"', failed: 'object.data.value.startsWith(\"lost\")'}\n";
    world.write("app/strake.yaml", health);
    world.write("app/app.yaml", map("settings", "", "starting"));
    let applied = apply(&world, &[]);
    let status = || world.strake(&["status", "--set", "app"]).stdout;
    world.eventually("it is waited for", || status().contains("is not true yet"));
    world.kubectl(&["patch", "configmap", "settings", "-p", "{\"data\":{\"value\":\"up\"}}"]).ok();
    applied.end().ok();
    assert!(status().contains("healthy"), "{}", status());
    // One that says it itself is not judged by the project.
    let own = map("other", "strake.dev/health-current: 'object.data.value == \"lost and found\"'", "lost and found");
    world.write("app/app.yaml", format!("{}{own}", map("settings", "", "up")));
    world.strake(&["apply", "app"]).ok();
    world.write("app/app.yaml", map("settings", "", "lost"));
    let lost = world.strake(&["apply", "app", "--allow-mass-delete"]);
    assert_eq!(lost.code, 3, "{}", lost.all());
    assert!(lost.stderr.contains("startsWith") && lost.stderr.contains("is true"), "{}", lost.stderr);
    world.write("app/strake.yaml", "health: {ConfigMap: {current: 'object.data.'}}\n");
    world.strake(&["apply", "app"]).fails(1, "the expression cannot be used");
    world.strake(&["down", "--set", "app"]).ok();
    world.stop();
}

/// Every object of the set, as `kind/name`.
fn members(world: &World) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for kind in ["configmaps", "secrets", "serviceaccounts", "services"] {
        let of_set = |object: &Value| object["metadata"]["labels"]["applyset.kubernetes.io/part-of"].is_string();
        let all = world.list(kind).into_iter().filter(of_set);
        found.extend(all.map(|object| format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap_or_default())));
    }
    found
}

#[test]
fn kill_9_of_an_apply_at_any_operation_then_the_same_command_ends_in_the_same_state() {
    needs!();
    let world = World::new();
    world.serve();
    let kinds = [("configmaps", "ConfigMap"), ("secrets", "Secret"), ("serviceaccounts", "ServiceAccount")];
    let mut dice = Dice::new(7);
    for round in 0..10u64 {
        // Each round has a kind of its own more, and objects that the one before did not have: what that one made has to go.
        let mut text = String::new();
        let mut wanted = BTreeSet::new();
        for number in 0..8u64 {
            let (plural, kind) = kinds[((number + round) % (1 + round % 3)) as usize];
            let name = format!("r{}-{number}", round % 4);
            text.push_str(&format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, annotations: {{round: \"{round}\"}}}}\n"));
            wanted.insert(format!("{plural}/{name}"));
        }
        world.write("app/app.yaml", text);
        // At the event of this number, or a moment after it; the last ones are of the prune, and of after the end.
        let point = (round as usize * 2) % 13;
        let mut killed = apply(&world, &["-o", "json", "--allow-mass-delete"]);
        until(PATIENCE, || killed.stdout().lines().count() >= point || killed.has_ended());
        std::thread::sleep(dice.millis(6));
        killed.kill();
        let ran = world.strake(&["apply", "app", "--allow-mass-delete", "--lock-wait", "0"]);
        assert_eq!(ran.code, 0, "round {round}: {}", ran.all());
        assert_eq!(members(&world), wanted, "round {round}: nothing is missing, and nothing orphaned");
        assert_eq!(journal(&world)["status"], "done", "round {round}");
    }
    let ran = world.strake(&["apply", "app"]).ok();
    assert!(ran.stdout.contains("nothing to change"), "{}", ran.all());
    world.strake(&["down", "app"]).ok();
    assert!(members(&world).is_empty());
    assert!(world.list("leases").is_empty(), "the lock goes with the set");
    world.stop();
}
