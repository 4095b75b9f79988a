//! An image as a reader of its own sees it: archives as `docker save` writes them, layers applied in order, nothing of strake's store involved.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// A node of the final tree. Names that are one file share an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `file`, `dir`, `symlink`, `fifo`, `char`, `block`.
    pub kind: &'static str,
    /// Twelve bits; 0 for symbolic links, which have none of their own.
    pub mode: u32,
    pub owner: (u64, u64),
    pub content: Vec<u8>,
    pub link: String,
    pub device: (u32, u32),
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What an image is.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub config: Value,
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
}

impl Image {
    /// Reads the one image of an archive.
    pub fn read(archive: &Path) -> Result<Image, String> {
        let members = members(&std::fs::read(archive).map_err(|error| error.to_string())?)?;
        let list: Value = serde_json::from_slice(member(&members, "manifest.json")?).map_err(|error| error.to_string())?;
        let entry = &list[0];
        let config = member(&members, entry["Config"].as_str().ok_or("no Config")?)?;
        let config = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        let mut image = Image { config, ..Image::default() };
        for name in entry["Layers"].as_array().ok_or("no Layers")? {
            image.layer(member(&members, name.as_str().ok_or("no name")?)?)?;
        }
        Ok(image)
    }

    /// The tree: each name with its node and the other names of the same file.
    pub fn tree(&self) -> BTreeMap<&str, (&Node, BTreeSet<&str>)> {
        let mut groups: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        for (name, index) in &self.names {
            groups.entry(*index).or_default().insert(name);
        }
        let describe = |(name, index): (&'_ String, &usize)| (name.clone(), *index);
        let all: Vec<(String, usize)> = self.names.iter().map(describe).collect();
        all.iter()
            .filter_map(|(name, index)| self.names.get_key_value(name).map(|(key, _)| (key.as_str(), (&self.nodes[*index], groups[index].clone()))))
            .collect()
    }

    fn layer(&mut self, bytes: &[u8]) -> Result<(), String> {
        let plain = plain(bytes)?;
        self.deletions(&plain)?;
        let mut archive = tar::Archive::new(plain.as_slice());
        for entry in archive.entries().map_err(said)? {
            let mut entry = entry.map_err(said)?;
            let path = clean(&entry.path_bytes());
            if path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh.")) {
                continue;
            }
            if entry.header().entry_type().is_hard_link() {
                let target = clean(&entry.link_name_bytes().unwrap_or_default());
                let index = *self.names.get(&target).ok_or(format!("hard link {path} to {target}, which is not there"))?;
                self.names.insert(path, index);
                continue;
            }
            let node = node(&mut entry)?;
            if node.kind != "dir" {
                self.remove_below(&path);
            }
            self.names.insert(path, self.nodes.len());
            self.nodes.push(node);
        }
        Ok(())
    }

    /// Whiteouts are about the layers below, wherever they stand in theirs.
    fn deletions(&mut self, layer: &[u8]) -> Result<(), String> {
        let mut archive = tar::Archive::new(layer);
        for entry in archive.entries().map_err(said)? {
            let path = clean(&entry.map_err(said)?.path_bytes());
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ".wh..wh..opq" {
                self.remove_below(parent);
            } else if let Some(gone) = name.strip_prefix(".wh.") {
                let gone = if parent.is_empty() { gone.to_owned() } else { format!("{parent}/{gone}") };
                self.remove_below(&gone);
                self.names.remove(&gone);
            }
        }
        Ok(())
    }

    fn remove_below(&mut self, path: &str) {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.names.retain(|name, _| name.is_empty() || !name.starts_with(&prefix));
    }
}

fn said(error: std::io::Error) -> String {
    error.to_string()
}

/// `./a//b/` as `a/b`.
fn clean(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

fn plain(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes.to_vec());
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).map_err(said)?;
    Ok(plain)
}

/// An archive's files by name; a link to another one counts as that one.
fn members(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().map_err(said)? {
        let mut entry = entry.map_err(said)?;
        let name = clean(&entry.path_bytes());
        match entry.link_name_bytes() {
            Some(target) => links.push((name, String::from_utf8_lossy(&target).into_owned())),
            None => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).map_err(said)?;
                files.insert(name, content);
            }
        }
    }
    for (name, target) in links {
        let target = target.trim_start_matches("../");
        if let Some(content) = files.get(target).cloned() {
            files.insert(name, content);
        }
    }
    Ok(files)
}

fn member<'m>(members: &'m BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'m [u8], String> {
    members.get(name).map(Vec::as_slice).ok_or(format!("the archive has no {name}"))
}

fn node(entry: &mut tar::Entry<'_, &[u8]>) -> Result<Node, String> {
    use tar::EntryType;
    let header = entry.header().clone();
    let kind = match header.entry_type() {
        EntryType::Directory => "dir",
        EntryType::Symlink => "symlink",
        EntryType::Fifo => "fifo",
        EntryType::Char => "char",
        EntryType::Block => "block",
        _ => "file",
    };
    let mut xattrs = BTreeMap::new();
    let mut owner = (header.uid().map_err(said)?, header.gid().map_err(said)?);
    if let Some(extensions) = entry.pax_extensions().map_err(said)? {
        for extension in extensions {
            let extension = extension.map_err(said)?;
            let key = extension.key().unwrap_or_default();
            if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
            }
            let number = || extension.value().ok().and_then(|text| text.parse().ok());
            match key {
                "uid" => owner.0 = number().ok_or("a uid that is no number")?,
                "gid" => owner.1 = number().ok_or("a gid that is no number")?,
                _ => {}
            }
        }
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).map_err(said)?;
    let link = if kind == "symlink" { String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned() } else { String::new() };
    let number = |value: std::io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
    let device = if matches!(kind, "char" | "block") { (number(header.device_major()), number(header.device_minor())) } else { (0, 0) };
    let mode = if kind == "symlink" { 0 } else { header.mode().map_err(said)? & 0o7777 };
    Ok(Node { kind, mode, owner, content, link, device, xattrs })
}
