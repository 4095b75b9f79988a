//! Repositories as clients name them, and images as the store does: what `strake images` shows is what can be pulled, and the other way round.

use axum::http::StatusCode;
use strake_oci::{Descriptor, Digest};
use strake_store::Store;
use strake_words::Reference;

use super::answer::Denied;

/// A repository: `team/web` is the store's `docker.io/team/web`, `ghcr.io/owner/app` is itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repository {
    /// As the client says it.
    pub name: String,
    /// As the store's references begin.
    stored: String,
}

impl Repository {
    pub(super) fn parse(name: &str) -> Result<Self, Denied> {
        let wrong = || Denied::new(StatusCode::BAD_REQUEST, "NAME_INVALID", format!("`{name}` is no repository"));
        let good = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte));
        let parsed = Reference::parse(name).ok().filter(|parsed| good && parsed.tag.is_none() && parsed.digest.is_none()).ok_or_else(wrong)?;
        Ok(Repository { name: name.to_owned(), stored: parsed.repository() })
    }

    /// As the store's references begin.
    pub(super) fn name_in_store(&self) -> &str {
        &self.stored
    }

    pub(super) fn tagged(&self, tag: &str) -> String {
        format!("{}:{tag}", self.stored)
    }

    pub(super) fn by_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.stored)
    }

    /// Everything that the store has in this repository: the tag, if there is one, and what it stands for.
    pub(super) fn entries(&self, store: &Store) -> Result<Vec<Entry>, Denied> {
        let names = store.names()?;
        let own = names.into_iter().filter_map(|(reference, descriptor)| {
            let rest = reference.strip_prefix(&self.stored)?;
            let tag = match rest.split_at_checked(1)? {
                (":", tag) => tag.split('@').next().map(str::to_owned),
                ("@", _) => None,
                _ => return None,
            };
            Some(Entry { reference, tag, descriptor })
        });
        Ok(own.collect())
    }
}

/// A name of the store in a repository.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub reference: String,
    pub tag: Option<String>,
    pub descriptor: Descriptor,
}

/// The names of all repositories that can be asked for, sorted. Images of registries with a port have no name that a path could carry.
pub(super) fn repositories(store: &Store) -> Result<Vec<String>, Denied> {
    let mut names: Vec<String> = Vec::new();
    for (reference, _) in store.names()? {
        let Ok(parsed) = Reference::parse(&reference) else { continue };
        let name = Reference { tag: None, digest: None, ..parsed }.familiar();
        if Repository::parse(&name).is_ok() {
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}
