//! Collects why an object does not get there: its pods, their events and the last lines of their logs.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use serde_json::Value;
use strake_client::{Client, ListParams, LogParams, Resource};
use strake_plan::Change;

use crate::blame::{self, Blame};
use crate::failure::{Trouble, is_ready, trouble};

/// Lines of log shown for a failing container.
const LOG_LINES: u64 = 20;
/// Warnings shown.
const EVENTS: usize = 4;
/// Owners that are looked at between an object of an unknown kind and its pods.
const MOST_OWNERS: usize = 50;
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The chain from an object to what stops it, as far as the cluster tells. `change` is the object in the plan, which knows its places in the manifests.
pub(crate) async fn gather(client: &Client, change: Option<&Change>, object: &Value, reason: String) -> Blame {
    let mut found = Blame { reason, ..Blame::default() };
    let kin = kin_of(client, object).await;
    found.owner = kin.owner.as_ref().map(blame::label).unwrap_or_default();
    let worst: Option<(&Value, Trouble)> =
        kin.pods.iter().filter_map(|pod| Some((pod, trouble(pod)?))).max_by_key(|(_, trouble)| (trouble.class, trouble.restarts));
    let unready = || kin.pods.iter().find(|pod| !is_ready(pod) && pod["status"]["phase"] != "Succeeded");
    let pod = worst.as_ref().map(|(pod, _)| *pod).or_else(unready);
    let trouble = worst.as_ref().map(|(_, trouble)| trouble);
    match pod {
        Some(pod) => {
            found.pod = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            found.events = events_of(client, pod).await;
            blame::of_pod(&mut found, pod, trouble);
            found.log = last_lines(client, pod, &found.container).await;
        }
        None => {
            found.events = events_of(client, object).await;
            if let Some(owner) = &kin.owner {
                found.events.extend(events_of(client, owner).await);
            }
            blame::of_object(&mut found, object);
        }
    }
    if let Some(change) = change {
        blame::place(&mut found, change, trouble);
    }
    found
}

/// What an object has made: its pods, and what stands between.
#[derive(Default)]
struct Kin {
    owner: Option<Value>,
    pods: Vec<Value>,
}

/// The pods an object answers for: itself, or those of a workload's newest generation.
pub(crate) async fn pods_of(client: &Client, object: &Value) -> Vec<Value> {
    kin_of(client, object).await.pods
}

async fn kin_of(client: &Client, object: &Value) -> Kin {
    let namespace = object["metadata"]["namespace"].as_str();
    let everything = ListParams::default();
    match object["kind"].as_str().unwrap_or_default() {
        "Pod" => Kin { owner: None, pods: vec![object.clone()] },
        "Deployment" => {
            let Some(params) = selected(object) else { return Kin::default() };
            let Some(set) = newest_replica_set(client, object, &params).await else { return Kin::default() };
            Kin { pods: owned_pods(client, namespace, &params, &set).await, owner: Some(set) }
        }
        "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => {
            let params = selected(object).unwrap_or(everything);
            Kin { owner: None, pods: owned_pods(client, namespace, &params, object).await }
        }
        "ReplicationController" => Kin { owner: None, pods: owned_pods(client, namespace, &everything, object).await },
        // A CronJob is as it should be whatever its runs do.
        "CronJob" => Kin::default(),
        _ if namespace.is_some() && is_custom(object) => descendants(client, object).await,
        _ => Kin::default(),
    }
}

fn is_custom(object: &Value) -> bool {
    let (version, kind) = (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    strake_kinds::by_kind(version, kind).is_none_or(strake_kinds::KindInfo::is_custom)
}

fn selected(object: &Value) -> Option<ListParams> {
    let labels: BTreeMap<&str, &str> =
        object["spec"]["selector"]["matchLabels"].as_object()?.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
    let selector = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    Some(ListParams { label_selector: Some(selector), ..ListParams::default() })
}

fn is_owned(object: &Value, owner: &Value) -> bool {
    let uid = &owner["metadata"]["uid"];
    uid.is_string() && object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().any(|one| one["uid"] == *uid))
}

