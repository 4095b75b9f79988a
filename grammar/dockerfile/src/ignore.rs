//! Ignore files (.dockerignore): which paths of a build context are left out. Not gitignore: patterns stand at the root, and the last match wins.

use strake_source::{Diagnostic, FileId, Span};

use crate::glob::{Pattern, clean_path};

#[derive(Clone, Debug)]
struct Rule {
    negated: bool,
    matcher: Matcher,
    line: u32,
    /// Directories before the first wildcard.
    prefix: String,
}

#[derive(Clone, Debug)]
enum Matcher {
    /// Exactly this path.
    Exact(String),
    /// Everything below this directory, but not itself: `dir/**`.
    Below(String),
    /// Any path that ends so: `**/name`, `**.ext`.
    Suffix(String),
    Pattern(Pattern),
}

/// The rules of one ignore file, or of a list of `--exclude` flags.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

impl Ignore {
    /// Reads an ignore file's text. Malformed lines are reported and left out; their spans are in `file` 0, see [`Ignore::parse_in`].
    pub fn parse(text: &str) -> (Self, Vec<Diagnostic>) {
        Self::parse_in(FileId(0), text)
    }

    /// Reads an ignore file's text, with findings placed in `file`.
    pub fn parse_in(file: FileId, text: &str) -> (Self, Vec<Diagnostic>) {
        let (mut ignore, mut diagnostics) = (Ignore::default(), Vec::new());
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut start = text.len() - body.len();
        for (index, line) in body.split('\n').enumerate() {
            let span = Span::new(file, start, start + line.trim_end().len());
            start += line.len() + 1;
            if line.starts_with('#') {
                continue;
            }
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            match rule(line, number) {
                Ok(rule) => ignore.rules.extend(rule),
                Err(reason) => diagnostics.push(Diagnostic::error("ignore-pattern", reason).at(span)),
            }
        }
        (ignore, diagnostics)
    }

    /// Reads patterns one by one: the lines of a plan's context, or `--exclude` flags. A `#` line is a comment here too.
    ///
    /// # Errors
    /// The first malformed pattern.
    pub fn from_patterns<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let mut ignore = Ignore::default();
        for (index, pattern) in patterns.into_iter().enumerate() {
            let line = pattern.as_ref();
            if !line.starts_with('#') {
                ignore.rules.extend(rule(line, u32::try_from(index + 1).unwrap_or(u32::MAX))?);
            }
        }
        Ok(ignore)
    }

    /// True when nothing is excluded.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path (relative, with `/`, without `.` and `..`) is left out: by itself or because it lies in a directory that is.
    pub fn excluded(&self, path: &str) -> bool {
        self.deciding_line(path).is_some_and(|(_, excluded)| excluded)
    }

    /// The line (from 1) that decides about a path, and whether it excludes it. `None` when no line is about it.
    pub fn deciding_line(&self, path: &str) -> Option<(u32, bool)> {
        let path = path.trim_matches('/');
        if path.is_empty() || path == "." {
            return None;
        }
        if !self.rules.iter().any(|rule| rule.negated) {
            return self.rules.iter().rev().find(|rule| rule.matcher.covers(path)).map(|rule| (rule.line, true));
        }
        let rule = &self.rules[self.deciding_rule(path)?];
        Some((rule.line, !rule.negated))
    }

    /// With `!` lines, as BuildKit does it: a line counts for what is below a directory only if it counted for the directory, and it is asked only where it would
    /// change what the lines before it say. So `a/**` and then `!**/a` leaves the content of `a` out: `a` itself was not left out when the second line came.
    fn deciding_rule(&self, path: &str) -> Option<usize> {
        let mut counted = vec![false; self.rules.len()];
        let mut deciding = None;
        for part in ancestors(path) {
            let mut excluded = false;
            deciding = None;
            for (number, rule) in self.rules.iter().enumerate() {
                if !counted[number] && (rule.negated != excluded || !rule.matcher.matches(part)) {
                    continue;
                }
                counted[number] = true;
                excluded = !rule.negated;
                deciding = Some(number);
            }
        }
        deciding
    }

    /// Whether an excluded directory must still be walked because a `!` line could bring back something below it.
    pub fn may_reinclude_below(&self, directory: &str) -> bool {
        let directory = directory.trim_matches('/');
        let below = |inner: &str, outer: &str| outer.is_empty() || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        self.rules.iter().any(|rule| {
            let literal = matches!(rule.matcher, Matcher::Exact(_));
            rule.negated && (below(&rule.prefix, directory) || (!literal && below(directory, &rule.prefix)))
        })
    }
}

/// One line: `None` when it is blank, an error in one sentence when it is malformed.
fn rule(line: &str, number: u32) -> Result<Option<Rule>, String> {
    let line = line.trim();
    let (negated, pattern) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    if pattern.is_empty() {
        return if negated { Err("illegal exclusion pattern: \"!\"".to_owned()) } else { Ok(None) };
    }
    let cleaned = clean_path(pattern);
    let cleaned = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
    let compiled = Pattern::deep(cleaned).map_err(|error| error.to_string())?;
    let prefix = compiled.literal_prefix();
    let plain = |text: &str| !text.contains(['*', '?', '[', '\\']);
    let matcher = if let Some(literal) = compiled.literal() {
        Matcher::Exact(literal)
    } else if let Some(directory) = cleaned.strip_suffix("/**").filter(|directory| plain(directory)) {
        Matcher::Below(directory.to_owned())
    } else if let Some(suffix) = cleaned.strip_prefix("**").filter(|suffix| plain(suffix)) {
        Matcher::Suffix(suffix.to_owned())
    } else {
        Matcher::Pattern(compiled)
    };
    Ok(Some(Rule { negated, matcher, line: number, prefix }))
}

