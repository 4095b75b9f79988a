//! Images to snapshots: blobs are decompressed, verified and extracted in one pass.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use strake_oci::{Descriptor, Digest, Hasher, MediaType};

use crate::decompress::decompress;
use crate::error::{Result, StoreError, reading};
use crate::extract::{ExtractError, ExtractOptions, Limits, extract};
use crate::image::{Image, digest_of};
use crate::snapshot::Draft;
use crate::store::Store;

/// Size of the pieces that the decompressing thread hands over.
const PIECE_BYTES: usize = 256 << 10;
/// How far it may run ahead, in pieces.
const AHEAD: usize = 8;

impl Store {
    /// Makes the snapshots of an image's layers that are not here yet; gives the chain of all of them (nothing for an image without layers).
    ///
    /// # Errors
    /// A blob that is missing or is not what its descriptor says, a tar that is not what the configuration says, an archive that is refused.
    /// In each case no snapshot of that layer appears.
    pub fn unpack(&self, image: &Image) -> Result<Option<Digest>> {
        let _lease = self.lease()?;
        let mut parent = None;
        for (layer, diff_id) in image.manifest.layers().iter().zip(&image.config.rootfs.diff_ids) {
            let chain = Digest::chain(parent.as_ref(), diff_id);
            if !self.has_chain(&chain) {
                self.unpack_layer(parent.as_ref(), layer, diff_id)?;
            }
            parent = Some(chain);
        }
        Ok(parent)
    }

    /// Makes the snapshot of one layer on top of `parent`, from its blob.
    ///
    /// # Errors
    /// As [`Store::unpack`].
    pub fn unpack_layer(&self, parent: Option<&Digest>, layer: &Descriptor, diff_id: &Digest) -> Result<()> {
        let digest = digest_of(layer)?;
        if !self.has(&digest) && *layer.media_type() == MediaType::ImageLayer {
            // Built here: the snapshot was all there was.
            return Err(StoreError::ChainMissing { chain: Digest::chain(parent, diff_id) });
        }
        let draft = self.begin(parent)?;
        let (found, size_bytes) = self.extract_blob(layer, &draft)?;
        if found != *diff_id {
            return Err(StoreError::DiffIdMismatch { blob: digest, expected: *diff_id, found });
        }
        draft.publish(found, size_bytes, None, Some(plain(layer)))?;
        Ok(())
    }

    /// Extracts a layer's blob into a draft; gives the digest and length of its tar.
    pub(crate) fn extract_blob(&self, layer: &Descriptor, draft: &Draft) -> Result<(Digest, u64)> {
        let options = ExtractOptions { whiteouts: true, root_metadata: true, lowers: draft.lowers.clone(), ..ExtractOptions::default() };
        let root = open_root(&draft.upper)?;
        self.extract_to(layer, root.as_fd(), &draft.upper, &options)
    }

    /// Extracts a blob into a directory that stands at `place`; gives the digest and length of its tar.
    pub(crate) fn extract_to(&self, layer: &Descriptor, root: BorrowedFd<'_>, place: &Path, options: &ExtractOptions) -> Result<(Digest, u64)> {
        let digest = digest_of(layer)?;
        let (reader, worker) = start(self.open_blob(&digest)?, options.limits).map_err(reading(&self.blob_path(&digest)))?;
        let outcome = extract(reader, root, options);
        let sums = worker.join().map_err(|_| io::Error::other("the decompressing thread panicked"));
        let sums = sums.map_err(reading(&self.blob_path(&digest)))?;
        // A damaged blob mostly shows as a broken archive first: its digest is the better message.
        if !matches!(&outcome, Err(error) if error.is_disk_full()) {
            if sums.blob != digest {
                return Err(StoreError::DigestMismatch { expected: digest, found: sums.blob });
            }
            if sums.blob_bytes != layer.size() {
                return Err(StoreError::SizeMismatch { digest, expected: layer.size(), found: sums.blob_bytes });
            }
        }
        outcome.map_err(|source| if source.is_disk_full() { full(place, source) } else { StoreError::Unpack { digest, source } })?;
        Ok((sums.tar, sums.tar_bytes))
    }
}

