//! strake registry serve: the store as a registry for others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use strake_registry::ServeOptions;
use strake_store::Store;
use tokio::sync::Notify;

use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Paint, note, say};

/// strake registry
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  strake registry serve")]
pub struct Registry {
    #[command(subcommand)]
    pub verb: RegistryVerb,
}

/// What to do with the store as a registry.
#[derive(Subcommand, Debug)]
pub enum RegistryVerb {
    /// Serve the store's images to docker, podman, skopeo and clusters, and take what they push
    #[command(after_help = SERVE)]
    Serve(ServeRegistry),
}

const SERVE: &str = "Images keep their names: `strake build -t team/web:1` is HOST:5000/team/web:1 to others, and what is pushed as
HOST:5000/team/web:1 is team/web:1 in `strake images`. An image of ghcr.io is HOST:5000/ghcr.io/owner/app.
Layers that were built here are served uncompressed, so that the digest is the same everywhere.

Examples:
  strake registry serve
  skopeo copy --src-tls-verify=false docker://127.0.0.1:5000/team/web:1 oci:web
  htpasswd -Bbn me secret > users
  strake registry serve --listen 0.0.0.0:5000 --tls-cert tls.crt --tls-key tls.key --htpasswd users";

/// How the registry is served.
#[derive(Args, Debug)]
pub struct ServeRegistry {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// Speak TLS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Ask for a login: a file of USER:BCRYPT-HASH lines, as `htpasswd -B` writes them
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
}

/// Runs the command.
pub fn run(root: &Path, args: Registry) -> Result<(), Failure> {
    let RegistryVerb::Serve(args) = args.verb;
    let options = ServeOptions { listen: args.listen, tls: args.tls_cert.zip(args.tls_key), htpasswd: args.htpasswd };
    let store = Store::open(root)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let interrupted = Arc::new(Notify::new());
    let told = interrupt::when({
        let interrupted = Arc::clone(&interrupted);
        move || interrupted.notify_one()
    });
    let ended = runtime.block_on(async {
        let listening = strake_registry::listen(&store, &options).await?;
        let address = listening.address().unwrap_or(options.listen);
        warn(&options, address);
        say(format!("serving the images of {} at {}://{address}", root.display(), if options.tls.is_some() { "https" } else { "http" }));
        tokio::select! {
            () = interrupted.notified() => {}
            () = listening.serve() => {}
        }
        Ok(())
    });
    drop(told);
    // Requests in the middle are cut off: their clients try again.
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

/// What others could do who were not meant to.
fn warn(options: &ServeOptions, address: SocketAddr) {
    let word = Paint::stderr().yellow("warning:");
    if address.ip().is_loopback() {
        return;
    }
    if options.htpasswd.is_none() {
        note(format!("{word} everybody who reaches {address} can pull, push and delete images: ask for a login with --htpasswd, or listen on 127.0.0.1"));
    } else if options.tls.is_none() {
        note(format!("{word} logins cross the network in the clear: use --tls-cert and --tls-key"));
    }
}
