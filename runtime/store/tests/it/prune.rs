//! The account of a prune: bytes as the disk gives them back, the cap, and who needs what.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use strake_oci::Digest;
use strake_store::{CommitOptions, Compression, Destination, Layer, PruneOptions, Reason, Store, What};

use crate::faults::{child, child_root};
use crate::{config, open};

/// What `du` says of a directory: blocks, files with several names once.
fn disk_bytes(path: &Path, seen: &mut std::collections::HashSet<(u64, u64)>) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    if !metadata.is_dir() && !seen.insert((metadata.dev(), metadata.ino())) {
        return 0;
    }
    let below = metadata.is_dir().then(|| fs::read_dir(path).unwrap().map(|entry| disk_bytes(&entry.unwrap().path(), seen)).sum());
    metadata.blocks() * 512 + below.unwrap_or(0_u64)
}

fn on_disk(store: &Store) -> u64 {
    // Blocks may be promised and not given yet.
    rustix::fs::syncfs(fs::File::open(store.root()).unwrap()).unwrap();
    disk_bytes(store.root(), &mut Default::default())
}

/// A layer of one file with that many bytes, a hole, and a second name of the file.
fn layer(store: &Store, parent: Option<&Layer>, name: &str, size_bytes: usize) -> Layer {
    let draft = store.begin(parent.map(|layer| &layer.chain_id)).unwrap();
    fs::create_dir(draft.upper.join(format!("{name}.d"))).unwrap();
    let path = draft.upper.join(format!("{name}.d/file"));
    fs::write(&path, vec![7; size_bytes]).unwrap();
    fs::hard_link(&path, draft.upper.join(format!("{name}.d/link"))).unwrap();
    fs::File::create(draft.upper.join(format!("{name}.hole"))).unwrap().set_len(1 << 24).unwrap();
    draft.commit(CommitOptions { mtime: 0 }).unwrap()
}

/// Remembers a step whose last use lies back.
fn remember(store: &Store, name: &str, layer: &Layer, hours_ago: u64) {
    let key = Digest::of(name.as_bytes());
    store.remember(&key, layer).unwrap();
    let record = fs::File::open(store.root().join("cache/steps").join(key.hex())).unwrap();
    record.set_modified(SystemTime::now() - Duration::from_secs(hours_ago * 3600)).unwrap();
}

fn named(store: &Store, name: &str, layers: &[Layer]) {
    let image = store.put_image(&config(), layers).unwrap();
    store.tag(name, &image.descriptor).unwrap();
}

const MB: usize = 1 << 20;

#[test]
fn what_is_reported_is_what_the_disk_gives_back() {
    let (_dir, store) = open();
    let base = layer(&store, None, "base", 3 * MB);
    let (kept, gone) = (layer(&store, Some(&base), "kept", MB), layer(&store, Some(&base), "gone", 5 * MB + 17));
    named(&store, "docker.io/library/kept:1", &[base, kept]);
    named(&store, "docker.io/library/gone:1", &[base, gone]);
    store.pack(&gone, Compression::Zstd).unwrap();
    let packed = store.pack(&kept, Compression::Zstd).unwrap();
    remember(&store, "gone", &gone, 1000);
    store.untag("docker.io/library/gone:1").unwrap();
    let dry = store.prune(PruneOptions { dry_run: true, ..PruneOptions::default() }).unwrap();
    let before = on_disk(&store);
    let report = store.prune(PruneOptions::default()).unwrap();
    assert_eq!(before - on_disk(&store), report.size_bytes);
    assert_eq!((dry.size_bytes, dry.removed, dry.kept), (report.size_bytes, report.removed.clone(), report.kept.clone()), "a dry run says the same");
    // Manifest and configuration of the image, the packed layer; the note about that is no blob.
    assert_eq!((report.snapshots, report.records, report.blobs), (1, 1, 3));
    assert!(report.size_bytes > 5 * MB as u64 && report.size_bytes < 8 * MB as u64, "a hole takes no room, a second name neither");
    let of = |what: &What| report.kept.iter().find(|item| item.what == *what).unwrap();
    let image = Reason::Image { name: "docker.io/library/kept:1".to_owned(), in_use: false };
    assert_eq!(of(&What::Layer(base.chain_id)).reasons, [image]);
    assert_eq!(of(&What::Blob(strake_store::digest_of(&packed).unwrap())).reasons, [Reason::Packed]);
    assert!(store.verify().unwrap().is_empty());
}

