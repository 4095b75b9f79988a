//! Why does an object not get ready? From pods to a chain a person can act on: object, pod, container, state, exit code, last log lines, a likely fix.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// The chain from an object to the container that stops it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Blame {
    /// The applied object, as `deployment/web in shop`.
    pub object: String,
    /// `file:line` of the manifest.
    pub origin: String,
    /// What is wrong with the object itself.
    pub reason: String,
    /// The pod that shows it; empty when none exists.
    pub pod: String,
    /// Its container.
    pub container: String,
    /// What is wrong with the container.
    pub state: String,
    /// The container's last exit code.
    pub exit_code: Option<i64>,
    /// The last lines it wrote.
    pub log: Vec<String>,
    /// Warnings that name the pod or the object.
    pub events: Vec<String>,
    /// The likely fix.
    pub hint: String,
}

/// How bad a pod's trouble is (three classes: a bad image fails in seconds, a slow start never fails early).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Passes by itself.
    Transient,
    /// May heal; fails when it goes on.
    Budgeted,
    /// Will not heal without a change.
    Terminal,
}

/// A container in trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Container name; empty for the pod itself.
    pub container: String,
    /// One phrase, such as `container web exited with code 3 (Error)`.
    pub text: String,
    /// How bad.
    pub class: Class,
    /// Last exit code.
    pub exit_code: Option<i64>,
    /// Restarts so far.
    pub restarts: i64,
    /// The reason word of Kubernetes.
    pub reason: String,
}

/// The text of the worst trouble of a pod's containers.
pub fn container_trouble(pod: &Value) -> Option<String> {
    trouble(pod).map(|trouble| trouble.text)
}

/// The worst trouble of a pod.
pub fn trouble(pod: &Value) -> Option<Trouble> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let statuses = lists.iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    statuses.filter_map(container).chain(unschedulable(pod)).max_by_key(|trouble| (trouble.class, trouble.restarts))
}

fn unschedulable(pod: &Value) -> Option<Trouble> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let condition = conditions.iter().find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")?;
    let message = condition["message"].as_str().unwrap_or("no node fits");
    let reason = condition["reason"].as_str().unwrap_or("Unschedulable").to_owned();
    let text = format!("cannot be scheduled: {message}");
    Some(Trouble { container: String::new(), text, class: Class::Budgeted, exit_code: None, restarts: 0, reason })
}

fn container(status: &Value) -> Option<Trouble> {
    let name = status["name"].as_str().unwrap_or_default();
    let restarts = status["restartCount"].as_i64().unwrap_or(0);
    let waiting = &status["state"]["waiting"];
    let ended = [&status["state"]["terminated"], &status["lastState"]["terminated"]].into_iter().find(|ended| ended.is_object());
    let exit_code = ended.and_then(|ended| ended["exitCode"].as_i64());
    let make = |reason: &str, text: String, class| Some(Trouble { container: name.to_owned(), text, class, exit_code, restarts, reason: reason.to_owned() });
    if let Some(reason) = waiting["reason"].as_str() {
        let message = waiting["message"].as_str().unwrap_or_default();
        let class = match reason {
            "ContainerCreating" | "PodInitializing" => return None,
            "InvalidImageName" | "ErrImageNeverPull" | "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Class::Terminal,
            _ => Class::Budgeted,
        };
        let code = exit_code.map(|code| format!(", last exit code {code}")).unwrap_or_default();
        let colon = if message.is_empty() { "" } else { ": " };
        return make(reason, format!("container {name} is waiting in {reason}{colon}{message}{code}"), class);
    }
    let ended = ended?;
    let reason = ended["reason"].as_str().unwrap_or("Error");
    let code = exit_code.unwrap_or(0);
    if code == 0 && reason == "Completed" {
        return None;
    }
    if status["ready"] == true {
        return None;
    }
    let message = ended["message"].as_str().map(|message| format!(": {message}")).unwrap_or_default();
    let class = match reason {
        "StartError" | "ContainerCannotRun" => Class::Terminal,
        // The node was stopped under it, which is nothing that it did: it is run again.
        "ContainerStatusUnknown" => Class::Transient,
        _ => Class::Budgeted,
    };
    make(reason, format!("container {name} exited with code {code} ({reason}){message}"), class)
}

