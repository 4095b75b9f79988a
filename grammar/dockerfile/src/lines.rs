//! First pass: physical lines to logical lines. Byte order mark, directives, comments, continuations, heredoc bodies.

use strake_source::{Diagnostic, FileId, Span};

use crate::ast::{Directives, Heredoc, Text};
use crate::heredoc;

/// The longest physical line that other builders read.
const LONGEST_LINE: usize = 65_535;

/// One instruction's text with the way back to the file.
#[derive(Debug)]
pub(crate) struct Logical {
    /// Continuations joined, outer blanks cut.
    pub(crate) text: String,
    /// Pairs of (offset in `text`, offset in the file): from there on, both run side by side.
    segments: Vec<(usize, usize)>,
    file: FileId,
    /// First line, from 1.
    pub(crate) line: u32,
    /// One past the last byte that belongs to it, heredocs included.
    pub(crate) end: usize,
    pub(crate) comments: Vec<Text>,
    pub(crate) heredocs: Vec<Heredoc>,
}

impl Logical {
    /// The bytes of the file that `text[start..end]` stands for.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let last = if end > start { self.physical(end - 1) + 1 } else { self.physical(start) };
        Span::new(self.file, self.physical(start), last)
    }

    /// A piece of `text` with its place. The piece must be a slice of `text`.
    pub(crate) fn text_at(&self, start: usize, end: usize) -> Text {
        Text::new(self.text[start..end].to_owned(), self.span(start, end))
    }

    /// The same line without its first `start` bytes.
    pub(crate) fn tail(&self, start: usize) -> Logical {
        let later = self.segments.iter().filter(|(logical, _)| *logical > start).map(|(logical, physical)| (logical - start, *physical));
        let segments = std::iter::once((0, self.physical(start))).chain(later).collect();
        Logical { text: self.text[start..].to_owned(), segments, heredocs: self.heredocs.clone(), comments: Vec::new(), ..*self }
    }

    fn physical(&self, offset: usize) -> usize {
        let index = self.segments.partition_point(|(logical, _)| *logical <= offset);
        let (logical, physical) = self.segments[index.max(1) - 1];
        physical + (offset - logical)
    }
}

/// What the first pass finds.
pub(crate) struct Scanned {
    pub(crate) directives: Directives,
    pub(crate) lines: Vec<Logical>,
}

/// Splits a file into logical lines.
pub(crate) fn scan(file: FileId, text: &str, escape: Option<char>, diagnostics: &mut Vec<Diagnostic>) -> Scanned {
    let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut scanner = Scanner { file, text, at, line: 0, directives: Directives::default(), escape_given: false, diagnostics };
    match escape {
        Some(escape) => scanner.directives.escape = escape,
        None => scanner.read_directives(),
    }
    let lines = scanner.logical_lines();
    Scanned { directives: scanner.directives, lines }
}

struct Scanner<'t, 'd> {
    file: FileId,
    text: &'t str,
    at: usize,
    /// Lines taken so far.
    line: u32,
    directives: Directives,
    escape_given: bool,
    diagnostics: &'d mut Vec<Diagnostic>,
}

/// A physical line without its end.
#[derive(Clone, Copy)]
struct Physical<'t> {
    text: &'t str,
    start: usize,
    /// Behind its line end.
    next: usize,
}

