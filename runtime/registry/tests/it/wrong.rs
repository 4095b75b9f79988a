//! Registries that lie, stall, break off or refuse.

use std::time::{Duration, Instant};

use serde_json::json;
use strake_oci::Digest;
use strake_registry::{PullOptions, RegistryError};
use strake_store::{Compression, Image, Store, StoreError, digest_of};

use crate::mock::{Answer, Mock};
use crate::{open, pull, sample, temporaries};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn quick() -> PullOptions {
    PullOptions {
        idle_timeout: Duration::from_secs(2),
        manifest_timeout: Duration::from_secs(60),
        attempts: 2,
        first_pause: Duration::from_millis(10),
        ..PullOptions::default()
    }
}

/// A registry that serves `app:1` properly, and what it serves.
pub(crate) async fn serving() -> (Mock, Vec<u8>, Vec<(Digest, Vec<u8>)>) {
    let (_dir, store) = open();
    let image = sample(&store, "docker.io/library/app:1");
    let mock = Mock::start().await;
    let mut blobs = vec![(image.config_digest, store.read(&image.config_digest, 1 << 20).unwrap())];
    let mut layers = Vec::new();
    for layer in store.layers(&image.chain().unwrap()).unwrap() {
        let packed = store.pack(&layer, Compression::Gzip).unwrap();
        let digest = digest_of(&packed).unwrap();
        blobs.push((digest, store.read(&digest, 1 << 30).unwrap()));
        layers.push(packed);
    }
    let manifest = serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": image.manifest.config(), "layers": layers })).unwrap();
    (mock, manifest, blobs)
}

pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("/v2/app/blobs/{digest}")
}

async fn attempt(mock: &Mock, store: &Store) -> Result<Image, RegistryError> {
    pull(&format!("{}/app:1", mock.host), store, quick()).await.0
}

fn mismatch(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Store { source, .. } if matches!(**source, StoreError::DigestMismatch { .. }))
}

pub(crate) fn nothing_left(store: &Store) {
    assert!(store.images().unwrap().is_empty());
    assert_eq!(temporaries(store), 0);
    assert!(store.verify().unwrap().is_empty());
}

#[tokio::test]
async fn the_right_platform_of_an_index_is_taken() {
    let (mock, manifest, blobs) = serving().await;
    let entry = |digest: &Digest, size: usize, architecture: &str| json!({ "mediaType": MANIFEST, "digest": digest, "size": size, "platform": { "os": "linux", "architecture": architecture } });
    let chosen = Digest::of(&manifest);
    let index =
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&Digest::of(b"arm"), 3, "arm64"), entry(&chosen, manifest.len(), "amd64")] });
    mock.on("/v2/app/manifests/1", Answer::ok(INDEX, &serde_json::to_vec(&index).unwrap()));
    mock.on(&format!("/v2/app/manifests/{chosen}"), Answer::ok(MANIFEST, &manifest));
    blobs.iter().for_each(|(digest, bytes)| mock.on(&blob_path(digest), Answer::ok("application/octet-stream", bytes)));
    let (_dir, store) = open();
    let image = attempt(&mock, &store).await.unwrap();
    assert_eq!(image.digest().unwrap(), chosen);
    store.unpack(&image).unwrap();
    let (outcome, _) = crate::pull(&format!("{}/app:1", mock.host), &store, quick()).await;
    outcome.unwrap();
    let report = |_| {};
    let error = strake_registry::pull(&format!("{}/app:1", mock.host), &"linux/s390x".parse().unwrap(), &store, &report).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Platform { available, .. } if available.len() == 2), "{error}");
    assert!(error.to_string().ends_with("it has linux/arm64, linux/amd64"), "{error}");
}

#[tokio::test]
async fn a_lying_index_is_refused() {
    let (mock, manifest, _) = serving().await;
    let promised = Digest::of(b"promised");
    let index = json!({ "schemaVersion": 2, "manifests": [{ "mediaType": MANIFEST, "digest": promised, "size": 8, "platform": { "os": "linux", "architecture": "amd64" } }] });
    mock.on("/v2/app/manifests/1", Answer::ok(INDEX, &serde_json::to_vec(&index).unwrap()));
    mock.on(&format!("/v2/app/manifests/{promised}"), Answer::ok(MANIFEST, &manifest));
    let (_dir, store) = open();
    attempt(&mock, &store).await.unwrap_err();
    nothing_left(&store);
}

#[tokio::test]
async fn s16_a_document_with_two_meanings_is_refused() {
    let (mock, manifest, _) = serving().await;
    let mut value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    value["manifests"] = json!([]);
    mock.on("/v2/app/manifests/1", Answer::ok(MANIFEST, &serde_json::to_vec(&value).unwrap()));
    let (_dir, store) = open();
    let error = attempt(&mock, &store).await.unwrap_err();
    assert!(matches!(error, RegistryError::Manifest { .. }), "{error:?}");
    nothing_left(&store);
}

#[tokio::test]
async fn s17_a_blob_with_another_digest_is_refused_at_once() {
    let (mock, manifest, blobs) = serving().await;
    mock.on("/v2/app/manifests/1", Answer::ok(MANIFEST, &manifest));
    for (number, (digest, bytes)) in blobs.iter().enumerate() {
        let mut bytes = bytes.clone();
        if number == 1 {
            bytes[1000] ^= 1;
        }
        mock.on(&blob_path(digest), Answer::ok("application/octet-stream", &bytes));
    }
    let (_dir, store) = open();
    let error = attempt(&mock, &store).await.unwrap_err();
    assert!(mismatch(&error), "{error:?}");
    assert_eq!(mock.asked(&blob_path(&blobs[1].0)), 1, "not tried again");
    assert!(!store.has(&blobs[1].0));
    nothing_left(&store);
}

