//! Patterns of target names: `*`, `?`, `[a-z]`.

/// Whether a pattern has a sign that stands for others.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether a name matches a pattern as a whole. A `[` that is not closed matches nothing.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut place, mut star) = (0, 0, None);
    while place < name.len() {
        let step = match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[at..], name[place]),
            Some('\\') => (pattern.get(at + 1) == Some(&name[place])).then_some(2),
            Some(other) => (*other == name[place]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (at, place) = (at + length, place + 1),
            // The last `*` takes one more.
            (None, Some((from, taken))) => {
                (at, place) = (from + 1, taken + 1);
                star = Some((from, taken + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|sign| *sign == '*')
}

/// The length of the class a pattern begins with, when the character is in it.
fn class(pattern: &[char], character: char) -> Option<usize> {
    let end = 2 + pattern.get(2..)?.iter().position(|sign| *sign == ']')?;
    let inner = &pattern[1..end];
    let (negated, inner) = inner.strip_prefix(&['^']).map_or((false, inner), |inner| (true, inner));
    let (mut found, mut at) = (false, 0);
    while at < inner.len() {
        if inner.get(at + 1) == Some(&'-') && at + 2 < inner.len() {
            found |= (inner[at]..=inner[at + 2]).contains(&character);
            at += 3;
        } else {
            found |= inner[at] == character;
            at += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "app", true),
            ("app-*", "app-1", true),
            ("app-*", "ap-1", false),
            ("*-rel*se", "x-release", true),
            ("app-[0-9]", "app-7", true),
            ("app-[^0-9]", "app-7", false),
            ("a?p", "app", true),
            ("app-[0", "app-0", false),
            ("", "", true),
            ("a*b*c", "aXbYbc", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
