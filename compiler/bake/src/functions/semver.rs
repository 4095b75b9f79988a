//! Versions and the constraints on them: `>= 1.2, < 2`, `~1.4`, `^0.3`, `1.x || 3.*`, `1.2 - 1.4`.

use std::cmp::Ordering;

/// A version. Missing parts are 0; what is built (`+…`) does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    pre: String,
}

/// Whether a version is within a constraint. `Err` says which of the two cannot be read.
pub(super) fn satisfies(version: &str, constraint: &str) -> Result<bool, String> {
    let (found, _) = parse(version).filter(|(_, given)| *given > 0).ok_or_else(|| format!("`{version}` is no version: expected one such as 1.2.3"))?;
    let mut good = false;
    for alternative in constraint.split("||") {
        good |= all_of(&found, alternative.trim()).ok_or_else(|| format!("`{constraint}` is no constraint: expected one such as >= 1.2, < 2"))?;
    }
    Ok(good)
}

/// A version with the number of its parts that were given; a wildcard ends them.
fn parse(text: &str) -> Option<(Version, usize)> {
    let text = text.trim().trim_start_matches(['v', 'V']);
    let text = text.split('+').next()?;
    let (core, pre) = text.split_once('-').unwrap_or((text, ""));
    let (mut numbers, mut given, mut open) = ([0; 3], 0, false);
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() > 3 {
        return None;
    }
    for (at, part) in parts.into_iter().enumerate() {
        if matches!(part, "x" | "X" | "*") {
            open = true;
        } else if open || part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        } else {
            numbers[at] = part.parse().ok()?;
            given = at + 1;
        }
    }
    Some((Version { numbers, pre: pre.to_owned() }, given))
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => compare_pre(&self.pre, &other.pre),
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Part by part: numbers before words, and by their value.
fn compare_pre(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let ordering = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

fn all_of(version: &Version, text: &str) -> Option<bool> {
    if let Some((from, to)) = text.split_once(" - ") {
        return Some(one(version, ">=", from)? && one(version, "<=", to)?);
    }
    // A blank may stand between an operator and its version.
    let mut joined = text.replace(',', " ");
    for operator in ["=", ">", "<", "~", "^", "!"] {
        while joined.contains(&format!("{operator} ")) {
            joined = joined.replace(&format!("{operator} "), operator);
        }
    }
    let mut good = true;
    let mut words = joined.split_whitespace().peekable();
    words.peek()?;
    for word in words {
        let at = word.find(|c: char| c.is_ascii_alphanumeric() || c == '*')?;
        let (operator, wanted) = word.split_at(at);
        // A leading `v` belongs to the version.
        good &= one(version, operator, wanted)?;
    }
    Some(good)
}

fn one(version: &Version, operator: &str, wanted: &str) -> Option<bool> {
    let (wanted, given) = parse(wanted)?;
    // A version before a release is only meant by a constraint that names one.
    if !version.pre.is_empty() && wanted.pre.is_empty() {
        return matches!(operator, "" | "=" | "==" | "!=" | ">" | "<" | ">=" | "=>" | "<=" | "=<" | "~" | "~>" | "^").then_some(operator == "!=");
    }
    // The first version that is not of the same line any more.
    let above = |part: usize| {
        let mut numbers = [0; 3];
        numbers[..=part].copy_from_slice(&wanted.numbers[..=part]);
        numbers[part] += 1;
        Version { numbers, pre: String::new() }
    };
    let same_line = |part: usize| *version >= wanted && *version < above(part);
    Some(match operator {
        "" | "=" | "==" if given == 0 => true,
        "" | "=" | "==" if given < 3 => same_line(given - 1),
        "" | "=" | "==" => *version == wanted,
        "!=" if given == 0 => false,
        "!=" if given < 3 => !same_line(given - 1),
        "!=" => *version != wanted,
        ">" if given > 0 && given < 3 => *version >= above(given - 1),
        ">" => *version > wanted,
        "<" => *version < wanted,
        ">=" | "=>" => *version >= wanted,
        "<=" | "=<" if given > 0 && given < 3 => *version < above(given - 1),
        "<=" | "=<" => *version <= wanted,
        "~" | "~>" | "^" if given == 0 => true,
        "~" | "~>" => same_line(given.min(2) - 1),
        "^" => same_line((0..given).find(|part| wanted.numbers[*part] > 0).unwrap_or(given - 1)),
        _ => return None,
    })
}
