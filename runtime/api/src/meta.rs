//! Metadata: reading it, and making its names, uids and times.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use strake_state::Entry;

use crate::status::{Answer, Refusal};

/// A text field of `metadata`, empty when absent.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Whether the object is on its way out.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Whether finalizers hold the object.
pub(crate) fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// Sets a field of `metadata`, or removes it with null.
pub(crate) fn set(object: &mut Value, field: &str, value: Value) {
    let Some(map) = object.as_object_mut() else { return };
    let metadata = map.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
    let Some(metadata) = metadata.as_object_mut() else { return };
    if value.is_null() {
        metadata.shift_remove(field);
    } else {
        metadata.insert(field.to_owned(), value);
    }
}

/// A time as objects carry it: whole seconds in UTC.
pub(crate) fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn random<const N: usize>() -> Answer<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::internal(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

/// A new uid: a random (version 4) UUID, RFC 9562 section 5.4.
pub(crate) fn new_uid() -> Answer<String> {
    let mut bytes = random::<16>()?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// A random number below `bound`, for spreading allocations.
pub(crate) fn random_below(bound: u32) -> Answer<u32> {
    Ok(u32::from_le_bytes(random()?) % bound.max(1))
}

/// A name from `generateName`: the prefix, cut to leave room, and five characters that cannot form words.
pub(crate) fn generated_name(prefix: &str) -> Answer<String> {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let kept: String = prefix.chars().take(58).collect();
    let suffix: String = random::<5>()?.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect();
    Ok(kept + &suffix)
}

/// Metadata that a list needs of an object, read without building the rest.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Brief {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) labels: Option<std::collections::BTreeMap<String, String>>,
    pub(crate) deletion_timestamp: Option<String>,
}

/// The metadata of stored bytes.
pub(crate) fn brief(bytes: &[u8]) -> Answer<Brief> {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(default)]
        metadata: Brief,
    }
    serde_json::from_slice::<Outer>(bytes).map(|outer| outer.metadata).map_err(|error| Refusal::internal(format!("a stored object cannot be read: {error}")))
}

/// The object of an entry.
pub(crate) fn parse(entry: &Entry) -> Answer<Value> {
    parse_bytes(&entry.value)
}

/// The object of stored bytes.
pub(crate) fn parse_bytes(bytes: &[u8]) -> Answer<Value> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::internal(format!("a stored object cannot be read: {error}")))
}
