//! Texts without what stands encrypted in the files.

use crate::{Diagnostic, Plain, Sources};

/// What is shown instead of a secret.
pub const CONCEALED: &str = "(secret)";
/// A shorter value is part of many words: it is only hidden where a text quotes it as the value of its place.
const SHORTEST: usize = 6;

impl Sources {
    /// Whether a text has a secret in it that is long enough to be recognised there, as it is or in base64.
    pub fn has_secret(&self, text: &str) -> bool {
        self.secrets().filter_map(long).any(|secret| text.contains(secret))
    }

    /// The text without secrets.
    pub fn redact(&self, text: &str) -> String {
        let mut found: Vec<&str> = self.secrets().filter_map(long).filter(|secret| text.contains(*secret)).collect();
        // One may be a part of another.
        found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        found.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, CONCEALED))
    }

    /// A finding without secrets: neither those of other places, nor, quoted, that of its own.
    pub fn redact_finding(&self, finding: &mut Diagnostic) {
        let spans = finding.span.into_iter().chain(finding.labels.iter().map(|label| label.span));
        let own: Vec<String> = spans.filter_map(|span| self.secret_at(span)).map(Plain::to_text).filter(|text| !text.is_empty()).collect();
        let clean = |text: &mut String| {
            let mut told = self.redact(text);
            for (secret, quote) in own.iter().flat_map(|secret| ['`', '"', '\''].map(|quote| (secret, quote))) {
                told = told.replace(&format!("{quote}{secret}{quote}"), &format!("{quote}{CONCEALED}{quote}"));
            }
            *text = told;
        };
        clean(&mut finding.message);
        clean(&mut finding.label);
        finding.labels.iter_mut().for_each(|label| clean(&mut label.message));
        finding.help.iter_mut().for_each(clean);
    }
}

fn long(value: &Plain) -> Option<&str> {
    match value {
        Plain::Text(text) if text.trim().len() >= SHORTEST => Some(text.trim()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secret, Span};

    #[test]
    fn findings_have_no_secret_in_them() {
        let mut sources = Sources::default();
        let secret = |start, value: &str| Secret { start, end: start + 3, value: Plain::Text(value.to_owned()) };
        let file = sources.add_sealed("a.yaml", "a: ENC\nb: ENC\n", &[secret(3, "hunter22"), secret(10, "no")]);
        let short = Diagnostic::error("x", "found `no`, which is not `none`; nothing else").at(Span::new(file, 10, 13));
        let long = Diagnostic::error("x", "bad: hunter22").help("not hunter22!");
        let mut findings = [short, long];
        findings.iter_mut().for_each(|finding| sources.redact_finding(finding));
        assert_eq!(findings[0].message, "found `(secret)`, which is not `none`; nothing else");
        assert_eq!((findings[1].message.as_str(), findings[1].help[0].as_str()), ("bad: (secret)", "not (secret)!"));
        assert!(sources.has_secret("postgres://u:hunter22@db") && !sources.has_secret("no"));
        assert!(!format!("{sources:?}").contains("hunter22"));
    }
}
