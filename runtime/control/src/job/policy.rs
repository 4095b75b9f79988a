//! `podFailurePolicy`: what a failed pod means.

use strake_kinds::batch::{PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use strake_kinds::core::{ContainerStatus, Pod};

use super::Task;
use crate::object::Object;
use crate::pods;

/// What a failed pod means for its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One more failure.
    Count,
    /// Nothing: it is replaced.
    Ignore,
    /// Its index is not tried again.
    FailIndex,
    /// The Job has failed; says why.
    FailJob(String),
}

impl Verdict {
    /// It counts as a failure.
    pub(super) fn counts(&self) -> bool {
        *self != Verdict::Ignore
    }
}

/// The first rule that matches decides.
pub(super) fn verdict(task: &Task<'_>, object: &Object, pod: &Pod) -> Verdict {
    let rules = task.spec().pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (place, rule) in rules.enumerate() {
        let Some(what) = matches(rule, object, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {place}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn matches(rule: &PodFailurePolicyRule, object: &Object, pod: &Pod) -> Option<String> {
    let name = format!("{}/{}", object.id.namespace, object.id.name);
    if let Some(codes) = &rule.on_exit_codes {
        let (container, code) = exit(codes, pod)?;
        return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
    }
    let mut patterns = rule.on_pod_conditions.iter().flatten();
    let found = patterns.find(|pattern| pods::condition(pod, &pattern.type_).is_some_and(|condition| condition.status == pattern.status))?;
    Some(format!("Pod {name} has condition {}", found.type_))
}

fn exit<'a>(codes: &PodFailurePolicyOnExitCodesRequirement, pod: &'a Pod) -> Option<(&'a str, i32)> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten()));
    let of_interest = statuses.filter(|status| codes.container_name.as_ref().is_none_or(|name| *name == status.name));
    of_interest.filter_map(|status| Some((status.name.as_str(), code(status)?))).find(|(_, code)| {
        let listed = codes.values.contains(code);
        if codes.operator == "NotIn" { !listed } else { listed }
    })
}

/// The exit code of a container that failed.
fn code(status: &ContainerStatus) -> Option<i32> {
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    (ended.exit_code != 0).then_some(ended.exit_code)
}
