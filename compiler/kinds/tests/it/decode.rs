//! Strict decoding and the canonical form.

use serde_json::{Value, json};
use strake_kinds::decode::{self, Problem};
use strake_kinds::{by_kind, core};

fn check(api_version: &str, kind: &str, value: &Value) -> Vec<String> {
    let kind = by_kind(api_version, kind).expect("a known kind");
    let show = |error: &decode::FieldError| match &error.problem {
        Problem::Unknown { nearest, belongs } => {
            let belongs = belongs.as_ref().map(ToString::to_string);
            format!("{} unknown, nearest {nearest:?}, belongs {belongs:?}", error.path)
        }
        _ => error.to_string(),
    };
    decode::check(value, kind.schema()).iter().map(show).collect()
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "web" }] },
            },
        },
    })
}

#[test]
fn a_fine_object_has_no_findings() {
    assert_eq!(check("apps/v1", "Deployment", &deployment()), [""; 0]);
}

#[test]
fn unknown_fields_are_named_with_what_was_likely_meant() {
    let mut value = deployment();
    value["spec"]["replica"] = json!(3);
    value["spec"]["template"]["replicas"] = json!(3);
    value["spec"]["containers"] = json!([]);
    value["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = json!("Always");
    assert_eq!(
        check("apps/v1", "Deployment", &value),
        [
            r#"spec.template.spec.containers[0].imagePullPolice unknown, nearest Some("imagePullPolicy"), belongs None"#,
            r#"spec.template.replicas unknown, nearest None, belongs Some("spec.replicas")"#,
            r#"spec.replica unknown, nearest Some("replicas"), belongs None"#,
            r#"spec.containers unknown, nearest None, belongs Some("spec.template.spec.containers")"#,
        ]
    );
}

#[test]
fn types_are_checked() {
    let cases: &[(&str, Value, &str)] = &[
        ("/spec/replicas", json!("3"), "spec.replicas: found a string, expected a 32-bit integer"),
        ("/spec/replicas", json!(1.5), "spec.replicas: found a fraction, expected a 32-bit integer"),
        ("/spec/replicas", json!(3_000_000_000_u64), "spec.replicas: found a number, expected a 32-bit integer"),
        ("/spec/paused", json!("yes"), "spec.paused: found a string, expected a boolean"),
        ("/spec/template/metadata/labels", json!({ "app": 1 }), "spec.template.metadata.labels[app]: found a number, expected a string"),
        ("/spec/template/spec/containers", json!({}), "spec.template.spec.containers: found an object, expected a list"),
        ("/spec/template/spec", json!([]), "spec.template.spec: found a list, expected an object"),
        ("/metadata/creationTimestamp", json!("today"), "metadata.creationTimestamp: found a string, expected an RFC 3339 time"),
    ];
    for (pointer, wrong, expected) in cases {
        let mut value = deployment();
        value["spec"]["replicas"] = json!(1);
        value["spec"]["paused"] = json!(false);
        value["metadata"]["creationTimestamp"] = Value::Null;
        *value.pointer_mut(pointer).expect("the field is there") = wrong.clone();
        assert_eq!(check("apps/v1", "Deployment", &value), [*expected]);
    }
}

#[test]
fn scalars_of_kubernetes_are_read() {
    let secret = |text: &str| json!({ "metadata": { "name": "s" }, "data": { "key": text } });
    assert_eq!(check("v1", "Secret", &secret("c2VjcmV0")), [""; 0]);
    assert_eq!(check("v1", "Secret", &secret("not base64!")), ["data[key]: found a string, expected base64 text"]);
    let pod = |cpu: Value| json!({ "spec": { "containers": [{ "name": "a", "resources": { "limits": { "cpu": cpu } } }] } });
    assert_eq!(check("v1", "Pod", &pod(json!("500m"))), [""; 0]);
    assert_eq!(check("v1", "Pod", &pod(json!(2))), [""; 0]);
    let wrong = "spec.containers[0].resources.limits[cpu]: found a string, expected a quantity such as 500m or 1Gi";
    assert_eq!(check("v1", "Pod", &pod(json!("half"))), [wrong]);
}

#[test]
fn missing_required_fields_are_found() {
    let value = json!({ "spec": { "containers": [{ "image": "web", "env": [{ "value": "x" }] }], "volumes": null } });
    assert_eq!(
        check("v1", "Pod", &value),
        [r#"missing required field "spec.containers[0].env[0].name""#, r#"missing required field "spec.containers[0].name""#]
    );
}

#[test]
fn the_server_speaks_of_strict_decoding() {
    let kind = by_kind("v1", "ConfigMap").expect("a known kind");
    let (value, mut errors) = decode::parse_strict(br#"{"data":{"a":"1","a":"2"},"dota":{},"binaryData":{}}"#).expect("it is JSON");
    assert_eq!(value["data"]["a"], "2");
    errors.extend(decode::check(&value, kind.schema()));
    let expected = r#"strict decoding error: duplicate field "data.a", unknown field "dota""#;
    assert_eq!(decode::strict_message(&errors).as_deref(), Some(expected));
    assert_eq!(decode::strict_message(&[]), None);
    assert!(decode::parse_strict(b"{}{").is_err());
}

#[test]
fn the_canonical_form_drops_what_means_nothing() {
    let kind = by_kind("v1", "Pod").expect("a known kind");
    let mut value = json!({
        "metadata": { "name": "p", "creationTimestamp": null, "labels": {}, "clusterName": "old" },
        "spec": {
            "hostNetwork": false, "automountServiceAccountToken": false, "nodeName": "", "volumes": [{ "name": "v", "emptyDir": {} }],
            "containers": [{ "name": "c", "env": [{ "name": "E", "value": "" }], "resources": { "limits": { "cpu": 0.5, "memory": "1024Mi" } } }],
        },
        "status": {},
    });
    decode::canonical(&mut value, kind.schema());
    let expected = json!({
        "metadata": { "name": "p" },
        "spec": {
            "automountServiceAccountToken": false, "volumes": [{ "name": "v", "emptyDir": {} }],
            "containers": [{ "name": "c", "env": [{ "name": "E" }], "resources": { "limits": { "cpu": "500m", "memory": "1Gi" } } }],
        },
        "status": {},
    });
    assert_eq!(value, expected);
}

#[test]
fn typed_objects_go_there_and_back() {
    let value = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c" }] } });
    let pod: core::Pod = decode::typed(&value).expect("it is a pod");
    assert_eq!(pod.metadata.name.as_deref(), Some("p"));
    assert_eq!(decode::encode(&pod), value);
    assert!(decode::typed::<core::Pod>(&json!({ "spec": [] })).is_err());
}
