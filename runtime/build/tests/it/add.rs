//! ADD of local archives (dockerfile.md C18; buildkit-facts 9 and 15).

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use strake_plan::Add;

use crate::world::{World, chown};
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("add::archives_are_unpacked_by_content", Needs::Root, archives_are_unpacked_by_content),
    ("add::what_is_no_archive_is_copied", Needs::Root, what_is_no_archive_is_copied),
    ("add::owners_of_the_archive_are_kept_unless_said", Needs::Root, owners_of_the_archive_are_kept_unless_said),
    ("add::what_is_unpacked_replaces_what_is_there", Needs::Root, what_is_unpacked_replaces_what_is_there),
    ("add::links_in_the_image_are_followed_inside", Needs::Root, links_in_the_image_are_followed_inside),
    ("add::archives_of_every_compression_are_unpacked", Needs::Root, archives_of_every_compression_are_unpacked),
    ("add::an_archive_that_is_cut_off_fails", Needs::Root, an_archive_that_is_cut_off_fails),
    ("add::a_repositorys_root_is_its_own", Needs::Root, a_repositorys_root_is_its_own),
    ("add::an_archive_cannot_leave_the_image", Needs::Root, an_archive_cannot_leave_the_image),
];

fn tar_of(entries: &[(&str, tar::EntryType, &str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, text, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(11);
        header.set_gid(12);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        let body = if *kind == tar::EntryType::Symlink { "" } else { text };
        if *kind == tar::EntryType::Symlink {
            header.set_link_name(text).unwrap();
        }
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn simple() -> Vec<u8> {
    use tar::EntryType::{Directory, Regular};
    tar_of(&[("./", Directory, "", 0o700), ("d/", Directory, "", 0o750), ("d/f", Regular, "text", 0o4755), ("implied/g", Regular, "", 0o600)])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn put(world: &World, name: &str, bytes: &[u8]) {
    fs::write(world.context().join(name), bytes).unwrap();
}

fn added(world: &World, sources: &[&str], dest: &str, owner: Option<&str>, is_unpacked: bool) -> Result<Vec<String>, String> {
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy_so(scratch, sources, dest, |copy| {
        copy.add = Some(Add { unpack: is_unpacked, ..Add::default() });
        copy.chown = owner.and_then(chown);
    });
    match world.build(plan.image(step)) {
        Ok(built) => Ok(world.list(&built[0])),
        Err(error) => Err(crate::world::chain_of(&error)),
    }
}

fn archives_are_unpacked_by_content() {
    let world = World::new();
    put(&world, "plain.txt", &simple());
    put(&world, "zipped", &gzip(&simple()));
    let below = ["d 750 11:12 x/d", "f 4755 11:12 x/d/f = text", "d 755 0:0 x/implied", "f 600 11:12 x/implied/g = "];
    for name in ["plain.txt", "zipped", "zip*"] {
        let lines = added(&world, &[name], "/x", None, true).unwrap();
        assert_eq!(lines[0], "d 755 0:0 x", "the archive's own root is ignored");
        assert_eq!(lines[1..], below, "{name}");
    }
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy_so(scratch, &["zipped"], "/x", |copy| {
        copy.add = Some(Add { unpack: true, ..Add::default() });
        copy.chmod = Some("600".to_owned());
    });
    assert_eq!(world.files(plan.image(step))[0], "d 755 0:0 x", "--chmod is not for archives");
    assert_eq!(
        added(&world, &["plain.txt"], "/x/", None, false).unwrap()[1],
        "f 644 0:0 x/plain.txt = 4608 bytes".replace("4608", &simple().len().to_string())
    );
}

fn what_is_no_archive_is_copied() {
    let world = World::new();
    put(&world, "empty.tar.gz", b"");
    put(&world, "zeros.tar", &[0; 1024]);
    put(&world, "text.gz", &gzip(b"no tar at all"));
    world.write("dir/inner.tar", "");
    put(&world, "dir/inner.tar", &simple());
    let lines = added(&world, &["empty.tar.gz", "zeros.tar", "text.gz", "dir"], "/x/", None, true).unwrap();
    let names: Vec<_> = lines.iter().map(|line| line.split(' ').nth(3).unwrap()).collect();
    assert_eq!(names, ["x", "x/empty.tar.gz", "x/inner.tar", "x/text.gz", "x/zeros.tar"], "what is in a directory stays packed");
    // Opening a pipe would wait for a writer.
    rustix::fs::mknodat(rustix::fs::CWD, world.context().join("pipe"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
    assert_eq!(added(&world, &["pipe"], "/x", None, true).unwrap(), ["p 640 0:0 x"]);
}

fn owners_of_the_archive_are_kept_unless_said() {
    let world = World::new();
    put(&world, "a.tar", &simple());
    let lines = added(&world, &["a.tar"], "/p/x", Some("3:4"), true).unwrap();
    assert_eq!(lines[..4], ["d 755 3:4 p", "d 755 3:4 p/x", "d 750 3:4 p/x/d", "f 4755 3:4 p/x/d/f = text"]);
}

fn what_is_unpacked_replaces_what_is_there() {
    let world = World::new();
    world.write("base/d/old", "");
    world.write("base/f", "old");
    put(&world, "a.tar", &tar_of(&[("d", tar::EntryType::Regular, "1", 0o644), ("f", tar::EntryType::Directory, "", 0o700)]));
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let base = plan.copy(scratch, &["base"], "/");
    let step = plan.copy_so(base, &["a.tar"], "/", |copy| copy.add = Some(Add { unpack: true, ..Add::default() }));
    assert_eq!(world.files(plan.image(step)), ["f 644 11:12 d = 1", "d 700 11:12 f"]);
}

fn links_in_the_image_are_followed_inside() {
    let world = World::new();
    world.write("base/usr/lib/old", "");
    world.link("base/lib", "/usr/lib");
    put(&world, "a.tar", &tar_of(&[("lib/new", tar::EntryType::Regular, "1", 0o644)]));
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let base = plan.copy(scratch, &["base"], "/");
    let step = plan.copy_so(base, &["a.tar"], "/", |copy| copy.add = Some(Add { unpack: true, ..Add::default() }));
    let lines = world.files(plan.image(step));
    assert!(lines.contains(&"f 644 11:12 usr/lib/new = 1".to_owned()) && lines.contains(&"l 0:0 lib -> /usr/lib".to_owned()), "{lines:?}");
}

/// A tar of the file `f` (5:6, `hello`) as `xz` writes it.
const PLAIN_XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e027ff00615d00330033501868898301dce253920f79a55efe379b66795355fa4936a4e713a099b4fca5ba1eff9e\
    cc6c9f759a59f491b3a22ce9a25a4dd7472c929913552be1ffcc8c1063bfe00473bcbe04fcf605cce4cfd702cd2ea7c77f4aba5a28373a38c90000000000b597c6cb034d2c7e\
    00017d8050000000f275020eb1c467fb020000000004595a";
/// The same by `xz --check=sha256 --x86 --lzma2`.
const SHA256_BCJ_XZ: &str = "fd377a585a00000ae1fb0ca102010400210116000d86351fe027ff00615d00330033501868898301dce253920f79a55efe379b66795355fa4936a4e713a099b4fca5ba1eff9e\
    cc6c9f759a59f491b3a22ce9a25a4dd7472c929913552be1ffcc8c1063bfe00473bcbe04fcf605cce4cfd702cd2ea7c77f4aba5a28373a38c900000000001f7c155d2bd89008\
    7799f9336dfacbeb403b9ca0729864ad14b9abeac273ab9c000195018050000016e27b32b6e9df1c02000000000a595a";
/// The same as `bzip2` writes it.
const BZIP2: &str = "425a6839314159265359a2128746000076fb90d980000240004f840000e3449e000400000820005446909b519311a1a6d4f506d291a341a68001f4b671a8425cc4042c3a9e56\
    d213be48426869d1841a0d5c2e61e9793b8e4ea88617dedb2a4accd200117e2ee48a70a12144250e8c";

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn archives_of_every_compression_are_unpacked() {
    let world = World::new();
    for (name, hex) in [("a.tar.xz", PLAIN_XZ), ("b", SHA256_BCJ_XZ), ("a.tar.bz2", BZIP2)] {
        put(&world, name, &bytes_of(hex));
        assert_eq!(added(&world, &[name], "/", None, true).unwrap(), ["f 644 5:6 f = hello"], "{name}");
        assert_eq!(added(&world, &[name], "/x", None, false).unwrap().len(), 1);
    }
    put(&world, "a.tar.zst", &zstd::encode_all(simple().as_slice(), 1).unwrap());
    assert_eq!(added(&world, &["a.tar.zst"], "/", None, true).unwrap()[..2], ["d 750 11:12 d", "f 4755 11:12 d/f = text"]);
    // Two streams behind each other are one.
    let halves: Vec<u8> = {
        let all = simple();
        let (a, b) = all.split_at(700);
        [gzip(a), gzip(b)].concat()
    };
    put(&world, "two.tgz", &halves);
    assert_eq!(added(&world, &["two.tgz"], "/", None, true).unwrap()[..2], ["d 750 11:12 d", "f 4755 11:12 d/f = text"]);
}

fn an_archive_that_is_cut_off_fails() {
    let world = World::new();
    let packed = gzip(&simple());
    let xz = bytes_of(PLAIN_XZ);
    for (name, cut) in [("cut.tgz", &packed[..packed.len() - 12]), ("cut.txz", &xz[..xz.len() - 20])] {
        put(&world, name, cut);
        assert!(added(&world, &[name], "/", None, true).unwrap_err().contains(&format!("cannot unpack the archive `{name}`")));
    }
    // One of which not even the first header can be read is a file like any other.
    put(&world, "odd.tar.bz2", b"BZh91AY&SY________");
    assert_eq!(added(&world, &["odd.tar.bz2"], "/", None, true).unwrap(), ["f 644 0:0 odd.tar.bz2 = BZh91AY&SY________"]);
}

/// A directory that is made for a repository's tree is the tree's own root, where one for a directory's content is one of its place (observed of BuildKit).
fn a_repositorys_root_is_its_own() {
    let world = World::new();
    world.write("repository/file", "content");
    world.write("base/place/file", "below");
    fs::set_permissions(world.context().join("base/place"), fs::Permissions::from_mode(0o2777)).unwrap();
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let mut step = plan.copy_so(scratch, &["base"], "/", |copy| copy.chown = chown("9:50"));
    for (dest, chmod, owner, tree) in [
        ("/place/plain", None, None, false),
        ("/place/tree", None, None, true),
        ("/place/owned", None, Some("7"), true),
        ("/place/mode", Some("go+w"), None, true),
        ("/place/into/", None, None, true),
        ("/place/deep/er", None, None, true),
        ("/place", Some("711"), Some("8"), true),
    ] {
        step = plan.copy_so(step, &["repository"], dest, |copy| {
            copy.add = Some(Add { tree, ..Add::default() });
            copy.chmod = chmod.map(str::to_owned);
            copy.chown = owner.and_then(chown);
        });
    }
    let found = world.files(plan.image(step));
    let directories: Vec<&str> = found.iter().filter_map(|line| line.strip_prefix("d ")).collect();
    assert_eq!(
        directories,
        [
            "2777 9:50 place",
            "2755 0:50 place/deep",
            "755 0:0 place/deep/er",
            "2755 0:50 place/into",
            "777 0:0 place/mode",
            "755 7:7 place/owned",
            "2755 0:50 place/plain",
            "755 0:0 place/tree",
        ]
    );
}

fn an_archive_cannot_leave_the_image() {
    use tar::EntryType::{Regular, Symlink};
    let world = World::new();
    let outside = world.context().join("../outside");
    fs::create_dir(&outside).unwrap();
    put(&world, "up.tar", &tar_of(&[("../../outside/x", Regular, "", 0o644)]));
    assert!(added(&world, &["up.tar"], "/", None, true).is_err());
    let target = outside.canonicalize().unwrap();
    put(&world, "link.tar", &tar_of(&[("out", Symlink, target.to_str().unwrap(), 0o777), ("out/x", Regular, "", 0o644)]));
    let _ = added(&world, &["link.tar"], "/", None, true);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was written outside");
}
