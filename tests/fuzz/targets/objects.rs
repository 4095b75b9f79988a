//! Kubernetes objects as JSON and protobuf: decoding, checking, defaulting, validating, merging. Nothing panics, and doing it twice changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use strake_kinds::{KindInfo, by_kind, decode, default, merge, protobuf, table, validate};

fn kind_of(object: &Value) -> Option<&'static KindInfo> {
    by_kind(object["apiVersion"].as_str()?, object["kind"].as_str()?)
}

fn live(mut object: Value, kind: &'static KindInfo) {
    let wrong = decode::check(&object, kind.schema());
    let _ = decode::strict_message(&wrong);
    // The server refuses an object with fields of another type here.
    if wrong.iter().any(|error| matches!(error.problem, decode::Problem::WrongType { .. })) {
        return;
    }
    decode::canonical(&mut object, kind.schema());
    default::fold_write_only(&mut object, kind);
    default::apply(&mut object, kind);
    let mut again = object.clone();
    default::apply(&mut again, kind);
    assert_eq!(again, object, "defaulting twice is defaulting once");
    let _ = validate::object(&object, kind);
    if let Ok(same) = merge::strategic(&object, &Value::Object(Default::default()), kind.schema()) {
        assert_eq!(same, object, "an empty patch changes nothing");
    }
    let _ = merge::strategic(&Value::Object(Default::default()), &object, kind.schema());
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok((value, _)) = decode::parse_strict(bytes) {
        if let Some(kind) = kind_of(&value) {
            live(value, kind);
        }
        return;
    }
    if protobuf::is_protobuf(bytes) {
        if let Ok((_, _, value)) = protobuf::decode(bytes)
            && let Some(kind) = kind_of(&value)
        {
            live(value, kind);
        }
        return;
    }
    // Raw messages of any kind: the first byte chooses.
    if let [choice, rest @ ..] = bytes {
        let kind = &table()[usize::from(*choice) % table().len()];
        if let Ok(value) = protobuf::decode_message(rest, kind.schema()) {
            live(value, kind);
        }
    }
});
