//! How a pod goes.

use serde_json::json;
use strake_pod::rehearsal::Behaviour;
use strake_pod::{PodAction, PodMemory};

use crate::bench::{Bench, simple};

#[test]
fn a_deleted_pod_stops_is_swept_and_goes() {
    let mut bench = Bench::new(simple(), &[]);
    bench.run_to_ready(5000);
    bench.delete(30);
    bench.run_to(60_000);
    assert_eq!(bench.deeds()[4..], ["stop app", "teardown", "remove app 0", "delete"]);
    assert!(bench.node.delete_asked && bench.node.is_clean());
    assert!(bench.ms() < 200, "{}", bench.ms());
    assert!(bench.events().contains(&("Killing", "Stopping container app".to_owned())));
    let ended = bench.container("app").state.clone().unwrap().terminated.unwrap();
    assert_eq!(ended.exit_code, 143, "how it ended is still told");
}

#[test]
fn a_container_that_ignores_its_signal_is_killed_after_its_grace() {
    let mut bench = Bench::new(simple(), &[("app", Behaviour { stop_ms: None, ..Behaviour::default() })]);
    let from = bench.run_to_ready(5000);
    bench.delete(7);
    bench.run_to(60_000);
    let kill = bench.times(|action| matches!(action, PodAction::KillContainer { .. }));
    assert_eq!(kill, [from + 7000]);
    assert!(bench.node.is_clean());
}

#[test]
fn a_second_deletion_shortens_the_wait() {
    let mut bench = Bench::new(simple(), &[("app", Behaviour { stop_ms: None, ..Behaviour::default() })]);
    bench.run_to_ready(5000);
    bench.delete(600);
    bench.run_to(10_000);
    bench.delete(1);
    bench.run_to(60_000);
    assert!(bench.node.delete_asked && bench.ms() < 11_200, "{}", bench.ms());
}

#[test]
fn a_pod_that_is_gone_from_the_api_is_killed_at_once() {
    let mut bench = Bench::new(simple(), &[("app", Behaviour { stop_ms: None, ..Behaviour::default() })]);
    bench.run_to_ready(5000);
    bench.node.set_gone();
    bench.run_to(10_000);
    assert!(bench.node.is_clean());
    assert_eq!(bench.deeds()[4..], ["kill app", "teardown", "remove app 0"]);
}

#[test]
fn a_pod_can_be_deleted_at_any_moment_of_its_start() {
    for at in 0..40 {
        let mut spec = simple();
        spec["initContainers"] = json!([{"name": "setup", "image": "s:1"}]);
        let mut bench = Bench::new(spec, &[("setup", Behaviour { exit: Some((5, 0)), ..Behaviour::default() })]);
        bench.run_to(at);
        bench.delete(5);
        bench.run_to(20_000);
        assert!(bench.node.delete_asked && bench.node.is_clean(), "deleted at {at} ms: {:?}", bench.deeds());
        assert!(bench.ms() < 1000, "deleted at {at} ms: gone at {}", bench.ms());
    }
}

#[test]
fn the_node_may_restart_while_a_pod_goes() {
    let mut bench = Bench::new(simple(), &[("app", Behaviour { stop_ms: Some(3000), ..Behaviour::default() })]);
    bench.run_to_ready(5000);
    bench.delete(30);
    bench.run_to(1000);
    bench.node.restart_node();
    bench.memory = PodMemory::default();
    bench.run_to(60_000);
    assert!(bench.node.delete_asked && bench.node.is_clean());
    assert!(bench.ms() < 4000, "{}", bench.ms());
}

#[test]
fn side_containers_are_stopped_last() {
    let mut spec = simple();
    spec["initContainers"] = json!([{"name": "proxy", "image": "p:1", "restartPolicy": "Always"}]);
    let mut bench = Bench::new(spec, &[("app", Behaviour { stop_ms: Some(500), ..Behaviour::default() })]);
    bench.run_to_ready(5000);
    bench.delete(30);
    bench.run_to(60_000);
    let stops: Vec<String> = bench.deeds().into_iter().filter(|deed| deed.starts_with("stop")).collect();
    assert_eq!(stops, ["stop app", "stop proxy"]);
    let times = bench.times(|action| matches!(action, PodAction::StopContainer { .. }));
    assert!(times[1] >= times[0] + 500, "{times:?}");
}

#[test]
fn a_deletion_without_grace_kills_at_once() {
    let mut bench = Bench::new(simple(), &[("app", Behaviour { stop_ms: None, ..Behaviour::default() })]);
    bench.run_to_ready(5000);
    bench.delete(0);
    bench.run_to(10_000);
    assert_eq!(bench.deeds()[4], "kill app");
    assert!(bench.node.delete_asked);
}
