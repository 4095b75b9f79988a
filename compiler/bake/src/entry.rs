//! The `key=value,…` entries of a target: outputs, caches, secrets, SSH agents, attestations.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::types::go_bool;
use crate::value::Value;

/// The fields of one CSV line (RFC 4180). `None` when a quote is not closed.
pub fn fields(text: &str) -> Option<Vec<String>> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let last = fields.last_mut()?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                last.push('"');
            }
            '"' if quoted || last.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => last.push(other),
        }
    }
    (!quoted).then_some(fields)
}

/// `key=value`, in quotes where CSV wants them.
fn field(key: &str, value: &str) -> String {
    let pair = format!("{key}={value}");
    if pair.contains([',', '"']) { format!("\"{}\"", pair.replace('"', "\"\"")) } else { pair }
}

/// One entry of `output`, `cache-from`, `cache-to` or `attest`: a type with attributes (`dest` among them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `type`.
    pub kind: String,
    /// The other keys.
    pub attributes: BTreeMap<String, String>,
}

/// What an [`Entry`] is written for: the short forms differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A word alone is a directory; `-` is a tar on stdout.
    Output,
    /// A word alone is a registry's reference.
    Cache,
    /// No short form.
    Attest,
}

impl Entry {
    /// An entry without attributes.
    pub fn of(kind: &str) -> Entry {
        Entry { kind: kind.to_owned(), attributes: BTreeMap::new() }
    }

    /// Reads `type=…,key=value` or a short form.
    pub fn parse(text: &str, what: EntryKind) -> Result<Entry, String> {
        let fields = fields(text).ok_or_else(|| format!("`{text}`: a quote is not closed"))?;
        if let [only] = fields.as_slice()
            && !only.contains('=')
        {
            let with = |kind: &str, key: &str| Entry { kind: kind.to_owned(), attributes: BTreeMap::from([(key.to_owned(), only.clone())]) };
            match what {
                EntryKind::Output if only == "-" => return Ok(with("tar", "dest")),
                EntryKind::Output => return Ok(with("local", "dest")),
                EntryKind::Cache => return Ok(with("registry", "ref")),
                EntryKind::Attest => {}
            }
        }
        let mut entry = Entry::of("");
        for field in &fields {
            let (key, value) = field.split_once('=').ok_or_else(|| format!("`{field}` in `{text}`: expected KEY=VALUE"))?;
            let key = key.trim().to_lowercase();
            if key == "type" { value.clone_into(&mut entry.kind) } else { drop(entry.attributes.insert(key, value.to_owned())) }
        }
        entry.check(text)
    }

    /// Reads one text of `cache-from` or `cache-to`: references alone are separated by commas.
    pub fn caches(text: &str) -> Result<Vec<Entry>, String> {
        if text.contains('=') {
            return Ok(vec![Entry::parse(text, EntryKind::Cache)?]);
        }
        let words = fields(text).ok_or_else(|| format!("`{text}`: a quote is not closed"))?;
        words.iter().filter(|word| !word.is_empty()).map(|word| Entry::parse(word, EntryKind::Cache)).collect()
    }

    /// Reads an object, or text as [`Entry::parse`].
    pub fn from_value(value: &Value, what: EntryKind) -> Result<Entry, String> {
        match value {
            Value::String(text) => Entry::parse(text, what),
            Value::Object(entries) => {
                let mut entry = Entry::of("");
                for (key, value) in entries.iter().filter(|(_, value)| **value != Value::Null) {
                    let text = value.to_text().ok_or_else(|| format!("`{key}`: expected text, found {}", value.kind()))?;
                    if key == "type" { entry.kind = text } else { drop(entry.attributes.insert(key.clone(), text)) }
                }
                entry.check(&value.to_json().to_string())
            }
            other => Err(format!("expected text such as type=…,KEY=VALUE or an object, found {}", other.kind())),
        }
    }

