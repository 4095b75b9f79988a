//! Frames of SPDY/3.1, as far as streams of bytes need them.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::headers::{Headers, Packer, Unpacker};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FIN: u8 = 1;
/// Most bytes of a control frame.
const MOST_CONTROL: usize = 64 << 10;
/// Data comes in pieces of at most so many bytes, whatever its frames are.
const PIECE: usize = 64 << 10;

/// What streams are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A stream begins; with `fin` its opener sends nothing on it.
    Open { stream: u32, headers: Headers, fin: bool },
    /// The other side takes it.
    Reply { stream: u32 },
    /// A piece of it; with `fin` the last.
    Data { stream: u32, bytes: Bytes, fin: bool },
    /// It ends at once, with the reason's number.
    Reset { stream: u32, status: u32 },
    /// To be sent back.
    Ping(u32),
    /// Nothing more will be opened.
    GoAway,
}

/// Reads frames.
pub(crate) struct FrameReader<R> {
    source: R,
    unpacker: Unpacker,
    /// What is still to come of a frame of data.
    data: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(source: R) -> FrameReader<R> {
        FrameReader { source, unpacker: Unpacker::new(), data: None }
    }

    /// The next frame that means something here; `None` at the connection's end.
    ///
    /// # Errors
    /// The connection breaks, or what comes is no SPDY/3.1.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((stream, left, fin)) = self.data.take() {
                return self.piece(stream, left, fin).await.map(Some);
            }
            let mut head = [0; 8];
            match self.source.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
            let [a, b, c, d, flags, x, y, z] = head;
            let length = usize::try_from(u32::from_be_bytes([0, x, y, z])).unwrap_or(usize::MAX);
            if a & 0x80 == 0 {
                self.data = Some((u32::from_be_bytes([a, b, c, d]), length, flags & FIN != 0));
                continue;
            }
            if u16::from_be_bytes([a & 0x7f, b]) != VERSION || length > MOST_CONTROL {
                return Err(broken("is not SPDY/3.1, or too large"));
            }
            let mut body = vec![0; length];
            self.source.read_exact(&mut body).await?;
            if let Some(frame) = self.control(u16::from_be_bytes([c, d]), flags, &body)? {
                return Ok(Some(frame));
            }
        }
    }

    async fn piece(&mut self, stream: u32, left: usize, fin: bool) -> io::Result<Frame> {
        let mut bytes = vec![0; left.min(PIECE)];
        self.source.read_exact(&mut bytes).await?;
        let left = left - bytes.len();
        self.data = (left > 0).then_some((stream, left, fin));
        Ok(Frame::Data { stream, bytes: bytes.into(), fin: fin && left == 0 })
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> io::Result<Option<Frame>> {
        let number = |at: usize| -> io::Result<u32> {
            let bytes = body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| broken("ends too early"))?;
            Ok(u32::from_be_bytes(bytes))
        };
        let stream = || Ok::<u32, io::Error>(number(0)? & 0x7fff_ffff);
        Ok(match kind {
            SYN_STREAM => {
                let headers = self.unpacker.unpack(body.get(10..).ok_or_else(|| broken("ends too early"))?)?;
                Some(Frame::Open { stream: stream()?, headers, fin: flags & FIN != 0 })
            }
            // Blocks are packed as one: what is not wanted is unpacked all the same.
            SYN_REPLY | HEADERS => {
                self.unpacker.unpack(body.get(4..).ok_or_else(|| broken("ends too early"))?)?;
                (kind == SYN_REPLY).then_some(Frame::Reply { stream: stream()? })
            }
            RST_STREAM => Some(Frame::Reset { stream: stream()?, status: number(4)? }),
            PING => Some(Frame::Ping(number(0)?)),
            GOAWAY => Some(Frame::GoAway),
            // Settings and windows: the peers of this protocol (those of kubectl) keep no windows.
            _ => None,
        })
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a SPDY frame {what}"))
}

/// Writes frames.
pub(crate) struct FrameWriter(Packer);

