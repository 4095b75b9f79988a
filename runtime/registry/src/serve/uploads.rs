//! Uploads: begun, gone on with in pieces, completed or taken over from another repository. What arrives is on disk at once, and is gone on with after a crash.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use strake_oci::Digest;
use strake_store::{Compression, Ingest, Store};

use super::answer::{Answer, CONTENT_DIGEST, Denied, blocking, empty};
use super::blobs::{Source, find};
use super::lists::Query;
use super::names::Repository;
use super::route::digest;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// A blob is never longer.
const MAX_BLOB_BYTES: u64 = 64 << 30;
/// Of a body that is of no use any more, so much is taken.
const MAX_UNREAD_BYTES: u64 = 512 << 20;
/// How far the network may run ahead of the disk, in pieces as they arrive.
const AHEAD: usize = 32;
/// Without a byte arriving, a request is given up.
const IDLE: Duration = Duration::from_secs(60);
/// Uploads that are kept open between requests: after that their content is read again for its digest.
const MAX_OPEN: usize = 128;
/// And for how long.
const OPEN_FOR: Duration = Duration::from_secs(3600);

/// Uploads between two of their requests: open, so that the digest goes on where it was.
#[derive(Default)]
pub(super) struct Uploads {
    open: Mutex<HashMap<String, (Ingest, Instant)>>,
}

impl Uploads {
    fn take(&self, id: &str) -> Option<Ingest> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id).map(|(ingest, _)| ingest)
    }

    fn park(&self, id: &str, ingest: Ingest) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN {
            let oldest = open.iter().min_by_key(|(_, (_, since))| *since).map(|(id, _)| id.clone());
            oldest.and_then(|id| open.remove(&id));
        }
        open.insert(id.to_owned(), (ingest, Instant::now()));
    }

    /// Closes uploads that nobody went on with, and removes what they left.
    pub(super) fn sweep(&self, store: &Store) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (_, since)| since.elapsed() < OPEN_FOR);
        match store.sweep_uploads() {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed uploads that were given up"),
            Err(error) => tracing::warn!(error = %crate::error::chain(&error), "uploads that were given up could not be removed"),
        }
        if let Err(error) = store.sweep_unlinked() {
            tracing::warn!(error = %crate::error::chain(&error), "notes about deleted blobs could not be removed");
        }
    }

    async fn open(&self, store: &Store, id: &str) -> Result<Ingest, Denied> {
        if let Some(ingest) = self.take(id) {
            return Ok(ingest);
        }
        let (store, name) = (store.clone(), id.to_owned());
        let opened = blocking(move || Ok(store.upload(&name)?)).await?;
        opened.ok_or_else(|| Denied::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", "another request writes to this upload"))
    }

    /// `POST …/blobs/uploads/`
    pub(super) async fn begin(&self, store: &Store, repository: Repository, query: &Query, body: Body) -> Answer {
        if let Some(wanted) = query.get("mount") {
            let wanted = digest(wanted)?;
            if let Some(answer) = mount(store, &repository, wanted, query.get("from")).await? {
                return Ok(answer);
            }
        }
        let id = new_id()?;
        let (begun, name) = (store.clone(), id.clone());
        blocking(move || Ok(begun.begin_upload(&name)?)).await?;
        match query.get("digest") {
            Some(wanted) => self.complete(store, repository, &id, digest(wanted)?, &HeaderMap::new(), body).await,
            None => Ok(empty(StatusCode::ACCEPTED, &progress(&repository, &id, 0))),
        }
    }

    /// `PATCH …/blobs/uploads/ID`
    pub(super) async fn append(&self, store: &Store, repository: Repository, id: &str, headers: &HeaderMap, body: Body) -> Answer {
        let ingest = self.open(store, id).await?;
        if let Err(denied) = check_start(&repository, id, headers, ingest.size_bytes()) {
            self.park(id, ingest);
            return Err(denied);
        }
        let (ingest, outcome) = receive(ingest, body).await?;
        let size_bytes = ingest.size_bytes();
        self.park(id, ingest);
        outcome?;
        Ok(empty(StatusCode::ACCEPTED, &progress(&repository, id, size_bytes)))
    }

    /// `PUT …/blobs/uploads/ID?digest=…`, with or without the last piece.
    pub(super) async fn complete(&self, store: &Store, repository: Repository, id: &str, expected: Digest, headers: &HeaderMap, body: Body) -> Answer {
        let ingest = self.open(store, id).await?;
        if let Err(denied) = check_start(&repository, id, headers, ingest.size_bytes()) {
            self.park(id, ingest);
            return Err(denied);
        }
        let (ingest, outcome) = receive(ingest, body).await?;
        if let Err(denied) = outcome {
            self.park(id, ingest);
            return Err(denied);
        }
        let store = store.clone();
        blocking(move || {
            // Before it is visible, so that no prune comes in between.
            store.hold(&expected)?;
            ingest.commit(&expected)?;
            store.relink(repository.name_in_store(), &expected)?;
            Ok(created(&repository, &expected))
        })
        .await
    }

    /// `GET …/blobs/uploads/ID`
    pub(super) async fn status(&self, store: &Store, repository: Repository, id: &str) -> Answer {
        let ingest = self.open(store, id).await?;
        let size_bytes = ingest.size_bytes();
        self.park(id, ingest);
        Ok(empty(StatusCode::NO_CONTENT, &progress(&repository, id, size_bytes)))
    }

    /// `DELETE …/blobs/uploads/ID`
    pub(super) async fn cancel(&self, store: &Store, id: &str) -> Answer {
        self.open(store, id).await?.discard()?;
        Ok(empty(StatusCode::NO_CONTENT, &[]))
    }
}

