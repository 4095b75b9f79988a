//! Blobs: nothing is visible before it is verified.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use strake_oci::Digest;
use strake_store::{Store, StoreError};

use crate::open;

#[test]
fn a_blob_appears_whole_or_not_at_all() {
    let (_dir, store) = open();
    let digest = Digest::of(b"hello");
    let mut writer = store.writer().unwrap();
    writer.write_all(b"hel").unwrap();
    assert!(!store.has(&digest));
    writer.append(b"lo").unwrap();
    let blob = writer.commit(Some(&digest)).unwrap();
    assert_eq!((blob.digest, blob.size_bytes), (digest, 5));
    assert_eq!(store.size(&digest), Some(5));
    assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
    assert!(matches!(store.read(&digest, 4), Err(StoreError::TooLarge { size_bytes: 5, max_bytes: 4, .. })));
    let mut text = String::new();
    store.open_blob(&digest).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    store.remove(&digest).unwrap();
    store.remove(&digest).unwrap();
    assert!(matches!(store.open_blob(&digest), Err(StoreError::BlobMissing { .. })));
}

#[test]
fn a_wrong_digest_leaves_nothing() {
    let (_dir, store) = open();
    let mut writer = store.writer().unwrap();
    writer.append(b"not it").unwrap();
    let error = writer.commit(Some(&Digest::of(b"it"))).unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    let mut abandoned = store.writer().unwrap();
    abandoned.append(b"half").unwrap();
    drop(abandoned);
    assert!(store.blobs().unwrap().is_empty());
    assert_eq!(temporaries(&store), 0);
}

#[test]
fn a_blob_with_flipped_bits_is_not_served() {
    let (_dir, store) = open();
    let blob = store.put(b"precious").unwrap();
    std::fs::write(store.blob_path(&blob.digest), b"preciouS").unwrap();
    assert!(matches!(store.read(&blob.digest, 100), Err(StoreError::DigestMismatch { .. })));
    assert_eq!(store.verify().unwrap().len(), 1);
}

#[test]
fn temporaries_of_the_dead_go_and_those_of_the_living_stay() {
    let (dir, store) = open();
    let root = store.root().to_owned();
    let mut living = store.writer().unwrap();
    living.append(b"alive").unwrap();
    let dead = root.join("tmp/999999-0");
    crate::write(&dead.join("draft-0/fs/deep/file"), "left");
    std::fs::write(dead.join("alive"), "").unwrap();
    let second = Store::open(&dir.path().join("root")).unwrap();
    assert!(!dead.exists());
    assert_eq!(second.root(), root);
    let blob = living.commit(None).unwrap();
    assert!(second.has(&blob.digest));
    drop((store, second));
    let left: Vec<_> = std::fs::read_dir(root.join("tmp")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nobody_else_gets_in() {
    let (_dir, store) = open();
    crate::layer(&store, None, "f", "x");
    store.put(b"blob").unwrap();
    store.working("c", None).unwrap();
    let others = |path: &std::path::Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o066;
    assert_eq!(others(store.root()), 0);
    for entry in std::fs::read_dir(store.root()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
        } else {
            assert_eq!(others(&path), 0, "{}", path.display());
        }
    }
}

#[test]
fn a_newer_format_is_refused() {
    let (dir, store) = open();
    drop(store);
    std::fs::write(dir.path().join("root/version"), "2\n").unwrap();
    let error = Store::open(&dir.path().join("root")).unwrap_err();
    assert!(matches!(&error, StoreError::NewerFormat { found, known: 1, .. } if found == "2"), "{error}");
}

/// Files and directories in the temporary directories, their locks left out.
pub(crate) fn temporaries(store: &Store) -> usize {
    let sessions = std::fs::read_dir(store.root().join("tmp")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    sessions.flat_map(|session| std::fs::read_dir(session).unwrap()).filter(|entry| entry.as_ref().unwrap().file_name() != "alive").count()
}
