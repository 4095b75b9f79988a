//! The values of a tree in the order of the file: opened one by one, and counted into the digest that must come out at the end.

use sha2::{Digest, Sha256, Sha512};
use strake_source::{Plain, Secret};
use strake_yaml::{Kind, Node};

use crate::cipher::{decrypt, is_encrypted};
use crate::error::SopsError;
use crate::keys::Keys;
use crate::metadata::Metadata;

/// Values on their way through the digest.
pub(crate) struct Walk<'a> {
    metadata: &'a Metadata,
    key: [u8; 32],
    digest: Sha512,
    /// What was found, in the order of places.
    pub(crate) secrets: Vec<Secret>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(metadata: &'a Metadata, keys: &Keys) -> Result<Self, SopsError> {
        let mut digest = Sha512::new();
        if metadata.only_encrypted {
            // So that it is never the digest of all values.
            digest.update(Sha256::digest(b"sops"));
        }
        Ok(Walk { metadata, key: keys.data_key(&metadata.recipients)?, digest, secrets: Vec::new() })
    }

    /// One value; `counted` is what SOPS counts of one that is not encrypted.
    pub(crate) fn value(&mut self, (start, end): (u32, u32), text: Option<&str>, counted: &[u8], path: &[String]) -> Result<(), SopsError> {
        let encrypted = text.is_some_and(is_encrypted) && self.metadata.encrypts(path).unwrap_or(true);
        let shown = || path.join(".");
        if !encrypted {
            // Nothing is left of an empty text when it is encrypted.
            if self.metadata.encrypts(path) == Some(true) && !counted.is_empty() {
                return Err(SopsError::Bare { path: shown() });
            }
            if !self.metadata.only_encrypted {
                self.digest.update(counted);
            }
            return Ok(());
        }
        let bound = path.iter().map(|key| format!("{key}:")).collect::<String>();
        let opened = text.and_then(|text| decrypt(text, &self.key, &bound));
        let (bytes, value) = opened.ok_or_else(|| SopsError::Value { path: shown() })?;
        self.digest.update(&bytes);
        self.secrets.push(Secret { start, end, value });
        Ok(())
    }

    /// Checks the digest.
    pub(crate) fn finish(mut self) -> Result<Vec<Secret>, SopsError> {
        let found: String = self.digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        match decrypt(&self.metadata.mac, &self.key, &self.metadata.modified) {
            Some((_, Plain::Text(expected))) if expected == found => {}
            _ => return Err(SopsError::Mac),
        }
        self.secrets.sort_by_key(|secret| secret.start);
        Ok(self.secrets)
    }
}

/// Opens the values of documents.
pub(crate) fn open(text: &str, roots: &[Node], metadata: &Metadata, yaml: bool, keys: &Keys) -> Result<Vec<Secret>, SopsError> {
    let mut walk = Walk::new(metadata, keys)?;
    for root in roots {
        for (key, node) in root.entries().iter().filter(|(key, _)| key.value != "sops") {
            below(text, node, &mut vec![key.value.clone()], yaml, &mut walk)?;
        }
    }
    walk.finish()
}

fn below(text: &str, node: &Node, path: &mut Vec<String>, yaml: bool, walk: &mut Walk<'_>) -> Result<(), SopsError> {
    let span = (node.span.start, node.span.end);
    match &node.kind {
        Kind::Mapping(entries) => {
            for (key, node) in entries {
                path.push(key.value.clone());
                below(text, node, path, yaml, walk)?;
                path.pop();
            }
            Ok(())
        }
        // Items are bound to the path of their list.
        Kind::Sequence(items) => items.iter().try_for_each(|node| below(text, node, path, yaml, walk)),
        Kind::Null => Ok(()),
        Kind::String(value) => walk.value(span, Some(value), value.as_bytes(), path),
        Kind::Int(number) => walk.value(span, None, number.to_string().as_bytes(), path),
        Kind::Float(number) => walk.value(span, None, number.to_string().as_bytes(), path),
        Kind::Bool(flag) => {
            let word = text.get(node.span.start as usize..node.span.end as usize).unwrap_or_default();
            // To SOPS only these are flags; `yes` is a text.
            let flags = word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false") || !yaml;
            let counted = if flags { if *flag { "True" } else { "False" } } else { word };
            walk.value(span, None, counted.as_bytes(), path)
        }
    }
}

/// Something in the place of each encrypted value, which a Secret can hold.
pub(crate) fn stand_ins(roots: &[Node]) -> Vec<Secret> {
    fn collect(node: &Node, found: &mut Vec<Secret>) {
        if let Some(word) = node.as_str().filter(|word| is_encrypted(word)) {
            let value = match word.rsplit_once(",type:").map_or("", |(_, kind)| kind.trim_end_matches(']')) {
                "int" => Plain::Int(1),
                "float" => Plain::Float(1.0),
                "bool" => Plain::Bool(true),
                _ => Plain::Text("c2VhbGVk".to_owned()),
            };
            found.push(Secret { start: node.span.start, end: node.span.end, value });
        }
        node.entries().iter().for_each(|(_, node)| collect(node, found));
        node.items().iter().for_each(|node| collect(node, found));
    }
    let mut found = Vec::new();
    let values = roots.iter().flat_map(Node::entries).filter(|(key, _)| key.value != "sops");
    values.for_each(|(_, node)| collect(node, &mut found));
    found.sort_by_key(|secret| secret.start);
    found
}
