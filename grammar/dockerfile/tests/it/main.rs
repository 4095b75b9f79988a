//! Golden cases (`UPDATE_GOLDEN=1` writes them anew) and properties.

#![expect(clippy::disallowed_methods, reason = "golden cases are folders of files")]

mod golden;

use proptest::prelude::*;
use strake_dockerfile::{Command, expand, parse, parse_fragment};
use strake_source::FileId;

fn check(text: &str) {
    let (file, diagnostics) = parse(FileId(0), text);
    for finding in &diagnostics {
        let span = finding.span.expect("every finding has a place");
        assert!(text.get(span.start as usize..span.end as usize).is_some(), "{finding:?}");
    }
    for instruction in &file.instructions {
        let shown = text.get(instruction.keyword.span.start as usize..instruction.keyword.span.end as usize);
        // A keyword may be continued on the next line; otherwise its span is exactly it.
        assert!(shown.is_some_and(|shown| shown == instruction.keyword.value || shown.contains('\n')), "{instruction:?}");
        assert!(text.get(instruction.span.start as usize..instruction.span.end as usize).is_some());
        if instruction.command == Command::Invalid {
            assert!(diagnostics.iter().any(strake_source::Diagnostic::is_error), "{instruction:?} is invalid without a reason");
        }
    }
}

/// dockerfile.md L1.
#[test]
fn long_lines_are_told() {
    let line = |length: usize| format!("FROM a\nRUN {}\n", "x".repeat(length));
    let found = |text: &str| parse(FileId(0), text).1.iter().any(|finding| finding.code.0 == "long-line");
    assert!(found(&line(65_536)) && !found(&line(65_000)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "[ A-Z<>\\-=$\\[\\]\"'\\\\`#\n\r\t{},:/é0a]{0,80}") {
        check(&text);
    }

    #[test]
    fn no_arguments_make_the_parser_panic(
        keyword in prop::sample::select(strake_dockerfile::KEYWORDS.to_vec()),
        rest in "[ a-zA-Z<>\\-=$\\[\\]\"'\\\\\n,:/é0]{0,40}",
        escape in prop::sample::select(vec!["", "# escape=`\n"]),
    ) {
        check(&format!("{escape}FROM a\n{keyword} {rest}\n"));
        check(&format!("{escape}FROM a\nONBUILD {keyword} --x=y {rest}\nE\n"));
        parse_fragment(FileId(0), &format!("{keyword} {rest}"), '\\');
    }

    #[test]
    fn no_word_makes_expansion_panic(word in "[a$\\{}:+?#%/*'\"\\\\\\-é ]{0,30}") {
        let _ = expand(&word, &|name| (name == "a").then(|| "value é".to_owned()), '\\');
    }
}
