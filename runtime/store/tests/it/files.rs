//! An image's files as one tar, and in a directory.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use strake_oci::ImageConfig;
use strake_store::{CommitOptions, Store, StoreError};

/// Two layers: the second deletes a file of the first, changes one and links one.
fn sample(store: &Store) -> &'static str {
    let first = store.begin(None).unwrap();
    std::fs::create_dir(first.upper.join("etc")).unwrap();
    for (name, text) in [("etc/kept", "kept"), ("etc/gone", "gone"), ("etc/changed", "old")] {
        std::fs::write(first.upper.join(name), text).unwrap();
    }
    let first = first.commit(CommitOptions { mtime: 0 }).unwrap();
    let second = store.begin(Some(&first.chain_id)).unwrap();
    std::fs::create_dir(second.upper.join("etc")).unwrap();
    std::fs::write(second.upper.join("etc/changed"), "new").unwrap();
    std::fs::hard_link(second.upper.join("etc/changed"), second.upper.join("etc/same")).unwrap();
    std::os::unix::fs::chown(second.upper.join("etc/changed"), Some(7), Some(8)).unwrap();
    let gone = std::ffi::CString::new(second.upper.join("etc/gone").as_os_str().as_encoded_bytes()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &gone, rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty(), 0).unwrap();
    let second = second.commit(CommitOptions { mtime: 0 }).unwrap();
    let image = store.put_image(&ImageConfig::default(), &[first, second]).unwrap();
    store.tag("docker.io/library/app:1", &image.descriptor).unwrap();
    "docker.io/library/app:1"
}

#[test]
fn all_layers_become_one_tar() {
    if !crate::is_root() {
        return;
    }
    let (dir, store) = crate::open();
    let name = sample(&store);
    let mut tar = Vec::new();
    store.write_files(name, 1_700_000_000, &mut tar).unwrap();
    let mut again = Vec::new();
    store.write_files(name, 1_700_000_000, &mut again).unwrap();
    assert!(tar == again, "the same bytes every time");
    let path = dir.path().join("files.tar");
    std::fs::write(&path, &tar).unwrap();
    let listed = Command::new("tar").args(["--numeric-owner", "--utc", "-tvf"]).arg(&path).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.contains("7/8") && listed.contains("2023-11-14") && !listed.contains("gone"), "{listed}");
}

#[test]
fn files_go_into_a_directory_and_never_through_a_link() {
    if !crate::is_root() {
        return;
    }
    let (dir, store) = crate::open();
    let name = sample(&store);
    let dest = dir.path().join("out/deep");
    store.export_files(name, &dest, 5, Some((0, 0))).unwrap();
    let read = |name: &str| std::fs::read_to_string(dest.join(name)).unwrap();
    assert_eq!((read("etc/kept"), read("etc/changed"), read("etc/same")), ("kept".into(), "new".into(), "new".into()));
    let metadata = std::fs::metadata(dest.join("etc/changed")).unwrap();
    assert_eq!((metadata.uid(), metadata.mtime(), metadata.nlink()), (0, 5, 2));
    assert!(!dest.join("etc/gone").exists());
    // What is there stays, unless it has the same name.
    std::fs::write(dest.join("other"), "mine").unwrap();
    store.export_files(name, &dest, 5, None).unwrap();
    assert_eq!(read("other"), "mine");
    assert_eq!(std::fs::metadata(dest.join("etc/changed")).unwrap().uid(), 7);
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::remove_dir_all(dest.join("etc")).unwrap();
    std::os::unix::fs::symlink(&outside, dest.join("etc")).unwrap();
    let outcome = store.export_files(name, &dest, 5, None);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{outcome:?}");
    let missing = store.write_files("docker.io/library/none:1", 0, &mut std::io::sink());
    assert!(matches!(missing, Err(StoreError::ImageMissing { .. })));
}
