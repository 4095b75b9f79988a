//! Packing and unpacking are each other's opposite, for any tree.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};
use strake_store::{Compression, ExtractOptions, Limits, Packing, PruneOptions, Store, decompress, extract};

use crate::{MTIME, commit, is_root, open};

/// One thing in a tree.
#[derive(Clone, Debug)]
enum Thing {
    File { size: usize, mode: u32, owner: u32, note: Option<Vec<u8>> },
    Directory { mode: u32, opaque: bool },
    Symlink { target: String },
    HardLink,
    Whiteout,
    Fifo,
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        4 => (0_usize..3000, 0_u32..0o10000, prop_oneof![0_u32..3, 2_000_000_u32..4_000_000], proptest::option::of(proptest::collection::vec(any::<u8>(), 1..20)))
            .prop_map(|(size, mode, owner, note)| Thing::File { size, mode, owner, note }),
        2 => (0o100_u32..0o2000, any::<bool>()).prop_map(|(mode, opaque)| Thing::Directory { mode, opaque }),
        1 => "[a-z./]{1,150}".prop_map(|target| Thing::Symlink { target }),
        1 => Just(Thing::HardLink),
        1 => Just(Thing::Whiteout),
        1 => Just(Thing::Fifo),
    ]
}

fn tree() -> impl Strategy<Value = Vec<(Vec<String>, Thing)>> {
    let name = prop_oneof![3 => "[a-d]", 1 => "[a-zé \n=]{1,40}", 1 => "[x-z]{90,120}"];
    proptest::collection::vec((proptest::collection::vec(name, 1..4), thing()), 0..25)
}

/// Makes what can be made; collisions are left out.
fn build(root: &Path, things: &[(Vec<String>, Thing)]) {
    let mut files = Vec::new();
    for (parts, thing) in things {
        let path = parts.iter().fold(root.to_owned(), |path, part| path.join(part));
        let fits = path.parent().is_some_and(|parent| std::fs::create_dir_all(parent).is_ok());
        if !fits || std::fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match thing {
            Thing::File { size, mode, owner, note } => {
                std::fs::write(&path, vec![b'x'; *size]).unwrap();
                std::os::unix::fs::chown(&path, Some(*owner), Some(*owner / 2)).unwrap();
                std::fs::set_permissions(&path, PermissionsExt::from_mode(*mode)).unwrap();
                if let Some(note) = note {
                    lsetxattr(&path, "user.note", note, XattrFlags::empty()).unwrap();
                }
                files.push(path);
            }
            Thing::Directory { mode, opaque } => {
                std::fs::create_dir(&path).unwrap();
                std::fs::set_permissions(&path, PermissionsExt::from_mode(*mode)).unwrap();
                if *opaque {
                    lsetxattr(&path, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
                }
            }
            Thing::Symlink { target } => std::os::unix::fs::symlink(target, &path).unwrap(),
            Thing::HardLink => files.last().into_iter().for_each(|file| std::fs::hard_link(file, &path).unwrap()),
            Thing::Whiteout => mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap(),
            Thing::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pack_unpack_pack_gives_the_same_digest(things in tree(), which in 0..3_usize) {
        if !is_root() {
            return Ok(());
        }
        let compression = [Compression::None, Compression::Gzip, Compression::Zstd][which];
        let (_a, first) = open();
        let (_b, second) = open();
        let draft = first.begin(None).unwrap();
        build(&draft.upper, &things);
        let layer = commit(draft);
        prop_assert_eq!(repack(&first, &second, &layer, compression), layer.diff_id);
        prop_assert!(first.verify().unwrap().is_empty());
    }
}

fn repack(from: &Store, to: &Store, layer: &strake_store::Layer, packing: impl Into<Packing>) -> strake_oci::Digest {
    let packing = packing.into();
    let packed = from.pack(layer, packing).unwrap();
    assert_eq!(from.pack(layer, packing).unwrap(), packed);
    let blob = from.open_blob(&strake_store::digest_of(&packed).unwrap()).unwrap();
    let (found, reader) = decompress(blob, Limits::default()).unwrap();
    assert_eq!(found, Some(packing.compression));
    let draft = to.begin(None).unwrap();
    let root = std::fs::File::open(&draft.upper).unwrap();
    extract(reader, root.as_fd(), &ExtractOptions { whiteouts: true, root_metadata: true, ..ExtractOptions::default() }).unwrap();
    draft.commit(MTIME).unwrap().diff_id
}

#[test]
fn each_level_has_its_own_blob() {
    let (_a, first) = open();
    let (_b, second) = open();
    let draft = first.begin(None).unwrap();
    let text: String = (0..60_000_u32).map(|number| format!("{} of {}\n", number.wrapping_mul(2_654_435_761) >> 13, number % 1009)).collect();
    std::fs::write(draft.upper.join("text"), &text).unwrap();
    let layer = commit(draft);
    for (compression, levels) in [(Compression::Gzip, &[0, 1, 6, 9][..]), (Compression::Zstd, &[1, 9, 22][..])] {
        let usual = first.pack(&layer, compression).unwrap();
        let packed: Vec<_> = levels.iter().map(|level| first.pack(&layer, Packing::at_level(compression, *level).unwrap()).unwrap()).collect();
        let named = Packing::at_level(compression, if compression == Compression::Gzip { 6 } else { 3 }).unwrap();
        assert_eq!(first.pack(&layer, named).unwrap(), usual, "the usual level is not made twice");
        assert_eq!(first.pack(&layer, compression).unwrap(), usual, "what was asked for once is not what others get");
        assert!(packed.windows(2).all(|two| two[1].size() < two[0].size()), "{packed:?}");
        assert!(packed.iter().all(|blob| *blob.media_type() == compression.media_type()));
        for level in levels {
            assert_eq!(repack(&first, &second, &layer, Packing::at_level(compression, *level).unwrap()), layer.diff_id);
        }
        let elsewhere = open();
        let draft = elsewhere.1.begin(None).unwrap();
        std::fs::write(draft.upper.join("text"), &text).unwrap();
        let same = commit(draft);
        let again: Vec<_> = levels.iter().map(|level| elsewhere.1.pack(&same, Packing::at_level(compression, *level).unwrap()).unwrap()).collect();
        assert_eq!(again, packed, "the same bytes on any machine");
    }
    // The notes are of use only while the layer is.
    first.prune(PruneOptions { keep_cache: std::time::Duration::ZERO, ..PruneOptions::default() }).unwrap();
    assert_eq!(std::fs::read_dir(first.root().join("cache/packed")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(first.root().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn large_files_go_through_several_members() {
    let (_a, first) = open();
    let (_b, second) = open();
    let draft = first.begin(None).unwrap();
    let bytes: Vec<u8> = (0..5_500_000_u32).flat_map(|number| (number.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).take(9_000_001).collect();
    std::fs::write(draft.upper.join("large"), &bytes).unwrap();
    let layer = commit(draft);
    for compression in [Compression::Gzip, Compression::Zstd] {
        assert_eq!(repack(&first, &second, &layer, compression), layer.diff_id);
    }
    let again = open();
    let draft = again.1.begin(None).unwrap();
    std::fs::write(draft.upper.join("large"), &bytes).unwrap();
    let same = commit(draft);
    assert_eq!(again.1.pack(&same, Compression::Gzip).unwrap(), first.pack(&layer, Compression::Gzip).unwrap());
    assert_eq!(again.1.pack(&same, Compression::Zstd).unwrap(), first.pack(&layer, Compression::Zstd).unwrap());
}
