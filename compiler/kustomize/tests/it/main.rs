//! Each folder of `tests/cases` is a project whose `overlay` is built: `expected.json` holds the objects, by name, and was checked against the real kustomize,
//! which is asked again where it is installed. `UPDATE_GOLDEN=1` writes what comes out.

#![expect(clippy::disallowed_methods, reason = "tests read their own files and ask the real kustomize")]

mod differential;
mod findings;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use strake_kustomize::{Built, Entry, Tree, build, wanted};
use strake_source::{Diagnostic, Sources};

/// Looks at the files that are wanted until none is.
pub fn load(folder: &Path, directory: &str) -> Tree {
    let mut tree = Tree::default();
    loop {
        let wanted = wanted(&tree, directory);
        if wanted.is_empty() {
            return tree;
        }
        for path in wanted {
            let at = folder.join(&path);
            let entry = if at.is_dir() { Entry::Directory } else { fs::read(&at).map_or_else(|_| Entry::Missing("no such file".to_owned()), Entry::File) };
            tree.insert(&path, entry);
        }
    }
}

pub fn run(folder: &Path) -> (Built, Sources, Vec<Diagnostic>) {
    let tree = load(folder, "overlay");
    let (mut sources, mut diagnostics) = (Sources::default(), Vec::new());
    let built = build(&tree, "overlay", &mut sources, &mut diagnostics);
    (built, sources, diagnostics)
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).expect("cases").map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    assert!(cases.len() > 5);
    cases
}

/// By kind, namespace and name: the order of objects means nothing.
fn by_name(objects: impl IntoIterator<Item = Value>) -> BTreeMap<String, Value> {
    let name = |object: &Value| {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("{} {} {}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
    };
    let mut found = BTreeMap::new();
    for object in objects {
        assert!(found.insert(name(&object), object).is_none(), "twice");
    }
    found
}

#[test]
fn overlays_mean_what_kustomize_makes_of_them() {
    let kubectl = Command::new("kubectl").args(["kustomize", "--help"]).output().is_ok_and(|output| output.status.success());
    for case in cases() {
        let (built, sources, diagnostics) = run(&case);
        let told = strake_source::render(&sources, &diagnostics, strake_source::Style::Plain);
        assert!(!diagnostics.iter().any(Diagnostic::is_error), "{}: {told}", case.display());
        let objects = by_name(built.objects.iter().map(strake_yaml::Node::to_json));
        let text = serde_json::to_string_pretty(&objects).expect("JSON") + "\n";
        let golden = case.join("expected.json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &text).expect("written");
        }
        assert_eq!(text, fs::read_to_string(&golden).unwrap_or_default(), "{}", case.display());
        if kubectl {
            compare(&case, &objects);
        }
    }
    if !kubectl {
        eprintln!("kubectl is not here: compared with what it said before, and not with itself");
    }
}

fn compare(case: &Path, ours: &BTreeMap<String, Value>) {
    let output = Command::new("kubectl").arg("kustomize").arg(case.join("overlay")).output().expect("kubectl runs");
    assert!(output.status.success(), "{}: {}", case.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut sources = Sources::default();
    let file = sources.add("theirs", text.as_str());
    let (documents, findings) = strake_yaml::parse(file, &text);
    assert!(findings.is_empty(), "{findings:?}");
    let theirs = by_name(documents.iter().map(|document| document.root.to_json()));
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(ours), names(&theirs), "{}", case.display());
    for (name, object) in ours {
        let pretty = |value: &Value| serde_json::to_string_pretty(&sorted(value)).expect("JSON");
        assert_eq!(pretty(object), pretty(&theirs[name]), "{}: {name}: ours and theirs", case.display());
    }
}

/// With the keys of mappings in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<String, Value> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
