//! Images out of one store and into another.

use std::os::unix::fs::PermissionsExt;

use strake_oci::Digest;
use strake_store::{Compression, Destination, Image, Store, StoreError, digest_of};

use crate::{MTIME, config, layer, open, write};

const NAME: &str = "docker.io/library/app:1";

/// An image of two layers, named.
pub(super) fn sample(store: &Store) -> Image {
    let base = layer(store, None, "etc/base", "base");
    let draft = store.begin(Some(&base.chain_id)).unwrap();
    write(&draft.upper.join("bin/app"), "#!/bin/true");
    std::fs::set_permissions(draft.upper.join("bin/app"), PermissionsExt::from_mode(0o755)).unwrap();
    let top = crate::commit(draft);
    let image = store.put_image(&config(), &[base, top]).unwrap();
    store.tag(NAME, &image.descriptor).unwrap();
    image
}

#[test]
fn every_form_of_export_gives_the_same_image_back() {
    let (dir, store) = open();
    let image = sample(&store);
    let layout = Destination::Directory(dir.path().join("layout"));
    let archive = Destination::Archive(dir.path().join("layout.tar"));
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let one = store.export_oci(NAME, &layout, compression).unwrap();
        assert_eq!(store.export_oci(NAME, &archive, compression).unwrap(), one);
        for path in ["layout", "layout.tar"] {
            let (_other, second) = open();
            let imported = second.import_archive(&dir.path().join(path)).unwrap();
            assert_eq!(imported.len(), 1);
            assert_eq!(imported[0].reference.as_deref(), Some(NAME));
            check(&second, &image);
            assert_eq!(second.resolve(NAME).unwrap().unwrap().digest(), one.digest());
        }
    }
    store.export_docker(NAME, &dir.path().join("docker.tar")).unwrap();
    let (_other, third) = open();
    third.import_archive(&dir.path().join("docker.tar")).unwrap();
    for name in ["layout", "layout.tar", "docker.tar"] {
        assert!(strake_store::is_image_archive(&dir.path().join(name)), "{name}");
    }
    check(&third, &image);
    let compressed = dir.path().join("docker.tar.zst");
    let bytes = std::fs::read(dir.path().join("docker.tar")).unwrap();
    std::fs::write(&compressed, zstd::encode_all(bytes.as_slice(), 3).unwrap()).unwrap();
    let (_other, fourth) = open();
    fourth.import_archive(&compressed).unwrap();
    check(&fourth, &image);
}

fn check(store: &Store, original: &Image) {
    let image = store.image(NAME).unwrap();
    assert_eq!((image.config_digest, &image.config), (original.config_digest, &original.config));
    let chain = store.unpack(&image).unwrap();
    assert_eq!(chain, original.chain());
    let lowers = store.lowers(&chain.unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(lowers[0].join("bin/app")).unwrap(), "#!/bin/true");
    assert_eq!(std::fs::read_to_string(lowers[1].join("etc/base")).unwrap(), "base");
    assert!(store.verify().unwrap().is_empty());
}

