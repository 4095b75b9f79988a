//! Repositories inside a repository: `.gitmodules` is read as data, each is fetched like the first and unpacked in its place.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use strake_words::{GitReference, GitScheme};

use super::repository::Repository;
use super::{GitError, GitOptions};

/// Most repositories inside one, and inside those.
const MOST: usize = 200;
/// Deepest nesting.
const DEPTH: usize = 8;

/// One that is still to be unpacked.
struct Pending {
    /// Its place below the outermost repository.
    path: PathBuf,
    reference: GitReference,
    commit: String,
    depth: usize,
}

/// Unpacks all submodules of `outer` below `directory`, and those inside them.
pub(super) async fn unpack(outer: &Repository<'_>, directory: &Path, options: &GitOptions) -> Result<(), GitError> {
    let mut pending: VecDeque<Pending> = list(outer, Path::new(""), 1).await?.into();
    let mut number = 0;
    while let Some(one) = pending.pop_front() {
        number += 1;
        let refused = |reason: String| GitError::Submodule { url: outer.git.url.clone(), path: one.path.display().to_string(), reason };
        if number > MOST || one.depth > DEPTH {
            return Err(refused(format!("more than {MOST}, or nested deeper than {DEPTH}")));
        }
        // A login is for the machine that it was given for.
        let same = (&one.reference.host, one.reference.scheme) == (&outer.reference.host, outer.reference.scheme);
        let own = GitOptions { authorization: options.authorization.clone().filter(|_| same), ..options.clone() };
        let scratch = directory.with_extension(format!("git.{number}"));
        let fetched = Repository::fetch(&one.reference, &one.commit, &scratch, &own).await;
        let outcome = match &fetched {
            Ok(inner) => match inner.unpack(directory, &one.path).await {
                Ok(()) => list(inner, &one.path, one.depth + 1).await,
                Err(error) => Err(error),
            },
            Err(_) => Ok(Vec::new()),
        };
        // Without it the fetch has failed, which is told.
        let _ = tokio::fs::remove_dir_all(&scratch).await;
        fetched?;
        pending.extend(outcome?);
    }
    Ok(())
}

/// The submodules of one repository. Each must be described; descriptions of others mean nothing.
async fn list(repository: &Repository<'_>, below: &Path, depth: usize) -> Result<Vec<Pending>, GitError> {
    let url = || repository.git.url.clone();
    let links = links(&repository.read(&["ls-tree", "-r", "-z", "--full-tree", &repository.commit]).await?);
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let described = repository.read(&["config", "--blob", &format!("{}:.gitmodules", repository.commit), "-z", "--list"]).await;
    let addresses = described.map(|text| addresses(&text)).unwrap_or_default();
    let mut found = Vec::new();
    for (path, commit) in links {
        let Some(written) = addresses.get(&path) else {
            let reason = ".gitmodules does not say where it is".to_owned();
            return Err(GitError::Submodule { url: url(), path, reason });
        };
        let address = absolute(&repository.reference.remote, written);
        let parsed = GitReference::parse(&address).map_err(|source| GitError::SubmoduleAddress { url: url(), path: path.clone(), source })?;
        // Over the wire in clear text is only what already was.
        if parsed.scheme != GitScheme::Https && parsed.scheme != GitScheme::Ssh && matches!(repository.reference.scheme, GitScheme::Https | GitScheme::Ssh) {
            let reason = format!("{} leaves encryption behind", parsed.shown());
            return Err(GitError::Submodule { url: url(), path, reason });
        }
        found.push(Pending { path: below.join(&path), reference: parsed, commit, depth });
    }
    Ok(found)
}

/// Paths and commits of the entries that are repositories.
fn links(listed: &[u8]) -> Vec<(String, String)> {
    let each = listed.split(|byte| *byte == 0).filter_map(|line| {
        let (head, path) = std::str::from_utf8(line).ok()?.split_once('\t')?;
        let mut words = head.split(' ');
        (words.next()? == "160000").then_some(())?;
        Some((path.to_owned(), words.nth(1)?.to_owned()))
    });
    each.collect()
}

/// Addresses by path, of `submodule.NAME.path` and `submodule.NAME.url`.
fn addresses(listed: &[u8]) -> BTreeMap<String, String> {
    let (mut paths, mut urls) = (BTreeMap::new(), BTreeMap::new());
    for line in listed.split(|byte| *byte == 0) {
        let Some((key, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once('\n')) else { continue };
        let Some((name, field)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.')) else { continue };
        match field {
            "path" => drop(paths.insert(name.to_owned(), value.to_owned())),
            "url" => drop(urls.insert(name.to_owned(), value.to_owned())),
            _ => {}
        }
    }
    paths.into_iter().filter_map(|(name, path)| Some((path, urls.remove(&name)?))).collect()
}

/// `./x` and `../x` beside the outer repository, as git-submodule(1) has it; anything else is an address already.
fn absolute(remote: &str, written: &str) -> String {
    if !written.starts_with("./") && !written.starts_with("../") {
        return written.to_owned();
    }
    let (mut base, mut rest) = (remote.trim_end_matches('/'), written);
    let mut separator = '/';
    loop {
        if let Some(inner) = rest.strip_prefix("./") {
            rest = inner;
        } else if let Some(inner) = rest.strip_prefix("../") {
            rest = inner;
            match base.rfind('/') {
                Some(at) if !base[..at].ends_with('/') && !base[..at].ends_with(':') => base = &base[..at],
                _ => match base.rfind(':').filter(|at| !base[*at..].starts_with("://")) {
                    // `host:path` without a folder.
                    Some(at) => (base, separator) = (&base[..at], ':'),
                    None => return written.to_owned(),
                },
            }
        } else {
            return format!("{base}{separator}{rest}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{absolute, addresses, links};

    #[test]
    fn places_beside_the_outer_repository() {
        for (remote, written, expected) in [
            ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
            ("https://h/a/b.git", "./c.git", "https://h/a/b.git/c.git"),
            ("https://h/a/b.git/", "../../c/d.git", "https://h/c/d.git"),
            ("https://h/b.git", "../../c.git", "../../c.git"),
            ("git@h:a/b.git", "../c.git", "git@h:a/c.git"),
            ("git@h:b.git", "../c.git", "git@h:c.git"),
            ("https://h/b.git", "https://i/c.git", "https://i/c.git"),
            ("https://h/b.git", "ext::sh", "ext::sh"),
        ] {
            assert_eq!(absolute(remote, written), expected, "{remote} {written}");
        }
    }

    #[test]
    fn lists_are_read() {
        let listed = b"100644 blob aa\tf\x00160000 commit bb\tsub dir/x\0";
        assert_eq!(links(listed), [("sub dir/x".to_owned(), "bb".to_owned())]);
        let config = b"submodule.a.b.path\nx\0submodule.a.b.url\n../y\0submodule.c.path\nz\0core.fsmonitor\nsh\0";
        assert_eq!(addresses(config).into_iter().collect::<Vec<_>>(), [("x".to_owned(), "../y".to_owned())]);
    }
}
