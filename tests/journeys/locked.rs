//! `strake image lock` of bake files and compose files, and `strake bake --locked`.

use strake_tests::{World, needs};

const BAKE: &str = r#"
variable "TAG" { default = "1" }
group "default" { targets = ["site", "web"] }
target "_common" { args = { TOOL = "tool:1" } }
target "template" { labels = { made = "here" } }
target "base" {
  dockerfile-inline = "FROM base:${TAG}\n"
  output            = ["type=cacheonly"]
}
target "site" {
  inherits = ["_common", "template"]
  context  = "site"
  contexts = { below = "target:base", files = "docker-image://files:1" }
}
"#;
const SITE: &str = "ARG TOOL\nFROM $TOOL AS tool\nFROM below\nCOPY --from=tool /kind /tool\nCOPY --from=files /kind /files\n";
const COMPOSE: &str = "services:\n  web: {build: {context: web, dockerfile_inline: \"FROM web:1\\n\"}}\n  db: {image: 'db:1'}\n";

fn import(world: &World, name: &str, kind: &str) {
    world.write("rootfs/kind", kind);
    world.strake(&["image", "import", "rootfs", name]).ok();
}

/// The names in a lock file.
fn locked(world: &World, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(world.path(file)).expect("a lock file");
    text.lines().filter_map(|line| line.trim().rsplit_once(": sha256:")).map(|(name, _)| name.trim_start_matches("docker.io/library/").to_owned()).collect()
}

#[test]
fn a_lock_holds_what_every_target_takes_and_bake_obeys_it() {
    needs!();
    let world = World::new();
    for name in ["base:1", "base:2", "tool:1", "files:1", "web:1", "own:1"] {
        import(&world, name, "first");
    }
    world.write("docker-bake.hcl", BAKE);
    world.write("compose.yaml", COMPOSE);
    world.write("site/Dockerfile", SITE);
    world.write("web/index", "page");
    // Beside what targets build, a Dockerfile of its own.
    world.write("own/Dockerfile", "FROM own:1\n");
    let bake = |more: &[&str]| world.strake(&[&["bake", "--progress", "plain", "--offline"], more].concat());
    bake(&["--locked"]).fails(1, "there is no strake.lock");
    world.strake(&["image", "lock", "--offline"]).ok();
    assert_eq!(
        locked(&world, "strake.lock"),
        ["base:1", "files:1", "own:1", "tool:1", "web:1"],
        "and neither `below`, which a target is, nor db, which none builds"
    );
    world.strake(&["image", "lock", "--offline", "--check"]).ok();
    let output = |dest: &str| format!("site.output=type=local,dest={dest}");
    bake(&["--locked", "--set", &output("one")]).ok();

    // Tags move: with the lock everything stays.
    import(&world, "tool:1", "second");
    import(&world, "base:1", "second");
    world.strake(&["image", "lock", "--offline", "--check"]).fails(2, "is not what the tags mean now");
    bake(&["site", "--locked", "--set", &output("two")]).ok();
    bake(&["site", "--set", &output("three")]).ok();
    for (dest, of_base, of_tool) in [("one", "first", "first"), ("two", "first", "first"), ("three", "second", "second")] {
        let read = |name: &str| std::fs::read_to_string(world.path(dest).join(name)).expect("written");
        assert_eq!((read("kind").as_str(), read("tool").as_str(), read("files").as_str()), (of_base, of_tool, "first"), "{dest}");
    }
    bake(&["--locked", "--var", "TAG=2"]).fails(1, "has no entry for base:2");
    bake(&["--locked", "--pull"]).fails(2, "--pull");
    world.strake(&["image", "lock", "--offline", "--var", "TAG=2"]).ok();
    bake(&["--locked", "--var", "TAG=2"]).ok();
    world.nothing_left();
}

#[test]
fn one_bake_file_of_a_folder_has_its_lock_beside_it() {
    needs!();
    let world = World::new();
    import(&world, "base:1", "first");
    import(&world, "tool:1", "first");
    world.write("ci/all.hcl", "target \"default\" {\n  context = \"app\"\n}\n");
    world.write("app/Dockerfile", "FROM base:1\n");
    world.strake(&["image", "lock", "--offline", "ci/all.hcl"]).ok();
    assert_eq!(locked(&world, "ci/strake.lock"), ["base:1"]);
    world.strake(&["bake", "-f", "ci/all.hcl", "--offline", "--locked"]).ok();
    world.strake(&["bake", "-f", "ci/all.hcl", "--offline", "--locked", "--set", "default.dockerfile-inline=FROM tool:1"]).fails(1, "has no entry for tool:1");
    // Of a directory, paths are from there.
    world.write("all/docker-bake.json", r#"{"target": {"default": {"context": "app"}}}"#);
    world.write("all/app/Dockerfile", "FROM tool:1\n");
    world.strake(&["image", "lock", "--offline", "all"]).ok();
    assert_eq!(locked(&world, "all/strake.lock"), ["tool:1"]);
    // What is beyond it is read by who says so only.
    world.write("all/docker-bake.json", r#"{"target": {"default": {"context": "../app"}}}"#);
    let place = world.path("app").display().to_string();
    world.strake(&["image", "lock", "--offline", "all"]).fails(2, &format!("--allow=fs.read={place}"));
    world.strake(&["image", "lock", "--offline", "all", "--allow", &format!("fs.read={place}")]).ok();
    assert_eq!(locked(&world, "all/strake.lock"), ["base:1", "tool:1"], "the Dockerfile that no target uses any more is still one of the directory");
    // What is wrong is said where it stands.
    world.write("all/docker-bake.json", r#"{"target": {"default": {"context": 5}}"#);
    world.strake(&["image", "lock", "--offline", "all"]).fails(1, "docker-bake.json");
    world.write("empty/compose.yaml", "services: {db: {image: 'db:1'}}\n");
    world.strake(&["image", "lock", "--offline", "empty"]).ok();
    assert_eq!(locked(&world, "empty/strake.lock"), [""; 0]);
    world.nothing_left();
}
