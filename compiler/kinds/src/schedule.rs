//! When a CronJob runs: five fields, `@daily` and its like, or `@every 1h30m`, in a time zone.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

/// A schedule that has been read.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// By the calendar.
    Calendar(Box<Cron>),
    /// Again and again after this time.
    Every(SignedDuration),
}

/// Words for common schedules.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Schedule {
    /// Reads a schedule as Kubernetes does: minute, hour, day of the month, month, day of the week. When both days are restricted, either of them is enough.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let text = text.trim();
        if let Some(pause) = text.strip_prefix("@every ") {
            let pause = duration(pause.trim()).ok_or_else(|| format!("{pause:?} is no duration such as 1h30m"))?;
            return Ok(Schedule::Every(pause.max(SignedDuration::from_secs(1))));
        }
        let fields = match text.starts_with('@') {
            true => WORDS.iter().find(|(word, _)| *word == text).map(|(_, fields)| *fields).ok_or_else(|| unknown_word(text))?,
            false => text,
        };
        let count = fields.split_whitespace().count();
        if count != 5 {
            return Err(format!("expected 5 fields (minute, hour, day of the month, month, day of the week), found {count}"));
        }
        // What only other schedulers know must not be read in another sense than a real cluster reads it: it refuses it.
        let plain = |field: &str| {
            let names = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC", "SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
            field.split([',', '-', '/']).all(|word| {
                let number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
                number || word == "*" || word == "?" || names.contains(&word.to_uppercase().as_str())
            })
        };
        if let Some(field) = fields.split_whitespace().find(|field| !plain(field)) {
            return Err(format!("{field:?} is not understood; a field is made of *, numbers, names, ranges (1-5), lists (1,3) and steps (*/5)"));
        }
        // Kubernetes counts the days of the week from 0 to 6.
        if fields.split_whitespace().nth(4).is_some_and(|days| days.split([',', '-']).any(|day| day == "7")) {
            return Err("days of the week are 0 (Sunday) to 6".to_owned());
        }
        let fields = fields.replace('?', "*");
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        parser.parse(&fields).map(|cron| Schedule::Calendar(Box::new(cron))).map_err(|error| error.to_string())
    }

    /// The first time after `after`; `None` when it never comes (the 31st of February).
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(pause) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*pause).ok()
            }
            Schedule::Calendar(cron) => cron.find_next_occurrence(&after.to_zoned(zone.clone()), false).ok().map(|time| time.timestamp()),
        }
    }
}

impl Schedule {
    /// The last time after `after` and not after `until`; `None` when there is none.
    pub fn last(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(pause) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                let times = until.duration_since(whole).as_secs().checked_div(pause.as_secs())?;
                (times >= 1).then(|| whole.checked_add(SignedDuration::from_secs(pause.as_secs().checked_mul(times)?)).ok())?
            }
            Schedule::Calendar(cron) => {
                let found = cron.find_previous_occurrence(&until.to_zoned(zone.clone()), true).ok()?.timestamp();
                (found > after).then_some(found)
            }
        }
    }
}

fn unknown_word(text: &str) -> String {
    let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
    format!("{text:?} is none of {} and @every", words.join(", "))
}

/// The time zone of a name such as `Europe/Berlin`.
///
/// # Errors
/// What is wrong, for people.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    if name.is_empty() || name.eq_ignore_ascii_case("local") {
        return Err("a time zone is named as in Europe/Berlin".to_owned());
    }
    // Not the machine's own database: the same manifest means the same everywhere.
    TimeZoneDatabase::bundled().get(name).map_err(|_| format!("there is no time zone {name:?}; it is named as in Europe/Berlin"))
}

/// `1h30m`, `90s`.
fn duration(text: &str) -> Option<SignedDuration> {
    let mut total = SignedDuration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest.get(digits..)?;
        let (seconds, length) = match unit.as_bytes().first()? {
            b'h' => (3600, 1),
            b'm' if !unit.starts_with("ms") => (60, 1),
            b's' => (1, 1),
            _ => return None,
        };
        total = total.checked_add(SignedDuration::from_secs(number.checked_mul(seconds)?))?;
        rest = unit.get(length..)?;
    }
    (!text.is_empty() && total > SignedDuration::ZERO).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::{Schedule, time_zone};
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    fn next(schedule: &str, after: &str, zone: &TimeZone) -> String {
        let after: Timestamp = after.parse().expect("a time");
        Schedule::parse(schedule).expect("a schedule").next(after, zone).map(|time| time.to_string()).unwrap_or_default()
    }

    #[test]
    fn schedules_name_the_next_time() {
        let rows = [
            ("*/5 * * * *", "2026-01-01T10:03:00Z", "2026-01-01T10:05:00Z"),
            ("0 3 * * *", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"),
            ("@hourly", "2026-01-01T10:03:00Z", "2026-01-01T11:00:00Z"),
            ("@every 90s", "2026-01-01T10:03:00Z", "2026-01-01T10:04:30Z"),
            // The 13th, or a Friday: both restrict, either is enough.
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 * * mon-fri", "2026-01-02T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", ""),
        ];
        for (schedule, after, expected) in rows {
            assert_eq!(next(schedule, after, &TimeZone::UTC), expected, "{schedule}");
        }
        let berlin = time_zone("Europe/Berlin").expect("known");
        assert_eq!(next("0 3 * * *", "2026-07-01T00:00:00Z", &berlin), "2026-07-01T01:00:00Z");
    }

    #[test]
    fn what_was_missed_is_the_last_of_it() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let last = |schedule: &str, after: &str, until: &str| {
            Schedule::parse(schedule).expect("a schedule").last(time(after), time(until), &TimeZone::UTC).map(|time| time.to_string()).unwrap_or_default()
        };
        assert_eq!(last("*/5 * * * *", "2025-01-01T00:00:00Z", "2026-01-01T10:03:00Z"), "2026-01-01T10:00:00Z");
        assert_eq!(last("*/5 * * * *", "2026-01-01T10:00:00Z", "2026-01-01T10:03:00Z"), "");
        assert_eq!(last("*/5 * * * *", "2026-01-01T10:00:00Z", "2026-01-01T10:05:00Z"), "2026-01-01T10:05:00Z");
        assert_eq!(last("@every 1m", "2026-01-01T10:00:10Z", "2026-01-01T10:03:00Z"), "2026-01-01T10:02:10Z");
    }

    #[test]
    fn what_a_cluster_refuses_is_refused() {
        for wrong in ["", "* * * *", "* * * * * *", "61 * * * *", "* * * * 7", "0 0 L * *", "0 0 * * 5#2", "@nightly", "@every soon", "a b c d e"] {
            assert!(Schedule::parse(wrong).is_err(), "{wrong}");
        }
        assert!(time_zone("Mars/Olympus").is_err());
        assert!(time_zone("Local").is_err());
    }
}
