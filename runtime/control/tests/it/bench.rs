//! A bench for controllers: the model of the API, a view of it, and hands that play the node.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strake_control::world::World;
use strake_control::{Action, Controller, Key, Kind, ObjectId, Propagation, View, controllers};

pub struct Bench {
    pub world: World,
    pub view: View,
    pub now: Timestamp,
    controllers: Vec<Box<dyn Controller>>,
    queue: BTreeSet<(usize, Key)>,
    /// Reasons and messages of the events recorded so far.
    pub events: Vec<(String, String)>,
}

pub fn id(kind: Kind, name: &str) -> ObjectId {
    ObjectId::new(kind, "default", name)
}

impl Bench {
    pub fn new() -> Self {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let mut bench = Self { world: World::new(now), view: View::new(), now, controllers: controllers(), queue: BTreeSet::new(), events: Vec::new() };
        bench.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
        // A lease that outlasts every test: the node is always there.
        let spec = json!({"holderIdentity": "n1", "leaseDurationSeconds": 100_000_000, "renewTime": "2026-11-21T12:00:00.000000Z"});
        let meta = json!({"name": "n1", "namespace": "kube-node-lease"});
        bench.create(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}));
        bench
    }

    pub fn create(&mut self, object: Value) {
        self.world.create(object, self.now).unwrap();
        self.settle();
    }

    pub fn patch(&mut self, id: &ObjectId, patch: Value) {
        self.world.patch(id, None, &patch, self.now).unwrap();
        self.settle();
    }

    pub fn delete(&mut self, id: &ObjectId, propagation: Propagation) {
        self.world.delete(id, "", propagation, None, self.now).unwrap();
        self.settle();
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        let all: Vec<Key> = self.world.objects().map(|(id, _)| id.clone()).collect();
        for index in 0..self.controllers.len() {
            self.queue.extend(all.iter().map(|key| (index, key.clone())));
        }
        self.settle();
    }

    /// Runs every controller until nothing is left to do.
    pub fn settle(&mut self) {
        for turn in 0.. {
            self.take_in();
            let Some((index, key)) = self.queue.pop_first() else { return };
            assert!(turn < 20_000, "does not settle: {} on {key}", self.controllers[index].name());
            let decision = self.controllers[index].reconcile(&self.view, &key, self.now);
            assert_eq!(decision, self.controllers[index].reconcile(&self.view, &key, self.now), "the same view gives the same answer");
            for action in decision.actions {
                if let Action::RecordEvent { reason, message, .. } = &action {
                    self.events.push((reason.to_string(), message.clone()));
                }
                assert!(!action.reason().is_empty());
                if let Err(refused) = self.world.perform(&action, self.now) {
                    panic!("{} on {key}: {refused}: {action:?}", self.controllers[index].name());
                }
                self.take_in();
            }
        }
    }

    fn take_in(&mut self) {
        for notice in self.world.take_changes() {
            let change = match notice.removed {
                false => self.view.apply(&notice.object),
                true => self.view.remove(&notice.id, notice.object["metadata"]["uid"].as_str().unwrap()),
            };
            let Some(change) = change else { continue };
            for (index, controller) in self.controllers.iter().enumerate() {
                let kinds = controller.watches();
                if kinds.is_empty() || kinds.contains(&change.id.kind) {
                    self.queue.extend(controller.keys_for(&self.view, &change).into_iter().map(|key| (index, key)));
                }
            }
        }
    }

    /// The second law: whatever is asked of any controller now, it has nothing to do.
    pub fn assert_nothing_left_to_do(&self) {
        let all: Vec<Key> = self.world.objects().map(|(id, _)| id.clone()).collect();
        for controller in &self.controllers {
            for key in &all {
                let decision = controller.reconcile(&self.view, key, self.now);
                assert!(decision.actions.is_empty(), "{} on {key} still wants {:#?}", controller.name(), decision.actions);
            }
        }
    }

    pub fn get(&self, id: &ObjectId) -> Arc<Value> {
        self.world.get(id).unwrap_or_else(|| panic!("{id} is there")).clone()
    }

    pub fn all(&self, kind: &Kind) -> Vec<Arc<Value>> {
        self.world.objects().filter(|(id, _)| id.kind == *kind).map(|(_, object)| object.clone()).collect()
    }

    pub fn pods(&self) -> Vec<Arc<Value>> {
        self.all(&Kind::POD)
    }

    pub fn active_pods(&self) -> Vec<Arc<Value>> {
        let is_active = |pod: &Arc<Value>| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] != "Failed";
        self.pods().into_iter().filter(is_active).collect()
    }

    /// Writes a pod's status as a node would.
    pub fn report(&mut self, name: &str, phase: &str, ready: bool, ip: &str) {
        let id = id(Kind::POD, name);
        if self.get(&id)["spec"]["nodeName"].is_null() {
            self.world.patch(&id, None, &json!({"spec": {"nodeName": "n1"}}), self.now).unwrap();
        }
        let time = self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let ready = if ready { "True" } else { "False" };
        let status = json!({
            "phase": phase, "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": time}]
        });
        self.world.patch(&id, Some("status"), &json!({"status": status}), self.now).unwrap();
        self.settle();
    }

    /// All active pods become ready, deleted ones go. Until nothing changes.
    pub fn run_pods(&mut self) {
        loop {
            let before = self.world.revision();
            for pod in self.pods() {
                self.run_pod(&pod);
            }
            if self.world.revision() == before {
                return;
            }
        }
    }

    /// One pod becomes ready or, if it was deleted, goes.
    pub fn run_pod(&mut self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let Some(pod) = self.world.get(&id(Kind::POD, name)).cloned() else { return };
        if pod["metadata"]["deletionTimestamp"].is_string() {
            self.end_pod(name);
        } else if pod["status"]["conditions"][0]["status"] != "True" {
            self.report(name, "Running", true, "10.42.0.7");
        }
    }

    pub fn end_pod(&mut self, name: &str) {
        self.world.delete(&id(Kind::POD, name), "", Propagation::Background, Some(0), self.now).unwrap();
        self.settle();
    }
}

pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]}
            }
        }
    })
}

pub fn image_patch(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]}}}})
}

pub fn names(objects: &[Arc<Value>]) -> Vec<String> {
    objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}
