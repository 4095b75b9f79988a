//! A strict reader of tar streams: ustar, PAX and GNU long names and sparse files, nothing ambiguous.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::header::BLOCK;
use super::pax::{Pax, number};

/// Longest extended header or long name.
const MAX_EXTENDED_BYTES: u64 = 1 << 20;
/// Largest number that eleven octal digits can say.
const MAX_OCTAL_11: u64 = 0o77_777_777_777;
/// Most pieces of a sparse file.
const MAX_SPARSE_PIECES: usize = 1 << 16;

/// Why a tar stream is not acceptable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The stream could not be read (or decompressed).
    #[error("cannot read the archive")]
    Read { source: io::Error },
    /// It ends in the middle of an entry.
    #[error("the archive ends in the middle of an entry")]
    Truncated,
    /// A header block whose checksum does not match: damaged, or not a tar at all.
    #[error("a header's checksum is wrong: the archive is damaged, or not a tar")]
    Checksum,
    /// A header field that is not a number.
    #[error("field {field} of {path} is not a number")]
    Field { path: String, field: &'static str },
    /// The header and its extension give different sizes: readers would disagree where the next entry begins.
    #[error("{path} has size {header} in its header and {extended} in its extended header")]
    SizeConflict { path: String, header: u64, extended: u64 },
    /// Two extensions give different names.
    #[error("{path} has different names in its extended headers")]
    NameConflict { path: String },
    /// An entry that can have no content has a size.
    #[error("{path} is a {kind} and has content")]
    Content { path: String, kind: String },
    /// A malformed extended header.
    #[error("an extended header is malformed: {reason}")]
    Extended { reason: &'static str },
    /// A sparse file's map that overlaps itself or its size.
    #[error("the map of the sparse file {path} is malformed")]
    Sparse { path: String },
    /// An entry type that has no place in a file system.
    #[error("{path} has the unknown type {kind}")]
    Kind { path: String, kind: String },
}

/// One entry as read.
#[derive(Clone, Debug)]
pub(crate) struct TarEntry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: EntryType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Length of the file, holes included.
    pub size_bytes: u64,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offset and length of the pieces that have content; nothing for a file without holes.
    pub pieces: Option<Vec<(u64, u64)>>,
}

/// Reads entries one after the other; between them, the content of the last one with [`TarReader::content`].
pub(crate) struct TarReader<R> {
    inner: R,
    /// Content and padding of the current entry that is still unread.
    left: u64,
    padding: u64,
    global: Pax,
}

