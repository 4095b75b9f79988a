//! A netlink socket: one request and its answer, a dump, or an nftables transaction.
//!
//! `netlink-bindings` writes and reads the messages; the socket is ours because a transaction with thousands of elements
//! needs larger buffers than the default.

use std::io;
use std::os::fd::OwnedFd;

use netlink_bindings::builtin::Nlmsghdr;
use netlink_bindings::nftables::{Chained, Nfgenmsg};
use netlink_bindings::traits::{NetlinkChained, NetlinkRequest, Protocol};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt};

const HEADER: usize = 16;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const FLAG_REQUEST: u16 = 1;
const FLAG_ACK: u16 = 4;
const SEND_BUFFER: usize = 16 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket bound to the network namespace it was opened in, whichever thread uses it later.
pub(crate) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Socket {
    /// For links, addresses, routes and neighbours.
    pub(crate) fn route() -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        Self::open(None)
    }

    /// For nftables.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        // Beyond the system's limit where we may, up to it where we may not.
        if sockopt::set_socket_send_buffer_size_force(&fd, SEND_BUFFER).is_err() {
            sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER)?;
        }
        if sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER)?;
        }
        Ok(Socket { fd, buffer: vec![0; 64 << 10], sequence: 1 })
    }

    /// The number the kernel knows the socket by; 0 before the first message.
    pub(crate) fn port(&self) -> u32 {
        let name = rustix::net::getsockname(&self.fd).ok().and_then(|name| netlink::SocketAddrNetlink::try_from(name).ok());
        name.map_or(0, |name| name.pid())
    }

    /// Sends a request and waits for the kernel's yes or no.
    pub(crate) fn request<R: NetlinkRequest>(&mut self, request: &R) -> io::Result<()> {
        let sequence = self.send_request(request)?;
        self.receive(sequence, |_| {})
    }

    /// Sends a request and gives the payload of every answer.
    pub(crate) fn dump<R: NetlinkRequest>(&mut self, request: &R, each: impl FnMut(&[u8])) -> io::Result<()> {
        let sequence = self.send_request(request)?;
        self.receive(sequence, each)
    }

    /// Runs one nftables transaction: all of it or nothing.
    pub(crate) fn transact(&mut self, build: impl FnOnce(&mut Chained<'_>)) -> io::Result<()> {
        let first = self.sequence;
        let mut chain = Chained::new(first);
        let mut edge = Nfgenmsg::new();
        edge.set_res_id(10);
        let _ = chain.request().op_batch_begin_do(&edge);
        build(&mut chain);
        let _ = chain.request().op_batch_end_do(&edge);
        let mut chain = chain.finalize();
        let last = ask_for_one_answer(chain.buf_mut());
        let Some(last) = last else { return Ok(()) };
        self.sequence = last.wrapping_add(2);
        send_all(&self.fd, chain.buf())?;
        self.receive_from(first, last, |_| {}).map_err(|(sequence, error)| {
            let index = sequence.wrapping_sub(first) as usize;
            let operation = chain.name(index);
            io::Error::new(error.kind(), format!("{operation}, message {index} of the transaction: {error}"))
        })
    }

    fn send_request<R: NetlinkRequest>(&mut self, request: &R) -> io::Result<u32> {
        let Protocol::Raw { request_type, .. } = request.protocol() else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "generic netlink is not used here"));
        };
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let payload = request.payload();
        let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
        let header = Nlmsghdr { len: length, r#type: request_type, flags: request.flags() | FLAG_REQUEST | FLAG_ACK, seq: sequence, pid: 0 };
        let mut message = Vec::with_capacity(HEADER + payload.len());
        message.extend_from_slice(header.as_slice());
        message.extend_from_slice(payload);
        send_all(&self.fd, &message)?;
        Ok(sequence)
    }

    fn receive(&mut self, sequence: u32, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.receive_from(sequence, sequence, each).map_err(|(_, error)| error)
    }

    /// Reads until the answer to `last`, or the first error to a message from `first` on. Answers to earlier requests
    /// (left over after an error) are passed by.
    fn receive_from(&mut self, first: u32, last: u32, mut each: impl FnMut(&[u8])) -> Result<(), (u32, io::Error)> {
        loop {
            let read = match recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((read, _)) => read,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err((last, error.into())),
            };
            let mut rest = &self.buffer[..read];
            while let Some((header, payload, next)) = split(rest) {
                rest = next;
                if header.sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                match header.kind {
                    TYPE_ERROR | TYPE_DONE => match answer(payload) {
                        0 if header.sequence == last => return Ok(()),
                        0 => {}
                        code => return Err((header.sequence, io::Error::from_raw_os_error(-code))),
                    },
                    _ => each(payload),
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    sequence: u32,
}

fn split(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let length = word(0)? as usize;
    // An error echoes the request and may be cut by our buffer: what was read is enough for its code.
    let end = length.clamp(HEADER, bytes.len().max(HEADER));
    let header = Header { kind: half(4)?, sequence: word(8)? };
    let next = bytes.get(end.next_multiple_of(4)..).unwrap_or_default();
    Some((header, bytes.get(HEADER..end)?, next))
}

fn answer(payload: &[u8]) -> i32 {
    payload.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes)
}

/// Keeps the request for an answer on the last operation only: thousands of answers would not fit the receive buffer, and
/// errors come unasked. Gives that operation's sequence number, `None` when the transaction is empty.
fn ask_for_one_answer(messages: &mut [u8]) -> Option<u32> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(length) = messages.get(at..at + 4) {
        starts.push(at);
        at += (u32::from_ne_bytes(length.try_into().ok()?) as usize).max(HEADER).next_multiple_of(4);
    }
    let last = starts.len().checked_sub(2).filter(|last| *last > 0)?;
    for (index, start) in starts.iter().enumerate() {
        if index != last {
            let flags = u16::from_ne_bytes([messages[start + 6], messages[start + 7]]) & !FLAG_ACK;
            messages[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
    }
    let start = starts[last];
    Some(u32::from_ne_bytes(messages.get(start + 8..start + 12)?.try_into().ok()?))
}

fn send_all(fd: &OwnedFd, message: &[u8]) -> io::Result<()> {
    loop {
        match send(fd, message, SendFlags::empty()) {
            Ok(sent) if sent == message.len() => return Ok(()),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the kernel took part of a netlink message")),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
