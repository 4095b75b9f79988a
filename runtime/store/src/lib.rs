//! The store: content blobs, images, snapshots, the build cache, and the way in and out of all of them.
//!
//! One [`Store`] is one directory; any number of threads and processes may use it at once. Everything is written under a temporary name and
//! renamed; a digest is verified before it is visible; what was acknowledged survives a power cut:
//!
//! - a blob, `index.json` and an image are synced before the call returns ([`BlobWriter::commit`], [`Store::tag`], [`Store::put_image`]);
//! - a layer is synced with the image that it becomes part of, not by itself. One that was never synced is discarded at the first
//!   [`Store::open`] after a restart of the machine, so a half-written layer is never used;
//! - cache records are not synced: each has a checksum, and a damaged one is a miss.
//!
//! ```text
//! <root>/version, oci-layout, index.json, blobs/sha256/<hex>     an OCI image layout that other tools can read
//! <root>/ingest/{<hex>, upload-<name>, held/}                 blobs that are arriving, and those that wait for a manifest
//! <root>/snapshots/<chain>/{fs, meta.json, synced}              unpacked layers, overlayfs lower directories
//! <root>/containers-fs/<name>/{fs, work, parent}                pods' writable file systems
//! <root>/cache/{steps, packed, kin, boot}                       step -> layer, layer -> compressed blob, step -> last full copy
//! <root>/pins/<owner>.json                                     images that revisions of deployments want
//! <root>/tmp/<pid>-<n>/                                         temporaries, removed with their owner
//! ```

mod archive;
mod attributes;
mod blob;
mod cache;
mod decompress;
mod durable;
mod error;
mod export;
mod extract;
mod files;
mod growing;
mod gzip;
mod image;
mod import;
mod index;
mod ingest;
mod kin;
mod loose;
mod names;
mod overlay;
mod pack;
mod packed;
mod packing;
mod pins;
mod prune;
mod rootfs;
mod snapshot;
mod store;
mod tape;
mod unlinked;
mod unpack;
mod verify;
mod working;

pub use blob::{Blob, BlobWriter};
pub use decompress::{Compression, decompress, sniff};
pub use error::StoreError;
pub use export::{Destination, Packed};
pub use extract::{ExtractError, ExtractOptions, Extracted, Limits, Links, TarError, extract};
pub use growing::{Growth, Watcher};
pub use image::{Image, ImageRecord, descriptor, digest_of};
pub use import::{Imported, is_image_archive};
pub use index::{ATTESTATION, IN_TOTO, Index, PREDICATE_TYPE, REFERENCE_DIGEST, REFERENCE_TYPE, for_platform, is_attestation, oci_platform};
pub use ingest::Ingest;
pub use kin::KinLine;
pub use overlay::{Overlay, OverlayError, mount_overlay_detached};
pub use packed::PackedAll;
pub use packing::{LevelError, Packing};
pub use pins::Pin;
pub use prune::{Item, PruneOptions, PruneReport, Reason, What};
pub use rootfs::Folder;
pub use snapshot::{CommitOptions, Draft, Layer};
pub use store::{Lease, Store};
pub use verify::Problem;
pub use working::Working;
