//! Subresources that are more than a part of their object: scale, binding, eviction, finalize.

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use strake_kinds::apply::Writer;
use strake_kinds::merge;

use crate::delete::{self, Options};
use crate::prepare::Part;
use crate::server::{ApiServer, Call};
use crate::status::{Answer, Refusal, bytes_response, json_response};
use crate::target::Target;
use crate::write::{Change, modify};
use crate::{body, meta, patch};

/// Answers a request to a subresource that the object's own handlers do not serve.
pub(crate) async fn answer(server: &ApiServer, call: &Call, body: Body) -> Answer {
    let scales = call.target.kind.scale_subresource;
    match (call.target.kind.kind, call.target.subresource.as_str(), call.parts.method.as_str()) {
        (_, "scale", "GET") if scales => read_scale(server, call),
        (_, "scale", "PUT" | "PATCH") if scales => write_scale(server, call, body).await,
        ("Pod", "binding", "POST") => bind(server, call, body).await,
        ("Pod", "eviction", "POST") => evict(server, call, body).await,
        ("Namespace", "finalize", "PUT") => finalize(server, call, body).await,
        (_, "scale", _) if scales => Err(Refusal::method_not_allowed()),
        ("Pod", "binding" | "eviction" | "log", _) | ("Namespace", "finalize", _) | (_, "", _) => Err(Refusal::method_not_allowed()),
        ("Pod", "exec", _) => Err(Refusal::bad_request("exec needs a GET that upgrades to a websocket (subprotocol v5.channel.k8s.io or v4.channel.k8s.io)")),
        (_, "status", _) if call.target.kind.status_subresource => Err(Refusal::method_not_allowed()),
        _ => Err(Refusal::no_route()),
    }
}

/// The `autoscaling/v1` Scale of an object.
fn scale_of(object: &Value) -> Value {
    let field = |name: &str| object["metadata"][name].clone();
    let terms = object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    let mut selector: Vec<String> = terms.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    selector.sort();
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": field("name"), "namespace": field("namespace"), "uid": field("uid"),
            "resourceVersion": field("resourceVersion"), "creationTimestamp": field("creationTimestamp"),
        },
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or_default()},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or_default(), "selector": selector.join(",")},
    })
}

fn read_scale(server: &ApiServer, call: &Call) -> Answer {
    let object = meta::parse(&server.entry(&call.target)?)?;
    Ok(json_response(StatusCode::OK, &scale_of(&object)))
}

/// A wish for a scale.
enum Wish {
    Whole(Value),
    Merge(Value),
    Json(json_patch::Patch),
}

fn read_wish(call: &Call, bytes: &[u8]) -> Answer<Wish> {
    if call.parts.method == http::Method::PUT {
        return Ok(Wish::Whole(body::any(&call.parts.headers, bytes)?.0));
    }
    match body::media_type(&call.parts.headers) {
        "application/json-patch+json" => {
            let value = body::json(bytes)?.0;
            if value.as_array().map_or(0, Vec::len) > body::MOST_OPERATIONS {
                return Err(Refusal::too_large("too many operations in a JSON patch"));
            }
            let patch = serde_json::from_value(value).map_err(|error| Refusal::bad_request(format!("not a JSON patch: {error}")))?;
            Ok(Wish::Json(patch))
        }
        // A Scale has no lists: a strategic patch and an applied configuration are merges.
        "application/merge-patch+json" | "application/strategic-merge-patch+json" | "application/apply-patch+yaml" => Ok(Wish::Merge(body::json(bytes)?.0)),
        other => Err(Refusal::unsupported_media(other, "application/merge-patch+json, application/json-patch+json")),
    }
}

