//! Two results of one case: what differs, a line each.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::tree::{Image, Node};

/// An image, or why there is none.
pub type Outcome = Result<Image, String>;

/// How much of the configuration is held against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Keys, and history rows with their text: BuildKit's.
    History,
    /// Keys that every builder writes alike.
    Keys,
}

/// What `ours` has otherwise than `theirs`.
pub fn differences(ours: &Outcome, theirs: &Outcome, depth: Depth) -> Vec<String> {
    match (ours, theirs) {
        (Err(_), Err(_)) => Vec::new(),
        // dockerd builds an image without layers but cannot write it out.
        (Ok(_), Err(why)) if why.contains("empty export") => Vec::new(),
        (Err(why), Ok(_)) => vec![format!("only strake fails: {}", brief(why))],
        (Ok(_), Err(why)) => vec![format!("only the other fails: {}", brief(why))],
        (Ok(ours), Ok(theirs)) => {
            let mut found = configs(&ours.config, &theirs.config, depth);
            found.extend(trees(ours, theirs));
            found
        }
    }
}

/// The lines of an error that say it.
fn brief(why: &str) -> String {
    let lines: Vec<&str> = why.lines().filter(|line| line.contains("error") || line.contains("ERROR") || line.contains("caused")).collect();
    if lines.is_empty() { why.lines().last().unwrap_or_default().to_owned() } else { lines.join(" / ") }
}

fn configs(ours: &Value, theirs: &Value, depth: Depth) -> Vec<String> {
    let keys = ["User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck", "Shell", "OnBuild"];
    let mut found = Vec::new();
    for key in keys {
        let (mine, other) = (value(ours, key), value(theirs, key));
        if mine != other {
            found.push(format!("config.{key}: strake {mine}, other {other}"));
        }
    }
    if depth == Depth::Keys {
        return found;
    }
    let (mine, other) = (history(ours), history(theirs));
    if mine != other {
        let first = (0..mine.len().max(other.len())).find(|at| mine.get(*at) != other.get(*at)).unwrap_or(0);
        found.push(format!("history[{first}]: strake {:?}, other {:?}", mine.get(first), other.get(first)));
    }
    found
}

/// A missing key, null and an empty value are the same. buildah's own label is not the Dockerfile's.
fn value(config: &Value, key: &str) -> Value {
    let mut value = config["config"][key].clone();
    if let Some(map) = value.as_object_mut() {
        map.remove("io.buildah.version");
    }
    let empty =
        value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty);
    if empty { Value::Null } else { value }
}

/// Rows from the base on: text, and whether there is a layer. A base that was imported has a row of its own in each builder.
fn history(config: &Value) -> Vec<(String, bool)> {
    let rows = config["history"].as_array().into_iter().flatten();
    let row = |row: &Value| (row["created_by"].as_str().unwrap_or_default().to_owned(), row["empty_layer"].as_bool().unwrap_or_default());
    let imported = |row: &Value| {
        let comment = row["comment"].as_str().unwrap_or_default();
        let text = row["created_by"].as_str().unwrap_or_default();
        comment.contains("mported") || text.is_empty() || text.contains("mport")
    };
    rows.filter(|row| !imported(row)).map(row).collect()
}

fn trees(ours: &Image, theirs: &Image) -> Vec<String> {
    let (mine, other) = (ours.tree(), theirs.tree());
    let names: BTreeSet<&str> = mine.keys().chain(other.keys()).copied().filter(|name| !name.is_empty()).collect();
    let mut found = Vec::new();
    for name in names {
        match (mine.get(name), other.get(name)) {
            (Some((node, _)), None) => found.push(format!("/{name}: only strake has it ({})", show(node))),
            (None, Some((node, _))) => found.push(format!("/{name}: only the other has it ({})", show(node))),
            (Some((node, group)), Some((other, others))) => {
                if node != other {
                    found.push(format!("/{name}: strake {}, other {}", show(node), show(other)));
                }
                if group != others {
                    found.push(format!("/{name}: hard links: strake {group:?}, other {others:?}"));
                }
            }
            (None, None) => {}
        }
    }
    found
}

fn show(node: &Node) -> String {
    let mut text = format!("{} {:04o} {}:{}", node.kind, node.mode, node.owner.0, node.owner.1);
    match node.kind {
        "symlink" => text += &format!(" -> {}", node.link),
        "file" => text += &format!(" {} bytes {:?}", node.content.len(), String::from_utf8_lossy(&node.content[..node.content.len().min(24)])),
        "char" | "block" => text += &format!(" {:?}", node.device),
        _ => {}
    }
    if !node.xattrs.is_empty() {
        text += &format!(" {:?}", node.xattrs);
    }
    text
}
