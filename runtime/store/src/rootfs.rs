//! An image's files out of the store: as one plain tar, or into a directory.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError, reading, writing};
use crate::extract::{ExtractOptions, Limits, extract};
use crate::overlay::Overlay;
use crate::store::Store;
use crate::tape::tree::{RootMetadata, Times, TreeOptions, write_tree};
use crate::unpack::open_root;

/// The files of an image in a place of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where; empty is the top.
    pub path: PathBuf,
    /// The image's name or digest.
    pub image: String,
    /// Files that come beside the image's: name and content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Store {
    /// Writes the files of an image, all layers in one, as an uncompressed tar. Every entry has the time `mtime` (seconds since 1970), so the same image
    /// gives the same bytes anywhere.
    pub fn write_files(&self, name: &str, mtime: i64, out: &mut impl Write) -> Result<()> {
        let _lease = self.lease()?;
        let image = self.image(name)?;
        let (_mount, root) = self.merged(self.unpack(&image)?.as_ref())?;
        write_tree(&root, TreeOptions { times: Times::All(mtime), stamp: false, below: RootMetadata::DEFAULT }, out)
    }

    /// Writes the files of several images as one tar, each below its folder.
    pub fn write_folders(&self, folders: &[Folder], mtime: i64, out: &mut impl Write) -> Result<()> {
        let _lease = self.lease()?;
        let top = self.temporary("folders");
        let written = (|| {
            std::fs::create_dir_all(&top).map_err(writing(&top))?;
            for Folder { path, image, files } in folders {
                let dir = if path.as_os_str().is_empty() { top.clone() } else { top.join(path) };
                self.export_files(image, &dir, mtime, None)?;
                for (name, bytes) in files {
                    let path = dir.join(name);
                    std::fs::write(&path, bytes).map_err(writing(&path))?;
                }
            }
            write_tree(&top, TreeOptions { times: Times::All(mtime), stamp: false, below: RootMetadata::of(&top)? }, out)
        })();
        let removed = crate::files::remove_tree(&top);
        written.and(removed)
    }

    /// The paths of everything in an image that is no directory, sorted.
    pub fn list_files(&self, name: &str) -> Result<Vec<PathBuf>> {
        let _lease = self.lease()?;
        let image = self.image(name)?;
        let (_mount, root) = self.merged(self.unpack(&image)?.as_ref())?;
        let (mut found, mut todo) = (Vec::new(), vec![root.clone()]);
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir).map_err(reading(&dir))? {
                let entry = entry.map_err(reading(&dir))?;
                let is_dir = entry.file_type().map_err(reading(&dir))?.is_dir();
                if is_dir { todo.push(entry.path()) } else { found.extend(entry.path().strip_prefix(&root).map(Path::to_owned)) }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Puts the files of an image into a directory, which is made when missing. What is there under the same names is replaced, anything else stays.
    /// Everything is owned by `owner`; `None` keeps the image's owners. Paths that lead through a link in the directory are refused.
    pub fn export_files(&self, name: &str, dir: &Path, mtime: i64, owner: Option<(u32, u32)>) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(writing(dir))?;
        let target = open_root(dir)?;
        let limits = Limits { max_entries: u64::MAX, max_bytes: u64::MAX, ..Limits::default() };
        let options = ExtractOptions { chown: owner, limits, ..ExtractOptions::default() };
        let (reader, mut writer) = io::pipe().map_err(writing(dir))?;
        std::thread::scope(|scope| {
            let written = scope.spawn(move || {
                let mut out = io::BufWriter::with_capacity(128 << 10, &mut writer);
                self.write_files(name, mtime, &mut out).and_then(|()| out.flush().map_err(writing(dir)))
            });
            let extracted = extract(reader, target.as_fd(), &options).map_err(|source| StoreError::Extract { path: dir.to_owned(), source });
            let written = written.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // The end that broke the pipe says why; the other one only that it broke.
            match written {
                Err(StoreError::Write { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => extracted.map(drop),
                Err(error) => Err(error),
                Ok(()) => extracted.map(drop),
            }
        })
    }

    /// A read-only view of a chain of layers: the path is good for as long as the descriptor lives.
    fn merged(&self, chain: Option<&strake_oci::Digest>) -> Result<(Option<OwnedFd>, PathBuf)> {
        let empty = self.path("empty");
        let Some(chain) = chain else { return Ok((None, empty)) };
        let mut lowers = self.lowers(chain)?;
        // A read-only overlay wants two directories; more do no harm.
        lowers.push(empty);
        let overlay = Overlay { lowers: &lowers, writable: None, volatile: true };
        let mount = overlay.mount_detached().map_err(|source| StoreError::View { source })?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()));
        Ok((Some(mount), path))
    }
}
