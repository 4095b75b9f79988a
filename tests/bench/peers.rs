//! Who builds: strake, and whichever of dockerd's BuildKit and buildah is installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use strake_tests::{World, find, until};

/// Names the root file system that peers are taken from, where the machine's own are older than what people use.
const PEERS: &str = "STRAKE_BENCH_PEERS";

/// Where the peers' programs are: the machine, or a root file system of their own.
#[derive(Clone)]
struct Place<'w> {
    world: &'w World,
    root: Option<PathBuf>,
}

impl<'w> Place<'w> {
    fn new(world: &'w World, dir: &Path, bases: &Bases) -> Result<Self, String> {
        let Some(root) = std::env::var_os(PEERS).map(PathBuf::from) else { return Ok(Place { world, root: None }) };
        let root = root.canonicalize().map_err(|error| format!("{PEERS}={}: {error}", root.display()))?;
        let place = Place { world, root: Some(root.clone()) };
        // All mounts are of the bench's own namespace and end with it. The root is made a mount: runc leaves it by pivot_root, which asks for one.
        place.mount(&["--rbind", &text(&root), &text(&root)])?;
        let debian = bases.debian.as_deref().and_then(Path::parent);
        for shared in [Path::new("/proc"), Path::new("/sys"), Path::new("/dev"), dir].into_iter().chain(debian) {
            let target = root.join(shared.strip_prefix("/").unwrap_or(shared));
            std::fs::create_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))?;
            place.mount(&["--rbind", &text(shared), &text(&target)])?;
        }
        place.mount(&["-t", "tmpfs", "tmpfs", &text(&root.join("run"))])?;
        Ok(place)
    }

    fn mount(&self, args: &[&str]) -> Result<(), String> {
        let ran = self.world.run("mount", args);
        if ran.code == 0 { Ok(()) } else { Err(format!("mount {}: {}", args.join(" "), ran.stderr.trim())) }
    }

    /// Whether a program is there.
    fn has(&self, program: &str) -> bool {
        let Some(root) = &self.root else { return find(program).is_some() };
        ["usr/bin", "usr/sbin"].iter().any(|dir| root.join(dir).join(program).is_file())
    }

    fn command(&self, program: &str) -> Command {
        let Some(root) = &self.root else { return self.world.command(program) };
        let mut command = self.world.command("chroot");
        command.arg(root).arg(program).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

use crate::apps::Bases;
use crate::usage::{Usage, family, timed};

/// A builder on the bench.
pub trait Peer {
    /// What the table calls it.
    fn name(&self) -> String;
    /// Builds a context. A cold build has no cache of the app.
    fn build(&mut self, context: &Path, cold: bool) -> Usage;
    /// Pushes what was built last to a registry without TLS; nothing when it cannot compress so.
    fn push(&mut self, compression: &str, reference: &str) -> Option<Usage>;
    /// Writes what was built last to a file as `docker save` does.
    fn save(&mut self, file: &Path) -> Usage;
    /// The share of a work that it is given, when all of it would take too long: its figure is then multiplied.
    fn share(&self, _app: &str) -> usize {
        1
    }
    /// Ends what was started.
    fn stop(&mut self) {}
}

/// Everybody who is here, strake first.
pub fn all<'w>(world: &'w World, dir: &Path, bases: &Bases, alone: bool) -> Vec<Box<dyn Peer + 'w>> {
    let mut found: Vec<Box<dyn Peer + 'w>> = vec![Box::new(Strake::new(world, bases))];
    if alone {
        return found;
    }
    let place = match Place::new(world, dir, bases) {
        Ok(place) => place,
        Err(reason) => {
            eprintln!("SKIPPED all peers: {reason}");
            return found;
        }
    };
    match Docker::start(&place, dir, bases) {
        Ok(docker) => found.push(Box::new(docker)),
        Err(reason) => eprintln!("SKIPPED BuildKit: {reason}"),
    }
    match Buildah::start(&place, dir, bases) {
        Ok(buildah) => found.push(Box::new(buildah)),
        Err(reason) => eprintln!("SKIPPED buildah: {reason}"),
    }
    found
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

struct Strake<'w> {
    world: &'w World,
}

