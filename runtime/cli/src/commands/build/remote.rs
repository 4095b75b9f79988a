//! What a build takes from elsewhere: files and git repositories that ADD or a context names, fetched before the build and kept by content.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use rustix::fs::{Mode, OFlags, ResolveFlags, Timestamps, UTIME_NOW, UTIME_OMIT};
use strake_build::SecretValue;
use strake_build::attest::Dependency;
use strake_oci::{Digest, Hasher};
use strake_plan::{Context, ContextKind};
use strake_registry::{Fetched, FileRequest, GitOptions, PullOptions, Validator};
use strake_stages::{Remote, RemoteKind, RemoteSource};
use strake_store::Store;
use strake_words::{GitReference, GitScheme};

use crate::failure::Failure;
use crate::interrupt;
use crate::output::note;

/// How long something is kept after it was last used.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// What an interrupt leaves.
const GIVEN_UP: &str = "the build was given up while it fetched what it is made of";

/// Fetches, and knows what it may use for it.
pub struct Fetcher<'a> {
    parent: PathBuf,
    /// Touch no network.
    pub offline: bool,
    /// Among them may be logins: GIT_AUTH_TOKEN and its like.
    pub secrets: &'a BTreeMap<String, SecretValue>,
    /// The agent of `--ssh default`.
    pub agent: Option<PathBuf>,
    /// What was asked for so far, for whoever says what an image is made of.
    seen: RefCell<Vec<Dependency>>,
}

/// An address without its query, in which keys are often put.
fn without_query(uri: &str) -> &str {
    uri.split('?').next().unwrap_or(uri)
}

/// An address without a name and a password in it.
fn without_login(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
}

/// Who names an address: people may use the keys of their own, the Dockerfile of a stranger only what was given for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The one who runs the build.
    ByPerson,
    /// The Dockerfile.
    ByFile,
}

impl<'a> Fetcher<'a> {
    /// Keeps what it fetches below the state directory, and forgets what was not used for long.
    pub fn new(store: &Store, offline: bool, secrets: &'a BTreeMap<String, SecretValue>, agent: Option<PathBuf>) -> Self {
        Fetcher { parent: store.root().join("cache/remote"), offline, secrets, agent, seen: RefCell::default() }
    }

    /// Fetches what ADD names; what is known by its digest or commit and is here is not fetched again.
    pub fn all(&self, sources: &[RemoteSource]) -> Result<BTreeMap<String, Remote>, Failure> {
        let mut remotes = BTreeMap::new();
        for source in sources {
            let (digest, dir) = match &source.kind {
                RemoteKind::File { name, checksum } => self.file(&source.url, name, checksum.as_ref())?,
                RemoteKind::Repository { reference, keep_git_dir } => self.repository(reference, *keep_git_dir, Named::ByFile)?,
            };
            let context = Context { kind: ContextKind::Directory { path: dir.display().to_string() }, ignore: Vec::new() };
            remotes.insert(source.key(), Remote { digest, context });
        }
        Ok(remotes)
    }

    /// Everything that was asked for, with its digest.
    pub fn fetched(&self) -> Vec<Dependency> {
        self.seen.borrow().clone()
    }

    fn saw(&self, uri: &str, algorithm: &str, digits: &str) {
        self.seen.borrow_mut().push(Dependency { uri: without_login(uri), digest: (algorithm.to_owned(), digits.to_owned()) });
    }

    fn begin(&self) -> Result<(), Failure> {
        fs::create_dir_all(&self.parent)?;
        fs::set_permissions(&self.parent, fs::Permissions::from_mode(0o700))?;
        sweep(&self.parent);
        Ok(())
    }

