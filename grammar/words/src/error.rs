//! Why a word cannot be read.

use pest::RuleType;
use pest::error::{Error, InputLocation};

/// Text that is not a word of the language it was read as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {language}: {reason}")]
pub struct WordError {
    /// The language with its article: `an image reference`.
    pub language: &'static str,
    /// The whole text.
    pub text: String,
    /// What was found and what was expected.
    pub reason: String,
    /// Byte offset in the text at which it went wrong.
    pub offset: usize,
}

impl WordError {
    pub(crate) fn new(language: &'static str, text: &str, offset: usize, reason: impl Into<String>) -> Self {
        WordError { language, text: text.to_owned(), reason: reason.into(), offset }
    }

    /// Words a grammar's error: `expected` says what a right text looks like.
    pub(crate) fn from_pest<R: RuleType>(language: &'static str, text: &str, error: &Error<R>, expected: &str) -> Self {
        let offset = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
        };
        let found = match text.get(offset..).and_then(|rest| rest.chars().next()) {
            Some(found) => format!("unexpected `{found}` at position {}", text[..offset].chars().count() + 1),
            None if text.is_empty() => "it is empty".to_owned(),
            None => "it ends too early".to_owned(),
        };
        WordError::new(language, text, offset, format!("{found}; expected {expected}"))
    }
}
