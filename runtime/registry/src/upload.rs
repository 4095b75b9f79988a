//! Uploads: taken over from another repository, else in one request; long ones, those that break off, and those whose blob is still being made, in pieces that
//! go on where they broke off.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION, RANGE};
use reqwest::{Method, Response, Url};
use strake_oci::Digest;
use strake_store::Blob;
use tokio::sync::watch;

use crate::endpoint::{Ask, Payload};
use crate::error::RegistryError;
use crate::retry::{Retries, again};
use crate::session::Session;

/// Blobs up to this length are sent in one request.
const WHOLE_BYTES: u64 = 256 << 20;
/// The length of a piece, unless the registry wants longer ones.
const PIECE_BYTES: u64 = 32 << 20;
/// Of a blob that is being made, so much is waited for: each request costs the registry a file's opening and a state's writing.
pub(crate) const AHEAD_BYTES: u64 = 16 << 20;
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

/// How much there is of a blob.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    /// The first bytes of it, which stay as they are.
    pub(crate) size_bytes: u64,
    /// What it is, once it is complete.
    pub(crate) blob: Option<Blob>,
}

/// A blob's bytes, of which there may be more later.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) file: Arc<File>,
    pub(crate) extent: watch::Receiver<Extent>,
}

impl Content {
    /// A blob that is all there.
    fn whole(file: File, blob: Blob) -> Self {
        let (_, extent) = watch::channel(Extent { size_bytes: blob.size_bytes, blob: Some(blob) });
        Content { file: Arc::new(file), extent }
    }

    /// Waits for bytes beyond `done`: `least` of them, or the last ones. Nothing when there will be no more of a blob that is not complete.
    pub(crate) async fn beyond(&mut self, done: u64, least: u64) -> Option<Extent> {
        self.extent.wait_for(|extent| extent.blob.is_some() || extent.size_bytes >= done + least).await.ok().map(|extent| *extent)
    }

    fn part(&self, start: u64, length: u64) -> Payload {
        Payload::Part { file: Arc::clone(&self.file), start, length }
    }
}

/// An upload in pieces.
struct Sending {
    begun: Option<Begun>,
    /// So many bytes the registry has.
    done: u64,
    content: Content,
    /// Whether the registry is to be asked for the blob when it is complete and much of it is still to be sent.
    unasked: bool,
}

