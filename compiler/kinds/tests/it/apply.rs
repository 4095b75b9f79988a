//! Server-side apply and managed fields, against the documented behaviour of Kubernetes.

use serde_json::{Value, json};
use strake_kinds::apply::{self, ApplyError, FieldSet, Writer};
use strake_kinds::{by_kind, schema::Message};

fn message() -> &'static Message {
    by_kind("apps/v1", "Deployment").expect("a known kind").schema()
}

fn writer(manager: &'static str, second: i64) -> Writer<'static> {
    Writer { manager, subresource: "", now: jiff::Timestamp::from_second(second).expect("in range") }
}

fn applied(live: Option<&Value>, config: &Value, manager: &'static str, second: i64) -> Result<Value, ApplyError> {
    apply::server_side_apply(live, config, &writer(manager, second), false, message())
}

fn config(spec: &Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "default" }, "spec": spec })
}

/// `manager operation -> fieldsV1`.
fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries.iter().map(|entry| (format!("{} {}", text(entry, "manager"), text(entry, "operation")), entry["fieldsV1"].clone())).collect()
}

#[test]
fn creating_owns_what_was_written() {
    let spec = json!({
        "replicas": 2,
        "selector": { "matchLabels": { "app": "web" } },
        "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "web", "image": "web:1", "ports": [{ "containerPort": 80 }] }] },
        },
    });
    let object = applied(None, &config(&spec), "me", 0).expect("nothing is in the way");
    assert_eq!(object["spec"], spec);
    let fields = json!({ "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:template": {
            "f:metadata": { "f:labels": { "f:app": {} } },
            "f:spec": { "f:containers": { "k:{\"name\":\"web\"}": {
                ".": {}, "f:name": {}, "f:image": {},
                "f:ports": { "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {} } },
            } } },
        },
    } });
    assert_eq!(owners(&object), [("me Apply".to_owned(), fields)]);
    let entry = &object["metadata"]["managedFields"][0];
    assert_eq!((&entry["apiVersion"], &entry["time"], &entry["fieldsType"]), (&json!("apps/v1"), &json!("1970-01-01T00:00:00Z"), &json!("FieldsV1")));
}

#[test]
fn the_same_again_changes_nothing_not_even_the_time() {
    let config = config(&json!({ "replicas": 2 }));
    let once = applied(None, &config, "me", 0).expect("nothing is in the way");
    let twice = applied(Some(&once), &config, "me", 100).expect("nothing is in the way");
    assert_eq!(once, twice);
}

