//! The real kubectl on Jobs and CronJobs.

use strake_tests::{PATIENCE, World, needs, until};

#[test]
fn kubectl_runs_jobs() {
    needs!("kubectl", "busybox");
    let world = World::with_busybox();
    world.kubectl(&["create", "job", "hello", "--image=busybox:1", "--", "echo", "hello"]).ok();
    world.kubectl(&["wait", "--for=condition=complete", "job/hello", "--timeout=120s"]).ok();
    let table = world.kubectl(&["get", "jobs"]).ok().stdout;
    for part in ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE", "hello", "Complete", "1/1"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    assert_eq!(world.kubectl(&["logs", "job/hello"]).ok().stdout, "hello\n");
    let described = || world.kubectl(&["describe", "job", "hello"]).ok().stdout;
    for part in ["Completions:", "Pods Statuses:", "1 Succeeded", "SuccessfulCreate", "Completed", "batch.kubernetes.io/controller-uid="] {
        assert!(until(PATIENCE, || described().contains(part)), "{part} in {}", described());
    }
    assert!(world.kubectl(&["get", "all"]).ok().stdout.contains("job.batch/hello"));
    // A Job that fails says so to who waits for that.
    world.kubectl(&["create", "job", "bad", "--image=busybox:1", "--", "false"]).ok();
    world.kubectl(&["patch", "job", "bad", "-p", r#"{"spec":{"backoffLimit":0}}"#]).ok();
    world.kubectl(&["wait", "--for=condition=failed", "job/bad", "--timeout=120s"]).ok();
    let refused = world.kubectl(&["patch", "job", "bad", "-p", r#"{"spec":{"template":{"spec":{"containers":[{"name":"bad","image":"other:1"}]}}}}"#]);
    assert!(refused.code == 1 && refused.stderr.contains("field is immutable"), "{}", refused.all());
    world.kubectl(&["delete", "job", "hello", "bad"]).ok();
    world.eventually("their pods go with them", || world.list("pods").is_empty());
    world.stop();
}

#[test]
fn kubectl_refuses_a_job_that_a_cluster_would_refuse() {
    needs!("kubectl", "busybox");
    let world = World::with_busybox();
    let text = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: wrong}\nspec:\n  completionMode: Indexed\n  parallelism: 2\n  template:\n    spec:\n      restartPolicy: Always\n      containers: [{name: c, image: 'busybox:1'}]\n";
    world.write("wrong.yaml", text);
    let refused = world.kubectl(&["create", "-f", "wrong.yaml"]);
    assert_eq!(refused.code, 1, "{}", refused.all());
    for part in ["spec.completions: Required value", "spec.template.spec.restartPolicy: Unsupported value"] {
        assert!(refused.stderr.contains(part), "{part} in {}", refused.all());
    }
    world.stop();
}

#[test]
fn kubectl_makes_cron_jobs_and_starts_them_by_hand() {
    needs!("kubectl", "busybox");
    let world = World::with_busybox();
    world.kubectl(&["create", "cronjob", "nightly", "--image=busybox:1", "--schedule=0 3 * * *", "--", "echo", "night"]).ok();
    let table = world.kubectl(&["get", "cronjobs"]).ok().stdout;
    for part in ["SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "0 3 * * *", "<none>"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    world.kubectl(&["create", "job", "now", "--from=cronjob/nightly"]).ok();
    world.kubectl(&["wait", "--for=condition=complete", "job/now", "--timeout=120s"]).ok();
    assert_eq!(world.kubectl(&["logs", "job/now"]).ok().stdout, "night\n");
    assert!(world.kubectl(&["describe", "cronjob", "nightly"]).ok().stdout.contains("Concurrency Policy:"));
    let bad = world.kubectl(&["create", "cronjob", "bad", "--image=busybox:1", "--schedule=every day"]);
    assert!(bad.code == 1 && bad.stderr.contains("spec.schedule"), "{}", bad.all());
    world.kubectl(&["delete", "cronjob", "nightly"]).ok();
    world.eventually("the run by hand goes with it", || world.list("jobs").is_empty());
    world.stop();
}
