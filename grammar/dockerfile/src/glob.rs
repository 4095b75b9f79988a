//! Path patterns: Go's `filepath.Match` (COPY) and the same with `**` (ignore files, `--exclude`, `--parents`).

/// A pattern that cannot be read: a `[` without `]`, an empty class, or a lone `\` at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
}

impl std::fmt::Display for BadPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: syntax error in pattern", self.pattern)
    }
}

impl std::error::Error for BadPattern {}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character that is not `/`.
    One,
    /// `*`: any characters that are not `/`.
    Star,
    /// `[…]`: one of these, or none of these, and not `/`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**/` or `**`: nothing, or any directories with the `/` behind them.
    Directories,
    /// `**` at the end: anything.
    Rest,
}

impl Token {
    /// Whether it may go on after this character, and whether it may be left behind it.
    fn step(&self, character: char) -> (bool, bool) {
        let slash = character == '/';
        match self {
            Token::Literal(literal) => (false, *literal == character),
            Token::One => (false, !slash),
            Token::Class { negated, ranges } => {
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                (false, inside != *negated && !slash)
            }
            Token::Star => (!slash, !slash),
            Token::Directories => (true, slash),
            Token::Rest => (true, true),
        }
    }
}

/// A compiled pattern. It matches whole paths, with `/` between components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

impl Pattern {
    /// Compiles by the rules of Go's `filepath.Match`: `*`, `?`, `[a-z]`, `[^a]`, `\`; nothing crosses a `/`.
    ///
    /// # Errors
    /// When the pattern is malformed.
    pub fn path(pattern: &str) -> Result<Self, BadPattern> {
        compile(pattern, false)
    }

    /// Compiles by the rules of ignore files: the same and `**`, which crosses directories.
    ///
    /// # Errors
    /// When the pattern is malformed.
    pub fn deep(pattern: &str) -> Result<Self, BadPattern> {
        compile(pattern, true)
    }

    /// The pattern as given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text it is equal to, when it has no wildcards: escapes are removed.
    pub fn literal(&self) -> Option<String> {
        self.tokens.iter().map(|token| if let Token::Literal(literal) = token { Some(*literal) } else { None }).collect()
    }

    /// The leading directories that stand before the first wildcard: `a/b` for `a/b/*.c`; the whole path for a literal.
    pub fn literal_prefix(&self) -> String {
        let plain = self.tokens.iter().map_while(|token| if let Token::Literal(literal) = token { Some(*literal) } else { None });
        let prefix: String = plain.collect();
        if prefix.chars().count() == self.tokens.len() {
            return prefix;
        }
        prefix.rfind('/').map_or(String::new(), |at| prefix[..at].to_owned())
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        self.run(path, false)
    }

    /// Whether the path matches, or a directory that it lies in: one pass over the path.
    pub fn covers(&self, path: &str) -> bool {
        self.run(path, true)
    }

    fn run(&self, path: &str, directories: bool) -> bool {
        let end = self.tokens.len();
        let mut states = vec![false; end + 1];
        let mut next = states.clone();
        self.enter(&mut states, 0);
        for (at, character) in path.char_indices() {
            if directories && character == '/' && at > 0 && states[end] {
                return true;
            }
            next.fill(false);
            let mut alive = false;
            for (index, token) in self.tokens.iter().enumerate().filter(|(index, _)| states[*index]) {
                let (stays, passes) = token.step(character);
                next[index] |= stays;
                if passes {
                    self.enter(&mut next, index + 1);
                }
                alive |= stays || passes;
            }
            if !alive {
                return false;
            }
            std::mem::swap(&mut states, &mut next);
        }
        states[end]
    }

    /// Reaches a state, and those behind it that cost no character.
    fn enter(&self, states: &mut [bool], index: usize) {
        let free = self.tokens[index..].iter().take_while(|token| matches!(token, Token::Star | Token::Rest | Token::Directories)).count();
        states[index..=index + free].fill(true);
    }
}

