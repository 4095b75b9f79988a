//! Blobs out of the store: files as they are; layers that were built here and exist as directories only are written as the tar that their digest names.

use std::io::{self, Write};
use std::ops::RangeInclusive;

use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use strake_oci::{Descriptor, Digest};
use strake_store::{Layer, Store, digest_of};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc::{Sender, channel};
use tokio_util::io::ReaderStream;

use super::answer::{Answer, CONTENT_DIGEST, Denied, blocking, empty, set};
use super::names::Repository;

const PIECE_BYTES: usize = 256 << 10;
/// How far a layer's tar may be made ahead of the client, in pieces.
const AHEAD: usize = 8;

/// Where a blob's bytes come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// A file, of that length in bytes.
    File(u64),
    /// The files of a layer.
    Layer(Layer),
}

impl Source {
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Source::File(size_bytes) => *size_bytes,
            Source::Layer(layer) => layer.size_bytes,
        }
    }
}

/// Finds a blob: any file of the store that the repository has not let go of, and layers of the repository's own images.
pub(super) fn find(store: &Store, repository: &Repository, digest: &Digest) -> Result<Option<Source>, Denied> {
    // What an image of the repository needs is there whatever was deleted before.
    let is_gone = || Ok::<bool, Denied>(store.is_unlinked(repository.name_in_store(), digest) && needed_by(store, repository, digest)?.is_none());
    if let Some(size_bytes) = store.size(digest) {
        return Ok(if is_gone()? { None } else { Some(Source::File(size_bytes)) });
    }
    for entry in repository.entries(store)? {
        let images = match store.index_at(&entry.descriptor) {
            Ok(Some(index)) => index.images().filter_map(|child| store.manifest_at(child).ok()).collect(),
            _ => store.manifest_at(&entry.descriptor).ok().into_iter().collect::<Vec<_>>(),
        };
        for image in images.iter().filter(|image| image.config.rootfs.diff_ids.contains(digest)) {
            let layers = image.chain().and_then(|chain| store.layers(&chain).ok()).unwrap_or_default();
            if let Some(layer) = layers.into_iter().find(|layer| layer.diff_id == *digest) {
                return Ok(Some(Source::Layer(layer)));
            }
        }
    }
    Ok(None)
}

/// What in the repository needs a blob: the name of an image, an index or an artifact that lists it, or is it.
pub(super) fn needed_by(store: &Store, repository: &Repository, digest: &Digest) -> Result<Option<String>, Denied> {
    let is = |blob: &Descriptor| digest_of(blob).is_ok_and(|found| found == *digest);
    for entry in repository.entries(store)? {
        let mut manifests = vec![entry.descriptor.clone()];
        manifests.extend(store.index_at(&entry.descriptor).ok().flatten().map(|index| index.children).unwrap_or_default());
        let lists = |manifest: &Descriptor| match (store.artifact_at(manifest), store.manifest_at(manifest)) {
            (Ok(Some(blobs)), _) => blobs.iter().any(is),
            (_, Ok(image)) => is(image.manifest.config()) || image.manifest.layers().iter().any(is) || image.config.rootfs.diff_ids.contains(digest),
            _ => false,
        };
        if manifests.iter().any(|manifest| is(manifest) || lists(manifest)) {
            return Ok(Some(entry.reference));
        }
    }
    Ok(None)
}

/// `DELETE …/blobs/DIGEST`: the repository has the blob no longer. Other repositories and the images and caches of the store keep it; when nothing does, a prune
/// frees it (an hour later if it was just uploaded, for another repository may wait for its manifest). While a manifest of this repository lists it, it is not
/// deleted: the specification leaves that to the registry, and an image that cannot be pulled any more is nobody's wish.
pub(super) async fn delete(store: &Store, repository: Repository, digest: Digest) -> Answer {
    let store = store.clone();
    blocking(move || {
        if find(&store, &repository, &digest)?.is_none() {
            return Err(Denied::blob_unknown(&digest));
        }
        if let Some(name) = needed_by(&store, &repository, &digest)? {
            let message = format!("{name} needs it: delete that manifest first");
            return Err(Denied::new(StatusCode::METHOD_NOT_ALLOWED, "DENIED", message));
        }
        store.unlink(repository.name_in_store(), &digest)?;
        Ok(empty(StatusCode::ACCEPTED, &[]))
    })
    .await
}