async fn write_scale(server: &ApiServer, call: &Call, body: Body) -> Answer {
    let dry_run = call.query.dry_run()?;
    let bytes = body::bytes(body).await?;
    let wish = read_wish(call, &bytes)?;
    let writer = Writer { manager: call.manager(), subresource: "scale", now: call.now };
    let change = Change { target: &call.target, part: Part::Trusted, dry_run, writer: Some(writer) };
    let stored = modify(server, &change, |old| {
        let mut scale = scale_of(old);
        match &wish {
            Wish::Whole(whole) => scale = whole.clone(),
            Wish::Merge(patch) => merge::json_merge(&mut scale, patch),
            Wish::Json(patch) => scale = patch::json(patch, &scale)?,
        }
        let replicas = match &scale["spec"]["replicas"] {
            Value::Null => Some(0),
            value => value.as_i64().filter(|replicas| (0..=i64::from(i32::MAX)).contains(replicas)),
        };
        let refuse = || {
            Refusal::invalid_field(
                call.target.kind,
                &call.target.name,
                "spec.replicas",
                format!("Invalid value: {}: must be a whole number, 0 or more", scale["spec"]["replicas"]),
            )
        };
        let mut object = old.clone();
        object["spec"]["replicas"] = replicas.ok_or_else(refuse)?.into();
        if let Some(revision) = scale["metadata"]["resourceVersion"].as_str().filter(|revision| !revision.is_empty()) {
            meta::set(&mut object, "resourceVersion", revision.into());
        }
        Ok(object)
    })
    .await?;
    Ok(json_response(StatusCode::OK, &scale_of(&meta::parse_bytes(&stored)?)))
}

/// Puts a pod on a node: what a scheduler does.
async fn bind(server: &ApiServer, call: &Call, body: Body) -> Answer {
    let bytes = body::bytes(body).await?;
    let (binding, _) = body::any(&call.parts.headers, &bytes)?;
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    let wrong_kind = binding["target"]["kind"].as_str().is_some_and(|kind| !kind.is_empty() && kind != "Node");
    if node.is_empty() || wrong_kind {
        return Err(Refusal::unprocessable("Binding is invalid: target: a Node must be named"));
    }
    let change = Change { target: &call.target, part: Part::Trusted, dry_run: call.query.dry_run()?, writer: None };
    modify(server, &change, |old| bound(&call.target, old, &binding, &node, &meta::time(call.now))).await?;
    Ok(created(&call.target))
}

fn bound(target: &Target, old: &Value, binding: &Value, node: &str, now: &str) -> Answer<Value> {
    if meta::is_deleting(old) {
        return Err(Refusal::conflict(target.kind, &target.name, &format!("pod {} is being deleted, cannot be assigned to a host", target.name)));
    }
    if let Some(there) = old["spec"]["nodeName"].as_str().filter(|there| !there.is_empty()) {
        return Err(Refusal::conflict(target.kind, &target.name, &format!("pod {} is already assigned to node {there:?}", target.name)));
    }
    let uid = meta::text(binding, "uid");
    if !uid.is_empty() && uid != meta::text(old, "uid") {
        return Err(Refusal::conflict(target.kind, &target.name, "the binding is for another pod of this name"));
    }
    let mut pod = old.clone();
    pod["spec"]["nodeName"] = node.into();
    for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
        pod["metadata"]["annotations"][key] = value.clone();
    }
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}));
    pod["status"]["conditions"] = conditions.into();
    Ok(pod)
}

fn created(target: &Target) -> axum::response::Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201, "details": {"name": target.name, "kind": target.kind.plural}});
    json_response(StatusCode::CREATED, &status)
}

/// A polite delete. There are no disruption budgets here that could refuse it.
async fn evict(server: &ApiServer, call: &Call, body: Body) -> Answer {
    let bytes = body::bytes(body).await?;
    let (eviction, _) = body::any(&call.parts.headers, &bytes)?;
    let options = Options::from_value(&eviction["deleteOptions"], call)?;
    delete::delete(server, &call.target, &options, call.now).await?;
    Ok(created(&call.target))
}

/// Sets a namespace's finalizers: its controller says so that everything in it has gone.
async fn finalize(server: &ApiServer, call: &Call, body: Body) -> Answer {
    let bytes = body::bytes(body).await?;
    let (mut wish, _) = body::any(&call.parts.headers, &bytes)?;
    body::identify(call.target.kind, &mut wish)?;
    let change = Change { target: &call.target, part: Part::Trusted, dry_run: call.query.dry_run()?, writer: None };
    let stored: Bytes = modify(server, &change, |old| {
        let mut namespace = old.clone();
        let revision = meta::text(&wish, "resourceVersion");
        if !revision.is_empty() {
            meta::set(&mut namespace, "resourceVersion", revision.into());
        }
        namespace["spec"]["finalizers"] = wish["spec"]["finalizers"].clone();
        Ok(namespace)
    })
    .await?;
    Ok(bytes_response(StatusCode::OK, stored))
}
