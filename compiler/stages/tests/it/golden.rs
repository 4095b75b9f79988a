//! A case is a folder: `Dockerfile`, perhaps `request.txt`, then `plan.txt` and, when there are findings, `diagnostics.txt`.

use std::fmt::Write as _;
use std::path::Path;

use strake_plan::BuildPlan;
use strake_source::{Sources, Style, render};
use strake_stages::{base_references, lower};

use crate::bases;

fn show(plan: &BuildPlan) -> String {
    let mut out = String::new();
    let json = |value: serde_json::Value| value.to_string();
    for (index, step) in plan.steps.iter().enumerate() {
        let op = json(serde_json::to_value(&step.op).expect("an op encodes"));
        let cache = if step.origin.no_cache { " no-cache" } else { "" };
        writeln!(out, "{index} [{}]{cache} line {}: {}\n  {op}", step.stage, step.origin.line, step.origin.text).expect("a string takes it");
    }
    for image in &plan.images {
        writeln!(out, "image {:?} of step {} from {}", image.tags, image.step.0, image.origin.text).expect("a string takes it");
        writeln!(out, "  {}", json(serde_json::to_value(&image.config).expect("a config encodes"))).expect("a string takes it");
        for row in &image.history {
            writeln!(out, "  {} {:?} ({})", if row.empty_layer { "-" } else { "L" }, row.created_by, row.comment).expect("a string takes it");
        }
    }
    for (name, context) in &plan.contexts {
        writeln!(out, "context {name}: {:?}", context.kind).expect("a string takes it");
    }
    out
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
        let text = std::fs::read_to_string(case.join("Dockerfile")).expect("a case has a Dockerfile");
        let mut sources = Sources::default();
        sources.add("Dockerfile", text.as_str());
        let (mut request, mut diagnostics) = bases::request(&text);
        bases::configure(&mut request, &std::fs::read_to_string(case.join("request.txt")).unwrap_or_default());
        let (needed, _) = base_references(&request);
        let mut shown: String = needed.iter().map(|base| format!("needs {}\n", base.key)).collect();
        let (plan, found) = lower(&request, &bases::all());
        diagnostics.extend(found);
        assert_eq!(plan.is_none(), diagnostics.iter().any(strake_source::Diagnostic::is_error), "{}", case.display());
        shown.extend(plan.as_ref().map(show));
        compare(&case.join("plan.txt"), &shown);
        compare(&case.join("diagnostics.txt"), &render(&sources, &diagnostics, Style::Plain));
        count += 1;
    }
    assert!(count >= 15, "the cases were found");
}
