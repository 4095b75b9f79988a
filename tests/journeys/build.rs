//! Builds with the real program.

use strake_tests::{World, needs};

const DOCKERFILE: &str = "ARG GREETING=hello
FROM scratch AS tool
COPY guestbook /bin/guestbook
RUN [\"/bin/guestbook\", \"render\", \"/site\"]

FROM scratch AS side
COPY guestbook /bin/guestbook
RUN [\"/bin/guestbook\", \"render\", \"/other\"]

FROM scratch
ARG GREETING
ENV GREETING=$GREETING-world
LABEL a=b
WORKDIR /srv/site
COPY --from=tool /site/ ./
COPY --from=side --chown=7:8 --chmod=600 /other/index.html copy.html
COPY <<EOF note.txt
${GREETING}
EOF
EXPOSE 80 90/udp
USER 65532
CMD [\"/bin/guestbook\", \"web\"]
";

fn world() -> World {
    let world = World::new();
    world.write("app/Dockerfile", DOCKERFILE);
    world.write("app/.dockerignore", "*\n!guestbook\n");
    world.program("app/guestbook");
    world
}

fn image_id(world: &World, root: &str, extra: &[&str]) -> String {
    let file = world.path("iid");
    let mut args = vec!["--root", root, "build", "--progress", "plain", "--iidfile", file.to_str().expect("UTF-8"), "-t", "app:1"];
    args.extend(extra);
    args.push("app");
    world.strake(&args).ok();
    std::fs::read_to_string(file).expect("an id")
}

#[test]
fn two_stores_one_worker_or_many_touch_or_not_give_the_same_digest() {
    needs!();
    let world = world();
    let root = |name: &str| world.path(name).display().to_string();
    let first = image_id(&world, &root("one"), &[]);
    assert!(first.trim().starts_with("sha256:"), "{first}");
    std::process::Command::new("touch").arg(world.path("app/guestbook")).status().expect("touched");
    let second = image_id(&world, &root("two"), &["--jobs", "1"]);
    assert_eq!(first, second);
    let inspect = |name: &str| world.strake(&["--root", &root(name), "image", "inspect", "app:1"]).ok().stdout;
    assert_eq!(inspect("one"), inspect("two"), "the manifest too");
    let config = inspect("one");
    for part in ["GREETING=hello-world", "/srv/site", "80/tcp", "90/udp", "65532"] {
        assert!(config.contains(part), "{part} in {config}");
    }
    let other = image_id(&world, &root("one"), &["--build-arg", "GREETING=bye"]);
    assert_ne!(first, other);
    world.nothing_left();
}

#[test]
fn a_rebuild_is_cached_touch_hits_and_chmod_misses() {
    needs!();
    let world = world();
    let build = || world.strake(&["build", "--progress", "plain", "app"]).ok().stderr;
    build();
    let cached = |text: &str| text.matches("CACHED").count();
    let again = build();
    let all = cached(&again);
    assert!(all >= 7, "{again}");
    std::process::Command::new("touch").arg(world.path("app/guestbook")).status().expect("touched");
    assert_eq!(cached(&build()), all);
    std::process::Command::new("chmod").arg("700").arg(world.path("app/guestbook")).status().expect("changed");
    assert!(cached(&build()) < all);
    // Back to what it was: it hits again.
    std::process::Command::new("chmod").arg("755").arg(world.path("app/guestbook")).status().expect("changed");
    assert_eq!(cached(&build()), all);
    // A label above changes no step.
    world.write("app/Dockerfile", DOCKERFILE.replace("LABEL a=b", "LABEL a=c"));
    assert_eq!(cached(&build()), all);
}

#[test]
fn a_target_builds_only_what_it_needs() {
    needs!();
    let world = world();
    world.write("app/Dockerfile", DOCKERFILE.replace("render\", \"/other\"", "sing\""));
    let ran = world.strake(&["build", "--progress", "plain", "--target", "tool", "app"]).ok();
    assert!(!ran.stderr.contains("sing"), "{}", ran.stderr);
    world.strake(&["build", "--target", "nothing", "app"]).fails(1, "nothing");
}

#[test]
fn json_progress_is_an_object_a_line() {
    needs!();
    let world = world();
    let ran = world.strake(&["build", "--progress", "json", "app"]).ok();
    let lines: Vec<serde_json::Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    assert!(lines.len() > 5);
    assert!(lines.iter().all(|line| line["event"].is_string()), "{lines:?}");
}

#[test]
fn base_images_come_in_and_run_steps_see_them() {
    needs!("busybox");
    let world = World::new();
    let busybox = strake_tests::find("busybox").expect("found");
    for dir in ["base/bin", "base/etc", "base/tmp"] {
        std::fs::create_dir_all(world.path(dir)).expect("a folder");
    }
    std::fs::copy(busybox, world.path("base/bin/busybox")).expect("copied");
    for applet in ["sh", "cat", "echo", "id", "ls", "mkdir", "touch", "test", "rm", "ln"] {
        std::os::unix::fs::symlink("busybox", world.path(&format!("base/bin/{applet}"))).expect("a link");
    }
    world.write("base/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n");
    world.write("base/etc/group", "root:x:0:\napp:x:1001:\nstaff:x:50:app\n");
    world.strake(&["image", "import", "base", "busybox:latest"]).ok();
    world.write(
        "app/Dockerfile",
        "FROM busybox\nRUN echo one > /a && rm -f /etc/group.old\nUSER app\nWORKDIR /home/app/work\nRUN id > ids && test -w . && test \"$HOME\" = /home/app\nUSER root\n\
         RUN <<EOF\ncat /a > /b\ntest -e /etc/hosts\nls /etc > /etc-list\nEOF\nRUN --mount=type=cache,target=/cache touch /cache/x\nRUN --mount=type=tmpfs,target=/mnt touch /mnt/x\n\
         RUN test ! -e /cache/x && ! test -e /mnt/x\n",
    );
    let ran = world.strake(&["build", "--progress", "plain", "-t", "app", "app"]).ok();
    assert!(ran.stderr.contains("RUN id"), "{}", ran.stderr);
    world.nothing_left();
}

/// A base with a shell, called `busybox`.
fn import_busybox(world: &World) {
    import_busybox_at(world, "root");
}

/// The same, in another state directory.
pub(super) fn import_busybox_at(world: &World, root: &str) {
    let busybox = strake_tests::find("busybox").expect("found");
    for dir in ["base/bin", "base/etc", "base/tmp"] {
        std::fs::create_dir_all(world.path(dir)).expect("a folder");
    }
    std::fs::copy(busybox, world.path("base/bin/busybox")).expect("copied");
    for applet in ["sh", "cat", "echo", "id", "ls", "mkdir", "touch", "test", "rm", "stat", "nc", "grep", "tr", "wc", "df", "sleep"] {
        let link = world.path(&format!("base/bin/{applet}"));
        if !link.exists() {
            std::os::unix::fs::symlink("busybox", link).expect("a link");
        }
    }
    world.write("base/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n");
    world.strake(&["--root", root, "image", "import", "base", "busybox:latest"]).ok();
}

/// Files below `dir` whose bytes contain one of the texts.
fn holders(dir: &std::path::Path, texts: &[&str]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            found.extend(holders(&path, texts));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if texts.iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes())) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_secret_is_seen_by_its_step_and_by_nothing_else() {
    needs!("busybox");
    let world = World::new();
    import_busybox(&world);
    // Both appear nowhere in the Dockerfile, not even in pieces.
    let (in_file, in_variable) = ("s3cr3t-file-8d1f0a", "s3cr3t-env-77b2c9");
    world.write("token", in_file);
    world.write(
        "app/Dockerfile",
        "FROM busybox\n\
         RUN --mount=type=secret,id=token,uid=5,mode=0440 test \"$(stat -c '%u %a' /run/secrets/token)\" = '5 440' && wc -c < /run/secrets/token > /length\n\
         RUN --mount=type=secret,id=key,env=KEY test -n \"$KEY\" && echo ${#KEY} > /length2\n\
         RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent && test ! -e /run/secrets/token && test -z \"$KEY\"\n\
         RUN test ! -e /run && sleep 1\n",
    );
    let secrets = ["--secret", "id=token,src=token", "--secret", "id=key,env=THE_KEY"];
    let build = |extra: &[&str]| {
        let args = [&["build", "--progress", "plain", "-t", "app:1"][..], &secrets, extra, &["app"]].concat();
        let child = world.strake_command(&args).env("THE_KEY", in_variable).output().expect("strake runs");
        (String::from_utf8_lossy(&child.stderr).into_owned(), child.status.success())
    };
    let (stderr, good) = build(&[]);
    assert!(good, "{stderr}");
    assert!(!stderr.contains("s3cr3t"), "{stderr}");
    world.strake(&["image", "export", "app:1", "app.tar", "--format", "docker"]).ok();
    assert_eq!(holders(&world.root(), &[in_file, in_variable]), Vec::<std::path::PathBuf>::new());
    assert_eq!(holders(&world.path("app"), &[in_file, in_variable]), Vec::<std::path::PathBuf>::new());
    let archive = std::fs::read(world.path("app.tar")).expect("an archive");
    assert!(!archive.windows(6).any(|window| window == b"s3cr3t"), "in an exported layer");
    // The value is no part of the key: another one runs nothing again.
    world.write("token", "another value");
    let (stderr, _) = build(&[]);
    assert!(!stderr.contains(" DONE"), "{stderr}");
    // A required one that is not given fails, by name.
    world.write("app/Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=needed,required true\n");
    world.strake(&["build", "app"]).fails(1, "--secret id=needed");
    world.nothing_left();
}

#[test]
fn a_secret_is_in_no_file_while_its_step_runs() {
    needs!("busybox");
    let world = World::new();
    import_busybox(&world);
    world.write("token", "s3cr3t-live-5521");
    world.write(
        "app/Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=token,env=T --mount=type=secret,id=token cat /run/secrets/token | wc -c; echo ready; sleep 3\n",
    );
    let mut child = world.strake_command(&["build", "--progress", "plain", "--secret", "id=token,src=token", "app"]);
    let mut child = child.stderr(std::process::Stdio::piped()).spawn().expect("strake runs");
    let lines = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut lines = std::io::BufRead::lines(lines);
    let mut said = Vec::new();
    // The command's text has the word too: its output stands alone.
    for line in lines.by_ref() {
        let line = line.expect("a line");
        let ready = line.trim_end().ends_with(" ready") || line.trim() == "ready";
        said.push(line);
        if ready {
            break;
        }
    }
    let held = holders(&world.root(), &["s3cr3t-live-5521"]);
    let listed = strake_tests::find("ps").map(|_| world.run("ps", &["-ef"]).stdout).unwrap_or_default();
    said.extend(lines.map_while(Result::ok));
    assert!(child.wait().expect("an end").success(), "{said:?}");
    assert_eq!(held, Vec::<std::path::PathBuf>::new());
    assert!(!listed.contains("s3cr3t-live"), "{listed}");
}

#[test]
fn an_ssh_agent_is_there_in_a_step_that_asks() {
    needs!("busybox", "ssh-agent");
    let world = World::new();
    import_busybox(&world);
    let socket = world.path("agent");
    let mut agent = std::process::Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(std::process::Stdio::null()).spawn().expect("an agent");
    while !socket.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    world.write(
        "app/Dockerfile",
        "FROM busybox\nRUN --mount=type=ssh,uid=1000,required test \"$(stat -c %u $SSH_AUTH_SOCK)\" = 1000 && test $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 && \
         test -S $SSH_AUTH_SOCK\nRUN --mount=type=ssh,id=none true\n",
    );
    world.strake(&["build", "--ssh", "default=agent", "app"]).ok();
    world.strake(&["build", "--no-cache", "app"]).fails(1, "--ssh default");
    world.strake(&["build", "--ssh", "default=app/Dockerfile", "app"]).fails(1, "app/Dockerfile cannot be used");
    agent.kill().expect("ended");
    agent.wait().expect("ended");
    world.nothing_left();
}