impl<'w> Strake<'w> {
    fn new(world: &'w World, bases: &Bases) -> Self {
        world.strake(&["image", "import", &text(&bases.busybox), "busybox:latest"]).ok();
        if let Some(debian) = &bases.debian {
            world.strake(&["image", "import", &text(debian), "debian:bookworm-slim"]).ok();
        }
        Strake { world }
    }
}

impl Peer for Strake<'_> {
    fn name(&self) -> String {
        "strake".to_owned()
    }

    fn build(&mut self, context: &Path, cold: bool) -> Usage {
        let context = text(context);
        let mut args = vec!["build", "-q", "-t", "bench", &context];
        if cold {
            args.push("--no-cache");
        }
        timed(&mut self.world.strake_command(&args), &[])
    }

    fn push(&mut self, compression: &str, reference: &str) -> Option<Usage> {
        Some(timed(&mut self.world.strake_command(&["image", "push", "--compression", compression, "bench", reference]), &[]))
    }

    fn save(&mut self, file: &Path) -> Usage {
        timed(&mut self.world.strake_command(&["image", "save", "-o", &text(file), "bench"]), &[])
    }
}

/// BuildKit inside dockerd, with state of its own.
struct Docker<'w> {
    place: Place<'w>,
    daemon: Child,
    socket: String,
    version: String,
}

impl<'w> Docker<'w> {
    fn start(place: &Place<'w>, dir: &Path, bases: &Bases) -> Result<Self, String> {
        if !place.has("dockerd") || !place.has("docker") {
            return Err("dockerd and its client are not installed (docker.io)".to_owned());
        }
        let state = dir.join("dockerd");
        std::fs::create_dir_all(&state).map_err(|error| error.to_string())?;
        let socket = format!("unix://{}", text(&state.join("sock")));
        let log = std::fs::File::create(state.join("log")).map_err(|error| error.to_string())?;
        let mut command = place.command("dockerd");
        command.args([
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "-H",
            &socket,
            "--data-root",
            &text(&state.join("data")),
            "--exec-root",
            &text(&state.join("exec")),
        ]);
        command.args(["--pidfile", &text(&state.join("pid"))]).stdout(Stdio::null()).stderr(log);
        let daemon = command.spawn().map_err(|error| error.to_string())?;
        let mut docker = Docker { place: place.clone(), daemon, socket, version: String::new() };
        let mut version = String::new();
        let ready = until(Duration::from_secs(20), || {
            let asked = docker.client(&["version", "--format", "{{.Server.Version}}"]).output();
            version = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
            !version.is_empty()
        });
        if !ready {
            let words = std::fs::read_to_string(state.join("log")).unwrap_or_default();
            docker.stop();
            return Err(format!("dockerd does not answer: {}", words.lines().last().unwrap_or_default()));
        }
        docker.version = version;
        let tar = dir.join("busybox.tar");
        timed(Command::new("tar").args(["-cf", &text(&tar), "-C", &text(&bases.busybox), "."]), &[]);
        timed(&mut docker.client(&["import", &text(&tar), "busybox:latest"]), &[]);
        if let Some(debian) = &bases.debian {
            timed(&mut docker.client(&["import", &text(debian), "debian:bookworm-slim"]), &[]);
        }
        Ok(docker)
    }

    fn client(&self, args: &[&str]) -> Command {
        let mut command = self.place.command("/usr/bin/docker");
        command.args(["-H", &self.socket]).args(args).env("DOCKER_BUILDKIT", "1").stderr(Stdio::piped());
        command
    }
}

impl Peer for Docker<'_> {
    fn name(&self) -> String {
        format!("BuildKit in dockerd {}", self.version)
    }

    fn build(&mut self, context: &Path, cold: bool) -> Usage {
        let context = text(context);
        let mut args = vec!["build", "-q", "--network=host", "-t", "bench", &context];
        if cold {
            args.push("--no-cache");
        }
        timed(&mut self.client(&args), &family(self.daemon.id()))
    }

    fn push(&mut self, compression: &str, reference: &str) -> Option<Usage> {
        if compression != "gzip" {
            return None;
        }
        timed(&mut self.client(&["tag", "bench", reference]), &[]);
        Some(timed(&mut self.client(&["push", "-q", reference]), &family(self.daemon.id())))
    }

    fn save(&mut self, file: &Path) -> Usage {
        timed(&mut self.client(&["save", "-o", &text(file), "bench"]), &family(self.daemon.id()))
    }

    /// Old ones give up on 50 commands at once: the daemon answers too late ("flightcontrol: exceeded retry timeout").
    fn share(&self, app: &str) -> usize {
        let major: u32 = self.version.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        if app == "stages" && major < 23 { 5 } else { 1 }
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}

