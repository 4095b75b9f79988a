//! The files that a RUN is given read-only: hosts, resolv.conf and scripts, kept by content so that a build that dies leaves nothing to clear.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::StepError;

/// The host name in every RUN.
pub(crate) const HOSTNAME: &str = "buildkitsandbox";

const HOSTS: &str = "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// The hosts file of a RUN, with more names.
pub(crate) fn hosts(dir: &Path, names: &[String], addresses: &BTreeMap<String, IpAddr>) -> Result<PathBuf, StepError> {
    let mut text = HOSTS.to_owned();
    for name in names {
        let Some(address) = addresses.get(name) else { return Err(StepError::HostMissing { name: name.clone() }) };
        text.push_str(&format!("{address}\t{name}\n"));
    }
    keep(dir, text.as_bytes(), 0o644)
}

/// The host's resolv.conf as it is now; an empty one where the host has none.
pub(crate) fn resolv_conf(dir: &Path) -> Result<PathBuf, StepError> {
    let text = fs::read("/etc/resolv.conf").unwrap_or_default();
    keep(dir, &text, 0o644)
}

/// A heredoc script.
pub(crate) fn script(dir: &Path, content: &str) -> Result<PathBuf, StepError> {
    keep(dir, content.as_bytes(), 0o755)
}

/// The file with this content and mode, written when it is not there. A whole file is never replaced: another step may be about to mount it, and the
/// kernel mounts nothing that has lost its name.
fn keep(dir: &Path, content: &[u8], mode: u32) -> Result<PathBuf, StepError> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let path = dir.join(format!("{mode:o}-{}", &blake3::hash(content).to_hex()[..32]));
    let whole = || fs::metadata(&path).is_ok_and(|metadata| metadata.len() == content.len() as u64);
    if whole() {
        return Ok(path);
    }
    let temporary = path.with_extension(format!("{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed)));
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        match fs::hard_link(&temporary, &path) {
            // Somebody was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && whole() => fs::remove_file(&temporary),
            // What a power cut left short.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => fs::rename(&temporary, &path),
            Err(error) => Err(error),
            Ok(()) => fs::remove_file(&temporary),
        }
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        StepError::Write { path: path.clone(), source }
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = script(dir.path(), "#!/bin/sh\n").unwrap();
        assert_eq!(script(dir.path(), "#!/bin/sh\n").unwrap(), first);
        assert_ne!(script(dir.path(), "#!/bin/true\n").unwrap(), first);
        assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
    #[test]
    fn a_file_that_somebody_was_given_keeps_its_name() {
        use std::os::unix::fs::MetadataExt;
        for round in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let together = std::sync::Barrier::new(6);
            let given = || {
                together.wait();
                let path = keep(dir.path(), format!("{round}").as_bytes(), 0o644).unwrap();
                fs::metadata(path).unwrap().ino()
            };
            let inodes: Vec<u64> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..6).map(|_| scope.spawn(given)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn one_that_was_cut_short_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = keep(dir.path(), b"whole", 0o644).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(fs::read(keep(dir.path(), b"whole", 0o644).unwrap()).unwrap(), b"whole");
    }
}
