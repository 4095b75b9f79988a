//! Objects to bytes, with the place of the revision left open until the write has one.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use strake_state::Revision;

/// An object's JSON around its `metadata.resourceVersion`.
#[derive(Debug, Clone)]
pub(crate) struct Halves {
    head: Vec<u8>,
    tail: Vec<u8>,
}

fn field(out: &mut Vec<u8>, name: &str, value: &Value) {
    if !matches!(out.last(), Some(b'{') | None) {
        out.push(b',');
    }
    write(out, &Value::String(name.to_owned()));
    out.push(b':');
    write(out, value);
}

fn write(out: &mut Vec<u8>, value: &Value) {
    // A Value has text keys only and a Vec takes everything, so that this cannot fail.
    serde_json::to_writer(out, value).expect("a JSON value is writable to memory");
}

/// Takes an object apart. What stands in `metadata.resourceVersion` is left out.
pub(crate) fn halves(object: &Value) -> Halves {
    let (mut head, mut tail) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
    head.push(b'{');
    let empty = serde_json::Map::new();
    let map = object.as_object().unwrap_or(&empty);
    let first = ["apiVersion", "kind"];
    for name in first {
        if let Some(value) = map.get(name) {
            field(&mut head, name, value);
        }
    }
    if head.len() > 1 {
        head.push(b',');
    }
    head.extend_from_slice(b"\"metadata\":{");
    for (name, value) in map.get("metadata").and_then(Value::as_object).unwrap_or(&empty) {
        if name != "resourceVersion" {
            field(&mut head, name, value);
        }
    }
    if head.last() != Some(&b'{') {
        head.push(b',');
    }
    head.extend_from_slice(b"\"resourceVersion\":\"");
    tail.extend_from_slice(b"\"}");
    for (name, value) in map {
        if !first.contains(&name.as_str()) && name != "metadata" {
            field(&mut tail, name, value);
        }
    }
    tail.push(b'}');
    Halves { head, tail }
}

impl Halves {
    /// The bytes at a revision.
    pub(crate) fn at(&self, revision: Revision) -> Bytes {
        let number = revision.0.to_string();
        let mut bytes = BytesMut::with_capacity(self.head.len() + number.len() + self.tail.len());
        bytes.put_slice(&self.head);
        bytes.put_slice(number.as_bytes());
        bytes.put_slice(&self.tail);
        bytes.freeze()
    }

    /// The bytes of an object that is not written (a dry run's): as [`Halves::at`] with the old revision, or without any.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use strake_state::Revision;

    use super::halves;

    #[test]
    fn the_revision_is_the_only_difference() {
        for object in [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "3", "labels": {"b": "\"c"}}, "data": {"resourceVersion": "1"}}),
            json!({"metadata": {"resourceVersion": "9"}}),
            json!({"kind": "X", "z": [1, null, {"metadata": {}}]}),
        ] {
            let read: Value = serde_json::from_slice(&halves(&object).at(Revision(42))).unwrap();
            let mut expected = object.clone();
            expected["metadata"]["resourceVersion"] = "42".into();
            assert_eq!(read, expected);
        }
        assert_eq!(
            &*halves(&json!({"metadata": {"name": "n"}, "kind": "K", "apiVersion": "v1"})).at(Revision(1)),
            br#"{"apiVersion":"v1","kind":"K","metadata":{"name":"n","resourceVersion":"1"}}"#
        );
    }
}
