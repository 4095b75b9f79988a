//! Full disks, killed processes, restarts, flipped bits, and several at once.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use strake_oci::Digest;
use strake_store::{Compression, Destination, ExtractOptions, Layer, Problem, Store, StoreError, digest_of, extract};

use crate::exchange::sample;
use crate::{MTIME, commit, config, is_root, layer, open, write};

/// Runs a test again in a process of its own, which finds that it is the child and does the child's part.
pub(super) fn child(test: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("STRAKE_TEST_ROOT", root).stdout(Stdio::null());
    command
}

/// Where the child works; nothing in the parent.
pub(super) fn child_root() -> Option<PathBuf> {
    std::env::var_os("STRAKE_TEST_ROOT").map(PathBuf::from)
}

#[test]
fn a_full_disk_is_a_clean_error() {
    if let Some(root) = child_root() {
        return on_a_small_disk(&root);
    }
    if !is_root() || !crate::installed("unshare") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inner = child("faults::a_full_disk_is_a_clean_error", dir.path());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", "mount -t tmpfs -o size=12m,mode=755 tmpfs \"$STRAKE_TEST_ROOT\"; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args()).env("STRAKE_TEST_ROOT", dir.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the child ran its part");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "the mount was private");
}

fn free(root: &Path) -> u64 {
    let stat = rustix::fs::statvfs(root).unwrap();
    stat.f_bavail * stat.f_frsize
}

fn on_a_small_disk(root: &Path) {
    let store = Store::open(&root.join("root")).unwrap();
    let base = layer(&store, None, "small", "x");
    let before = free(root);
    let full = |error: StoreError| assert!(error.is_disk_full() && matches!(error, StoreError::DiskFull { .. }), "{error:?}");

    let mut writer = store.writer().unwrap();
    let error = std::iter::repeat_with(|| writer.append(&[7; 1 << 20])).find_map(Result::err).unwrap();
    drop(writer);
    full(error);
    assert_eq!(free(root), before, "the blob is gone");

    let mut archive = Vec::new();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_path("large").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(20 << 20);
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
    archive.resize(512 + (20 << 20) + 1024, 0);
    let draft = store.begin(None).unwrap();
    let upper = std::fs::File::open(&draft.upper).unwrap();
    let error = extract(archive.as_slice(), upper.as_fd(), &ExtractOptions::default()).unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    drop((draft, upper));
    assert_eq!(free(root), before, "the draft is gone");

    let source = tempfile::NamedTempFile::new_in("/dev/shm").or_else(|_| tempfile::NamedTempFile::new()).unwrap();
    std::fs::write(source.path(), &archive).unwrap();
    full(store.import_rootfs(source.path(), "docker.io/library/x:1", &config(), MTIME).unwrap_err());
    assert_eq!(free(root), before);

    let draft = store.begin(None).unwrap();
    let noise: Vec<u8> = (0..7 << 18).flat_map(|number: u32| number.wrapping_mul(2_654_435_761).rotate_left(13).to_le_bytes()).collect();
    std::fs::write(draft.upper.join("noise"), &noise).unwrap();
    let large = commit(draft);
    let before = free(root);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        full(store.pack(&large, compression).unwrap_err());
        assert_eq!(free(root), before, "{compression:?}");
    }

    let image = store.put_image(&config(), &[base]).unwrap();
    std::fs::write(root.join("ballast"), vec![1; free(root) as usize]).unwrap();
    full(store.tag("docker.io/library/x:1", &image.descriptor).unwrap_err());
    full(store.put(&[9; 9000]).unwrap_err());
    full(store.remember(&Digest::of(b"k"), &base).unwrap_err());
    assert!(store.images().unwrap().is_empty());
    store.remove(&image.config_digest).unwrap();
    std::fs::remove_file(root.join("ballast")).unwrap();
    let image = store.put_image(&config(), &[base]).unwrap();
    store.tag("docker.io/library/x:1", &image.descriptor).unwrap();
    assert!(store.verify().unwrap().is_empty());
}

