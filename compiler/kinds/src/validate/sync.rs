//! Sync, strake's own kind: which repository a set follows.

use semver::VersionReq;
use serde_json::{Map, Value};
use strake_words::{GitReference, GitScheme, GoDuration};

use super::{Findings, child, names, text};
use crate::path::At;

/// The forges that take commit statuses.
pub const PROVIDERS: [&str; 3] = ["github", "gitlab", "gitea"];
/// No repository is asked more often than this, in nanoseconds.
const SHORTEST: i64 = 1_000_000_000;

/// Reads a range of versions: comparators beside each other must all hold, `||` stands between alternatives. A version without an operator means itself, and
/// `x` or `*` any number: `>=1.2 <2`, `~1.4`, `2.x`.
///
/// # Errors
/// What is wrong, for a person.
pub fn range(range: &str) -> Result<Vec<VersionReq>, String> {
    range.split("||").map(alternative).collect()
}

fn alternative(text: &str) -> Result<VersionReq, String> {
    let mut parts: Vec<String> = Vec::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        let operator = |c: char| "<>=~^".contains(c);
        let version = word.trim_start_matches(operator).trim_start_matches('v').replace(['x', 'X'], "*");
        let given = &word[..word.len() - word.trim_start_matches(operator).len()];
        match parts.last_mut().filter(|last| last.ends_with(operator)) {
            // `>= 1.2`: the operator came before.
            Some(last) => last.push_str(&version),
            None if given.is_empty() && !version.contains('*') => parts.push(format!("={version}")),
            None => parts.push(format!("{given}{version}")),
        }
    }
    if parts.is_empty() {
        return Err("it is empty: expected a range of versions such as >=1.2 <2".to_owned());
    }
    VersionReq::parse(&parts.join(",")).map_err(|error| format!("{error}: expected a range of versions such as >=1.2 <2, ~1.4 or 2.x"))
}

pub(super) fn spec(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    url(text(spec, "url"), &at.field("url"), findings);
    if let Some(wanted) = child(spec, "ref") {
        reference(wanted, &at.field("ref"), findings);
    }
    let path = text(spec, "path");
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        findings.invalid(&at.field("path"), path, "must be a folder of the repository, without ..");
    }
    for (field, shortest) in [("interval", SHORTEST), ("timeout", SHORTEST)] {
        duration(text(spec, field), shortest, &at.field(field), findings);
    }
    for field in ["targetNamespace", "set"] {
        if !text(spec, field).is_empty() {
            findings.check(&at.field(field), text(spec, field), names::dns_label);
        }
    }
    secret(spec, at, findings);
    if let Some(kubeconfig) = child(spec, "kubeConfig") {
        let at = at.field("kubeConfig");
        match child(kubeconfig, "secretRef") {
            None => findings.required(&at.field("secretRef"), "another cluster needs a login: name the Secret that has its kubeconfig"),
            Some(reference) => {
                secret(kubeconfig, &at, findings);
                let (at, key) = (at.field("secretRef"), text(reference, "key"));
                let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if !key.chars().all(fits) || key.len() > 253 {
                    findings.invalid(&at.field("key"), key, "must be a key of a Secret: letters, digits, `-`, `_` and `.`");
                }
            }
        }
    }
    if let Some(webhook) = child(spec, "webhook") {
        let at = at.field("webhook");
        if webhook.get("secretRef").is_none() {
            findings.required(&at.field("secretRef"), "whoever asks at the webhook must prove it: name the Secret with its token");
        }
        secret(webhook, &at, findings);
    }
    if let Some(report) = child(spec, "report") {
        let at = at.field("report");
        if !text(report, "provider").is_empty() {
            findings.one_of(&at.field("provider"), text(report, "provider"), &PROVIDERS);
        }
        let url = text(report, "url");
        if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") {
            findings.invalid(&at.field("url"), url, "must be the address of an API, such as https://forge.example/api/v4");
        }
        if report.get("secretRef").is_none() {
            findings.required(&at.field("secretRef"), "telling the forge needs a token: name the Secret that has it");
        }
        secret(report, &at, findings);
    }
}

fn secret(of: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    if let Some(reference) = child(of, "secretRef") {
        let reference_at = at.field("secretRef");
        let at = reference_at.field("name");
        match text(reference, "name") {
            "" => findings.required(&at, "the name of a Secret in the same namespace"),
            name => findings.check(&at, name, names::dns_subdomain),
        }
    }
}

fn url(url: &str, at: &At<'_>, findings: &mut Findings) {
    if url.is_empty() {
        return findings.required(at, "the address of a git repository must be given");
    }
    let parsed = match GitReference::parse(url) {
        Ok(parsed) => parsed,
        Err(error) => return findings.invalid(at, shown(url), error.to_string()),
    };
    if url.contains(['#', '?']) {
        findings.invalid(at, shown(url), "what stands behind # or ? belongs into ref and path");
    }
    // A login in the address would be seen by everybody who may read this object.
    if matches!(parsed.scheme, GitScheme::Http | GitScheme::Https) && parsed.shown() != parsed.remote {
        findings.invalid(at, parsed.shown(), "must not have a login in it: put the token into a Secret and name it in secretRef");
    }
}

/// An address for a message: without what may be a login.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://{}", &url[at + 1..]),
        _ => url.to_owned(),
    }
}

