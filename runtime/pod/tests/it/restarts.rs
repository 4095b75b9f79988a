//! Ends and new beginnings: policies, back-off, node restarts.

use serde_json::json;
use strake_pod::PodMemory;
use strake_pod::rehearsal::Behaviour;

use crate::bench::{Bench, simple};

fn crashing(after_ms: i64) -> Behaviour {
    Behaviour { exit: Some((after_ms, 1)), ..Behaviour::default() }
}

#[test]
fn restarts_back_off_from_ten_seconds_to_five_minutes() {
    let mut bench = Bench::new(simple(), &[("app", crashing(100))]);
    bench.run_to(1_500_000);
    let starts = bench.starts();
    let gaps: Vec<i64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let waits = [0, 10, 20, 40, 80, 160, 300, 300, 300];
    assert!(gaps.len() >= 8, "{gaps:?}");
    for (gap, wait) in gaps.iter().zip(waits) {
        let least = wait * 1000 + 100;
        assert!((least..=least + wait * 100 + 50).contains(gap), "{gap} ms for {wait} s");
    }
}

#[test]
fn a_crash_loop_shows_why_and_counts() {
    let mut bench = Bench::new(simple(), &[("app", crashing(100))]);
    bench.run_to(5000);
    assert_eq!(bench.reasons, ["ContainerCreating", "Running", "Error", "ContainerCreating", "Running", "CrashLoopBackOff"]);
    let (reason, message) = bench.waiting("app");
    assert_eq!(reason, "CrashLoopBackOff");
    assert_eq!(message, "back-off 10s restarting failed container=app pod=web_default(uid-1)");
    let container = bench.container("app");
    assert_eq!(container.restart_count, 1);
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    assert_eq!(bench.phase(), "Running");
    assert_eq!(bench.condition("Ready").2, "containers with unready status: [app]");
    let events = bench.events();
    let back_offs = events.iter().filter(|(reason, _)| *reason == "BackOff");
    assert_eq!(back_offs.map(|(_, message)| message.as_str()).collect::<Vec<_>>(), ["Back-off restarting failed container app in pod web_default(uid-1)"]);
}

#[test]
fn a_long_life_is_forgiven() {
    let mut bench = Bench::new(simple(), &[("app", crashing(100))]);
    bench.run_to(100_000);
    let before = bench.starts().len();
    bench.node.behave("app", crashing(700_000));
    bench.run_to(1_000_000);
    let starts = bench.starts();
    let long = starts.windows(2).skip(before - 1).find(|pair| pair[1] - pair[0] >= 700_000).unwrap_or_else(|| panic!("{starts:?}"));
    assert!(long[1] - long[0] < 700_100, "it is started again at once");
}

#[test]
fn policies_decide_about_the_end() {
    for (policy, code, phase, starts) in
        [("Always", 0, "Running", 2), ("OnFailure", 0, "Succeeded", 1), ("OnFailure", 3, "Running", 2), ("Never", 0, "Succeeded", 1), ("Never", 3, "Failed", 1)]
    {
        let mut spec = simple();
        spec["restartPolicy"] = json!(policy);
        let mut bench = Bench::new(spec, &[("app", Behaviour { exit: Some((100, code)), ..Behaviour::default() })]);
        bench.run_to(5000);
        assert_eq!((bench.phase(), bench.starts().len()), (phase, starts), "{policy} {code}");
    }
}

#[test]
fn a_failed_init_container_is_tried_again_or_fails_the_pod() {
    for (policy, phase) in [("Always", "Pending"), ("Never", "Failed")] {
        let mut spec = simple();
        spec["restartPolicy"] = json!(policy);
        spec["initContainers"] = json!([{"name": "setup", "image": "s:1"}]);
        let mut bench = Bench::new(spec, &[("setup", crashing(10))]);
        bench.run_to(5000);
        assert_eq!(bench.phase(), phase);
        assert!(!bench.deeds().iter().any(|deed| deed == "start app 0"));
        if policy == "Always" {
            assert_eq!(bench.waiting("setup").0, "CrashLoopBackOff");
        }
    }
}

#[test]
fn only_the_last_two_attempts_are_kept() {
    let mut bench = Bench::new(simple(), &[("app", crashing(100))]);
    bench.run_to(200_000);
    let facts = &bench.node.observed().containers["app"];
    assert!(facts.attempt >= 4);
    assert_eq!(facts.older_attempts, [facts.attempt - 1]);
}

#[test]
fn a_node_restart_restarts_nothing_and_forgets_nothing_that_matters() {
    let mut bench = Bench::new(simple(), &[("app", crashing(100))]);
    bench.run_to(15_000);
    assert_eq!(bench.container("app").restart_count, 2);
    let before = bench.waiting("app");
    bench.node.restart_node();
    bench.memory = PodMemory::default();
    bench.turn();
    assert_eq!(bench.waiting("app").0, before.0, "the back-off goes on");
    let starts = bench.starts().len();
    bench.run_to(25_000);
    assert_eq!(bench.starts().len(), starts, "no storm of restarts");

    let mut bench = Bench::new(simple(), &[]);
    bench.run_to_ready(5000);
    let (done, status) = (bench.log.len(), bench.pod.status.clone());
    bench.node.restart_node();
    bench.memory = PodMemory::default();
    bench.run_to(60_000);
    assert_eq!(bench.log[done..].iter().filter(|(_, action)| !matches!(action, strake_pod::PodAction::PullImage { .. })).count(), 0);
    assert_eq!(bench.pod.status, status);
}

#[test]
fn after_a_reboot_the_count_goes_on() {
    let mut bench = Bench::new(simple(), &[]);
    bench.run_to_ready(5000);
    bench.node.reboot();
    bench.memory = PodMemory::default();
    bench.turn();
    assert_eq!(bench.condition("Ready").0, "False");
    bench.run_to_ready(10_000);
    assert_eq!(bench.container("app").restart_count, 1);
    assert_eq!(bench.deeds()[4..], ["sandbox", "pull app", "create app 1", "start app 1"]);
}
