//! `--chown` and the owner of WORKDIR's directories: names are looked up in the destination's /etc/passwd and /etc/group.
//!
//! An unknown name is root in silence when the file system has layers, as BuildKit does it; the caller is told, to warn.

use std::io::{self, Read};
use std::path::Path;

use crate::tree::{LastLink, Root};

/// Larger passwd and group files are not read.
const MAX_FILE_BYTES: u64 = 10 << 20;

/// An owner as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// An owner, and the names in it that nobody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The numbers.
    pub owner: Owner,
    /// `user x`, `group y`.
    pub unknown: Vec<String>,
}

/// Why an owner could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// There is no file system yet to look a name up in.
    #[error("--chown={text}: `{name}` cannot be looked up, because the file system is still empty: use numbers")]
    NothingToLookIn { text: String, name: String },
    /// /etc/passwd or /etc/group could not be read.
    #[error("cannot read /{path} of the destination")]
    Read { path: &'static str, source: io::Error },
}

/// Looks an owner up. `root` is the destination's file system, `None` while it has no layer.
pub fn find(text: &str, root: Option<&Root>) -> Result<Found, OwnerError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let mut found = Found::default();
    // A number is its own group unless another is named; a name's group is in passwd; an unknown name is root.
    let (uid, own_gid) = find_user(text, user, root, &mut found.unknown)?;
    found.owner = Owner { uid, gid: own_gid };
    match group {
        None => {}
        Some("") => found.owner.gid = 0,
        Some(group) => found.owner.gid = find_group(text, group, own_gid, root, &mut found.unknown)?,
    }
    Ok(found)
}

fn find_user(text: &str, user: &str, root: Option<&Root>, unknown: &mut Vec<String>) -> Result<(u32, u32), OwnerError> {
    if let Some(uid) = number(user) {
        return Ok((uid, uid));
    }
    let Some(root) = root else {
        return if user == "root" || user.is_empty() { Ok((0, 0)) } else { Err(nothing_to_look_in(text, user)) };
    };
    let passwd = read(root, "etc/passwd")?;
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.len() >= 4 && fields[0] == user);
    let ids = entry.and_then(|fields| Some((number(fields[2])?, number(fields[3])?)));
    if ids.is_none() && !user.is_empty() && user != "root" {
        unknown.push(format!("user {user}"));
    }
    Ok(ids.unwrap_or((0, 0)))
}

fn find_group(text: &str, group: &str, otherwise: u32, root: Option<&Root>, unknown: &mut Vec<String>) -> Result<u32, OwnerError> {
    if let Some(gid) = number(group) {
        return Ok(gid);
    }
    let Some(root) = root else {
        return if group == "root" { Ok(0) } else { Err(nothing_to_look_in(text, group)) };
    };
    let groups = read(root, "etc/group")?;
    let entry = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.len() >= 3 && fields[0] == group);
    let gid = entry.and_then(|fields| number(fields[2]));
    if gid.is_none() {
        unknown.push(format!("group {group}"));
    }
    Ok(gid.unwrap_or(otherwise))
}

fn nothing_to_look_in(text: &str, name: &str) -> OwnerError {
    OwnerError::NothingToLookIn { text: text.to_owned(), name: name.to_owned() }
}

/// An id; 2^32-1 is the kernel's "leave as it is" and no id.
fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| plain && *id != u32::MAX)
}

/// A file of the destination, through links inside its root; one that is missing, special or huge is empty.
fn read(root: &Root, path: &'static str) -> Result<String, OwnerError> {
    let read = || -> io::Result<Vec<u8>> {
        let found = root.resolve(Path::new(path), LastLink::Follow)?;
        let mut bytes = Vec::new();
        root.open_file(&found.path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory) => Ok(String::new()),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(String::new()),
        Err(source) => Err(OwnerError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_and_numbers_as_buildkit_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n").unwrap();
        fs::write(dir.path().join("etc/group"), "root:x:0:\nstaff:x:50:app\n").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let table = [
            ("app", 1000, 1001),
            ("app:staff", 1000, 50),
            ("app:nosuch", 1000, 1001),
            ("nosuch", 0, 0),
            ("nosuch:nosuch", 0, 0),
            ("app:", 1000, 0),
            ("1000:", 1000, 0),
            ("1000", 1000, 1000),
            ("1000:2000", 1000, 2000),
            (":50", 0, 50),
            (":staff", 0, 50),
            ("2000:staff", 2000, 50),
            ("2000:nosuch", 2000, 2000),
            ("-1", 0, 0),
        ];
        for (text, uid, gid) in table {
            assert_eq!(find(text, Some(&root)).unwrap().owner, Owner { uid, gid }, "{text}");
        }
        assert_eq!(find("nosuch:none", Some(&root)).unwrap().unknown, ["user nosuch", "group none"]);
    }

    #[test]
    fn on_an_empty_file_system_only_numbers_and_root() {
        assert_eq!(find("root", None).unwrap().owner, Owner::default());
        assert_eq!(find("7", None).unwrap().owner, Owner { uid: 7, gid: 7 });
        assert_eq!(find("7:8", None).unwrap().owner, Owner { uid: 7, gid: 8 });
        for text in ["app", "app:1", "1:staff", "99999999999", "-1"] {
            assert!(matches!(find(text, None), Err(OwnerError::NothingToLookIn { .. })), "{text}");
        }
    }
}
