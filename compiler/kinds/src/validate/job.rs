//! Jobs and CronJobs.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Findings, child, items, meta, names, number, pod, selector, text};
use crate::path::At;

/// The label that a Job gives its pods: the Job's uid.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// The label that a Job gives its pods: the Job's name.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// The same labels as older clients know them.
pub const OLD_LABELS: [&str; 2] = ["controller-uid", "job-name"];

/// Indexes of an indexed Job.
const MOST_COMPLETIONS: i64 = 100_000;
const MOST_RULES: usize = 20;
const MOST_VALUES: usize = 255;
/// What is left of a name's 63 characters when a CronJob has appended the time of a run.
const CRON_NAME_MAX: usize = 52;

pub(super) fn job(root: &Map<String, Value>, findings: &mut Findings) {
    let at = At::root();
    let spec_at = at.field("spec");
    let Some(spec) = child(root, "spec") else { return findings.required(&spec_at, "the pods to make must be described") };
    let metadata = child(root, "metadata");
    let name = metadata.map(|metadata| text(metadata, "name")).unwrap_or_default();
    job_spec(spec, name, &spec_at, findings);
    let uid = metadata.map(|metadata| text(metadata, "uid")).unwrap_or_default();
    job_selector(spec, name, uid, &spec_at, findings);
}

