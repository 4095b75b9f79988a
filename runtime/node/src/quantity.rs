//! Quantities of a pod's resources as numbers.

use strake_kinds::Quantity;

/// In thousandths.
///
/// # Errors
/// When it is no quantity; the API has checked that it is.
pub(crate) fn milli(quantity: &Quantity) -> Result<i128, String> {
    strake_words::Quantity::parse(&quantity.0).map(|parsed| parsed.as_milli()).map_err(|error| format!("{}: {error}", quantity.0))
}

/// In whole units, such as bytes, rounded up.
///
/// # Errors
/// When it is no quantity.
pub(crate) fn units(quantity: &Quantity) -> Result<u64, String> {
    milli(quantity).map(|milli| u64::try_from((milli + 999) / 1000).unwrap_or(0))
}
