//! Making room beside builds, and killed in the middle: what is needed stays, and the store is sound.

use std::process::Stdio;
use std::thread::sleep;

use strake_tests::{Dice, World, needs};

/// Layers of some size, an image that keeps one of them, and build cache that nobody needs.
fn filled(world: &World) {
    world.program("app/guestbook");
    for number in 0..6 {
        world.write(&format!("app/file-{number}"), vec![number; 3 << 20]);
    }
    let copies: String = (0..6).map(|number| format!("COPY file-{number} /files/{number}/\nCOPY file-{number} /more/{number}/\n")).collect();
    world.write("app/Dockerfile", format!("FROM scratch\nCOPY guestbook /bin/guestbook\n{copies}"));
    world.write("app/kept.Dockerfile", "FROM scratch\nCOPY guestbook /bin/guestbook\nRUN [\"/bin/guestbook\", \"render\", \"/site\"]\n");
    world.strake(&["build", "-t", "kept:1", "-f", "app/kept.Dockerfile", "app"]).ok();
    world.strake(&["build", "-t", "gone:1", "--cache-to", "type=local,dest=cache,mode=max", "app"]).ok();
    world.strake(&["image", "rm", "gone:1"]).ok();
}

fn account(world: &World, args: &[&str]) -> serde_json::Value {
    let ran = world.strake(&[&["image"], args, &["-o", "json"]].concat()).ok();
    serde_json::from_str(&ran.stdout).expect("JSON")
}

fn bytes(account: &serde_json::Value, field: &str) -> u64 {
    account[field].as_u64().expect("a number")
}

#[test]
fn a_prune_that_is_killed_leaves_a_sound_store() {
    needs!();
    let world = World::new();
    let mut dice = Dice::new(77);
    filled(&world);
    for round in 0..4 {
        let mut prune = world.strake_command(&["image", "prune", "--keep-storage", "1m", "--filter", "until=0s"]);
        let mut prune = prune.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs");
        sleep(dice.millis(60));
        prune.kill().expect("killed");
        prune.wait().expect("ended");
        world.strake(&["image", "verify"]).ok();
        let built = world.strake(&["build", "-t", "kept:1", "--progress", "plain", "-f", "app/kept.Dockerfile", "app"]).ok();
        assert!(round > 0 || built.stderr.contains("built kept:1"), "{}", built.stderr);
    }
    let report = account(&world, &["prune", "--filter", "until=0s"]);
    assert!(report["kept"].as_array().expect("a list").iter().all(|item| item["reasons"][0]["name"] == "docker.io/library/kept:1"), "{report}");
    // Nothing of the killed ones is left either: what is on disk is what is accounted for.
    let temporaries = std::fs::read_dir(world.root().join("tmp")).expect("a folder").flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(temporaries, 0);
    assert_eq!(bytes(&account(&world, &["du"]), "keptBytes"), bytes(&report, "keptBytes"));
    world.nothing_left();
}

#[test]
fn a_prune_beside_a_build_removes_nothing_or_waits() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    world.write(
        "app/Dockerfile",
        "FROM busybox:1\nRUN --mount=type=cache,id=gate,target=/g echo ready; while ! test -e /g/go; do sleep 0.1; done; echo done > /done\n",
    );
    let mut build = world.strake_command(&["build", "-t", "app:1", "--progress", "plain", "app"]);
    let mut build = build.stderr(Stdio::piped()).spawn().expect("strake runs");
    let mut said = std::io::BufReader::new(build.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.trim_end().ends_with(" ready") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut said, &mut line).expect("a line") > 0, "the step never came so far");
    }
    let refused = world.strake(&["image", "prune", "--keep-storage", "0"]).fails(1, "nothing was removed");
    assert!(refused.stderr.contains(&format!("process {}", build.id())) || refused.stderr.contains("strake build"), "who: {}", refused.stderr);
    let dry = account(&world, &["prune", "--dry-run"]);
    assert!(bytes(&dry, "keptBytes") > 0, "{dry}");
    let waiting =
        world.strake_command(&["image", "prune", "--wait", "--filter", "until=0s"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("strake runs");
    let gate = std::fs::read_dir(world.root().join("cache/mounts")).expect("a folder").flatten().next().expect("the mount").path();
    std::fs::write(gate.join("go"), "").expect("a file");
    std::io::copy(&mut said, &mut std::io::sink()).expect("the rest");
    assert!(build.wait().expect("ended").success());
    let output = waiting.wait_with_output().expect("ended");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.strake(&["image", "verify"]).ok();
    // The image is whole: its layers are there, and the mount, which nothing needs, is not.
    world.strake(&["image", "save", "app:1", "-o", "app.tar"]).ok();
    assert!(!gate.exists());
    world.nothing_left();
}

#[test]
fn the_cap_is_hard_and_the_account_is_exact() {
    needs!();
    let world = World::new();
    filled(&world);
    let before = account(&world, &["du"]);
    let dry = account(&world, &["prune", "--keep-storage", "20m", "--dry-run"]);
    let report = account(&world, &["prune", "--keep-storage", "20m"]);
    assert_eq!((bytes(&dry, "freedBytes"), bytes(&dry, "keptBytes")), (bytes(&report, "freedBytes"), bytes(&report, "keptBytes")));
    assert!(bytes(&report, "keptBytes") <= 20 << 20, "{report}");
    assert!(bytes(&report, "keptBytes") > 14 << 20, "no more goes than it takes: {report}");
    assert_eq!(bytes(&before, "keptBytes") + bytes(&before, "freedBytes"), bytes(&report, "keptBytes") + bytes(&report, "freedBytes"));
    // More than what is needed cannot go: that is an error, with the names of those who need it.
    let ran = world.strake(&["image", "prune", "--keep-storage", "1k"]).fails(1, "--keep-storage allows");
    assert!(ran.stdout.contains("image kept:1"), "{}", ran.stdout);
    world.strake(&["image", "prune", "--all"]).fails(2, "--force");
    world.strake(&["image", "prune", "--keep-storage", "lots"]).fails(2, "expected bytes");
    world.strake(&["image", "prune", "--filter", "label=x"]).fails(2, "until=DURATION");
    let all = account(&world, &["prune", "--all", "--force", "--keep-storage", "0"]);
    assert_eq!((all["untagged"][0].as_str(), bytes(&all, "keptBytes")), (Some("docker.io/library/kept:1"), 0));
    world.strake(&["builder", "prune", "--all"]).ok();
    world.nothing_left();
}
