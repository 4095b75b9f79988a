//! What mounting left in a layer: empty files and directories that only served to be mounted on.
//!
//! /dev, /proc and /sys stay, as they do in BuildKit's layers. Everything goes by descriptor inside the upper directory: the program may have put links
//! there.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use crate::StepError;
use crate::copy::attributes;
use crate::tree::{LastLink, Root, clean, kind, permissions};

/// Directories that every container has and every layer may have.
const KEPT: [&str; 3] = ["dev", "proc", "sys"];

/// Removes the stubs that are still empty from `upper`, then the directories above them that are there for no other reason. `below` is the file system
/// that the step started from.
pub(crate) fn clear(upper: &Path, below: &Root, stubs: &[String]) -> Result<(), StepError> {
    let failed = |path: &Path, source: io::Error| StepError::ClearStub { path: format!("/{}", path.display()), source };
    let root = Root::open(upper).map_err(|error| failed(Path::new(""), error))?;
    let mut above: Vec<PathBuf> = Vec::new();
    for stub in stubs.iter().rev() {
        let path = clean(Path::new(stub));
        let kept = KEPT.iter().any(|kept| path == Path::new(kept));
        if !kept {
            remove_empty(&root, &path).map_err(|error| failed(&path, error))?;
        }
        above.extend(path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).map(Path::to_owned));
    }
    // Deepest first, so that a chain of directories goes as a whole.
    above.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    above.dedup();
    for path in above {
        if !stubs.iter().any(|stub| clean(Path::new(stub)) == path) && is_untouched(&root, below, &path).map_err(|error| failed(&path, error))? {
            remove_empty(&root, &path).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}

/// Removes an empty file or an empty directory; anything else stays.
fn remove_empty(root: &Root, path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let Some(stat) = there(root, path)? else { return Ok(()) };
    let parent = root.open_dir(path.parent().unwrap_or(Path::new("")))?;
    let removed = match kind(&stat) {
        FileType::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
        FileType::RegularFile if stat.st_size == 0 => rustix::fs::unlinkat(&parent, name, AtFlags::empty()),
        _ => Ok(()),
    };
    match removed {
        Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is at a path; nothing when the program put a link in the way: what lies behind it was not made for mounting.
fn there(root: &Root, path: &Path) -> io::Result<Option<Stat>> {
    match root.stat(path) {
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Ok(None),
        other => other,
    }
}

/// Whether a directory of the upper is there only because something was made in it: the one below is the same.
fn is_untouched(root: &Root, below: &Root, path: &Path) -> io::Result<bool> {
    let (Some(here), Ok(there)) = (there(root, path)?, below.resolve(path, LastLink::Keep)) else { return Ok(false) };
    let Some(was) = there.stat.filter(|was| there.path == path && kind(was) == FileType::Directory) else { return Ok(false) };
    if kind(&here) != FileType::Directory {
        return Ok(false);
    }
    let same = permissions(&here) == permissions(&was) && (here.st_uid, here.st_gid) == (was.st_uid, was.st_gid);
    let (here, was) = (root.open_dir(path)?, below.open_dir(path)?);
    let opaque = rustix::fs::fgetxattr(&here, "trusted.overlay.opaque", &mut [0_u8; 8][..]).is_ok();
    Ok(same && !opaque && attributes(&here)? == attributes(&was)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_is_empty_and_new_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, below) = (dir.path().join("upper"), dir.path().join("below"));
        for path in ["etc", "proc", "run/secrets", "data/inner", "opt/kept"] {
            fs::create_dir_all(upper.join(path)).unwrap();
        }
        fs::create_dir_all(below.join("etc")).unwrap();
        fs::create_dir_all(below.join("opt")).unwrap();
        fs::write(upper.join("etc/hosts"), "").unwrap();
        fs::write(upper.join("run/secrets/token"), "written").unwrap();
        let stubs = ["/etc/hosts", "/proc", "/run", "/run/secrets", "/run/secrets/token", "/data", "/data/inner", "/opt/gone"].map(str::to_owned);
        clear(&upper, &Root::open(&below).unwrap(), &stubs).unwrap();
        assert!(!upper.join("etc").exists(), "it was there below, unchanged");
        assert!(upper.join("proc").exists());
        assert!(upper.join("run/secrets/token").exists(), "written to");
        assert!(!upper.join("data").exists());
        assert!(upper.join("opt/kept").exists());
    }

    #[test]
    fn a_link_in_the_layer_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, outside) = (dir.path().join("upper"), dir.path().join("outside"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("hosts"), "").unwrap();
        std::os::unix::fs::symlink(&outside, upper.join("etc")).unwrap();
        clear(&upper, &Root::open(dir.path()).unwrap(), &["/etc/hosts".to_owned()]).unwrap();
        assert!(outside.join("hosts").exists() && upper.join("etc").is_symlink());
    }
}