pub(super) fn cron_job(root: &Map<String, Value>, findings: &mut Findings) {
    let at = At::root();
    let metadata_at = at.field("metadata");
    let name = child(root, "metadata").map(|metadata| text(metadata, "name")).unwrap_or_default();
    if name.len() > CRON_NAME_MAX {
        findings.too_long(&metadata_at.field("name"), format!("must be no more than {CRON_NAME_MAX} characters: the time of a run is appended to it"));
    }
    let at = at.field("spec");
    let Some(spec) = child(root, "spec") else { return findings.required(&at, "a schedule and a template must be given") };
    let schedule_at = at.field("schedule");
    match text(spec, "schedule") {
        "" => findings.required(&schedule_at, "when to run must be given, such as \"0 3 * * *\""),
        schedule if schedule.contains("TZ") => findings.invalid(&schedule_at, schedule, "a time zone cannot stand in the schedule: use timeZone"),
        schedule => {
            if let Err(message) = crate::schedule::Schedule::parse(schedule) {
                findings.invalid(&schedule_at, schedule, message);
            }
        }
    }
    if let Some(zone) = spec.get("timeZone").and_then(Value::as_str)
        && let Err(message) = crate::schedule::time_zone(zone)
    {
        findings.invalid(&at.field("timeZone"), zone, message);
    }
    for name in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        findings.not_negative(&at.field(name), number(spec, name));
    }
    findings.one_of(&at.field("concurrencyPolicy"), text(spec, "concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    let template_at = at.field("jobTemplate");
    let job_at = template_at.field("spec");
    match child(spec, "jobTemplate").and_then(|template| child(template, "spec")) {
        None => findings.required(&job_at, "the Job to make must be described"),
        Some(job) => {
            job_spec(job, name, &job_at, findings);
            if job.get("manualSelector").and_then(Value::as_bool) == Some(true) {
                findings.one_of(&job_at.field("manualSelector"), "true", &["false"]);
            }
        }
    }
}

fn job_spec(spec: &Map<String, Value>, name: &str, at: &At<'_>, findings: &mut Findings) {
    for field in ["parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes"] {
        findings.not_negative(&at.field(field), number(spec, field));
    }
    if let Some(seconds) = number(spec, "activeDeadlineSeconds").filter(|seconds| *seconds < 0) {
        findings.invalid(&at.field("activeDeadlineSeconds"), seconds, "must not be negative");
    }
    given(findings, spec, at, "completionMode", &["NonIndexed", "Indexed"]);
    given(findings, spec, at, "podReplacementPolicy", &["TerminatingOrFailed", "Failed"]);
    indexes(spec, name, at, findings);
    template(spec, at, findings);
    if let Some(policy) = child(spec, "podFailurePolicy") {
        failure_policy(spec, policy, &at.field("podFailurePolicy"), findings);
        if text(spec, "podReplacementPolicy") == "TerminatingOrFailed" {
            findings.one_of(&at.field("podReplacementPolicy"), "TerminatingOrFailed", &["Failed"]);
        }
        if restart_policy(spec) != "Never" {
            findings.invalid(&at.field("podFailurePolicy"), Value::Object(policy.clone()), "can only be given when the pods' restartPolicy is Never");
        }
    }
    if let Some(policy) = child(spec, "successPolicy") {
        success_policy(spec, policy, &at.field("successPolicy"), findings);
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str) {
        findings.check(&at.field("managedBy"), manager, names::qualified);
    }
}

fn given(findings: &mut Findings, map: &Map<String, Value>, at: &At<'_>, name: &str, allowed: &[&str]) {
    if !text(map, name).is_empty() {
        findings.one_of(&at.field(name), text(map, name), allowed);
    }
}

fn restart_policy(spec: &Map<String, Value>) -> &str {
    child(spec, "template").and_then(|template| child(template, "spec")).map(|pod| text(pod, "restartPolicy")).unwrap_or_default()
}

fn indexes(spec: &Map<String, Value>, name: &str, at: &At<'_>, findings: &mut Findings) {
    let indexed = text(spec, "completionMode") == "Indexed";
    let completions = number(spec, "completions");
    let per_index = number(spec, "backoffLimitPerIndex").is_some();
    if indexed {
        match completions {
            None => findings.required(&at.field("completions"), "an indexed Job has a fixed number of completions"),
            Some(count) if count > MOST_COMPLETIONS => {
                findings.invalid(&at.field("completions"), count, format!("must be no more than {MOST_COMPLETIONS} for an indexed Job"))
            }
            // Each pod's host name is the Job's name with the index.
            Some(count) if count > 0 && !name.is_empty() => {
                let host = format!("{name}-{}", count - 1);
                if let Err(message) = names::dns_label(&host) {
                    let root = At::root();
                    let metadata = root.field("metadata");
                    findings.invalid(&metadata.field("name"), name, format!("the pods' host names, such as {host:?}, would not be valid: {message}"));
                }
            }
            Some(_) => {}
        }
    } else if per_index {
        findings.invalid(&at.field("backoffLimitPerIndex"), number(spec, "backoffLimitPerIndex"), "needs completionMode Indexed");
    }
    if let Some(most) = number(spec, "maxFailedIndexes") {
        if !per_index {
            findings.required(&at.field("backoffLimitPerIndex"), "maxFailedIndexes needs it");
        }
        if completions.is_some_and(|completions| most > completions) {
            findings.invalid(&at.field("maxFailedIndexes"), most, "must be no more than completions");
        }
    }
}

fn template(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("template");
    let Some(template) = child(spec, "template") else { return findings.required(&at, "the pods to make must be described") };
    if let Some(metadata) = child(template, "metadata") {
        meta::labels(metadata, &at.field("metadata"), findings);
        meta::annotations(metadata, &at.field("metadata"), findings);
    }
    let pod_at = at.field("spec");
    let Some(pod) = child(template, "spec") else { return findings.required(&pod_at, "the pods to make must be described") };
    pod::spec(pod, &pod_at, findings);
    // Other words are no policy at all, which has been found already.
    if text(pod, "restartPolicy") == "Always" {
        findings.one_of(&pod_at.field("restartPolicy"), "Always", &["OnFailure", "Never"]);
    }
}

/// The selector comes from the server, which alone knows the uid; who brings one along must say so with `manualSelector`.
fn job_selector(spec: &Map<String, Value>, name: &str, uid: &str, at: &At<'_>, findings: &mut Findings) {
    let selector_at = at.field("selector");
    let template_at = at.field("template");
    let labels_at = template_at.field("metadata");
    let labels_at = labels_at.field("labels");
    let labels = child(spec, "template").and_then(|template| child(template, "metadata")).and_then(|metadata| child(metadata, "labels"));
    let manual = spec.get("manualSelector").and_then(Value::as_bool) == Some(true);
    let Some(chosen) = child(spec, "selector").filter(|selector| !selector::is_empty(selector)) else {
        if manual {
            findings.required(&selector_at, "manualSelector needs one");
        }
        return;
    };
    selector::syntax(chosen, &selector_at, findings);
    if !selector::matches(chosen, labels) {
        let shown = labels.cloned().map_or(Value::Null, Value::Object);
        findings.invalid(&labels_at, shown, "the selector does not match these labels");
    }
    if manual {
        return;
    }
    let generated = child(chosen, "matchLabels").is_some_and(|labels| labels.contains_key(CONTROLLER_UID) || labels.contains_key(OLD_LABELS[0]));
    if !generated {
        findings.invalid(&selector_at, Value::Object(chosen.clone()), "is made by the server; leave it out, or set manualSelector: true");
        return;
    }
    // An object that a server has taken in has its uid; a copy of another Job has the other one's.
    for (key, expected) in [(CONTROLLER_UID, uid), (OLD_LABELS[0], uid), (JOB_NAME, name), (OLD_LABELS[1], name)] {
        let found = labels.map(|labels| text(labels, key)).unwrap_or_default();
        if !uid.is_empty() && !found.is_empty() && found != expected {
            findings.invalid(&labels_at.key(key), found, format!("must be {expected:?}: leave the label out, the server sets it"));
        }
    }
}

fn failure_policy(spec: &Map<String, Value>, policy: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let rules_at = at.field("rules");
    if policy.get("rules").and_then(Value::as_array).is_some_and(|rules| rules.len() > MOST_RULES) {
        findings.too_long(&rules_at, format!("at most {MOST_RULES} rules are possible"));
    }
    for (index, rule) in items(policy, "rules") {
        let at = rules_at.index(index);
        let action = text(rule, "action");
        findings.one_of(&at.field("action"), action, &["FailJob", "FailIndex", "Ignore", "Count"]);
        if action == "FailIndex" && number(spec, "backoffLimitPerIndex").is_none() {
            findings.invalid(&at.field("action"), action, "needs backoffLimitPerIndex");
        }
        let codes = child(rule, "onExitCodes");
        let conditions = rule.get("onPodConditions").and_then(Value::as_array).filter(|list| !list.is_empty());
        match (codes, conditions) {
            (None, None) => findings.invalid(&at, Value::Object(rule.clone()), "one of onExitCodes and onPodConditions must be given"),
            (Some(_), Some(_)) => findings.invalid(&at, Value::Object(rule.clone()), "onExitCodes and onPodConditions cannot both be given"),
            (Some(codes), None) => exit_codes(spec, codes, &at.field("onExitCodes"), findings),
            (None, Some(_)) => {
                let list_at = at.field("onPodConditions");
                for (index, pattern) in items(rule, "onPodConditions") {
                    let at = list_at.index(index);
                    findings.check(&at.field("type"), text(pattern, "type"), names::qualified);
                    findings.one_of(&at.field("status"), text(pattern, "status"), &["True", "False", "Unknown"]);
                }
            }
        }
    }
}

fn exit_codes(spec: &Map<String, Value>, codes: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let operator = text(codes, "operator");
    findings.one_of(&at.field("operator"), operator, &["In", "NotIn"]);
    let name = text(codes, "containerName");
    let pod = child(spec, "template").and_then(|template| child(template, "spec"));
    let known = |list: &'static str| pod.into_iter().flat_map(move |pod| items(pod, list)).any(|(_, container)| text(container, "name") == name);
    if !name.is_empty() && !known("containers") && !known("initContainers") {
        findings.invalid(&at.field("containerName"), name, "the pods have no container of this name");
    }
    let values_at = at.field("values");
    let values: Vec<i64> = codes.get("values").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        findings.invalid(&values_at, Value::Array(Vec::new()), "at least one value must be given");
    }
    if values.len() > MOST_VALUES {
        findings.too_long(&values_at, format!("at most {MOST_VALUES} values are possible"));
    }
    if operator == "In" && values.contains(&0) {
        findings.invalid(&values_at, 0, "0 is no failure, and cannot be used with operator In");
    }
    let distinct: BTreeSet<i64> = values.iter().copied().collect();
    if distinct.len() != values.len() || !values.is_sorted() {
        findings.invalid(&values_at, Value::from(values), "must be in order and without doubles");
    }
}

