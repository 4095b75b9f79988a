//! Registries that want what they must not get: reference/reliability-and-security.md, rows S15 to S19, S22 and S47.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use strake_oci::Digest;
use strake_registry::{HostSettings, PullOptions, Registries, RegistryError};
use strake_store::StoreError;

use crate::mock::{Answer, Mock};
use crate::wrong::{INDEX, MANIFEST, blob_path, nothing_left, quick, serving};
use crate::{open, pull};

const TAG: &str = "/v2/app/manifests/1";

/// A `config.json` with a login for these hosts: user and pass.
fn logins(dir: &Path, hosts: &[&str]) -> PullOptions {
    let auths: serde_json::Map<_, _> = hosts.iter().map(|host| ((*host).to_owned(), json!({ "auth": "dXNlcjpwYXNz" }))).collect();
    std::fs::write(dir.join("config.json"), json!({ "auths": auths }).to_string()).unwrap();
    PullOptions { docker_config: Some(dir.to_owned()), ..quick() }
}

fn bearer(realm: &str) -> Answer {
    Answer::status(401, "").with("WWW-Authenticate", &format!("Bearer realm=\"{realm}\",service=\"s\""))
}

fn with_login(mock: &Mock) -> usize {
    mock.heads().iter().filter(|head| head.contains("\r\nauthorization:")).count()
}

/// Serves the image under the tag, its manifest after `first`.
fn put(mock: &Mock, manifest: &[u8], blobs: &[(Digest, Vec<u8>)]) {
    mock.on(TAG, Answer::ok(MANIFEST, manifest));
    blobs.iter().for_each(|(digest, bytes)| mock.on(&blob_path(digest), Answer::ok("application/octet-stream", bytes)));
}

