//! The registry's tests: against a real registry where one is installed, and against one that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops there")]

mod fetch;
mod hostile;
mod mock;
mod push;
mod real;
mod served;
mod transfers;
mod wrong;

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use strake_oci::ImageConfig;
use strake_registry::{Progress, PullOptions, RegistryError, pull_with};
use strake_store::{CommitOptions, Image, Store};
use tempfile::TempDir;

fn open() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&dir.path().join("root")).expect("the store opens");
    (dir, store)
}

/// Says loudly that a test did not run: past the harness, which hides what a passing test prints.
fn skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

fn installed(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|dir| dir.join(tool).is_file());
    if !found {
        skip(&format!("{tool} is not installed"));
    }
    found
}

/// An image of two layers.
fn sample(store: &Store, name: &str) -> Image {
    let mut layers = Vec::new();
    for (file, size) in [("base", 3_000_000), ("top", 10)] {
        let parent = layers.last().map(|layer: &strake_store::Layer| layer.chain_id);
        let draft = store.begin(parent.as_ref()).unwrap();
        let bytes: Vec<u8> = (0..size).map(|number: u32| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(draft.upper.join(file), bytes).unwrap();
        layers.push(draft.commit(CommitOptions { mtime: 1_700_000_000 }).unwrap());
    }
    let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    let image = store.put_image(&config, &layers).unwrap();
    store.tag(name, &image.descriptor).unwrap();
    image
}

/// Pulls for amd64 with short patience; gives what was reported too.
async fn pull(reference: &str, store: &Store, options: PullOptions) -> (Result<Image, RegistryError>, Vec<Progress>) {
    let seen = Mutex::new(Vec::new());
    let report = |progress| seen.lock().unwrap().push(progress);
    let outcome = pull_with(reference, &"linux/amd64".parse().unwrap(), store, &report, &options).await;
    (outcome, seen.into_inner().unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Entries of the store's temporary directories, locks left out.
fn temporaries(store: &Store) -> usize {
    let sessions = std::fs::read_dir(store.root().join("tmp")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    sessions.flat_map(|session| std::fs::read_dir(session).unwrap()).filter(|entry| entry.as_ref().unwrap().file_name() != "alive").count()
}
