//! Each folder of `tests/cases`: bake files, what is asked of them (`ask`), and what `--print` shows (`print.json`) or what is found (`findings.txt`).

#![expect(clippy::disallowed_methods, reason = "tests read their cases")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use strake_bake::{File, Inputs, read};
use strake_source::{Diagnostic, Sources, Style, render};

/// One case's answers.
struct Answer {
    print: String,
    findings: String,
    lists: String,
}

/// The lines of `ask`: `file NAME`, `target NAME`, `set WORD`, `var NAME=VALUE`, `env NAME=VALUE`.
fn ask(dir: &Path) -> Answer {
    let text = fs::read_to_string(dir.join("ask")).unwrap_or_default();
    let mut inputs = Inputs { local_platform: "linux/amd64".to_owned(), ..Inputs::default() };
    let (mut targets, mut settings) = (Vec::new(), Vec::new());
    let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).expect("NAME=VALUE");
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (verb, word) = line.split_once(' ').expect("VERB WORD");
        match verb {
            "file" => inputs.files.push(File { name: word.to_owned(), text: fs::read_to_string(dir.join(word)).expect(word) }),
            "target" => targets.push(word.to_owned()),
            "set" => settings.push(word.to_owned()),
            "var" => inputs.variables.extend([pair(word)]),
            "env" => inputs.environment.extend([pair(word)]),
            "dotenv" => inputs.dotenv.extend([pair(word)]),
            other => panic!("{}: {other}", dir.display()),
        }
    }
    loop {
        let wanted = strake_bake::includes(&inputs);
        if wanted.is_empty() {
            break;
        }
        inputs.included.extend(wanted.into_iter().map(|name| (name.clone(), fs::read_to_string(dir.join(name)).ok())));
    }
    for name in strake_bake::env_files(&inputs) {
        if let Ok(text) = fs::read_to_string(dir.join(&name)) {
            inputs.env_files.insert(name, text);
        }
    }
    let mut sources = Sources::default();
    let (config, mut findings) = read(&mut sources, &inputs);
    let mut print = String::new();
    if !findings.iter().any(Diagnostic::is_error) {
        let (resolved, more) = config.resolve(&targets, &settings, &inputs);
        findings.extend(more);
        if !findings.iter().any(Diagnostic::is_error) {
            print = serde_json::to_string_pretty(&resolved.to_json()).expect("JSON") + "\n";
        }
    }
    let mut lists = String::new();
    for variable in &config.variables {
        let (kind, value) = (variable.kind.as_deref().unwrap_or("-"), variable.value.as_deref().unwrap_or("<null>"));
        let _ = writeln!(lists, "{} {kind} {value} {}", variable.name, variable.description);
    }
    Answer { print, findings: render(&sources, &findings, Style::Plain), lists }
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut dirs: Vec<PathBuf> = fs::read_dir(root).expect("cases").map(|entry| entry.expect("an entry").path()).collect();
    dirs.sort();
    dirs
}

#[test]
fn every_case_gives_what_stands_beside_it() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = String::new();
    for dir in cases() {
        let answer = ask(&dir);
        for (name, found) in [("print.json", answer.print), ("findings.txt", answer.findings), ("variables.txt", answer.lists)] {
            let path = dir.join(name);
            if update {
                if found.is_empty() {
                    drop(fs::remove_file(&path))
                } else {
                    fs::write(&path, &found).expect("written")
                }
                continue;
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if expected != found {
                let _ = writeln!(wrong, "== {}\n-- expected\n{expected}\n-- found\n{found}", path.display());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What is printed is a bake file of the same meaning.
#[test]
fn what_is_printed_can_be_read_again() {
    for dir in cases() {
        let Ok(print) = fs::read_to_string(dir.join("print.json")) else { continue };
        let inputs = Inputs { files: vec![File { name: "printed.json".to_owned(), text: print.clone() }], ..Inputs::default() };
        let (config, findings) = read(&mut Sources::default(), &inputs);
        assert!(findings.is_empty(), "{}: {findings:?}", dir.display());
        let names: Vec<String> = config
            .targets
            .iter()
            .filter(|target| !target.outputs.iter().flatten().any(|output| output.kind == "cacheonly"))
            .map(|target| target.name.clone())
            .collect();
        let (again, findings) = config.resolve(&names, &[], &inputs);
        assert!(findings.is_empty(), "{}: {findings:?}", dir.display());
        let before: serde_json::Value = serde_json::from_str(&print).expect("JSON");
        let after = again.to_json();
        assert_eq!(before["target"], after["target"], "{}", dir.display());
    }
}

/// Texts of any kind are answered, never with a panic.
#[test]
fn broken_files_are_answered() {
    let mut environment = BTreeMap::new();
    environment.insert("A".to_owned(), "1".to_owned());
    for dir in cases() {
        for entry in fs::read_dir(&dir).expect("a case") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if !["hcl", "json", "yaml"].iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).step_by(41).collect();
            for end in ends {
                for text in [text[..end].to_owned(), text[end..].to_owned(), format!("{}{{{}", &text[..end], &text[end..])] {
                    let inputs = Inputs { files: vec![File { name: name.clone(), text }], environment: environment.clone(), ..Inputs::default() };
                    let (config, _) = read(&mut Sources::default(), &inputs);
                    let _ = config.resolve(&[], &["*.args.A".to_owned()], &inputs);
                }
            }
        }
    }
}
