//! Layers: what a draft becomes, and what an overlay of the result shows.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};
use strake_oci::Digest;
use strake_store::{Store, StoreError, mount_overlay_detached};

use crate::{MTIME, commit, is_root, layer, open, write};

/// The entries of a layer's tar: name -> (type, link, mode, PAX records).
fn entries(store: &Store, chain: &Digest) -> Vec<(String, u8, String)> {
    let layer = *store.layers(chain).unwrap().last().unwrap();
    let mut bytes = Vec::new();
    store.write_tar(&layer, &mut bytes).unwrap();
    assert_eq!(Digest::of(&bytes), layer.diff_id);
    assert_eq!(bytes.len() as u64, layer.size_bytes);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 1_700_000_000);
        let mut text = String::new();
        if entry.header().entry_type().is_file() {
            entry.read_to_string(&mut text).unwrap();
        } else if let Some(link) = entry.link_name_bytes() {
            text = String::from_utf8(link.into_owned()).unwrap();
        }
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), entry.header().entry_type().as_byte(), text)
    });
    read.collect()
}

#[test]
fn an_empty_layer_is_the_standard_one() {
    let (_dir, store) = open();
    let layer = commit(store.begin(None).unwrap());
    assert_eq!(layer.diff_id.to_string(), "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
    assert_eq!((layer.size_bytes, layer.chain_id), (1024, layer.diff_id));
}

#[test]
fn a_tar_is_sorted_linked_once_and_marks_deletions() {
    if !is_root() {
        return;
    }
    let (_dir, store) = open();
    let base = layer(&store, None, "old/file", "x");
    let draft = store.begin(Some(&base.chain_id)).unwrap();
    let up = &draft.upper;
    write(&up.join("z"), "last");
    write(&up.join("a/b"), "text");
    std::fs::hard_link(up.join("a/b"), up.join("a/also")).unwrap();
    symlink("../z", up.join("a/link")).unwrap();
    mknodat(CWD, up.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    std::fs::create_dir(up.join("old")).unwrap();
    lsetxattr(up.join("old"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    lsetxattr(up.join("old"), "trusted.overlay.origin", b"x", XattrFlags::empty()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(up.join("socket")).unwrap();
    let layer = commit(draft);
    let names: Vec<(String, u8, String)> = entries(&store, &layer.chain_id);
    let expected = [
        ("a/", b'5', ""),
        ("a/also", b'0', "text"),
        ("a/b", b'1', "a/also"),
        ("a/link", b'2', "../z"),
        (".wh.gone", b'0', ""),
        ("old/", b'5', ""),
        ("old/.wh..wh..opq", b'0', ""),
        ("z", b'0', "last"),
    ];
    let expected: Vec<(String, u8, String)> = expected.iter().map(|(name, kind, text)| ((*name).into(), *kind, (*text).into())).collect();
    assert_eq!(names, expected);
    let disk = std::fs::symlink_metadata(store.lowers(&layer.chain_id).unwrap()[0].join("a/link")).unwrap();
    assert_eq!((disk.mtime(), disk.mtime_nsec()), (1_700_000_000, 0));
}

#[test]
fn metadata_that_ustar_has_no_room_for_survive() {
    if !is_root() {
        return;
    }
    let (_dir, store) = open();
    let draft = store.begin(None).unwrap();
    let long = "d".repeat(60);
    let path = draft.upper.join(&long).join("f".repeat(70));
    write(&path, "long");
    std::os::unix::fs::chown(&path, Some(3_000_000), Some(7)).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o6751)).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    lsetxattr(&path, "security.capability", &capability, XattrFlags::empty()).unwrap();
    lsetxattr(&path, "user.note", b"\0=", XattrFlags::empty()).unwrap();
    symlink("t".repeat(200), draft.upper.join("link")).unwrap();
    let layer = commit(draft);
    let mut bytes = Vec::new();
    store.write_tar(&layer, &mut bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut seen = HashMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let pax = entry
            .pax_extensions()
            .unwrap()
            .map(|all| all.map(|one| one.unwrap()).map(|one| (one.key().unwrap().to_owned(), one.value_bytes().to_vec())).collect::<HashMap<_, _>>());
        seen.insert(
            String::from_utf8(entry.path_bytes().into_owned()).unwrap(),
            (entry.header().mode().unwrap(), entry.link_name_bytes().map(|link| link.len()), pax.unwrap_or_default()),
        );
    }
    let (mode, _, pax) = &seen[&format!("{long}/{}", "f".repeat(70))];
    assert_eq!(*mode, 0o6751);
    assert_eq!(pax["uid"], b"3000000");
    assert_eq!(pax["SCHILY.xattr.user.note"], b"\0=");
    assert_eq!(pax["SCHILY.xattr.security.capability"], capability);
    assert_eq!(seen["link"].1, Some(200));
}

#[test]
fn an_overlay_shows_the_layers_and_its_changes_become_the_next_one() {
    if !is_root() {
        return;
    }
    let (_dir, store) = open();
    let draft = store.begin(None).unwrap();
    write(&draft.upper.join("keep"), "1");
    write(&draft.upper.join("drop"), "1");
    write(&draft.upper.join("dir/inner"), "1");
    std::fs::set_permissions(&draft.upper, PermissionsExt::from_mode(0o750)).unwrap();
    let base = commit(draft);
    let draft = store.begin(Some(&base.chain_id)).unwrap();
    let mount = mount_overlay_detached(&draft.lowers, &draft.upper, &draft.work).unwrap();
    let at = |name: &str| format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&mount));
    assert_eq!(std::fs::metadata(at("")).unwrap().mode() & 0o7777, 0o750);
    std::fs::remove_file(at("drop")).unwrap();
    std::fs::write(at("new"), "2").unwrap();
    std::fs::remove_dir_all(at("dir")).unwrap();
    std::fs::create_dir(at("dir")).unwrap();
    std::fs::write(at("dir/other"), "2").unwrap();
    drop(mount);
    let top = commit(draft);
    let names: Vec<String> = entries(&store, &top.chain_id).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["dir/", "dir/.wh..wh..opq", "dir/other", ".wh.drop", "new"]);
    let working = store.working("view", Some(&top.chain_id)).unwrap();
    let view = mount_overlay_detached(&working.lowers, &working.upper, &working.work).unwrap();
    let at = |name: &str| format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&view));
    assert_eq!(list(Path::new(&at(""))), ["dir", "keep", "new"]);
    assert_eq!(list(Path::new(&at("dir"))), ["other"]);
}