/// The bytes that a manifest names cannot be made again from the unpacked files: they stay with the layer, are told as what they are, and go with it.
#[test]
fn what_a_layer_was_unpacked_from_stays_with_it_and_is_told() {
    let (dir, store) = open();
    let name = "docker.io/library/app:1";
    let base = layer(&store, None, "base", MB);
    named(&store, name, &[base]);
    let layout = Destination::Directory(dir.path().join("layout"));
    store.export_oci(name, &layout, Compression::Zstd).unwrap();
    let (_other, second) = open();
    second.import_archive(&dir.path().join("layout")).unwrap();
    let image = second.image(name).unwrap();
    let chain = second.unpack(&image).unwrap().unwrap();
    let original = strake_store::digest_of(&image.manifest.layers()[0]).unwrap();
    // A build that stands on it needs it as much: a layer's tar is made from it.
    remember(&second, "step", &second.layers(&chain).unwrap()[0], 0);
    for untag in [false, true] {
        if untag {
            second.untag(name).unwrap();
        }
        let report = second.prune(PruneOptions::default()).unwrap();
        let kept = report.kept.iter().find(|item| item.what == What::Blob(original)).unwrap();
        assert!(kept.reasons.contains(&Reason::Original) && kept.reasons.contains(&Reason::Cache), "{:?}", kept.reasons);
        let layer = report.kept.iter().find(|item| item.what == What::Layer(chain)).unwrap();
        assert!(!layer.reasons.contains(&Reason::Original), "{:?}", layer.reasons);
        assert_eq!(report.kept_bytes, report.kept.iter().map(|item| item.size_bytes).sum::<u64>(), "each byte once");
    }
    second.prune(PruneOptions { keep_cache: Duration::ZERO, ..PruneOptions::default() }).unwrap();
    assert!(!second.has(&original) && !second.has_chain(&chain));
    assert!(second.verify().unwrap().is_empty());
}

#[test]
fn the_cap_is_kept_and_the_least_recently_used_goes_first() {
    let (_dir, store) = open();
    let layers: Vec<Layer> = (0..6).map(|number| layer(&store, None, &format!("layer-{number}"), 2 * MB)).collect();
    for (hours, layer) in layers.iter().enumerate() {
        remember(&store, &format!("step-{hours}"), layer, hours as u64);
    }
    let total = store.prune(PruneOptions { dry_run: true, ..PruneOptions::default() }).unwrap().kept_bytes;
    let cap = total - 3 * MB as u64;
    let report = store.prune(PruneOptions { cap_bytes: Some(cap), ..PruneOptions::default() }).unwrap();
    assert!(report.kept_bytes <= cap, "{} > {cap}", report.kept_bytes);
    let here: Vec<bool> = layers.iter().map(|layer| store.has_chain(&layer.chain_id)).collect();
    assert_eq!(here, [true, true, true, true, false, false], "the two that were used longest ago, and no more");
    // A hit is a use.
    let renewed = Digest::of(b"step-3");
    assert!(store.cached(&renewed).is_some());
    let report = store.prune(PruneOptions { cap_bytes: Some(cap - 5 * MB as u64), ..PruneOptions::default() }).unwrap();
    assert!(store.cached(&renewed).is_some() && store.cached(&Digest::of(b"step-2")).is_none(), "{report:?}");
    // What is needed stays, and the account says for what.
    named(&store, "docker.io/library/app:1", &layers[..1]);
    let report = store.prune(PruneOptions { cap_bytes: Some(0), ..PruneOptions::default() }).unwrap();
    assert!(report.kept_bytes > 2 * MB as u64);
    assert!(report.kept.iter().all(|item| item.reasons == [Reason::Image { name: "docker.io/library/app:1".to_owned(), in_use: false }]), "{:?}", report.kept);
}

