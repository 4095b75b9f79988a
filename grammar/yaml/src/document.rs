//! The documents of a file.

use saphyr_parser::{Event, Parser};
use strake_source::{Diagnostic, FileId, Span};

use crate::offsets::Offsets;
use crate::tree::Builder;
use crate::{Kind, Node, json, syntax};

/// One document that is not empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its place among the documents of the file, empty ones counted, from 0.
    pub index: usize,
    /// Its content.
    pub root: Node,
}

/// Reads all documents of a file. Empty documents are left out; so are those with mistakes that leave no tree.
///
/// A file that begins with `{` is read as JSON, and as YAML when it is none.
pub fn parse(file: FileId, text: &str) -> (Vec<Document>, Vec<Diagnostic>) {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    if !text[start..].trim_start().starts_with('{') {
        return yaml(file, text, start);
    }
    match json::parse(file, text, start) {
        Ok((roots, diagnostics)) => (roots.into_iter().enumerate().map(|(index, root)| Document { index, root }).collect(), diagnostics),
        Err(mistake) => {
            let (documents, diagnostics) = yaml(file, text, start);
            let reads_as_yaml = !diagnostics.iter().any(Diagnostic::is_error);
            if reads_as_yaml { (documents, diagnostics) } else { (Vec::new(), vec![*mistake]) }
        }
    }
}

fn yaml(file: FileId, text: &str, start: usize) -> (Vec<Document>, Vec<Diagnostic>) {
    let mut builder = Builder::default();
    let mut documents = Vec::new();
    let (mut from, mut index) = (start, 0);
    // A syntax error ends the parser: the documents behind it are read by a new one.
    while let Some(error_at) = stream(file, text, from, &mut builder, &mut documents, &mut index) {
        builder.take();
        index += 1;
        match next_document(text, error_at.max(from)) {
            Some(next) => from = next,
            None => break,
        }
    }
    (documents, builder.diagnostics)
}

/// Reads documents from the byte `from` on. Returns the byte of a syntax error, which has been reported.
fn stream(file: FileId, text: &str, from: usize, builder: &mut Builder, documents: &mut Vec<Document>, index: &mut usize) -> Option<usize> {
    let part = &text[from..];
    let offsets = Offsets::new(part);
    let mut parser = Parser::new_from_str(part);
    while let Some(next) = parser.next_event() {
        match next {
            Ok((Event::DocumentEnd, _)) => {
                if let Some(root) = builder.take()
                    && root.kind != Kind::Null
                {
                    documents.push(Document { index: *index, root });
                }
                *index += 1;
            }
            Ok((Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::Nothing, _)) => {}
            Ok((event, place)) => {
                let (start, end) = (offsets.byte(place.start.index()), offsets.byte(place.end.index()));
                let end = start + part[start..end.max(start)].trim_end().len();
                builder.event(event, Span::new(file, from + start, from + end));
            }
            Err(error) => {
                let at = from + offsets.byte(error.marker().index());
                builder.diagnostics.push(syntax::complaint(file, text, at, &error));
                return Some(at);
            }
        }
    }
    None
}

/// The byte at which the next `---` line behind `at` begins.
fn next_document(text: &str, at: usize) -> Option<usize> {
    let mut from = at;
    loop {
        let found = from + text.get(from..)?.find("\n---")? + 1;
        let after = text[found + 3..].chars().next();
        if after.is_none_or(char::is_whitespace) {
            return Some(found);
        }
        from = found;
    }
}
