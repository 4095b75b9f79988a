//! Jobs and CronJobs: defaults, what a server refuses, and what can never change.

use serde_json::{Value, json};
use strake_kinds::{by_kind, default, validate};

fn job(spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "import", "namespace": "default"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "job:1"}]}}}
    });
    merge(&mut job["spec"], spec);
    job
}

fn cron(spec: Value) -> Value {
    let template = job(json!({}))["spec"].take();
    let mut cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": template}}});
    merge(&mut cron["spec"], spec);
    cron
}

fn merge(into: &mut Value, patch: Value) {
    strake_kinds::merge::json_merge(into, &patch);
}

fn whole(mut object: Value) -> Value {
    let kind = by_kind("batch/v1", object["kind"].as_str().expect("a kind")).expect("known");
    default::apply(&mut object, kind);
    let once = object.clone();
    default::apply(&mut object, kind);
    assert_eq!(object, once, "a second call changes nothing");
    object
}

fn findings(object: Value) -> String {
    let object = whole(object);
    let kind = by_kind("batch/v1", object["kind"].as_str().expect("a kind")).expect("known");
    validate::object(&object, kind).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn defaults_are_those_of_a_server() {
    let spec = whole(job(json!({})))["spec"].take();
    for (field, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    let queue = whole(job(json!({"parallelism": 3})))["spec"].take();
    assert_eq!((&queue["completions"], &queue["parallelism"]), (&Value::Null, &json!(3)), "a work queue has no number of completions");
    let indexed = whole(job(json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1})))["spec"].take();
    assert_eq!(indexed["backoffLimit"], i32::MAX);
    let cron = whole(cron(json!({})))["spec"].take();
    for (field, value) in
        [("concurrencyPolicy", json!("Allow")), ("suspend", json!(false)), ("successfulJobsHistoryLimit", json!(3)), ("failedJobsHistoryLimit", json!(1))]
    {
        assert_eq!(cron[field], value, "{field}");
    }
    assert_eq!(cron["jobTemplate"]["spec"]["backoffLimit"], Value::Null, "the Job that is made has its own defaults");
}

#[test]
fn the_server_makes_the_selector_and_labels_unless_the_job_brings_its_own() {
    let mut made = job(json!({}));
    made["metadata"]["uid"] = json!("u-1");
    default::generate_selector(&mut made);
    let made = whole(made);
    assert_eq!(made["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}));
    let labels = json!({"batch.kubernetes.io/controller-uid": "u-1", "batch.kubernetes.io/job-name": "import", "controller-uid": "u-1", "job-name": "import"});
    assert_eq!(made["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(made["metadata"]["labels"], labels, "a Job without labels has those of its pods");
    assert_eq!(findings(made.clone()), "");
    let own = json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}});
    let mut brought = job(own);
    default::generate_selector(&mut brought);
    assert_eq!(brought["spec"]["selector"], json!({"matchLabels": {"a": "b"}}));
    assert_eq!(findings(brought), "");
    // A copy of another Job's object.
    let mut copied = made;
    copied["metadata"]["uid"] = json!("u-2");
    assert!(findings(copied).contains("must be \"u-2\""));
}

#[test]
fn what_a_server_refuses_is_refused() {
    let policy = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 3});
        merge(&mut spec, more);
        spec
    };
    let rows = [
        (json!({}), ""),
        (json!({"template": {"spec": {"restartPolicy": "Always"}}}), "spec.template.spec.restartPolicy: Unsupported value"),
        (json!({"template": {"spec": {"restartPolicy": null}}}), "spec.template.spec.restartPolicy: Unsupported value"),
        (json!({"parallelism": -1}), "spec.parallelism: Invalid value"),
        (json!({"completionMode": "Indexed", "parallelism": 2}), "spec.completions: Required value"),
        (json!({"completionMode": "Both"}), "spec.completionMode: Unsupported value"),
        (json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}}), "spec.selector: Invalid value"),
        (json!({"manualSelector": true}), "spec.selector: Required value"),
        (json!({"backoffLimitPerIndex": 1}), "spec.backoffLimitPerIndex: Invalid value"),
        (indexed(json!({"maxFailedIndexes": 1})), "spec.backoffLimitPerIndex: Required value"),
        (indexed(json!({"maxFailedIndexes": 9, "backoffLimitPerIndex": 1})), "spec.maxFailedIndexes: Invalid value"),
        (indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0-5"}]}})), "succeededIndexes: Invalid value"),
        (indexed(json!({"successPolicy": {"rules": [{"succeededCount": 9}]}})), "succeededCount: Invalid value"),
        (indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0,2", "succeededCount": 1}]}})), ""),
        (json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}), "spec.successPolicy: Invalid value"),
        (policy(json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}})), ""),
        (policy(json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}})), "0 is no failure"),
        (policy(json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 1]}})), "must be in order"),
        (policy(json!({"action": "FailJob", "onExitCodes": {"containerName": "none", "operator": "In", "values": [1]}})), "no container of this name"),
        (policy(json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}})), "needs backoffLimitPerIndex"),
        (policy(json!({"action": "Ignore"})), "one of onExitCodes and onPodConditions"),
    ];
    for (spec, expected) in rows {
        let found = findings(job(spec.clone()));
        assert!(if expected.is_empty() { found.is_empty() } else { found.contains(expected) }, "{spec}: {found}");
    }
    let long = json!({"metadata": {"name": "a".repeat(60)}});
    let mut named = job(json!({"completionMode": "Indexed", "completions": 5000}));
    merge(&mut named, long);
    assert!(findings(named).contains("host names"));
}

