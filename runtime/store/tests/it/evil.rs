//! Archives that want out, want more than they may, or mean two things at once.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use strake_store::{Compression, ExtractError, ExtractOptions, Extracted, Limits, Links, TarError, decompress, extract};
use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::is_root;
use crate::layers::list;

/// A tar as bytes, made of raw headers, since the crate's builder refuses what is tested here.
#[derive(Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn header(mut self, name: &str, kind: EntryType, link: &str, size: u64, change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new_ustar();
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name.as_bytes());
        ustar.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(size);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn entry(self, name: &str, kind: EntryType, link: &str) -> Self {
        self.header(name, kind, link, 0, |_| {})
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.header(name, EntryType::Regular, "", content.len() as u64, |_| {}).content(content.as_bytes())
    }

    fn dir(self, name: &str) -> Self {
        self.header(name, EntryType::Directory, "", 0, |header| header.set_mode(0o755))
    }

    fn content(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(self, key: &str, value: &str) -> Self {
        let body = format!(" {key}={value}\n");
        let mut record = format!("{}{body}", body.len() + 1);
        while record.len().to_string().len() + body.len() != record.len() || !record.starts_with(&record.len().to_string()) {
            record = format!("{}{body}", record.len().max(body.len() + record.len().to_string().len()));
        }
        self.header("PaxHeaders/x", EntryType::XHeader, "", record.len() as u64, |_| {}).content(record.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A root to extract to, with a file outside of it that nothing may touch.
struct Cage {
    dir: TempDir,
}

impl Cage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/secret"), "secret").unwrap();
        Cage { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn with(&self, bytes: &[u8], options: &ExtractOptions) -> Result<Extracted, ExtractError> {
        let root = std::fs::File::open(self.root()).unwrap();
        let outcome = extract(bytes, root.as_fd(), options);
        assert_eq!(list(self.dir.path()), ["outside", "root"]);
        assert_eq!(list(&self.dir.path().join("outside")), ["secret"]);
        let secret = self.dir.path().join("outside/secret");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
        assert_eq!(std::fs::metadata(&secret).unwrap().nlink(), 1, "no hard link to it");
        outcome
    }

    fn layer(&self, bytes: &[u8]) -> Result<Extracted, ExtractError> {
        self.with(bytes, &ExtractOptions { whiteouts: true, ..ExtractOptions::default() })
    }
}

fn extract_layer(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    Cage::new().layer(bytes)
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn dots_are_refused_wherever_they_stand() {
    for name in ["../outside/secret", "a/../../outside/secret", "..", "a/..", "./../x", "a/b/../c", "//../x"] {
        let error = extract_layer(&Raw::default().file(name, "evil").end()).unwrap_err();
        assert!(matches!(error, ExtractError::Path { .. }), "{name}: {error}");
        let linked = extract_layer(&Raw::default().entry("x", EntryType::Link, name).end());
        assert!(linked.is_err(), "hard link to {name}");
        let long = extract_layer(&Raw::default().pax("path", name).file("harmless", "evil").end()).unwrap_err();
        assert!(matches!(long, ExtractError::Path { .. }), "PAX {name}: {long}");
    }
    for name in [".wh...", ".wh..", ".wh.", "a/.wh..."] {
        let error = extract_layer(&Raw::default().dir("a/").file(name, "").end()).unwrap_err();
        assert!(matches!(error, ExtractError::Path { .. }), "{name}: {error}");
    }
}

#[test]
fn an_absolute_name_stays_inside() {
    let cage = Cage::new();
    let target = cage.dir.path().join("outside/secret");
    cage.layer(&Raw::default().pax("path", target.to_str().unwrap()).file("x", "evil").end()).unwrap();
    assert_eq!(std::fs::read_to_string(cage.root().join(target.strip_prefix("/").unwrap())).unwrap(), "evil");
}

#[test]
fn nothing_goes_through_a_planted_link() {
    for link in ["../outside", "/", "../../../../../../..", "loop", "."] {
        for second in ["loop/secret", "loop/new", "loop/a/b"] {
            let cage = Cage::new();
            let link = if link == "/" { cage.dir.path().join("outside").to_str().unwrap().to_owned() } else { link.to_owned() };
            let bytes = Raw::default().entry("loop", EntryType::Symlink, &link).file(second, "evil").end();
            let error = cage.layer(&bytes).unwrap_err();
            assert!(matches!(error, ExtractError::ThroughLink { .. }), "{link} {second}: {error}");
            for kind in [EntryType::Symlink, EntryType::Directory, EntryType::Fifo, EntryType::Link] {
                let bytes = Raw::default().file("f", "").entry("loop", EntryType::Symlink, &link).entry(second, kind, "f").end();
                assert!(Cage::new().layer(&bytes).is_err(), "{kind:?} through {link}");
            }
            let hidden = Raw::default().entry("loop", EntryType::Symlink, &link).file("loop/.wh.secret", "").end();
            assert!(Cage::new().layer(&hidden).is_err());
        }
    }
}

#[test]
fn a_link_is_replaced_and_never_written_to() {
    let cage = Cage::new();
    let bytes = Raw::default().entry("x", EntryType::Symlink, "../outside/secret").file("x", "evil").end();
    cage.layer(&bytes).unwrap();
    assert_eq!(std::fs::read_to_string(cage.root().join("x")).unwrap(), "evil");
    let cage = Cage::new();
    let bytes = Raw::default().entry("x", EntryType::Symlink, "../outside").header("x", EntryType::Directory, "", 0, |header| header.set_mode(0o777)).end();
    cage.layer(&bytes).unwrap();
    assert!(std::fs::symlink_metadata(cage.root().join("x")).unwrap().is_dir());
    assert_ne!(mode(&cage.dir.path().join("outside")), 0o777, "no change of mode through a link (CVE-2026-33056)");
}

#[test]
fn hard_links_stay_inside() {
    let cage = Cage::new();
    let outside = cage.dir.path().join("outside/secret");
    for target in ["../outside/secret", outside.to_str().unwrap(), "absent", "", "x", "/"] {
        let bytes = Raw::default().entry("x", EntryType::Link, target).end();
        assert!(cage.layer(&bytes).is_err(), "{target}");
    }
    let through = Raw::default().entry("d", EntryType::Symlink, "../outside").entry("x", EntryType::Link, "d/secret").end();
    assert!(matches!(cage.layer(&through), Err(ExtractError::ThroughLink { .. })));
    let to_link = Raw::default().entry("s", EntryType::Symlink, "../outside/secret").entry("x", EntryType::Link, "s").end();
    let cage = Cage::new();
    cage.layer(&to_link).unwrap();
    assert!(std::fs::symlink_metadata(cage.root().join("x")).unwrap().is_symlink(), "the link itself has two names");
    let good = Raw::default().file("a", "text").entry("b", EntryType::Link, "./a").end();
    let cage = Cage::new();
    cage.layer(&good).unwrap();
    assert_eq!(std::fs::metadata(cage.root().join("b")).unwrap().nlink(), 2);
}

#[test]
fn whiteouts_become_overlay_marks() {
    if !is_root() {
        return;
    }
    let cage = Cage::new();
    let bytes = Raw::default()
        .file(".wh.gone", "")
        .dir("d/")
        .file("d/.wh..wh..opq", "")
        .file(".wh..wh.plnk", "")
        .dir("again/")
        .file(".wh.again", "")
        .file(".wh.back", "")
        .dir("back/")
        .end();
    cage.layer(&bytes).unwrap();
    assert_eq!(list(&cage.root()), ["again", "back", "d", "gone"]);
    let gone = std::fs::symlink_metadata(cage.root().join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for opaque in ["d", "again", "back"] {
        let mut value = [0; 4];
        let length = rustix::fs::lgetxattr(cage.root().join(opaque), "trusted.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value[..length], b"y", "{opaque}");
    }
    let plain = Cage::new();
    plain.with(&Raw::default().file(".wh.gone", "x").end(), &ExtractOptions::default()).unwrap();
    assert_eq!(list(&plain.root()), [".wh.gone"], "ADD knows no whiteouts");
}

#[test]
fn overlay_marks_cannot_be_smuggled_in() {
    if !is_root() {
        return;
    }
    let device = Raw::default().header("x", EntryType::Char, "", 0, |header| {
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
    });
    assert!(matches!(extract_layer(&device.end()), Err(ExtractError::Path { .. })));
    let cage = Cage::new();
    let bytes = Raw::default().pax("SCHILY.xattr.trusted.overlay.redirect", "/etc").dir("d/").pax("SCHILY.xattr.user.fine", "yes").file("f", "").end();
    cage.layer(&bytes).unwrap();
    let mut names = [0; 256];
    assert_eq!(rustix::fs::llistxattr(cage.root().join("d"), &mut names).unwrap(), 0);
    let length = rustix::fs::llistxattr(cage.root().join("f"), &mut names).unwrap();
    assert_eq!(&names[..length], b"user.fine\0");
}

#[test]
fn devices_modes_and_capabilities_are_kept() {
    if !is_root() {
        return;
    }
    let cage = Cage::new();
    let null = |header: &mut Header| {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    };
    let bytes = Raw::default().header("null", EntryType::Char, "", 0, null).header("su", EntryType::Regular, "", 0, |header| {
        header.set_mode(0o4755);
        header.set_uid(7);
    });
    cage.layer(&bytes.end()).unwrap();
    assert_eq!(std::fs::symlink_metadata(cage.root().join("null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
    let su = std::fs::metadata(cage.root().join("su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid()), (0o4755, 7));
}

#[test]
fn the_last_of_several_entries_wins_and_none_leaks_into_another() {
    let cage = Cage::new();
    let bytes = Raw::default()
        .file("f", "first, longer")
        .file("f", "second")
        .file("d", "a file")
        .dir("d/")
        .file("d/in", "x")
        .file("e/deep/x", "1")
        .file("e", "now a file")
        .file("g/x", "1")
        .entry("g", EntryType::Symlink, "d")
        .end();
    cage.layer(&bytes).unwrap();
    assert_eq!(std::fs::read_to_string(cage.root().join("f")).unwrap(), "second");
    assert_eq!(std::fs::read_to_string(cage.root().join("e")).unwrap(), "now a file");
    assert_eq!(list(&cage.root().join("d")), ["in"]);
    let stale = Raw::default().file("a/x", "1").entry("a", EntryType::Symlink, "../outside").file("a/y", "evil").end();
    assert!(matches!(extract_layer(&stale), Err(ExtractError::ThroughLink { .. })), "a remembered directory is not used after it was replaced");
}

#[test]
fn sizes_that_disagree_are_refused() {
    for (header, extended) in [(0, "512"), (512, "0"), (5, "6"), (1024, "512")] {
        let bytes =
            Raw::default().pax("size", extended).header("x", EntryType::Regular, "", header, |_| {}).content(&vec![b'x'; 1024]).file("smuggled", "").end();
        let error = extract_layer(&bytes).unwrap_err();
        assert!(matches!(error, ExtractError::Archive { source: TarError::SizeConflict { .. } }), "{error}");
    }
    let agreed = Raw::default().pax("size", "3").file("x", "abc").end();
    extract_layer(&agreed).unwrap();
}

#[test]
fn malformed_archives_are_refused() {
    let good = Raw::default().file("x", "abc").end();
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    assert!(matches!(extract_layer(&flipped), Err(ExtractError::Archive { source: TarError::Checksum })));
    for length in [1, 100, 511, 513, 600] {
        assert!(matches!(extract_layer(&good[..length]), Err(ExtractError::Archive { source: TarError::Truncated })), "{length}");
    }
    extract_layer(&good[..1024]).expect("an end without the closing blocks is an end");
    for (kind, size) in [(EntryType::Directory, 512), (EntryType::Symlink, 1), (EntryType::Fifo, 5)] {
        let bytes = Raw::default().header("x", kind, "y", size, |_| {}).content(&[0; 512]).end();
        assert!(matches!(extract_layer(&bytes), Err(ExtractError::Archive { source: TarError::Content { .. } })));
    }
    let unknown = Raw::default().entry("x", EntryType::new(b'Z'), "").end();
    assert!(matches!(extract_layer(&unknown), Err(ExtractError::Archive { source: TarError::Kind { .. } })));
    let huge = Raw::default().header("long", EntryType::XHeader, "", 1 << 40, |_| {}).end();
    assert!(matches!(extract_layer(&huge), Err(ExtractError::Archive { source: TarError::Extended { .. } })));
    let names = Raw::default().header("L", EntryType::GNULongName, "", 2, |_| {}).content(b"a\0").pax("path", "b").file("c", "").end();
    assert!(matches!(extract_layer(&names), Err(ExtractError::Archive { source: TarError::NameConflict { .. } })));
    let root = Raw::default().file("./", "x").end();
    assert!(extract_layer(&root).is_err());
    let negative = Raw::default().header("x", EntryType::Regular, "", 0, |header| header.as_old_mut().size = [0xff; 12]).end();
    assert!(matches!(extract_layer(&negative), Err(ExtractError::Archive { source: TarError::Field { .. } })));
}

#[test]
fn bombs_are_stopped_early() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let bytes = bomb(compression, 600 << 20);
        assert!(bytes.len() < 2 << 20, "{compression:?}: {} bytes", bytes.len());
        let (found, reader) = decompress(bytes.as_slice(), Limits::default()).unwrap();
        assert_eq!(found, Some(compression));
        let cage = Cage::new();
        let root = std::fs::File::open(cage.root()).unwrap();
        let error = extract(reader, root.as_fd(), &ExtractOptions::default()).unwrap_err();
        assert!(matches!(error, ExtractError::Ratio { max_ratio: 200 }), "{error}");
        let written = std::fs::metadata(cage.root().join("zeros")).unwrap().len();
        assert!(written < 300 << 20, "{written}");
    }
    let many = (0..50).fold(Raw::default(), |raw, number| raw.file(&format!("f{number}"), "")).end();
    let few = ExtractOptions { limits: Limits { max_entries: 20, ..Limits::default() }, ..ExtractOptions::default() };
    assert!(matches!(Cage::new().with(&many, &few), Err(ExtractError::Entries { max_entries: 20 })));
    let small = ExtractOptions { limits: Limits { max_bytes: 10, ..Limits::default() }, ..ExtractOptions::default() };
    assert!(matches!(Cage::new().with(&Raw::default().file("x", "more than ten").end(), &small), Err(ExtractError::Bytes { max_bytes: 10 })));
}

/// The window of a zstd frame is memory that whoever reads it has to have: the largest that the format knows is 2 GiB, and more.
#[test]
fn a_stream_that_wants_gigabytes_of_memory_to_be_read_is_refused() {
    let content = Raw::default().file("x", "small").end();
    let frame = |window_log: u8| {
        // No content size, no checksum; the window as RFC 8878, 3.1.1.1.2 has it; one raw block, the last.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (window_log - 10) << 3];
        frame.extend_from_slice(&((content.len() as u32) << 3 | 1).to_le_bytes()[..3]);
        frame.extend_from_slice(&content);
        frame
    };
    let read = |window_log: u8| {
        let bytes = frame(window_log);
        let (found, reader) = decompress(bytes.as_slice(), Limits::default()).unwrap();
        assert_eq!(found, Some(Compression::Zstd));
        let cage = Cage::new();
        let root = std::fs::File::open(cage.root()).unwrap();
        extract(reader, root.as_fd(), &ExtractOptions::default())
    };
    read(20).unwrap();
    read(27).unwrap();
    for window_log in [28, 31, 41] {
        let error = read(window_log).unwrap_err();
        assert!(matches!(error, ExtractError::Archive { .. }), "{window_log}: {error}");
    }
}

/// A tar of one file of zeros.
fn bomb(compression: Compression, size: u64) -> Vec<u8> {
    let header = Raw::default().header("zeros", EntryType::Regular, "", size, |_| {}).0;
    let feed = |out: &mut dyn Write| {
        out.write_all(&header).unwrap();
        let zeros = vec![0; 1 << 20];
        (0..size >> 20).for_each(|_| out.write_all(&zeros).unwrap());
        out.write_all(&[0; 1024]).unwrap();
    };
    if compression == Compression::Gzip {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        feed(&mut out);
        out.finish().unwrap()
    } else {
        let mut out = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        feed(&mut out);
        out.finish().unwrap()
    }
}

#[test]
fn sparse_files_come_out_whole() {
    // GNU's old format: 4 bytes at 1000 of a file of 5000.
    let mut raw = Raw::default();
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..1].copy_from_slice(b"s");
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(4);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].offset.copy_from_slice(b"00000001750\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000004\0");
    gnu.realsize.copy_from_slice(b"00000011610\0");
    header.set_cksum();
    raw.0.extend_from_slice(header.as_bytes());
    let cage = Cage::new();
    cage.layer(&raw.content(b"data").end()).unwrap();
    let bytes = std::fs::read(cage.root().join("s")).unwrap();
    assert_eq!((bytes.len(), &bytes[1000..1004], bytes[999], bytes[1004]), (5000, b"data".as_slice(), 0, 0));
}

#[test]
fn add_follows_the_roots_own_links_but_never_out() {
    let cage = Cage::new();
    std::fs::create_dir_all(cage.root().join("usr/lib")).unwrap();
    symlink("usr/lib", cage.root().join("lib")).unwrap();
    symlink("/usr", cage.root().join("absolute")).unwrap();
    symlink("../../../../../outside", cage.root().join("evil")).unwrap();
    let add = ExtractOptions { links: Links::WithinRoot, chown: Some((5, 6)), ..ExtractOptions::default() };
    cage.with(&Raw::default().file("lib/module", "m").file("absolute/file", "f").end(), &add).unwrap();
    assert_eq!(std::fs::read_to_string(cage.root().join("usr/lib/module")).unwrap(), "m");
    assert_eq!(std::fs::read_to_string(cage.root().join("usr/file")).unwrap(), "f");
    if is_root() {
        let owned = std::fs::metadata(cage.root().join("usr/file")).unwrap();
        assert_eq!((owned.uid(), owned.gid()), (5, 6));
    }
    let _ = cage.with(&Raw::default().file("evil/secret", "changed").end(), &add);
    // As docker does it: a file takes the place of a directory and of what is in it.
    cage.with(&Raw::default().file("usr", "a file over a directory").end(), &add).unwrap();
    assert_eq!(std::fs::read_to_string(cage.root().join("usr")).unwrap(), "a file over a directory");
    let into = ExtractOptions { destination: "/opt/app".into(), ..add };
    cage.with(&Raw::default().dir("./").file("x", "x").entry("y", EntryType::Link, "x").end(), &into).unwrap();
    assert_eq!(list(&cage.root().join("opt/app")), ["x", "y"]);
    let out = ExtractOptions { destination: "../outside".into(), ..ExtractOptions::default() };
    assert!(cage.with(&Raw::default().file("x", "").end(), &out).is_err());
}

#[test]
fn a_directory_that_is_only_implied_looks_as_below() {
    if !is_root() {
        return;
    }
    let cage = Cage::new();
    let lower = tempfile::tempdir().unwrap();
    std::fs::create_dir(lower.path().join("tmp")).unwrap();
    std::fs::set_permissions(lower.path().join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    let options = ExtractOptions { whiteouts: true, lowers: vec![lower.path().to_owned()], ..ExtractOptions::default() };
    cage.with(&Raw::default().file("tmp/x", "").file("new/y", "").end(), &options).unwrap();
    assert_eq!((mode(&cage.root().join("tmp")), mode(&cage.root().join("new"))), (0o1777, 0o755));
}

#[test]
fn depth_is_no_weapon() {
    let deep = "d/".repeat(600);
    let error = extract_layer(&Raw::default().pax("path", &deep).dir("x/").end()).unwrap_err();
    assert!(matches!(error, ExtractError::Path { .. }), "{error}");
    // A step of a build can go deeper than any path is long; its draft is refused, and removed all the same.
    let (_dir, store) = crate::open();
    let draft = store.begin(None).unwrap();
    let mut at = std::os::fd::OwnedFd::from(std::fs::File::open(&draft.upper).unwrap());
    for _ in 0..3000 {
        rustix::fs::mkdirat(&at, "deep", rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "deep", rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap();
    }
    drop(at);
    assert!(matches!(draft.commit(crate::MTIME), Err(strake_store::StoreError::TooDeep { .. })));
    assert_eq!(crate::blobs::temporaries(&store), 0);
}

#[test]
fn a_bomb_of_bzip2_is_stopped_early() {
    let bz = {
        let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        let zeros = vec![0_u8; 4_500_000];
        std::io::Write::write_all(&mut writer, &zeros).unwrap();
        writer.finish().unwrap()
    };
    // Streams one after the other are one stream.
    let bytes = bz.repeat(60);
    let (found, mut reader) = decompress(bytes.as_slice(), Limits::default()).unwrap();
    assert_eq!(found, None);
    let error = std::io::copy(&mut reader, &mut std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("more than 200 times"), "{error}");
}

#[test]
fn broken_streams_are_errors_and_not_empty_files() {
    for first in [b"\xfd7zXZ\0".as_slice(), b"BZh91AY&SY", b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0!\x01\x28\0\0\0"] {
        let (_, mut reader) = decompress(first, Limits::default()).unwrap();
        assert!(std::io::copy(&mut reader, &mut std::io::sink()).is_err(), "{first:?}");
    }
    // No magic of a block: a file like any other.
    let (found, mut reader) = decompress(b"BZh9 is how bzip2 begins".as_slice(), Limits::default()).unwrap();
    assert_eq!((found, std::io::copy(&mut reader, &mut std::io::sink()).unwrap()), (Some(Compression::None), 24));
}
