//! What a build reads: the main context (a directory, a tar, stdin) with its Dockerfile, and `--build-context`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use strake_oci::Platform;
use strake_plan::{Context, ContextKind};
use strake_stages::{BaseImage, context_key, file_name_of};
use strake_store::{ExtractOptions, Store, decompress, extract};
use strake_words::GitReference;

use super::ignore_lines;
use super::remote::{Fetcher, Named};
use crate::args::Build;
use crate::commands::images::full;
use crate::commands::transfer::spool;
use crate::failure::Failure;

/// Names of a Dockerfile that nobody names, in the order in which they are tried.
pub const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];
/// A Dockerfile is not longer.
const MAX_TEXT_BYTES: u64 = 8 << 20;

/// The main context with its Dockerfile. A context that came as a tar is removed with this.
pub struct MainContext {
    pub dir: PathBuf,
    pub file_name: String,
    pub text: String,
    pub ignore: Vec<String>,
    _unpacked: Option<tempfile::TempDir>,
}

impl MainContext {
    /// Opens what CONTEXT and `-f` name.
    pub fn open(store: &Store, args: &Build, fetcher: &Fetcher<'_>) -> Result<Self, Failure> {
        let from_stdin = args.context.as_os_str() == "-";
        let file_from_stdin = args.file.as_ref().is_some_and(|file| file.as_os_str() == "-");
        let written = args.context.display().to_string();
        match (from_stdin, file_from_stdin) {
            (true, true) => Err(Failure::text("stdin can be the context or the Dockerfile, not both").with_code(2)),
            (true, false) => Self::of_stdin(store, args),
            (false, _) if is_repository(&written) => {
                let keep_git_dir =
                    args.build_args.iter().any(|arg| matches!(arg.as_str(), "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1" | "BUILDKIT_CONTEXT_KEEP_GIT_DIR=true"));
                Self::in_root(args, repository(fetcher, &written, keep_git_dir)?, None)
            }
            (false, _) if is_web(&written) => Self::of_url(store, args, fetcher, &written),
            (false, _) => {
                refuse_remote(&written, "the context")?;
                let metadata = std::fs::metadata(&args.context).map_err(|source| Failure::read(&args.context, source))?;
                if metadata.is_dir() { Self::of_directory(args, file_from_stdin) } else { Self::of_tar(store, args, &args.context) }
            }
        }
    }

    /// What an address gives is a tar, or a Dockerfile whose context is empty.
    fn of_url(store: &Store, args: &Build, fetcher: &Fetcher<'_>, url: &str) -> Result<Self, Failure> {
        let name = file_name_of(url);
        let path = fetcher.file(url, &name, None)?.1.join(&name);
        if is_tar(&path)? {
            return Self::of_tar(store, args, &path);
        }
        if args.file.is_some() {
            return Err(Failure::text(format!("{url} is no tar: with -f it must be the context")).with_code(2));
        }
        let text = text_of(File::open(&path)?, url)?;
        let unpacked = directory(store)?;
        Ok(MainContext { dir: unpacked.path().to_owned(), file_name: name, text, ignore: Vec::new(), _unpacked: Some(unpacked) })
    }

    fn of_directory(args: &Build, file_from_stdin: bool) -> Result<Self, Failure> {
        let dir = std::fs::canonicalize(&args.context).map_err(|source| Failure::read(&args.context, source))?;
        if let Some((name, text)) = &args.dockerfile_inline {
            let ignore = ignore_lines(&dir.join(""), &dir)?;
            return Ok(MainContext { dir, file_name: name.clone(), text: text.clone(), ignore, _unpacked: None });
        }
        if file_from_stdin {
            let text = text_of(std::io::stdin().lock(), "stdin")?;
            let ignore = ignore_lines(&dir.join(""), &dir)?;
            return Ok(MainContext { dir, file_name: "stdin".to_owned(), text, ignore, _unpacked: None });
        }
        let path = match &args.file {
            Some(path) => path.clone(),
            None => found_in(&args.context).ok_or_else(|| Failure::text(format!("there is no Dockerfile in {}: name it with -f", args.context.display())))?,
        };
        let file = File::open(&path).map_err(|source| Failure::read(&path, source))?;
        let text = text_of(file, &path.display().to_string())?;
        let ignore = ignore_lines(&path, &dir)?;
        Ok(MainContext { dir, file_name: path.display().to_string(), text, ignore, _unpacked: None })
    }