/// GET and HEAD of a blob.
pub(super) async fn get(store: &Store, repository: Repository, digest: Digest, headers: &HeaderMap, body: bool) -> Answer {
    let looking = store.clone();
    let source = blocking(move || find(&looking, &repository, &digest)).await?.ok_or_else(|| Denied::blob_unknown(&digest))?;
    let size_bytes = source.size_bytes();
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let part = match asked.map(|text| range(text, size_bytes)) {
        None | Some(Range::Whole) => None,
        Some(Range::Part(part)) => Some(part),
        Some(Range::Outside) => {
            let denied = Denied::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", format!("the blob has {size_bytes} bytes"));
            return Err(denied.with(CONTENT_RANGE, &format!("bytes */{size_bytes}")));
        }
    };
    let (start, length) = part.as_ref().map_or((0, size_bytes), |part| (*part.start(), part.end() - part.start() + 1));
    let content = if body { content(store, &digest, source, start, length).await? } else { Body::empty() };
    let mut response = Response::new(content);
    set(
        &mut response,
        &[
            (CONTENT_TYPE, "application/octet-stream".to_owned()),
            (CONTENT_LENGTH, length.to_string()),
            (ACCEPT_RANGES, "bytes".to_owned()),
            (CONTENT_DIGEST, digest.to_string()),
        ],
    );
    if let Some(part) = part {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut response, &[(CONTENT_RANGE, format!("bytes {}-{}/{size_bytes}", part.start(), part.end()))]);
    }
    Ok(response)
}

async fn content(store: &Store, digest: &Digest, source: Source, start: u64, length: u64) -> Result<Body, Denied> {
    match source {
        Source::File(_) => {
            let failed = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Denied::blob_unknown(digest) } else { Denied::internal(&error) };
            let mut file = tokio::fs::File::open(store.blob_path(digest)).await.map_err(failed)?;
            file.seek(io::SeekFrom::Start(start)).await.map_err(failed)?;
            Ok(Body::from_stream(ReaderStream::with_capacity(file.take(length), PIECE_BYTES)))
        }
        Source::Layer(layer) => {
            let (send, receive) = channel(AHEAD);
            let store = store.clone();
            tokio::task::spawn_blocking(move || {
                let mut out = io::BufWriter::with_capacity(PIECE_BYTES, Window { send: send.clone(), skip: start, left: length });
                let written = store.write_tar(&layer, &mut out).map_err(io::Error::other).and_then(|()| out.flush());
                // The client sees a body that breaks off, not one that is wrong and complete. One that has what it asked for is gone by now.
                if let Err(error) = written
                    && !send.is_closed()
                    && out.get_ref().left > 0
                {
                    tracing::error!(%error, diff_id = %layer.diff_id, "a layer's tar cannot be made again");
                    let _ = send.blocking_send(Err(error));
                }
            });
            Ok(Body::from_stream(futures::stream::unfold(receive, |mut receive| async move { receive.recv().await.map(|piece| (piece, receive)) })))
        }
    }
}

/// Passes on a part of what is written.
struct Window {
    send: Sender<io::Result<Bytes>>,
    skip: u64,
    left: u64,
}

impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - skipped);
        if wanted > 0 {
            self.left -= wanted as u64;
            let piece = Bytes::copy_from_slice(&bytes[skipped..skipped + wanted]);
            self.send.blocking_send(Ok(piece)).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone"))?;
        }
        if self.left == 0 && skipped + wanted < bytes.len() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client has what it wanted"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// No range that is understood: everything.
    Whole,
    Part(RangeInclusive<u64>),
    Outside,
}

/// One range of bytes (RFC 9110 section 14.1.2). Several at once are answered with everything.
fn range(text: &str, size_bytes: u64) -> Range {
    let Some((first, last)) = text.trim().strip_prefix("bytes=").and_then(|rest| rest.split_once('-')) else { return Range::Whole };
    let last_byte = size_bytes.saturating_sub(1);
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last && first < size_bytes => Range::Part(first..=last.min(last_byte)),
        (Ok(first), Err(_)) if last.trim().is_empty() && first < size_bytes => Range::Part(first..=last_byte),
        (Err(_), Ok(count)) if first.trim().is_empty() && count > 0 && size_bytes > 0 => Range::Part(size_bytes.saturating_sub(count)..=last_byte),
        (Ok(first), Ok(last)) if first > last => Range::Whole,
        (Ok(_), Ok(_)) => Range::Outside,
        (Ok(_), Err(_)) if last.trim().is_empty() => Range::Outside,
        (Err(_), Ok(_)) if first.trim().is_empty() => Range::Outside,
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::{Range, range};

    #[test]
    fn ranges_are_read() {
        for (text, found) in [
            ("bytes=0-4", Range::Part(0..=4)),
            ("bytes=5-", Range::Part(5..=9)),
            ("bytes=5-100", Range::Part(5..=9)),
            ("bytes=-3", Range::Part(7..=9)),
            ("bytes=-30", Range::Part(0..=9)),
            ("bytes=10-", Range::Outside),
            ("bytes=10-12", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=4-3", Range::Whole),
            ("bytes=0-1,4-5", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("bytes=a-b", Range::Whole),
        ] {
            assert_eq!(range(text, 10), found, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Range::Outside);
    }
}
