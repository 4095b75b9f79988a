//! Manifests and indexes: served as they are, taken when everything that they list is here.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use strake_oci::{Descriptor, Digest, MediaType};
use strake_store::{Compression, Store, digest_of};

use super::answer::{Answer, CONTENT_DIGEST, Denied, blocking, bytes, empty};
use super::blobs::{Source, find};
use super::names::{Entry, Repository};
use super::route::Word;
use crate::documents::{KINDS, MAX_DOCUMENT_BYTES, is_index, kind_of};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// GET and HEAD of a manifest.
pub(super) async fn get(store: &Store, repository: Repository, word: Word) -> Answer {
    let store = store.clone();
    blocking(move || {
        let found = find_manifest(&store, &repository, &word)?.ok_or_else(|| unknown(&store, &repository, &word))?;
        let document = store.read(&found, MAX_DOCUMENT_BYTES)?;
        let value: Value = serde_json::from_slice(&document).map_err(|error| Denied::internal(&error))?;
        let kind = kind_of(&value, None).map_err(Denied::manifest_invalid)?;
        Ok(bytes(&kind, document, &[(CONTENT_DIGEST, found.to_string())]))
    })
    .await
}

fn unknown(store: &Store, repository: &Repository, word: &Word) -> Denied {
    let empty = repository.entries(store).map_or(true, |entries| entries.is_empty());
    if empty { Denied::name_unknown(&repository.name) } else { Denied::manifest_unknown(&word.to_string()) }
}

/// The digest of a manifest: of a tag, or one that the repository has by itself or as part of an index. One that a tag stood for a moment ago is still there.
fn find_manifest(store: &Store, repository: &Repository, word: &Word) -> Result<Option<Digest>, Denied> {
    match word {
        Word::Tag(tag) => Ok(store.resolve(&repository.tagged(tag))?.map(|found| digest_of(&found)).transpose()?),
        Word::Digest(wanted) => {
            let entries = repository.entries(store)?;
            let here = entries.iter().any(|entry| is(&entry.descriptor, wanted)) || entries.iter().any(|entry| is_part(store, entry, wanted));
            Ok((store.has(wanted) && (here || store.is_held(wanted))).then_some(*wanted))
        }
    }
}

fn is(descriptor: &Descriptor, digest: &Digest) -> bool {
    digest_of(descriptor).is_ok_and(|found| found == *digest)
}

fn is_part(store: &Store, entry: &Entry, digest: &Digest) -> bool {
    store.index_at(&entry.descriptor).ok().flatten().is_some_and(|index| index.children.iter().any(|child| is(child, digest)))
}

/// `PUT …/manifests/WORD`
pub(super) async fn put(store: &Store, repository: Repository, word: Word, headers: &HeaderMap, body: Body) -> Answer {
    let most = usize::try_from(MAX_DOCUMENT_BYTES).unwrap_or(usize::MAX);
    let too_long = || Denied::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", format!("a manifest has at most {MAX_DOCUMENT_BYTES} bytes"));
    let document =
        tokio::time::timeout(std::time::Duration::from_secs(60), axum::body::to_bytes(body, most)).await.map_err(|_| too_long())?.map_err(|_| too_long())?;
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
    let store = store.clone();
    blocking(move || take(&store, &repository, &word, said.as_deref(), &document)).await
}

fn take(store: &Store, repository: &Repository, word: &Word, said: Option<&str>, document: &[u8]) -> Answer {
    if let Some(said) = said.filter(|said| !said.is_empty() && !KINDS.contains(said)) {
        return Err(Denied::manifest_invalid(format!("{said} is no media type of manifests; expected {}", KINDS.join(", "))));
    }
    let value: Value = serde_json::from_slice(document).map_err(|error| Denied::manifest_invalid(format!("it is no JSON: {error}")))?;
    let kind = kind_of(&value, said).map_err(Denied::manifest_invalid)?;
    let digest = Digest::of(document);
    if let Word::Digest(expected) = word
        && *expected != digest
    {
        return Err(Denied::digest_invalid(format!("{expected} was promised, {digest} came")));
    }
    // From the look at the blobs to the name nothing may be removed.
    let _lease = store.lease()?;
    let children = complete(store, repository, &value, &kind)?;
    let stored = store.put(document)?;
    let descriptor = strake_store::descriptor(MediaType::from(kind.as_str()), &stored.digest, stored.size_bytes)?;
    if !is_index(&kind) && store.artifact_at(&descriptor)?.is_none() {
        // An image that could not be run later is not taken now.
        store.manifest_at(&descriptor).map_err(|error| Denied::manifest_invalid(crate::error::chain(&error)))?;
    }
    name(store, repository, word, &descriptor, &children)?;
    let location = format!("/v2/{}/manifests/{digest}", repository.name);
    let mut headers = vec![(LOCATION, location), (CONTENT_DIGEST, digest.to_string())];
    if let Some(subject) = value.pointer("/subject/digest").and_then(Value::as_str) {
        headers.push((SUBJECT, subject.to_owned()));
    }
    Ok(empty(StatusCode::CREATED, &headers))
}

