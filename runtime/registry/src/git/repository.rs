//! One commit of a repository: found, fetched, unpacked.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use strake_store::{ExtractOptions, Limits, extract};
use strake_words::GitReference;
use tokio::io::AsyncReadExt;
use tokio_util::io::SyncIoBridge;

use super::command::Git;
use super::{GitError, GitOptions};

/// A repository with one commit, in a bare directory of our own.
pub(super) struct Repository<'a> {
    pub reference: &'a GitReference,
    pub commit: String,
    pub git: Git<'a>,
    dir: PathBuf,
}

/// How many generations of a history are looked at.
const GENERATIONS: &str = "--depth=100";

/// All references of the remote. A tag with a message stands for its commit.
pub(super) async fn list(reference: &GitReference, options: &GitOptions) -> Result<BTreeMap<String, String>, GitError> {
    let git = Git::reach(reference, options).await?;
    listed(&git, reference).await
}

async fn listed(git: &Git<'_>, reference: &GitReference) -> Result<BTreeMap<String, String>, GitError> {
    let listed = git.run("ask", None, &["ls-remote", "--", &reference.remote]).await?;
    let text = String::from_utf8_lossy(&listed);
    let is_commit = |id: &&str| matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut found = BTreeMap::new();
    let mut peeled = Vec::new();
    for (id, name) in text.lines().filter_map(|line| line.split_once('\t')).filter(|(id, _)| is_commit(id)) {
        match name.strip_suffix("^{}") {
            Some(tag) => peeled.push((tag.to_owned(), id.to_owned())),
            None => drop(found.insert(name.to_owned(), id.to_owned())),
        }
    }
    found.extend(peeled);
    Ok(found)
}

/// The commit of a branch, a tag or HEAD, as the remote has it now.
pub(super) async fn ask(reference: &GitReference, options: &GitOptions) -> Result<String, GitError> {
    let git = Git::reach(reference, options).await?;
    let wanted = reference.reference.as_deref().unwrap_or("HEAD");
    let found = listed(&git, reference).await?;
    let full = if wanted == "HEAD" || wanted.starts_with("refs/") { wanted.to_owned() } else { format!("refs/{wanted}") };
    // As git prefers: what is named in full, then branches, then tags.
    let names = [full, format!("refs/heads/{wanted}"), format!("refs/tags/{wanted}")];
    let commit = names.iter().find_map(|name| found.get(name).cloned());
    commit.ok_or_else(|| GitError::Reference { url: git.url.clone(), reference: wanted.to_owned() })
}

/// Whether one commit comes before another.
pub(super) async fn has_ancestor(reference: &GitReference, commit: &str, ancestor: &str, dir: &Path, options: &GitOptions) -> Result<bool, GitError> {
    let git = Git::reach(reference, options).await?;
    let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    let place = dir.display().to_string();
    let prepare = ["init", "--quiet", "--bare", "--template=", format, "--", &place];
    git.run("prepare", None, &prepare).await?;
    let always = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance"];
    // Commits without their files, from servers that can do that.
    let history = [&always[..], &[GENERATIONS, "--filter=tree:0", "--", &reference.remote, commit]].concat();
    if !git.output(Some(dir), &history).await?.status.success() {
        // A repository that was begun without its files would ask for them for ever.
        tokio::fs::remove_dir_all(dir).await.map_err(|source| GitError::Write { path: dir.to_owned(), source })?;
        git.run("prepare", None, &prepare).await?;
        let everything = [&always[..], &["--", &reference.remote, "+refs/*:refs/*"]].concat();
        git.run("fetch", Some(dir), &everything).await?;
    }
    // A commit that is not there is none that comes before.
    Ok(git.output(Some(dir), &["merge-base", "--is-ancestor", "--", ancestor, commit]).await?.status.success())
}

impl<'a> Repository<'a> {
    /// Fetches a commit without its history into the new directory `dir`.
    pub async fn fetch(reference: &'a GitReference, commit: &str, dir: &Path, options: &'a GitOptions) -> Result<Self, GitError> {
        let git = Git::reach(reference, options).await?;
        let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        let place = dir.display().to_string();
        git.run("prepare", None, &["init", "--quiet", "--bare", "--template=", format, "--", &place]).await?;
        // What an archive leaves out or rewrites is for releases; a checkout has everything.
        let (info, attributes) = (dir.join("info"), dir.join("info/attributes"));
        let written = async { tokio::fs::create_dir_all(&info).await.and(tokio::fs::write(&attributes, "* -export-ignore -export-subst\n").await) };
        written.await.map_err(|source| GitError::Write { path: attributes.clone(), source })?;
        let mut repository = Repository { reference, commit: commit.to_owned(), git, dir: dir.to_owned() };
        repository.bring(commit).await?;
        let peeled = repository.git.run("read", Some(dir), &["rev-parse", "--verify", "--end-of-options", &format!("{commit}^{{commit}}")]).await;
        let peeled = peeled.map_err(|_| GitError::Commit { url: repository.git.url.clone(), commit: commit.to_owned() })?;
        String::from_utf8_lossy(&peeled).trim().clone_into(&mut repository.commit);
        Ok(repository)
    }

