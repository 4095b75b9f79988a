//! Source files, spans and diagnostics: what every parser and checker of strake speaks in.
//!
//! A [`Span`] is a byte range of one file of a [`Sources`]; a [`Diagnostic`] says what was found and expected, where,
//! and how to mend it. Nothing here reads files: the caller brings the text.

mod diagnostic;
mod file;
mod nearest;
mod redact;
mod render;

pub use diagnostic::{Code, Diagnostic, Label, Severity};
pub use file::{FileId, LineColumn, Plain, Secret, SourceFile, Sources, Span, Spanned};
pub use nearest::nearest;
pub use redact::CONCEALED;
pub use render::{Style, render};