    fn check(self, text: &str) -> Result<Entry, String> {
        if self.kind.is_empty() {
            return Err(format!("`{text}`: the type is missing, as in type=local"));
        }
        Ok(self)
    }

    /// As the command line takes it.
    pub fn to_text(&self) -> String {
        let pairs = self.attributes.iter().map(|(key, value)| field(key, value));
        std::iter::once(field("type", &self.kind)).chain(pairs).collect::<Vec<_>>().join(",")
    }

    /// As `--print` shows it: one object, its keys sorted.
    pub fn to_json(&self, what: EntryKind) -> Json {
        let mut all: BTreeMap<&str, Json> = self.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str().into())).collect();
        all.insert("type", self.kind.as_str().into());
        if what == EntryKind::Attest
            && let Some(disabled) = self.disabled()
        {
            all.remove("disabled");
            if disabled {
                all.insert("disabled", true.into());
            }
        }
        let mut map = Map::new();
        map.extend(all.into_iter().map(|(key, value)| (key.to_owned(), value)));
        map.into()
    }

    /// `disabled` of an attestation, when it is there and is one.
    pub fn disabled(&self) -> Option<bool> {
        self.attributes.get("disabled").and_then(|text| go_bool(text))
    }
}

/// One secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secret {
    /// Its id.
    pub id: String,
    /// The file that holds it.
    pub source: String,
    /// The variable that holds it.
    pub variable: String,
}

impl Secret {
    /// Reads `id=…,src=…` or `id=…,env=…`.
    pub fn parse(text: &str) -> Result<Secret, String> {
        let (mut secret, mut kind) = (Secret::default(), String::new());
        for field in fields(text).ok_or_else(|| format!("`{text}`: a quote is not closed"))? {
            let (key, value) = field.split_once('=').ok_or_else(|| format!("`{field}` in `{text}`: expected KEY=VALUE"))?;
            match key.to_lowercase().as_str() {
                "type" if matches!(value, "file" | "env") => value.clone_into(&mut kind),
                "type" => return Err(format!("`{text}`: type `{value}` is not known: expected file or env")),
                "id" => value.clone_into(&mut secret.id),
                "source" | "src" => value.clone_into(&mut secret.source),
                "env" => value.clone_into(&mut secret.variable),
                other => return Err(format!("`{other}` in `{text}` is not known: expected id, src, env or type")),
            }
        }
        if kind == "env" && secret.variable.is_empty() {
            secret.variable = std::mem::take(&mut secret.source);
        }
        Ok(secret)
    }

    /// Reads an object with `id`, `src` and `env`, or text.
    pub fn from_value(value: &Value) -> Result<Secret, String> {
        match value {
            Value::String(text) => Secret::parse(text),
            Value::Object(entries) => {
                let mut secret = Secret::default();
                for (key, value) in entries.iter().filter(|(_, value)| **value != Value::Null) {
                    let text = value.to_text().ok_or_else(|| format!("`{key}`: expected text, found {}", value.kind()))?;
                    match key.as_str() {
                        "id" => secret.id = text,
                        "src" | "source" => secret.source = text,
                        "env" => secret.variable = text,
                        "type" => {}
                        other => return Err(format!("`{other}` is not known: expected id, src or env")),
                    }
                }
                Ok(secret)
            }
            other => Err(format!("expected text such as id=ID,src=FILE or an object, found {}", other.kind())),
        }
    }

    /// As the command line takes it.
    pub fn to_text(&self) -> String {
        let pairs = [("id", &self.id), ("src", &self.source), ("env", &self.variable)];
        pairs.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| field(key, value)).collect::<Vec<_>>().join(",")
    }

    /// As `--print` shows it.
    pub fn to_json(&self) -> Json {
        let mut map = Map::new();
        let pairs = [("id", &self.id), ("src", &self.source), ("env", &self.variable)];
        map.extend(pairs.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.to_owned(), value.as_str().into())));
        map.into()
    }
}

/// One SSH agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Its socket, or files with keys.
    pub paths: Vec<String>,
}

