//! Kubernetes quantities: `500m`, `1.5Gi`, `1e3`, exact to a billionth.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Add, Sub};
use std::str::FromStr;

use pest::Parser as _;

use crate::WordError;

const LANGUAGE: &str = "a quantity";
const SHAPE: &str = "a number with an optional suffix n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent like e3";
const NANO: i128 = 1_000_000_000;
/// Kubernetes holds no more than 2^63 - 1 whole units.
const MOST: i128 = i64::MAX as i128 * NANO;

#[derive(pest_derive::Parser)]
#[grammar = "quantity.pest"]
struct Grammar;

/// The family of suffixes a quantity is shown with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `m`, none, `k`, `M`, …
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, …
    BinarySi,
    /// `e3`, `e6`, …
    DecimalExponent,
}

/// A fixed-point number of billionths. Equality and order are by value, not by form.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Reads a quantity. More than nine decimal places are rounded away from zero; more than 2^63 - 1 is that.
    ///
    /// # Errors
    /// When the text does not have the shape.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let pairs = Grammar::parse(Rule::quantity, text).map_err(|error| WordError::from_pest(LANGUAGE, text, &error, SHAPE))?;
        let (mut negative, mut digits, mut places) = (false, String::new(), 0_i32);
        let (mut format, mut power, mut factor) = (Format::DecimalSi, 0_i32, 1_i128);
        for pair in pairs.flatten() {
            match pair.as_rule() {
                Rule::sign => negative = pair.as_str() == "-",
                Rule::whole => digits.push_str(pair.as_str()),
                Rule::part => {
                    digits.push_str(pair.as_str());
                    places = i32::try_from(pair.as_str().len()).unwrap_or(i32::MAX);
                }
                Rule::binary => (format, factor) = (Format::BinarySi, binary_factor(pair.as_str())),
                Rule::decimal => power = decimal_power(pair.as_str()),
                Rule::power => {
                    format = Format::DecimalExponent;
                    power = pair.as_str().parse().map_err(|_| WordError::new(LANGUAGE, text, pair.as_span().start(), "the exponent is too large"))?;
                }
                _ => {}
            }
        }
        if digits.is_empty() {
            return Err(WordError::new(LANGUAGE, text, 0, format!("it has no digits; expected {SHAPE}")));
        }
        let nanos = scaled(&digits, power.saturating_sub(places).saturating_add(9), factor).min(MOST);
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// A whole number of units.
    pub fn from_units(units: i64, format: Format) -> Self {
        Quantity { nanos: i128::from(units) * NANO, format }
    }

    /// A number of thousandths, as for CPU.
    pub fn from_milli(milli: i64) -> Self {
        Quantity { nanos: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Thousandths, rounded up (away from zero), as Kubernetes' `MilliValue`.
    pub fn as_milli(&self) -> i128 {
        round_up(self.nanos, NANO / 1000)
    }

    /// Whole units (bytes, for memory), rounded up (away from zero), as Kubernetes' `Value`.
    pub fn as_units(&self) -> i128 {
        round_up(self.nanos, NANO)
    }

    /// [`Quantity::as_units`] for sizes: negative is zero.
    pub fn as_bytes(&self) -> u64 {
        u64::try_from(self.as_units()).unwrap_or(0)
    }

    /// The family of suffixes it was written with.
    pub fn format(&self) -> Format {
        self.format
    }

    /// True when it is 0.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// True when it is below 0.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }
}

/// `digits` × 10^`power` × `factor`, rounded away from zero and capped.
fn scaled(digits: &str, power: i32, factor: i128) -> i128 {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    // Beyond 60 digits nothing but "not zero" and "too large" can be told apart.
    let whole = i32::try_from(digits.len()).unwrap_or(i32::MAX).saturating_add(power);
    if whole > 38 {
        return MOST;
    }
    if whole < -30 {
        return 1;
    }
    let kept = &digits[..digits.len().min(30)];
    let dropped = digits.len() - kept.len();
    let rest = digits[kept.len()..].bytes().any(|byte| byte != b'0');
    let power = power.saturating_add(i32::try_from(dropped).unwrap_or(i32::MAX));
    let mantissa = kept.parse::<i128>().unwrap_or(MOST);
    let Some(product) = mantissa.checked_mul(factor) else { return MOST };
    if power >= 0 {
        let scale = 10_i128.checked_pow(power.unsigned_abs());
        return scale.and_then(|scale| product.checked_mul(scale)).map_or(MOST, |nanos| nanos.saturating_add(i128::from(rest)));
    }
    match 10_i128.checked_pow(power.unsigned_abs()) {
        Some(scale) => product / scale + i128::from(product % scale != 0 || rest),
        None => 1,
    }
}

fn round_up(nanos: i128, unit: i128) -> i128 {
    nanos / unit + if nanos % unit == 0 { 0 } else { nanos.signum() }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

fn binary_factor(suffix: &str) -> i128 {
    let steps = BINARY.iter().position(|known| *known == suffix).unwrap_or(0);
    1 << (10 * steps)
}

fn decimal_power(suffix: &str) -> i32 {
    let steps = DECIMAL.iter().position(|known| *known == suffix).unwrap_or(3);
    i32::try_from(steps).unwrap_or(3) * 3 - 9
}

/// The canonical form: no fraction, the largest suffix that keeps the value whole; binary below 1024 is decimal.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // A fraction of a unit has no binary form that keeps it: Kubernetes shows 1.2Gi as 1288490188800m.
        if self.format == Format::BinarySi && self.nanos.abs() >= 1024 * NANO && self.nanos % NANO == 0 {
            let (mut units, mut steps) = (self.as_units(), 0);
            while units % 1024 == 0 && steps + 1 < BINARY.len() {
                units /= 1024;
                steps += 1;
            }
            return write!(f, "{units}{}", BINARY[steps]);
        }
        let (mut mantissa, mut steps) = (self.nanos, 0);
        while mantissa % 1000 == 0 && steps + 1 < DECIMAL.len() {
            mantissa /= 1000;
            steps += 1;
        }
        if self.format == Format::DecimalExponent && steps != 3 {
            return write!(f, "{mantissa}e{}", i64::try_from(steps).unwrap_or(3) * 3 - 9);
        }
        write!(f, "{mantissa}{}", DECIMAL[steps])
    }
}

