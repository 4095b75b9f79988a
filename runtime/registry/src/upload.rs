//! Uploads: taken over from another repository, else in one request; long ones, and those that break off, in pieces that go on where they broke off.

use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION, RANGE};
use reqwest::{Method, Response, Url};
use strake_oci::Digest;

use crate::endpoint::{Ask, Payload};
use crate::error::RegistryError;
use crate::retry::{Retries, again};
use crate::session::Session;

/// Blobs up to this length are sent in one request.
const WHOLE_BYTES: u64 = 256 << 20;
/// The length of a piece, unless the registry wants longer ones.
const PIECE_BYTES: u64 = 32 << 20;
/// A registry is given the time to take what it is sent at this rate, in bytes a second, before it answers.
const SLOWEST: u64 = 256 << 10;
/// In which form blobs go.
const KIND: (&str, &str) = ("content-type", "application/octet-stream");
/// How long the registry wants pieces to be at least (distribution specification 1.1, "Pushing a blob in chunks").
const MIN_LENGTH: &str = "oci-chunk-min-length";

/// An upload that the registry has begun.
struct Begun {
    /// Where the next request goes; another after each.
    at: Url,
    piece_bytes: u64,
}

impl Session<'_> {
    /// Brings a blob into the registry; true when it was taken over from the repository `from`.
    pub(crate) async fn upload(&self, digest: &Digest, size_bytes: u64, from: Option<&str>) -> Result<bool, RegistryError> {
        // One that does not know the other repository, or has forgotten the blob, begins an upload.
        let begun = match again(self.options, || self.begin(digest, from)).await {
            Ok(None) => return Ok(true),
            Ok(Some(begun)) => begun,
            Err(error) if from.is_none() || matches!(error, RegistryError::Unreachable { .. } | RegistryError::RateLimited { .. }) => return Err(error),
            // Some refuse to take over what they would not show to this login.
            Err(_) => again(self.options, || self.begin(digest, None)).await?.ok_or_else(|| self.registry().protocol("it took over a blob of nowhere"))?,
        };
        if size_bytes <= WHOLE_BYTES {
            match self.whole(&begun, digest, size_bytes).await {
                Ok(()) => return Ok(false),
                Err(error @ (RegistryError::Unauthorized { .. } | RegistryError::NotFound { .. })) => return Err(error),
                // Proxies limit the length of a request, and connections break.
                Err(error) => {
                    tracing::debug!(host = %self.registry().host, %digest, error = %crate::error::chain(&error), "sending the blob in pieces");
                    self.pause_after(error).await?;
                }
            }
            self.pieces(None, digest, size_bytes).await?;
            return Ok(false);
        }
        self.pieces(Some(begun), digest, size_bytes).await?;
        Ok(false)
    }

    /// Begins an upload; nothing is to be uploaded when the registry has taken the blob over.
    async fn begin(&self, digest: &Digest, from: Option<&str>) -> Result<Option<Begun>, RegistryError> {
        let registry = self.registry();
        let mut ask = registry.ask(Method::POST, "blobs/uploads/")?;
        if let Some(from) = from {
            ask.url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        }
        let response = registry.send(&ask, &[]).await?;
        if response.status().as_u16() == 201 {
            return if from.is_some() { Ok(None) } else { Err(registry.protocol("it says that a blob is there of which nothing was sent")) };
        }
        let minimum = response.headers().get(MIN_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
        Ok(Some(Begun { at: self.location(&response)?, piece_bytes: PIECE_BYTES.max(minimum) }))
    }

    /// What is too long in one request is no reason to wait; what fails in passing is.
    async fn pause_after(&self, error: RegistryError) -> Result<(), RegistryError> {
        if error.is_passing() { Retries::new(self.options).wait(error).await } else { Ok(()) }
    }

    async fn whole(&self, begun: &Begun, digest: &Digest, size_bytes: u64) -> Result<(), RegistryError> {
        let payload = Payload::Part { path: self.store.blob_path(digest), start: 0, length: size_bytes };
        let ask = Ask { method: Method::PUT, url: with_digest(&begun.at, digest), headers: vec![header(KIND)], payload, timeout: self.patience(size_bytes) };
        self.registry().send(&ask, &[]).await.map(drop)
    }

    /// Piece after piece; after a failure the registry is asked how much it has, and when it knows nothing it begins anew.
    async fn pieces(&self, begun: Option<Begun>, digest: &Digest, size_bytes: u64) -> Result<(), RegistryError> {
        let mut retries = Retries::new(self.options);
        let (mut begun, mut done, mut furthest) = (begun, 0, 0);
        loop {
            let outcome = self.one(&mut begun, &mut done, digest, size_bytes).await;
            match outcome {
                Ok(true) => return Ok(()),
                Ok(false) if done > furthest => {
                    furthest = done;
                    retries.progressed();
                }
                Ok(false) => {}
                Err(error) => {
                    retries.wait(error).await?;
                    if let Some(known) = &mut begun {
                        match self.status(known).await {
                            Some(has) if has <= size_bytes => done = has,
                            _ => begun = None,
                        }
                    }
                }
            }
        }
    }

    /// The next request of an upload in pieces; true when it was the last.
    async fn one(&self, begun: &mut Option<Begun>, done: &mut u64, digest: &Digest, size_bytes: u64) -> Result<bool, RegistryError> {
        let known = match begun {
            Some(known) => known,
            None => {
                *done = 0;
                let made = self.begin(digest, None).await?.ok_or_else(|| self.registry().protocol("it began no upload"))?;
                begun.insert(made)
            }
        };
        if *done == size_bytes {
            let ask = Ask {
                method: Method::PUT,
                url: with_digest(&known.at, digest),
                headers: vec![header(KIND)],
                payload: Payload::None,
                timeout: self.patience(size_bytes),
            };
            self.registry().send(&ask, &[]).await?;
            return Ok(true);
        }
        let length = known.piece_bytes.min(size_bytes - *done);
        let range = ("content-range", format!("{}-{}", *done, *done + length - 1));
        let payload = Payload::Part { path: self.store.blob_path(digest), start: *done, length };
        let ask = Ask { method: Method::PATCH, url: known.at.clone(), headers: vec![header(KIND), range], payload, timeout: self.patience(length) };
        let response = self.registry().send(&ask, &[]).await?;
        known.at = self.location(&response)?;
        // It may have taken less than it was sent.
        let has = taken(response.headers()).unwrap_or(*done + length);
        if has > *done + length || has < *done {
            return Err(self.registry().protocol(format!("it says that it has {has} bytes of an upload after {}", *done + length)));
        }
        *done = has;
        Ok(false)
    }

    /// How much of an upload the registry has, in bytes; nothing when it does not know it any more.
    async fn status(&self, begun: &mut Begun) -> Option<u64> {
        let ask = Ask { method: Method::GET, url: begun.at.clone(), headers: Vec::new(), payload: Payload::None, timeout: self.options.manifest_timeout };
        let response = self.registry().send(&ask, &[]).await.ok()?;
        if let Ok(at) = self.location(&response) {
            begun.at = at;
        }
        taken(response.headers())
    }

    /// Where an upload goes on.
    fn location(&self, response: &Response) -> Result<Url, RegistryError> {
        let location = response.headers().get(LOCATION).ok_or_else(|| self.registry().protocol("it does not say where an upload goes on"))?;
        self.registry().led_to(response.url(), location)
    }

    fn patience(&self, size_bytes: u64) -> Duration {
        self.options.idle_timeout + Duration::from_secs(size_bytes / SLOWEST)
    }
}

fn header((name, value): (&'static str, &str)) -> (&'static str, String) {
    (name, value.to_owned())
}

fn with_digest(at: &Url, digest: &Digest) -> Url {
    let mut url = at.clone();
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    url
}

/// `0-9` are ten bytes; `0-0` is how an empty upload is told as well as one of a single byte, so it counts as none.
fn taken(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(RANGE)?.to_str().ok()?.trim();
    let last: u64 = value.strip_prefix("bytes=").unwrap_or(value).strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
