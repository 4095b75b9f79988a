//! The exponential back-off of restarts and image pulls.

use jiff::SignedDuration;

/// The first wait.
pub(crate) const FIRST: SignedDuration = SignedDuration::from_secs(10);
/// No wait is longer, the jitter left aside.
pub(crate) const MOST: SignedDuration = SignedDuration::from_secs(300);
/// A container that ran this long is forgiven its past.
pub(crate) const FORGIVEN_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// The wait before try number `failures + 1`: none before the second try of a container, so `0` gives zero.
pub(crate) fn delay(failures: u32) -> SignedDuration {
    match failures {
        0 => SignedDuration::ZERO,
        n => FIRST.checked_mul(1 << (n - 1).min(5)).unwrap_or(MOST).min(MOST),
    }
}

/// Up to a tenth of `delay`, the same for the same seed text: a thousand crash loops do not wake in one instant.
pub(crate) fn jitter(delay: SignedDuration, seed: &str, failures: u32) -> SignedDuration {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(failures);
    for byte in seed.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let tenth = delay.as_millis() / 10;
    let share = i128::from((hash >> 32) % 1000);
    SignedDuration::from_millis(i64::try_from(tenth * share / 1000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_ten_seconds_to_five_minutes() {
        let waits: Vec<i64> = (0..9).map(|failures| delay(failures).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn jitter_is_small_and_repeatable() {
        for failures in 1..50 {
            let delay = delay(failures);
            let jitter = jitter(delay, "uid-1/app", failures);
            assert_eq!(jitter, super::jitter(delay, "uid-1/app", failures));
            assert!(jitter.as_millis() * 10 <= delay.as_millis());
        }
        assert_ne!(jitter(MOST, "a", 9), jitter(MOST, "b", 9));
    }
}
