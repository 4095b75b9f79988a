//! Jobs: how many pods run, which ends count, and how it comes to an end.

use proptest::prelude::*;
use serde_json::{Value, json};
use strake_control::{Kind, Propagation};

use crate::bench::{Bench, id, names};

fn job(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "job:1"}]}}}
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn status(bench: &Bench, name: &str) -> Value {
    bench.get(&id(Kind::JOB, name))["status"].clone()
}

/// The conditions that hold, with their reasons.
fn conditions(bench: &Bench, name: &str) -> Vec<String> {
    let status = status(bench, name);
    let holding = status["conditions"].as_array().into_iter().flatten().filter(|condition| condition["status"] == "True");
    holding.map(|condition| format!("{}/{}", condition["type"].as_str().unwrap(), condition["reason"].as_str().unwrap())).collect()
}

fn active(bench: &Bench) -> Vec<String> {
    let all = bench.pods();
    let is_active = |pod: &&std::sync::Arc<Value>| {
        pod["metadata"]["deletionTimestamp"].is_null() && !matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
    };
    names(&all.iter().filter(is_active).cloned().collect::<Vec<_>>())
}

/// A container's end, as a node reports it.
fn end(bench: &mut Bench, pod: &str, code: i64) {
    let time = bench.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let ended = json!([{"name": "main", "image": "job:1", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": time}}}]);
    bench.world.patch(&id(Kind::POD, pod), Some("status"), &json!({"status": {"containerStatuses": ended}}), bench.now).unwrap();
    bench.report(pod, if code == 0 { "Succeeded" } else { "Failed" }, false, "10.42.0.9");
}

/// Deleted pods go, as their node lets them.
fn let_go(bench: &mut Bench) {
    for pod in bench.pods() {
        if pod["metadata"]["deletionTimestamp"].is_string() {
            let name = pod["metadata"]["name"].as_str().unwrap();
            if bench.world.get(&id(Kind::POD, name)).is_some() {
                bench.end_pod(name);
            }
        }
    }
}

#[test]
fn a_job_runs_to_its_end_and_counts_it() {
    let mut bench = Bench::new();
    bench.create(job("import", json!({})));
    let made = bench.get(&id(Kind::JOB, "import"));
    let uid = made["metadata"]["uid"].as_str().unwrap();
    assert_eq!(made["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    assert_eq!(made["spec"]["backoffLimit"], 6);
    let pods = active(&bench);
    assert_eq!(pods.len(), 1);
    let pod = bench.get(&id(Kind::POD, &pods[0]));
    assert_eq!(pod["metadata"]["labels"]["job-name"], "import");
    assert_eq!(status(&bench, "import")["active"], 1);
    bench.report(&pods[0], "Running", true, "10.42.0.9");
    assert_eq!(status(&bench, "import")["ready"], 1);
    end(&mut bench, &pods[0], 0);
    assert_eq!(conditions(&bench, "import"), ["SuccessCriteriaMet/CompletionsReached", "Complete/CompletionsReached"]);
    let status = status(&bench, "import");
    assert_eq!((&status["succeeded"], &status["active"], &status["completionTime"].is_string()), (&json!(1), &Value::Null, &true));
    assert!(bench.get(&id(Kind::POD, &pods[0]))["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty), "nothing holds the pod");
    assert!(bench.events.iter().any(|(reason, _)| reason == "Completed"));
    bench.assert_nothing_left_to_do();
}

#[test]
fn parallelism_and_completions_say_how_many_run_and_an_end_is_counted_even_when_its_pod_is_deleted() {
    let mut bench = Bench::new();
    bench.create(job("crunch", json!({"parallelism": 2, "completions": 5})));
    assert_eq!(active(&bench).len(), 2);
    for done in 1..=4 {
        let pod = active(&bench).remove(0);
        end(&mut bench, &pod, 0);
        bench.delete(&id(Kind::POD, &pod), Propagation::Background);
        assert_eq!(status(&bench, "crunch")["succeeded"], done);
        assert_eq!(active(&bench).len(), usize::min(2, 5 - usize::try_from(done).unwrap()));
    }
    let pod = active(&bench).remove(0);
    end(&mut bench, &pod, 0);
    assert!(conditions(&bench, "crunch").contains(&"Complete/CompletionsReached".to_owned()));
    bench.assert_nothing_left_to_do();
}

#[test]
fn a_work_queue_adds_no_pod_after_the_first_success() {
    let mut bench = Bench::new();
    bench.create(job("queue", json!({"parallelism": 3})));
    let pods = active(&bench);
    assert_eq!(pods.len(), 3);
    end(&mut bench, &pods[0], 0);
    assert_eq!(active(&bench).len(), 2);
    assert!(conditions(&bench, "queue").is_empty(), "what runs works to its end");
    end(&mut bench, &pods[1], 0);
    end(&mut bench, &pods[2], 0);
    assert_eq!(status(&bench, "queue")["succeeded"], 3);
    assert!(conditions(&bench, "queue").contains(&"Complete/CompletionsReached".to_owned()));
}

#[test]
fn failures_are_retried_after_a_growing_pause_until_the_limit() {
    let mut bench = Bench::new();
    bench.create(job("flaky", json!({"backoffLimit": 2})));
    for (failures, pause) in [(1, 10), (2, 20)] {
        let pod = active(&bench).remove(0);
        end(&mut bench, &pod, 3);
        assert_eq!(status(&bench, "flaky")["failed"], failures);
        bench.pass(pause - 1);
        assert!(active(&bench).is_empty(), "after {failures} failures the pause is {pause} s");
        bench.pass(1);
        assert_eq!(active(&bench).len(), 1);
    }
    let pod = active(&bench).remove(0);
    end(&mut bench, &pod, 3);
    assert_eq!(conditions(&bench, "flaky"), ["FailureTarget/BackoffLimitExceeded", "Failed/BackoffLimitExceeded"]);
    assert_eq!(status(&bench, "flaky")["failed"], 3);
    bench.pass(1000);
    assert!(active(&bench).is_empty());
    bench.assert_nothing_left_to_do();
}

#[test]
fn a_job_that_runs_too_long_is_ended() {
    let mut bench = Bench::new();
    bench.create(job("slow", json!({"activeDeadlineSeconds": 60, "parallelism": 2, "completions": 2})));
    let pods = active(&bench);
    for pod in &pods {
        bench.report(pod, "Running", true, "10.42.0.9");
    }
    bench.pass(59);
    assert!(conditions(&bench, "slow").is_empty());
    bench.pass(1);
    assert_eq!(conditions(&bench, "slow"), ["FailureTarget/DeadlineExceeded"], "its pods are still on their way out");
    let_go(&mut bench);
    assert_eq!(conditions(&bench, "slow"), ["FailureTarget/DeadlineExceeded", "Failed/DeadlineExceeded"]);
    bench.assert_nothing_left_to_do();
}

#[test]
fn a_suspended_job_runs_nothing_and_what_it_takes_back_is_no_failure() {
    let mut bench = Bench::new();
    bench.create(job("later", json!({"suspend": true})));
    assert!(active(&bench).is_empty());
    assert_eq!(conditions(&bench, "later"), ["Suspended/JobSuspended"]);
    bench.patch(&id(Kind::JOB, "later"), json!({"spec": {"suspend": false}}));
    assert_eq!(active(&bench).len(), 1);
    assert!(status(&bench, "later")["startTime"].is_string());
    bench.patch(&id(Kind::JOB, "later"), json!({"spec": {"suspend": true}}));
    let_go(&mut bench);
    assert!(active(&bench).is_empty());
    assert!(status(&bench, "later")["failed"].is_null());
    assert!(status(&bench, "later")["startTime"].is_null());
    bench.assert_nothing_left_to_do();
}

#[test]
fn indexed_pods_know_their_index_and_each_is_done_once() {
    let mut bench = Bench::new();
    bench.create(job("shard", json!({"completionMode": "Indexed", "completions": 3, "parallelism": 2})));
    let pod_of = |bench: &Bench, index: &str| {
        let all = bench.pods();
        let found =
            all.iter().rfind(|pod| pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] == index && pod["status"]["phase"] != "Failed");
        found.cloned().unwrap_or_else(|| panic!("a pod of index {index}"))
    };
    let first = pod_of(&bench, "0");
    assert_eq!(first["spec"]["hostname"], "shard-0");
    assert!(first["metadata"]["name"].as_str().unwrap().starts_with("shard-0-"));
    assert_eq!(first["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    let pod = name(&pod_of(&bench, "1"));
    end(&mut bench, &pod, 0);
    assert_eq!(status(&bench, "shard")["completedIndexes"], "1");
    let pod = name(&pod_of(&bench, "2"));
    end(&mut bench, &pod, 0);
    end(&mut bench, &name(&first), 1);
    bench.pass(10);
    let again = pod_of(&bench, "0");
    assert_ne!(name(&again), name(&first));
    end(&mut bench, &name(&again), 0);
    let status = status(&bench, "shard");
    assert_eq!((&status["completedIndexes"], &status["succeeded"], &status["failed"]), (&json!("0-2"), &json!(3), &json!(1)));
    assert!(conditions(&bench, "shard").contains(&"Complete/CompletionsReached".to_owned()));
    bench.assert_nothing_left_to_do();
}

#[test]
fn an_index_that_fails_too_often_is_given_up_and_the_others_go_on() {
    let mut bench = Bench::new();
    bench.create(job("shard", json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 0})));
    let pods = active(&bench);
    let (first, second) = (pods.iter().find(|name| name.starts_with("shard-0")).unwrap(), pods.iter().find(|name| name.starts_with("shard-1")).unwrap());
    end(&mut bench, first, 1);
    bench.pass(600);
    assert_eq!(active(&bench).iter().collect::<Vec<_>>(), [second]);
    end(&mut bench, second, 0);
    assert_eq!(conditions(&bench, "shard"), ["FailureTarget/FailedIndexes", "Failed/FailedIndexes"]);
    let status = status(&bench, "shard");
    assert_eq!((&status["failedIndexes"], &status["completedIndexes"]), (&json!("0"), &json!("1")));
}

#[test]
fn the_failure_policy_decides_by_exit_code_and_condition() {
    let rules = json!({"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}},
    ]});
    let mut bench = Bench::new();
    bench.create(job("picky", json!({"podFailurePolicy": rules, "backoffLimit": 0})));
    let pod = active(&bench).remove(0);
    end(&mut bench, &pod, 7);
    assert!(conditions(&bench, "picky").is_empty() && status(&bench, "picky")["failed"].is_null(), "code 7 does not count");
    bench.pass(10);
    let pod = active(&bench).remove(0);
    end(&mut bench, &pod, 42);
    assert_eq!(conditions(&bench, "picky"), ["FailureTarget/PodFailurePolicy", "Failed/PodFailurePolicy"]);
    let message = status(&bench, "picky")["conditions"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("exit code 42 matching FailJob rule at index 0"), "{message}");
}

#[test]
fn the_success_policy_ends_a_job_early() {
    let mut bench = Bench::new();
    let policy = json!({"rules": [{"succeededIndexes": "0"}]});
    bench.create(job("leader", json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3, "successPolicy": policy})));
    let leader = active(&bench).into_iter().find(|name| name.starts_with("leader-0")).unwrap();
    end(&mut bench, &leader, 0);
    let_go(&mut bench);
    assert_eq!(conditions(&bench, "leader"), ["SuccessCriteriaMet/SuccessPolicy", "Complete/SuccessPolicy"]);
    assert!(active(&bench).is_empty());
}

#[test]
fn containers_that_are_started_again_count_against_the_limit() {
    let mut bench = Bench::new();
    let mut object = job("stubborn", json!({"backoffLimit": 2}));
    object["spec"]["template"]["spec"]["restartPolicy"] = json!("OnFailure");
    bench.create(object);
    let pod = active(&bench).remove(0);
    bench.report(&pod, "Running", false, "10.42.0.9");
    for restarts in 1..=2 {
        assert!(conditions(&bench, "stubborn").is_empty());
        let statuses = json!([{"name": "main", "image": "job:1", "imageID": "", "ready": false, "restartCount": restarts, "state": {"running": {}}}]);
        bench.world.patch(&id(Kind::POD, &pod), Some("status"), &json!({"status": {"containerStatuses": statuses}}), bench.now).unwrap();
        bench.settle();
    }
    assert_eq!(conditions(&bench, "stubborn"), ["FailureTarget/BackoffLimitExceeded"]);
    let_go(&mut bench);
    assert!(conditions(&bench, "stubborn").contains(&"Failed/BackoffLimitExceeded".to_owned()));
}

#[test]
fn a_finished_job_goes_when_its_time_is_over_and_takes_its_pods_along() {
    let mut bench = Bench::new();
    bench.create(job("brief", json!({"ttlSecondsAfterFinished": 30})));
    let pod = active(&bench).remove(0);
    end(&mut bench, &pod, 0);
    bench.pass(29);
    assert!(bench.world.get(&id(Kind::JOB, "brief")).is_some());
    bench.pass(1);
    let_go(&mut bench);
    bench.pass(1);
    assert!(bench.world.get(&id(Kind::JOB, "brief")).is_none());
    assert!(bench.pods().is_empty());
}

#[test]
fn pods_of_a_job_that_is_gone_are_held_by_nobody() {
    for propagation in [Propagation::Background, Propagation::Foreground, Propagation::Orphan] {
        let mut bench = Bench::new();
        bench.create(job("gone", json!({"parallelism": 2, "completions": 2})));
        for pod in active(&bench) {
            bench.report(&pod, "Running", true, "10.42.0.9");
        }
        bench.delete(&id(Kind::JOB, "gone"), propagation);
        let_go(&mut bench);
        bench.pass(1);
        assert!(bench.world.get(&id(Kind::JOB, "gone")).is_none(), "{propagation:?}");
        let orphans = if propagation == Propagation::Orphan { 2 } else { 0 };
        assert_eq!(bench.pods().len(), orphans, "{propagation:?}");
        assert!(bench.pods().iter().all(|pod| pod["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)), "{propagation:?}");
        bench.assert_nothing_left_to_do();
    }
}

#[derive(Clone, Debug)]
enum Event {
    Parallelism(i32),
    Suspend(bool),
    Run(usize),
    End(usize, i64),
    DeletePod(usize),
    LetGo,
    Wait(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => (0..5i32).prop_map(Event::Parallelism),
        1 => any::<bool>().prop_map(Event::Suspend),
        4 => (0..6usize).prop_map(Event::Run),
        6 => (0..6usize, 0..3i64).prop_map(|(at, code)| Event::End(at, code.min(1))),
        2 => (0..6usize).prop_map(Event::DeletePod),
        3 => Just(Event::LetGo),
        3 => (0..400i64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..40)
}

fn happen(bench: &mut Bench, event: &Event) {
    let name = id(Kind::JOB, "any");
    let nth = |bench: &Bench, at: usize| {
        let pods = active(bench);
        (!pods.is_empty()).then(|| pods[at % pods.len()].clone())
    };
    match event {
        Event::Parallelism(count) => bench.patch(&name, json!({"spec": {"parallelism": count}})),
        Event::Suspend(suspend) => bench.patch(&name, json!({"spec": {"suspend": suspend}})),
        Event::Run(at) => drop(nth(bench, *at).map(|pod| bench.report(&pod, "Running", true, "10.42.0.9"))),
        Event::End(at, code) => drop(nth(bench, *at).map(|pod| end(bench, &pod, *code))),
        Event::DeletePod(at) => drop(nth(bench, *at).map(|pod| bench.delete(&id(Kind::POD, &pod), Propagation::Background))),
        Event::LetGo => let_go(bench),
        Event::Wait(seconds) => bench.pass(*seconds),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_left_to_do_and_no_success_is_lost(events in events(), indexed in any::<bool>(), completions in 1..5i64, limit in 0..4i64) {
        let mut bench = Bench::new();
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        bench.create(job("any", json!({"parallelism": 2, "completions": completions, "backoffLimit": limit, "completionMode": mode})));
        let mut most = 0;
        for event in &events {
            happen(&mut bench, event);
            bench.assert_nothing_left_to_do();
            let succeeded = status(&bench, "any")["succeeded"].as_i64().unwrap_or(0);
            prop_assert!(succeeded >= most, "a success was lost: {} after {}", succeeded, most);
            prop_assert!(succeeded <= completions.max(most) + 4);
            most = succeeded;
            let running = i64::try_from(active(&bench).len()).unwrap();
            prop_assert!(running <= 4, "{} run", running);
        }
        // Left alone with pods that succeed, it comes to an end.
        bench.patch(&id(Kind::JOB, "any"), json!({"spec": {"suspend": false, "parallelism": 2}}));
        for _ in 0..20 {
            let_go(&mut bench);
            bench.pass(600);
            for pod in active(&bench) {
                end(&mut bench, &pod, 0);
            }
        }
        bench.assert_nothing_left_to_do();
        let ends = conditions(&bench, "any").into_iter().filter(|one| one.starts_with("Complete/") || one.starts_with("Failed/")).count();
        prop_assert_eq!(ends, 1, "{:?}", status(&bench, "any"));
    }
}
