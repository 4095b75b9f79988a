//! `strake bake`: matrices, linked targets, compose files, and what is refused, with images that are really built.

use std::path::Path;

use serde_json::Value;
use strake_tests::{Ran, World, needs, repository};

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.all()))
}

fn read(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { std::fs::copy(entry.path(), &target).map(drop).expect("copied") }
    }
}

/// Steps of an image's history, and how often a text was printed as a step that ran.
fn ran(output: &Ran, step: &str) -> usize {
    output.stderr.lines().filter(|line| line.starts_with('#') && line.contains(step) && !line.ends_with("CACHED")).count()
}

/// The example: a base that two images of a matrix share is built once, in one build.
#[test]
fn the_example_builds_a_matrix_on_a_linked_base() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    copy(&repository().join("examples/bake"), &world.path("."));
    let printed = json(&world.strake(&["bake", "--print"]).ok());
    assert_eq!(printed["group"]["default"]["targets"], serde_json::json!(["site"]));
    assert_eq!(printed["target"]["site-de"]["contexts"]["page"], "pages/de");
    assert_eq!(printed["target"]["base"]["output"], serde_json::json!([{"type": "cacheonly"}]));
    let built = world.strake(&["bake", "--progress", "plain", "--metadata-file", "meta.json"]).ok();
    assert_eq!(ran(&built, "RUN mkdir"), 1, "the base is built once:\n{}", built.stderr);
    let metadata: Value = serde_json::from_str(&read(&world, "meta.json")).expect("JSON");
    let names: Vec<&String> = metadata.as_object().expect("targets").keys().collect();
    assert_eq!(names, ["site-de", "site-en"]);
    assert!(metadata["site-de"]["containerimage.digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));
    let image = json(&world.strake(&["image", "inspect", "site-de:dev"]).ok());
    assert_eq!(image["config"]["config"]["Labels"], serde_json::json!({"language": "de", "org.opencontainers.image.version": "dev"}));
    assert_eq!(image["config"]["config"]["User"], "www");
    assert!(image["config"]["config"]["Env"].to_string().contains("PORT=8080"), "the base's configuration is inherited");
    // What a link only passes through gets no name.
    assert!(!world.strake(&["images"]).ok().stdout.contains("base"));
    world.strake(&["bake", "check"]).ok();
    world.strake(&["bake", "site-en", "--set", "*.output=type=local,dest=out", "--set", "site-en.args.GREETING=Hi"]).ok();
    assert!(read(&world, "out/www/index.html").contains("<h1>Hi</h1>"));
    world.strake(&["bake", "--var", "TAG=-"]).fails(1, "TAG is no tag: -");
    world.strake(&["bake", "sitee-en"]).fails(1, "did you mean `site-en`?");
    world.nothing_left();
}

/// What each target's cache makes unnecessary in an empty store: its own steps, and nobody else's.
#[test]
fn each_target_writes_a_cache_of_its_own_steps() {
    let world = World::new();
    let dockerfile = |name: &str| format!("FROM scratch AS stage\nCOPY {name} /stage-{name}\nFROM scratch\nCOPY --from=stage /stage-{name} /{name}\n");
    for name in ["a", "b"] {
        world.write(&format!("ctx/{name}"), name);
        world.write(&format!("Dockerfile.{name}"), dockerfile(name));
    }
    world.write(
        "docker-bake.hcl",
        r#"
target "each" {
  matrix     = { t = ["a", "b"] }
  name       = t
  context    = "ctx"
  dockerfile = "../Dockerfile.${t}"
  cache-to   = ["type=local,dest=cache/${t},mode=${t == "a" ? "max" : "min"},compression=zstd,compression-level=9"]
}
group "default" { targets = ["a", "b"] }
"#,
    );
    world.strake(&["bake"]).ok();
    let layers = |name: &str| {
        let blobs = std::fs::read_dir(world.path(&format!("cache/{name}/blobs/sha256"))).expect("a layout");
        let each = blobs.map(|blob| std::fs::read(blob.expect("a blob").path()).expect("read"));
        each.filter(|bytes| bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])).count()
    };
    assert_eq!((layers("a"), layers("b")), (2, 1), "mode=max has the stage, mode=min the image alone");
    for (cache, known, other) in [("a", "a", "b"), ("b", "b", "a")] {
        let root = world.path(&format!("empty-{cache}")).display().to_string();
        let from = format!("*.cache-from=type=local,src=cache/{cache}");
        let built = world.strake(&["--root", &root, "bake", "--progress", "plain", "--set", &from, "--set", "*.cache-to="]).ok();
        assert_eq!(ran(&built, &format!("COPY {known} /stage-{known}")), 0, "{}", built.stderr);
        assert_eq!(ran(&built, &format!("COPY {other} /stage-{other}")), 1, "{}", built.stderr);
    }
    world.nothing_left();
}

