//! Pushing: to docker-registry, and to a registry that refuses whole blobs.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use strake_oci::{Digest, ImageConfig};
use strake_registry::{PullOptions, PushOptions, RegistryError, Sent, push};
use strake_store::{CommitOptions, Compression, Store};

use crate::mock::{Answer, Mock};
use crate::real::Registry;
use crate::{open, pull, sample};

const NAME: &str = "docker.io/library/app:1";

async fn send(reference: &str, store: &Store, options: &PushOptions) -> (Result<Digest, RegistryError>, Vec<Sent>) {
    let seen = Mutex::new(BTreeMap::new());
    let outcome = push(
        NAME,
        reference,
        store,
        &|pushed| {
            seen.lock().unwrap().insert(pushed.digest, pushed.how);
        },
        options,
    )
    .await;
    (outcome, seen.into_inner().unwrap().into_values().collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_is_pulled_and_nothing_goes_twice() {
    let Some(registry) = Registry::start() else { return };
    let (_dir, store) = open();
    let image = sample(&store, NAME);
    let reference = format!("{}/group/app:1", registry.host);
    let (digest, sent) = send(&reference, &store, &PushOptions::default()).await;
    let digest = digest.unwrap();
    assert_eq!(sent, [Sent::Uploaded; 3]);
    let (_other, elsewhere) = open();
    let pulled = pull(&reference, &elsewhere, PullOptions::default()).await.0.unwrap();
    assert_eq!((pulled.digest().unwrap(), pulled.config_digest), (digest, image.config_digest));
    assert_eq!(elsewhere.unpack(&pulled).unwrap(), image.chain());
    assert!(pulled.manifest.layers().iter().all(|layer| Compression::of_media_type(layer.media_type()) == Some(Compression::Gzip)));

    // The same again sends nothing; another repository of the same registry takes over what this one has.
    assert_eq!(send(&reference, &store, &PushOptions::default()).await.1, [Sent::Present; 3]);
    store.tag(&reference, &image.descriptor).unwrap();
    let other = format!("{}/other:2", registry.host);
    let (again, sent) = send(&other, &store, &PushOptions::default()).await;
    assert_eq!(again.unwrap(), digest);
    assert_eq!(sent.iter().filter(|how| **how == Sent::Mounted).count(), 2, "{sent:?}");

    // What was pulled goes on as it came, byte by byte.
    elsewhere.tag(NAME, &pulled.descriptor).unwrap();
    assert_eq!(send(&format!("{}/third:1", registry.host), &elsewhere, &PushOptions::default()).await.0.unwrap(), digest);
    let zstd = PushOptions { compression: Some(Compression::Zstd.into()), ..PushOptions::default() };
    assert_ne!(send(&format!("{}/third:zstd", registry.host), &store, &zstd).await.0.unwrap(), digest);
    let seen = Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{}/third:zstd", registry.host)]).output().unwrap();
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    assert!(String::from_utf8_lossy(&seen.stdout).contains("tar+zstd"));
    assert!(store.verify().unwrap().is_empty() && elsewhere.verify().unwrap().is_empty());
}

#[tokio::test]
async fn a_registry_that_takes_no_whole_blob_gets_pieces() {
    let mock = Mock::start().await;
    let (_dir, store) = open();
    sample(&store, NAME);
    let packed = store.packed(NAME, Some(Compression::Gzip)).unwrap();
    let here = |path: &str| format!("http://{}{path}", mock.host);
    let located = |status, location: String| {
        let mut answer = Answer::status(status, "");
        answer.headers.push(("Location".to_owned(), location));
        answer
    };
    mock.on("/v2/app/blobs/uploads/", located(202, here("/up")));
    mock.on("/up", located(202, here("/up")));
    for digest in packed.layers.iter().chain([&packed.config]).map(|blob| blob.digest().to_string()) {
        let put = format!("/up?digest={}", digest.replace(':', "%3A"));
        mock.on(&put, Answer::status(413, "too large"));
        mock.on(&put, located(201, here("/blob")));
    }
    mock.on("/v2/app/manifests/1", located(201, here("/manifest")));
    let digest = packed.descriptor.digest().to_string();
    mock.on("/v2/app/manifests/1", {
        let mut answer = Answer::ok("application/vnd.oci.image.manifest.v1+json", &[]);
        answer.headers.push(("Docker-Content-Digest".to_owned(), digest.clone()));
        answer
    });
    let (outcome, sent) = send(&format!("{}/app:1", mock.host), &store, &PushOptions::default()).await;
    assert_eq!(outcome.unwrap().to_string(), digest);
    assert_eq!(sent, [Sent::Uploaded; 3]);
    assert!(mock.asked("/up") >= 3, "each blob in at least one piece");
}

#[tokio::test]
async fn an_upload_that_breaks_off_goes_on_where_the_registry_is() {
    let mock = Mock::start().await;
    let (_dir, store) = open();
    sample(&store, NAME);
    let packed = store.packed(NAME, Some(Compression::Gzip)).unwrap();
    let (large, size) = (packed.layers[0].digest().to_string(), packed.layers[0].size());
    for known in [packed.layers[1].digest().to_string(), packed.config.digest().to_string()] {
        mock.on(&format!("/v2/app/blobs/{known}"), Answer::ok("application/octet-stream", b""));
    }
    let located = |status, at: &str| Answer::status(status, "").with("Location", &format!("http://{}{at}", mock.host));
    mock.on("/v2/app/blobs/uploads/", located(202, "/up1"));
    let put = |at: &str| format!("{at}?digest={}", large.replace(':', "%3A"));
    mock.on(&put("/up1"), Answer::status(413, ""));
    // In pieces: the first breaks off, the registry has a part of it; then it has forgotten the upload, and everything begins anew.
    mock.on("/v2/app/blobs/uploads/", located(202, "/up2"));
    mock.on("/up2", Answer::status(502, ""));
    mock.on("/up2", located(204, "/up3").with("Range", "0-999"));
    mock.on("/up3", Answer::status(503, ""));
    mock.on("/up3", Answer::status(404, ""));
    mock.on("/v2/app/blobs/uploads/", located(202, "/up4"));
    mock.on("/up4", located(202, "/up5").with("Range", &format!("0-{}", size - 1)));
    mock.on(&put("/up5"), located(201, "/blob"));
    mock.on("/v2/app/manifests/1", located(201, "/manifest"));
    let options = PushOptions { limits: crate::wrong::quick(), ..PushOptions::default() };
    let (outcome, _) = send(&format!("{}/app:1", mock.host), &store, &PushOptions { limits: PullOptions { attempts: 4, ..options.limits }, ..options }).await;
    assert_eq!(outcome.unwrap(), strake_store::digest_of(&packed.descriptor).unwrap());
    let sent: Vec<String> = mock
        .heads()
        .iter()
        .filter(|head| head.starts_with("patch"))
        .map(|head| {
            let range = head.lines().find_map(|line| line.strip_prefix("content-range: ")).unwrap_or_default();
            format!("{} {range}", head.split(' ').nth(1).unwrap())
        })
        .collect();
    let last = size - 1;
    assert_eq!(sent, [format!("/up2 0-{last}"), format!("/up3 1000-{last}"), format!("/up4 0-{last}")]);
}

/// An image of one layer that is long enough to be sent while it is packed; gives its file too.
fn long(store: &Store) -> std::path::PathBuf {
    let draft = store.begin(None).unwrap();
    let mut state = 7u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.rotate_left(23).to_le_bytes()
    });
    std::fs::write(draft.upper.join("noise"), noise.take(24 << 17).flatten().collect::<Vec<u8>>()).unwrap();
    let layer = draft.commit(CommitOptions { mtime: 0 }).unwrap();
    let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    store.tag(NAME, &store.put_image(&config, &[layer]).unwrap().descriptor).unwrap();
    store.lowers(&layer.chain_id).unwrap()[0].join("noise")
}

