//! Sizes in bytes, as people write and as docker prints them.

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `64m`, `1.5 GB`, `1024`: bytes, in steps of 1024. `None` when it is no size.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let all = number * 1024_f64.powi(power);
    (all.is_finite() && all < 9.0e15).then_some(all as u64)
}

/// `64MiB`: four digits that count.
#[expect(clippy::cast_precision_loss, reason = "four digits count")]
pub(crate) fn shown(bytes: u64) -> String {
    let (mut number, mut unit) = (bytes as f64, 0);
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    let rounded: f64 = format!("{number:.3e}").parse().unwrap_or(number);
    format!("{rounded}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::{bytes, shown};

    #[test]
    fn both_ways() {
        for (text, number, back) in
            [("64m", 67_108_864, "64MiB"), ("128 MB", 134_217_728, "128MiB"), ("1000", 1000, "1000B"), ("1.5g", 1_610_612_736, "1.5GiB")]
        {
            assert_eq!(bytes(text), Some(number), "{text}");
            assert_eq!(shown(number), back);
        }
        assert_eq!(bytes("many"), None);
    }
}
