//! Archives that images come in, read as named files: a directory, or a tar whose files are found by one pass over it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tar::EntryType;

use crate::decompress::{decompress, is_compressed};
use crate::error::{Result, StoreError, reading, writing};
use crate::extract::{ExtractError, Limits};
use crate::image::MAX_DOCUMENT_BYTES;
use crate::store::Store;
use crate::tape::reader::{TarReader, show};

/// Symbolic links inside an archive that are followed one after the other.
const MAX_LINKS: usize = 8;

/// Files of a directory or of a tar.
pub(crate) struct Archive {
    pub(crate) path: PathBuf,
    /// The tar, and where its files are: nothing for a directory.
    tar: Option<(File, HashMap<String, Place>)>,
}

enum Place {
    File { offset: u64, length: u64 },
    Link { target: String },
}

impl Archive {
    /// Opens a directory, or a tar in any compression.
    pub(crate) fn at(store: &Store, path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(reading(path))?;
        if file.metadata().map_err(reading(path))?.is_dir() {
            return Ok(Archive { path: path.to_owned(), tar: None });
        }
        let mut first = Vec::new();
        Read::by_ref(&mut file).take(10).read_to_end(&mut first).map_err(reading(path))?;
        file.rewind().map_err(reading(path))?;
        if is_compressed(&first) {
            file = inflated(store, file, path)?;
        }
        let places = places(&mut file).map_err(|error| StoreError::Extract { path: path.to_owned(), source: error })?;
        Ok(Archive { path: path.to_owned(), tar: Some((file, places)) })
    }

    /// An error about the archive as a whole.
    pub(crate) fn refuse(&self, reason: &str) -> StoreError {
        StoreError::Import { path: self.path.clone(), reason: reason.to_owned() }
    }

    /// Whether it has a file of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.tar {
            None => self.path.join(name).is_file(),
            Some((_, places)) => places.contains_key(name),
        }
    }

    /// A file's content.
    pub(crate) fn open(&self, name: &str) -> Result<Box<dyn Read + '_>> {
        let Some((file, places)) = &self.tar else {
            if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(self.refuse(&format!("it names a file `{name}` outside of itself")));
            }
            let path = self.path.join(name);
            return Ok(Box::new(File::open(&path).map_err(reading(&path))?));
        };
        let mut name = name.to_owned();
        for _ in 0..MAX_LINKS {
            match places.get(&name) {
                None => break,
                Some(Place::File { offset, length }) => return Ok(Box::new(Slice { file, offset: *offset, left: *length })),
                Some(Place::Link { target }) => name.clone_from(target),
            }
        }
        Err(self.refuse(&format!("it has no file {name}")))
    }

    /// A small file's content.
    pub(crate) fn bytes(&self, name: &str, max_bytes: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(name)?.take(max_bytes + 1).read_to_end(&mut bytes).map_err(reading(&self.path))?;
        if bytes.len() as u64 > max_bytes { Err(self.refuse(&format!("its {name} is longer than {max_bytes} bytes"))) } else { Ok(bytes) }
    }

    /// A small file's content as JSON.
    pub(crate) fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T> {
        let bytes = self.bytes(name, MAX_DOCUMENT_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Decode { what: format!("{name} of {}", self.path.display()), source })
    }
}

/// A part of the archive's file, read by position so that several can be open.
struct Slice<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let got = std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..want], self.offset)?;
        self.offset += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// Where the files of a tar are.
fn places(file: &mut File) -> std::result::Result<HashMap<String, Place>, ExtractError> {
    let mut places = HashMap::new();
    let mut tar = TarReader::new(Counting { file, at: 0 });
    while let Some(entry) = tar.next_entry()? {
        let name = show(entry.path.strip_prefix(b"./").unwrap_or(&entry.path));
        let place = match entry.kind {
            EntryType::Regular if entry.pieces.is_none() => Place::File { offset: tar.inner().at, length: entry.size_bytes },
            EntryType::Symlink => Place::Link { target: beside(&name, &show(&entry.link)) },
            EntryType::Link => Place::Link { target: show(&entry.link) },
            _ => continue,
        };
        places.insert(name, place);
    }
    Ok(places)
}

/// The target of a relative link, by names only.
fn beside(name: &str, link: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

struct Counting<'a> {
    file: &'a mut File,
    at: u64,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buffer)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// A compressed archive, uncompressed into a file without a name.
fn inflated(store: &Store, file: File, path: &Path) -> Result<File> {
    let temporary = store.temporary("archive");
    let mut out = crate::files::create(&temporary)?;
    std::fs::remove_file(&temporary).map_err(writing(&temporary))?;
    let (_, mut reader) = decompress(file, Limits::default()).map_err(reading(path))?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match reader.read(&mut piece).map_err(reading(path))? {
            0 => break,
            got => out.write_all(&piece[..got]).map_err(writing(&temporary))?,
        }
    }
    out.rewind().map_err(reading(&temporary))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn links_are_followed_by_name() {
        assert_eq!(super::beside("abc/layer.tar", "../def/layer.tar"), "def/layer.tar");
        assert_eq!(super::beside("layer.tar", "../../../etc/passwd"), "etc/passwd");
    }
}