impl<'t> Scanner<'t, '_> {
    fn peek(&self) -> Option<Physical<'t>> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return None;
        }
        let (line, next) = rest.find('\n').map_or((rest, self.text.len()), |end| (&rest[..end], self.at + end + 1));
        Some(Physical { text: line.strip_suffix('\r').unwrap_or(line), start: self.at, next })
    }

    fn next(&mut self) -> Option<Physical<'t>> {
        let line = self.peek()?;
        self.at = line.next;
        self.line += 1;
        if line.text.len() > LONGEST_LINE {
            let span = Span::new(self.file, line.start, line.start + line.text.floor_char_boundary(80));
            self.diagnostics
                .push(Diagnostic::warning("long-line", format!("this line is longer than {LONGEST_LINE} bytes: other builders refuse it")).at(span));
        }
        Some(line)
    }

    fn read_directives(&mut self) {
        let first = self.peek().map(|line| line.text);
        if first.is_some_and(|text| text.starts_with("#!")) {
            self.next();
        }
        while let Some(line) = self.peek() {
            if !self.directive(line) {
                return;
            }
            self.next();
        }
    }

    /// Takes a directive line; false when it is none, which ends them.
    fn directive(&mut self, line: Physical<'t>) -> bool {
        let Some(comment) = line.text.trim_start().strip_prefix('#') else { return false };
        let Some((name, value)) = comment.split_once('=') else { return false };
        let (name, value) = (name.trim().to_lowercase(), value.trim());
        let start = line.start + line.text.rfind(value).unwrap_or(0);
        let value = Text::new(value.to_owned(), Span::new(self.file, start, start + value.len()));
        let repeated = match name.as_str() {
            "syntax" => self.directives.syntax.replace(value).is_some(),
            "check" => self.directives.check.replace(value).is_some(),
            "escape" => match value.value.as_str() {
                "\\" | "`" => {
                    self.directives.escape = if value.value == "`" { '`' } else { '\\' };
                    std::mem::replace(&mut self.escape_given, true)
                }
                _ => {
                    let finding = Diagnostic::error("directive", format!("escape `{}` must be \\ or `", value.value));
                    self.diagnostics.push(finding.at(value.span));
                    false
                }
            },
            _ => return false,
        };
        if repeated {
            let span = Span::new(self.file, line.start, line.start + line.text.len());
            self.diagnostics.push(Diagnostic::error("directive", format!("only one {name} parser directive can be used")).at(span));
        }
        true
    }

    fn logical_lines(&mut self) -> Vec<Logical> {
        let mut lines = Vec::new();
        let mut comments = Vec::new();
        while let Some(physical) = self.next() {
            let trimmed = physical.text.trim();
            if let Some(comment) = trimmed.strip_prefix('#') {
                let start = physical.start + physical.text.find('#').unwrap_or(0);
                comments.push(Text::new(comment.trim().to_owned(), Span::new(self.file, start, start + trimmed.len())));
            } else if trimmed.is_empty() {
                comments.clear();
            } else {
                lines.push(self.logical(physical, std::mem::take(&mut comments)));
            }
        }
        lines
    }

    fn logical(&mut self, first: Physical<'t>, comments: Vec<Text>) -> Logical {
        let line = self.line;
        let mut end = first.start + first.text.trim_end().len();
        let indent = first.text.len() - first.text.trim_start().len();
        let mut segments = vec![(0, first.start + indent)];
        let (body, mut continues) = self.split_continuation(&first.text[indent..]);
        let mut text = body.to_owned();
        let mut blank: Option<Span> = None;
        while continues {
            let Some(next) = self.next() else { break };
            let trimmed = next.text.trim();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                blank.get_or_insert(Span::new(self.file, next.start, next.start));
                continue;
            }
            segments.push((text.len(), next.start));
            let (body, more) = self.split_continuation(next.text);
            text.push_str(body);
            end = next.start + next.text.trim_end().len();
            continues = more;
        }
        text.truncate(text.trim_end().len());
        if let Some(span) = blank {
            let finding = Diagnostic::warning("NoEmptyContinuation", "an empty line inside a continued instruction");
            self.diagnostics.push(finding.at(span).help("remove the empty line: later versions of the language refuse it"));
        }
        let mut logical = Logical { text, segments, file: self.file, line, end, comments, heredocs: Vec::new() };
        self.read_heredocs(&mut logical);
        logical
    }

    /// The line without its continuation mark, and whether it had one.
    fn split_continuation(&self, line: &'t str) -> (&'t str, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.directives.escape) {
            Some(body) if !body.ends_with(self.directives.escape) => (body, true),
            _ => (line, false),
        }
    }

    fn read_heredocs(&mut self, logical: &mut Logical) {
        for mark in heredoc::marks(&logical.text, &self.text[self.at..]) {
            let span = logical.span(mark.start, mark.end);
            let start = self.at;
            let mut terminated = None;
            while let Some(line) = self.next() {
                let candidate = if mark.chomp { line.text.trim_start_matches('\t') } else { line.text };
                if candidate == mark.name {
                    terminated = Some(line);
                    break;
                }
            }
            let body_end = terminated.map_or(self.text.len(), |line| line.start);
            if terminated.is_none() {
                let finding = Diagnostic::error("heredoc", format!("unterminated heredoc: no line is `{}`", mark.name));
                self.diagnostics.push(finding.at(span).help("the delimiter stands alone on its line, without blanks around it"));
            }
            logical.end = terminated.map_or(self.text.len(), |line| line.start + line.text.len());
            let raw = self.text[start..body_end].replace("\r\n", "\n");
            let content = if mark.chomp { heredoc::chomp(&raw) } else { raw.clone() };
            let body = Span::new(self.file, start, body_end);
            let text = logical.text[mark.start..mark.end].to_owned();
            logical.heredocs.push(Heredoc { mark: text, name: mark.name, expand: mark.expand, content, raw, span, body });
        }
    }
}
