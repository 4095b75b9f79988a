//! Overlays of strangers: a few files, built to the same objects twice or to errors that can be drawn; no file outside what was given is wanted without being named.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strake_kustomize::{Entry, Tree, build, wanted};
use strake_source::{Diagnostic, Sources, Style};

const FILES: [&str; 7] = [
    "overlay/kustomization.yaml",
    "base/kustomization.yaml",
    "base/app.yaml",
    "overlay/patch.yaml",
    "overlay/values.env",
    "part/kustomization.yaml",
    "part/part.yaml",
];

/// What is asked for is there when it is one of ours, and asking ends.
fn load(parts: &[&[u8]]) -> Tree {
    let mut tree = Tree::default();
    let file = |path: &str| FILES.iter().position(|known| *known == path).and_then(|at| parts.get(at));
    for _ in 0..64 {
        let wanted = wanted(&tree, "overlay");
        if wanted.is_empty() {
            return tree;
        }
        for path in wanted {
            let entry = match file(&path) {
                Some(bytes) => Entry::File(bytes.to_vec()),
                None if FILES.iter().any(|known| known.starts_with(&format!("{path}/"))) => Entry::Directory,
                None => Entry::Missing("no such file".to_owned()),
            };
            tree.insert(&path, entry);
        }
    }
    panic!("it wants more and more")
}

fn built(tree: &Tree) -> (Vec<String>, String) {
    let (mut sources, mut diagnostics) = (Sources::default(), Vec::<Diagnostic>::new());
    let built = build(tree, "overlay", &mut sources, &mut diagnostics);
    built.trace(&mut diagnostics);
    let told = strake_source::render(&sources, &diagnostics, Style::Plain);
    (built.objects.iter().map(|object| object.to_json().to_string()).collect(), told)
}

fuzz_target!(|bytes: &[u8]| {
    let parts: Vec<&[u8]> = bytes.split(|byte| *byte == 0xff).take(FILES.len()).collect();
    let tree = load(&parts);
    assert_eq!(built(&tree), built(&tree), "the same files mean the same");
});
