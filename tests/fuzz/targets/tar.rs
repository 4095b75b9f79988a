//! Archives of strangers: extracted below one directory or refused, in any compression, and nothing beside that directory is touched.
#![no_main]

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use strake_store::{ExtractOptions, Limits, Links, decompress, extract};
use tempfile::TempDir;

/// The only directory that the process may change, with `outside` in it, that it must not.
static CAGE: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("outside")).expect("a directory");
    std::fs::write(dir.path().join("outside/secret"), "secret").expect("a file");
    dir
});

/// What is outside, as somebody who lost it would describe it.
fn outside(dir: &Path) -> Vec<(String, u32, u32, u64, u64, i64)> {
    let describe = |path: &Path| {
        let stat = path.symlink_metadata().expect("it is there");
        (path.display().to_string(), stat.mode(), stat.uid(), stat.nlink(), stat.size(), stat.mtime())
    };
    let mut all = vec![describe(dir)];
    all.extend(std::fs::read_dir(dir).expect("readable").flatten().map(|entry| describe(&entry.path())));
    all
}

fuzz_target!(|bytes: &[u8]| {
    let [flags, bytes @ ..] = bytes else { return };
    let cage = CAGE.path();
    let before = outside(&cage.join("outside"));
    let root = cage.join("root");
    std::fs::create_dir(&root).expect("a directory");
    // What an image may have before ADD: links that lead astray.
    if flags & 1 != 0 {
        std::os::unix::fs::symlink(cage.join("outside"), root.join("out")).expect("a link");
        std::os::unix::fs::symlink("../outside", root.join("up")).expect("a link");
        std::os::unix::fs::symlink("loop", root.join("loop")).expect("a link");
    }
    let limits = Limits { max_entries: 200, max_bytes: 1 << 20, max_ratio: 200, ratio_after_bytes: 1 << 16 };
    let options = ExtractOptions {
        destination: if flags & 2 != 0 { "deep/er".into() } else { "".into() },
        whiteouts: flags & 4 != 0,
        chown: (flags & 8 != 0).then_some((7, 8)),
        root_metadata: flags & 16 != 0,
        links: if flags & 1 != 0 { Links::WithinRoot } else { Links::Refuse },
        limits,
        ..ExtractOptions::default()
    };
    if let Ok((_, stream)) = decompress(bytes, limits) {
        let fd = std::fs::File::open(&root).expect("a directory");
        if let Ok(done) = extract(stream, fd.as_fd(), &options) {
            assert!(done.entries <= limits.max_entries && done.size_bytes <= limits.max_bytes);
        }
    }
    assert_eq!(outside(&cage.join("outside")), before, "something outside was touched");
    let names = std::fs::read_dir(cage).expect("readable").count();
    assert_eq!(names, 2, "something beside the root was made");
    // A directory without permissions is no obstacle for root.
    std::fs::remove_dir_all(&root).expect("removed");
});