impl Agent {
    /// Reads `default` or `id=PATH,PATH`.
    pub fn parse(text: &str) -> Agent {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        Agent { id: id.to_owned(), paths: paths.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect() }
    }

    /// Reads an object with `id` and `paths`, or text.
    pub fn from_value(value: &Value) -> Result<Agent, String> {
        match value {
            Value::String(text) => Ok(Agent::parse(text)),
            Value::Object(entries) => {
                let mut agent = Agent::default();
                for (key, value) in entries {
                    match (key.as_str(), value) {
                        ("id", Value::String(id)) => agent.id.clone_from(id),
                        ("paths", Value::List(paths)) => {
                            agent.paths = paths.iter().map(|path| path.to_text().ok_or("`paths`: expected texts")).collect::<Result<_, _>>()?;
                        }
                        (_, Value::Null) => {}
                        (other, _) => return Err(format!("`{other}` is not as expected: an agent has the text id and the list paths")),
                    }
                }
                Ok(agent)
            }
            other => Err(format!("expected text such as default or id=SOCKET, or an object, found {}", other.kind())),
        }
    }

    /// As the command line takes it.
    pub fn to_text(&self) -> String {
        if self.paths.is_empty() { self.id.clone() } else { format!("{}={}", self.id, self.paths.join(",")) }
    }

    /// As `--print` shows it.
    pub fn to_json(&self) -> Json {
        match (self.id.is_empty(), self.paths.is_empty()) {
            (_, true) => json!({ "id": self.id }),
            (true, false) => json!({ "paths": self.paths }),
            (false, false) => json!({ "id": self.id, "paths": self.paths }),
        }
    }
}

/// `--sbom` and `--provenance`: a truth, or attributes.
pub fn attestation(kind: &str, text: &str) -> String {
    match go_bool(text) {
        Some(wanted) => format!("type={kind},disabled={}", !wanted),
        None => format!("type={kind},{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Agent, Entry, EntryKind, Secret, fields};

    #[test]
    fn csv_lines() {
        let of = |text: &str| fields(text).unwrap_or_default();
        assert_eq!(of("a,b=c"), ["a", "b=c"]);
        assert_eq!(of("\"a,b\",c"), ["a,b", "c"]);
        assert_eq!(of("\"say \"\"x\"\"\""), ["say \"x\""]);
        assert_eq!(fields("\"a"), None);
    }

    #[test]
    fn entries_and_their_short_forms() {
        for (text, what, back) in [
            ("out/dir", EntryKind::Output, "type=local,dest=out/dir"),
            ("-", EntryKind::Output, "type=tar,dest=-"),
            ("user/app:cache", EntryKind::Cache, "type=registry,ref=user/app:cache"),
            ("type=oci,DEST=x.tar", EntryKind::Output, "type=oci,dest=x.tar"),
            ("type=image,\"name=a,b\"", EntryKind::Output, "type=image,\"name=a,b\""),
        ] {
            assert_eq!(Entry::parse(text, what).expect(text).to_text(), back);
        }
        assert!(Entry::parse("mode=max", EntryKind::Cache).expect_err("no type").contains("type is missing"));
        assert!(Entry::parse("provenance", EntryKind::Attest).is_err());
        let off = Entry::parse("type=sbom,disabled=true", EntryKind::Attest).expect("read");
        assert_eq!(off.to_json(EntryKind::Attest).to_string(), r#"{"disabled":true,"type":"sbom"}"#);
    }

    #[test]
    fn secrets_and_agents() {
        assert_eq!(Secret::parse("type=env,id=a,src=B").expect("read").to_text(), "id=a,env=B");
        assert!(Secret::parse("id=a,odd=b").is_err());
        assert_eq!(Agent::parse("id=/a,/b").to_text(), "id=/a,/b");
        assert_eq!(Agent::parse("default").to_json().to_string(), r#"{"id":"default"}"#);
    }
}
