//! Programs that run to their end, and what an apply says when something does not get there.

use serde_json::Value;
use strake_tests::{World, needs};

/// A Job of one container that runs a script; `more` are further fields of its specification, indented by two.
fn job(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).expect("JSON");
    format!(
        "---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n{more}  template:\n    spec:\n      restartPolicy: Never\n      terminationGracePeriodSeconds: 0\n      containers:\n        - name: main\n          image: busybox:1\n          command: [sh, -c, {script}]\n"
    )
}

/// A Deployment of one container; the lines of `container` are its further fields.
fn deployment(name: &str, script: &str, container: &[&str]) -> String {
    let script = serde_json::to_string(script).expect("JSON");
    let fields: String = container.iter().map(|line| format!("          {line}\n")).collect();
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: 1\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers:\n        - name: main\n          image: busybox:1\n          command: [sh, -c, {script}]\n{fields}"
    )
}

/// A container that has just started is not taken for a healthy one, however late its end is noticed.
const NEVER_READY: &str = "readinessProbe: {exec: {command: ['false']}, periodSeconds: 1}";

fn holds(object: &Value, condition: &str) -> bool {
    object["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == condition && one["status"] == "True"))
}

/// The pods of a Job that are there.
fn pods_of(world: &World, job: &str) -> Vec<Value> {
    world.list("pods").into_iter().filter(|pod| pod["metadata"]["labels"]["job-name"] == job).collect()
}

#[test]
fn a_job_is_applied_waited_for_read_and_removed() {
    needs!("busybox");
    let world = World::with_busybox();
    world.apply("work", &job("hello", "echo hello from the job", "")).ok();
    let done = world.get("job", "hello");
    assert!(holds(&done, "Complete"), "the apply waited for its end: {done}");
    assert_eq!((&done["status"]["succeeded"], &done["spec"]["backoffLimit"]), (&1.into(), &6.into()));
    assert_eq!(world.strake(&["logs", "job/hello"]).ok().stdout, "hello from the job\n");
    let table = world.strake(&["get", "jobs"]).ok().stdout;
    assert!(table.contains("COMPLETIONS") && table.contains("1/1") && table.contains("Complete"), "{table}");
    // The same manifests again change nothing and run nothing.
    world.apply("work", &job("hello", "echo hello from the job", "")).ok();
    assert_eq!(pods_of(&world, "hello").len(), 1);
    world.strake(&["down", "work"]).ok();
    world.eventually("its pods go with it", || pods_of(&world, "hello").is_empty());
    world.stop();
}

#[test]
fn indexed_pods_do_their_own_part_of_the_work() {
    needs!("busybox");
    let world = World::with_busybox();
    let more = "  completions: 3\n  parallelism: 2\n  completionMode: Indexed\n";
    world.apply("work", &job("parts", "echo part $JOB_COMPLETION_INDEX on $(hostname)", more)).ok();
    let done = world.get("job", "parts");
    assert_eq!((&done["status"]["succeeded"], &done["status"]["completedIndexes"]), (&3.into(), &"0-2".into()));
    let mut said: Vec<String> =
        pods_of(&world, "parts").iter().map(|pod| world.strake(&["logs", pod["metadata"]["name"].as_str().expect("a name")]).ok().stdout).collect();
    said.sort();
    assert_eq!(said, ["part 0 on parts-0\n", "part 1 on parts-1\n", "part 2 on parts-2\n"]);
    world.stop();
}

#[test]
fn complaint_19_a_job_that_fails_ends_the_wait_with_its_reason_and_its_log() {
    needs!("busybox");
    let world = World::with_busybox();
    let ran = world.apply("work", &job("migrate", "echo cannot reach the database; exit 3", "  backoffLimit: 0\n"));
    assert_ne!(ran.code, 0, "{}", ran.all());
    for part in ["BackoffLimitExceeded", "exited with code 3", "cannot reach the database", "app.yaml:"] {
        assert!(ran.all().contains(part), "{part} in {}", ran.all());
    }
    let failed = world.get("job", "migrate");
    assert!(holds(&failed, "Failed") && !holds(&failed, "Complete"), "{failed}");
    assert_eq!(failed["status"]["failed"], 1);
    // One that fails once and heals is no failure.
    let script = "test $(ls /marks | wc -l) -gt 0 && echo healed && exit 0; touch /marks/one; exit 1";
    let more = "  backoffLimit: 3\n";
    let retried = job("retry", script, more).replace("restartPolicy: Never", "restartPolicy: OnFailure");
    let retried = format!("{retried}          volumeMounts: [{{name: marks, mountPath: /marks}}]\n      volumes: [{{name: marks, emptyDir: {{}}}}]\n");
    world.apply("retry", &retried).ok();
    assert_eq!(world.strake(&["logs", "job/retry"]).ok().stdout, "healed\n");
    world.stop();
}

#[test]
fn complaint_01_a_failed_rollout_says_which_line_of_the_manifest_is_to_blame() {
    needs!("busybox");
    let world = World::with_busybox();
    let text = deployment("web", "echo reading /etc/none; exit 7", &[NEVER_READY]);
    let ran = world.apply("web", &text);
    assert_ne!(ran.code, 0, "{}", ran.all());
    let line = text.lines().position(|line| line.contains("command:")).expect("a command") + 1;
    let place = format!("spec.template.spec.containers[0].command is written at web/app.yaml:{line}");
    // It lies still or has just ended again: both name the code.
    assert!(ran.all().contains("exited with code 7") || ran.all().contains("last exit code 7"), "{}", ran.all());
    for part in ["made replicaset/web-", "pod web-", "reading /etc/none", "likely fix", &place] {
        assert!(ran.all().contains(part), "{part} in {}", ran.all());
    }
    // A probe that fails names the probe's line.
    let text = deployment("probed", "sleep 3600", &[NEVER_READY]);
    world.write("probed/app.yaml", &text);
    let ran = world.strake(&["apply", "probed", "--timeout", "30"]);
    assert_ne!(ran.code, 0, "{}", ran.all());
    let line = text.lines().position(|line| line.contains("readinessProbe")).expect("a probe") + 1;
    for part in ["readiness probe fails", &format!("readinessProbe is written at probed/app.yaml:{line}")] {
        assert!(ran.all().contains(part), "{part} in {}", ran.all());
    }
    // A container that needs more memory than it may have names its limit.
    let script = "x=1; while true; do x=$x$x; done";
    let text = deployment("hungry", script, &[NEVER_READY, "resources:", "  limits:", "    memory: 16Mi"]);
    let ran = world.apply("hungry", &text);
    assert_ne!(ran.code, 0, "{}", ran.all());
    let line = text.lines().position(|line| line.contains("memory:")).expect("a limit") + 1;
    assert!(ran.all().contains(&format!("resources.limits.memory is written at hungry/app.yaml:{line}")), "{}", ran.all());
    world.stop();
}

#[test]
fn complaint_02_a_restart_that_heals_fails_nothing_and_a_crash_loop_does_not_hang() {
    needs!("busybox");
    let world = World::with_busybox();
    let mounts = ["volumeMounts: [{name: marks, mountPath: /marks}]"];
    let heals = deployment("heals", "test -e /marks/one && exec sleep 3600; touch /marks/one; exit 1", &mounts);
    let heals = format!("{heals}      volumes: [{{name: marks, emptyDir: {{}}}}]\n");
    let heals = heals.replace(
        "          volumeMounts",
        "          readinessProbe: {exec: {command: ['test', '-e', '/marks/one']}, periodSeconds: 1}\n          volumeMounts",
    );
    world.apply("heals", &heals).ok();
    // With a timeout that no test would live to see: the verdict comes from what the pods do.
    world.write("loops/app.yaml", deployment("loops", "exit 1", &[NEVER_READY]));
    let ran = world.strake(&["apply", "loops", "--timeout", "86400"]);
    assert_ne!(ran.code, 0, "{}", ran.all());
    assert!(ran.all().contains("failures of its containers"), "{}", ran.all());
    // An image that does not exist is told apart from a registry that is away.
    world.write("missing/app.yaml", deployment("missing", "true", &["imagePullPolicy: Never"]).replace("busybox:1", "busybox:none"));
    let ran = world.strake(&["apply", "missing", "--timeout", "86400"]);
    assert!(ran.code != 0 && ran.all().contains("ErrImageNeverPull"), "{}", ran.all());
    world.stop();
}

#[test]
fn complaint_11_a_changed_config_map_restarts_what_uses_it_and_nothing_else() {
    needs!("busybox");
    let world = World::with_busybox();
    let manifests = |colour: &str| {
        let map = format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{colour: {colour}}}\n");
        let user = deployment("user", "echo $colour; exec sleep 3600", &["envFrom: [{configMapRef: {name: settings}}]"]);
        format!("{map}{user}{}", deployment("other", "exec sleep 3600", &[]))
    };
    let pod = |app: &str| {
        let pods = world.list("pods").into_iter().filter(|pod| pod["metadata"]["labels"]["app"] == app && pod["metadata"]["deletionTimestamp"].is_null());
        pods.map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    world.apply("shop", &manifests("red")).ok();
    let (user, other) = (pod("user"), pod("other"));
    world.write("shop/app.yaml", manifests("blue"));
    let planned = world.strake(&["plan", "shop"]);
    assert_eq!(planned.code, 2, "{}", planned.all());
    assert!(planned.all().contains("pods are replaced"), "{}", planned.all());
    world.apply("shop", &manifests("blue")).ok();
    assert_ne!(pod("user"), user);
    assert_eq!(pod("other"), other, "it uses nothing that changed");
    world.eventually("the new pod sees the new value", || world.strake(&["logs", "deployment/user"]).stdout == "blue\n");
    // Nothing changed: nothing restarts.
    let user = pod("user");
    world.apply("shop", &manifests("blue")).ok();
    assert_eq!(pod("user"), user);
    world.stop();
}

#[test]
fn complaint_12_a_job_whose_template_changed_is_replaced_and_the_plan_says_so() {
    needs!("busybox");
    let world = World::with_busybox();
    world.apply("work", &job("migrate", "echo one", "")).ok();
    world.write("work/app.yaml", job("migrate", "echo two", ""));
    let planned = world.strake(&["plan", "work"]);
    assert_eq!(planned.code, 2, "{}", planned.all());
    assert!(planned.all().contains("replace") && planned.all().contains("spec.template"), "{}", planned.all());
    world.strake(&["apply", "work", "--replace", "--timeout", "120"]).ok();
    assert!(holds(&world.get("job", "migrate"), "Complete"));
    assert_eq!(world.strake(&["logs", "job/migrate"]).ok().stdout, "two\n");
    world.stop();
}

/// The inventory had the uid of the Job before it, and `down` took the new one for somebody else's.
#[test]
fn a_job_that_was_made_anew_by_a_failed_apply_still_belongs_to_the_set() {
    needs!("busybox");
    let world = World::with_busybox();
    world.apply("work", &job("migrate", "exit 0", "")).ok();
    let first = world.get("job", "migrate")["metadata"]["uid"].clone();
    world.apply("work", &job("migrate", "exit 7", "  backoffLimit: 0\n")).fails(3, "job");
    assert_ne!(world.get("job", "migrate")["metadata"]["uid"], first, "it was made anew");
    let down = world.strake(&["down", "work"]).ok();
    assert!(!down.all().contains("made anew by somebody else"), "{}", down.all());
    world.strake(&["get", "job", "migrate"]).fails(1, "not found");
    world.stop();
}

#[test]
fn a_cron_job_runs_at_its_times_and_keeps_only_so_many_runs() {
    needs!("busybox");
    let world = World::with_busybox();
    let template = "      template:\n        spec:\n          restartPolicy: Never\n          terminationGracePeriodSeconds: 0\n          containers:\n            - {name: main, image: 'busybox:1', command: [echo, tick]}\n";
    let text = format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: tick}}\nspec:\n  schedule: '@every 1s'\n  concurrencyPolicy: Forbid\n  successfulJobsHistoryLimit: 2\n  jobTemplate:\n    spec:\n{template}"
    );
    world.apply("cron", &text).ok();
    let runs = || world.list("jobs").into_iter().filter(|job| job["metadata"]["ownerReferences"][0]["name"] == "tick").collect::<Vec<_>>();
    world.eventually("a run comes to its end", || runs().iter().any(|run| holds(run, "Complete")));
    assert!(world.get("cronjob", "tick")["status"]["lastScheduleTime"].is_string());
    let table = world.strake(&["get", "cronjobs"]).ok().stdout;
    assert!(table.contains("@every 1s") && table.contains("LAST SCHEDULE"), "{table}");
    world.strake(&["down", "cron"]).ok();
    world.eventually("its runs go with it", || runs().is_empty());
    world.stop();
}
