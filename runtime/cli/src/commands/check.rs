//! strake check: what is wrong with a directory, for people and for the tools that show it to them.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use strake_compile::{Outcome, explain};
use strake_source::{Diagnostic, Severity, Sources, Span};

use crate::args::{Check, FindingsFormat, Format, Target};
use crate::commands::build::report;
use crate::commands::plan::outcome;
use crate::failure::Failure;
use crate::output::{counted, data, say};

/// Compiles and prints the findings only.
pub fn run(root: &Path, args: &Check) -> Result<(), Failure> {
    let (Outcome { diagnostics, sources, .. }, _) = outcome(root, &args.input, &Target { unasked: true, ..args.target.clone() })?;
    let found = || diagnostics.iter().map(|diagnostic| finding(&sources, diagnostic)).collect::<Vec<Value>>();
    match args.output {
        FindingsFormat::Text => {
            report(&sources, &diagnostics);
            say(summary(&diagnostics));
        }
        FindingsFormat::Json => say(data(&found(), Format::Json)),
        FindingsFormat::Yaml => say(data(&found(), Format::Yaml)),
        FindingsFormat::Sarif => say(data(&sarif(&found()), Format::Json)),
        FindingsFormat::Github => say(github(&found()).trim_end()),
        FindingsFormat::Junit => say(junit(&found()).trim_end()),
    }
    if diagnostics.iter().any(Diagnostic::is_error) { Err(Failure::silent(1)) } else { Ok(()) }
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let counts = [(count(Severity::Error), "error"), (count(Severity::Warning), "warning"), (count(Severity::Note), "note")];
    let words: Vec<String> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, noun)| counted(*count, noun)).collect();
    if words.is_empty() { "nothing is wrong".to_owned() } else { words.join(", ") }
}

/// A finding as data.
pub fn finding(sources: &Sources, diagnostic: &Diagnostic) -> Value {
    let place = |span: Span| {
        let file = sources.get(span.file);
        let (start, end) = (file.line_column(span.start), file.line_column(span.end));
        json!({"file": file.name, "line": start.line, "column": start.column, "endLine": end.line, "endColumn": end.column})
    };
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let related: Vec<Value> = diagnostic.labels.iter().map(|label| json!({"place": place(label.span), "message": label.message})).collect();
    json!({
        "code": diagnostic.code.0, "severity": severity, "message": diagnostic.message, "place": diagnostic.span.map(place),
        "label": diagnostic.label, "related": related, "help": diagnostic.help,
    })
}

fn text<'a>(finding: &'a Value, pointer: &str) -> &'a str {
    finding.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The message with what stands beside it.
fn whole(finding: &Value) -> String {
    let help = finding["help"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let more = [text(finding, "/label")].into_iter().chain(help).filter(|words| !words.is_empty());
    more.fold(text(finding, "/message").to_owned(), |whole, words| format!("{whole}; {words}"))
}

/// A path as SARIF wants it: relative, without `./`.
fn file(finding: &Value) -> &str {
    text(finding, "/place/file").trim_start_matches("./")
}

/// SARIF 2.1.0 (OASIS, section 3): one run, each code a rule with its page.
fn sarif(findings: &[Value]) -> Value {
    let mut codes: Vec<&str> = findings.iter().map(|finding| text(finding, "/code")).collect();
    codes.sort_unstable();
    codes.dedup();
    let pages = explain::pages();
    let rules: Vec<Value> = codes
        .iter()
        .map(|code| match pages.iter().find(|page| page.code == *code) {
            Some(page) => json!({"id": code, "shortDescription": {"text": page.title}, "fullDescription": {"text": page.text}, "help": {"text": page.text}}),
            None => json!({"id": code}),
        })
        .collect();
    let location = |place: &Value| {
        json!({"physicalLocation": {
            "artifactLocation": {"uri": text(place, "/file").trim_start_matches("./")},
            "region": {"startLine": place["line"], "startColumn": place["column"], "endLine": place["endLine"], "endColumn": place["endColumn"]},
        }})
    };
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let mut result = json!({"ruleId": finding["code"], "level": finding["severity"], "message": {"text": whole(finding)}});
            if !finding["place"].is_null() {
                result["locations"] = json!([location(&finding["place"])]);
            }
            let related = finding["related"].as_array().into_iter().flatten();
            let related: Vec<Value> = related
                .enumerate()
                .map(|(index, label)| {
                    let mut place = location(&label["place"]);
                    place["id"] = json!(index);
                    place["message"] = json!({"text": label["message"]});
                    place
                })
                .collect();
            if !related.is_empty() {
                result["relatedLocations"] = json!(related);
            }
            result
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": "strake", "version": env!("CARGO_PKG_VERSION"), "rules": rules}}, "columnKind": "unicodeCodePoints", "results": results}],
    })
}

/// Workflow commands of GitHub Actions: `::error file=,line=,col=::message`, a line a finding.
pub fn github(findings: &[Value]) -> String {
    // What would end a property or a line is written as percent signs and digits.
    let message = |words: &str| words.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |words: &str| message(words).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for finding in findings {
        let command = if text(finding, "/severity") == "note" { "notice" } else { text(finding, "/severity") };
        let title = format!("title={}", property(text(finding, "/code")));
        let place = &finding["place"];
        let place = match place.is_null() {
            true => title,
            false => format!(
                "file={},line={},col={},endLine={},endColumn={},{title}",
                property(file(finding)),
                place["line"],
                place["column"],
                place["endLine"],
                place["endColumn"]
            ),
        };
        // Writing to a string does not fail.
        let _ = writeln!(out, "::{command} {place}::{}", message(&whole(finding)));
    }
    out
}

