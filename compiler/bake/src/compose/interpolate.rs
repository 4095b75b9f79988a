//! `$NAME` and `${NAME…}` as compose files have them.

/// What a text is with its variables filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) text: String,
    /// Names that have no value and no default.
    pub(crate) unset: Vec<String>,
}

/// Fills variables in. `Err` says what is wrong with the text, or what a `:?` demands.
pub(crate) fn fill(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Filled, String> {
    let mut filled = Filled::default();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.text.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| format!("`${{{after}`: the brace is not closed"))?;
            braced(&after[..end], lookup, &mut filled)?;
            rest = &after[end + 1..];
        } else {
            let length = name_length(rest);
            if length == 0 {
                return Err(format!("`${rest}`: expected a name behind `$` (`$$` is a dollar sign)"));
            }
            plain(&rest[..length], lookup, &mut filled);
            rest = &rest[length..];
        }
    }
    filled.text.push_str(rest);
    Ok(filled)
}

fn name_length(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts { text.len() - text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len() } else { 0 }
}

/// Where the brace closes that was opened before the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn plain(name: &str, lookup: &dyn Fn(&str) -> Option<String>, filled: &mut Filled) {
    match lookup(name) {
        Some(value) => filled.text.push_str(&value),
        None => filled.unset.push(name.to_owned()),
    }
}

fn braced(inner: &str, lookup: &dyn Fn(&str) -> Option<String>, filled: &mut Filled) -> Result<(), String> {
    let length = name_length(inner);
    let (name, rest) = inner.split_at(length);
    if length == 0 {
        return Err(format!("`${{{inner}}}`: expected a name"));
    }
    let value = lookup(name);
    let (sign, word, empty_is_unset) = match rest.strip_prefix(':') {
        Some(rest) => (rest.chars().next(), rest.get(1..).unwrap_or_default(), true),
        None => (rest.chars().next(), rest.get(1..).unwrap_or_default(), false),
    };
    let set = value.clone().filter(|value| !empty_is_unset || !value.is_empty());
    let mut nested = |word: &str| -> Result<(), String> {
        let inner = fill(word, lookup)?;
        filled.text.push_str(&inner.text);
        filled.unset.extend(inner.unset);
        Ok(())
    };
    match (sign, set) {
        (None, _) if !rest.is_empty() => Err(format!("`${{{inner}}}`: expected -, ? or + behind the colon")),
        (None, _) => {
            plain(name, lookup, filled);
            Ok(())
        }
        (Some('-' | '?'), Some(value)) => {
            filled.text.push_str(&value);
            Ok(())
        }
        (Some('-'), None) => nested(word),
        (Some('+'), Some(_)) => nested(word),
        (Some('+'), None) => Ok(()),
        (Some('?'), None) => {
            let said = fill(word, lookup)?.text;
            Err(if said.is_empty() { format!("the variable {name} must be set") } else { format!("the variable {name} must be set: {said}") })
        }
        (Some(_), _) => Err(format!("`${{{inner}}}`: expected one of :- - :? ? :+ + behind the name")),
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn every_form() {
        let lookup = |name: &str| match name {
            "SET" => Some("v".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("a$SET-b", "av-b"),
            ("${SET}", "v"),
            ("$$SET", "$SET"),
            ("${NO:-x}", "x"),
            ("${NO-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${SET:+y}", "y"),
            ("${EMPTY:+y}", ""),
            ("${EMPTY+y}", "y"),
            ("${NO:-${SET}/z}", "v/z"),
            ("${NO:-${ALSO-$SET}}", "v"),
            ("${SET:?gone}", "v"),
            ("${NO:-a:b}", "a:b"),
        ] {
            assert_eq!(fill(text, &lookup).map(|filled| filled.text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(fill("$NO ${NO}", &lookup).expect("filled").unset, ["NO", "NO"]);
        for (text, said) in [
            ("${NO:?give it}", "must be set: give it"),
            ("${EMPTY:?}", "must be set"),
            ("${A", "not closed"),
            ("$-", "expected a name"),
            ("${A!b}", "expected one of"),
        ] {
            assert!(fill(text, &lookup).expect_err(text).contains(said), "{text}");
        }
    }
}
