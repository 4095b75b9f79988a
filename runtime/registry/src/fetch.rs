//! Single files from web servers, for ADD. A Dockerfile of a stranger must not reach what only this machine may ask: link-local addresses and the metadata
//! services of clouds are refused, by every resolved address and at every redirect.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use reqwest::header::{AUTHORIZATION, DATE, ETAG, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
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
    /// The login that was given for it fits no header.
    #[error("the login that was given for {url} fits no header")]
    Authorization { url: String },
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

/// By what a server tells whether a file is still the one that it gave (RFC 9110, 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Validator {
    /// `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// What is asked for beside the address.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileRequest<'a> {
    /// Another content is an error.
    pub expected: Option<&'a Digest>,
    /// The value of the header of that name, for the address's own host.
    pub authorization: Option<&'a str>,
    /// What was said about the content that is here: it is not sent again while it is the same.
    pub known: Option<&'a Validator>,
}

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The file, with what to ask about it next time.
    File(Digest, Validator),
    /// It is what was known.
    Unchanged,
}

/// Fetches a file to `path` and gives the digest of its content. Another content than expected is an error, and the file is removed.
///
/// # Errors
/// [`FetchError::Refused`] before anything is sent to an address that builds may not reach.
pub async fn fetch(text: &str, request: FileRequest<'_>, path: &Path, options: &PullOptions) -> Result<Fetched, FetchError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| FetchError::Address { url: text.to_owned() })?;
    let shown = without_login(&url);
    let guard = Guarded::of(&url);
    if let Some(address) = guard.refused(&url) {
        return Err(FetchError::Refused { url: shown, address });
    }
    let client = client(options, guard).map_err(|source| FetchError::Client { url: shown.clone(), source })?;
    let mut asked = client.get(url);
    if let Some(authorization) = request.authorization {
        let value = HeaderValue::from_str(authorization).map_err(|_| FetchError::Authorization { url: shown.clone() })?;
        asked = asked.header(AUTHORIZATION, sensitive(value));
    }
    let known = request.known.filter(|known| known.etag.is_some() || known.last_modified.is_some());
    if let Some(known) = known {
        let fields = [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)];
        asked = fields.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).fold(asked, |asked, (name, value)| asked.header(name, value));
    }
    let response = asked.send().await.map_err(|error| told(&shown, error))?;
    if response.status() == StatusCode::NOT_MODIFIED && known.is_some() {
        return Ok(Fetched::Unchanged);
    }
    if !response.status().is_success() {
        return Err(FetchError::Status { url: shown, status: response.status() });
    }
    let said = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    let last_modified = said(LAST_MODIFIED).filter(|modified| said(DATE).is_some_and(|date| is_settled(modified, &date)));
    let validator = Validator { etag: said(ETAG), last_modified };
    let outcome = receive(response, &shown, path, options.max_blob_bytes).await;
    let outcome = outcome.and_then(|found| match request.expected {
        Some(expected) if *expected != found => Err(FetchError::Checksum { url: shown, expected: *expected, found }),
        _ => Ok(Fetched::File(found, validator)),
    });
    if outcome.is_err() {
        let _ = tokio::fs::remove_file(path).await;
    }
    outcome
}

/// Whether a file was left alone for a minute when it was sent: its time, which counts seconds, then tells it from any later one (RFC 9110, 8.8.2.2).
fn is_settled(modified: &str, date: &str) -> bool {
    let time = |text: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    matches!((time(modified), time(date)), (Some(modified), Some(date)) if date.duration_since(modified).as_secs() >= 60)
}

/// Left out of every debug output.
fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
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
    use super::{is_settled, without_login};
    use reqwest::Url;

    #[test]
    fn a_time_tells_files_apart_when_it_is_old_enough() {
        let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (date, settled) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", false),
            ("Sun, 06 Nov 1994 08:50:36 GMT", false),
            ("Sun, 06 Nov 1994 08:50:37 GMT", true),
            ("Sat, 05 Nov 1994 08:50:37 GMT", false),
            ("some day", false),
        ] {
            assert_eq!(is_settled(modified, date), settled, "{date}");
        }
    }

    #[test]
    fn logins_are_left_out() {
        assert_eq!(without_login(&Url::parse("https://me:secret@h/x").unwrap()), "https://h/x");
    }
}
