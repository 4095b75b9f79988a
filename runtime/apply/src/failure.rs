//! When is a rollout lost? Pod troubles in three classes, and a tally that says when waiting longer has no use. Pure: pods and the time since the wait began go in.
//!
//! | class | what | fails |
//! |---|---|---|
//! | terminal | a name that is no image, a program that is not in the image, a ConfigMap that nobody makes, a manifest that the registry does not have | at once |
//! | budgeted | a container that ends with an error or is killed, a registry that does not answer, a pod that no node takes | when the budget is spent |
//! | transient | an image on its way, init containers at work, a probe that has not passed yet | only at the deadline |
//!
//! The budget is counted over all replicas and is given back to a pod that has been ready for the quiet time: one restart that heals fails nothing, a crash loop does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

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

/// How soon the wait for an object gives up; each is waited for by itself, so that one run tells all that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// As soon as it cannot get there.
    #[default]
    FailFast,
    /// Only the deadline counts: whatever happens before may heal.
    UntilDeadline,
}

/// What is tolerated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How soon to give up.
    pub mode: Mode,
    /// Failures of containers that are allowed for each replica, counted over all of them.
    pub failures_per_replica: u32,
    /// A pod that has been ready this long has its failures forgiven.
    pub quiet: Duration,
    /// How long a pod may find no node.
    pub unschedulable: Duration,
    /// How long a registry may not answer.
    pub pulling: Duration,
    /// Give up when nothing at all has changed for this long; `None`: a slow start never fails early.
    pub inactive: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Policy { mode: Mode::FailFast, failures_per_replica: 1, quiet: seconds(30), unschedulable: seconds(10), pulling: seconds(20), inactive: None }
    }
}

/// The annotation of a workload by which it tolerates another number of failures than the apply; the second is read as werf's.
const FAILURES: [&str; 2] = ["strake.dev/failures-per-replica", "werf.io/failures-allowed-per-replica"];

impl Policy {
    /// What is tolerated of one object.
    pub fn of(&self, object: &Value) -> Policy {
        let mut policy = self.clone();
        let annotations = &object["metadata"]["annotations"];
        if let Some(number) = FAILURES.iter().find_map(|name| annotations[*name].as_str()?.parse().ok()) {
            policy.failures_per_replica = number;
        }
        // A Job counts its pods' failures itself, against its own limit.
        if object["kind"] == "Job" {
            policy.failures_per_replica = u32::MAX;
        }
        policy
    }
}

/// The worst trouble of a pod.
pub fn trouble(pod: &Value) -> Option<Trouble> {
    statuses(pod).filter_map(container).chain(unschedulable(pod)).max_by_key(|trouble| (trouble.class, trouble.restarts))
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"].into_iter().filter_map(|list| pod["status"][list].as_array()).flatten()
}

fn unschedulable(pod: &Value) -> Option<Trouble> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let condition = conditions.iter().find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")?;
    let message = condition["message"].as_str().unwrap_or("no node fits");
    let reason = condition["reason"].as_str().unwrap_or("Unschedulable").to_owned();
    // A gate is lifted by whoever set it.
    let class = if reason == "SchedulingGated" { Class::Transient } else { Class::Budgeted };
    let text = format!("cannot be scheduled: {message}");
    Some(Trouble { container: String::new(), text, class, exit_code: None, restarts: 0, reason })
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
            _ => waiting_class(reason, message),
        };
        // A container that was killed for its memory waits like one that crashed; what killed it is what people look for.
        let why = ended.and_then(|ended| ended["reason"].as_str()).filter(|why| *why == "OOMKilled").map(|why| format!(" ({why})")).unwrap_or_default();
        let code = exit_code.map(|code| format!(", last exit code {code}{why}")).unwrap_or_default();
        let colon = if message.is_empty() { "" } else { ": " };
        let word = if why.is_empty() { reason } else { "OOMKilled" };
        return make(word, format!("container {name} is waiting in {reason}{colon}{message}{code}"), class);
    }
    let ended = ended?;
    let reason = ended["reason"].as_str().unwrap_or("Error");
    let code = exit_code.unwrap_or(0);
    if (code == 0 && reason == "Completed") || status["ready"] == true {
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

/// Words by which registries and runtimes say that asking again gives the same answer.
const NO_SUCH_IMAGE: &[&str] = &[
    "not found",
    "manifest unknown",
    "name unknown",
    "does not exist",
    "unauthorized",
    "authentication required",
    "access denied",
    "denies access",
    "is not available for",
    "access to the resource is denied",
    "no match for platform",
    "no matching manifest",
];

/// Words of a runtime about a program that is not there or may not be run.
const NO_SUCH_PROGRAM: &[&str] = &["no such file", "not found", "permission denied", "exec format", "is a directory"];

fn says(message: &str, words: &[&str]) -> bool {
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}

fn waiting_class(reason: &str, message: &str) -> Class {
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" | "CreateContainerConfigError" => Class::Terminal,
        "RunContainerError" | "CreateContainerError" if message.is_empty() || says(message, NO_SUCH_PROGRAM) => Class::Terminal,
        // The back-off comes after an attempt: by then the registry has said twice that there is no such image, or says so still.
        "ImagePullBackOff" | "ErrImagePull" if says(message, NO_SUCH_IMAGE) => Class::Terminal,
        _ => Class::Budgeted,
    }
}

