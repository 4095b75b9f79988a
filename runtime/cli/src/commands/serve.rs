//! strake serve, strake stop, strake kubeconfig

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::FutureExt;

use crate::args::{Kubeconfig, Serve, Webhooks};
use crate::connect::own_kubeconfig;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Paint, counted, note, say, took};
use crate::sync::controller;

/// How long a detached server may take until it answers: only one that hangs takes longer, on whatever machine. One that ends is seen at once.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(3);
/// Lines of the server's log shown when it does not start.
const LOG_LINES: usize = 12;

/// Runs the cluster.
pub fn serve(root: &Path, args: &Serve) -> Result<(), Failure> {
    need_root("strake serve")?;
    if args.detach {
        let started = Instant::now();
        detach(root, args.listen, &args.webhooks)?;
        note(format!("the cluster answers at https://{} after {}", args.listen, took(started.elapsed())));
        return Ok(());
    }
    let options = strake_cluster::Options { root: root.to_owned(), listen: args.listen };
    // First of all: a port in use must not leave anything made.
    let (hooks, own) = (controller::listen(&args.webhooks)?, root.to_owned());
    let beside: strake_cluster::Beside = Box::new(move |client| controller::run(own, client, hooks).boxed());
    strake_cluster::serve(options, Some(beside)).map_err(Failure::from)
}

/// Containers, namespaces and cgroups are root's.
pub fn need_root(what: &str) -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::text(format!("{what} needs root: containers, networks and cgroups are the kernel's. Run it with sudo")))
}

/// Starts a server in the background and waits until it answers.
pub fn detach(root: &Path, listen: SocketAddr, webhooks: &Webhooks) -> Result<(), Failure> {
    if let Some(holder) = strake_cluster::holder(root) {
        return Err(Failure::text(format!("{} is already served by process {}: stop it with `strake stop`", root.display(), holder.pid)));
    }
    let run = root.join("run");
    strake_cluster::make_private(root, "run").map_err(|source| Failure::text(format!("cannot make {}: {source}", run.display())))?;
    let path = run.join("serve.log");
    let log = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| Failure::text(format!("cannot write {}: {source}", path.display())))?;
    let errors = log.try_clone()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("strake").arg("--root").arg(root).args(["serve", "--listen", &listen.to_string()]);
    command.args(webhooks.hooks.iter().flat_map(|hooks| ["--hooks".to_owned(), hooks.to_string()]));
    for (flag, file) in [("--hooks-cert", &webhooks.hooks_cert), ("--hooks-key", &webhooks.hooks_key)] {
        if let Some(file) = file {
            // The server is in another directory.
            command.arg(flag).arg(fs::canonicalize(file).map_err(|source| Failure::read(file, source))?);
        }
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    let left = strake_cluster::is_left(root);
    // From here on there is something to take back.
    let _told = interrupt::when(|| {});
    let mut child = command.spawn()?;
    let end = Instant::now() + PATIENCE;
    loop {
        if interrupt::raised() {
            take_back(root, &mut child, left)?;
            let pods = if left { "; the pods of its earlier life go on" } else { "" };
            return Err(Failure::interrupted(format!("the cluster that was starting was stopped again{pods}")));
        }
        // The note of a server that was killed stays until the next one has written its own.
        let own = |pid: i32| u32::try_from(pid) == Ok(child.id());
        if let Some(holder) = strake_cluster::holder(root).filter(|holder| own(holder.pid) && !holder.address.is_empty()) {
            holder.warnings.iter().for_each(|warning| note(format!("{} {warning}", Paint::stderr().yellow("warning:"))));
            return Ok(());
        }
        if child.try_wait()?.is_some() {
            return Err(Failure::text(last_words(&path)));
        }
        if Instant::now() > end {
            take_back(root, &mut child, left)?;
            return Err(Failure::text(format!("the cluster did not answer within {} s:\n{}", PATIENCE.as_secs(), last_words(&path))));
        }
        std::thread::sleep(LOOK);
    }
}

/// Ends a server that was just started, and whatever it had made by then; what was there before it stays as it was.
fn take_back(root: &Path, child: &mut Child, left: bool) -> Result<(), Failure> {
    child.kill()?;
    child.wait()?;
    if !left {
        strake_cluster::stop(root)?;
    }
    Ok(())
}

/// What the server said before it ended.
fn last_words(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    last.strip_prefix("error: ").map(str::to_owned).unwrap_or(last)
}

/// Stops the cluster and removes what it made in the kernel.
pub fn stop(root: &Path) -> Result<(), Failure> {
    need_root("strake stop")?;
    match strake_cluster::stop(root)? {
        strake_cluster::Stopped::Nothing => say("no cluster runs here, and nothing was left of one"),
        strake_cluster::Stopped::Server { pods } => say(format!("stopped: {}, the network and the server", counted(pods, "pod"))),
        strake_cluster::Stopped::Remains { pods } => say(format!("no server ran; {} that it left stopped, the network removed", counted(pods, "pod"))),
    }
    Ok(())
}

/// Prints the way in.
pub fn kubeconfig(root: &Path, args: &Kubeconfig) -> Result<(), Failure> {
    let path = own_kubeconfig(root);
    let text = fs::read_to_string(&path)
        .map_err(|_| Failure::text(format!("no cluster has run in {} yet: start one with `strake serve --detach`", root.display())))?;
    if args.path {
        say(path.display())
    } else {
        say(text.trim_end())
    }
    Ok(())
}
