//! Right under every order: generated Dockerfiles give one digest whatever the number of workers, the store, the times of files, or where the cache came from.
//! `STRAKE_SEED` and `STRAKE_CASES` choose which and how many.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use strake_tests::{Dice, World, needs, skip};

use crate::build::import_busybox_at;

/// A Dockerfile: what is done, and the metadata of the last stage apart.
struct Case {
    steps: Vec<String>,
    metadata: Vec<&'static str>,
}

const METADATA: [&str; 6] = ["LABEL a=b", "EXPOSE 80/tcp", "CMD [\"/bin/sh\"]", "STOPSIGNAL SIGINT", "VOLUME /data", "ENTRYPOINT [\"/bin/echo\"]"];

impl Case {
    fn new(dice: &mut Dice) -> Case {
        let mut steps = vec!["FROM busybox AS first".to_owned(), "COPY src /src/".to_owned()];
        let more = |steps: &mut Vec<String>, dice: &mut Dice| {
            for number in 0..1 + dice.below(3) {
                let word = dice.below(1000);
                steps.push(match dice.below(5) {
                    0 => format!("RUN echo {word} >> /made && mkdir -p /deep/{number} && touch /deep/{number}/{word}"),
                    1 => format!("RUN ls -l /bin > /made && rm -f /tmp/{word}"),
                    2 => format!("COPY --chmod=0{}00 src/b /copied/{word}/", 4 + dice.below(4)),
                    3 => format!("WORKDIR /work/{word}"),
                    _ => format!("RUN --mount=type=bind,source=src,target=/in cat /in/a >> /made; echo {word} >> /made"),
                });
            }
        };
        more(&mut steps, dice);
        if dice.below(2) == 0 {
            steps.push("FROM busybox AS second".to_owned());
            more(&mut steps, dice);
            steps.push("RUN echo done > /made".to_owned());
        } else {
            steps.push("FROM first AS second".to_owned());
            more(&mut steps, dice);
        }
        steps.push("FROM busybox".to_owned());
        more(&mut steps, dice);
        steps.extend(["COPY --from=first /src /from/".to_owned(), "COPY --from=second /bin/sh /from/sh".to_owned(), "RUN cat /from/a > /end".to_owned()]);
        let mut metadata = METADATA.to_vec();
        metadata.rotate_left(dice.below(6) as usize);
        Case { steps, metadata }
    }

    fn text(&self) -> String {
        format!("{}\n{}\n", self.steps.join("\n"), self.metadata.join("\n"))
    }
}

struct Built {
    id: String,
    /// Steps that were executed.
    executed: Vec<String>,
}

fn build(world: &World, root: &str, extra: &[&str]) -> Built {
    let (iid, root) = (world.path("iid"), world.path(root).display().to_string());
    let args = [&["--root", &root, "build", "--progress", "plain", "--iidfile", iid.to_str().expect("UTF-8"), "-t", "app:1"][..], extra, &["app"]].concat();
    let said = world.strake(&args).ok().stderr;
    let number = |line: &str| line.strip_prefix('#').and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
    let done: Vec<String> = said.lines().filter(|line| line.contains(" DONE ")).filter_map(number).collect();
    let named = said.lines().filter(|line| line.contains("] ") && number(line).is_some_and(|number| done.contains(&number)));
    Built { id: fs::read_to_string(iid).expect("an id"), executed: named.map(str::to_owned).collect() }
}

fn check(world: &World, seed: u64, case: &mut Case, dice: &mut Dice) {
    let text = case.text();
    let shown = format!("STRAKE_SEED={seed}\n{text}");
    world.write("app/Dockerfile", &text);
    let cache = format!("cache-{seed}");
    let one = build(world, "one", &["--jobs", "1"]);
    let many = build(world, "two", &["--jobs", "8", "--cache-to", &format!("type=local,dest={cache},mode=max")]);
    assert_eq!(one.id, many.id, "one worker and many\n{shown}");
    assert!(!one.executed.is_empty(), "{shown}");
    let file = world.path("app/src/a");
    fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(std::time::SystemTime::UNIX_EPOCH)).expect("touched");
    assert_eq!(build(world, "one", &[]).executed, [""; 0], "touch\n{shown}");
    let mode = |bits| fs::set_permissions(&file, fs::Permissions::from_mode(bits)).expect("chmod");
    mode(0o600);
    let changed = build(world, "one", &[]);
    assert!(changed.executed.iter().any(|line| line.contains("COPY src")) && changed.id != one.id, "chmod\n{shown}");
    mode(0o644);
    let back = build(world, "one", &[]);
    assert_eq!((back.id, back.executed), (one.id.clone(), Vec::new()), "back again\n{shown}");
    case.metadata.rotate_left(1 + dice.below(5) as usize);
    world.write("app/Dockerfile", case.text());
    assert_eq!(build(world, "one", &[]).executed, [""; 0], "other order of metadata\n{shown}");
    world.write("app/Dockerfile", &text);
    let third = format!("three-{seed}");
    import_busybox_at(world, &third);
    let imported = build(world, &third, &["--cache-from", &format!("type=local,src={cache}")]);
    assert_eq!((imported.id, imported.executed), (one.id, Vec::new()), "from a cache of elsewhere\n{shown}");
    world.strake(&["--root", &world.path(&third).display().to_string(), "image", "verify"]).ok();
}

#[test]
fn generated_dockerfiles_give_one_digest_under_every_order() {
    needs!("busybox");
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (first, cases): (u64, u64) = (number("STRAKE_SEED", 1), number("STRAKE_CASES", 2));
    let world = World::new();
    world.write("app/src/b", "b\n");
    ["one", "two"].iter().for_each(|root| import_busybox_at(&world, root));
    for seed in first..first + cases {
        // Another content for each, so that no case finds what another one made.
        world.write("app/src/a", format!("a{seed}\n"));
        let mut dice = Dice::new(seed);
        let mut case = Case::new(&mut dice);
        check(&world, seed, &mut case, &mut dice);
    }
    world.nothing_left();
}

