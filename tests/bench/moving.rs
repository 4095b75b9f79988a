//! Images on the move: a large layer to a registry, an unchanged image to a file, and what the store keeps of images that are nearly the same.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use strake_tests::{World, find, until};

use crate::apps::{self, Bases, Sizes};
use crate::peers::Peer;
use crate::report::Report;
use crate::usage::disk_bytes;

/// Images of the store's row.
const IMAGES: usize = 10;

/// Debian's docker-registry on a port of its own, empty.
struct Registry {
    child: Child,
    address: String,
    data: std::path::PathBuf,
}

impl Registry {
    fn start(world: &World, dir: &Path, port: u16) -> Option<Registry> {
        let data = dir.join(format!("registry-{port}"));
        fs::create_dir_all(&data).expect("a folder");
        let address = format!("127.0.0.1:{port}");
        let file = dir.join(format!("registry-{port}.yml"));
        let text =
            format!("version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n", data.display());
        fs::write(&file, text).expect("a file");
        let mut command = world.command("docker-registry");
        let child = command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let table = format!("/proc/{}/net/tcp", child.id());
        // A socket that listens (state 0A) on the port, in the namespace of the registry.
        let sign = format!("0100007F:{port:04X} 00000000:0000 0A");
        let ready = until(Duration::from_secs(10), || fs::read_to_string(&table).is_ok_and(|text| text.contains(&sign)));
        ready.then_some(Registry { child, address, data })
    }

    /// Bytes of all blobs.
    fn bytes(&self) -> u64 {
        disk_bytes(&self.data.join("docker/registry/v2/blobs"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// A layer of a gigabyte: built, pushed with each compression to an empty registry, saved twice.
pub fn layer(world: &World, dir: &Path, sizes: Sizes, builders: &mut [Box<dyn Peer + '_>], report: &mut Report) {
    if find("docker-registry").is_none() {
        eprintln!("SKIPPED a layer to a registry: docker-registry is not installed");
        return;
    }
    apps::write_app(dir, "layer", sizes);
    let what = format!("a layer of {} MB", sizes.layer_bytes / 1_000_000);
    for (place, builder) in builders.iter_mut().enumerate() {
        let name = builder.name();
        let target = |text: &'static str| Some(text).filter(|_| name == "strake");
        let built = builder.build(&dir.join("layer"), true);
        report.add(&format!("{what}: built"), &name, built.seconds, "s", None);
        report.add(&format!("{what}: built, peak memory"), &name, built.peak_mb, "MB", target("100 MB"));
        for (number, compression) in ["gzip", "zstd"].into_iter().enumerate() {
            let Some(registry) = Registry::start(world, dir, 5100 + (place * 2 + number) as u16) else {
                eprintln!("SKIPPED a push: the registry does not start");
                continue;
            };
            let Some(pushed) = builder.push(compression, &format!("{}/bench/layer:1", registry.address)) else { continue };
            report.add(&format!("{what}: pushed, {compression}"), &name, pushed.seconds, "s", target("2 times faster than buildah at equal size"));
            report.add(&format!("{what}: pushed, {compression}, size"), &name, registry.bytes() as f64 / 1e6, "MB", None);
            report.add(&format!("{what}: pushed, {compression}, peak memory"), &name, pushed.peak_mb, "MB", target("100 MB"));
        }
        let file = dir.join("saved.tar");
        let saved = builder.save(&file);
        report.add(&format!("{what}: saved"), &name, saved.seconds, "s", None);
        let again = builder.save(&file);
        report.add(&format!("{what}: saved again, unchanged"), &name, again.seconds, "s", target("no layer read or compressed again"));
        let _ = fs::remove_file(file);
    }
    let _ = fs::remove_dir_all(dir.join("layer"));
}

/// Ten images that share a base and differ in one file: what the store grows by beyond the base and the files.
pub fn store(world: &World, dir: &Path, bases: &Bases, report: &mut Report) {
    let (base, base_bytes) = match &bases.debian {
        Some(tar) => ("debian:bookworm-slim", fs::metadata(tar).map_or(0, |metadata| metadata.len())),
        None => ("busybox:latest", disk_bytes(&bases.busybox)),
    };
    for (title, files) in [("ten images that differ in their one file", 1), ("ten images that differ in one of 100 files", 100)] {
        let context = dir.join("ten");
        fs::create_dir_all(context.join("app")).expect("a folder");
        fs::write(context.join("Dockerfile"), format!("FROM {base}\nCOPY app /app\n")).expect("a file");
        let file = |number: usize, seed: usize| {
            let bytes: Vec<u8> =
                (0..200_000usize).map(|at| (at.wrapping_mul(2_654_435_761) ^ number.wrapping_mul(40_503) ^ seed.wrapping_mul(97)) as u8).collect();
            fs::write(context.join(format!("app/f{number:03}")), bytes).expect("a file");
        };
        (0..files).for_each(|number| file(number, 0));
        let before = disk_bytes(&world.root());
        // Each file is 49 blocks of 4,096 bytes on disk.
        let unique = disk_bytes(&context.join("app")) + (IMAGES as u64 - 1) * 49 * 4096;
        for image in 0..IMAGES {
            file(0, image + 1);
            world.strake(&["build", "-q", "-t", &format!("ten-{files}-{image}"), &context.display().to_string()]).ok();
        }
        let grown = disk_bytes(&world.root()) - before;
        let beyond = (grown as f64 - unique as f64) / (base_bytes + unique) as f64 * 100.0;
        report.add(&format!("{title}: kept beyond what is unique"), "strake", beyond, "%", Some("5 %"));
        let _ = fs::remove_dir_all(context);
    }
}
