//! What keeps a cluster from starting or stopping.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use strake_network::NetworkError;

/// Why a cluster does not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Not root.
    #[error("strake serve needs root: containers, networks and cgroups are the kernel's. Run it with sudo")]
    NotRoot,
    /// Another server has the directory.
    #[error("{} is already served by process {pid}: use that one, stop it with `strake stop`, or give another --root", root.display())]
    AlreadyServed { root: PathBuf, pid: i32 },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}{}", if source.kind() == io::ErrorKind::AddrInUse {
        ": another program has the port, perhaps another strake. Stop it, or choose another address with --listen"
    } else {
        ": choose another address with --listen"
    })]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A certificate cannot be made or read.
    #[error("cannot make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// rustls refuses its configuration.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The state cannot be opened.
    #[error("cannot open the cluster's state: {error}{}{}", cause(error), what_to_do(error))]
    State { error: strake_state::StateError },
    /// The first objects of a cluster cannot be made.
    #[error("cannot make the cluster's first objects: {message}")]
    Bootstrap { message: String },
    /// The store cannot be opened.
    #[error("cannot open the image store")]
    Store(#[source] strake_store::StoreError),
    /// The container runtime cannot be used.
    #[error("cannot use the container runtime")]
    Container(#[source] strake_container::ContainerError),
    /// The network cannot be set up.
    #[error("cannot set up the network")]
    Network(#[source] strake_network::NetworkError),
    /// Another cluster has the pods' network of this machine.
    #[error("another strake cluster runs on this machine (its name server has {address}): stop that one first, with `strake stop` and its --root")]
    NetworkTaken { address: SocketAddr },
    /// The node cannot run.
    #[error("the node stopped")]
    Node(#[source] strake_node::NodeError),
    /// Threads or signals.
    #[error("cannot {action}")]
    System {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

impl ClusterError {
    /// Whether another process has the port, the file or the address.
    pub(crate) fn is_in_use(&self) -> bool {
        match self {
            ClusterError::Listen { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            ClusterError::State { error } => matches!(error, strake_state::StateError::InUse { .. }),
            ClusterError::NetworkTaken { .. } => true,
            _ => false,
        }
    }

    /// What keeps the network from being set up: a name server that answers already is another cluster's.
    pub(crate) fn network(error: NetworkError) -> ClusterError {
        match error {
            NetworkError::BindNames { address, ref source } if source.kind() == io::ErrorKind::AddrInUse => ClusterError::NetworkTaken { address },
            other => ClusterError::Network(other),
        }
    }
}

fn cause(error: &strake_state::StateError) -> String {
    std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// A person with a state that cannot be read needs to know the ways out.
fn what_to_do(error: &strake_state::StateError) -> String {
    use strake_state::StateError::{Format, InUse, Load, Open};
    match error {
        Format { .. } => ". Use the version of strake that wrote it, or begin another cluster with --root".to_owned(),
        InUse { .. } => ". Stop that process, or begin another cluster with --root".to_owned(),
        Open { path, .. } | Load { path, .. } => {
            let path = path.display();
            format!(". Put back a copy of the file, or begin with an empty cluster: `strake stop`, `mv {path} {path}.broken`, and apply your manifests again")
        }
        _ => String::new(),
    }
}
