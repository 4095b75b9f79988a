//! Where a build's image goes: files, archives, registries.

use std::process::{Child, Stdio};

use strake_tests::{World, needs};

/// A registry inside the world's network, on this port.
struct Registry(Child);

impl Registry {
    fn start(world: &World, port: u16) -> Registry {
        let config = world.write(
            "registry.yml",
            format!("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n", world.path("registry").display()),
        );
        let mut command = world.command("docker-registry");
        command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Registry(command.spawn().expect("a registry"));
        let listening = format!(":{port:04X} 00000000:0000 0A");
        for _ in 0..500 {
            if world.run("cat", &["/proc/net/tcp"]).stdout.contains(&listening) {
                return registry;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the registry does not start");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // nsenter became the registry itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn world() -> World {
    let world = World::new();
    world.write("app/a.txt", "a");
    world.write("app/Dockerfile", "FROM scratch\nCOPY --chown=7:8 a.txt /etc/a.txt\nCOPY <<EOF /b\nb\nEOF\n");
    world
}

#[test]
fn files_go_to_directories_and_tars() {
    needs!("tar");
    let world = world();
    world.strake(&["build", "-o", "out", "-o", "type=tar,dest=out.tar", "-o", "type=oci,dest=oci.tar", "-o", "type=docker,dest=docker.tar", "app"]).ok();
    assert_eq!(std::fs::read_to_string(world.path("out/etc/a.txt")).expect("a file"), "a");
    let listed = world.run("tar", &["-tf", "out.tar"]).ok().stdout;
    assert_eq!(listed, "b\netc/\netc/a.txt\n");
    for (archive, file) in [("oci.tar", "index.json"), ("docker.tar", "manifest.json")] {
        assert!(world.run("tar", &["-tf", archive]).ok().stdout.contains(file), "{archive}");
    }
    let piped = world.strake_command(&["build", "-q", "-o", "-", "app"]).output().expect("strake runs");
    assert!(piped.stdout.starts_with(&std::fs::read(world.path("out.tar")).expect("a tar")), "the same bytes");
    world.strake(&["build", "-o", "type=odd", "app"]).fails(2, "type odd is not known");
    world.strake(&["build", "--push", "app"]).fails(2, "a push needs a name");
    world.nothing_left();
}

#[test]
fn an_image_is_pushed_pulled_saved_and_loaded() {
    needs!("docker-registry", "skopeo");
    let world = world();
    let registry = Registry::start(&world, 5000);
    world
        .strake(&["build", "-t", "localhost:5000/app:1", "-t", "localhost:5000/app:2", "--push", "--metadata-file", "meta.json", "--iidfile", "iid", "app"])
        .ok();
    let metadata: serde_json::Value = serde_json::from_slice(&std::fs::read(world.path("meta.json")).expect("written")).expect("JSON");
    let seen = world.run("skopeo", &["inspect", "--tls-verify=false", "docker://localhost:5000/app:2"]).ok().stdout;
    let digest = metadata["containerimage.digest"].as_str().expect("a digest");
    assert!(seen.contains(digest), "{seen} {metadata}");
    assert_eq!(metadata["image.name"], "localhost:5000/app:1,localhost:5000/app:2");
    assert_eq!(metadata["containerimage.config.digest"], std::fs::read_to_string(world.path("iid")).expect("an id"));
    // Again, and elsewhere in the registry: nothing is sent.
    let again = world.strake(&["image", "push", "localhost:5000/app:1"]).ok();
    assert!(!again.stderr.contains("  sent") && again.stderr.contains("is there"), "{}", again.stderr);
    let other = world.strake(&["image", "push", "localhost:5000/app:1", "localhost:5000/team/other:3"]).ok();
    assert!(other.stderr.contains("taken from another repository"), "{}", other.stderr);
    assert!(other.stdout.contains(digest), "{}", other.stdout);
    let elsewhere = world.path("elsewhere").display().to_string();
    world.strake(&["--root", &elsewhere, "image", "pull", "localhost:5000/team/other:3"]).ok();
    let id = |root: &str, name: &str| world.strake(&["--root", root, "image", "history", name, "-o", "json"]).ok().stdout;
    let here = world.root().display().to_string();
    let rows: serde_json::Value = serde_json::from_str(&id(&here, "localhost:5000/app:1")).expect("JSON");
    assert_eq!(rows.as_array().expect("rows").len(), 2, "{rows}");
    assert!(rows[1]["createdBy"].as_str().expect("text").starts_with("COPY --chown=7:8"), "{rows}");
    drop(registry);
    // Without a registry: an archive.
    let saved = world.strake_command(&["image", "save", "localhost:5000/app:1", "localhost:5000/app:2"]).output().expect("strake runs");
    world.write("saved.tar", &saved.stdout);
    let third = world.path("third").display().to_string();
    let loaded = world.strake(&["--root", &third, "image", "load", "-i", "saved.tar"]).ok().stdout;
    assert!(loaded.contains("app:1") && loaded.contains("app:2"), "{loaded}");
    let inspect = |root: &str| world.strake(&["--root", root, "image", "inspect", "localhost:5000/app:2"]).ok().stdout;
    let config = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["id"].clone();
    assert_eq!(config(inspect(&third)), config(inspect(&here)));
    world.strake(&["--root", &third, "image", "verify"]).ok();
    world.strake(&["image", "push", "localhost:5000/app:1"]).fails(1, "cannot reach registry localhost:5000");
    world.nothing_left();
}
