//! Every code has a page, whichever package reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use strake_compile::explain;

/// Calls that make a diagnostic of the code that is their first argument.
const MAKERS: [&str; 3] = ["Diagnostic::error(", "Diagnostic::warning(", "Diagnostic::note("];

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

/// The sources of every package without their tests, by the package's folder.
fn packages() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut packages = BTreeMap::new();
    for layer in ["grammar", "compiler", "runtime"] {
        for entry in std::fs::read_dir(root.join(layer)).expect("a layer") {
            let package = entry.expect("an entry").path();
            let mut files = Vec::new();
            if package.join("src").is_dir() {
                sources(&package.join("src"), &mut files);
            }
            files.retain(|file| !file.ends_with("explain/pages.rs") && !file.ends_with("tests.rs"));
            let text = |file: &PathBuf| std::fs::read_to_string(file).expect("text").split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            let name = format!("{layer}/{}", package.file_name().unwrap_or_default().to_string_lossy());
            packages.insert(name, files.iter().map(text).collect());
        }
    }
    packages
}

/// The arguments of a call, from behind its opening parenthesis.
fn arguments(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut depth, mut start, mut at, mut found) = (0, 0, 0, Vec::new());
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            // A character may be a bracket.
            b'\'' if bytes.get(at + 2) == Some(&b'\'') => at += 2,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => {
                found.push(text[start..at].trim());
                return found;
            }
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn is_code(text: &str) -> bool {
    text.len() > 2 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && text.chars().any(char::is_alphabetic)
}

/// What stands between quotes in a piece of code, when it can be a code.
fn literals(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).filter(|word| is_code(word)).map(str::to_owned).collect()
}

fn constant(files: &[String], name: &str) -> Option<String> {
    let form = format!("const {name}: &str = \"");
    files.iter().find_map(|text| Some(text.split_once(&form)?.1.split_once('"')?.0.to_owned()))
}

/// A function or closure that passes a code on: its name, and which of its arguments that is.
type Passer = (String, usize);

/// The function or closure around a place that has a parameter of this name.
fn taker(text: &str, at: usize, parameter: &str) -> Option<Passer> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let takes = |list: &[&str]| {
        let named = list.iter().map(|one| one.trim().trim_start_matches("mut ").split(':').next().unwrap_or_default().trim());
        named.filter(|name| !name.ends_with("self")).position(|name| name == parameter)
    };
    let function = text[..at].rmatch_indices("fn ").find_map(|(place, word)| {
        let rest = &text[place + word.len()..];
        let name = &rest[..rest.find(|c| !is_word(c))?];
        let list = arguments(&rest[rest.find('(')? + 1..]);
        Some((place, takes(&list).map(|index| (name.to_owned(), index))))
    });
    let closure = text[..at].rmatch_indices(" = |").find_map(|(place, word)| {
        let name = text[..place].rsplit(|c| !is_word(c)).next()?;
        let list: Vec<&str> = text[place + word.len()..].split('|').next()?.split(',').collect();
        takes(&list).map(|index| (place, (name.to_owned(), index)))
    });
    match (function, closure) {
        (Some((place, _)), Some((inner, passer))) if inner > place => Some(passer),
        (Some((_, passer)), _) => passer,
        (None, closure) => closure.map(|(_, passer)| passer),
    }
}

/// The codes that an argument stands for; a parameter adds the function that takes it to `passers`.
fn meaning(argument: &str, text: &str, at: usize, files: &[String], passers: &mut BTreeSet<Passer>) -> Vec<String> {
    // The lint rules have pages by their table.
    if argument == "self.rule.code" {
        return Vec::new();
    }
    if argument.starts_with('"') {
        return literals(argument);
    }
    if argument.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
        return vec![constant(files, argument).unwrap_or_else(|| panic!("the constant {argument} is not found"))];
    }
    if let Some(passer) = taker(text, at, argument) {
        passers.insert(passer);
        return Vec::new();
    }
    let statement = text[..at].rfind(&format!("let {argument} = ")).or_else(|| text[..at].rfind(&format!("let ({argument}, ")));
    let statement = statement.unwrap_or_else(|| panic!("where does `{argument}` come from?\n{}", &text[at.saturating_sub(300)..at]));
    let found = literals(text[statement..].split(";\n").next().unwrap_or_default());
    assert!(!found.is_empty(), "no code in {}", &text[statement..at]);
    found
}

/// The codes that a package gives to diagnostics.
fn codes(files: &[String]) -> BTreeSet<String> {
    let (mut found, mut passers) = (BTreeSet::new(), BTreeSet::new());
    for text in files {
        for maker in MAKERS {
            for (place, word) in text.match_indices(maker) {
                let list = arguments(&text[place + word.len()..]);
                found.extend(meaning(list.first().copied().unwrap_or_default(), text, place, files, &mut passers));
            }
        }
        for (place, word) in text.match_indices("Finding { code: \"") {
            found.extend(literals(&text[place + word.len() - 1..]).first().cloned());
        }
    }
    let mut known = BTreeSet::new();
    while let Some(passer) = passers.difference(&known).next().cloned() {
        let given = passed(files, &passer, &mut passers);
        assert!(!given.is_empty(), "`{}` passes a code on, and nobody gives it one", passer.0);
        found.extend(given.into_iter().filter(|code| !code.is_empty()));
        known.insert(passer);
    }
    found
}

/// The codes that calls of a function give it; an empty one for a call that passes one on.
fn passed(files: &[String], (name, index): &Passer, passers: &mut BTreeSet<Passer>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let call = format!("{name}(");
    for text in files {
        for (place, word) in text.match_indices(&call) {
            let before = &text[..place];
            if before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') || before.ends_with("fn ") || before.ends_with("Diagnostic::") {
                continue;
            }
            // A function of the same name may take something else there.
            match arguments(&text[place + word.len()..]).get(*index) {
                Some(argument) if argument.starts_with('"') && argument.ends_with('"') => found.extend(literals(argument).into_iter().take(1)),
                Some(argument @ (&"code" | &"check")) => {
                    found.insert(String::new());
                    found.extend(meaning(argument, text, place, files, passers));
                }
                Some(&"CODE") => found.extend(constant(files, "CODE")),
                _ => {}
            }
        }
    }
    found
}

#[test]
fn each_code_of_every_package_has_a_page() {
    let pages: BTreeSet<&str> = explain::pages().iter().map(|page| page.code).collect();
    let mut missing = BTreeMap::new();
    let mut reporting = BTreeSet::new();
    for (package, files) in packages() {
        let used = codes(&files);
        let without: Vec<String> = used.iter().filter(|code| !pages.contains(code.as_str())).cloned().collect();
        if !used.is_empty() {
            reporting.insert(package.clone());
        }
        if !without.is_empty() {
            missing.insert(package, without);
        }
    }
    assert!(missing.is_empty(), "codes without a page in explain/pages.rs: {missing:#?}");
    // Packages that are known to report something: that the search finds them is a part of the test.
    for package in ["grammar/dockerfile", "grammar/yaml", "compiler/stages", "compiler/deploy", "compiler/bake", "runtime/registry", "runtime/cli"] {
        assert!(reporting.contains(package), "no code was found in {package}: {reporting:?}");
    }
}

#[test]
fn each_page_has_a_code_that_something_reports() {
    let texts: Vec<String> = packages().into_values().flatten().collect();
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
