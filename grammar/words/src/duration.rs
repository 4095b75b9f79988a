//! Go's durations: `1h30m`, `100ms`, `1.5s`, in whole nanoseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use pest::Parser as _;

use crate::WordError;

const LANGUAGE: &str = "a duration";
const SHAPE: &str = "numbers with units ns, us, ms, s, m or h, such as 1h30m or 500ms";

#[derive(pest_derive::Parser)]
#[grammar = "duration.pest"]
struct Grammar;

/// A signed number of nanoseconds, read and shown as Go does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GoDuration {
    /// Nanoseconds.
    pub nanos: i64,
}

impl GoDuration {
    /// Reads a duration. Fractions of a nanosecond are cut off.
    ///
    /// # Errors
    /// When the text does not have the shape, a unit is missing, or it is over 292 years.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let pairs = Grammar::parse(Rule::duration, text).map_err(|error| {
            if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
                return WordError::new(LANGUAGE, text, text.len(), format!("it has no unit: did you mean `{text}s`?"));
            }
            WordError::from_pest(LANGUAGE, text, &error, SHAPE)
        })?;
        let too_long = || WordError::new(LANGUAGE, text, 0, "it is longer than 292 years");
        let (mut negative, mut number, mut total) = (false, "", 0_i128);
        for pair in pairs.flatten() {
            match pair.as_rule() {
                Rule::sign => negative = pair.as_str() == "-",
                Rule::number => number = pair.as_str(),
                Rule::unit => total += nanos(number, unit_nanos(pair.as_str())).ok_or_else(too_long)?,
                _ => {}
            }
        }
        let signed = if negative { -total } else { total };
        i64::try_from(signed).map(|nanos| GoDuration { nanos }).map_err(|_| too_long())
    }

    /// As the standard library's duration; negative is zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }
}

fn unit_nanos(unit: &str) -> i128 {
    match unit {
        "ns" => 1,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => 1_000,
    }
}

fn nanos(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().ok()? };
    Some(i128::from(whole) * unit + part * unit / scale)
}

/// As Go shows it: `1m30s`, `1.5s`, `100ms`, `0s`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.nanos.unsigned_abs();
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        if total < 1_000_000_000 {
            return match total {
                0 => f.write_str("0s"),
                1..1_000 => write!(f, "{total}ns"),
                1_000..1_000_000 => write!(f, "{}µs", decimal(total, 1_000)),
                _ => write!(f, "{}ms", decimal(total, 1_000_000)),
            };
        }
        let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
        if minutes >= 60 {
            write!(f, "{}h", minutes / 60)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        write!(f, "{}s", decimal(rest, 1_000_000_000))
    }
}

/// `value / unit` without trailing zeros.
fn decimal(value: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl FromStr for GoDuration {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        GoDuration::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::GoDuration;

    #[test]
    fn reads_and_shows_as_go_does() {
        let cases = [
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("100ms", 100_000_000, "100ms"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5h", 1_800_000_000_000, "30m0s"),
            ("0", 0, "0s"),
            ("-2m", -120_000_000_000, "-2m0s"),
            ("1us1ns", 1_001, "1.001µs"),
            ("3µs", 3_000, "3µs"),
            ("1m", 60_000_000_000, "1m0s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("999ns", 999, "999ns"),
        ];
        for (text, nanos, shown) in cases {
            let duration = GoDuration::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((duration.nanos, duration.to_string().as_str()), (nanos, shown), "{text}");
        }
    }

    #[test]
    fn wrong_durations_say_why() {
        for text in ["", "5", "1d", "s", "1s ", "1 s", "1s2", "9999999h", "-", "."] {
            assert!(GoDuration::parse(text).is_err(), "{text}");
        }
        assert_eq!(GoDuration::parse("5").map_err(|e| e.to_string()), Err("`5` is not a duration: it has no unit: did you mean `5s`?".to_owned()));
    }
}
