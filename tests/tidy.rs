//! House rules that no lint knows: sizes, opening lines, names, holes.

use std::path::{Path, PathBuf};

const MOST_LINES: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the root").to_owned()
}

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["grammar", "compiler", "runtime", "tests", "examples"].iter().map(|part| root().join(part)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder is readable") {
            let path = entry.expect("an entry is readable").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 40, "the walk found the sources");
    found
}

fn check(what: &str, broken: impl Fn(&Path, &str) -> bool) {
    let read = |path: &PathBuf| std::fs::read_to_string(path).expect("a source is UTF-8");
    let wrong: Vec<String> = rust_files().iter().filter(|path| broken(path, &read(path))).map(|path| path.display().to_string()).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}

#[test]
fn no_file_is_over_800_lines() {
    check("over 800 lines", |_, text| text.lines().count() > MOST_LINES);
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    check("no //! line first", |_, text| !text.starts_with("//! "));
}

#[test]
fn no_hole_is_left_open() {
    let holes = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];
    check("an open hole", |_, text| holes.iter().any(|hole| text.contains(hole)));
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["utils", "util", "common", "helpers", "misc"];
    let named = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| drawers.contains(&stem));
    check("a drawer", |path, _| named(path) || path.parent().is_some_and(named));
}

#[test]
fn unsafe_code_lives_in_container_only() {
    let outside = |path: &Path| !path.starts_with(root().join("runtime/container")) && !path.ends_with("tests/tidy.rs");
    check("unsafe outside runtime/container", |path, text| outside(path) && text.contains("unsafe {"));
}

/// A table that says which test holds what must not say so of tests that are gone.
#[test]
fn tests_that_are_named_as_holding_something_exist() {
    let table = std::fs::read_to_string(root().join("tests/faults/README.md")).expect("a table");
    let sources: String = rust_files().iter().map(|path| std::fs::read_to_string(path).expect("a source is UTF-8")).collect();
    let is_name = |word: &&str| word.contains('_') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let named: Vec<&str> = table.split('`').skip(1).step_by(2).filter(is_name).collect();
    assert!(named.len() > 50, "{named:?}");
    let gone: Vec<&&str> = named.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(gone.is_empty(), "no such tests: {gone:#?}");
    let missing: Vec<String> =
        (1..=24).map(|row| format!("S{row}")).filter(|row| !table.lines().any(|line| line.starts_with("| S") && has_row(line, row))).collect();
    assert!(missing.is_empty(), "rows without a test: {missing:?}");
}

/// Whether the first column of a table's line names a row.
fn has_row(line: &str, row: &str) -> bool {
    line.split('|').nth(1).is_some_and(|cell| cell.split(',').any(|name| name.trim() == row))
}
