//! What other tools make of our output, and we of theirs.

use std::path::Path;
use std::process::Command;

use strake_oci::Digest;
use strake_store::{Compression, Destination};

use crate::exchange::sample;
use crate::{installed, is_root, open};

const NAME: &str = "docker.io/library/app:1";

/// Runs a tool and gives its output.
fn run(tool: &str, args: &[&str]) -> String {
    let output = Command::new(tool).args(args).output().unwrap();
    assert!(output.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn skopeo_reads_every_export() {
    if !installed("skopeo") {
        return;
    }
    let (dir, store) = open();
    let image = sample(&store);
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let layout = dir.path().join(format!("{compression:?}"));
        let exported = store.export_oci(NAME, &Destination::Directory(layout.clone()), compression).unwrap();
        let shown = run("skopeo", &["inspect", &format!("oci:{}:1", text(&layout))]);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["Digest"], exported.digest().to_string());
        assert_eq!(shown["Env"][0], "PATH=/bin");
        assert_eq!(shown["Layers"].as_array().unwrap().len(), 2);
        // A copy that recompresses reads every layer and checks its diff id.
        let copy = dir.path().join(format!("copy-{compression:?}"));
        run("skopeo", &["--insecure-policy", "copy", &format!("oci:{}:1", text(&layout)), &format!("dir:{}", text(&copy))]);
    }
    let archive = dir.path().join("oci.tar");
    store.export_oci(NAME, &Destination::Archive(archive.clone()), Compression::Gzip).unwrap();
    run("skopeo", &["inspect", &format!("oci-archive:{}:1", text(&archive))]);
    let docker = dir.path().join("docker.tar");
    store.export_docker(NAME, &docker).unwrap();
    let shown = run("skopeo", &["inspect", "--config", &format!("docker-archive:{}", text(&docker))]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["rootfs"]["diff_ids"][1], image.config.rootfs.diff_ids[1].to_string());
}

#[test]
fn what_skopeo_writes_is_imported() {
    if !installed("skopeo") {
        return;
    }
    let (dir, store) = open();
    let image = sample(&store);
    let layout = dir.path().join("layout");
    store.export_oci(NAME, &Destination::Directory(layout.clone()), Compression::Gzip).unwrap();
    for (kind, compress) in [("docker-archive", false), ("oci-archive", false), ("oci", true)] {
        let path = dir.path().join(kind);
        let target = format!("{kind}:{}:docker.io/library/other:2", text(&path));
        let mut args = vec!["--insecure-policy", "copy", "--quiet"];
        if compress {
            args.extend(["--dest-compress-format", "zstd"]);
        }
        let source = format!("oci:{}:1", text(&layout));
        args.extend([source.as_str(), target.as_str()]);
        run("skopeo", &args);
        let (_other, second) = open();
        let imported = second.import_archive(&path).unwrap();
        assert_eq!(imported[0].reference.as_deref(), Some("docker.io/library/other:2"), "{kind}");
        assert_eq!(second.unpack(&imported[0].image).unwrap(), image.chain(), "{kind}");
        assert!(second.verify().unwrap().is_empty());
    }
}

#[test]
fn umoci_unpacks_the_same_files() {
    if !installed("umoci") || !is_root() {
        return;
    }
    let (dir, store) = open();
    sample(&store);
    let layout = dir.path().join("layout");
    store.export_oci(NAME, &Destination::Directory(layout.clone()), Compression::Gzip).unwrap();
    let bundle = dir.path().join("bundle");
    run("umoci", &["raw", "unpack", "--image", &format!("{}:1", text(&layout)), text(&bundle)]);
    assert_eq!(std::fs::read_to_string(bundle.join("bin/app")).unwrap(), "#!/bin/true");
    assert_eq!(std::fs::read_to_string(bundle.join("etc/base")).unwrap(), "base");
    let metadata = std::fs::metadata(bundle.join("bin/app")).unwrap();
    let seconds = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds, 1_700_000_000);
}

#[test]
fn a_store_is_an_oci_layout_itself() {
    if !installed("skopeo") {
        return;
    }
    let (dir, store) = open();
    sample(&store);
    let layout = dir.path().join("layout");
    store.export_oci(NAME, &Destination::Directory(layout.clone()), Compression::Gzip).unwrap();
    let (_other, second) = open();
    second.import_archive(&layout).unwrap();
    let shown = run("skopeo", &["inspect", &format!("oci:{}:{NAME}", text(second.root()))]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["Architecture"], "amd64");
}

#[test]
fn gnu_tar_and_gzip_read_a_packed_layer() {
    if !installed("tar") || !installed("gzip") {
        return;
    }
    let (_dir, store) = open();
    let image = sample(&store);
    let layers = store.layers(&image.chain().unwrap()).unwrap();
    let packed = store.pack(&layers[1], Compression::Gzip).unwrap();
    let path = store.blob_path(&strake_store::digest_of(&packed).unwrap());
    let listed = run("tar", &["--numeric-owner", "-tvzf", text(&path)]);
    assert!(listed.lines().any(|line| line.starts_with("-rwxr-xr-x 0/0") && line.ends_with("bin/app")), "{listed}");
    let plain = Command::new("gzip").args(["-dc", text(&path)]).output().unwrap().stdout;
    assert_eq!(Digest::of(&plain), layers[1].diff_id);
}
