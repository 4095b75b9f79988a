//! COPY: what lands where, with which owner and mode (dockerfile.md C1 to C17; buildkit-facts 1, 2, 6, 9, 13, 14).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use strake_plan::{CopySource, InlineFile};

use crate::world::{World, chown};
use crate::{Needs, Test};

pub const TESTS: &[Test] = &[
    ("copy::a_file_goes_to_its_destination", Needs::Root, a_file_goes_to_its_destination),
    ("copy::a_directory_gives_its_content", Needs::Root, a_directory_gives_its_content),
    ("copy::several_sources_and_no_slash", Needs::Root, several_sources_and_no_slash),
    ("copy::conflicts_of_kinds_are_errors", Needs::Root, conflicts_of_kinds_are_errors),
    ("copy::links_of_the_destination_are_followed_inside", Needs::Root, links_of_the_destination_are_followed_inside),
    ("copy::links_of_the_source", Needs::Root, links_of_the_source),
    ("copy::wildcards", Needs::Root, wildcards),
    ("copy::missing_sources_are_named", Needs::Root, missing_sources_are_named),
    ("copy::ignored_files_are_not_there", Needs::Root, ignored_files_are_not_there),
    ("copy::exclude_and_parents", Needs::Root, exclude_and_parents),
    ("copy::owners_and_modes", Needs::Root, owners_and_modes),
    ("copy::setgid_is_inherited_by_new_directories", Needs::Root, setgid_is_inherited_by_new_directories),
    ("copy::hard_links_and_special_files", Needs::Root, hard_links_and_special_files),
    ("copy::between_stages_everything_is_kept", Needs::Root, between_stages_everything_is_kept),
    ("copy::an_old_layer_is_changed_only_where_said", Needs::Root, an_old_layer_is_changed_only_where_said),
    ("copy::inline_files", Needs::Root, inline_files),
    ("copy::workdir_belongs_to_its_user", Needs::Root, workdir_belongs_to_its_user),
    ("copy::names_of_deletions_are_refused", Needs::Root, names_of_deletions_are_refused),
];

/// The files after one COPY onto the empty file system.
fn copied(world: &World, sources: &[&str], dest: &str) -> Vec<String> {
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy(scratch, sources, dest);
    world.files(plan.image(step))
}

/// The failure of one COPY onto a file system made by another.
fn refused(world: &World, first: (&[&str], &str), second: (&[&str], &str)) -> String {
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let base = plan.copy(scratch, first.0, first.1);
    let step = plan.copy(base, second.0, second.1);
    world.failure(plan.image(step))
}

fn a_file_goes_to_its_destination() {
    let world = World::new();
    world.write("a", "1");
    let file = "f 644 0:0";
    assert_eq!(copied(&world, &["a"], "/x"), [format!("{file} x = 1")]);
    assert_eq!(copied(&world, &["a"], "/x/"), ["d 755 0:0 x".to_owned(), format!("{file} x/a = 1")]);
    assert_eq!(copied(&world, &["/a"], "/"), [format!("{file} a = 1")]);
    assert_eq!(copied(&world, &["../../a"], "/d/e"), ["d 755 0:0 d".to_owned(), format!("{file} d/e = 1")]);
    assert_eq!(copied(&world, &["a/"], "/d/./e"), ["d 755 0:0 d".to_owned(), format!("{file} d/e = 1")]);
}

