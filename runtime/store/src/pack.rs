//! Snapshots to blobs: a layer's tar is made again from its files, compressed in parallel, and the result remembered.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use strake_oci::{Descriptor, Digest, MediaType};

use zstd::zstd_safe::{CParameter, Strategy};

use crate::blob::BlobWriter;
use crate::decompress::{Compression, decompress};
use crate::error::{Result, StoreError, reading, writing};
use crate::extract::Limits;
use crate::files::{Durability, read_optional, replace};
use crate::growing::{Watcher, Watching};
use crate::gzip::GzipMembers;
use crate::image::{descriptor, digest_of, encode};
use crate::packing::Packing;
use crate::snapshot::Layer;
use crate::store::Store;
use crate::tape::sink::HashAhead;
use crate::tape::tree::{Times, TreeOptions, write_varied};

const ZSTD_LEVEL: i32 = 3;
/// What of that level is set otherwise: the quickest search, in a window of 4 MB instead of 2 and with a larger table. A Debian system becomes 2 % smaller so, in two
/// thirds of the time. Any reader must cope with 8 MB (RFC 8878, 3.1.1.1.2).
const ZSTD_PARAMETERS: [CParameter; 4] =
    [CParameter::Strategy(Strategy::ZSTD_fast), CParameter::WindowLog(22), CParameter::HashLog(19), CParameter::MinMatch(6)];
/// Fixed, because it is part of what the output depends on.
const ZSTD_THREADS: u32 = 2;
/// What one thread compresses at a time: the library's own choice, four windows, takes twice the memory and makes blobs a thousandth smaller. Fixed as well.
const ZSTD_JOB_BYTES: u32 = 4 << 20;

impl Compression {
    /// The media type of a layer so compressed.
    pub fn media_type(self) -> MediaType {
        match self {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
        }
    }

