//! Secrets in what people see: a keyed hash for each value. Who has the key can tell whether two values are equal; nobody can try passwords without it, and the
//! hash says nothing of a value's length.

use std::fmt;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// What a hash is written like.
const PREFIX: &str = "secret:";
/// Hexadecimal digits of a hash that are shown.
const DIGITS: usize = 16;
/// An annotation with a whole object in it, values of Secrets included.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The key of the hashes: random, one for each set (its inventory keeps it) or for each state directory.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl Key {
    /// A key of these bytes.
    pub fn of(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }

    /// A key that nobody has.
    pub fn random() -> Key {
        let mut bytes = [0; 32];
        // Without the system's randomness a program cannot speak TLS either; a key of zeros would only make hashes comparable.
        if let Err(error) = getrandom::fill(&mut bytes) {
            tracing::warn!("no randomness for the hashes of secrets: {error}");
        }
        Key(bytes)
    }

    /// Its bytes, for those who keep it.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What tells two keys apart, without saying what they are.
    pub fn id(&self) -> String {
        self.digest("strake key id", b"").chars().take(8).collect()
    }

    /// A keyed hash (HMAC with SHA-256, RFC 2104) of something, in hexadecimal. `purpose` keeps hashes of different things apart.
    pub fn digest(&self, purpose: &str, bytes: &[u8]) -> String {
        const BLOCK: usize = 64;
        let pad = |byte: u8| {
            let mut block = [byte; BLOCK];
            block.iter_mut().zip(self.0).for_each(|(block, key)| *block ^= key);
            block
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(purpose.as_bytes()).chain_update([0]).chain_update(bytes).finalize();
        let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        outer.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is shown instead of a secret value.
    fn shown(&self, value: &Value) -> Value {
        if is_hash(value) {
            return value.clone();
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let digest = self.digest("value", text.as_bytes());
        Value::String(format!("{PREFIX}{}", &digest[..DIGITS]))
    }
}

/// Whether a value is shown instead of a secret.
pub fn is_hash(value: &Value) -> bool {
    let digits = value.as_str().and_then(|text| text.strip_prefix(PREFIX));
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether what has this name is most likely a secret: `DB_PASSWORD`, `api-key`, `githubToken`.
pub fn is_secret_name(name: &str) -> bool {
    let mut words: Vec<String> = vec![String::new()];
    let mut lower = false;
    for character in name.chars() {
        if !character.is_ascii_alphanumeric() || (character.is_ascii_uppercase() && lower) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| character.is_ascii_alphanumeric()) {
            word.push(character.to_ascii_lowercase());
        }
        lower = character.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    let last = words.last().map(String::as_str).unwrap_or_default();
    let before = words.len().checked_sub(2).map(|place| words[place].as_str()).unwrap_or_default();
    matches!(last, "password" | "passwd" | "passphrase" | "secret" | "token" | "apikey" | "credentials")
        || (last == "key" && matches!(before, "api" | "private" | "secret" | "access" | "signing" | "encryption"))
}

/// The object with hashes where it has secrets: the data of a Secret, what stands at one of the JSON pointers, variables that are called like passwords, and
/// kubectl's copy of all that.
pub fn conceal(mut object: Value, key: &Key, sensitive: &[String]) -> Value {
    for pointer in sensitive {
        if let Some(value) = object.pointer_mut(pointer) {
            *value = key.shown(value);
        }
    }
    let secret = object["kind"] == "Secret";
    if secret {
        for field in ["data", "stringData"] {
            each(object.get_mut(field), |_, value| *value = key.shown(value));
        }
    } else if object["kind"] == "ConfigMap" {
        each(object.get_mut("data"), |name, value| {
            if is_secret_name(name) {
                *value = key.shown(value);
            }
        });
    }
    if let Some(copy) = object.pointer_mut("/metadata/annotations").and_then(|annotations| annotations.get_mut(LAST_APPLIED)) {
        *copy = key.shown(copy);
    }
    if let Some(spec) = object.get_mut("spec") {
        variables(spec, key);
    }
    object
}

fn each(map: Option<&mut Value>, mut act: impl FnMut(&str, &mut Value)) {
    let fields = map.and_then(Value::as_object_mut).into_iter().flat_map(Map::iter_mut);
    fields.for_each(|(name, value)| act(name, value));
}

/// Hides the variables of all containers below.
fn variables(value: &mut Value, key: &Key) {
    match value {
        Value::Object(map) => {
            let env = map.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten();
            for variable in env.filter(|variable| variable["name"].as_str().is_some_and(is_secret_name)) {
                if let Some(value) = variable.get_mut("value") {
                    *value = key.shown(value);
                }
            }
            map.values_mut().for_each(|value| variables(value, key));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| variables(value, key)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_keyed_hash_is_hmac() {
        // RFC 4231, test case 1 has a key of 20 bytes; zeros at the end of a key change nothing.
        let mut bytes = [0; 32];
        bytes[..20].fill(0x0b);
        let inner = Key::of(bytes);
        // `purpose` and its end are a part of what is hashed, so the vector is that of an implementation with the same input.
        assert_ne!(inner.digest("a", b"Hi There"), inner.digest("b", b"Hi There"));
        assert_ne!(inner.digest("a", b"Hi There"), Key::of([1; 32]).digest("a", b"Hi There"));
        assert_eq!(inner.digest("a", b"Hi There").len(), 64);
    }

    #[test]
    fn nothing_of_a_secret_is_left() {
        let key = Key::random();
        let object = json!({"kind": "Secret", "metadata": {"annotations": {LAST_APPLIED: "{\"data\":{\"a\":\"aHVudGVyMg==\"}}"}}, "data": {"a": "aHVudGVyMg==", "b": "aHVudGVyMg==", "c": ""}});
        let hidden = conceal(object.clone(), &key, &[]);
        let text = hidden.to_string();
        assert!(!text.contains("aHVudGVyMg"), "{text}");
        assert_eq!(hidden["data"]["a"], hidden["data"]["b"], "equal values look equal");
        assert_eq!(hidden["data"]["a"].to_string().len(), hidden["data"]["c"].to_string().len(), "nothing is told of the length");
        assert_eq!(conceal(hidden.clone(), &key, &[]), hidden, "a hash is not hashed again");
        assert_ne!(conceal(object.clone(), &Key::random(), &[])["data"]["a"], hidden["data"]["a"], "another key, another hash");
    }

    #[test]
    fn pointers_and_names_say_what_else_is_secret() {
        let key = Key::of([1; 32]);
        let env = json!([{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "COLOUR", "value": "red"}, {"name": "API_TOKEN", "valueFrom": {}}]);
        let object = json!({"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"env": env}]}}, "other": "sealed"}});
        let hidden = conceal(object, &key, &["/spec/other".to_owned()]);
        let env = &hidden["spec"]["template"]["spec"]["containers"][0]["env"];
        assert!(is_hash(&env[0]["value"]) && env[1]["value"] == "red" && env[2]["valueFrom"].is_object(), "{hidden}");
        assert!(is_hash(&hidden["spec"]["other"]));
        for name in ["DB_PASSWORD", "api-key", "githubToken", "client.secret", "token"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["TOKEN_BUCKET_SIZE", "KEY", "monkey", "SECRET_NAME", "PASSWORD_FILE", "cache-key"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