/// Names what came. What an index lists needs no names of its own any more.
fn name(store: &Store, repository: &Repository, word: &Word, descriptor: &Descriptor, children: &[Digest]) -> Result<(), Denied> {
    let digest = digest_of(descriptor)?;
    match word {
        Word::Tag(tag) => {
            let reference = repository.tagged(tag);
            if let Some(old) = store.resolve(&reference)?.map(|old| digest_of(&old)).transpose()?.filter(|old| *old != digest) {
                // Somebody may just have been told this digest.
                store.hold(&old)?;
            }
            store.tag(&reference, descriptor)?;
            store.untag(&repository.by_digest(&digest))?;
        }
        Word::Digest(_) => {
            if !repository.entries(store)?.iter().any(|entry| is(&entry.descriptor, &digest)) {
                store.tag(&repository.by_digest(&digest), descriptor)?;
            }
        }
    }
    for child in children {
        store.untag(&repository.by_digest(child))?;
    }
    Ok(())
}

/// Looks whether everything is here that a manifest or an index lists, with the lengths that it says; gives the manifests of an index.
fn complete(store: &Store, repository: &Repository, value: &Value, kind: &str) -> Result<Vec<Digest>, Denied> {
    let decode = |error: serde_json::Error| Denied::manifest_invalid(error.to_string());
    let missing = |digest: &Digest| Denied::new(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", format!("{digest} has not been uploaded"));
    let wrong = |digest: &Digest, says: u64, has: u64| Denied::manifest_invalid(format!("it says that {digest} has {says} bytes; it has {has}"));
    let digest_of = |descriptor: &Descriptor| digest_of(descriptor).map_err(|error| Denied::digest_invalid(error.to_string()));
    if is_index(kind) {
        let children: Vec<Descriptor> = serde_json::from_value(value["manifests"].clone()).map_err(decode)?;
        let mut digests = Vec::new();
        for child in &children {
            let digest = digest_of(child)?;
            match store.size(&digest) {
                None => return Err(missing(&digest)),
                Some(found) if found != child.size() => return Err(wrong(&digest, child.size(), found)),
                Some(_) => digests.push(digest),
            }
        }
        return Ok(digests);
    }
    let manifest: strake_oci::ImageManifest = serde_json::from_value(value.clone()).map_err(decode)?;
    let chains = chains(store, &manifest);
    for blob in manifest.layers().iter().chain([manifest.config()]) {
        let digest = digest_of(blob)?;
        let source = find(store, repository, &digest)?.ok_or_else(|| missing(&digest))?;
        if source.size_bytes() != blob.size() {
            return Err(wrong(&digest, blob.size(), source.size_bytes()));
        }
        if let Source::Layer(layer) = source
            && !chains.contains(&layer.chain_id)
        {
            // In this image it lies on other layers, so its directory is of no use: its tar is.
            store.pack(&layer, Compression::None)?;
        }
    }
    Ok(Vec::new())
}

/// The chains that the layers of an image are by its configuration, if that is here already.
fn chains(store: &Store, manifest: &strake_oci::ImageManifest) -> Vec<Digest> {
    let config = digest_of(manifest.config()).ok().and_then(|digest| store.read(&digest, MAX_DOCUMENT_BYTES).ok());
    let config = config.and_then(|bytes| serde_json::from_slice::<strake_oci::ImageConfig>(&bytes).ok()).unwrap_or_default();
    let mut parent = None;
    let each = config.rootfs.diff_ids.iter().map(|diff_id| {
        let chain = Digest::chain(parent.as_ref(), diff_id);
        parent = Some(chain);
        chain
    });
    each.collect()
}

/// `DELETE …/manifests/WORD`: the names go; content is removed by a prune.
pub(super) async fn delete(store: &Store, repository: Repository, word: Word) -> Answer {
    let store = store.clone();
    blocking(move || {
        let gone = match &word {
            Word::Tag(tag) => store.untag(&repository.tagged(tag))?,
            Word::Digest(digest) => {
                let entries = repository.entries(&store)?;
                let own: Vec<&Entry> = entries.iter().filter(|entry| is(&entry.descriptor, digest)).collect();
                if own.is_empty()
                    && let Some(index) = entries.iter().find(|entry| is_part(&store, entry, digest))
                {
                    let message = format!("it is part of {}: delete that index first", index.reference);
                    return Err(Denied::new(StatusCode::METHOD_NOT_ALLOWED, "DENIED", message));
                }
                own.iter().try_for_each(|entry| store.untag(&entry.reference).map(drop))?;
                // One that a tag stood for a moment ago.
                let held = store.is_held(digest) && store.has(digest);
                store.release(digest)?;
                held || !own.is_empty()
            }
        };
        if gone { Ok(empty(StatusCode::ACCEPTED, &[])) } else { Err(unknown(&store, &repository, &word)) }
    })
    .await
}
