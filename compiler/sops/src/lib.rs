//! SOPS files to what stands in them, in memory only: the values of YAML, JSON, dotenv and binary files that were encrypted for age or ssh keys.
//!
//! The text of a file is kept as it is, encrypted: what is opened are its [values](strake_source::Secret), each with its place. So a finding shows the encrypted
//! line, which is the one that is in the file, and whoever has a place knows whether what stands there is secret.
//!
//! The format is that of SOPS 3: a data key, encrypted for each recipient; values in AES-256-GCM with their path as associated data; and a keyed digest of all
//! values, so that none can be left out, added or moved.

mod cipher;
mod dotenv;
mod error;
mod keys;
mod metadata;
mod walk;

use serde_json::Value;
use strake_source::{FileId, Plain, Secret};
use strake_yaml::Node;

pub use error::SopsError;
pub use keys::Keys;

/// A file that was encrypted.
#[derive(Clone, Default, PartialEq)]
pub struct Opened {
    /// Its values, by their places in the encrypted text. After a failure they are stand-ins, so that nothing else is found wrong with them.
    pub secrets: Vec<Secret>,
    /// The whole file as it was before it was encrypted; empty after a failure.
    pub plain: Vec<u8>,
    /// Why it could not be opened, and the place in the text that says how it was encrypted.
    pub failure: Option<(SopsError, usize)>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({} values)", self.secrets.len())
    }
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Yaml,
    Json,
    /// JSON around the bytes of a file of another kind.
    Binary,
    Dotenv,
}

/// Opens a file; `None` when it was not encrypted with SOPS. `name` tells how it is written.
pub fn open(name: &str, text: &str, keys: &Keys) -> Option<Opened> {
    // Nearly all files end here.
    if !text.contains("sops") || !text.contains("mac") {
        return None;
    }
    if is_ini(text) {
        let at = text.find("[sops]").unwrap_or(0);
        return Some(Opened { failure: Some((SopsError::Unsupported { what: "an encrypted INI file".to_owned() }, at)), ..Opened::default() });
    }
    let format = format_of(name, text)?;
    if format == Format::Dotenv { dotenv::open(text, keys) } else { tree(text, format, keys) }
}

fn is_ini(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == "[sops]") && text.lines().any(|line| line.starts_with("mac ") || line.starts_with("mac="))
}

fn format_of(name: &str, text: &str) -> Option<Format> {
    let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let dotenv = || dotenv::is_one(text).then_some(Format::Dotenv);
    match file.rsplit_once('.').map(|(_, extension)| extension) {
        Some("yaml" | "yml") => Some(Format::Yaml),
        Some("json") => Some(Format::Json),
        Some("env") => dotenv(),
        _ if text.trim_start().starts_with('{') => Some(Format::Binary),
        _ => dotenv().or_else(|| text.lines().any(|line| line.starts_with("sops:")).then_some(Format::Yaml)),
    }
}

fn tree(text: &str, format: Format, keys: &Keys) -> Option<Opened> {
    let (documents, _) = strake_yaml::parse(FileId(0), text);
    let roots: Vec<Node> = documents.into_iter().map(|document| document.root).collect();
    let (key, block) = roots.iter().find_map(|root| root.entry("sops"))?;
    // Others have a field of this name too.
    if block.get("mac").is_none() || block.get("lastmodified").is_none() {
        return None;
    }
    let at = key.span.start as usize;
    let result = metadata::of_node(block).and_then(|metadata| walk::open(text, &roots, &metadata, format == Format::Yaml, keys));
    let secrets = match result {
        Ok(secrets) => secrets,
        Err(error) => return Some(Opened { secrets: walk::stand_ins(&roots), plain: Vec::new(), failure: Some((error, at)) }),
    };
    let plain = match format {
        Format::Binary => match roots.first().and_then(|root| root.get("data")).and_then(|data| value_of(data, &secrets)) {
            Some(Plain::Text(data)) => data.clone().into_bytes(),
            _ => json(&roots, &secrets).into_bytes(),
        },
        Format::Json => json(&roots, &secrets).into_bytes(),
        Format::Yaml | Format::Dotenv => yaml(text, &roots, &secrets).into_bytes(),
    };
    Some(Opened { secrets, plain, failure: None })
}

fn value_of<'a>(node: &Node, secrets: &'a [Secret]) -> Option<&'a Plain> {
    secrets.binary_search_by_key(&node.span.start, |secret| secret.start).ok().map(|place| &secrets[place].value)
}

/// JSON without what SOPS added, with the tabs that it writes.
fn json(roots: &[Node], secrets: &[Secret]) -> String {
    fn value(node: &Node, secrets: &[Secret]) -> Value {
        match value_of(node, secrets) {
            Some(Plain::Text(text)) => Value::String(text.clone()),
            Some(Plain::Bool(flag)) => Value::Bool(*flag),
            Some(Plain::Int(number)) => serde_json::Number::from_i128(*number).map_or(Value::Null, Value::Number),
            Some(Plain::Float(number)) => number_of(*number),
            None if !node.entries().is_empty() => Value::Object(
                node.entries().iter().filter(|(key, _)| key.value != "sops").map(|(key, node)| (key.value.clone(), value(node, secrets))).collect(),
            ),
            None if !node.items().is_empty() => Value::Array(node.items().iter().map(|node| value(node, secrets)).collect()),
            None => node.to_json(),
        }
    }
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing to memory does not fail.
    let _ = roots.first().map(|root| serde::Serialize::serialize(&value(root, secrets), &mut serializer));
    String::from_utf8(out).unwrap_or_default() + "\n"
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn number_of(number: f64) -> Value {
    let whole = number.fract() == 0.0 && number.abs() < 9.0e18;
    if whole { Value::from(number as i64) } else { serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number) }
}

/// The text with the values in their places and without the block that SOPS added.
fn yaml(text: &str, roots: &[Node], secrets: &[Secret]) -> String {
    let blocks = roots.iter().filter_map(|root| root.entry("sops")).map(|(key, block)| {
        let start = text[..key.span.start as usize].rfind('\n').map_or(0, |newline| newline + 1);
        let end = block.span.end as usize;
        (start, text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1), String::new())
    });
    let values = secrets.iter().map(|secret| (secret.start as usize, secret.end as usize, written(&secret.value)));
    let mut parts: Vec<(usize, usize, String)> = values.chain(blocks).collect();
    parts.sort();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for (start, end, words) in parts.into_iter() {
        // What stands inside a block goes with it.
        if start < at {
            continue;
        }
        out.push_str(&text[at..start]);
        out.push_str(&words);
        at = end;
    }
    out.push_str(&text[at..]);
    out
}

/// A value as YAML: as it is where nobody could take it for something else, else in quotes.
fn written(value: &Plain) -> String {
    match value {
        Plain::Text(text) => {
            let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
            let plain =
                text.starts_with(|sign: char| sign.is_ascii_alphabetic()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
            if plain && !words.contains(&text.to_ascii_lowercase().as_str()) { text.clone() } else { Value::String(text.clone()).to_string() }
        }
        Plain::Int(number) => number.to_string(),
        Plain::Float(number) => number.to_string(),
        Plain::Bool(flag) => flag.to_string(),
    }
}
