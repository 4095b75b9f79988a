//! Dotenv files: a variable a line, what SOPS writes about them among them with `sops_` in front.

use std::collections::BTreeMap;

use strake_source::{Plain, Secret};

use crate::Opened;
use crate::cipher::is_encrypted;
use crate::error::SopsError;
use crate::keys::Keys;
use crate::metadata;
use crate::walk::Walk;

const OWN: &str = "sops_";

/// Whether it has been encrypted.
pub(crate) fn is_one(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("sops_mac="))
}

/// Variables with the places of their values: `(name, value, start)`.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str, usize)> {
    let mut at = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        let (name, value) = line.trim_end_matches(['\r', '\n']).split_once('=').filter(|_| !line.starts_with('#'))?;
        Some((name, value, start + name.len() + 1))
    })
}

pub(crate) fn open(text: &str, keys: &Keys) -> Option<Opened> {
    if !is_one(text) {
        return None;
    }
    let at = text.find("\nsops_").map_or(0, |newline| newline + 1);
    Some(match values(text, keys) {
        Ok(secrets) => Opened { plain: plain(text, &secrets).into_bytes(), secrets, failure: None },
        Err(error) => {
            let stand_in = |(_, value, start): (&str, &str, usize)| Secret { value: Plain::Text("sealed".to_owned()), ..secret(start, value) };
            let secrets = lines(text).filter(|(_, value, _)| is_encrypted(value)).map(stand_in).collect();
            Opened { secrets, plain: Vec::new(), failure: Some((error, at)) }
        }
    })
}

fn secret(start: usize, value: &str) -> Secret {
    let place = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
    Secret { start: place(start), end: place(start + value.len()), value: Plain::Text(String::new()) }
}

fn values(text: &str, keys: &Keys) -> Result<Vec<Secret>, SopsError> {
    let own = |line: &(&str, &str, usize)| line.0.starts_with(OWN);
    let variables: BTreeMap<String, String> = lines(text).filter(own).map(|(name, value, _)| (name[OWN.len()..].to_owned(), value.to_owned())).collect();
    let metadata = metadata::of_variables(&variables)?;
    let mut walk = Walk::new(&metadata, keys)?;
    for (name, value, start) in lines(text).filter(|line| !own(line)) {
        let place = secret(start, value);
        // A line end inside a value is written with two signs.
        let counted = value.replace("\\n", "\n");
        walk.value((place.start, place.end), Some(value), counted.as_bytes(), &[name.to_owned()])?;
    }
    walk.finish()
}

/// The file without what SOPS added. Comments that are encrypted are left out.
fn plain(text: &str, secrets: &[Secret]) -> String {
    let mut out = String::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        if line.starts_with(OWN) || line.starts_with("#ENC[") {
            continue;
        }
        match secrets.iter().find(|secret| (start..at).contains(&(secret.start as usize))) {
            Some(Secret { start: begins, value: Plain::Text(value), .. }) => {
                out.push_str(&text[start..*begins as usize]);
                out.push_str(&value.replace('\n', "\\n"));
                out.push('\n');
            }
            _ => out.push_str(line),
        }
    }
    out
}
