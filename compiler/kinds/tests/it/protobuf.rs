//! Protobuf bodies, written here by a tiny encoder.

use proptest::prelude::*;
use serde_json::{Value, json};
use strake_kinds::protobuf::{self, ProtobufError};
use strake_kinds::{schema, table};

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

fn int(tag: u64, number: i64) -> Vec<u8> {
    [varint(tag << 3), varint(number as u64)].concat()
}

fn bytes(tag: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(tag << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn message(tag: u64, fields: &[Vec<u8>]) -> Vec<u8> {
    bytes(tag, fields.concat())
}

fn entry(tag: u64, key: &str, value: Vec<u8>) -> Vec<u8> {
    message(tag, &[bytes(1, key), value])
}

fn envelope(api_version: &str, kind: &str, object: &[Vec<u8>]) -> Vec<u8> {
    let unknown = [message(1, &[bytes(1, api_version), bytes(2, kind)]), message(2, object), bytes(3, ""), bytes(4, "")].concat();
    [b"k8s\0".to_vec(), unknown].concat()
}

fn decoded(api_version: &str, kind: &str, object: &[Vec<u8>]) -> Value {
    let (found_version, found_kind, value) = protobuf::decode(&envelope(api_version, kind, object)).expect("it is well formed");
    assert_eq!((found_version.as_str(), found_kind.as_str()), (api_version, kind));
    value
}

#[test]
fn a_deployment_as_kubectl_sends_it() {
    // Zero values of fields that are no pointers are on the wire, as Go writes them.
    let quantity = |text: &str| message(2, &[bytes(1, text)]);
    let container = [
        bytes(1, "web"),
        bytes(2, "web:1"),
        bytes(5, ""),
        message(6, &[bytes(1, ""), int(2, 0), int(3, 80), bytes(4, ""), bytes(5, "")]),
        message(8, &[entry(1, "cpu", quantity("500m"))]),
        bytes(14, ""),
        int(16, 0),
    ];
    let probe = message(11, &[message(1, &[message(2, &[bytes(1, "/"), message(2, &[int(1, 1), int(2, 0), bytes(3, "http")])])]), int(2, 5), int(3, 0)]);
    let volume = message(1, &[bytes(1, "tmp"), message(2, &[message(2, &[])])]);
    let pod = [volume, message(2, &[container.concat(), probe]), bytes(3, ""), int(4, 0)];
    let template = [message(1, &[bytes(1, ""), entry(11, "app", bytes(2, "web"))]), message(2, &pod)];
    let spec = [int(1, 0), message(2, &[entry(1, "app", bytes(2, "web"))]), message(3, &template), message(4, &[bytes(1, "")]), int(5, 0)];
    let metadata = [bytes(1, "web"), bytes(3, "default"), int(7, 0), message(8, &[])];
    let value = decoded("apps/v1", "Deployment", &[message(1, &metadata), message(2, &spec), message(3, &[int(1, 0)])]);
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "volumes": [{ "name": "tmp", "emptyDir": {} }],
                    "containers": [{
                        "name": "web", "image": "web:1", "ports": [{ "containerPort": 80 }], "resources": { "limits": { "cpu": "500m" } },
                        "readinessProbe": { "httpGet": { "path": "/", "port": "http" }, "initialDelaySeconds": 5 },
                    }],
                },
            },
        },
    });
    assert_eq!(value, expected);
}

#[test]
fn scalars_that_are_messages() {
    let event = decoded(
        "events.k8s.io/v1",
        "Event",
        &[message(1, &[bytes(1, "e"), message(8, &[int(1, 1_700_000_000), int(2, 0)])]), message(2, &[int(1, 1_700_000_000), int(2, 123_456_789)])],
    );
    assert_eq!(event["metadata"]["creationTimestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(event["eventTime"], "2023-11-14T22:13:20.123456Z");
    let secret = decoded("v1", "Secret", &[entry(2, "key", bytes(2, b"\x00\xff")), entry(2, "empty", Vec::new()), bytes(3, "Opaque")]);
    assert_eq!(secret["data"], json!({ "key": "AP8=", "empty": "" }));
    let options = decoded("v1", "DeleteOptions", &[int(1, 0), bytes(4, "Background")]);
    assert_eq!(options, json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Background" }));
    let security = schema::message("io.k8s.api.core.v1.PodSecurityContext").expect("it is in the table");
    let packed = bytes(4, [varint(1000), varint(2000)].concat());
    assert_eq!(protobuf::decode_message(&packed, security), Ok(json!({ "supplementalGroups": [1000, 2000] })));
    let negative = protobuf::decode_message(&int(2, -1), security);
    assert_eq!(negative, Ok(json!({ "runAsUser": -1 })));
}

#[test]
fn unknown_tags_are_dropped() {
    let value = decoded("v1", "ConfigMap", &[entry(2, "a", bytes(2, "1")), bytes(999, "future"), int(998, 7)]);
    assert_eq!(value["data"], json!({ "a": "1" }));
}

#[test]
fn broken_bodies_are_refused() {
    let pod = |object: &[Vec<u8>]| protobuf::decode(&envelope("v1", "Pod", object));
    assert_eq!(protobuf::decode(b"{}"), Err(ProtobufError::Magic));
    assert_eq!(protobuf::decode(b"k8s\0\x0a\x7f"), Err(ProtobufError::Truncated));
    assert_eq!(pod(&[int(2, 1)]), Err(ProtobufError::WireType { tag: 2, wire: 0 }));
    assert_eq!(pod(&[message(1, &[bytes(1, b"\xff")])]), Err(ProtobufError::Utf8(1)));
    assert_eq!(protobuf::decode(&[b"k8s\0".to_vec(), vec![0xff; 11]].concat()), Err(ProtobufError::Varint));
    let unknown = protobuf::decode(&envelope("v1", "Nothing", &[]));
    assert_eq!(unknown, Err(ProtobufError::UnknownKind { api_version: "v1".into(), kind: "Nothing".into() }));
}

#[test]
fn depth_has_an_end() {
    let schema = schema::message("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").expect("it is in the table");
    let not = schema.field("not").expect("schemas nest in `not`");
    let mut body = Vec::new();
    for _ in 0..100 {
        body = bytes(u64::from(not.tag), body);
    }
    assert_eq!(protobuf::decode_message(&body, schema), Err(ProtobufError::Depth));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(kind in 0..table().len(), content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = protobuf::decode(&content);
        let _ = protobuf::decode(&[b"k8s\0", content.as_slice()].concat());
        let _ = protobuf::decode_message(&content, table()[kind].schema());
    }

    #[test]
    fn damaged_objects_never_panic(at in 0_usize..200, byte in any::<u8>()) {
        let spec = [message(2, &[bytes(1, "web"), message(6, &[int(3, 80)]), message(8, &[entry(1, "cpu", message(2, &[bytes(1, "1")]))])])];
        let mut body = envelope("v1", "Pod", &[message(1, &[bytes(1, "p"), message(8, &[int(1, 5)])]), message(2, &spec)]);
        let place = at % body.len();
        body[place] = byte;
        let _ = protobuf::decode(&body);
    }
}