fn compile(pattern: &str, deep: bool) -> Result<Pattern, BadPattern> {
    let bad = || BadPattern { pattern: pattern.to_owned() };
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(character) = chars.next() {
        let token = match character {
            '*' if deep && chars.peek() == Some(&'*') => {
                chars.next();
                chars.next_if_eq(&'/');
                if chars.peek().is_none() { Token::Rest } else { Token::Directories }
            }
            '*' => Token::Star,
            '?' => Token::One,
            '[' => class(&mut chars).ok_or_else(bad)?,
            '\\' => Token::Literal(chars.next().ok_or_else(bad)?),
            literal => Token::Literal(literal),
        };
        tokens.push(token);
    }
    Ok(Pattern { text: pattern.to_owned(), tokens })
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = bound(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { bound(chars)? } else { low };
        ranges.push((low, high));
    }
}

fn bound(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        plain => Some(plain),
    }
}

/// Whether `path` matches `pattern` by the rules of COPY's wildcards.
///
/// # Errors
/// When the pattern is malformed.
pub fn glob_match(pattern: &str, path: &str) -> Result<bool, BadPattern> {
    Ok(Pattern::path(pattern)?.matches(path))
}

/// Whether a COPY source has a wildcard. Without one it names exactly one path, which must exist.
pub fn has_wildcard(source: &str) -> bool {
    let mut chars = source.chars();
    while let Some(character) = chars.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    false
}

/// A path in its shortest form, as Go's `path.Clean`: no `.`, no doubled or trailing `/`, `..` applied; empty is `.`.
pub fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, clean_path, glob_match, has_wildcard};

    #[test]
    fn matches_as_go_does() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("a?b", "a/b", false),
            ("a[^a]b", "a☺b", true),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("a\\*b", "a*b", true),
            ("*x", "xxx", true),
            ("**/x", "a/x", true),
            ("**/x", "a/b/x", false),
            ("a[[]0].txt", "a[0].txt", true),
            ("", "", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(glob_match(pattern, path), Ok(expected), "{pattern} {path}");
        }
        for bad in ["[", "[]a]", "[-x]", "[a-", "a[", "[^", "\\", "[a-]"] {
            assert!(glob_match(bad, "a").is_err(), "{bad}");
        }
    }

    #[test]
    fn covers_what_lies_in_a_match() {
        let covers = |pattern: &str, path: &str| Pattern::deep(pattern).is_ok_and(|pattern| pattern.covers(path));
        assert!(covers("a*", "ab/c/d") && covers("**/x", "a/x/b") && covers("a/*", "a/b/c") && covers("a/**", "a/b"));
        assert!(!covers("a*", "b/ab") && !covers("a/*", "a") && !covers("a?", "a/b") && !covers("x*y", "xa/y"));
    }

    #[test]
    fn knows_literals() {
        assert!(has_wildcard("a/*.c") && has_wildcard("[a]") && !has_wildcard("a\\*b"));
        let prefix = |pattern: &str| Pattern::deep(pattern).map(|pattern| pattern.literal_prefix());
        assert_eq!(prefix("a/b/*.c").as_deref(), Ok("a/b"));
        assert_eq!(prefix("a/b").as_deref(), Ok("a/b"));
        assert_eq!(prefix("*/b").as_deref(), Ok(""));
        assert_eq!(Pattern::path("a\\*b").map(|pattern| pattern.literal()), Ok(Some("a*b".to_owned())));
    }

    #[test]
    fn cleans_paths() {
        for (path, cleaned) in
            [("", "."), ("a//b/", "a/b"), ("./a/../b", "b"), ("../a", "../a"), ("/../a", "/a"), ("/", "/"), ("a/..", "."), ("../../x", "../../x")]
        {
            assert_eq!(clean_path(path), cleaned, "{path}");
        }
    }
}
