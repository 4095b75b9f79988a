//! Images for several platforms, and what is said about them.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use strake_tests::{World, needs};

/// Two stages of the build's platform, one of which is the same for every target; nothing of a foreign platform is run.
const CROSS: &str = "FROM --platform=$BUILDPLATFORM scratch AS build
ARG TARGETARCH
COPY guestbook /bin/guestbook
RUN [\"/bin/guestbook\", \"render\", \"/site\"]
FROM --platform=$BUILDPLATFORM scratch AS shared
COPY guestbook /bin/guestbook
RUN [\"/bin/guestbook\", \"render\", \"/shared\"]
FROM scratch
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT
LABEL platform=$TARGETPLATFORM parts=$TARGETOS-$TARGETARCH-$TARGETVARIANT
COPY --from=build /site/ /site/
COPY --from=shared /shared/ /shared/
COPY <<EOF /arch
$TARGETARCH
EOF
";
/// A platform that nobody's emulator makes foreign programs run for here: strake does not know its programs.
const FOREIGN: &str = "linux/alpha";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn inspect(world: &World, name: &str) -> Value {
    json(&world.strake(&["image", "inspect", name]).ok().stdout)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cross() -> World {
    let world = World::new();
    world.write("app/Dockerfile", CROSS);
    world.write("app/.dockerignore", "*\n!guestbook\n");
    world.program("app/guestbook");
    world
}

#[test]
fn one_graph_gives_an_index_and_shared_stages_run_once() {
    needs!();
    let world = cross();
    let mut args = vec!["build", "--progress", "plain", "--platform", "linux/amd64,linux/arm64/v8", "--platform", "linux/arm/v7", "-t", "web:1"];
    args.extend(["--iidfile", "iid", "--metadata-file", "meta.json", "-o", "out", "-o", "type=tar,dest=out.tar", "-o", "type=oci,dest=oci.tar", "app"]);
    let built = world.strake(&args).ok().stderr;
    assert_eq!(built.lines().filter(|line| line.contains("[shared] RUN")).count(), 1, "{built}");
    let index = inspect(&world, "web:1");
    assert_eq!(index["platforms"], json(r#"["linux/amd64","linux/arm64","linux/arm/v7"]"#), "in the order asked for");
    for (place, parts) in ["linux-amd64-", "linux-arm64-", "linux-arm-v7"].iter().enumerate() {
        assert_eq!(index["images"][place]["config"]["config"]["Labels"]["parts"], *parts);
    }
    let digest = index["digest"].as_str().expect("a digest");
    assert_eq!(read(&world.path("iid")), digest);
    let metadata = json(&read(&world.path("meta.json")));
    assert_eq!((metadata["containerimage.digest"].as_str(), metadata["image.name"].as_str()), (Some(digest), Some("docker.io/library/web:1")));
    for (folder, architecture) in [("linux_amd64", "amd64\n"), ("linux_arm64", "arm64\n"), ("linux_arm_v7", "arm\n")] {
        assert_eq!(read(&world.path("out").join(folder).join("arch")), architecture);
    }
    let mut tar = tar::Archive::new(std::fs::File::open(world.path("out.tar")).expect("a tar"));
    let paths = tar.entries().expect("entries").map(|entry| entry.expect("an entry").path().expect("a path").into_owned());
    assert!(paths.into_iter().any(|path| path == Path::new("linux_arm_v7/arch")), "a folder for each platform");
    let images = world.strake(&["images"]).ok().stdout;
    assert!(images.contains("linux/amd64, linux/arm64, linux/arm/v7"), "{images}");
    world.strake(&["image", "verify"]).ok();
    world.strake(&["image", "prune"]).ok();
    assert_eq!(inspect(&world, "web:1"), index, "everything that the index lists is kept");
    // Another store takes the whole in, and gives the same whole out.
    let two = world.path("two").display().to_string();
    world.strake(&["--root", &two, "image", "load", "-i", "oci.tar"]).ok();
    world.strake(&["--root", &two, "image", "export", "web:1", "again.tar"]).ok();
    assert_eq!(std::fs::read(world.path("again.tar")).expect("a tar"), std::fs::read(world.path("oci.tar")).expect("a tar"));
    // This machine's image of the index is what everything else takes.
    world.write("next/Dockerfile", "FROM web:1\n");
    world.strake(&["build", "-o", "flat", "next"]).ok();
    assert_eq!(read(&world.path("flat/arch")).trim(), if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    world.nothing_left();
}

#[test]
fn what_cannot_be_is_said_before_anything_runs() {
    needs!();
    let world = cross();
    world.write("foreign/Dockerfile", "FROM scratch AS tools\nCOPY a /a\nRUN [\"/a\"]\n\nFROM scratch\nCOPY --from=tools /a /b\n");
    world.write("foreign/a", "a");
    let refused = world.strake(&["build", "--progress", "plain", "--platform", FOREIGN, "foreign"]).fails(1, "foreign/Dockerfile:3: stage tools");
    for part in ["linux/alpha", "RUN [\"/a\"]", "--platform=$BUILDPLATFORM"] {
        assert!(refused.stderr.contains(part), "{part} in {}", refused.stderr);
    }
    assert!(!refused.stderr.contains("COPY a /a"), "nothing ran: {}", refused.stderr);
    // Copying needs no emulator.
    world.write("copy/Dockerfile", "FROM scratch\nCOPY a /a\n");
    world.write("copy/a", "a");
    world.strake(&["build", "-t", "copy:1", "--platform", FOREIGN, "copy"]).ok();
    assert_eq!(inspect(&world, "copy:1")["config"]["architecture"], "alpha");
    // The 32-bit relative runs natively.
    if cfg!(target_arch = "x86_64") {
        world.write("app/Relative", "FROM scratch\nCOPY guestbook /bin/guestbook\nRUN [\"/bin/guestbook\", \"render\", \"/site\"]\n");
        world.strake(&["build", "-t", "relative:1", "--platform", "linux/386", "-f", "app/Relative", "app"]).ok();
        assert_eq!(inspect(&world, "relative:1")["config"]["architecture"], "386");
    }
    let with = |more: &[&str]| world.strake(&[&["build", "--platform", "linux/amd64,linux/arm64"], more, &["app"]].concat());
    with(&["-o", "type=docker,dest=x.tar"]).fails(2, "a docker archive holds no index");
    with(&["-o", "type=local,dest=x,platform-split=false"]).fails(1, "is in the files of linux/amd64 and of linux/arm64");
    world.strake(&["build", "--annotation", "index:a=b", "app"]).fails(2, "annotations of an index need one");
    world.strake(&["build", "--annotation", "odd:a=b", "app"]).fails(2, "is not known");
    world.strake(&["build", "--platform", "linux", "app"]).fails(2, "is not a platform");
    world.strake(&["build", "--attest", "type=odd", "app"]).fails(2, "provenance and sbom are");
    world.strake(&["build", "-o", "one", "--platform", "linux/arm64", "copy"]).ok();
    assert_eq!(read(&world.path("one/a")), "a", "no folder for a single platform");
    world.strake(&["build", "-o", "type=local,dest=split,platform-split=true", "--platform", "linux/arm64", "copy"]).ok();
    assert_eq!(read(&world.path("split/linux_arm64/a")), "a");
    world.nothing_left();
}

#[test]
fn a_base_of_several_platforms_gives_each_its_own() {
    needs!("tar");
    let world = World::new();
    for (platform, text) in [("linux/amd64", "amd64"), ("linux/arm64", "arm64"), ("linux/arm/v7", "armv7")] {
        world.write("rootfs/etc/kind", text);
        world.run("tar", &["-cf", "rootfs.tar", "-C", "rootfs", "."]).ok();
        world.strake(&["image", "import", "rootfs.tar", "base:1", "--platform", platform]).ok();
    }
    world.write("app/Dockerfile", "FROM base:1\nCOPY Dockerfile /d\n");
    world.strake(&["build", "-o", "out", "--offline", "--platform", "linux/arm64,linux/amd64/v2,linux/arm/v8", "app"]).ok();
    // Older variants of the same architecture will do.
    for (folder, kind) in [("linux_arm64", "arm64"), ("linux_amd64_v2", "amd64"), ("linux_arm_v8", "armv7")] {
        assert_eq!(read(&world.path("out").join(folder).join("etc/kind")), kind);
    }
    let missing = "base:1 for linux/s390x (there is linux/amd64, linux/arm/v7, linux/arm64)";
    world.strake(&["build", "--offline", "--platform", "linux/s390x", "app"]).fails(1, missing);
    world.strake(&["image", "export", "base:1", "layout"]).ok();
    world.write("layout-app/Dockerfile", "FROM other\nCOPY Dockerfile /d\n");
    let layout = format!("other=oci-layout://{}", world.path("layout").display());
    world.strake(&["build", "-o", "two", "--build-context", &layout, "--platform", "linux/arm64,linux/amd64", "layout-app"]).ok();
    for kind in ["arm64", "amd64"] {
        assert_eq!(read(&world.path(&format!("two/linux_{kind}/etc/kind"))), kind);
    }
    world.nothing_left();
}

/// A database of a distribution's packages and a lock file, written by the Dockerfile, beside one that is not read.
const PACKAGES: &str = "FROM scratch AS tool
COPY guestbook /bin/guestbook
RUN --mount=type=secret,id=token [\"/bin/guestbook\", \"render\", \"/site\"]
FROM scratch
ARG CHANNEL
COPY --from=tool /site /site
COPY <<EOF /etc/os-release
ID=debian
VERSION_ID=\"12\"
EOF
COPY <<EOF /var/lib/dpkg/status
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9

EOF
COPY <<EOF /app/Cargo.lock
[[package]]
name = \"serde\"
version = \"1.0.1\"
EOF
COPY <<EOF /var/lib/rpm/Packages
not read
EOF
";

/// The one statement of a type.
fn of(found: &Value, kind: &str) -> Value {
    found.as_array().expect("a list").iter().find(|row| row["type"] == kind).expect(kind)["statement"].clone()
}

#[test]
fn statements_say_how_and_what_and_no_secret() {
    needs!();
    let world = World::new();
    world.write("app/Dockerfile", PACKAGES);
    world.program("app/guestbook");
    world.write("token", "hunter2-is-the-secret");
    let common = ["build", "-q", "--secret", "id=token,src=token", "--build-arg", "CHANNEL=value-of-the-channel", "-t", "app:1"];
    let at = |root: &str, args: &[&str]| world.strake(&[&["--root", &world.path(root).display().to_string()], args].concat()).ok();
    let build = |root: &str, more: &[&str]| at(root, &[&common[..], more, &["app"]].concat());
    let statements = |root: &str| json(&at(root, &["image", "attestations", "app:1", "-o", "json"]).stdout);
    let plain = build("one", &[]).stdout;
    let first = build("one", &["--provenance", "--sbom", "-o", "out"]);
    assert!(first.stderr.contains("/var/lib/rpm/Packages: it is not a hash database of Berkeley DB"), "what is not read is said: {}", first.stderr);
    assert_ne!(plain, first.stdout);
    assert_eq!(build("two", &["--provenance", "--sbom"]).stdout, first.stdout, "the same statements anywhere");
    assert_eq!(build("one", &["--provenance=false", "--sbom=false"]).stdout, plain, "off by default");
    let found = statements("two");
    let (sbom, provenance) = (of(&found, "sbom"), of(&found, "provenance"));
    let text = sbom["predicate"].to_string();
    for purl in ["pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12", "pkg:cargo/serde@1.0.1"] {
        assert!(text.contains(purl), "{purl} in {text}");
    }
    assert_eq!((&sbom["predicate"]["spdxVersion"], &provenance["predicateType"]), (&"SPDX-2.3".into(), &"https://slsa.dev/provenance/v1".into()));
    let subject = provenance["subject"][0]["digest"]["sha256"].as_str().map(|hex| format!("sha256:{hex}"));
    assert_eq!(subject.as_deref(), found[0]["manifest"].as_str());
    assert!(!provenance.to_string().contains("value-of-the-channel"), "values are for mode=max: {provenance}");
    assert!(provenance["predicate"]["runDetails"]["metadata"].get("startedOn").is_none(), "no times");
    assert!(read(&world.path("out/provenance.json")).contains("slsa.dev/provenance"));
    assert!(read(&world.path("out/sbom.spdx.json")).contains("SPDXRef-DOCUMENT"));
    let noted = build("three", &["--provenance=mode=max,times=true,builder-id=https://ci.example/1"]).stderr;
    assert!(noted.contains("values of CHANNEL"), "{noted}");
    let most = of(&statements("three"), "provenance");
    let details = &most["predicate"]["runDetails"];
    assert!(most.to_string().contains("value-of-the-channel") && details["metadata"].get("startedOn").is_some(), "{most}");
    assert_eq!(details["builder"]["id"], "https://ci.example/1");
    assert_eq!(most["predicate"]["buildDefinition"]["externalParameters"]["request"]["secrets"][0]["id"], "token");
    for root in ["one", "two", "three"] {
        for blob in std::fs::read_dir(world.path(root).join("blobs/sha256")).expect("blobs") {
            let bytes = std::fs::read(blob.expect("a blob").path()).expect("read");
            assert!(!bytes.windows(21).any(|window| window == b"hunter2-is-the-secret"), "the secret is in a blob of {root}");
        }
    }
    world.nothing_left();
}

#[test]
fn other_tools_read_index_and_attestations() {
    needs!("skopeo");
    let world = cross();
    let annotations = ["--annotation", "a=b", "--annotation", "index:i=j", "--annotation", "manifest-descriptor[linux/arm64]:d=e"];
    let wanted = ["build", "--platform", "linux/amd64,linux/arm64", "-t", "web:1", "--provenance=mode=max", "--sbom"];
    world.strake(&[&wanted[..], &annotations, &["-o", "type=oci,dest=oci.tar,compression=zstd", "app"]].concat()).ok();
    let index = json(&world.run("skopeo", &["inspect", "--raw", "oci-archive:oci.tar"]).ok().stdout);
    let kinds: Vec<&str> = index["manifests"].as_array().expect("a list").iter().filter_map(|entry| entry["platform"]["architecture"].as_str()).collect();
    assert_eq!(kinds, ["amd64", "arm64", "unknown", "unknown"]);
    assert_eq!((&index["annotations"]["i"], &index["manifests"][1]["annotations"]["d"]), (&"j".into(), &"e".into()));
    for (image, attestation) in [(0, 2), (1, 3)] {
        let marks = &index["manifests"][attestation]["annotations"];
        assert_eq!(marks["vnd.docker.reference.type"], "attestation-manifest");
        assert_eq!(marks["vnd.docker.reference.digest"], index["manifests"][image]["digest"]);
    }
    let arm = json(&world.run("skopeo", &["inspect", "--override-arch", "arm64", "--config", "oci-archive:oci.tar"]).ok().stdout);
    assert_eq!(arm["config"]["Labels"]["platform"], "linux/arm64");
    // Every blob is what its name says, and the statements name the digest that the image has here.
    world.run("skopeo", &["copy", "--all", "oci-archive:oci.tar", "oci:copy:web"]).ok();
    let blob = |digest: &Value| read(&world.path("copy/blobs/sha256").join(digest.as_str().expect("a digest").trim_start_matches("sha256:")));
    let attestation = json(&blob(&index["manifests"][2]["digest"]));
    assert_eq!(attestation["layers"][0]["mediaType"], "application/vnd.in-toto+json");
    assert_eq!(attestation["layers"][1]["annotations"]["in-toto.io/predicate-type"], "https://slsa.dev/provenance/v1");
    let statement = json(&blob(&attestation["layers"][1]["digest"]));
    let subject = format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str().expect("a digest"));
    assert_eq!(index["manifests"][0]["digest"], subject);
    assert_eq!(json(&blob(&index["manifests"][0]["digest"]))["annotations"]["a"], "b");
    world.nothing_left();
}

#[test]
fn an_index_goes_to_a_registry_and_comes_back_platform_by_platform() {
    needs!();
    let world = cross();
    let hub = world.path("hub").display().to_string();
    let mut server = world.strake_command(&["--root", &hub, "registry", "serve", "--listen", "127.0.0.1:5000"]);
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a registry");
    let answers = || world.strake(&["image", "pull", "127.0.0.1:5000/none"]).stderr.contains("does not exist");
    assert!(strake_tests::until(std::time::Duration::from_secs(60), answers), "the registry answers");
    let name = "127.0.0.1:5000/team/web:1";
    let several = ["build", "--platform", "linux/amd64,linux/arm64", "--metadata-file", "meta.json"];
    world.strake(&[&several[..], &["--provenance", "--push", "-t", name, "app"]].concat()).ok();
    let digest = || json(&read(&world.path("meta.json")))["containerimage.digest"].as_str().expect("a digest").to_owned();
    let pushed = digest();
    let two = world.path("two").display().to_string();
    let at_two = |args: &[&str]| world.strake(&[&["--root", &two], args].concat());
    world.write("next/Dockerfile", format!("FROM {name}\nCOPY Dockerfile /d\n"));
    at_two(&["build", "-o", "out", "--platform", "linux/arm64,linux/amd64", "next"]).ok();
    for architecture in ["arm64", "amd64"] {
        assert_eq!(read(&world.path(&format!("out/linux_{architecture}/arch"))).trim(), architecture);
    }
    at_two(&["build", "--platform", "linux/s390x", "next"]).fails(1, "linux/amd64, linux/arm64");
    world.write("pinned/Dockerfile", format!("FROM 127.0.0.1:5000/team/web@{pushed}\nCOPY Dockerfile /d\n"));
    at_two(&["build", "-o", "pinned-out", "--platform", "linux/arm64", "pinned"]).ok();
    assert_eq!(read(&world.path("pinned-out/arch")).trim(), "arm64");
    // Without a tag: the registry has it by its digest only.
    world.strake(&[&several[..], &["-o", "type=image,name=127.0.0.1:5000/team/nameless,push-by-digest=true", "app"]].concat()).ok();
    at_two(&["image", "pull", &format!("127.0.0.1:5000/team/nameless@{}", digest())]).ok();
    at_two(&["image", "pull", "127.0.0.1:5000/team/nameless"]).fails(1, "does not exist");
    server.kill().expect("killed");
    server.wait().expect("ended");
    world.nothing_left();
}
