//! What plain text means: YAML 1.1 as the Go library of Kubernetes reads it.

use crate::Kind;

/// The kind of a plain (unquoted, untagged) scalar. A number that is not finite is `None`.
pub(crate) fn plain(text: &str) -> Option<Kind> {
    let Some(first) = text.bytes().next() else { return Some(Kind::Null) };
    Some(match first {
        b'0'..=b'9' | b'+' | b'-' | b'.' => return number(text),
        b't' | b'T' | b'f' | b'F' | b'y' | b'Y' | b'n' | b'N' | b'o' | b'O' | b'~' => word(text),
        _ => Kind::String(text.to_owned()),
    })
}

fn word(text: &str) -> Kind {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Kind::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Kind::Bool(false),
        "~" | "null" | "Null" | "NULL" => Kind::Null,
        _ => Kind::String(text.to_owned()),
    }
}

/// A number in any of the notations; other text is text.
pub(crate) fn number(text: &str) -> Option<Kind> {
    if is_not_finite(text) {
        return None;
    }
    let plain: std::borrow::Cow<'_, str> = if text.contains('_') { text.replace('_', "").into() } else { text.into() };
    if let Some(value) = integer(&plain) {
        return Some(Kind::Int(value));
    }
    if looks_like_float(&plain)
        && let Ok(value) = plain.parse::<f64>()
        && value.is_finite()
    {
        return Some(Kind::Float(value));
    }
    Some(Kind::String(text.to_owned()))
}

fn is_not_finite(text: &str) -> bool {
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(bare, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// A whole number with an optional sign and a prefix: 0x, 0b, 0o or 0 for octal.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.bytes().next()?.is_ascii_alphanumeric() {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_like_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let right_mantissa = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let right_exponent = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    right_mantissa && right_exponent
}

#[cfg(test)]
mod tests {
    use super::plain;
    use crate::Kind;

    #[test]
    fn plain_scalars_read_as_kubernetes_reads_them() {
        let text = |text: &str| Some(Kind::String(text.to_owned()));
        let cases = [
            ("", Some(Kind::Null)),
            ("~", Some(Kind::Null)),
            ("Null", Some(Kind::Null)),
            ("nULL", text("nULL")),
            ("yes", Some(Kind::Bool(true))),
            ("Off", Some(Kind::Bool(false))),
            ("y", text("y")),
            ("N", text("N")),
            ("0644", Some(Kind::Int(420))),
            ("0o644", Some(Kind::Int(420))),
            ("08", Some(Kind::Float(8.0))),
            ("0x1F", Some(Kind::Int(31))),
            ("-0b11", Some(Kind::Int(-3))),
            ("+12", Some(Kind::Int(12))),
            ("1_000", Some(Kind::Int(1000))),
            ("1.0", Some(Kind::Float(1.0))),
            (".5", Some(Kind::Float(0.5))),
            ("1.", Some(Kind::Float(1.0))),
            ("1e3", Some(Kind::Float(1000.0))),
            ("18446744073709551615", Some(Kind::Int(18_446_744_073_709_551_615))),
            ("18446744073709551616", Some(Kind::Float(18_446_744_073_709_551_616.0))),
            ("190:20:30", text("190:20:30")),
            ("2001-12-14", text("2001-12-14")),
            ("1.2.3", text("1.2.3")),
            ("-", text("-")),
            (".", text(".")),
            ("0x", text("0x")),
            ("1e", text("1e")),
            ("1e999", text("1e999")),
            ("10Mi", text("10Mi")),
            (".inf", None),
            ("-.Inf", None),
            (".nan", None),
            ("0-1", text("0-1")),
            ("--1", text("--1")),
        ];
        for (input, expected) in cases {
            assert_eq!(plain(input), expected, "{input}");
        }
    }
}
