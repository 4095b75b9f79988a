//! Who builds a case: strake in any of its states, BuildKit in dockerd, buildah. Each in a world of its own, with the same base.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use strake_tests::{World, find, until};

use crate::case::Case;
use crate::compare::{Depth, Outcome};
use crate::tree::Image;

/// Somebody who builds.
pub trait Builder {
    /// What a finding calls it.
    fn name(&self) -> String;
    /// How much of its configuration is like BuildKit's.
    fn depth(&self) -> Depth;
    /// Builds the case that was written to `context`.
    fn build(&mut self, case: &Case, context: &Path) -> Outcome;
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs a command; what it said on stderr when it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr) + &said(&output.stdout)) }
}

/// The base as a tar: busybox with its applets, and places that COPY and RUN stumble over.
pub fn base(dir: &Path) -> PathBuf {
    let root = dir.join("base");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "run", "root", "var", "d/e", "d/a"] {
        fs::create_dir_all(root.join(name)).expect("a folder");
    }
    let busybox = find("busybox").expect("busybox is installed");
    fs::copy(&busybox, root.join("bin/busybox")).expect("copied");
    for applet in run(Command::new(&busybox).arg("--list")).expect("applets").split_whitespace().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    let files = [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", 0o644),
        ("etc/group", "root:x:0:\napp:x:1001:\nstaff:x:50:app\n", 0o644),
        ("etc/hosts", "", 0o644),
        ("etc/resolv.conf", "", 0o644),
        ("file", "a file\n", 0o640),
        ("suid", "not really\n", 0o6755),
        ("h1", "linked\n", 0o644),
        ("d/b", "d/b\n", 0o600),
        ("d/e/b", "d/e/b\n", 0o664),
        ("d/a/f", "d/a/f\n", 0o644),
    ];
    for (name, text, mode) in files {
        fs::write(root.join(name), text).expect("a file");
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
    }
    fs::hard_link(root.join("h1"), root.join("h2")).expect("a link");
    for (name, target) in [("l", "d"), ("rel", "d/../d/e"), ("dangling", "nowhere/x"), ("loop", "loop")] {
        symlink(target, root.join(name)).expect("a link");
    }
    for (name, mode) in [("tmp", 0o1777), ("d/e", 0o2775), ("d", 0o750)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
    }
    std::os::unix::fs::chown(root.join("d/e"), Some(1000), Some(50)).expect("an owner");
    std::os::unix::fs::chown(root.join("d"), Some(5), Some(6)).expect("an owner");
    let tar = dir.join("base.tar");
    run(Command::new("tar").args(["--numeric-owner", "--sort=name", "-cf", &text(&tar), "-C", &text(&root), "."])).expect("a tar");
    tar
}

/// A file for secret mounts.
fn secret(dir: &Path) -> PathBuf {
    let file = dir.join("secret");
    fs::write(&file, "a secret\n").expect("written");
    file
}

/// strake with one of its stores and a number of workers.
pub struct Strake<'w> {
    world: &'w World,
    root: PathBuf,
    jobs: usize,
    cold: bool,
    out: PathBuf,
    secret: PathBuf,
}

impl<'w> Strake<'w> {
    /// With the store `name`; `cold` asks the cache for nothing.
    pub fn new(world: &'w World, dir: &Path, base: &Path, name: &str, jobs: usize, cold: bool) -> Self {
        let strake = Strake { world, root: dir.join(name), jobs, cold, out: dir.join(format!("{name}.tar")), secret: secret(dir) };
        run(world.strake_command(&["--root", &text(&strake.root), "image", "import", &text(base), "base:1"]).stderr(Stdio::piped())).expect("imported");
        strake
    }

    /// The image's digest and what it is.
    pub fn digest(&mut self, case: &Case, context: &Path) -> (Option<String>, Outcome) {
        let (root, out, jobs) = (text(&self.root), text(&self.out), self.jobs.to_string());
        let _ = fs::remove_file(&self.out);
        let file = self.out.with_extension("iid");
        let (iid, dest, context) = (text(&file), format!("type=docker,dest={out}"), text(context));
        let secret = format!("id=s,src={}", text(&self.secret));
        let mut args =
            vec!["--root", &root, "build", "--progress", "plain", "--jobs", &jobs, "--iidfile", &iid, "-t", "case", "-o", &dest, "--secret", &secret];
        if !case.fetches() {
            args.push("--offline");
        }
        case.args.iter().for_each(|arg| args.extend(["--build-arg", arg]));
        if self.cold {
            args.push("--no-cache");
        }
        args.push(&context);
        match run(&mut self.world.strake_command(&args)) {
            Err(why) => (None, Err(why)),
            Ok(_) => (fs::read_to_string(&file).ok(), Image::read(&self.out)),
        }
    }
}

