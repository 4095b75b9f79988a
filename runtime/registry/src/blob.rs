//! Blobs from a registry into the store: fetched by one for all who want them, gone on with where they broke off, verified before they are visible.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response};
use strake_oci::{Descriptor, Digest};
use strake_store::{Ingest, StoreError, digest_of};

use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::pull::Progress;
use crate::retry::Retries;
use crate::session::Session;

/// How far the network may run ahead of the disk, in pieces as they arrive.
const AHEAD: usize = 32;
/// How often is looked whether somebody else has fetched a blob.
const LOOK: Duration = Duration::from_millis(50);
/// An attempt that brought so much, or this part of the blob, was no failure.
const PROGRESS_BYTES: u64 = 1 << 20;
const PROGRESS_PART: u64 = 64;

type Tell<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// What one attempt left.
struct Attempt {
    ingest: Ingest,
    outcome: Result<(), RegistryError>,
}

impl Session<'_> {
    /// One blob into the store, unless it is there.
    pub(crate) async fn blob(&self, blob: &Descriptor, progress: Tell<'_>) -> Result<(), RegistryError> {
        let (digest, size_bytes) = (digest_of(blob).map_err(|source| self.storing(source))?, blob.size());
        let mut shown = u64::MAX;
        loop {
            if self.store.size(&digest) == Some(size_bytes) {
                progress(Progress::Complete { digest, fetched: false });
                return Ok(());
            }
            let store = self.store.clone();
            let opening = tokio::task::spawn_blocking(move || store.try_ingest(&digest));
            let opened = opening.await.map_err(|source| RegistryError::Interrupted { digest, source })?;
            if let Some(ingest) = opened.map_err(|source| self.storing(source))? {
                self.fetch(ingest, &digest, size_bytes, progress).await?;
                progress(Progress::Complete { digest, fetched: true });
                return Ok(());
            }
            // Somebody else fetches it, here or in another process.
            let done_bytes = self.store.arrived_bytes(&digest).min(size_bytes);
            if done_bytes != shown {
                progress(Progress::Blob { digest, done_bytes, total_bytes: size_bytes });
                shown = done_bytes;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Fetches from the mirrors and the registry, each as often as it makes sense.
    async fn fetch(&self, ingest: Ingest, digest: &Digest, size_bytes: u64, progress: Tell<'_>) -> Result<(), RegistryError> {
        // The bytes that are here go from one registry to the next.
        let here = tokio::sync::Mutex::new(Some(ingest));
        self.each(async |endpoint| {
            let mut retries = Retries::new(self.options);
            let mut furthest = 0;
            loop {
                let ingest = match here.lock().await.take() {
                    Some(ingest) => ingest,
                    None => self.reopened(digest).await?,
                };
                let before = ingest.size_bytes();
                furthest = furthest.max(before);
                let Attempt { ingest, outcome } = self.attempt(endpoint, ingest, digest, size_bytes, progress).await?;
                let Err(error) = outcome else {
                    match self.commit(ingest, digest, before > 0).await {
                        Err(error @ RegistryError::Transfer { .. }) => retries.wait(error).await?,
                        done => return done,
                    }
                    continue;
                };
                if ingest.size_bytes() >= furthest + PROGRESS_BYTES.min(size_bytes / PROGRESS_PART + 1) {
                    retries.progressed();
                }
                *here.lock().await = Some(ingest);
                retries.wait(error).await?;
            }
        })
        .await
    }

    /// After content that was wrong nothing is left to go on with.
    async fn reopened(&self, digest: &Digest) -> Result<Ingest, RegistryError> {
        let opened = self.store.try_ingest(digest).map_err(|source| self.storing(source))?;
        opened.ok_or_else(|| RegistryError::Transfer { digest: *digest, source: std::io::ErrorKind::WouldBlock.into() })
    }

    /// Verifies what arrived. Bytes of an earlier run may be what a power cut left of them: then it is tried once more from the start.
    async fn commit(&self, ingest: Ingest, digest: &Digest, resumed: bool) -> Result<(), RegistryError> {
        let expected = *digest;
        let committing = tokio::task::spawn_blocking(move || ingest.commit(&expected));
        match committing.await.map_err(|source| RegistryError::Interrupted { digest: *digest, source })? {
            Ok(_) => Ok(()),
            Err(StoreError::DigestMismatch { .. }) if resumed => {
                Err(RegistryError::Transfer { digest: *digest, source: std::io::Error::other("what had arrived before was damaged") })
            }
            Err(source) => Err(self.storing(source)),
        }
    }

    /// One request, and what comes of it written behind what is here.
    async fn attempt(&self, endpoint: &Endpoint, mut ingest: Ingest, digest: &Digest, size_bytes: u64, progress: Tell<'_>) -> Result<Attempt, RegistryError> {
        if ingest.size_bytes() > size_bytes {
            ingest.restart().map_err(|source| self.storing(source))?;
        }
        if ingest.size_bytes() == size_bytes {
            return Ok(Attempt { ingest, outcome: Ok(()) });
        }
        let response = match self.request(endpoint, ingest.size_bytes(), digest).await {
            Ok(response) => response,
            Err(error) => return Ok(Attempt { ingest, outcome: Err(error) }),
        };
        let start = ingest.size_bytes();
        match (response.status().as_u16(), start) {
            (206, 1..) if starts_at(&response) == Some(start) => {}
            // What is here is of no use to this registry.
            (206, _) => return Ok(Attempt { ingest, outcome: Err(endpoint.protocol("it sent another part of a blob than was asked for")) }),
            (416, _) => {
                ingest.restart().map_err(|source| self.storing(source))?;
                let broken = std::io::Error::other("the registry has no such part of it");
                return Ok(Attempt { ingest, outcome: Err(RegistryError::Transfer { digest: *digest, source: broken }) });
            }
            _ => ingest.restart().map_err(|source| self.storing(source))?,
        }
        if response.content_length().is_some_and(|length| ingest.size_bytes() + length > size_bytes) {
            return Ok(Attempt { ingest, outcome: Err(RegistryError::TooLarge { digest: *digest, max_bytes: size_bytes }) });
        }
        self.write(response, ingest, digest, size_bytes, progress).await
    }

    /// By its digest only: links to other hosts in a descriptor are never followed.
    async fn request(&self, endpoint: &Endpoint, start: u64, digest: &Digest) -> Result<Response, RegistryError> {
        let mut ask = endpoint.ask(Method::GET, &format!("blobs/{digest}"))?;
        if start > 0 {
            ask.headers.push((RANGE.as_str(), format!("bytes={start}-")));
        }
        endpoint.send(&ask, if start > 0 { &[416] } else { &[] }).await
    }

    async fn write(&self, response: Response, ingest: Ingest, digest: &Digest, size_bytes: u64, progress: Tell<'_>) -> Result<Attempt, RegistryError> {
        let (send, mut receive) = tokio::sync::mpsc::channel::<Bytes>(AHEAD);
        let writes = std::sync::Arc::clone(&self.writers).read_owned().await;
        let start = ingest.size_bytes();
        let writing = tokio::task::spawn_blocking(move || {
            let _writes = writes;
            let (mut ingest, mut failed) = (ingest, None);
            while let Some(piece) = receive.blocking_recv() {
                if let Err(error) = ingest.append(&piece) {
                    failed = Some(error);
                    break;
                }
            }
            (ingest, failed)
        });
        let arrived = receive_into(response, &send, (digest, start, size_bytes), self.options.idle_timeout, progress).await;
        drop(send);
        let (ingest, failed) = writing.await.map_err(|source| RegistryError::Interrupted { digest: *digest, source })?;
        if let Some(source) = failed {
            return Err(self.storing(source));
        }
        let outcome = arrived.and_then(|()| match ingest.size_bytes() == size_bytes {
            true => Ok(()),
            false => Err(RegistryError::Transfer { digest: *digest, source: std::io::ErrorKind::UnexpectedEof.into() }),
        });
        if matches!(outcome, Err(RegistryError::TooLarge { .. })) {
            // It can be nothing but wrong.
            ingest.discard().map_err(|source| self.storing(source))?;
            return Err(RegistryError::TooLarge { digest: *digest, max_bytes: size_bytes });
        }
        Ok(Attempt { ingest, outcome })
    }
}

async fn receive_into(
    response: Response,
    send: &tokio::sync::mpsc::Sender<Bytes>,
    (digest, start, size_bytes): (&Digest, u64, u64),
    idle_timeout: Duration,
    progress: Tell<'_>,
) -> Result<(), RegistryError> {
    let mut done_bytes = start;
    let mut body = response.bytes_stream();
    loop {
        let Ok(piece) = tokio::time::timeout(idle_timeout, body.next()).await else {
            return Err(RegistryError::Transfer { digest: *digest, source: std::io::ErrorKind::TimedOut.into() });
        };
        let Some(piece) = piece else { return Ok(()) };
        let piece = piece.map_err(|error| RegistryError::Transfer { digest: *digest, source: std::io::Error::other(error.without_url()) })?;
        done_bytes += piece.len() as u64;
        if done_bytes > size_bytes {
            return Err(RegistryError::TooLarge { digest: *digest, max_bytes: size_bytes });
        }
        if send.send(piece).await.is_err() {
            // The writer failed, and says why.
            return Ok(());
        }
        progress(Progress::Blob { digest: *digest, done_bytes, total_bytes: size_bytes });
    }
}

/// Where the part that was sent begins: `bytes 5-9/10`.
fn starts_at(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}