/// Builds images for ever, until killed.
fn build_until_killed(root: &Path) {
    let store = Store::open(root).unwrap();
    for number in 0_u64.. {
        let base = layer(&store, None, "base", &format!("{}", number % 7));
        let draft = store.begin(Some(&base.chain_id)).unwrap();
        (0..20).for_each(|file| write(&draft.upper.join(format!("dir/{file}")), &format!("{number} {file}")));
        let top = commit(draft);
        store.remember(&Digest::of(&number.to_le_bytes()), &top).unwrap();
        let image = store.put_image(&config(), &[base, top]).unwrap();
        store.tag(&format!("docker.io/library/app:{}", number % 5), &image.descriptor).unwrap();
        store.pack(&top, Compression::Gzip).unwrap();
        store.working(&format!("c-{number}"), Some(&top.chain_id)).unwrap();
        store.remove_working(&format!("c-{number}")).unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_sound_store() {
    if let Some(root) = child_root() {
        return build_until_killed(&root);
    }
    let (_dir, store) = open();
    let root = store.root().to_owned();
    for round in 0..12_u64 {
        let mut running: Vec<Child> =
            (0..2).map(|_| child("faults::a_kill_at_any_moment_leaves_a_sound_store", &root).process_group(0).spawn().unwrap()).collect();
        std::thread::sleep(Duration::from_millis(90 + round * 37));
        for victim in &mut running {
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
        let again = Store::open(&root).unwrap();
        let problems = again.verify().unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(crate::blobs::temporaries(&again), 0);
        for record in again.images().unwrap() {
            again.unpack(&again.image(&record.reference).unwrap()).unwrap();
        }
    }
    let mut last = child("faults::a_kill_at_any_moment_leaves_a_sound_store", &root).process_group(0).spawn().unwrap();
    while store.images().unwrap().is_empty() {
        assert!(last.try_wait().unwrap().is_none(), "the children get somewhere");
        std::thread::sleep(Duration::from_millis(20));
    }
    last.kill().unwrap();
    last.wait().unwrap();
}

/// Makes it look as if the machine was restarted since.
fn restart(store: &Store, chains: &[Layer]) {
    std::fs::write(store.root().join("cache/boot"), "an earlier run").unwrap();
    for layer in chains {
        let path = store.root().join("snapshots").join(layer.chain_id.hex()).join("meta.json");
        let mut meta: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        meta["boot"] = "an earlier run".into();
        std::fs::write(&path, serde_json::to_vec(&meta).unwrap()).unwrap();
    }
}

#[test]
fn after_a_restart_only_what_was_synced_is_believed() {
    let (_dir, store) = open();
    let base = layer(&store, None, "base", "x");
    let kept = layer(&store, Some(&base), "kept", "x");
    let loose = layer(&store, Some(&base), "loose", "x");
    let above = layer(&store, Some(&loose), "above", "x");
    let image = store.put_image(&config(), &[base, kept]).unwrap();
    store.tag("docker.io/library/app:1", &image.descriptor).unwrap();
    restart(&store, &[base, kept, loose]);
    let again = Store::open(store.root()).unwrap();
    assert!(again.has_chain(&base.chain_id) && again.has_chain(&kept.chain_id));
    assert!(!again.has_chain(&loose.chain_id) && !again.has_chain(&above.chain_id), "nor what stands on it");
    assert!(again.verify().unwrap().is_empty());
    let fresh = layer(&again, Some(&base), "fresh", "x");
    assert!(Store::open(store.root()).unwrap().has_chain(&fresh.chain_id), "in the same run everything is believed");
}

#[test]
fn an_unpacked_image_comes_back_after_a_restart() {
    let (dir, store) = open();
    sample(&store);
    store.export_oci("docker.io/library/app:1", &Destination::Directory(dir.path().join("layout")), Compression::Gzip).unwrap();
    let (_other, second) = open();
    second.import_archive(&dir.path().join("layout")).unwrap();
    let image = second.image("docker.io/library/app:1").unwrap();
    let chain = second.unpack(&image).unwrap().unwrap();
    restart(&second, &second.layers(&chain).unwrap());
    let again = Store::open(second.root()).unwrap();
    assert!(!again.has_chain(&chain));
    assert_eq!(again.unpack(&image).unwrap(), Some(chain));
}

#[test]
fn every_flipped_bit_is_found() {
    let (dir, store) = open();
    let image = sample(&store);
    store.export_oci("docker.io/library/app:1", &Destination::Directory(dir.path().join("layout")), Compression::Gzip).unwrap();
    let (_other, second) = open();
    second.import_archive(&dir.path().join("layout")).unwrap();
    second.unpack(&second.image("docker.io/library/app:1").unwrap()).unwrap();
    for store in [&store, &second] {
        assert!(store.verify().unwrap().is_empty());
        let mut victims: Vec<PathBuf> = store.blobs().unwrap().iter().map(|blob| store.blob_path(&blob.digest)).collect();
        let lowers = store.lowers(&image.chain().unwrap()).unwrap();
        victims.extend([lowers[0].join("bin/app"), lowers[1].join("etc/base")]);
        for victim in victims {
            let good = std::fs::read(&victim).unwrap();
            for bit in (0..good.len() * 8).step_by(61) {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&victim, &bad).unwrap();
                // As a failing disk would: the time does not change.
                let found = store.verify().unwrap();
                assert!(!found.is_empty(), "bit {bit} of {}", victim.display());
            }
            std::fs::write(&victim, &good).unwrap();
        }
        assert!(store.verify().unwrap().iter().all(|problem| !matches!(problem, Problem::Blob { .. })));
    }
}

#[test]
fn a_changed_snapshot_is_never_packed_as_if_it_were_whole() {
    let (_dir, store) = open();
    let base = layer(&store, None, "f", "right");
    let path = store.lowers(&base.chain_id).unwrap()[0].join("f");
    std::fs::write(path, "wrong").unwrap();
    assert!(matches!(store.pack(&base, Compression::Gzip), Err(StoreError::SnapshotCorrupt { .. })));
    assert!(store.blobs().unwrap().is_empty());
}

#[test]
fn a_corrupt_blob_is_named_as_such() {
    let (dir, store) = open();
    sample(&store);
    store.export_oci("docker.io/library/app:1", &Destination::Directory(dir.path().join("layout")), Compression::Gzip).unwrap();
    let (_other, second) = open();
    second.import_archive(&dir.path().join("layout")).unwrap();
    let image = second.image("docker.io/library/app:1").unwrap();
    let victim = digest_of(&image.manifest.layers()[1]).unwrap();
    let mut bytes = std::fs::read(second.blob_path(&victim)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(second.blob_path(&victim), bytes).unwrap();
    let error = second.unpack(&image).unwrap_err();
    assert!(matches!(&error, StoreError::DigestMismatch { expected, .. } if *expected == victim), "{error}");
    second.remove(&victim).unwrap();
    assert!(matches!(second.unpack(&image), Err(StoreError::BlobMissing { digest }) if digest == victim));
    assert!(second.verify().unwrap().iter().any(|problem| matches!(problem, Problem::Image { .. })));
    second.import_archive(&dir.path().join("layout")).unwrap();
    second.unpack(&image).unwrap();
}

#[test]
fn many_threads_make_the_same_layer_once() {
    let (_dir, store) = open();
    let made: Vec<Layer> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..10).map(|_| layer(&store, None, "same", "content")).next_back().unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|layer| *layer == made[0]));
    assert!(store.verify().unwrap().is_empty());
    assert_eq!(crate::blobs::temporaries(&store), 0);
}
