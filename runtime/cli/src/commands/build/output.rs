//! `--output`, `--push`, `--load`, `--metadata-file`: where an image goes besides the store.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strake_build::attest::Annotations;
use strake_oci::Platform;
use strake_registry::{PullOptions, PushOptions, at_digest};
use strake_store::{Destination, Folder, Packing, Store};

use super::attributes;
use super::product::{Product, Wishes};
use crate::args::Build;
use crate::commands::images::full;
use crate::commands::transfer::push_image;
use crate::failure::Failure;
use crate::output::raw;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Oci,
    Docker,
    /// The files alone, as one tar.
    Tar,
    /// The files alone, in a directory.
    Local,
    /// More names in the store, and a push when it is asked for.
    Image,
}

/// Where an image goes besides the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub kind: Kind,
    /// `-` is stdout.
    pub dest: PathBuf,
    pub tar: bool,
    pub compression: Option<Packing>,
    pub names: Vec<String>,
    pub push: bool,
    /// Pushed without a tag.
    pub by_digest: bool,
    /// Also named by its digest.
    pub canonical: bool,
    /// What an image without a name is called, with its digest.
    pub dangling: Option<String>,
    pub insecure: bool,
    /// A folder for each platform; without a word, when there are several.
    pub split: Option<bool>,
    pub annotations: Annotations,
    /// What names of files with statements begin with.
    pub statement_prefix: String,
}

/// What became of the outputs, for `--metadata-file`.
#[derive(Debug, Default)]
pub struct Written {
    /// The digest under which the image was pushed.
    pushed: Option<String>,
    names: Vec<String>,
}

/// All outputs that the arguments ask for.
pub fn outputs(args: &Build) -> Result<Vec<Output>, Failure> {
    let mut outputs = args.outputs.iter().map(|text| attributes::parse(text)).collect::<Result<Vec<_>, _>>()?;
    if args.push && !outputs.iter().any(|output| output.push) {
        outputs.push(Output { push: true, ..Output::of(Kind::Image) });
    }
    let unnamed = args.tags.is_empty() && outputs.iter().any(|output| output.push && output.names.is_empty());
    if unnamed {
        return Err(Failure::text("a push needs a name: give one with -t REGISTRY/NAME:TAG, or in -o type=registry,name=…").with_code(2));
    }
    if outputs.iter().filter(|output| output.dest.as_os_str() == "-").count() > 1 {
        return Err(Failure::text("only one output can go to stdout").with_code(2));
    }
    Ok(outputs)
}

impl Output {
    pub fn of(kind: Kind) -> Output {
        Output {
            kind,
            dest: PathBuf::new(),
            tar: true,
            compression: None,
            names: Vec::new(),
            push: false,
            by_digest: false,
            canonical: false,
            dangling: None,
            insecure: false,
            split: None,
            annotations: Annotations::default(),
            statement_prefix: String::new(),
        }
    }

    /// Refuses what the output cannot hold, before anything is built.
    pub fn accepts(&self, wishes: &Wishes, platforms: &[Platform]) -> Result<(), Failure> {
        if self.kind == Kind::Docker && !self.dest.as_os_str().is_empty() && wishes.indexes(platforms) {
            let text = "-o type=docker: a docker archive holds no index of platforms and attestations: use type=oci, or --load";
            return Err(Failure::text(text).with_code(2));
        }
        wishes.check(platforms, &self.annotations)
    }

    /// Writes the product; `mtime` is the time of exported files.
    pub fn write(&self, store: &Store, product: &Product, mtime: i64, written: &mut Written) -> Result<(), Failure> {
        match self.kind {
            Kind::Local => self.local(store, product, mtime),
            Kind::Tar => self.to_file(|dest| {
                let mut out = std::io::BufWriter::with_capacity(256 << 10, std::fs::File::create(dest)?);
                self.tar(store, product, mtime, &mut out)?;
                Ok(out.flush()?)
            }),
            // `type=docker` alone is --load: the image is where the cluster takes it from already.
            Kind::Docker if self.dest.as_os_str().is_empty() => self.image(store, product, written),
            Kind::Docker => self.to_file(|dest| Ok(store.export_docker(&self.name(store, product)?, dest)?)),
            Kind::Oci => self.to_file(|dest| {
                let destination = if self.tar { Destination::Archive(dest.to_owned()) } else { Destination::Directory(dest.to_owned()) };
                let compression = self.compression.unwrap_or_default();
                let (content, name) = (product.annotated(store, &self.annotations)?.descriptor.digest().to_string(), self.name(store, product)?);
                store.export_oci_as(&content, &name, &destination, compression, &product.entry_annotations(&self.annotations))?;
                Ok(())
            }),
            Kind::Image => self.image(store, product, written),
        }
    }

    /// What the image is called in an archive: its first name, else its digest.
    fn name(&self, store: &Store, product: &Product) -> Result<String, Failure> {
        let own = self.names.first().map(|name| full(name)).transpose()?;
        match own {
            Some(name) => {
                store.tag(&name, &product.annotated(store, &self.annotations)?.descriptor)?;
                Ok(name)
            }
            None => Ok(product.tags.first().cloned().unwrap_or_else(|| product.digest())),
        }
    }

