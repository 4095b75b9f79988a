//! Documents of images: configuration, manifest, index, digests and platforms. What is read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strake_oci::{Digest, ImageConfig, ImageIndex, ImageManifest, Platform};
use strake_store::digest_of;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(bytes) {
        let written = serde_json::to_vec(&config).expect("a configuration is writable");
        let again: ImageConfig = serde_json::from_slice(&written).expect("what was written is readable");
        assert_eq!(again, config);
        assert_eq!(serde_json::to_vec(&again).expect("writable"), written, "the written form is stable");
        let _ = (config.platform().to_string(), config.env("PATH"));
        config.rootfs.diff_ids.iter().fold(None, |parent, diff_id| Some(Digest::chain(parent.as_ref(), diff_id)));
    }
    if let Ok(manifest) = serde_json::from_slice::<ImageManifest>(bytes) {
        for descriptor in manifest.layers().iter().chain([manifest.config()]) {
            if let Ok(digest) = digest_of(descriptor) {
                assert_eq!(digest.to_string(), descriptor.digest().to_string(), "a digest has one form");
            }
        }
    }
    if let Ok(index) = serde_json::from_slice::<ImageIndex>(bytes) {
        index.manifests().iter().for_each(|descriptor| drop(digest_of(descriptor)));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text, "a digest has one form");
        }
        if let Ok(platform) = text.parse::<Platform>() {
            assert_eq!(platform.to_string().parse::<Platform>().ok(), Some(platform), "{text:?}");
        }
    }
});
