//! Files of a volume, changed all at once: readers see the old ones or the new ones, never a mixture.
//!
//! `..data` is a link to a directory with the files; every name beside it is a link through `..data`. A change is a new
//! directory and one rename of the link.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use super::project::Files;

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes a volume hold exactly these files. Gives whether anything changed.
pub(crate) fn write(volume: &Path, files: &Files, stamp: &str, group: Option<u32>) -> io::Result<bool> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(volume)?;
    let before = fs::read_link(volume.join(DATA)).ok();
    if let Some(before) = &before
        && holds(&volume.join(before), files)?
    {
        return Ok(false);
    }
    let fresh = unused(volume, stamp);
    let directory = volume.join(&fresh);
    fs::DirBuilder::new().mode(0o755).create(&directory)?;
    for (path, file) in files {
        let target = directory.join(path);
        if let Some(parent) = target.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        // A group that may read it, where the pod names one, as kubelet does.
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        let mut handle = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&target)?;
        io::Write::write_all(&mut handle, &file.bytes)?;
        // The umask has had its say; the volume's word counts.
        handle.set_permissions(fs::Permissions::from_mode(mode))?;
        if let Some(group) = group {
            std::os::unix::fs::chown(&target, None, Some(group))?;
        }
    }
    let next = volume.join(NEXT);
    let _ = fs::remove_file(&next);
    symlink(&fresh, &next)?;
    fs::rename(&next, volume.join(DATA))?;
    link_names(volume, files)?;
    if let Some(before) = before {
        fs::remove_dir_all(volume.join(before))?;
    }
    Ok(true)
}

/// A directory name that isn't there.
fn unused(volume: &Path, stamp: &str) -> String {
    let mut name = format!("..{stamp}");
    let mut count = 0;
    while volume.join(&name).exists() {
        count += 1;
        name = format!("..{stamp}.{count}");
    }
    name
}

fn holds(directory: &Path, files: &Files) -> io::Result<bool> {
    if count(directory)? != files.len() {
        return Ok(false);
    }
    Ok(files.iter().all(|(path, file)| fs::read(directory.join(path)).is_ok_and(|bytes| bytes == file.bytes)))
}

fn count(directory: &Path) -> io::Result<usize> {
    let mut found = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            } else {
                found += 1;
            }
        }
    }
    Ok(found)
}

/// A link for the first part of each path; links to what is no more go.
fn link_names(volume: &Path, files: &Files) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| !name.starts_with("..") && !wanted.contains(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::project::File;
    use super::*;

    fn files(pairs: &[(&str, &str, u32)]) -> Files {
        pairs.iter().map(|(path, text, mode)| ((*path).to_owned(), File { bytes: text.as_bytes().to_vec(), mode: *mode })).collect()
    }

    #[test]
    fn files_change_at_once_and_old_names_go() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("v");
        assert!(write(&volume, &files(&[("a", "1", 0o400), ("d/e", "2", 0o644)]), "one", None).unwrap());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(volume.join("d/e")).unwrap(), "2");
        assert_eq!(fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o777, 0o400);
        assert!(fs::symlink_metadata(volume.join("a")).unwrap().is_symlink());
        assert!(!write(&volume, &files(&[("a", "1", 0o400), ("d/e", "2", 0o644)]), "two", None).unwrap(), "nothing to do");
        let open = fs::File::open(volume.join("a")).unwrap();
        assert!(write(&volume, &files(&[("a", "new", 0o644), ("b", "3", 0o644)]), "one", None).unwrap());
        assert_eq!(io::read_to_string(open).unwrap(), "1", "an open file stays what it was");
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "new");
        assert!(fs::symlink_metadata(volume.join("d")).is_err());
        let names: Vec<String> = fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names.iter().filter(|name| name.starts_with("..") && *name != "..data").count(), 1, "{names:?}");
    }
}
