//! Which of the endpoints of the distribution specification a path is (section "Endpoints"). Repository names have slashes, so paths are read from their end.

use axum::http::StatusCode;
use strake_oci::Digest;

use super::answer::Denied;
use super::names::Repository;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Whether this is a registry.
    Base,
    Catalog,
    Tags(Repository),
    Manifest(Repository, Word),
    Blob(Repository, Digest),
    /// Begins an upload.
    Uploads(Repository),
    Upload(Repository, String),
    Referrers(Repository, Digest),
}

/// How a manifest is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Tag(String),
    Digest(Digest),
}

impl Route {
    pub(super) fn parse(path: &str) -> Result<Route, Denied> {
        let path = decoded(path).ok_or_else(unknown)?;
        let rest = path.strip_prefix("/v2").ok_or_else(unknown)?;
        let rest = match rest {
            "" | "/" => return Ok(Route::Base),
            "/_catalog" => return Ok(Route::Catalog),
            rest => rest.strip_prefix('/').ok_or_else(unknown)?,
        };
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Route::Tags(Repository::parse(name)?));
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
            return Ok(Route::Uploads(Repository::parse(name)?));
        }
        let (before, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            return Ok(Route::Upload(Repository::parse(name)?, last.to_owned()));
        }
        if let Some(name) = before.strip_suffix("/manifests") {
            return Ok(Route::Manifest(Repository::parse(name)?, Word::parse(last)?));
        }
        if let Some(name) = before.strip_suffix("/blobs") {
            return Ok(Route::Blob(Repository::parse(name)?, digest(last)?));
        }
        if let Some(name) = before.strip_suffix("/referrers") {
            return Ok(Route::Referrers(Repository::parse(name)?, digest(last)?));
        }
        Err(unknown())
    }
}

impl Word {
    fn parse(text: &str) -> Result<Word, Denied> {
        if text.contains(':') {
            return digest(text).map(Word::Digest);
        }
        let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let good = text.len() <= 128 && text.bytes().next().is_some_and(first) && text.bytes().all(|byte| first(byte) || byte == b'.' || byte == b'-');
        if good { Ok(Word::Tag(text.to_owned())) } else { Err(Denied::new(StatusCode::BAD_REQUEST, "TAG_INVALID", format!("`{text}` is no tag"))) }
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Word::Tag(tag) => f.write_str(tag),
            Word::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A digest of the kind that the store keeps.
pub(super) fn digest(text: &str) -> Result<Digest, Denied> {
    text.parse().map_err(|error: strake_oci::DigestError| Denied::digest_invalid(error.to_string()))
}

fn unknown() -> Denied {
    Denied::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is no such endpoint")
}

/// A path with its `%XX` resolved; nothing for one that is not UTF-8.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{Repository, Route, Word};

    #[test]
    fn paths_are_read_from_their_end() {
        let hex = "0123456789abcdef".repeat(4);
        let digest: strake_oci::Digest = format!("sha256:{hex}").parse().unwrap();
        let name = |text: &str| Repository::parse(text).unwrap();
        let tag = |text: &str| Word::Tag(text.to_owned());
        for (path, route) in [
            ("/v2/".to_owned(), Route::Base),
            ("/v2".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags(name("a/b"))),
            ("/v2/tags/list/tags/list".to_owned(), Route::Tags(name("tags/list"))),
            ("/v2/a/manifests/1.0".to_owned(), Route::Manifest(name("a"), tag("1.0"))),
            ("/v2/manifests/manifests/x".to_owned(), Route::Manifest(name("manifests"), tag("x"))),
            (format!("/v2/a/b/c/manifests/sha256:{hex}"), Route::Manifest(name("a/b/c"), Word::Digest(digest))),
            (format!("/v2/a/blobs/sha256%3A{hex}"), Route::Blob(name("a"), digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/x-1".to_owned(), Route::Upload(name("a"), "x-1".to_owned())),
            (format!("/v2/a/referrers/sha256:{hex}"), Route::Referrers(name("a"), digest)),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), route, "{path}");
        }
        for (path, code) in [
            ("/", "UNSUPPORTED"),
            ("/v1/", "UNSUPPORTED"),
            ("/v2/a", "UNSUPPORTED"),
            ("/v2/A/tags/list", "NAME_INVALID"),
            ("/v2/../a/tags/list", "NAME_INVALID"),
            ("/v2/a:5000/b/tags/list", "NAME_INVALID"),
            ("/v2//tags/list", "NAME_INVALID"),
            ("/v2/a/manifests/.x", "TAG_INVALID"),
            ("/v2/a/manifests/%00", "TAG_INVALID"),
            ("/v2/a/manifests/sha256:12", "DIGEST_INVALID"),
            ("/v2/a/blobs/md5:12", "DIGEST_INVALID"),
            ("/v2/a/blobs/%zz", "UNSUPPORTED"),
        ] {
            assert_eq!(Route::parse(path).unwrap_err().code, code, "{path}");
        }
    }
}
