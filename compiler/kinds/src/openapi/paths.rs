//! The operations of resources.

use serde_json::{Map, Value, json};

use crate::KindInfo;

/// What a body of a patch may be.
const PATCHES: [&str; 4] =
    ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

pub(super) fn paths(kinds: &[&KindInfo]) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        let base = format!("/{}", super::path(kind.group, kind.version));
        let all = format!("{base}/{}", kind.plural);
        let here = if kind.namespaced { format!("{base}/namespaces/{{namespace}}/{}", kind.plural) } else { all.clone() };
        paths.insert(here.clone(), collection(kind));
        if kind.namespaced {
            paths.insert(all, json!({ "get": operation(kind, "list", &[]) }));
        }
        let one = format!("{here}/{{name}}");
        paths.insert(one.clone(), item(kind));
        if kind.status_subresource {
            paths.insert(format!("{one}/status"), item(kind));
        }
    }
    Value::Object(paths)
}

fn collection(kind: &KindInfo) -> Value {
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let mut post = operation(kind, "post", &write);
    post["requestBody"] = json!({ "content": { "*/*": { "schema": super::reference(kind.message) } }, "required": true });
    json!({ "get": operation(kind, "list", &["labelSelector", "fieldSelector", "limit", "continue", "watch", "resourceVersion"]), "post": post })
}

fn item(kind: &KindInfo) -> Value {
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let mut put = operation(kind, "put", &write);
    put["requestBody"] = json!({ "content": { "*/*": { "schema": super::reference(kind.message) } }, "required": true });
    let mut patch = operation(kind, "patch", &["dryRun", "fieldManager", "fieldValidation", "force"]);
    let bodies: Map<String, Value> = PATCHES.iter().map(|body| ((*body).to_owned(), json!({ "schema": { "type": "object" } }))).collect();
    patch["requestBody"] = json!({ "content": bodies, "required": true });
    json!({
        "get": operation(kind, "get", &[]),
        "put": put,
        "patch": patch,
        "delete": operation(kind, "delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
    })
}

fn operation(kind: &KindInfo, action: &str, parameters: &[&str]) -> Value {
    let parameters: Vec<Value> = parameters.iter().map(|name| parameter(name)).collect();
    let schema = match action {
        "list" => super::reference(&format!("{}List", kind.message)),
        _ => super::reference(kind.message),
    };
    json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": { "group": kind.group, "version": kind.version, "kind": kind.kind },
        "parameters": parameters,
        "responses": { "200": { "description": "OK", "content": { "application/json": { "schema": schema } } } },
    })
}

fn parameter(name: &str) -> Value {
    let schema = match name {
        "force" | "watch" => json!({ "type": "boolean", "uniqueItems": true }),
        "limit" | "gracePeriodSeconds" => json!({ "type": "integer", "uniqueItems": true }),
        _ => json!({ "type": "string", "uniqueItems": true }),
    };
    json!({ "name": name, "in": "query", "schema": schema })
}
