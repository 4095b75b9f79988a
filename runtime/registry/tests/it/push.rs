//! Pushing: to docker-registry, and to a registry that refuses whole blobs.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use strake_oci::Digest;
use strake_registry::{PullOptions, PushOptions, RegistryError, Sent, push};
use strake_store::{Compression, Store};

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
    let zstd = PushOptions { compression: Some(Compression::Zstd), ..PushOptions::default() };
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