#[test]
fn cron_jobs_have_a_schedule_that_can_be_read() {
    let rows = [
        (json!({}), ""),
        (json!({"schedule": "@hourly", "timeZone": "Europe/Berlin"}), ""),
        (json!({"schedule": "61 * * * *"}), "spec.schedule: Invalid value"),
        (json!({"schedule": null}), "spec.schedule: Required value"),
        (json!({"schedule": "TZ=UTC 0 0 * * *"}), "use timeZone"),
        (json!({"timeZone": "Mars/Olympus"}), "spec.timeZone: Invalid value"),
        (json!({"concurrencyPolicy": "Never"}), "spec.concurrencyPolicy: Unsupported value"),
        (json!({"startingDeadlineSeconds": -1}), "spec.startingDeadlineSeconds: Invalid value"),
        (
            json!({"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}}),
            "spec.jobTemplate.spec.template.spec.restartPolicy: Unsupported value",
        ),
    ];
    for (spec, expected) in rows {
        let found = findings(cron(spec.clone()));
        assert!(if expected.is_empty() { found.is_empty() } else { found.contains(expected) }, "{spec}: {found}");
    }
    let mut long = cron(json!({}));
    long["metadata"]["name"] = json!("a".repeat(53));
    assert!(findings(long).contains("metadata.name: Too long"));
}

#[test]
fn only_how_it_is_run_can_change() {
    let kind = by_kind("batch/v1", "Job").expect("known");
    let refused = |base: Value, patch: Value| {
        let old = whole(job(base));
        let mut new = old.clone();
        merge(&mut new["spec"], patch);
        validate::update(&old, &new, kind).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let plain = || json!({});
    for patch in [
        json!({"parallelism": 5}),
        json!({"suspend": true}),
        json!({"ttlSecondsAfterFinished": 5}),
        json!({"backoffLimit": 0}),
        json!({"activeDeadlineSeconds": 5}),
    ] {
        assert_eq!(refused(plain(), patch.clone()), "", "{patch}");
    }
    for (patch, field) in [
        (json!({"completions": 5}), "spec.completions"),
        (json!({"template": {"spec": {"restartPolicy": "OnFailure"}}}), "spec.template"),
        (json!({"selector": {"matchLabels": {"a": "b"}}}), "spec.selector"),
        (json!({"completionMode": "Indexed"}), "spec.completionMode"),
    ] {
        let found = refused(plain(), patch.clone());
        assert!(found.contains(field) && found.contains("field is immutable"), "{patch}: {found}");
    }
    // As many of an indexed Job's pods as run at once: it grows and shrinks.
    assert_eq!(refused(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}), json!({"completions": 4, "parallelism": 4})), "");
    // Where its pods may run, before it has ever run.
    let patch = || json!({"template": {"spec": {"nodeSelector": {"disk": "fast"}}}});
    assert_eq!(refused(json!({"suspend": true}), patch()), "");
    assert!(refused(plain(), patch()).contains("spec.template"));
}
