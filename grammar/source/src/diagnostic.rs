//! What a parser or checker has to say, and where.

use crate::Span;

/// A stable name of one kind of finding, such as `unknown-field` or `StageNameCasing`. `strake explain CODE` shows its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub &'static str);

/// How bad a finding is. Only [`Severity::Error`] stops a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong; good to know.
    Note,
    /// Works, but likely not as meant.
    Warning,
    /// Cannot work.
    Error,
}

/// A second place that belongs to a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is to be seen there.
    pub message: String,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its stable name.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What was found and what was expected, in one sentence without a final stop.
    pub message: String,
    /// Where; `None` when it is about the whole input.
    pub span: Option<Span>,
    /// A few words under the primary span.
    pub label: String,
    /// Related places.
    pub labels: Vec<Label>,
    /// How to mend it, one line each.
    pub help: Vec<String>,
}

impl Diagnostic {
    fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Diagnostic { code: Code(code), severity, message, span: None, label: String::new(), labels: Vec::new(), help: Vec::new() }
    }

    /// A finding that stops the plan.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A finding that does not.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Good to know.
    pub fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message)
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// A few words to stand under the primary span.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }

    /// Adds a related place.
    #[must_use]
    pub fn related(mut self, span: Span, message: impl Into<String>) -> Self {
        self.labels.push(Label { span, message: message.into() });
        self
    }

    /// Adds a line that says how to mend it.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// True when it stops the plan.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
