//! What ADD takes from elsewhere: files by their address, and git repositories. The caller fetches them; a plan names them by content.

use strake_dockerfile::{self as dockerfile, Text};
use strake_oci::Digest;
use strake_plan::{Context, CopySource};
use strake_source::Span;
use strake_words::GitReference;

use crate::lower::remote_context;
use crate::stage::StageLowering;

/// Something of elsewhere that was fetched.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Digest of a file's content; of a repository, whatever decides what its files are (the commit, the folder).
    pub digest: Digest,
    /// A directory with the one file in it, called as [`RemoteKind::File`] says (its mode is the one that the image's file gets), or with a repository's files.
    pub context: Context,
}

/// Something of elsewhere that ADD names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSource {
    /// Where it is, as written once variables are expanded.
    pub url: String,
    /// What it is.
    pub kind: RemoteKind,
}

/// What is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    /// A single file.
    File {
        /// What it is called in the image when the destination is a directory.
        name: String,
        /// The digest that it must have.
        checksum: Option<Digest>,
    },
    /// The files of a commit.
    Repository {
        /// Where, and which.
        reference: Box<GitReference>,
        /// With a `.git` of that commit.
        keep_git_dir: bool,
    },
}

impl RemoteSource {
    /// The key under which [`crate::Request::remotes`] has it.
    pub fn key(&self) -> String {
        match &self.kind {
            RemoteKind::File { checksum: None, .. } => self.url.clone(),
            RemoteKind::File { checksum: Some(checksum), .. } => format!("{} {checksum}", self.url),
            RemoteKind::Repository { reference, keep_git_dir } => {
                format!("{} checksum={} keep-git-dir={keep_git_dir}", self.url, reference.checksum.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Whether ADD fetches a source.
pub(crate) fn is_remote(source: &str) -> bool {
    is_web(source) || (GitReference::looks_like(source) && !GitReference::is_path_too(source))
}

fn is_web(source: &str) -> bool {
    let lower = source.to_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// What COPY says to a source that only ADD can fetch.
pub(crate) fn refused_by_copy(source: &str) -> Option<&'static str> {
    match is_remote(source) {
        true if GitReference::looks_like(source) => Some("source can't be a git ref for COPY"),
        true => Some("source can't be a URL for COPY"),
        false => None,
    }
}

impl StageLowering<'_, '_> {
    /// A source of elsewhere: the context that holds it once it was fetched, and a pattern for what is copied of it.
    pub(crate) fn remote(&mut self, copy: &dockerfile::Copy, url: &str, span: Span) -> Option<(CopySource, String)> {
        let (kind, pattern) = if GitReference::looks_like(url) { self.repository(copy, url, span)? } else { self.file(copy, url)? };
        let wanted = RemoteSource { url: url.to_owned(), kind };
        let key = wanted.key();
        self.lowering.remotes.push(wanted);
        let Some(remote) = self.lowering.request.remotes.get(&key) else {
            self.error("remote-file", format!("`{url}` was not fetched"), span);
            return None;
        };
        Some((CopySource::Context { name: remote_context(&remote.digest) }, pattern))
    }

    fn file(&mut self, copy: &dockerfile::Copy, url: &str) -> Option<(RemoteKind, String)> {
        let checksum = match self.checksum(copy)? {
            None => None,
            Some(text) => match text.value.parse::<Digest>() {
                Ok(digest) => Some(digest),
                Err(error) => {
                    self.error("flag-value", format!("--checksum: {error}"), text.span);
                    return None;
                }
            },
        };
        if copy.keep_git_dir == Some(true) {
            self.error("flag-value", "keep-git-dir requires a Git source", copy.dest.span);
            return None;
        }
        let name = file_name_of(url);
        let pattern = literal(&name);
        Some((RemoteKind::File { name, checksum }, pattern))
    }

    fn repository(&mut self, copy: &dockerfile::Copy, url: &str, span: Span) -> Option<(RemoteKind, String)> {
        let mut reference = match GitReference::parse(url) {
            Ok(reference) => reference,
            Err(error) => {
                self.error("git-source", error.to_string(), span);
                return None;
            }
        };
        if let Some(text) = self.checksum(copy)? {
            let known = reference.checksum.take();
            let given = reference.set_checksum(&text.value);
            let agrees = known.as_ref().is_none_or(|known| reference.checksum.as_ref() == Some(known));
            let wrong = given.err().or_else(|| (!agrees).then(|| "it differs from the one in the address".to_owned()));
            if let Some(wrong) = wrong {
                self.error("flag-value", format!("--checksum: {wrong}"), text.span);
                return None;
            }
        }
        let keep_git_dir = copy.keep_git_dir.or(reference.keep_git_dir).unwrap_or(false);
        Some((RemoteKind::Repository { reference: Box::new(reference), keep_git_dir }, ".".to_owned()))
    }

    /// --checksum, expanded; empty is not given.
    fn checksum(&mut self, copy: &dockerfile::Copy) -> Option<Option<Text>> {
        let Some(text) = &copy.checksum else { return Some(None) };
        let value = self.expand(text)?;
        if copy.sources.len() > 1 && !value.is_empty() {
            self.error("flag-value", "checksum can't be specified for multiple sources", text.span);
            return None;
        }
        Some(Some(Text::new(value, text.span)).filter(|text| !text.value.is_empty()))
    }
}

/// What a fetched file is called: the last part of the URL's path, decoded.
pub fn file_name_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default().split_once('/').map_or("", |(_, path)| path);
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match decoded(last) {
        Some(name) if !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']) => name,
        _ => "__unnamed__".to_owned(),
    }
}

/// `%20` and its like. `None` when that gives no text.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]).0,
            None => (bytes.push(*first), rest = tail).0,
        }
    }
    String::from_utf8(bytes).ok()
}

/// A name as a pattern that matches only itself.
fn literal(name: &str) -> String {
    let escaped = |c: char| if matches!(c, '*' | '?' | '[' | '\\') { vec!['\\', c] } else { vec![c] };
    name.chars().flat_map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::{file_name_of, is_remote, literal, refused_by_copy};

    #[test]
    fn fetched_files_are_called_as_their_address_ends() {
        for (url, name) in [
            ("https://h/a/b.tar.gz?x=1#y", "b.tar.gz"),
            ("http://h/a%20b/", "a b"),
            ("https://h", "__unnamed__"),
            ("https://h/", "__unnamed__"),
            ("https://h/%2e%2e", "__unnamed__"),
            ("https://h/a%2Fb", "__unnamed__"),
            ("https://h/100%", "100%"),
        ] {
            assert_eq!(file_name_of(url), name, "{url}");
        }
        assert_eq!(literal("a[1]*"), "a\\[1]\\*");
    }

    #[test]
    fn what_is_of_elsewhere_is_known_by_its_form() {
        for (source, said) in [
            ("HTTPS://h/x", Some("source can't be a URL for COPY")),
            ("https://h/x.git#main", Some("source can't be a git ref for COPY")),
            ("git@h:x", Some("source can't be a git ref for COPY")),
            ("github.com/a/b", None),
            ("a.git", None),
        ] {
            assert_eq!((is_remote(source), refused_by_copy(source)), (said.is_some(), said), "{source}");
        }
    }
}
