//! Which troubles end a wait, when, and which never do.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Class, Mode, Policy, Tally, missing_config, trouble};

fn pod(name: &str, statuses: Value) -> Value {
    json!({"metadata": {"name": name, "uid": name}, "status": {"containerStatuses": statuses}})
}

fn waiting(name: &str, reason: &str, message: &str) -> Value {
    pod(name, json!([{"name": "web", "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}]))
}

/// A container that has crashed so often: it runs again, or lies still.
fn crashed(name: &str, restarts: i64, down: bool) -> Value {
    let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    let state = if down { json!({"waiting": {"reason": "CrashLoopBackOff"}}) } else { json!({"running": {}}) };
    pod(name, json!([{"name": "web", "restartCount": restarts, "state": state, "lastState": ended}]))
}

fn ready(mut pod: Value) -> Value {
    pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    pod["status"]["containerStatuses"][0]["ready"] = json!(true);
    pod
}

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Why the wait ends after the last look, if it does; none of the earlier ones ends it.
fn after(looks: &[(u64, Vec<Value>)], replicas: i64, policy: &Policy) -> Option<String> {
    let mut tally = Tally::default();
    let mut last = None;
    for (index, (seconds, pods)) in looks.iter().enumerate() {
        last = tally.look(pods, replicas, at(*seconds), policy, &|_, _| false);
        assert!(index + 1 == looks.len() || last.is_none(), "ended early at {seconds} s: {last:?}");
    }
    last.map(|lost| format!("{}: {}", lost.pod, lost.why))
}

#[test]
fn classes_follow_what_can_heal() {
    let gone = "Back-off pulling image \"web:9\": ErrImagePull: web:9 does not exist in its registry";
    let rows = [
        ("ErrImageNeverPull", "", Some(Class::Terminal)),
        ("InvalidImageName", "", Some(Class::Terminal)),
        ("ImagePullBackOff", gone, Some(Class::Terminal)),
        ("ErrImagePull", "manifest unknown", Some(Class::Terminal)),
        ("ErrImagePull", "401 unauthorized: authentication required", Some(Class::Terminal)),
        ("ImagePullBackOff", "cannot reach registry mirror.example", Some(Class::Budgeted)),
        ("ErrImagePull", "registry limits how much is asked of it", Some(Class::Budgeted)),
        ("CreateContainerConfigError", "configmap \"settings\" not found", Some(Class::Terminal)),
        ("RunContainerError", "exec: \"serve\": no such file or directory", Some(Class::Terminal)),
        ("RunContainerError", "the node is out of memory for a moment", Some(Class::Budgeted)),
        ("CrashLoopBackOff", "", Some(Class::Budgeted)),
        ("ContainerCreating", "", None),
        ("PodInitializing", "", None),
    ];
    for (reason, message, expected) in rows {
        assert_eq!(trouble(&waiting("a", reason, message)).map(|trouble| trouble.class), expected, "{reason} {message}");
    }
    let stopped =
        pod("a", json!([{"name": "web", "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}}]));
    assert_eq!(trouble(&stopped).map(|trouble| trouble.class), Some(Class::Transient));
    let done = pod("a", json!([{"name": "web", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]));
    assert_eq!(trouble(&done), None);
    let init = json!({"status": {"initContainerStatuses": [{"name": "migrate", "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}]}});
    assert_eq!(trouble(&init).map(|trouble| (trouble.container, trouble.class)), Some(("migrate".to_owned(), Class::Budgeted)));
    let gated = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}});
    assert_eq!(trouble(&gated).map(|trouble| trouble.class), Some(Class::Transient));
}

#[test]
fn a_container_killed_for_its_memory_says_so_even_while_it_waits() {
    let killed = pod(
        "a",
        json!([{"name": "web", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]),
    );
    let found = trouble(&killed).map(|trouble| (trouble.reason, trouble.text));
    let (reason, text) = found.expect("in trouble");
    assert_eq!(reason, "OOMKilled");
    assert!(text.contains("last exit code 137 (OOMKilled)"), "{text}");
}

#[test]
fn a_terminal_trouble_ends_the_wait_at_the_first_look() {
    let bad = waiting("web-1", "ImagePullBackOff", "manifest unknown");
    assert_eq!(after(&[(0, vec![bad])], 1, &Policy::default()).as_deref(), Some("web-1: the rollout cannot succeed"));
}

#[test]
fn configuration_that_the_apply_still_makes_is_waited_for() {
    let waits = waiting("web-1", "CreateContainerConfigError", "configmap \"settings\" not found");
    let mut tally = Tally::default();
    let coming = |kind: &str, name: &str| kind == "ConfigMap" && name == "settings";
    assert_eq!(tally.look(std::slice::from_ref(&waits), 1, at(0), &Policy::default(), &coming), None);
    assert!(tally.look(&[waits], 1, at(1), &Policy::default(), &|_, _| false).is_some());
    assert_eq!(missing_config("secret \"shop/keys\" not found"), Some(("Secret", "keys".to_owned())));
    assert_eq!(missing_config("no more words"), None);
}

#[test]
fn one_restart_that_heals_fails_nothing_and_a_crash_loop_does() {
    let policy = Policy::default();
    let heals = [
        (0, vec![crashed("a", 0, true)]),
        (5, vec![crashed("a", 1, false)]),
        (10, vec![ready(crashed("a", 1, false))]),
        (60, vec![ready(crashed("a", 1, false))]),
    ];
    assert_eq!(after(&heals, 1, &policy), None);
    let loops = [(0, vec![crashed("a", 0, true)]), (5, vec![crashed("a", 1, false)]), (8, vec![crashed("a", 1, true)])];
    assert_eq!(after(&loops, 1, &policy).as_deref(), Some("a: 2 failures of its containers, 1 are tolerated"));
}

#[test]
fn the_budget_is_of_all_replicas() {
    let policy = Policy::default();
    let all = |restarts| vec![crashed("a", restarts, true), crashed("b", 0, true), crashed("c", 0, true)];
    assert_eq!(after(&[(0, all(0))], 3, &policy), None);
    assert_eq!(after(&[(0, all(0)), (9, all(1))], 3, &policy).as_deref(), Some("a: 4 failures of its containers, 3 are tolerated"));
    // A pod that is replaced each time it crashes is a crash loop too.
    let replaced = [(0, vec![crashed("a", 0, true)]), (9, vec![crashed("b", 0, true)])];
    assert_eq!(after(&replaced, 1, &policy).as_deref(), Some("b: 2 failures of its containers, 1 are tolerated"));
}

#[test]
fn being_ready_for_the_quiet_time_forgives_and_being_ready_for_a_moment_does_not() {
    let policy = Policy::default();
    let moment = [(0, vec![ready(crashed("a", 1, false))]), (3, vec![crashed("a", 1, true)])];
    assert!(after(&moment, 1, &policy).is_some(), "a program that lives for seconds is ready each time");
    let quiet = [(0, vec![ready(crashed("a", 1, false))]), (40, vec![ready(crashed("a", 1, false))]), (50, vec![crashed("a", 1, true)])];
    assert_eq!(after(&quiet, 1, &policy), None);
}

#[test]
fn what_happened_before_is_not_held_against_the_rollout() {
    let old = crashed("a", 7, false);
    let mut tally = Tally::starting_from(std::slice::from_ref(&old));
    assert_eq!(tally.look(&[old], 1, at(0), &Policy::default(), &|_, _| false), None);
    assert_eq!(tally.look(&[crashed("a", 7, true)], 1, at(1), &Policy::default(), &|_, _| false), None, "one failure is tolerated");
    assert!(tally.look(&[crashed("a", 8, true)], 1, at(2), &Policy::default(), &|_, _| false).is_some());
}

#[test]
fn a_slow_start_never_fails_early() {
    let slow = waiting("a", "ContainerCreating", "");
    let unready = pod("a", json!([{"name": "web", "ready": false, "restartCount": 0, "state": {"running": {}}}]));
    let looks: Vec<(u64, Vec<Value>)> = (0..60).map(|minute| (minute * 60, vec![if minute < 30 { slow.clone() } else { unready.clone() }])).collect();
    assert_eq!(after(&looks, 1, &Policy::default()), None);
    // Who wants to know sooner says so.
    let impatient = Policy { inactive: Some(at(240)), ..Policy::default() };
    assert_eq!(
        after(&[(0, vec![slow.clone()]), (239, vec![slow.clone()]), (240, vec![slow])], 1, &impatient).as_deref(),
        Some(": nothing has changed for 240 s")
    );
}

#[test]
fn a_registry_that_does_not_answer_and_a_full_node_have_their_time() {
    let policy = Policy::default();
    let away = || vec![waiting("a", "ImagePullBackOff", "cannot reach registry mirror.example")];
    let limit = policy.pulling.as_secs();
    assert!(after(&[(0, away()), (limit - 1, away()), (limit, away())], 1, &policy).is_some_and(|why| why.contains("could not be pulled")));
    let homeless = || {
        let condition = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: Insufficient cpu"}]);
        vec![json!({"metadata": {"name": "a", "uid": "a"}, "status": {"conditions": condition}})]
    };
    let limit = policy.unschedulable.as_secs();
    assert!(after(&[(0, homeless()), (limit - 1, homeless()), (limit, homeless())], 1, &policy).is_some_and(|why| why.contains("no node has taken")));
    assert_eq!(after(&[(0, homeless()), (5, Vec::new()), (limit + 1, homeless())], 1, &policy), None, "it counts from when it began");
}

#[test]
fn a_workload_can_say_what_it_tolerates() {
    let mut object = json!({"kind": "Deployment", "metadata": {"annotations": {"strake.dev/failures-per-replica": "4"}}});
    assert_eq!(Policy::default().of(&object).failures_per_replica, 4);
    object["metadata"]["annotations"] = json!({});
    assert_eq!(Policy::default().of(&object), Policy::default());
    object["kind"] = json!("Job");
    assert_eq!(Policy::default().of(&object).failures_per_replica, u32::MAX);
}

#[test]
fn until_the_deadline_nothing_ends_the_wait() {
    let patient = Policy { mode: Mode::UntilDeadline, ..Policy::default() };
    assert_eq!(after(&[(0, vec![waiting("a", "InvalidImageName", "")]), (999, vec![crashed("a", 50, true)])], 1, &patient), None);
}