/// The ConfigMap or Secret that a container waits for: its kind and its name.
pub fn missing_config(text: &str) -> Option<(&'static str, String)> {
    let lower = text.to_lowercase();
    let kind = if lower.contains("configmap") { "ConfigMap" } else { lower.contains("secret").then_some("Secret")? };
    let name = text.split('"').nth(1).filter(|name| !name.is_empty())?;
    Some((kind, name.rsplit('/').next().unwrap_or(name).to_owned()))
}

/// What has been seen of an object's pods since the wait began.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pods: BTreeMap<String, Seen>,
    no_node_since: Option<Duration>,
    /// What the pods looked like, and since when.
    looks: (String, Duration),
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// Failures that are not held against the rollout: they were there before, or the pod has been quiet since.
    forgiven: i64,
    failures: i64,
    ready_since: Option<Duration>,
    pulling_since: Option<Duration>,
}

/// Why a wait should end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Name of the pod that shows it; empty when it is about none of them.
    pub pod: String,
    /// One phrase for people.
    pub why: String,
}

impl Tally {
    /// Begins a wait: what has happened to these pods before (a stop, a fault that was mended) is not held against the rollout.
    pub fn starting_from(pods: &[Value]) -> Self {
        let seen = |pod: &Value| Seen { forgiven: failures(pod), failures: failures(pod), ..Seen::default() };
        let old = pods.iter().filter(|pod| failures(pod) > 0);
        Tally { pods: old.map(|pod| (uid(pod).to_owned(), seen(pod))).collect(), ..Tally::default() }
    }

    /// Takes in what the pods of an object are like `at` this time of the wait; `replicas` are wanted, and `coming` says whether a ConfigMap or Secret (kind, name) is
    /// still to be made by this apply. An answer says that the rollout is lost.
    pub fn look(&mut self, pods: &[Value], replicas: i64, at: Duration, policy: &Policy, coming: &dyn Fn(&str, &str) -> bool) -> Option<Lost> {
        if policy.mode == Mode::UntilDeadline {
            return None;
        }
        let present: BTreeSet<&str> = pods.iter().map(uid).collect();
        let mut lost = None;
        let mut no_node = None;
        for pod in pods {
            let seen = self.pods.entry(uid(pod).to_owned()).or_default();
            seen.take(pod, at, policy);
            let Some(trouble) = trouble(pod) else {
                seen.pulling_since = None;
                continue;
            };
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            no_node = no_node.or((trouble.container.is_empty() && trouble.class == Class::Budgeted).then_some(name));
            lost = lost.or(seen.lost_by(&trouble, at, policy, coming).map(|why| Lost { pod: name.to_owned(), why }));
        }
        // Pods that are gone keep their failures: a Job or a ReplicaSet that replaces what crashes is a crash loop too.
        let spent: i64 = self.pods.values().map(|seen| (seen.failures - seen.forgiven).max(0)).sum();
        let allowed = i64::from(policy.failures_per_replica) * replicas.max(1);
        let loudest = self.pods.iter().filter(|(uid, _)| present.contains(uid.as_str())).max_by_key(|(_, seen)| seen.failures - seen.forgiven);
        let loudest = loudest.and_then(|(uid, _)| pods.iter().find(|pod| self::uid(pod) == uid)).and_then(|pod| pod["metadata"]["name"].as_str());
        let budget = || Lost { pod: loudest.unwrap_or_default().to_owned(), why: format!("{spent} failures of its containers, {allowed} are tolerated") };
        let lost = lost.or_else(|| (spent > allowed).then(budget));
        let lost = lost.or_else(|| self.without_node(no_node, at, policy));
        lost.or_else(|| self.inactive(pods, at, policy))
    }

