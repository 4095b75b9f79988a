//! All build checks of dockerfile.md 1.8, each found, skipped and made an error.

use strake_dockerfile::parse;
use strake_source::{Diagnostic, FileId};
use strake_stages::lower;

use crate::bases::{all, configure, request};

/// The check, a Dockerfile that it finds something in, and the request.
const CHECKS: [(&str, &str, &str); 22] = [
    ("StageNameCasing", "FROM busybox AS Build\n", ""),
    ("FromAsCasing", "FROM busybox as build\n", ""),
    ("NoEmptyContinuation", "FROM busybox\nRUN a \\\n\n  b\n", ""),
    ("ConsistentInstructionCasing", "FROM busybox\nRUN a\nrun b\n", ""),
    ("DuplicateStageName", "FROM busybox AS a\nFROM busybox AS a\n", ""),
    ("ReservedStageName", "FROM busybox AS context\n", ""),
    ("JSONArgsRecommended", "FROM busybox\nCMD a\n", ""),
    ("MaintainerDeprecated", "FROM busybox\nMAINTAINER me\n", ""),
    ("UndefinedArgInFrom", "FROM busybox$TAGG\n", ""),
    ("WorkdirRelativePath", "FROM busybox\nWORKDIR a\n", ""),
    ("UndefinedVar", "FROM busybox\nENV A=$NOBODY\n", ""),
    ("MultipleInstructionsDisallowed", "FROM busybox\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]\n", ""),
    ("LegacyKeyValueFormat", "FROM busybox\nENV a b\n", ""),
    ("InvalidBaseImagePlatform", "FROM --platform=$BUILDPLATFORM configured:1\n", ""),
    ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM busybox\n", ""),
    ("SecretsUsedInArgOrEnv", "FROM busybox\nARG API_TOKEN\n", ""),
    ("InvalidDefaultArgInFrom", "ARG TAG\nFROM busybox:$TAG\n", "arg TAG=latest"),
    ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/amd64 busybox\n", ""),
    ("CopyIgnoredFile", "FROM busybox\nCOPY secret /\n", "ignore secret"),
    ("InvalidDefinitionDescription", "# whatever it is\nARG A=1\nFROM busybox\n", ""),
    ("ExposeProtoCasing", "FROM busybox\nEXPOSE 80/TCP\n", ""),
    ("ExposeInvalidFormat", "FROM busybox\nEXPOSE 127.0.0.1:80:80\n", ""),
];

fn findings(directive: &str, text: &str, lines: &str) -> Vec<Diagnostic> {
    let text = format!("{directive}\n{text}");
    let (_, mut found) = parse(FileId(0), &text);
    let (mut asked, _) = request(&text);
    configure(&mut asked, lines);
    let mut bases = all();
    // For InvalidBaseImagePlatform: an image that is not for what was asked.
    let other = bases["docker.io/library/configured:1"].clone();
    bases.insert("docker.io/library/configured:1 linux/arm64".to_owned(), other);
    found.extend(lower(&asked, &bases).1);
    found
}

fn found<'f>(findings: &'f [Diagnostic], check: &str) -> Option<&'f Diagnostic> {
    findings.iter().find(|finding| finding.code.0 == check)
}

#[test]
fn each_is_found_skipped_and_made_an_error() {
    for (check, text, lines) in CHECKS {
        let experimental = if check == "InvalidDefinitionDescription" { format!("experimental={check};") } else { String::new() };
        let plain = findings(&format!("# check={experimental}skip=none"), text, lines);
        let finding = found(&plain, check).unwrap_or_else(|| panic!("{check}: {plain:?}"));
        assert!(!finding.is_error() && finding.span.is_some(), "{check} has a place");
        for skip in [check, &check.to_lowercase(), &format!("Other,{check}"), "all"] {
            assert!(found(&findings(&format!("# check={experimental}skip={skip}"), text, lines), check).is_none(), "{check} skipped by {skip}");
        }
        let strict = findings(&format!("# check={experimental}error=true"), text, lines);
        assert!(found(&strict, check).is_some_and(Diagnostic::is_error), "{check} as an error");
        let both = findings(&format!("# check={experimental}skip={check};error=true"), text, lines);
        assert!(found(&both, check).is_none(), "{check} skipped among errors");
    }
    assert!(found(&findings("", CHECKS[19].1, ""), CHECKS[19].0).is_none(), "an experimental one is off");
}

#[test]
fn a_comment_above_an_instruction_skips_for_it_alone() {
    let text = "FROM busybox\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n";
    let all = findings("# check=skip=none", text, "");
    let lines: Vec<_> = all.iter().filter(|finding| finding.code.0 == "LegacyKeyValueFormat").collect();
    assert_eq!(lines.len(), 1);
}

/// CopyIgnoredFile says nothing when a line brings files back.
#[test]
fn an_ignore_file_with_exceptions_is_not_guessed_at() {
    let text = "FROM busybox\nCOPY secret /\n";
    assert!(found(&findings("", text, "ignore secret\nignore !secret/but"), "CopyIgnoredFile").is_none());
}
