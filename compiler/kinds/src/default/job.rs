//! Defaults of Jobs and CronJobs.

use serde_json::{Map, Value, json};

use super::{fill, fill_object, fill_zero, object, template};
use crate::validate::job::{CONTROLLER_UID, JOB_NAME, OLD_LABELS};

/// A Job that fails gives up after so many pods.
const BACKOFF_LIMIT: i64 = 6;

pub(super) fn job(root: &mut Map<String, Value>) {
    spec(fill_object(root, "spec"));
    // A Job without labels of its own has those of its pods.
    let labels = root.get("spec").and_then(|spec| spec["template"]["metadata"]["labels"].as_object()).filter(|labels| !labels.is_empty()).cloned();
    if let Some(labels) = labels {
        let metadata = fill_object(root, "metadata");
        if metadata.get("labels").and_then(Value::as_object).is_none_or(Map::is_empty) {
            metadata.insert("labels".to_owned(), Value::Object(labels));
        }
    }
}

fn spec(spec: &mut Map<String, Value>) {
    let absent = |spec: &Map<String, Value>, name: &str| spec.get(name).is_none_or(Value::is_null);
    // Without either, one pod runs once; with parallelism alone, as many as it says work until one succeeds.
    if absent(spec, "completions") && absent(spec, "parallelism") {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let per_index = !absent(spec, "backoffLimitPerIndex");
    fill(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { BACKOFF_LIMIT });
    fill_zero(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let policy = if absent(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    fill(spec, "podReplacementPolicy", policy);
    fill(spec, "manualSelector", false);
    if let Some(rules) = object(spec, "podFailurePolicy") {
        for rule in super::objects(rules, "rules") {
            for pattern in super::objects(rule, "onPodConditions") {
                fill_zero(pattern, "status", "True");
            }
        }
    }
    template(spec);
}

pub(super) fn cron_job(root: &mut Map<String, Value>) {
    let cron = fill_object(root, "spec");
    fill_zero(cron, "concurrencyPolicy", "Allow");
    fill(cron, "suspend", false);
    fill(cron, "successfulJobsHistoryLimit", 3);
    fill(cron, "failedJobsHistoryLimit", 1);
    // What the server fills into a Job is filled into each run: the template stays as it was written, but for its pods.
    if let Some(job) = object(cron, "jobTemplate").and_then(|job| object(job, "spec")) {
        template(job);
    }
}

/// Gives a new Job its selector, and its pods the labels that it selects, unless the Job brings a selector along: what only the server can do, which knows the uid.
pub fn generate_selector(object: &mut Value) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let chosen = object["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty());
    if object["spec"]["manualSelector"] == true || !object["spec"].is_object() {
        return;
    }
    let Some(template) = object["spec"]["template"].as_object_mut() else { return };
    let labels = fill_object(fill_object(template, "metadata"), "labels");
    for (key, value) in [(CONTROLLER_UID, &uid), (JOB_NAME, &name), (OLD_LABELS[0], &uid), (OLD_LABELS[1], &name)] {
        fill(labels, key, value.as_str());
    }
    if !chosen {
        object["spec"]["selector"] = json!({"matchLabels": {CONTROLLER_UID: uid}});
    }
}
