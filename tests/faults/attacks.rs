//! Attacks of the field by what is built: Dockerfiles, contexts, archives and images that mean harm. Rows S1 to S24 of reference/reliability-and-security.md;
//! those about pods stand in `security`, those about registries in the registry's own tests.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use strake_tests::{Ran, World, needs};
use tar::EntryType;

/// What must never be seen by a build.
const HOST_SECRET: &str = "only-for-the-host";

/// A world with busybox in its store and a directory beside the store that no build may read or change.
fn world() -> World {
    let world = World::new();
    world.import_busybox();
    world.write("host/secret", HOST_SECRET);
    std::fs::create_dir_all(world.path("host/b/c")).expect("a folder");
    world.write("host/b/empty", "");
    world
}

/// Every path below `host/`, with its length.
fn host(world: &World) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![world.path("host")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").flatten() {
            let stat = entry.path().symlink_metadata().expect("there");
            found.push((entry.path(), if stat.is_dir() { 0 } else { stat.len() }));
            if stat.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn build(world: &World, dockerfile: &str) -> Ran {
    world.write("app/Dockerfile", dockerfile);
    world.strake(&["build", "--progress", "plain", "app"])
}

/// It failed in words, not by a mistake of ours.
#[track_caller]
fn refused(ran: &Ran, what: &str) {
    assert_eq!(ran.code, 1, "{what}: {}", ran.all());
    assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
    assert!(!ran.all().contains(HOST_SECRET), "{what}: {}", ran.all());
}

/// One stage turns a mount point of the other into a link to the host and back, as fast as it can, while the other's mounts are made and their stubs removed.
#[test]
fn s4_s5_s7_s8_s10_a_mount_point_that_is_swapped_for_a_link_while_it_is_used_leads_nowhere() {
    needs!("busybox");
    let world = world();
    let before = host(&world);
    let place = world.path("host").display().to_string();
    let swap = format!(
        "i=0; while [ ! -e /c/done ] && [ $i -lt 20000 ]; do i=$((i+1)); ln -s {place} /c/l; busybox mv -T /c/m /c/o; busybox mv -T /c/l /c/m; busybox rm -rf /c/m; mkdir -p /c/m; rm -rf /c/o; done; true"
    );
    let mut text = format!(
        "FROM busybox:1 AS files\nRUN mkdir /f && echo mine > /f/x\nFROM busybox:1 AS swap\nRUN --mount=type=cache,target=/c {swap}\nFROM busybox:1 AS use\n"
    );
    for round in 0..12 {
        // The last three have the mount point below one that is swapped.
        let target = if round < 9 { "/c/m" } else { "/c/m/b/c" };
        text += &format!(
            "RUN --mount=type=cache,target=/c --mount=type=bind,from=files,source=/f,target={target},rw echo {round} > {target}/written; cat /c/m/secret /proc/self/mountinfo > /seen{round}; true\n"
        );
    }
    text += "RUN --mount=type=cache,target=/c touch /c/done; cat /seen* 2>/dev/null; true\nFROM scratch\nCOPY --from=swap /etc/passwd /a\nCOPY --from=use /etc/passwd /b\n";
    // A mount that cannot be made because its place is gone is an error, and nothing else.
    let ran = build(&world, &text);
    assert!(ran.code == 0 || ran.code == 1, "{}", ran.all());
    assert!(!ran.all().contains(HOST_SECRET) && !ran.stderr.contains("panicked"), "{}", ran.all());
    assert_eq!(host(&world), before, "the host's files");
    world.strake(&["image", "verify"]).ok();
    world.nothing_left();
}

#[test]
fn s9_a_mount_whose_source_is_a_link_stays_in_its_root() {
    needs!("busybox");
    let world = world();
    let before = host(&world);
    let place = world.path("host").display().to_string();
    let made =
        format!("FROM busybox:1 AS a\nRUN mkdir /d && ln -s {place} /d/out && ln -s ../../../../../../../..{place} /d/up && ln -s {place}/secret /d/file\n");
    for mount in [
        "type=bind,from=a,source=/d/out",
        "type=bind,from=a,source=/d/up,rw",
        "type=bind,from=a,source=/d/file",
        "type=cache,from=a,source=/d/out",
        "type=cache,from=a,source=d/up/b",
        "type=bind,source=out",
        "type=bind,source=../host",
    ] {
        std::fs::create_dir_all(world.path("app")).expect("a folder");
        let _ = symlink(world.path("host"), world.path("app/out"));
        let ran = build(
            &world,
            &format!("{made}FROM busybox:1\nRUN --mount={mount},target=/got cat /got /got/secret; ls -lR /got; touch /got/written; rm -rf /got/b; true\n"),
        );
        assert!(!ran.all().contains(HOST_SECRET) && !ran.stderr.contains("panicked"), "{mount}: {}", ran.all());
        assert_eq!(host(&world), before, "{mount}");
    }
    world.nothing_left();
}

#[test]
fn s10_removing_a_mount_points_stub_removes_nothing_of_the_host() {
    needs!("busybox");
    let world = world();
    let before = host(&world);
    let place = world.path("host").display().to_string();
    for target in ["/a/b/c", "/a/b/empty"] {
        for away in [
            format!("busybox mv /a /z; ln -s {place} /a"),
            format!("rm -rf /a 2>/dev/null; ln -s {place} /a; true"),
            format!("ln -s {place}/b /y; busybox mv /a/b /x; busybox mv /y /a/b; true"),
        ] {
            let ran = build(
                &world,
                &format!(
                    "FROM busybox:1 AS f\nRUN mkdir /e; touch /e/x\nFROM busybox:1\nRUN --mount=type=tmpfs,target={target} --mount=type=bind,from=f,source=/e,target=/a/b/other {away}\n"
                ),
            );
            assert!(ran.code == 0 || ran.code == 1, "{}", ran.all());
            assert_eq!(host(&world), before, "{target}: {away}");
        }
    }
    world.nothing_left();
}

#[test]
fn s11_privileges_are_refused_unless_the_user_allows_them() {
    needs!("busybox");
    let world = world();
    for (flag, text) in [("--security=insecure", "security"), ("--network=host", "network")] {
        let ran = build(&world, &format!("FROM busybox:1\nRUN {flag} echo was-run-$((40 + 2))\n"));
        refused(&ran, flag);
        assert!(ran.stderr.contains(text) && !ran.all().contains("was-run-42"), "{}", ran.all());
    }
    // And without it there are none to be had.
    let ran = build(&world, "FROM busybox:1\nRUN mount -t tmpfs none /tmp || busybox unshare -m true || mount -o remount,rw /sys || echo none of them\n");
    assert!(ran.ok().all().contains("none of them"));
    world.nothing_left();
}

#[test]
fn s12_a_frontend_of_somebody_is_never_run_and_no_dockerfile_brings_the_parser_down() {
    needs!("busybox");
    let world = world();
    // Nobody listens there: had it been asked for, the build would fail with that.
    let ran = build(&world, "# syntax=127.0.0.1:9/evil/frontend:1\nFROM busybox:1\nRUN echo built-by-ourselves\n");
    assert!(!ran.all().contains("refused") && !ran.all().contains("127.0.0.1:9/v2"), "{}", ran.all());
    let deep = format!("FROM busybox:1\nENV A={}x{}\n", "${a:-".repeat(5000), "}".repeat(5000));
    let json = format!("FROM busybox:1\nRUN {}1{}\n", "[".repeat(20_000), "]".repeat(20_000));
    let stages: String =
        (0..3000).map(|index| if index == 0 { "FROM scratch AS s0\n".to_owned() } else { format!("FROM s{} AS s{index}\n", index - 1) }).collect();
    let cases: [(&str, Vec<u8>); 10] = [
        ("deep expansion", deep.into_bytes()),
        ("deep JSON", json.into_bytes()),
        ("a long line", [b"FROM busybox:1\nRUN echo ".to_vec(), vec![b'a'; 2 << 20]].concat()),
        ("many stages", (stages + "COPY nothing /\n").into_bytes()),
        ("bytes that are no text", b"FROM busybox:1\nRUN \xff\xfe\x00\n".to_vec()),
        ("zero bytes", vec![0; 4096]),
        ("an open heredoc", b"FROM busybox:1\nRUN <<A <<B <<C\nA\n".to_vec()),
        ("a stage of itself", b"FROM a AS a\nCOPY --from=a / /\n".to_vec()),
        ("an argument of itself", b"ARG A=${A}${A}\nFROM ${A}\n".to_vec()),
        ("triggers of triggers", b"FROM scratch\nONBUILD ONBUILD ONBUILD RUN x\n".to_vec()),
    ];
    for (what, text) in cases {
        world.write("app/Dockerfile", text);
        refused(&world.strake(&["build", "app"]), what);
    }
    world.nothing_left();
}

#[test]
fn s13_the_name_of_a_cache_is_no_path_and_options_are_known_ones() {
    needs!("busybox");
    let world = world();
    let before = host(&world);
    let place = world.path("host").display().to_string();
    for id in ["../../../../host", &format!("../../../../../../../../..{place}"), &place, "..", ".", "a/../../b", "%2e%2e/x"] {
        build(&world, &format!("FROM busybox:1\nRUN --mount=type=cache,id={id},target=/c ls /c; touch /c/written\n")).ok();
        assert_eq!(host(&world), before, "{id}");
        let strays: Vec<_> = std::fs::read_dir(world.root()).expect("readable").flatten().filter(|entry| entry.path().join("written").exists()).collect();
        assert!(strays.is_empty(), "{id}: {strays:?}");
        assert!(!world.path("written").exists(), "{id}");
    }
    for option in ["bind-propagation=rshared", "propagation=shared", "type=host", "sharing=everyone", "mode=99999", "uid=4294967296", "relabel=shared"] {
        refused(&build(&world, &format!("FROM busybox:1\nRUN --mount=type=cache,target=/c,{option} true\n")), option);
    }
    world.nothing_left();
}

/// A tar of raw entries: name, kind, link, text.
fn evil(entries: &[(&str, EntryType, &str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, link, text) in entries {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_ustar_mut().expect("ustar");
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(text.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn s14_an_archive_that_wants_out_stays_in_wherever_it_is_given() {
    needs!("busybox");
    let world = world();
    let before = host(&world);
    let place = world.path("host").display().to_string();
    let (up, secret) = (format!("../../../../../../../../../..{place}/written"), format!("{place}/secret"));
    let (file, link, hard, dir) = (EntryType::Regular, EntryType::Symlink, EntryType::Link, EntryType::Directory);
    let archives: Vec<Vec<(&str, EntryType, &str, &str)>> = vec![
        vec![(&up, file, "", "evil")],
        vec![("a/../../../../../../../../../../tmp/written", file, "", "evil")],
        vec![("l", link, &place, ""), ("l/written", file, "", "evil")],
        vec![("l", link, &place, ""), ("l", dir, "", ""), ("l/written", file, "", "evil")],
        vec![("l", link, &secret, ""), ("l", file, "", "evil")],
        vec![("h", hard, &secret, ""), ("h", file, "", "evil")],
        vec![("l", link, "/", ""), ("h", hard, "l/etc/shadow", "")],
        vec![("l", link, &place, ""), ("l/.wh.secret", file, "", ""), ("l/.wh..wh..opq", file, "", "")],
        vec![("d", link, &place, ""), ("d", dir, "", ""), ("d/b", dir, "", "")],
    ];
    for (index, entries) in archives.iter().enumerate() {
        let bytes = evil(entries);
        let tar = world.write("app/evil.tar", &bytes);
        for dockerfile in ["FROM busybox:1\nADD evil.tar /\nRUN ls -l / /l /h; cat /h /l/secret; true\n", "FROM busybox:1\nADD evil.tar /deep/er/\n"] {
            let ran = build(&world, dockerfile);
            assert!(!ran.all().contains(HOST_SECRET) && !ran.stderr.contains("panicked"), "{index}: {}", ran.all());
            assert_eq!(host(&world), before, "{index}: ADD");
        }
        let tar = tar.to_str().expect("UTF-8");
        for words in [&["image", "import", tar, "evil:1"][..], &["image", "load", "-i", tar]] {
            let ran = world.strake(words);
            assert!(!ran.stderr.contains("panicked"), "{index}: {}", ran.all());
            assert_eq!(host(&world), before, "{index}: {words:?}");
        }
        // As a context.
        let mut command = world.strake_command(&["build", "--progress", "plain", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strake runs");
        let sent =
            child.stdin.take().expect("a pipe").write_all(&[evil(&[("Dockerfile", file, "", "FROM scratch\nCOPY . /\n")])[..1024].to_vec(), bytes].concat());
        let output = child.wait_with_output().expect("ended");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{index}: {sent:?}");
        assert_eq!(host(&world), before, "{index}: context");
    }
    assert!(!Path::new("/tmp/written").exists());
    world.strake(&["image", "verify"]).ok();
    world.nothing_left();
}

#[test]
fn s15_a_bomb_is_stopped_long_before_the_disk_is_full() {
    needs!("busybox");
    let world = world();
    // A tar of one file of 2 GiB of zeros, as gzip: members of 8 MiB that are all the same.
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").expect("short");
    header.set_size(2 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let member = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("compressed");
        encoder.finish().expect("compressed")
    };
    let mut bomb = member(header.as_bytes());
    let zeros = member(&vec![0; 8 << 20]);
    (0..257).for_each(|_| bomb.extend_from_slice(&zeros));
    assert!(bomb.len() < 8 << 20, "a bomb is small: {}", bomb.len());
    let file = world.write("app/bomb.tar.gz", &bomb);
    let ran = build(&world, "FROM scratch\nADD bomb.tar.gz /\n");
    refused(&ran, "ADD");
    assert!(ran.stderr.contains("decompression bomb"), "{}", ran.stderr);
    let ran = world.strake(&["image", "import", file.to_str().expect("UTF-8"), "bomb:1"]);
    refused(&ran, "import");
    assert!(ran.stderr.contains("decompression bomb"), "{}", ran.stderr);
    let kept = world.run("du", &["-sm", world.root().to_str().expect("UTF-8")]).ok().stdout;
    let megabytes: u64 = kept.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
    assert!(megabytes < 100, "the store keeps nothing of it: {megabytes} MB");
    world.nothing_left();
}

/// What a name means is looked at when it is asked for, at every redirect: a name that leads to a service of the cloud's machine is as good as its address.
#[test]
fn s19_no_name_and_no_redirect_leads_a_build_to_a_metadata_service() {
    needs!("busybox", "mount", "ip");
    let world = world();
    // A service that would answer, where one answers in clouds; and names for it.
    world.run("ip", &["address", "add", "169.254.169.254/32", "dev", "lo"]).ok();
    world.write("web/latest", HOST_SECRET);
    let redirect = "#!/bin/sh\nprintf 'Status: 302 Found\\r\\nLocation: http://metadata.example:8000/latest\\r\\n\\r\\n'\n";
    let script = world.write("web/cgi-bin/away", redirect);
    std::fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let hosts = world.write("hosts", "127.0.0.1 localhost plain.example\n169.254.169.254 metadata.example\n");
    world.run("mount", &["--bind", hosts.to_str().expect("UTF-8"), "/etc/hosts"]).ok();
    let mut command = world.command(strake_tests::find("busybox").expect("found"));
    let mut server = command.args(["httpd", "-f", "-p", "8000", "-h"]).arg(world.path("web")).spawn().expect("a server");
    let answers = || world.run("busybox", &["wget", "-q", "-O", "-", "http://metadata.example:8000/latest"]).stdout == HOST_SECRET;
    assert!(strake_tests::until(strake_tests::PATIENCE, answers), "the service answers whoever may ask");
    for url in [
        "http://metadata.example:8000/latest",
        "http://plain.example:8000/cgi-bin/away",
        "http://2852039166:8000/latest",
        "http://[::ffff:169.254.169.254]:8000/latest",
    ] {
        let ran = build(&world, &format!("FROM scratch\nADD {url} /x\n"));
        refused(&ran, url);
        assert!(ran.stderr.contains("may not reach") || ran.stderr.contains("169.254.169.254"), "{url}: {}", ran.stderr);
    }
    for words in [
        &["image", "pull", "metadata.example:8000/app:1"][..],
        &["build", "http://metadata.example:8000/latest"],
        &["build", "http://metadata.example:8000/app.git"],
    ] {
        refused(&world.strake(words), &words.join(" "));
    }
    // The way there is open: it is the address that is refused.
    build(&world, "FROM scratch\nADD http://plain.example:8000/latest /x\n").ok();
    server.kill().expect("killed");
    server.wait().expect("ended");
    world.run("umount", &["/etc/hosts"]).ok();
    world.run("ip", &["address", "del", "169.254.169.254/32", "dev", "lo"]).ok();
    world.nothing_left();
}