impl Matcher {
    /// Whether it matches the path itself.
    fn matches(&self, path: &str) -> bool {
        match self {
            Matcher::Exact(exact) => path == exact,
            Matcher::Below(directory) => path.strip_prefix(directory.as_str()).is_some_and(|rest| rest.starts_with('/')),
            Matcher::Suffix(suffix) => path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path),
            Matcher::Pattern(pattern) => pattern.matches(path),
        }
    }

    /// Whether it matches the path or a directory that the path lies in.
    fn covers(&self, path: &str) -> bool {
        match self {
            Matcher::Exact(exact) => path.strip_prefix(exact.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Matcher::Below(directory) => path.strip_prefix(directory.as_str()).is_some_and(|rest| rest.starts_with('/')),
            Matcher::Suffix(suffix) => ancestors(path).any(|part| part.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(part)),
            Matcher::Pattern(pattern) => pattern.covers(path),
        }
    }
}

/// `a`, `a/b`, `a/b/c` of `a/b/c`.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain(std::iter::once(path))
}

#[cfg(test)]
mod tests {
    use super::Ignore;

    fn excluded(lines: &str, path: &str) -> bool {
        let (ignore, diagnostics) = Ignore::parse(lines);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        ignore.excluded(path)
    }

    #[test]
    fn decides_as_the_builder_does() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("foo", &["foo", "foo/a/b"], &["a/foo", "food", "Foo"]),
            ("/foo", &["foo"], &["a/foo"]),
            ("./foo", &["foo"], &["a/foo"]),
            ("//foo", &["foo"], &[]),
            ("foo/", &["foo", "foo/x"], &[]),
            ("**/foo", &["foo", "a/foo", "a/b/foo/c"], &["afoo", "foo2"]),
            ("dir", &["dir", "dir/a"], &["dirt"]),
            ("dir/**", &["dir/a", "dir/a/b"], &["dir"]),
            ("dir/*", &["dir/a", "dir/a/b"], &["dir"]),
            ("dir/**/*", &["dir/a", "dir/a/b"], &["dir"]),
            ("dir\n!dir/sub/bar", &["dir/a", "dir/sub", "dir/sub/x"], &["dir/sub/bar", "dir/sub/bar/y"]),
            ("dir/**\n!dir/sub/bar", &["dir/a"], &["dir/sub/bar"]),
            ("*", &["a", ".a", "a/b"], &[]),
            ("**", &["a", ".a", "a/b"], &[]),
            ("*\n!src\nsrc/*.o", &["a", "src/x.o"], &["src", "src/x.c", "src/deep/x.o"]),
            ("  foo  ", &["foo"], &[]),
            ("# foo\nbar", &["bar"], &["foo", "# foo"]),
            ("\u{feff}foo\r\nbar\r\n", &["foo", "bar"], &["foo\r"]),
            ("a/../b", &["b"], &["a"]),
            ("../foo", &[], &["foo"]),
            (".", &[], &["a"]),
            ("d**r", &["dr", "dx/r"], &["dir"]),
            ("! foo", &[], &["foo"]),
            ("foo\n! foo", &[], &["foo"]),
            ("**/*.go", &["x.go", "a/b/x.go"], &["x.gox"]),
            ("**.go", &["x.go", "a/b/x.go"], &["go"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b/c"], &["a/bc", "xa/b"]),
            ("*/temp*", &["a/temp", "a/temporary/x"], &["temp", "a/b/temp"]),
            ("a.c", &["a.c"], &["abc"]),
            ("a/**\n!**/a", &["a/e", "a/g/h"], &["a", "b"]),
            ("*\n!a/b\na", &["a", "a/c"], &["a/b", "a/b/c"]),
            ("a\n!**/a\na/b", &["a/b", "a/b/c"], &["a", "a/c", "a/c/d"]),
            ("**/e\n!d\n!**/x", &["e", "d/e", "d/e/y"], &["d", "d/y", "e/x", "d/e/x/z"]),
            ("a?", &["ab"], &["a", "a/b"]),
            ("[a-c]x", &["ax", "cx/y"], &["dx"]),
            ("\\!x", &["!x"], &["x"]),
        ];
        for (lines, yes, no) in cases {
            for path in *yes {
                assert!(excluded(lines, path), "{lines:?} excludes {path}");
            }
            for path in *no {
                assert!(!excluded(lines, path), "{lines:?} keeps {path}");
            }
        }
    }

    #[test]
    fn malformed_lines_are_reported_in_place() {
        let (ignore, diagnostics) = Ignore::parse("ok\n!\n[\n");
        let messages: Vec<_> = diagnostics.iter().map(|finding| (finding.message.as_str(), finding.span.map(|span| span.start))).collect();
        assert_eq!(messages, [("illegal exclusion pattern: \"!\"", Some(3)), ("`[`: syntax error in pattern", Some(5))]);
        assert!(ignore.excluded("ok"));
        assert!(Ignore::from_patterns(["["]).is_err());
    }

    #[test]
    fn knows_where_it_must_still_look() {
        let (ignore, _) = Ignore::parse("dir\nother\n!dir/sub/bar\n");
        assert!(ignore.may_reinclude_below("dir") && ignore.may_reinclude_below("dir/sub"));
        assert!(!ignore.may_reinclude_below("other") && !ignore.may_reinclude_below("dir/else"));
        let (deep, _) = Ignore::parse("*\n!**/*.md\n");
        assert!(deep.may_reinclude_below("any/where"));
        assert_eq!(deep.deciding_line("a.md"), Some((2, false)));
        assert_eq!(deep.deciding_line("a.txt"), Some((1, true)));
        assert_eq!(Ignore::default().deciding_line("a"), None);
    }
}
