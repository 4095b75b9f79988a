//! Why does an object not get ready? From pods to a chain a person can act on: object, pod, container, state, exit code, last log lines, a likely fix.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use strake_plan::Change;

use crate::failure::{Trouble, missing_config};

/// The chain from an object to the container that stops it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Blame {
    /// The applied object, as `deployment/web in shop`.
    pub object: String,
    /// `file:line` of the manifest.
    pub origin: String,
    /// What is wrong with the object itself.
    pub reason: String,
    /// What stands between the object and its pods, as `replicaset/web-5d4f`; empty when nothing does.
    pub owner: String,
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
    /// The field of the manifest that is most likely responsible, as `spec.template.spec.containers[0].image`.
    pub field: String,
    /// `file:line` of that field.
    pub at: String,
    /// The likely fix.
    pub hint: String,
}

/// `kind/name` of an object.
pub(crate) fn label(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]).to_lowercase(), text(&object["metadata"]["name"]))
}

/// What a pod shows: its container, that one's state, and the way out. `events` of the blame must be there already.
pub(crate) fn of_pod(blame: &mut Blame, pod: &Value, trouble: Option<&Trouble>) {
    let first = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default();
    blame.container = first.to_owned();
    let Some(trouble) = trouble else {
        blame.container = unready_container(pod).unwrap_or(first).to_owned();
        if let Some(probe) = failing_probe(&blame.events) {
            blame.state = format!("container {} runs, and its {} probe fails", blame.container, probe.word);
            blame.hint = probe.hint.to_owned();
        }
        return;
    };
    blame.state = trouble.text.clone();
    blame.exit_code = trouble.exit_code;
    blame.hint = hint(trouble).to_owned();
    if !trouble.container.is_empty() {
        blame.container = trouble.container.clone();
    }
    if is_kill(trouble)
        && let Some(probe) = failing_probe(&blame.events).filter(|probe| probe.word != "readiness")
    {
        blame.hint = probe.hint.to_owned();
    }
}

/// What an object without a pod shows: why none could be made.
pub(crate) fn of_object(blame: &mut Blame, object: &Value) {
    let said: String = std::iter::once(blame.reason.as_str()).chain(blame.events.iter().map(String::as_str)).collect::<Vec<_>>().join("\n");
    let ways = [
        ("exceeded quota", "the namespace's ResourceQuota is used up: ask for less, free some of it, or raise the quota"),
        ("must specify limits", "the namespace's ResourceQuota demands limits: give each container resources.requests and resources.limits"),
        ("must specify requests", "the namespace's ResourceQuota demands requests: give each container resources.requests and resources.limits"),
        ("violates PodSecurity", "the namespace's Pod Security level forbids it: correct the securityContext that the message names"),
        ("maximum cpu usage", "the namespace's LimitRange allows less: correct resources.limits"),
        ("maximum memory usage", "the namespace's LimitRange allows less: correct resources.limits"),
        ("admission webhook", "a webhook of the cluster refuses the pods: its message says why"),
        ("serviceaccount", "create the ServiceAccount, or correct serviceAccountName"),
        ("ServiceAccount", "create the ServiceAccount, or correct serviceAccountName"),
        ("no persistent volumes available", "no volume fits the claim, and its class makes none: create one or correct storageClassName"),
        ("storageclass", "correct storageClassName: `kubectl get storageclass` lists what there is"),
    ];
    blame.hint = match ways.iter().find(|(words, _)| said.contains(words)) {
        Some((_, way)) => (*way).to_owned(),
        None if object["kind"] == "DaemonSet" => "no pod could be made on some node: the events say why".to_owned(),
        None => String::new(),
    };
}

fn unready_container(pod: &Value) -> Option<&str> {
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    statuses.iter().find(|status| status["ready"] == false)?["name"].as_str()
}

struct Probe {
    word: &'static str,
    field: &'static str,
    hint: &'static str,
}

/// The probe of which the events say that it fails: the one that keeps the pod from starting first.
fn failing_probe(events: &[String]) -> Option<Probe> {
    let probes = [
        (
            "Startup probe",
            Probe { word: "startup", field: "startupProbe", hint: "the startup probe must pass: correct its port, path or failureThreshold, or the program" },
        ),
        (
            "Liveness probe",
            Probe {
                word: "liveness",
                field: "livenessProbe",
                hint: "the liveness probe kills it: correct its port, path or initialDelaySeconds, or use a startupProbe",
            },
        ),
        (
            "Readiness probe",
            Probe {
                word: "readiness",
                field: "readinessProbe",
                hint: "the readiness probe must pass: correct its port and path, or what the program answers there",
            },
        ),
    ];
    probes.into_iter().find(|(words, _)| events.iter().any(|event| event.contains(words))).map(|(_, probe)| probe)
}

/// Ended by a signal that a failing liveness probe may have caused.
fn is_kill(trouble: &Trouble) -> bool {
    trouble.reason != "OOMKilled" && matches!(trouble.exit_code, Some(137 | 143))
}

