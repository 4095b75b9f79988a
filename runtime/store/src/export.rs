//! Images out of the store: OCI layouts and `docker save` archives, as a directory or as one tar.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use strake_oci::{Descriptor, Digest};
use tar::EntryType;

use crate::decompress::Compression;
use crate::error::{Result, StoreError, reading, writing};
use crate::growing::Watcher;
use crate::image::{Image, MAX_DOCUMENT_BYTES, REF_NAME, descriptor, digest_of, encode, manifest_bytes};
use crate::packed::PackedAll;
use crate::packing::Packing;
use crate::snapshot::Layer;
use crate::store::Store;
use crate::tape::header::{BLOCK, Entry, pad};

/// Annotation in which Docker and containerd keep the full reference.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";
const LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

/// Where an export goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A directory, created when missing. An OCI layout that is there gets the image added.
    Directory(PathBuf),
    /// One tar file, replaced in one step.
    Archive(PathBuf),
}

impl Store {
    /// Writes an image as OCI layout; gives the descriptor of its manifest there.
    ///
    /// An image that was pulled goes out as it came when its layers have the wanted compression. Otherwise layers are packed
    /// ([`Store::pack`]), and the same image gives the same bytes on any machine. An index goes out with everything that it lists. In the layout the image is named by its tag, with the full
    /// reference in the annotation `io.containerd.image.name`.
    pub fn export_oci(&self, name: &str, destination: &Destination, packing: impl Into<Packing>) -> Result<Descriptor> {
        self.export_oci_as(name, name, destination, packing, &BTreeMap::new())
    }

