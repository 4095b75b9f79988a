//! Images into the store: root file systems, OCI layouts, `docker save` archives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::Deserialize;
use strake_oci::{Descriptor, Digest, ImageConfig, ImageIndex, Platform, platform_of};

use crate::archive::Archive;
use crate::decompress::{decompress, sniff};
use crate::error::{Result, StoreError, reading};
use crate::export::FULL_NAME;
use crate::extract::{ExtractError, ExtractOptions, extract};
use crate::image::{Image, MAX_DOCUMENT_BYTES, descriptor, digest_of, name_of, parse_manifest};
use crate::index::{Index, is_attestation, parse_index, says_index};
use crate::snapshot::CommitOptions;
use crate::store::Store;
use crate::tape::reader::TarReader;
use crate::tape::tree::{RootMetadata, Times, TreeOptions, write_tree};
use crate::unpack::open_root;

/// An image that was taken in, with the name it got.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The full reference, when the archive had one.
    pub reference: Option<String>,
    /// The image; of an index the one for this machine, or its first.
    pub image: Image,
    /// The index, when the archive had it with everything that it lists.
    pub index: Option<Descriptor>,
}

impl Imported {
    /// What a name is to stand for: the index, or the image.
    pub fn descriptor(&self) -> &Descriptor {
        self.index.as_ref().unwrap_or(&self.image.descriptor)
    }
}

/// Whether a path holds images (an OCI layout or a `docker save` archive) rather than a bare root file system.
pub fn is_image_archive(path: &Path) -> bool {
    const MARKS: [&[u8]; 2] = [b"oci-layout", b"manifest.json"];
    if path.is_dir() {
        return path.join("oci-layout").is_file() && path.join("index.json").is_file();
    }
    let Ok(file) = File::open(path) else { return false };
    let Ok((_, reader)) = decompress(file, ExtractOptions::default().limits) else { return false };
    let mut tar = TarReader::new(reader);
    while let Ok(Some(entry)) = tar.next_entry() {
        let name = entry.path.strip_prefix(b"./").unwrap_or(&entry.path);
        if MARKS.contains(&name) {
            return true;
        }
        // A root file system shows itself by its first directories: no need to read it to its end.
        if !name.is_empty() && !may_be_of_an_image(name) {
            return false;
        }
    }
    false
}

/// Whether image archives have entries of that name: `blobs/`, `index.json`, `repositories`, `<64 hexadecimal digits>/layer.tar` and their like.
fn may_be_of_an_image(name: &[u8]) -> bool {
    let first = name.split(|byte| *byte == b'/').next().unwrap_or_default();
    let stem = first.split(|byte| *byte == b'.').next().unwrap_or_default();
    matches!(first, b"blobs" | b"index.json" | b"repositories") || (stem.len() == 64 && stem.iter().all(u8::is_ascii_hexdigit))
}

impl Store {
    /// Makes a root file system (a directory, or a tar that may be compressed) into an image of one layer and names it `reference`.
    ///
    /// `config` gives everything but the layer. Every time becomes `options.mtime`, so the same files give the same digest anywhere.
    pub fn import_rootfs(&self, source: &Path, reference: &str, config: &ImageConfig, options: CommitOptions) -> Result<Image> {
        let draft = self.begin(None)?;
        let root = open_root(&draft.upper)?;
        let extraction = ExtractOptions { root_metadata: true, ..ExtractOptions::default() };
        let metadata = std::fs::metadata(source).map_err(reading(source))?;
        let outcome = if metadata.is_dir() {
            copy_tree(source, &root, &extraction)
        } else {
            let file = File::open(source).map_err(reading(source))?;
            let (_, reader) = decompress(file, extraction.limits).map_err(reading(source))?;
            extract(reader, root.as_fd(), &extraction).map(drop).map_err(|error| extracting(source, &draft.upper, error))
        };
        outcome?;
        let layer = draft.commit(options)?;
        let image = self.put_image(config, &[layer])?;
        self.tag(reference, &image.descriptor)?;
        Ok(image)
    }

    /// Takes in every image of an OCI layout (directory or tar) or `docker save` archive, and names those that have a full reference there.
    /// An index is taken with everything that it lists, or, when the archive has only a part of that, its image for this machine. Layers are unpacked when they are needed ([`Store::unpack`]).
    pub fn import_archive(&self, path: &Path) -> Result<Vec<Imported>> {
        let _lease = self.lease()?;
        let archive = Archive::at(self, path)?;
        let imported = if archive.has("index.json") {
            self.import_layout(&archive)?
        } else if archive.has("manifest.json") {
            self.import_docker(&archive)?
        } else {
            return Err(archive.refuse("it is neither an OCI layout (no index.json) nor a docker archive (no manifest.json)"));
        };
        for one in &imported {
            if let Some(reference) = &one.reference {
                self.tag(reference, one.descriptor())?;
            }
        }
        Ok(imported)
    }

