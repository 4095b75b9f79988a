//! What ADD fetches: a few files by HTTP and a git repository by git's own protocol, both on the loopback of the world's own network.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use strake_tests::{World, until};

use crate::case::{Thing, archive};

/// Digest of `plain.txt`.
pub const PLAIN_DIGEST: &str = "sha256:c5acc4ae7d85cda11df11e6bc0c06ab55bffbd2b3db121d0a9e3ebb98bd98cac";
const PLAIN: &str = "served\n";
/// For `--checksum`: the right one, and a wrong one.
pub const CHECKSUMS: [&str; 2] = [PLAIN_DIGEST, "sha256:0000000000000000000000000000000000000000000000000000000000000000"];
/// Addresses of files; the last is not there.
pub const FILES: [&str; 7] = [
    "http://127.0.0.1:8000/plain.txt",
    "http://127.0.0.1:8000/plain.txt",
    "http://127.0.0.1:8000/plain.txt?query=1",
    "http://127.0.0.1:8000/deep/t.tar",
    "http://127.0.0.1:8000/deep/t.tar.gz",
    "http://127.0.0.1:8000/two%20words",
    "http://127.0.0.1:8000/nothing",
];
/// Addresses of repositories; the last two are not there.
pub const REPOSITORIES: [&str; 7] = [
    "git://127.0.0.1/app.git",
    "git://127.0.0.1/app.git#main",
    "git://127.0.0.1/app.git#v1",
    "git://127.0.0.1/app.git#main:d",
    "git://127.0.0.1/app.git#side:d/e",
    "git://127.0.0.1/app.git#nothing",
    "git://127.0.0.1/app.git#main:nothing",
];

const HISTORY: &str = r"
set -e
git init -q -b main app.git
cd app.git
git config user.name A; git config user.email a@b
mkdir -p d/e x
echo one > f; echo two > d/f; echo three > d/e/f; ln -s d/f link; ln -s nowhere dangling; echo run > x/run; chmod 755 x/run
git add -A; git commit -qm one
git tag v1; git tag -a v2 -m 'with a message'
echo more >> d/f; git commit -qam two
git checkout -q -b side
echo side > d/e/side; git rm -q f; git add -A; git commit -qm side
git checkout -q main
";

/// The servers; they end with this.
pub struct Served(Vec<Child>);

impl Served {
    /// Starts both; says why not.
    pub fn start(world: &World, dir: &Path) -> Result<Served, String> {
        let said = |error: std::io::Error| error.to_string();
        let files = dir.join("served/files");
        fs::create_dir_all(files.join("deep")).map_err(said)?;
        let tree = [
            ("in".to_owned(), Thing::Dir { mode: 0o2755 }, 1000, 50),
            ("in/file".to_owned(), Thing::File { text: "in a tar".to_owned(), mode: 0o4711 }, 1000, 6),
            ("in/link".to_owned(), Thing::Symlink { target: "file".to_owned() }, 0, 0),
        ];
        for (name, bytes) in [
            ("plain.txt", PLAIN.as_bytes().to_vec()),
            ("two words", b"two\n".to_vec()),
            ("deep/t.tar", archive(&tree, false)),
            ("deep/t.tar.gz", archive(&tree, true)),
        ] {
            fs::write(files.join(name), bytes).map_err(said)?;
        }
        let made = Command::new("sh").args(["-c", HISTORY]).current_dir(dir.join("served")).env("HOME", dir).output().map_err(said)?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        let base = format!("--base-path={}", dir.join("served").display());
        let mut web = world.command("busybox");
        web.args(["httpd", "-f", "-p", "127.0.0.1:8000", "-h"]).arg(&files);
        let mut git = world.command("git");
        git.args(["-c", "safe.directory=*", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", &base]);
        let mut served = Served(Vec::new());
        for command in [&mut web, &mut git] {
            served.0.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(said)?);
        }
        let answers = |args: &[&str], program: &str| world.command(program).args(args).output().is_ok_and(|output| output.status.success());
        let ready = until(Duration::from_secs(30), || {
            answers(&["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/plain.txt"], "busybox")
                && answers(&["ls-remote", "git://127.0.0.1/app.git"], "git")
        });
        if ready { Ok(served) } else { Err("the servers of ADD do not answer".to_owned()) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // git takes its own child along when it is asked to end, and not when it is killed.
            let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM);
            let _ = child.wait();
        }
    }
}
