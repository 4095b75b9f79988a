//! The parser's complaints in our words.

use saphyr_parser::ScanError;
use strake_source::{Diagnostic, FileId, Span};

/// A finding for text that is not YAML, at the byte `at` of `text`.
pub(crate) fn complaint(file: FileId, text: &str, at: usize, error: &ScanError) -> Diagnostic {
    let at = at.min(text.len());
    if let Some(tab) = leading_tab(text, at) {
        let finding = Diagnostic::error("yaml-tab", "a tab indents this line; YAML allows only spaces there");
        return finding.at(Span::new(file, tab.0, tab.1)).help("replace the tabs by spaces");
    }
    let line = line_around(text, at);
    let width = text[at..].chars().next().map_or(0, char::len_utf8);
    let mut finding = Diagnostic::error("yaml-syntax", wording(error.info())).at(Span::new(file, at, at + width));
    if text[line.0..line.1].contains("{{") {
        finding = finding.help("this looks like a template: render it before, or quote the value");
    } else if error.info().contains("mapping values are not allowed") {
        finding = finding.help("indent the line as its neighbours are, or quote a value that has `: ` in it");
    } else if error.info().contains("unexpected character") && text[at..].starts_with(['@', '`', '%']) {
        finding = finding.help("quote a value that begins with this character");
    }
    finding
}

fn wording(info: &str) -> String {
    let known = [
        ("mapping values are not allowed", "`: ` cannot stand here: there is already a value on this line, or the indentation differs"),
        ("unknown anchor", "no anchor of this name stands above"),
        ("unexpected end of stream", "a quoted text is not closed"),
        ("recursion limit", "nested deeper than 64 levels"),
        ("unknown escape character", "unknown escape in a double-quoted text"),
        ("did not find expected ',' or '}'", "expected `,` or `}`"),
        ("expected ',' or ']'", "expected `,` or `]`"),
        ("did not find expected key", "expected a key: the indentation differs from the lines above"),
        ("did not find expected '-' indicator", "expected `-`: the indentation differs from the lines above"),
        ("simple key expect", "expected `:` after this key"),
        ("unprintable", "an unprintable character"),
    ];
    match known.iter().find(|(part, _)| info.contains(part)) {
        Some((_, words)) => (*words).to_owned(),
        None => format!("not valid YAML: {info}"),
    }
}

fn line_around(text: &str, at: usize) -> (usize, usize) {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    (start, end)
}

/// The tabs in the indentation of the line at `at`, or of the last line with text before it.
fn leading_tab(text: &str, at: usize) -> Option<(usize, usize)> {
    let mut line = line_around(text, at);
    for _ in 0..2 {
        let content = &text[line.0..line.1];
        let indent = content.len() - content.trim_start_matches([' ', '\t']).len();
        if indent < content.len()
            && let Some(tab) = content[..indent].find('\t')
        {
            return Some((line.0 + tab, line.0 + indent));
        }
        line = line_around(text, line.0.checked_sub(1)?);
    }
    None
}
