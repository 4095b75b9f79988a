//! From the parser's character counts to bytes.

/// A character is marked each so many, so that finding one walks at most as far.
const STRIDE: usize = 64;

/// Finds the byte at which a character of a text begins.
pub(crate) struct Offsets<'t> {
    text: &'t str,
    /// The byte offset of each `STRIDE`th character; empty when all characters are one byte long.
    marks: Vec<u32>,
}

impl<'t> Offsets<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let marks =
            if text.is_ascii() { Vec::new() } else { text.char_indices().step_by(STRIDE).map(|(byte, _)| u32::try_from(byte).unwrap_or(u32::MAX)).collect() };
        Offsets { text, marks }
    }

    /// The byte offset of the character number `index`; past the end is the end.
    pub(crate) fn byte(&self, index: usize) -> usize {
        if self.marks.is_empty() {
            return index.min(self.text.len());
        }
        let Some(mark) = self.marks.get(index / STRIDE) else { return self.text.len() };
        let start = *mark as usize;
        self.text[start..].char_indices().nth(index % STRIDE).map_or(self.text.len(), |(byte, _)| start + byte)
    }
}

#[cfg(test)]
mod tests {
    use super::Offsets;

    #[test]
    fn finds_bytes_of_characters() {
        let text = "aé€".repeat(100);
        let offsets = Offsets::new(&text);
        for (index, (byte, _)) in text.char_indices().enumerate() {
            assert_eq!(offsets.byte(index), byte);
        }
        assert_eq!(offsets.byte(300), text.len());
        assert_eq!(Offsets::new("abc").byte(9), 3);
    }
}
