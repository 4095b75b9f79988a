//! The simulated cluster: the API's model, its watchers, and the queue of what happens when.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strake_control::world::{Notice, World};
use strake_control::{Kind, ObjectId};
use strake_pod::rehearsal::Behaviour;

use crate::control::Control;
use crate::dice::Dice;
use crate::node::SimNode;
use crate::scheduler::Scheduler;

/// Who is told of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watcher {
    Control,
    Scheduler,
    Node(usize),
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A change reaches a watcher, if its watch still is the one that it was sent on.
    Notice(Watcher, u64, Notice),
    /// A watcher that lost its watch, or has just started, lists everything anew.
    List(Watcher),
    /// The part looks whether something is to be done.
    Turn(Watcher),
    /// A part dies and loses its memory; it comes back later.
    Crash(Watcher),
}

/// How badly things go, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The longest delay of a notification, in milliseconds; each has its own, so that they overtake each other.
    pub delay_ms: i64,
    pub doubled: i64,
    /// A watch breaks at a notification.
    pub lost: i64,
    /// The control loop dies after one of its writes.
    pub control_crash: i64,
    pub scheduler_crash: i64,
    /// A node's agent dies after one of its decisions.
    pub node_crash: i64,
}

impl Faults {
    pub const NONE: Self = Self { delay_ms: 0, doubled: 0, lost: 0, control_crash: 0, scheduler_crash: 0, node_crash: 0 };
    pub const MANY: Self = Self { delay_ms: 300, doubled: 100, lost: 20, control_crash: 40, scheduler_crash: 30, node_crash: 15 };
}

/// What must be true of the API's objects after every write.
pub type Check = Box<dyn Fn(&World) -> Result<(), String>>;

pub struct Sim {
    pub now: Timestamp,
    pub start: Timestamp,
    pub world: World,
    pub dice: Dice,
    pub faults: Faults,
    pub check: Option<Check>,
    pub behave: fn(&mut Dice, &str) -> Behaviour,
    pub trace: Vec<String>,
    pub control: Control,
    pub scheduler: Scheduler,
    pub nodes: Vec<SimNode>,
    queue: BTreeMap<(Timestamp, u64), Event>,
    /// The number of each watcher's present watch; `None` while it has none.
    watches: BTreeMap<Watcher, Option<u64>>,
    sequence: u64,
}

/// How soon a part that died or lost its watch is back, at the latest.
const BACK_MS: i64 = 3000;

impl Sim {
    pub fn new(seed: u64, node_count: usize, behave: fn(&mut Dice, &str) -> Behaviour) -> Self {
        let start: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let mut sim = Self {
            now: start,
            start,
            world: World::new(start),
            dice: Dice::new(seed),
            faults: Faults::NONE,
            check: None,
            behave,
            trace: Vec::new(),
            control: Control::new(),
            scheduler: Scheduler::default(),
            nodes: Vec::new(),
            queue: BTreeMap::new(),
            watches: BTreeMap::new(),
            sequence: 0,
        };
        sim.put(0, Event::List(Watcher::Control));
        sim.put(0, Event::List(Watcher::Scheduler));
        for number in 0..node_count {
            sim.nodes.push(SimNode::new(number));
            sim.register(number);
            sim.put(0, Event::List(Watcher::Node(number)));
        }
        sim
    }