/// Finds the field of the manifest that is responsible, and where it was written.
pub(crate) fn place(blame: &mut Blame, change: &Change, trouble: Option<&Trouble>) {
    let pointers = responsible(&change.object, blame, trouble);
    // A field that was not written (a limit, a probe) is missing where its container is.
    let Some((pointer, at)) = pointers.iter().find_map(|pointer| Some((pointer, change.places.get(pointer)?))) else { return };
    blame.field = dotted(pointer);
    blame.at.clone_from(at);
}

/// JSON pointers to the fields that most likely have to be changed, the best one first.
pub(crate) fn responsible(object: &Value, blame: &Blame, trouble: Option<&Trouble>) -> Vec<String> {
    let Some((base, spec)) = pod_spec(object) else { return Vec::new() };
    let container = container_pointer(base, spec, &blame.container);
    let of = |fields: &[&str]| -> Vec<String> {
        let inside = fields.iter().map(|field| format!("{container}/{field}"));
        inside.chain([container.clone()]).filter(|pointer| object.pointer(pointer).is_some()).collect()
    };
    let of_pod =
        |fields: &[&str]| -> Vec<String> { fields.iter().map(|field| format!("{base}/{field}")).filter(|pointer| object.pointer(pointer).is_some()).collect() };
    let probe = failing_probe(&blame.events);
    let Some(trouble) = trouble else {
        if let Some(probe) = probe {
            return of(&[probe.field]);
        }
        let said = |word: &str| blame.reason.contains(word) || blame.events.iter().any(|event| event.contains(word));
        return match () {
            () if said("quota") || said("LimitRange") || said("usage per") => of(&["resources"]),
            () if said("PodSecurity") => of(&["securityContext"]),
            () if said("erviceaccount") || said("erviceAccount") => of_pod(&["serviceAccountName"]),
            () => Vec::new(),
        };
    };
    if let Some(probe) = probe.filter(|probe| is_kill(trouble) && probe.word != "readiness") {
        return of(&[probe.field]);
    }
    match (trouble.reason.as_str(), trouble.exit_code) {
        ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull", _) => of(&["image"]),
        ("CreateContainerConfigError", _) => {
            let mut found = missing_config(&trouble.text).map(|(_, name)| naming(object, &container, &name)).unwrap_or_default();
            found.extend(of(&["env", "envFrom", "securityContext"]));
            found
        }
        ("Unschedulable", _) => match () {
            () if trouble.text.contains("Insufficient") => of(&["resources/requests", "resources"]),
            () if trouble.text.contains("affinity/selector") => of_pod(&["nodeSelector", "affinity"]),
            () if trouble.text.contains("free ports") => of(&["ports"]),
            () if trouble.text.contains("taint") => of_pod(&["tolerations"]),
            () => Vec::new(),
        },
        ("OOMKilled", _) => of(&["resources/limits/memory", "resources"]),
        ("StartError" | "RunContainerError" | "CreateContainerError", _) | (_, Some(126..=128)) => of(&["command", "args", "image"]),
        (_, Some(137)) => of(&["resources/limits/memory", "resources"]),
        _ => of(&["command", "args", "image"]),
    }
}

/// Where an object describes its pods: the pointer and what is there.
fn pod_spec(object: &Value) -> Option<(&'static str, &Value)> {
    let pointers = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/spec"];
    pointers.into_iter().filter_map(|pointer| Some((pointer, object.pointer(pointer)?))).find(|(_, spec)| spec["containers"].is_array())
}

fn container_pointer(base: &str, spec: &Value, name: &str) -> String {
    let found = ["containers", "initContainers"].into_iter().find_map(|list| {
        let place = spec[list].as_array()?.iter().position(|container| container["name"] == name)?;
        Some(format!("{base}/{list}/{place}"))
    });
    found.unwrap_or_else(|| format!("{base}/containers/0"))
}

/// The references of a container's environment to the ConfigMap or Secret of this name.
fn naming(object: &Value, container: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let list = |field: &str| object.pointer(&format!("{container}/{field}")).and_then(Value::as_array).cloned().unwrap_or_default();
    for (place, item) in list("env").iter().enumerate() {
        for kind in ["configMapKeyRef", "secretKeyRef"] {
            if item["valueFrom"][kind]["name"] == name {
                found.push(format!("{container}/env/{place}/valueFrom/{kind}/name"));
            }
        }
    }
    for (place, item) in list("envFrom").iter().enumerate() {
        for kind in ["configMapRef", "secretRef"] {
            if item[kind]["name"] == name {
                found.push(format!("{container}/envFrom/{place}/{kind}/name"));
            }
        }
    }
    found
}