/// What a person most likely has to do about a pod that no node takes, by the scheduler's words.
fn way_to_a_node(text: &str) -> &'static str {
    let ways = [
        ("were unschedulable", "the node takes no new pods: `kubectl uncordon NODE` lets it again"),
        ("untolerated taint", "add a toleration to the pod, or take the taint off: `kubectl taint node NODE KEY-`"),
        ("affinity/selector", "correct the nodeSelector or affinity, or label a node: `kubectl label node NODE KEY=VALUE`"),
        ("free ports", "another pod has the host port: choose another one"),
        ("Insufficient", "ask for less in resources.requests, or free resources on the node"),
    ];
    ways.iter().find(|(words, _)| text.contains(words)).map_or("the scheduler's words say which wish of the pod no node meets", |(_, way)| way)
}

/// What a person most likely has to do, by the reason and the exit code.
pub fn hint(trouble: &Trouble) -> &'static str {
    match (trouble.reason.as_str(), trouble.exit_code) {
        ("ErrImagePull" | "ImagePullBackOff", _) => "the image is neither in the store nor to be pulled: build it, import it, or correct its name",
        ("ErrImageNeverPull", _) => "the image is not in the store and imagePullPolicy forbids pulling: build or import it",
        ("InvalidImageName", _) => "correct the image's name",
        ("CreateContainerConfigError", _) => "create the ConfigMap or Secret it names, or mark the reference optional",
        ("Unschedulable", _) => way_to_a_node(&trouble.text),
        ("ContainerStatusUnknown", _) => "nothing to do: the node was stopped while it ran, and it is run again",
        ("OOMKilled", _) | (_, Some(137)) => "it was killed, most likely for memory: raise resources.limits.memory",
        ("StartError" | "RunContainerError", _) | (_, Some(127 | 128)) => "the program is not in the image: check command, ENTRYPOINT and PATH",
        (_, Some(126)) => "the program cannot be run: check its mode bits and its interpreter",
        (_, Some(143)) => "it was ended by SIGTERM: a failing liveness probe does that",
        _ => "its log says more",
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.object, self.reason)?;
        if !self.origin.is_empty() {
            writeln!(f, "  written at {}", self.origin)?;
        }
        if !self.pod.is_empty() {
            writeln!(f, "  pod {}: {}", self.pod, if self.state.is_empty() { "is not ready" } else { &self.state })?;
        }
        for event in &self.events {
            writeln!(f, "  event: {event}")?;
        }
        if !self.log.is_empty() {
            writeln!(f, "  last lines of {}:", self.container)?;
            for line in &self.log {
                writeln!(f, "    | {line}")?;
            }
        }
        if self.hint.is_empty() { Ok(()) } else { write!(f, "  likely fix: {}", self.hint) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, hint, trouble};
    use serde_json::json;

    fn pod(state: serde_json::Value, last: serde_json::Value) -> serde_json::Value {
        json!({"status": {"containerStatuses": [{"name": "web", "restartCount": 2, "state": state, "lastState": last}]}})
    }

    #[test]
    fn classes_follow_what_can_heal() {
        let rows = [
            (json!({"waiting": {"reason": "ErrImageNeverPull"}}), json!({}), Some(Class::Terminal)),
            (json!({"waiting": {"reason": "ImagePullBackOff"}}), json!({}), Some(Class::Budgeted)),
            (json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({"terminated": {"exitCode": 3, "reason": "Error"}}), Some(Class::Budgeted)),
            (json!({"waiting": {"reason": "ContainerCreating"}}), json!({}), None),
            (json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), json!({}), None),
            (json!({"running": {}}), json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}), Some(Class::Transient)),
            (json!({"running": {}}), json!({}), None),
        ];
        for (state, last, expected) in rows {
            assert_eq!(trouble(&pod(state.clone(), last)).map(|trouble| trouble.class), expected, "{state}");
        }
    }

    #[test]
    fn a_crash_loop_names_its_last_exit_code_and_a_fix() {
        let crashed = pod(json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({"terminated": {"exitCode": 127, "reason": "Error"}}));
        let trouble = trouble(&crashed).expect("in trouble");
        assert!(trouble.text.contains("last exit code 127"), "{}", trouble.text);
        assert!(hint(&trouble).contains("not in the image"));
    }

    #[test]
    fn the_schedulers_words_choose_the_way_out() {
        let way = |words: &str| super::way_to_a_node(&format!("cannot be scheduled: 0/1 nodes are available: 1 {words}."));
        assert!(way("node(s) were unschedulable").contains("uncordon"));
        assert!(way("node(s) had untolerated taint {a: b}").contains("toleration"));
        assert!(way("Insufficient memory").contains("resources.requests"));
        assert!(way("node(s) didn't match Pod's node affinity/selector").contains("nodeSelector"));
    }
}
