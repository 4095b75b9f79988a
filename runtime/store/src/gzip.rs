//! gzip made in pieces, side by side: members that each stand for themselves, so the output depends on the content alone, not on the number of threads.
//!
//! Where a member begins is decided by the content: a stretch that does not compress (media, archives, keys) is stored without looking for repetitions in
//! it, which would cost most of the time and gain nothing; everything else goes in members of a fixed length.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use libdeflater::{CompressionLvl, Compressor, crc32};

use crate::blob::BlobWriter;

/// The longest member, uncompressed: small enough to share out, large enough not to cost ratio.
const MEMBER_BYTES: usize = 2 << 20;
/// The unit that is looked at to tell what compresses.
const GRAIN_BYTES: usize = 16 << 10;
/// Of a grain, so much is looked at first.
const SAMPLE_BYTES: usize = 2 << 10;
/// The lowest level of this library that makes a Debian system no larger than zlib's level 6 does (82.98 of 83.24 MB); level 2 takes a quarter less time for
/// 3.7 % more bytes.
const LEVEL: i32 = 5;
/// No file name, no time, system "unknown" (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// The longest stored block (RFC 1951, 3.2.4).
const STORED_BYTES: usize = 0xffff;

/// One member to be made.
struct Job {
    bytes: Vec<u8>,
    stored: bool,
    reply: Sender<Vec<u8>>,
}

/// Compresses what is written into a blob.
pub(crate) struct GzipMembers {
    out: BlobWriter,
    member: Vec<u8>,
    /// Whether the member at hand is to be stored; open until its first grain is full.
    stored: Option<bool>,
    /// How much of the member has been looked at.
    judged: usize,
    seen: Repetitions,
    jobs: Option<SyncSender<Job>>,
    workers: Vec<JoinHandle<()>>,
    /// Members that are being made, in their order.
    pending: VecDeque<Receiver<Vec<u8>>>,
    members: u64,
}

impl GzipMembers {
    /// Starts a thread for each processor. Without a level it is the usual one.
    pub(crate) fn new(out: BlobWriter, level: Option<i32>) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(2, usize::from);
        let (jobs, queue) = sync_channel::<Job>(count);
        let queue = Arc::new(Mutex::new(queue));
        let start = |_| {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("gzip".to_owned()).spawn(move || work(&queue, level.unwrap_or(LEVEL)))
        };
        let workers = (0..count).map(start).collect::<io::Result<_>>()?;
        let (member, pending) = (Vec::with_capacity(MEMBER_BYTES), VecDeque::new());
        Ok(GzipMembers { out, member, stored: None, judged: 0, seen: Repetitions::default(), jobs: Some(jobs), workers, pending, members: 0 })
    }

    /// Waits for what is being made, and gives the blob back.
    pub(crate) fn finish(mut self) -> io::Result<BlobWriter> {
        // What is no full grain goes with the grains before it.
        if !self.member.is_empty() || self.members == 0 {
            let rest = std::mem::take(&mut self.member);
            self.hand_out(rest)?;
        }
        drop(self.jobs.take());
        while !self.pending.is_empty() {
            self.collect()?;
        }
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| io::Error::other("a compressing thread panicked"))?;
        }
        Ok(self.out)
    }

    /// A grain is full: it belongs to the member at hand, or begins another.
    fn judge(&mut self) -> io::Result<()> {
        let grain = &self.member[self.judged..];
        let stored = is_noise(grain) && !self.seen.repeat(grain);
        if self.stored.is_some_and(|before| before != stored) {
            let mut next = Vec::with_capacity(MEMBER_BYTES);
            next.extend_from_slice(grain);
            self.member.truncate(self.judged);
            let member = std::mem::replace(&mut self.member, next);
            self.hand_out(member)?;
        }
        self.stored = Some(stored);
        self.judged = self.member.len();
        if self.judged == MEMBER_BYTES {
            let member = std::mem::replace(&mut self.member, Vec::with_capacity(MEMBER_BYTES));
            self.hand_out(member)?;
        }
        Ok(())
    }

    fn hand_out(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let (reply, made) = channel();
        let job = Job { bytes, stored: self.stored.take().unwrap_or(false), reply };
        self.judged = 0;
        self.members += 1;
        self.pending.push_back(made);
        let jobs = self.jobs.as_ref().ok_or_else(|| io::Error::other("the compressing threads were let go"))?;
        jobs.send(job).map_err(|_| io::Error::other("the compressing threads ended early"))?;
        // As many again may wait to be written as are being made: memory stays bounded.
        while self.pending.len() > 2 * self.workers.len() + 1 {
            self.collect()?;
        }
        Ok(())
    }

    fn collect(&mut self) -> io::Result<()> {
        let Some(made) = self.pending.pop_front() else { return Ok(()) };
        let member = made.recv().map_err(|_| io::Error::other("a member could not be compressed"))?;
        self.out.write_all(&member)
    }
}

