//! The row of a pod. What its STATUS says is the subtle part: the most telling reason of any of its containers.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, column, or_none, span, wide};
use crate::meta;

pub(super) const PODS: &[Column] = &[
    NAME,
    column("Ready", |pod, _| summary(pod).ready.into()),
    column("Status", |pod, _| summary(pod).status.into()),
    column("Restarts", restarts),
    AGE,
    wide("IP", |pod, _| or_none(pod["status"]["podIP"].as_str().unwrap_or_default())),
    wide("Node", |pod, _| or_none(pod["spec"]["nodeName"].as_str().unwrap_or_default())),
    wide("Nominated Node", |pod, _| or_none(pod["status"]["nominatedNodeName"].as_str().unwrap_or_default())),
    wide("Readiness Gates", |pod, _| gates(pod)),
];

struct Summary {
    ready: String,
    status: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// What a terminated state is called.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match terminated["signal"].as_i64().filter(|signal| *signal != 0) {
        Some(signal) => format!("Signal:{signal}"),
        None => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or_default()),
    }
}

fn condition(pod: &Value, name: &str) -> bool {
    list(&pod["status"], "conditions").iter().any(|condition| condition["type"] == name && condition["status"] == "True")
}

fn restart_time(status: &Value) -> Option<Timestamp> {
    text(&status["lastState"]["terminated"], "finishedAt").parse().ok()
}

/// Init containers that stay beside the others once they have started.
fn is_sidecar(pod: &Value, name: &str) -> bool {
    list(&pod["spec"], "initContainers").iter().any(|container| text(container, "name") == name && container["restartPolicy"] == "Always")
}

#[derive(Default)]
struct Count {
    restarts: i64,
    last: Option<Timestamp>,
}

impl Count {
    fn add(&mut self, status: &Value) {
        self.restarts += status["restartCount"].as_i64().unwrap_or_default();
        self.last = self.last.max(restart_time(status));
    }
}

/// The status while init containers are at work, if they are.
fn initializing(pod: &Value, all: &mut Count, sidecars: &mut Count, ready: &mut usize) -> Option<String> {
    let total = list(&pod["spec"], "initContainers").len();
    for (index, status) in list(&pod["status"], "initContainerStatuses").iter().enumerate() {
        all.add(status);
        let (state, sidecar) = (&status["state"], is_sidecar(pod, text(status, "name")));
        if sidecar {
            sidecars.add(status);
        }
        if state["terminated"]["exitCode"] == 0 {
            continue;
        }
        if sidecar && status["started"] == true {
            *ready += usize::from(status["ready"] == true);
            continue;
        }
        let waiting = text(&state["waiting"], "reason");
        return Some(if !state["terminated"].is_null() {
            format!("Init:{}", ended(&state["terminated"]))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{total}")
        });
    }
    None
}

fn running(pod: &Value, status: &mut String, count: &mut Count, ready: &mut usize) {
    let mut any_running = false;
    for container in list(&pod["status"], "containerStatuses").iter().rev() {
        count.add(container);
        let state = &container["state"];
        let waiting = text(&state["waiting"], "reason");
        if !waiting.is_empty() {
            waiting.clone_into(status);
        } else if !state["terminated"].is_null() {
            *status = ended(&state["terminated"]);
        } else if container["ready"] == true && !state["running"].is_null() {
            any_running = true;
            *ready += 1;
        }
    }
    // A pod with a container that is done and another that runs has not completed.
    if status == "Completed" && any_running {
        (if condition(pod, "Ready") { "Running" } else { "NotReady" }).clone_into(status);
    }
}