    /// Stdin is a tar, or a Dockerfile whose context is empty.
    fn of_stdin(store: &Store, args: &Build) -> Result<Self, Failure> {
        let file = spool()?;
        if is_tar(file.path())? {
            return Self::of_tar(store, args, file.path());
        }
        if args.file.is_some() {
            return Err(Failure::text("stdin is no tar: with -f it must be the context").with_code(2));
        }
        let text = text_of(File::open(file.path())?, "stdin")?;
        let unpacked = directory(store)?;
        Ok(MainContext { dir: unpacked.path().to_owned(), file_name: "stdin".to_owned(), text, ignore: Vec::new(), _unpacked: Some(unpacked) })
    }

    /// A tar's files.
    fn of_tar(store: &Store, args: &Build, path: &Path) -> Result<Self, Failure> {
        if !is_tar(path)? {
            return Err(Failure::text(format!("{} is neither a directory nor a tar (plain, gzip, xz, bzip2 or zstd)", path.display())));
        }
        let unpacked = unpacked(store, path)?;
        Self::in_root(args, unpacked.path().to_owned(), Some(unpacked))
    }

    /// Files of elsewhere, all of them: an ignore file is for directories. `-f` names a file among them.
    fn in_root(args: &Build, dir: PathBuf, unpacked: Option<tempfile::TempDir>) -> Result<Self, Failure> {
        if let Some((name, text)) = &args.dockerfile_inline {
            return Ok(MainContext { dir, file_name: name.clone(), text: text.clone(), ignore: Vec::new(), _unpacked: unpacked });
        }
        let name = match &args.file {
            Some(name) if name.as_os_str() == "-" => {
                let text = text_of(std::io::stdin().lock(), "stdin")?;
                return Ok(MainContext { dir, file_name: "stdin".to_owned(), text, ignore: Vec::new(), _unpacked: unpacked });
            }
            Some(name) => name.clone(),
            None => {
                let found = NAMES.iter().map(PathBuf::from).find(|name| dir.join(name).symlink_metadata().is_ok());
                found.ok_or_else(|| Failure::text("the context has no Dockerfile: name it with -f"))?
            }
        };
        // Links among them could lead to the host's files.
        let root = File::open(&dir)?;
        let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&root, &name, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty(), resolve);
        let file = file.map_err(|error| Failure::read(&name, error.into()))?;
        let text = text_of(File::from(file), &name.display().to_string())?;
        Ok(MainContext { dir, file_name: name.display().to_string(), text, ignore: Vec::new(), _unpacked: unpacked })
    }
}

/// Whether a context is a repository; a folder that is here comes before `github.com/…`.
fn is_repository(text: &str) -> bool {
    GitReference::looks_like(text) && !(GitReference::is_path_too(text) && Path::new(text).exists())
}

fn is_web(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// The folder that the address of a repository means.
pub fn repository(fetcher: &Fetcher<'_>, text: &str, keep_git_dir: bool) -> Result<PathBuf, Failure> {
    let reference = GitReference::parse(text).map_err(|error| Failure::text(error.to_string()).with_code(2))?;
    let keep_git_dir = reference.keep_git_dir.unwrap_or(keep_git_dir);
    Ok(fetcher.repository(&reference, keep_git_dir, Named::ByPerson)?.1)
}

/// The files of a tar, in a directory that is removed with the result.
fn unpacked(store: &Store, path: &Path) -> Result<tempfile::TempDir, Failure> {
    let unpacked = directory(store)?;
    let (_, reader) = decompress(File::open(path).map_err(|source| Failure::read(path, source))?, ExtractOptions::default().limits)?;
    let root = File::open(unpacked.path())?;
    extract(reader, root.as_fd(), &ExtractOptions { chown: Some((0, 0)), ..ExtractOptions::default() })?;
    Ok(unpacked)
}

/// A directory for a context's files, below the state directory: contexts can be large.
fn directory(store: &Store) -> Result<tempfile::TempDir, Failure> {
    let parent = store.root().join("cache/contexts");
    std::fs::create_dir_all(&parent)?;
    for entry in std::fs::read_dir(&parent)?.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next());
        // Those of builds that were killed.
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    // The same name for the same process number: what is known of its files is written down by path, and must not pile up.
    let name = format!("{}-", std::process::id());
    Ok(tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&parent).or_else(|_| tempfile::Builder::new().prefix(&name).tempdir_in(&parent))?)
}

fn found_in(dir: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| dir.join(name)).find(|path| path.is_file())
}

