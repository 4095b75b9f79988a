//! CronJobs: when runs begin, which ones may, and which are kept.

use serde_json::{Value, json};
use strake_control::{Kind, Propagation};

use crate::bench::{Bench, id, names};

/// The bench's clock begins at 12:00:00.
fn cron(schedule: &str, spec: Value) -> Value {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "job:1"}]}});
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": schedule, "jobTemplate": {"metadata": {"labels": {"of": "tick"}}, "spec": {"template": template}}}
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn runs(bench: &Bench) -> Vec<String> {
    names(&bench.all(&Kind::JOB))
}

/// Every pod that runs comes to its end.
fn end_all(bench: &mut Bench, phase: &str) {
    for pod in bench.active_pods() {
        if pod["status"]["phase"] != "Succeeded" {
            bench.report(pod["metadata"]["name"].as_str().unwrap(), phase, false, "10.42.0.9");
        }
    }
}

fn status(bench: &Bench) -> Value {
    bench.get(&id(Kind::CRON_JOB, "tick"))["status"].clone()
}

#[test]
fn a_run_begins_at_its_time_and_not_again() {
    let mut bench = Bench::new();
    bench.create(cron("*/5 * * * *", json!({})));
    assert!(runs(&bench).is_empty());
    bench.pass(299);
    assert!(runs(&bench).is_empty());
    bench.pass(1);
    let minute = bench.now.as_second() / 60;
    assert_eq!(runs(&bench), [format!("tick-{minute}")]);
    let run = bench.get(&id(Kind::JOB, &runs(&bench)[0]));
    assert_eq!(run["metadata"]["labels"]["of"], "tick");
    assert_eq!(run["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-11-21T12:05:00Z");
    assert_eq!((&status(&bench)["lastScheduleTime"], status(&bench)["active"].as_array().map(Vec::len)), (&json!("2026-11-21T12:05:00Z"), Some(1)));
    bench.pass(20);
    assert_eq!(runs(&bench).len(), 1);
    bench.assert_nothing_left_to_do();
    end_all(&mut bench, "Succeeded");
    assert!(status(&bench)["active"].is_null() && status(&bench)["lastSuccessfulTime"].is_string());
    bench.assert_nothing_left_to_do();
}

#[test]
fn the_policy_says_what_happens_while_a_run_goes_on() {
    for (policy, expected) in [("Allow", 3), ("Forbid", 1), ("Replace", 1)] {
        let mut bench = Bench::new();
        bench.create(cron("* * * * *", json!({"concurrencyPolicy": policy})));
        for _ in 0..3 {
            bench.pass(60);
            bench.run_pods();
        }
        assert_eq!(runs(&bench).len(), expected, "{policy}");
        let newest = format!("tick-{}", bench.now.as_second() / 60);
        assert_eq!(runs(&bench).contains(&newest), policy != "Forbid", "{policy}");
        bench.assert_nothing_left_to_do();
    }
}

#[test]
fn of_what_was_missed_only_the_last_is_made_up_for_and_only_within_its_deadline() {
    let mut bench = Bench::new();
    bench.create(cron("0 * * * *", json!({"suspend": true})));
    bench.pass(3 * 3600 + 600);
    assert!(runs(&bench).is_empty(), "it is suspended");
    bench.patch(&id(Kind::CRON_JOB, "tick"), json!({"spec": {"suspend": false, "startingDeadlineSeconds": 60}}));
    assert!(runs(&bench).is_empty(), "ten minutes late is too late");
    bench.patch(&id(Kind::CRON_JOB, "tick"), json!({"spec": {"startingDeadlineSeconds": 3600}}));
    assert_eq!(runs(&bench).len(), 1);
    assert_eq!(status(&bench)["lastScheduleTime"], "2026-11-21T15:00:00Z");
    bench.assert_nothing_left_to_do();
}

#[test]
fn only_so_many_finished_runs_are_kept() {
    let mut bench = Bench::new();
    bench.create(cron("@every 60s", json!({"successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 1})));
    for round in 0..8 {
        bench.pass(60);
        end_all(&mut bench, if round % 2 == 0 { "Succeeded" } else { "Failed" });
    }
    // A failed pod is not a failed run yet: the limit of a run is six.
    bench.patch(&id(Kind::CRON_JOB, "tick"), json!({"spec": {"suspend": true}}));
    let kept: Vec<String> = runs(&bench);
    let succeeded = kept.iter().filter(|name| bench.get(&id(Kind::JOB, name))["status"]["completionTime"].is_string()).count();
    assert_eq!(succeeded, 2, "{kept:?}");
    bench.assert_nothing_left_to_do();
    bench.delete(&id(Kind::CRON_JOB, "tick"), Propagation::Background);
    assert!(runs(&bench).is_empty(), "its runs go with it");
}
