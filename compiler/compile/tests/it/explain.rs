//! Every code has a page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use strake_compile::explain;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder is readable") {
        let path = entry.expect("an entry is readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The codes that a source gives to diagnostics: the text after the opening of a call that makes one.
fn codes(text: &str) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let calls = ["Diagnostic::error(", "Diagnostic::warning(", "Diagnostic::note(", ".error(", ".warn(", " warn(diagnostics, ", " wrong(", " fail("];
    let mut found = BTreeSet::new();
    for call in calls {
        for after in text.split(call).skip(1) {
            let code = after.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')).map(|(code, _)| code);
            let word = |code: &&str| !code.is_empty() && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            found.extend(code.filter(word).map(str::to_owned));
        }
    }
    found
}

fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for package in ["grammar/dockerfile", "grammar/yaml", "compiler/stages", "compiler/deploy", "compiler/kustomize", "compiler/compile", "compiler/bake"] {
        sources(&root.join(package).join("src"), &mut files);
    }
    let code = files.iter().filter(|file| !file.ends_with("explain/pages.rs"));
    code.map(|file| std::fs::read_to_string(file).expect("text")).collect()
}

#[test]
fn each_code_of_grammar_and_compiler_has_a_page() {
    let pages: BTreeSet<&str> = explain::pages().iter().map(|page| page.code).collect();
    let used: BTreeSet<String> = texts().iter().flat_map(|text| codes(text)).collect();
    assert!(used.len() > 30, "codes were found: {used:?}");
    let missing: Vec<&String> = used.iter().filter(|code| !pages.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "codes without a page in explain/pages.rs: {missing:?}");
}

#[test]
fn each_page_has_a_code_that_something_reports() {
    let texts = texts();
    let reported = |code: &str| texts.iter().any(|text| text.contains(&format!("\"{code}\"")));
    let idle: Vec<&str> = explain::pages().iter().map(|page| page.code).filter(|code| !reported(code)).collect();
    assert!(idle.is_empty(), "pages of codes that nothing reports: {idle:?}");
}

#[test]
fn pages_are_sorted_and_say_something() {
    let pages = explain::pages();
    assert!(pages.windows(2).all(|pair| pair[0].code < pair[1].code));
    assert!(pages.iter().all(|page| !page.title.is_empty() && page.text.len() > 20));
}