    /// A file, in a directory of its own.
    pub fn file(&self, url: &str, name: &str, checksum: Option<&Digest>) -> Result<(Digest, PathBuf), Failure> {
        self.begin()?;
        let dir = |digest: &Digest| self.parent.join(digest.hex());
        if let Some(digest) = checksum.filter(|digest| is_here(&dir(digest).join(name), digest)) {
            touch(&dir(digest));
            self.saw(without_query(url), "sha256", &digest.hex());
            return Ok((*digest, dir(digest)));
        }
        if self.offline {
            return Err(Failure::text(format!("--offline: {url} is not here, or without a --checksum by which it could be known")));
        }
        let note_path = self.parent.join(format!("url-{}", Digest::of(url.as_bytes()).hex())).join("answer.json");
        // What must have one digest is here by that digest, or not at all.
        let known = read_answer(&note_path).filter(|known| checksum.is_none() && is_here(&dir(&known.digest).join(name), &known.digest));
        let temporary = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&self.parent)?;
        let path = temporary.path().join("file");
        note(format!("fetching {name}"));
        let authorization = self.file_login(url);
        let request = FileRequest { expected: checksum, authorization: authorization.as_deref(), known: known.as_ref().map(|known| &known.validator) };
        let fetched = async { Ok(strake_registry::fetch(url, request, &path, &PullOptions::default()).await?) };
        let digest = match (interrupt::wait_or(GIVEN_UP, fetched)?, known) {
            (Fetched::Unchanged, Some(known)) => known.digest,
            (Fetched::Unchanged, None) => return Err(Failure::text(format!("{name}: the server says that it has not changed, but it is not here"))),
            (Fetched::File(digest, validator), _) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
                fs::create_dir_all(dir(&digest))?;
                fs::rename(&path, dir(&digest).join(name))?;
                keep_answer(&note_path, &Answer { digest, validator })?;
                digest
            }
        };
        touch(&dir(&digest));
        note_path.parent().into_iter().for_each(touch);
        self.saw(without_query(url), "sha256", &digest.hex());
        Ok((digest, dir(&digest)))
    }

    /// The login that was given for the host of a file: `HTTP_AUTH_HEADER_<host>` as it is, `HTTP_AUTH_TOKEN_<host>` as a bearer token. The host may have its port.
    fn file_login(&self, url: &str) -> Option<String> {
        let address = without_login(url);
        let host = address.split_once("://")?.1.split(['/', '?', '#']).next()?.to_ascii_lowercase();
        let bare = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host.as_str(), |(bare, _)| bare);
        let given = |kind: &str| {
            let value = [host.as_str(), bare].into_iter().find_map(|host| self.secrets.get(&format!("{kind}_{host}")))?;
            std::str::from_utf8(value.expose()).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        given("HTTP_AUTH_HEADER").or_else(|| given("HTTP_AUTH_TOKEN").map(|token| format!("Bearer {token}")))
    }

    /// The files that the address of a repository means: the folder, and what decides what is in it.
    pub fn repository(&self, reference: &GitReference, keep_git_dir: bool, named: Named) -> Result<(Digest, PathBuf), Failure> {
        self.begin()?;
        let options = self.git_options(reference, named);
        let commit = match reference.commit() {
            Some(commit) => commit.to_owned(),
            None if self.offline => {
                return Err(Failure::text(format!("--offline: {} must name a commit by its whole id, which is the only thing that stays", reference.shown())));
            }
            None => interrupt::wait_or(GIVEN_UP, async { Ok(strake_registry::resolve_commit(reference, &options).await?) })?,
        };
        self.saw(&reference.shown(), "sha1", &commit);
        let mut hasher = Hasher::default();
        // Where it came from stands in its .git only.
        for field in ["git 1", &commit, if keep_git_dir { &reference.remote } else { "" }, if reference.submodules { "submodules" } else { "" }] {
            hasher.field(field.as_bytes());
        }
        let place = self.parent.join(hasher.clone().finish().hex());
        hasher.field(reference.subdir.as_deref().unwrap_or_default().as_bytes());
        if !place.join("tree").is_dir() {
            if self.offline {
                return Err(Failure::text(format!("--offline: commit {commit} of {} is not here", reference.shown())));
            }
            self.check_out(reference, &commit, &place, keep_git_dir, &options)?;
        }
        touch(&place);
        let folder = folder_of(&place.join("tree"), reference)?;
        Ok((hasher.finish(), folder))
    }

    fn check_out(&self, reference: &GitReference, commit: &str, place: &Path, keep_git_dir: bool, options: &GitOptions) -> Result<(), Failure> {
        let temporary = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&self.parent)?;
        let tree = temporary.path().join("tree");
        fs::create_dir(&tree)?;
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755))?;
        note(format!("fetching {} at {}", reference.shown(), &commit[..commit.len().min(12)]));
        interrupt::wait_or(GIVEN_UP, async { Ok(strake_registry::check_out(reference, commit, &tree, keep_git_dir, options).await?) })?;
        // Nobody looks at it again once it has its name: it must be whole even after a crash.
        rustix::fs::syncfs(File::open(&tree)?).map_err(std::io::Error::from)?;
        match fs::rename(temporary.path(), place) {
            Ok(()) => drop(temporary.keep()),
            // Another build was quicker.
            Err(_) if place.join("tree").is_dir() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn git_options(&self, reference: &GitReference, named: Named) -> GitOptions {
        let own_agent = || std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
        let agent = match named {
            Named::ByPerson => self.agent.clone().or_else(own_agent),
            Named::ByFile => self.agent.clone(),
        };
        let ssh = named == Named::ByPerson || self.agent.is_some();
        let authorization = matches!(reference.scheme, GitScheme::Http | GitScheme::Https).then(|| self.login(&reference.host)).flatten();
        GitOptions { ssh, agent, authorization, ..GitOptions::default() }
    }

    /// The login that was given for a host, or for all.
    fn login(&self, host: &str) -> Option<Arc<str>> {
        let text = |name: &str| {
            let value = self.secrets.get(&format!("{name}.{host}")).or_else(|| self.secrets.get(name))?;
            let text = std::str::from_utf8(value.expose()).ok()?.trim();
            (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
        };
        let basic = |token: String| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}")));
        text("GIT_AUTH_HEADER").or_else(|| text("GIT_AUTH_TOKEN").map(basic)).map(Arc::from)
    }
}

