//! Asking a repository, and fetching a commit of it.

use std::path::{Path, PathBuf};

use strake_registry::{GitError, check_out, has_ancestor, list_references};
use strake_sync::{Fetched, Head, Reason, Reference, Refs, Spec, Trouble};
use strake_words::GitReference;

use super::keys::Login;
use crate::failure::chain;

/// Where a commit's files are, below a Sync's own directory.
const TREE: &str = "tree";

/// The folder of a fetched commit's files.
pub fn tree(dir: &Path) -> PathBuf {
    dir.join(TREE)
}

fn trouble(error: &GitError) -> Trouble {
    let message = chain(error);
    let refused =
        ["401", "403", "Authentication failed", "could not read Username", "could not read Password", "Permission denied", "askpass", "access denied"];
    let is_login = matches!(error, GitError::Failed { .. }) && refused.iter().any(|words| message.contains(words));
    let reason = match error {
        GitError::Commit { .. } | GitError::Reference { .. } => Reason::ReferenceMissing,
        GitError::Failed { .. } if is_login => Reason::Unauthorized,
        _ => Reason::FetchFailed,
    };
    let hint = if is_login { " (is the token or key still valid?)" } else { "" };
    Trouble::new(reason, format!("{message}{hint}"))
}

fn address(url: &str) -> Result<GitReference, Trouble> {
    GitReference::parse(url).map_err(|error| Trouble::new(Reason::InvalidSpec, error.to_string()))
}

/// What the references mean now.
pub async fn ask(spec: &Spec, login: &Login) -> Result<Refs, Trouble> {
    // A commit means itself.
    if matches!(spec.reference, Reference::Commit(_)) {
        return Ok(Refs::new());
    }
    list_references(&address(&spec.url)?, &login.options).await.map_err(|error| trouble(&error))
}

/// Brings the files of a commit into `dir`, which is emptied before, and looks what became of the commit that runs.
pub async fn fetch(spec: &Spec, head: &Head, runs: Option<&str>, dir: &Path, login: &Login) -> Result<Fetched, Trouble> {
    let reference = address(&spec.url)?;
    let failed = |error: std::io::Error| Trouble::new(Reason::FetchFailed, format!("cannot prepare {}: {error}", dir.display()));
    empty(dir).map_err(failed)?;
    let tree = tree(dir);
    std::fs::create_dir_all(&tree).map_err(failed)?;
    check_out(&reference, &head.commit, &tree, false, &login.options).await.map_err(|error| trouble(&error))?;
    let (checked, path) = (tree.clone(), spec.path.clone());
    let looked = tokio::task::spawn_blocking(move || look(&checked, &path)).await;
    looked.unwrap_or_else(|error| Err(Trouble::new(Reason::FetchFailed, error.to_string())))?;
    let Some(runs) = runs.filter(|runs| *runs != head.commit && head.branch.is_some()) else { return Ok(Fetched::default()) };
    match has_ancestor(&reference, &head.commit, runs, &dir.join("history"), &login.options).await {
        Ok(found) => Ok(Fetched { rewritten: !found }),
        Err(error) => {
            tracing::debug!("the history of {} is not known: {error}", reference.shown());
            Ok(Fetched::default())
        }
    }
}

/// Removes a directory with everything in it; fine when it is not there.
fn empty(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A link that leads out of a tree to something that is there, by its path in the tree.
pub fn leads_out(tree: &Path) -> std::io::Result<Option<PathBuf>> {
    let root = tree.canonicalize()?;
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
            let kind = entry?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && path.canonicalize().is_ok_and(|target| !target.starts_with(&root)) {
                return Ok(Some(path.strip_prefix(&root).unwrap_or(&path).to_owned()));
            }
        }
    }
    Ok(None)
}

/// The folder must be there, and nothing may lead out of the repository to a file of this machine: a manifest that is a link to one would be told in a status.
fn look(tree: &Path, path: &str) -> Result<(), Trouble> {
    let found = leads_out(tree).map_err(|error| Trouble::new(Reason::FetchFailed, format!("cannot read what was fetched: {error}")))?;
    if let Some(link) = found {
        let message = format!("the link {} leads out of the repository, to a file of this machine", link.display());
        return Err(Trouble::new(Reason::LinkLeavesRepository, message));
    }
    if !tree.join(path).exists() {
        return Err(Trouble::new(Reason::PathMissing, format!("the commit has no folder `{path}`: was it moved or deleted?")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use strake_sync::Reason;

    use super::look;

    #[test]
    fn links_may_lead_anywhere_inside() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("deploy")).expect("made");
        std::fs::write(dir.path().join("secret"), "x").expect("written");
        std::os::unix::fs::symlink("../deploy", tree.join("deploy/same")).expect("made");
        std::os::unix::fs::symlink("/nowhere/at/all", tree.join("deploy/dangling")).expect("made");
        assert_eq!(look(&tree, "deploy"), Ok(()));
        assert_eq!(look(&tree, "").map_err(|trouble| trouble.reason), Ok(()));
        assert_eq!(look(&tree, "gone").map_err(|trouble| trouble.reason), Err(Reason::PathMissing));
        std::os::unix::fs::symlink("../../secret", tree.join("deploy/a.yaml")).expect("made");
        assert_eq!(look(&tree, "deploy").map_err(|trouble| trouble.reason), Err(Reason::LinkLeavesRepository));
    }
}
