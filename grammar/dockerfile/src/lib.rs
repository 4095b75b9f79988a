//! Dockerfiles as trees with spans; variable expansion; ignore files and path patterns.
//!
//! [`parse`] makes three passes: physical lines become logical ones (`lines.rs`: directives, comments, continuations, heredocs), a pest grammar parts keyword, flags and arguments
//! (`dockerfile.pest`), and each keyword's arguments become a typed [`Command`]. It never fails: what is wrong is reported, and an instruction that makes no sense is
//! [`Command::Invalid`]. Nothing is expanded or resolved here; [`expand`](expand()) does it a word at a time for whoever knows the variables.

mod arguments;
mod ast;
mod checks;
mod expand;
mod flags;
mod glob;
mod grammar;
mod heredoc;
mod ignore;
mod lines;
mod substitution;

pub use arguments::KEYWORDS;
pub use ast::{
    Argument, Command, CommandLine, Copy, Directives, File, From, Healthcheck, Heredoc, Instruction, Mount, Onbuild, Pair, Pairs, Run, Source, Text,
};
pub use expand::{ExpandError, Expanded, expand, expand_heredoc, expand_words};
pub use glob::{BadPattern, Pattern, clean_path, glob_match, has_wildcard};
pub use ignore::Ignore;

use strake_source::{Diagnostic, FileId, Span};

/// Reads a Dockerfile. The findings are in the order of the file; among them are the build checks that need nothing but the file.
pub fn parse(file: FileId, text: &str) -> (File, Vec<Diagnostic>) {
    parse_checked(file, text, None)
}

/// The same, where `check` takes the place of what `# check=` says (the build argument BUILDKIT_DOCKERFILE_CHECK).
pub fn parse_checked(file: FileId, text: &str, check: Option<&str>) -> (File, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut tree = read(file, text, None, &mut diagnostics);
    if let Some(check) = check {
        tree.directives.check = Some(Text::new(check.to_owned(), Span::new(file, 0, 0)));
    }
    check_shape(&tree, text, &mut diagnostics);
    checks::run(&tree, &mut diagnostics);
    let mut diagnostics: Vec<Diagnostic> = diagnostics.into_iter().filter_map(|finding| tree.judge(finding)).collect();
    diagnostics.sort_by_key(|finding| finding.span.map(|span| span.start));
    (tree, diagnostics)
}

/// Reads instructions without a FROM: an image's ONBUILD triggers. The escape character is the one of the file that is being built.
pub fn parse_fragment(file: FileId, text: &str, escape: char) -> (Vec<Instruction>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let tree = read(file, text, Some(escape), &mut diagnostics);
    (tree.instructions, diagnostics)
}

fn read(file: FileId, text: &str, escape: Option<char>, diagnostics: &mut Vec<Diagnostic>) -> File {
    let scanned = lines::scan(file, text, escape, diagnostics);
    let escape = scanned.directives.escape;
    let instructions = scanned.lines.iter().filter_map(|line| arguments::instruction(line, escape, diagnostics)).collect();
    File { file, directives: scanned.directives, instructions }
}

/// A Dockerfile has a FROM, and only ARGs before it.
fn check_shape(tree: &File, text: &str, diagnostics: &mut Vec<Diagnostic>) {
    let whole = Span::new(tree.file, 0, 0);
    if text.is_empty() {
        diagnostics.push(Diagnostic::error("dockerfile-empty", "the Dockerfile cannot be empty").at(whole));
        return;
    }
    if tree.instructions.is_empty() {
        diagnostics.push(Diagnostic::error("dockerfile-empty", "file with no instructions").at(whole));
        return;
    }
    let is_from = |instruction: &&Instruction| matches!(instruction.command, Command::From(_)) || instruction.keyword.value.eq_ignore_ascii_case("FROM");
    let before = tree.instructions.iter().take_while(|instruction| !is_from(instruction));
    let misplaced = before.clone().find(|instruction| !matches!(instruction.command, Command::Arg(_) | Command::Invalid));
    if let Some(misplaced) = misplaced {
        let finding = Diagnostic::error("no-stage", "no build stage in current context: only ARG may stand before the first FROM");
        diagnostics.push(finding.at(misplaced.keyword.span).help("begin with FROM"));
    } else if !tree.instructions.iter().any(|instruction| is_from(&instruction)) && !diagnostics.iter().any(Diagnostic::is_error) {
        let finding = Diagnostic::error("no-stage", "the file has no build stage: it needs a FROM");
        diagnostics.push(finding.at(tree.instructions[tree.instructions.len() - 1].span));
    }
}