/// Takes a blob over from another repository; nothing when it is not there.
async fn mount(store: &Store, repository: &Repository, wanted: Digest, from: Option<&str>) -> Result<Option<axum::response::Response>, Denied> {
    let from = match from {
        Some(name) => Repository::parse(name)?,
        None => repository.clone(),
    };
    let (store, into) = (store.clone(), repository.clone());
    let found = blocking(move || {
        let source = find(&store, &from, &wanted)?;
        store.hold(&wanted)?;
        match source {
            // In another image the same layer may lie on others: then its directory is of no use, its tar is.
            Some(Source::Layer(layer)) => store.pack(&layer, Compression::None).map(drop)?,
            Some(Source::File(_)) => {}
            None => return Ok(false),
        }
        store.relink(into.name_in_store(), &wanted)?;
        Ok(true)
    });
    Ok(found.await?.then(|| created(repository, &wanted)))
}

fn created(repository: &Repository, digest: &Digest) -> axum::response::Response {
    let location = format!("/v2/{}/blobs/{digest}", repository.name);
    empty(StatusCode::CREATED, &[(LOCATION, location), (CONTENT_DIGEST, digest.to_string())])
}

fn progress(repository: &Repository, id: &str, size_bytes: u64) -> Vec<(HeaderName, String)> {
    let location = format!("/v2/{}/blobs/uploads/{id}", repository.name);
    vec![(LOCATION, location), (RANGE, format!("0-{}", size_bytes.saturating_sub(1))), (UPLOAD_ID, id.to_owned())]
}

/// A piece must begin where the last one ended.
fn check_start(repository: &Repository, id: &str, headers: &HeaderMap, size_bytes: u64) -> Result<(), Denied> {
    let Some(value) = headers.get(CONTENT_RANGE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix("bytes").unwrap_or(text).trim_start_matches([' ', '=']);
    let start = text.split('-').next().and_then(|first| first.parse::<u64>().ok());
    let start = start.ok_or_else(|| Denied::upload_invalid(format!("`{text}` is no range")))?;
    if start == size_bytes {
        return Ok(());
    }
    let mut denied = Denied::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", format!("the next byte is {size_bytes}, not {start}"));
    for (name, value) in progress(repository, id, size_bytes) {
        denied = denied.with(name, &value);
    }
    Err(denied)
}

/// Writes a body behind what is there. The upload comes back with what arrived, also when the body broke off.
async fn receive(ingest: Ingest, body: Body) -> Result<(Ingest, Result<(), Denied>), Denied> {
    let (send, mut receive) = tokio::sync::mpsc::channel::<Bytes>(AHEAD);
    let mut size_bytes = ingest.size_bytes();
    let writing = tokio::task::spawn_blocking(move || {
        let mut ingest = ingest;
        while let Some(piece) = receive.blocking_recv() {
            if let Err(error) = ingest.append(&piece) {
                return (ingest, Err(Denied::from(error)));
            }
        }
        (ingest, Ok(()))
    });
    let mut stream = body.into_data_stream();
    let mut unread_bytes = 0;
    let arrived = loop {
        match tokio::time::timeout(IDLE, stream.next()).await {
            Err(_) => break Err(Denied::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", "nothing more of the body arrived")),
            Ok(None) => break Ok(()),
            Ok(Some(Err(_))) => break Err(Denied::upload_invalid("the body broke off")),
            Ok(Some(Ok(piece))) => {
                let length = piece.len() as u64;
                size_bytes += length;
                if size_bytes > MAX_BLOB_BYTES {
                    break Err(Denied::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", format!("a blob has at most {MAX_BLOB_BYTES} bytes")));
                }
                // When the writer failed, the rest is taken all the same: a client that still sends would not see why.
                if unread_bytes > 0 || send.send(piece).await.is_err() {
                    unread_bytes += length;
                    if unread_bytes > MAX_UNREAD_BYTES {
                        break Ok(());
                    }
                }
            }
        }
    };
    drop(send);
    let (ingest, written) = writing.await.map_err(|error| Denied::internal(&error))?;
    Ok((ingest, written.and(arrived)))
}

fn new_id() -> Result<String, Denied> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Denied::internal(&error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
