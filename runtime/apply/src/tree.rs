//! How a set is, as a tree: from its objects to what their controllers made of them, down to containers, each with its health. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};
use strake_plan::ObjectId;

use crate::failure::{Class, trouble};
use crate::health::{self, Health};

/// The label of a pod whose containers have files that its image does not have: the development loop has put them there, an apply replaces the pod.
pub const SYNCED: &str = "strake.dev/synced";

/// One object, or one container.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The kind; `Container` for containers.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The namespace; empty for cluster-scoped objects and containers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// One word, such as `Current`.
    pub health: &'static str,
    /// Why it is not as it should be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was made, or a container was started (RFC 3339); empty when nothing tells.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// Restarts of a container, or of all of a pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i64>,
    /// What a container runs, as it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The digest of what runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What it was made into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Node>,
}

/// The tree of a set's objects: `members` are those of the inventory with those that were applied and are not there (`None`), `made` are what controllers may have
/// made of them.
pub fn tree(members: &[(ObjectId, Option<Value>)], made: &[Value]) -> Vec<Node> {
    let mut owned: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for object in made {
        for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten().filter_map(|owner| owner["uid"].as_str()) {
            owned.entry(owner).or_default().push(object);
        }
    }
    members.iter().map(|(id, object)| member(id, object.as_ref(), &owned)).collect()
}

fn member(id: &ObjectId, object: Option<&Value>, owned: &BTreeMap<&str, Vec<&Value>>) -> Node {
    let mut node = match object {
        Some(object) => node(object, owned, &mut BTreeSet::new()),
        None => plain(&id.kind, &id.name, &Health::Missing),
    };
    // An answer to a list need not say what it lists.
    (node.kind, node.namespace) = (id.kind.clone(), id.namespace.clone());
    node
}

fn plain(kind: &str, name: &str, health: &Health) -> Node {
    Node {
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: String::new(),
        health: health.word(),
        reason: health.reason().to_owned(),
        since: String::new(),
        restarts: None,
        image: None,
        digest: None,
        children: Vec::new(),
    }
}

fn node<'a>(object: &'a Value, owned: &BTreeMap<&'a str, Vec<&'a Value>>, above: &mut BTreeSet<&'a str>) -> Node {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let mut node = plain(object["kind"].as_str().unwrap_or_default(), text("name"), &health::health(object));
    (node.namespace, node.since) = (text("namespace").to_owned(), text("creationTimestamp").to_owned());
    // Owners in a ring are nobody's children.
    if !above.insert(text("uid")) {
        return node;
    }
    let mut below: Vec<&Value> = owned.get(text("uid")).into_iter().flatten().copied().filter(|object| is_shown(object, owned)).collect();
    below.sort_by_key(|object| (object["metadata"]["creationTimestamp"].as_str().unwrap_or_default(), object["metadata"]["name"].as_str().unwrap_or_default()));
    node.children = below.into_iter().map(|object| self::node(object, owned, above)).collect();
    above.remove(text("uid"));
    if node.kind == "Pod" {
        node.children = containers(object);
        node.restarts = Some(node.children.iter().filter_map(|container| container.restarts).sum());
        if metadata["labels"][SYNCED] == "true" {
            let words = "synced, not deployed: its containers have files that no image has";
            node.reason = if node.reason.is_empty() { words.to_owned() } else { format!("{}; {words}", node.reason) };
        }
    }
    node
}

/// A ReplicaSet that is kept only to go back to says nothing of what runs.
fn is_shown(object: &Value, owned: &BTreeMap<&str, Vec<&Value>>) -> bool {
    let has_pods = || owned.contains_key(object["metadata"]["uid"].as_str().unwrap_or_default());
    object["kind"] != "ReplicaSet" || object["spec"]["replicas"].as_i64() != Some(0) || has_pods()
}

fn containers(pod: &Value) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (list, statuses) in [("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            let found = pod["status"][statuses].as_array().and_then(|statuses| statuses.iter().find(|status| status["name"] == name));
            let mut node = plain("Container", name, &found.map_or_else(|| Health::InProgress("has not been looked at yet".to_owned()), container_health));
            node.image = container["image"].as_str().map(str::to_owned);
            if let Some(status) = found {
                node.restarts = status["restartCount"].as_i64();
                node.digest = status["imageID"].as_str().and_then(|id| id.split_once('@')).map(|(_, digest)| digest.to_owned());
                node.since = status["state"]["running"]["startedAt"].as_str().unwrap_or_default().to_owned();
            }
            nodes.push(node);
        }
    }
    nodes
}