/// What a server gave for an address the last time.
#[derive(serde::Serialize, serde::Deserialize)]
struct Answer {
    digest: Digest,
    validator: Validator,
}

/// A damaged note is no note: the file is fetched again.
fn read_answer(path: &Path) -> Option<Answer> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn keep_answer(path: &Path, answer: &Answer) -> Result<(), Failure> {
    let Some(dir) = path.parent() else { return Ok(()) };
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut file, answer).map_err(std::io::Error::from)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The folder of a tree that an address means. Links in the tree are followed as if the tree were all there is.
fn folder_of(tree: &Path, reference: &GitReference) -> Result<PathBuf, Failure> {
    let Some(subdir) = &reference.subdir else { return Ok(tree.to_owned()) };
    let root = File::open(tree)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(&root, subdir.as_str(), flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
    let found = found.map_err(|error| Failure::text(format!("{} has no folder `{subdir}`: {error}", reference.shown())))?;
    Ok(fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?)
}

fn is_here(path: &Path, digest: &Digest) -> bool {
    let read = || -> std::io::Result<Digest> {
        let (mut file, mut hasher, mut piece) = (File::open(path)?, Hasher::default(), vec![0; 256 << 10]);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(hasher.finish()),
                got => hasher.update(&piece[..got]),
            }
        }
    };
    read().is_ok_and(|found| found == *digest)
}

/// Notes that a directory was used. Without the note it is only fetched again sooner.
fn touch(dir: &Path) {
    let (now, omit) = (rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }, rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT });
    let times = Timestamps { last_access: omit, last_modification: now };
    let _ = rustix::fs::utimensat(rustix::fs::CWD, dir, &times, rustix::fs::AtFlags::empty());
}

/// Removes what was used long ago. A build that runs for longer fetches again.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > KEPT)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{without_login, without_query};

    #[test]
    fn addresses_that_are_told_hold_no_key() {
        assert_eq!(without_login("https://me:secret@host.example/a.git#main"), "https://host.example/a.git#main");
        assert_eq!(without_login("https://host.example/@scope/a"), "https://host.example/@scope/a");
        assert_eq!(without_login("ssh://git@host.example"), "ssh://host.example");
        assert_eq!(without_login("git@host.example:a/b.git"), "git@host.example:a/b.git");
        assert_eq!(without_query("https://host.example/a?token=secret"), "https://host.example/a");
    }
}
