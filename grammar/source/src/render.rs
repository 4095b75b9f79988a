//! Diagnostics as a terminal shows them: the message, the lines in question with what is to be seen in them, and how to mend it.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet, Title};

use crate::{Diagnostic, FileId, Severity, SourceFile, Sources, Span};

/// A longer span is shown by its first line only.
const MOST_LINES: u32 = 6;

/// Whether escape codes colour the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No escape codes.
    Plain,
    /// ANSI colours.
    Coloured,
}

/// Shows each diagnostic with its snippet, in the given order, with an empty line between two. Control characters of messages and sources are made harmless.
pub fn render(sources: &Sources, diagnostics: &[Diagnostic], style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let mut out = String::new();
    for diagnostic in diagnostics {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&renderer.render(&[group(sources, diagnostic)]));
        out.push('\n');
    }
    out
}

fn group<'a>(sources: &'a Sources, diagnostic: &'a Diagnostic) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title: Title<'a> = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code.0);
    let mut group = Group::with_title(title);
    for snippet in snippets(sources, diagnostic) {
        group = group.element(snippet);
    }
    group.elements(diagnostic.help.iter().map(|help| Level::HELP.message(help.as_str())))
}

/// One snippet a file: the one of the primary span first.
fn snippets<'a>(sources: &'a Sources, diagnostic: &'a Diagnostic) -> Vec<Snippet<'a, Annotation<'a>>> {
    let primary = diagnostic.span.map(|span| (span, AnnotationKind::Primary, diagnostic.label.as_str()));
    let related = diagnostic.labels.iter().map(|label| (label.span, AnnotationKind::Context, label.message.as_str()));
    let marks: Vec<(Span, AnnotationKind, &str)> = primary.into_iter().chain(related).filter(|(span, ..)| sources.contains(span.file)).collect();
    let mut files: Vec<FileId> = Vec::new();
    for (span, ..) in &marks {
        if !files.contains(&span.file) {
            files.push(span.file);
        }
    }
    files.into_iter().map(|id| snippet(sources.get(id), marks.iter().filter(|(span, ..)| span.file == id))).collect()
}

fn snippet<'a: 'm, 'm>(file: &'a SourceFile, marks: impl Iterator<Item = &'m (Span, AnnotationKind, &'a str)>) -> Snippet<'a, Annotation<'a>> {
    let marks: Vec<(Range<usize>, AnnotationKind, &str)> = marks.map(|(span, kind, label)| (shown(file, *span), *kind, *label)).collect();
    let start = marks.iter().map(|(range, ..)| range.start).min().unwrap_or(0);
    let end = marks.iter().map(|(range, ..)| range.end).max().unwrap_or(0);
    // Only the lines in question are handed over: a manifest may have megabytes.
    let first = file.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let last = file.text[end..].find('\n').map_or(file.text.len(), |newline| end + newline);
    let line = file.line_column(u32::try_from(first).unwrap_or(u32::MAX)).line as usize;
    let annotations = marks.into_iter().map(|(range, kind, label)| {
        let annotation = kind.span(range.start - first..range.end - first);
        if label.is_empty() { annotation } else { annotation.label(label) }
    });
    Snippet::source(&file.text[first..last]).path(file.name.as_str()).line_start(line).annotations(annotations)
}

/// The bytes to underline: within the text, and of a long span its first line.
fn shown(file: &SourceFile, span: Span) -> Range<usize> {
    let start = file.text.floor_char_boundary(span.start as usize);
    let end = file.text.floor_char_boundary(span.end as usize).max(start);
    if file.line_column(span.end).line.saturating_sub(file.line_column(span.start).line) < MOST_LINES {
        return start..end;
    }
    let line = file.text[start..].find('\n').map_or(end, |newline| start + newline);
    start..line.min(end)
}

#[cfg(test)]
mod tests {
    use super::{Style, render};
    use crate::{Diagnostic, Sources, Span};

    #[test]
    fn shows_the_lines_and_what_is_in_them() {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", "metadata:\n  name: a\n  labels: {}\n\n\n\n  name: ü\n");
        let duplicate = Diagnostic::error("duplicate-key", "key `name` is written twice").at(Span::new(file, 38, 42)).label("again here");
        let duplicate = duplicate.related(Span::new(file, 12, 16), "first here").help("remove one of them");
        let bare = Diagnostic::warning("nothing", "no place");
        let expected = "\
error[duplicate-key]: key `name` is written twice
 --> a.yaml:7:3
  |
2 |   name: a
  |   ---- first here
...
7 |   name: ü
  |   ^^^^ again here
  |
  = help: remove one of them

warning[nothing]: no place
";
        assert_eq!(render(&sources, &[duplicate, bare], Style::Plain), expected);
    }

    #[test]
    fn survives_spans_at_and_past_the_end() {
        let mut sources = Sources::default();
        let file = sources.add("f", "a\nb");
        for (start, end) in [(3, 3), (0, 0), (9, 12), (1, 2)] {
            let text = render(&sources, &[Diagnostic::error("x", "y").at(Span::new(file, start, end))], Style::Plain);
            assert!(text.contains("--> f:"), "{text}");
        }
        let empty = sources.add("empty", "");
        assert!(render(&sources, &[Diagnostic::error("x", "y").at(Span::new(empty, 0, 0))], Style::Plain).contains("error[x]: y"));
        let unknown = Span::new(crate::FileId(99), 0, 1);
        assert_eq!(render(&sources, &[Diagnostic::error("x", "y").at(unknown)], Style::Plain), "error[x]: y\n");
    }

    #[test]
    fn escape_codes_come_only_from_the_style() {
        let mut sources = Sources::default();
        let file = sources.add("f", "\u{1b}[31mred\n");
        let finding = [Diagnostic::error("x", "a \u{1b}[0m b").at(Span::new(file, 5, 8))];
        assert!(!render(&sources, &finding, Style::Plain).contains('\u{1b}'));
        assert!(render(&sources, &finding, Style::Coloured).contains('\u{1b}'));
    }
}