    /// What a layer's media type says, OCI's or Docker's; nothing for one that is not known.
    pub fn of_media_type(media_type: &MediaType) -> Option<Self> {
        match media_type.to_string().as_str() {
            "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => Some(Compression::None),
            "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Some(Compression::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

impl Store {
    /// The blob of a layer in some compression: the one it came in, the one made before, or made now. The same layer gives the same bytes on
    /// any machine. A level is for what is made here: a layer that came in that compression stays as it is.
    ///
    /// # Errors
    /// [`StoreError::SnapshotCorrupt`] when the files on disk no longer give the layer's tar.
    pub fn pack(&self, layer: &Layer, packing: impl Into<Packing>) -> Result<Descriptor> {
        self.pack_watched(layer, packing.into(), None)
    }

    /// [`Store::pack`] for somebody who wants to hear how far it is.
    pub(crate) fn pack_watched(&self, layer: &Layer, packing: Packing, watcher: Option<&Watcher>) -> Result<Descriptor> {
        let _lease = self.lease()?;
        let compression = packing.compression;
        let note = self.packed_path(&layer.diff_id, packing);
        if let Some(known) = self.known_pack(&note)? {
            // The time only steers pruning.
            let _ = std::fs::File::open(&note).and_then(|file| file.set_modified(std::time::SystemTime::now()));
            return Ok(known);
        }
        let meta = self.snapshot_meta(&layer.chain_id)?;
        if let Some(source) = &meta.source
            && Compression::of_media_type(source.media_type()) == Some(compression)
            && self.has(&digest_of(source)?)
        {
            return descriptor(compression.media_type(), &digest_of(source)?, source.size());
        }
        let mut out = self.writer()?;
        if let Some(watcher) = watcher {
            out = out.watched(|file| Watching::begin(layer.diff_id, file, Watcher::clone(watcher)))?;
        }
        let mut sink = Packer::new(out, packing).map_err(writing(&note))?;
        self.write_tar(layer, &mut sink)?;
        let blob = sink.finish().map_err(writing(&note))?.commit(None)?;
        let made = descriptor(compression.media_type(), &blob.digest, blob.size_bytes)?;
        replace(&self.temporary("packed"), &note, &encode("packed layer", &made)?, Durability::Renamed)?;
        Ok(made)
    }

    /// Writes a layer's uncompressed tar: from the blob that it came in, else from its files. Verified as it goes, so an error may come after
    /// all bytes were written.
    pub fn write_tar(&self, layer: &Layer, out: &mut impl Write) -> Result<()> {
        let meta = self.snapshot_meta(&layer.chain_id)?;
        let mut tee = Tee::new(out);
        match (&meta.mtime, &meta.source) {
            (Some(mtime), _) => {
                let below = self.root_metadata(layer.parent.as_ref())?;
                let root = self.snapshot_path(&layer.chain_id).join("fs");
                let over = meta.over.as_ref().map(|over| self.varied(over)).transpose()?;
                write_varied(&root, over.as_deref(), TreeOptions { times: Times::All(*mtime), stamp: false, below }, &mut tee)?;
            }
            (None, Some(source)) => {
                let digest = digest_of(source)?;
                let path = self.blob_path(&digest);
                // It was bounded when it was unpacked.
                let limits = Limits { max_ratio: u64::MAX, ..Limits::default() };
                let (_, mut reader) = decompress(self.open_blob(&digest)?, limits).map_err(reading(&path))?;
                io::copy(&mut reader, &mut tee).map_err(writing(&path))?;
            }
            (None, None) => return Err(StoreError::ChainMissing { chain: layer.chain_id }),
        }
        let found = tee.finish().map_err(reading(self.root()))?;
        if found == layer.diff_id { Ok(()) } else { Err(StoreError::SnapshotCorrupt { chain: layer.chain_id, expected: layer.diff_id, found }) }
    }

    fn known_pack(&self, note: &Path) -> Result<Option<Descriptor>> {
        let Some(bytes) = read_optional(note)? else { return Ok(None) };
        // A torn note is no note.
        let Ok(known) = serde_json::from_slice::<Descriptor>(&bytes) else { return Ok(None) };
        let here = digest_of(&known).ok().and_then(|digest| self.size(&digest));
        Ok((here == Some(known.size())).then_some(known))
    }

    fn packed_path(&self, diff_id: &Digest, packing: Packing) -> PathBuf {
        self.path("cache/packed").join(format!("{}.{}", diff_id.hex(), packing.word()))
    }
}

/// Writes and hashes.
pub(crate) struct Tee<'a, W> {
    out: &'a mut W,
    hash: HashAhead,
}

impl<'a, W> Tee<'a, W> {
    pub(crate) fn new(out: &'a mut W) -> Self {
        Tee { out, hash: HashAhead::default() }
    }

    /// The digest of everything written.
    pub(crate) fn finish(self) -> io::Result<Digest> {
        self.hash.finish().map(|(digest, _)| digest)
    }
}

impl<W: Write> Write for Tee<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hash.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Compresses into a blob.
pub(crate) enum Packer {
    None(io::BufWriter<BlobWriter>),
    Gzip(GzipMembers),
    Zstd(zstd::stream::write::Encoder<'static, BlobWriter>),
}

impl Packer {
    pub(crate) fn new(out: BlobWriter, packing: Packing) -> io::Result<Self> {
        Ok(match packing.compression {
            Compression::None => Packer::None(io::BufWriter::with_capacity(256 << 10, out)),
            Compression::Gzip => Packer::Gzip(GzipMembers::new(out, packing.deflate_level())?),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, packing.zstd_level().map_or(ZSTD_LEVEL, |(level, _)| level))?;
                encoder.include_checksum(true)?;
                encoder.multithread(ZSTD_THREADS)?;
                encoder.set_parameter(CParameter::JobSize(ZSTD_JOB_BYTES))?;
                match packing.zstd_level() {
                    None => ZSTD_PARAMETERS.into_iter().try_for_each(|parameter| encoder.set_parameter(parameter))?,
                    Some((_, besides)) => besides.into_iter().try_for_each(|parameter| encoder.set_parameter(parameter))?,
                }
                Packer::Zstd(encoder)
            }
        })
    }

    pub(crate) fn finish(self) -> io::Result<BlobWriter> {
        match self {
            Packer::None(out) => out.into_inner().map_err(io::IntoInnerError::into_error),
            Packer::Gzip(members) => members.finish(),
            Packer::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Packer::None(out) => out.write(bytes),
            Packer::Gzip(members) => members.write(bytes),
            Packer::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Packer::None(out) => out.flush(),
            Packer::Gzip(_) => Ok(()),
            Packer::Zstd(encoder) => encoder.flush(),
        }
    }
}