impl FromStr for Quantity {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        Quantity::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// The sum keeps the left side's form unless the left side is 0.
impl Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nanos: (self.nanos + other.nanos).clamp(-MOST, MOST), format }
    }
}

/// The difference keeps the left side's form unless the left side is 0.
impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        self + Quantity { nanos: -other.nanos, format: other.format }
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    fn read(text: &str) -> Quantity {
        Quantity::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn canonical_forms() {
        let cases = [
            ("0", "0"),
            ("1", "1"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("100000", "100k"),
            ("1.5Gi", "1536Mi"),
            ("1.2Gi", "1288490188800m"),
            ("1024Ki", "1Mi"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1E", "1E"),
            ("12e-1", "1200e-3"),
            (".5", "500m"),
            ("5.", "5"),
            ("+1k", "1k"),
            ("-2Mi", "-2Mi"),
            ("0.0000000001", "1n"),
            ("9223372036854775808", "9223372036854775807"),
            ("1e99", "9223372036854775807"),
            ("100000000000000000000Ei", "9223372036854775807"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        assert_eq!(read("1500m").as_units(), 2);
        assert_eq!(read("-1500m").as_units(), -2);
        assert_eq!(read("1.0001").as_milli(), 1001);
        assert_eq!(read("100n").as_milli(), 1);
        assert_eq!(read("128Mi").as_bytes(), 128 << 20);
        assert_eq!(read("-1").as_bytes(), 0);
        assert_eq!(read("1e99").as_units(), i128::from(i64::MAX));
        assert_eq!(read("1e-99").as_milli(), 1);
    }

    #[test]
    fn compares_and_adds_by_value() {
        assert_eq!(read("1Gi"), read("1024Mi"));
        assert!(read("1G") < read("1Gi"));
        assert_eq!((read("200m") + read("1")).to_string(), "1200m");
        assert_eq!((read("1Gi") - read("512Mi")).to_string(), "512Mi");
        assert_eq!((read("0") + read("1Ki")).to_string(), "1Ki");
    }

    #[test]
    fn wrong_quantities_are_refused() {
        for text in ["", "m", ".", "1.2.3", "1 Gi", "1gi", "1KI", "1e", "0x10", "1mm", "--1", "1K"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }
}
