//! `format` of a schema: those that an API server knows and that say something about a value. The others are carried.

use serde_json::Value;

use crate::validate::names;

/// What is expected instead, when a value is not of a format.
pub(super) fn unfit(value: &Value, format: &str) -> Option<&'static str> {
    if let Value::Number(number) = value {
        let whole = number.as_i64().or_else(|| number.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64));
        return match format {
            "int32" => whole.is_none_or(|number| i32::try_from(number).is_err()).then_some("a 32-bit integer"),
            "int64" => whole.is_none().then_some("a 64-bit integer"),
            _ => None,
        };
    }
    let text = value.as_str()?;
    let (fits, expected) = match format {
        "date-time" | "datetime" => (text.parse::<jiff::Timestamp>().is_ok(), "an RFC 3339 time such as 2026-01-31T12:00:00Z"),
        "date" => (text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(), "a date such as 2026-01-31"),
        "ipv4" => (text.parse::<std::net::Ipv4Addr>().is_ok(), "an IPv4 address"),
        "ipv6" => (text.parse::<std::net::Ipv6Addr>().is_ok(), "an IPv6 address"),
        "cidr" => (is_cidr(text), "a network such as 10.0.0.0/8"),
        "mac" => (is_mac(text), "a MAC address such as 02:00:5e:10:00:01"),
        "uri" => (is_uri(text), "a URI such as https://example.org/path"),
        "email" => (is_email(text), "an e-mail address"),
        "hostname" => (names::dns_subdomain(&text.to_ascii_lowercase()).is_ok(), "a host name"),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => (is_uuid(text, format), "a UUID"),
        "byte" => (is_base64(text), "base64 text"),
        "duration" => (is_duration(text), "a duration such as 1h30m"),
        "hexcolor" => (is_hex_colour(text), "a colour such as #ff8800"),
        _ => return None,
    };
    (!fits).then_some(expected)
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// With a scheme, or a path from the root.
fn is_uri(text: &str) -> bool {
    let fine = !text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ');
    let scheme = text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    });
    fine && (scheme || text.starts_with('/'))
}

fn is_email(text: &str) -> bool {
    // `Name <address>` is one too.
    let address = text.rsplit_once('<').map_or(text, |(_, address)| address.trim_end_matches('>'));
    address.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !address.contains(' '))
}

fn is_uuid(text: &str, format: &str) -> bool {
    let digits: String = text.chars().filter(|letter| *letter != '-').collect();
    let version = format.strip_prefix("uuid").filter(|version| !version.is_empty());
    let dashes = text.len() == 32 || (text.len() == 36 && [8, 13, 18, 23].iter().all(|place| text.as_bytes()[*place] == b'-'));
    dashes && digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && version.is_none_or(|version| digits.get(12..13) == Some(version))
}

fn is_hex_colour(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Numbers with units, as Go writes them, and with days and weeks, which the server's reader knows too.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['+', '-']);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.').len();
        let after = rest[number..].trim_start();
        let unit = after.len() - after.trim_start_matches(|letter: char| letter.is_alphabetic()).len();
        let known = matches!(
            &after[..unit],
            "ns" | "us"
                | "µs"
                | "μs"
                | "ms"
                | "s"
                | "m"
                | "h"
                | "d"
                | "w"
                | "sec"
                | "secs"
                | "second"
                | "seconds"
                | "min"
                | "mins"
                | "minute"
                | "minutes"
                | "hr"
                | "hour"
                | "hours"
                | "day"
                | "days"
                | "wk"
                | "week"
                | "weeks"
        );
        if number == 0 || !known {
            return false;
        }
        rest = after[unit..].trim_start();
        parts += 1;
    }
    parts > 0
}
