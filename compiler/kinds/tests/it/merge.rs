//! Strategic merge patches and JSON merge patches.

use serde_json::{Value, json};
use strake_kinds::merge::{self, MergeError};
use strake_kinds::schema;

fn pod_spec(original: &Value, patch: &Value) -> Result<Value, MergeError> {
    let message = schema::message("io.k8s.api.core.v1.PodSpec").expect("it is in the table");
    merge::strategic(original, patch, message)
}

/// Each row: what it shows, the object, the patch, the result.
fn table() -> Vec<(&'static str, Value, Value, Value)> {
    vec![
        (
            "items are merged by their key and new ones take their place from the patch",
            json!({ "containers": [{ "name": "a", "image": "a:1" }, { "name": "b", "image": "b:1" }] }),
            json!({ "containers": [{ "name": "b", "image": "b:2" }, { "name": "c", "image": "c:1" }] }),
            json!({ "containers": [{ "name": "a", "image": "a:1" }, { "name": "b", "image": "b:2" }, { "name": "c", "image": "c:1" }] }),
        ),
        (
            "$patch: delete removes one item",
            json!({ "containers": [{ "name": "a" }, { "name": "b" }] }),
            json!({ "containers": [{ "name": "a", "$patch": "delete" }] }),
            json!({ "containers": [{ "name": "b" }] }),
        ),
        (
            "$patch: replace in a list replaces the list",
            json!({ "containers": [{ "name": "a" }, { "name": "b" }] }),
            json!({ "containers": [{ "name": "c" }, { "$patch": "replace" }] }),
            json!({ "containers": [{ "name": "c" }] }),
        ),
        (
            "$patch: replace in a map replaces the map",
            json!({ "securityContext": { "runAsUser": 1, "fsGroup": 2 } }),
            json!({ "securityContext": { "$patch": "replace", "runAsUser": 3 } }),
            json!({ "securityContext": { "runAsUser": 3 } }),
        ),
        (
            "$setElementOrder orders what is there",
            json!({ "containers": [{ "name": "a" }, { "name": "b" }] }),
            json!({ "$setElementOrder/containers": [{ "name": "c" }, { "name": "b" }, { "name": "a" }], "containers": [{ "name": "c" }] }),
            json!({ "containers": [{ "name": "c" }, { "name": "b" }, { "name": "a" }] }),
        ),
        (
            "items that $setElementOrder does not name keep their place",
            json!({ "containers": [{ "name": "injected" }, { "name": "a" }, { "name": "b" }] }),
            json!({ "$setElementOrder/containers": [{ "name": "b" }, { "name": "a" }] }),
            json!({ "containers": [{ "name": "injected" }, { "name": "b" }, { "name": "a" }] }),
        ),
        (
            "null removes, and is nothing where nothing is",
            json!({ "nodeName": "n", "nodeSelector": { "a": "1", "b": "2" } }),
            json!({ "nodeName": null, "hostname": null, "nodeSelector": { "a": null } }),
            json!({ "nodeSelector": { "b": "2" } }),
        ),
        (
            "lists without a strategy are replaced",
            json!({ "tolerations": [{ "key": "a" }] }),
            json!({ "tolerations": [{ "key": "b" }] }),
            json!({ "tolerations": [{ "key": "b" }] }),
        ),
        (
            "$retainKeys keeps only the keys of the new source",
            json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }),
            json!({ "volumes": [{ "name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": { "path": "/" } }] }),
            json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] }),
        ),
        (
            "nested lists are merged by the schema's keys",
            json!({ "containers": [{ "name": "a", "ports": [{ "containerPort": 80, "name": "old" }], "env": [{ "name": "A", "value": "1" }] }] }),
            json!({ "containers": [{ "name": "a", "ports": [{ "containerPort": 80, "name": "new" }], "env": [{ "name": "B", "value": "2" }] }] }),
            json!({ "containers": [{
                "name": "a", "ports": [{ "containerPort": 80, "name": "new" }], "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
            }] }),
        ),
        (
            "directives leave no trace in new parts",
            json!({}),
            json!({ "containers": [{ "name": "a", "$patch": "delete" }, { "name": "b", "$setElementOrder/env": [], "env": [] }] }),
            json!({ "containers": [{ "name": "b", "env": [] }] }),
        ),
    ]
}

#[test]
fn strategic_merge_table() {
    for (what, original, patch, expected) in table() {
        assert_eq!(pod_spec(&original, &patch).as_ref(), Ok(&expected), "{what}");
    }
}

#[test]
fn primitives_are_a_set() {
    let message = schema::message("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("it is in the table");
    let original = json!({ "finalizers": ["a", "b"] });
    let merged = |patch: Value| merge::strategic(&original, &patch, message);
    assert_eq!(merged(json!({ "finalizers": ["c", "a"] })), Ok(json!({ "finalizers": ["b", "c", "a"] })));
    assert_eq!(merged(json!({ "$deleteFromPrimitiveList/finalizers": ["a"] })), Ok(json!({ "finalizers": ["b"] })));
    let both = json!({ "$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"] });
    assert_eq!(merged(both), Ok(json!({ "finalizers": ["c", "b"] })));
}

#[test]
fn mistakes_in_patches() {
    let cases = [
        (json!([]), MergeError::NotAnObject),
        (json!({ "$patch": "remove" }), MergeError::Directive("remove".into())),
        (json!({ "containers": [{ "image": "x" }] }), MergeError::MissingKey { list: "containers".into(), key: "name".into() }),
        (json!({ "$retainKeys": ["a"], "b": 1 }), MergeError::NotRetained("b".into())),
        (json!({ "$setElementOrder/containers": "a" }), MergeError::DirectiveList("$setElementOrder/containers".into())),
    ];
    for (patch, error) in cases {
        assert_eq!(pod_spec(&json!({ "containers": [{ "name": "a" }] }), &patch), Err(error));
    }
}

/// The examples of RFC 7386, appendix A.
#[test]
fn json_merge_follows_its_rfc() {
    let cases = [
        (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
        (json!({ "a": "b" }), json!({ "a": null }), json!({})),
        (json!({ "a": "b", "b": "c" }), json!({ "a": null }), json!({ "b": "c" })),
        (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "c" }), json!({ "a": ["b"] }), json!({ "a": ["b"] })),
        (json!({ "a": { "b": "c" } }), json!({ "a": { "b": "d", "c": null } }), json!({ "a": { "b": "d" } })),
        (json!({ "a": [{ "b": "c" }] }), json!({ "a": [1] }), json!({ "a": [1] })),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({ "a": "b" }), json!(["c"]), json!(["c"])),
        (json!({ "a": "foo" }), json!(null), json!(null)),
        (json!({ "e": null }), json!({ "a": 1 }), json!({ "e": null, "a": 1 })),
        (json!([1, 2]), json!({ "a": "b", "c": null }), json!({ "a": "b" })),
        (json!({}), json!({ "a": { "bb": { "ccc": null } } }), json!({ "a": { "bb": {} } })),
    ];
    for (mut target, patch, expected) in cases {
        merge::json_merge(&mut target, &patch);
        assert_eq!(target, expected);
    }
}