#[tokio::test]
async fn s18_a_token_service_of_somebody_else_gets_no_login() {
    let (mock, manifest, blobs) = serving().await;
    let other = Mock::start().await;
    let port = other.host.rsplit(':').next().unwrap();
    let realm = format!("http://localhost:{port}/token");
    other.on("/token?service=s&scope=repository%3Aapp%3Apull&client_id=strake", Answer::ok("application/json", br#"{"token":"t0"}"#));
    mock.on(TAG, bearer(&realm));
    put(&mock, &manifest, &blobs);
    let home = tempfile::tempdir().unwrap();
    let options = logins(home.path(), &[&mock.host]);
    let (_dir, store) = open();
    let name = format!("{}/app:1", mock.host);
    let error = pull(&name, &store, options.clone()).await.0.unwrap_err();
    assert!(matches!(&error, RegistryError::Realm { realm, .. } if *realm == format!("localhost:{port}")), "{error:?}");
    assert!(error.to_string().contains("registries.yaml"), "{error}");
    assert_eq!((other.heads().len(), with_login(&mock)), (0, 0));
    nothing_left(&store);

    // The user says that it is the registry's: it gets the login, and the registry the token.
    mock.only(TAG, bearer(&realm));
    mock.on(TAG, Answer::ok(MANIFEST, &manifest));
    let mut registries = Registries::default();
    registries.set(mock.host.clone(), HostSettings { auth: vec![format!("localhost:{port}")], ..HostSettings::default() });
    let named = PullOptions { registries: Some(Arc::new(registries)), ..options };
    pull(&name, &store, named).await.0.unwrap();
    assert_eq!(other.asked("/token?service=s&scope=repository%3Aapp%3Apull&client_id=strake Basic dXNlcjpwYXNz"), 1, "{:?}", other.heads());
    assert_eq!(mock.asked(&format!("{TAG} Bearer t0")), 1);
    assert!(blobs.iter().all(|(digest, _)| mock.asked(&format!("{} Bearer t0", blob_path(digest))) == 1));

    // Without a login there is nothing to lose.
    mock.only(TAG, bearer(&realm));
    mock.on(TAG, Answer::ok(MANIFEST, &manifest));
    let nobody = tempfile::tempdir().unwrap();
    let (_dir, store) = open();
    pull(&name, &store, logins(nobody.path(), &[])).await.0.unwrap();
    assert_eq!(with_login(&other), 1, "only the one above");
}

#[tokio::test]
async fn s18_redirects_and_foreign_addresses_carry_no_login() {
    let (elsewhere, manifest, blobs) = serving().await;
    let mock = Mock::start().await;
    let mut value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    value["layers"][0]["urls"] = json!([format!("http://{}/foreign", elsewhere.host)]);
    let manifest = serde_json::to_vec(&value).unwrap();
    mock.on(TAG, Answer::status(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    mock.on(TAG, Answer::status(307, "").with("Location", &format!("http://{}/m", elsewhere.host)));
    elsewhere.on("/m", Answer::ok(MANIFEST, &manifest));
    for (digest, bytes) in &blobs {
        mock.on(&blob_path(digest), Answer::status(302, "").with("Location", &format!("http://me:pw@{}/b/{}", elsewhere.host, digest.hex())));
        // A host that was led to cannot ask for the login either.
        elsewhere.on(&format!("/b/{}", digest.hex()), Answer::ok("application/octet-stream", bytes));
    }
    let home = tempfile::tempdir().unwrap();
    let (_dir, store) = open();
    let options = logins(home.path(), &[&mock.host, &elsewhere.host]);
    pull(&format!("{}/app:1", mock.host), &store, options.clone()).await.0.unwrap();
    assert!(with_login(&mock) >= 3, "the registry itself gets it: {:?}", mock.heads());
    assert_eq!((with_login(&elsewhere), elsewhere.asked("/foreign")), (0, 0));

    elsewhere.only("/m", Answer::status(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    mock.only(TAG, Answer::status(307, "").with("Location", &format!("http://{}/m", elsewhere.host)));
    let (_dir, store) = open();
    let error = pull(&format!("{}/app:1", mock.host), &store, options).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert_eq!(with_login(&elsewhere), 0);
}

#[tokio::test]
async fn s18_a_registry_that_wants_a_login_again_and_again_is_left() {
    let mock = Mock::start().await;
    let realm = format!("http://{}/token", mock.host);
    mock.on(TAG, bearer(&realm));
    let token = "/token?service=s&scope=repository%3Aapp%3Apull&client_id=strake";
    mock.on(token, Answer::ok("application/json", br#"{"access_token":"t"}"#));
    let (_dir, store) = open();
    let nobody = tempfile::tempdir().unwrap();
    let error = pull(&format!("{}/app:1", mock.host), &store, logins(nobody.path(), &[])).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert_eq!((mock.asked(TAG), mock.asked(token)), (2, 1));
    for (answer, told) in [
        (Answer::ok("application/json", b"{}"), "holds no token"),
        (Answer::ok("application/json", b"no"), "is no token"),
        (Answer::ok("application/json", br#"{"token":"a\nb"}"#), "no header can carry"),
        (Answer::status(302, "").with("Location", "http://127.0.0.1:1/"), "unexpected answer"),
        (Answer::status(401, ""), "denies access"),
    ] {
        mock.only(token, answer);
        let error = pull(&format!("{}/app:1", mock.host), &store, logins(nobody.path(), &[])).await.0.unwrap_err();
        assert!(error.to_string().contains(told), "{told}: {error}");
    }
    let endless = Answer { endless: true, ..Answer::ok("application/json", &[b' '; 65536]) };
    mock.only(token, endless);
    let error = pull(&format!("{}/app:1", mock.host), &store, logins(nobody.path(), &[])).await.0.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[tokio::test]
async fn tokens_are_asked_for_with_every_right_that_is_needed() {
    let (_dir, store) = open();
    let image = crate::sample(&store, "docker.io/library/app:1");
    let mock = Mock::start().await;
    store.tag(&format!("{}/other:1", mock.host), &image.descriptor).unwrap();
    let home = tempfile::tempdir().unwrap();
    let options = strake_registry::PushOptions { limits: logins(home.path(), &[&mock.host]), ..Default::default() };
    let packed = store.packed("docker.io/library/app:1", Some(strake_store::Compression::Gzip)).unwrap();
    for blob in packed.layers.iter().chain([&packed.config]) {
        let path = format!("/v2/app/blobs/{}", blob.digest());
        mock.on(&path, bearer(&format!("http://{}/token", mock.host)));
        mock.on(&path, Answer::ok("application/octet-stream", b""));
    }
    let token = "/token?service=s&scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Aother%3Apull&client_id=strake";
    mock.on(token, Answer::ok("application/json", br#"{"token":"t1"}"#));
    mock.on(TAG, Answer::status(201, "").with("Location", "/x"));
    let reference = format!("{}/app:1", mock.host);
    strake_registry::push("docker.io/library/app:1", &reference, &store, &|_| {}, &options).await.unwrap();
    assert_eq!(mock.asked(&format!("{token} Basic dXNlcjpwYXNz")), 1, "one login for all: {:?}", mock.heads());
    assert!(mock.asked(&format!("{TAG} Bearer t1")) >= 1);

    // A token that stands for the user is exchanged, in a body and in no address.
    let config = json!({ "auths": { &mock.host: { "auth": "dXNlcjo=", "identitytoken": "stands-for-me" } } });
    std::fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    mock.only(TAG, bearer(&format!("http://{}/exchange", mock.host)));
    mock.on(TAG, Answer::status(404, ""));
    mock.on("/exchange", Answer::ok("application/json", br#"{"access_token":"t2"}"#));
    pull(&reference, &store, logins_of(home.path())).await.0.unwrap_err();
    assert_eq!(mock.asked(&format!("{TAG} Bearer t2")), 1);
    assert!(mock.heads().iter().any(|head| head.starts_with("post /exchange ")));
    assert!(!mock.heads().iter().any(|head| head.contains("stands-for-me")));
}

fn logins_of(dir: &Path) -> PullOptions {
    PullOptions { docker_config: Some(dir.to_owned()), ..quick() }
}

#[tokio::test]
async fn s19_registries_lead_to_no_metadata_service() {
    let mock = Mock::start().await;
    let (_dir, store) = open();
    let name = format!("{}/app:1", mock.host);
    let nobody = tempfile::tempdir().unwrap();
    let forbidden = |error: &RegistryError| matches!(error, RegistryError::Forbidden { .. });
    for place in ["http://169.254.169.254/latest", "http://[fe80::1]/x", "http://[::ffff:a9fe:a9fe]/", "http://2852039166/"] {
        mock.only(TAG, bearer(place));
        let error = pull(&name, &store, logins(nobody.path(), &[])).await.0.unwrap_err();
        assert!(forbidden(&error), "{place}: {error:?}");
        mock.only(TAG, Answer::status(307, "").with("Location", place));
        let error = pull(&name, &store, quick()).await.0.unwrap_err();
        assert!(forbidden(&error), "{place}: {error:?}");
    }
    for host in ["169.254.1.1", "169.254.169.254:80"] {
        let error = pull(&format!("{host}/app:1"), &store, quick()).await.0.unwrap_err();
        assert!(forbidden(&error), "{host}: {error:?}");
    }
    for (place, told) in [("ftp://x/y", "no http or https address"), ("http://", "no http or https address")] {
        mock.only(TAG, Answer::status(307, "").with("Location", place));
        let error = pull(&name, &store, quick()).await.0.unwrap_err();
        assert!(error.to_string().contains(told), "{place}: {error}");
    }
    mock.only(TAG, Answer::status(307, "").with("Location", TAG));
    let error = pull(&name, &store, quick()).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error:?}");
    assert_eq!(mock.asked(TAG), 4 + 4 + 2 + 6, "a circle is left after some rounds");
    nothing_left(&store);
}

#[tokio::test]
async fn s15_manifests_without_an_end_and_of_any_number_are_refused() {
    let (mock, manifest, blobs) = serving().await;
    let (_dir, store) = open();
    let name = format!("{}/app:1", mock.host);
    let refused = |error: &RegistryError| matches!(error, RegistryError::Manifest { .. });
    for answer in [Answer { endless: true, ..Answer::ok(MANIFEST, &[b' '; 65536]) }, Answer { length: Some(1 << 40), ..Answer::ok(MANIFEST, b"{}") }] {
        mock.only(TAG, answer);
        let error = pull(&name, &store, quick()).await.0.unwrap_err();
        assert!(refused(&error), "{error:?}");
    }
    // An error's body is bounded too.
    mock.only(TAG, Answer { endless: true, ..Answer::status(404, &"x".repeat(65536)) });
    let error = pull(&name, &store, quick()).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    let mut many: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layers: Vec<_> = (0..2000)
        .map(|number| json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 1, "digest": Digest::of(format!("{number}").as_bytes()) }))
        .collect();
    many["layers"] = layers.into();
    mock.only(TAG, Answer::ok(MANIFEST, &serde_json::to_vec(&many).unwrap()));
    let error = pull(&name, &store, quick()).await.0.unwrap_err();
    assert!(refused(&error), "{error:?}");
    let entries: Vec<_> = (0..2000).map(|number| json!({ "mediaType": MANIFEST, "size": 1, "digest": Digest::of(format!("{number}").as_bytes()), "platform": { "os": "linux", "architecture": "amd64" } })).collect();
    mock.only(TAG, Answer::ok(INDEX, &serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": entries })).unwrap()));
    let error = pull(&name, &store, PullOptions { all_platforms: true, ..quick() }).await.0.unwrap_err();
    assert!(refused(&error), "{error:?}");
    // An index that leads to itself, or to another index.
    let inner = serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] })).unwrap();
    let entry = json!({ "mediaType": INDEX, "size": inner.len(), "digest": Digest::of(&inner), "platform": { "os": "linux", "architecture": "amd64" } });
    mock.only(TAG, Answer::ok(INDEX, &serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] })).unwrap()));
    mock.on(&format!("/v2/app/manifests/{}", Digest::of(&inner)), Answer::ok(INDEX, &inner));
    let error = pull(&name, &store, quick()).await.0.unwrap_err();
    assert!(error.to_string().contains("another index"), "{error}");
    assert!(blobs.iter().all(|(digest, _)| mock.asked(&blob_path(digest)) == 0), "nothing was fetched for any of them");
    nothing_left(&store);
}

#[tokio::test]
async fn s15_a_layer_that_expands_without_measure_is_not_unpacked() {
    let (mock, manifest, blobs) = serving().await;
    let mut packed = Vec::new();
    {
        let mut encoder = zstd::stream::write::Encoder::new(&mut packed, 3).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_path("zeros").unwrap();
        header.set_size(280 << 20);
        header.set_cksum();
        encoder.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        (0..281).for_each(|_| encoder.write_all(&zeros).unwrap());
        encoder.finish().unwrap();
    }
    let (bomb, size) = (Digest::of(&packed), packed.len());
    let mut value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in value["layers"].as_array_mut().unwrap() {
        *layer = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "size": size, "digest": bomb });
    }
    mock.on(TAG, Answer::ok(MANIFEST, &serde_json::to_vec(&value).unwrap()));
    mock.on(&blob_path(&blobs[0].0), Answer::ok("application/octet-stream", &blobs[0].1));
    mock.on(&blob_path(&bomb), Answer::ok("application/octet-stream", &packed));
    let (_dir, store) = open();
    let image = pull(&format!("{}/app:1", mock.host), &store, quick()).await.0.unwrap();
    assert_eq!(mock.asked(&blob_path(&bomb)), 1, "a layer that is listed twice is fetched once");
    let error = store.unpack(&image).unwrap_err();
    let mut words = error.to_string();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        words = format!("{words}: {inner}");
        cause = inner;
    }
    assert!(matches!(&error, StoreError::Unpack { .. }) && words.contains("times its size"), "{words}");
    assert!(store.verify().unwrap().is_empty());
}

#[tokio::test]
async fn s17_digests_of_other_kinds_and_sizes_that_differ_are_refused() {
    let (mock, manifest, blobs) = serving().await;
    let (_dir, store) = open();
    let name = format!("{}/app:1", mock.host);
    blobs.iter().for_each(|(digest, bytes)| mock.on(&blob_path(digest), Answer::ok("application/octet-stream", bytes)));
    let digest = blobs[1].0.to_string();
    for wrong in
        ["md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(), digest.to_uppercase(), digest[..70].to_owned(), "sha256:".to_owned(), format!("{digest}/../x")]
    {
        let text = String::from_utf8(manifest.clone()).unwrap().replace(&digest, &wrong);
        mock.only(TAG, Answer::ok(MANIFEST, text.as_bytes()));
        pull(&name, &store, quick()).await.0.expect_err(&wrong);
    }
    let mut value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    value["layers"][0]["size"] = (value["layers"][0]["size"].as_u64().unwrap() + 1).into();
    mock.only(TAG, Answer::ok(MANIFEST, &serde_json::to_vec(&value).unwrap()));
    pull(&name, &store, PullOptions { attempts: 1, ..quick() }).await.0.unwrap_err();
    // A registry that says another digest than that of what it sends.
    mock.only(TAG, Answer::ok(MANIFEST, &manifest).with("Docker-Content-Digest", &Digest::of(b"other").to_string()));
    let error = pull(&name, &store, quick()).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Manifest { .. }), "{error:?}");
    assert!(store.images().unwrap().is_empty());
}

#[tokio::test]
async fn s22_labels_and_annotations_of_an_image_are_data() {
    let (mock, manifest, blobs) = serving().await;
    let mut config: serde_json::Value = serde_json::from_slice(&blobs[0].1).unwrap();
    let labels = json!({ "org.opencontainers.image.ref.name": "docker.io/library/busybox:1", "io.containerd.image.name": "x", "dev.strake.collected": "true" });
    config["config"]["Labels"] = labels.clone();
    let config = serde_json::to_vec(&config).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    value["config"] = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": Digest::of(&config) });
    value["annotations"] = labels;
    mock.on(TAG, Answer::ok(MANIFEST, &serde_json::to_vec(&value).unwrap()));
    mock.on(&blob_path(&Digest::of(&config)), Answer::ok("application/octet-stream", &config));
    blobs[1..].iter().for_each(|(digest, bytes)| mock.on(&blob_path(digest), Answer::ok("application/octet-stream", bytes)));
    let (_dir, store) = open();
    let name = format!("{}/app:1", mock.host);
    let image = pull(&name, &store, quick()).await.0.unwrap();
    assert_eq!(image.config.config.labels.len(), 3, "they are kept");
    let names: Vec<String> = store.images().unwrap().into_iter().map(|record| record.reference).collect();
    assert_eq!(names, [name], "and name nothing");
}

#[tokio::test]
async fn s47_what_was_resolved_is_what_comes_however_the_tag_moves() {
    let (mock, manifest, blobs) = serving().await;
    let digest = Digest::of(&manifest);
    let evil = serde_json::to_vec(&json!({ "schemaVersion": 2, "config": {}, "layers": [] })).unwrap();
    mock.on(TAG, Answer::ok(MANIFEST, &manifest).with("Docker-Content-Digest", &digest.to_string()));
    mock.on(TAG, Answer::ok(MANIFEST, &evil));
    mock.on(&format!("/v2/app/manifests/{digest}"), Answer::ok(MANIFEST, &evil));
    mock.on(&format!("/v2/app/manifests/{digest}"), Answer::ok(MANIFEST, &manifest));
    blobs.iter().for_each(|(digest, bytes)| mock.on(&blob_path(digest), Answer::ok("application/octet-stream", bytes)));
    let (_dir, store) = open();
    let resolved = strake_registry::resolve(&format!("{}/app:1", mock.host), &store, &quick()).await.unwrap();
    assert_eq!(resolved, digest);
    let pinned = format!("{}/app:1@{resolved}", mock.host);
    let error = pull(&pinned, &store, quick()).await.0.unwrap_err();
    assert!(error.to_string().contains("was asked for"), "{error}");
    nothing_left(&store);
    assert_eq!(pull(&pinned, &store, quick()).await.0.unwrap().digest().unwrap(), digest);
    assert_eq!(mock.asked(TAG), 1, "the tag is not asked again");
}