/// A registry that takes every piece of an upload as it comes, and answers for its place.
fn takes_pieces(mock: &Mock) {
    let located = |status, at: &str| Answer::status(status, "").with("Location", &format!("http://{}{at}", mock.host));
    mock.on("/v2/app/blobs/uploads/", located(202, "/up"));
    mock.on("/up", located(202, "/up"));
    mock.on("/v2/app/manifests/1", located(201, "/manifest"));
}

fn puts(mock: &Mock) -> Vec<String> {
    mock.heads().iter().filter(|head| head.starts_with("put ")).map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_layer_is_sent_while_it_is_packed_and_remembered() {
    let Some(registry) = Registry::start() else { return };
    for compression in [Compression::Gzip, Compression::Zstd] {
        let (_dir, store) = open();
        let file = long(&store);
        let options = PushOptions { compression: Some(compression.into()), ..PushOptions::default() };
        let (digest, sent) = send(&format!("{}/long:{compression:?}", registry.host).to_lowercase(), &store, &options).await;
        assert_eq!(sent.iter().filter(|how| **how == Sent::Uploaded).count(), if compression == Compression::Gzip { 2 } else { 1 }, "{sent:?}");
        let (_other, elsewhere) = open();
        let pulled = pull(&format!("{}/long:{compression:?}", registry.host).to_lowercase(), &elsewhere, PullOptions::default()).await.0.unwrap();
        assert_eq!(pulled.digest().unwrap(), digest.unwrap());
        let chain = elsewhere.unpack(&pulled).unwrap().unwrap();
        let arrived = std::fs::read(elsewhere.lowers(&chain).unwrap()[0].join("noise")).unwrap();
        assert!(arrived == std::fs::read(&file).unwrap(), "the file is what it was");
        // What was packed on the way is not made again: the files are not even read.
        std::fs::remove_file(&file).unwrap();
        assert_eq!(send(&format!("{}/again:1", registry.host), &store, &options).await.1.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_about_a_layer_before_its_digest_is_known() {
    let packed = open();
    long(&packed.1);
    let made = packed.1.packed(NAME, Some(Compression::Gzip)).unwrap();
    let layer = made.layers[0].digest().to_string();
    // A machine that is busy elsewhere may have packed all of the layer before its sending begins: then it is sent as any other, and that is no failure.
    for _ in 0..20 {
        let mock = Mock::start().await;
        takes_pieces(&mock);
        let (_dir, store) = open();
        long(&store);
        mock.on(&format!("/up?digest={}", layer.replace(':', "%3A")), Answer::status(201, ""));
        mock.on(&format!("/v2/app/blobs/{}", made.config.digest()), Answer::ok("application/octet-stream", b""));
        mock.on("/v2/app/manifests/1", Answer::ok("a/b", b"").with("Docker-Content-Digest", made.descriptor.digest().as_ref()));
        let (outcome, sent) = send(&format!("{}/app:1", mock.host), &store, &PushOptions::default()).await;
        assert_eq!(outcome.unwrap().to_string(), made.descriptor.digest().to_string(), "the same bytes as in another store");
        assert_eq!(sent.iter().filter(|how| **how == Sent::Uploaded).count(), 1);
        let mut next = 0;
        for head in mock.heads().iter().filter(|head| head.starts_with("patch")) {
            let range = head.lines().find_map(|line| line.strip_prefix("content-range: ")).unwrap();
            let (first, last) = range.split_once('-').unwrap();
            assert_eq!(first.parse::<u64>().unwrap(), next);
            next = last.parse::<u64>().unwrap() + 1;
        }
        assert!(next == made.layers[0].size() || next == 0, "all of it, in pieces that follow each other");
        if next > 0 && !mock.heads().iter().any(|head| head.starts_with("head") && head.contains(&layer)) {
            return;
        }
    }
    panic!("a long layer is sent before its digest is known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_the_registry_has_is_not_completed_there() {
    let mock = Mock::start().await;
    takes_pieces(&mock);
    // It keeps ten bytes of what it is sent: when the digest is known, nearly everything is still to be sent.
    mock.only("/up", Answer::status(202, "").with("Location", &format!("http://{}/up", mock.host)).with("Range", "0-9"));
    let (_dir, store) = open();
    long(&store);
    let packed = open();
    long(&packed.1);
    let made = packed.1.packed(NAME, Some(Compression::Gzip)).unwrap();
    for blob in [&made.layers[0], &made.config] {
        mock.on(&format!("/v2/app/blobs/{}", blob.digest()), Answer::ok("application/octet-stream", b""));
    }
    mock.on("/v2/app/manifests/1", Answer::ok("a/b", b"").with("Docker-Content-Digest", made.descriptor.digest().as_ref()));
    let (outcome, sent) = send(&format!("{}/app:1", mock.host), &store, &PushOptions::default()).await;
    outcome.unwrap();
    assert_eq!(sent, [Sent::Present; 2]);
    assert_eq!(puts(&mock), ["/v2/app/manifests/1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_was_changed_on_disk_is_never_completed_in_the_registry() {
    let mock = Mock::start().await;
    takes_pieces(&mock);
    let (_dir, store) = open();
    let file = long(&store);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20 << 20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = send(&format!("{}/app:1", mock.host), &store, &PushOptions::default()).await.0.unwrap_err();
    let RegistryError::Store { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**source, strake_store::StoreError::SnapshotCorrupt { .. }), "{source:?}");
    assert_eq!(puts(&mock), [""; 0], "nothing is completed or named");
    let asked = |start: &str| mock.heads().iter().any(|head| head.starts_with(start));
    assert_eq!(asked("post "), asked("delete /up "), "what was begun the registry is told to forget");
}

#[tokio::test]
async fn an_upload_goes_where_the_registry_sends_it_without_the_login() {
    let (mock, storage) = (Mock::start().await, Mock::start().await);
    let (_dir, store) = open();
    sample(&store, NAME);
    let packed = store.packed(NAME, Some(Compression::Gzip)).unwrap();
    mock.on("/v2/app/blobs/uploads/", Answer::status(202, "").with("Location", &format!("http://{}/up", mock.host)));
    for blob in packed.layers.iter().chain([&packed.config]) {
        let path = format!("/up?digest={}", blob.digest().to_string().replace(':', "%3A"));
        mock.on(&path, Answer::status(307, "").with("Location", &format!("http://{}/kept", storage.host)));
    }
    storage.on("/kept", Answer::status(201, ""));
    mock.on("/v2/app/manifests/1", Answer::status(201, "").with("Location", &format!("http://{}/manifest", mock.host)));
    mock.on("/v2/app/manifests/1", Answer::ok("a/b", b"").with("Docker-Content-Digest", packed.descriptor.digest().as_ref()));
    let (outcome, sent) = send(&format!("{}/app:1", mock.host), &store, &PushOptions::default()).await;
    outcome.unwrap();
    assert_eq!(sent, [Sent::Uploaded; 3]);
    let there = storage.heads();
    assert_eq!(there.len(), 3);
    assert!(there.iter().all(|head| head.starts_with("put /kept ") && !head.contains("authorization:")), "{there:?}");
    let lengths: Vec<String> = packed.layers.iter().chain([&packed.config]).map(|blob| format!("content-length: {}", blob.size())).collect();
    assert!(lengths.iter().all(|length| there.iter().any(|head| head.lines().any(|line| line == length))), "with all its bytes");
}

#[tokio::test]
async fn a_push_that_is_refused_says_by_whom() {
    let mock = Mock::start().await;
    let (_dir, store) = open();
    sample(&store, NAME);
    mock.only("/v2/app/blobs/uploads/", Answer::status(401, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#));
    let error = send(&format!("{}/app:1", mock.host), &store, &PushOptions::default()).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert_eq!(mock.asked("/v2/app/manifests/1"), 0, "nothing is named");
    let missing = push("docker.io/library/none:1", &format!("{}/app:1", mock.host), &store, &|_| {}, &PushOptions::default()).await;
    assert!(missing.unwrap_err().to_string().contains("cannot"), "the store has no such image");
}