/// `/spec/containers/0/image` as `spec.containers[0].image`.
fn dotted(pointer: &str) -> String {
    let mut text = String::new();
    for token in pointer.split('/').skip(1) {
        match token.parse::<usize>() {
            Ok(index) => text.push_str(&format!("[{index}]")),
            Err(_) if text.is_empty() => text.push_str(token),
            Err(_) => text.push_str(&format!(".{token}")),
        }
    }
    text
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
        if !self.owner.is_empty() {
            writeln!(f, "  made {}", self.owner)?;
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
        if !self.at.is_empty() {
            writeln!(f, "  {} is written at {}", self.field, self.at)?;
        }
        if self.hint.is_empty() { Ok(()) } else { write!(f, "  likely fix: {}", self.hint) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Blame, dotted, hint, of_object, of_pod, responsible};
    use crate::failure::trouble;
    use serde_json::json;

    fn pod(state: serde_json::Value, last: serde_json::Value) -> serde_json::Value {
        json!({"spec": {"containers": [{"name": "web"}]}, "status": {"containerStatuses": [{"name": "web", "ready": false, "restartCount": 2, "state": state, "lastState": last}]}})
    }

    /// A Deployment with everything that can be responsible.
    fn deployment() -> serde_json::Value {
        let container = json!({
            "name": "web", "image": "web:1", "command": ["serve"], "livenessProbe": {}, "readinessProbe": {}, "resources": {"limits": {"memory": "1Mi"}, "requests": {}},
            "envFrom": [{"secretRef": {"name": "other"}}, {"configMapRef": {"name": "settings"}}],
        });
        let spec = json!({"containers": [{"name": "side", "image": "side:1"}, container], "nodeSelector": {"a": "b"}, "serviceAccountName": "robot"});
        json!({"kind": "Deployment", "spec": {"template": {"spec": spec}}})
    }

    fn found(state: serde_json::Value, last: serde_json::Value, events: &[&str]) -> String {
        let pod = pod(state, last);
        let trouble = trouble(&pod);
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        let mut blame = Blame { events, ..Blame::default() };
        of_pod(&mut blame, &pod, trouble.as_ref());
        dotted(responsible(&deployment(), &blame, trouble.as_ref()).first().map_or("", String::as_str))
    }

    #[test]
    fn the_responsible_field_is_found_by_what_went_wrong() {
        let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
        let ended = |code: i64, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason}});
        let none = || json!({});
        let web = "spec.template.spec.containers[1]";
        let rows = [
            (waiting("ErrImagePull", "manifest unknown"), none(), vec![], "image"),
            (waiting("InvalidImageName", ""), none(), vec![], "image"),
            (waiting("CreateContainerConfigError", "configmap \"settings\" not found"), none(), vec![], "envFrom[1].configMapRef.name"),
            (waiting("RunContainerError", "no such file"), none(), vec![], "command"),
            (waiting("CrashLoopBackOff", ""), ended(1, "Error"), vec![], "command"),
            (waiting("CrashLoopBackOff", ""), ended(137, "OOMKilled"), vec![], "resources.limits.memory"),
            (waiting("CrashLoopBackOff", ""), ended(143, "Error"), vec!["Unhealthy: Liveness probe failed: refused"], "livenessProbe"),
            (json!({"running": {}}), none(), vec!["Unhealthy: Readiness probe failed: 500"], "readinessProbe"),
        ];
        for (state, last, events, field) in rows {
            assert_eq!(found(state.clone(), last, &events), format!("{web}.{field}"), "{state}");
        }
    }

    #[test]
    fn a_pod_without_a_node_and_an_object_without_pods_are_explained_too() {
        let unscheduled =
            |words: &str| json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}});
        let first = |words: &str| {
            let pod = unscheduled(words);
            let trouble = trouble(&pod);
            let mut blame = Blame::default();
            of_pod(&mut blame, &pod, trouble.as_ref());
            dotted(responsible(&deployment(), &Blame { container: "web".to_owned(), ..blame }, trouble.as_ref()).first().map_or("", String::as_str))
        };
        assert_eq!(first("0/1 nodes are available: 1 didn't match Pod's node affinity/selector"), "spec.template.spec.nodeSelector");
        assert_eq!(first("0/1 nodes are available: 1 Insufficient memory"), "spec.template.spec.containers[1].resources.requests");
        let mut quota =
            Blame { reason: "0 of 1 replicas updated (FailedCreate: exceeded quota: small)".to_owned(), container: "web".to_owned(), ..Blame::default() };
        of_object(&mut quota, &deployment());
        assert!(quota.hint.contains("ResourceQuota"), "{}", quota.hint);
        assert_eq!(dotted(&responsible(&deployment(), &quota, None)[0]), "spec.template.spec.containers[1].resources");
        let mut account = Blame { events: vec!["FailedCreate: serviceaccount \"robot\" not found".to_owned()], ..Blame::default() };
        of_object(&mut account, &deployment());
        assert_eq!(dotted(&responsible(&deployment(), &account, None)[0]), "spec.template.spec.serviceAccountName");
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