#[test]
fn images_that_nobody_uses_go_when_they_may() {
    let (_dir, store) = open();
    let (idle, used) = (layer(&store, None, "idle", MB), layer(&store, None, "used", MB));
    named(&store, "docker.io/library/idle:1", &[idle]);
    named(&store, "docker.io/library/used:1", &[used]);
    store.working("pod-1", Some(&used.chain_id)).unwrap();
    let young = PruneOptions { unused_images: true, keep_images: Duration::from_secs(3600), ..PruneOptions::default() };
    assert_eq!(store.prune(young).unwrap().untagged, [""; 0]);
    let before = on_disk(&store);
    let report = store.prune(PruneOptions { unused_images: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(report.untagged, ["docker.io/library/idle:1"]);
    assert_eq!(before - on_disk(&store), report.size_bytes);
    assert!(store.image("docker.io/library/used:1").is_ok() && !store.has_chain(&idle.chain_id));
    let layer = report.kept.iter().find(|item| item.what == What::Layer(used.chain_id)).unwrap();
    let image = Reason::Image { name: "docker.io/library/used:1".to_owned(), in_use: true };
    assert_eq!(layer.reasons, [Reason::Container { name: "pod-1".to_owned() }, image]);
}

#[test]
fn cache_mounts_and_context_records_are_part_of_the_cache() {
    let (_dir, store) = open();
    let place = |name: &str| store.root().join("cache").join(name);
    for dir in ["mounts/m", "mounts/half.new", "mount-ids", "stat", "remote/f"] {
        fs::create_dir_all(place(dir)).unwrap();
    }
    fs::write(place("mounts/m/file"), vec![1; MB]).unwrap();
    fs::write(place("mounts/half.new/file"), vec![1; MB]).unwrap();
    fs::write(place("mount-ids/m"), "go-build").unwrap();
    fs::write(place("stat/s"), vec![1; 5000]).unwrap();
    fs::write(place("remote/f/file"), vec![1; 5000]).unwrap();
    let report = store.prune(PruneOptions::default()).unwrap();
    assert_eq!(report.removed.iter().map(|item| item.what.name()).collect::<Vec<_>>(), ["half.new"], "a mount that never was finished");
    assert!(report.kept.iter().any(|item| item.reasons == [Reason::Mount { id: "go-build".to_owned() }] && item.size_bytes >= MB as u64));
    let before = on_disk(&store);
    let report = store.prune(PruneOptions { keep_cache: Duration::ZERO, ..PruneOptions::default() }).unwrap();
    assert_eq!(before - on_disk(&store), report.size_bytes);
    assert_eq!((report.kept_bytes, report.removed.len()), (0, 3));
    assert!(!place("mounts/m").exists() && !place("mount-ids/m").exists());
}

/// In a child: holds the store until its standard input ends.
fn hold(root: &Path) {
    let _lease = Store::open(root).unwrap().lease().unwrap();
    fs::write(root.join("held"), "").unwrap();
    let _ = std::io::stdin().lines().next();
}

#[test]
fn who_holds_the_store_is_known() {
    if let Some(root) = child_root() {
        return hold(&root);
    }
    let (dir, store) = open();
    let _lease = store.lease().unwrap();
    assert_eq!(store.holders(), [0; 0], "this process does not count");
    let root = dir.path().join("root");
    let mut other = child("prune::who_holds_the_store_is_known", &root).stdin(std::process::Stdio::piped()).spawn().unwrap();
    while !root.join("held").exists() {
        assert!(other.try_wait().unwrap().is_none(), "the other process runs until it is told");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(store.holders(), [other.id()]);
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
}
