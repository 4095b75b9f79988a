//! Single files from web servers, for ADD. A Dockerfile of a stranger must not reach what only this machine may ask: link-local addresses and the metadata
//! services of clouds are refused, by every resolved address and at every redirect.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode, Url};
use strake_oci::{Digest, Hasher};
use tokio::io::AsyncWriteExt;

use crate::address::{Forbidden, Guarded, forbidden};
use crate::pull::PullOptions;

/// Redirects that are followed one after the other.
const MAX_REDIRECTS: usize = 10;

/// Why a file was not fetched. Logins in addresses are left out of every text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The address cannot be understood.
    #[error("`{url}` is no http or https address")]
    Address { url: String },
    /// The HTTP client could not be made.
    #[error("cannot set up the connection for {url}")]
    Client { url: String, source: reqwest::Error },
    /// The address, or one that it leads to, is one that builds may not reach.
    #[error("{url} leads to {address}, a link-local, metadata or loopback address: builds may not reach it")]
    Refused { url: String, address: IpAddr },
    /// Nobody answers, or not in full.
    #[error("cannot fetch {url}")]
    Request { url: String, source: reqwest::Error },
    /// The server refuses.
    #[error("{url}: invalid response status {}", status.as_u16())]
    Status { url: String, status: StatusCode },
    /// It is longer than allowed.
    #[error("{url} has more than the {max_bytes} bytes allowed")]
    TooLarge { url: String, max_bytes: u64 },
    /// It is not what was promised.
    #[error("{url}: digest mismatch {found}: {expected}")]
    Checksum { url: String, expected: Digest, found: Digest },
    /// The file could not be written.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Fetches a file to `path` and gives the digest of its content. With `expected`, another content is an error and the file is removed.
///
/// # Errors
/// [`FetchError::Refused`] before anything is sent to an address that builds may not reach.
pub async fn fetch(text: &str, expected: Option<&Digest>, path: &Path, options: &PullOptions) -> Result<Digest, FetchError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| FetchError::Address { url: text.to_owned() })?;
    let shown = without_login(&url);
    let guard = Guarded::of(&url);
    if let Some(address) = guard.refused(&url) {
        return Err(FetchError::Refused { url: shown, address });
    }
    let client = client(options, guard).map_err(|source| FetchError::Client { url: shown.clone(), source })?;
    let response = client.get(url).send().await.map_err(|error| told(&shown, error))?;
    if !response.status().is_success() {
        return Err(FetchError::Status { url: shown, status: response.status() });
    }
    let outcome = receive(response, &shown, path, options.max_blob_bytes).await;
    let outcome = outcome.and_then(|found| match expected {
        Some(expected) if *expected != found => Err(FetchError::Checksum { url: shown, expected: *expected, found }),
        _ => Ok(found),
    });
    if outcome.is_err() {
        let _ = tokio::fs::remove_file(path).await;
    }
    outcome
}

async fn receive(response: reqwest::Response, url: &str, path: &Path, max_bytes: u64) -> Result<Digest, FetchError> {
    let failed = |source| FetchError::Write { path: path.to_owned(), source };
    let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
    let (mut hasher, mut size_bytes) = (Hasher::default(), 0_u64);
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| told(url, error))?;
        size_bytes += piece.len() as u64;
        if size_bytes > max_bytes {
            return Err(FetchError::TooLarge { url: url.to_owned(), max_bytes });
        }
        hasher.update(&piece);
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(hasher.finish())
}

fn client(options: &PullOptions, guard: Guarded) -> reqwest::Result<Client> {
    // Fails when the process has a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.idle_timeout)
        .user_agent(concat!("strake/", env!("CARGO_PKG_VERSION")))
        // Logins do not go to other hosts: the client takes them off when a redirect leaves the host.
        .redirect(Policy::custom({
            let guard = guard.clone();
            move |attempt| follow(attempt, &guard)
        }))
        .referer(false)
        .dns_resolver(Arc::new(guard))
        .build()
}

fn follow(attempt: Attempt<'_>, guard: &Guarded) -> reqwest::redirect::Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    if let Some(address) = guard.refused(attempt.url()) {
        return attempt.error(Forbidden(address));
    }
    let falls_back = attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
    if falls_back { attempt.error("a redirect leads from https to http") } else { attempt.follow() }
}

/// Sorts out what the client reports.
fn told(url: &str, error: reqwest::Error) -> FetchError {
    match forbidden(&error) {
        Some(address) => FetchError::Refused { url: url.to_owned(), address },
        None => FetchError::Request { url: url.to_owned(), source: error.without_url() },
    }
}

fn without_login(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::without_login;
    use reqwest::Url;

    #[test]
    fn logins_are_left_out() {
        assert_eq!(without_login(&Url::parse("https://me:secret@h/x").unwrap()), "https://h/x");
    }
}
