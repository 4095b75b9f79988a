//! A case is a folder: `input.yaml`, then `tree.txt` and, when there are findings, `diagnostics.txt`.

use std::fmt::Write as _;
use std::path::Path;

use strake_source::{Sources, Span};
use strake_yaml::{Kind, Node, parse};

fn range(sources: &Sources, span: Span) -> String {
    let file = sources.get(span.file);
    let (start, end) = (file.line_column(span.start), file.line_column(span.end));
    format!("{}:{}-{}:{}", start.line, start.column, end.line, end.column)
}

fn show(sources: &Sources, node: &Node, depth: usize, out: &mut String) {
    let value = match &node.kind {
        Kind::Sequence(_) | Kind::Mapping(_) => node.kind_name().to_owned(),
        other => format!("{other:?}"),
    };
    writeln!(out, "{value} @ {}", range(sources, node.span)).expect("a string takes it");
    for item in node.items() {
        write!(out, "{:1$}- ", "", depth * 2).expect("a string takes it");
        show(sources, item, depth + 1, out);
    }
    for (key, value) in node.entries() {
        write!(out, "{:3$}{:?} @ {}: ", "", key.value, range(sources, key.span), depth * 2).expect("a string takes it");
        show(sources, value, depth + 1, out);
    }
}

fn compare(path: &Path, found: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        if found.is_empty() {
            let _ = std::fs::remove_file(path);
        } else {
            std::fs::write(path, found).expect("the golden file can be written");
        }
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs (UPDATE_GOLDEN=1 accepts)", path.display());
}

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the cases are there") {
        let case = entry.expect("an entry").path();
        let text = std::fs::read_to_string(case.join("input.yaml")).expect("a case has input.yaml");
        let mut sources = Sources::default();
        let file = sources.add("input.yaml", text.as_str());
        let (documents, diagnostics) = parse(file, &text);
        let mut tree = String::new();
        for document in &documents {
            write!(tree, "document {}: ", document.index).expect("a string takes it");
            show(&sources, &document.root, 1, &mut tree);
        }
        let mut findings = String::new();
        for finding in &diagnostics {
            let place = finding.span.map(|span| range(&sources, span)).unwrap_or_default();
            writeln!(findings, "{:?}[{}] {place}: {}", finding.severity, finding.code.0, finding.message).expect("a string takes it");
            for label in &finding.labels {
                writeln!(findings, "  {}: {}", range(&sources, label.span), label.message).expect("a string takes it");
            }
            for help in &finding.help {
                writeln!(findings, "  help: {help}").expect("a string takes it");
            }
        }
        compare(&case.join("tree.txt"), &tree);
        compare(&case.join("diagnostics.txt"), &findings);
        count += 1;
    }
    assert!(count >= 8, "the cases were found");
}