impl Builder for Strake<'_> {
    fn name(&self) -> String {
        format!("strake with {} workers{}", self.jobs, if self.cold { ", cold" } else { "" })
    }

    fn depth(&self) -> Depth {
        Depth::History
    }

    fn build(&mut self, case: &Case, context: &Path) -> Outcome {
        self.digest(case, context).1
    }
}

/// A peer's programs: those of this system, or of another one in a directory (`STRAKE_PEERS`), entered with chroot.
#[derive(Clone)]
pub struct Home(Option<PathBuf>);

impl Home {
    /// Of the environment; what of this system the peers need is mounted into theirs, in the world's own mount namespace.
    pub fn find(world: &World) -> Home {
        let Some(root) = std::env::var_os("STRAKE_PEERS").map(PathBuf::from) else { return Home(None) };
        let work = world.path("");
        // dockerd remounts its root: it has to be a mount.
        run(world.command("mount").arg("--bind").arg(&root).arg(&root)).expect("mounted");
        for place in ["/proc", "/sys", "/dev", work.to_str().expect("UTF-8")] {
            let at = root.join(place.trim_start_matches('/'));
            fs::create_dir_all(&at).expect("a mount point");
            run(world.command("mount").args(["--rbind", place]).arg(&at)).expect("mounted");
        }
        run(world.command("mount").args(["-t", "tmpfs", "run"]).arg(root.join("run"))).expect("mounted");
        Home(Some(root))
    }

    /// Leaves nothing of a mount point in the other system.
    pub fn leave(&self, world: &World) {
        if let Home(Some(root)) = self {
            let at = root.join(world.path("").strip_prefix("/").expect("absolute"));
            let _ = run(world.command("umount").args(["-R", "-l"]).arg(&at));
            let _ = fs::remove_dir(&at);
        }
    }

    fn command(&self, world: &World, program: &str) -> Command {
        match &self.0 {
            None => world.command(program),
            Some(root) => {
                let mut command = world.command("chroot");
                command.arg(root).arg(program);
                command
            }
        }
    }

    fn has(&self, program: &str) -> bool {
        match &self.0 {
            None => find(program).is_some(),
            Some(root) => ["usr/bin", "usr/sbin"].iter().any(|dir| root.join(dir).join(program).is_file()),
        }
    }
}

/// BuildKit inside dockerd.
pub struct Docker<'w> {
    world: &'w World,
    home: Home,
    daemon: Child,
    socket: String,
    version: String,
    out: PathBuf,
    secret: PathBuf,
}

impl<'w> Docker<'w> {
    /// Starts a daemon with state of its own.
    pub fn start(world: &'w World, home: &Home, dir: &Path, base: &Path) -> Result<Self, String> {
        // /usr/local/bin may hold somebody's wrapper of the client.
        if !home.has("dockerd") || !home.has("docker") {
            return Err("dockerd and its client are not installed (docker.io)".to_owned());
        }
        let state = dir.join("dockerd");
        fs::create_dir_all(&state).map_err(|error| error.to_string())?;
        let socket = format!("unix://{}", text(&state.join("sock")));
        let log = fs::File::create(state.join("log")).map_err(|error| error.to_string())?;
        let mut command = home.command(world, "dockerd");
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "-H", &socket, "--feature", "containerd-snapshotter=false"]);
        if home.0.is_none() {
            command = home.command(world, "dockerd");
            command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "-H", &socket]);
        }
        command.args(["--data-root", &text(&state.join("data")), "--exec-root", &text(&state.join("exec")), "--pidfile", &text(&state.join("pid"))]);
        let daemon = command.stdout(Stdio::null()).stderr(log).spawn().map_err(|error| error.to_string())?;
        let mut docker = Docker { world, home: home.clone(), daemon, socket, version: String::new(), out: dir.join("docker.tar"), secret: secret(dir) };
        let ready = until(Duration::from_secs(60), || {
            docker.version = run(&mut docker.client(&["version", "--format", "{{.Server.Version}}"])).unwrap_or_default().trim().to_owned();
            !docker.version.is_empty()
        });
        let imported = if ready {
            run(&mut docker.client(&["import", "--change", "CMD [\"/bin/sh\"]", "--change", "WORKDIR /", &text(base), "base:1"]))
        } else {
            Err("it does not answer".to_owned())
        };
        imported.map_err(|why| {
            let words = fs::read_to_string(state.join("log")).unwrap_or_default();
            format!("dockerd: {why} {}", words.lines().last().unwrap_or_default())
        })?;
        Ok(docker)
    }

    fn client(&self, args: &[&str]) -> Command {
        let program = if self.home.0.is_none() { "/usr/bin/docker" } else { "docker" };
        let mut command = self.home.command(self.world, program);
        command.args(["-H", &self.socket]).args(args).env("DOCKER_BUILDKIT", "1");
        command
    }
}

