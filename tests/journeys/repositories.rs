//! Git repositories as sources of ADD, as contexts and as named contexts; honest ones and others.

use std::path::Path;
use std::process::{Child, Stdio};

use strake_tests::{World, needs};

/// A repository `NAME.git` below `served`, made by a script in its work tree.
pub fn repository(world: &World, name: &str, script: &str) {
    let begin = format!(
        "set -e; mkdir -p work/{name} served; cd work/{name}; git init -q -b main . 2>/dev/null || true; git config user.name t; git config user.email t@t"
    );
    let end = format!(
        "rm -rf ../../served/{name}.git; git clone -q --bare . ../../served/{name}.git; cd ../../served/{name}.git; git update-server-info; \
         git config uploadpack.allowAnySHA1InWant true"
    );
    sh(world, &format!("{begin}; {script}; {end}"));
}

pub fn sh(world: &World, script: &str) -> String {
    let mut command = world.command("sh");
    command.args(["-c", script]).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_ALLOW_PROTOCOL", "file");
    let output = command.output().expect("a shell");
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The repository of most tests: a folder, a program, a link, files that releases leave out, a tag and a second branch.
fn app(world: &World) -> String {
    repository(
        world,
        "app",
        "mkdir sub; echo one > file; echo inner > sub/inner; echo 'echo hi' > run.sh; chmod 755 run.sh; ln -s sub link; \
         echo 'file export-ignore' > .gitattributes; printf 'FROM scratch\\nCOPY file /from-context\\n' > Dockerfile; \
         echo sub > .dockerignore; git add -A; git commit -qm one; git tag -a -m v1 v1; git checkout -q -b other; echo two > file; git commit -qam two; git checkout -q main",
    );
    sh(world, "git -C work/app rev-parse main")
}

/// A server that ends with the test.
pub struct Server(Child);

impl Server {
    pub fn start(world: &World, program: &str, args: &[&str], port: u16) -> Server {
        let mut command = world.command(program);
        let server = Server(command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a server"));
        let listening = format!(":{port:04X} 00000000:0000 0A");
        for _ in 0..1500 {
            if world.run("cat", &["/proc/net/tcp"]).stdout.contains(&listening) {
                return server;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the server does not start");
    }

    pub fn git(world: &World) -> Server {
        let base = format!("--base-path={}", world.path("served").display());
        // The program itself: `git daemon` would be another process that stays when this one is ended.
        let program = format!("{}/git-daemon", sh(world, "git --exec-path"));
        Server::start(world, &program, &["--export-all", "--reuseaddr", "--listen=127.0.0.1", &base], 9418)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn built(world: &World, file: &str) -> String {
    std::fs::read_to_string(world.path("out").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn build(world: &World, dockerfile: &str, more: &[&str]) -> strake_tests::Ran {
    world.write("b/Dockerfile", dockerfile);
    let _ = std::fs::remove_dir_all(world.path("out"));
    world.strake(&[&["build", "-o", "out"], more, &["b"]].concat())
}

#[test]
fn c20_add_takes_branches_tags_commits_and_folders() {
    needs!("git");
    let world = World::new();
    let commit = app(&world);
    let server = Server::git(&world);
    let url = "git://127.0.0.1/app.git";
    build(&world, &format!("FROM scratch\nADD {url} /all\nADD {url}#other:/ /other/\nADD {url}#v1:sub/../sub /sub\nADD {url}?ref={commit} /byid\n"), &[]).ok();
    assert_eq!((built(&world, "all/file"), built(&world, "other/file"), built(&world, "sub/inner")), ("one\n".into(), "two\n".into(), "inner\n".into()));
    assert!(!world.path("out/all/.git").exists() && world.path("out/all/link").is_symlink() && world.path("out/all/.gitattributes").exists());
    let modes = world.run("stat", &["-c", "%a", "out/all/run.sh", "out/all/file", "out/all/sub", "out/byid/file"]).ok().stdout;
    assert_eq!(modes, "755\n644\n755\n644\n");
    // Folders through links are those of the repository.
    build(&world, &format!("FROM scratch\nADD {url}#main:link /x\n"), &[]).ok();
    assert_eq!(built(&world, "x/inner"), "inner\n");

    // What moved is seen; what did not is a hit.
    let two = format!("FROM scratch\nADD {url}#main /x\n");
    let hit = build(&world, &two, &["--progress", "plain"]).ok();
    assert!(!hit.stderr.contains("fetching"), "{}", hit.stderr);
    sh(&world, "cd work/app; echo three > file; git commit -qam three; git push -q ../../served/app.git main");
    build(&world, &two, &[]).ok();
    assert_eq!(built(&world, "x/file"), "three\n");

    // The first commit is not a branch's end any more, and its checksum says which it must be.
    build(&world, &format!("FROM scratch\nADD --checksum={commit} {url}#v1 /x\n"), &[]).ok();
    build(&world, &format!("FROM scratch\nADD --checksum={} {url}#v1 /x\n", &commit[..10]), &[]).ok();
    build(&world, &format!("FROM scratch\nADD --checksum={commit} {url}#main /x\n"), &[]).fails(1, &format!("expected commit {commit}"));
    build(&world, &format!("FROM scratch\nADD --checksum=0 {url}#main /x\n"), &[]).fails(1, "not the id of a commit");

    build(&world, &format!("FROM scratch\nADD {url}#nowhere /x\n"), &[]).fails(1, "has no branch or tag `nowhere`");
    build(&world, &format!("FROM scratch\nADD {url}#main:nowhere /x\n"), &[]).fails(1, "has no folder `nowhere`");
    build(&world, &format!("FROM scratch\nADD {url}#{} /x\n", "0".repeat(40)), &[]).fails(1, "has no commit 000");
    build(&world, "FROM scratch\nADD git://127.0.0.1/none.git /x\n", &[]).fails(1, "git cannot ask git://127.0.0.1/none.git");
    drop(server);
    // A whole id needs nobody when it is here.
    build(&world, &format!("FROM scratch\nADD {url}#{commit} /y\n"), &["--offline"]).ok();
    assert_eq!(built(&world, "y/file"), "one\n");
    build(&world, &format!("FROM scratch\nADD {url}#main /y\n"), &["--offline"]).fails(1, "must name a commit by its whole id");
    build(&world, &format!("FROM scratch\nADD {url}#main /y\n"), &[]).fails(1, "git cannot ask");
    world.nothing_left();
}

#[test]
fn the_git_directory_is_kept_when_asked_and_always_the_same() {
    needs!("git");
    let world = World::new();
    let commit = app(&world);
    let server = Server::git(&world);
    let dockerfile = "FROM scratch\nADD --keep-git-dir git://127.0.0.1/app.git#v1 /x\nADD git://127.0.0.1/app.git?keep-git-dir=true /y\n";
    build(&world, dockerfile, &["--iidfile", "first"]).ok();
    assert_eq!(sh(&world, "git -c safe.directory='*' -C out/x rev-parse HEAD"), commit);
    assert_eq!(sh(&world, "git -c safe.directory='*' -C out/x status --porcelain"), "");
    assert_eq!(sh(&world, "git -c safe.directory='*' -C out/y remote get-url origin"), "git://127.0.0.1/app.git");
    let elsewhere = world.path("elsewhere").display().to_string();
    world.strake(&["--root", &elsewhere, "build", "--iidfile", "second", "b"]).ok();
    let id = |name: &str| std::fs::read_to_string(world.path(name)).expect("an id");
    assert_eq!(id("first"), id("second"), "another store fetches the same bytes");
    drop(server);
    world.nothing_left();
}

#[test]
fn submodules_are_taken_with_the_rest() {
    needs!("git");
    let world = World::new();
    repository(&world, "leaf", "echo leaf > leaf; git add -A; git commit -qm leaf");
    repository(
        &world,
        "middle",
        "git -c protocol.file.allow=always submodule --quiet add ../../served/leaf.git deep; git config -f .gitmodules submodule.deep.url ../leaf.git; git add -A; git commit -qm middle",
    );
    repository(
        &world,
        "outer",
        "git -c protocol.file.allow=always submodule --quiet add ../../served/middle.git in/side; git config -f .gitmodules submodule.in/side.url git://127.0.0.1/middle.git; git add -A; git commit -qm outer",
    );
    let server = Server::git(&world);
    build(&world, "FROM scratch\nADD git://127.0.0.1/outer.git /x\nADD git://127.0.0.1/outer.git?submodules=false /y\n", &[]).ok();
    assert_eq!(built(&world, "x/in/side/deep/leaf"), "leaf\n");
    assert_eq!(std::fs::read_dir(world.path("out/y/in/side")).expect("a folder").count(), 0);
    // Addresses that git itself could be made to run or to read.
    for (number, (address, said)) in
        [("ext::sh -c touch% /tmp/x", "has an address"), ("file:///etc", "has an address"), ("/etc", "has an address"), ("-u", "has an address")]
            .iter()
            .enumerate()
    {
        let name = format!("evil{number}");
        let script = format!(
            "git clone -q ../../served/leaf.git x; id=$(git -C x rev-parse HEAD); rm -rf x; printf '[submodule \"x\"]\\n\\tpath = x\\n\\turl = {address}\\n' > .gitmodules; \
             git add .gitmodules; git update-index --add --cacheinfo 160000,$id,x; git commit -qm evil"
        );
        repository(&world, &name, &script.replace("% ", "%% "));
        build(&world, &format!("FROM scratch\nADD git://127.0.0.1/{name}.git /x\n"), &[]).fails(1, said);
    }
    repository(
        &world,
        "untold",
        "git clone -q ../../served/leaf.git x; id=$(git -C x rev-parse HEAD); rm -rf x; git update-index --add --cacheinfo 160000,$id,x; git commit -qm evil",
    );
    build(&world, "FROM scratch\nADD git://127.0.0.1/untold.git /x\n", &[]).fails(1, "does not say where it is");
    drop(server);
    world.nothing_left();
}

#[test]
fn hostile_repositories_reach_nothing() {
    needs!("git");
    let world = World::new();
    let _ = app(&world);
    // A tree that git would not write: `.git/config` as a file of its own.
    repository(
        &world,
        "dotgit",
        "blob=$(printf '[core]\\n\\tfsmonitor = touch /tmp/pwned\\n' | git hash-object -w --stdin); \
         bytes() { printf \"$(echo $1 | sed 's/../\\\\x&/g')\"; }; octal() { for byte in $(echo $1 | sed 's/../& /g'); do printf '\\\\%03o' 0x$byte; done; }; \
         (printf '100644 config\\0'; printf \"$(octal $blob)\") > inner; inner=$(git hash-object --literally -t tree -w inner); \
         (printf '40000 .GIT\\0'; printf \"$(octal $inner)\") > outer; outer=$(git hash-object --literally -t tree -w outer); \
         git update-ref refs/heads/main $(git commit-tree -m evil $outer)",
    );
    repository(&world, "out", "ln -s /etc etc; ln -s ../../../../../.. up; git add -A; git commit -qm links");
    let server = Server::git(&world);
    build(&world, "FROM scratch\nADD git://127.0.0.1/dotgit.git /x\n", &[]).fails(1, "has an entry `.GIT/config`, which is refused");
    for folder in ["etc", "up/etc", "etc/passwd"] {
        build(&world, &format!("FROM scratch\nADD git://127.0.0.1/out.git#main:{folder} /x\n"), &[]).fails(1, "has no folder");
    }
    for (source, said) in [
        ("git://127.0.0.1/app.git#--upload-pack=touch", "cannot be a branch"),
        ("ssh://-oProxyCommand=touch/app.git", "not the address"),
        ("http://169.254.169.254/app.git", "may not be reached"),
        ("git://[fe80::1]/app.git", "may not be reached"),
        ("git@127.0.0.1:app.git", "allow its use with --ssh default"),
    ] {
        build(&world, &format!("FROM scratch\nADD {source} /x\n"), &[]).fails(1, said);
    }
    build(&world, "FROM scratch\nCOPY git://127.0.0.1/app.git /x\n", &[]).fails(1, "source can't be a git ref for COPY");
    assert!(!Path::new("/tmp/pwned").exists());
    // A configuration of this machine that would run something does nothing.
    world.write(".gitconfig", "[core]\n\tsshCommand = touch ran\n[url \"ext::touch ran\"]\n\tinsteadOf = git://127.0.0.1/\n[protocol]\n\tallow = always\n");
    build(&world, "FROM scratch\nADD git://127.0.0.1/app.git#v1 /x\n", &[]).ok();
    assert!(!world.path("ran").exists());
    drop(server);
    world.nothing_left();
}

#[test]
fn contexts_are_repositories_tars_and_dockerfiles_of_elsewhere() {
    needs!("git", "tar", "xz", "python3");
    let world = World::new();
    let commit = app(&world);
    let server = Server::git(&world);
    let build_of = |args: &[&str]| world.strake(&[&["build", "-o", "out"], args].concat());
    build_of(&["git://127.0.0.1/app.git"]).ok();
    assert_eq!(built(&world, "from-context"), "one\n");
    build_of(&["git://127.0.0.1/app.git#other"]).ok();
    assert_eq!(built(&world, "from-context"), "two\n");
    // The ignore file is for directories; a query says the same as a fragment.
    world.write("d/Dockerfile", "FROM scratch\nCOPY --from=lib / /lib\nCOPY --from=lib sub/inner /inner\n");
    build_of(&["--build-context", &format!("lib=git://127.0.0.1/app.git?commit={commit}"), "d"]).ok();
    assert_eq!((built(&world, "lib/file"), built(&world, "inner")), ("one\n".to_owned(), "inner\n".to_owned()));
    build_of(&["git://127.0.0.1/app.git#main:sub"]).fails(1, "the context has no Dockerfile");
    build_of(&["-f", "../Dockerfile", "git://127.0.0.1/app.git#main:sub"]).fails(1, "Dockerfile");
    build_of(&["git://127.0.0.1/app.git#-x"]).fails(2, "cannot be a branch");
    drop(server);

    world.write("tar/Dockerfile", "FROM scratch\nCOPY b /b\n");
    world.write("tar/b", "of the tar");
    world.write("served/Only", "FROM scratch\nCOPY <<EOF /only\ntext\nEOF\n");
    world.run("tar", &["-C", "tar", "-cJf", "served/context.tar.xz", "."]).ok();
    let web = Server::start(&world, "python3", &["-m", "http.server", "--bind", "127.0.0.1", "--directory", "served", "8000"], 8000);
    build_of(&["http://127.0.0.1:8000/context.tar.xz"]).ok();
    assert_eq!(built(&world, "b"), "of the tar");
    build_of(&["http://127.0.0.1:8000/Only"]).ok();
    assert_eq!(built(&world, "only"), "text\n");
    build_of(&["-f", "x", "http://127.0.0.1:8000/Only"]).fails(2, "is no tar");
    world.write("d/Dockerfile", "FROM scratch\nCOPY --from=lib b /b2\nCOPY --from=file Only /o\n");
    build_of(&["--build-context", "lib=http://127.0.0.1:8000/context.tar.xz", "--build-context", "file=http://127.0.0.1:8000/Only", "d"]).ok();
    assert_eq!(built(&world, "b2"), "of the tar");
    // A server that knows nothing of git gives whole histories; it is enough.
    build(&world, "FROM scratch\nADD http://127.0.0.1:8000/app.git?tag=v1 /x\nADD http://127.0.0.1:8000/app.git#other http://127.0.0.1:8000/Only /y/\n", &[])
        .ok();
    assert_eq!((built(&world, "x/file"), built(&world, "y/file")), ("one\n".to_owned(), "two\n".to_owned()));
    assert!(built(&world, "y/Only").starts_with("FROM scratch"));
    drop(web);
    world.nothing_left();
}

#[test]
fn ssh_and_logins_are_used_when_they_are_given() {
    needs!("git", "python3");
    let world = World::new();
    let _ = app(&world);
    // Stands for ssh: it knows one machine and runs what it is asked to run.
    let ssh = "#!/bin/sh\nfor last; do :; done\necho \"$* agent=$SSH_AUTH_SOCK\" >> \"$0.log\"\ncd \"${0%/*}/../served\"\nexec sh -c \"$last\"\n";
    std::os::unix::fs::PermissionsExt::set_mode(&mut std::fs::metadata(world.write("bin/ssh", ssh)).expect("written").permissions(), 0o755);
    sh(&world, "chmod 755 bin/ssh");
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let with_ssh = |args: &[&str]| {
        let mut command = world.strake_command(&[&["build", "-o", "out"], args].concat());
        command.env("PATH", &path).env("SSH_AUTH_SOCK", "/agent/of/the/person").output().expect("strake runs")
    };
    let ran = with_ssh(&["git@forge:app.git#v1"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(built(&world, "from-context"), "one\n");
    let log = std::fs::read_to_string(world.path("bin/ssh.log")).expect("a log");
    assert!(log.contains("BatchMode=yes") && log.contains("git@forge") && log.contains("agent=/agent/of/the/person"), "{log}");
    // A Dockerfile may use it only when it was given.
    world.write("b/Dockerfile", "FROM scratch\nADD git@forge:app.git /x\n");
    let ran = with_ssh(&["b"]);
    assert!(String::from_utf8_lossy(&ran.stderr).contains("allow its use with --ssh default"));

    let server = "import http.server as h, functools\nclass S(h.SimpleHTTPRequestHandler):\n  def do_GET(self):\n    if self.headers['Authorization'] != 'Basic eC1hY2Nlc3MtdG9rZW46cyNjcmV0': self.send_error(401); return\n    super().do_GET()\nh.ThreadingHTTPServer(('127.0.0.1', 8000), functools.partial(S, directory='served')).serve_forever()\n";
    world.write("server.py", server);
    let web = Server::start(&world, "python3", &["server.py"], 8000);
    let dockerfile = "FROM scratch\nADD http://127.0.0.1:8000/app.git /x\n";
    build(&world, dockerfile, &[]).fails(1, "git cannot ask http://127.0.0.1:8000/app.git");
    world.write("token", "s#cret\n");
    build(&world, dockerfile, &["--secret", "id=GIT_AUTH_TOKEN.elsewhere,src=token"]).fails(1, "git cannot ask");
    build(&world, dockerfile, &["--secret", "id=GIT_AUTH_TOKEN,src=token"]).ok();
    assert_eq!(built(&world, "x/file"), "one\n");
    drop(web);
    world.nothing_left();
}

/// A repository's own bake file: its contexts are folders of it, at the commit that was asked for.
#[test]
fn a_repository_is_baked() {
    needs!("git");
    let world = World::new();
    repository(
        &world,
        "baked",
        "mkdir app; echo f > app/f; printf 'FROM scratch\\nCOPY f /f\\n' > app/Dockerfile; \
         printf 'target \"default\" {\\n  context = \"app\"\\n  output = [\"out\"]\\n}\\n' > docker-bake.hcl; \
         git add -A; git commit -qm one; git tag v1; echo later > app/f; git commit -qam two; ln -s /etc/passwd far.hcl; git add -A; git commit -qm three",
    );
    let server = Server::git(&world);
    let url = "git://127.0.0.1/baked.git#v1";
    let printed = world.strake(&["bake", url, "--print"]).ok();
    assert!(printed.stdout.contains(&format!("\"context\": \"{url}:app\"")), "{}", printed.stdout);
    world.strake(&["bake", url]).ok();
    assert_eq!(std::fs::read_to_string(world.path("out/f")).expect("a file"), "f\n");
    world.strake(&["bake", "git://127.0.0.1/baked.git", "-f", "far.hcl"]).fails(1, "leads out of the repository");
    world.strake(&["bake", "default", "https://e.org/x"]).fails(2, "as the first word");
    drop(server);
    world.nothing_left();
}