    fn without_node(&mut self, pod: Option<&str>, at: Duration, policy: &Policy) -> Option<Lost> {
        let Some(pod) = pod else {
            self.no_node_since = None;
            return None;
        };
        let since = *self.no_node_since.get_or_insert(at);
        let lost = Lost { pod: pod.to_owned(), why: format!("no node has taken the pod for {} s", policy.unschedulable.as_secs()) };
        (at.saturating_sub(since) >= policy.unschedulable).then_some(lost)
    }

    fn inactive(&mut self, pods: &[Value], at: Duration, policy: &Policy) -> Option<Lost> {
        let limit = policy.inactive?;
        let looks: String = pods.iter().map(|pod| format!("{}{}", uid(pod), pod["status"])).collect();
        if self.looks.0 != looks {
            self.looks = (looks, at);
        }
        let lost = Lost { pod: String::new(), why: format!("nothing has changed for {} s", limit.as_secs()) };
        (at.saturating_sub(self.looks.1) >= limit).then_some(lost)
    }
}

impl Seen {
    fn take(&mut self, pod: &Value, at: Duration, policy: &Policy) {
        self.failures = failures(pod);
        if !is_ready(pod) {
            self.ready_since = None;
            return;
        }
        let since = *self.ready_since.get_or_insert(at);
        if at.saturating_sub(since) >= policy.quiet {
            self.forgiven = self.failures;
        }
    }

    fn lost_by(&mut self, trouble: &Trouble, at: Duration, policy: &Policy, coming: &dyn Fn(&str, &str) -> bool) -> Option<String> {
        let is_pull = matches!(trouble.reason.as_str(), "ErrImagePull" | "ImagePullBackOff");
        if !is_pull {
            self.pulling_since = None;
        }
        match trouble.class {
            Class::Transient => None,
            Class::Terminal => {
                let expected = trouble.reason == "CreateContainerConfigError" && missing_config(&trouble.text).is_some_and(|(kind, name)| coming(kind, &name));
                (!expected).then(|| "the rollout cannot succeed".to_owned())
            }
            Class::Budgeted if is_pull => {
                let since = *self.pulling_since.get_or_insert(at);
                (at.saturating_sub(since) >= policy.pulling).then(|| format!("its image could not be pulled for {} s", policy.pulling.as_secs()))
            }
            Class::Budgeted => None,
        }
    }
}

/// How often containers of a pod have failed: each restart was one, and one that lies still after an error is one more.
fn failures(pod: &Value) -> i64 {
    let of = |status: &Value| {
        let down = status["state"]["terminated"].is_object() || status["state"]["waiting"].is_object();
        let ended = [&status["state"]["terminated"], &status["lastState"]["terminated"]].into_iter().find(|ended| ended.is_object());
        let by_itself = ended.is_some_and(|ended| ended["reason"] == "ContainerStatusUnknown");
        let failed = ended.is_some_and(|ended| ended["exitCode"].as_i64().unwrap_or(0) != 0);
        let restarts = status["restartCount"].as_i64().unwrap_or(0);
        if by_itself { restarts.saturating_sub(1) } else { restarts + i64::from(down && failed) }
    };
    statuses(pod).map(of).sum()
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap_or_default()
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|conditions| conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

#[cfg(test)]
#[path = "failure/tests.rs"]
mod tests;
