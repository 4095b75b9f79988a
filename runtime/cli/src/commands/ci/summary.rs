//! What a pipeline tells: Markdown for people, JSON for programs, GitLab's form of findings.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use strake_apply::review::Review;

use super::provider::Run;
use crate::commands::review;
use crate::output::{counted, size, took};

/// A service refuses a summary of more than a mebibyte as a whole.
const MOST_BYTES: usize = 1_000_000;
/// More findings than these are counted only.
const MOST_FINDINGS: usize = 30;

/// An image that was built.
#[derive(Clone, Debug)]
pub struct Made {
    /// What the manifests call it.
    pub name: String,
    /// The digest of its manifest; after a push, of the one that was pushed.
    pub digest: String,
    /// Its layers, uncompressed.
    pub size_bytes: u64,
    /// How long its steps took; those from a cache take nothing.
    pub time: Duration,
    /// Steps that were executed.
    pub steps: usize,
    /// Where it was pushed.
    pub pushed: Vec<String>,
}

/// What a run has come to.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// `plan` or `apply`; nothing when it did not come so far.
    pub mode: &'static str,
    /// Findings, as data.
    pub findings: Vec<Value>,
    /// Images.
    pub images: Vec<Made>,
    /// What changes.
    pub review: Option<Review>,
    /// What was applied.
    pub applied: Option<Value>,
    /// Why it failed.
    pub failure: Option<String>,
    /// The exit code.
    pub code: u8,
}

