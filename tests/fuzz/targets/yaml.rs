//! Manifests: every finding lies in the file, trees stay within their bounds, and a whole project of them compiles to the same plan twice or errors.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use strake_compile::{Inputs, Manifest, Options, compile};
use strake_oci::Platform;
use strake_source::{FileId, Style};
use strake_yaml::{Kind, MAX_DEPTH, Node};

fn check(node: &Node, text: &str, depth: usize) {
    assert!(depth <= MAX_DEPTH + 1, "deeper than the bound");
    let place = text.get(node.span.start as usize..node.span.end as usize);
    assert!(place.is_some(), "{:?} is no part of the file", node.span);
    node.items().iter().for_each(|item| check(item, text, depth + 1));
    node.entries().iter().for_each(|(_, value)| check(value, text, depth + 1));
    if matches!(node.kind, Kind::Null) {
        assert!(node.items().is_empty());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (documents, findings) = strake_yaml::parse(FileId(0), text);
    for span in findings.iter().filter_map(|finding| finding.span) {
        assert!(text.get(span.start as usize..span.end as usize).is_some(), "{span:?} is no part of the file");
    }
    for document in &documents {
        check(&document.root, text, 0);
        let _ = document.root.to_json().to_string();
    }
    let options = Options {
        set: "set".to_owned(),
        namespace: "default".to_owned(),
        platform: Platform::host(),
        build_platform: Platform::host(),
        build_args: BTreeMap::new(),
        foreign: false,
        environment: None,
        lints: BTreeMap::new(),
        no_cache: false,
    };
    let manifest = Manifest { path: "app.yaml".to_owned(), text: text.to_owned() };
    let inputs =
        Inputs { config: None, values: Vec::new(), manifests: vec![manifest], overlay: None, dockerfiles: Vec::new(), sealed: Default::default(), options };
    let outcome = compile(&inputs, &BTreeMap::new());
    let _ = strake_source::render(&outcome.sources, &outcome.diagnostics, Style::Plain);
    if let Some(plan) = &outcome.plan {
        assert_eq!(Some(plan), compile(&inputs, &BTreeMap::new()).plan.as_ref(), "the same file gives the same plan");
    }
});
