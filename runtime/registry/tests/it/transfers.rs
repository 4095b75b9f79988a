//! Transfers that break off, registries that want to be left alone, mirrors, and pulls that share their work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strake_oci::Digest;
use strake_registry::{HostSettings, Mirror, Progress, PullOptions, Registries, RegistryError};
use strake_store::Store;

use crate::mock::{Answer, Mock};
use crate::wrong::{MANIFEST, blob_path, nothing_left, quick, serving};
use crate::{open, pull};

const TAG: &str = "/v2/app/manifests/1";

fn octets(bytes: &[u8]) -> Answer {
    Answer::ok("application/octet-stream", bytes)
}

fn ranges(mock: &Mock, digest: &Digest) -> Vec<String> {
    let line = format!("get {} ", blob_path(digest));
    let heads = mock.heads();
    let own = heads.iter().filter(|head| head.starts_with(&line));
    own.map(|head| head.lines().find(|line| line.starts_with("range: ")).unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_transfer_that_breaks_off_goes_on_where_it_was() {
    let (mock, manifest, blobs) = serving().await;
    mock.on(TAG, Answer::ok(MANIFEST, &manifest));
    for (digest, bytes) in &blobs {
        mock.on(&blob_path(digest), Answer { ranged: true, cut: Some(bytes.len() / 4), ..octets(bytes) });
        mock.on(&blob_path(digest), Answer { ranged: true, cut: Some(bytes.len() / 4), ..octets(bytes) });
        mock.on(&blob_path(digest), Answer { ranged: true, ..octets(bytes) });
    }
    let (_dir, store) = open();
    let image = pull(&format!("{}/app:1", mock.host), &store, PullOptions { attempts: 5, ..quick() }).await.0.unwrap();
    store.unpack(&image).unwrap();
    for (digest, bytes) in &blobs {
        let part = bytes.len() / 4;
        assert_eq!(ranges(&mock, digest), [String::new(), format!("range: bytes={part}-"), format!("range: bytes={}-", 2 * part)]);
    }
}

#[tokio::test]
async fn what_arrived_before_is_not_fetched_again_and_never_trusted() {
    let (mock, manifest, blobs) = serving().await;
    let (digest, bytes) = &blobs[1];
    mock.on(TAG, Answer::ok(MANIFEST, &manifest));
    blobs.iter().for_each(|(digest, bytes)| mock.on(&blob_path(digest), octets(bytes)));
    mock.only(&blob_path(digest), Answer { ranged: true, cut: Some(bytes.len() / 2), ..octets(bytes) });
    let (_dir, store) = open();
    let name = format!("{}/app:1", mock.host);
    let once = PullOptions { attempts: 1, ..quick() };
    let error = pull(&name, &store, once.clone()).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Transfer { .. }), "{error:?}");
    nothing_left(&store);
    assert_eq!(store.arrived_bytes(digest), bytes.len() as u64 / 2);

    // Another run goes on there; bytes that a power cut has damaged are found out, and everything is fetched anew.
    let path = store.root().join("ingest").join(digest.hex());
    std::fs::write(&path, vec![7; bytes.len() / 2]).unwrap();
    mock.only(&blob_path(digest), Answer { ranged: true, ..octets(bytes) });
    let again = Store::open(store.root()).unwrap();
    pull(&name, &again, quick()).await.0.unwrap();
    assert_eq!(ranges(&mock, digest), [String::new(), format!("range: bytes={}-", bytes.len() / 2), String::new()]);
    assert!(again.verify().unwrap().is_empty());
}

