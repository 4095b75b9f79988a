//! Deployments and ReplicaSets.

use serde_json::{Map, Value};

use super::{Findings, child, meta, number, pod, selector, text};
use crate::path::At;

pub(super) fn spec(spec: &Map<String, Value>, kind: &str, at: &At<'_>, findings: &mut Findings) {
    for name in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        findings.not_negative(&at.field(name), number(spec, name));
    }
    template(spec, at, findings);
    if kind == "Deployment" {
        deployment(spec, at, findings);
    }
}

fn template(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let selector_at = at.field("selector");
    let template_at = at.field("template");
    let selector = child(spec, "selector");
    match selector {
        None => findings.required(&selector_at, "the labels of the pods must be given"),
        Some(selector) if selector::is_empty(selector) => {
            findings.invalid(&selector_at, Value::Object(selector.clone()), "an empty selector would select every pod")
        }
        Some(selector) => selector::syntax(selector, &selector_at, findings),
    }
    let Some(template) = child(spec, "template") else {
        return findings.required(&template_at, "the pods to make must be described");
    };
    let meta_at = template_at.field("metadata");
    let metadata = child(template, "metadata");
    let labels = metadata.and_then(|metadata| child(metadata, "labels"));
    if let Some(metadata) = metadata {
        meta::labels(metadata, &meta_at, findings);
        meta::annotations(metadata, &meta_at, findings);
    }
    if let Some(selector) = selector.filter(|selector| !selector::is_empty(selector))
        && !selector::matches(selector, labels)
    {
        let shown = labels.cloned().map_or(Value::Null, Value::Object);
        findings.invalid(&meta_at.field("labels"), shown, "the selector does not match these labels");
    }
    let pod_at = template_at.field("spec");
    let Some(pod) = child(template, "spec") else { return findings.required(&pod_at, "the pods to make must be described") };
    pod::spec(pod, &pod_at, findings);
    // Other words are no policy at all, which has been found already.
    if matches!(text(pod, "restartPolicy"), "OnFailure" | "Never") {
        findings.one_of(&pod_at.field("restartPolicy"), text(pod, "restartPolicy"), &["Always"]);
    }
    if pod.get("activeDeadlineSeconds").is_some_and(|value| !value.is_null()) {
        findings.forbidden(&pod_at.field("activeDeadlineSeconds"), "only a pod by itself can have a deadline");
    }
}

fn deployment(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    if let Some(deadline) = number(spec, "progressDeadlineSeconds") {
        let ready = number(spec, "minReadySeconds").unwrap_or(0);
        if deadline <= ready {
            findings.invalid(&at.field("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
        }
    }
    let strategy_at = at.field("strategy");
    let Some(strategy) = child(spec, "strategy") else { return };
    let ty = text(strategy, "type");
    findings.one_of(&strategy_at.field("type"), ty, &["RollingUpdate", "Recreate"]);
    let rolling_at = strategy_at.field("rollingUpdate");
    let Some(rolling) = child(strategy, "rollingUpdate") else { return };
    if ty == "Recreate" {
        return findings.forbidden(&rolling_at, "a strategy of type Recreate has none");
    }
    let surge = amount(rolling, "maxSurge", &rolling_at, findings);
    let unavailable = amount(rolling, "maxUnavailable", &rolling_at, findings);
    if surge == Some(0) && unavailable == Some(0) {
        findings.invalid(&rolling_at.field("maxUnavailable"), 0, "must not be 0 while maxSurge is 0: nothing could be replaced");
    }
    if let Some(percent) = text(rolling, "maxUnavailable").strip_suffix('%').and_then(|digits| digits.parse::<u32>().ok())
        && percent > 100
    {
        findings.invalid(&rolling_at.field("maxUnavailable"), text(rolling, "maxUnavailable"), "must be no more than 100%");
    }
}

/// A count, or a percentage as its number.
fn amount(map: &Map<String, Value>, name: &str, at: &At<'_>, findings: &mut Findings) -> Option<i64> {
    let value = map.get(name)?;
    if let Some(count) = value.as_i64() {
        findings.not_negative(&at.field(name), Some(count));
        return Some(count);
    }
    let percent = value.as_str()?.strip_suffix('%').and_then(|digits| digits.parse::<u32>().ok());
    if percent.is_none() {
        findings.invalid(&at.field(name), value.clone(), "must be a count or a percentage such as 25%");
    }
    percent.map(i64::from)
}
