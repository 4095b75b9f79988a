//! `USER` of an image, `runAsUser` of a pod: from text to numbers, by the passwd and group files *inside* the image.

use std::io;
use std::path::PathBuf;

use crate::User;
use crate::layers;

/// Larger passwd or group files are refused: an image must not make us read without end.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// The largest id there is: 2^32-1 means "no change" to the kernel.
const MAX_ID: u32 = u32::MAX - 1;

/// A user as the image knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedUser {
    /// The numbers to run with.
    pub user: User,
    /// Home directory; `/` when the image does not know the user.
    pub home: String,
    /// The name, or the number as text when the image does not know the user.
    pub name: String,
}

/// Why a user could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The passwd file has no such name.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    UserNotFound { name: String },
    /// The group file has no such name.
    #[error("unable to find group {name}: no matching entries in group file")]
    GroupNotFound { name: String },
    /// A number outside 0 to 4294967294.
    #[error("user or group id {text} is out of range: 0 to {MAX_ID}")]
    OutOfRange { text: String },
    /// passwd or group could not be read.
    #[error("could not read {path} of the image")]
    Read { path: &'static str, source: io::Error },
}

/// Resolves `user`, `user:group`, `uid`, `uid:gid` and mixtures of them; empty text is root. `lowers` are the layers, the topmost first (one
/// directory for a plain root file system); nothing is mounted.
///
/// A number that the passwd file does not know keeps group 0. Without an explicit group the supplementary groups are those that list the user.
///
/// # Errors
/// When a name is not known, a number is out of range (it never wraps around to root), or the files cannot be read.
pub fn resolve_user(lowers: &[PathBuf], text: &str) -> Result<ResolvedUser, UserError> {
    let passwd = load(lowers, "/etc/passwd")?;
    let group = load(lowers, "/etc/group")?;
    resolve(&passwd, &group, text)
}

fn load(lowers: &[PathBuf], path: &'static str) -> Result<String, UserError> {
    let bytes = layers::read_file(lowers, path, MAX_FILE_BYTES).map_err(|source| UserError::Read { path, source })?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
}

/// The same over the files' text.
fn resolve(passwd: &str, group: &str, text: &str) -> Result<ResolvedUser, UserError> {
    let (user_text, group_text) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user_text = if user_text.is_empty() { "0" } else { user_text };
    let number = number(user_text)?;
    let entry = entries(passwd).find(|entry| entry.name == user_text).or_else(|| entries(passwd).find(|entry| number.is_some() && number == Some(entry.uid)));
    let mut resolved = match (&entry, number) {
        (Some(entry), _) => ResolvedUser {
            user: User { uid: entry.uid, gid: entry.gid, groups: Vec::new() },
            home: if entry.home.is_empty() { "/".to_owned() } else { entry.home.to_owned() },
            name: entry.name.to_owned(),
        },
        (None, Some(uid)) => {
            let home = if uid == 0 { "/root" } else { "/" };
            let name = if uid == 0 { "root".to_owned() } else { uid.to_string() };
            ResolvedUser { user: User { uid, gid: 0, groups: Vec::new() }, home: home.to_owned(), name }
        }
        (None, None) => return Err(UserError::UserNotFound { name: user_text.to_owned() }),
    };
    match group_text {
        Some(name) => resolved.user.gid = find_group(group, name)?,
        None => {
            resolved.user.groups = groups_of(group, &resolved.name);
            resolved.user.groups.retain(|&gid| gid != resolved.user.gid);
        }
    }
    Ok(resolved)
}

/// Strictly a number in range, `None` when it is not written as one.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let out_of_range = || UserError::OutOfRange { text: text.to_owned() };
    if digits.len() != text.len() {
        return Err(out_of_range());
    }
    let id: u32 = text.parse().map_err(|_| out_of_range())?;
    if id > MAX_ID { Err(out_of_range()) } else { Ok(Some(id)) }
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The well-formed entries of a passwd file: others are skipped, never guessed at.
fn entries(passwd: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        fields.next()?;
        let uid = number(fields.next()?).ok()??;
        let gid = number(fields.next()?).ok()??;
        fields.next();
        Some(PasswdEntry { name, uid, gid, home: fields.next().unwrap_or("") })
    })
}