/// A compose file that includes another is built with that one's directory and variables; one beyond the current directory must be allowed.
#[test]
fn compose_files_include_others() {
    let world = World::new();
    world.write("compose.yaml", "include: [team/compose.yaml]\n");
    world.write("team/compose.yaml", "services:\n  api:\n    image: api:${TAG}\n    build: { dockerfile_inline: \"FROM scratch\\nCOPY f /f\\n\" }\n");
    world.write("team/.env", "TAG=v9\n");
    world.write("team/f", "of the team");
    world.strake(&["bake", "--set", "api.output=out"]).ok();
    assert_eq!(read(&world, "out/f"), "of the team");
    assert_eq!(json(&world.strake(&["bake", "--print"]).ok())["target"]["api"]["tags"], serde_json::json!(["api:v9"]));
    world.write("far/compose.yaml", "include: [/etc/passwd]\n");
    world.strake(&["bake", "-f", "far/compose.yaml", "--print"]).fails(2, "--allow=fs.read=");
    world.nothing_left();
}

#[test]
fn attributes_of_targets_do_what_the_options_of_build_do() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    world.write("a/f", "a");
    world.write("b/f", "b");
    world.write("token.txt", "hunter2");
    world.write("Dockerfile.own", "FROM busybox:1\nARG A\nRUN --mount=type=secret,id=token test \"$(cat /run/secrets/token)\" = hunter2 && grep -q '10.9.8.7.*db' /etc/hosts && echo \"$A\" > /a\n");
    world.write(
        "docker-bake.hcl",
        r#"
target "same" {
  matrix     = { dir = ["a", "b"] }
  name       = "same-${dir}"
  context    = dir
  dockerfile-inline = <<EOT
FROM scratch
COPY f /f
EOT
  output = ["type=local,dest=out/${dir}"]
}
target "own" {
  dockerfile  = "Dockerfile.own"
  args        = { A = "x $${y}" }
  secret      = ["id=token,src=token.txt"]
  extra-hosts = { db = "10.9.8.7" }
  labels      = { l = "1" }
  tags        = ["own:1", "own:2"]
  output      = ["type=docker", "type=oci,dest=out/own.tar"]
}
target "named" {
  contexts          = { one = "a", two = "target:same-b" }
  dockerfile-inline = "FROM scratch\nCOPY --from=one f /one\nCOPY --from=two f /two\n"
  output            = ["out/named"]
}
group "default" { targets = ["same", "own", "named"] }
"#,
    );
    world.strake(&["bake"]).ok();
    assert_eq!((read(&world, "out/a/f"), read(&world, "out/b/f")), ("a".to_owned(), "b".to_owned()));
    assert_eq!((read(&world, "out/named/one"), read(&world, "out/named/two")), ("a".to_owned(), "b".to_owned()));
    assert!(world.path("out/own.tar").is_file());
    let image = json(&world.strake(&["image", "inspect", "own:2"]).ok());
    assert_eq!(image["config"]["config"]["Labels"]["l"], "1");
    world.strake(&["bake", "own", "--set", "own.output=type=local,dest=out/own"]).ok();
    assert_eq!(read(&world, "out/own/a"), "x ${y}\n");
    // A step that fails says where.
    world.strake(&["bake", "own", "--set", "own.args.A=z", "--set", "own.extra-hosts.db=1.1.1.1"]).fails(1, "Dockerfile.own:3");
    // Each target sees its own secrets: none that it was not given, and its own value of those that another has too.
    world.write("other.txt", "other");
    world.write(
        "Dockerfile",
        "FROM busybox:1\nARG N\nRUN --mount=type=secret,id=token if [ -e /run/secrets/token ]; then cat /run/secrets/token > /t; else echo none > /t; fi\n",
    );
    let target =
        |name: &str, secret: &str| format!("target \"{name}\" {{\n  args = {{ N = \"{name}\" }}\n  secret = [{secret}]\n  output = [\"out/{name}\"]\n}}\n");
    let file = [target("a", ""), target("b", "\"id=token,src=token.txt\""), target("c", "\"id=token,src=other.txt\"")].concat();
    world.write("secrets.hcl", file);
    world.strake(&["bake", "-f", "secrets.hcl", "a", "b", "c"]).ok();
    let seen = ["a", "b", "c"].map(|name| read(&world, &format!("out/{name}/t")));
    assert_eq!(seen, ["none\n", "hunter2", "other"]);
    world.write("times.hcl", "target \"default\" { args = { SOURCE_DATE_EPOCH = 1 } }\ntarget \"b\" { args = { SOURCE_DATE_EPOCH = 2 } }\n");
    world.strake(&["bake", "-f", "times.hcl", "default", "b"]).fails(1, "SOURCE_DATE_EPOCH differs");
    world.nothing_left();
}

