//! Which fields of an object come from encrypted files.

use strake_source::Sources;
use strake_yaml::{Kind, Node};

use crate::manifest::Manifest;

/// JSON pointers of the fields that are secret: those that stand encrypted in a file, and texts that have such a value in them. Nothing where no file is encrypted,
/// which is for the caller to find out, once for all objects.
pub(crate) fn pointers(sources: &Sources, manifest: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    collect(sources, &manifest.node, &mut String::new(), &mut found);
    found
}

fn collect(sources: &Sources, node: &Node, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match &node.kind {
        Kind::Mapping(entries) => {
            for (key, node) in entries {
                path.push('/');
                path.push_str(&key.value.replace('~', "~0").replace('/', "~1"));
                collect(sources, node, path, found);
                path.truncate(length);
            }
        }
        Kind::Sequence(items) => {
            for (place, node) in items.iter().enumerate() {
                path.push_str(&format!("/{place}"));
                collect(sources, node, path, found);
                path.truncate(length);
            }
        }
        Kind::Null => {}
        kind => {
            let part = matches!(kind, Kind::String(text) if sources.has_secret(text));
            if part || sources.secret_at(node.span).is_some() {
                found.push(path.clone());
            }
        }
    }
}
