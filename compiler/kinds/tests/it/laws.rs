//! Laws that hold for any JSON, also for such as no schema allows: a server is sent anything.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use strake_kinds::apply::{self, Writer};
use strake_kinds::decode::Problem;
use strake_kinds::{KindInfo, decode, default, merge, table, validate};

/// Names that lead deep into the supported kinds, and some that lead nowhere.
const NAMES: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "template",
    "containers",
    "initContainers",
    "name",
    "namespace",
    "generateName",
    "labels",
    "annotations",
    "ports",
    "containerPort",
    "protocol",
    "env",
    "value",
    "valueFrom",
    "fieldRef",
    "configMapKeyRef",
    "key",
    "volumes",
    "volumeMounts",
    "emptyDir",
    "secret",
    "resources",
    "limits",
    "requests",
    "cpu",
    "selector",
    "matchLabels",
    "matchExpressions",
    "operator",
    "values",
    "strategy",
    "rollingUpdate",
    "maxSurge",
    "type",
    "data",
    "stringData",
    "immutable",
    "readinessProbe",
    "httpGet",
    "port",
    "targetPort",
    "clusterIP",
    "ownerReferences",
    "uid",
    "finalizers",
    "managedFields",
    "fieldsV1",
    "f:spec",
    "operation",
    "time",
    "endpoints",
    "addresses",
    "addressType",
    "taints",
    "effect",
    "creationTimestamp",
    "$patch",
    "$setElementOrder/containers",
    "$retainKeys",
    "nothing",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(NAMES).prop_map(str::to_owned),
        1 => prop::sample::select(&["", "-", "TCP", "Always", "delete", "replace", "Apply", "Update", "web", "500m", "é", "2026-01-01T00:00:00Z", "None"][..]).prop_map(str::to_owned),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..70_000).prop_map(Value::from),
        Just(json!(0.5)),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 60, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => prop::collection::vec((word(), inner), 0..6).prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn supported(index: usize) -> &'static KindInfo {
    let kinds: Vec<&KindInfo> = table().iter().filter(|kind| kind.supported).collect();
    kinds[index % kinds.len()]
}

fn writer() -> Writer<'static> {
    Writer { manager: "me", subresource: "", now: jiff::Timestamp::UNIX_EPOCH }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn checks_and_defaults(index in any::<usize>(), value in anything()) {
        let kind = supported(index);
        let mut canonical = value.clone();
        decode::canonical(&mut canonical, kind.schema());
        let mut again = canonical.clone();
        decode::canonical(&mut again, kind.schema());
        prop_assert_eq!(&again, &canonical, "the canonical form is canonical");

        let mut defaulted = value.clone();
        default::apply(&mut defaulted, kind);
        let mut again = defaulted.clone();
        default::apply(&mut again, kind);
        prop_assert_eq!(&again, &defaulted, "defaults are filled in once");
        let shape = |value: &Value| decode::check(value, kind.schema()).into_iter().filter(|error| error.problem != Problem::MissingRequired).count();
        prop_assert!(shape(&defaulted) <= shape(&value), "defaults fit the schema");
        let _ = validate::object(&defaulted, kind);
        prop_assert_eq!(validate::update(&defaulted, &defaulted, kind), vec![], "no change is a fine change");
    }

    #[test]
    fn merging(index in any::<usize>(), one in anything(), two in anything()) {
        let schema = supported(index).schema();
        if one.is_object() {
            let same = merge::strategic(&one, &json!({}), schema);
            prop_assert_eq!(same.as_ref(), Ok(&one), "an empty patch changes nothing");
        }
        let _ = merge::strategic(&one, &two, schema);
        let mut target = one.clone();
        merge::json_merge(&mut target, &two);
        let once = target.clone();
        merge::json_merge(&mut target, &two);
        prop_assert_eq!(target, once, "a JSON merge patch can be applied twice");
    }

    #[test]
    fn applying(index in any::<usize>(), live in anything(), config in anything()) {
        let schema = supported(index).schema();
        let Ok(once) = apply::server_side_apply(Some(&live), &config, &writer(), true, schema) else { return Ok(()) };
        let twice = apply::server_side_apply(Some(&once), &config, &writer(), true, schema);
        prop_assert_eq!(twice.as_ref(), Ok(&once), "applying again changes nothing");
        let mut updated = config.clone();
        apply::update_managed_fields(Some(&live), &mut updated, &writer(), schema);
    }
}
