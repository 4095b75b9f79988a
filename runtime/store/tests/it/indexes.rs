//! Images for several platforms under one name, and attestations about them.

use std::collections::BTreeMap;

use strake_oci::{Digest, Platform};
use strake_store::{Compression, Destination, Image, PruneOptions, Store, StoreError, for_platform};

use crate::{config, layer, open};

const NAME: &str = "docker.io/library/app:1";

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// An image of one file for a platform, without a name.
fn image(store: &Store, target: &str, text: &str) -> Image {
    let target = platform(target);
    let mut config = config();
    (config.os, config.architecture, config.variant) = (target.os, target.architecture, target.variant);
    store.put_image(&config, &[layer(store, None, "a", text)]).unwrap()
}

#[test]
fn what_is_pulled_for_one_platform_after_another_stays() {
    let (_dir, store) = open();
    let (arm, intel, newer) = (image(&store, "linux/arm64", "arm"), image(&store, "linux/amd64", "intel"), image(&store, "linux/arm64", "newer"));
    store.tag_beside(NAME, &arm, &platform("linux/arm64")).unwrap();
    assert_eq!(store.resolve(NAME).unwrap().as_ref(), Some(&arm.descriptor), "one image needs no index");
    store.tag_beside(NAME, &intel, &platform("linux/amd64")).unwrap();
    assert_eq!(store.index(NAME).unwrap().unwrap().platforms(), [platform("linux/amd64"), platform("linux/arm64")]);
    store.tag_beside(NAME, &newer, &platform("linux/arm64")).unwrap();
    assert_eq!(store.image_for(NAME, &platform("linux/arm64")).unwrap().digest().unwrap(), newer.digest().unwrap());
    assert_eq!(store.image_for(NAME, &platform("linux/amd64/v2")).unwrap().digest().unwrap(), intel.digest().unwrap());
    let missing = store.image_for(NAME, &platform("linux/s390x")).unwrap_err();
    assert!(matches!(missing, StoreError::PlatformMissing { .. }), "{missing}");
    assert!(missing.to_string().ends_with("there is linux/amd64, linux/arm64"), "{missing}");
    let record = &store.images().unwrap()[0];
    assert!(record.is_index && record.platforms.len() == 2);
    assert!(store.verify().unwrap().is_empty());
}

#[test]
fn an_index_keeps_what_it_lists_and_statements_follow_their_images() {
    let (dir, store) = open();
    let images = [image(&store, "linux/arm64", "arm"), image(&store, "linux/amd64", "intel")];
    let mut listed: Vec<_> = images.iter().map(|image| for_platform(&image.descriptor, &image.config)).collect();
    let about = images[0].digest().unwrap();
    let statement = format!(r#"{{"subject":[{{"name":"x","digest":{{"sha256":"{}"}}}}],"predicate":{{"n":1}}}}"#, about.hex());
    listed.push(store.put_attestation(&about, &[("https://example.org/kind".to_owned(), statement.into_bytes())]).unwrap());
    let index = store.put_index(&listed, &BTreeMap::from([("k".to_owned(), "v".to_owned())])).unwrap();
    assert_eq!(store.put_index(&listed, &BTreeMap::from([("k".to_owned(), "v".to_owned())])).unwrap(), index, "the same parts give the same index");
    store.tag(NAME, &index).unwrap();
    store.prune(PruneOptions::default()).unwrap();
    assert!(store.verify().unwrap().is_empty());
    assert_eq!(store.index(NAME).unwrap().unwrap().children, listed);
    // Packed, every manifest has another digest, and everything that names it says so.
    let packed = store.packed_all(NAME, Some(Compression::Gzip.into())).unwrap();
    let moved: Digest = packed.images[0].descriptor.digest().to_string().parse().unwrap();
    assert_ne!(moved, about);
    let layout = dir.path().join("layout");
    let out = store.export_oci(NAME, &Destination::Directory(layout.clone()), Compression::Gzip).unwrap();
    assert_eq!(&out, packed.top().0);
    let (_second, other) = open();
    let imported = other.import_archive(&layout).unwrap();
    assert_eq!(imported[0].index.as_ref().map(|index| index.digest()), Some(out.digest()));
    let taken = other.index(NAME).unwrap().unwrap();
    let attestation = taken.attestations(&moved).next().expect("about the packed manifest");
    let statements = other.statements(attestation).unwrap();
    assert_eq!(statements[0].0, "https://example.org/kind");
    let said: serde_json::Value = serde_json::from_slice(&statements[0].1).unwrap();
    assert_eq!((&said["subject"][0]["digest"]["sha256"], &said["predicate"]["n"]), (&moved.hex().into(), &1.into()));
    assert_eq!(other.packed_all(NAME, None).unwrap().top().1, packed.top().1, "as it came");
    assert_eq!(taken.annotations["k"], "v");
    assert!(other.verify().unwrap().is_empty());
}

#[test]
fn an_archive_without_all_of_an_index_gives_this_machines_image() {
    let (dir, store) = open();
    let host = Platform::host().to_string();
    let images = [image(&store, "linux/s390x", "big"), image(&store, &host, "host")];
    let listed: Vec<_> = images.iter().map(|image| for_platform(&image.descriptor, &image.config)).collect();
    let index = store.put_index(&listed, &BTreeMap::new()).unwrap();
    store.tag(NAME, &index).unwrap();
    let layout = dir.path().join("layout");
    store.export_oci(NAME, &Destination::Directory(layout.clone()), Compression::Gzip).unwrap();
    let gone = store.packed_all(NAME, Some(Compression::Gzip.into())).unwrap().images[0].descriptor.digest().to_string();
    std::fs::remove_file(layout.join("blobs/sha256").join(gone.trim_start_matches("sha256:"))).unwrap();
    let (_second, other) = open();
    let imported = other.import_archive(&layout).unwrap();
    assert!(imported[0].index.is_none());
    assert_eq!(imported[0].image.config.platform().to_string(), host);
    let wrong = other.import_from_layout_for(&layout, None, &platform("linux/riscv64")).unwrap_err();
    assert!(wrong.to_string().contains("there is linux/s390x"), "{wrong}");
}
