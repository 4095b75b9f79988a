//! The store as a registry: by strake's own client, by skopeo, and request by request as the distribution specification has them.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use strake_oci::Digest;
use strake_registry::{HostSettings, PullOptions, PushOptions, Registries, RegistryError, Sent, ServeError, ServeOptions, listen, push};
use strake_store::{Compression, PruneOptions, Store};

use crate::wrong::{INDEX, MANIFEST};
use crate::{installed, open, pull, sample};

fn plain() -> ServeOptions {
    ServeOptions { listen: "127.0.0.1:0".parse().unwrap(), tls: None, htpasswd: None }
}

/// Serves a store until the test's runtime ends; gives host and port.
async fn served(store: &Store, options: &ServeOptions) -> String {
    let listening = listen(store, options).await.unwrap();
    let host = listening.address().unwrap().to_string();
    tokio::spawn(listening.serve());
    host
}

async fn ask(method: &str, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut request = Client::new().request(Method::from_bytes(method.as_bytes()).unwrap(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).send().await.unwrap()
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let value: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    (status, value["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
}

/// Uploads a blob in one request.
async fn upload(base: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let response = ask("POST", &format!("{base}/blobs/uploads/?digest={digest}"), &[], bytes.to_vec()).await;
    assert_eq!(response.status(), 201);
    digest
}

fn described(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_built_here_is_pulled_under_its_own_digest() {
    let (_dir, store) = open();
    let image = sample(&store, "docker.io/team/app:1");
    let host = served(&store, &plain()).await;
    let (_other, elsewhere) = open();
    let pulled = pull(&format!("{host}/team/app:1"), &elsewhere, PullOptions::default()).await.0.unwrap();
    assert_eq!(pulled.digest().unwrap(), image.digest().unwrap());
    assert_eq!(elsewhere.unpack(&pulled).unwrap(), image.chain());
    // A part of a layer that exists as files only, and of one that is a blob.
    let digest = image.manifest.layers()[0].digest().to_string();
    let url = format!("http://{host}/v2/team/app/blobs/{digest}");
    let whole = ask("GET", &url, &[], Vec::new()).await;
    assert_eq!((whole.status().as_u16(), header(&whole, "docker-content-digest")), (200, digest.clone()));
    let whole = whole.bytes().await.unwrap();
    let part = ask("GET", &url, &[("range", "bytes=1000000-1000999")], Vec::new()).await;
    assert_eq!((part.status().as_u16(), header(&part, "content-range")), (206, format!("bytes 1000000-1000999/{}", whole.len())));
    assert_eq!(part.bytes().await.unwrap(), whole[1_000_000..1_001_000]);
    let head = ask("HEAD", &url, &[], Vec::new()).await;
    assert_eq!(header(&head, "content-length"), whole.len().to_string());
    let outside = ask("GET", &url, &[("range", "bytes=99999999-")], Vec::new()).await;
    assert_eq!(code(outside).await, (416, "RANGE_INVALID".to_owned()));
    // Pushed back from there under another name: nothing goes twice, and the layers may lie in another order.
    let sent = std::sync::Mutex::new(Vec::new());
    let tell = |pushed: strake_registry::Pushed| sent.lock().unwrap().push(pushed.how);
    let back = push(&format!("{host}/team/app:1"), &format!("{host}/other/app:2"), &elsewhere, &tell, &PushOptions::default()).await.unwrap();
    assert_eq!(back, image.digest().unwrap());
    let sent = sent.into_inner().unwrap();
    assert_eq!(sent.iter().filter(|how| **how == Sent::Mounted).count(), 2, "{sent:?}");
    assert!(store.image("docker.io/other/app:2").is_ok() && store.verify().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copies_in_and_out() {
    if !installed("skopeo") {
        return;
    }
    let (dir, store) = open();
    let image = sample(&store, "docker.io/library/app:1");
    let host = served(&store, &plain()).await;
    let run = |arguments: Vec<String>| async move {
        let output = tokio::task::spawn_blocking(move || Command::new("skopeo").arg("--insecure-policy").args(arguments).output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let layout = dir.path().join("layout").display().to_string();
    run(words(format!("copy --preserve-digests --src-tls-verify=false docker://{host}/app:1 oci:{layout}:x"))).await;
    run(words(format!("copy --preserve-digests --dest-tls-verify=false oci:{layout}:x docker://{host}/deep/er/app:2"))).await;
    run(words(format!("copy --format v2s2 --dest-compress-format gzip --dest-compress --dest-tls-verify=false oci:{layout}:x docker://{host}/docker/app:3")))
        .await;
    assert!(run(words(format!("list-tags --tls-verify=false docker://{host}/deep/er/app"))).await.contains("\"2\""));
    run(words(format!("delete --tls-verify=false docker://{host}/deep/er/app:2"))).await;
    assert!(store.image("docker.io/deep/er/app:2").is_err());
    let docker = store.image("docker.io/docker/app:3").unwrap();
    assert_eq!(docker.config.rootfs.diff_ids, image.config.rootfs.diff_ids);
    assert_eq!(store.unpack(&docker).unwrap(), image.chain());
    assert!(store.verify().unwrap().is_empty());
}

#[tokio::test]
async fn uploads_come_in_pieces_in_their_order() {
    let (_dir, store) = open();
    let host = served(&store, &plain()).await;
    let base = format!("http://{host}/v2/a/b");
    let begun = ask("POST", &format!("{base}/blobs/uploads/"), &[], Vec::new()).await;
    assert_eq!((begun.status().as_u16(), header(&begun, "range")), (202, "0-0".to_owned()));
    let at = format!("http://{host}{}", header(&begun, "location"));
    let first = ask("PATCH", &at, &[("content-range", "0-3")], b"0123".to_vec()).await;
    assert_eq!((first.status().as_u16(), header(&first, "range")), (202, "0-3".to_owned()));
    let gap = ask("PATCH", &at, &[("content-range", "5-6")], b"56".to_vec()).await;
    assert_eq!(header(&gap, "range"), "0-3", "it says where to go on");
    assert_eq!(code(gap).await.0, 416);
    // The server of before is gone; the next one goes on.
    let host = served(&Store::open(store.root()).unwrap(), &plain()).await;
    let moved = at.replace(at.split('/').nth(2).unwrap(), &host);
    let busy = ask("GET", &moved, &[], Vec::new()).await;
    assert_eq!(code(busy).await.0, 409, "the first server holds it still");
    let status = ask("GET", &at, &[], Vec::new()).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-3".to_owned()));
    let digest = Digest::of(b"0123456789");
    assert_eq!(code(ask("PUT", &at, &[], Vec::new()).await).await, (400, "DIGEST_INVALID".to_owned()));
    let done = ask("PUT", &format!("{at}?digest={digest}"), &[("content-range", "4-9")], b"456789".to_vec()).await;
    assert_eq!((done.status().as_u16(), header(&done, "docker-content-digest")), (201, digest.to_string()));
    assert_eq!(code(ask("GET", &at, &[], Vec::new()).await).await, (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    assert_eq!(store.read(&digest, 100).unwrap(), b"0123456789");

    // Content that is not what was promised is never there.
    let wrong = Digest::of(b"promised");
    let lied = ask("POST", &format!("{base}/blobs/uploads/?digest={wrong}"), &[], b"given".to_vec()).await;
    assert_eq!(code(lied).await, (400, "DIGEST_INVALID".to_owned()));
    assert!(!store.has(&wrong) && !store.has(&Digest::of(b"given")));
    // One that is cancelled, and one that is given up.
    for cancel in [true, false] {
        let begun = ask("POST", &format!("{base}/blobs/uploads/"), &[], Vec::new()).await;
        let at = format!("http://{host}{}", header(&begun, "location"));
        let id = at.rsplit('/').next().unwrap().to_owned();
        if cancel {
            assert_eq!(ask("DELETE", &at, &[], Vec::new()).await.status(), 204);
        } else {
            let path = store.root().join(format!("ingest/upload-{id}"));
            std::fs::File::open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
            store.sweep_uploads().unwrap();
        }
        assert_eq!(code(ask("GET", &at, &[], Vec::new()).await).await.0, 404);
    }
    // A blob that no manifest names yet outlives a prune.
    store.prune(PruneOptions::default()).unwrap();
    assert!(store.has(&digest));
}

#[tokio::test]
async fn manifests_are_taken_when_everything_is_there_and_mean_one_thing() {
    let (_dir, store) = open();
    let host = served(&store, &plain()).await;
    let base = format!("http://{host}/v2/team/app");
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}"#.to_vec();
    let manifest = serde_json::to_vec(
        &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": described("application/vnd.oci.image.config.v1+json", &config), "layers": [] }),
    )
    .unwrap();
    let put = |word: String, kind: &'static str, bytes: Vec<u8>| {
        let base = base.clone();
        async move { ask("PUT", &format!("{base}/manifests/{word}"), &[("content-type", kind)], bytes).await }
    };
    assert_eq!(code(put("1".into(), MANIFEST, manifest.clone()).await).await, (400, "MANIFEST_BLOB_UNKNOWN".to_owned()));
    upload(&base, &config).await;
    let digest = Digest::of(&manifest);
    for (word, kind, bytes, wanted) in [
        ("1".to_owned(), INDEX, manifest.clone(), "MANIFEST_INVALID"),
        ("1".to_owned(), "application/json", manifest.clone(), "MANIFEST_INVALID"),
        ("1".to_owned(), MANIFEST, b"no".to_vec(), "MANIFEST_INVALID"),
        ("1".to_owned(), MANIFEST, json!({ "schemaVersion": 2, "layers": [], "manifests": [] }).to_string().into_bytes(), "MANIFEST_INVALID"),
        ("1".to_owned(), MANIFEST, vec![b' '; 9 << 20], "MANIFEST_INVALID"),
        (Digest::of(b"x").to_string(), MANIFEST, manifest.clone(), "DIGEST_INVALID"),
        (".x".to_owned(), MANIFEST, manifest.clone(), "TAG_INVALID"),
    ] {
        assert_eq!(code(put(word, kind, bytes).await).await.1, wanted);
    }
    let taken = put("1".into(), MANIFEST, manifest.clone()).await;
    assert_eq!((taken.status().as_u16(), header(&taken, "docker-content-digest")), (201, digest.to_string()));
    assert_eq!(store.image("docker.io/team/app:1").unwrap().digest().unwrap(), digest);

    // What is pushed by its digest stays; an index takes over what it lists.
    assert_eq!(put(digest.to_string(), MANIFEST, manifest.clone()).await.status(), 201);
    let second = [&manifest[..], b" "].concat();
    assert_eq!(put(Digest::of(&second).to_string(), MANIFEST, second.clone()).await.status(), 201);
    store.prune(PruneOptions::default()).unwrap();
    let mut child = described(MANIFEST, &second);
    child["platform"] = json!({ "os": "linux", "architecture": "arm64" });
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [child] })).unwrap();
    assert_eq!(put("all".into(), INDEX, index.clone()).await.status(), 201);
    let names: Vec<String> = store.names().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["docker.io/team/app:1", "docker.io/team/app:all"]);
    let got = ask("GET", &format!("{base}/manifests/{}", Digest::of(&second)), &[], Vec::new()).await;
    assert_eq!((got.status().as_u16(), header(&got, "content-type")), (200, MANIFEST.to_owned()));
    assert_eq!(got.bytes().await.unwrap(), second);

    // A tag that moves; its old digest is still to be had by who has just been told it, and gone when deleted.
    assert_eq!(put("1".into(), MANIFEST, [&manifest[..], b"\n"].concat()).await.status(), 201);
    let old = format!("{base}/manifests/{digest}");
    assert_eq!(ask("HEAD", &old, &[], Vec::new()).await.status(), 200);
    assert_eq!(ask("DELETE", &format!("{base}/manifests/1"), &[], Vec::new()).await.status(), 202);
    assert_eq!(code(ask("GET", &format!("{base}/manifests/1"), &[], Vec::new()).await).await, (404, "MANIFEST_UNKNOWN".to_owned()));
    assert_eq!(ask("DELETE", &format!("{base}/manifests/{}", Digest::of(&index)), &[], Vec::new()).await.status(), 202);
    assert_eq!(code(ask("GET", &format!("{base}/tags/list"), &[], Vec::new()).await).await, (404, "NAME_UNKNOWN".to_owned()));
    assert_eq!(code(ask("POST", &format!("{base}/manifests/1"), &[], Vec::new()).await).await, (405, "UNSUPPORTED".to_owned()));
}

#[tokio::test]
async fn a_deleted_blob_is_gone_from_that_repository_alone() {
    let (_dir, store) = open();
    let image = sample(&store, "docker.io/team/app:1");
    let host = served(&store, &plain()).await;
    let base = |repository: &str| format!("http://{host}/v2/{repository}");
    let delete = |at: String| async move { code(ask("DELETE", &at, &[], Vec::new()).await).await };
    // What an image of the repository needs stays: its configuration, layers that are files here, its manifest.
    let layer: Digest = image.manifest.layers()[0].digest().to_string().parse().unwrap();
    for needed in [image.config_digest, layer, image.digest().unwrap()] {
        assert_eq!(delete(format!("{}/blobs/{needed}", base("team/app"))).await, (405, "DENIED".to_owned()), "{needed}");
    }
    assert_eq!(delete(format!("{}/blobs/{}", base("team/app"), Digest::of(b"nobody has it"))).await, (404, "BLOB_UNKNOWN".to_owned()));
    // An uploaded blob is gone where it was deleted, also for a server that begins after that, and nowhere else.
    let blob = upload(&base("one"), b"shared").await;
    upload(&base("two"), b"shared").await;
    let at = |repository: &str| format!("{}/blobs/{blob}", base(repository));
    assert_eq!(ask("DELETE", &at("one"), &[], Vec::new()).await.status(), 202);
    let later = served(&Store::open(store.root()).unwrap(), &plain()).await;
    for there in [&host, &later] {
        assert_eq!(ask("HEAD", &format!("http://{there}/v2/one/blobs/{blob}"), &[], Vec::new()).await.status(), 404);
    }
    assert_eq!(delete(at("one")).await, (404, "BLOB_UNKNOWN".to_owned()));
    assert_eq!(ask("GET", &at("two"), &[], Vec::new()).await.bytes().await.unwrap(), b"shared"[..]);
    // A manifest that lists it must bring it again, by an upload or from another repository.
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x.thing",
        "config": described("application/vnd.oci.empty.v1+json", b"shared"), "layers": [described("text/plain", b"shared")],
    }))
    .unwrap();
    let name = format!("{}/manifests/1", base("one"));
    assert_eq!(code(ask("PUT", &name, &[("content-type", MANIFEST)], manifest.clone()).await).await, (400, "MANIFEST_BLOB_UNKNOWN".to_owned()));
    let mounted = ask("POST", &format!("{}/blobs/uploads/?mount={blob}&from=two", base("one")), &[], Vec::new()).await;
    assert_eq!(mounted.status(), 201);
    assert_eq!(ask("PUT", &name, &[("content-type", MANIFEST)], manifest.clone()).await.status(), 201);
    assert_eq!(delete(at("one")).await, (405, "DENIED".to_owned()));
    assert_eq!(ask("DELETE", &format!("{}/manifests/{}", base("one"), Digest::of(&manifest)), &[], Vec::new()).await.status(), 202);
    assert_eq!(ask("DELETE", &at("one"), &[], Vec::new()).await.status(), 202);
    // Notes go with the blobs that they are about.
    let notes = || std::fs::read_dir(store.root().join("unlinked")).unwrap().count();
    store.sweep_unlinked().unwrap();
    assert_eq!(notes(), 1);
    std::fs::remove_file(store.blob_path(&blob)).unwrap();
    store.sweep_unlinked().unwrap();
    assert_eq!(notes(), 0);
    assert!(store.verify().unwrap().is_empty());
}

#[tokio::test]
async fn a_part_of_an_index_is_not_deleted_alone() {
    let (_dir, store) = open();
    let image = sample(&store, "docker.io/library/part:1");
    let child = strake_store::for_platform(&image.descriptor, &image.config);
    let index = store.put_index(&[child], &std::collections::BTreeMap::new()).unwrap();
    store.tag("docker.io/team/all:1", &index).unwrap();
    let host = served(&store, &plain()).await;
    let base = format!("http://{host}/v2/team/all/manifests");
    let part = format!("{base}/{}", image.digest().unwrap());
    assert_eq!(code(ask("DELETE", &part, &[], Vec::new()).await).await, (405, "DENIED".to_owned()));
    assert_eq!(ask("GET", &part, &[], Vec::new()).await.status(), 200);
    assert_eq!(ask("DELETE", &format!("{base}/{}", index.digest()), &[], Vec::new()).await.status(), 202);
    assert_eq!(code(ask("DELETE", &part, &[], Vec::new()).await).await.0, 404);
    assert!(store.image("docker.io/library/part:1").is_ok(), "another repository keeps it");
}

#[tokio::test]
async fn lists_come_in_pages_and_artifacts_with_what_they_are_about() {
    let (_dir, store) = open();
    let image = sample(&store, "docker.io/library/app:a");
    for name in ["docker.io/library/app:b", "docker.io/library/app:c", "ghcr.io/x/y:1", "localhost:5000/not/served:1"] {
        store.tag(name, &image.descriptor).unwrap();
    }
    let host = served(&store, &plain()).await;
    let base = format!("http://{host}/v2/app");
    let get = |path: String| async move {
        let response = ask("GET", &path, &[], Vec::new()).await;
        let link = header(&response, "link");
        (serde_json::from_slice::<Value>(&response.bytes().await.unwrap()).unwrap(), link)
    };
    assert_eq!(get(format!("http://{host}/v2/_catalog")).await.0["repositories"], json!(["app", "ghcr.io/x/y"]));
    let (page, link) = get(format!("{base}/tags/list?n=2")).await;
    assert_eq!((&page["tags"], link.as_str()), (&json!(["a", "b"]), "</v2/app/tags/list?n=2&last=b>; rel=\"next\""));
    let (page, link) = get(format!("{base}/tags/list?n=2&last=b")).await;
    assert_eq!((&page["tags"], link.as_str()), (&json!(["c"]), ""));
    assert_eq!(get(format!("http://{host}/v2/library/app/tags/list?n=0")).await.0["tags"], json!([]));
    let all = strake_registry::tags(&format!("{host}/app:whatever"), &store, &PullOptions::default()).await.unwrap();
    assert_eq!(all, ["a", "b", "c"], "a list, whatever tag the reference has");
    assert_eq!(code(ask("GET", &format!("{base}/tags/list?n=x"), &[], Vec::new()).await).await.0, 400);
    assert_eq!(ask("GET", &format!("http://{host}/v2/ghcr.io/x/y/manifests/1"), &[], Vec::new()).await.status(), 200);

    let about = image.digest().unwrap();
    let (empty, text) = (b"{}".to_vec(), b"signed".to_vec());
    upload(&base, &empty).await;
    upload(&base, &text).await;
    let artifact = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x.signature", "annotations": { "who": "me" },
        "config": described("application/vnd.oci.empty.v1+json", &empty), "layers": [described("text/plain", &text)],
        "subject": { "mediaType": MANIFEST, "digest": about.to_string(), "size": 1 },
    }))
    .unwrap();
    let put = ask("PUT", &format!("{base}/manifests/{}", Digest::of(&artifact)), &[("content-type", MANIFEST)], artifact.clone()).await;
    assert_eq!((put.status().as_u16(), header(&put, "oci-subject")), (201, about.to_string()));
    let (found, _) = get(format!("{base}/referrers/{about}")).await;
    assert_eq!(found["manifests"][0]["digest"], Digest::of(&artifact).to_string().as_str());
    assert_eq!((&found["manifests"][0]["artifactType"], &found["manifests"][0]["annotations"]["who"]), (&json!("application/x.signature"), &json!("me")));
    assert_eq!(get(format!("{base}/referrers/{about}?artifactType=other")).await.0["manifests"], json!([]));
    assert_eq!(get(format!("{base}/referrers/{}", Digest::of(b"none"))).await.0["manifests"], json!([]));
    // An artifact is no image, and nothing is wrong with it; a prune keeps what it lists.
    assert!(store.verify().unwrap().is_empty());
    store.prune(PruneOptions::default()).unwrap();
    assert_eq!(store.read(&Digest::of(&text), 100).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_goes_with_all_that_it_lists() {
    let (_dir, store) = open();
    let image = sample(&store, "docker.io/library/app:1");
    let mut children = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let mut config = image.config.clone();
        config.architecture = architecture.to_owned();
        let one = store.put_image(&config, &store.layers(&image.chain().unwrap()).unwrap()).unwrap();
        children.push(strake_store::for_platform(&one.descriptor, &one.config));
    }
    let index = store.put_index(&children, &std::collections::BTreeMap::new()).unwrap();
    store.tag("docker.io/library/app:all", &index).unwrap();
    let (_there, registry) = open();
    let host = served(&registry, &plain()).await;
    let reference = format!("{host}/app:all");
    for compression in [Some(Compression::None), None] {
        push("docker.io/library/app:all", &reference, &store, &|_| {}, &PushOptions { compression: compression.map(Into::into), ..PushOptions::default() })
            .await
            .unwrap();
    }
    let top = registry.index("docker.io/library/app:all").unwrap().unwrap();
    assert_eq!(top.children.len(), 2);
    // One platform, another, or all under the index's own digest.
    for platform in ["linux/amd64", "linux/arm64"] {
        let (_here, other) = open();
        let pulled = strake_registry::pull(&reference, &platform.parse().unwrap(), &other, &|_| {}).await.unwrap();
        assert_eq!(pulled.config.platform().to_string(), platform);
        other.unpack(&pulled).unwrap();
    }
    let (_here, other) = open();
    pull(&reference, &other, PullOptions { all_platforms: true, ..PullOptions::default() }).await.0.unwrap();
    assert_eq!(other.named(&reference).unwrap().digest(), top.descriptor.digest());
    assert_eq!(strake_registry::resolve(&reference, &other, &PullOptions::default()).await.unwrap().to_string(), top.descriptor.digest().to_string());
    assert!(other.verify().unwrap().is_empty() && registry.verify().unwrap().is_empty());
    assert_eq!(
        push(&reference, &format!("{host}/copy:all"), &other, &|_| {}, &PushOptions::default()).await.unwrap().to_string(),
        top.descriptor.digest().to_string()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_at_the_same_time_do_not_disturb_each_other() {
    let (_dir, registry) = open();
    let host = served(&registry, &plain()).await;
    let (_one, store) = open();
    let image = sample(&store, "docker.io/library/app:1");
    let names: Vec<String> = (0..6).map(|number| format!("{host}/team/app:{number}")).collect();
    let options = PushOptions::default();
    let pushing = names.iter().map(|name| push("docker.io/library/app:1", name, &store, &|_| {}, &options));
    let pushed = futures::future::join_all(pushing).await;
    let digests: std::collections::BTreeSet<Digest> = pushed.into_iter().map(|digest| digest.unwrap()).collect();
    assert_eq!(digests.len(), 1);
    assert_eq!(registry.names().unwrap().len(), 6);
    let stored = registry.image("docker.io/team/app:3").unwrap();
    assert_eq!(registry.unpack(&stored).unwrap(), image.chain());
    assert!(registry.verify().unwrap().is_empty());
    let left = std::fs::read_dir(registry.root().join("ingest")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
    assert_eq!(left, 0, "no upload is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_image_is_pushed_again_without_reading_a_layer() {
    let (_dir, registry) = open();
    let host = served(&registry, &plain()).await;
    let (_one, store) = open();
    let image = sample(&store, "docker.io/library/app:1");
    let reference = format!("{host}/app:1");
    let digest = push("docker.io/library/app:1", &reference, &store, &|_| {}, &PushOptions::default()).await.unwrap();
    // Were anything read or compressed, it would be found to be damaged, or the digest would be another.
    for layer in store.layers(&image.chain().unwrap()).unwrap() {
        let packed = store.pack(&layer, Compression::Gzip).unwrap();
        let path = store.blob_path(&strake_store::digest_of(&packed).unwrap());
        std::fs::write(&path, vec![0; usize::try_from(packed.size()).unwrap()]).unwrap();
        std::fs::remove_dir_all(store.root().join("snapshots").join(layer.chain_id.hex()).join("fs")).unwrap();
    }
    let sent = std::sync::Mutex::new(Vec::new());
    let tell = |pushed: strake_registry::Pushed| sent.lock().unwrap().push(pushed.how);
    assert_eq!(push("docker.io/library/app:1", &reference, &store, &tell, &PushOptions::default()).await.unwrap(), digest);
    assert_eq!(sent.into_inner().unwrap(), [Sent::Present; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_logins_are_asked_for() {
    let (dir, store) = open();
    sample(&store, "docker.io/library/app:1");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = (file("tls.crt", &made.cert.pem()), file("tls.key", &made.signing_key.serialize_pem()));
    let users = file("users", &format!("# who may\n\nme:{}\n", bcrypt::hash("secret", 4).unwrap()));
    let host = served(&store, &ServeOptions { tls: Some((certificate.clone(), key)), htpasswd: Some(users), ..plain() }).await;
    let login = |text: &str| {
        use base64::Engine;
        let home = dir.path().join(text.replace(':', "-"));
        std::fs::create_dir_all(&home).unwrap();
        let auth = base64::engine::general_purpose::STANDARD.encode(text);
        std::fs::write(home.join("config.json"), json!({ "auths": { &host: { "auth": auth } } }).to_string()).unwrap();
        home
    };
    let options = |settings: HostSettings, user: &str| {
        let mut registries = Registries::default();
        registries.set(host.clone(), settings);
        PullOptions { registries: Some(Arc::new(registries)), docker_config: Some(login(user)), attempts: 1, ..PullOptions::default() }
    };
    let trusted = HostSettings { ca: Some(certificate), ..HostSettings::default() };
    let careless = HostSettings { skip_verify: true, ..HostSettings::default() };
    let name = format!("{host}/app:1");
    let (_other, elsewhere) = open();
    for settings in [trusted.clone(), careless] {
        pull(&name, &elsewhere, options(settings, "me:secret")).await.0.unwrap();
    }
    let stranger = file("other.crt", &rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap().cert.pem());
    let error = pull(&name, &elsewhere, options(HostSettings { ca: Some(stranger), ..HostSettings::default() }, "me:secret")).await.0.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");
    for user in ["me:wrong", "you:secret", "me:"] {
        let error = pull(&name, &elsewhere, options(trusted.clone(), user)).await.0.unwrap_err();
        assert!(matches!(error, RegistryError::Unauthorized { .. }), "{user}: {error:?}");
    }
    for (text, told) in [("me\n", ":1: expected USER:HASH"), ("me:secret\n", "bcrypt"), ("# nobody\n", "names no user"), (":$2y$05$x\n", "name is missing")] {
        let wrong = ServeOptions { htpasswd: Some(file("wrong", text)), ..plain() };
        let Err(error) = listen(&store, &wrong).await else { panic!("{text} was taken") };
        assert!(error.to_string().contains(told), "{text}: {error}");
    }
    let nothing = dir.path().join("none");
    let Err(error) = listen(&store, &ServeOptions { tls: Some((nothing.clone(), nothing)), ..plain() }).await else { panic!("no certificate") };
    assert!(matches!(error, ServeError::Certificate { .. }), "{error}");
    let taken: std::net::SocketAddr = host.parse().unwrap();
    assert!(matches!(listen(&store, &ServeOptions { listen: taken, ..plain() }).await, Err(ServeError::Listen { .. })));
}
