//! Images: names, manifests, pruning.

use std::path::Path;
use std::time::Duration;

use strake_oci::Digest;
use strake_store::{PruneOptions, Store, StoreError};

use crate::faults::{child, child_root};
use crate::{config, layer, open};

const NAME: &str = "docker.io/library/app:1";

#[test]
fn an_image_of_snapshots_compresses_nothing() {
    let (_dir, store) = open();
    let base = layer(&store, None, "a", "one");
    let top = layer(&store, Some(&base), "b", "two");
    let image = store.put_image(&config(), &[base, top]).unwrap();
    assert_eq!(image.chain(), Some(top.chain_id));
    assert_eq!(store.blobs().unwrap().len(), 2, "configuration and manifest only");
    assert_eq!(image.manifest.layers()[1].media_type().to_string(), "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(store.resolve(NAME).unwrap(), None);
    store.tag(NAME, &image.descriptor).unwrap();
    assert_eq!(store.image(NAME).unwrap(), image);
    assert_eq!(store.image(&image.config_digest.to_string()).unwrap(), image);
    assert_eq!(store.image(&image.digest().unwrap().to_string()).unwrap(), image);
    let records = store.images().unwrap();
    assert_eq!((records[0].reference.as_str(), records[0].config_digest), (NAME, image.config_digest));
    assert_eq!(records[0].created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert!(store.verify().unwrap().is_empty());
    assert_eq!(store.unpack(&image).unwrap(), Some(top.chain_id));
}

#[test]
fn the_same_image_again_writes_nothing() {
    let (_dir, store) = open();
    let base = layer(&store, None, "a", "one");
    let image = store.put_image(&config(), &[base]).unwrap();
    store.tag(NAME, &image.descriptor).unwrap();
    let stamp = || std::fs::metadata(store.root().join("index.json")).unwrap().modified().unwrap();
    let before = stamp();
    std::thread::sleep(Duration::from_millis(20));
    let again = store.put_image(&config(), &[base]).unwrap();
    store.tag(NAME, &again.descriptor).unwrap();
    assert_eq!((again, stamp()), (image, before));
}

#[test]
fn names_move_and_go() {
    let (_dir, store) = open();
    let one = store.put_image(&config(), &[layer(&store, None, "a", "1")]).unwrap();
    let two = store.put_image(&config(), &[layer(&store, None, "a", "2")]).unwrap();
    store.tag(NAME, &one.descriptor).unwrap();
    store.tag("docker.io/library/app:2", &one.descriptor).unwrap();
    store.tag(NAME, &two.descriptor).unwrap();
    assert_eq!(store.resolve(NAME).unwrap().as_ref(), Some(&two.descriptor));
    assert_eq!(store.images().unwrap().len(), 2);
    assert!(store.untag(NAME).unwrap());
    assert!(!store.untag(NAME).unwrap());
    assert!(matches!(store.image(NAME), Err(StoreError::ImageMissing { .. })));
    let absent = Digest::of(b"absent");
    let nowhere = strake_store::descriptor(strake_oci::MediaType::ImageManifest, &absent, 6).unwrap();
    assert!(matches!(store.tag(NAME, &nowhere), Err(StoreError::BlobMissing { digest }) if digest == absent));
}

#[test]
fn prune_keeps_what_images_containers_and_the_fresh_cache_need() {
    let (_dir, store) = open();
    let base = layer(&store, None, "base", "x");
    let named = layer(&store, Some(&base), "named", "x");
    let cached = layer(&store, Some(&base), "cached", "x");
    let used = layer(&store, Some(&base), "used", "x");
    let loose = layer(&store, Some(&base), "loose", "x");
    let image = store.put_image(&config(), &[base, named]).unwrap();
    store.tag(NAME, &image.descriptor).unwrap();
    store.put_image(&config(), &[base, loose]).unwrap();
    let key = Digest::of(b"step");
    store.remember(&key, &cached).unwrap();
    store.working("pod-1", Some(&used.chain_id)).unwrap();
    store.put(b"loose blob").unwrap();
    let report = store.prune(PruneOptions::default()).unwrap();
    assert_eq!((report.snapshots, report.blobs, report.records), (1, 3, 0));
    assert!([base, named, cached, used].iter().all(|layer| store.has_chain(&layer.chain_id)));
    assert!(!store.has_chain(&loose.chain_id));
    assert_eq!(store.cached(&key), Some(cached));
    store.remove_working("pod-1").unwrap();
    assert!(store.remove_image(NAME).unwrap());
    let report = store.prune(PruneOptions { keep_cache: Duration::ZERO, ..PruneOptions::default() }).unwrap();
    assert_eq!((report.snapshots, report.blobs, report.records), (4, 2, 1));
    assert!(store.blobs().unwrap().is_empty());
    assert!(store.verify().unwrap().is_empty());
}

#[test]
fn prune_waits_for_nobody_and_disturbs_nobody() {
    let (_dir, store) = open();
    let draft = store.begin(None).unwrap();
    assert!(matches!(store.prune(PruneOptions::default()), Err(StoreError::Busy { .. })));
    drop(draft);
    let lease = store.lease().unwrap();
    assert!(matches!(store.clone().prune(PruneOptions::default()), Err(StoreError::Busy { .. })));
    drop(lease);
    store.prune(PruneOptions::default()).unwrap();
}

#[test]
fn an_index_that_is_also_a_manifest_is_refused() {
    let (_dir, store) = open();
    let image = store.put_image(&config(), &[]).unwrap();
    let bytes = store.read(&image.digest().unwrap(), 1 << 20).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    value["manifests"] = serde_json::json!([]);
    let blob = store.put(&serde_json::to_vec(&value).unwrap()).unwrap();
    let descriptor = strake_store::descriptor(strake_oci::MediaType::ImageManifest, &blob.digest, blob.size_bytes).unwrap();
    assert!(matches!(store.image_at(&descriptor), Err(StoreError::Invalid { .. })));
}

fn name_many(root: &Path) {
    let who = std::env::var("STRAKE_TEST_WHO").unwrap();
    let store = Store::open(root).unwrap();
    let image = store.put_image(&config(), &[]).unwrap();
    for number in 0..40 {
        store.tag(&format!("docker.io/library/{who}:{number}"), &image.descriptor).unwrap();
    }
}

#[test]
fn two_processes_naming_at_once_lose_nothing() {
    if let Some(root) = child_root() {
        return name_many(&root);
    }
    let (dir, store) = open();
    let root = dir.path().join("root");
    let start = |who: &str| child("images::two_processes_naming_at_once_lose_nothing", &root).env("STRAKE_TEST_WHO", who).spawn().unwrap();
    let mut children = [start("left"), start("right")];
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(store.images().unwrap().len(), 80);
}