/// buildah with state of its own.
struct Buildah<'w> {
    place: Place<'w>,
    version: String,
    state: PathBuf,
}

impl<'w> Buildah<'w> {
    fn start(place: &Place<'w>, dir: &Path, bases: &Bases) -> Result<Self, String> {
        if !place.has("buildah") || !place.has("runc") {
            return Err("buildah and runc are not installed".to_owned());
        }
        let said = place.command("buildah").arg("--version").output().map_err(|error| error.to_string())?;
        let version = String::from_utf8_lossy(&said.stdout).split_whitespace().nth(2).unwrap_or_default().to_owned();
        let buildah = Buildah { place: place.clone(), version, state: dir.join("buildah") };
        // Raising hard limits is not allowed everywhere: those that are in force are asked for.
        let limits = [("nproc", Resource::Nproc), ("nofile", Resource::Nofile)].map(|(name, resource)| {
            let limit = getrlimit(resource);
            limit.current.zip(limit.maximum).map(|(soft, hard)| format!("\"{name}={soft}:{hard}\""))
        });
        let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let config = format!("[containers]\ndefault_ulimits = [{limits}]\n[engine]\nruntime = \"runc\"\n");
        std::fs::write(dir.join("containers.conf"), config).map_err(|error| error.to_string())?;
        let mut sources = vec![(bases.busybox.clone(), "busybox:latest")];
        sources.extend(bases.debian.clone().map(|debian| (debian, "debian:bookworm-slim")));
        for (source, name) in sources {
            let made = buildah.command(&["from", "scratch"]).output().map_err(|error| error.to_string())?;
            if !made.status.success() {
                return Err(String::from_utf8_lossy(&made.stderr).trim().to_owned());
            }
            let id = String::from_utf8_lossy(&made.stdout).trim().to_owned();
            for args in [vec!["add", id.as_str(), &text(&source), "/"], vec!["commit", "-q", id.as_str(), name], vec!["rm", id.as_str()]] {
                let output = buildah.command(&args).output().map_err(|error| error.to_string())?;
                if !output.status.success() {
                    return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
                }
            }
        }
        Ok(buildah)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command("buildah");
        command.args(["--root", &text(&self.state.join("root")), "--runroot", &text(&self.state.join("run")), "--storage-driver", "overlay"]).args(args);
        command.env("CONTAINERS_CONF", self.state.with_file_name("containers.conf"));
        command
    }
}

impl Peer for Buildah<'_> {
    fn name(&self) -> String {
        format!("buildah {}", self.version)
    }

    fn build(&mut self, context: &Path, cold: bool) -> Usage {
        let context = text(context);
        let mut args = vec!["build", "-q", "--isolation=chroot", "--layers", "--pull-never", "--network=host", "-t", "bench"];
        if cold {
            args.push("--no-cache");
        }
        args.push(&context);
        timed(&mut self.command(&args), &[])
    }

    fn push(&mut self, compression: &str, reference: &str) -> Option<Usage> {
        let reference = format!("docker://{reference}");
        let args = ["push", "-q", "--tls-verify=false", "--format=oci", "--compression-format", compression, "bench", &reference];
        Some(timed(&mut self.command(&args), &[]))
    }

    fn save(&mut self, file: &Path) -> Usage {
        let _ = std::fs::remove_file(file);
        timed(&mut self.command(&["push", "-q", "bench", &format!("docker-archive:{}", file.display())]), &[])
    }

    /// It takes half a second for each COPY, and minutes for many files.
    fn share(&self, app: &str) -> usize {
        if matches!(app, "copies" | "files") { 10 } else { 1 }
    }
}
