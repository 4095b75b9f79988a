//! The pest grammar's trees as byte ranges.

use std::ops::Range;

use pest::Parser as _;
use pest::iterators::Pair;

#[derive(pest_derive::Parser)]
#[grammar = "dockerfile.pest"]
struct Grammar;

/// An instruction's parts as ranges of its line.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) keyword: Range<usize>,
    pub(crate) flags: Vec<Range<usize>>,
    /// What stands behind the flags.
    pub(crate) rest: Range<usize>,
}

fn range(pair: &Pair<'_, Rule>) -> Range<usize> {
    pair.as_span().start()..pair.as_span().end()
}

/// Keyword, flags and the rest. `None` for a blank line.
pub(crate) fn instruction(line: &str) -> Option<Parts> {
    let tree = Grammar::parse(Rule::instruction, line).ok()?.next()?;
    let mut parts = Parts { keyword: 0..0, flags: Vec::new(), rest: line.len()..line.len() };
    for pair in tree.into_inner() {
        match pair.as_rule() {
            Rule::keyword => parts.keyword = range(&pair),
            Rule::flag => parts.flags.push(range(&pair)),
            Rule::rest => parts.rest = range(&pair),
            _ => {}
        }
    }
    Some(parts)
}

/// The strings of a JSON array with their ranges, quotes included.
pub(crate) type Strings = Vec<(String, Range<usize>)>;

/// Reads a JSON array. `None` when the text is none: then it is for a shell. `Err` when it is one but not of strings.
pub(crate) fn json_array(text: &str) -> Option<Result<Strings, ()>> {
    if !text.starts_with('[') {
        return None;
    }
    if let Ok(mut tree) = Grammar::parse(Rule::exec, text) {
        let strings = tree.next()?.into_inner().filter(|pair| pair.as_rule() == Rule::string);
        let decoded = strings.map(|pair| serde_json::from_str(pair.as_str()).map(|value| (value, range(&pair))));
        return decoded.collect::<Result<Strings, _>>().ok().map(Ok);
    }
    serde_json::from_str::<Vec<serde_json::Value>>(text).is_ok().then_some(Err(()))
}

/// The words of ENV, LABEL and ARG.
pub(crate) fn quoted_words(text: &str, escape: char) -> Vec<Range<usize>> {
    let rule = if escape == '`' { Rule::words_backtick } else { Rule::words_backslash };
    let tree = Grammar::parse(rule, text).into_iter().flatten().flat_map(Pair::into_inner);
    tree.filter(|pair| matches!(pair.as_rule(), Rule::word_backslash | Rule::word_backtick)).map(|pair| range(&pair)).collect()
}

/// Words between blanks, without any quoting.
pub(crate) fn plain_words(text: &str) -> Vec<Range<usize>> {
    text.split_whitespace()
        .map(|word| {
            let start = word.as_ptr() as usize - text.as_ptr() as usize;
            start..start + word.len()
        })
        .collect()
}

/// A flag's text without quotes and escapes.
pub(crate) fn unquoted_flag(flag: &str) -> String {
    let mut plain = String::with_capacity(flag.len());
    let mut quote = None;
    let mut chars = flag.chars();
    while let Some(character) = chars.next() {
        match character {
            '\\' => plain.extend(chars.next()),
            _ if quote == Some(character) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(character),
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{instruction, json_array, quoted_words, unquoted_flag};

    #[test]
    fn takes_flags_from_the_front() {
        let line = r#"RUN --mount=type=bind,target="/a b" --network=none -- --x y"#;
        let parts = instruction(line).expect("parts");
        let flags: Vec<_> = parts.flags.iter().map(|flag| unquoted_flag(&line[flag.clone()])).collect();
        assert_eq!(flags, ["--mount=type=bind,target=/a b", "--network=none"]);
        assert_eq!(&line[parts.rest], "--x y");
    }

    #[test]
    fn reads_words_with_quotes() {
        let words = |text: &str, escape| quoted_words(text, escape).into_iter().map(|range| text[range].to_owned()).collect::<Vec<_>>();
        assert_eq!(words(r#"a=b\ c d="e f" g='h i' j"#, '\\'), [r"a=b\ c", r#"d="e f""#, "g='h i'", "j"]);
        assert_eq!(words("a=b` c d=\\ e", '`'), ["a=b` c", "d=\\", "e"]);
        assert_eq!(words("a=\"b c", '\\'), ["a=\"b c"]);
    }

    #[test]
    fn json_is_tried_first() {
        let strings = json_array(r#"["a", "\u0041"]"#).expect("an array").expect("of strings");
        assert_eq!(strings.into_iter().map(|(value, _)| value).collect::<Vec<_>>(), ["a", "A"]);
        assert!(json_array("['a']").is_none() && json_array("[1, \"a\"]").is_some_and(|array| array.is_err()));
        assert!(json_array("[]").is_some_and(|array| array.is_ok()));
        assert!(json_array(&"[".repeat(100_000)).is_none());
    }
}