    /// [`Store::export_oci`] of `content` under another name, with annotations on the entry that names it.
    pub fn export_oci_as(
        &self,
        content: &str,
        name: &str,
        destination: &Destination,
        packing: impl Into<Packing>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Descriptor> {
        let _lease = self.lease()?;
        let parts = self.packed_all(content, Some(packing.into()))?;
        let entry = index_entry(parts.top().0, name, annotations)?;
        match destination {
            Destination::Directory(dir) => self.write_layout_dir(dir, entry, &parts)?,
            Destination::Archive(path) => write_archive(path, |out| self.write_layout_tar(out, entry, &parts))?,
        }
        Ok(parts.top().0.clone())
    }

    /// Writes an image as an archive that `docker load` and `podman load` take. Its layers are compressed with gzip.
    pub fn export_docker(&self, name: &str, destination: &Path) -> Result<()> {
        self.export_docker_all(&[name], destination)
    }

    /// [`Store::export_docker`] for several images in one archive; layers that they share are in it once. Names without a tag stay unnamed.
    pub fn export_docker_all(&self, names: &[&str], destination: &Path) -> Result<()> {
        let _lease = self.lease()?;
        let mut images = Vec::new();
        for name in names {
            let image = self.image(name)?;
            let layers = self.unpack(&image)?.map_or(Ok(Vec::new()), |chain| self.layers(&chain))?;
            images.push((*name, image, layers));
        }
        write_archive(destination, |out| self.write_docker_tar(out, &images))
    }

    /// Everything that a registry is to get of an image: `compression` is what the layers are to have; without one they go as they came, and those that
    /// exist as files only are packed with gzip. Hold a lease ([`Store::lease`]) for as long as the blobs are read.
    pub fn packed(&self, name: &str, compression: Option<Compression>) -> Result<Packed> {
        let _lease = self.lease()?;
        self.oci_parts(&self.image(name)?, compression.map(Packing::usual), None)
    }

    pub(crate) fn oci_parts(&self, image: &Image, packing: Option<Packing>, watcher: Option<&Watcher>) -> Result<Packed> {
        let listed = image.manifest.layers();
        let as_wanted = |layer: &Descriptor| {
            let found = Compression::of_media_type(layer.media_type());
            let good = packing.map_or(found.is_some(), |wanted| found == Some(wanted.compression));
            good && digest_of(layer).is_ok_and(|digest| self.has(&digest))
        };
        let packing = packing.unwrap_or_default();
        if listed.iter().all(as_wanted) {
            let manifest = self.read(&image.digest()?, MAX_DOCUMENT_BYTES)?;
            return Ok(Packed { descriptor: image.descriptor.clone(), manifest, config: image.manifest.config().clone(), layers: listed.clone() });
        }
        let known = match self.unpack(image)? {
            Some(chain) => self.layers(&chain)?,
            None => Vec::new(),
        };
        let layers = known.iter().map(|layer| self.pack_watched(layer, packing, watcher)).collect::<Result<Vec<_>>>()?;
        let config = descriptor(strake_oci::MediaType::ImageConfig, &image.config_digest, image.manifest.config().size())?;
        let annotations = image.manifest.annotations().clone().unwrap_or_default().into_iter().collect();
        let manifest = manifest_bytes(&config, &layers, &annotations)?;
        let descriptor = descriptor(strake_oci::MediaType::ImageManifest, &Digest::of(&manifest), manifest.len() as u64)?;
        Ok(Packed { descriptor, manifest, config, layers })
    }

    fn write_layout_dir(&self, dir: &Path, entry: serde_json::Value, parts: &PackedAll) -> Result<()> {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(writing(&blobs))?;
        for digest in parts.blobs()? {
            self.copy_blob(&digest, &blobs)?;
        }
        for (descriptor, bytes) in parts.documents() {
            put_file(&blobs.join(digest_of(descriptor)?.hex()), bytes)?;
        }
        put_file(&dir.join("oci-layout"), LAYOUT)?;
        let path = dir.join("index.json");
        let mut entries = match crate::files::read_optional(&path)? {
            None => Vec::new(),
            Some(bytes) => {
                let decode = |source| StoreError::Decode { what: path.display().to_string(), source };
                let index: serde_json::Value = serde_json::from_slice(&bytes).map_err(decode)?;
                index["manifests"].as_array().cloned().unwrap_or_default()
            }
        };
        let key = |entry: &serde_json::Value| entry["annotations"][REF_NAME].clone();
        entries.retain(|known| key(known) != key(&entry));
        entries.push(entry);
        put_file(&path, &index_bytes(&entries)?)
    }

    fn copy_blob(&self, digest: &Digest, blobs: &Path) -> Result<()> {
        let target = blobs.join(digest.hex());
        if std::fs::metadata(&target).ok().map(|metadata| metadata.len()) == self.size(digest) {
            return Ok(());
        }
        let temporary = blobs.join(format!(".{}.{}", digest.hex(), std::process::id()));
        let copied = std::fs::copy(self.blob_path(digest), &temporary)
            .map_err(writing(&target))
            .and_then(|_| std::fs::rename(&temporary, &target).map_err(writing(&target)));
        if copied.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        copied
    }

    fn write_layout_tar(&self, out: &mut Outer, entry: serde_json::Value, parts: &PackedAll) -> Result<()> {
        out.directories()?;
        for digest in parts.blobs()? {
            out.blob(self, &digest)?;
        }
        for (descriptor, bytes) in parts.documents() {
            out.file(&blob_name(&digest_of(descriptor)?), bytes)?;
        }
        out.file("index.json", &index_bytes(&[entry])?)?;
        out.file("oci-layout", LAYOUT)?;
        out.end()
    }

    fn write_docker_tar(&self, out: &mut Outer, images: &[(&str, Image, Vec<Layer>)]) -> Result<()> {
        out.directories()?;
        let mut written = Vec::new();
        let mut rows = Vec::new();
        for (name, image, layers) in images {
            if !written.contains(&image.config_digest) {
                out.blob(self, &image.config_digest)?;
                written.push(image.config_digest);
            }
            let mut paths = Vec::with_capacity(layers.len());
            for layer in layers {
                // The form that is remembered: a layer that has not changed is neither read nor compressed again.
                let packed = digest_of(&self.pack(layer, Compression::Gzip)?)?;
                if !written.contains(&packed) {
                    out.blob(self, &packed)?;
                    written.push(packed);
                }
                paths.push(blob_name(&packed));
            }
            let tags: Vec<&str> = if split_tag(name).is_some() { vec![name] } else { Vec::new() };
            rows.push(serde_json::json!({ "Config": blob_name(&image.config_digest), "RepoTags": tags, "Layers": paths }));
        }
        out.file("manifest.json", &encode("manifest.json", &rows)?)?;
        out.end()
    }
}

/// An image as other stores and registries get it: every blob is in the store, except the manifest, whose bytes are here.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// Of the manifest.
    pub descriptor: Descriptor,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Of the configuration.
    pub config: Descriptor,
    /// Of the layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// The tag of a reference, if it has one (and is no digest).
pub(crate) fn split_tag(reference: &str) -> Option<(&str, &str)> {
    let (name, tag) = reference.rsplit_once(':')?;
    (!tag.contains('/') && !name.contains('@') && !name.is_empty() && name != "sha256").then_some((name, tag))
}

fn index_entry(descriptor: &Descriptor, name: &str, more: &BTreeMap<String, String>) -> Result<serde_json::Value> {
    let mut annotations: serde_json::Map<_, _> = more.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    match split_tag(name) {
        Some((_, tag)) => {
            annotations.insert(FULL_NAME.to_owned(), name.into());
            annotations.insert(REF_NAME.to_owned(), tag.into());
        }
        None => {
            annotations.insert(REF_NAME.to_owned(), "latest".into());
        }
    }
    let digest: &str = descriptor.digest().as_ref();
    Ok(serde_json::json!({ "mediaType": descriptor.media_type(), "digest": digest, "size": descriptor.size(), "annotations": annotations }))
}

fn index_bytes(entries: &[serde_json::Value]) -> Result<Vec<u8>> {
    encode("index.json", &serde_json::json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries }))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Replaces a file of a layout in one step.