/// A full disk keeps its own variant.
fn full(place: &Path, source: ExtractError) -> StoreError {
    match source {
        ExtractError::Write { path, source } => StoreError::DiskFull { path: place.join(path), source },
        source => StoreError::Extract { path: place.to_owned(), source },
    }
}

/// Opens a directory to extract into.
pub(crate) fn open_root(path: &Path) -> Result<File> {
    File::open(path).map_err(reading(path))
}

/// The descriptor without annotations and links, as a snapshot remembers it.
fn plain(layer: &Descriptor) -> Descriptor {
    Descriptor::new(layer.media_type().clone(), layer.size(), layer.digest().clone())
}

/// What a blob turned out to be.
struct Sums {
    blob: Digest,
    blob_bytes: u64,
    tar: Digest,
    tar_bytes: u64,
}

/// The uncompressed stream of a blob, made by a thread that hashes both sides of it. The tar's sums mean nothing when the stream broke.
fn start(blob: File, limits: Limits) -> io::Result<(Pieces, JoinHandle<Sums>)> {
    let (send, receive) = sync_channel(AHEAD);
    let thread = std::thread::Builder::new().name("layer-unpack".to_owned()).spawn(move || inflate(blob, limits, &send))?;
    Ok((Pieces { receive, piece: Vec::new(), at: 0 }, thread))
}

fn inflate(mut blob: File, limits: Limits, send: &SyncSender<io::Result<Vec<u8>>>) -> Sums {
    let seen = Arc::new(Mutex::new((Hasher::default(), 0)));
    let copied = blob.try_clone().and_then(|inner| copy(Hashed { inner, seen: Arc::clone(&seen) }, limits, send));
    let (mut hasher, mut blob_bytes) = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let (tar, tar_bytes) = match copied {
        Ok(Some(tar)) => tar,
        broken => {
            // The rest is hashed all the same, to tell a damaged blob from an archive that is bad in itself.
            let mut rest = Vec::with_capacity(PIECE_BYTES);
            while let Ok(1..) = (&mut blob).take(PIECE_BYTES as u64).read_to_end(&mut rest) {
                hasher.update(&rest);
                blob_bytes += rest.len() as u64;
                rest.clear();
            }
            if let Err(error) = broken {
                // Nobody listens any more when the extraction has failed already.
                let _ = send.send(Err(error));
            }
            (Digest::of(b""), 0)
        }
    };
    Sums { blob: hasher.finish(), blob_bytes, tar, tar_bytes }
}

/// Sends the uncompressed stream; nothing when the receiver went away.
fn copy(blob: Hashed, limits: Limits, send: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<Option<(Digest, u64)>> {
    let (_, mut reader) = decompress(blob, limits)?;
    let (mut hasher, mut size_bytes) = (Hasher::default(), 0);
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let mut filled = 0;
        while filled < PIECE_BYTES {
            match reader.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return Ok(Some((hasher.finish(), size_bytes)));
        }
        piece.truncate(filled);
        hasher.update(&piece);
        size_bytes += filled as u64;
        if send.send(Ok(piece)).is_err() {
            return Ok(None);
        }
    }
}

/// Hashes what is read.
struct Hashed {
    inner: File,
    seen: Arc<Mutex<(Hasher, u64)>>,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0.update(&buffer[..got]);
        seen.1 += got as u64;
        Ok(got)
    }
}

/// The receiving side as a reader.
struct Pieces {
    receive: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.receive.recv() {
                Err(_) => return Ok(0),
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
            }
        }
        let got = buffer.len().min(self.piece.len() - self.at);
        buffer[..got].copy_from_slice(&self.piece[self.at..self.at + got]);
        self.at += got;
        Ok(got)
    }
}