fn success_policy(spec: &Map<String, Value>, policy: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    if text(spec, "completionMode") != "Indexed" {
        findings.invalid(at, Value::Object(policy.clone()), "needs completionMode Indexed");
    }
    let rules_at = at.field("rules");
    match policy.get("rules").and_then(Value::as_array).map(Vec::len) {
        None | Some(0) => findings.required(&rules_at, "at least one rule must be given"),
        Some(count) if count > MOST_RULES => findings.too_long(&rules_at, format!("at most {MOST_RULES} rules are possible")),
        Some(_) => {}
    }
    let completions = number(spec, "completions").unwrap_or(0);
    for (index, rule) in items(policy, "rules") {
        let at = rules_at.index(index);
        let listed = rule.get("succeededIndexes").and_then(Value::as_str);
        let count = number(rule, "succeededCount");
        if listed.is_none() && count.is_none() {
            findings.required(&at, "one of succeededCount and succeededIndexes must be given");
        }
        let total = match listed.map(|listed| (listed, crate::indexes::parse(listed))) {
            None => completions,
            Some((_, Ok(indexes))) if indexes.last().is_none_or(|last| i64::from(*last) < completions) => i64::try_from(indexes.len()).unwrap_or(i64::MAX),
            Some((listed, Ok(_))) => {
                findings.invalid(&at.field("succeededIndexes"), listed, format!("indexes end at {}", completions - 1));
                completions
            }
            Some((listed, Err(message))) => {
                findings.invalid(&at.field("succeededIndexes"), listed, message);
                completions
            }
        };
        if let Some(count) = count.filter(|count| *count < 0 || *count > total) {
            findings.invalid(&at.field("succeededCount"), count, format!("must be between 0 and {total}"));
        }
    }
}
