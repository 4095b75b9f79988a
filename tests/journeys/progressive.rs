//! Rollouts in steps: a canary beside the old pods, blue-green behind a Service, and back when the new version is not good.

use serde_json::Value;
use strake_tests::{Follow, World, needs};

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

/// The versions that the Service's pods have now, sorted.
fn answering(world: &World) -> Vec<String> {
    let selector = world.get("service", "web")["spec"]["selector"].clone();
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
