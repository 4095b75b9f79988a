//! Extended attributes: which of them belong to a layer, and which are the overlay's or the host's own affair.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::tape::tree::by_descriptor;

/// The kernel's own limit for a list of names and for a value.
const MAX_BYTES: usize = 64 << 10;

/// A file's attributes, sorted out.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    /// Those that are part of a layer, by name.
    pub kept: Vec<(Vec<u8>, Vec<u8>)>,
    /// Overlay's mark of a directory that hides what lies below.
    pub opaque: bool,
    /// An overlay mark that a tar has no way to say.
    pub inexpressible: Option<String>,
}

/// Whether an attribute belongs to a layer. The overlay's marks become whiteouts; labels of security modules are the host's policy, not content.
pub(crate) fn belongs(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let host = name.starts_with(b"security.") && name != b"security.capability";
    !overlay && !host
}

/// The attributes of an open file or directory.
pub(crate) fn of_fd(fd: BorrowedFd<'_>) -> io::Result<Attributes> {
    let list = |buffer: &mut [u8]| rustix::fs::flistxattr(fd, buffer);
    read(list, |name, value| rustix::fs::fgetxattr(fd, name, value))
}

/// The attributes of a name that cannot be opened for reading without effect (symbolic link, device, pipe).
pub(crate) fn of_name(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Attributes> {
    let path = by_descriptor(dir, name);
    let list = |buffer: &mut [u8]| rustix::fs::llistxattr(path.as_slice(), buffer);
    read(list, |name, value| rustix::fs::lgetxattr(path.as_slice(), name, value))
}

/// Nearly every file has none, so the first look costs one call and no memory.
fn read(list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>, get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Attributes> {
    let mut few = [0_u8; 512];
    match list(&mut few) {
        Ok(0) | Err(Errno::NOTSUP) => Ok(Attributes::default()),
        Ok(length) => sort_out(&few[..length], get),
        Err(Errno::RANGE) => {
            let mut many = vec![0; MAX_BYTES];
            let length = list(&mut many)?;
            sort_out(&many[..length], get)
        }
        Err(error) => Err(error.into()),
    }
}

fn sort_out(list: &[u8], get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Attributes> {
    let mut found = Attributes::default();
    let mut value = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let overlay = name.strip_prefix(b"trusted.overlay.").or_else(|| name.strip_prefix(b"user.overlay."));
        match overlay {
            Some(b"opaque") => {
                value.resize(MAX_BYTES, 0);
                let length = get(name, &mut value)?;
                found.opaque |= value[..length] == *b"y";
            }
            Some(b"redirect" | b"metacopy" | b"whiteout") => found.inexpressible = Some(String::from_utf8_lossy(name).into_owned()),
            _ if belongs(name) => {
                value.resize(MAX_BYTES, 0);
                let length = get(name, &mut value)?;
                found.kept.push((name.to_vec(), value[..length].to_vec()));
            }
            _ => {}
        }
    }
    found.kept.sort();
    Ok(found)
}
