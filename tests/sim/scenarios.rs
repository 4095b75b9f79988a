//! What is to hold, whatever the dice say.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use serde_json::{Value, json};
use strake_control::world::World;
use strake_control::{Kind, ObjectId, Propagation};
use strake_pod::PullFailure;
use strake_pod::rehearsal::Behaviour;

use crate::cluster::{Faults, Sim};
use crate::dice::Dice;

/// Runs a scenario for many seeds; a failure says which, and what came before it.
#[expect(clippy::print_stdout, reason = "the seed of a failure and what led to it are for the person at the terminal")]
pub fn for_seeds(count: u64, scenario: impl Fn(u64, &mut Option<Sim>)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("STRAKE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("STRAKE_SIM_SEEDS").unwrap_or(count) + 1,
    };
    for seed in seeds {
        let mut sim = None;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(seed, &mut sim))) {
            let trace = sim.map(|sim| sim.trace).unwrap_or_default();
            println!("STRAKE_SIM_SEED={seed} fails; what came last:\n{}", trace[trace.len().saturating_sub(60)..].join("\n"));
            resume_unwind(panic);
        }
    }
}

/// Containers by image: `web:bad` cannot be had, `web:crash` ends, others are healthy after a while.
fn behave(dice: &mut Dice, image: &str) -> Behaviour {
    let healthy = Behaviour {
        pull_ms: dice.between(1, 300),
        create_ms: dice.between(1, 30),
        start_ms: dice.between(1, 30),
        ready_after_ms: Some(dice.between(0, 3000)),
        stop_ms: Some(dice.between(1, 2000)),
        ..Behaviour::default()
    };
    match image {
        "web:bad" => Behaviour { pull_failure: Some((PullFailure::Pull, "manifest unknown".to_owned())), ..healthy },
        "web:crash" => Behaviour { exit: Some((400, 1)), ready_after_ms: None, ..healthy },
        "web:deaf" => Behaviour { stop_ms: None, ..healthy },
        _ => healthy,
    }
}

fn web() -> ObjectId {
    ObjectId::new(Kind::DEPLOYMENT, "default", "web")
}

fn deployment(replicas: i64, surge: i64, unavailable: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 5, "containers": [container("web:1")]}}
        }
    })
}

