//! Percent-encoding, and queries built from it.

/// Appends `text` with everything but unreserved characters escaped (RFC 3986, section 2.3).
pub(crate) fn escape(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// A path with a query that grows.
pub(crate) struct Query {
    text: String,
    separator: char,
}

impl Query {
    pub(crate) fn new(path: String) -> Query {
        Query { text: path, separator: '?' }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) -> &mut Query {
        self.text.push(std::mem::replace(&mut self.separator, '&'));
        self.text.push_str(name);
        self.text.push('=');
        escape(value, &mut self.text);
        self
    }

    pub(crate) fn set_some(&mut self, name: &str, value: Option<impl ToString>) -> &mut Query {
        if let Some(value) = value {
            self.set(name, &value.to_string());
        }
        self
    }

    pub(crate) fn flag(&mut self, name: &str, on: bool) -> &mut Query {
        if on { self.set(name, "true") } else { self }
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}
