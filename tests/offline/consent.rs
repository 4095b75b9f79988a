//! What an apply asks for before it does it: the lock that an account may not take, what a hook would delete, and how deletions are sent.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use strake_apply::{Applier, ApplyError, Options};
use strake_client::{Client, Resource, WriteParams};
use strake_plan::{Change, DeployPlan, Hook, HookRun, ObjectId, Phase};

use super::{collect_garbage, served};

/// Writes that a cluster was asked for: method, path, and body.
type Writes = Arc<Mutex<Vec<(Method, String, Value)>>>;

/// A cluster that writes down what is written, and refuses whatever has `forbidden` in its path.
async fn watched(forbidden: &'static str) -> (Client, Writes) {
    let writes = Writes::default();
    let seen = Arc::clone(&writes);
    let look = move |request: Request, next: Next| {
        let seen = Arc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path().to_owned();
            if !forbidden.is_empty() && path.contains(forbidden) {
                let message = format!("{forbidden} is forbidden: User \"ci\" cannot do that");
                let status =
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": message, "metadata": {}});
                return (StatusCode::FORBIDDEN, Json(status)).into_response();
            }
            let bytes = to_bytes(body, usize::MAX).await.unwrap();
            let dry_run = parts.uri.query().unwrap_or_default().contains("dryRun");
            if parts.method != Method::GET && !dry_run {
                seen.lock().unwrap().push((parts.method.clone(), path, serde_json::from_slice(&bytes).unwrap_or_default()));
            }
            next.run(Request::from_parts(parts, Body::from(bytes))).await
        }
    };
    (Client::in_process(served().await.layer(from_fn(look))), writes)
}

fn change(api_version: &str, kind: &str, name: &str, more: &Value) -> Change {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let id = ObjectId {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        resource: format!("{}s", kind.to_lowercase()),
        namespace: "default".into(),
        name: name.into(),
    };
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "default"}});
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Change { id, object, origin: "app.yaml:1".into(), ..Change::default() }
}

fn map(name: &str) -> Change {
    change("v1", "ConfigMap", name, &json!({"data": {"a": "b"}}))
}

fn deployment(name: &str) -> Change {
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    change("apps/v1", "Deployment", name, &json!({"spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}}))
}

fn job(name: &str) -> Change {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}});
    let hook = Hook { phase: Phase::Before, run: HookRun::Changed, delete_succeeded: false, delete_failed: false };
    Change { hook: Some(hook), ..change("batch/v1", "Job", name, &json!({"spec": {"template": template}})) }
}

fn plan(changes: Vec<Change>) -> DeployPlan {
    DeployPlan { set: "shop".into(), namespace: "default".into(), changes, ..DeployPlan::default() }
}

fn quick() -> Options {
    Options { wait: None, ..Options::default() }
}

