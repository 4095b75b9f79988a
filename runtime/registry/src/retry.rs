//! Trying again: with growing pauses, as long as a registry asks for, and not for ever.

use std::time::{Duration, SystemTime};

use crate::error::RegistryError;
use crate::pull::PullOptions;

/// A pause that no registry asked for is never longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How often, and after which pauses, something is tried again.
#[derive(Debug)]
pub(crate) struct Retries {
    attempts: u32,
    left: u32,
    first_pause: Duration,
    pause: Duration,
    longest_wait: Duration,
}

impl Retries {
    pub(crate) fn new(options: &PullOptions) -> Self {
        Retries {
            attempts: options.attempts,
            left: options.attempts.saturating_sub(1),
            first_pause: options.first_pause,
            pause: options.first_pause,
            longest_wait: options.longest_wait,
        }
    }

    /// There was progress: counting begins again.
    pub(crate) fn progressed(&mut self) {
        (self.left, self.pause) = (self.attempts.saturating_sub(1), self.first_pause);
    }

    /// Waits before the next attempt; gives the error back when there is to be none.
    pub(crate) async fn wait(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        let asked = error.retry_after();
        if self.left == 0 || !error.is_passing() || asked.is_some_and(|asked| asked > self.longest_wait) {
            return Err(error);
        }
        self.left -= 1;
        let pause = asked.unwrap_or_default().max(jittered(self.pause));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        tracing::debug!(%error, pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Tries again what fails in passing.
pub(crate) async fn again<T, F: Future<Output = Result<T, RegistryError>>>(options: &PullOptions, attempt: impl Fn() -> F) -> Result<T, RegistryError> {
    let mut retries = Retries::new(options);
    loop {
        match attempt().await {
            Err(error) => retries.wait(error).await?,
            good => return good,
        }
    }
}

/// Between the pause and one and a half times it, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    pause + pause.mul_f64(f64::from(nanos % 1000) / 2000.0)
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
pub(crate) fn retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(time.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::retry_after;
    use std::time::Duration;

    #[test]
    fn both_forms_of_retry_after_are_understood() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        for (value, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-3", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
