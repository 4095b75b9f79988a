//! Variable expansion: quotes, escapes, `$v` and every `${…}` operator of the language.

use std::fmt;

use crate::substitution::Pattern;

/// How deep `${a:-${b:-…}}` may nest.
const MAX_DEPTH: usize = 64;

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Names that had no value where nothing else was said to be used, in order.
    pub unmatched: Vec<String>,
}

/// A word that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpandError {
    /// The word as written.
    pub word: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to process \"{}\": {}", self.word, self.message)
    }
}

impl std::error::Error for ExpandError {}

/// Where values come from: `None` is "not set".
type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// Expands one word; quotes and escapes are removed.
///
/// # Errors
/// When a quote, brace or slash is missing, an operator is unknown, a pattern is malformed, or `${v?}` says so.
pub fn expand(word: &str, lookup: Lookup<'_>, escape: char) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer::new(word, lookup, escape, true);
    let mut out = Output::default();
    lexer.run(None, false, &mut out).map_err(|message| lexer.error(word, message))?;
    Ok(Expanded { text: out.text, unmatched: lexer.unmatched })
}

/// Expands text and splits it into words where blanks are neither quoted nor escaped; values of variables are split too (EXPOSE).
///
/// # Errors
/// As [`expand`].
pub fn expand_words(text: &str, lookup: Lookup<'_>, escape: char) -> Result<(Vec<String>, Vec<String>), ExpandError> {
    let mut lexer = Lexer::new(text, lookup, escape, true);
    let mut out = Output::default();
    lexer.run(None, false, &mut out).map_err(|message| lexer.error(text, message))?;
    out.words.extend(out.word.take());
    Ok((out.words, lexer.unmatched))
}

/// Expands a heredoc's body: quotes are ordinary characters, a backslash protects the next character and goes, whatever the escape directive says.
///
/// # Errors
/// As [`expand`].
pub fn expand_heredoc(body: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer::new(body, lookup, '\\', false);
    let mut out = Output::default();
    lexer.run(None, false, &mut out).map_err(|message| lexer.error(body.lines().next().unwrap_or_default(), message))?;
    Ok(Expanded { text: out.text, unmatched: lexer.unmatched })
}

/// The whole text, and the same as words.
#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: Option<String>,
}

impl Output {
    /// Adds text whose blanks part words.
    fn add(&mut self, text: &str) {
        self.text.push_str(text);
        for character in text.chars() {
            if character.is_whitespace() {
                self.words.extend(self.word.take());
            } else {
                self.word.get_or_insert_default().push(character);
            }
        }
    }

    /// Adds text that stays in one word.
    fn add_whole(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.get_or_insert_default().push_str(text);
    }
}

struct Lexer<'l> {
    chars: Vec<char>,
    at: usize,
    lookup: Lookup<'l>,
    escape: char,
    /// Whether quotes mean something.
    quotes: bool,
    depth: usize,
    unmatched: Vec<String>,
}

impl<'l> Lexer<'l> {
    fn new(text: &str, lookup: Lookup<'l>, escape: char, quotes: bool) -> Self {
        Lexer { chars: text.chars().collect(), at: 0, lookup, escape, quotes, depth: 0, unmatched: Vec::new() }
    }

    fn error(&self, word: &str, message: String) -> ExpandError {
        ExpandError { word: word.to_owned(), message }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += 1;
        Some(character)
    }