#[tokio::test]
async fn s17_a_longer_blob_is_cut_off() {
    let (mock, manifest, blobs) = serving().await;
    mock.on("/v2/app/manifests/1", Answer::ok(MANIFEST, &manifest));
    for (digest, bytes) in &blobs {
        let longer = [bytes.as_slice(), &vec![0; 1 << 20]].concat();
        mock.on(&blob_path(digest), Answer::ok("application/octet-stream", &longer));
    }
    let (_dir, store) = open();
    let error = attempt(&mock, &store).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }) || mismatch(&error), "{error:?}");
    nothing_left(&store);
}

#[tokio::test]
async fn a_transfer_that_breaks_off_is_tried_again() {
    let (mock, manifest, blobs) = serving().await;
    mock.on("/v2/app/manifests/1", Answer::ok(MANIFEST, &manifest));
    for (digest, bytes) in &blobs {
        let cut = Answer { length: Some(bytes.len()), ..Answer::ok("application/octet-stream", &bytes[..bytes.len() / 3]) };
        mock.on(&blob_path(digest), cut);
        mock.on(&blob_path(digest), Answer::ok("application/octet-stream", bytes));
    }
    let (_dir, store) = open();
    let image = attempt(&mock, &store).await.unwrap();
    store.unpack(&image).unwrap();
    assert!(blobs.iter().all(|(digest, _)| mock.asked(&blob_path(digest)) == 2));
}

#[tokio::test]
async fn a_transfer_that_keeps_breaking_off_ends() {
    let (mock, manifest, blobs) = serving().await;
    mock.on("/v2/app/manifests/1", Answer::ok(MANIFEST, &manifest));
    for (digest, bytes) in &blobs {
        mock.on(&blob_path(digest), Answer { stall: Duration::from_secs(3000), ..Answer::ok("application/octet-stream", bytes) });
    }
    let (_dir, store) = open();
    let start = Instant::now();
    let error = attempt(&mock, &store).await.unwrap_err();
    assert!(matches!(error, RegistryError::Transfer { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3000), "{:?}", start.elapsed());
    nothing_left(&store);
}

#[tokio::test]
async fn refusals_have_their_own_words() {
    let (_dir, store) = open();
    let mock = Mock::start().await;
    let denied = r#"{"errors":[{"code":"DENIED","message":"no"}]}"#;
    for (status, body, wanted) in [
        (401, "", "denies access"),
        (403, denied, "denies access"),
        (429, "", "limits how much"),
        (404, "nothing", "does not exist"),
        (500, "oops", "unexpected answer"),
    ] {
        let path = format!("/v2/app/manifests/s{status}");
        mock.on(&path, Answer::status(status, body));
        let error = pull(&format!("{}/app:s{status}", mock.host), &store, quick()).await.0.unwrap_err();
        assert!(error.to_string().contains(wanted), "{status}: {error} ({error:?})");
        assert_eq!(mock.asked(&path), if matches!(status, 429 | 500) { 2 } else { 1 }, "{status}");
    }
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let error = pull(&format!("{gone}/app:1"), &store, quick()).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");
    let error = pull("UPPER/Case", &store, quick()).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Reference { .. }), "{error:?}");
    nothing_left(&store);
}

#[tokio::test]
async fn what_is_no_container_image_is_refused_before_it_is_fetched() {
    let (mock, manifest, blobs) = serving().await;
    let mut value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    value["config"]["mediaType"] = "application/vnd.example.chart".into();
    mock.on("/v2/app/manifests/1", Answer::ok(MANIFEST, &serde_json::to_vec(&value).unwrap()));
    let (_dir, store) = open();
    assert!(matches!(attempt(&mock, &store).await, Err(RegistryError::Manifest { .. })));
    let small = PullOptions { max_blob_bytes: 1000, ..quick() };
    mock.on("/v2/app/manifests/2", Answer::ok(MANIFEST, &manifest));
    let error = pull(&format!("{}/app:2", mock.host), &store, small).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { max_bytes: 1000, .. }), "{error:?}");
    assert!(blobs.iter().all(|(digest, _)| mock.asked(&blob_path(digest)) == 0));
    nothing_left(&store);
}

#[tokio::test]
async fn a_stored_login_is_used_for_its_registry_only() {
    let (mock, manifest, blobs) = serving().await;
    let challenge = Answer { headers: vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())], ..Answer::status(401, "") };
    let locked = Mock::start().await;
    locked.on("/v2/app/manifests/1", challenge);
    for registry in [&mock, &locked] {
        registry.on("/v2/app/manifests/1", Answer::ok(MANIFEST, &manifest));
        blobs.iter().for_each(|(digest, bytes)| registry.on(&blob_path(digest), Answer::ok("application/octet-stream", bytes)));
    }
    let home = tempfile::tempdir().unwrap();
    let config = json!({ "auths": { &locked.host: { "auth": "dXNlcjpwYXNz" } } });
    std::fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    let options = PullOptions { docker_config: Some(home.path().to_owned()), ..quick() };
    for registry in [&mock, &locked] {
        let (_dir, store) = open();
        pull(&format!("{}/app:1", registry.host), &store, options.clone()).await.0.unwrap();
    }
    assert_eq!(locked.asked("/v2/app/manifests/1 Basic dXNlcjpwYXNz"), 1);
    assert_eq!(mock.asked("/v2/app/manifests/1 Basic dXNlcjpwYXNz"), 0);
    std::fs::write(home.path().join("config.json"), "not json").unwrap();
    locked.only("/v2/app/manifests/1", Answer { headers: vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())], ..Answer::status(401, "") });
    let (_dir, store) = open();
    let error = pull(&format!("{}/app:1", locked.host), &store, options).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Credentials { .. }), "{error:?}");
}
