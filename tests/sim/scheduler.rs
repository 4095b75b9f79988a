//! The scheduler's loop of the simulation.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use strake_control::world::Notice;
use strake_control::{Body, Change, Kind, ObjectId, View};
use strake_schedule::{ClusterView, Wanted, place};

use crate::cluster::{Event, Sim, Watcher};

#[derive(Default)]
pub struct Scheduler {
    view: View,
    cluster: ClusterView,
    waiting: BTreeSet<ObjectId>,
    /// Pods that fitted nowhere the last time: they wait for a change.
    pub unschedulable: usize,
}

impl Scheduler {
    pub fn take(&mut self, notice: &Notice) {
        let change = match notice.removed {
            false => self.view.apply(&notice.object),
            true => self.view.remove(&notice.id, notice.object["metadata"]["uid"].as_str().unwrap_or_default()),
        };
        self.follow(change);
    }

    pub fn list(&mut self, listed: &[(ObjectId, Arc<Value>)]) {
        for kind in [Kind::NODE, Kind::POD] {
            let objects: Vec<Value> = listed.iter().filter(|(id, _)| id.kind == kind).map(|(_, object)| (**object).clone()).collect();
            for change in self.view.replace(&kind, &objects) {
                self.follow(Some(change));
            }
        }
    }

    fn follow(&mut self, change: Option<Change>) {
        let Some(Change { id, before, after }) = change else { return };
        if let Some(gone) = before.filter(|before| after.as_ref().is_none_or(|after| after.uid() != before.uid())) {
            match &gone.body {
                Body::Node(_) => self.cluster.remove_node(&id.name),
                _ => self.cluster.remove_pod(gone.uid()),
            }
        }
        self.waiting.remove(&id);
        match after.as_ref().map(|after| &after.body) {
            Some(Body::Node(node)) => self.cluster.apply_node(node),
            Some(Body::Pod(pod)) => {
                self.cluster.apply_pod(pod);
                let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
                if !bound && pod.metadata.deletion_timestamp.is_none() {
                    self.waiting.insert(id);
                }
            }
            _ => {}
        }
    }
}

/// Places every pod that waits.
pub fn turn(sim: &mut Sim) {
    let waiting: Vec<ObjectId> = sim.scheduler.waiting.iter().cloned().collect();
    sim.scheduler.unschedulable = 0;
    for id in waiting {
        let Some(object) = sim.scheduler.view.get(&id).cloned() else { continue };
        let Body::Pod(pod) = &object.body else { continue };
        let Ok(placement) = place(&sim.scheduler.cluster, pod) else {
            sim.scheduler.unschedulable += 1;
            continue;
        };
        match sim.world.bind(&id, object.uid(), &placement.node, sim.now) {
            Ok(answer) => {
                sim.scheduler.cluster.assume(Wanted::of(pod), &placement.node);
                let change = sim.scheduler.view.apply(&answer);
                sim.scheduler.follow(change);
            }
            // Somebody was faster, or it is gone: the watch will tell.
            Err(_) => drop(sim.scheduler.waiting.remove(&id)),
        }
        sim.note(|| format!("scheduler binds {id} to {}", placement.node));
        sim.publish();
        if sim.maybe_crash(Watcher::Scheduler, sim.faults.scheduler_crash) {
            return;
        }
    }
    if sim.scheduler.unschedulable > 0 {
        sim.put(1000, Event::Turn(Watcher::Scheduler));
    }
}
