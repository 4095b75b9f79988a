//! Times. What is now, the caller says.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

use super::{Arguments, Function, Host, row};
use crate::value::Value;

type Answer = Result<Value, String>;

pub(super) const TABLE: &[Function] = &[
    row("formatdate", 2, 2, |a, _| format(&a.text(0)?, &parse(&a.text(1)?)?)),
    row("formattimestamp", 2, 2, format_timestamp),
    row("timeadd", 2, 2, |a, _| add(&a.text(0)?, &a.text(1)?)),
    row("timestamp", 0, 0, |_, host| Ok(rfc3339(&of_seconds(host.now_s)?).into())),
    row("unixtimestampparse", 1, 1, |a, _| parts(&of_seconds(a.whole(0)?)?)),
];

const MONTHS: [&str; 12] = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
/// From Sunday.
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn of_seconds(seconds: i64) -> Result<Zoned, String> {
    Timestamp::from_second(seconds).map(|time| time.to_zoned(TimeZone::UTC)).map_err(|_| format!("{seconds} is out of the range of times"))
}

/// An RFC 3339 time, in the offset it was written with.
fn parse(text: &str) -> Result<Zoned, String> {
    let wrong = || format!("`{text}` is no time: expected one such as 2026-11-21T15:06:00Z");
    let time: Timestamp = text.parse().map_err(|_| wrong())?;
    let offset = match text.rfind(['+', '-']).filter(|at| *at > 10 && !text.ends_with(['Z', 'z'])) {
        None => jiff::tz::Offset::UTC,
        Some(at) => {
            let sign = if text[at..].starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = text[at + 1..].split_once(':').ok_or_else(wrong)?;
            let (hours, minutes): (i32, i32) = (hours.parse().map_err(|_| wrong())?, minutes.parse().map_err(|_| wrong())?);
            jiff::tz::Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).map_err(|_| wrong())?
        }
    };
    Ok(time.to_zoned(TimeZone::fixed(offset)))
}

fn zone(time: &Zoned, colon: bool) -> String {
    let seconds = time.offset().seconds();
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
    format!("{sign}{:02}{}{:02}", minutes / 60, if colon { ":" } else { "" }, minutes % 60)
}

fn rfc3339(time: &Zoned) -> String {
    let zone = if time.offset().seconds() == 0 { "Z".to_owned() } else { zone(time, true) };
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{zone}", time.year(), time.month(), time.day(), time.hour(), time.minute(), time.second())
}

fn weekday(time: &Zoned) -> usize {
    usize::try_from(time.weekday().to_sunday_zero_offset()).unwrap_or_default()
}

fn month(time: &Zoned) -> &'static str {
    MONTHS[usize::try_from(time.month() - 1).unwrap_or_default()]
}

fn format(layout: &str, time: &Zoned) -> Answer {
    let (mut out, mut rest) = (String::new(), layout);
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let (text, after) = quoted(&rest[1..])?;
            out.push_str(&text);
            rest = after;
            continue;
        }
        let run = rest.len() - rest.trim_start_matches(first).len();
        if first.is_ascii_alphabetic() {
            out.push_str(&verb(&rest[..run], time)?);
        } else {
            out.push_str(&rest[..run]);
        }
        rest = &rest[run..];
    }
    Ok(out.into())
}

/// Text up to the closing quote; two quotes are one.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let (mut out, mut rest) = (String::new(), text);
    loop {
        let (part, after) = rest.split_once('\'').ok_or("a quote is not closed")?;
        out.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                out.push('\'');
                rest = more;
            }
            None => return Ok((out, after)),
        }
    }
}

fn verb(verb: &str, time: &Zoned) -> Result<String, String> {
    let twelve = (time.hour() + 11) % 12 + 1;
    Ok(match verb {
        "YYYY" => format!("{:04}", time.year()),
        "YY" => format!("{:02}", time.year() % 100),
        "MMMM" => month(time).to_owned(),
        "MMM" => month(time)[..3].to_owned(),
        "MM" => format!("{:02}", time.month()),
        "M" => time.month().to_string(),
        "DD" => format!("{:02}", time.day()),
        "D" => time.day().to_string(),
        "EEEE" => DAYS[weekday(time)].to_owned(),
        "EEE" => DAYS[weekday(time)][..3].to_owned(),
        "hh" => format!("{:02}", time.hour()),
        "h" => time.hour().to_string(),
        "HH" => format!("{twelve:02}"),
        "H" => twelve.to_string(),
        "AA" => if time.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        "aa" => if time.hour() < 12 { "am" } else { "pm" }.to_owned(),
        "mm" => format!("{:02}", time.minute()),
        "m" => time.minute().to_string(),
        "ss" => format!("{:02}", time.second()),
        "s" => time.second().to_string(),
        "ZZZZZ" => zone(time, true),
        "ZZZZ" => zone(time, false),
        "ZZZ" if time.offset().seconds() == 0 => "UTC".to_owned(),
        "ZZZ" => zone(time, false),
        "Z" if time.offset().seconds() == 0 => "Z".to_owned(),
        "Z" => zone(time, true),
        other => return Err(format!("there is no date verb `{other}`: text stands between single quotes")),
    })
}

fn format_timestamp(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let layout = arguments.text(0)?;
    let time = match arguments.value(1) {
        Value::Number(_) => of_seconds(arguments.whole(1)?)?,
        Value::String(text) => parse(text)?,
        _ => return Err(arguments.wrong(1, "a time as text, or seconds since 1970")),
    };
    if layout == "X" { Ok(time.timestamp().as_second().to_string().into()) } else { format(&layout, &time) }
}

fn add(time: &str, duration: &str) -> Answer {
    let wrong = || format!("`{duration}` is no duration: expected one such as 1h30m or -10s");
    let added = parse(time)?.checked_add(span(duration).ok_or_else(wrong)?).map_err(|_| "the result is out of the range of times".to_owned())?;
    Ok(rfc3339(&added).into())
}

/// A duration as Go writes it: `1h30m`, `-1.5s`, `300ms`.
fn span(text: &str) -> Option<SignedDuration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_alphabetic()).len();
        let unit = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then(|| SignedDuration::try_from_secs_f64(sign * seconds).ok()).flatten()
}

fn parts(time: &Zoned) -> Answer {
    let week = time.date().iso_week_date();
    let number = |value: i64| {
        #[expect(clippy::cast_precision_loss, reason = "parts of a date are small")]
        let number = value as f64;
        Value::Number(number)
    };
    let entries: [(&str, Value); 13] = [
        ("year", number(time.year().into())),
        ("year_day", number(time.day_of_year().into())),
        ("day", number(time.day().into())),
        ("month", number(time.month().into())),
        ("month_name", month(time).into()),
        ("weekday", number(time.weekday().to_sunday_zero_offset().into())),
        ("weekday_name", DAYS[weekday(time)].into()),
        ("hour", number(time.hour().into())),
        ("minute", number(time.minute().into())),
        ("second", number(time.second().into())),
        ("rfc3339", rfc3339(time).into()),
        ("iso_year", number(week.year().into())),
        ("iso_week", number(week.week().into())),
    ];
    Ok(Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>()))
}
