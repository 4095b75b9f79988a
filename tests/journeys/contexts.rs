//! What a build reads: stdin, tars, named contexts.

use std::io::Write;
use std::process::Stdio;

use strake_tests::{Ran, World, needs};

fn piped(world: &World, args: &[&str], input: &[u8]) -> Ran {
    let mut command = world.strake_command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("strake runs");
    child.stdin.take().expect("a pipe").write_all(input).expect("read");
    let output = child.wait_with_output().expect("an end");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code().unwrap_or(-1) }
}

fn built(world: &World, file: &str) -> String {
    std::fs::read_to_string(world.path("out").join(file)).expect("a file")
}

#[test]
fn a_dockerfile_or_a_context_comes_from_stdin() {
    needs!("tar");
    let world = World::new();
    world.write("app/a", "from the directory");
    world.write("app/left", "out");
    world.write("app/.dockerignore", "left\n");
    // An ignore file where strake happens to be is nobody's.
    world.write(".dockerignore", "a\n");
    let dockerfile = b"FROM scratch\nCOPY . /\n";
    piped(&world, &["build", "-f", "-", "-o", "out", "app"], dockerfile).ok();
    assert_eq!(built(&world, "a"), "from the directory");
    assert!(!world.path("out/left").exists());
    let alone = piped(&world, &["build", "-o", "out", "-"], b"FROM scratch\nCOPY <<EOF /inline\ntext\nEOF\n").ok();
    assert_eq!(built(&world, "inline"), "text\n", "{}", alone.stderr);
    piped(&world, &["build", "-"], b"FROM scratch\nCOPY a /\n").fails(1, "`a`");
    piped(&world, &["build", "-f", "-", "-"], b"").fails(2, "not both");

    world.write("packed/Dockerfile", "FROM scratch\nCOPY b /b\n");
    world.write("packed/other/Dockerfile", "FROM scratch\nCOPY b /other\n");
    world.write("packed/b", "from the tar");
    for (flag, name) in [("-cf", "context.tar"), ("-czf", "context.tar.gz")] {
        world.run("tar", &["-C", "packed", flag, name, "."]).ok();
        let bytes = std::fs::read(world.path(name)).expect("a tar");
        piped(&world, &["build", "-o", "out", "-"], &bytes).ok();
        assert_eq!(built(&world, "b"), "from the tar");
        world.strake(&["build", "-f", "other/Dockerfile", "-o", "out", name]).ok();
        assert_eq!(built(&world, "other"), "from the tar");
    }
    // A tar cannot name files outside of itself.
    std::os::unix::fs::symlink("/etc/passwd", world.path("packed/link")).expect("a link");
    world.run("tar", &["-C", "packed", "-cf", "link.tar", "."]).ok();
    world.strake(&["build", "-f", "link", "link.tar"]).fails(1, "cannot read link");
    world.strake(&["build", "app/a"]).fails(1, "neither a directory nor a tar");
    let left = std::fs::read_dir(world.root().join("cache/contexts")).expect("a folder").count();
    assert_eq!(left, 0, "unpacked contexts are removed");
    world.nothing_left();
}

#[test]
fn named_contexts_are_directories_images_and_layouts() {
    needs!();
    let world = World::new();
    world.write("one/f", "one");
    world.write("two/f", "two");
    world.write("two/.dockerignore", "hidden\n");
    world.write("two/hidden", "no");
    world.write("app/Dockerfile", "FROM lib AS lib\nFROM scratch\nCOPY --from=lib /f /lib\nCOPY --from=extra . /extra/\n");
    world.write("image/Dockerfile", "FROM scratch\nCOPY --from=one f /f\nENV FROM_IMAGE=yes\n");
    world.strake(&["build", "-t", "img:1", "-t", "img:2", "--build-context", "one=one", "-o", "type=oci,dest=layout,tar=false", "image"]).ok();
    let build = |lib: &str| world.strake(&["build", "--build-context", lib, "--build-context", "extra=two", "-o", "out", "app"]);
    build("lib=two").ok();
    assert_eq!((built(&world, "lib"), built(&world, "extra/f")), ("two".to_owned(), "two".to_owned()));
    assert!(!world.path("out/extra/hidden").exists());
    build("lib=docker-image://img:1").ok();
    assert_eq!(built(&world, "lib"), "one");
    // The layout is all that is needed: the image has no name in this store.
    let elsewhere = world.path("elsewhere").display().to_string();
    let layout = format!("lib=oci-layout://{}:1", world.path("layout").display());
    world.strake(&["--root", &elsewhere, "build", "--build-context", &layout, "--build-context", "extra=two", "-o", "out2", "app"]).ok();
    assert_eq!(std::fs::read_to_string(world.path("out2/lib")).expect("a file"), "one");
    assert_eq!(world.strake(&["--root", &elsewhere, "images", "-o", "json"]).ok().stdout.trim(), "[]");
    build("lib=oci-layout://layout:none").fails(1, "has no image `none`");
    build("lib=nowhere").fails(1, "nowhere");
    build("lib").fails(2, "NAME=VALUE");
    world.nothing_left();
}