fn put_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_file_name(format!(".strake-{}", std::process::id()));
    let put = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if put.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    put.map_err(writing(path))
}

/// Writes an archive beside its name, then gives it the name. What is no regular file (`/dev/stdout`, a pipe) is written to directly.
fn write_archive(path: &Path, write: impl FnOnce(&mut Outer) -> Result<()>) -> Result<()> {
    let direct = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    if direct {
        let file = std::fs::OpenOptions::new().write(true).open(path).map_err(writing(path))?;
        return write(&mut Outer { out: BufWriter::with_capacity(256 << 10, file), path: path.to_owned() });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let file = File::create(&temporary).map_err(writing(path))?;
    let mut out = Outer { out: BufWriter::with_capacity(256 << 10, file), path: path.to_owned() };
    let written = write(&mut out).and_then(|()| std::fs::rename(&temporary, path).map_err(writing(path)));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// The tar around an exported image: fixed times, owners and modes.
struct Outer {
    out: BufWriter<File>,
    path: PathBuf,
}

impl Outer {
    fn header(&mut self, name: &str, kind: EntryType, size_bytes: u64) -> Result<()> {
        let mode = if kind == EntryType::Directory { 0o755 } else { 0o644 };
        let mut entry = Entry::new(name.as_bytes().to_vec(), kind, mode, (0, 0), 0);
        entry.size_bytes = size_bytes;
        entry.write_header(&mut self.out).map_err(writing(&self.path))
    }

    fn directories(&mut self) -> Result<()> {
        self.header("blobs/", EntryType::Directory, 0)?;
        self.header("blobs/sha256/", EntryType::Directory, 0)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.header(name, EntryType::Regular, bytes.len() as u64)?;
        self.out.write_all(bytes).map_err(writing(&self.path))?;
        pad(&mut self.out, bytes.len() as u64).map_err(writing(&self.path))
    }

    fn blob(&mut self, store: &Store, digest: &Digest) -> Result<()> {
        let mut file = store.open_blob(digest)?;
        let path = store.blob_path(digest);
        let size_bytes = file.metadata().map_err(reading(&path))?.len();
        self.header(&blob_name(digest), EntryType::Regular, size_bytes)?;
        let copied = io::copy(&mut file, &mut self.out).map_err(writing(&self.path))?;
        if copied != size_bytes {
            return Err(StoreError::SizeMismatch { digest: *digest, expected: size_bytes, found: copied });
        }
        pad(&mut self.out, size_bytes).map_err(writing(&self.path))
    }

    fn end(&mut self) -> Result<()> {
        self.out.write_all(&[0; 2 * BLOCK]).map_err(writing(&self.path))?;
        self.out.flush().map_err(writing(&self.path))
    }
}