async fn owned_pods(client: &Client, namespace: Option<&str>, params: &ListParams, owner: &Value) -> Vec<Value> {
    let Ok(pods) = client.list(&Resource::PODS, namespace, params).await else { return Vec::new() };
    pods.items.into_iter().filter(|pod| is_owned(pod, owner) && pod["metadata"]["deletionTimestamp"].is_null()).collect()
}

async fn newest_replica_set(client: &Client, deployment: &Value, params: &ListParams) -> Option<Value> {
    let list = client.list(&Resource::REPLICA_SETS, deployment["metadata"]["namespace"].as_str(), params).await.ok()?;
    let revision = |set: &Value| set["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    list.items.into_iter().filter(|set| is_owned(set, deployment)).max_by_key(|set| revision(set))
}

/// The pods that an object of an unknown kind has made, by itself or through workloads of kinds that are known.
async fn descendants(client: &Client, object: &Value) -> Kin {
    let namespace = object["metadata"]["namespace"].as_str();
    let everything = ListParams::default();
    let mut ancestors: Vec<Value> = vec![object.clone()];
    for (group, version, plural, kind) in [
        ("apps", "v1", "deployments", "Deployment"),
        ("apps", "v1", "replicasets", "ReplicaSet"),
        ("apps", "v1", "statefulsets", "StatefulSet"),
        ("batch", "v1", "jobs", "Job"),
    ] {
        let Ok(list) = client.list(&Resource::new(group, version, plural, kind, true), namespace, &everything).await else { continue };
        for mut item in list.items {
            if ancestors.len() <= MOST_OWNERS && ancestors.iter().any(|one| is_owned(&item, one)) {
                item["kind"] = Value::from(kind);
                ancestors.push(item);
            }
        }
    }
    let Ok(pods) = client.list(&Resource::PODS, namespace, &everything).await else { return Kin::default() };
    let mine = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null() && ancestors.iter().any(|one| is_owned(pod, one));
    let pods: Vec<Value> = pods.items.into_iter().filter(mine).collect();
    let owner = ancestors.iter().skip(1).find(|one| pods.iter().any(|pod| is_owned(pod, one))).cloned();
    Kin { owner, pods }
}

async fn events_of(client: &Client, object: &Value) -> Vec<String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let params = ListParams { field_selector: Some(format!("involvedObject.name={name},type=Warning")), ..ListParams::default() };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let Ok(list) = client.list(&Resource::EVENTS, Some(namespace), &params).await else { return Vec::new() };
    // The same name may have been another object's: its events are not ours.
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let mine = |event: &&Value| event["involvedObject"]["uid"].as_str().is_none_or(|of| of.is_empty() || of == uid);
    let text = |event: &Value| {
        let count = event["count"].as_i64().filter(|count| *count > 1).map(|count| format!(" (x{count})")).unwrap_or_default();
        format!("{}: {}{count}", event["reason"].as_str().unwrap_or_default(), event["message"].as_str().unwrap_or_default())
    };
    let mut seen = BTreeSet::new();
    let mut lines: Vec<String> = list.items.iter().filter(mine).map(text).filter(|line| seen.insert(line.clone())).collect();
    lines.split_off(lines.len().saturating_sub(EVENTS))
}

/// The last lines a container wrote: of the run that failed, when it has been restarted since.
async fn last_lines(client: &Client, pod: &Value, container: &str) -> Vec<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut params = LogParams { container: Some(container.to_owned()), tail: Some(LOG_LINES), ..LogParams::default() };
    for previous in [true, false] {
        params.previous = previous;
        let Ok(mut stream) = client.logs(namespace, name, &params).await else { continue };
        let mut bytes = Vec::new();
        while let Some(Ok(chunk)) = stream.next().await {
            bytes.extend_from_slice(&chunk);
        }
        if !bytes.is_empty() {
            return String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
        }
    }
    Vec::new()
}
