//! OpenAPI documents.

use std::collections::BTreeSet;

use serde_json::Value;
use strake_kinds::openapi;

fn references<'a>(value: &'a Value, out: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| match (key.as_str(), value.as_str()) {
            ("$ref", Some(name)) => {
                out.insert(name);
            }
            _ => references(value, out),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    for (group, version) in [("", "v1"), ("apps", "v1"), ("discovery.k8s.io", "v1"), ("coordination.k8s.io", "v1"), ("events.k8s.io", "v1")] {
        let document = openapi::group_version(group, version).expect("it is served");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for name in found {
            let pointer = name.strip_prefix('#').expect("references are local");
            assert!(document.pointer(pointer).is_some_and(Value::is_object), "{name} in {group}/{version}");
        }
    }
    assert_eq!(openapi::group_version("policy", "v1"), None);
}

#[test]
fn clients_find_what_they_look_for() {
    let document = openapi::group_version("apps", "v1").expect("it is served");
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    assert_eq!(schemas["io.k8s.api.apps.v1.DeploymentList"]["x-kubernetes-group-version-kind"][0]["kind"], "DeploymentList");
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["items"]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let names: Vec<&str> = patch["parameters"].as_array().into_iter().flatten().filter_map(|parameter| parameter["name"].as_str()).collect();
    assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"));
    assert_eq!(openapi::path("apps", "v1"), "apis/apps/v1");
    assert_eq!(openapi::path("", "v1"), "api/v1");
}