/// The extensions that stand before an entry.
#[derive(Default)]
struct Extensions {
    pax: Pax,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        TarReader { inner, left: 0, padding: 0, global: Pax::default() }
    }

    /// The next entry; nothing at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            let Some(header) = self.header()? else {
                return if extended { Err(TarError::Truncated) } else { Ok(None) };
            };
            let size = field(&header, "size", &header.as_old().size)?;
            match header.entry_type() {
                EntryType::XHeader => extensions.pax.parse(&self.extended(size)?)?,
                EntryType::XGlobalHeader => {
                    let bytes = self.extended(size)?;
                    self.global.parse_global(&bytes)?;
                    continue;
                }
                EntryType::GNULongName => extensions.long_name = Some(long_name(self.extended(size)?)?),
                EntryType::GNULongLink => extensions.long_link = Some(long_name(self.extended(size)?)?),
                _ => return self.entry(&header, size, extensions).map(Some),
            }
            extended = true;
        }
    }

    /// Reads content of the current entry; zero at its end.
    pub(crate) fn content(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let got = read_some(&mut self.inner, &mut buffer[..want])?;
        if got == 0 {
            return Err(TarError::Truncated);
        }
        self.left -= got as u64;
        Ok(got)
    }

    /// The stream as it stands.
    pub(crate) fn inner(&self) -> &R {
        &self.inner
    }

    /// The stream, to read what follows the archive.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<TarEntry, TarError> {
        let Extensions { pax, long_name, long_link } = extensions;
        let short = header.path_bytes().into_owned();
        let path = one_name(pax.path, long_name, short)?;
        let link = one_name(pax.link, long_link, header.link_name_bytes().unwrap_or_default().into_owned())?;
        let stored = stored_size(&path, size, pax.size_bytes)?;
        let kind = real_kind(header.entry_type(), &path)?;
        if stored != 0 && !matches!(kind, EntryType::Regular | EntryType::GNUSparse) {
            return Err(TarError::Content { path: show(&path), kind: format!("{kind:?}") });
        }
        self.left = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        let old = header.as_old();
        let owner = |said: Option<u64>, global: Option<u64>, name, bytes: &[u8]| -> Result<u32, TarError> {
            let number = match said.or(global) {
                Some(number) => number,
                None => field(header, name, bytes)?,
            };
            u32::try_from(number).map_err(|_| TarError::Field { path: show(&path), field: name })
        };
        let mut entry = TarEntry {
            uid: owner(pax.uid, self.global.uid, "uid", &old.uid)?,
            gid: owner(pax.gid, self.global.gid, "gid", &old.gid)?,
            mode: (field(header, "mode", &old.mode)? & 0o7777) as u32,
            mtime: match pax.mtime.or(self.global.mtime) {
                Some(time) => time,
                None => (signed_field(header, "mtime", &old.mtime)?, 0),
            },
            size_bytes: stored,
            device: device(header, kind)?,
            xattrs: pax.xattrs,
            pieces: None,
            kind,
            link,
            path,
        };
        match (kind, pax.sparse) {
            (EntryType::GNUSparse, _) => self.old_sparse(header, &mut entry)?,
            (_, (None, None)) => {}
            (_, (Some(1), Some(0))) => {
                if let Some(name) = pax.sparse_name {
                    entry.path = name;
                }
                self.pax_sparse(&mut entry, pax.sparse_size_bytes)?;
            }
            _ => return Err(TarError::Extended { reason: "an unknown version of sparse files" }),
        }
        Ok(entry)
    }

    /// The map in and after the header of GNU's own format.
    fn old_sparse(&mut self, header: &Header, entry: &mut TarEntry) -> Result<(), TarError> {
        let bad = |entry: &TarEntry| TarError::Sparse { path: show(&entry.path) };
        let gnu = header.as_gnu().ok_or_else(|| bad(entry))?;
        let mut pieces = Vec::new();
        for piece in gnu.sparse.iter().filter(|piece| !piece.is_empty()) {
            pieces.push((field(header, "sparse", &piece.offset)?, field(header, "sparse", &piece.numbytes)?));
        }
        let mut more = gnu.is_extended();
        while more {
            let mut block = [0; BLOCK];
            read_exact(&mut self.inner, &mut block)?;
            for piece in block[..504].chunks_exact(24).filter(|piece| piece[0] != 0) {
                pieces.push((field(header, "sparse", &piece[..12])?, field(header, "sparse", &piece[12..])?));
            }
            if pieces.len() > MAX_SPARSE_PIECES {
                return Err(bad(entry));
            }
            more = block[504] == 1;
        }
        entry.kind = EntryType::Regular;
        entry.size_bytes = field(header, "realsize", &gnu.realsize)?;
        entry.pieces = Some(check_pieces(entry, pieces, self.left)?);
        Ok(())
    }

    /// The map at the start of the content, decimal numbers in lines, of GNU's PAX format 1.0.
    fn pax_sparse(&mut self, entry: &mut TarEntry, real: Option<u64>) -> Result<(), TarError> {
        let bad = || TarError::Sparse { path: show(&entry.path) };
        let real = real.ok_or_else(bad)?;
        let (mut numbers, mut line, mut wanted) = (Vec::new(), Vec::new(), 1);
        while numbers.len() < wanted {
            let mut block = [0; BLOCK];
            if self.left < BLOCK as u64 {
                return Err(bad());
            }
            read_exact(&mut self.inner, &mut block)?;
            self.left -= BLOCK as u64;
            for byte in block {
                match byte {
                    b'\n' if numbers.len() < wanted => {
                        numbers.push(number(&line)?);
                        line.clear();
                    }
                    byte if numbers.len() < wanted && line.len() < 20 => line.push(byte),
                    _ if numbers.len() < wanted => return Err(bad()),
                    _ => {}
                }
                if numbers.len() == 1 && wanted == 1 {
                    let count = usize::try_from(numbers[0]).ok().filter(|count| *count <= MAX_SPARSE_PIECES).ok_or_else(bad)?;
                    wanted = 1 + 2 * count;
                }
            }
        }
        let pieces = numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        entry.size_bytes = real;
        entry.pieces = Some(check_pieces(entry, pieces, self.left)?);
        Ok(())
    }

    /// A header block whose checksum is right; nothing at a zero block or at the end of the stream.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let first = read_some(&mut self.inner, block)?;
        if first == 0 {
            return Ok(None);
        }
        read_exact(&mut self.inner, &mut block[first..])?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let said = octal(&block[148..156]);
        let unsigned = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
        let sum: u64 = block.iter().enumerate().map(|(at, byte)| u64::from(unsigned(at, *byte))).sum();
        if said == Some(sum) { Ok(Some(header)) } else { Err(TarError::Checksum) }
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENDED_BYTES {
            return Err(TarError::Extended { reason: "it is longer than 1 MiB" });
        }
        let mut bytes = vec![0; (size as usize).next_multiple_of(BLOCK)];
        read_exact(&mut self.inner, &mut bytes)?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.inner).take(rest), &mut io::sink()).map_err(|source| TarError::Read { source })?;
        if skipped == rest { Ok(()) } else { Err(TarError::Truncated) }
    }
}

