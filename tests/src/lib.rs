//! What the whole-system tests share: a strake in a network and mount namespace of its own, with a state directory of its own, that checks that it left nothing.

mod busybox;
mod follow;
mod leftovers;
mod server;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use busybox::pod;
pub use follow::{Follow, hears_signals};
pub use leftovers::Leftovers;
pub use server::Dice;

/// How long anything may take that has to happen. A loaded machine is slow, and that is no failure: what a test asserts is that it happens at all, so
/// only a test that fails waits this long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Why a test cannot run here, said loudly; `None` when it can.
pub fn cannot_run(tools: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let needed = ["unshare", "nsenter", "ip"].iter().chain(tools);
    needed.copied().find(|tool| find(tool).is_none()).map(|tool| format!("{tool} is not installed"))
}

/// Prints why a test is skipped, so that it is never silently passed.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

/// Skips the test, loudly, unless it is root's and the tools are installed.
#[macro_export]
macro_rules! needs {
    ($($tool:expr),*) => {
        if let Some(reason) = $crate::cannot_run(&[$($tool),*]) {
            $crate::skip(module_path!(), &reason);
            return;
        }
    };
}

/// Where a program is in PATH.
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(tool)).find(|file| file.is_file())
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the root").to_owned()
}

/// The program under test: `STRAKE_BIN`, or the one of this build.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("STRAKE_BIN") {
        return path.into();
    }
    let target = std::env::current_exe().expect("a test knows its file");
    let profile = target.ancestors().find(|dir| dir.join("strake").is_file()).expect("strake is built: `cargo build -p strake-cli`");
    profile.join("strake")
}

/// The demo's program, linked statically: what images of the tests are made of.
pub fn guestbook() -> PathBuf {
    let path = repository().join("examples/guestbook/bin/guestbook");
    assert!(path.is_file(), "the demo's program is built by `make test`");
    path
}

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
}

impl Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code().unwrap_or(-1) }
    }

    /// Fails the test unless the command ended well.
    #[track_caller]
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the command failed with `code` and said `text` on stderr.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Ran {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(text), "expected {text:?} in:\n{}", self.stderr);
        self
    }

    /// Both streams, for searching.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A namespace pair with a strake inside.
pub struct World {
    holder: Child,
    dir: tempfile::TempDir,
    before: Leftovers,
}

impl World {
    /// Makes the namespaces, with loopback up.
    pub fn new() -> World {
        let dir = tempfile::Builder::new().prefix("strake-test-").tempdir().expect("a directory");
        // A new network namespace has the setting of the machine's first.
        let script = "ip link set lo up && { echo 0 > /proc/sys/net/ipv4/ip_forward || true; } && echo ready && exec sleep 36000";
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--net", "--propagation", "private", "sh", "-c", script]).stdout(Stdio::piped());
        let mut holder = holder.spawn().expect("unshare runs");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("the namespace is ready");
        assert_eq!(line, "ready\n");
        let before = Leftovers::inside(dir.path(), holder.id());
        World { holder, dir, before }
    }

    /// The state directory.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The same file as the world sees it: something may be mounted above it there.
    pub fn inside(&self, path: &Path) -> PathBuf {
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A directory for the test's own files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file below the test's directory.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Copies the demo's program to `name`, for a Dockerfile's context.
    pub fn program(&self, name: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::copy(guestbook(), &path).expect("a copy");
    }

    /// Any command inside the namespaces.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.holder.id().to_string();
        // Entering a mount namespace forgets the working directory: it is named inside.
        let place = format!("--wdns={}", self.dir.path().display());
        command.args(["--target", &pid, "--mount", "--net", &place, "--"]).arg(program).stdin(Stdio::null());
        command.env("HOME", self.dir.path()).env_remove("KUBECONFIG");
        command
    }

    /// `strake --root … ARGS`, to be started.
    pub fn strake_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(binary());
        command.env("STRAKE_ROOT", self.root()).args(args);
        command
    }

    /// Runs strake to its end.
    pub fn strake(&self, args: &[&str]) -> Ran {
        Ran::from(self.strake_command(args).output().expect("strake runs"))
    }

    /// Runs another program to its end.
    pub fn run(&self, program: &str, args: &[&str]) -> Ran {
        Ran::from(self.command(program).args(args).output().expect("the program runs"))
    }

    /// The real kubectl against this strake, to be started.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = self.command("kubectl");
        command.arg("--kubeconfig").arg(self.root().join("cluster/kubeconfig")).args(args);
        command
    }

    /// Runs the real kubectl against this strake.
    pub fn kubectl(&self, args: &[&str]) -> Ran {
        Ran::from(self.kubectl_command(args).output().expect("kubectl runs"))
    }

    /// Starts the cluster in the background and waits until it answers.
    #[track_caller]
    pub fn serve(&self) {
        let ran = self.strake(&["serve", "--detach"]);
        let state = || format!("{ran:#?}\nlog: {}\nthere is: {:#?}", self.server_log(), Leftovers::inside(self.dir.path(), self.holder.id()));
        assert_eq!(ran.code, 0, "serve --detach: {}", state());
    }

    /// Stops the cluster and checks that nothing is left: no process, cgroup, mount, link or rule.
    #[track_caller]
    pub fn stop(&self) {
        self.strake(&["stop"]).ok();
        self.nothing_left();
    }

    /// The same where the test itself has made something.
    #[track_caller]
    pub fn stop_but_for(&self, own: &[&str]) {
        self.strake(&["stop"]).ok();
        self.nothing_left_but(own);
    }

    /// Checks that nothing of this test is left on the machine.
    #[track_caller]
    pub fn nothing_left(&self) {
        self.nothing_left_but(&[]);
    }

    #[track_caller]
    fn nothing_left_but(&self, own: &[&str]) {
        let found = || {
            let mut found = Leftovers::inside(self.dir.path(), self.holder.id()).since(&self.before);
            found.retain(|one| !own.contains(&one.as_str()));
            found
        };
        // What is left stays: what comes and goes belongs to tests that run beside this one.
        let mut left = found();
        let gone = until(PATIENCE, || {
            let now = found();
            left.retain(|one| now.contains(one));
            left.is_empty()
        });
        assert!(gone, "left behind: {left:#?}");
    }
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test must not leave a cluster behind either.
        let _ = self.strake_command(&["stop"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Asks again every 20 ms until it holds; false when it never does within `limit`.
pub fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