#[tokio::test]
async fn a_registry_without_ranges_or_with_wrong_ones_is_coped_with() {
    for wrong in [Answer { ranged: false, ..octets(b"") }, Answer::status(416, ""), Answer { status: 206, ..octets(b"x") }.with("Content-Range", "bytes 1-1/9")]
    {
        let (mock, manifest, blobs) = serving().await;
        mock.on(TAG, Answer::ok(MANIFEST, &manifest));
        for (digest, bytes) in &blobs {
            mock.on(&blob_path(digest), Answer { cut: Some(bytes.len() / 2), ..octets(bytes) });
            if wrong.status != 200 {
                mock.on(&blob_path(digest), wrong.clone());
            }
            mock.on(&blob_path(digest), octets(bytes));
        }
        let (_dir, store) = open();
        let outcome = pull(&format!("{}/app:1", mock.host), &store, PullOptions { attempts: 4, ..quick() }).await.0;
        match wrong.status {
            206 => assert!(matches!(outcome, Err(RegistryError::Protocol { .. })), "{outcome:?}"),
            _ => drop(outcome.unwrap()),
        }
        assert!(store.verify().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_registry_that_asks_for_time_gets_it_within_reason() {
    let (mock, manifest, blobs) = serving().await;
    blobs.iter().for_each(|(digest, bytes)| mock.on(&blob_path(digest), octets(bytes)));
    let name = format!("{}/app:1", mock.host);
    for status in [429, 503] {
        mock.only(TAG, Answer::status(status, "").with("Retry-After", "1"));
        mock.on(TAG, Answer::ok(MANIFEST, &manifest));
        let (_dir, store) = open();
        let began = Instant::now();
        pull(&name, &store, quick()).await.0.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    }
    // A date of long ago is now; an hour is not waited for.
    mock.only(TAG, Answer::status(429, "").with("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"));
    mock.on(TAG, Answer::ok(MANIFEST, &manifest));
    let (_dir, store) = open();
    pull(&name, &store, quick()).await.0.unwrap();
    mock.only(TAG, Answer::status(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\u001b[31m down"}]}"#).with("Retry-After", "3600"));
    let before = mock.asked(TAG);
    let error = pull(&name, &store, quick()).await.0.unwrap_err();
    assert!(matches!(&error, RegistryError::RateLimited { source, .. } if source.retry_after == Some(Duration::from_secs(3600))), "{error:?}");
    let words = std::error::Error::source(&error).unwrap().to_string();
    assert!(words.contains("429") && words.contains("down") && !words.contains('\u{1b}'), "{words:?}");
    assert_eq!(mock.asked(TAG) - before, 1, "asked once");
}

fn mirrored(host: &str, mirrors: &[&str]) -> PullOptions {
    let mirrors = mirrors.iter().map(|mirror| {
        let (host, path) = mirror.split_once('/').unwrap_or((mirror, ""));
        Mirror { host: host.to_owned(), path: path.to_owned(), plain: true }
    });
    let mut registries = Registries::default();
    registries.set(host, HostSettings { mirrors: mirrors.collect(), ..HostSettings::default() });
    PullOptions { registries: Some(Arc::new(registries)), ..quick() }
}

#[tokio::test]
async fn mirrors_are_asked_in_their_order_and_the_registry_last() {
    let (good, manifest, blobs) = serving().await;
    let (empty, registry) = (Mock::start().await, Mock::start().await);
    good.on("/v2/hub/app/manifests/1", Answer::ok(MANIFEST, &manifest));
    for (digest, bytes) in &blobs {
        good.on(&format!("/v2/hub/app/blobs/{digest}"), octets(bytes));
    }
    let name = format!("{}/app:1", registry.host);
    let (_dir, store) = open();
    let hub = format!("{}/hub", good.host);
    pull(&name, &store, mirrored(&registry.host, &[&empty.host, "127.0.0.1:1", &hub])).await.0.unwrap();
    assert_eq!((empty.asked(TAG), registry.heads().len()), (1, 0));
    assert_eq!(store.images().unwrap()[0].reference, name, "the name is the registry's");

    // A mirror with other content does no harm.
    let evil = Mock::start().await;
    evil.on(TAG, Answer::ok(MANIFEST, &manifest));
    for (digest, bytes) in &blobs {
        evil.on(&blob_path(digest), octets(&vec![0; bytes.len()]));
        registry.on(&blob_path(digest), octets(bytes));
    }
    let (_dir, store) = open();
    let image = pull(&name, &store, mirrored(&registry.host, &[&evil.host])).await.0.unwrap();
    store.unpack(&image).unwrap();
    assert!(blobs.iter().all(|(digest, _)| registry.asked(&blob_path(digest)) == 1));

    // When nobody has it, the registry's own words count.
    let (_dir, store) = open();
    let error = pull(&format!("{}/app:2", registry.host), &store, mirrored(&registry.host, &[&empty.host])).await.0.unwrap_err();
    assert!(matches!(&error, RegistryError::NotFound { reference, .. } if reference.starts_with(&registry.host)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_at_the_same_time_fetch_each_blob_once() {
    let (mock, manifest, blobs) = serving().await;
    mock.on(TAG, Answer::ok(MANIFEST, &manifest));
    blobs.iter().for_each(|(digest, bytes)| mock.on(&blob_path(digest), Answer { stall: Duration::from_millis(400), ..octets(bytes) }));
    let (_dir, store) = open();
    let name = format!("{}/app:1", mock.host);
    // Another open store shares nothing but the directory, as another process would.
    let other = Store::open(store.root()).unwrap();
    let patient = PullOptions { idle_timeout: Duration::from_secs(10), ..quick() };
    let (one, two, three) = tokio::join!(pull(&name, &store, patient.clone()), pull(&name, &store, patient.clone()), pull(&name, &other, patient.clone()));
    let fetched: usize =
        [&one, &two, &three].iter().map(|(_, seen)| seen.iter().filter(|event| matches!(event, Progress::Complete { fetched: true, .. })).count()).sum();
    assert_eq!(one.0.unwrap(), two.0.unwrap());
    three.0.unwrap();
    assert_eq!(fetched, blobs.len());
    assert!(blobs.iter().all(|(digest, _)| mock.asked(&blob_path(digest)) == 1), "{:?}", mock.heads());
}