/// A step that leaves a mark outside of any layer each time it is executed.
const MARKED: &str =
    "FROM busybox\nRUN --mount=type=cache,id=marks,target=/m echo x >> /m/marks; sleep 1\nRUN --mount=type=cache,id=marks,target=/m cat /m/marks > /seen\n";

#[test]
fn builds_of_several_processes_do_each_step_once() {
    needs!("busybox");
    let world = World::new();
    import_busybox_at(&world, "root");
    world.write("app/Dockerfile", MARKED);
    let start = |name: &str| {
        let mut command = world.strake_command(&["build", "--progress", "plain", "-t", name, "app"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("strake runs")
    };
    let builds: Vec<_> = ["a", "b", "c"].map(start).into_iter().collect();
    for build in builds {
        let output = build.wait_with_output().expect("ended");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    world.strake(&["build", "-o", "out", "app"]).ok();
    assert_eq!(fs::read_to_string(world.path("out/seen")).expect("a file"), "x\n");
    world.nothing_left();
}

#[test]
fn a_step_that_failed_or_was_interrupted_is_as_if_it_had_never_been() {
    needs!("busybox");
    let world = World::new();
    import_busybox_at(&world, "root");
    let records = || fs::read_dir(world.root().join("cache/steps")).map_or(0, Iterator::count);
    // What decides is outside of the key: the same step fails, is killed, and succeeds.
    let step = "RUN --mount=type=cache,id=gate,target=/g echo before > /f; if test -e /g/wait; then echo ready; sleep 600; fi; test -e /g/good";
    let with = |before: &str| world.write("app/Dockerfile", format!("FROM busybox\n{before}{step}\nRUN cat /f > /copy\n"));
    with("");
    world.strake(&["build", "app"]).fails(1, "exit code 1");
    assert_eq!(records(), 0, "after a failure");
    let gate = |what: &str| {
        world.write("gate/Dockerfile", format!("FROM busybox\nRUN --mount=type=cache,id=gate,target=/g {what}\n"));
        world.strake(&["build", "--no-cache", "gate"]).ok();
    };
    // Without --no-cache, which would empty the mount.
    let keep = |what: &str| {
        world.write("gate/Dockerfile", format!("FROM busybox\nRUN --mount=type=cache,id=gate,target=/g {what}\n"));
        world.strake(&["build", "gate"]).ok();
    };
    gate("touch /g/wait");
    let known = records();
    let mut child = world.strake_command(&["build", "--progress", "plain", "app"]);
    let mut child = child.stderr(Stdio::piped()).spawn().expect("strake runs");
    let mut said = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.trim_end().ends_with(" ready") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut said, &mut line).expect("a line") > 0, "the step never came so far");
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(records(), known, "after kill -9");
    keep("rm /g/wait; touch /g/good");
    let ran = world.strake(&["build", "--progress", "plain", "-o", "out", "app"]).ok();
    assert!(ran.stderr.contains(" DONE "), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(world.path("out/copy")).expect("a file"), "before\n");
    world.strake(&["image", "verify"]).ok();
    world.nothing_left();
}

#[test]
fn a_cache_in_a_registry_is_taken_by_another_machine() {
    needs!("busybox");
    let world = World::new();
    ["root", "two"].iter().for_each(|root| import_busybox_at(&world, root));
    world.write(
        "app/Dockerfile",
        "FROM busybox AS tool\nRUN --mount=type=cache,id=c,target=/c echo made > /made; echo x >> /c/x\nFROM busybox\nCOPY --from=tool /made /\n",
    );
    let help = world.strake(&["registry", "serve", "--help"]);
    if help.code != 0 {
        return skip("journeys::orders", "there is no `strake registry serve`");
    }
    let mut server = world.strake_command(&["--root", &world.path("hub").display().to_string(), "registry", "serve", "--listen", "127.0.0.1:5000"]);
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a registry");
    let answers = || world.strake(&["image", "pull", "127.0.0.1:5000/none"]).stderr.contains("does not exist");
    let up = strake_tests::until(std::time::Duration::from_secs(30), answers);
    assert!(up, "the registry answers");
    let place = "type=registry,ref=127.0.0.1:5000/cache:1";
    let first = world.strake(&["build", "-t", "app:1", "--cache-from", place, "--cache-to", &format!("{place},mode=max,mounts=true"), "app"]).ok();
    assert!(first.stderr.contains("cache:1 is not used"), "a missing cache is a warning: {}", first.stderr);
    let built = build(&world, "two", &["--cache-from", place, "--cache-to", &format!("{place},mode=max")]);
    assert_eq!(built.executed, [""; 0]);
    let ids = |root: &str| world.strake(&["--root", root, "image", "inspect", "app:1"]).ok().stdout;
    assert_eq!(ids("root"), ids("two"));
    world.strake(&["build", "--cache-to", "127.0.0.1:1/none", "app"]).fails(1, "cannot write the build cache");
    let ignored = world.strake(&["build", "--cache-to", "type=registry,ref=127.0.0.1:1/none,ignore-error=true", "app"]).ok();
    assert!(ignored.stderr.contains("was not written"), "{}", ignored.stderr);
    for kind in ["gha", "s3", "azblob"] {
        world.strake(&["build", "--cache-to", &format!("type={kind},name=x"), "app"]).fails(2, &format!("type={kind} is not supported"));
    }
    server.kill().expect("killed");
    server.wait().expect("ended");
    world.nothing_left();
}
