//! What is served: versions, groups, resources, in both forms of discovery.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use strake_kinds::KindInfo;

use crate::reviews;
use crate::server::ApiOptions;
use crate::status::{Answer, Refusal, json_response};
use crate::target::served_kinds;

/// `/version`.
pub(crate) fn version(options: &ApiOptions) -> Value {
    json!({
        "major": options.major, "minor": options.minor, "gitVersion": options.git_version,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": format!("linux/{}", architecture()),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A subresource as discovery tells it.
struct Subresource {
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
}

const READ_WRITE: &[&str] = &["get", "patch", "update"];

fn subresources(kind: &KindInfo) -> Vec<Subresource> {
    let mut found = Vec::new();
    if kind.status_subresource {
        found.push(Subresource { name: "status", group: kind.group, version: kind.version, kind: kind.kind, verbs: READ_WRITE });
    }
    if kind.scale_subresource {
        found.push(Subresource { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", verbs: READ_WRITE });
    }
    match kind.kind {
        "Pod" => found.extend([
            Subresource { name: "binding", group: "", version: "v1", kind: "Binding", verbs: &["create"] },
            Subresource { name: "eviction", group: "policy", version: "v1", kind: "Eviction", verbs: &["create"] },
            Subresource { name: "exec", group: "", version: "v1", kind: "PodExecOptions", verbs: &["create", "get"] },
            Subresource { name: "log", group: "", version: "v1", kind: "Pod", verbs: &["get"] },
            Subresource { name: "portforward", group: "", version: "v1", kind: "PodPortForwardOptions", verbs: &["create", "get"] },
        ]),
        "Namespace" => found.push(Subresource { name: "finalize", group: "", version: "v1", kind: "Namespace", verbs: &["update"] }),
        _ => {}
    }
    found
}

/// Groups and versions in the order in which clients should prefer them, with the kinds of each.
fn groups() -> Vec<(&'static str, &'static str, Vec<&'static KindInfo>)> {
    let mut groups: Vec<(&str, &str, Vec<&'static KindInfo>)> = Vec::new();
    for kind in served_kinds().chain(reviews::kinds()) {
        match groups.iter_mut().find(|(group, version, _)| *group == kind.group && *version == kind.version) {
            Some((_, _, kinds)) => kinds.push(kind),
            None => groups.push((kind.group, kind.version, vec![kind])),
        }
    }
    for (_, _, kinds) in &mut groups {
        kinds.sort_by_key(|kind| kind.plural);
    }
    groups
}

fn verbs(kind: &KindInfo) -> Vec<&'static str> {
    kind.verbs.iter().copied().filter(|verb| *verb != "deletecollection" || kind.kind != "Namespace").collect()
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `APIResourceList` of a group and version.
fn resource_list(group: &str, version: &str, kinds: &[&KindInfo]) -> Value {
    let mut resources = Vec::new();
    for kind in kinds {
        let mut resource = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs(kind)});
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            resource["categories"] = json!(kind.categories);
        }
        resources.push(resource);
        for sub in subresources(kind) {
            let mut resource = json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced, "kind": sub.kind, "verbs": sub.verbs});
            if sub.group != kind.group {
                resource["group"] = sub.group.into();
                resource["version"] = sub.version.into();
            }
            resources.push(resource);
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version), "resources": resources})
}

fn api_group(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": group_version(group, version), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

/// The aggregated form: everything of `/api` or `/apis` in one answer.
fn aggregated(core: bool, discovery_version: &str) -> Value {
    let items: Vec<Value> = groups()
        .into_iter()
        .filter(|(group, _, _)| group.is_empty() == core)
        .map(|(group, version, kinds)| {
            let resources: Vec<Value> = kinds.into_iter().map(aggregated_resource).collect();
            let mut metadata = json!({"creationTimestamp": null});
            if !group.is_empty() {
                metadata["name"] = group.into();
            }
            json!({"metadata": metadata, "versions": [{"version": version, "freshness": "Current", "resources": resources}]})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{discovery_version}"), "metadata": {}, "items": items})
}

fn aggregated_resource(kind: &KindInfo) -> Value {
    let kind_of = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut resource = json!({
        "resource": kind.plural, "responseKind": kind_of(kind.group, kind.version, kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular, "verbs": verbs(kind),
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    let subs: Vec<Value> = subresources(kind)
        .iter()
        .map(|sub| json!({"subresource": sub.name, "responseKind": kind_of(sub.group, sub.version, sub.kind), "verbs": sub.verbs}))
        .collect();
    if !subs.is_empty() {
        resource["subresources"] = subs.into();
    }
    resource
}

/// The version of aggregated discovery that the client accepts best.
fn accepted(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wants = |range: &str, version: &str| range.contains("as=APIGroupDiscoveryList") && range.split(';').any(|parameter| parameter.trim() == version);
    accept.split(',').find_map(|range| match range {
        range if wants(range, "v=v2") => Some("v2"),
        range if wants(range, "v=v2beta1") => Some("v2beta1"),
        _ => None,
    })
}

/// Answers a `GET` of a path that names no resource.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Answer {
    let ok = |value: &Value| Ok(json_response(StatusCode::OK, value));
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if let (["api"] | ["apis"], Some(version)) = (&segments[..], accepted(headers)) {
        let mut response = json_response(StatusCode::OK, &aggregated(segments[0] == "api", version));
        let media = match version {
            "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        return Ok(response);
    }
    match segments[..] {
        ["" | "index.html"] => ok(&json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]})),
        ["api"] => ok(&json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let list: Vec<Value> = groups().iter().filter(|(group, _, _)| !group.is_empty()).map(|(group, version, _)| api_group(group, version)).collect();
            ok(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}))
        }
        ["api", version] => found("", version).map_or_else(|| Err(Refusal::no_route()), |list| ok(&list)),
        ["apis", group, version] => found(group, version).map_or_else(|| Err(Refusal::no_route()), |list| ok(&list)),
        ["apis", group] => {
            let known = groups().into_iter().find(|(name, _, _)| *name == group && !group.is_empty());
            let (group, version, _) = known.ok_or_else(Refusal::no_route)?;
            let mut answer = api_group(group, version);
            answer["kind"] = "APIGroup".into();
            answer["apiVersion"] = "v1".into();
            ok(&answer)
        }
        _ => Err(Refusal::no_route()),
    }
}

fn found(group: &str, version: &str) -> Option<Value> {
    groups().into_iter().find(|(name, other, _)| *name == group && *other == version).map(|(group, version, kinds)| resource_list(group, version, &kinds))
}
