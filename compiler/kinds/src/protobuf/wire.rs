//! The protobuf wire: tags, variable-length integers, length-delimited fields. Every read is checked against the end.

use super::ProtobufError;

/// A field's content as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Wire<'a> {
    fn number(self) -> u8 {
        match self {
            Wire::Varint(_) => 0,
            Wire::Fixed64(_) => 1,
            Wire::Bytes(_) => 2,
            Wire::Fixed32 => 5,
        }
    }

    fn mismatch(self, tag: u32) -> ProtobufError {
        ProtobufError::WireType { tag, wire: self.number() }
    }

    pub(super) fn bytes(self, tag: u32) -> Result<&'a [u8], ProtobufError> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            other => Err(other.mismatch(tag)),
        }
    }

    pub(super) fn text(self, tag: u32) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes(tag)?).map_err(|_| ProtobufError::Utf8(tag))
    }

    pub(super) fn varint(self, tag: u32) -> Result<u64, ProtobufError> {
        match self {
            Wire::Varint(number) => Ok(number),
            other => Err(other.mismatch(tag)),
        }
    }

    pub(super) fn fixed64(self, tag: u32) -> Result<u64, ProtobufError> {
        match self {
            Wire::Fixed64(bits) => Ok(bits),
            other => Err(other.mismatch(tag)),
        }
    }
}

/// Reads fields off a slice.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's tag and content; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| ProtobufError::Varint)?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| ProtobufError::Truncated)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => return Err(ProtobufError::WireType { tag, wire: other as u8 }),
        };
        Ok(Some((tag, wire)))
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0_u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
            self.rest = rest;
            if shift == 63 && *byte > 1 {
                return Err(ProtobufError::Varint);
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtobufError::Varint)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}