    /// The folder of an image's files, and what goes into it besides: statements.
    fn places(&self, product: &Product) -> Vec<Folder> {
        let split = self.split.unwrap_or(product.parts.len() > 1);
        let each = |(place, part): (usize, &strake_build::attest::Part)| {
            let path = if split { PathBuf::from(part.platform.folder()) } else { PathBuf::new() };
            let prefixed = |(name, bytes): (String, Vec<u8>)| (format!("{}{name}", self.statement_prefix), bytes);
            Folder { path, image: product.composed.manifests[place].to_string(), files: product.statement_files(place).into_iter().map(prefixed).collect() }
        };
        product.parts.iter().enumerate().map(each).collect()
    }

    fn local(&self, store: &Store, product: &Product, mtime: i64) -> Result<(), Failure> {
        if self.split == Some(false) && product.parts.len() > 1 {
            refuse_clash(store, product)?;
        }
        for Folder { path, image, files } in self.places(product) {
            let dir = if path.as_os_str().is_empty() { self.dest.clone() } else { self.dest.join(path) };
            store.export_files(&image, &dir, mtime, Some((0, 0)))?;
            for (name, bytes) in files {
                std::fs::write(dir.join(&name), bytes).map_err(|source| Failure::text(format!("cannot write {}: {source}", dir.join(&name).display())))?;
            }
        }
        Ok(())
    }

    fn tar(&self, store: &Store, product: &Product, mtime: i64, out: &mut impl Write) -> Result<(), Failure> {
        if self.split == Some(false) && product.parts.len() > 1 {
            refuse_clash(store, product)?;
        }
        match &self.places(product)[..] {
            [Folder { path, image, files }] if path.as_os_str().is_empty() && files.is_empty() => Ok(store.write_files(image, mtime, out)?),
            places => Ok(store.write_folders(places, mtime, out)?),
        }
    }

    fn to_file(&self, write: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
        if self.dest.as_os_str() != "-" {
            return write(&self.dest);
        }
        let file = tempfile::NamedTempFile::new()?;
        write(file.path())?;
        // The file may have been replaced under its name.
        let mut file = std::fs::File::open(file.path())?;
        let mut piece = vec![0; 256 << 10];
        loop {
            match std::io::Read::read(&mut file, &mut piece)? {
                0 => return Ok(()),
                got => raw(&piece[..got]),
            }
        }
    }

    fn image(&self, store: &Store, product: &Product, written: &mut Written) -> Result<(), Failure> {
        let descriptor = product.annotated(store, &self.annotations)?.descriptor;
        let digest = descriptor.digest().to_string();
        let mut names = if self.names.is_empty() { product.tags.clone() } else { Vec::new() };
        for name in &self.names {
            names.push(full(name)?);
        }
        if names.is_empty()
            && let Some(prefix) = &self.dangling
        {
            names.push(format!("{}@{digest}", strake_words::Reference::parse(prefix)?.repository()));
        }
        for reference in names {
            if !self.by_digest {
                store.tag(&reference, &descriptor)?;
            }
            if self.canonical || self.by_digest {
                store.tag(&at_digest(&reference, &digest.parse()?)?, &descriptor)?;
            }
            if self.push {
                self.push(store, &digest, &reference, written)?;
            }
            written.names.push(reference);
        }
        Ok(())
    }

    fn push(&self, store: &Store, content: &str, reference: &str, written: &mut Written) -> Result<(), Failure> {
        let host = reference.split('/').next().unwrap_or_default().to_owned();
        let insecure_hosts = if self.insecure { vec![host] } else { Vec::new() };
        let limits = PullOptions { insecure_hosts, ..PullOptions::default() };
        let options = PushOptions { compression: self.compression, limits };
        let target = if self.by_digest {
            // What the registry gets may be compressed, and has another digest then.
            let packed = store.packed_all(content, self.compression)?;
            at_digest(reference, &packed.top().0.digest().to_string().parse()?)?
        } else {
            reference.to_owned()
        };
        let digest = push_image(store, content, &target, &options)?;
        written.pushed.get_or_insert_with(|| digest.to_string());
        Ok(())
    }
}

/// Files of several platforms in one place must not be of the same name.
fn refuse_clash(store: &Store, product: &Product) -> Result<(), Failure> {
    let mut seen = std::collections::BTreeMap::new();
    for (part, manifest) in product.parts.iter().zip(&product.composed.manifests) {
        for path in store.list_files(&manifest.to_string())? {
            if let Some(other) = seen.insert(path.clone(), &part.platform) {
                let text = format!("platform-split=false: {} is in the files of {other} and of {}", path.display(), part.platform);
                return Err(Failure::text(text));
            }
        }
    }
    Ok(())
}

impl Written {
    /// What buildx writes to its metadata file, as far as it applies.
    pub fn metadata(&self, product: &Product) -> Value {
        let mut value = product.metadata();
        if let (Some(pushed), Some(map)) = (&self.pushed, value.as_object_mut()) {
            map.insert("containerimage.digest".to_owned(), pushed.as_str().into());
            map.remove("containerimage.descriptor");
        }
        let names: Vec<&str> = product.tags.iter().chain(self.names.iter().filter(|name| !product.tags.contains(name))).map(String::as_str).collect();
        if !names.is_empty() {
            value["image.name"] = names.join(",").into();
        }
        value
    }
}

pub fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// The fields of one CSV line: commas inside double quotes do not separate. `None` when a quote is not closed.
pub fn fields(text: &str) -> Option<Vec<String>> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut()?.push(other),
        }
    }
    (!quoted).then_some(fields)
}
