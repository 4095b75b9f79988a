//! Files in memory and positions in them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Names one file of a [`Sources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId(pub u32);

/// A byte range `start..end` of one file. Always on UTF-8 boundaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// The file the bytes are in.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The range `start..end` of `file`. Files over 4 GiB are refused before they get here.
    pub fn new(file: FileId, start: usize, end: usize) -> Self {
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Span { file, start: clamp(start), end: clamp(end) }
    }

    /// The smallest span that covers both; `other` must be in the same file.
    pub fn to(self, other: Span) -> Span {
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Joins a value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Spanned { value, span }
    }

    /// Keeps the place, changes the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

/// A position as people count it: both start at 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LineColumn {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One file's name and text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The name to show: the path as the user would type it.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
    line_starts: Vec<u32>,
    /// What stands in it encrypted, by place; `None` for a file that was never encrypted.
    secrets: Option<Arc<[Secret]>>,
}

impl SourceFile {
    fn new(name: String, text: Arc<str>) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let after = newlines.map(|(offset, _)| u32::try_from(offset + 1).unwrap_or(u32::MAX));
        let line_starts = std::iter::once(0).chain(after).collect();
        SourceFile { name, text, line_starts, secrets: None }
    }

    /// What stands in it encrypted, in the order of places; `None` for a file that was never encrypted.
    pub fn secrets(&self) -> Option<&[Secret]> {
        self.secrets.as_deref()
    }

    /// Where the byte `offset` stands; an offset past the end is the end.
    pub fn line_column(&self, offset: u32) -> LineColumn {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1) - 1;
        let start = self.line_starts[line] as usize;
        let end = (offset as usize).min(self.text.len());
        let column = self.text.get(start..end).map_or(0, |before| before.chars().count());
        LineColumn { line: line as u32 + 1, column: column as u32 + 1 }
    }
}

/// A value that stands encrypted in a file, opened. It is shown nowhere.
#[derive(Clone, PartialEq)]
pub struct Secret {
    /// First byte of its place.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// The value.
    pub value: Plain,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({}..{})", self.start, self.end)
    }
}

/// What a secret is, as YAML has it.
#[derive(Clone, PartialEq)]
pub enum Plain {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// True or false.
    Bool(bool),
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Plain {
    /// As it is written.
    pub fn to_text(&self) -> String {
        match self {
            Plain::Text(text) => text.clone(),
            Plain::Int(number) => number.to_string(),
            Plain::Float(number) => number.to_string(),
            Plain::Bool(flag) => flag.to_string(),
        }
    }
}

/// All files of one compilation.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
}

impl Sources {
    /// Takes a file in and names it.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(SourceFile::new(name.into(), text.into()));
        id
    }

    /// Takes in a file that is encrypted, with what stands in it, by place.
    pub fn add_sealed(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>, secrets: &[Secret]) -> FileId {
        let id = self.add(name, text);
        self.files[id.0 as usize].secrets = Some(secrets.into());
        id
    }

    /// Gives the files other names.
    pub fn rename(&mut self, name: impl Fn(&str) -> String) {
        self.files.iter_mut().for_each(|file| file.name = name(&file.name));
    }

    /// The value that is encrypted at a place.
    pub fn secret_at(&self, span: Span) -> Option<&Plain> {
        let secrets = self.files.get(span.file.0 as usize)?.secrets()?;
        let found = secrets.binary_search_by_key(&span.start, |secret| secret.start).ok()?;
        (span.end <= secrets[found].end).then(|| &secrets[found].value)
    }

    /// Every value that stands somewhere encrypted.
    pub fn secrets(&self) -> impl Iterator<Item = &Plain> {
        self.files.iter().filter_map(SourceFile::secrets).flatten().map(|secret| &secret.value)
    }

    /// The file of that name. The id must come from this collection's [`Sources::add`].
    pub fn get(&self, id: FileId) -> &SourceFile {
        &self.files[id.0 as usize]
    }

    /// Whether there is a file of that name.
    pub fn contains(&self, id: FileId) -> bool {
        (id.0 as usize) < self.files.len()
    }

    /// The text of a span.
    pub fn text(&self, span: Span) -> &str {
        self.get(span.file).text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// `file:line:column` of a span's start.
    pub fn place(&self, span: Span) -> String {
        let file = self.get(span.file);
        let at = file.line_column(span.start);
        format!("{}:{}:{}", file.name, at.line, at.column)
    }

    /// The files with their ids, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &SourceFile)> {
        self.files.iter().enumerate().map(|(index, file)| (FileId(index as u32), file))
    }
}
