//! A node of the simulation: the pods' decider over pretended containers, its lease, and its agent that may die.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strake_control::world::Notice;
use strake_control::{Body, Kind, ObjectId, Propagation, View};
use strake_kinds::core::Pod;
use strake_pod::rehearsal::{Behaviour, Rehearsal};
use strake_pod::{PodAction, PodMemory, step};

use crate::cluster::{Event, Sim, Watcher, micros};
use crate::dice::Dice;

/// How often a lease is renewed.
const RENEW: SignedDuration = SignedDuration::from_secs(10);

pub fn name(number: usize) -> String {
    format!("node-{number}")
}

/// One pod that is on the node, whether or not the API still has it.
struct Lodger {
    id: ObjectId,
    pod: Pod,
    memory: PodMemory,
    node: Rehearsal,
    wake_at: Option<Timestamp>,
}

pub struct SimNode {
    number: usize,
    view: View,
    /// By uid. What is here outlives the agent.
    lodgers: BTreeMap<String, Lodger>,
    renewed: Option<Timestamp>,
    addresses: u32,
}

impl SimNode {
    pub fn new(number: usize) -> Self {
        Self { number, view: View::new(), lodgers: BTreeMap::new(), renewed: None, addresses: 0 }
    }

    pub fn take(&mut self, notice: &Notice) {
        match notice.removed {
            false => drop(self.view.apply(&notice.object)),
            true => drop(self.view.remove(&notice.id, notice.object["metadata"]["uid"].as_str().unwrap_or_default())),
        }
    }

    pub fn list(&mut self, listed: &[(ObjectId, Arc<Value>)]) {
        let name = name(self.number);
        let mine = listed.iter().filter(|(id, object)| id.kind == Kind::POD && object["spec"]["nodeName"] == name);
        let mine: Vec<Value> = mine.map(|(_, object)| (**object).clone()).collect();
        self.view.replace(&Kind::POD, &mine);
    }

    /// The agent dies: memory and what was in flight are lost, containers live on.
    pub fn crash(&mut self) {
        self.view = View::new();
        for lodger in self.lodgers.values_mut() {
            lodger.memory = PodMemory::default();
            lodger.node.restart_node();
            lodger.wake_at = None;
        }
    }

    /// Pods of which something is left on the node.
    pub fn lodgers(&self) -> usize {
        self.lodgers.len()
    }

    /// Every pod in the view has a place; those that are no longer in it are gone for the API.
    fn settle_in(&mut self, dice: &mut Dice, behave: fn(&mut Dice, &str) -> Behaviour) {
        for object in self.view.all(&Kind::POD) {
            let Body::Pod(pod) = &object.body else { continue };
            let lodger = self.lodgers.entry(object.uid().to_owned()).or_insert_with(|| {
                self.addresses += 1;
                let ip = format!("10.42.{}.{}", self.number, self.addresses);
                let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
                let behaviours = containers.map(|one| (one.name.clone(), behave(dice, one.image.as_deref().unwrap_or_default())));
                Lodger {
                    id: object.id.clone(),
                    pod: (**pod).clone(),
                    memory: PodMemory::default(),
                    node: Rehearsal::new(&ip, behaviours.collect()),
                    wake_at: None,
                }
            });
            lodger.pod.clone_from(pod);
        }
        for (uid, lodger) in &mut self.lodgers {
            if self.view.by_uid(uid).is_none() {
                lodger.node.set_gone();
            }
        }
    }
}

/// The agent looks at every pod of its node.
pub fn turn(sim: &mut Sim, number: usize) {
    renew(sim, number);
    let node = &mut sim.nodes[number];
    node.settle_in(&mut sim.dice, sim.behave);
    let uids: Vec<String> = node.lodgers.keys().cloned().collect();
    let mut next = sim.now + RENEW;
    for uid in uids {
        let Some(mut lodger) = sim.nodes[number].lodgers.remove(&uid) else { continue };
        attend(sim, number, &uid, &mut lodger);
        let soonest = [lodger.node.next_at(), lodger.wake_at].into_iter().flatten().min();
        next = next.min(soonest.unwrap_or(next));
        let known = sim.nodes[number].view.by_uid(&uid).is_some();
        if known || !lodger.node.is_clean() {
            sim.nodes[number].lodgers.insert(uid, lodger);
        }
        if sim.maybe_crash(Watcher::Node(number), sim.faults.node_crash) {
            return;
        }
    }
    sim.put_at(next.max(sim.now + SignedDuration::from_millis(1)), Event::Turn(Watcher::Node(number)));
}

fn attend(sim: &mut Sim, number: usize, uid: &str, lodger: &mut Lodger) {
    lodger.node.advance(sim.now);
    let decision = step(&lodger.pod, lodger.node.observed(), std::mem::take(&mut lodger.memory), sim.now);
    lodger.memory = decision.memory;
    lodger.wake_at = decision.wake_at;
    let gone = lodger.node.observed().gone;
    if !gone && lodger.pod.status.as_ref() != Some(&decision.status) {
        report(sim, number, lodger, &decision.status);
    }
    for action in decision.actions {
        lodger.node.begin(&action, sim.now);
        if matches!(action, PodAction::DeleteFromApi) {
            let outcome = sim.world.delete(&lodger.id, uid, Propagation::Background, Some(0), sim.now);
            sim.note(|| format!("node {number} is done with {}: {}", lodger.id, outcome.is_ok()));
            if outcome.is_ok_and(|left| left.is_none()) {
                sim.nodes[number].view.remove(&lodger.id, uid);
            }
        }
    }
    sim.publish();
}

fn report(sim: &mut Sim, number: usize, lodger: &mut Lodger, status: &strake_kinds::core::PodStatus) {
    let meta = &lodger.pod.metadata;
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}, "status": status
    });
    // The pod may have gone, or its name may be another's: the watch will tell.
    let Ok(answer) = sim.world.replace(&object, Some("status"), sim.now) else { return };
    let ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    sim.note(|| format!("node {number} reports {}: {} ready {ready}", lodger.id, status.phase.as_deref().unwrap_or_default()));
    sim.nodes[number].view.apply(&answer);
    lodger.pod.status = Some(status.clone());
}

fn renew(sim: &mut Sim, number: usize) {
    let due = sim.nodes[number].renewed.is_none_or(|renewed| sim.now >= renewed + RENEW);
    if due {
        let lease = ObjectId::new(Kind::LEASE, "kube-node-lease", &name(number));
        let patch = json!({"spec": {"renewTime": micros(sim.now)}});
        sim.world.patch(&lease, None, &patch, sim.now).expect("the lease is there");
        sim.nodes[number].renewed = Some(sim.now);
    }
}