/// A web server inside the world's network, which knows the files of a folder.
struct Web(std::process::Child);

impl Web {
    fn start(world: &World, port: u16, dir: &str) -> Web {
        Web::program(world, port, &["-m", "http.server", "--bind", "127.0.0.1", "--directory", dir, &port.to_string()])
    }

    /// One of a test's own, which listens on that port.
    fn program(world: &World, port: u16, args: &[&str]) -> Web {
        let mut command = world.command("python3");
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        let web = Web(command.spawn().expect("a server"));
        let listening = format!(":{port:04X} 00000000:0000 0A");
        for _ in 0..500 {
            if world.run("cat", &["/proc/net/tcp"]).stdout.contains(&listening) {
                return web;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the server does not start");
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn c19_add_fetches_a_url_and_checks_it() {
    needs!("python3", "tar", "sha256sum");
    let world = World::new();
    world.write("web/some file.txt", "fetched");
    world.write("web/inner", "in the tar");
    world.run("tar", &["-C", "web", "-cf", "web/files.tar", "inner"]).ok();
    let web = Web::start(&world, 8000, "web");
    let sum = world.run("sha256sum", &["web/files.tar"]).ok().stdout[..64].to_owned();
    world.write(
        "app/Dockerfile",
        format!(
            "FROM scratch\nARG HOST=http://127.0.0.1:8000\nADD $HOST/some%20file.txt?x=1 /dir/\nADD --chmod=644 $HOST/some%20file.txt /named\n\
             ADD --checksum=sha256:{sum} $HOST/files.tar /kept.tar\nADD --unpack --checksum=sha256:{sum} $HOST/files.tar /un/\n"
        ),
    );
    world.strake(&["build", "-o", "out", "-t", "one", "app"]).ok();
    assert_eq!((built(&world, "dir/some file.txt"), built(&world, "named")), ("fetched".to_owned(), "fetched".to_owned()));
    assert_eq!(built(&world, "un/inner"), "in the tar");
    let listed = world.run("stat", &["-c", "%a", "out/dir/some file.txt", "out/dir", "out/named", "out/kept.tar"]).ok().stdout;
    assert_eq!(listed, "600\n755\n644\n600\n");
    // The same content again is a hit; another one is not.
    let again = world.strake(&["build", "--progress", "plain", "app"]).ok().stderr;
    assert!(!again.contains(" DONE"), "{again}");
    world.write("web/some file.txt", "changed");
    world.strake(&["build", "-o", "out", "app"]).ok();
    assert_eq!(built(&world, "named"), "changed");
    world.write("app/Dockerfile", format!("FROM scratch\nADD --checksum=sha256:{} http://127.0.0.1:8000/files.tar /\n", "0".repeat(64)));
    world.strake(&["build", "app"]).fails(1, "digest mismatch");
    world.write("app/Dockerfile", "FROM scratch\nADD http://169.254.169.254/latest/meta-data /x\n");
    world.strake(&["build", "app"]).fails(1, "builds may not reach it");
    world.write("app/Dockerfile", "FROM scratch\nADD http://127.0.0.1:8000/none /x\n");
    world.strake(&["build", "app"]).fails(1, "invalid response status 404");
    // The same in a project.
    world.write("project/Dockerfile", "FROM scratch\nADD http://127.0.0.1:8000/files.tar /x/\nENTRYPOINT [\"/x\"]\n");
    world.write("project/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: project}]}\n");
    let plan = world.strake(&["plan", "project"]).ok().stdout;
    assert!(plan.contains("ADD http://127.0.0.1:8000/files.tar"), "{plan}");
    // What is here by its checksum needs no server.
    world.write("app/Dockerfile", format!("FROM scratch\nADD --checksum=sha256:{sum} http://127.0.0.1:8000/files.tar /again.tar\n"));
    drop(web);
    world.strake(&["build", "-o", "out", "app"]).ok();
    assert!(world.path("out/again.tar").is_file());
    world.nothing_left();
}

#[test]
fn a_dockerfile_is_checked_and_described_without_building() {
    needs!();
    let world = World::new();
    world.write(
        "app/Dockerfile",
        "ARG G=1\nFROM scratch AS one\nARG A=2\nRUN --mount=type=secret,id=token,required --mount=type=ssh x\nFROM one AS two\nARG B\nCOPY nowhere /\nFROM two\n",
    );
    world.strake(&["build", "--check", "app"]).ok();
    let targets = world.strake(&["build", "--call", "targets,format=json", "app"]).ok().stdout;
    let targets: serde_json::Value = serde_json::from_str(&targets).expect("JSON");
    assert_eq!(targets["targets"][1], serde_json::json!({"name": "two", "base": "one", "default": false}));
    assert_eq!(targets["targets"][2]["default"], true);
    let args = ["build", "--call", "outline,format=json", "--build-arg", "A=given", "--target", "two", "app"];
    let outline: serde_json::Value = serde_json::from_str(&world.strake(&args).ok().stdout).expect("JSON");
    assert_eq!(outline["args"][1], serde_json::json!({"name": "A", "value": "given"}), "{outline}");
    assert_eq!(outline["secrets"], serde_json::json!([{"name": "token", "required": true}]));
    assert_eq!(outline["ssh"][0]["name"], "default");
    assert!(world.strake(&["build", "--call", "outline", "app"]).ok().stdout.contains("token"));
    world.write("app/Dockerfile", "from scratch\nCOPY a /\nMAINTAINER me\n");
    world.strake(&["build", "--check", "app"]).fails(1, "MaintainerDeprecated");
    let found = world.strake(&["build", "--call", "check,format=json", "app"]);
    assert!(found.code == 1 && found.stdout.contains("\"code\": \"MaintainerDeprecated\""), "{}", found.stdout);
    world.strake(&["build", "--call", "dance", "app"]).fails(2, "expected build, check");
    world.nothing_left();
}

#[test]
fn runs_get_hosts_memory_and_a_time() {
    needs!("busybox");
    let world = World::new();
    let busybox = strake_tests::find("busybox").expect("found");
    std::fs::create_dir_all(world.path("app/bin")).expect("a folder");
    std::fs::copy(busybox, world.path("app/bin/busybox")).expect("copied");
    world.write(
        "app/Dockerfile",
        "FROM scratch\nCOPY bin /bin\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox grep -q '10.9.8.7.db.test' /etc/hosts && /bin/busybox df -m /dev/shm | /bin/busybox grep -q ' 128 '\"]\n",
    );
    let all = ["build", "--progress", "plain", "--shm-size", "128m"];
    let build = |more: &[&str]| world.strake(&[&all[..], more, &["app"]].concat());
    build(&["--add-host", "db.test:10.9.8.7"]).ok();
    // The name is part of the step, its address is not.
    assert!(!build(&["--add-host", "db.test=10.9.8.8"]).ok().stderr.contains(" DONE"));
    build(&["--add-host", "other:10.9.8.7"]).fails(1, "exit code 1");
    build(&["--add-host", "db.test"]).fails(2, "expected NAME:ADDRESS");
    build(&["--shm-size", "lots"]).fails(2, "--shm-size");
    world.write("app/Dockerfile", "FROM scratch\nCOPY bin /bin\n");
    world.strake(&["build", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-t", "timed", "app"]).ok();
    assert!(world.strake(&["image", "inspect", "timed"]).ok().stdout.contains("2023-11-14T22:13:20Z"));
    world.strake(&["build", "--build-arg", "SOURCE_DATE_EPOCH=context", "app"]).fails(2, "only seconds");
    // Offline: what is not here is named, nothing is asked.
    world.write("app/Dockerfile", "FROM absent:1\nCOPY --from=missing/too:2 / /\n");
    world.strake(&["build", "--offline", "app"]).fails(1, "not in the store: absent:1, missing/too:2");
    world.nothing_left();
}

#[test]
fn checks_can_be_given_and_ignore_files_stand_beside() {
    needs!();
    let world = World::new();
    for name in ["a", "b", "sub/c"] {
        world.write(&format!("app/{name}"), name);
    }
    world.write("app/Dockerfile", "FROM scratch\nCOPY . /\nMAINTAINER me\n");
    world.write("app/.dockerignore", "\u{feff}# left out\r\n a \r\nDockerfile\r\n.dockerignore\r\n*.dockerignore\r\nsub/*\r\n!sub/c\r\nother\r\n");
    let list = |args: &[&str]| {
        let _ = std::fs::remove_dir_all(world.path("out"));
        world.strake(&[&["build", "-o", "out"], args, &["app"]].concat()).ok();
        world.run("sh", &["-c", "cd out && find . -type f | sort"]).ok().stdout.replace('\n', " ")
    };
    assert_eq!(list(&[]), "./b ./sub/c ");
    // The one named after the Dockerfile takes the place of the other, even when it is empty.
    world.write("app/Dockerfile.dockerignore", "b\n*ockerfile*\n.dockerignore\nother\n");
    assert_eq!(list(&[]), "./a ./sub/c ");
    world.write("app/other/File", "FROM scratch\nCOPY . /\n");
    world.write("app/other/File.dockerignore", "");
    assert_eq!(
        list(&["-f", "app/other/File"]),
        "./.dockerignore ./Dockerfile ./Dockerfile.dockerignore ./a ./b ./other/File ./other/File.dockerignore ./sub/c "
    );
    // What is left out is still what is built from, and cannot be copied.
    world.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    world.strake(&["build", "app"]).fails(1, "`Dockerfile` is not there");
    world.write("app/Dockerfile", "# check=skip=none\nFROM scratch\nMAINTAINER me\n");
    world.strake(&["build", "--check", "app"]).fails(1, "MaintainerDeprecated");
    world.strake(&["build", "--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=MaintainerDeprecated", "app"]).ok();
    world.strake(&["build", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", "app"]).fails(1, "error[MaintainerDeprecated]");
    world.nothing_left();
}

#[test]
fn c19_a_file_that_has_not_changed_is_not_sent_again_and_a_login_goes_with_the_question() {
    needs!("python3");
    let world = World::new();
    let server = "import http.server as h\nclass S(h.BaseHTTPRequestHandler):\n  def do_GET(self):\n    known = self.headers['If-None-Match'] == '\"v1\"'\n    open('log', 'a').write(f\"{304 if known else 200} {self.headers['Authorization']}\\n\")\n    self.send_response(304 if known else 200); self.send_header('ETag', '\"v1\"')\n    self.send_header('Content-Length', '0' if known else '7'); self.end_headers()\n    if not known: self.wfile.write(b'fetched')\nh.ThreadingHTTPServer(('127.0.0.1', 8000), S).serve_forever()\n";
    world.write("server.py", server);
    world.write("token", "s#cret\n");
    world.write("app/Dockerfile", "FROM scratch\nADD http://127.0.0.1:8000/file /file\n");
    let web = Web::program(&world, 8000, &["server.py"]);
    for _ in 0..2 {
        world.strake(&["build", "--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,src=token", "-o", "out", "app"]).ok();
        assert_eq!(built(&world, "file"), "fetched");
    }
    assert_eq!(std::fs::read_to_string(world.path("log")).expect("a log"), "200 Bearer s#cret\n304 Bearer s#cret\n");
    // What was known and is damaged here is fetched in full.
    let kept = std::fs::read_dir(world.root().join("cache/remote")).expect("a folder").flatten().map(|entry| entry.path().join("file"));
    let kept: Vec<_> = kept.filter(|path| path.is_file()).collect();
    assert_eq!(kept.len(), 1);
    std::fs::write(&kept[0], "damaged").expect("written");
    world.strake(&["build", "--secret", "id=HTTP_AUTH_HEADER_127.0.0.1:8000,src=token", "-o", "out", "app"]).ok();
    assert_eq!(built(&world, "file"), "fetched");
    assert!(std::fs::read_to_string(world.path("log")).expect("a log").ends_with("200 s#cret\n"));
    drop(web);
    world.nothing_left();
}
