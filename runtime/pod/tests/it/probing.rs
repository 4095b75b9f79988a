//! Probes: when they run, and what follows.

use serde_json::json;
use strake_pod::rehearsal::Behaviour;
use strake_pod::{PodAction, ProbeKind};

use crate::bench::{Bench, with};

fn probes(bench: &Bench, wanted: ProbeKind) -> Vec<i64> {
    bench.times(|action| matches!(action, PodAction::RunProbe { kind, .. } if *kind == wanted))
}

#[test]
fn a_quick_pod_is_seen_to_be_ready_quickly() {
    for ready_after in [0, 20, 60, 120] {
        let spec = with(json!({"readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 10}}));
        let mut bench = Bench::new(spec, &[("app", Behaviour { ready_after_ms: Some(ready_after), ..Behaviour::default() })]);
        let ms = bench.run_to_ready(60_000);
        assert!(ms < 200, "ready after {ready_after} ms is seen at {ms} ms");
    }
}

#[test]
fn a_slow_pod_is_seen_to_be_ready_within_a_quarter_of_its_time() {
    for ready_after in [1000, 5000, 20_000, 90_000] {
        let spec = with(json!({"readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 60, "failureThreshold": 1000}}));
        let mut bench = Bench::new(spec, &[("app", Behaviour { ready_after_ms: Some(ready_after), ..Behaviour::default() })]);
        let ms = bench.run_to_ready(200_000);
        assert!(ms <= ready_after + ready_after / 4 + 100, "ready after {ready_after} ms is seen at {ms} ms");
        let looks = probes(&bench, ProbeKind::Readiness).len();
        assert!(looks < 50, "{looks} looks");
    }
}

#[test]
fn an_initial_delay_is_kept_and_then_the_period() {
    let probe = json!({"httpGet": {"port": 80}, "initialDelaySeconds": 5, "periodSeconds": 3});
    let mut bench = Bench::new(with(json!({"readinessProbe": probe, "livenessProbe": probe})), &[]);
    bench.run_to(15_000);
    let start = bench.starts()[0] + 2;
    let liveness: Vec<i64> = probes(&bench, ProbeKind::Liveness).iter().map(|at| at - start).collect();
    assert_eq!(liveness, [5000, 8000, 11_000, 14_000]);
    let readiness: Vec<i64> = probes(&bench, ProbeKind::Readiness).iter().map(|at| at - start).collect();
    assert_eq!(readiness, [5000, 8000, 11_000, 14_000], "ready at the first look: no quick ones are needed");
}

#[test]
fn readiness_is_lost_after_as_many_failures_as_allowed_and_won_again() {
    let spec = with(json!({"readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 2, "failureThreshold": 3, "successThreshold": 2}}));
    let mut bench = Bench::new(spec, &[]);
    let ms = bench.run_to_ready(20_000);
    assert!(ms < 2100, "two successes: {ms}");
    bench.node.behave("app", Behaviour { ready_after_ms: None, ..Behaviour::default() });
    let from = bench.ms();
    bench.run_while(60_000, |bench| bench.condition("Ready").0 == "True");
    let lost = bench.ms() - from;
    assert!((4000..=6100).contains(&lost), "{lost}");
    assert!(bench.container("app").state.as_ref().unwrap().running.is_some(), "it is not restarted");
    let unhealthy = bench.events().into_iter().filter(|(reason, _)| *reason == "Unhealthy").collect::<Vec<_>>();
    assert_eq!(unhealthy.len(), 3);
    assert_eq!(unhealthy[0].1, "Readiness probe failed: HTTP probe failed with statuscode: 503");
    bench.node.behave("app", Behaviour::default());
    bench.run_to_ready(90_000);
}

#[test]
fn a_liveness_failure_stops_and_restarts_the_container() {
    let spec = with(json!({"livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1, "failureThreshold": 2}}));
    let sick = Behaviour { unhealthy_after_ms: Some(3500), stop_ms: None, ..Behaviour::default() };
    let mut bench = Bench::new(spec, &[("app", sick)]);
    bench.pod.spec.as_mut().unwrap().termination_grace_period_seconds = Some(4);
    bench.run_to(12_000);
    let stop = bench.times(|action| matches!(action, PodAction::StopContainer { .. }))[0];
    let kill = bench.times(|action| matches!(action, PodAction::KillContainer { .. }))[0];
    assert!((5000..=5100).contains(&stop), "two failures, at 4 and 5 seconds: {stop}");
    assert_eq!(kill - stop, 4000);
    assert!(bench.events().contains(&("Killing", "Container app failed liveness probe, will be restarted".to_owned())));
    assert_eq!(bench.container("app").restart_count, 1);
    let last = bench.container("app").last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(last.exit_code, 137);
}

#[test]
fn startup_comes_before_the_other_probes_and_its_failure_restarts() {
    let probe = json!({"httpGet": {"port": 80}, "periodSeconds": 1});
    let startup = json!({"httpGet": {"port": 80}, "periodSeconds": 2, "failureThreshold": 3});
    let spec = with(json!({"startupProbe": startup, "livenessProbe": probe, "readinessProbe": probe}));
    let mut bench = Bench::new(spec.clone(), &[("app", Behaviour { ready_after_ms: Some(3000), ..Behaviour::default() })]);
    bench.run_to(2500);
    assert_eq!((bench.container("app").started, bench.container("app").ready), (Some(false), false));
    assert!(probes(&bench, ProbeKind::Liveness).is_empty() && probes(&bench, ProbeKind::Readiness).is_empty());
    let ms = bench.run_to_ready(20_000);
    assert!((3000..3800).contains(&ms), "{ms}");

    let mut bench = Bench::new(spec, &[("app", Behaviour { ready_after_ms: None, ..Behaviour::default() })]);
    bench.run_to(5000);
    let stops = bench.times(|action| matches!(action, PodAction::StopContainer { .. }));
    assert_eq!(stops.len(), 1);
    assert!((4000..4500).contains(&stops[0]), "failures count at 0, 2 and 4 seconds only: {stops:?}");
}

#[test]
fn readiness_survives_a_restart_of_the_node() {
    let spec = with(json!({"readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 10}}));
    let mut bench = Bench::new(spec, &[]);
    bench.run_to_ready(5000);
    bench.node.restart_node();
    bench.memory = strake_pod::PodMemory::default();
    bench.turn();
    assert_eq!(bench.condition("Ready").0, "True");
}