fn container(image: &str) -> Value {
    json!({"name": "main", "image": image, "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 5}})
}

fn set_image(sim: &mut Sim, image: &str) {
    let patch = json!({"spec": {"template": {"spec": {"containers": [container(image)]}}}});
    sim.user(|world, now| world.patch(&web(), None, &patch, now).expect("the deployment is there"));
}

pub fn pods(world: &World) -> impl Iterator<Item = &Value> {
    world.objects().filter(|(id, _)| id.kind == Kind::POD).map(|(_, object)| &**object)
}

pub fn is_active(pod: &&Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && !matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
}

fn is_ready(pod: &&Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn condition(world: &World, type_: &str) -> String {
    let deployment = world.get(&web()).expect("the deployment is there");
    let all = deployment["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.iter().find(|condition| condition["type"] == type_).and_then(|found| found["reason"].as_str()).unwrap_or_default().to_owned()
}

/// As `kubectl rollout status` sees it.
fn rolled_out(world: &World) -> bool {
    let Some(deployment) = world.get(&web()) else { return false };
    let (spec, status) = (&deployment["spec"], &deployment["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && [count("updatedReplicas"), count("replicas"), count("availableReplicas")] == [wanted; 3]
}

/// Never more pods than the surge allows; once it was up, never fewer ready ones than it may lack.
fn bounds(replicas: i64, surge: i64, unavailable: i64, is_up: bool) -> crate::cluster::Check {
    Box::new(move |world| {
        let active: Vec<&Value> = pods(world).filter(is_active).collect();
        let ready = active.iter().copied().filter(is_ready).count();
        let (count, ready) = (i64::try_from(active.len()).unwrap_or(i64::MAX), i64::try_from(ready).unwrap_or(0));
        match () {
            () if count > replicas + surge => Err(format!("{count} pods, at most {} are allowed", replicas + surge)),
            () if is_up && ready < replicas - unavailable => Err(format!("{ready} ready pods, at least {} are promised", replicas - unavailable)),
            () => Ok(()),
        }
    })
}

/// Quiet weather until nothing moves, then: nothing is left to do, and the nodes hold what the API says.
pub fn assert_settled(sim: &mut Sim) {
    sim.faults = Faults::NONE;
    sim.run(60);
    let ids: Vec<ObjectId> = sim.world.objects().map(|(id, _)| id.clone()).collect();
    let left = sim.control.left_to_do(ids.into_iter(), sim.now);
    assert!(left.is_empty(), "{left:#?}");
    let lodgers: usize = sim.nodes.iter().map(crate::node::SimNode::lodgers).sum();
    assert_eq!(lodgers, pods(&sim.world).count(), "the nodes hold what the API says");
}

/// A deployment that is up, and bad weather from then on.
fn up(slot: &mut Option<Sim>, seed: u64) -> (&mut Sim, [i64; 3]) {
    let sim = slot.insert(Sim::new(seed, 3, behave));
    let replicas = sim.dice.between(1, 5);
    let surge = sim.dice.between(0, 2);
    let unavailable = if surge == 0 { sim.dice.between(1, 2) } else { sim.dice.between(0, 1) }.min(replicas);
    sim.faults = Faults::MANY;
    sim.check = Some(bounds(replicas, surge, unavailable, false));
    sim.user(|world, now| world.create(deployment(replicas, surge, unavailable), now).expect("a new deployment"));
    assert!(sim.run_until(900, rolled_out), "it does not come up");
    sim.check = Some(bounds(replicas, surge, unavailable, true));
    (sim, [replicas, surge, unavailable])
}

#[test]
fn a_rolling_update_arrives_within_its_bounds() {
    for_seeds(30, |seed, slot| {
        let (sim, _) = up(slot, seed);
        for version in 2..=3 {
            set_image(sim, &format!("web:{version}"));
            assert!(sim.run_until(900, rolled_out), "version {version} does not arrive");
        }
        assert_settled(sim);
        assert!(pods(&sim.world).all(|pod| pod["spec"]["containers"][0]["image"] == "web:3"));
    });
}

#[test]
fn a_bad_version_stalls_and_undo_recovers() {
    for_seeds(12, |seed, slot| {
        let (sim, [replicas, _, unavailable]) = up(slot, seed);
        let bad = if sim.dice.permille(500) { "web:bad" } else { "web:crash" };
        set_image(sim, bad);
        let stalled = |world: &World| condition(world, "Progressing") == "ProgressDeadlineExceeded";
        assert!(sim.run_until(1500, stalled), "it is not said that it stalls");
        assert!(!rolled_out(&sim.world));
        let old = pods(&sim.world).filter(|pod| is_ready(pod) && pod["spec"]["containers"][0]["image"] == "web:1").count();
        assert!(i64::try_from(old).unwrap_or(0) >= replicas - unavailable);
        set_image(sim, "web:1");
        assert!(sim.run_until(900, rolled_out), "undo does not arrive");
        assert_settled(sim);
        let sets = sim.world.objects().filter(|(id, _)| id.kind == Kind::REPLICA_SET).count();
        assert_eq!(sets, 2, "the old set was taken up again");
    });
}

#[test]
fn changes_of_mind_in_bad_weather_end_where_the_last_one_points() {
    for_seeds(12, |seed, slot| {
        let sim = slot.insert(Sim::new(seed, 3, behave));
        sim.faults = Faults::MANY;
        sim.user(|world, now| world.create(deployment(2, 1, 0), now).expect("a new deployment"));
        for _ in 0..12 {
            let wait = sim.dice.between(0, 20);
            sim.run(wait);
            let (replicas, version) = (sim.dice.between(0, 6), sim.dice.between(1, 3));
            match sim.dice.between(0, 3) {
                0 => set_image(sim, ["web:bad", "web:crash", "web:deaf"][usize::try_from(version - 1).expect("1 to 3")]),
                1 => set_image(sim, &format!("web:{version}")),
                2 => drop(sim.user(|world, now| world.patch(&web(), None, &json!({"spec": {"replicas": replicas}}), now))),
                _ => kill_some_pod(sim),
            }
        }
        set_image(sim, "web:9");
        sim.user(|world, now| world.patch(&web(), None, &json!({"spec": {"replicas": 3}}), now)).expect("it is there");
        assert!(sim.run_until(1800, rolled_out), "it does not arrive");
        assert_settled(sim);
        assert_eq!(pods(&sim.world).filter(|pod| pod["spec"]["containers"][0]["image"] == "web:9").count(), 3);
    });
}

fn kill_some_pod(sim: &mut Sim) {
    let ids: Vec<ObjectId> = sim.world.objects().map(|(id, _)| id.clone()).filter(|id| id.kind == Kind::POD).collect();
    if ids.is_empty() {
        return;
    }
    let at = usize::try_from(sim.dice.between(0, i64::try_from(ids.len()).expect("few") - 1)).expect("not negative");
    let grace = if sim.dice.permille(300) { Some(0) } else { None };
    drop(sim.user(|world, now| world.delete(&ids[at], "", Propagation::Background, grace, now)));
}

#[test]
fn endpoints_follow_the_ready_pods() {
    for_seeds(10, |seed, slot| {
        let (sim, _) = up(slot, seed);
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
        sim.user(|world, now| world.create(service, now).expect("a new service"));
        set_image(sim, "web:2");
        assert!(sim.run_until(900, rolled_out), "it does not arrive");
        assert_settled(sim);
        let slices = sim.world.objects().filter(|(id, _)| id.kind == Kind::ENDPOINT_SLICE).map(|(_, slice)| slice);
        let endpoints: Vec<Value> = slices.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default()).collect();
        let mut offered: Vec<&str> = endpoints.iter().filter(|one| one["conditions"]["ready"] == true).filter_map(|one| one["addresses"][0].as_str()).collect();
        let mut ready: Vec<&str> = pods(&sim.world).filter(is_ready).filter_map(|pod| pod["status"]["podIP"].as_str()).collect();
        offered.sort_unstable();
        ready.sort_unstable();
        assert_eq!(offered, ready);
    });
}

#[test]
fn whatever_is_deleted_goes_without_a_trace() {
    for_seeds(12, |seed, slot| {
        let (sim, _) = up(slot, seed);
        sim.check = None;
        let propagation = if sim.dice.permille(500) { Propagation::Foreground } else { Propagation::Background };
        set_image(sim, "web:2");
        let wait = sim.dice.between(0, 5);
        sim.run(wait);
        sim.user(|world, now| world.delete(&web(), "", propagation, None, now)).expect("it is there");
        let gone = |world: &World| !world.objects().any(|(id, _)| [Kind::DEPLOYMENT, Kind::REPLICA_SET, Kind::POD].contains(&id.kind));
        assert!(sim.run_until(600, gone), "something stays");
        assert_settled(sim);
    });
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed| {
        let mut slot = None;
        let (sim, _) = up(&mut slot, seed);
        set_image(sim, "web:2");
        sim.run(120);
        (sim.seconds(), std::mem::take(&mut sim.trace))
    };
    assert_eq!(story(7), story(7));
    assert_ne!(story(7), story(8));
}

#[test]
fn hundreds_of_pods_on_many_nodes_come_up_together() {
    let mut sim = Sim::new(1, 60, |_, _| Behaviour::default());
    sim.user(|world, now| world.create(deployment(300, 1, 0), now).expect("a new deployment"));
    assert!(sim.run_until(120, rolled_out));
    let mut by_node = std::collections::BTreeMap::new();
    for pod in pods(&sim.world) {
        *by_node.entry(pod["spec"]["nodeName"].to_string()).or_insert(0) += 1;
    }
    assert_eq!(by_node.len(), 60);
    assert!(by_node.values().all(|count| *count == 5), "{by_node:?}");
}
