//! JSON (RFC 8259) with spans: YAML's grammar refuses some of it (tabs, surrogate pairs).

use strake_source::{Diagnostic, FileId, Span, Spanned};

use crate::tree::repeated_keys;
use crate::{Kind, MAX_DEPTH, Node};

/// Reads one or more JSON values, which may be parted by `---` lines. The first mistake ends it.
pub(crate) fn parse(file: FileId, text: &str, start: usize) -> Result<(Vec<Node>, Vec<Diagnostic>), Box<Diagnostic>> {
    let mut reader = Reader { file, text, at: start, diagnostics: Vec::new() };
    let mut values = Vec::new();
    loop {
        reader.blank();
        while reader.text[reader.at..].starts_with("---") {
            reader.at += 3;
            reader.blank();
        }
        if reader.at == text.len() {
            return Ok((values, reader.diagnostics));
        }
        values.push(reader.value(0)?);
    }
}

struct Reader<'t> {
    file: FileId,
    text: &'t str,
    at: usize,
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn blank(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn span(&self, start: usize) -> Span {
        Span::new(self.file, start, self.at)
    }

    fn wrong(&self, expected: &str) -> Box<Diagnostic> {
        let found = self.text[self.at..].chars().next();
        let shown = found.map_or("the file ends".to_owned(), |found| format!("found `{found}`"));
        let span = Span::new(self.file, self.at, self.at + found.map_or(0, char::len_utf8));
        Box::new(Diagnostic::error("json-syntax", format!("not valid JSON: {shown}, expected {expected}")).at(span))
    }

    fn value(&mut self, depth: usize) -> Result<Node, Box<Diagnostic>> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => {
                let span = Span::new(self.file, start, start + 1);
                return Err(Box::new(Diagnostic::error("yaml-depth", format!("nested deeper than {MAX_DEPTH} levels")).at(span)));
            }
            Some(b'{') => Kind::Mapping(self.mapping(depth + 1)?),
            Some(b'[') => Kind::Sequence(self.sequence(depth + 1)?),
            Some(b'"') => Kind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.literal()?,
        };
        Ok(Node { span: self.span(start), kind })
    }

    fn literal(&mut self) -> Result<Kind, Box<Diagnostic>> {
        for (word, kind) in [("true", Kind::Bool(true)), ("false", Kind::Bool(false)), ("null", Kind::Null)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(kind);
            }
        }
        Err(self.wrong("a value"))
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<(Spanned<String>, Node)>, Box<Diagnostic>> {
        self.at += 1;
        let mut entries = Vec::new();
        self.blank();
        if self.eat(b'}') {
            return Ok(entries);
        }
        loop {
            self.blank();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.wrong("a key in double quotes"));
            }
            let key = self.string()?;
            let key = Spanned::new(key, self.span(start));
            self.blank();
            if !self.eat(b':') {
                return Err(self.wrong("`:`"));
            }
            self.blank();
            entries.push((key, self.value(depth)?));
            self.blank();
            if self.eat(b'}') {
                break;
            }
            if !self.eat(b',') {
                return Err(self.wrong("`,` or `}`"));
            }
        }
        for (again, first) in repeated_keys(&entries).unwrap_or_default() {
            let (key, first) = (&entries[again].0, entries[first].0.span);
            let finding = Diagnostic::error("yaml-duplicate-key", format!("key `{}` is written twice in this mapping", key.value));
            self.diagnostics.push(finding.at(key.span).label("again here").related(first, "first here"));
        }
        Ok(entries)
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, Box<Diagnostic>> {
        self.at += 1;
        let mut items = Vec::new();
        self.blank();
        if self.eat(b']') {
            return Ok(items);
        }
        loop {
            self.blank();
            items.push(self.value(depth)?);
            self.blank();
            if self.eat(b']') {
                return Ok(items);
            }
            if !self.eat(b',') {
                return Err(self.wrong("`,` or `]`"));
            }
        }
    }

    fn number(&mut self) -> Result<Kind, Box<Diagnostic>> {
        let start = self.at;
        let rest = &self.text[start..];
        let length = rest.bytes().take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)).count();
        // The standard rules of JSON numbers: serde_json is the judge.
        let Ok(number) = serde_json::from_str::<serde_json::Number>(&rest[..length]) else { return Err(self.wrong("a number")) };
        self.at += length;
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        match (whole, number.as_f64()) {
            (Some(whole), _) => Ok(Kind::Int(whole)),
            (None, Some(float)) if float.is_finite() => Ok(Kind::Float(float)),
            _ => Err(Box::new(Diagnostic::error("json-syntax", "this number is too large").at(self.span(start)))),
        }
    }

    fn string(&mut self) -> Result<String, Box<Diagnostic>> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') if end + 1 < bytes.len() => end += 2,
                Some(b'\n') | None => {
                    self.at = start;
                    let span = Span::new(self.file, start, start + 1);
                    return Err(Box::new(Diagnostic::error("json-syntax", "not valid JSON: this text is not closed").at(span)));
                }
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        let inner = &self.text[start + 1..end];
        if !inner.bytes().any(|byte| byte == b'\\' || byte < 0x20) {
            return Ok(inner.to_owned());
        }
        serde_json::from_str(&self.text[start..=end])
            .map_err(|_| Box::new(Diagnostic::error("json-syntax", "not valid JSON: a wrong escape or a control character in this text").at(self.span(start))))
    }
}
