//! Every manifest of the repository as a plan of what strake's own cluster serves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use strake_compile::{Inputs, Manifest, Options, Overlay, compile};
use strake_kustomize::{Entry, Tree};
use strake_plan::{ChangeId, DeployPlan};
use strake_tests::repository;

/// Folders with manifests.
const FOLDERS: [&str; 6] =
    ["examples", "compiler/compile/tests/cases", "compiler/deploy/tests", "compiler/kustomize/tests/cases", "grammar/yaml/tests/cases", "tests/offline"];

fn inputs() -> Inputs {
    let platform = || "linux/amd64".parse().unwrap();
    let options = Options {
        set: "corpus".to_owned(),
        namespace: "default".to_owned(),
        platform: platform(),
        build_platform: platform(),
        build_args: BTreeMap::new(),
        foreign: true,
        environment: None,
        lints: BTreeMap::new(),
        no_cache: false,
    };
    Inputs { manifests: Vec::new(), overlay: None, config: None, values: Vec::new(), dockerfiles: Vec::new(), sealed: BTreeMap::new(), options }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The part of a plan that strake's own cluster serves; nothing when that is nothing.
fn served(plan: DeployPlan) -> Option<DeployPlan> {
    let serves = |plan: &DeployPlan, place: usize| {
        let id = &plan.changes[place].id;
        strake_kinds::by_kind(&id.api_version(), &id.kind).is_some_and(|kind| kind.supported)
    };
    let kept: Vec<usize> = (0..plan.changes.len()).filter(|place| serves(&plan, *place)).collect();
    let place_of = |old: usize| kept.iter().position(|place| *place == old);
    let mut changes: Vec<_> = kept.iter().map(|place| plan.changes[*place].clone()).collect();
    for change in &mut changes {
        change.after.retain_mut(|edge| {
            place_of(edge.change.0).is_some_and(|new| {
                edge.change = ChangeId(new);
                true
            })
        });
        // They are looked for in the cluster, and no corpus has what they name.
        change.external.clear();
        change.hook = None;
        change.stage = 0;
    }
    (!changes.is_empty()).then(|| DeployPlan { changes, images: Vec::new(), ..plan })
}

/// Each with its name: files that compile alone, and overlays.
pub fn all() -> Vec<(String, DeployPlan)> {
    let mut found = Vec::new();
    let root = repository();
    for folder in FOLDERS {
        files(&root.join(folder), &mut found);
    }
    let mut corpora = Vec::new();
    for path in found {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let manifest = matches!(path.extension().and_then(|extension| extension.to_str()), Some("yaml" | "yml" | "json"));
        let Some(text) = std::fs::read_to_string(&path).ok().filter(|_| manifest) else { continue };
        let compiled = if strake_kustomize::FILE_NAMES.contains(&file.as_str()) {
            compile(&Inputs { overlay: Some(overlay(&path)), ..inputs() }, &BTreeMap::new())
        } else {
            compile(&Inputs { manifests: vec![Manifest { path: name.clone(), text }], ..inputs() }, &BTreeMap::new())
        };
        // Cases of mistakes have no plan.
        corpora.extend(compiled.plan.and_then(|plan| served(plan.deploy)).map(|plan| (name, plan)));
    }
    corpora
}

/// An overlay with every file of its case: the folder below `cases`.
fn overlay(path: &Path) -> Overlay {
    let directory = path.parent().unwrap();
    let case = path.ancestors().find(|above| above.parent().is_some_and(|parent| parent.ends_with("cases"))).unwrap_or(directory);
    let mut found = Vec::new();
    files(case, &mut found);
    let mut tree = Tree::default();
    for file in found {
        if let Ok(text) = std::fs::read_to_string(&file) {
            tree.insert(&file.display().to_string(), Entry::File(text.into()));
        }
    }
    for folder in directory_list(case) {
        tree.insert(&folder.display().to_string(), Entry::Directory);
    }
    Overlay { directory: directory.display().to_string(), tree }
}

fn directory_list(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        found.extend(directory_list(&entry.path()));
    }
    found
}
