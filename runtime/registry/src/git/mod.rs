//! Files of git repositories. The system's `git` brings the objects (nothing else speaks every server's dialect, ssh configurations and proxies as it does), and is
//! told to read no configuration, to run no hook, to ask nobody and to use no other protocol than http, https, ssh and git. It never checks anything out: the
//! files come out of it as a tar, which our own extractor unpacks, so that a repository can plant neither links nor configuration.

mod command;
mod repository;
mod submodules;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use strake_store::ExtractError;
use strake_words::{GitReference, WordError};

use crate::fetch::FetchError;
use repository::Repository;

/// How repositories are reached.
#[derive(Clone)]
pub struct GitOptions {
    /// Whether ssh may be used, with the keys of whoever runs this.
    pub ssh: bool,
    /// The socket of the agent that ssh asks.
    pub agent: Option<PathBuf>,
    /// The private key that ssh uses, and no other one. No blanks or quotes in the path.
    pub identity: Option<PathBuf>,
    /// The keys of machines that ssh trusts, instead of those that this machine knows. No blanks or quotes in the path.
    pub known_hosts: Option<PathBuf>,
    /// The value of the header `Authorization` for the host of the repository, over http and https.
    pub authorization: Option<Arc<str>>,
    /// How long one command of git may take.
    pub timeout: Duration,
}

impl Default for GitOptions {
    /// No ssh, no login, half an hour.
    fn default() -> Self {
        GitOptions { ssh: false, agent: None, identity: None, known_hosts: None, authorization: None, timeout: Duration::from_secs(1800) }
    }
}

/// Why files of a repository were not to be had. Logins in addresses are left out of every text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The program is not there.
    #[error("git is not installed: it is needed for {url}")]
    Missing { url: String },
    /// The program could not be run.
    #[error("cannot run git for {url}")]
    Run { url: String, source: io::Error },
    /// It took too long.
    #[error("git took more than {} s for {url}", timeout.as_secs())]
    Timeout { url: String, timeout: Duration },
    /// The program failed.
    #[error("git cannot {what} {url}: {reason}")]
    Failed { what: &'static str, url: String, reason: String, status: ExitStatus },
    /// The address leads to a machine that builds may not reach.
    #[error("{url} may not be reached")]
    Refused { url: String, source: FetchError },
    /// ssh was not allowed.
    #[error("{url} needs ssh: allow its use with --ssh default")]
    SshNotAllowed { url: String },
    /// No such branch or tag.
    #[error("{url} has no branch or tag `{reference}` (a commit is named by its whole id)")]
    Reference { url: String, reference: String },
    /// No such commit.
    #[error("{url} has no commit {commit}")]
    Commit { url: String, commit: String },
    /// It is not the commit that was promised.
    #[error("{url}: expected commit {expected}, found {found}")]
    Checksum { url: String, expected: String, found: String },
    /// A name that no honest repository has.
    #[error("{url} has an entry `{path}`, which is refused")]
    Entry { url: String, path: String },
    /// A repository inside the repository that cannot be taken.
    #[error("{url}: submodule `{path}`: {reason}")]
    Submodule { url: String, path: String, reason: String },
    /// The address of a repository inside the repository.
    #[error("{url}: submodule `{path}` has an address that is not supported")]
    SubmoduleAddress { url: String, path: String, source: WordError },
    /// The files could not be unpacked.
    #[error("cannot unpack the files of {url}")]
    Unpack { url: String, source: ExtractError },
    /// The files could not be written.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The id of the commit that a reference means now; the repository is asked unless the address itself says it.
///
/// # Errors
/// [`GitError::Checksum`] when the address promises another.
pub async fn resolve_commit(reference: &GitReference, options: &GitOptions) -> Result<String, GitError> {
    let commit = match reference.commit() {
        Some(commit) => commit.to_owned(),
        None => repository::ask(reference, options).await?,
    };
    match &reference.checksum {
        Some(expected) if !commit.starts_with(expected.as_str()) => {
            Err(GitError::Checksum { url: reference.shown(), expected: expected.clone(), found: commit })
        }
        _ => Ok(commit),
    }
}

/// What the repository's references mean now: full names, with `HEAD`. A tag with a message stands for its commit.
///
/// # Errors
/// When the repository cannot be asked.
pub async fn list_references(reference: &GitReference, options: &GitOptions) -> Result<BTreeMap<String, String>, GitError> {
    repository::list(reference, options).await
}

/// Whether `ancestor` is part of the last hundred or so generations of `commit`'s history. `directory` must not exist, and is removed again.
///
/// # Errors
/// When the history cannot be fetched.
pub async fn has_ancestor(reference: &GitReference, commit: &str, ancestor: &str, directory: &Path, options: &GitOptions) -> Result<bool, GitError> {
    let outcome = repository::has_ancestor(reference, commit, ancestor, directory, options).await;
    // What stays is removed with the caller's directory.
    let _ = tokio::fs::remove_dir_all(directory).await;
    outcome
}

/// Writes the files of a commit (and of the repositories inside it) into `directory`, which must be empty; with `keep_git_dir` also a `.git` with that one commit.
/// What an interrupted call leaves in `directory` is the caller's to remove. Beside `directory`, a folder of the same name with `.git` behind it is used meanwhile.
///
/// # Errors
/// [`GitError::Entry`] and [`GitError::Unpack`] for repositories that would write where they must not.
pub async fn check_out(reference: &GitReference, commit: &str, directory: &Path, keep_git_dir: bool, options: &GitOptions) -> Result<(), GitError> {
    let scratch = directory.with_extension("git");
    let made = Repository::fetch(reference, commit, &scratch, options).await;
    let outcome = match made {
        Ok(repository) => take(&repository, directory, keep_git_dir, options).await,
        Err(error) => Err(error),
    };
    let removed = tokio::fs::remove_dir_all(&scratch).await;
    match (outcome, removed) {
        (Ok(()), Err(source)) if source.kind() != io::ErrorKind::NotFound => Err(GitError::Write { path: scratch, source }),
        (outcome, _) => outcome,
    }
}

async fn take(repository: &Repository<'_>, directory: &Path, keep_git_dir: bool, options: &GitOptions) -> Result<(), GitError> {
    repository.unpack(directory, Path::new("")).await?;
    if repository.reference.submodules {
        submodules::unpack(repository, directory, options).await?;
    }
    if keep_git_dir {
        repository.keep(&directory.join(".git")).await?;
    }
    Ok(())
}
