//! The control loop of the simulation: the contract that `strake-control` states, in its shortest form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use strake_control::world::{Notice, Refused};
use strake_control::{Action, Change, Controller, Key, Kind, ObjectId, View, controllers};

use crate::cluster::{Event, Sim, Watcher};

type Work = (usize, Key);

pub struct Control {
    controllers: Vec<Box<dyn Controller>>,
    pub view: View,
    ready: BTreeSet<Work>,
    later: BTreeSet<(Timestamp, Work)>,
    failures: BTreeMap<Work, u32>,
}

impl Control {
    pub fn new() -> Self {
        Self { controllers: controllers(), view: View::new(), ready: BTreeSet::new(), later: BTreeSet::new(), failures: BTreeMap::new() }
    }

    pub fn take(&mut self, notice: &Notice) {
        let change = match notice.removed {
            false => self.view.apply(&notice.object),
            true => self.view.remove(&notice.id, uid(&notice.object)),
        };
        self.concern(change);
    }

    pub fn list(&mut self, listed: &[(ObjectId, Arc<Value>)], now: Timestamp) {
        if self.view.observed_from().is_none() {
            self.view.observe_from(now);
        }
        let mut kinds: BTreeMap<Kind, Vec<Value>> = BTreeMap::new();
        for known in
            [Kind::POD, Kind::REPLICA_SET, Kind::DEPLOYMENT, Kind::NAMESPACE, Kind::SERVICE, Kind::ENDPOINT_SLICE, Kind::CONFIG_MAP, Kind::JOB, Kind::CRON_JOB]
        {
            kinds.insert(known, Vec::new());
        }
        for (id, object) in listed {
            kinds.entry(id.kind.clone()).or_default().push((**object).clone());
        }
        for (kind, objects) in kinds {
            for change in self.view.replace(&kind, &objects) {
                self.concern(Some(change));
            }
        }
    }

    fn concern(&mut self, change: Option<Change>) {
        let Some(change) = change else { return };
        for (index, controller) in self.controllers.iter().enumerate() {
            let kinds = controller.watches();
            if kinds.is_empty() || kinds.contains(&change.id.kind) {
                self.ready.extend(controller.keys_for(&self.view, &change).into_iter().map(|key| (index, key)));
            }
        }
    }

    /// What a controller still wants done about any object of the world.
    pub fn left_to_do(&self, ids: impl Iterator<Item = ObjectId>, now: Timestamp) -> Vec<String> {
        let mut left = Vec::new();
        for id in ids {
            for controller in &self.controllers {
                let wanted = controller.reconcile(&self.view, &id, now).actions;
                left.extend(wanted.iter().filter(|action| action.is_write()).map(|action| format!("{} on {id}: {}", controller.name(), action.reason())));
            }
        }
        left
    }
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// One decision, and its writes one after the other; it may die after any of them.
pub fn turn(sim: &mut Sim) {
    let now = sim.now;
    while sim.control.later.first().is_some_and(|(at, _)| *at <= now) {
        if let Some((_, work)) = sim.control.later.pop_first() {
            sim.control.ready.insert(work);
        }
    }
    if let Some(work) = sim.control.ready.pop_first() {
        decide(sim, work);
        sim.put(1, Event::Turn(Watcher::Control));
    } else if let Some((at, _)) = sim.control.later.first().cloned() {
        sim.put_at(at, Event::Turn(Watcher::Control));
    }
}

fn decide(sim: &mut Sim, work: Work) {
    let controller = &sim.control.controllers[work.0];
    let decision = controller.reconcile(&sim.control.view, &work.1, sim.now);
    let name = controller.name();
    for action in decision.actions {
        if !action.is_write() {
            continue;
        }
        let outcome = sim.world.perform(&action, sim.now);
        sim.note(|| format!("{name} on {}: {}{}", work.1, action.reason(), outcome.as_ref().err().map_or(String::new(), |error| format!(": {error}"))));
        let after_this = sim.faults.control_crash;
        if let Err(error) = learn(sim, &action, outcome) {
            sim.publish();
            // A rule of the API broken by a controller is a mistake of ours; all else is the race that conflicts are for.
            assert!(!matches!(error, Refused::Invalid(..) | Refused::Nameless), "{name} on {}: {error}: {action:?}", work.1);
            return back_off(sim, work);
        }
        sim.publish();
        if sim.maybe_crash(Watcher::Control, after_this) {
            return;
        }
    }
    sim.control.failures.remove(&work);
    if let Some(wait) = decision.requeue_after {
        let at = sim.now + SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_secs(3600));
        sim.control.later.insert((at, work));
    }
}

fn back_off(sim: &mut Sim, work: Work) {
    let failures = sim.control.failures.entry(work.clone()).or_insert(0);
    *failures += 1;
    let wait = SignedDuration::from_millis((20 << (*failures).min(10)).min(30_000));
    sim.control.later.insert((sim.now + wait, work));
}

/// Puts the API's answer into the view before the next decision.
fn learn(sim: &mut Sim, action: &Action, outcome: Result<Option<Arc<Value>>, Refused>) -> Result<(), Refused> {
    match outcome {
        Ok(Some(object)) => {
            let change = sim.control.view.apply(&object);
            sim.control.concern(change);
        }
        Ok(None) => forget(sim, action),
        Err(Refused::AlreadyExists(id)) => {
            let there = sim.world.get(&id).cloned();
            let change = there.and_then(|object| sim.control.view.apply(&object));
            sim.control.concern(change);
        }
        Err(Refused::NotFound(_) | Refused::Conflict(_)) if matches!(action, Action::Delete { .. }) => forget(sim, action),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn forget(sim: &mut Sim, action: &Action) {
    if let Action::Delete { id, uid, .. } = action {
        let change = sim.control.view.remove(id, uid);
        sim.control.concern(change);
    }
}