/// The name, when header and extensions agree on one.
fn one_name(pax: Option<Vec<u8>>, long: Option<Vec<u8>>, short: Vec<u8>) -> Result<Vec<u8>, TarError> {
    match (pax, long) {
        (Some(pax), Some(long)) if pax != long => Err(TarError::NameConflict { path: show(&pax) }),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(short),
    }
}

/// How much content follows. A size that the header can say must be the same in both places.
fn stored_size(path: &[u8], header: u64, extended: Option<u64>) -> Result<u64, TarError> {
    match extended {
        Some(extended) if extended != header && extended <= MAX_OCTAL_11 => Err(TarError::SizeConflict { path: show(path), header, extended }),
        Some(extended) => Ok(extended),
        None => Ok(header),
    }
}

fn real_kind(kind: EntryType, path: &[u8]) -> Result<EntryType, TarError> {
    match kind {
        // Before ustar, a directory was a file whose name ends in a slash.
        EntryType::Regular if path.ends_with(b"/") => Ok(EntryType::Directory),
        EntryType::Continuous => Ok(EntryType::Regular),
        EntryType::Regular
        | EntryType::Link
        | EntryType::Symlink
        | EntryType::Char
        | EntryType::Block
        | EntryType::Directory
        | EntryType::Fifo
        | EntryType::GNUSparse => Ok(kind),
        other => Err(TarError::Kind { path: show(path), kind: char::from(other.as_byte()).escape_default().to_string() }),
    }
}

fn device(header: &Header, kind: EntryType) -> Result<(u32, u32), TarError> {
    if !matches!(kind, EntryType::Char | EntryType::Block) {
        return Ok((0, 0));
    }
    let bytes = header.as_bytes();
    let number = |name, range: std::ops::Range<usize>| {
        let number = field(header, name, &bytes[range])?;
        u32::try_from(number).map_err(|_| TarError::Field { path: show(&header.path_bytes()), field: name })
    };
    Ok((number("devmajor", 329..337)?, number("devminor", 337..345)?))
}

/// Pieces in order, apart from one another, inside the file, and together as long as the content.
fn check_pieces(entry: &TarEntry, pieces: Vec<(u64, u64)>, stored: u64) -> Result<Vec<(u64, u64)>, TarError> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for (offset, length) in &pieces {
        let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= entry.size_bytes);
        end = next.ok_or_else(|| TarError::Sparse { path: show(&entry.path) })?;
        sum += length;
    }
    if sum == stored { Ok(pieces) } else { Err(TarError::Sparse { path: show(&entry.path) }) }
}

fn long_name(mut bytes: Vec<u8>) -> Result<Vec<u8>, TarError> {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(TarError::Extended { reason: "a long name is empty or contains a zero byte" });
    }
    Ok(bytes)
}

fn field(header: &Header, name: &'static str, bytes: &[u8]) -> Result<u64, TarError> {
    let value = signed_field(header, name, bytes)?;
    u64::try_from(value).map_err(|_| TarError::Field { path: show(&header.path_bytes()), field: name })
}

/// Octal digits, or GNU's base-256 form (two's complement, first bit set).
fn signed_field(header: &Header, name: &'static str, bytes: &[u8]) -> Result<i64, TarError> {
    let bad = || TarError::Field { path: show(&header.path_bytes()), field: name };
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let start = if negative { -1_i128 } else { i128::from(first & 0x3f) };
            let start = if negative { (start << 6) | i128::from(first & 0x3f) } else { start };
            let value = bytes[1..].iter().try_fold(start, |value, byte| value.checked_mul(256).map(|value| value | i128::from(*byte)));
            value.and_then(|value| i64::try_from(value).ok()).ok_or_else(bad)
        }
        _ => octal(bytes).and_then(|value| i64::try_from(value).ok()).ok_or_else(bad),
    }
}

/// Octal digits between blanks and zero bytes; an empty field is zero.
fn octal(bytes: &[u8]) -> Option<u64> {
    let start = bytes.iter().position(|byte| *byte != b' ').unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    if !digits[end..].iter().all(|byte| matches!(byte, b' ' | 0)) {
        return None;
    }
    digits[..end].iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value + u64::from(byte - b'0')),
        _ => None,
    })
}

fn read_some(inner: &mut impl Read, buffer: &mut [u8]) -> Result<usize, TarError> {
    loop {
        match inner.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(|source| TarError::Read { source }),
        }
    }
}

fn read_exact(inner: &mut impl Read, buffer: &mut [u8]) -> Result<(), TarError> {
    inner.read_exact(buffer).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => TarError::Truncated,
        _ => TarError::Read { source },
    })
}

/// A name for a message.
pub(crate) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