impl Write for GzipMembers {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.judged + GRAIN_BYTES - self.member.len());
        self.member.extend_from_slice(&bytes[..taken]);
        if self.member.len() == self.judged + GRAIN_BYTES {
            self.judge()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(queue: &Mutex<Receiver<Job>>, level: i32) {
    let mut compressor = Compressor::new(CompressionLvl::new(level).unwrap_or_default());
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { bytes, stored, reply }) = job else { return };
        let made = if stored { Some(store(&bytes)) } else { compress(&mut compressor, &bytes) };
        if let Some(made) = made {
            // Whoever gave up on the blob no longer waits.
            let _ = reply.send(made);
        }
    }
}

/// One member; nothing when the library finds the room that it asked for too small.
fn compress(compressor: &mut Compressor, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut made = vec![0; HEADER.len() + compressor.deflate_compress_bound(bytes.len()) + 8];
    made[..HEADER.len()].copy_from_slice(&HEADER);
    let length = compressor.deflate_compress(bytes, &mut made[HEADER.len()..]).ok()?;
    made.truncate(HEADER.len() + length);
    end(&mut made, bytes);
    Some(made)
}

/// A member of stored blocks: the bytes as they are.
fn store(bytes: &[u8]) -> Vec<u8> {
    let blocks = bytes.len().div_ceil(STORED_BYTES);
    let mut made = Vec::with_capacity(HEADER.len() + bytes.len() + 5 * blocks + 8);
    made.extend_from_slice(&HEADER);
    for (place, block) in bytes.chunks(STORED_BYTES).enumerate() {
        let length = block.len() as u16;
        made.push(u8::from(place + 1 == blocks));
        made.extend_from_slice(&length.to_le_bytes());
        made.extend_from_slice(&(!length).to_le_bytes());
        made.extend_from_slice(block);
    }
    end(&mut made, bytes);
    made
}

/// Checksum and length of what was compressed.
fn end(made: &mut Vec<u8>, bytes: &[u8]) {
    made.extend_from_slice(&crc32(bytes).to_le_bytes());
    made.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
}

/// Whether every byte value is about as frequent as every other, so that coding them differently would gain less than one part in a hundred.
fn is_noise(grain: &[u8]) -> bool {
    // Most of what compresses shows it at once: in noise, so few bytes are that uneven once in a thousand million times.
    is_even(&grain[..grain.len().min(SAMPLE_BYTES)]) && is_even(grain)
}

fn is_even(grain: &[u8]) -> bool {
    // Four tables, for equal bytes one after the other would wait for each other.
    let mut counts = [[0u32; 256]; 4];
    for bytes in grain.chunks_exact(4) {
        for (table, byte) in counts.iter_mut().zip(bytes) {
            table[usize::from(*byte)] += 1;
        }
    }
    // Entropy without logarithms: the collision entropy, which is never above it. Noise gives about (n + 256) / 256 for the sum of squares over n.
    let total: u64 = counts.iter().flatten().map(|count| u64::from(*count)).sum();
    let squares: u64 = (0..256).map(|value| counts.iter().map(|table| u64::from(table[value])).sum::<u64>().pow(2)).sum();
    // At most 7 % above what noise has: then it lacks at most 0.1 of 8 bits.
    total > 0 && squares * 256 * 100 <= total * (total + 256) * 107
}