fn summary(pod: &Value) -> Summary {
    let containers = list(&pod["spec"], "containers").len();
    let sidecars_count = list(&pod["spec"], "initContainers").iter().filter(|container| container["restartPolicy"] == "Always").count();
    let phase = text(&pod["status"], "phase");
    let mut status = match text(&pod["status"], "reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    let gated = list(&pod["status"], "conditions").iter().any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated");
    if gated {
        "SchedulingGated".clone_into(&mut status);
    }
    let (mut all, mut count, mut ready) = (Count::default(), Count::default(), 0);
    match initializing(pod, &mut all, &mut count, &mut ready) {
        Some(text) if !condition(pod, "Initialized") => {
            status = text;
            count = all;
        }
        _ => running(pod, &mut status, &mut count, &mut ready),
    }
    if meta::is_deleting(pod) {
        if text(&pod["status"], "reason") == "NodeLost" {
            "Unknown".clone_into(&mut status);
        } else if !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut status);
        }
    }
    Summary { ready: format!("{ready}/{}", containers + sidecars_count), status, restarts: count.restarts, last_restart: count.last }
}

fn restarts(pod: &Value, now: Timestamp) -> Value {
    let Summary { restarts, last_restart, .. } = summary(pod);
    match last_restart.filter(|_| restarts > 0) {
        Some(then) => format!("{restarts} ({} ago)", span(now.as_second() - then.as_second())).into(),
        None => restarts.to_string().into(),
    }
}

fn gates(pod: &Value) -> Value {
    let gates = list(&pod["spec"], "readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let open = gates.iter().filter(|gate| condition(pod, text(gate, "conditionType"))).count();
    format!("{open}/{}", gates.len()).into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{restarts, summary};

    fn pod(status: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]}, "status": status})
    }

    fn show(pod: &Value) -> String {
        let found = summary(pod);
        format!("{} {} {}", found.ready, found.status, found.restarts)
    }

    #[test]
    fn statuses() {
        let on = json!({"running": {}});
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        let cases = [
            (json!({"phase": "Pending"}), "0/3 Pending 0"),
            (json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}), "0/3 SchedulingGated 0"),
            (json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": on}]}), "0/3 Init:0/2 0"),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": done}, {"name": "s", "state": {"waiting": {"reason": "PodInitializing"}}}]}),
                "0/3 Init:1/2 0",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
                "0/3 Init:CrashLoopBackOff 2",
            ),
            (json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 3}}}]}), "0/3 Init:ExitCode:3 0"),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
                "0/3 Init:Error 0",
            ),
            (
                json!({"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"}],
                    "initContainerStatuses": [{"name": "i", "state": done}, {"name": "s", "started": true, "ready": true, "state": on}],
                    "containerStatuses": [{"name": "a", "ready": true, "state": on}, {"name": "b", "ready": false, "state": on}]}),
                "2/3 Running 0",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"name": "a", "ready": true, "state": on}, {"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
                "1/3 CrashLoopBackOff 4",
            ),
            (json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}), "0/3 ImagePullBackOff 0"),
            (json!({"phase": "Succeeded", "containerStatuses": [{"state": done}, {"state": done}]}), "0/3 Completed 0"),
            (json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}), "0/3 OOMKilled 0"),
            (json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 2, "signal": 9}}}]}), "0/3 Signal:9 0"),
            (json!({"phase": "Failed", "reason": "Evicted"}), "0/3 Evicted 0"),
            (json!({"phase": "Running", "containerStatuses": [{"state": done}, {"ready": true, "state": on}]}), "1/3 NotReady 0"),
        ];
        for (status, expected) in cases {
            assert_eq!(show(&pod(status.clone())), expected, "{status}");
        }
        let mut going = pod(json!({"phase": "Running"}));
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(show(&going), "0/3 Terminating 0");
        going["status"]["reason"] = "NodeLost".into();
        assert_eq!(show(&going), "0/3 Unknown 0");
    }

    #[test]
    fn restarts_say_how_long_ago() {
        let pod =
            pod(json!({"phase": "Running", "containerStatuses": [{"restartCount": 3, "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}}]}));
        assert_eq!(restarts(&pod, "2026-01-01T00:02:05Z".parse().unwrap()), "3 (2m5s ago)");
    }
}