fn container_health(status: &Value) -> Health {
    let state = &status["state"];
    if let Some(found) = trouble(&json!({"status": {"containerStatuses": [status]}})) {
        return match found.class {
            Class::Terminal => Health::Failed(found.text),
            Class::Budgeted => Health::Degraded(found.text),
            Class::Transient => Health::InProgress(found.text),
        };
    }
    if let Some(waiting) = state["waiting"].as_object() {
        let reason = waiting.get("reason").and_then(Value::as_str).unwrap_or("waits");
        return Health::InProgress(reason.to_owned());
    }
    // One that has done its work is not ready, and as it should be.
    if status["ready"] == true || state["terminated"].is_object() { Health::Current } else { Health::InProgress("is not ready".to_owned()) }
}

/// The word of the worst of these: what a set is when some of its objects are that. `Current` for none.
pub fn worst(nodes: &[Node]) -> &'static str {
    const ORDER: [&str; 8] = ["Failed", "Missing", "Degraded", "InProgress", "Terminating", "Unknown", "Suspended", "Current"];
    let place = |word: &str| ORDER.iter().position(|other| *other == word).unwrap_or(ORDER.len() - 1);
    nodes.iter().map(|node| place(node.health)).min().map_or("Current", |place| ORDER[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: &str, name: &str) -> ObjectId {
        ObjectId { kind: kind.into(), name: name.into(), namespace: "shop".into(), ..ObjectId::default() }
    }

    fn owned_by(uid: &str, mut object: Value) -> Value {
        object["metadata"]["ownerReferences"] = json!([{"uid": uid}]);
        object
    }

    #[test]
    fn a_deployment_is_shown_down_to_its_containers_and_old_replica_sets_are_not() {
        let deployment = json!({"kind": "Deployment", "metadata": {"name": "web", "uid": "d"}, "spec": {"replicas": 1}, "status": {"observedGeneration": 1}});
        let made = [
            owned_by("d", json!({"kind": "ReplicaSet", "metadata": {"name": "web-old", "uid": "r0"}, "spec": {"replicas": 0}})),
            owned_by("d", json!({"kind": "ReplicaSet", "metadata": {"name": "web-new", "uid": "r1"}, "spec": {"replicas": 1}})),
            owned_by(
                "r1",
                json!({
                    "kind": "Pod", "metadata": {"name": "web-new-x", "uid": "p", "labels": {"strake.dev/synced": "true"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}, {"name": "side", "image": "side:1"}]},
                    "status": {"phase": "Running", "containerStatuses": [
                        {"name": "web", "restartCount": 3, "imageID": "docker.io/library/web@sha256:aa", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 7, "reason": "Error"}}},
                        {"name": "side", "restartCount": 0, "ready": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                    ]},
                }),
            ),
        ];
        let found = tree(&[(id("Deployment", "web"), Some(deployment)), (id("ConfigMap", "gone"), None)], &made);
        assert_eq!((found[1].health, found[1].name.as_str()), ("Missing", "gone"));
        assert_eq!(found[0].children.len(), 1, "{found:#?}");
        let pod = &found[0].children[0].children[0];
        assert_eq!((pod.kind.as_str(), pod.restarts), ("Pod", Some(3)));
        assert!(pod.reason.contains("synced, not deployed"), "{}", pod.reason);
        let [web, side] = pod.children.as_slice() else { panic!("two containers: {pod:#?}") };
        assert_eq!((web.health, web.digest.as_deref()), ("Degraded", Some("sha256:aa")));
        assert!(web.reason.contains("CrashLoopBackOff") && web.reason.contains("exit code 7"), "{}", web.reason);
        assert_eq!((side.health, side.since.as_str()), ("Current", "2026-01-01T00:00:00Z"));
        assert_eq!(worst(&found), "Missing");
        assert_eq!(worst(&[]), "Current");
    }

    #[test]
    fn owners_in_a_ring_end() {
        let ring = [owned_by("b", json!({"kind": "A", "metadata": {"uid": "a"}})), owned_by("a", json!({"kind": "B", "metadata": {"uid": "b"}}))];
        let found = tree(&[(id("A", "a"), Some(ring[0].clone()))], &ring);
        assert_eq!(found[0].children[0].children[0].children.len(), 0);
    }
}
