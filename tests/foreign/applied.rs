//! What an apply does to a real cluster: nothing when it is done again, and what has left the manifests goes.

use serde_json::Value;
use strake_apply::conceal::Key;
use strake_apply::{Applier, Options, Report};
use strake_client::{Client, DeleteParams, Resource};
use strake_plan::{Change, DeployPlan, ObjectId};

use super::{NAMESPACE, Pair, kind, kubeconfig, name, objects};

fn plan(objects: &[Value]) -> DeployPlan {
    let changes = objects.iter().map(|object| {
        let kind = kind(object);
        let id = ObjectId {
            group: kind.group.into(),
            version: kind.version.into(),
            kind: kind.kind.into(),
            resource: kind.plural.into(),
            namespace: if kind.namespaced { NAMESPACE.into() } else { String::new() },
            name: name(object).into(),
        };
        let mut object = object.clone();
        if kind.namespaced {
            object["metadata"]["namespace"] = NAMESPACE.into();
        }
        Change { id, object, ..Change::default() }
    });
    DeployPlan { set: "foreign".into(), namespace: NAMESPACE.into(), changes: changes.collect(), ..DeployPlan::default() }
}

fn options() -> Options {
    Options { wait: None, replace: true, allow_mass_delete: true, key: Key::of([7; 32]), ..Options::default() }
}

async fn apply(client: &Client, plan: &DeployPlan) -> Report {
    Applier::new(client, plan, options(), &|_| {}).apply().await.unwrap()
}

async fn asked(client: &Client, plan: &DeployPlan) -> Report {
    Applier::new(client, plan, options(), &|_| {}).diff().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_stays_as_it_is_until_the_manifests_change() {
    let Some(path) = kubeconfig("applied") else { return };
    let pair = Pair::new(path).await;
    // Nodes and namespaces are the cluster's own, events come and go, and a request for a certificate is made once.
    let left_out = ["Node", "Namespace", "Event", "CertificateSigningRequest", "Endpoints"];
    let all = objects(include_str!("served.yaml")).into_iter().chain(objects(include_str!("other.yaml")));
    let mut all: Vec<Value> = all.filter(|object| !left_out.contains(&kind(object).kind)).collect();
    let first = plan(&all);
    apply(&pair.real, &first).await;
    let again = asked(&pair.real, &first).await;
    assert!(again.refused.is_empty(), "{:?}", again.refused);
    assert!(again.unchanged(), "a second apply changes nothing: {again:#?}");
    eprintln!("applied: {} objects, unchanged by a second apply", all.len());

    for object in &mut all {
        match (kind(object).kind, name(object)) {
            ("Secret", "plain") => drop(object["stringData"].as_object_mut().unwrap().shift_remove("user")),
            ("ConfigMap", "settings") => drop(object["data"].as_object_mut().unwrap().shift_remove("mode")),
            _ => {}
        }
    }
    all.retain(|object| kind(object).kind != "CronJob");
    let second = plan(&all);
    let report = apply(&pair.real, &second).await;
    assert_eq!(report.pruned.iter().map(|id| id.kind.as_str()).collect::<Vec<_>>(), ["CronJob"]);
    let get = async |resource: &Resource, name: &str| pair.real.get(resource, Some(NAMESPACE), name).await.unwrap().unwrap();
    assert!(get(&Resource::SECRETS, "plain").await["data"].get("user").is_none(), "a key of stringData that has left the manifest is gone");
    assert!(get(&Resource::CONFIG_MAPS, "settings").await["data"].get("mode").is_none());
    assert!(asked(&pair.real, &second).await.unchanged());

    let map: Vec<Value> = all.iter().filter(|object| name(object) == "settings").cloned().collect();
    let report = apply(&pair.real, &plan(&map)).await;
    assert!(report.pruned.len() + report.kept.len() >= all.len() - 1, "all else goes, or is kept with a reason: {report:#?}");
    let at_once = DeleteParams::default();
    for (id, _) in report.kept {
        let resource = Resource::new(&id.group, &id.version, &id.resource, &id.kind, !id.namespace.is_empty());
        pair.real.delete(&resource, Some(NAMESPACE), &id.name, &at_once).await.unwrap();
    }
    for (resource, name) in [(&Resource::CONFIG_MAPS, "settings"), (&Resource::SECRETS, "strake-set-foreign")] {
        pair.real.delete(resource, Some(NAMESPACE), name, &at_once).await.unwrap();
    }
}
