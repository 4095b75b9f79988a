//! Who builds: strake, and whichever of dockerd's BuildKit and buildah is installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use strake_tests::{World, find, until};

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
    match Docker::start(world, dir, bases) {
        Ok(docker) => found.push(Box::new(docker)),
        Err(reason) => eprintln!("SKIPPED BuildKit: {reason}"),
    }
    match Buildah::start(world, dir, bases) {
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
    world: &'w World,
    daemon: Child,
    socket: String,
    version: String,
}

impl<'w> Docker<'w> {
    fn start(world: &'w World, dir: &Path, bases: &Bases) -> Result<Self, String> {
        let client = PathBuf::from("/usr/bin/docker");
        if find("dockerd").is_none() || !client.is_file() {
            return Err("dockerd and its client are not installed (docker.io)".to_owned());
        }
        let state = dir.join("dockerd");
        std::fs::create_dir_all(&state).map_err(|error| error.to_string())?;
        let socket = format!("unix://{}", text(&state.join("sock")));
        let log = std::fs::File::create(state.join("log")).map_err(|error| error.to_string())?;
        let mut command = world.command("dockerd");
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
        let mut docker = Docker { world, daemon, socket, version: String::new() };
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
        let mut command = self.world.command("/usr/bin/docker");
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

    /// It gives up on 50 commands at once: its daemon answers too late ("flightcontrol: exceeded retry timeout").
    fn share(&self, app: &str) -> usize {
        if app == "stages" { 5 } else { 1 }
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}

/// buildah with state of its own.
struct Buildah<'w> {
    world: &'w World,
    state: PathBuf,
}

impl<'w> Buildah<'w> {
    fn start(world: &'w World, dir: &Path, bases: &Bases) -> Result<Self, String> {
        if find("buildah").is_none() || find("runc").is_none() {
            return Err("buildah and runc are not installed".to_owned());
        }
        let buildah = Buildah { world, state: dir.join("buildah") };
        // Raising hard limits is not allowed everywhere: none are asked for.
        let config = "[containers]\ndefault_ulimits = []\n[engine]\nruntime = \"runc\"\n";
        std::fs::write(dir.join("containers.conf"), config).map_err(|error| error.to_string())?;
        let mut sources = vec![(bases.busybox.clone(), "busybox:latest")];
        sources.extend(bases.debian.clone().map(|debian| (debian, "debian:bookworm-slim")));
        for (source, name) in sources {
            let made = buildah.command(&["from", "scratch"]).output().map_err(|error| error.to_string())?;
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
        let mut command = self.world.command("buildah");
        command.args(["--root", &text(&self.state.join("root")), "--runroot", &text(&self.state.join("run")), "--storage-driver", "overlay"]).args(args);
        command.env("CONTAINERS_CONF", self.state.with_file_name("containers.conf"));
        command
    }
}

impl Peer for Buildah<'_> {
    fn name(&self) -> String {
        "buildah".to_owned()
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
