//! Texts.

use regex::Regex;

use super::{Arguments, Function, Host, MANY, count, row};
use crate::value::Value;

type Answer = Result<Value, String>;

pub(super) const TABLE: &[Function] = &[
    row("basename", 1, 1, |a, _| Ok(basename(&a.text(0)?).into())),
    row("byteslen", 1, 1, |a, _| Ok(count(a.text(0)?.len()))),
    row("bytesslice", 3, 3, bytes_slice),
    row("chomp", 1, 1, |a, _| Ok(a.text(0)?.trim_end_matches(['\n', '\r']).into())),
    row("dirname", 1, 1, |a, _| Ok(dirname(&a.text(0)?).into())),
    row("homedir", 0, 0, |_, host| Ok(host.home.as_str().into())),
    row("indent", 2, 2, indent),
    row("join", 1, MANY, join),
    row("lower", 1, 1, |a, _| Ok(a.text(0)?.to_lowercase().into())),
    row("regex", 2, 2, regex_one),
    row("regex_replace", 3, 3, |a, _| Ok(pattern(a, 1)?.replace_all(&a.text(0)?, a.text(2)?).into_owned().into())),
    row("regexall", 2, 2, regex_all),
    row("replace", 3, 3, |a, _| Ok(a.text(0)?.replace(&a.text(1)?, &a.text(2)?).into())),
    row("reverse", 1, 1, |a, _| Ok(a.text(0)?.chars().rev().collect::<String>().into())),
    row("sanitize", 1, 1, |a, _| {
        Ok(a.text(0)?.chars().map(|c| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' }).collect::<String>().into())
    }),
    row("semvercmp", 2, 2, |a, _| super::semver::satisfies(&a.text(0)?, &a.text(1)?).map(Value::Bool)),
    row("split", 2, 2, split),
    row("strlen", 1, 1, |a, _| Ok(count(a.text(0)?.chars().count()))),
    row("substr", 3, 3, substr),
    row("title", 1, 1, |a, _| Ok(title(&a.text(0)?).into())),
    row("trim", 2, 2, |a, _| a.text(1).and_then(|set| Ok(a.text(0)?.trim_matches(|c| set.contains(c)).into()))),
    row("trimprefix", 2, 2, |a, _| a.text(1).and_then(|end| a.text(0).map(|text| text.strip_prefix(end.as_str()).unwrap_or(&text).into()))),
    row("trimspace", 1, 1, |a, _| Ok(a.text(0)?.trim().into())),
    row("trimsuffix", 2, 2, |a, _| a.text(1).and_then(|end| a.text(0).map(|text| text.strip_suffix(end.as_str()).unwrap_or(&text).into()))),
    row("upper", 1, 1, |a, _| Ok(a.text(0)?.to_uppercase().into())),
];

/// A program of a pattern is not larger.
const PATTERN_BYTES: usize = 1 << 20;

fn basename(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".",
        (false, true) => "/",
        _ => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

fn dirname(path: &str) -> String {
    let Some((folder, _)) = path.rsplit_once('/') else { return ".".to_owned() };
    clean(&format!("{folder}/"))
}

/// A path without `.`, `..` and repeated slashes, as far as its text goes.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            ("..", None) if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn bytes_slice(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let text = arguments.text(0)?;
    let (from, length) = (usize::try_from(arguments.whole(1)?), usize::try_from(arguments.whole(2)?));
    let (Ok(from), Ok(length)) = (from, length) else { return Err("the offset and the length must not be negative".to_owned()) };
    let part = text.get(from..from.saturating_add(length));
    part.map(Value::from).ok_or_else(|| format!("the text has {} bytes, and these would be {from} to {}", text.len(), from.saturating_add(length)))
}

fn indent(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let blanks = usize::try_from(arguments.whole(0)?).ok().filter(|blanks| *blanks <= 1024).ok_or("the number of blanks must be 0 to 1024")?;
    Ok(arguments.text(1)?.replace('\n', &format!("\n{}", " ".repeat(blanks))).into())
}

fn join(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let mut parts = Vec::new();
    for place in 1..arguments.len() {
        parts.extend(arguments.texts(place)?);
    }
    Ok(parts.join(&arguments.text(0)?).into())
}

fn split(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let (separator, text) = (arguments.text(0)?, arguments.text(1)?);
    let parts: Vec<Value> = match (separator.is_empty(), text.is_empty()) {
        (_, true) if separator.is_empty() => Vec::new(),
        (true, _) => text.chars().map(|c| c.to_string().into()).collect(),
        _ => text.split(&separator).map(Value::from).collect(),
    };
    Ok(Value::List(parts))
}

fn substr(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let characters: Vec<char> = arguments.text(0)?.chars().collect();
    let (offset, length) = (arguments.whole(1)?, arguments.whole(2)?);
    let total = i64::try_from(characters.len()).unwrap_or(i64::MAX);
    let start = if offset < 0 { (total + offset).max(0) } else { offset.min(total) };
    let end = if length < 0 { total } else { start.saturating_add(length).min(total) };
    let at = |place: i64| usize::try_from(place).unwrap_or_default();
    Ok(characters[at(start)..at(end)].iter().collect::<String>().into())
}

fn title(text: &str) -> String {
    let mut before = ' ';
    let each = |character: char| {
        let first = !(before.is_alphanumeric() || before == '_');
        before = character;
        if first { character.to_uppercase().collect::<String>() } else { character.to_string() }
    };
    text.chars().map(each).collect()
}

fn pattern(arguments: &Arguments<'_>, place: usize) -> Result<Regex, String> {
    let text = arguments.text(place)?;
    regex::RegexBuilder::new(&text).size_limit(PATTERN_BYTES).build().map_err(|error| {
        let why = error.to_string();
        format!("the pattern `{text}` cannot be read: {}", why.lines().last().unwrap_or_default().trim_start_matches("error: "))
    })
}

/// What a match gives: its text, the texts of its groups, or an object of its named groups.
fn matched(pattern: &Regex, captures: &regex::Captures<'_>) -> Value {
    let group = |found: Option<regex::Match<'_>>| found.map_or(Value::Null, |found| found.as_str().into());
    let names: Vec<Option<&str>> = pattern.capture_names().skip(1).collect();
    if names.is_empty() {
        return group(captures.get(0));
    }
    if names.iter().any(Option::is_some) {
        return Value::Object(names.into_iter().flatten().map(|name| (name.to_owned(), group(captures.name(name)))).collect());
    }
    Value::List(captures.iter().skip(1).map(group).collect())
}

fn regex_one(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let pattern = pattern(arguments, 0)?;
    let text = arguments.text(1)?;
    pattern.captures(&text).map(|captures| matched(&pattern, &captures)).ok_or_else(|| "the pattern did not match".to_owned())
}

fn regex_all(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let pattern = pattern(arguments, 0)?;
    Ok(Value::List(pattern.captures_iter(&arguments.text(1)?).map(|captures| matched(&pattern, &captures)).collect()))
}
