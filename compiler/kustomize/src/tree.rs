//! The files that a kustomization is made of, in memory.

use std::collections::BTreeMap;

use strake_sops::Opened;

/// The names that a kustomization file can have.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file's bytes.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// Nothing; the text says why (`no such file`).
    Missing(String),
}

/// Files by their normal paths: `/` between names, no `.`, `..` only in front.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
    sealed: BTreeMap<String, Opened>,
}

impl Tree {
    /// Notes what is at a path.
    pub fn insert(&mut self, path: &str, entry: Entry) {
        self.entries.insert(normal(path), entry);
    }

    /// What is there; `None` when nobody has looked yet.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Notes what stands in a file that is encrypted; its entry is the encrypted text.
    pub fn open(&mut self, path: &str, opened: Opened) {
        self.sealed.insert(normal(path), opened);
    }

    /// What stands in a file that is encrypted.
    pub fn opened(&self, path: &str) -> Option<&Opened> {
        self.sealed.get(path)
    }

    /// A file's text: `Err` says what is wrong with it.
    pub(crate) fn text(&self, path: &str) -> Result<&str, String> {
        match self.get(path) {
            Some(Entry::File(bytes)) => std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned()),
            Some(Entry::Directory) => Err("is a directory".to_owned()),
            Some(Entry::Missing(why)) => Err(why.clone()),
            None => Err("was not read".to_owned()),
        }
    }

    /// The path of a directory's kustomization file: `Err` says what is wrong.
    pub(crate) fn kustomization(&self, directory: &str) -> Result<String, String> {
        let paths = FILE_NAMES.iter().map(|name| join(directory, name));
        let found: Vec<String> = paths.filter(|path| matches!(self.get(path), Some(Entry::File(_)))).collect();
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(format!("holds no {}", FILE_NAMES[0])),
            many => Err(format!("holds several: {}", many.join(", "))),
        }
    }
}

/// `path` seen from `directory`.
pub(crate) fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') || directory.is_empty() { normal(path) } else { normal(&format!("{directory}/{path}")) }
}

/// The directory of a path.
pub(crate) fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or_else(|| ".".to_owned(), |(directory, _)| if directory.is_empty() { "/".to_owned() } else { directory.to_owned() })
}

/// Whether a path lies in a directory or below it.
pub(crate) fn inside(directory: &str, path: &str) -> bool {
    let normal_directory = normal(directory);
    if normal_directory == "." {
        return !path.starts_with("..") && !path.starts_with('/');
    }
    path == normal_directory || path.strip_prefix(&normal_directory).is_some_and(|rest| rest.starts_with('/') || normal_directory == "/")
}

/// Without `.` and needless `..`.
pub fn normal(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." && parts.last().is_some_and(|last| *last != "..") {
            parts.pop();
        } else if part != ".." || !absolute {
            parts.push(part);
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_brought_into_one_form() {
        let cases = [("a/./b//c", "a/b/c"), ("a/../b", "b"), ("../a/..", ".."), ("../../x", "../../x"), ("./", "."), ("/a/../../b", "/b"), ("/", "/")];
        for (path, expected) in cases {
            assert_eq!(normal(path), expected, "{path}");
        }
        assert_eq!(join("overlays/prod", "../../base"), "base");
        assert_eq!(join(".", "../x"), "../x");
        assert!(inside("overlays/prod", "overlays/prod/a/b") && !inside("overlays/prod", "overlays/production/a"));
        assert!(inside(".", "a") && !inside(".", "../a"));
    }
}