fn a_directory_gives_its_content() {
    let world = World::new();
    world.write("dir/a", "1");
    world.write("dir/sub/b", "2");
    fs::set_permissions(world.context().join("dir/sub"), fs::Permissions::from_mode(0o2750)).unwrap();
    fs::set_permissions(world.context().join("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    let below = |top: &str| vec![format!("f 644 0:0 {top}a = 1"), format!("d 2750 0:0 {top}sub"), format!("f 644 0:0 {top}sub/b = 2")];
    assert_eq!(copied(&world, &["dir"], "/"), below(""));
    let mut with_top = vec!["d 755 0:0 x".to_owned()];
    with_top.extend(below("x/"));
    assert_eq!(copied(&world, &["dir"], "/x"), with_top, "the directory that is made is 0755");
    assert_eq!(copied(&world, &["dir/"], "/x/"), with_top);
    assert_eq!(copied(&world, &["."], "/x")[1], "d 700 0:0 x/dir");
}

fn several_sources_and_no_slash() {
    let world = World::new();
    for name in ["a", "b"] {
        world.write(name, name);
        world.write(&format!("dir-{name}/{name}"), name);
        world.write(&format!("dir-{name}/both"), name);
    }
    assert_eq!(copied(&world, &["a", "b"], "/x"), ["f 644 0:0 x = b"], "the last one wins");
    assert_eq!(copied(&world, &["[ab]"], "/x"), ["f 644 0:0 x = b"]);
    let merged = copied(&world, &["dir-a", "dir-b"], "/x");
    assert_eq!(merged, ["d 755 0:0 x", "f 644 0:0 x/a = a", "f 644 0:0 x/b = b", "f 644 0:0 x/both = b"]);
    assert_eq!(copied(&world, &["dir-a", "b"], "/x"), ["d 755 0:0 x", "f 644 0:0 x/a = a", "f 644 0:0 x/b = b", "f 644 0:0 x/both = a"]);
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy(scratch, &["a", "dir-a"], "/x");
    assert!(world.failure(plan.image(step)).contains("cannot copy a directory to `/x`: it is not a directory"));
}

fn conflicts_of_kinds_are_errors() {
    let world = World::new();
    world.write("file", "1");
    world.write("dir/file", "2");
    world.write("tree/name/inner", "3");
    assert!(refused(&world, (&["file"], "/x"), (&["dir"], "/x")).contains("`/x`: it is not a directory"));
    assert!(refused(&world, (&["file"], "/x"), (&["file"], "/x/")).contains("`/x`: it is not a directory"));
    assert!(refused(&world, (&["file"], "/x"), (&["file"], "/x/y")).contains("`/x`: it is not a directory"));
    // A file of a tree onto a directory, and a directory of a tree onto a file.
    assert!(refused(&world, (&["file"], "/x/file/"), (&["dir"], "/x")).contains("cannot copy a file to `/x/file`: it is a directory"));
    assert!(refused(&world, (&["file"], "/x/name"), (&["tree"], "/x")).contains("cannot copy a directory to `/x/name`"));
}

fn links_of_the_destination_are_followed_inside() {
    let world = World::new();
    world.write("a", "1");
    world.write("tree/lib/a", "2");
    world.write("base/usr/lib/old", "0");
    world.link("base/lib", "usr/lib");
    world.link("base/abs", "/usr");
    world.link("base/up", "../../../../usr/lib");
    world.link("base/dangling", "made/here");
    world.link("base/usr/lib/link", "old");
    let onto = |sources: &[&str], dest: &str| {
        let mut plan = world.plan();
        let scratch = plan.scratch();
        let base = plan.copy(scratch, &["base"], "/");
        let step = plan.copy(base, sources, dest);
        let built = world.build(plan.image(step)).unwrap();
        world.top_layer(&built[0])
    };
    let in_lib = ["d 755 0:0 usr", "d 755 0:0 usr/lib", "f 644 0:0 usr/lib/a = 1"];
    assert_eq!(onto(&["a"], "/lib/"), in_lib);
    assert_eq!(onto(&["a"], "/lib"), in_lib);
    assert_eq!(onto(&["a"], "/abs/lib/a"), in_lib);
    assert_eq!(onto(&["a"], "/up/a"), in_lib);
    assert_eq!(onto(&["a"], "/dangling"), ["d 755 0:0 made", "f 644 0:0 made/here = 1"]);
    assert_eq!(onto(&["tree"], "/"), ["d 755 0:0 usr", "d 755 0:0 usr/lib", "f 644 0:0 usr/lib/a = 2"], "a tree's directory onto a link");
    // The destination itself is followed; a name below it is replaced.
    assert_eq!(onto(&["a"], "/usr/lib/link")[2], "f 644 0:0 usr/lib/old = 1");
    world.write("link", "new");
    assert_eq!(onto(&["link"], "/usr/lib/")[2], "f 644 0:0 usr/lib/link = new");
    world.write("other/dangling/x", "");
    assert!(refused(&world, (&["base"], "/"), (&["other"], "/")).contains("cannot copy a directory to `/dangling`"));
}

fn links_of_the_source() {
    let world = World::new();
    world.write("real/a", "1");
    world.link("to-file", "real/a");
    world.link("to-dir", "/real");
    world.link("tree/kept", "nowhere");
    world.link("gone", "nowhere");
    world.link("out", "/etc/passwd");
    assert_eq!(copied(&world, &["to-file"], "/x/"), ["d 755 0:0 x", "f 644 0:0 x/to-file = 1"]);
    assert_eq!(copied(&world, &["to-dir"], "/x"), ["d 755 0:0 x", "f 644 0:0 x/a = 1"]);
    assert_eq!(copied(&world, &["to-dir/a"], "/x"), ["f 644 0:0 x = 1"]);
    assert_eq!(copied(&world, &["tree"], "/x"), ["d 755 0:0 x", "l 0:0 x/kept -> nowhere"]);
    for missing in ["gone", "out", "gon*"] {
        let mut plan = world.plan();
        let scratch = plan.scratch();
        let step = plan.copy(scratch, &[missing], "/x");
        assert!(world.failure(plan.image(step)).contains("is not there"), "{missing}");
    }
}

fn wildcards() {
    let world = World::new();
    for path in ["a.txt", "b.txt", ".c.txt", "d/x", "e/x", "e/f/x", "a[0].log"] {
        world.write(path, path);
    }
    assert_eq!(copied(&world, &["*.txt"], "/x/").len(), 4, "a leading dot is matched");
    assert_eq!(copied(&world, &["*/x"], "/o"), ["f 644 0:0 o = e/x"], "flattened: the last one wins");
    assert_eq!(copied(&world, &["**/x"], "/o/"), ["d 755 0:0 o", "f 644 0:0 o/x = e/x"], "two stars are one here");
    assert_eq!(copied(&world, &["[de]"], "/o"), ["d 755 0:0 o", "d 755 0:0 o/f", "f 644 0:0 o/f/x = e/f/x", "f 644 0:0 o/x = e/x"]);
    assert_eq!(copied(&world, &["a[[]0].log"], "/o"), ["f 644 0:0 o = a[0].log"]);
    assert_eq!(copied(&world, &["none*"], "/o"), Vec::<String>::new());
    assert_eq!(copied(&world, &["none*", "a.tx[t]"], "/o/"), ["d 755 0:0 o", "f 644 0:0 o/a.txt = a.txt"]);
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy(scratch, &["[a"], "/x");
    assert!(world.failure(plan.image(step)).contains("syntax error in pattern"));
    // The directory before the wildcard is a name like any other; one behind a wildcard may be missing.
    assert_eq!(copied(&world, &["*/f/none*", "a.txt/*"], "/o"), Vec::<String>::new());
    for mistaken in ["nowhere/*", "d/nowhere/*/x"] {
        let mut plan = world.plan();
        let scratch = plan.scratch();
        let step = plan.copy(scratch, &[mistaken], "/x");
        let failure = world.failure(plan.image(step));
        assert!(failure.contains(&format!("`{mistaken}` is not there")), "{failure}");
    }
}

fn missing_sources_are_named() {
    let world = World::new();
    world.write("a", "1");
    let mut plan = world.plan_ignoring(&["# comment", "secret", "*.log"]);
    world.write("secret/key", "1");
    let scratch = plan.scratch();
    let step = plan.copy(scratch, &["secret/key"], "/x");
    let failure = world.failure(plan.image(step));
    assert!(failure.contains("`secret/key` is not there: line 2 of the ignore file leaves it out"), "{failure}");
    assert!(failure.starts_with("Dockerfile:2: `COPY secret/key /x` failed"), "{failure}");
    assert!(refused(&world, (&["a"], "/a"), (&["a/b"], "/x")).contains("`a/b` is not there"));
    assert!(refused(&world, (&["a"], "/a"), (&["nothing"], "/x")).contains("`nothing` is not there"));
}

fn ignored_files_are_not_there() {
    let world = World::new();
    for path in ["a", "b.log", "dir/keep", "dir/drop", "dir/sub/keep", "gone/x"] {
        world.write(path, "");
    }
    let paths = |ignore: &[&str], sources: &[&str]| {
        let mut plan = world.plan_ignoring(ignore);
        let scratch = plan.scratch();
        let step = plan.copy(scratch, sources, "/");
        let lines = world.files(plan.image(step));
        lines.iter().map(|line| line.split(' ').nth(3).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&["*.log", "dir", "!dir/keep", "gone"], &["."]), ["a", "dir", "dir/keep"]);
    assert_eq!(paths(&["dir/**", "gone/*"], &["."]), ["a", "b.log", "dir", "gone"], "the directory itself stays");
    assert_eq!(paths(&["**", "!**/keep"], &["."]), ["dir", "dir/keep", "dir/sub", "dir/sub/keep"]);
    assert_eq!(paths(&["*", "!dir/sub"], &["dir"]), ["sub", "sub/keep"]);
    assert_eq!(paths(&["b*"], &["*"]), ["a", "drop", "keep", "sub", "sub/keep", "x"]);
    assert_eq!(paths(&["*"], &["."]), Vec::<String>::new());
}

fn exclude_and_parents() {
    let world = World::new();
    for path in ["a.txt", "a.md", "x/y/a.txt", "x/y/b.md", "x/z/c.txt"] {
        world.write(path, "");
    }
    fs::set_permissions(world.context().join("x"), fs::Permissions::from_mode(0o711)).unwrap();
    let so = |sources: &[&str], exclude: &[&str], parents: bool| {
        let mut plan = world.plan();
        let scratch = plan.scratch();
        let step = plan.copy_so(scratch, sources, "/o/", |copy| {
            copy.exclude = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
            copy.parents = parents;
        });
        let lines = world.files(plan.image(step));
        lines.iter().skip(1).map(|line| line.trim_end_matches(" = ").replace(" 0:0 ", " ")).collect::<Vec<_>>()
    };
    assert_eq!(so(&["a.*"], &["*.md"], false), ["f 644 o/a.txt"]);
    assert_eq!(so(&["x"], &["**/*.md", "z"], false), ["d 755 o/y", "f 644 o/y/a.txt"]);
    assert_eq!(so(&["x"], &["*", "!z"], false), ["d 755 o/z", "f 644 o/z/c.txt"]);
    assert_eq!(so(&["x/y/a.txt"], &[], true), ["d 711 o/x", "d 755 o/x/y", "f 644 o/x/y/a.txt"]);
    assert_eq!(so(&["x/./y/a.txt", "a.md"], &[], true), ["f 644 o/a.md", "d 755 o/y", "f 644 o/y/a.txt"]);
    assert_eq!(so(&["**/*.txt"], &["x/z"], true), ["f 644 o/a.txt", "d 711 o/x", "d 755 o/x/y", "f 644 o/x/y/a.txt"]);
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy_so(scratch, &["x/none"], "/o/", |copy| copy.parents = true);
    assert!(world.failure(plan.image(step)).contains("`x/none` is not there"));
}

fn owners_and_modes() {
    let world = World::new();
    world.write("etc/passwd", "root:x:0:0::/:/\napp:x:1000:1001::/:/\n");
    world.write("dir/f", "");
    world.write("dir/s/g", "");
    fs::set_permissions(world.context().join("dir/f"), fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(world.context().join("dir/f"), Some(7), Some(7)).unwrap();
    fs::set_permissions(world.context().join("dir/f"), fs::Permissions::from_mode(0o4711)).unwrap();
    let so = |owner: Option<&str>, mode: Option<&str>| {
        let mut plan = world.plan();
        let scratch = plan.scratch();
        let base = plan.copy(scratch, &["etc"], "/etc");
        let step = plan.copy_so(base, &["dir"], "/new/top", |copy| {
            copy.chown = owner.and_then(chown);
            copy.chmod = mode.map(str::to_owned);
        });
        let built = world.build(plan.image(step)).unwrap();
        world.top_layer(&built[0]).iter().map(|line| line.trim_end_matches(" = ").to_owned()).collect::<Vec<_>>()
    };
    let plain = ["d 755 0:0 new", "d 755 0:0 new/top", "f 4711 0:0 new/top/f", "d 755 0:0 new/top/s", "f 644 0:0 new/top/s/g"];
    assert_eq!(so(None, None), plain);
    assert_eq!(so(Some("app"), None), plain.map(|line| line.replace("0:0", "1000:1001")), "setuid stays");
    assert_eq!(so(Some("nosuch"), None), plain);
    assert!(world.told.take().iter().any(|line| line.contains("warning --chown=nosuch: the image knows no user nosuch")));
    assert_eq!(so(None, Some("600")), ["d 600 0:0 new", "d 600 0:0 new/top", "f 600 0:0 new/top/f", "d 600 0:0 new/top/s", "f 600 0:0 new/top/s/g"]);
    let bits = so(None, Some("4777"));
    assert_eq!(bits[..3], ["d 755 0:0 new", "d 755 0:0 new/top", "f 4777 0:0 new/top/f"], "new parents: as with a umask, and no more than nine bits");
    let symbolic = ["d 755 0:0 new", "d 755 0:0 new/top", "f 711 0:0 new/top/f", "d 711 0:0 new/top/s", "f 600 0:0 new/top/s/g"];
    assert_eq!(so(None, Some("u-s,a=rwX,go-rw")), symbolic);
}

/// What the kernel does for BuildKit in a directory with setgid.
fn setgid_is_inherited_by_new_directories() {
    let world = World::new();
    world.write("base/shared/old", "");
    world.write("dir/s/f", "");
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let owned = |copy: &mut strake_plan::Copy, mode: &str| {
        copy.chown = chown("5:50");
        copy.chmod = Some(mode.to_owned());
    };
    let base = plan.copy_so(scratch, &["base"], "/", |copy| owned(copy, "2775"));
    let plain = plan.copy(base, &["dir"], "/shared/a/b");
    let chowned = plan.copy_so(plain, &["dir"], "/shared/c", |copy| owned(copy, "700"));
    let step = plan.mkdir(chowned, "/shared/work", "");
    let lines = world.files(plan.image(step));
    let dirs: Vec<&str> = lines.iter().filter(|line| line.starts_with('d')).map(String::as_str).collect();
    let made = [
        "d 2755 0:50 shared/a",
        "d 2755 0:50 shared/a/b",
        "d 755 0:0 shared/a/b/s",
        "d 2700 5:50 shared/c",
        "d 700 5:50 shared/c/s",
        "d 2755 0:50 shared/work",
    ];
    assert_eq!(dirs[1..], made, "what is copied keeps its own mode");
}

fn hard_links_and_special_files() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let world = World::new();
    world.write("dir/a", "same");
    fs::hard_link(world.context().join("dir/a"), world.context().join("dir/b")).unwrap();
    let node = |name: &str, kind, device| mknodat(CWD, world.context().join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    node("dir/fifo", FileType::Fifo, 0);
    node("dir/null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    drop(std::os::unix::net::UnixListener::bind(world.context().join("dir/socket")).unwrap());
    let sparse = fs::File::create(world.context().join("dir/sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 4 << 20).unwrap();
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.copy(scratch, &["dir"], "/");
    let built = world.build(plan.image(step)).unwrap();
    let lines = world.list(&built[0]);
    assert!(lines.iter().any(|line| line == "p 640 0:0 fifo") && lines.iter().any(|line| line == "c 640 0:0 null"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("f ") && line.ends_with("0:0 socket = ")), "{lines:?}");
    world.look(&built[0], |root| {
        use std::os::unix::fs::MetadataExt;
        let stat = |name: &str| fs::metadata(root.join(name)).unwrap();
        assert_eq!((stat("a").nlink(), stat("b").nlink()), (2, 2));
        assert_eq!(stat("sparse").len(), 5 << 20);
        assert!(stat("sparse").blocks() * 512 < 1 << 20, "holes stay holes");
        let bytes = fs::read(root.join("sparse")).unwrap();
        assert_eq!(&bytes[4 << 20..(4 << 20) + 3], b"end");
    });
    // Named one by one they are two files.
    let step = plan.copy(scratch, &["dir/a", "dir/b"], "/");
    let mut plan = plan.clone();
    plan.plan.images.clear();
    let built = world.build(plan.image(step)).unwrap();
    world.look(&built[0], |root| assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(root.join("a")).unwrap()), 1));
}

fn between_stages_everything_is_kept() {
    use rustix::fs::{XattrFlags, lsetxattr};
    let world = World::new();
    world.write("dir/f", "1");
    world.write("dir/log", "2");
    world.link("dir/l", "f");
    let _ = lsetxattr(world.context().join("dir/f"), "user.note", b"x", XattrFlags::empty());
    let mut plan = world.plan_ignoring(&["*.log"]);
    let scratch = plan.scratch();
    let made = plan.copy_so(scratch, &["dir"], "/d", |copy| {
        copy.chown = chown("5:6");
        copy.chmod = Some("u=rwX,go=".to_owned());
    });
    let step = plan.copy_from(scratch, made, &["/d/", "d/l"], "/o/");
    let lines = world.files(plan.image(step));
    assert_eq!(lines, ["d 755 0:0 o", "f 600 5:6 o/f = 1", "f 600 5:6 o/l = 1", "f 600 5:6 o/log = 2"]);
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let made = plan.copy(scratch, &["dir"], "/d");
    let step = plan.copy_from(scratch, made, &["/nope"], "/o/");
    assert!(world.failure(plan.image(step)).contains("`/nope` is not there"));
}

fn an_old_layer_is_changed_only_where_said() {
    let world = World::new();
    world.write("base/d/old", "old");
    world.write("base/d/s/x", "x");
    world.write("new/s/y", "y");
    world.write("new/old", "new");
    fs::set_permissions(world.context().join("base/d"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(world.context().join("new/s"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::hard_link(world.context().join("base/d/old"), world.context().join("base/d/other")).unwrap();
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let base = plan.copy(scratch, &["base"], "/");
    let step = plan.copy(base, &["new"], "/d");
    let built = world.build(plan.image(step)).unwrap();
    assert_eq!(
        world.list(&built[0]),
        ["d 1777 0:0 d", "f 644 0:0 d/old = new", "f 644 0:0 d/other = old", "d 700 0:0 d/s", "f 644 0:0 d/s/x = x", "f 644 0:0 d/s/y = y",]
    );
    assert_eq!(world.top_layer(&built[0]), ["d 1777 0:0 d", "f 644 0:0 d/old = new", "d 700 0:0 d/s", "f 644 0:0 d/s/y = y"]);
}

fn inline_files() {
    let world = World::new();
    let so = |dest: &str, mode: Option<&str>| {
        let mut plan = world.plan();
        let scratch = plan.scratch();
        let step = plan.copy_so(scratch, &[], dest, |copy| {
            copy.from = CopySource::Inline;
            copy.inline = vec![InlineFile { name: "EOF".to_owned(), content: "hello\n".to_owned() }];
            copy.chmod = mode.map(str::to_owned);
            copy.chown = chown("3:4");
        });
        world.files(plan.image(step))
    };
    assert_eq!(so("/x", None), ["f 644 3:4 x = hello\n"]);
    assert_eq!(so("/n/", Some("755")), ["d 755 3:4 n", "f 755 3:4 n/EOF = hello\n"]);
}

fn workdir_belongs_to_its_user() {
    let world = World::new();
    world.write("etc/passwd", "app:x:1000:1001::/:/\n");
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let base = plan.copy(scratch, &["etc"], "/etc");
    let first = plan.mkdir(base, "/a/b", "app");
    let again = plan.mkdir(first, "/a", "7:8");
    let step = plan.mkdir(again, "/a/c", "nosuch");
    let built = world.build(plan.image(step)).unwrap();
    let lines = world.list(&built[0]);
    assert_eq!(lines[..3], ["d 755 1000:1001 a", "d 755 1000:1001 a/b", "d 755 0:0 a/c"]);
    assert_eq!(built[0].layers.len(), 4, "a layer even where the directory is there");
    assert_eq!(built[0].layers[2].size_bytes, 1024, "an empty one");
    let mut plan = world.plan();
    let scratch = plan.scratch();
    let step = plan.mkdir(scratch, "/a", "nosuch");
    assert_eq!(world.files(plan.image(step)), ["d 755 0:0 a"]);
}

fn names_of_deletions_are_refused() {
    let world = World::new();
    world.write("dir/.wh.passwd", "");
    world.write("a", "");
    assert!(refused(&world, (&["a"], "/a"), (&["dir"], "/")).contains("names that begin with .wh. mark deletions"));
    assert!(refused(&world, (&["a"], "/a"), (&["a"], "/.wh.a")).contains("names that begin with .wh. mark deletions"));
}
