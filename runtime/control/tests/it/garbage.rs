//! Owners and what they leave, and namespaces.

use serde_json::json;
use strake_control::{Kind, ObjectId, Propagation};

use crate::bench::{Bench, deployment, id, names};

fn running() -> Bench {
    let mut bench = Bench::new();
    bench.create(deployment("web", 2, "web:1"));
    bench.run_pods();
    bench
}

#[test]
fn background_takes_the_owner_first_and_the_rest_after_it() {
    let mut bench = running();
    bench.delete(&id(Kind::DEPLOYMENT, "web"), Propagation::Background);
    assert!(bench.world.get(&id(Kind::DEPLOYMENT, "web")).is_none());
    assert!(bench.all(&Kind::REPLICA_SET).is_empty());
    assert!(bench.pods().iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_string()), "pods have their grace");
    bench.run_pods();
    assert!(bench.pods().is_empty());
    bench.assert_nothing_left_to_do();
}

#[test]
fn foreground_keeps_the_owner_until_the_last_pod_is_gone() {
    let mut bench = running();
    bench.delete(&id(Kind::DEPLOYMENT, "web"), Propagation::Foreground);
    let all = names(&bench.pods());
    for name in &all {
        assert!(bench.world.get(&id(Kind::DEPLOYMENT, "web")).is_some(), "it waits for {name}");
        assert_eq!(bench.all(&Kind::REPLICA_SET).len(), 1);
        bench.end_pod(name);
    }
    assert!(bench.pods().is_empty() && bench.all(&Kind::REPLICA_SET).is_empty());
    assert!(bench.world.get(&id(Kind::DEPLOYMENT, "web")).is_none());
}

#[test]
fn orphans_stay_without_an_owner() {
    let mut bench = running();
    bench.delete(&id(Kind::DEPLOYMENT, "web"), Propagation::Orphan);
    assert!(bench.world.get(&id(Kind::DEPLOYMENT, "web")).is_none());
    let set = bench.all(&Kind::REPLICA_SET).remove(0);
    assert_eq!(set["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(bench.active_pods().len(), 2);
}

#[test]
fn an_object_with_two_owners_outlives_one_of_them() {
    let mut bench = Bench::new();
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    bench.create(map("one"));
    bench.create(map("two"));
    let owner = |bench: &Bench, name: &str| {
        let uid = bench.get(&id(Kind::CONFIG_MAP, name))["metadata"]["uid"].clone();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid})
    };
    let mut child = map("child");
    child["metadata"]["ownerReferences"] = json!([owner(&bench, "one"), owner(&bench, "two")]);
    bench.create(child);
    bench.delete(&id(Kind::CONFIG_MAP, "one"), Propagation::Background);
    assert_eq!(bench.get(&id(Kind::CONFIG_MAP, "child"))["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    bench.delete(&id(Kind::CONFIG_MAP, "two"), Propagation::Background);
    assert!(bench.world.get(&id(Kind::CONFIG_MAP, "child")).is_none());
}

#[test]
fn an_owner_does_not_wait_for_a_dependent_that_another_still_needs() {
    let mut bench = Bench::new();
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    let mut child = map("child");
    let mut owners = Vec::new();
    for name in ["going", "staying"] {
        bench.create(map(name));
        let uid = bench.get(&id(Kind::CONFIG_MAP, name))["metadata"]["uid"].clone();
        owners.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": true}));
    }
    child["metadata"]["ownerReferences"] = json!(owners);
    bench.create(child);
    bench.delete(&id(Kind::CONFIG_MAP, "going"), Propagation::Foreground);
    assert!(bench.world.get(&id(Kind::CONFIG_MAP, "going")).is_none());
    assert_eq!(bench.get(&id(Kind::CONFIG_MAP, "child"))["metadata"]["ownerReferences"], json!([owners[1]]));
    bench.assert_nothing_left_to_do();
}

#[test]
fn an_owner_that_never_was_is_gone_unless_its_kind_is_unknown() {
    let mut bench = Bench::new();
    let child = |name: &str, owner_kind: &str, api_version: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default",
            "ownerReferences": [{"apiVersion": api_version, "kind": owner_kind, "name": "x", "uid": "no-such-uid"}]}})
    };
    bench.create(child("known", "Deployment", "apps/v1"));
    bench.create(child("custom", "Widget", "example.com/v1"));
    assert!(bench.world.get(&id(Kind::CONFIG_MAP, "known")).is_none());
    assert!(bench.world.get(&id(Kind::CONFIG_MAP, "custom")).is_some());
}

#[test]
fn a_namespace_is_emptied_and_then_goes() {
    let mut bench = Bench::new();
    let team = ObjectId::new(Kind::NAMESPACE, "", "team");
    bench.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}));
    let mut deployment = deployment("web", 2, "web:1");
    deployment["metadata"]["namespace"] = json!("team");
    bench.create(deployment);
    let account = ObjectId::new(Kind::SERVICE_ACCOUNT, "team", "default");
    assert!(bench.world.get(&account).is_some());
    let pods: Vec<ObjectId> = bench.world.objects().map(|(id, _)| id.clone()).filter(|id| id.kind == Kind::POD).collect();
    for pod in &pods {
        bench.patch(pod, json!({"spec": {"nodeName": "n1"}}));
    }
    bench.delete(&team, Propagation::Background);
    assert_eq!(bench.get(&team)["status"]["phase"], "Terminating");
    assert!(bench.world.get(&account).is_some(), "whoever deletes its contents one by one finds them for a moment");
    bench.pass(2);
    assert!(bench.world.get(&account).is_none(), "what can go at once is gone");
    for pod in &pods {
        assert!(bench.world.get(&team).is_some(), "it waits for {pod}");
        bench.world.delete(pod, "", Propagation::Background, Some(0), bench.now).unwrap();
        bench.settle();
    }
    assert!(bench.world.get(&team).is_none());
    assert!(bench.world.objects().all(|(id, _)| id.namespace != "team"));
}

#[test]
fn every_namespace_has_its_account_and_the_root_certificate() {
    let mut bench = Bench::new();
    let root = |namespace: &str| ObjectId::new(Kind::CONFIG_MAP, namespace, "kube-root-ca.crt");
    assert!(bench.world.get(&ObjectId::new(Kind::SERVICE_ACCOUNT, "default", "default")).is_some());
    assert!(bench.world.get(&root("default")).is_none());
    let meta = json!({"name": "kube-root-ca.crt", "namespace": "kube-system"});
    bench.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"ca.crt": "PEM 1"}}));
    assert_eq!(bench.get(&root("default"))["data"]["ca.crt"], "PEM 1");
    bench.patch(&root("kube-system"), json!({"data": {"ca.crt": "PEM 2"}}));
    assert_eq!(bench.get(&root("default"))["data"]["ca.crt"], "PEM 2");
    bench.delete(&root("default"), Propagation::Background);
    assert_eq!(bench.get(&root("default"))["data"]["ca.crt"], "PEM 2");
}
