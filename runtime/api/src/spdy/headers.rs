//! Name/value blocks: compressed with one zlib stream for a whole connection and direction, from a dictionary that the protocol fixes.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Names that stand in the dictionary with their lengths, in the order of the specification (SPDY/3, section 2.6.10.1).
const NAMES: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization \
cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range content-type date etag \
expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning \
www-authenticate method get status";
const MORE_NAMES: &str = "version HTTP/1.1 url public set-cookie keep-alive origin";
/// What stands there without lengths.
const WORDS: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error\
501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
/// The dictionary's Adler-32, by which a stream names it.
#[cfg(test)]
const ADLER: u32 = 0xe3c6_a7c2;
/// Most bytes of a block once unpacked.
const MOST_BLOCK: usize = 64 << 10;
const PIECE: usize = 4 << 10;

/// Names and values; names are in lower case.
pub(crate) type Headers = Vec<(String, String)>;

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut framed = |name: &str| {
        bytes.extend_from_slice(&u32::try_from(name.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
    };
    NAMES.split(' ').for_each(&mut framed);
    framed("200 OK");
    MORE_NAMES.split(' ').for_each(&mut framed);
    bytes.extend_from_slice(WORDS.as_bytes());
    bytes
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a SPDY header block {what}"))
}

/// Unpacks the blocks of one direction, in order.
pub(crate) struct Unpacker(Decompress);

impl Unpacker {
    pub(crate) fn new() -> Unpacker {
        Unpacker(Decompress::new(true))
    }

    /// The headers of a block.
    ///
    /// # Errors
    /// What is not a block, or one larger than [`MOST_BLOCK`].
    pub(crate) fn unpack(&mut self, block: &[u8]) -> io::Result<Headers> {
        let mut bytes = Vec::new();
        let mut rest = block;
        loop {
            if bytes.capacity() - bytes.len() < PIECE {
                bytes.reserve(PIECE);
            }
            let before = (self.0.total_in(), bytes.len());
            let status = match self.0.decompress_vec(rest, &mut bytes, FlushDecompress::Sync) {
                Ok(status) => status,
                Err(error) if error.needs_dictionary().is_some() => {
                    let used = usize::try_from(self.0.total_in() - before.0).unwrap_or(usize::MAX);
                    rest = rest.get(used..).unwrap_or_default();
                    self.0.set_dictionary(&dictionary()).map_err(|_| broken("is packed with another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(broken("is not packed as it should be")),
            };
            let used = usize::try_from(self.0.total_in() - before.0).unwrap_or(usize::MAX);
            rest = rest.get(used..).unwrap_or_default();
            if bytes.len() > MOST_BLOCK {
                return Err(broken("is too large"));
            }
            let idle = used == 0 && bytes.len() == before.1;
            if status == Status::StreamEnd || idle || (rest.is_empty() && bytes.len() < bytes.capacity()) {
                return read(&bytes);
            }
        }
    }
}

fn read(bytes: &[u8]) -> io::Result<Headers> {
    let mut rest = bytes;
    let number = |rest: &mut &[u8]| -> io::Result<usize> {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(|| broken("ends too early"))?;
        *rest = tail;
        usize::try_from(u32::from_be_bytes(*head)).map_err(|_| broken("is too large"))
    };
    let count = number(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let mut word = || -> io::Result<String> {
            let length = number(&mut rest)?;
            let (word, tail) = rest.split_at_checked(length).ok_or_else(|| broken("ends too early"))?;
            rest = tail;
            Ok(String::from_utf8_lossy(word).into_owned())
        };
        let (name, value) = (word()?, word()?);
        headers.push((name.to_ascii_lowercase(), value));
    }
    Ok(headers)
}

/// Packs the blocks of one direction, in order.
pub(crate) struct Packer {
    compress: Compress,
    begun: bool,
}

impl Packer {
    pub(crate) fn new() -> Packer {
        Packer { compress: Compress::new(Compression::fast(), true), begun: false }
    }

    /// A block of headers.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub(crate) fn pack(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        if !std::mem::replace(&mut self.begun, true) {
            self.compress.set_dictionary(&dictionary()).map_err(io::Error::other)?;
        }
        let length = |text: &str| u32::try_from(text.len()).unwrap_or_default().to_be_bytes();
        let mut plain = u32::try_from(headers.len()).unwrap_or_default().to_be_bytes().to_vec();
        for (name, value) in headers {
            for text in [name, value] {
                plain.extend_from_slice(&length(text));
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let (mut packed, mut rest) = (Vec::with_capacity(PIECE), &plain[..]);
        loop {
            let before = self.compress.total_in();
            self.compress.compress_vec(rest, &mut packed, FlushCompress::Sync).map_err(io::Error::other)?;
            rest = rest.get(usize::try_from(self.compress.total_in() - before).unwrap_or(usize::MAX)..).unwrap_or_default();
            if rest.is_empty() && packed.len() < packed.capacity() {
                return Ok(packed);
            }
            packed.reserve(PIECE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ADLER, Headers, Packer, Unpacker, dictionary};

    #[test]
    fn the_dictionary_is_the_protocols() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((b << 16 | a, dictionary().len()), (ADLER, 1423));
    }

    #[test]
    fn blocks_of_one_connection_follow_each_other() {
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
        let headers = |port: &str| -> Headers { vec![("streamtype".into(), "data".into()), ("port".into(), port.into())] };
        let big: Headers = (0..400).map(|number| (format!("name-{number}"), "x".repeat(number % 90))).collect();
        for one in [headers("80"), Headers::new(), headers("8080"), big, headers("1")] {
            let packed = packer.pack(&one).expect("packed");
            assert_eq!(unpacker.unpack(&packed).expect("unpacked"), one);
        }
        assert!(Unpacker::new().unpack(b"nonsense").is_err());
        assert!(Unpacker::new().unpack(&[]).is_err());
    }

    #[test]
    fn a_block_that_grows_without_end_is_refused() {
        let huge: Headers = vec![("a".into(), "x".repeat(1 << 20))];
        let packed = Packer::new().pack(&huge).expect("packed");
        assert!(Unpacker::new().unpack(&packed).is_err());
    }
}