#[tokio::test]
async fn an_account_without_leases_is_told_the_rule_it_needs_and_can_do_without() {
    let (client, writes) = watched("/leases").await;
    let plan = plan(vec![map("settings")]);
    let error = Applier::new(&client, &plan, quick(), &|_| {}).apply().await.unwrap_err();
    assert!(matches!(error, ApplyError::LockForbidden { .. }), "{error:?}");
    let text = error.to_string();
    for part in ["lease/strake-set-shop in default", "get, create, update and delete on leases", "coordination.k8s.io", "--no-lock"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(writes.lock().unwrap().is_empty(), "nothing was done");

    let without = Options { lock: false, ..quick() };
    let report = Applier::new(&client, &plan, without.clone(), &|_| {}).apply().await.unwrap();
    assert_eq!(report.applied.len(), 1);
    let removed = Applier::new(&client, &plan, without, &|_| {}).down(std::time::Duration::from_secs(60), false).await.unwrap();
    assert_eq!(removed.deleted.len(), 1, "{removed:?}");
}

#[tokio::test]
async fn a_hook_deletes_nothing_that_is_not_the_sets_own() {
    let jobs = Resource::new("batch", "v1", "jobs", "Job", true);
    let label = |name: &str, value: &str| json!({name: value});
    let helm = json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": {"meta.helm.sh/release-name": "a", "meta.helm.sh/release-namespace": "default"}});
    let rows = [
        (json!({}), "this set has not made it"),
        (helm, "belongs to the Helm release `a`"),
        (json!({"labels": label("applyset.kubernetes.io/part-of", "other")}), "belongs to set `other`"),
    ];
    for (metadata, expected) in rows {
        let (client, writes) = watched("").await;
        let hook = job("migrate");
        let mut live = hook.object.clone();
        live["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        let parent =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "strake-set-other", "labels": label("applyset.kubernetes.io/id", "other")}});
        client.create(&Resource::SECRETS, Some("default"), &parent, &WriteParams::default()).await.unwrap();
        let made = client.create(&jobs, Some("default"), &live, &WriteParams::default()).await.unwrap();
        writes.lock().unwrap().clear();

        let plan = plan(vec![hook]);
        let applier = Applier::new(&client, &plan, quick(), &|_| {});
        let refused = applier.diff().await.unwrap().refused;
        assert!(refused.len() == 1 && refused[0].message.contains(expected), "the plan says it: {refused:?}");
        let error = applier.apply().await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("--adopt") && error.contains("job/migrate in default"), "{error}");
        let there = client.get(&jobs, Some("default"), "migrate").await.unwrap().unwrap();
        assert_eq!(there["metadata"]["uid"], made["metadata"]["uid"], "{expected}");
        assert!(!writes.lock().unwrap().iter().any(|(method, ..)| *method == Method::DELETE), "{expected}");

        // With consent it is made anew, and waited for: nothing runs here, so it is enough to see another one.
        let adopting = Applier::new(&client, &plan, Options { adopt: true, ..quick() }, &|_| {});
        let anew = async {
            loop {
                let there = client.get(&jobs, Some("default"), "migrate").await.unwrap();
                if there.is_some_and(|there| there["metadata"]["uid"] != made["metadata"]["uid"]) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = anew => {}
            ended = adopting.apply() => panic!("{expected}: {ended:?}"),
            () = collect_garbage(&client) => unreachable!("it has no end"),
        }
    }
}

#[tokio::test]
async fn a_job_that_nobody_has_given_to_the_set_is_not_replaced_without_a_word() {
    let jobs = Resource::new("batch", "v1", "jobs", "Job", true);
    let (client, writes) = watched("").await;
    let wanted = Change { hook: None, ..job("once") };
    let mut live = wanted.object.clone();
    live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("by-hand");
    client.create(&jobs, Some("default"), &live, &WriteParams::manager("kubectl-create")).await.unwrap();
    let plan = plan(vec![wanted]);
    let error = Applier::new(&client, &plan, quick(), &|_| {}).apply().await.unwrap_err();
    assert!(matches!(error, ApplyError::Refused { .. }), "{error:?}");
    assert!(!writes.lock().unwrap().iter().any(|(method, path, _)| *method == Method::DELETE && path.contains("/jobs/")), "it stays");
}

#[tokio::test]
async fn rule_9_dependents_go_before_what_is_waited_for_and_behind_what_is_not() {
    for (wait, expected) in [(Some(std::time::Duration::from_secs(60)), "Foreground"), (None, "Background")] {
        let (client, writes) = watched("").await;
        let both = plan(vec![map("settings"), deployment("web"), map("gone")]);
        Applier::new(&client, &both, quick(), &|_| {}).apply().await.unwrap();
        let live = |name: &'static str, resource: Resource| {
            let client = client.clone();
            async move { client.get(&resource, Some("default"), name).await.unwrap().unwrap()["metadata"]["uid"].clone() }
        };
        let uids = [live("web", Resource::DEPLOYMENTS).await, live("gone", Resource::CONFIG_MAPS).await];
        writes.lock().unwrap().clear();
        let one = plan(vec![map("settings")]);
        let report = Applier::new(&client, &one, Options { wait, ..quick() }, &|_| {}).apply().await.unwrap();
        assert_eq!(report.pruned.len(), 2);
        let writes = writes.lock().unwrap().clone();
        let deleted =
            |part: &str| writes.iter().find(|(method, path, _)| *method == Method::DELETE && path.contains(part)).map(|(.., body)| body.clone()).unwrap();
        let (web, gone) = (deleted("/deployments/web"), deleted("/configmaps/gone"));
        assert_eq!((web["propagationPolicy"].as_str(), gone["propagationPolicy"].as_str()), (Some(expected), Some("Background")));
        // Rule 8: what was looked at, and not another of the same name.
        assert_eq!([&web["preconditions"]["uid"], &gone["preconditions"]["uid"]], [&uids[0], &uids[1]]);
    }
}