/// Name, id and members of the well-formed entries of a group file.
fn group_entries(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        fields.next()?;
        let gid = number(fields.next()?).ok()??;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn find_group(group: &str, text: &str) -> Result<u32, UserError> {
    let number = number(text)?;
    match (group_entries(group).find(|(name, ..)| *name == text), number) {
        (Some((_, gid, _)), _) | (None, Some(gid)) => Ok(gid),
        (None, None) => Err(UserError::GroupNotFound { name: text.to_owned() }),
    }
}

fn groups_of(group: &str, user: &str) -> Vec<u32> {
    group_entries(group).filter(|(_, _, members)| members.split(',').any(|member| member.trim() == user)).map(|(_, gid, _)| gid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/srv/app:/bin/sh\n# comment\nbroken:x:1\nbig:x:4294967296:0::/:\n1234:x:55:66::/n:\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nstaff:x:50:app,other\nwheel:x:10:root, app\nbig:x:4294967295:app\n";

    fn ids(text: &str) -> (u32, u32, Vec<u32>) {
        let user = resolve(PASSWD, GROUP, text).unwrap().user;
        (user.uid, user.gid, user.groups)
    }

    #[test]
    fn names_and_numbers() {
        type Ids = (u32, u32, &'static [u32]);
        let table: &[(&str, Ids)] = &[
            ("", (0, 0, &[10])),
            ("root", (0, 0, &[10])),
            ("0", (0, 0, &[10])),
            ("app", (1000, 1001, &[50, 10])),
            ("1000", (1000, 1001, &[50, 10])),
            ("app:staff", (1000, 50, &[])),
            ("app:50", (1000, 50, &[])),
            ("app:777", (1000, 777, &[])),
            ("app:", (1000, 1001, &[50, 10])),
            (":staff", (0, 50, &[])),
            ("4242", (4242, 0, &[])),
            ("4242:9", (4242, 9, &[])),
            ("1234", (55, 66, &[])),
        ];
        for (text, (uid, gid, groups)) in table {
            assert_eq!(ids(text), (*uid, *gid, groups.to_vec()), "{text:?}");
        }
    }

    #[test]
    fn homes() {
        assert_eq!(resolve(PASSWD, GROUP, "app").unwrap().home, "/srv/app");
        assert_eq!(resolve(PASSWD, GROUP, "4242").unwrap().home, "/");
        assert_eq!(resolve("", "", "").unwrap().home, "/root");
        assert_eq!(resolve("", "", "0").unwrap().user, User::default());
    }

    #[test]
    fn nothing_wraps_around_to_root() {
        for text in ["4294967296", "4294967296:0", "4294967295", "-1", "+0", "1000:4294967296", "1000:-1", "18446744073709551616"] {
            let error = resolve(PASSWD, GROUP, text).unwrap_err();
            assert!(matches!(error, UserError::OutOfRange { .. }), "{text}: {error}");
        }
        // An entry whose own number is out of range does not exist.
        assert!(matches!(resolve(PASSWD, GROUP, "big").unwrap_err(), UserError::UserNotFound { .. }));
        assert!(matches!(resolve(PASSWD, GROUP, "app:big").unwrap_err(), UserError::GroupNotFound { .. }));
    }

    #[test]
    fn unknown_names_are_named() {
        assert_eq!(resolve(PASSWD, GROUP, "x").unwrap_err().to_string(), "unable to find user x: no matching entries in passwd file");
        assert_eq!(resolve(PASSWD, GROUP, "app:y").unwrap_err().to_string(), "unable to find group y: no matching entries in group file");
        assert_eq!(resolve(PASSWD, GROUP, " 0").unwrap_err().to_string(), "unable to find user  0: no matching entries in passwd file");
    }

    #[test]
    fn the_files_come_from_the_layers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "web:x:33:33::/var/www:/bin/sh\n").unwrap();
        let resolved = resolve_user(&[dir.path().to_owned()], "web").unwrap();
        assert_eq!((resolved.user.uid, resolved.home.as_str()), (33, "/var/www"));
        assert_eq!(resolve_user(&[], "7").unwrap().user.uid, 7);
    }
}