#[test]
fn two_stores_export_the_same_bytes() {
    let (a, first) = open();
    let (b, second) = open();
    for (dir, store) in [(&a, &first), (&b, &second)] {
        sample(store);
        store.export_oci(NAME, &Destination::Archive(dir.path().join("oci.tar")), Compression::Gzip).unwrap();
        store.export_docker(NAME, &dir.path().join("docker.tar")).unwrap();
    }
    for name in ["oci.tar", "docker.tar"] {
        assert!(std::fs::read(a.path().join(name)).unwrap() == std::fs::read(b.path().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn what_was_imported_goes_out_as_it_came() {
    let (dir, store) = open();
    sample(&store);
    let layout = Destination::Directory(dir.path().join("layout"));
    let came = store.export_oci(NAME, &layout, Compression::Gzip).unwrap();
    let (other, second) = open();
    second.import_archive(&dir.path().join("layout")).unwrap();
    let blobs = second.blobs().unwrap().len();
    let went = second.export_oci(NAME, &Destination::Directory(other.path().join("again")), Compression::Gzip).unwrap();
    assert_eq!((went.digest(), second.blobs().unwrap().len()), (came.digest(), blobs));
    let chain = second.unpack(&second.image(NAME).unwrap()).unwrap().unwrap();
    let layer = *second.layers(&chain).unwrap().last().unwrap();
    let packed = second.pack(&layer, Compression::Gzip).unwrap();
    assert!(second.image(NAME).unwrap().manifest.layers().contains(&packed), "the blob it came in is used");
    let zstd = second.pack(&layer, Compression::Zstd).unwrap();
    assert!(second.has(&digest_of(&zstd).unwrap()));
}

#[test]
fn two_images_share_a_layout() {
    let (dir, store) = open();
    let image = sample(&store);
    store.tag("docker.io/library/app:2", &image.descriptor).unwrap();
    let layout = Destination::Directory(dir.path().join("layout"));
    for name in [NAME, "docker.io/library/app:2", NAME] {
        store.export_oci(name, &layout, Compression::Gzip).unwrap();
    }
    let (_other, second) = open();
    assert_eq!(second.import_archive(&dir.path().join("layout")).unwrap().len(), 2);
    assert_eq!(second.images().unwrap().len(), 2);
}

#[test]
fn a_root_file_system_gives_one_digest_in_every_form() {
    let (dir, store) = open();
    let source = dir.path().join("rootfs");
    write(&source.join("etc/os-release"), "ID=test");
    std::os::unix::fs::symlink("etc", source.join("link")).unwrap();
    std::fs::hard_link(source.join("etc/os-release"), source.join("second")).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    for name in ["link", "etc", "etc/os-release"] {
        builder.append_path_with_name(source.join(name), name).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, "second", "etc/os-release").unwrap();
    let bytes = builder.into_inner().unwrap();
    std::fs::write(dir.path().join("rootfs.tar"), &bytes).unwrap();
    std::fs::write(dir.path().join("rootfs.tar.zst"), zstd::encode_all(bytes.as_slice(), 1).unwrap()).unwrap();
    let import = |name: &str| store.import_rootfs(&dir.path().join(name), "docker.io/library/base:1", &config(), MTIME).unwrap();
    let image = import("rootfs");
    assert_eq!(image.config.rootfs.diff_ids.len(), 1);
    assert_eq!(store.image("docker.io/library/base:1").unwrap(), image);
    assert_eq!(import("rootfs.tar"), image);
    assert_eq!(import("rootfs.tar.zst"), image);
    for name in ["rootfs", "rootfs.tar", "rootfs.tar.zst"] {
        assert!(!strake_store::is_image_archive(&dir.path().join(name)), "{name}");
    }
    let lowers = store.lowers(&image.chain().unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(lowers[0].join("second")).unwrap(), "ID=test");
}

#[test]
fn archives_that_lie_are_refused() {
    let (dir, store) = open();
    sample(&store);
    let layout = dir.path().join("layout");
    let exported = store.export_oci(NAME, &Destination::Directory(layout.clone()), Compression::Gzip).unwrap();
    let blobs = layout.join("blobs/sha256");
    let manifest = digest_of(&exported).unwrap().hex();
    let victim = std::fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).find(|path| !path.ends_with(&manifest)).unwrap();
    let mut bytes = std::fs::read(&victim).unwrap();
    bytes[7] ^= 0x10;
    std::fs::write(&victim, &bytes).unwrap();
    let (_other, second) = open();
    let error = second.import_archive(&layout).unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    assert!(second.images().unwrap().is_empty());
    std::fs::remove_file(&victim).unwrap();
    assert!(second.import_archive(&layout).is_err());
    let junk = dir.path().join("junk");
    std::fs::write(&junk, "no archive at all").unwrap();
    assert!(matches!(second.import_archive(&junk), Err(StoreError::Extract { .. })));
    let empty = dir.path().join("empty.tar");
    std::fs::write(&empty, [0; 1024]).unwrap();
    assert!(matches!(second.import_archive(&empty), Err(StoreError::Import { .. })));
    assert!(matches!(second.import_archive(&dir.path().join("absent")), Err(StoreError::Read { .. })));
    assert!(second.import_rootfs(&junk, "docker.io/library/x:1", &config(), MTIME).is_err());
    assert_eq!(crate::blobs::temporaries(&second), 0);
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let (dir, store) = open();
    let image = sample(&store);
    store.export_oci(NAME, &Destination::Directory(dir.path().join("layout")), Compression::Gzip).unwrap();
    let (_other, second) = open();
    second.import_archive(&dir.path().join("layout")).unwrap();
    let mut wrong = second.image(NAME).unwrap();
    wrong.config.rootfs.diff_ids[1] = Digest::of(b"something else");
    assert!(matches!(second.unpack(&wrong), Err(StoreError::DiffIdMismatch { .. })));
    let base = Digest::chain(None, &image.config.rootfs.diff_ids[0]);
    assert!(second.has_chain(&base));
    assert_eq!(second.lowers(&base).unwrap().len(), 1);
    assert_eq!(crate::blobs::temporaries(&second), 0);
}

#[test]
fn an_unchanged_image_goes_out_again_without_its_layers_being_read() {
    let (dir, store) = open();
    let image = sample(&store);
    let (layout, archive) = (Destination::Directory(dir.path().join("layout")), Destination::Archive(dir.path().join("oci.tar")));
    let docker = dir.path().join("docker.tar");
    let all = || {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            store.export_oci(NAME, &archive, compression).unwrap();
        }
        store.export_oci(NAME, &layout, Compression::Gzip).unwrap();
        store.export_docker(NAME, &docker).unwrap();
        (std::fs::read(dir.path().join("oci.tar")).unwrap(), std::fs::read(&docker).unwrap())
    };
    let first = all();
    // Whoever read the layers now would find them damaged.
    for layer in store.layers(&image.chain().unwrap()).unwrap() {
        let files = store.root().join("snapshots").join(layer.chain_id.hex()).join("fs");
        std::fs::remove_dir_all(&files).unwrap();
        write(&files.join("other"), "other");
    }
    assert!(all() == first, "the same bytes");
    assert!(!store.verify().unwrap().is_empty(), "they are damaged indeed");
}