    /// The commit alone; everything from servers that give no single commits (or, over plain HTTP, no part of a history).
    async fn bring(&self, commit: &str) -> Result<(), GitError> {
        let always = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance"];
        let alone = [&always[..], &["--depth=1", "--", &self.reference.remote, commit]].concat();
        let output = self.git.output(Some(&self.dir), &alone).await?;
        if output.status.success() {
            return Ok(());
        }
        let everything = [&always[..], &["--", &self.reference.remote, "+refs/*:refs/*"]].concat();
        self.git.run("fetch", Some(&self.dir), &everything).await.map(drop)
    }

    /// Runs a command on the objects.
    pub async fn read(&self, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        self.git.run("read", Some(&self.dir), arguments).await
    }

    /// Writes the commit's files below `directory`/`below`. Links on the way are refused.
    pub async fn unpack(&self, directory: &Path, below: &Path) -> Result<(), GitError> {
        self.check_names().await?;
        let failed = |source| GitError::Write { path: directory.to_owned(), source };
        let root = std::fs::File::open(directory).map_err(failed)?;
        let mut command = self.git.command(Some(&self.dir));
        command.args(["archive", "--format=tar", &self.commit]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| self.git.not_run(source))?;
        let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(self.git.not_run(io::Error::other("no pipe")));
        };
        let options = ExtractOptions { destination: below.to_owned(), chown: Some((0, 0)), limits: Limits::default(), ..ExtractOptions::default() };
        let reader = SyncIoBridge::new(stdout);
        let unpacking = tokio::task::spawn_blocking(move || extract(reader, root.as_fd(), &options));
        let mut said = Vec::new();
        let (unpacked, _) = tokio::join!(unpacking, stderr.read_to_end(&mut said));
        let status = child.wait().await.map_err(|source| self.git.not_run(source))?;
        let unpacked = unpacked.map_err(|error| self.git.not_run(io::Error::other(error)))?;
        if !status.success() {
            return Err(self.git.failed("read", &std::process::Output { status, stdout: Vec::new(), stderr: said }));
        }
        unpacked.map(drop).map_err(|source| GitError::Unpack { url: self.git.url.clone(), source })
    }

    /// Git itself would refuse to check out a file in `.git`; here it would only be a file, until somebody runs git beside it.
    async fn check_names(&self) -> Result<(), GitError> {
        let listed = self.read(&["ls-tree", "-r", "-z", "--full-tree", "--name-only", &self.commit]).await?;
        for path in listed.split(|byte| *byte == 0) {
            if path.split(|byte| *byte == b'/').any(|name| name.eq_ignore_ascii_case(b".git") || name == b"..") {
                return Err(GitError::Entry { url: self.git.url.clone(), path: String::from_utf8_lossy(path).into_owned() });
            }
        }
        Ok(())
    }

    /// Makes a `.git` of this repository: the commit is checked out, detached, and where it came from is `origin`. The same commit gives the same bytes.
    pub async fn keep(&self, place: &Path) -> Result<(), GitError> {
        let dir = Some(self.dir.as_path());
        let origin = format!("remote.origin.url={}", self.git.url);
        let (name, value) = origin.split_once('=').unwrap_or((&origin, ""));
        for arguments in [
            &["config", name, value][..],
            &["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"],
            &["config", "core.bare", "false"],
            &["update-ref", "--no-deref", "HEAD", &self.commit],
            &["-c", "pack.threads=1", "-c", "pack.writeReverseIndex=false", "repack", "-a", "-d", "-f", "-q"],
            &["prune-packed", "-q"],
            &["read-tree", &self.commit],
        ] {
            self.git.run("keep", dir, arguments).await?;
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| GitError::Write { path, source }
        };
        let attributes = self.dir.join("info/attributes");
        std::fs::remove_file(&attributes).map_err(failed(&attributes))?;
        std::fs::rename(&self.dir, place).map_err(failed(place))
    }
}
