//! Streams in whatever compression they come: told apart by their first bytes, bounded in what they expand to.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::extract::Limits;

/// Largest window of a zstd stream, as a power of two: 128 MiB of memory.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;
/// Most memory for reading xz: its largest preset needs 65 MiB.
const MAX_XZ_MEMORY_KIB: u32 = 140 << 10;

/// How a layer is, or is to be, compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip (RFC 1952).
    #[default]
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// A compressed stream gave more than its ratio allows.
#[derive(Debug, thiserror::Error)]
#[error("expands to more than {max_ratio} times its size")]
pub(crate) struct RatioExceeded {
    pub max_ratio: u64,
}

/// The compression that a stream's first bytes tell; anything unknown counts as none.
pub fn sniff(first: &[u8]) -> Compression {
    if first.starts_with(&[0x1f, 0x8b]) {
        Compression::Gzip
    } else if first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Compression::Zstd
    } else {
        Compression::None
    }
}

/// Compressions of archives that people bring, which no layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Foreign {
    Xz,
    Bzip2,
}

fn foreign(first: &[u8]) -> Option<Foreign> {
    match first {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Foreign::Xz),
        // The magic of a block, or of the end of a stream without blocks.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Some(Foreign::Bzip2),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Some(Foreign::Bzip2),
        _ => None,
    }
}

/// Whether a file's first bytes (ten are enough) are those of a compressed stream that [`decompress`] reads.
pub(crate) fn is_compressed(first: &[u8]) -> bool {
    sniff(first) != Compression::None || foreign(first).is_some()
}

/// The uncompressed stream, and how it was compressed: `None` for xz and bzip2, which layers cannot have. Reading fails when it expands beyond `limits`.
pub fn decompress<'a>(reader: impl Read + Send + 'a, limits: Limits) -> io::Result<(Option<Compression>, Box<dyn Read + Send + 'a>)> {
    let taken = Arc::new(AtomicU64::new(0));
    let mut buffered = BufReader::with_capacity(128 << 10, Counted { inner: reader, taken: Arc::clone(&taken) });
    let first = buffered.fill_buf()?;
    let (compression, foreign) = (sniff(first), foreign(first));
    let inner: Box<dyn Read + Send + 'a> = match (compression, foreign) {
        (_, Some(Foreign::Xz)) => Box::new(lzma_rust2::XzReader::new_mem_limit(buffered, true, MAX_XZ_MEMORY_KIB)),
        (_, Some(Foreign::Bzip2)) => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)),
        (Compression::None, None) => return Ok((Some(compression), Box::new(buffered))),
        (Compression::Gzip, None) => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
        (Compression::Zstd, None) => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok((foreign.is_none().then_some(compression), Box::new(Bounded { inner, taken, given: 0, limits })))
}

/// Counts what is read from the compressed side.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.taken.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// Stops a decompression bomb.
struct Bounded<R> {
    inner: R,
    taken: Arc<AtomicU64>,
    given: u64,
    limits: Limits,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.given += got as u64;
        let allowed = self.taken.load(Ordering::Relaxed).saturating_mul(self.limits.max_ratio);
        if self.given > self.limits.ratio_after_bytes && self.given > allowed {
            return Err(io::Error::other(RatioExceeded { max_ratio: self.limits.max_ratio }));
        }
        Ok(got)
    }
}
