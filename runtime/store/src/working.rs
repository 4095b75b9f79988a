//! Writable file systems of pods' containers: `containers-fs/<name>/{fs,work}` on top of an image's chain.

use std::path::PathBuf;

use rustix::fs::RenameFlags;
use rustix::io::Errno;
use strake_oci::Digest;

use crate::error::{Result, StoreError, reading, writing};
use crate::files::{make_dir, read_optional, remove_tree};
use crate::store::Store;

/// A container's file system: what to mount as overlay. It stays until [`Store::remove_working`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Working {
    /// The name it was made with.
    pub name: String,
    /// The chain below.
    pub parent: Option<Digest>,
    /// Lower directories, topmost first; never empty.
    pub lowers: Vec<PathBuf>,
    /// What the container writes.
    pub upper: PathBuf,
    /// Overlay's working directory.
    pub work: PathBuf,
}

impl Store {
    /// The file system `name` on top of `parent`: made when missing, else the one that is there (with what was written to it).
    ///
    /// # Errors
    /// [`StoreError::OtherParent`] when it exists on top of something else.
    pub fn working(&self, name: &str, parent: Option<&Digest>) -> Result<Working> {
        check_name(name)?;
        let _lease = self.lease()?;
        loop {
            if let Some(found) = self.find_working(name)? {
                return same_parent(found, parent);
            }
            if let Some(made) = self.make_working(name, parent)? {
                return Ok(made);
            }
            // Somebody else made it in between; look again.
        }
    }

    /// Makes a file system under a temporary name and gives it its own; nothing when that name is taken.
    fn make_working(&self, name: &str, parent: Option<&Digest>) -> Result<Option<Working>> {
        let lowers = self.lowers_or_empty(parent)?;
        let draft = self.temporary("working");
        let target = self.path("containers-fs").join(name);
        let made = self.fill_working(&draft, parent).and_then(|()| {
            let cwd = rustix::fs::CWD;
            match rustix::fs::renameat_with(cwd, &draft, cwd, &target, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
                Err(error) => Err(writing(&target)(error)),
            }
        });
        if !matches!(made, Ok(true)) {
            remove_tree(&draft)?;
        }
        Ok(made?.then(|| self.describe_working(name, parent.copied(), lowers)))
    }

    /// The file system `name`, if it exists.
    pub fn find_working(&self, name: &str) -> Result<Option<Working>> {
        check_name(name)?;
        let path = self.path("containers-fs").join(name).join("parent");
        let Some(bytes) = read_optional(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let parent = match text.trim() {
            "" => None,
            digest => Some(
                digest.parse().map_err(|error: strake_oci::DigestError| StoreError::Invalid { what: path.display().to_string(), reason: error.to_string() })?,
            ),
        };
        let lowers = self.lowers_or_empty(parent.as_ref())?;
        Ok(Some(self.describe_working(name, parent, lowers)))
    }

    /// Removes a container's file system, which must not be mounted any more; one that is not there is fine.
    pub fn remove_working(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let path = self.path("containers-fs").join(name);
        let grave = self.temporary("dead");
        match std::fs::rename(&path, &grave) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(writing(&path)(error)),
            Ok(()) => remove_tree(&grave),
        }
    }

    /// The names of all containers' file systems, sorted.
    pub fn workings(&self) -> Result<Vec<String>> {
        let parent = self.path("containers-fs");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&parent).map_err(reading(&parent))? {
            names.extend(entry.map_err(reading(&parent))?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn fill_working(&self, dir: &std::path::Path, parent: Option<&Digest>) -> Result<()> {
        make_dir(dir)?;
        make_dir(&dir.join("work"))?;
        self.make_upper(&dir.join("fs"), parent)?;
        let note = dir.join("parent");
        std::fs::write(&note, parent.map(Digest::to_string).unwrap_or_default()).map_err(writing(&note))
    }

    fn describe_working(&self, name: &str, parent: Option<Digest>, lowers: Vec<PathBuf>) -> Working {
        let dir = self.path("containers-fs").join(name);
        Working { name: name.to_owned(), parent, lowers, upper: dir.join("fs"), work: dir.join("work") }
    }
}

fn same_parent(found: Working, parent: Option<&Digest>) -> Result<Working> {
    if found.parent.as_ref() == parent {
        return Ok(found);
    }
    let shown = |parent: Option<&Digest>| parent.map_or_else(|| "nothing".to_owned(), Digest::to_string);
    Err(StoreError::OtherParent { name: found.name.clone(), found: shown(found.parent.as_ref()), expected: shown(parent) })
}

fn check_name(name: &str) -> Result<()> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.bytes().all(fine) {
        return Err(StoreError::Name { name: name.to_owned() });
    }
    Ok(())
}