    /// Reads up to `stop`, or to the end without one. True when the stop was found.
    fn run(&mut self, stop: Option<char>, keep_escapes: bool, out: &mut Output) -> Result<bool, String> {
        while let Some(character) = self.next() {
            match character {
                _ if Some(character) == stop => return Ok(true),
                '\'' if self.quotes => {
                    let text = self.single_quoted()?;
                    out.add_whole(&text);
                }
                '"' if self.quotes => {
                    let text = self.double_quoted()?;
                    out.add_whole(&text);
                }
                '$' => {
                    let value = self.dollar()?;
                    out.add(&value);
                }
                _ if character == self.escape => {
                    if keep_escapes {
                        out.add_whole(character.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(protected) = self.next() {
                        out.add_whole(protected.encode_utf8(&mut [0; 4]));
                    }
                }
                plain => out.add(plain.encode_utf8(&mut [0; 4])),
            }
        }
        Ok(false)
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let start = self.at;
        while let Some(character) = self.next() {
            if character == '\'' {
                return Ok(self.chars[start..self.at - 1].iter().collect());
            }
        }
        Err("unexpected end of statement while looking for matching single-quote".to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let mut text = String::new();
        while let Some(character) = self.next() {
            match character {
                '"' => return Ok(text),
                '$' => text.push_str(&self.dollar()?),
                _ if character == self.escape => match self.next() {
                    Some(protected) if protected == '"' || protected == '$' || protected == self.escape => text.push(protected),
                    Some(other) => text.extend([character, other]),
                    None => {}
                },
                plain => text.push(plain),
            }
        }
        Err("unexpected end of statement while looking for matching double-quote".to_owned())
    }

    /// What stands behind a `$`.
    fn dollar(&mut self) -> Result<String, String> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name) });
        }
        self.at += 1;
        if self.depth >= MAX_DEPTH {
            return Err("substitutions nest too deep".to_owned());
        }
        self.depth += 1;
        let value = self.braced();
        self.depth -= 1;
        value
    }

    fn braced(&mut self) -> Result<String, String> {
        match self.peek() {
            None => return Err("syntax error: missing '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(self.value(&name)),
            Some('/') => self.replaced(&name),
            Some(side @ ('#' | '%')) => self.trimmed(&name, side),
            Some(operator @ ('-' | '+' | '?')) => self.chosen(&name, operator, false),
            Some(':') => match self.next() {
                Some(operator @ ('-' | '+' | '?')) => self.chosen(&name, operator, true),
                Some(other) => Err(format!("unsupported modifier (:{other}) in substitution")),
                None => Err("syntax error: missing '}'".to_owned()),
            },
            Some(other) => Err(format!("unsupported modifier ({other}) in substitution")),
            None => Err("syntax error: missing '}'".to_owned()),
        }
    }

    /// The text up to `stop`, expanded.
    fn nested(&mut self, stop: char, keep_escapes: bool, missing: &str) -> Result<String, String> {
        let mut out = Output::default();
        if self.run(Some(stop), keep_escapes, &mut out)? { Ok(out.text) } else { Err(missing.to_owned()) }
    }

    /// `-`, `+`, `?`, with or without `:` in front.
    fn chosen(&mut self, name: &str, operator: char, empty_is_unset: bool) -> Result<String, String> {
        let known = self.unmatched.len();
        let word = self.nested('}', false, "syntax error: missing '}'")?;
        let value = (self.lookup)(name).filter(|value| !(empty_is_unset && value.is_empty()));
        match (operator, value) {
            ('+', Some(_)) => Ok(word),
            (_, Some(value)) => {
                // The word is not used, so its names do not matter.
                self.unmatched.truncate(known);
                Ok(value)
            }
            ('-', None) => Ok(word),
            ('+', None) => {
                self.unmatched.truncate(known);
                Ok(String::new())
            }
            (_, None) if word.is_empty() => Err(format!("{name}: is not allowed to be unset")),
            (_, None) => Err(format!("{name}: {word}")),
        }
    }

    fn trimmed(&mut self, name: &str, side: char) -> Result<String, String> {
        let word = self.nested('}', true, "syntax error: missing '}'")?;
        let (pattern, longest) = word.strip_prefix(side).map_or((word.as_str(), false), |pattern| (pattern, true));
        let pattern = Pattern::read(pattern)?;
        let value = self.value(name);
        Ok(if side == '#' { pattern.trim_start(&value, longest) } else { pattern.trim_end(&value, longest) })
    }

    fn replaced(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let pattern = self.nested('/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.nested('}', true, "syntax error: missing '}'")?;
        let pattern = Pattern::read(&pattern)?;
        let value = self.value(name);
        Ok(pattern.replace(&value, &replacement, all))
    }

    /// A variable's name: letters, digits, `_`; digits alone; or one special parameter. Empty when none stands here.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            Some(first) if first.is_numeric() => self.skip(char::is_numeric),
            _ => self.skip(|c| c.is_alphanumeric() || c == '_'),
        }
        self.chars[start..self.at].iter().collect()
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn value(&mut self, name: &str) -> String {
        let value = (self.lookup)(name);
        let is_variable = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if value.is_none() && is_variable && !self.unmatched.iter().any(|known| known == name) {
            self.unmatched.push(name.to_owned());
        }
        value.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{expand, expand_heredoc, expand_words};

    fn lookup(name: &str) -> Option<String> {
        let known =
            [("v", "value"), ("e", ""), ("path", "/usr/local/bin.tar.gz"), ("two", "a b"), ("dots", "1.2.3"), ("x_1", "under"), ("p", "*l"), ("cost", "$1")];
        known.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    fn shown(word: &str) -> String {
        match expand(word, &lookup, '\\') {
            Ok(expanded) => expanded.text,
            Err(error) => format!("!{}", error.message),
        }
    }

    const FORMS: &[(&str, &str)] = &[
        ("plain", "plain"),
        ("$v", "value"),
        ("${v}", "value"),
        ("a${v}b", "avalueb"),
        ("$unset.", "."),
        ("$x_1-", "under-"),
        ("$", "$"),
        ("$ a", "$ a"),
        ("$1", ""),
        ("$12x", "x"),
        ("$@$*$#$?$-$$$!$0", ""),
        ("${v:-w}", "value"),
        ("${e:-w}", "w"),
        ("${e-w}", ""),
        ("${n-w}", "w"),
        ("${n:-$v}", "value"),
        ("${n:-${e:-deep}}", "deep"),
        ("${v:+w}", "w"),
        ("${e:+w}", ""),
        ("${e+w}", "w"),
        ("${n+w}", ""),
        ("${v:?m}", "value"),
        ("${e?m}", ""),
        ("${e:?m}", "!e: m"),
        ("${n?}", "!n: is not allowed to be unset"),
        ("${n:?}", "!n: is not allowed to be unset"),
        ("${path#*/}", "usr/local/bin.tar.gz"),
        ("${path##*/}", "bin.tar.gz"),
        ("${path%.*}", "/usr/local/bin.tar"),
        ("${path%%.*}", "/usr/local/bin"),
        ("${v#}", "value"),
        ("${v%}", "value"),
        ("${v#\\*}", "value"),
        ("${v##*}", ""),
        ("${v%$p}", "value"),
        ("${v/l/L}", "vaLue"),
        ("${dots//./-}", "1-2-3"),
        ("${dots/./-}", "1-2.3"),
        ("${dots//./}", "123"),
        ("${v//*/z}", "z"),
        ("${e//*/z}", "z"),
        ("${v//$p/z}", "zue"),
        ("${v//?/x}", "xxxxx"),
        ("${path//\\//_}", "_usr_local_bin.tar.gz"),
        ("${v//a[l]/x}", "value"),
        ("${v/#v/x}", "value"),
        ("${v//a/$$1}", "v1lue"),
        ("${v//a/&}", "v&lue"),
        ("${v//a/$cost}", "vlue"),
        ("${v//a/\\$1}", "v\\lue"),
        ("\"${dots//./\\\\}\"", "1\\\\2\\\\3"),
        ("${dots//\\./-}", "!invalid pattern (\\.) in substitution: invalid escape '\\.'"),
        ("${v/l}", "!syntax error: missing '/' in ${}"),
        ("${v//l/L", "!syntax error: missing '}'"),
        ("${}", "!syntax error: bad substitution"),
        ("${:x}", "!syntax error: bad substitution"),
        ("${{", "!syntax error: bad substitution"),
        ("${", "!syntax error: missing '}'"),
        ("${v", "!syntax error: missing '}'"),
        ("${v:-w", "!syntax error: missing '}'"),
        ("${v:x}", "!unsupported modifier (:x) in substitution"),
        ("${v:=w}", "!unsupported modifier (:=) in substitution"),
        ("${v:1:2}", "!unsupported modifier (:1) in substitution"),
        ("${v^^}", "!unsupported modifier (^) in substitution"),
        ("${!v}", "!unsupported modifier (v) in substitution"),
        ("${#v}", "!unsupported modifier (v) in substitution"),
        ("'$v'", "$v"),
        ("\"$v\"", "value"),
        ("\"\\$v \\\" \\\\ \\a\"", "$v \" \\ \\a"),
        ("\\$v", "$v"),
        ("a\\b\\\\c", "ab\\c"),
        ("a\\", "a"),
        ("a'b'\"c\"d", "abcd"),
        ("~", "~"),
        ("\"open", "!unexpected end of statement while looking for matching double-quote"),
        ("'open", "!unexpected end of statement while looking for matching single-quote"),
        ("é$v", "évalue"),
    ];

    #[test]
    fn every_form() {
        for (word, expected) in FORMS {
            assert_eq!(shown(word), *expected, "{word}");
        }
    }

    #[test]
    fn a_backtick_may_be_the_escape() {
        let expanded = expand("c:\\dir`$v $v", &lookup, '`').expect("expands");
        assert_eq!(expanded.text, "c:\\dir$v value");
    }

    #[test]
    fn names_without_value_are_told_once() {
        let unmatched = |word: &str| expand(word, &lookup, '\\').expect("expands").unmatched;
        assert_eq!(unmatched("$n$n ${m} $v $1"), ["n", "m"]);
        assert!(unmatched("${n:-a}${n+a}").is_empty());
        assert_eq!(unmatched("${e:-$n}"), ["n"]);
        assert!(unmatched("${v:-$n}").is_empty());
    }

    #[test]
    fn words_part_at_bare_blanks() {
        let words = |text: &str| expand_words(text, &lookup, '\\').expect("expands").0;
        assert_eq!(words("80 $two \"c d\" e\\ f $e ''"), ["80", "a", "b", "c d", "e f", ""]);
    }

    #[test]
    fn heredocs_keep_quotes_and_lose_backslashes() {
        let body = |text: &str| expand_heredoc(text, &lookup).expect("expands").text;
        assert_eq!(body("'$v' \"${n:-def}\" \\$v a\\b \\\\ x\\\ny $(v)\n"), "'value' \"def\" $v ab \\ x\ny $(v)\n");
        assert_eq!(body("it's"), "it's");
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(shown(&"${n:-".repeat(10_000)).starts_with('!'));
    }

    #[test]
    fn errors_name_the_word() {
        let error = expand("${n:?}", &lookup, '\\').expect_err("fails");
        assert_eq!(error.to_string(), "failed to process \"${n:?}\": n: is not allowed to be unset");
    }
}