impl Builder for Docker<'_> {
    fn name(&self) -> String {
        format!("BuildKit in dockerd {}", self.version)
    }

    fn depth(&self) -> Depth {
        Depth::History
    }

    fn build(&mut self, case: &Case, context: &Path) -> Outcome {
        let context = text(context);
        let secret = format!("id=s,src={}", text(&self.secret));
        let mut args = vec!["build", "-q", "--no-cache", "--network=host", "--provenance=false", "-t", "case", "--secret", &secret];
        if self.home.0.is_none() {
            args.retain(|arg| *arg != "--provenance=false");
        }
        case.args.iter().for_each(|arg| args.extend(["--build-arg", arg]));
        args.push(&context);
        run(&mut self.client(&args))?;
        run(&mut self.client(&["save", "-o", &text(&self.out), "case"]))?;
        Image::read(&self.out)
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.daemon), rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}

/// buildah, which runs steps in a mere chroot.
pub struct Buildah<'w> {
    world: &'w World,
    home: Home,
    state: PathBuf,
    out: PathBuf,
    secret: PathBuf,
}

impl<'w> Buildah<'w> {
    /// With state of its own.
    pub fn start(world: &'w World, home: &Home, dir: &Path, base: &Path) -> Result<Self, String> {
        if !home.has("buildah") {
            return Err("buildah is not installed".to_owned());
        }
        let buildah = Buildah { world, home: home.clone(), state: dir.join("buildah"), out: dir.join("buildah.tar"), secret: secret(dir) };
        fs::write(dir.join("containers.conf"), "[containers]\ndefault_ulimits = []\n").map_err(|error| error.to_string())?;
        fs::write(dir.join("policy.json"), "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}").map_err(|error| error.to_string())?;
        let made = run(&mut buildah.command(&["from", "scratch"]))?;
        let id = made.trim();
        for args in [
            vec!["add", id, &text(base), "/"],
            vec!["config", "--cmd", "/bin/sh", "--workingdir", "/", id],
            vec!["commit", "-q", id, "localhost/base:1"],
            vec!["rm", id],
        ] {
            run(&mut buildah.command(&args))?;
        }
        Ok(buildah)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(self.world, "buildah");
        command.args(["--root", &text(&self.state.join("root")), "--runroot", &text(&self.state.join("run")), "--storage-driver", "overlay"]).args(args);
        command.env("CONTAINERS_CONF", self.state.with_file_name("containers.conf"));
        command
    }
}

impl Builder for Buildah<'_> {
    fn name(&self) -> String {
        "buildah".to_owned()
    }

    fn depth(&self) -> Depth {
        Depth::Keys
    }

    fn build(&mut self, case: &Case, context: &Path) -> Outcome {
        let (context, out, secret) = (text(context), text(&self.out), format!("id=s,src={}", text(&self.secret)));
        let mut args = vec!["build", "-q", "--isolation=chroot", "--layers=false", "--pull-never", "--network=host", "--format=docker", "-t", "case"];
        // Its own default is more than root without CAP_SYS_RESOURCE may ask for.
        args.extend(["--secret", &secret, "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]);
        case.args.iter().for_each(|arg| args.extend(["--build-arg", arg]));
        args.push(&context);
        run(&mut self.command(&args))?;
        let _ = fs::remove_file(&self.out);
        let policy = text(&self.state.with_file_name("policy.json"));
        let to = format!("docker-archive:{out}");
        run(&mut self.command(&["push", "-q", "--signature-policy", &policy, "case", &to]))?;
        Image::read(&self.out)
    }
}