#[test]
fn compose_files_with_variables_are_built() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    world.write(".env", "VERSION=7\nOVER=dotenv\n");
    world.write("base/Dockerfile", "FROM busybox:1\nRUN echo base > /base\n");
    world.write("web/Dockerfile", "FROM base\nARG VERSION\nARG OVER\nRUN echo \"$VERSION $OVER\" > /version\n");
    world.write(
        "compose.yaml",
        "services:\n  base: { build: base }\n  web:\n    image: web:${VERSION:-none}\n    build:\n      context: web\n      additional_contexts: { base: 'service:base' }\n      args: [VERSION, OVER=$OVER]\n  db: { image: 'postgres:${NOT_SET}' }\n",
    );
    let mut command = world.strake_command(&["bake", "web", "--print"]);
    let output = command.env("OVER", "env").output().expect("strake runs");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(printed["target"]["web"]["args"], serde_json::json!({"OVER": "env", "VERSION": "7"}));
    world.strake(&["bake", "web"]).ok();
    world.strake(&["bake", "web", "--set", "*.output=out"]).ok();
    assert_eq!((read(&world, "out/version"), read(&world, "out/base")), ("7 dotenv\n".to_owned(), "base\n".to_owned()));
    assert!(world.strake(&["images"]).ok().stdout.contains("web"));
    world.nothing_left();
}

#[test]
fn what_is_listed_checked_and_refused() {
    needs!();
    let world = World::new();
    world.write("Dockerfile", "FROM scratch AS one\nARG A=1\nFROM one\nMAINTAINER x\n");
    let file = "variable \"TAG\" { default = \"x\" }\ntarget \"app\" {\n  description = \"The app\"\n  tags = [\"app:${TAG}\"]\n}\ntarget \"clean\" { dockerfile-inline = \"FROM scratch\\nCOPY docker-bake.hcl /\\n\" }\ngroup \"all\" { targets = [\"app\"] }\n";
    world.write("docker-bake.hcl", file);
    let listed = world.strake(&["bake", "--list", "targets"]).ok();
    assert_eq!(
        listed.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>(),
        ["TARGET DESCRIPTION", "all app", "app The app", "clean"]
    );
    assert_eq!(json(&world.strake(&["bake", "--list", "type=variables,format=json"]).ok()), serde_json::json!([{"name": "TAG", "value": "x"}]));
    world.strake(&["bake", "--check", "app"]).fails(1, "MaintainerDeprecated");
    world.strake(&["bake", "--check", "clean"]).ok();
    assert!(world.strake(&["bake", "--call", "targets", "app"]).ok().stdout.starts_with("app\n"));
    assert!(!world.strake(&["images"]).ok().stdout.contains("app"), "checks build nothing");
    // Nothing beyond the current directory without a word.
    world.write("far.hcl", "target \"far\" {\n  contexts = { etc = \"/etc\" }\n  dockerfile-inline = \"FROM scratch\\nCOPY --from=etc passwd /\\n\"\n  entitlements = [\"security.insecure\"]\n}\n");
    let refused = world.strake(&["bake", "-f", "far.hcl", "far"]).fails(2, "--allow=fs.read=/etc ");
    assert!(refused.stderr.contains("--allow=security.insecure"), "{}", refused.stderr);
    world.strake(&["bake", "-f", "far.hcl", "far", "--allow", "fs.read=/etc", "--allow", "security.insecure"]).ok();
    world.write("x.hcl", "target \"default\" {\n  tgas = [\"x\"]\n  args = { A = upperr(\"x\") }\n}\n");
    let wrong = world.strake(&["bake", "-f", "x.hcl"]).fails(1, "x.hcl:2:3");
    assert!(wrong.stderr.contains("did you mean `tags`?") && wrong.stderr.contains("did you mean `upper`?"), "{}", wrong.stderr);
    world.strake(&["bake", "-f", "gone.hcl"]).fails(1, "cannot read gone.hcl");
    world.strake(&["bake", "app", "--set", "app.policy=x"]).fails(2, "--policy \"x\" is not supported: policies in Rego");
    world.nothing_left();
}
