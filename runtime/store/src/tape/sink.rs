//! Where a tar goes: a digest made by a second thread, so that reading files and hashing them overlap.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use strake_oci::{Digest, Hasher};

/// Size of the pieces that are handed over.
const PIECE_BYTES: usize = 256 << 10;
/// How far the writer may run ahead, in pieces.
const AHEAD: usize = 8;

/// Hashes what is written. A small stream is hashed in place; the thread starts with the second piece.
#[derive(Default)]
pub(crate) struct HashAhead {
    piece: Vec<u8>,
    size_bytes: u64,
    hasher: Hasher,
    worker: Option<Worker>,
}

struct Worker {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<Hasher>,
}

impl HashAhead {
    /// The digest and length of everything written.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        let hasher = match self.worker.take() {
            None => Some(self.hasher),
            Some(worker) => {
                drop(worker.full);
                worker.thread.join().ok()
            }
        };
        let mut hasher = hasher.ok_or_else(|| io::Error::other("the hashing thread panicked"))?;
        hasher.update(&self.piece);
        Ok((hasher.finish(), self.size_bytes))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.worker.is_none() {
            self.worker = Some(start(std::mem::take(&mut self.hasher))?);
        }
        let Some(worker) = &self.worker else { return Ok(()) };
        let next = worker.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
        let piece = std::mem::replace(&mut self.piece, next);
        worker.full.send(piece).map_err(|_| io::Error::other("the hashing thread ended early"))
    }
}

fn start(mut hasher: Hasher) -> io::Result<Worker> {
    let (full, pieces) = sync_channel::<Vec<u8>>(AHEAD);
    let (give_back, empty) = channel();
    let hash = move || {
        for mut piece in pieces {
            hasher.update(&piece);
            piece.clear();
            // The writer may be done already and not want it back.
            let _ = give_back.send(piece);
        }
        hasher
    };
    let thread = std::thread::Builder::new().name("layer-hash".to_owned()).spawn(hash)?;
    Ok(Worker { full, empty, thread })
}

impl Write for HashAhead {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE_BYTES);
        }
        if self.piece.len() >= PIECE_BYTES {
            self.hand_over()?;
        }
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        self.size_bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{HashAhead, PIECE_BYTES};
    use std::io::Write;
    use strake_oci::Digest;

    #[test]
    fn gives_the_digest_of_any_length() {
        for size in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 20 * PIECE_BYTES + 7] {
            let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let mut sink = HashAhead::default();
            for piece in bytes.chunks(1000) {
                sink.write_all(piece).unwrap();
            }
            assert_eq!(sink.finish().unwrap(), (Digest::of(&bytes), size as u64));
        }
    }
}