fn reference(wanted: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let given: Vec<&str> = ["name", "branch", "tag", "semver", "commit"].into_iter().filter(|field| !text(wanted, field).is_empty()).collect();
    if given.len() > 1 {
        findings.forbidden(at, format!("{} exclude each other: give one", given.join(" and ")));
    }
    for field in ["name", "branch", "tag"] {
        let name = text(wanted, field);
        let bad = name.starts_with(['-', '/', '.']) || name.ends_with(['/', '.']) || name.contains("..") || name.contains("//") || name.contains("@{");
        if bad || name.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c)) {
            findings.invalid(&at.field(field), name, "cannot be the name of a branch or a tag");
        }
    }
    let commit = text(wanted, "commit");
    if !commit.is_empty() && (!matches!(commit.len(), 40 | 64) || !commit.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))) {
        findings.invalid(&at.field("commit"), commit, "must be the whole id of a commit, in lower case");
    }
    let semver = text(wanted, "semver");
    if let Some(Err(error)) = (!semver.is_empty()).then(|| range(semver)) {
        findings.invalid(&at.field("semver"), semver, error);
    }
}

fn duration(given: &str, shortest: i64, at: &At<'_>, findings: &mut Findings) {
    match GoDuration::parse(given) {
        _ if given.is_empty() => {}
        Err(error) => findings.invalid(at, given, error.to_string()),
        Ok(duration) if duration.nanos < shortest => findings.invalid(at, given, "must be at least 1s"),
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::range;

    fn findings(spec: Value) -> Vec<String> {
        let kind = crate::by_kind("strake.dev/v1", "Sync").expect("a row");
        let object = json!({"apiVersion": "strake.dev/v1", "kind": "Sync", "metadata": {"name": "shop", "namespace": "default"}, "spec": spec});
        crate::validate::object(&object, kind).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_can_be_followed_is_fine_and_the_rest_is_told() {
        let url = "https://git.example/shop.git";
        assert_eq!(findings(json!({"url": url})), [""; 0]);
        let full = json!({"url": "git@git.example:shop.git", "ref": {"semver": ">=1.2 <2"}, "path": "deploy/", "interval": "30s", "secretRef": {"name": "key"},
            "webhook": {"secretRef": {"name": "hook"}}, "report": {"provider": "gitea", "url": "https://git.example/api/v1", "secretRef": {"name": "key"}}});
        assert_eq!(findings(full), [""; 0]);
        for (spec, expected) in [
            (json!({}), "spec.url: Required value"),
            (json!({"url": "shop"}), "spec.url: Invalid value"),
            (json!({"url": "https://me:s3cret@git.example/shop.git"}), "put the token into a Secret"),
            (json!({"url": format!("{url}#main")}), "belongs into ref and path"),
            (json!({"url": url, "ref": {"branch": "a", "tag": "b"}}), "branch and tag exclude each other"),
            (json!({"url": url, "ref": {"branch": "--upload-pack=x"}}), "spec.ref.branch"),
            (json!({"url": url, "ref": {"commit": "abc"}}), "the whole id"),
            (json!({"url": url, "ref": {"semver": "one"}}), "expected a range of versions"),
            (json!({"url": url, "path": "../x"}), "spec.path"),
            (json!({"url": url, "interval": "5"}), "did you mean `5s`"),
            (json!({"url": url, "interval": "1ms"}), "at least 1s"),
            (json!({"url": url, "webhook": {}}), "spec.webhook.secretRef: Required"),
            (json!({"url": url, "kubeConfig": {}}), "spec.kubeConfig.secretRef: Required"),
            (json!({"url": url, "kubeConfig": {"secretRef": {"key": "a"}}}), "spec.kubeConfig.secretRef.name: Required"),
            (json!({"url": url, "kubeConfig": {"secretRef": {"name": "a", "key": "a/b"}}}), "spec.kubeConfig.secretRef.key: Invalid"),
            (json!({"url": url, "report": {"provider": "gitlabb", "secretRef": {"name": "x"}}}), "did you mean gitlab?"),
            (json!({"url": url, "secretRef": {}}), "spec.secretRef.name: Required"),
        ] {
            let found = findings(spec.clone());
            assert!(found.len() == 1 && found[0].contains(expected) && !found[0].contains("s3cret"), "{spec}: {found:?}");
        }
    }

    #[test]
    fn ranges_are_read_as_people_write_them() {
        let fits = |text: &str, version: &str| range(text).expect(text).iter().any(|range| range.matches(&version.parse().expect("a version")));
        for (text, inside, outside) in [
            (">=1.2 <2", "1.9.0", "2.0.0"),
            (">= 1.2, < 2", "1.2.0", "1.1.9"),
            ("1.x", "1.7.3", "2.0.0"),
            ("1.2.3", "1.2.3", "1.2.4"),
            ("1.2", "1.2.9", "1.3.0"),
            ("~1.4.1", "1.4.9", "1.5.0"),
            ("^v1.4", "1.5.0", "2.0.0"),
            ("1.0.0 || 2.x", "2.4.0", "1.0.1"),
            ("*", "3.0.0", "3.0.0-rc.1"),
        ] {
            assert!(fits(text, inside) && !fits(text, outside), "{text}");
        }
        assert!(range("").is_err() && range("1.2 ||").is_err() && range("a.b").is_err());
    }
}