fn count(findings: &[Value], severity: &str) -> usize {
    findings.iter().filter(|finding| finding["severity"] == severity).count()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// The findings in one sentence.
pub fn findings(findings: &[Value]) -> String {
    let words = ["error", "warning", "note"].map(|word| (count(findings, word), word));
    let words: Vec<String> = words.iter().filter(|(count, _)| *count > 0).map(|(count, word)| counted(*count, word)).collect();
    if words.is_empty() { "nothing is wrong".to_owned() } else { words.join(", ") }
}

/// The summary for a pull request.
pub fn markdown(run: &Run, told: &Told) -> String {
    let mut out = String::new();
    let (sign, ended) = match (&told.failure, told.mode) {
        (Some(_), _) => ("❌", "failed"),
        (None, "apply") => ("✅", "applied"),
        (None, _) => ("✅", "planned"),
    };
    let commit = run.commit.as_deref().map_or_else(String::new, |commit| format!(" at `{}`", commit.get(..12).unwrap_or(commit)));
    // Writing to a string does not fail.
    let _ = writeln!(out, "## {sign} strake: {} {ended}{commit}\n", run.what());
    if let Some(failure) = &told.failure {
        // A fence that the text cannot close.
        let _ = writeln!(out, "````text\n{}\n````\n", failure.replace("````", "'''"));
    }
    let _ = writeln!(out, "**Check**: {}\n", findings(&told.findings));
    let worst: Vec<&Value> = told.findings.iter().filter(|finding| finding["severity"] != "note").collect();
    if !worst.is_empty() {
        let _ = writeln!(out, "| | where | what |\n|---|---|---|");
        for finding in worst.iter().take(MOST_FINDINGS) {
            let place = &finding["place"];
            let place = if place.is_null() { String::new() } else { format!("{}:{}", place["file"].as_str().unwrap_or_default(), place["line"]) };
            let text = |field: &str| finding[field].as_str().unwrap_or_default();
            let _ = writeln!(out, "| {} `{}` | {} | {} |", text("severity"), text("code"), cell(&place), cell(text("message")));
        }
        if worst.len() > MOST_FINDINGS {
            let _ = writeln!(out, "\n… and {} more", worst.len() - MOST_FINDINGS);
        }
        out.push('\n');
    }
    if !told.images.is_empty() {
        let _ = writeln!(out, "| image | digest | size | built in | pushed to |\n|---|---|---|---|---|");
        for image in &told.images {
            let time = if image.steps == 0 { "from the cache".to_owned() } else { format!("{} ({})", took(image.time), counted(image.steps, "step")) };
            let digest = image.digest.get(..19).unwrap_or(&image.digest);
            let _ = writeln!(out, "| {} | `{digest}` | {} | {time} | {} |", cell(&image.name), size(image.size_bytes), image.pushed.join("<br>"));
        }
        out.push('\n');
    }
    if let Some(review) = &told.review {
        out.push_str(&review::markdown(review));
    }
    if out.len() > MOST_BYTES {
        out.truncate(out.floor_char_boundary(MOST_BYTES));
        out.push_str("\n\n… the rest is left out\n");
    }
    out
}

/// The whole run as data.
pub fn data(run: &Run, told: &Told) -> Value {
    let images: Vec<Value> = told
        .images
        .iter()
        .map(|image| {
            json!({"name": image.name, "digest": image.digest, "sizeBytes": image.size_bytes, "timeMs": u64::try_from(image.time.as_millis()).unwrap_or(u64::MAX),
                "steps": image.steps, "pushed": image.pushed})
        })
        .collect();
    json!({
        "formatVersion": 1, "provider": run.provider.name(), "for": run.what(), "commit": run.commit, "mode": told.mode, "exitCode": told.code,
        "findings": told.findings, "images": images, "changes": told.review.as_ref().map(|review| !review.unchanged()), "review": told.review,
        "applied": told.applied, "failure": told.failure,
    })
}

/// GitLab's code quality report (the Code Climate form): an array of findings; the fingerprint stays the same when lines move.
pub fn code_quality(findings: &[Value]) -> Value {
    let mut seen = std::collections::BTreeMap::new();
    let each = findings.iter().map(|finding| {
        let text = |field: &str| finding[field].as_str().unwrap_or_default();
        let file = finding["place"]["file"].as_str().unwrap_or(".").trim_start_matches("./");
        let base = format!("{}\0{file}\0{}", text("code"), text("message"));
        let number = seen.entry(base.clone()).and_modify(|count| *count += 1).or_insert(0);
        let digest = Sha256::digest(format!("{base}\0{number}"));
        let fingerprint: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let severity = match text("severity") {
            "error" => "critical",
            "warning" => "minor",
            _ => "info",
        };
        json!({"description": text("message"), "check_name": text("code"), "fingerprint": fingerprint, "severity": severity,
            "location": {"path": file, "lines": {"begin": finding["place"]["line"].as_u64().unwrap_or(1)}}})
    });
    Value::Array(each.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::ci::provider::detect;

    fn finding(line: u32) -> Value {
        json!({"code": "latest-tag", "severity": "warning", "message": "moves | a\nlot", "place": {"file": "./k8s/a.yaml", "line": line, "column": 1}})
    }

    #[test]
    fn gitlabs_fingerprints_stay_when_lines_move() {
        let (before, after) = (code_quality(&[finding(3), finding(9)]), code_quality(&[finding(5), finding(11)]));
        assert_eq!(before[0]["fingerprint"], after[0]["fingerprint"]);
        assert_ne!(before[0]["fingerprint"], before[1]["fingerprint"]);
        assert_eq!(before[0]["location"], json!({"path": "k8s/a.yaml", "lines": {"begin": 3}}));
        assert_eq!((&before[0]["severity"], &before[0]["check_name"]), (&json!("minor"), &json!("latest-tag")));
    }

    #[test]
    fn a_summary_has_everything_in_it() {
        let run = detect(&|_| None, &|_| None);
        let image = Made {
            name: "web".into(),
            digest: "sha256:0123456789abcdef".into(),
            size_bytes: 5_000_000,
            time: Duration::from_secs(2),
            steps: 3,
            pushed: vec!["r/web:1".into()],
        };
        let told = Told { mode: "plan", findings: vec![finding(3)], images: vec![image], failure: Some("it ````broke".into()), code: 1, ..Told::default() };
        let text = markdown(&run, &told);
        for part in [
            "❌ strake: this directory failed",
            "it '''broke",
            "1 warning",
            "moves \\| a lot",
            "./k8s/a.yaml:3",
            "| web | `sha256:0123456789ab` | 5.0 MB | 2.0s (3 steps) | r/web:1 |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let data = data(&run, &told);
        assert_eq!((&data["images"][0]["timeMs"], &data["exitCode"], &data["changes"]), (&json!(2000), &json!(1), &Value::Null));
        let many = Told { findings: (0..40).map(finding).collect(), ..Told::default() };
        assert!(markdown(&run, &many).contains("and 10 more"));
    }
}