impl FrameWriter {
    pub(crate) fn new() -> FrameWriter {
        FrameWriter(Packer::new())
    }

    /// The bytes of a frame.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub(crate) fn encode(&mut self, frame: &Frame) -> io::Result<Vec<u8>> {
        Ok(match frame {
            Frame::Open { stream, headers, fin } => {
                let body = [&stream.to_be_bytes()[..], &[0; 6], &self.0.pack(headers)?].concat();
                control(SYN_STREAM, if *fin { FIN } else { 0 }, &body)
            }
            Frame::Reply { stream } => control(SYN_REPLY, 0, &[&stream.to_be_bytes()[..], &self.0.pack(&Headers::new())?].concat()),
            Frame::Reset { stream, status } => control(RST_STREAM, 0, &[stream.to_be_bytes(), status.to_be_bytes()].concat()),
            Frame::Ping(id) => control(PING, 0, &id.to_be_bytes()),
            Frame::GoAway => control(GOAWAY, 0, &[0; 8]),
            Frame::Data { stream, bytes, fin } => {
                let mut whole = Vec::with_capacity(bytes.len() + 8);
                whole.extend_from_slice(&stream.to_be_bytes());
                whole.extend_from_slice(&sized(if *fin { FIN } else { 0 }, bytes.len()));
                whole.extend_from_slice(bytes);
                whole
            }
        })
    }
}

fn sized(flags: u8, length: usize) -> [u8; 4] {
    let [_, x, y, z] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flags, x, y, z]
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    [&(VERSION | 0x8000).to_be_bytes()[..], &kind.to_be_bytes(), &sized(flags, body.len()), body].concat()
}

#[cfg(test)]
mod tests {
    use super::{Frame, FrameReader, FrameWriter};

    #[tokio::test]
    async fn what_is_written_is_read() {
        let headers = vec![("streamtype".to_owned(), "error".to_owned())];
        let frames = [
            Frame::Open { stream: 1, headers: headers.clone(), fin: true },
            Frame::Open { stream: 3, headers, fin: false },
            Frame::Reply { stream: 1 },
            Frame::Data { stream: 3, bytes: "hello".into(), fin: false },
            Frame::Data { stream: 3, bytes: bytes::Bytes::new(), fin: true },
            Frame::Ping(7),
            Frame::Reset { stream: 3, status: 5 },
            Frame::GoAway,
        ];
        let mut writer = FrameWriter::new();
        let wire: Vec<u8> = frames.iter().flat_map(|frame| writer.encode(frame).expect("encoded")).collect();
        let mut reader = FrameReader::new(&wire[..]);
        for frame in &frames {
            assert_eq!(reader.next().await.expect("read").as_ref(), Some(frame));
        }
        assert_eq!(reader.next().await.expect("the end"), None);
    }

    #[tokio::test]
    async fn long_data_comes_in_pieces_and_ends_once() {
        let wire = FrameWriter::new().encode(&Frame::Data { stream: 9, bytes: vec![1; 200_000].into(), fin: true }).expect("encoded");
        let mut reader = FrameReader::new(&wire[..]);
        let (mut total, mut ends) = (0, 0);
        while let Some(Frame::Data { stream: 9, bytes, fin }) = reader.next().await.expect("read") {
            total += bytes.len();
            ends += usize::from(fin);
            assert!(!fin || total == 200_000);
        }
        assert_eq!((total, ends), (200_000, 1));
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        for wire in [&b"\x80\x02\x00\x01\x00\x00\x00\x00"[..], b"\x80\x03\x00\x01\x00\xff\xff\xff", b"\x80\x03\x00\x03\x00\x00\x00\x02ab"] {
            assert!(FrameReader::new(wire).next().await.is_err(), "{wire:?}");
        }
        assert!(FrameReader::new(&b"\x00\x00\x00\x01\x00\x00\x00\x09ab"[..]).next().await.is_err(), "cut off");
    }
}
