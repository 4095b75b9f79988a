//! Rollouts in steps: a canary beside the old pods, blue-green behind a Service, and back when the new version is not good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use strake_tests::{Dice, Follow, World, needs};

use crate::rollout::ask_always;

/// Pods that answer with their version; what is in `/www/ok` is for the check.
fn web(version: &str, strategy: &str, replicas: usize) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations: {{{strategy}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: busybox:1
          command: [sh, -c, \"echo {version} > /www/index.html; test {version} = bad || touch /www/ok; exec httpd -f -p 8080 -h /www\"]
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"
    )
}

/// The versions that the pods have now which the Service `web` selects, sorted.
fn answering(world: &World) -> Vec<String> {
    answering_by(world, "web")
}

fn answering_by(world: &World, service: &str) -> Vec<String> {
    let selector = world.get("service", service)["spec"]["selector"].clone();
    let selects = |pod: &Value| selector.as_object().is_some_and(|map| map.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value));
    let pods = world.list("pods");
    let ready = |pod: &&Value| {
        pod["metadata"]["deletionTimestamp"].is_null()
            && pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
    };
    let version = |pod: &Value| {
        let text = pod["spec"]["containers"][0]["command"][2].as_str().unwrap_or_default();
        text.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    let mut found: Vec<String> = pods.iter().filter(|pod| selects(pod)).filter(ready).map(version).collect();
    found.sort();
    found
}

fn begin(world: &World, manifests: &str) -> Follow {
    world.write("web/app.yaml", manifests);
    Follow::start(world.strake_command(&["apply", "web", "--timeout", "300", "--progress", "plain"]))
}

/// Nothing of a rollout is left, and a second apply has nothing to do.
fn is_over(world: &World, version: &str, replicas: usize) {
    world.eventually("only pods of the Deployment are left", || answering(world) == vec![version; replicas] && world.list("pods").len() == replicas);
    assert_eq!(world.list("deployments").len(), 1, "the one beside it is gone");
    let service = world.get("service", "web");
    assert_eq!(service["spec"]["selector"], serde_json::json!({"app": "web"}));
    assert_eq!(world.get("deployment", "web")["spec"]["replicas"], replicas);
}

/// Nothing in the cluster tells that there ever was a rollout in steps, but for what the manifests say.
#[track_caller]
fn is_clean(world: &World, services: &[&str]) {
    for set in world.list("replicasets") {
        let metadata = &set["metadata"];
        assert_eq!(metadata["ownerReferences"][0]["name"], "web", "{metadata:#}");
        assert!(metadata["labels"]["strake.dev/track"].is_null(), "{metadata:#}");
    }
    let names = |kind: &str| world.list(kind).iter().map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    assert_eq!(names("deployments"), ["web"]);
    let mut found = names("services");
    found.retain(|name| name != "kubernetes");
    assert_eq!(found, services);
    for object in services.iter().map(|name| world.get("service", name)).chain([world.get("deployment", "web")]) {
        let metadata = &object["metadata"];
        for key in ["strake.dev/rollout", "strake.dev/rollout-command", "strake.dev/switched-for"] {
            assert!(metadata["annotations"][key].is_null(), "{key}: {metadata:#}");
        }
        assert!(metadata["managedFields"].as_array().is_some_and(|all| !all.is_empty()), "ownership is shown: {metadata:#}");
        assert!(!metadata["managedFields"].to_string().contains("strake-rollout"), "the rollout owns nothing any more: {metadata:#}");
    }
}

/// The same where the Deployment says nothing of steps.
#[track_caller]
fn is_plain(world: &World) {
    is_clean(world, &["web"]);
    let annotations = world.get("deployment", "web")["metadata"]["annotations"].to_string();
    assert!(!annotations.contains("strake.dev/st"), "neither strategy nor steps: {annotations}");
}

/// The same pods behind a port of the node, with time to be let go of.
fn at_a_port(manifests: &str) -> String {
    let manifests = manifests.replace("terminationGracePeriodSeconds: 1\n", "terminationGracePeriodSeconds: 5\n");
    let manifests =
        manifests.replace("          readinessProbe", "          lifecycle: {preStop: {exec: {command: [sleep, '0.5']}}}\n          readinessProbe");
    manifests
        .replace("targetPort: 8080}]", "targetPort: 8080, nodePort: 30081}]")
        .replace("  selector: {app: web}\n  ports", "  type: NodePort\n  selector: {app: web}\n  ports")
}

fn changes_nothing(world: &World) {
    let versions = || ["deployment", "service"].map(|kind| world.get(kind, "web")["metadata"]["generation"].clone());
    let before = versions();
    let again = world.strake(&["apply", "web", "--timeout", "120"]).ok();
    assert!(again.stdout.contains("nothing to change"), "{}", again.all());
    assert_eq!(versions(), before);
    assert_eq!(world.list("deployments").len(), 1);
}

#[test]
fn a_canary_goes_step_by_step_and_pauses_until_somebody_promotes_it() {
    needs!("busybox");
    let world = World::with_busybox();
    let strategy = "strake.dev/strategy: canary, strake.dev/steps: '25%, pause, 50%, pause 100ms', strake.dev/check: 'http://:8080/ok'";
    world.apply("web", &web("v1", strategy, 4)).ok();
    assert_eq!(world.list("deployments").len(), 1, "the first version has nothing to be compared with");
    changes_nothing(&world);
    world.write("web/app.yaml", web("v2", strategy, 4));
    let plan = world.strake(&["plan", "web"]);
    assert!(plan.stdout.contains("rolled out by canary: 25%, pause, 50%, pause 100ms, 100%; check http://:8080/ok"), "{}", plan.all());
    assert_eq!(world.list("deployments").len(), 1, "a plan begins nothing");

    let apply = begin(&world, &web("v2", strategy, 4));
    apply.says("the pause", |said| said.contains("paused until `strake rollout promote deployment/web"));
    world.eventually("a quarter is new", || answering(&world) == ["v1", "v1", "v1", "v2"]);
    let status = world.strake(&["rollout", "status", "deployment/web"]).ok().stdout;
    assert!(status.contains("canary, step 2 of 5 (pause)") && status.contains("paused until"), "{status}");
    world.strake(&["rollout", "promote", "deployment/web"]).ok();
    let ran = apply.end().ok();
    for place in ["step 3 of 5 (50%)", "step 5 of 5 (100%)", "all 5 steps passed"] {
        assert!(ran.stderr.contains(place), "{place}: {}", ran.all());
    }
    is_over(&world, "v2", 4);
    changes_nothing(&world);
    world.strake(&["rollout", "promote", "deployment/web"]).fails(1, "no canary or blue-green rollout");
    // The way back is a rollout too.
    let back = Follow::start(world.strake_command(&["rollback", "--set", "web", "--timeout", "300"]));
    back.says("the pause", |said| said.contains("paused until"));
    world.strake(&["rollout", "promote", "deployment/web", "--all"]).ok();
    back.end().ok();
    is_over(&world, "v1", 4);
    world.stop();
}

#[test]
fn a_canary_that_does_not_pass_goes_back_with_the_reason() {
    needs!("busybox");
    let world = World::with_busybox();
    let strategy = "strake.dev/strategy: canary, strake.dev/steps: '50%', strake.dev/check: 'exec: test -e /www/ok || { echo nothing there; exit 7; }'";
    world.apply("web", &web("v1", strategy, 2)).ok();
    let bad = world.apply("web", &web("bad", strategy, 2));
    assert_eq!(bad.code, 3, "{}", bad.all());
    for words in ["did not pass the check", "it ended with 7: nothing there", "the old version serves", "deployment/web"] {
        assert!(bad.stderr.contains(words), "{words}: {}", bad.all());
    }
    is_over(&world, "v1", 2);
    // Pods that never get ready are given up as any others are.
    let lost = world.apply("web", &web("v3", strategy, 2).replace("exec httpd", "echo cannot start; exit 4; exec httpd"));
    assert_eq!(lost.code, 3, "{}", lost.all());
    assert!(lost.stderr.contains("the new pods did not get ready") && lost.stderr.contains("cannot start"), "{}", lost.all());
    is_over(&world, "v1", 2);
    // And what is good by now is rolled out.
    world.apply("web", &web("v4", strategy, 2)).ok();
    is_over(&world, "v4", 2);
    // In a hurry there are no steps.
    world.write("web/app.yaml", web("bad", strategy, 2));
    world.strake(&["apply", "web", "--timeout", "120", "--at-once"]).ok();
    is_over(&world, "bad", 2);
    world.stop();
}

#[test]
fn blue_green_switches_the_service_and_an_abort_brings_it_back() {
    needs!("busybox");
    let world = World::with_busybox();
    let strategy = "strake.dev/strategy: blue-green, strake.dev/steps: 'pause, switch, pause'";
    world.apply("web", &web("v1", strategy, 2)).ok();
    let pods = || world.list("pods").iter().filter(|pod| pod["metadata"]["labels"]["strake.dev/track"] == "web-blue-green").count();
    let apply = begin(&world, &web("v2", strategy, 2));
    apply.says("the first pause", |said| said.contains("step 1 of 3 (pause): paused until"));
    assert_eq!((pods(), answering(&world)), (2, vec!["v1".to_owned(); 2]), "the new ones are there, and do not answer");
    world.strake(&["rollout", "promote", "deployment/web"]).ok();
    apply.says("the second pause", |said| said.contains("step 3 of 3 (pause): paused until"));
    assert_eq!(answering(&world), ["v2", "v2"]);
    world.strake(&["rollout", "abort", "deployment/web"]).ok();
    let ran = apply.end();
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(ran.stderr.contains("aborted by"), "{}", ran.all());
    is_over(&world, "v1", 2);

    let apply = begin(&world, &web("v2", strategy, 2));
    apply.says("the first pause", |said| said.contains("step 1 of 3 (pause): paused until"));
    world.strake(&["rollout", "promote", "deployment/web", "--all"]).ok();
    apply.end().ok();
    is_over(&world, "v2", 2);
    changes_nothing(&world);
    world.stop();
}

#[test]
fn a_rollout_goes_on_after_kill_9_and_back_without_an_apply() {
    needs!("busybox");
    let world = World::with_busybox();
    let strategy = "strake.dev/strategy: canary, strake.dev/steps: '50%, pause'";
    let places = [("step 2 of 3 (pause): paused", ["v1", "v2"])];
    world.apply("web", &web("v1", strategy, 2)).ok();
    for (place, (words, answers)) in places.iter().enumerate() {
        // The same command is where the one before it was.
        for _ in 0..2 {
            let apply = begin(&world, &web("v2", strategy, 2));
            apply.says("the pause", |said| said.contains(words));
            world.eventually("the same answer", || answering(&world) == *answers);
            apply.kill();
        }
        if place + 1 < places.len() {
            world.strake(&["rollout", "promote", "deployment/web"]).ok();
        }
    }
    // Nobody applies: who aborts brings it back himself.
    let said = world.strake(&["rollout", "abort", "deployment/web"]).ok().stdout;
    assert!(said.contains("is back at the old version"), "{said}");
    is_over(&world, "v1", 2);
    // What was begun and is not wanted any more goes, and what is wanted comes.
    let apply = begin(&world, &web("v2", strategy, 2));
    apply.says("the pause", |said| said.contains("paused until"));
    apply.kill();
    world.apply("web", &web("v1", strategy, 2)).ok();
    is_over(&world, "v1", 2);
    // Without the annotation it is rolled out as any other, and nothing stays.
    let apply = begin(&world, &web("v2", strategy, 2));
    apply.says("the pause", |said| said.contains("paused until"));
    apply.kill();
    world.apply("web", &web("v3", "", 2)).ok();
    is_over(&world, "v3", 2);
    world.stop();
}

/// Two Services, of which one is switched already and the other is not.
#[test]
fn blue_green_goes_on_after_kill_9_in_the_middle_of_the_switch() {
    needs!("busybox", "kubectl");
    let world = World::with_busybox();
    let more = "---\napiVersion: v1\nkind: Service\nmetadata: {name: more}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n";
    let app = |version: &str| web(version, "strake.dev/strategy: blue-green, strake.dev/steps: 'pause, switch, pause'", 2) + more;
    let both = |version: &str| ["web", "more"].iter().all(|service| answering_by(&world, service) == [version, version]);
    world.apply("web", &app("v1")).ok();
    let apply = begin(&world, &app("v2"));
    apply.says("the first pause", |said| said.contains("step 1 of 3 (pause): paused until"));
    assert!(both("v1"));
    apply.kill();
    let switched = r#"{"spec":{"selector":{"app":"web","strake.dev/track":"web-blue-green","pod-template-hash":null}}}"#;
    world.kubectl(&["patch", "service", "web", "--type", "merge", "--field-manager", "strake-rollout", "-p", switched]).ok();
    world.eventually("one is switched and one is not", || answering_by(&world, "web") == ["v2", "v2"] && answering_by(&world, "more") == ["v1", "v1"]);
    // The same command mends that first: nobody has promoted it.
    let apply = begin(&world, &app("v2"));
    world.eventually("both are at the old ones", || both("v1"));
    apply.says("the first pause", |said| said.contains("step 1 of 3 (pause): paused until"));
    world.strake(&["rollout", "promote", "deployment/web"]).ok();
    apply.says("the second pause", |said| said.contains("step 3 of 3 (pause): paused until"));
    assert!(both("v2"));
    apply.kill();
    assert!(both("v2"), "without anybody who drives it");
    let apply = begin(&world, &app("v2"));
    apply.says("the second pause", |said| said.contains("step 3 of 3 (pause): paused until"));
    assert!(both("v2"));
    world.strake(&["rollout", "promote", "deployment/web"]).ok();
    apply.says("the end of the steps", |said| said.contains("all 3 steps passed"));
    apply.kill();
    world.strake(&["apply", "web", "--timeout", "300"]).ok();
    is_over(&world, "v2", 2);
    assert!(both("v2"));
    assert_eq!(world.get("service", "more")["spec"]["selector"], serde_json::json!({"app": "web"}));
    is_clean(&world, &["more", "web"]);
    changes_nothing(&world);
    world.stop();
}

#[test]
fn kill_9_at_any_moment_of_a_blue_green_rollout_then_the_same_command_ends_in_the_same_state() {
    needs!("busybox", "curl");
    let world = World::with_busybox();
    let strategy = "strake.dev/strategy: blue-green, strake.dev/steps: 'pause 200ms, switch, pause 200ms'";
    let app = |version: &str| at_a_port(&web(version, strategy, 2));
    world.apply("web", &app("v1")).ok();
    world.eventually("it answers", || world.run("curl", &["-s", "-m", "30", "http://127.0.0.1:30081/"]).stdout == "v1\n");
    let stop = Arc::new(AtomicBool::new(false));
    let asking = ask_always(&world, "127.0.0.1", &stop);
    let mut dice = Dice::new(11);
    for version in ["v2", "v3", "v4"] {
        let killed = begin(&world, &app(version));
        std::thread::sleep(dice.millis(5000));
        killed.kill();
        let ran = world.strake(&["apply", "web", "--timeout", "300", "--lock-wait", "0"]);
        assert_eq!(ran.code, 0, "{version}: {}", ran.all());
        is_over(&world, version, 2);
        is_clean(&world, &["web"]);
    }
    stop.store(true, Ordering::Relaxed);
    let (answered, failures) = asking.join().expect("no panic");
    assert!(failures.is_empty() && answered > 10, "{} of {} failed: {failures:?}", failures.len(), failures.len() + answered);
    changes_nothing(&world);
    world.stop();
}

#[test]
fn blue_green_that_does_not_pass_goes_back_by_itself_and_the_old_version_serves_all_the_time() {
    needs!("busybox", "curl");
    let world = World::with_busybox();
    let strategy = "strake.dev/strategy: blue-green, strake.dev/steps: 'pause 200ms, switch', strake.dev/check: 'http://:8080/ok'";
    let app = |version: &str| at_a_port(&web(version, strategy, 2));
    world.apply("web", &app("v1")).ok();
    world.eventually("it answers", || world.run("curl", &["-s", "-m", "30", "http://127.0.0.1:30081/"]).stdout == "v1\n");
    let stop = Arc::new(AtomicBool::new(false));
    // An answer of the bad version is a failure here.
    let asking = ask_always(&world, "127.0.0.1", &stop);
    let bad = world.apply("web", &app("bad"));
    assert_eq!(bad.code, 3, "{}", bad.all());
    for words in ["did not pass the check", "the old version serves", "deployment/web"] {
        assert!(bad.stderr.contains(words), "{words}: {}", bad.all());
    }
    is_over(&world, "v1", 2);
    is_clean(&world, &["web"]);
    let lost = world.apply("web", &app("bad").replace("exec httpd", "echo cannot start; exit 4; exec httpd"));
    assert_eq!(lost.code, 3, "{}", lost.all());
    assert!(lost.stderr.contains("the new pods did not get ready") && lost.stderr.contains("cannot start"), "{}", lost.all());
    is_over(&world, "v1", 2);
    is_clean(&world, &["web"]);
    world.apply("web", &app("v2")).ok();
    is_over(&world, "v2", 2);
    stop.store(true, Ordering::Relaxed);
    let (answered, failures) = asking.join().expect("no panic");
    assert!(failures.is_empty() && answered > 10, "{} of {} failed: {failures:?}", failures.len(), failures.len() + answered);
    world.stop();
}

/// The annotation goes: between two rollouts, and in the middle of one.
fn without_its_annotation(strategy: &str, steps: usize) {
    let world = World::with_busybox();
    world.apply("web", &web("v1", strategy, 2)).ok();
    let apply = begin(&world, &web("v2", strategy, 2));
    apply.says("a pause", |said| said.contains("paused until"));
    world.strake(&["rollout", "promote", "deployment/web", "--all"]).ok();
    apply.end().ok();
    is_over(&world, "v2", 2);
    let plain = world.apply("web", &web("v3", "", 2)).ok();
    assert!(!plain.stderr.contains("step 1 of"), "{}", plain.stderr);
    is_over(&world, "v3", 2);
    is_plain(&world);
    changes_nothing(&world);
    world.strake(&["rollout", "status", "deployment/web"]).ok();

    world.apply("web", &web("v3", strategy, 2)).ok();
    let apply = begin(&world, &web("v4", strategy, 2));
    for pause in 1..steps {
        apply.says("a pause", |said| said.matches("paused until").count() == pause);
        world.strake(&["rollout", "promote", "deployment/web"]).ok();
    }
    apply.says("the last pause", |said| said.matches("paused until").count() == steps);
    apply.kill();
    world.apply("web", &web("v5", "", 2)).ok();
    is_over(&world, "v5", 2);
    is_plain(&world);
    changes_nothing(&world);
    world.stop();
}

#[test]
fn a_canary_without_its_annotation_is_a_plain_rollout_and_nothing_stays() {
    needs!("busybox");
    without_its_annotation("strake.dev/strategy: canary, strake.dev/steps: '50%, pause'", 1);
}

#[test]
fn blue_green_without_its_annotation_is_a_plain_rollout_and_nothing_stays() {
    needs!("busybox");
    without_its_annotation("strake.dev/strategy: blue-green, strake.dev/steps: 'pause, switch, pause'", 2);
}