/// How far an upload is after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to send.
    More,
    /// The registry has the blob now.
    Done(Blob),
    /// It had it before, as was found out when the digest was known.
    Present(Blob),
    /// It is to be sent when it is complete: it is short, or whoever made it gave up.
    GivenUp,
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
            Err(_) => again(self.options, || self.begin_upload()).await?,
        };
        let file = self.store.open_blob(digest).map_err(|source| self.storing(source))?;
        let content = Content::whole(file, Blob { digest: *digest, size_bytes });
        if size_bytes > WHOLE_BYTES {
            self.pieces(Sending { begun: Some(begun), done: 0, content, unasked: false }).await?;
            return Ok(false);
        }
        match self.whole(&begun, &content, digest, size_bytes).await {
            Ok(()) => return Ok(false),
            Err(error @ (RegistryError::Unauthorized { .. } | RegistryError::NotFound { .. })) => return Err(error),
            // Proxies limit the length of a request, and connections break.
            Err(error) => {
                tracing::debug!(host = %self.registry().host, %digest, error = %crate::error::chain(&error), "sending the blob in pieces");
                self.pause_after(error).await?;
            }
        }
        self.pieces(Sending { begun: None, done: 0, content, unasked: false }).await?;
        Ok(false)
    }

    /// Sends a blob while it is being made, unless it is short. A registry that turns out to have it when its digest is known gets no more of it.
    pub(crate) async fn upload_ahead(&self, mut content: Content) -> Result<Step, RegistryError> {
        match content.beyond(0, AHEAD_BYTES).await {
            Some(Extent { blob: None, .. }) => {}
            _ => return Ok(Step::GivenUp),
        }
        let begun = Some(again(self.options, || self.begin_upload()).await?);
        self.pieces(Sending { begun, done: 0, content, unasked: true }).await
    }

    /// Begins an upload; nothing is to be uploaded when the registry has taken the blob over.
    async fn begin(&self, digest: &Digest, from: Option<&str>) -> Result<Option<Begun>, RegistryError> {
        let Some(from) = from else { return self.begin_upload().await.map(Some) };
        let registry = self.registry();
        let mut ask = registry.ask(Method::POST, "blobs/uploads/")?;
        ask.url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let response = registry.send(&ask, &[]).await?;
        if response.status().as_u16() == 201 { Ok(None) } else { self.begun(&response).map(Some) }
    }

    /// Begins an upload of no matter what.
    async fn begin_upload(&self) -> Result<Begun, RegistryError> {
        let registry = self.registry();
        let response = registry.send(&registry.ask(Method::POST, "blobs/uploads/")?, &[]).await?;
        match response.status().as_u16() {
            201 => Err(registry.protocol("it says that a blob is there of which nothing was sent")),
            _ => self.begun(&response),
        }
    }

    fn begun(&self, response: &Response) -> Result<Begun, RegistryError> {
        let minimum = response.headers().get(MIN_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
        Ok(Begun { at: self.location(response)?, piece_bytes: PIECE_BYTES.max(minimum) })
    }

    /// What is too long in one request is no reason to wait; what fails in passing is.
    async fn pause_after(&self, error: RegistryError) -> Result<(), RegistryError> {
        if error.is_passing() { Retries::new(self.options).wait(error).await } else { Ok(()) }
    }

    async fn whole(&self, begun: &Begun, content: &Content, digest: &Digest, size_bytes: u64) -> Result<(), RegistryError> {
        let payload = content.part(0, size_bytes);
        let ask = Ask { method: Method::PUT, url: with_digest(&begun.at, digest), headers: vec![header(KIND)], payload, timeout: self.patience(size_bytes) };
        self.registry().send(&ask, &[]).await.map(drop)
    }

    /// Piece after piece; after a failure the registry is asked how much it has, and when it knows nothing it begins anew.
    async fn pieces(&self, mut sending: Sending) -> Result<Step, RegistryError> {
        let mut retries = Retries::new(self.options);
        let mut furthest = 0;
        loop {
            match self.one(&mut sending).await {
                Ok(Step::More) if sending.done > furthest => {
                    furthest = sending.done;
                    retries.progressed();
                }
                Ok(Step::More) => return Err(self.registry().protocol("it takes nothing of what it is sent")),
                Ok(ended) => {
                    if let (Step::GivenUp | Step::Present(_), Some(begun)) = (ended, &sending.begun) {
                        self.cancel(begun).await;
                    }
                    return Ok(ended);
                }
                Err(error) => {
                    retries.wait(error).await?;
                    if let Some(begun) = &mut sending.begun {
                        let sent = sending.content.extent.borrow().size_bytes;
                        match self.status(begun).await {
                            Some(has) if has <= sent => sending.done = has,
                            _ => sending.begun = None,
                        }
                    }
                }
            }
        }
    }

    /// The next request of an upload in pieces.
    async fn one(&self, sending: &mut Sending) -> Result<Step, RegistryError> {
        let Sending { begun, done, content, unasked } = sending;
        let known = match begun {
            Some(known) => known,
            None => {
                *done = 0;
                begun.insert(self.begin_upload().await?)
            }
        };
        let least = if known.piece_bytes > PIECE_BYTES { known.piece_bytes } else { AHEAD_BYTES };
        let Some(there) = content.beyond(*done, least).await else { return Ok(Step::GivenUp) };
        if let Some(blob) = there.blob.filter(|blob| *unasked && blob.size_bytes > *done + AHEAD_BYTES) {
            *unasked = false;
            if self.has_blob(&blob.digest).await? {
                return Ok(Step::Present(blob));
            }
        }
        if let Some(blob) = there.blob.filter(|blob| blob.size_bytes == *done) {
            let url = with_digest(&known.at, &blob.digest);
            let ask = Ask { method: Method::PUT, url, headers: vec![header(KIND)], payload: Payload::None, timeout: self.patience(blob.size_bytes) };
            self.registry().send(&ask, &[]).await?;
            return Ok(Step::Done(blob));
        }
        let length = known.piece_bytes.min(there.size_bytes.saturating_sub(*done));
        let range = ("content-range", format!("{}-{}", *done, *done + length - 1));
        let payload = content.part(*done, length);
        let ask = Ask { method: Method::PATCH, url: known.at.clone(), headers: vec![header(KIND), range], payload, timeout: self.patience(length) };
        let response = self.registry().send(&ask, &[]).await?;
        known.at = self.location(&response)?;
        // It may have taken less than it was sent.
        let has = taken(response.headers()).unwrap_or(*done + length);
        if has > *done + length || has < *done {
            return Err(self.registry().protocol(format!("it says that it has {has} bytes of an upload after {}", *done + length)));
        }
        *done = has;
        Ok(Step::More)
    }

    /// Lets go of an upload that will not be finished; a registry that does not care for that forgets it by itself.
    async fn cancel(&self, begun: &Begun) {
        let ask = Ask { method: Method::DELETE, url: begun.at.clone(), headers: Vec::new(), payload: Payload::None, timeout: self.options.manifest_timeout };
        if let Err(error) = self.registry().send(&ask, &[]).await {
            tracing::debug!(host = %self.registry().host, error = %crate::error::chain(&error), "an upload could not be cancelled");
        }
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
