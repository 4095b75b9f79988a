//! `.env` files.

use std::collections::BTreeMap;

use super::interpolate::fill;

/// Reads a `.env` file: `NAME=value` lines, `export` in front, comments, single quotes (as it is), double quotes (with escapes), values over several lines in quotes.
/// Variables in unquoted and double-quoted values are those of `environment` and of the lines before.
///
/// # Errors
/// Says the line and what is wrong in it.
pub fn dotenv(text: &str, environment: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    let line_of = |rest: &str| text[..text.len() - rest.len()].matches('\n').count() + 1;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(found);
        }
        let line = line_of(rest);
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        let begun = rest.strip_prefix("export").filter(|after| after.starts_with([' ', '\t'])).map_or(rest, str::trim_start);
        let end = begun.find(['=', ':', '\n']).unwrap_or(begun.len());
        let name = begun[..end].trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
            return Err(format!("line {line}: expected NAME=VALUE"));
        }
        if !begun[end..].starts_with(['=', ':']) {
            // A name alone takes its value from the environment, which has it already.
            rest = &begun[end..];
            continue;
        }
        let (value, after) = value(begun[end + 1..].trim_start_matches([' ', '\t']), line)?;
        let lookup = |name: &str| environment.get(name).or_else(|| found.get(name)).cloned();
        let value = match value {
            Value::Literal(text) => text,
            Value::Template(text) => fill(&text, &lookup).map_err(|why| format!("line {line}: {why}"))?.text,
        };
        found.insert(name.to_owned(), value);
        rest = after;
    }
}

enum Value {
    Literal(String),
    /// With variables.
    Template(String),
}

fn value(text: &str, line: usize) -> Result<(Value, &str), String> {
    if let Some(inner) = text.strip_prefix('\'') {
        let (value, after) = inner.split_once('\'').ok_or_else(|| format!("line {line}: the quote is not closed"))?;
        return Ok((Value::Literal(value.to_owned()), after.split_once('\n').map_or("", |(_, after)| after)));
    }
    if let Some(inner) = text.strip_prefix('"') {
        let mut value = String::new();
        let mut characters = inner.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return Ok((Value::Template(value), inner[at + 1..].split_once('\n').map_or("", |(_, after)| after))),
                '\\' => match characters.next().map(|(_, escaped)| escaped) {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    Some('$') => value.push_str("$$"),
                    Some(other) => value.push(other),
                    None => {}
                },
                other => value.push(other),
            }
        }
        return Err(format!("line {line}: the quote is not closed"));
    }
    let (whole, after) = text.split_once('\n').unwrap_or((text, ""));
    let comment = whole.match_indices('#').find(|(at, _)| *at == 0 || whole[..*at].ends_with([' ', '\t'])).map(|(at, _)| at);
    Ok((Value::Template(whole[..comment.unwrap_or(whole.len())].trim_end().to_owned()), after))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::dotenv;

    #[test]
    fn every_form() {
        let environment = BTreeMap::from([("OUTER".to_owned(), "o".to_owned())]);
        let text = "# comment\nA=1\nexport B = two words # not this\nC='${A} $x'\nD=\"a\\nb ${OUTER} $A\"\nE=\nF=x#y\nG=${NO:-d}\nH=\"two\nlines\"\nI\n";
        let found = dotenv(text, &environment).expect("read");
        let expected = [("A", "1"), ("B", "two words"), ("C", "${A} $x"), ("D", "a\nb o 1"), ("E", ""), ("F", "x#y"), ("G", "d"), ("H", "two\nlines")];
        assert_eq!(found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
        assert_eq!(dotenv("A=1\nB='x\n", &environment), Err("line 2: the quote is not closed".to_owned()));
        assert!(dotenv("a b=1", &environment).is_err());
    }
}