fn text_of(reader: impl Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    reader.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(|source| Failure::read(Path::new(name), source))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(Failure::text(format!("{name} is longer than {MAX_TEXT_BYTES} bytes: is it a Dockerfile?")));
    }
    String::from_utf8(bytes).map_err(|_| Failure::text(format!("{name} is not UTF-8 text: is it a Dockerfile?")))
}

/// Whether a file is a tar, plain or compressed: by the checksum of its first header.
fn is_tar(path: &Path) -> Result<bool, Failure> {
    let file = File::open(path).map_err(|source| Failure::read(path, source))?;
    let Ok((_, mut reader)) = decompress(file, ExtractOptions::default().limits) else { return Ok(false) };
    let mut block = [0_u8; 512];
    if reader.read_exact(&mut block).is_err() || block.iter().all(|byte| *byte == 0) {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&block[148..156]).into_owned();
    let sum: u64 = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    Ok(u64::from_str_radix(text.trim_matches(|c: char| c == ' ' || c == '\0'), 8).is_ok_and(|expected| expected == sum))
}

/// What names a context and is none.
fn refuse_remote(text: &str, what: &str) -> Result<(), Failure> {
    match ["target:", "local:", "file://"].iter().find(|start| text.starts_with(**start)) {
        Some(start) => Err(Failure::text(format!("{what} `{text}`: {start}… means nothing here: name a directory, a tar, a git repository or a URL"))),
        None => Ok(()),
    }
}

/// What `--build-context` gives, by name.
#[derive(Default)]
pub struct NamedContexts {
    pub directories: BTreeMap<String, Context>,
    /// Keys of base images.
    pub images: BTreeMap<String, String>,
    /// Places of OCI layouts, by key.
    pub layouts: BTreeMap<String, String>,
    /// Directories of unpacked tars, removed with this.
    unpacked: Vec<tempfile::TempDir>,
}

impl NamedContexts {
    /// Reads the arguments.
    pub fn read(store: &Store, words: &[String], fetcher: &Fetcher<'_>) -> Result<Self, Failure> {
        let mut contexts = NamedContexts::default();
        for word in words {
            let wrong = |what: &str| Failure::text(format!("--build-context {word}: {what}")).with_code(2);
            let (name, value) =
                word.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty()).ok_or_else(|| wrong("expected NAME=VALUE"))?;
            let name = context_key(name);
            if let Some(reference) = value.strip_prefix("docker-image://") {
                contexts.images.insert(name, full(reference)?);
            } else if let Some(place) = value.strip_prefix("oci-layout://") {
                contexts.images.insert(name, value.to_owned());
                contexts.layouts.insert(value.to_owned(), place.to_owned());
            } else {
                let context = contexts.directory_of(store, value, fetcher)?.ok_or_else(|| wrong("it is not a directory"))?;
                contexts.directories.insert(name, context);
            }
        }
        Ok(contexts)
    }

    /// Files by a directory, a repository or an address; `None` for something else.
    fn directory_of(&mut self, store: &Store, value: &str, fetcher: &Fetcher<'_>) -> Result<Option<Context>, Failure> {
        let of = |path: PathBuf, ignore| Context { kind: ContextKind::Directory { path: path.display().to_string() }, ignore };
        if is_repository(value) {
            return Ok(Some(of(repository(fetcher, value, false)?, Vec::new())));
        }
        if is_web(value) {
            let name = file_name_of(value);
            let (_, dir) = fetcher.file(value, &name, None)?;
            if !is_tar(&dir.join(&name))? {
                return Ok(Some(of(dir, Vec::new())));
            }
            let files = unpacked(store, &dir.join(&name))?;
            let context = of(files.path().to_owned(), Vec::new());
            self.unpacked.push(files);
            return Ok(Some(context));
        }
        refuse_remote(value, "--build-context")?;
        let path = std::fs::canonicalize(value).map_err(|source| Failure::read(Path::new(value), source))?;
        if !path.is_dir() {
            return Ok(None);
        }
        let ignore = ignore_lines(&path.join(""), &path)?;
        Ok(Some(of(path, ignore)))
    }
}

/// An image of an OCI layout, for a platform: `PATH`, `PATH:TAG` or `PATH@DIGEST`.
pub fn layout(store: &Store, place: &str, key: &str, platform: &Platform) -> Result<BaseImage, Failure> {
    let (path, wanted) = match place.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => match place.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (place, None),
        },
    };
    let image = store.import_from_layout_for(Path::new(path), wanted, platform)?;
    store.unpack(&image)?;
    Ok(BaseImage { reference: key.to_owned(), manifest: image.digest()?, config: image.config })
}