    fn register(&mut self, number: usize) {
        let name = crate::node::name(number);
        let resources = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
        self.world.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}), self.now).expect("a new node");
        let ready = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady"}]);
        let status = json!({"status": {"allocatable": resources, "capacity": resources, "conditions": ready}});
        self.world.patch(&ObjectId::new(Kind::NODE, "", &name), Some("status"), &status, self.now).expect("its status");
        let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micros(self.now)});
        let meta = json!({"name": name, "namespace": "kube-node-lease"});
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec});
        self.world.create(lease, self.now).expect("its lease");
        self.publish();
    }

    pub fn seconds(&self) -> i64 {
        self.now.duration_since(self.start).as_secs()
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        let ms = self.now.duration_since(self.start).as_millis();
        self.trace.push(format!("{ms:>8} {}", text()));
    }

    /// Something happens in so many milliseconds.
    pub fn put(&mut self, after_ms: i64, event: Event) {
        self.put_at(self.now + SignedDuration::from_millis(after_ms), event);
    }

    pub fn put_at(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// A user's change.
    pub fn user<T>(&mut self, change: impl FnOnce(&mut World, Timestamp) -> T) -> T {
        let outcome = change(&mut self.world, self.now);
        self.publish();
        outcome
    }

    /// Checks what was written, and sends it to those who watch.
    pub fn publish(&mut self) {
        let changes = self.world.take_changes();
        if changes.is_empty() {
            return;
        }
        if let Some(Err(broken)) = self.check.as_ref().map(|check| check(&self.world)) {
            panic!("{broken}, {} ms after the start", self.now.duration_since(self.start).as_millis());
        }
        let watchers: Vec<(Watcher, u64)> = self.watches.iter().filter_map(|(watcher, watch)| Some((*watcher, (*watch)?))).collect();
        for notice in &changes {
            for (watcher, watch) in &watchers {
                if self.concerns(*watcher, notice) {
                    self.send(*watcher, *watch, notice);
                }
            }
        }
    }

    /// Nodes watch their own pods, the scheduler pods and nodes.
    fn concerns(&self, watcher: Watcher, notice: &Notice) -> bool {
        match watcher {
            Watcher::Control => true,
            Watcher::Scheduler => notice.id.kind == Kind::POD || notice.id.kind == Kind::NODE,
            Watcher::Node(number) => notice.id.kind == Kind::POD && notice.object["spec"]["nodeName"] == crate::node::name(number),
        }
    }

    fn send(&mut self, watcher: Watcher, watch: u64, notice: &Notice) {
        if self.dice.permille(self.faults.lost) {
            if self.watches.insert(watcher, None).flatten().is_some() {
                self.note(|| format!("{watcher:?} loses its watch"));
                let back = self.dice.between(1, BACK_MS);
                self.put(back, Event::List(watcher));
            }
            return;
        }
        let times = if self.dice.permille(self.faults.doubled) { 2 } else { 1 };
        for _ in 0..times {
            let delay = self.dice.between(0, self.faults.delay_ms);
            self.put(delay, Event::Notice(watcher, watch, notice.clone()));
        }
    }

    /// A part dies if the dice say so.
    pub fn maybe_crash(&mut self, watcher: Watcher, share: i64) -> bool {
        let dies = self.dice.permille(share);
        if dies {
            self.put(0, Event::Crash(watcher));
        }
        dies
    }

    fn crash(&mut self, watcher: Watcher) {
        self.note(|| format!("{watcher:?} crashes"));
        self.watches.insert(watcher, None);
        match watcher {
            Watcher::Control => self.control = Control::new(),
            Watcher::Scheduler => self.scheduler = Scheduler::default(),
            Watcher::Node(number) => self.nodes[number].crash(),
        }
        let back = self.dice.between(1, BACK_MS);
        self.put(back, Event::List(watcher));
    }

    fn list(&mut self, watcher: Watcher) {
        self.sequence += 1;
        self.watches.insert(watcher, Some(self.sequence));
        let listed: Vec<(ObjectId, Arc<Value>)> = self.world.objects().map(|(id, object)| (id.clone(), object.clone())).collect();
        match watcher {
            Watcher::Control => self.control.list(&listed, self.now),
            Watcher::Scheduler => self.scheduler.list(&listed),
            Watcher::Node(number) => self.nodes[number].list(&listed),
        }
        self.put(0, Event::Turn(watcher));
    }

    /// Lets the next thing happen. False: nothing is left before `until`, which is now.
    fn turn(&mut self, until: Timestamp) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) else {
            self.now = until;
            return false;
        };
        self.now = entry.key().0;
        match entry.remove() {
            Event::Notice(watcher, watch, notice) => {
                if self.watches.get(&watcher) == Some(&Some(watch)) {
                    match watcher {
                        Watcher::Control => self.control.take(&notice),
                        Watcher::Scheduler => self.scheduler.take(&notice),
                        Watcher::Node(number) => self.nodes[number].take(&notice),
                    }
                    self.put(0, Event::Turn(watcher));
                }
            }
            Event::List(watcher) => self.list(watcher),
            Event::Crash(watcher) => self.crash(watcher),
            Event::Turn(watcher) if self.watches.get(&watcher).is_some_and(Option::is_some) => match watcher {
                Watcher::Control => crate::control::turn(self),
                Watcher::Scheduler => crate::scheduler::turn(self),
                Watcher::Node(number) => crate::node::turn(self, number),
            },
            // Without a watch it has no eyes; it is woken by its list.
            Event::Turn(_) => {}
        }
        self.publish();
        true
    }

    /// Runs for so many virtual seconds.
    pub fn run(&mut self, seconds: i64) {
        let until = self.now + SignedDuration::from_secs(seconds);
        while self.turn(until) {}
    }

    /// Runs until `done`, at most so many virtual seconds; says whether it came to that.
    pub fn run_until(&mut self, seconds: i64, done: impl Fn(&World) -> bool) -> bool {
        let until = self.now + SignedDuration::from_secs(seconds);
        let mut seen = 0;
        loop {
            if self.world.revision() != seen {
                seen = self.world.revision();
                if done(&self.world) {
                    return true;
                }
            }
            if !self.turn(until) {
                return done(&self.world);
            }
        }
    }
}

/// A time as leases carry it.
pub fn micros(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
