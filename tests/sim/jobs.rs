//! Jobs in bad weather: no end is lost, none is counted twice, and never do more pods run than may.

use serde_json::{Value, json};
use strake_control::world::World;
use strake_control::{Kind, ObjectId, Propagation};
use strake_pod::rehearsal::Behaviour;

use crate::cluster::{Check, Faults, Sim};
use crate::dice::Dice;
use crate::scenarios::{assert_settled, for_seeds, is_active, pods};

/// Every container comes to its end; those of `job:flaky` fail now and then.
fn behave(dice: &mut Dice, image: &str) -> Behaviour {
    let failed = image == "job:flaky" && dice.permille(300);
    Behaviour {
        pull_ms: dice.between(1, 300),
        create_ms: dice.between(1, 30),
        start_ms: dice.between(1, 30),
        exit: Some((dice.between(1, 4000), i32::from(failed))),
        stop_ms: Some(dice.between(1, 2000)),
        ..Behaviour::default()
    }
}

fn job() -> ObjectId {
    ObjectId::new(Kind::JOB, "default", "work")
}

fn manifest(completions: i64, parallelism: i64, indexed: bool) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work", "namespace": "default"},
        "spec": {
            "completions": completions, "parallelism": parallelism, "backoffLimit": 1000, "completionMode": if indexed { "Indexed" } else { "NonIndexed" },
            "template": {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 3, "containers": [{"name": "main", "image": "job:flaky"}]}}
        }
    })
}

fn count(world: &World, field: &str) -> i64 {
    world.get(&job()).and_then(|job| job["status"][field].as_i64()).unwrap_or(0)
}

fn is_complete(world: &World) -> bool {
    let conditions = world.get(&job()).and_then(|job| job["status"]["conditions"].as_array().cloned()).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Complete" && condition["status"] == "True")
}

fn ended(world: &World, phase: &str) -> i64 {
    i64::try_from(pods(world).filter(|pod| pod["status"]["phase"] == phase).count()).unwrap_or(i64::MAX)
}

/// Never more pods than may run at once, and never more ends counted than there were.
fn bounds(parallelism: i64) -> Check {
    Box::new(move |world| {
        let active = i64::try_from(pods(world).filter(is_active).count()).unwrap_or(i64::MAX);
        match () {
            () if active > parallelism => Err(format!("{active} pods run, at most {parallelism} may")),
            () if count(world, "succeeded") > ended(world, "Succeeded") => Err("more successes are counted than there were".to_owned()),
            () if count(world, "failed") > ended(world, "Failed") => Err("more failures are counted than there were".to_owned()),
            () => Ok(()),
        }
    })
}

#[test]
fn a_job_runs_to_its_end_and_every_pod_is_counted_once() {
    for_seeds(30, |seed, slot| {
        let sim = slot.insert(Sim::new(seed, 2, behave));
        let (completions, parallelism) = (sim.dice.between(1, 6), sim.dice.between(1, 3));
        let indexed = sim.dice.permille(500);
        sim.faults = Faults::MANY;
        sim.check = Some(bounds(parallelism));
        sim.user(|world, now| world.create(manifest(completions, parallelism, indexed), now).expect("a new Job"));
        assert!(sim.run_until(40_000, is_complete), "it does not come to its end");
        assert_settled(sim);
        assert_eq!(count(&sim.world, "succeeded"), completions);
        assert_eq!(ended(&sim.world, "Succeeded"), completions, "no work is done twice");
        assert_eq!(count(&sim.world, "failed"), ended(&sim.world, "Failed"));
        let held = pods(&sim.world).filter(|pod| pod["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())).count();
        assert_eq!(held, 0, "nothing holds a pod that is counted");
        sim.check = None;
        sim.faults = Faults::MANY;
        sim.user(|world, now| world.delete(&job(), "", Propagation::Background, None, now).expect("the Job is there"));
        assert!(sim.run_until(900, |world| world.get(&job()).is_none() && pods(world).count() == 0), "its pods go with it");
        assert_settled(sim);
    });
}