    /// Takes in one image of an OCI layout without naming it: the one with this tag or manifest digest, or the only one.
    pub fn import_from_layout(&self, path: &Path, wanted: Option<&str>) -> Result<Image> {
        self.import_from_layout_for(path, wanted, &Platform::host())
    }

    /// [`Store::import_from_layout`], of an index the image for `platform`.
    pub fn import_from_layout_for(&self, path: &Path, wanted: Option<&str>, platform: &Platform) -> Result<Image> {
        let _lease = self.lease()?;
        let archive = Archive::at(self, path)?;
        let index: ImageIndex = archive.json("index.json")?;
        let fits = |entry: &&Descriptor| match wanted {
            None => true,
            Some(wanted) => entry.digest().to_string() == wanted || name_of(entry) == Some(wanted),
        };
        let found: Vec<&Descriptor> = index.manifests().iter().filter(fits).collect();
        match (&found[..], wanted) {
            ([entry], _) => self.import_manifest(&archive, &self.choose(&archive, entry, platform)?),
            ([], Some(wanted)) => Err(archive.refuse(&format!("it has no image `{wanted}`"))),
            _ => Err(archive.refuse(&format!("it has {} images: say which, as in PATH:TAG", found.len()))),
        }
    }

    fn import_layout(&self, archive: &Archive) -> Result<Vec<Imported>> {
        let index: ImageIndex = archive.json("index.json")?;
        let mut imported = Vec::new();
        for entry in index.manifests() {
            let annotation = entry.annotations().as_ref().and_then(|all| all.get(FULL_NAME)).map(String::as_str);
            let reference = annotation.or(name_of(entry).filter(|name| name.contains('/') || name.contains(':'))).map(normalise);
            let (index, image) = match self.import_index(archive, entry)? {
                Some((index, image)) => (Some(index), image),
                None => (None, self.import_manifest(archive, &self.choose(archive, entry, &Platform::host())?)?),
            };
            imported.push(Imported { reference, image, index });
        }
        Ok(imported)
    }

    /// An index with everything that it lists; `None` when the entry is no index, or the archive has not all of it.
    fn import_index(&self, archive: &Archive, entry: &Descriptor) -> Result<Option<(Descriptor, Image)>> {
        let Some((index, bytes)) = self.index_of(archive, entry)? else { return Ok(None) };
        let here = |child: &Descriptor| digest_of(child).is_ok_and(|digest| archive.has(&blob_name(&digest)));
        if index.children.is_empty() || !index.children.iter().all(here) {
            return Ok(None);
        }
        let mut images = Vec::new();
        for child in &index.children {
            let image = self.import_manifest(archive, child);
            match image {
                Ok(image) if !is_attestation(child) => images.push((platform_of(child), image)),
                Ok(_) => {}
                // Something that is neither an image nor an attestation: the images are what was asked for.
                Err(StoreError::Invalid { .. } | StoreError::Decode { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        if images.is_empty() {
            return Ok(None);
        }
        let blob = self.put(&bytes)?;
        let chosen = Platform::host().choose(images.iter().map(|(platform, _)| platform.as_ref())).unwrap_or(0);
        let descriptor = descriptor(entry.media_type().clone(), &blob.digest, blob.size_bytes)?;
        Ok(Some((descriptor, images.swap_remove(chosen).1)))
    }

    /// The index that an entry leads to, with its bytes.
    fn index_of(&self, archive: &Archive, entry: &Descriptor) -> Result<Option<(Index, Vec<u8>)>> {
        if !says_index(entry) {
            return Ok(None);
        }
        let digest = digest_of(entry)?;
        let bytes = archive.bytes(&blob_name(&digest), MAX_DOCUMENT_BYTES)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(StoreError::DigestMismatch { expected: digest, found });
        }
        let parsed = parse_index(&digest, &bytes)?;
        Ok(parsed.map(|(children, annotations)| (Index { descriptor: entry.clone(), children, annotations }, bytes)))
    }

    /// The manifest that an entry leads to: of an index the one for a platform.
    fn choose(&self, archive: &Archive, entry: &Descriptor, platform: &Platform) -> Result<Descriptor> {
        let Some((index, _)) = self.index_of(archive, entry)? else { return Ok(entry.clone()) };
        index.choose(platform).cloned().ok_or_else(|| {
            let available: Vec<String> = index.platforms().iter().map(Platform::to_string).collect();
            archive.refuse(&format!("its image {} has no manifest for {platform}: there is {}", entry.digest(), available.join(", ")))
        })
    }

    fn import_manifest(&self, archive: &Archive, entry: &Descriptor) -> Result<Image> {
        let digest = digest_of(entry)?;
        let bytes = archive.bytes(&blob_name(&digest), MAX_DOCUMENT_BYTES)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(StoreError::DigestMismatch { expected: digest, found });
        }
        let manifest = parse_manifest(&digest, &bytes)?;
        for blob in manifest.layers().iter().chain([manifest.config()]) {
            let digest = digest_of(blob)?;
            if self.size(&digest) != Some(blob.size()) {
                let found = self.take(archive.open(&blob_name(&digest))?, Some(&digest), &archive.path)?;
                if found.1 != blob.size() {
                    self.remove(&digest)?;
                    return Err(StoreError::SizeMismatch { digest, expected: blob.size(), found: found.1 });
                }
            }
        }
        self.put(&bytes)?;
        self.manifest_at(entry)
    }

    fn import_docker(&self, archive: &Archive) -> Result<Vec<Imported>> {
        let images: Vec<DockerImage> = archive.json("manifest.json")?;
        let mut imported = Vec::new();
        for docker in images {
            let bytes = archive.bytes(&docker.config, MAX_DOCUMENT_BYTES)?;
            let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|source| StoreError::Decode { what: docker.config.clone(), source })?;
            if config.rootfs.diff_ids.len() != docker.layers.len() {
                return Err(archive.refuse("its manifest.json and its image configuration disagree about the number of layers"));
            }
            let mut layers = Vec::new();
            for layer in &docker.layers {
                let mut first = [0; 4];
                let got = archive.open(layer)?.read(&mut first).map_err(reading(&archive.path))?;
                let compression = sniff(&first[..got]);
                let (digest, size_bytes) = self.take(archive.open(layer)?, None, &archive.path)?;
                layers.push(descriptor(compression.media_type(), &digest, size_bytes)?);
            }
            let blob = self.put(&bytes)?;
            let image = self.put_manifest(config, &blob.digest, blob.size_bytes, layers, &BTreeMap::new())?;
            let mut names: Vec<Option<String>> = docker.repo_tags.unwrap_or_default().iter().map(|tag| Some(normalise(tag))).collect();
            if names.is_empty() {
                names.push(None);
            }
            imported.extend(names.into_iter().map(|reference| Imported { reference, image: image.clone(), index: None }));
        }
        Ok(imported)
    }

    fn take(&self, mut reader: Box<dyn Read + '_>, expected: Option<&Digest>, path: &Path) -> Result<(Digest, u64)> {
        let mut writer = self.writer()?;
        let mut piece = vec![0; 256 << 10];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(got) => writer.append(&piece[..got])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(reading(path)(error)),
            }
        }
        writer.commit(expected).map(|blob| (blob.digest, blob.size_bytes))
    }
}

