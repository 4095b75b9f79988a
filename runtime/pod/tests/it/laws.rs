//! Whatever happens to a pod: the same facts give the same answer, an answer in flight asks for nothing more (the bench asserts
//! both at every turn), a healthy pod ends up ready, and a deleted one leaves nothing behind.

use proptest::prelude::*;
use serde_json::{Value, json};
use strake_pod::PodMemory;
use strake_pod::rehearsal::Behaviour;

use crate::bench::Bench;

#[derive(Clone, Debug)]
enum Event {
    Run(i64),
    RestartNode,
    Reboot,
    End(usize, i32),
    Forget,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0..400i64).prop_map(Event::Run),
        2 => (0..40_000i64).prop_map(Event::Run),
        1 => Just(Event::RestartNode),
        1 => Just(Event::Reboot),
        2 => (0..3usize, 0..3i32).prop_map(|(at, code)| Event::End(at, code)),
        1 => Just(Event::Forget),
    ];
    prop::collection::vec(event, 0..12)
}

fn spec(policy: &str, init: bool, side: bool, probes: bool) -> Value {
    let probe = json!({"httpGet": {"port": 80}, "periodSeconds": 2});
    let mut app = json!({"name": "app", "image": "web:1"});
    if probes {
        for kind in ["startupProbe", "readinessProbe", "livenessProbe"] {
            app[kind] = probe.clone();
        }
    }
    let mut before = Vec::new();
    if side {
        before.push(json!({"name": "side", "image": "s:1", "restartPolicy": "Always"}));
    }
    if init {
        before.push(json!({"name": "init", "image": "i:1"}));
    }
    json!({"nodeName": "n1", "restartPolicy": policy, "initContainers": before, "containers": [app, {"name": "other", "image": "web:2"}]})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pod_arrives_and_leaves(
        events in events(), policy in 0..3usize, init: bool, side: bool, probes: bool, stop in prop::option::of(0..4000i64), grace in 0..5i64,
    ) {
        let policy = ["Always", "OnFailure", "Never"][policy];
        let ends = Behaviour { exit: Some((30, 0)), ..Behaviour::default() };
        let app = Behaviour { stop_ms: stop, ready_after_ms: Some(300), ..Behaviour::default() };
        let mut bench = Bench::new(spec(policy, init, side, probes), &[("init", ends), ("app", app)]);
        for event in &events {
            match event {
                Event::Run(ms) => { let until = bench.ms() + ms; bench.run_to(until) },
                Event::RestartNode => { bench.node.restart_node(); bench.memory = PodMemory::default() },
                Event::Reboot => { bench.node.reboot(); bench.memory = PodMemory::default() },
                Event::End(at, code) => bench.node.end(["app", "other", "side"][*at], *code, bench.now),
                Event::Forget => bench.memory = PodMemory::default(),
            }
        }
        let until = bench.ms() + 1_000_000;
        if policy == "Always" {
            bench.run_to_ready(until);
        } else {
            bench.run_to(until);
            let settled = bench.pod.status.as_ref().unwrap().container_statuses.iter().flatten().all(|status| {
                let state = status.state.as_ref().unwrap();
                state.waiting.is_none() && (state.terminated.is_some() || status.ready)
            });
            prop_assert!(settled || bench.phase() == "Failed", "{:#?}", bench.pod.status);
        }
        bench.delete(grace);
        let until = bench.ms() + grace * 1000 + 3000;
        bench.run_to(until);
        prop_assert!(bench.node.delete_asked && bench.node.is_clean(), "{:?}", bench.deeds());
    }
}
