//! Build caches in a directory: an OCI layout whose index names each by a tag.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use strake_build::BlobSource;
use strake_oci::{Descriptor, Digest, ImageManifest};
use strake_store::{Packed, Store, digest_of};

use crate::failure::Failure;

/// Documents longer than this are not read.
const MAX_DOCUMENT_BYTES: u64 = 8 << 20;
const TAG: &str = "org.opencontainers.image.ref.name";

/// A directory that has a cache's blobs.
#[derive(Debug)]
pub struct Layout {
    pub dir: PathBuf,
}

impl BlobSource for Layout {
    fn fetch(&self, blob: &Descriptor, store: &Store) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let digest = digest_of(blob)?;
        if store.size(&digest) == Some(blob.size()) {
            return Ok(());
        }
        // No more is read than was promised; what it is, the digest tells.
        let mut file = open(&place(&self.dir, &digest))?.take(blob.size() + 1);
        let mut writer = store.writer()?;
        let mut piece = vec![0; 256 << 10];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                got => writer.append(&piece[..got])?,
            }
        }
        writer.commit(Some(&digest))?;
        Ok(())
    }
}

fn place(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

/// Opens a regular file: nothing in a directory of strangers may make us wait.
fn open(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(named)?;
    if file.metadata().map_err(named)?.is_file() { Ok(file) } else { Err(named(io::Error::other("it is no regular file"))) }
}

fn document(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    open(path)?.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(Failure::text(format!("{} is longer than {MAX_DOCUMENT_BYTES} bytes", path.display())));
    }
    Ok(bytes)
}

fn verified(dir: &Path, digest: &Digest) -> Result<Vec<u8>, Failure> {
    let bytes = document(&place(dir, digest))?;
    let found = Digest::of(&bytes);
    if found == *digest { Ok(bytes) } else { Err(Failure::text(format!("{} is corrupt: its digest is {found}", place(dir, digest).display()))) }
}

/// The manifest and the configuration of the cache with this tag, or digest.
pub fn read(dir: &Path, tag: &str, digest: Option<&str>) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let digest = match digest {
        Some(text) => text.parse()?,
        None => {
            let index: Value = serde_json::from_slice(&document(&dir.join("index.json"))?)?;
            let named = |entry: &&Value| entry["annotations"][TAG].as_str().unwrap_or(super::parse::TAG) == tag;
            let entry = index["manifests"].as_array().into_iter().flatten().find(named);
            let text = entry.and_then(|entry| entry["digest"].as_str()).ok_or_else(|| Failure::text(format!("it has no cache with the tag {tag}")))?;
            text.parse()?
        }
    };
    let manifest = verified(dir, &digest)?;
    let parsed: ImageManifest = serde_json::from_slice(&manifest)?;
    let config = verified(dir, &digest_of(parsed.config())?)?;
    Ok((manifest, config))
}

/// Whether a blob is there in its full length.
pub fn has(dir: &Path, blob: &Descriptor) -> bool {
    digest_of(blob).is_ok_and(|digest| fs::metadata(place(dir, &digest)).is_ok_and(|found| found.is_file() && found.len() == blob.size()))
}

/// Writes a cache under a tag; others that are there stay, unless `reset`.
pub fn write(store: &Store, packed: &Packed, dir: &Path, tag: &str, reset: bool) -> Result<(), Failure> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|error| Failure::text(format!("cannot make {}: {error}", blobs.display())))?;
    let mut kept = Vec::new();
    for blob in packed.layers.iter().chain([&packed.config]) {
        let digest = digest_of(blob)?;
        let target = place(dir, &digest);
        if !has(dir, blob) {
            let temporary = temporary(&target);
            let copied = fs::copy(store.blob_path(&digest), &temporary).and_then(|_| fs::rename(&temporary, &target));
            copied.map_err(|error| unwritten(&temporary, &target, &error))?;
        }
        kept.push(target);
    }
    let digest = digest_of(&packed.descriptor)?;
    kept.push(place(dir, &digest));
    put(&place(dir, &digest), &packed.manifest)?;
    put(&dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let path = dir.join("index.json");
    let known: Value = if path.exists() { serde_json::from_slice(&document(&path)?)? } else { Value::Null };
    let mut entries = known["manifests"].as_array().cloned().unwrap_or_default();
    entries.retain(|entry| !reset && entry["annotations"][TAG].as_str() != Some(tag));
    let text: &str = packed.descriptor.digest().as_ref();
    entries.push(json!({"mediaType": packed.descriptor.media_type(), "digest": text, "size": packed.descriptor.size(), "annotations": {TAG: tag}}));
    put(&path, &serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}))?)?;
    if reset { remove_others(&blobs, &kept) } else { Ok(()) }
}

/// Removes blobs that the cache does not need, and nothing that is no blob.
fn remove_others(blobs: &Path, kept: &[PathBuf]) -> Result<(), Failure> {
    for entry in fs::read_dir(blobs)? {
        let path = entry?.path();
        let is_blob = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| format!("sha256:{name}").parse::<Digest>().is_ok());
        if is_blob && !kept.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn temporary(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn unwritten(temporary: &Path, target: &Path, error: &io::Error) -> Failure {
    // Nothing half done stays.
    let _ = fs::remove_file(temporary);
    Failure::text(format!("cannot write {}: {error}", target.display()))
}

/// Replaces a file in one step.
fn put(target: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let temporary = temporary(target);
    fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, target)).map_err(|error| unwritten(&temporary, target, &error))
}