#[test]
fn what_is_left_out_goes_unless_another_owns_it() {
    let one = applied(None, &config(&json!({ "replicas": 2, "paused": true, "minReadySeconds": 5 })), "me", 0).expect("nothing is in the way");
    let two = applied(Some(&one), &config(&json!({ "paused": true })), "other", 1).expect("the values are equal");
    let three = applied(Some(&two), &config(&json!({ "replicas": 2 })), "me", 2).expect("nothing is in the way");
    assert_eq!(three["spec"], json!({ "replicas": 2, "paused": true }));
    let names: Vec<String> = owners(&three).into_iter().map(|(name, fields)| format!("{name} {fields}")).collect();
    assert_eq!(names, [r#"other Apply {"f:spec":{"f:paused":{}}}"#, r#"me Apply {"f:spec":{"f:replicas":{}}}"#]);
}

#[test]
fn another_value_of_another_owner_is_a_conflict_until_forced() {
    let live = applied(None, &config(&json!({ "replicas": 2, "paused": true })), "first", 0).expect("nothing is in the way");
    let mine = config(&json!({ "replicas": 3, "minReadySeconds": 1 }));
    let Err(ApplyError::Conflicts(conflicts)) = applied(Some(&live), &mine, "second", 1) else { panic!("a conflict was expected") };
    assert_eq!(conflicts.len(), 1);
    assert_eq!((conflicts[0].manager.as_str(), conflicts[0].operation), ("first", "Apply"));
    assert_eq!(conflicts[0].fields, [".spec.replicas"]);
    let error = ApplyError::Conflicts(conflicts).to_string();
    assert_eq!(error, r#"apply failed with 1 conflict: conflict with "first" using apps/v1: .spec.replicas"#);

    let forced = apply::server_side_apply(Some(&live), &mine, &writer("second", 1), true, message()).expect("it was forced");
    assert_eq!(forced["spec"], json!({ "replicas": 3, "paused": true, "minReadySeconds": 1 }));
    let names: Vec<String> = owners(&forced).into_iter().map(|(name, fields)| format!("{name} {fields}")).collect();
    assert_eq!(names, [r#"first Apply {"f:spec":{"f:paused":{}}}"#, r#"second Apply {"f:spec":{"f:minReadySeconds":{},"f:replicas":{}}}"#]);
}

#[test]
fn items_are_removed_whole_with_their_defaults_but_not_those_of_others() {
    let containers = |list: Value| config(&json!({ "template": { "spec": { "containers": list } } }));
    let mut live = applied(None, &containers(json!([{ "name": "a", "image": "a" }, { "name": "b", "image": "b" }])), "me", 0).expect("nothing is in the way");
    // What the server filled in belongs to nobody.
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = json!("Always");
    let live = applied(Some(&live), &containers(json!([{ "name": "sidecar", "image": "s" }])), "injector", 1).expect("nothing is in the way");
    let live = applied(Some(&live), &containers(json!([{ "name": "a", "image": "a:2" }])), "me", 2).expect("nothing is in the way");
    let left = json!([{ "name": "a", "image": "a:2" }, { "name": "sidecar", "image": "s" }]);
    assert_eq!(live["spec"]["template"]["spec"]["containers"], left);
}

#[test]
fn a_whole_part_goes_with_its_defaults() {
    let strategy = |spec: &Value| config(spec);
    let mut live = applied(None, &strategy(&json!({ "strategy": { "rollingUpdate": { "maxSurge": 1 } }, "replicas": 1 })), "me", 0).expect("fine");
    live["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = json!("25%");
    let next = applied(Some(&live), &strategy(&json!({ "replicas": 1 })), "me", 1).expect("fine");
    assert_eq!(next["spec"], json!({ "replicas": 1 }));
    let next = applied(Some(&live), &strategy(&json!({ "strategy": { "type": "RollingUpdate" }, "replicas": 1 })), "me", 1).expect("fine");
    assert_eq!(next["spec"], json!({ "replicas": 1, "strategy": { "type": "RollingUpdate" } }));
}

#[test]
fn updates_take_what_they_change() {
    let live = applied(None, &config(&json!({ "replicas": 2, "paused": true })), "applier", 0).expect("fine");
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(5);
    apply::update_managed_fields(Some(&live), &mut scaled, &writer("scaler", 1), message());
    let names: Vec<String> = owners(&scaled).into_iter().map(|(name, fields)| format!("{name} {fields}")).collect();
    assert_eq!(names, [r#"applier Apply {"f:spec":{"f:paused":{}}}"#, r#"scaler Update {"f:spec":{"f:replicas":{}}}"#]);
    // Applying the old value again is a conflict with the one who scaled.
    let again = applied(Some(&scaled), &config(&json!({ "replicas": 2, "paused": true })), "applier", 2);
    assert!(matches!(again, Err(ApplyError::Conflicts(_))), "{again:?}");
    // Leaving it out gives it up without a change.
    let left = applied(Some(&scaled), &config(&json!({ "paused": true })), "applier", 2).expect("fine");
    assert_eq!(left["spec"]["replicas"], 5);
}

#[test]
fn a_created_object_is_owned_as_kubernetes_owns_it() {
    let mut object = config(&json!({
        "replicas": 1,
        "selector": { "matchLabels": { "app": "web" } },
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%" } },
        "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "web", "image": "web", "resources": {} }], "securityContext": {} },
        },
    }));
    object["status"] = json!({ "replicas": 3 });
    apply::update_managed_fields(None, &mut object, &writer("kubectl-create", 0), message());
    let fields = json!({ "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:strategy": { "f:rollingUpdate": { ".": {}, "f:maxSurge": {} }, "f:type": {} },
        "f:template": {
            "f:metadata": { "f:labels": { ".": {}, "f:app": {} } },
            "f:spec": {
                "f:containers": { "k:{\"name\":\"web\"}": { ".": {}, "f:image": {}, "f:name": {}, "f:resources": {} } },
                "f:securityContext": {},
            },
        },
    } });
    assert_eq!(owners(&object), [("kubectl-create Update".to_owned(), fields)]);
}

#[test]
fn status_and_spec_have_their_own_doors() {
    let live = applied(None, &config(&json!({ "replicas": 2 })), "me", 0).expect("fine");
    let mut with_status = live.clone();
    with_status["status"] = json!({ "replicas": 2 });
    let controller = Writer { subresource: "status", ..writer("controller", 1) };
    apply::update_managed_fields(Some(&live), &mut with_status, &controller, message());
    let names: Vec<String> = owners(&with_status).into_iter().map(|(name, fields)| format!("{name} {fields}")).collect();
    assert_eq!(names, [r#"me Apply {"f:spec":{"f:replicas":{}}}"#, r#"controller Update {"f:status":{"f:replicas":{}}}"#]);
    assert_eq!(with_status["metadata"]["managedFields"][1]["subresource"], "status");
    let mut sneaky = config(&json!({ "replicas": 2 }));
    sneaky["status"] = json!({ "replicas": 99 });
    let again = applied(Some(&with_status), &sneaky, "me", 2).expect("fine");
    assert_eq!(again["status"]["replicas"], 2);
}

#[test]
fn mistakes_in_configurations() {
    let twice = config(&json!({ "template": { "spec": { "containers": [{ "name": "a" }, { "name": "a" }] } } }));
    let Err(ApplyError::List { path, problem }) = applied(None, &twice, "me", 0) else { panic!("an error was expected") };
    assert_eq!((path.to_string().as_str(), problem), ("spec.template.spec.containers[1]", "it is there twice"));
    let mut given = config(&json!({}));
    given["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(applied(None, &given, "me", 0), Err(ApplyError::ManagedFieldsGiven));
    assert_eq!(applied(None, &json!(1), "me", 0), Err(ApplyError::NotAnObject));
}

#[test]
fn managed_fields_can_be_forgotten_and_are_kept_when_left_out() {
    let live = applied(None, &config(&json!({ "replicas": 2 })), "me", 0).expect("fine");
    let mut replaced = config(&json!({ "replicas": 2 }));
    apply::update_managed_fields(Some(&live), &mut replaced, &writer("put", 1), message());
    assert_eq!(replaced["metadata"]["managedFields"], live["metadata"]["managedFields"]);
    let mut reset = config(&json!({ "replicas": 2 }));
    reset["metadata"]["managedFields"] = json!([{}]);
    apply::update_managed_fields(Some(&live), &mut reset, &writer("put", 1), message());
    assert_eq!(reset["metadata"].get("managedFields"), None);
}

#[test]
fn an_object_without_owners_was_there_before_the_first_apply() {
    let mut live = config(&json!({ "replicas": 2 }));
    live["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let Err(ApplyError::Conflicts(conflicts)) = applied(Some(&live), &config(&json!({ "replicas": 3 })), "me", 0) else { panic!("a conflict was expected") };
    assert_eq!(conflicts[0].manager, "before-first-apply");
}

#[test]
fn many_updates_are_folded() {
    let mut object = config(&json!({ "replicas": 0 }));
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"];
    for (index, name) in names.into_iter().enumerate() {
        let before = object.clone();
        object["metadata"]["annotations"][name] = json!("1");
        apply::update_managed_fields(Some(&before), &mut object, &writer(name, index as i64), message());
    }
    let managers: Vec<String> = owners(&object).into_iter().map(|(name, _)| name).collect();
    assert_eq!(managers.len(), 10);
    assert!(managers.contains(&"ancient-changes Update".to_owned()), "{managers:?}");
    let mut all = FieldSet::default();
    owners(&object).iter().for_each(|(_, fields)| all.extend(&FieldSet::from_fields(fields)));
    for name in names {
        assert!(all.paths().contains(&format!(".metadata.annotations.{name}")), "{name} has lost its owner");
    }
}

#[test]
fn custom_resources_are_merged_by_the_keys_of_their_schema() {
    let item = json!({"type": "object", "properties": {"zone": {"type": "string"}, "port": {"type": "integer", "default": 80}, "size": {"type": "integer"}}});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "pools": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["zone", "port"], "items": item},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "plain": {"type": "array", "items": {"type": "string"}},
            "one": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            "open": {"type": "object", "additionalProperties": {"type": "string"}}}},
        "status": {"type": "object"}}});
    let widget = |spec: Value| json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w", "labels": {"by": "me"}}, "spec": spec});
    let apply = |live: Option<&Value>, spec: Value, manager: &'static str, second: i64| {
        apply::server_side_apply_custom(live, &widget(spec), &writer(manager, second), false, (&schema, true))
    };
    let first = json!({"pools": [{"zone": "a", "size": 1}, {"zone": "b", "port": 81, "size": 1}], "tags": ["x"], "plain": ["p"], "one": {"a": "1"}, "open": {"k": "1"}});
    let live = apply(None, first, "one", 1).expect("applied");
    // Another one adds to what has keys.
    let both = apply(Some(&live), json!({"pools": [{"zone": "c", "size": 3}], "tags": ["y"], "open": {"l": "2"}}), "two", 2).expect("no dispute");
    assert_eq!(both["spec"]["pools"].as_array().map(Vec::len), Some(3));
    assert_eq!((&both["spec"]["tags"], &both["spec"]["open"]), (&json!(["x", "y"]), &json!({"k": "1", "l": "2"})));
    // What the first one leaves out goes, and nothing of the other's.
    let less = json!({"pools": [{"zone": "b", "port": 81, "size": 2}], "plain": ["p"], "one": {"a": "1"}});
    let after = apply(Some(&both), less, "one", 3).expect("applied");
    assert_eq!(after["spec"]["pools"], json!([{"zone": "b", "port": 81, "size": 2}, {"zone": "c", "size": 3}]));
    assert_eq!((&after["spec"]["tags"], &after["spec"]["open"]), (&json!(["y"]), &json!({"l": "2"})));
    // What is replaced as a whole is disputed as a whole; an item by its keys.
    for (spec, field) in [
        (json!({"plain": ["q"]}), ".spec.plain"),
        (json!({"one": {"b": "2"}}), ".spec.one"),
        (json!({"pools": [{"zone": "c", "port": 80, "size": 4}]}), ".spec.pools[port=80,zone=\"c\"].size"),
    ] {
        match apply(Some(&after), spec.clone(), "three", 4) {
            Err(ApplyError::Conflicts(conflicts)) => {
                assert!(conflicts.iter().any(|conflict| conflict.fields.iter().any(|found| found == field)), "{field}: {conflicts:?}");
            }
            other => panic!("{spec}: {other:?}"),
        }
    }
    assert!(matches!(apply(None, json!({"pools": [{"zone": "a"}, {"zone": "a", "port": 80}]}), "one", 1), Err(ApplyError::List { .. })));
    let of_two = owners(&after).into_iter().find(|(name, _)| name == "two Apply").expect("an owner").1;
    assert_eq!(of_two["f:spec"]["f:pools"]["k:{\"port\":80,\"zone\":\"c\"}"]["f:size"], json!({}));
}

#[test]
fn a_new_object_is_the_same_with_and_without_a_note_of_its_owners() {
    let container = |ports: Value| json!({"template": {"spec": {"containers": [{"name": "web", "env": null, "ports": ports}]}}, "paused": null});
    for spec in [
        container(json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}])),
        container(json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}])),
        container(json!([])),
        json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}}}),
        json!({"template": {"spec": {"containers": [{"image": "x"}, {}, "text"]}}}),
        json!({}),
    ] {
        let mut config = config(&spec);
        config["status"] = json!({"replicas": 1});
        let noted = applied(None, &config, "me", 0).map(|mut object| {
            object["metadata"].as_object_mut().expect("an object").shift_remove("managedFields");
            object
        });
        assert_eq!(apply::new_object(&config, message()), noted, "{spec}");
    }
    let mut given = config(&json!({}));
    given["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(apply::new_object(&given, message()), Err(ApplyError::ManagedFieldsGiven));
}