pub(crate) fn list(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_same_files_give_the_same_layer_in_any_store() {
    let (_a, first) = open();
    let (_b, second) = open();
    let one = layer(&first, None, "x/y", "z");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(one, layer(&second, None, "x/y", "z"));
    assert_eq!(one, layer(&first, None, "x/y", "z"), "the one that is there is used");
    assert_eq!(crate::blobs::temporaries(&first), 0);
}

#[test]
fn a_dropped_draft_leaves_nothing_and_a_missing_parent_is_named() {
    let (_dir, store) = open();
    let draft = store.begin(None).unwrap();
    write(&draft.upper.join("f"), "x");
    drop(draft);
    assert_eq!(crate::blobs::temporaries(&store), 0);
    let absent = Digest::of(b"absent");
    assert!(matches!(store.begin(Some(&absent)), Err(StoreError::ChainMissing { chain }) if chain == absent));
}

#[test]
fn names_that_mean_deletion_are_refused_in_a_layer() {
    let (_dir, store) = open();
    let draft = store.begin(None).unwrap();
    write(&draft.upper.join("d/.wh.x"), "");
    let error = draft.commit(MTIME).unwrap_err();
    assert!(matches!(&error, StoreError::ReservedName { path } if path.file_name() == Some(OsStr::new(".wh.x"))), "{error}");
}

#[test]
fn cache_records_survive_everything_but_damage() {
    let (_dir, store) = open();
    let base = layer(&store, None, "a", "1");
    let top = layer(&store, Some(&base), "b", "2");
    let (key, other) = (Digest::of(b"key"), Digest::of(b"other"));
    assert_eq!(store.cached(&key), None);
    store.remember(&key, &top).unwrap();
    assert_eq!(store.cached(&key), Some(top));
    let record = store.root().join("cache/steps").join(key.hex());
    let good = std::fs::read(&record).unwrap();
    std::fs::copy(&record, store.root().join("cache/steps").join(other.hex())).unwrap();
    assert_eq!(store.cached(&other), None, "a record under another key is none");
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&record, &bad).unwrap();
        assert_eq!(store.cached(&key), None);
    }
    for length in 0..good.len() {
        std::fs::write(&record, &good[..length]).unwrap();
        assert_eq!(store.cached(&key), None);
    }
    std::fs::write(&record, &good).unwrap();
    assert_eq!(store.cached(&key), Some(top));
    std::fs::remove_dir_all(store.root().join("snapshots").join(top.chain_id.hex())).unwrap();
    assert_eq!(store.cached(&key), None);
    store.forget(&key).unwrap();
    store.forget(&key).unwrap();
}

#[test]
fn thirty_look_ups_are_timed() {
    let (_dir, store) = open();
    let base = layer(&store, None, "a", "1");
    let keys: Vec<Digest> = (0..30_u8).map(|number| Digest::of(&[number])).collect();
    keys.iter().for_each(|key| store.remember(key, &base).unwrap());
    let mut best = std::time::Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        assert!(keys.iter().all(|key| store.cached(key).is_some()));
        best = best.min(start.elapsed());
    }
    eprintln!("30 cache look-ups: {best:?}");
}

#[test]
fn a_containers_files_stay_until_removed() {
    let (_dir, store) = open();
    let base = layer(&store, None, "a", "1");
    let made = store.working("pod_a.b-1", Some(&base.chain_id)).unwrap();
    write(&made.upper.join("written"), "x");
    let again = Store::open(store.root()).unwrap().working("pod_a.b-1", Some(&base.chain_id)).unwrap();
    assert_eq!(made, again);
    assert!(again.upper.join("written").exists());
    assert_eq!(store.workings().unwrap(), ["pod_a.b-1"]);
    assert!(matches!(store.working("pod_a.b-1", None), Err(StoreError::OtherParent { .. })));
    for name in ["", "..", ".x", "a/b", "a\0b"] {
        assert!(matches!(store.working(name, None), Err(StoreError::Name { .. })), "{name:?}");
    }
    store.remove_working("pod_a.b-1").unwrap();
    store.remove_working("pod_a.b-1").unwrap();
    assert!(store.workings().unwrap().is_empty());
    assert_eq!(store.find_working("pod_a.b-1").unwrap(), None);
}

#[test]
fn devices_and_pipes_are_kept() {
    if !is_root() {
        return;
    }
    let (_dir, store) = open();
    let draft = store.begin(None).unwrap();
    mknodat(CWD, draft.upper.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), rustix::fs::makedev(1, 3)).unwrap();
    mknodat(CWD, draft.upper.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let layer = commit(draft);
    let kinds: Vec<(String, u8)> = entries(&store, &layer.chain_id).into_iter().map(|(name, kind, _)| (name, kind)).collect();
    assert_eq!(kinds, [("null".to_owned(), b'3'), ("pipe".to_owned(), b'6')]);
    assert!(std::fs::symlink_metadata(store.lowers(&layer.chain_id).unwrap()[0].join("pipe")).unwrap().file_type().is_fifo());
}
