//! The store's tests: what it promises, what attackers try, what breaks, and what other tools make of its output.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops there")]

mod blobs;
mod evil;
mod exchange;
mod faults;
mod files;
mod images;
mod indexes;
mod layers;
mod prune;
mod roundtrip;
mod tools;

use std::io::Write;
use std::path::Path;

use strake_oci::ImageConfig;
use strake_store::{CommitOptions, Draft, Layer, Store};
use tempfile::TempDir;

/// The time that the tests clamp to.
const MTIME: CommitOptions = CommitOptions { mtime: 1_700_000_000 };

fn open() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&dir.path().join("root")).expect("the store opens");
    (dir, store)
}

/// Says loudly that a test did not run: past the harness, which hides what a passing test prints.
fn skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("needs root (owners, devices, trusted attributes)");
    }
    root
}

fn installed(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|dir| dir.join(tool).is_file());
    if !found {
        skip(&format!("{tool} is not installed"));
    }
    found
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
    std::fs::write(path, text).expect("write");
}

/// A layer that holds one file.
fn layer(store: &Store, parent: Option<&Layer>, name: &str, text: &str) -> Layer {
    let draft = store.begin(parent.map(|layer| &layer.chain_id)).expect("a draft");
    write(&draft.upper.join(name), text);
    commit(draft)
}

fn commit(draft: Draft) -> Layer {
    draft.commit(MTIME).expect("a layer")
}

fn config() -> ImageConfig {
    let mut config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), created: Some("2023-11-14T22:13:20Z".into()), ..ImageConfig::default() };
    config.config.cmd = Some(vec!["/bin/true".into()]);
    config.config.env = vec!["PATH=/bin".into()];
    config
}