/// Finds noise that was there before: a second copy of the same archive, say.
struct Repetitions {
    /// Sequences of eight bytes that were seen, by their hash.
    seen: Box<[u64; Self::SLOTS]>,
}

impl Default for Repetitions {
    fn default() -> Self {
        Repetitions { seen: Box::new([0; Self::SLOTS]) }
    }
}

impl Repetitions {
    const SLOTS: usize = 1 << 10;
    /// Sequences that begin with this byte are looked at: one in 256 of noise, and in a copy at any distance the same ones.
    const CHOSEN: u8 = 0xa7;
    /// So many of about 64 sequences of a grain must have been seen: three parts in a hundred. By chance noise repeats eight bytes never.
    const ENOUGH: usize = 2;

    /// Whether enough of the grain has been seen lately; remembers it.
    fn repeat(&mut self, grain: &[u8]) -> bool {
        const LOW: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let mut again = 0;
        for (place, word) in grain.as_chunks::<8>().0.iter().enumerate() {
            // Zero where the byte is the chosen one; then the classic test for a zero byte, which now and then sees one too many.
            let odd = u64::from_le_bytes(*word) ^ (LOW * u64::from(Self::CHOSEN));
            if odd.wrapping_sub(LOW) & !odd & HIGH != 0 {
                again += (0..8).filter(|at| word[*at] == Self::CHOSEN && self.is_again(&grain[place * 8 + at..])).count();
            }
        }
        again >= Self::ENOUGH
    }

    /// Whether the eight bytes here were seen; remembers them.
    fn is_again(&mut self, here: &[u8]) -> bool {
        let Some(sequence) = here.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else { return false };
        let slot = &mut self.seen[(sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % Self::SLOTS];
        std::mem::replace(slot, sequence) == sequence
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::{GzipMembers, MEMBER_BYTES};
    use crate::store::Store;

    /// xorshift64.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed;
        let mut bytes = Vec::new();
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn text(length: usize) -> Vec<u8> {
        let line = |number: usize| format!("{number}: the quick brown fox jumps over {} lazy dogs\n", number % 977);
        let mut bytes: Vec<u8> = (0..length / 40 + 1).flat_map(|number| line(number).into_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    fn packed(bytes: &[u8], step: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut members = GzipMembers::new(store.writer().unwrap(), None).unwrap();
        for piece in bytes.chunks(step) {
            members.write_all(piece).unwrap();
        }
        let blob = members.finish().unwrap().commit(None).unwrap();
        store.read(&blob.digest, u64::MAX >> 1).unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut found).unwrap();
        found
    }

    #[test]
    fn another_reader_gets_back_what_was_written_however_it_was_written() {
        let mixed = [text(300_000), noise(1, 200_001), text(5), noise(2, 2_500_000), text(2_000_000)].concat();
        for bytes in [Vec::new(), vec![7], text(MEMBER_BYTES), noise(3, MEMBER_BYTES + 1), mixed] {
            let made = packed(&bytes, 1 << 20);
            assert!(unpacked(&made) == bytes, "{} bytes come back as they were", bytes.len());
            assert!(made == packed(&bytes, 777), "the same bytes, written in other pieces, give the same blob");
        }
    }

    #[test]
    fn as_small_as_the_usual_level() {
        let bytes = [text(3_000_000), noise(4, 1_000_000)].concat();
        let mut usual = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        usual.write_all(&bytes).unwrap();
        let (usual, ours) = (usual.finish().unwrap().len(), packed(&bytes, 1 << 20).len());
        assert!(ours <= usual + usual / 100, "{ours} bytes, zlib has {usual}");
    }

    #[test]
    fn noise_is_stored_unless_it_repeats() {
        let once = noise(5, 1 << 20);
        let made = packed(&once, 1 << 20).len();
        assert!(made > once.len() && made < once.len() + once.len() / 1000, "{made}");
        let piece = noise(6, 20_000);
        let again: Vec<u8> = piece.iter().copied().cycle().take(1 << 20).collect();
        let made = packed(&again, 1 << 20).len();
        assert!(made < again.len() / 10, "{made}: what lies within reach before is not stored twice");
    }
}
