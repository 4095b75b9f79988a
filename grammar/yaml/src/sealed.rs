//! Files with encrypted values: the tree is that of the encrypted text, with the values in it.

use strake_source::{Diagnostic, FileId, Plain, Sources};

use crate::{Document, Kind, Node, parse};

/// Reads a file of `sources`. In one that is encrypted each value has what it stands for, and the place where it stands encrypted; what the encryption added is left
/// out.
pub fn parse_file(sources: &Sources, file: FileId) -> (Vec<Document>, Vec<Diagnostic>) {
    let (mut documents, findings) = parse(file, &sources.get(file).text);
    if sources.get(file).secrets().is_some() {
        for document in &mut documents {
            if let Kind::Mapping(entries) = &mut document.root.kind {
                entries.retain(|(key, _)| key.value != "sops");
            }
            open(sources, &mut document.root);
        }
        // A file of comments and a signature has no object in it.
        documents.retain(|document| !matches!(&document.root.kind, Kind::Mapping(entries) if entries.is_empty()));
    }
    (documents, findings)
}

fn open(sources: &Sources, node: &mut Node) {
    match &mut node.kind {
        Kind::Mapping(entries) => entries.iter_mut().for_each(|(_, node)| open(sources, node)),
        Kind::Sequence(items) => items.iter_mut().for_each(|node| open(sources, node)),
        kind => {
            if let Some(value) = sources.secret_at(node.span) {
                *kind = match value {
                    Plain::Text(text) => Kind::String(text.clone()),
                    Plain::Int(number) => Kind::Int(*number),
                    Plain::Float(number) => Kind::Float(*number),
                    Plain::Bool(flag) => Kind::Bool(*flag),
                };
            }
        }
    }
}