/// One element of a docker archive's manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Copies a directory tree as a tar between two threads: links, owners and attributes are kept by the same code as everywhere.
fn copy_tree(source: &Path, root: &File, options: &ExtractOptions) -> Result<()> {
    let (send, receive) = sync_channel(8);
    let from = source.to_owned();
    // A root that differs from every real one, so that its metadata are always written.
    let below = RootMetadata { mode: u32::MAX, ..RootMetadata::DEFAULT };
    let write = move || write_tree(&from, TreeOptions { times: Times::All(0), stamp: false, below }, &mut Sending { send });
    let thread = std::thread::Builder::new().name("tree-copy".to_owned()).spawn(write).map_err(reading(source))?;
    let extracted = extract(Received { receive, piece: Vec::new(), at: 0 }, root.as_fd(), options);
    let written = thread.join().map_err(|_| reading(source)(io::Error::other("the reading thread panicked")))?;
    match (extracted, written) {
        (Err(error), written) if error.is_disk_full() || written.is_ok() => Err(extracting(source, source, error)),
        (_, written) => written,
    }
}

fn extracting(source: &Path, target: &Path, error: ExtractError) -> StoreError {
    match error {
        ExtractError::Write { path, source } if crate::error::is_full(&source) => StoreError::DiskFull { path: target.join(path), source },
        error => StoreError::Extract { path: source.to_owned(), source: error },
    }
}

struct Sending {
    send: SyncSender<Vec<u8>>,
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the copy has stopped");
        self.send.send(bytes.to_vec()).map(|()| bytes.len()).map_err(gone)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Received {
    receive: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receive.recv() {
                Err(_) => return Ok(0),
                Ok(piece) => (self.piece, self.at) = (piece, 0),
            }
        }
        let got = buffer.len().min(self.piece.len() - self.at);
        buffer[..got].copy_from_slice(&self.piece[self.at..self.at + got]);
        self.at += got;
        Ok(got)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A familiar name in full: `nginx` is `docker.io/library/nginx:latest`.
fn normalise(name: &str) -> String {
    let first = name.split('/').next().unwrap_or_default();
    let has_host = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let full = match (has_host, name.contains('/')) {
        (true, _) => name.to_owned(),
        (false, true) => format!("docker.io/{name}"),
        (false, false) => format!("docker.io/library/{name}"),
    };
    let last = full.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { full } else { format!("{full}:latest") }
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn familiar_names_get_their_full_form() {
        for (name, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.2", "docker.io/library/nginx:1.2"),
            ("me/app:x", "docker.io/me/app:x"),
            ("localhost/app", "localhost/app:latest"),
            ("host:5000/app", "host:5000/app:latest"),
            ("quay.io/a/b:c", "quay.io/a/b:c"),
        ] {
            assert_eq!(normalise(name), full);
        }
    }
}
