//! History rows, worded as BuildKit words them.

use strake_oci::{Healthcheck, HistoryEntry};
use strake_plan::ImageHistory;
use strake_words::GoDuration;

use crate::HISTORY_COMMENT;

/// A new row.
pub(crate) fn row(created_by: String, empty_layer: bool) -> ImageHistory {
    ImageHistory { created_by, comment: HISTORY_COMMENT.to_owned(), created: None, empty_layer }
}

/// A row of a base image.
pub(crate) fn base_row(entry: &HistoryEntry) -> ImageHistory {
    ImageHistory { created_by: entry.created_by.clone(), comment: entry.comment.clone(), created: entry.created.clone(), empty_layer: entry.empty_layer }
}

/// Go's `%q` of a list: `["a" "b"]`.
pub(crate) fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quote(item, '"')).collect();
    format!("[{}]", quoted.join(" "))
}

/// Go's `%q` of a pointer to a health check.
pub(crate) fn healthcheck(check: &Healthcheck) -> String {
    let duration = |nanos: i64| format!("\"{}\"", GoDuration { nanos });
    let retries = u32::try_from(check.retries).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    format!(
        "HEALTHCHECK &{{{} {} {} {} {} {}}}",
        quoted_list(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        quote(retries.encode_utf8(&mut [0; 4]), '\'')
    )
}

/// Go's quoting: printable characters stay, others are escaped.
fn quote(text: &str, mark: char) -> String {
    let mut out = String::from(mark);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            _ if character == mark => out.extend(['\\', mark]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            ' ' => out.push(' '),
            low if u32::from(low) < 0x80 && low.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(low))),
            other if other.is_control() || other.is_whitespace() => out.push_str(&format!("\\u{:04x}", u32::from(other))),
            plain => out.push(plain),
        }
    }
    out.push(mark);
    out
}

#[cfg(test)]
mod tests {
    use super::{healthcheck, quoted_list};
    use strake_oci::Healthcheck;

    #[test]
    fn words_as_go_does() {
        assert_eq!(quoted_list(&["a\"b".into(), "é\n".into()]), r#"["a\"b" "é\n"]"#);
        assert_eq!(quoted_list(&[]), "[]");
        let check = Healthcheck {
            test: vec!["CMD-SHELL".into(), "x".into()],
            interval: 5_000_000_000,
            timeout: 3_000_000_000,
            start_period: 60_000_000_000,
            start_interval: 2_000_000_000,
            retries: 4,
        };
        assert_eq!(healthcheck(&check), r#"HEALTHCHECK &{["CMD-SHELL" "x"] "5s" "3s" "1m0s" "2s" '\x04'}"#);
    }
}
