//! What other tools read of what strake builds.

use strake_tests::{World, needs};

fn built() -> World {
    let world = World::new();
    world.program("app/guestbook");
    world.write(
        "app/Dockerfile",
        "FROM scratch\nCOPY guestbook /bin/guestbook\nRUN [\"/bin/guestbook\", \"render\", \"/site\"]\nENV A=b\nCMD [\"/bin/guestbook\", \"web\"]\n",
    );
    world
        .strake(&["build", "-t", "app:1", "-o", "type=oci,dest=app.tar", "-o", "type=oci,dest=layout,tar=false", "-o", "type=docker,dest=docker.tar", "app"])
        .ok();
    world
}

#[test]
fn skopeo_reads_every_form() {
    needs!("skopeo");
    let world = built();
    for source in ["oci-archive:app.tar", "oci:layout", "docker-archive:docker.tar"] {
        let ran = world.run("skopeo", &["inspect", "--config", source]).ok();
        assert!(ran.stdout.contains("A=b"), "{source}: {}", ran.stdout);
    }
    // A copy reads every layer and checks every digest.
    world.run("skopeo", &["copy", "--insecure-policy", "oci-archive:app.tar", "dir:copied"]).ok();
    world.run("skopeo", &["copy", "--insecure-policy", "docker-archive:docker.tar", "dir:copied2"]).ok();
    world.nothing_left();
}

#[test]
fn umoci_unpacks_what_was_built() {
    needs!("umoci", "skopeo");
    let world = built();
    world.run("skopeo", &["copy", "--insecure-policy", "oci:layout", "oci:named:app"]).ok();
    world.run("umoci", &["unpack", "--image", "named:app", "bundle"]).ok();
    let page = std::fs::read_to_string(world.path("bundle/rootfs/site/index.html")).expect("the page");
    assert!(page.contains("<h1>{title}</h1>"));
}

#[test]
fn what_skopeo_writes_comes_in_and_can_be_built_on() {
    needs!("skopeo");
    let world = built();
    world.run("skopeo", &["copy", "--insecure-policy", "oci-archive:app.tar", "oci-archive:again.tar:again:1"]).ok();
    let other = world.path("other").display().to_string();
    world.strake(&["--root", &other, "image", "import", "again.tar", "again:1"]).ok();
    world.strake(&["--root", &other, "image", "verify"]).ok();
    world.write("next/Dockerfile", "FROM again:1\nRUN [\"/bin/guestbook\", \"render\", \"/more\"]\n");
    world.strake(&["--root", &other, "build", "next"]).ok();
}
