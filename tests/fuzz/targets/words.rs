//! Words of Dockerfiles, patterns of ignore files, globs: they expand or say why not, within bounds, and match the same twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strake_dockerfile::{Ignore, Pattern, clean_path, expand, expand_heredoc, expand_words, glob_match};

/// What one variable may hold; an expansion has at most one a byte of its word, and a replacement one a byte of a value.
const VALUE: &str = "a/b*c.d'\"\\$x";

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lookup = |name: &str| match name {
        "unset" | "u" => None,
        "empty" | "e" => Some(String::new()),
        _ => Some(VALUE.to_owned()),
    };
    for escape in ['\\', '`'] {
        let one = expand(text, &lookup, escape);
        assert_eq!(one, expand(text, &lookup, escape));
        if let Ok((words, _)) = expand_words(text, &lookup, escape) {
            // A value may itself be split, so there are more words than blanks; none is lost.
            assert!(words.iter().map(String::len).sum::<usize>() <= one.map_or(usize::MAX, |one| one.text.len()));
        }
    }
    let _ = expand_heredoc(text, &lookup);

    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (ignore, _) = Ignore::parse(rest);
    let path = clean_path(first);
    assert_eq!(clean_path(&path), path, "cleaning twice is cleaning once");
    let excluded = ignore.excluded(&path);
    assert_eq!(excluded, ignore.deciding_line(&path).is_some_and(|(_, excluded)| excluded));
    let _ = ignore.may_reinclude_below(&path);
    let _ = glob_match(rest, &path);
    for pattern in [Pattern::path(rest), Pattern::deep(rest)].into_iter().flatten() {
        if pattern.matches(&path) {
            assert!(pattern.covers(&path), "what matches is covered: {rest:?} {path:?}");
        }
        if let Some(literal) = pattern.literal() {
            assert!(literal.starts_with(&pattern.literal_prefix()));
        }
    }
});
