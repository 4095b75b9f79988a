//! Reading one file out of overlay layers without mounting them, with overlayfs' own rules: the topmost entry wins, whiteouts hide, opaque
//! directories end the search, symbolic links resolve inside the layers.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

/// How many symbolic links a path may lead through: the kernel's own limit.
const MAX_LINKS: usize = 40;

/// The content of the regular file at `path` (absolute, in the layers; the topmost layer first), or `None` when there is none.
///
/// # Errors
/// When a layer cannot be read, the path loops, or the file is larger than `max_bytes`.
pub(crate) fn read_file(layers: &[PathBuf], path: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut todo: VecDeque<OsString> = components(OsStr::new(path));
    let mut stack: Vec<Vec<OwnedFd>> = vec![open_roots(layers)?];
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let Some(dirs) = stack.last() else { return Ok(None) };
        match lookup(dirs, &name)? {
            Entry::Absent => return Ok(None),
            Entry::Directory(dirs) => stack.push(dirs),
            Entry::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                if target.as_bytes().first() == Some(&b'/') {
                    stack.truncate(1);
                }
                for part in components(&target).into_iter().rev() {
                    todo.push_front(part);
                }
            }
            Entry::File(file) if todo.is_empty() => return read_limited(file, max_bytes).map(Some),
            Entry::File(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// What a name is in merged directories.
enum Entry {
    Absent,
    Directory(Vec<OwnedFd>),
    Link(OsString),
    File(OwnedFd),
}

fn components(path: &OsStr) -> VecDeque<OsString> {
    path.as_bytes().split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

fn open_roots(layers: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    layers.iter().map(|layer| rustix::fs::openat(CWD, layer, flags, Mode::empty()).map_err(io::Error::from)).collect()
}

/// Looks a name up in directories that overlay each other, the topmost first.
fn lookup(dirs: &[OwnedFd], name: &OsStr) -> io::Result<Entry> {
    let mut merged: Vec<OwnedFd> = Vec::new();
    for dir in dirs {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => continue,
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory {
            if !merged.is_empty() {
                break; // A directory above hides whatever is not one below.
            }
            return non_directory(dir, name, kind, stat.st_rdev);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let opaque = is_opaque(&opened);
        merged.push(opened);
        if opaque {
            break;
        }
    }
    Ok(if merged.is_empty() { Entry::Absent } else { Entry::Directory(merged) })
}

fn non_directory(dir: &OwnedFd, name: &OsStr, kind: FileType, device: u64) -> io::Result<Entry> {
    match kind {
        FileType::CharacterDevice if device == 0 => Ok(Entry::Absent), // a whiteout
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
            Ok(Entry::Link(OsString::from_vec(target.into_bytes())))
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            Ok(Entry::File(rustix::fs::openat(dir, name, flags, Mode::empty())?))
        }
        _ => Ok(Entry::Absent), // Devices, sockets and pipes hold nothing to read.
    }
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 8];
    let length = rustix::fs::fgetxattr(dir, "trusted.overlay.opaque", &mut value[..]);
    matches!(length, Ok(1) if value[0] == b'y')
}

fn read_limited(file: OwnedFd, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn read(layers: &[PathBuf], path: &str) -> Option<String> {
        read_file(layers, path, 1000).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_topmost_layer_wins_and_directories_merge() {
        let dir = tempfile::tempdir().unwrap();
        let (top, low) = (dir.path().join("top"), dir.path().join("low"));
        fs::create_dir_all(top.join("etc")).unwrap();
        fs::create_dir_all(low.join("etc")).unwrap();
        fs::write(top.join("etc/a"), "top").unwrap();
        fs::write(low.join("etc/a"), "low").unwrap();
        fs::write(low.join("etc/b"), "low b").unwrap();
        let layers = [top, low];
        assert_eq!(read(&layers, "/etc/a").as_deref(), Some("top"));
        assert_eq!(read(&layers, "/etc/b").as_deref(), Some("low b"));
        assert_eq!(read(&layers, "/etc/c"), None);
        assert_eq!(read(&layers, "/etc"), None);
        assert_eq!(read(&[], "/etc/a"), None);
    }

    #[test]
    fn links_stay_inside_the_layers() {
        let dir = tempfile::tempdir().unwrap();
        let (top, low) = (dir.path().join("top"), dir.path().join("low"));
        fs::create_dir_all(top.join("etc")).unwrap();
        fs::create_dir_all(low.join("usr")).unwrap();
        fs::write(low.join("usr/passwd"), "inside").unwrap();
        symlink("../../../../usr/passwd", top.join("etc/up")).unwrap();
        symlink("/usr/passwd", top.join("etc/passwd")).unwrap();
        symlink("loop", top.join("etc/loop")).unwrap();
        let layers = [top, low];
        assert_eq!(read(&layers, "/etc/up").as_deref(), Some("inside"));
        assert_eq!(read(&layers, "/etc/passwd").as_deref(), Some("inside"));
        assert_eq!(read_file(&layers, "/etc/loop", 10).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("big"), vec![b'x'; 11]).unwrap();
        let layers = [dir.path().to_owned()];
        assert!(read_file(&layers, "/big", 10).is_err());
        assert!(read_file(&layers, "/big", 11).unwrap().is_some());
    }
}