/// JUnit's XML: a test case a finding; errors are failures, the rest is in the output of a case that passes.
fn junit(findings: &[Value]) -> String {
    let escape = |words: &str| {
        let plain: String = words.chars().filter(|sign| *sign >= ' ' || matches!(sign, '\n' | '\t')).collect();
        plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let failures = findings.iter().filter(|finding| text(finding, "/severity") == "error").count();
    let mut cases = String::new();
    for finding in findings {
        let name = match finding["place"].is_null() {
            true => text(finding, "/code").to_owned(),
            false => format!("{} {}:{}:{}", text(finding, "/code"), file(finding), finding["place"]["line"], finding["place"]["column"]),
        };
        let body = escape(&whole(finding));
        let inner = match text(finding, "/severity") {
            "error" => format!("<failure type=\"{}\" message=\"{}\">{body}</failure>", escape(text(finding, "/code")), escape(text(finding, "/message"))),
            _ => format!("<system-out>{body}</system-out>"),
        };
        let _ = writeln!(cases, "    <testcase classname=\"{}\" name=\"{}\">{inner}</testcase>", escape(file(finding)), escape(&name));
    }
    let count = findings.len();
    if count == 0 {
        cases.push_str("    <testcase classname=\"strake\" name=\"check\"/>\n");
    }
    let tests = count.max(1);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{tests}\" failures=\"{failures}\">\n  <testsuite name=\"strake check\" tests=\"{tests}\" failures=\"{failures}\">\n{cases}  </testsuite>\n</testsuites>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Value> {
        let mut sources = Sources::default();
        let file = sources.add("./k8s/a.yaml", "kind: Pod\nname: <x>\n");
        let error = Diagnostic::error("unknown-field", "unknown field `name`, 100%").at(Span::new(file, 10, 14)).help("write\nmetadata");
        let warning = Diagnostic::warning("latest-tag", "moves").at(Span::new(file, 0, 4)).related(Span::new(file, 16, 19), "this");
        let note = Diagnostic::note("bare-pod", "a & b");
        [error, warning, note].iter().map(|diagnostic| finding(&sources, diagnostic)).collect()
    }

    #[test]
    fn annotations_of_github_are_escaped() {
        let lines = github(&findings());
        let expected = "::error file=k8s/a.yaml,line=2,col=1,endLine=2,endColumn=5,title=unknown-field::unknown field `name`, 100%25; write%0Ametadata\n\
                        ::warning file=k8s/a.yaml,line=1,col=1,endLine=1,endColumn=5,title=latest-tag::moves\n::notice title=bare-pod::a & b\n";
        assert_eq!(lines, expected);
    }

    #[test]
    fn sarif_has_rules_places_and_related_places() {
        let report = sarif(&findings());
        let run = &report["runs"][0];
        assert_eq!(run["tool"]["driver"]["rules"].as_array().map(Vec::len), Some(3));
        let result = &run["results"][1];
        assert_eq!(result["level"], "warning");
        assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "k8s/a.yaml");
        assert_eq!(result["relatedLocations"][0]["physicalLocation"]["region"]["startLine"], 2);
        assert!(run["results"][2].get("locations").is_none());
    }

    /// What the schema of SARIF 2.1.0 requires, and what GitHub's upload asks for beside it.
    #[test]
    fn sarif_has_what_its_schema_requires() {
        let report = sarif(&findings());
        assert_eq!((&report["version"], report["$schema"].as_str().is_some_and(|at| at.contains("sarif-2.1.0"))), (&json!("2.1.0"), true));
        let runs = report["runs"].as_array().expect("runs");
        let driver = &runs[0]["tool"]["driver"];
        assert_eq!((runs.len(), &driver["name"]), (1, &json!("strake")));
        let rules: Vec<&str> = driver["rules"].as_array().expect("rules").iter().map(|rule| rule["id"].as_str().expect("an id")).collect();
        let distinct: std::collections::BTreeSet<&&str> = rules.iter().collect();
        assert_eq!(distinct.len(), rules.len(), "a rule is there once");
        assert!(driver["rules"].as_array().into_iter().flatten().all(|rule| rule["shortDescription"]["text"].as_str().is_some_and(|text| !text.is_empty())));
        let results = runs[0]["results"].as_array().expect("results");
        assert_eq!(results.len(), findings().len());
        for result in results {
            assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{result}");
            assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().expect("a level")), "{result}");
            assert!(rules.contains(&result["ruleId"].as_str().expect("a rule")), "{result}");
            let places = ["locations", "relatedLocations"].into_iter().flat_map(|list| result[list].as_array().cloned().unwrap_or_default());
            for place in places {
                let place = &place["physicalLocation"];
                let uri = place["artifactLocation"]["uri"].as_str().expect("a file");
                assert!(!uri.is_empty() && !uri.starts_with('/') && !uri.contains('\\'), "{uri}");
                for field in ["startLine", "startColumn", "endLine", "endColumn"] {
                    assert!(place["region"][field].as_u64().is_some_and(|number| number > 0), "{field}: {place}");
                }
            }
        }
        let empty = sarif(&[]);
        assert_eq!(empty["runs"][0]["results"], json!([]), "a run without findings has an empty list");
    }

    #[test]
    fn junit_counts_errors_as_failures() {
        let report = junit(&findings());
        assert!(report.contains("tests=\"3\" failures=\"1\""), "{report}");
        assert!(report.contains("<system-out>a &amp; b</system-out>"), "{report}");
        assert!(junit(&[]).contains("tests=\"1\" failures=\"0\""));
    }
}
