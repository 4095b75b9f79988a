//! The two laws over made-up histories: the same view gives the same answer (the bench asserts it at every decision), and
//! after its actions are applied nothing is left to do.

use proptest::prelude::*;
use serde_json::json;
use strake_control::{Kind, Propagation};

use crate::bench::{Bench, deployment, id, image_patch};

#[derive(Clone, Debug)]
enum Event {
    Scale(i32),
    Image(u8),
    Pause(bool),
    Strategy(u8, u8),
    Run(usize),
    Crash(usize),
    DeletePod(usize),
    Relabel(usize),
    Wait(i64),
    Delete(bool),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => (0..6i32).prop_map(Event::Scale),
        3 => (1..4u8).prop_map(Event::Image),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => (0..3u8, 0..3u8).prop_map(|(surge, unavailable)| Event::Strategy(surge, unavailable)),
        10 => (0..8usize).prop_map(Event::Run),
        2 => (0..8usize).prop_map(Event::Crash),
        2 => (0..8usize).prop_map(Event::DeletePod),
        1 => (0..8usize).prop_map(Event::Relabel),
        2 => (0..700i64).prop_map(Event::Wait),
        1 => any::<bool>().prop_map(Event::Delete),
    ];
    prop::collection::vec(event, 1..40)
}

fn apply(bench: &mut Bench, event: &Event) {
    let web = id(Kind::DEPLOYMENT, "web");
    let nth = |bench: &Bench, at: usize| {
        let pods = bench.pods();
        (!pods.is_empty()).then(|| pods[at % pods.len()].clone())
    };
    let name = |pod: &serde_json::Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    let exists = bench.world.get(&web).is_some();
    match event {
        Event::Scale(replicas) if exists => bench.patch(&web, json!({"spec": {"replicas": replicas}})),
        Event::Image(version) if exists => bench.patch(&web, image_patch(&format!("web:{version}"))),
        Event::Pause(paused) if exists => bench.patch(&web, json!({"spec": {"paused": paused}})),
        Event::Strategy(surge, unavailable) if exists => {
            let unavailable = if *surge == 0 { (*unavailable).max(1) } else { *unavailable };
            bench.patch(&web, json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}));
        }
        Event::Delete(foreground) if exists => bench.delete(&web, if *foreground { Propagation::Foreground } else { Propagation::Background }),
        Event::Run(at) => drop(nth(bench, *at).map(|pod| bench.run_pod(&pod))),
        Event::Crash(at) => drop(nth(bench, *at).map(|pod| bench.report(&name(&pod), "Failed", false, ""))),
        Event::DeletePod(at) => drop(nth(bench, *at).map(|pod| bench.delete(&id(Kind::POD, &name(&pod)), Propagation::Background))),
        Event::Relabel(at) => drop(nth(bench, *at).map(|pod| bench.patch(&id(Kind::POD, &name(&pod)), json!({"metadata": {"labels": {"app": "other"}}})))),
        Event::Wait(seconds) => bench.pass(*seconds),
        _ => bench.create(deployment(&format!("web{}", if exists { "2" } else { "" }), 2, "web:1")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_left_to_do(events in events()) {
        let mut bench = Bench::new();
        bench.create(deployment("web", 3, "web:1"));
        for event in &events {
            let taken = bench.world.get(&id(Kind::DEPLOYMENT, "web2")).is_some();
            if matches!(event, Event::Scale(_) | Event::Image(_) | Event::Pause(_) | Event::Strategy(..) | Event::Delete(_))
                && bench.world.get(&id(Kind::DEPLOYMENT, "web")).is_none() && taken {
                continue;
            }
            apply(&mut bench, event);
            bench.assert_nothing_left_to_do();
        }
        // And with healthy pods every deployment that is not paused arrives.
        bench.run_pods();
        bench.pass(1);
        bench.run_pods();
        bench.assert_nothing_left_to_do();
        for deployment in bench.all(&Kind::DEPLOYMENT) {
            if deployment["spec"]["paused"] != true && deployment["metadata"]["deletionTimestamp"].is_null() {
                let wanted = deployment["spec"]["replicas"].as_i64().unwrap();
                prop_assert_eq!(deployment["status"]["availableReplicas"].as_i64().unwrap_or(0), wanted);
                prop_assert_eq!(deployment["status"]["updatedReplicas"].as_i64().unwrap_or(0), wanted);
            }
        }
    }
}
