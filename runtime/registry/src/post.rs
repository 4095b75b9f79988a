//! One request that tells somebody something: a forge how a commit fared. Link-local and metadata addresses are refused, and no redirect is followed, so that
//! the token goes where it was meant to go.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::address::{Guarded, forbidden};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What of an answer is told, in characters.
const TOLD: usize = 200;

/// Why it was not told. Headers are in none of the texts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// The address cannot be understood.
    #[error("`{url}` is no http or https address")]
    Address { url: String },
    /// A header cannot be sent.
    #[error("the token for {url} has characters that no header can have")]
    Header { url: String },
    /// The address is one that may not be reached.
    #[error("{url} leads to {address}, a link-local or metadata address: it may not be reached")]
    Refused { url: String, address: std::net::IpAddr },
    /// Nobody answers.
    #[error("cannot reach {url}")]
    Request { url: String, source: reqwest::Error },
    /// The server refuses.
    #[error("{url} answers {status}: {answer}")]
    Status { url: String, status: u16, answer: String },
}

/// Sends JSON by POST.
///
/// # Errors
/// Any answer that is no success.
pub async fn post(url: &str, headers: &[(&'static str, String)], body: Vec<u8>) -> Result<(), PostError> {
    let shown = || url.to_owned();
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let parsed = parsed.ok_or_else(|| PostError::Address { url: shown() })?;
    let guard = Guarded::of(&parsed);
    if let Some(address) = guard.refused(&parsed) {
        return Err(PostError::Refused { url: shown(), address });
    }
    let told = |error: reqwest::Error| match forbidden(&error) {
        Some(address) => PostError::Refused { url: shown(), address },
        None if error.is_builder() => PostError::Header { url: shown() },
        None => PostError::Request { url: shown(), source: error.without_url() },
    };
    // Fails when the process has a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let agent = concat!("strake/", env!("CARGO_PKG_VERSION"));
    let client = Client::builder().timeout(PATIENCE).user_agent(agent).redirect(Policy::none()).referer(false).dns_resolver(Arc::new(guard)).build();
    let mut request = client.map_err(told)?.post(parsed).header("content-type", "application/json").body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request.send().await.map_err(told)?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let text = response.text().await.unwrap_or_default();
    let answer: String = text.chars().filter(|c| !c.is_control()).take(TOLD).collect();
    Err(PostError::Status { url: shown(), status: status.as_u16(), answer })
}
