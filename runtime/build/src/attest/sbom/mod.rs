//! What is in an image: packages by the databases of package managers and by lock files of languages, and their list as SPDX 2.3.

mod bdb;
mod golang;
mod locks;
mod ndb;
mod os;
mod rpm;
mod spdx;
mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use strake_oci::Digest;
use strake_store::{Store, StoreError};

use crate::tree::{Entry, Kind, LastLink, Root, Verdict, ViewError, view, walk};

pub use spdx::{SPDX, spdx};

/// Lock files and metadata longer than this are passed over, with a warning.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// Databases longer than this are passed over, with a warning.
const MAX_DATABASE_BYTES: u64 = 1 << 30;

/// A package that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its package URL.
    pub purl: String,
    /// Its licence as its manager has it; empty when that says nothing.
    pub license: String,
    /// Who made or distributes it; empty when nobody says.
    pub supplier: String,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The packages, in the order of their URLs, each with the files of the image that name it.
    pub packages: Vec<(Package, BTreeSet<String>)>,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// Why an image could not be looked through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// Its layers are not there.
    #[error("cannot find the layers of the image")]
    Layers { source: StoreError },
    /// Its layers could not be looked at as one tree.
    #[error("cannot view the files of the image as one tree")]
    View { source: ViewError },
    /// A directory could not be read.
    #[error("cannot read the files of the image")]
    Walk { source: std::io::Error },
}

/// What a distribution calls itself (os-release).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Distribution {
    id: String,
    version: String,
}

impl Distribution {
    fn read(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        Distribution { id: value("ID"), version: value("VERSION_ID") }
    }

    /// The qualifier of package URLs: `debian-12`.
    fn qualifier(&self) -> String {
        if self.id.is_empty() || self.version.is_empty() { self.id.clone() } else { format!("{}-{}", self.id, self.version) }
    }
}

/// Looks through the files of a chain of layers.
pub fn inventory(store: &Store, chain: Option<&Digest>) -> Result<Inventory, ScanError> {
    let lowers = chain.map_or(Ok(Vec::new()), |chain| store.lowers(chain)).map_err(|source| ScanError::Layers { source })?;
    let root = view(store, &lowers).map_err(|source| ScanError::View { source })?;
    Scan::new(&root).run()
}

struct Scan<'a> {
    root: &'a Root,
    distribution: Distribution,
    found: BTreeMap<String, (Package, BTreeSet<String>)>,
    warnings: Vec<String>,
}

impl<'a> Scan<'a> {
    fn new(root: &'a Root) -> Self {
        Scan { root, distribution: Distribution::default(), found: BTreeMap::new(), warnings: Vec::new() }
    }

    fn run(mut self) -> Result<Inventory, ScanError> {
        let release = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| {
            let found = self.root.resolve(Path::new(path), LastLink::Follow).ok()?;
            found.stat.is_some().then(|| self.read(&found.path, MAX_TEXT_BYTES)).flatten()
        });
        self.distribution = release.map(|bytes| Distribution::read(&String::from_utf8_lossy(&bytes))).unwrap_or_default();
        let judge =
            |path: &Path, _: &Path, _: bool| if ["proc", "sys", "dev"].iter().any(|name| path == Path::new(name)) { Verdict::Leave } else { Verdict::Take };
        let entries = walk(self.root, Path::new(""), &judge).map_err(|source| ScanError::Walk { source })?;
        for entry in entries.iter().filter(|entry| entry.kind == Kind::File && entry.size > 0) {
            self.look(entry);
        }
        Ok(Inventory { packages: self.found.into_values().collect(), warnings: self.warnings })
    }

    /// What a file says about packages, if it is of a kind that does.
    fn look(&mut self, entry: &Entry) {
        let (path, distribution) = (entry.path.to_string_lossy().into_owned(), self.distribution.clone());
        let name = path.rsplit('/').next().unwrap_or_default();
        let parent = path.rsplit('/').nth(1).unwrap_or_default();
        if let Some(read) = database(&path) {
            self.database(entry, &path, read);
        } else if path == "var/lib/dpkg/status" || (path.starts_with("var/lib/dpkg/status.d/") && !name.ends_with(".md5sums")) {
            self.text(entry, &path, |text| Ok(os::dpkg(text, &distribution)));
        } else if path.ends_with("lib/apk/db/installed") {
            self.text(entry, &path, |text| Ok(os::apk(text, &distribution)));
        } else if (name == "METADATA" && parent.ends_with(".dist-info")) || (name == "PKG-INFO" && parent.ends_with(".egg-info")) {
            self.text(entry, &path, |text| Ok(locks::dist_info(text)));
        } else if let Some(read) = locks::reader(name) {
            self.text(entry, &path, read);
        } else if entry.mode & 0o111 != 0 {
            self.program(entry, &path);
        }
    }

    fn text(&mut self, entry: &Entry, path: &str, read: impl FnOnce(&str) -> Result<Vec<Package>, String>) {
        if let Some(bytes) = self.read(&entry.path, MAX_TEXT_BYTES) {
            match read(&String::from_utf8_lossy(&bytes)) {
                Ok(packages) => self.add(packages, path),
                Err(reason) => self.warnings.push(format!("/{path}: {reason}")),
            }
        }
    }

    fn database(&mut self, entry: &Entry, path: &str, read: rpm::Database) {
        let journal = Path::new(&format!("{path}-wal")).to_owned();
        if self.root.stat(&journal).ok().flatten().is_some_and(|stat| stat.st_size > 0) {
            self.warnings.push(format!("/{path}-wal: changes that are not in the database yet are not seen"));
        }
        if let Some(bytes) = self.read(&entry.path, MAX_DATABASE_BYTES) {
            match read(&bytes) {
                Ok(headers) => {
                    let packages = headers.iter().filter_map(|header| rpm::package(header, &self.distribution)).collect();
                    self.add(packages, path);
                }
                Err(reason) => self.warnings.push(format!("/{path}: {reason}")),
            }
        }
    }

    fn program(&mut self, entry: &Entry, path: &str) {
        let Ok(file) = self.root.open_file(&entry.path) else { return };
        if let Some(packages) = golang::modules(&file) {
            self.add(packages, path);
        }
    }

    /// A whole file, unless it is longer than what is read.
    fn read(&mut self, path: &Path, max_bytes: u64) -> Option<Vec<u8>> {
        let file = self.root.open_file(path).ok()?;
        let mut bytes = Vec::new();
        let read = file.take(max_bytes + 1).read_to_end(&mut bytes);
        if read.is_err() || bytes.len() as u64 > max_bytes {
            self.warnings.push(format!("/{}: it is longer than {max_bytes} bytes, or cannot be read", path.display()));
            return None;
        }
        Some(bytes)
    }

    fn add(&mut self, packages: Vec<Package>, path: &str) {
        for package in packages {
            let known = self.found.entry(package.purl.clone()).or_insert_with(|| (package, BTreeSet::new()));
            known.1.insert(format!("/{path}"));
        }
    }
}

/// How the rpm database at a path is read.
fn database(path: &str) -> Option<rpm::Database> {
    let name = ["var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/"].iter().find_map(|dir| path.strip_prefix(dir))?;
    match name {
        "rpmdb.sqlite" => Some(sqlite::blobs),
        "Packages.db" => Some(ndb::blobs),
        "Packages" => Some(bdb::blobs),
        _ => None,
    }
}
